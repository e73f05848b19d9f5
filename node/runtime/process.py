"""Plain processes instead of containers: for development on a machine without an engine, and nothing else.

There is NO sandbox: a job sees this machine's files, network and processes as the node's own user does. It is off
unless the operator's configuration names it, says so each time it is made, and reports `isolated=False`, which the
node must refuse to offer to strangers. "Images" are commands that the configuration lists by name.

/inputs, /outputs, /scratch and /checkpoint don't exist as such; the environment names what is in them: REAVER_INPUT,
REAVER_OUTPUTS, REAVER_SCRATCH, REAVER_CHECKPOINT, REAVER_PROGRESS.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import signal
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

import structlog

from node.runtime.errors import (
    AttemptConflict,
    CapabilityMissing,
    ContainerVanished,
    ImageFault,
    ImageUnavailable,
    StartFailed,
)
from node.runtime.lines import LineReader
from node.runtime.naming import DEPLOYMENT, SPEC, Namespace, fingerprint
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
from node.runtime.supervisor import FRAME, start_ticks, write_whole

_ROOT = Path(__file__).resolve().parents[2]  # from where the supervisor is found as a module
_LOOK_S = 0.05  # chosen: files are looked at, not watched; good enough for development
_SPAWN_S = 30.0
_PATH = "/usr/local/bin:/usr/bin:/bin"
_STREAMS = {1: LogStream.STDOUT, 2: LogStream.STDERR}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ProcessImage:
    """What a name stands for: a command of this machine."""

    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        return "sha256:" + hashlib.sha256(json.dumps([self.entrypoint, self.command]).encode()).hexdigest()


class ProcessRuntime:
    """See `port.Runtime` for what each method promises, and the module's first lines for what is missing."""

    def __init__(self, deployment: str, folder: Path, images: Mapping[str, ProcessImage]) -> None:
        self._names = Namespace(deployment)
        self._folder = folder.absolute() / f"processes-{self._names.tag}"
        self._images = dict(images)
        self._locks: defaultdict[AttemptKey, asyncio.Lock] = defaultdict(asyncio.Lock)
        log.warning(
            "THE PROCESS RUNTIME HAS NO SANDBOX: jobs run as this user on this machine. For development only.",
            action="runtime.process",
            folder=str(self._folder),
        )

    async def capabilities(self) -> Capabilities:
        return Capabilities(
            engine="process (no sandbox)",
            isolated=False,
            networks=frozenset(Network),
            scratch_limit=DiskLimit.NONE,
            root_limit=DiskLimit.NONE,
            max_disk_bytes=1 << 40,
            notes=("No limit of memory, processors, disk or network is held: never offer this to strangers.",),
        )

    async def prepare(
        self,
        reference: str,
        *,
        digest: str | None = None,
        max_bytes: int,  # noqa: ARG002 - a command has no size
        login: Login | None = None,  # noqa: ARG002 - nor a registry
    ) -> Image:
        name = ImageName.parse(reference)
        image = self._images.get(name.name)
        if image is None:
            raise ImageUnavailable(
                ImageFault.NOT_FOUND,
                f"the process runtime knows {', '.join(sorted(self._images)) or 'no command'} only",
            )
        if {digest, name.digest} - {None, image.digest}:
            raise ImageUnavailable(ImageFault.NOT_FOUND, f"{name.name} has no version {digest or name.digest}")
        return Image(reference, name.name, image.digest, 0)

    async def stage(self, key: AttemptKey, limits: Limits) -> Staged | None:  # noqa: ARG002 - no limit is held
        inputs = self._place(key) / "inputs"
        checkpoint = self._place(key) / "checkpoint"
        for folder in (inputs, checkpoint):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Staged(inputs, checkpoint)

    async def start(self, spec: ContainerSpec) -> Container:
        async with self._locks[spec.key]:
            found = self._read(spec.key)
            if found is not None and found["labels"][SPEC] != fingerprint(spec):
                raise AttemptConflict
            if found is None or not self._began(spec.key):
                await self._spawn(spec)
            container = await self.find(spec.key)
        if container is None:
            raise ContainerVanished
        return container

    async def find(self, key: AttemptKey) -> Container | None:
        place = self._place(key)
        found = self._read(key)
        if found is None or not self._began(key):
            return None
        # The order matters: a supervisor writes the end first and lets go of its lock afterwards.
        alive = _is_locked(place / "alive")
        ended = _load(place / "exit.json")
        if ended is None and not alive:
            return None
        started = _load(place / "started.json")
        outcome = None
        if ended is not None:
            outcome = Outcome(ended["exit_code"], False, False, _moment(ended["at_ns"]), ended["message"])
        return Container(
            key=key,
            container_id=f"process-{place.name}",
            image_digest=found["image_digest"],
            state=ContainerState.RUNNING if outcome is None else ContainerState.EXITED,
            created_at=_moment(found["created_at_ns"]),
            started_at=None if started is None else _moment(started["at_ns"]),
            outcome=outcome,
            outputs=place / "outputs",
            scratch=place / "scratch",
            notes=place / "notes",
            checkpoint=place / "checkpoint",
        )

    async def list(self) -> tuple[Container, ...]:
        containers = [await self.find(key) for key in self._keys()]
        return tuple(sorted((c for c in containers if c is not None), key=lambda c: c.created_at))

    async def wait(self, key: AttemptKey) -> Outcome:
        while True:
            container = await self.find(key)
            if container is None:
                raise ContainerVanished
            if container.outcome is not None:
                return container.outcome
            await asyncio.sleep(_LOOK_S)

    async def logs(self, key: AttemptKey, *, after: LogPosition | None = None) -> AsyncIterator[LogLine]:
        reader = LineReader(after or LogPosition())
        if await self.find(key) is None:
            raise ContainerVanished
        with (self._place(key) / "log").open("rb") as file:
            while not reader.full:
                container = await self.find(key)
                for stream, at_ns, data in _frames(file):
                    for line in reader.feed(stream, at_ns, data):
                        yield line
                if container is None:
                    raise ContainerVanished
                if container.outcome is not None:
                    return
                await asyncio.sleep(_LOOK_S)

    async def pause(self, key: AttemptKey) -> bool:
        self._signal(key, signal.SIGSTOP)
        found = await self.find(key)
        return found is not None and found.state is ContainerState.RUNNING

    async def resume(self, key: AttemptKey) -> None:
        self._signal(key, signal.SIGCONT)

    async def beside(self, key: AttemptKey, command: tuple[str, ...], *, tty: bool) -> Beside:  # noqa: ARG002
        raise CapabilityMissing("there is no sandbox here in which a command could run beside the job")

    async def measure(self, key: AttemptKey) -> Usage | None:  # noqa: ARG002 - the port's signature
        return None  # processes of one user are not told apart here

    async def stop(self, key: AttemptKey, *, grace_s: float) -> Outcome:
        await self.resume(key)
        self._signal(key, signal.SIGTERM)
        try:
            async with asyncio.timeout(grace_s):
                return await self.wait(key)
        except TimeoutError:
            self._signal(key, signal.SIGKILL)
        return await self.wait(key)

    async def remove(self, key: AttemptKey) -> None:
        async with self._locks[key]:
            place = self._place(key)
            self._signal(key, signal.SIGKILL)
            while _is_locked(place / "alive"):  # noqa: ASYNC110 - another process ends, which sends no event
                await asyncio.sleep(_LOOK_S)
            await asyncio.to_thread(shutil.rmtree, place, ignore_errors=True)
        self._locks.pop(key, None)

    async def sweep(self, keep: frozenset[AttemptKey], *, older_than_s: float) -> Swept:
        limit = datetime.now(UTC) - timedelta(seconds=older_than_s)
        swept = []
        for key in self._keys():
            found = self._read(key)
            if found is None or key in keep or self._locks[key].locked() or _moment(found["created_at_ns"]) > limit:
                continue
            await self.remove(key)
            swept.append(key)
        return Swept(containers=tuple(swept))

    async def close(self) -> None:
        """Holds nothing."""

    async def _spawn(self, spec: ContainerSpec) -> None:
        image = self._images.get(spec.image.name)
        if image is None or image.digest != spec.image.digest:
            raise ImageUnavailable(ImageFault.NOT_FOUND, f"{spec.image.pinned} isn't configured any more")
        entrypoint = image.entrypoint if spec.entrypoint is None else spec.entrypoint
        default = image.command if spec.entrypoint is None else ()
        argv = [*entrypoint, *(default if spec.command is None else spec.command)]
        if not argv:
            raise ImageUnavailable(ImageFault.INVALID, "neither the image nor the job says which command to run")
        place = self._place(spec.key)
        for part in ("outputs", "scratch", "notes", "checkpoint"):
            (place / part).mkdir(mode=0o700, parents=True, exist_ok=True)
        env = {
            "PATH": _PATH,
            "HOME": str(place / "scratch"),
            "REAVER_OUTPUTS": str(place / "outputs"),
            "REAVER_SCRATCH": str(place / "scratch"),
            "REAVER_PROGRESS": str(place / "notes" / PROGRESS_NAME),
            **({"REAVER_CHECKPOINT": str(place / "checkpoint")} if spec.checkpoint else {}),
            **({} if spec.input_name is None else {"REAVER_INPUT": str(place / "inputs" / spec.input_name)}),
            **dict(spec.env),
        }
        description = {
            "labels": {**self._names.labels(spec.key), SPEC: fingerprint(spec)},
            "image_digest": spec.image.digest,
            "created_at_ns": _nanoseconds(datetime.now(UTC)),
            "argv": argv,
            "env": env,
            "workdir": spec.workdir or str(place / "scratch"),
        }
        await asyncio.to_thread(write_whole, place / "spec.json", description)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "node.runtime.supervisor",
            str(place),
            cwd=_ROOT,
            env={"PATH": _PATH},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(_SPAWN_S):
                code = await process.wait()
        except TimeoutError as hung:
            process.kill()
            await process.wait()
            raise StartFailed(f"the supervisor did not begin within {_SPAWN_S:.0f} s") from hung
        if code != 0 or not self._began(spec.key):
            raise StartFailed(f"the supervisor did not begin: exit code {code}")

    def _place(self, key: AttemptKey) -> Path:
        return self._folder / self._names.name(key)

    def _keys(self) -> tuple[AttemptKey, ...]:
        """Every attempt whose description carries this deployment's labels."""
        found = (_load(path) for path in sorted(self._folder.glob("*/spec.json")))
        keys = (self._names.owned_key(entry["labels"]) for entry in found if entry is not None)
        return tuple(key for key in keys if key is not None)

    def _read(self, key: AttemptKey) -> dict[str, Any] | None:
        found = _load(self._place(key) / "spec.json")
        return found if found is not None and found["labels"][DEPLOYMENT] == self._names.deployment else None

    def _began(self, key: AttemptKey) -> bool:
        place = self._place(key)
        return (place / "started.json").exists() or (place / "exit.json").exists()

    def _signal(self, key: AttemptKey, number: signal.Signals) -> None:
        """TERM to the command itself, others to all of its session; never to a process that got its number later."""
        started = _load(self._place(key) / "started.json")
        if started is None or started["ticks"] is None or start_ticks(started["pid"]) != started["ticks"]:
            return
        with contextlib.suppress(ProcessLookupError):  # it ended in between
            if number is not signal.SIGTERM:
                os.killpg(started["pid"], number)
            else:
                os.kill(started["pid"], number)


def _frames(file: IO[bytes]) -> Iterator[tuple[LogStream, int, bytes]]:
    """Whole frames from where the file stands; a half-written one waits for the next time."""
    while True:
        begin = file.tell()
        header = file.read(FRAME.size)
        if len(header) == FRAME.size:
            number, at_ns, length = FRAME.unpack(header)
            data = file.read(length)
            if len(data) == length:
                yield _STREAMS[number], at_ns, data
                continue
        file.seek(begin)
        return


def _is_locked(path: Path) -> bool:
    """Whether a supervisor lives."""
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _load(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    return found


def _moment(at_ns: int) -> datetime:
    return _EPOCH + timedelta(microseconds=at_ns // 1000)


def _nanoseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000
