"""The data folder: keys, journal, the lock that keeps a second process out, and where the running one listens.

chain.db             the journal
keys/faucet.json     holds the lamports that are given away      (as Solana's own tools write keypairs)
keys/mint-authority.json  mints payment and stake tokens
localnet.json        the running process: addresses and ports
lock
"""

import fcntl
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Final, Self

from marketplace.localnet.errors import FolderInUse, FolderMismatch, NotRunning

if TYPE_CHECKING:
    from solders.keypair import Keypair

_KEYS: Final = ("faucet", "mint-authority")


@dataclass(frozen=True, slots=True)
class Running:
    """What a ready localnet tells: printed as its ready line and kept in localnet.json."""

    pid: int
    rpc: str
    ws: str
    data: str
    genesis_hash: str
    program_id: str
    payment_mint: str
    payment_decimals: int
    stake_mint: str
    stake_decimals: int
    mint_authority: str
    slot_ms: int
    finality_slots: int


class DataFolder:
    """A folder on disk; `lock` before anything is written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: IO[str] | None = None

    @property
    def journal(self) -> Path:
        return self.path / "chain.db"

    def __enter__(self) -> Self:
        self.lock()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def lock(self) -> None:
        """Keep other processes out until this one ends. Raises FolderInUse."""
        self.path.mkdir(parents=True, exist_ok=True)
        lock = (self.path / "lock").open("a+", encoding="utf-8")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            raise FolderInUse(
                f"{self.path} is in use by another reaver-localnet: stop it, or name another folder with --data.",
            ) from error
        self._lock = lock

    def keypair(self, name: str) -> "Keypair":
        """The folder's key of that name, made at first use; readable by its owner only."""
        from solders.keypair import Keypair  # noqa: PLC0415  # status and --help need no keys

        path = self.path / "keys" / f"{name}.json"
        if path.exists():
            try:
                return Keypair.from_json(path.read_text(encoding="utf-8"))
            except ValueError as error:
                raise FolderMismatch(f"{path} is no keypair file: {error}") from error
        keypair = Keypair()
        path.parent.mkdir(mode=0o700, exist_ok=True)
        _write_whole(path, keypair.to_json())
        return keypair

    def announce(self, running: Running) -> None:
        _write_whole(self.path / "localnet.json", json.dumps(asdict(running), indent=2) + "\n")

    def withdraw(self) -> None:
        (self.path / "localnet.json").unlink(missing_ok=True)

    def running(self) -> Running:
        """Where the process of this folder listens. Raises NotRunning; a killed one may still be named."""
        try:
            fields = json.loads((self.path / "localnet.json").read_text(encoding="utf-8"))
            return Running(**fields)
        except FileNotFoundError as error:
            raise NotRunning(
                f"no reaver-localnet runs in {self.path}: start it with `reaver-localnet start`."
            ) from error
        except (ValueError, TypeError) as error:
            raise NotRunning(f"{self.path / 'localnet.json'} is not of this version: {error}") from error

    def reset(self) -> list[str]:
        """Delete what this class and the journal wrote, nothing else; the names deleted. `lock` must be held."""
        names = ["chain.db", "chain.db-wal", "chain.db-shm", "localnet.json"]
        names += [f"keys/{name}.json" for name in _KEYS]
        deleted = []
        for name in names:
            with suppress(FileNotFoundError):
                (self.path / name).unlink()
                deleted.append(name)
        return deleted


def _write_whole(path: Path, text: str) -> None:
    """Write so that a reader sees the old text or the new one, never a part."""
    fresh = path.with_name(path.name + ".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
