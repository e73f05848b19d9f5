"""A scripted runtime: what an image does is written down beforehand, time is injected, nothing is executed.

It provokes the faults that real engines show rarely (silent death, memory limit, engine away, failing pulls)
and passes the same conformance suite as the real ones. `FakeEngine` is the machine: it outlives a `FakeRuntime`
as an engine outlives the node's daemon, so adoption is tested by making a second runtime on the same engine.
"""

import asyncio
import hashlib
import heapq
import shutil
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from node.runtime.errors import (
    AttemptConflict,
    CapabilityMissing,
    ContainerVanished,
    EngineError,
    EngineUnavailable,
    ImageFault,
    ImageUnavailable,
)
from node.runtime.lines import LineReader
from node.runtime.naming import Namespace, fingerprint
from node.runtime.port import (
    PROGRESS_NAME,
    AttemptKey,
    Beside,
    Capabilities,
    Container,
    ContainerSpec,
    ContainerState,
    DiskLimit,
    Image,
    Limits,
    Login,
    LogLine,
    LogPosition,
    LogStream,
    Network,
    Outcome,
    Staged,
    Swept,
    Usage,
)
from node.runtime.references import ImageName

_TERMINATED = 128 + 15
_KILLED = 128 + 9


class FakeClock(Protocol):
    """The time of a fake engine."""

    def now(self) -> datetime:
        """UTC-aware."""
        ...

    async def until(self, moment: datetime) -> None:
        """Returns when `now()` has reached the moment."""
        ...


class LoopClock:
    """Real time."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def until(self, moment: datetime) -> None:
        await asyncio.sleep(max(0.0, (moment - self.now()).total_seconds()))


class ManualClock:
    """Stands still until a test advances it."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._now = start
        self._sleepers: list[tuple[datetime, int, asyncio.Event]] = []
        self._count = 0

    def now(self) -> datetime:
        return self._now

    async def until(self, moment: datetime) -> None:
        if moment <= self._now:
            return
        woken = asyncio.Event()
        self._count += 1
        heapq.heappush(self._sleepers, (moment, self._count, woken))
        await woken.wait()

    def advance(self, seconds: float) -> None:
        """Wakes everybody whose moment has come; they run when the caller next awaits."""
        self._now += timedelta(seconds=seconds)
        while self._sleepers and self._sleepers[0][0] <= self._now:
            heapq.heappop(self._sleepers)[2].set()


@dataclass(frozen=True, slots=True)
class FakeOutput:
    """Bytes written after_s seconds after the start."""

    data: bytes
    after_s: float = 0.0
    stream: LogStream = LogStream.STDOUT


@dataclass(frozen=True, slots=True)
class FakeProgram:
    """What an image does.

    runs_for_s: None runs until stopped. obeys_term: False makes a stop wait out its grace and kill.
    vanishes: at its end the container is gone without an exit, as when somebody removes it behind our back.
    prepare_error, start_error: raised instead. files: written to /outputs when it ends by itself.
    login: the only one with which it may be had.
    copies_input: so is what was in /inputs. progress: written to its file at the start.
    gpu_percent, gpu_memory_bytes: what it makes of the GPUs that it pretends to have.
    counts: adds one to the number in /checkpoint/count at the start, and leaves it as its result at the end.
    """

    exit_code: int = 0
    runs_for_s: float | None = 0.0
    output: tuple[FakeOutput, ...] = ()
    obeys_term: bool = True
    oom_killed: bool = False
    disk_full: bool = False
    vanishes: bool = False
    prepare_error: EngineError | None = None
    start_error: EngineError | None = None
    size_bytes: int = 2_000_000
    files: tuple[tuple[str, bytes], ...] = ()
    login: Login | None = None
    copies_input: bool = False
    progress: str | None = None
    counts: bool = False
    gpu_percent: int | None = None
    gpu_memory_bytes: int | None = None


@dataclass(slots=True)
class FakeContainer:
    """What the engine remembers of a container. changed: set when it ended or is gone."""

    deployment: str
    spec: ContainerSpec
    program: FakeProgram
    name: str
    created_at: datetime
    started_at: datetime
    outcome: Outcome | None = None
    paused_at: datetime | None = None
    paused_for: timedelta = timedelta(0)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def ends_at(self) -> datetime | None:
        if self.program.runs_for_s is None or self.paused_at is not None:
            return None
        return self.started_at + timedelta(seconds=self.program.runs_for_s) + self.paused_for


class FakeEngine:
    """The machine behind fake runtimes: images, containers, and switches for what can go wrong."""

    def __init__(
        self,
        programs: Mapping[str, FakeProgram],
        *,
        folder: Path | None = None,
        clock: FakeClock | None = None,
        networks: frozenset[Network] = frozenset(Network),
        max_disk_bytes: int = 1 << 40,
    ) -> None:
        """programs: by the reference that renters write. folder: where /outputs and /scratch are kept, if anywhere."""
        self.programs = dict(programs)
        self.clock: FakeClock = clock or LoopClock()
        self.networks = networks
        self.max_disk_bytes = max_disk_bytes
        self.available = True
        self.can_pause = True
        self._folder = folder
        self.records: dict[str, FakeContainer] = {}

    def digest(self, reference: str) -> str:
        """The digest that `prepare` answers for a reference."""
        return "sha256:" + hashlib.sha256(reference.encode()).hexdigest()

    def vanish(self, key: AttemptKey) -> None:
        """Take the attempt's container away behind everybody's back, without any event."""
        for name, record in list(self.records.items()):
            if record.spec.key == key:
                del self.records[name]
                record.changed.set()

    def check(self) -> None:
        """Raises EngineUnavailable while `available` is off."""
        if not self.available:
            raise EngineUnavailable

    def record(self, name: str) -> FakeContainer | None:
        """The record after time has done its work on it."""
        self.check()
        record = self.records.get(name)
        if record is None or record.outcome is not None:
            return record
        end = record.ends_at
        if end is None or end > self.clock.now():
            return record
        if record.program.vanishes:
            del self.records[name]
            record.changed.set()
            return None
        self.end(record, record.program.exit_code, at=end)
        self._write_files(record)
        return record

    def end(self, record: FakeContainer, exit_code: int, *, at: datetime) -> Outcome:
        """Give a running container its outcome."""
        program = record.program
        outcome = Outcome(
            exit_code=exit_code,
            oom_killed=program.oom_killed and exit_code != 0,
            disk_full=program.disk_full and exit_code != 0,
            finished_at=at,
        )
        record.outcome = outcome
        record.changed.set()
        return outcome

    def _write_files(self, record: FakeContainer) -> None:
        outputs, inputs = self.place(record.name, "outputs"), self.place(record.name, "inputs")
        if outputs is None or inputs is None:
            return
        for name, data in record.program.files:
            (outputs / name).parent.mkdir(parents=True, exist_ok=True)
            (outputs / name).write_bytes(data)
        checkpoint = self.place(record.name, "checkpoint")
        if record.program.counts and checkpoint is not None:
            (outputs / "result.json").write_text((checkpoint / "count").read_text())
        if record.program.copies_input and record.spec.input_name is not None:
            (outputs / record.spec.input_name).write_bytes((inputs / record.spec.input_name).read_bytes())

    def place(self, name: str, part: str) -> Path | None:
        """A folder of an attempt, made if it is not there; None where nothing is kept."""
        if self._folder is None:
            return None
        place = self._folder / name / part
        place.mkdir(parents=True, exist_ok=True)
        return place

    def remove(self, name: str) -> None:
        """Drop a container and its folders."""
        record = self.records.pop(name, None)
        if record is not None:
            record.changed.set()
        if self._folder is not None:
            shutil.rmtree(self._folder / name, ignore_errors=True)

    def view(self, record: FakeContainer) -> Container:
        """As the port shows it."""
        return Container(
            key=record.spec.key,
            container_id="fake-" + record.name,
            image_digest=record.spec.image.digest,
            state=ContainerState.RUNNING if record.outcome is None else ContainerState.EXITED,
            created_at=record.created_at,
            started_at=record.started_at,
            outcome=record.outcome,
            outputs=self.place(record.name, "outputs"),
            scratch=self.place(record.name, "scratch"),
            notes=self.place(record.name, "notes"),
            checkpoint=self.place(record.name, "checkpoint"),
        )


class FakeBeside:
    """`cat` gives back its input, anything else says its own words; ends with as many as it had arguments."""

    def __init__(self, command: tuple[str, ...]) -> None:
        self._code = len(command) - 1
        self._output: asyncio.Queue[bytes | None] = asyncio.Queue()
        if command != ("cat",):
            self._output.put_nowait(" ".join(command).encode())
            self._output.put_nowait(None)

    async def read(self) -> tuple[LogStream, bytes] | None:
        data = await self._output.get()
        return None if data is None else (LogStream.STDOUT, data)

    async def write(self, data: bytes) -> None:
        self._output.put_nowait(data)

    async def end_input(self) -> None:
        self._output.put_nowait(None)

    async def resize(self, rows: int, cols: int) -> None:
        self._output.put_nowait(f"[{rows}x{cols}]".encode())

    async def exit_code(self) -> int | None:
        return self._code

    async def close(self) -> None:
        self._output.put_nowait(None)


class FakeRuntime:
    """A runtime on a fake engine; see `port.Runtime` for what each method promises."""

    def __init__(self, engine: FakeEngine, deployment: str) -> None:
        self._engine = engine
        self._names = Namespace(deployment)

    async def capabilities(self) -> Capabilities:
        self._engine.check()
        return Capabilities(
            engine="fake",
            isolated=False,
            networks=self._engine.networks,
            scratch_limit=DiskLimit.NONE,
            root_limit=DiskLimit.NONE,
            max_disk_bytes=self._engine.max_disk_bytes,
            notes=("This runtime executes nothing: it is for tests.",),
        )

    async def prepare(
        self, reference: str, *, digest: str | None = None, max_bytes: int, login: Login | None = None
    ) -> Image:
        self._engine.check()
        name = ImageName.parse(reference)
        program = self._engine.programs.get(reference)
        if program is None:
            raise ImageUnavailable(ImageFault.NOT_FOUND, f"the image {reference} is unknown")
        if program.prepare_error is not None:
            raise program.prepare_error
        if program.login is not None and login != program.login:
            raise ImageUnavailable(ImageFault.DENIED, f"the image {reference} is private")
        found = self._engine.digest(reference)
        if digest not in (None, found):
            raise ImageUnavailable(ImageFault.NOT_FOUND, f"the image {reference} has no version {digest}")
        if program.size_bytes > max_bytes:
            raise ImageUnavailable(ImageFault.TOO_LARGE, f"{program.size_bytes} bytes are more than {max_bytes}")
        return Image(reference, name.name, found, program.size_bytes)

    async def stage(self, key: AttemptKey, limits: Limits) -> Staged | None:
        self._engine.check()
        if limits.disk_bytes > self._engine.max_disk_bytes:
            raise CapabilityMissing(f"no {limits.disk_bytes} bytes of disk on this machine")
        name = self._names.name(key)
        inputs, checkpoint = self._engine.place(name, "inputs"), self._engine.place(name, "checkpoint")
        return None if inputs is None or checkpoint is None else Staged(inputs, checkpoint)

    async def start(self, spec: ContainerSpec) -> Container:
        engine, name = self._engine, self._names.name(spec.key)
        record = engine.record(name)
        if record is not None:
            if fingerprint(record.spec) != fingerprint(spec):
                raise AttemptConflict
            return engine.view(record)
        if spec.network not in engine.networks:
            raise CapabilityMissing(f"no network {spec.network} on this machine")
        if spec.limits.disk_bytes > engine.max_disk_bytes:
            raise CapabilityMissing(f"no {spec.limits.disk_bytes} bytes of disk on this machine")
        program = engine.programs.get(spec.image.reference)
        if program is None or engine.digest(spec.image.reference) != spec.image.digest:
            raise ImageUnavailable(ImageFault.NOT_FOUND, f"the image {spec.image.pinned} is gone")
        if program.start_error is not None:
            raise program.start_error
        now = engine.clock.now()
        engine.records[name] = FakeContainer(self._names.deployment, spec, program, name, now, now)
        notes = engine.place(name, "notes")
        checkpoint = engine.place(name, "checkpoint")
        if program.counts and checkpoint is not None:
            count = checkpoint / "count"
            count.write_text(str(int(count.read_text() if count.exists() else 0) + 1))
        if program.progress is not None and notes is not None:
            (notes / PROGRESS_NAME).write_text(program.progress)
        started = engine.record(name)
        if started is None:
            raise ContainerVanished
        return engine.view(started)

    async def find(self, key: AttemptKey) -> Container | None:
        record = self._engine.record(self._names.name(key))
        return None if record is None else self._engine.view(record)

    async def list(self) -> tuple[Container, ...]:
        self._engine.check()
        names = [name for name, record in self._engine.records.items() if record.deployment == self._names.deployment]
        records = [self._engine.record(name) for name in names]
        return tuple(self._engine.view(record) for record in records if record is not None)

    async def wait(self, key: AttemptKey) -> Outcome:
        engine = self._engine
        while True:
            record = engine.record(self._names.name(key))
            if record is None:
                raise ContainerVanished
            if record.outcome is not None:
                return record.outcome
            await _either(record.changed, engine.clock, record.ends_at)

    async def logs(self, key: AttemptKey, *, after: LogPosition | None = None) -> AsyncIterator[LogLine]:
        engine = self._engine
        record = engine.record(self._names.name(key))
        if record is None:
            raise ContainerVanished
        reader = LineReader(after or LogPosition())
        for output in sorted(record.program.output, key=lambda output: output.after_s):
            moment = record.started_at + timedelta(seconds=output.after_s)
            while moment > engine.clock.now() and record.outcome is None and not record.changed.is_set():
                await _either(record.changed, engine.clock, min(moment, record.ends_at or moment))
                engine.record(record.name)
            ended = record.outcome.finished_at if record.outcome is not None else engine.clock.now()
            if moment > ended:
                return
            for line in reader.feed(output.stream, _nanoseconds(moment), output.data):
                yield line
            if reader.full:
                return
        while record.outcome is None and not record.changed.is_set():
            await _either(record.changed, engine.clock, record.ends_at)
            engine.record(record.name)

    async def pause(self, key: AttemptKey) -> bool:
        record = self._engine.record(self._names.name(key))
        if record is None or record.outcome is not None or not self._engine.can_pause:
            return False
        if record.paused_at is None:
            record.paused_at = self._engine.clock.now()
            self._wake(record)
        return True

    async def resume(self, key: AttemptKey) -> None:
        record = self._engine.record(self._names.name(key))
        if record is not None and record.paused_at is not None:
            record.paused_for += self._engine.clock.now() - record.paused_at
            record.paused_at = None
            self._wake(record)

    def _wake(self, record: FakeContainer) -> None:
        """Whoever waits for its end computes it anew."""
        record.changed.set()
        record.changed = asyncio.Event()

    async def beside(self, key: AttemptKey, command: tuple[str, ...], *, tty: bool) -> Beside:  # noqa: ARG002
        record = self._engine.record(self._names.name(key))
        if record is None or record.outcome is not None:
            raise ContainerVanished
        return FakeBeside(command)

    async def measure(self, key: AttemptKey) -> Usage | None:
        record = self._engine.record(self._names.name(key))
        if record is None or record.outcome is not None:
            return None
        ran = (record.paused_at or self._engine.clock.now()) - record.started_at - record.paused_for
        program = record.program
        return Usage(
            int(ran.total_seconds() * 1000), 64 << 20, 0, 0,
            gpu_percent=program.gpu_percent, gpu_memory_bytes=program.gpu_memory_bytes,
        )  # fmt: skip

    async def stop(self, key: AttemptKey, *, grace_s: float) -> Outcome:
        await self.resume(key)
        engine, name = self._engine, self._names.name(key)
        record = engine.record(name)
        if record is None:
            raise ContainerVanished
        if record.outcome is None and record.program.obeys_term:
            return engine.end(record, _TERMINATED, at=engine.clock.now())
        deadline = engine.clock.now() + timedelta(seconds=grace_s)
        while record.outcome is None:
            if deadline <= engine.clock.now():
                return engine.end(record, _KILLED, at=engine.clock.now())
            await _either(record.changed, engine.clock, min(record.ends_at or deadline, deadline))
            if engine.record(name) is None:
                raise ContainerVanished
        return record.outcome

    async def remove(self, key: AttemptKey) -> None:
        self._engine.check()
        self._engine.remove(self._names.name(key))

    async def sweep(self, keep: frozenset[AttemptKey], *, older_than_s: float) -> Swept:
        limit = self._engine.clock.now() - timedelta(seconds=older_than_s)
        gone = [c.key for c in await self.list() if c.key not in keep and c.created_at <= limit]
        for key in gone:
            self._engine.remove(self._names.name(key))
        return Swept(containers=tuple(gone))

    async def close(self) -> None:
        """Holds nothing."""


async def _either(changed: asyncio.Event, clock: FakeClock, moment: datetime | None) -> None:
    """Until the event is set or the moment has come."""
    waits: list[asyncio.Future[object]] = [asyncio.ensure_future(changed.wait())]
    if moment is not None:
        waits.append(asyncio.ensure_future(clock.until(moment)))
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


def _nanoseconds(moment: datetime) -> int:
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1_000
