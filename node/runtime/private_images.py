"""Which images of this machine were pulled with somebody's login: what lies here is not for everybody to run.

An image stays on the machine after its job. Whoever names such a one by its digest must be let in by its registry
again, with a login of his own. The list is written before the pull, so that a kill leaves no image unlisted.
"""

import asyncio
import os
from pathlib import Path


class PrivateImages:
    """A file with one `name@digest` a line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = asyncio.Lock()
        self._known: set[str] | None = None

    async def holds(self, pinned: str) -> bool:
        """Whether this image was ever pulled with a login."""
        async with self._lock:
            return pinned in await self._load()

    async def add(self, pinned: str) -> None:
        """Durable when this returns."""
        async with self._lock:
            known = await self._load()
            if pinned not in known:
                await asyncio.to_thread(self._append, pinned)
                known.add(pinned)

    async def _load(self) -> set[str]:
        if self._known is None:
            self._known = await asyncio.to_thread(self._read)
        return self._known

    def _read(self) -> set[str]:
        try:
            return set(self._path.read_text(encoding="ascii").split())
        except FileNotFoundError:
            return set()

    def _append(self, pinned: str) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "ab") as file:
            file.write(f"{pinned}\n".encode("ascii"))
            file.flush()
            os.fsync(file.fileno())
