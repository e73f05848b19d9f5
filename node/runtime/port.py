"""The node's narrow view of a container engine, and the words it uses.

One attempt of an allocation has at most one container. Its name follows from deployment, allocation and
attempt, so whoever asks twice finds the first one instead of starting a second. Everything an attempt needs
(container, network, scratch) is found again by label after the node's own restart; nothing that lacks this
deployment's label is ever touched.

Implementations: `docker` (Docker, Podman), `process` (development only), `fake` (scripted). All three pass
tests/node/runtime/test_conformance.py. Rules and measured overheads: docs/runtime.md.
"""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Protocol

LOG_LINE_BYTES = 16 * 1024  # the engine's own buffer: longer lines arrive in pieces (docs/runtime.md)
LOG_TOTAL_BYTES = 100 * 1024 * 1024  # chosen: docs/runtime.md, "Logs"

EXIT_NOT_EXECUTABLE = 126  # POSIX, Shell Command Language 2.8.2
EXIT_NOT_FOUND = 127

ULIMITS = frozenset({"nofile", "memlock", "stack"})  # api.md section 5.2

INPUTS_PATH = "/inputs"
OUTPUTS_PATH = "/outputs"
SCRATCH_PATH = "/scratch"
CHECKPOINT_PATH = "/checkpoint"
NOTES_PATH = "/reaver"
PROGRESS_NAME = "progress"
"""A file in NOTES_PATH into which a job writes how far it is, 0 to 100."""

_ALLOCATION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class Network(StrEnum):
    """EGRESS: the public internet only, never the node's own or private ranges. NONE: loopback only."""

    EGRESS = "egress"
    NONE = "none"


class ContainerState(StrEnum):
    """CREATED: not started yet. RUNNING. EXITED: has an outcome, and may never have run at all."""

    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"


class LogStream(StrEnum):
    """Who wrote a line. RUNTIME is our own truncation mark, the last line of a capped log."""

    STDOUT = "stdout"
    STDERR = "stderr"
    RUNTIME = "runtime"


@dataclass(frozen=True, slots=True, order=True)
class AttemptKey:
    """One attempt of one allocation; with the runtime's deployment it names everything of ours."""

    allocation: str
    attempt: int

    def __post_init__(self) -> None:
        if not _ALLOCATION.fullmatch(self.allocation):
            raise ValueError(f"allocation id {self.allocation!r} is not 1..64 of [A-Za-z0-9_-]")
        if self.attempt < 1:
            raise ValueError("attempts count from 1")


@dataclass(frozen=True, slots=True)
class Image:
    """An image that is present on this machine under exactly this digest.

    reference: as the renter wrote it. name: without tag and digest; empty for one that was built here and is in no
    registry, which is known by its id. size_bytes: unpacked.
    """

    reference: str
    name: str
    digest: str
    size_bytes: int

    def __post_init__(self) -> None:
        if not _DIGEST.fullmatch(self.digest):
            raise ValueError(f"{self.digest!r} is no sha256 digest")

    @property
    def pinned(self) -> str:
        """`name@digest`: what containers are created from."""
        return f"{self.name}@{self.digest}" if self.name else self.digest


@dataclass(frozen=True, slots=True)
class Login:
    """Who asks a registry for an image. registry: host[:port] that it is for, None for whichever the image names."""

    username: str
    password: str = field(repr=False)
    registry: str | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What a container may use at most. There is never swap on top of `memory_bytes`.

    milli_cpus: thousandths of a core. disk_bytes: scratch and /outputs together; the writable root
    has the same limit on its own (`Capabilities.root_limit` says how it is held).
    """

    milli_cpus: int
    memory_bytes: int
    disk_bytes: int
    pids: int = 1024

    def __post_init__(self) -> None:
        if min(self.milli_cpus, self.memory_bytes, self.disk_bytes, self.pids) < 1:
            raise ValueError("every limit is at least 1")


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """All that decides how an attempt runs. None means: as the image says; () means: nothing.

    shm_bytes: of /dev/shm, None for half the memory. ulimits: soft and hard alike; memlock and stack in bytes.
    input_name: the file in the attempt's inputs (see `Runtime.stage`) that REAVER_INPUT names.
    checkpoint: whether it has a /checkpoint.
    """

    key: AttemptKey
    image: Image
    limits: Limits
    entrypoint: tuple[str, ...] | None = None
    command: tuple[str, ...] | None = None
    env: tuple[tuple[str, str], ...] = ()
    workdir: str | None = None
    network: Network = Network.NONE
    shm_bytes: int | None = None
    ulimits: tuple[tuple[str, int], ...] = ()
    input_name: str | None = None
    checkpoint: bool = False

    def __post_init__(self) -> None:
        if self.shm_bytes is not None and not 0 < self.shm_bytes <= self.limits.memory_bytes:
            raise ValueError("shared memory is a part of the container's memory")
        if not {name for name, _ in self.ulimits} <= ULIMITS:
            raise ValueError(f"the limits that can be set are {', '.join(sorted(ULIMITS))}")
        for name, _ in self.env:
            if not name or "=" in name:
                raise ValueError(f"{name!r} can't be the name of a variable")
        words = [*(self.entrypoint or ()), *(self.command or ()), *(word for pair in self.env for word in pair)]
        if any("\0" in word for word in words):
            raise ValueError("a command or variable contains a zero byte")
        if self.workdir is not None and not self.workdir.startswith("/"):
            raise ValueError("the working directory isn't absolute")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a container ended, as the engine knows it.

    exit_code: 126 and 127 also when the engine could not execute the command at all.
    oom_killed: the memory limit killed a process and the exit wasn't 0.
    disk_full: the disk limit was hit and the exit wasn't 0.
    message: the engine's own words where it has any, "" otherwise.
    """

    exit_code: int
    oom_killed: bool
    disk_full: bool
    finished_at: datetime
    message: str = ""


@dataclass(frozen=True, slots=True)
class Container:
    """An attempt's container as it is now, also one found after the node's restart.

    started_at: None when it never ran. outcome: set exactly when state is EXITED.
    outputs, scratch, notes, checkpoint: the folders on this machine, until `remove`; None where they can't be reached
    from here.
    """

    key: AttemptKey
    container_id: str
    image_digest: str
    state: ContainerState
    created_at: datetime
    started_at: datetime | None
    outcome: Outcome | None
    outputs: Path | None
    scratch: Path | None
    notes: Path | None = None
    checkpoint: Path | None = None


@dataclass(frozen=True, slots=True)
class Staged:
    """Folders of an attempt that has no container yet: what it will see as /inputs and as /checkpoint."""

    inputs: Path
    checkpoint: Path


@dataclass(frozen=True, slots=True)
class LogPosition:
    """Where a reader of logs stands; persist it, hand it back, and the next line follows without a gap.

    number: lines read so far. text_bytes: their text together. The rest says how many pieces of each
    stream carry the last timestamp seen, because engines seek by time only.
    """

    number: int = 0
    text_bytes: int = 0
    stdout_at_ns: int = 0
    stdout_same: int = 0
    stderr_at_ns: int = 0
    stderr_same: int = 0


@dataclass(frozen=True, slots=True)
class LogLine:
    """A piece of output of at most LOG_LINE_BYTES, without its newline.

    complete: a newline followed (an engine may add one to the last line); otherwise the next piece of the
    same stream continues the line.
    at_ns: nanoseconds since the epoch when the engine read it. position: to go on behind this line.
    """

    stream: LogStream
    text: bytes
    complete: bool
    at_ns: int
    position: LogPosition


@dataclass(frozen=True, slots=True)
class Usage:
    """What a container has used. cpu_ms, received_bytes, sent_bytes: since its start; memory_bytes: now, no caches.

    gpu_percent: how busy its GPUs are now, 0 to 100 on average; gpu_memory_bytes: of all of them. None: not measured.
    """

    cpu_ms: int
    memory_bytes: int
    received_bytes: int
    sent_bytes: int
    gpu_percent: int | None = None
    gpu_memory_bytes: int | None = None


class DiskLimit(StrEnum):
    """How a disk limit is held. ENFORCED: writes fail with ENOSPC. WATCHED: looked at every few seconds,
    the container is killed beyond it. NONE: not held at all.
    """

    ENFORCED = "enforced"
    WATCHED = "watched"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What this runtime can really give on this machine; measured, not configured.

    engine: name and version in words. isolated: strangers' work may run here. networks: what may be
    asked for. max_disk_bytes: the most that one container may ask for. notes: what an operator should
    know or could fix, one sentence each.
    """

    engine: str
    isolated: bool
    networks: frozenset[Network]
    scratch_limit: DiskLimit
    root_limit: DiskLimit
    max_disk_bytes: int
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep removed, by attempt or by name."""

    containers: tuple[AttemptKey, ...] = ()
    networks: tuple[str, ...] = ()
    scratch: tuple[str, ...] = ()


class Beside(Protocol):
    """A command that runs beside a container's own, in its sandbox."""

    async def read(self) -> tuple[LogStream, bytes] | None:
        """The next output, None at its end. With a terminal everything is STDOUT."""
        ...

    async def write(self, data: bytes) -> None:
        """Input; returns once it is taken. What ended takes nothing any more."""
        ...

    async def end_input(self) -> None:
        """No more input comes."""
        ...

    async def resize(self, rows: int, cols: int) -> None:
        """The terminal has another size."""
        ...

    async def exit_code(self) -> int | None:
        """Of a command that has ended; None where it can't be told."""
        ...

    async def close(self) -> None:
        """Let go of it: it loses its input and output, and ends with its container at the latest."""
        ...


class Runtime(Protocol):
    """Runs one container per attempt. Every method raises EngineUnavailable when the engine is silent:
    an answer is never made up, so an empty list means that there is nothing.
    """

    async def capabilities(self) -> Capabilities:
        """What can be offered. Raises EngineUnavailable."""
        ...

    async def prepare(
        self, reference: str, *, digest: str | None = None, max_bytes: int, login: Login | None = None
    ) -> Image:
        """Resolve the reference to a digest and make sure that exactly that image is here.

        digest: set by later attempts, which must run what the first one ran; then the tag isn't asked again.
        max_bytes: unpacked size. login: for a private image; one that lies here since an earlier job is given to
        nobody whom its registry doesn't let in. Raises ImageUnavailable (renter's side), PullFailed (node's side).
        """
        ...

    async def stage(self, key: AttemptKey, limits: Limits) -> Staged | None:
        """The folders that the attempt's container will see, made if they are not there yet.

        They lie on the attempt's own disk, count against its limit, and go with `remove`. None where this machine
        has no such disk. Raises CapabilityMissing, StartFailed.
        """
        ...

    async def start(self, spec: ContainerSpec) -> Container:
        """Create and start the attempt's container, or adopt the one that exists.

        Answers RUNNING, or EXITED when it ended already (never started a second time) or its command
        can't be executed (exit code 126, 127). Raises CapabilityMissing, StartFailed, AttemptConflict,
        ImageUnavailable when the image is gone again or there is no command at all. After an error nothing
        is left behind; a cancelled start may leave a container, which `remove` ends.
        """
        ...

    async def find(self, key: AttemptKey) -> Container | None:
        """The attempt's container by a single read, None when there is none."""
        ...

    async def list(self) -> tuple[Container, ...]:
        """Every container of this deployment in any state, in order of creation."""
        ...

    async def wait(self, key: AttemptKey) -> Outcome:
        """Until the container ends. Survives restarts of the engine; raises ContainerVanished when two
        single reads find it gone. Cancelling it leaves the container alone.
        """
        ...

    def logs(self, key: AttemptKey, *, after: LogPosition | None = None) -> AsyncIterator[LogLine]:
        """Output from the first line, or behind `after`; follows until the container has ended.

        Ends with one RUNTIME line when LOG_TOTAL_BYTES are used up. Raises ContainerVanished.
        """
        ...

    async def stop(self, key: AttemptKey, *, grace_s: float) -> Outcome:
        """TERM, then KILL after grace_s. An ended container answers its outcome. Raises ContainerVanished."""
        ...

    async def pause(self, key: AttemptKey) -> bool:
        """Hold every process of the container where it is; whether it is held. Held already is success.

        False: it has ended, or this machine can't.
        """
        ...

    async def resume(self, key: AttemptKey) -> None:
        """Let it go on. One that isn't held, or has ended, is left as it is. `stop` does this first."""
        ...

    async def beside(self, key: AttemptKey, command: tuple[str, ...], *, tty: bool) -> Beside:
        """Start a command beside a running container's own.

        Raises CapabilityMissing, ContainerVanished, StartFailed.
        """
        ...

    async def measure(self, key: AttemptKey) -> Usage | None:
        """What the running container has used; None where that can't be told."""
        ...

    async def remove(self, key: AttemptKey) -> None:
        """Kill if needed, remove container, network and scratch. Nothing there is success; on an error
        call it again.
        """
        ...

    async def sweep(self, keep: frozenset[AttemptKey], *, older_than_s: float) -> Swept:
        """Remove what carries this deployment's label, isn't in `keep`, is older than `older_than_s`
        and has no operation in flight (rule R1).
        """
        ...

    async def close(self) -> None:
        """Let go of the engine. Containers run on."""
        ...
