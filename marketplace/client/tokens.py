"""The cached login, one file per market and wallet, readable by its owner only."""

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from marketplace.client.private_files import PRIVATE_FILE, make_private_folder, take_lock, write_private

_LOOK_AGAIN_S: Final = 0.05
"""Chosen: a refresh takes some hundredths of a second."""


@dataclass(frozen=True, slots=True)
class StoredLogin:
    """What a login left behind. Instants: Unix seconds of this machine's clock."""

    api_url: str
    wallet: str
    token: str
    expires_at_s: int
    refresh_token: str
    refresh_expires_at_s: int

    def __repr__(self) -> str:
        return f"StoredLogin({self.wallet} at {self.api_url})"


class TokenCache:
    """Logins kept between runs of a command."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, api_url: str, wallet: str) -> StoredLogin | None:
        """The login of this wallet at this market; None where there is none that can be used.

        A file that others could read or that isn't ours to understand counts as none: logging in again is cheap.
        """
        path = self._path(api_url, wallet)
        try:
            if path.stat().st_mode & 0o077:
                path.chmod(PRIVATE_FILE)
                path.unlink()
                return None
            login = StoredLogin(**json.loads(path.read_bytes()))
        except (OSError, ValueError, TypeError):
            return None
        return login if (login.api_url, login.wallet) == (api_url, wallet) else None

    def store(self, login: StoredLogin) -> None:
        """Keep a login, in place of an older one of the same wallet and market."""
        write_private(self._path(login.api_url, login.wallet), json.dumps(asdict(login)).encode())

    def forget(self, api_url: str, wallet: str) -> None:
        """Delete the login, if there is one."""
        self._path(api_url, wallet).unlink(missing_ok=True)

    @asynccontextmanager
    async def locked(self, api_url: str, wallet: str) -> AsyncIterator[None]:
        """While inside, nobody else refreshes this login: no other process, and no other client of this one."""
        make_private_folder(self._folder)
        path = self._path(api_url, wallet).with_suffix(".lock")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
        try:
            # Never waited for in the call itself: whoever holds it may be a task of this very loop.
            while not take_lock(descriptor):  # noqa: ASYNC110 - no event comes from another process
                await asyncio.sleep(_LOOK_AGAIN_S)
            yield
        finally:
            os.close(descriptor)

    def _path(self, api_url: str, wallet: str) -> Path:
        name = hashlib.sha256(f"{api_url}\n{wallet}".encode()).hexdigest()[:32]
        return self._folder / f"login-{name}.json"
