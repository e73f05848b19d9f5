"""A job tried on this machine: the container contract of an attempt, without a market, an escrow or a journal.

    image ─► input ─► container ─► log, progress ─► end ─► outputs

The parts are the attempt's own (limits, staging, log, outputs, reasons); only who pays and who is told is missing.
What a trial leaves behind is removed by `trial_bench`.
"""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

from marketplace.domain.catalogue import find_class
from marketplace.domain.reasons import Reason
from marketplace.outgoing import Outgoing
from marketplace.protocol.control import LogLine
from marketplace.protocol.local_runs import (
    LocalEnd,
    LocalEvent,
    LocalLine,
    LocalNote,
    LocalOrder,
    LocalOutput,
    LocalProgress,
    LocalStage,
)
from marketplace.protocol.outputs import MAX_BYTES, MAX_FILES
from node.collecting import FoundFile, find_files, open_file, read_progress
from node.contract import container_limits, container_of
from node.endings import natural_reason
from node.errors import InputUnavailable
from node.hardware import MB
from node.logs import LogPump
from node.runtime.errors import (
    CapabilityMissing,
    ContainerVanished,
    ImageUnavailable,
    PullFailed,
    StartFailed,
)
from node.runtime.port import (
    AttemptKey,
    Capabilities,
    Container,
    Image,
    Limits,
    Network,
    Outcome,
    Runtime,
)
from node.transfers import fetch_url, store_input

_PROGRESS_S: Final = 1.0
_CHUNK_BYTES: Final = 1 << 20
KEY: Final = AttemptKey("trial", 1)

_FAILURES: Final[dict[type[Exception], Reason]] = {
    ImageUnavailable: Reason.IMAGE_UNAVAILABLE,
    InputUnavailable: Reason.INPUT_UNAVAILABLE,
    PullFailed: Reason.PULL_FAILED,
    StartFailed: Reason.START_TIMEOUT,
    CapabilityMissing: Reason.START_TIMEOUT,
    ContainerVanished: Reason.NODE_QUIT,
}
"""As an attempt's (node/attempt/runner.py)."""

Tell = Callable[[LocalEvent], None]
_T = TypeVar("_T")


class Cancelled(Exception):
    """The trial is to end before its container ran; caught in this module only."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What one trial works with.

    found: what the runtime can give here. image: the image of a reference, as this machine gets it.
    vcpu: processors that a container may have here.
    log_limit_bytes: as a node's. tell: takes each event, in order.
    """

    runtime: Runtime
    found: Capabilities
    image: Callable[[str], Awaitable[Image]]
    outgoing: Outgoing
    vcpu: int
    log_limit_bytes: int
    tell: Tell


class Trial:
    """One run of one order. stopped: once set, the work ends as after a renter's cancel: its signal, its grace."""

    def __init__(self, order: LocalOrder, bench: Bench, stopped: asyncio.Event) -> None:
        self._order = order
        self._bench = bench
        self._spec = order.spec
        self._stopped = stopped

    async def run(self) -> LocalEnd:
        """Until it is over; nothing is removed yet. Raises EngineUnavailable and what no node foresees either."""
        try:
            container = await self._start()
            return await self._delivered(await self._watch(container))
        except Cancelled:
            return LocalEnd(reason=Reason.CANCELLED.code)
        except tuple(_FAILURES) as error:
            reason = next(reason for kind, reason in _FAILURES.items() if isinstance(error, kind))
            return LocalEnd(reason=reason.code, detail=str(error))

    async def _start(self) -> Container:
        """The running container. Raises Cancelled and the engine's errors."""
        self._require_network()
        self._bench.tell(LocalStage(stage="pulling"))
        image = await self._unless_stopped(self._bench.image(self._spec.image))
        limits = self._limits()
        input_name = await self._unless_stopped(self._stage(limits))
        spec = container_of(self._spec, KEY, image, limits, input_name)
        return await self._bench.runtime.start(spec)

    async def _watch(self, container: Container) -> LocalEnd:
        """From ready to the end of the work and its log. Raises ContainerVanished."""
        started = time.monotonic()
        self._bench.tell(LocalStage(stage="running", image=container.image_digest))
        pump = self._log_pump()
        beside = (asyncio.create_task(pump.run()), asyncio.create_task(self._tell_progress(container.notes)))
        try:
            reason, outcome = await self._until_over()
            self._bench.tell(LocalStage(stage="ended"))
            await pump.delivered()
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
        ran_ms = _ran_ms(container, outcome, started)
        return LocalEnd(reason=reason.code, exit_code=outcome.exit_code, ran_ms=ran_ms, detail=outcome.message or None)

    def _limits(self) -> Limits:
        """Of the class, as on a node, but for processors and disk that this machine doesn't have."""
        limits = container_limits(self._spec)
        if find_class(self._spec.class_id).vram_gb:
            self._bench.tell(LocalNote(text="no GPU is given to the container here"))
        if limits.milli_cpus > self._bench.vcpu * 1000:
            had = f"the class has {limits.milli_cpus // 1000} processors, this machine {self._bench.vcpu}"
            self._bench.tell(LocalNote(text=had))
            limits = replace(limits, milli_cpus=self._bench.vcpu * 1000)
        most = self._bench.found.max_disk_bytes
        if limits.disk_bytes > most:
            had = (
                f"the job asks for {limits.disk_bytes // MB} MB of disk, this machine can give {most // MB} (root more)"
            )
            self._bench.tell(LocalNote(text=had))
            limits = replace(limits, disk_bytes=most)
        return limits

    def _require_network(self) -> None:
        """Raises CapabilityMissing, with the way out, where a node's rules can't be held here."""
        if Network(self._spec.network) not in self._bench.found.networks:
            why = next((note for note in self._bench.found.notes if "network" in note), "")
            raise CapabilityMissing(
                f"no network can be given here; as root it can, or take --network none. {why}".strip()
            )

    async def _stage(self, limits: Limits) -> str | None:
        """Put the input where the container will find it; its name there. The disk is made here where one is needed."""
        wanted = self._spec.input
        given = self._order.input_file
        if wanted is None and given is None and self._order.outputs is None and self._spec.checkpoint_minutes is None:
            return None
        staged = await self._bench.runtime.stage(KEY, limits)
        if staged is None:
            raise CapabilityMissing("this machine can't mount disks for /inputs and /outputs (it takes root)")
        folder = staged.inputs
        if given is not None:
            return await _copy_in(Path(given), folder)
        if wanted is None:
            return None
        if wanted.kind == "url":
            return await fetch_url(self._bench.outgoing, wanted, folder)
        if self._order.input_text is None or wanted.name is None:
            raise InputUnavailable(f"an input of kind {wanted.kind} lies with a market")
        return await store_input(_once(self._order.input_text.encode()), folder, wanted.name, wanted.sha256 or "")

    def _log_pump(self) -> LogPump:
        async def send(lines: tuple[LogLine, ...]) -> int:
            for line in lines:
                self._bench.tell(LocalLine(stream=line.stream, text=line.text))
            return lines[-1].seq + 1

        return LogPump(self._bench.runtime, KEY, limit_bytes=self._bench.log_limit_bytes, next_seq=1, send=send)

    async def _tell_progress(self, notes: Path | None) -> None:
        said: int | None = None
        while notes is not None:
            now = await asyncio.to_thread(read_progress, notes)
            if now is not None and now != said:
                self._bench.tell(LocalProgress(percent=now))
                said = now
            await asyncio.sleep(_PROGRESS_S)

    async def _until_over(self) -> tuple[Reason, Outcome]:
        """Until the container exits, an order to end comes, or the time is up. Raises ContainerVanished."""
        runtime = self._bench.runtime
        exited = asyncio.create_task(runtime.wait(KEY))
        stopped = asyncio.create_task(self._stopped.wait())
        try:
            await asyncio.wait(
                {exited, stopped}, timeout=self._spec.limit_ms / 1000, return_when=asyncio.FIRST_COMPLETED
            )
            if exited.done():
                outcome = exited.result()
                return natural_reason(outcome), outcome
            reason = Reason.CANCELLED if stopped.done() else Reason.TIMEOUT
            return reason, await runtime.stop(KEY, grace_s=self._spec.stop_grace_s)
        finally:
            for task in (exited, stopped):
                task.cancel()
            await asyncio.gather(exited, stopped, return_exceptions=True)

    async def _delivered(self, end: LocalEnd) -> LocalEnd:
        """The end, with what the work left; copied where a folder was named."""
        container = await self._bench.runtime.find(KEY)
        outputs = None if container is None else container.outputs
        if outputs is None:
            return end
        found = await asyncio.to_thread(find_files, outputs, most=MAX_FILES)
        if len(found) > MAX_FILES or sum(file.size for file in found) > MAX_BYTES:
            too_large = f"/outputs holds more than {MAX_FILES} files or {MAX_BYTES >> 30} GiB"
            return end.model_copy(update={"reason": Reason.OUTPUT_TOO_LARGE.code, "detail": too_large})
        if self._order.outputs is not None:
            try:
                await asyncio.to_thread(_copy_out, outputs, found, Path(self._order.outputs))
            except OSError as error:
                failed = f"{self._order.outputs} can't take the outputs: {error.strerror}"
                return end.model_copy(update={"reason": Reason.OUTPUT_DELIVERY_FAILED.code, "detail": failed})
        files = tuple(LocalOutput(path=file.path, size=file.size) for file in found)
        return end.model_copy(update={"outputs": files})

    async def _unless_stopped(self, work: Awaitable[_T]) -> _T:
        """The work's result. Raises Cancelled when an order to end comes first."""
        task = asyncio.ensure_future(work)
        stopped = asyncio.create_task(self._stopped.wait())
        try:
            await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise Cancelled
            return task.result()
        finally:
            for each in (task, stopped):
                each.cancel()
            await asyncio.gather(task, stopped, return_exceptions=True)


def _ran_ms(container: Container, outcome: Outcome, started: float) -> int:
    """By the engine's own times; by ours where it never ran."""
    if container.started_at is None:
        return int((time.monotonic() - started) * 1000)
    return max(0, int((outcome.finished_at - container.started_at).total_seconds() * 1000))


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def _copy_in(file: Path, folder: Path) -> str:
    """A file of this machine under its own name. Raises InputUnavailable."""

    async def pieces() -> AsyncIterator[bytes]:
        with file.open("rb") as stream:
            while piece := await asyncio.to_thread(stream.read, _CHUNK_BYTES):
                yield piece

    if not await asyncio.to_thread(file.is_file):
        raise InputUnavailable(f"{file} is no file")
    return await store_input(pieces(), folder, file.name, "")


def _copy_out(outputs: Path, found: list[FoundFile], folder: Path) -> None:
    """Plain files only, their paths checked by `find_files`. Blocks: call it in a thread. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in found:
        to = folder / file.path
        to.parent.mkdir(parents=True, exist_ok=True)
        with open_file(outputs, file.path) as source, to.open("xb") as target:
            shutil.copyfileobj(source, target, _CHUNK_BYTES)
