"""Containers on Docker or Podman, through its HTTP API. What each method promises: `port.Runtime`.

Everything of an attempt (container, network, disk) carries the attempt's own name, so that after a crash at any
point the same call finds what was done and goes on from there.
"""

import asyncio
import contextlib
import json
import random
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import structlog

from node.runtime.engine import SLOW_S, Engine
from node.runtime.errors import (
    AttemptConflict,
    CapabilityMissing,
    ContainerVanished,
    EngineError,
    EngineRefused,
    EngineUnavailable,
    ImageFault,
    ImageUnavailable,
    StartFailed,
)
from node.runtime.exits import ExitHints
from node.runtime.firewall import Firewall
from node.runtime.frames import frames
from node.runtime.inspection import container_of, is_gone, moment, usage_of
from node.runtime.lines import LineReader
from node.runtime.machine import Machine, examine
from node.runtime.naming import DEPLOYMENT, ROOT_LIMIT, SPEC, Namespace, fingerprint
from node.runtime.port import (
    AttemptKey,
    Beside,
    Capabilities,
    Container,
    ContainerSpec,
    ContainerState,
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
from node.runtime.private_images import PrivateImages
from node.runtime.pulling import Puller
from node.runtime.references import ImageName
from node.runtime.sandbox import create_body
from node.runtime.scratch import Disk, Disks

_NOT_FOUND, _FORBIDDEN, _CONFLICT = 404, 403, 409
_POLL_S = 15.0  # chosen: hints wake, this decides when a hint was lost; jittered
_LOOK_AGAIN_S = 0.05  # between two reads of a container that is about to be gone or ended
_ENGINE_AWAY_S = 1.0  # chosen: an engine's restart takes a second or two
_PATIENCE_S = 20.0  # for a removal that somebody else began

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class DockerSettings:
    """How this node uses its engine.

    deployment: names everything of ours on this machine, such as the node's public key. folder: for disks.
    host: the engine's address, None looks for one. dns: public resolvers, for the node's own may stand on a private
    address. private_registries: HOST:PORT that may be pulled from though not public.
    blocked: more ranges that containers must not reach. watch_s: how often the root's size is looked at.
    """

    deployment: str
    folder: Path
    host: str | None = None
    dns: tuple[str, ...] = ("1.1.1.1", "9.9.9.9")
    private_registries: frozenset[str] = frozenset()
    blocked: tuple[str, ...] = ()
    watch_s: float = 5.0


class DockerRuntime:
    """See `port.Runtime`."""

    def __init__(self, settings: DockerSettings) -> None:
        self._settings = settings
        self._names = Namespace(settings.deployment)
        self._engine = Engine(settings.host)
        private_images = PrivateImages(settings.folder / f"private-images-{self._names.tag}")
        self._puller = Puller(self._engine, settings.private_registries, private_images)
        self._disks = Disks(settings.folder / self._names.tag)
        self._firewall = Firewall(self._names.interfaces, settings.blocked)
        self._hints = ExitHints(self._engine, settings.deployment)
        self._locks: defaultdict[AttemptKey, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._busy: defaultdict[AttemptKey, int] = defaultdict(int)
        self._probe = asyncio.Lock()
        self._machine: Machine | None = None
        self._watcher: asyncio.Task[None] | None = None

    async def capabilities(self) -> Capabilities:
        machine = await self._examined()
        self._ensure_watched(machine)  # also for containers that run since before the node's restart
        return machine.capabilities(self._disks.free_bytes())

    async def prepare(
        self, reference: str, *, digest: str | None = None, max_bytes: int, login: Login | None = None
    ) -> Image:
        return await self._puller.prepare(reference, digest, max_bytes, login)

    async def find_image(self, reference: str) -> Image | None:
        """An image that lies on this machine under this name, whatever a registry has; None where none does.

        One that was built here has no digest of a registry's: its name is empty, and its id stands for the digest.
        Raises ImageUnavailable for a wrong name.
        """
        return await self._puller.find(reference)

    @staticmethod
    def registries_of(reference: str) -> frozenset[str]:
        """The registry that an image names, as `private_registries` has it; none of a wrong name."""
        try:
            host = ImageName.parse(reference).host
        except ImageUnavailable:
            return frozenset()
        return frozenset() if host is None else frozenset({host})

    async def retire(self) -> None:
        """Take away what outlives every container of this deployment: the firewall's rules, the folder of disks."""
        await self._firewall.remove()
        self._disks.leave()

    async def stage(self, key: AttemptKey, limits: Limits) -> Staged | None:
        async with self._exclusive(key):
            machine = await self._examined()
            disk = await self._provide_disk(key, limits, machine)
            return None if disk is None else Staged(disk.inputs, disk.checkpoint)

    async def start(self, spec: ContainerSpec) -> Container:
        async with self._exclusive(spec.key):
            machine = await self._examined()
            self._ensure_watched(machine)
            found = await self._inspect(spec.key)
            if found is not None and found["Config"]["Labels"].get(SPEC) != fingerprint(spec):
                raise AttemptConflict
            try:
                if found is None:
                    await self._create(spec, machine)
                elif self._view(spec.key, found).state is ContainerState.CREATED:
                    await self._provide(spec, machine)  # after a reboot the disk isn't mounted any more
                return await self._run(spec.key)
            except EngineUnavailable:
                raise  # nothing is known: what was begun is found by the next call or by a sweep
            except EngineError as error:
                if found is None:
                    await self._discard(spec.key)
                if isinstance(error, EngineRefused):
                    raise StartFailed(f"the engine refused to start the container: {error}") from error
                raise

    async def find(self, key: AttemptKey) -> Container | None:
        found = await self._inspect(key)
        return None if found is None else self._view(key, found)

    async def list(self) -> tuple[Container, ...]:
        containers = [await self.find(key) for key in await self._keys()]
        return tuple(sorted((c for c in containers if c is not None), key=lambda c: c.created_at))

    async def wait(self, key: AttemptKey) -> Outcome:
        missing = 0
        with self._hints.watch(self._names.name(key)) as hint:
            pause = 0.0
            while True:
                hint.clear()
                try:
                    container = await self.find(key)
                except EngineUnavailable:
                    pause = _ENGINE_AWAY_S
                else:
                    if container is None:
                        missing += 1
                        if missing > 1:
                            raise ContainerVanished
                        await asyncio.sleep(_LOOK_AGAIN_S)
                        continue
                    if container.outcome is not None:
                        return container.outcome
                    missing = 0
                    # A hint just before this look means that the engine is still writing the end down.
                    pause = _LOOK_AGAIN_S if hint.is_set() else _POLL_S * random.uniform(0.8, 1.2)  # noqa: S311 - jitter
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await hint.wait()

    async def logs(self, key: AttemptKey, *, after: LogPosition | None = None) -> AsyncIterator[LogLine]:
        position = after or LogPosition()
        follow = True
        while True:
            async with contextlib.aclosing(self._read(key, position, follow=follow)) as lines:
                async for line in lines:
                    position = line.position
                    yield line
                    if line.stream is LogStream.RUNTIME:
                        return
            if not follow:
                return
            container = await self.find(key)
            if container is None:
                raise ContainerVanished
            # What was written at the very end may have missed the follower: one plain read behind it settles that.
            follow = container.state is not ContainerState.EXITED

    async def _read(self, key: AttemptKey, position: LogPosition, *, follow: bool) -> AsyncGenerator[LogLine]:
        """Lines behind a position, until the engine ends the stream or goes away."""
        reader = LineReader(position)
        if reader.full:
            return
        pieces = frames(self._engine, self._names.name(key), reader.since_ns, follow=follow)
        try:
            async with contextlib.aclosing(pieces):
                async for stream, at_ns, data in pieces:
                    for line in reader.feed(stream, at_ns, data):
                        yield line
        except EngineUnavailable:
            await asyncio.sleep(_ENGINE_AWAY_S)  # a restart, maybe; if it isn't, the next question says so
        except EngineRefused as refused:
            if refused.status == _NOT_FOUND:
                raise ContainerVanished from refused
            raise

    async def pause(self, key: AttemptKey) -> bool:
        name = self._names.name(key)
        with contextlib.suppress(EngineRefused):  # held already, ended, gone, or no freezer: the next look tells
            await self._engine.call("POST", f"containers/{name}/pause")
        found = await self._inspect(key)
        return found is not None and found["State"]["Status"] == "paused"

    async def resume(self, key: AttemptKey) -> None:
        found = await self._inspect(key)
        if found is not None and found["State"]["Status"] == "paused":
            with contextlib.suppress(EngineRefused):  # let go in between
                await self._engine.call("POST", f"containers/{self._names.name(key)}/unpause")

    async def beside(self, key: AttemptKey, command: tuple[str, ...], *, tty: bool) -> Beside:
        name = self._names.name(key)
        if await self._inspect(key) is None:
            raise ContainerVanished
        body = {"AttachStdin": True, "AttachStdout": True, "AttachStderr": True, "Tty": tty, "Cmd": list(command)}
        try:
            found = await self._engine.call("POST", f"containers/{name}/exec", body=body)
            return await self._engine.attach(str(found["Id"]), tty=tty)
        except EngineRefused as refused:
            raise StartFailed(str(refused)) from refused

    async def measure(self, key: AttemptKey) -> Usage | None:
        path = f"containers/{self._names.name(key)}/stats"
        try:
            found = await self._engine.get(path, stream="false", **{"one-shot": "true"})
        except EngineRefused:
            return None
        return usage_of(found)

    async def stop(self, key: AttemptKey, *, grace_s: float) -> Outcome:
        with self._in_flight(key):
            await self.resume(key)
            await self._signal(key, "SIGTERM")
            try:
                async with asyncio.timeout(grace_s):
                    return await self.wait(key)
            except TimeoutError:
                await self._signal(key, "SIGKILL")
            return await self.wait(key)

    async def remove(self, key: AttemptKey) -> None:
        async with self._exclusive(key):
            await self._discard(key)
        self._locks.pop(key, None)

    async def sweep(self, keep: frozenset[AttemptKey], *, older_than_s: float) -> Swept:
        limit = datetime.now(UTC) - timedelta(seconds=older_than_s)
        found = await self.list()
        containers = [c.key for c in found if c.created_at <= limit and c.key not in keep and c.key not in self._busy]
        for key in containers:
            await self.remove(key)
        left = {c.key for c in found} - set(containers)
        networks = await self._sweep_networks({self._names.name(key) for key in keep | left}, limit)
        scratch = []
        for name in self._disks.names(older_than_s):
            # What is in flight is read last: an attempt may have begun while the rest was looked at.
            if name not in {self._names.name(key) for key in keep | left | set(self._busy)}:
                await self._disks.remove(name)
                scratch.append(name)
        return Swept(tuple(containers), networks, tuple(scratch))

    async def close(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        await self._hints.close()
        await self._engine.close()

    # Starting, in calling order.

    async def _create(self, spec: ContainerSpec, machine: Machine) -> None:
        image = await self._puller.inspect(spec.image.pinned)
        if image is None:
            raise ImageUnavailable(ImageFault.NOT_FOUND, f"{spec.image.pinned} isn't on this machine any more")
        disk = await self._provide(spec, machine)
        body = create_body(
            spec,
            self._names,
            machine.traits,
            disk=disk,
            image_config=image.get("Config") or {},
            dns=self._settings.dns,
        )
        name = self._names.name(spec.key)
        try:
            await self._engine.call("POST", "containers/create", params={"name": name}, body=body, timeout_s=SLOW_S)
        except EngineRefused as refused:
            if refused.status != _CONFLICT or await self._inspect(spec.key) is None:
                raise

    async def _provide(self, spec: ContainerSpec, machine: Machine) -> Disk | None:
        """Network and disk, made or found."""
        offered = machine.capabilities(self._disks.free_bytes())
        if spec.network not in offered.networks:
            raise CapabilityMissing(f"this machine offers no network {spec.network}: {' '.join(offered.notes)}")
        disk, network = await asyncio.gather(
            self._provide_disk(spec.key, spec.limits, machine), self._provide_network(spec), return_exceptions=True
        )
        if isinstance(network, BaseException):
            raise network
        if isinstance(disk, BaseException):
            raise disk
        return disk

    async def _provide_disk(self, key: AttemptKey, limits: Limits, machine: Machine) -> Disk | None:
        name = self._names.name(key)
        found = self._disks.find(name)
        if found is not None:  # staged before, or left by a start that was cut off: its room is taken already
            return found
        most = machine.capabilities(self._disks.free_bytes()).max_disk_bytes
        if limits.disk_bytes > most:
            raise CapabilityMissing(f"{limits.disk_bytes} bytes of disk are asked for, {most} can be had")
        return await self._disks.create(name, limits.disk_bytes) if machine.mounts_disks else None

    async def _provide_network(self, spec: ContainerSpec) -> None:
        if spec.network is not Network.EGRESS:
            return
        await self._firewall.ensure()
        name = self._names.name(spec.key)
        try:
            await self._engine.get(f"networks/{name}")
        except EngineRefused as refused:
            if refused.status != _NOT_FOUND:
                raise
        else:
            return
        body = {
            "Name": name,
            "Driver": "bridge",
            "CheckDuplicate": True,
            "EnableIPv6": False,
            "Labels": self._names.labels(spec.key),
            "Options": {
                "com.docker.network.bridge.name": self._names.interface(spec.key),
                "com.docker.network.bridge.enable_icc": "false",
            },
        }
        await self._engine.call("POST", "networks/create", body=body, timeout_s=SLOW_S)

    async def _run(self, key: AttemptKey) -> Container:
        """Start a container that never ran. One whose command can't be executed counts as ended."""
        container = await self.find(key)
        if container is None:
            raise ContainerVanished
        if container.state is not ContainerState.CREATED:
            return container
        try:
            await self._engine.call("POST", f"containers/{container.container_id}/start", timeout_s=SLOW_S)
        except EngineRefused:
            container = await self.find(key)
            if container is None or container.state is ContainerState.CREATED:
                raise
            return container
        container = await self.find(key)
        if container is None:
            raise ContainerVanished
        return container

    # Ending, in calling order.

    async def _signal(self, key: AttemptKey, signal: str) -> None:
        """That it has ended already is fine; that it isn't there is for the waiter to find."""
        try:
            name = self._names.name(key)
            if await self._inspect(key) is not None:
                await self._engine.call("POST", f"containers/{name}/kill", params={"signal": signal})
        except EngineRefused as refused:
            if refused.status not in (_NOT_FOUND, _CONFLICT):
                raise

    async def _discard(self, key: AttemptKey) -> None:
        """Container, network, disk: in this order, for each holds the next."""
        name = self._names.name(key)
        try:
            async with asyncio.timeout(_PATIENCE_S):
                while await self._present(name):
                    await self._delete(f"containers/{name}", force="1", v="1")
                while await self._present(name, kind="networks"):
                    await self._delete(f"networks/{name}")
        except TimeoutError as stuck:
            raise EngineRefused(_CONFLICT, f"{name} is still there after {_PATIENCE_S:.0f} s of removing") from stuck
        await self._disks.remove(name)

    async def _present(self, name: str, kind: str = "containers") -> bool:
        """Whether something of ours has the name. What carries it without our label is left alone."""
        path = f"containers/{name}/json" if kind == "containers" else f"networks/{name}"
        try:
            found = await self._engine.get(path)
        except EngineRefused as refused:
            if refused.status == _NOT_FOUND:
                return False
            raise
        labels = found["Config"]["Labels"] if kind == "containers" else found["Labels"]
        return self._names.owned_key(labels) is not None

    async def _delete(self, path: str, **params: str) -> None:
        """Busy (a removal in progress, an endpoint not yet gone) is answered by looking again."""
        try:
            await self._engine.call("DELETE", path, params=params, timeout_s=SLOW_S)
        except EngineRefused as refused:
            if refused.status not in (_NOT_FOUND, _FORBIDDEN, _CONFLICT):
                raise
            await asyncio.sleep(_LOOK_AGAIN_S)

    async def _sweep_networks(self, kept: set[str], limit: datetime) -> tuple[str, ...]:
        swept = []
        filters = json.dumps({"label": [f"{DEPLOYMENT}={self._settings.deployment}"]})
        for network in await self._engine.get("networks", filters=filters):
            key = self._names.owned_key(network.get("Labels"))
            if key is None or key in self._busy or network["Name"] in kept or moment(network["Created"]) > limit:
                continue
            await self._delete(f"networks/{network['Name']}")
            swept.append(str(network["Name"]))
        return tuple(swept)

    # Reading.

    async def _keys(self) -> tuple[AttemptKey, ...]:
        filters = json.dumps({"label": [f"{DEPLOYMENT}={self._settings.deployment}"]})
        found = await self._engine.get("containers/json", all="1", filters=filters)
        keys = (self._names.owned_key(entry.get("Labels")) for entry in found)
        return tuple(key for key in keys if key is not None)

    async def _inspect(self, key: AttemptKey) -> dict[str, Any] | None:
        """The engine's own description; None when there is none. One of our name without our label is refused."""
        try:
            found: dict[str, Any] = await self._engine.get(f"containers/{self._names.name(key)}/json")
        except EngineRefused as refused:
            if refused.status == _NOT_FOUND:
                return None
            raise
        if is_gone(found):
            return None
        if self._names.owned_key(found["Config"].get("Labels")) != key:
            raise StartFailed(f"a container named {self._names.name(key)} exists and isn't ours: it is left alone")
        return found

    def _view(self, key: AttemptKey, found: dict[str, Any]) -> Container:
        name = self._names.name(key)
        return container_of(key, found, disk=self._disks.find(name), disk_full=self._disks.is_full(name))

    # Keeping order.

    async def _examined(self) -> Machine:
        async with self._probe:
            if self._machine is None:
                self._machine = await examine(self._engine, self._disks, self._firewall)
                for note in self._machine.notes:
                    log.warning("runtime capability", action="runtime.examined", note=note)
            return self._machine

    @contextlib.contextmanager
    def _in_flight(self, key: AttemptKey) -> Iterator[None]:
        """While it lasts a sweep leaves the attempt alone."""
        self._busy[key] += 1
        try:
            yield
        finally:
            self._busy[key] -= 1
            if not self._busy[key]:
                del self._busy[key]

    @contextlib.asynccontextmanager
    async def _exclusive(self, key: AttemptKey) -> AsyncIterator[None]:
        with self._in_flight(key):
            async with self._locks[key]:
                yield

    def _ensure_watched(self, machine: Machine) -> None:
        """Where the engine can't limit the root, a task looks at its size."""
        if machine.traits.sized_root or (self._watcher is not None and not self._watcher.done()):
            return
        self._watcher = asyncio.create_task(self._watch_roots(), name="size of container roots")

    async def _watch_roots(self) -> None:
        filters = json.dumps({"label": [f"{DEPLOYMENT}={self._settings.deployment}"], "status": ["running"]})
        while True:
            await asyncio.sleep(self._settings.watch_s)
            try:
                for entry in await self._engine.get("containers/json", size="1", filters=filters):
                    await self._check_root(entry)
            except EngineError as error:
                log.warning("could not look at container sizes", action="runtime.watch", error=str(error))

    async def _check_root(self, entry: dict[str, Any]) -> None:
        key = self._names.owned_key(entry.get("Labels"))
        limit = (entry.get("Labels") or {}).get(ROOT_LIMIT)
        written = int(entry.get("SizeRw") or 0)
        if key is None or limit is None or written <= int(limit):
            return
        log.warning("container wrote more than its limit", action="runtime.disk_full", attempt=str(key), bytes=written)
        self._disks.mark_full(self._names.name(key))
        await self._signal(key, "SIGKILL")
