"""The files of a key rotation: new keys are on disk before the chain hears of them, old ones are kept after it.

`matcher.next.json` and `meter.next.json` are written (and reach the disk) first. Once the chain names their keys they
take the places of `matcher.json` and `meter.json`, whose former content moves to `retired/`: rent of open escrows
returns to the old matcher, and the old meter's signatures stay good for attempts that run. A run that was cut off at
any point is completed by the next one.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from solders.keypair import Keypair
from solders.pubkey import Pubkey

from marketplace.chain.keyfiles import ensure_keypair, load_keypair
from marketplace.chain.retired_keys import RETIRED
from marketplace.errors import SettingsError

HOT_KEYS: Final = ("matcher", "meter")


@dataclass(frozen=True, slots=True)
class HotKeys:
    """A market's two hot keys, as the chain names them."""

    matcher: Pubkey
    meter: Pubkey


class RotationFiles:
    """The key files of one market."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def prepare(self) -> tuple[Keypair, Keypair]:
        """The new matcher and meter, on disk before they are returned; those of an interrupted run where there are."""
        made = tuple(ensure_keypair(self._next(name)) for name in HOT_KEYS)
        _sync_folder(self._folder)
        return made[0], made[1]

    def interrupted(self, on_chain: HotKeys) -> bool:
        """Whether the chain has keys of an earlier run that are not in their places yet.

        Raises SettingsError where the chain has keys that no file here holds: rotating would lose nothing, but the
        market that uses this folder is not the one on chain.
        """
        unfinished = False
        for name in HOT_KEYS:
            wanted = getattr(on_chain, name)
            if self._holds(self._current(name), wanted):
                continue
            if not self._holds(self._next(name), wanted):
                raise SettingsError(
                    f"the chain's {name} is {wanted}, and neither {self._current(name)} nor {self._next(name)} "
                    "holds that key; bring the right file back, or rotate with --replace-lost"
                )
            unfinished = True
        return unfinished

    def current(self, name: str) -> Keypair | None:
        """The key in use, None where its file is gone."""
        path = self._current(name)
        return load_keypair(path) if path.exists() else None

    def finish(self, on_chain: HotKeys) -> list[str]:
        """Put the keys that the chain names into their places; the files that were kept, as text. Repeatable."""
        kept = []
        for name in HOT_KEYS:
            wanted = getattr(on_chain, name)
            if self._holds(self._current(name), wanted):
                continue
            if not self._holds(self._next(name), wanted):
                raise SettingsError(f"the chain's {name} is {wanted}, and {self._next(name)} does not hold it")
            old = self.current(name)
            if old is not None:
                kept.append(str(self._retire(name, old)))
            self._next(name).replace(self._current(name))
            _sync_folder(self._folder)
        return kept

    def _retire(self, name: str, key: Keypair) -> Path:
        folder = self._folder / RETIRED
        folder.mkdir(mode=0o700, exist_ok=True)
        place = folder / f"{name}-{key.pubkey()}.json"
        if not place.exists():
            os.link(self._current(name), place)
            _sync_folder(folder)
        return place

    def _holds(self, path: Path, key: Pubkey) -> bool:
        return path.exists() and load_keypair(path).pubkey() == key

    def _current(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    def _next(self, name: str) -> Path:
        return self._folder / f"{name}.next.json"


def _sync_folder(folder: Path) -> None:
    """A new name in a folder outlives a power cut only once the folder itself is on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
