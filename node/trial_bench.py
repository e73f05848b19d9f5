"""Where trials run: an engine, a folder, and what makes sure that nothing of a trial outlives it.

    marked ─► trial ─► removed ─► unmarked

Each trial is a deployment of its own, so that nothing of it (container, network, disk, rules of the firewall) is
mistaken for a node's or another trial's. Its mark is a locked file: the kernel lets go of the lock with the process,
however that ended, and whoever looks next removes what an unlocked mark names.
"""

import asyncio
import contextlib
import fcntl
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from marketplace.domain.destinations import Reach
from marketplace.outgoing import Outgoing
from marketplace.protocol.local_runs import LocalEnd, LocalNote, LocalOrder
from node.hardware import GB, measure
from node.runtime.docker import DockerRuntime, DockerSettings
from node.runtime.port import Capabilities, Image
from node.trials import KEY, Bench, Tell, Trial

MAX_IMAGE_BYTES: Final = 20 * GB
LOG_LIMIT_BYTES: Final = 16 << 20
"""Both as a node's configuration has them by default (node/settings.py)."""
_MARK: Final = ".run"


@dataclass(frozen=True, slots=True)
class TrialBench:
    """folder: for marks and disks. engine: its address, None looks for one."""

    folder: Path
    engine: str | None = None

    async def run(self, order: LocalOrder, tell: Tell, stopped: asyncio.Event) -> LocalEnd:
        """Run an order; whatever it made is gone when this returns, raises or is cancelled.

        stopped: ends it by its grace. Raises EngineUnavailable; what could not be removed then stays marked.
        """
        await self.clear()
        name = f"reaver-trial-{secrets.token_hex(8)}"
        with self._marked(name) as mark:
            runtime = self._runtime(name, order.spec.image)
            try:
                found = await runtime.capabilities()
                if not found.isolated:
                    tell(LocalNote(text=f"the work is not held as on a node: {' '.join(found.notes)}"))
                return await self._tried(runtime, found, order, tell, stopped)
            finally:
                await _removed(runtime)
                mark.unlink()

    async def clear(self) -> tuple[str, ...]:
        """Remove what trials left whose process is gone; their names. Raises EngineUnavailable."""
        names = []
        for name in self._dead():
            await _removed(self._runtime(name, None))
            names.append(name)
        return tuple(names)

    async def _tried(
        self, runtime: DockerRuntime, found: Capabilities, order: LocalOrder, tell: Tell, stopped: asyncio.Event
    ) -> LocalEnd:
        async def image(reference: str) -> Image:
            here = await runtime.find_image(reference)
            if here is None:
                return await runtime.prepare(reference, digest=order.spec.image_digest, max_bytes=MAX_IMAGE_BYTES)
            if not here.name:
                tell(LocalNote(text=f"{reference} was built here: no node can pull it before it is in a registry"))
            return here

        outgoing = Outgoing(Reach.LOOPBACK_TOO)
        try:
            bench = Bench(runtime, found, image, outgoing, measure(self.folder).vcpu, LOG_LIMIT_BYTES, tell)
            return await Trial(order, bench, stopped).run()
        finally:
            await outgoing.close()

    def _runtime(self, name: str, image: str | None) -> DockerRuntime:
        # Whoever tries a job here may ask any registry from here.
        registries = frozenset() if image is None else DockerRuntime.registries_of(image)
        return DockerRuntime(
            DockerSettings(deployment=name, folder=self.folder, host=self.engine, private_registries=registries)
        )

    @contextlib.contextmanager
    def _marked(self, name: str) -> Iterator[Path]:
        """The trial lives. Its mark, which stays until the block deletes it: something of it may be there till then."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        made, mark = self.folder / f"{name}.new", self.folder / f"{name}{_MARK}"
        with made.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            made.rename(mark)  # locked before it carries the name that others look for
            yield mark

    def _dead(self) -> Iterator[str]:
        """Trials whose process is gone, each locked by us until the next is asked for, and then unmarked."""
        for mark in sorted(self.folder.glob(f"*{_MARK}")):
            with contextlib.suppress(FileNotFoundError), mark.open("r+") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                yield mark.name.removesuffix(_MARK)
                mark.unlink(missing_ok=True)


async def _removed(runtime: DockerRuntime) -> None:
    try:
        await runtime.remove(KEY)
        await runtime.retire()
    finally:
        await runtime.close()
