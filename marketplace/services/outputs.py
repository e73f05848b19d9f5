"""What jobs leave: taken in from nodes, shown with the job, read by its renter for 7 days. Source: api.md section 5.3.

A node may write only while it holds the attempt's lease, and only what the attempt's caps allow. Of several attempts
the last one's files are the job's. Objects are written before their rows and deleted after them.
"""

import asyncio
import tempfile
import zipfile
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import BinaryIO, Final
from weakref import WeakValueDictionary

import orjson
import structlog

from marketplace.domain.allocations import Allocation, Attempt, AttemptPhase
from marketplace.domain.ids import AllocationId, NodeId
from marketplace.domain.lifecycle import JobStatus
from marketplace.domain.quantities import GB
from marketplace.errors import DetailCode, Gone, Invalid, NotFound, NotReady, StaleLease, TooLarge
from marketplace.objects.storage import CHUNK_BYTES, ObjectStorage
from marketplace.protocol.outputs import (
    MAX_BYTES,
    MAX_FILES,
    RESULT_NAMES,
    OutputFile,
    is_output_path,
    manifest_digest,
)
from marketplace.services.clock import Clock, Ids
from marketplace.services.live import Live
from marketplace.services.logs import JobLogs
from marketplace.store.allocations import Attempts
from marketplace.store.engine import Store, Transaction
from marketplace.store.outputs import Outputs, Package, Packages, StoredOutput

_log = structlog.get_logger(__name__)

RETENTION_MS: Final = 7 * 24 * 3_600_000
"""Specified: api.md section 5.3."""
INLINE_BYTES: Final = 64 << 10
"""Specified: api.md section 5.3."""
ORPHAN_MS: Final = 24 * 3_600_000
"""Chosen: longer than any delivery; what no row names after it was left by a crash."""
_AT_ONCE: Final = 200
_SWEEP_EVERY_MS: Final = 6 * 3_600_000
_STREAMS: Final = {1: "stdout", 2: "stderr"}
_WRITING: Final = (AttemptPhase.READY, AttemptPhase.UPLOADING)
BEFORE_READY: Final = (AttemptPhase.CLAIMED, AttemptPhase.ASSIGNED, AttemptPhase.PULLING)
REPORT_FIRST: Final = "the attempt has not been reported ready yet: its reports come first"
"""A node that was cut off, or began anew, sends files and reports by two ways: the files may be faster. Its lease is
good, and it must not give its work up for lost."""


class Format(StrEnum):
    """What `download` answers. Source: api.md section 5.2."""

    JSON = "json"
    TEXT = "text"
    BINARY = "binary"
    ARCHIVE = "archive"


_RESULT_OF: Final = {
    Format.JSON: ("result.json",),
    Format.TEXT: ("result.txt", "result.json"),
    Format.BINARY: ("result.bin", "result.txt", "result.json"),
}


@dataclass(frozen=True, slots=True)
class Lease:
    """Which attempt a node speaks for, and its proof."""

    node_id: NodeId
    allocation_id: AllocationId
    attempt: int
    token: str


@dataclass(frozen=True, slots=True)
class Left:
    """What a job left. manifest: digest of the list, as the last voucher's digest contains it."""

    files: Sequence[StoredOutput]
    manifest: bytes


class JobOutputs:
    """Takes in, gives out, forgets."""

    def __init__(self, store: Store, storage: ObjectStorage, live: Live, logs: JobLogs, clock: Clock, ids: Ids) -> None:
        self._store = store
        self._storage = storage
        self._live = live
        self._logs = logs
        self._clock = clock
        self._ids = ids
        self._packing: WeakValueDictionary[AllocationId, asyncio.Lock] = WeakValueDictionary()
        self._swept_ms: int | None = None

    # from nodes

    async def held(self, lease: Lease) -> list[StoredOutput]:
        """What is here of an attempt already. Raises StaleLease, NotReady."""
        self._holder(lease)
        return await self._store.lookup(lambda tx: Outputs(tx).list_for(lease.allocation_id, lease.attempt))

    async def take(self, lease: Lease, path: str, chunks: AsyncIterable[bytes]) -> StoredOutput:
        """Take one file; sent again, it takes the place of what was here.

        Raises StaleLease, NotReady, Invalid, TooLarge.
        """
        self._holder(lease)
        if not is_output_path(path):
            raise Invalid.field("path", DetailCode.NOT_ALLOWED, "is not a path that may be delivered")
        names = (lease.allocation_id, lease.attempt)
        limit = self._limit(lease)
        count, size = await self._store.lookup(lambda tx: Outputs(tx).usage(*names, path))
        if count >= MAX_FILES:
            raise _too_large(limit)
        key = f"outputs/{lease.allocation_id}/{lease.attempt}-{self._ids.new('out')}"
        try:
            written = await self._storage.write(key, chunks, limit_bytes=limit - size)
        except TooLarge as error:
            raise _too_large(limit) from error
        output = StoredOutput(
            *names, path, written.size, written.sha256, key, self._clock.now(),
            content=await self._content(path, key, written.size),
        )  # fmt: skip

        def write(tx: Transaction) -> str | None:
            # Once more, in one step with the row: what an ended attempt left is what its last voucher counted.
            attempt = Attempts(tx).find(*names)
            if attempt is None or attempt.phase not in _WRITING:
                raise StaleLease
            others, total = Outputs(tx).usage(*names, path)
            if others >= MAX_FILES or total + output.size > limit:
                raise _too_large(limit)
            return Outputs(tx).put(output)

        try:
            self._holder(lease)
            before = await self._store.write(write)
        except (StaleLease, TooLarge):
            await self._storage.delete([key])
            raise
        if before is not None:
            await self._storage.delete([before])
        return output

    # to renters

    async def list_files(self, allocation: Allocation) -> Left:
        """Files of a job that has ended. Raises NotReady, Gone."""
        self._require_kept(allocation)
        files = await self._files(allocation)
        digest = manifest_digest(OutputFile(file.path, file.size, file.sha256) for file in files)
        return Left(files, digest)

    async def find_file(self, allocation: Allocation, path: str) -> StoredOutput:
        """One file of a job that has ended. Raises NotReady, Gone, NotFound."""
        self._require_kept(allocation)
        found = await self._store.lookup(lambda tx: Outputs(tx).find(allocation.id, allocation.attempt, path))
        if found is None:
            raise NotFound("the job left no such file")
        return found

    async def find_result(self, allocation: Allocation, wanted: Format) -> StoredOutput:
        """The file that a format stands for. Raises NotReady, Gone, NotFound."""
        self._require_kept(allocation)
        files = {file.path: file for file in await self._files(allocation)}
        names = _RESULT_OF[wanted]
        for name in names:
            if name in files:
                return files[name]
        others = f"; path= reads one of its {len(files)} files, format=archive all of them" if files else ""
        raise NotFound(f"the job left no {names[0]}{others}")

    async def package(self, allocation: Allocation) -> Package:
        """Everything of a job that has ended, as one archive, made when it is first asked for.

        Raises NotReady, Gone.
        """
        self._require_kept(allocation)
        lock = self._packing.get(allocation.id) or asyncio.Lock()
        self._packing[allocation.id] = lock
        async with lock:
            known = await self._store.lookup(lambda tx: Packages(tx).find(allocation.id))
            if known is not None:
                return known
            # It is made once and kept: it must not lack the end of a log that is still on its way.
            await self._logs.last_lines(allocation.id)
            key = f"packages/{allocation.id}-{self._ids.new('zip')}"
            with tempfile.TemporaryFile() as file:
                await self._pack(allocation, file)
                file.seek(0)
                written = await self._storage.write(key, _pieces(file))
            package = Package(allocation.id, key, written.size, written.sha256, self._clock.now())
            await self._store.write(lambda tx: Packages(tx).create(package))
            return package

    def read(self, key: str, start: int, end: int) -> AsyncIterator[bytes]:
        """Bytes of a file or package, from `start` up to and without `end`."""
        return self._storage.read(key, start, end)

    # cleaning

    async def clean(self) -> int:
        """Forget what is past its time; how many things."""
        before = self._clock.now() - RETENTION_MS
        forgotten = 0
        for output in await self._store.read(lambda tx: Outputs(tx).list_past(before, _AT_ONCE)):
            await self._store.write(lambda tx, output=output: Outputs(tx).delete(output))  # type: ignore[misc]
            await self._storage.delete([output.object])
            forgotten += 1
        for package in await self._store.read(lambda tx: Packages(tx).list_past(before, _AT_ONCE)):
            await self._store.write(lambda tx, package=package: Packages(tx).delete(package.allocation_id))  # type: ignore[misc]
            await self._storage.delete([package.object])
            forgotten += 1
        if self._swept_ms is None or self._clock.monotonic_ms() - self._swept_ms >= _SWEEP_EVERY_MS:
            self._swept_ms = self._clock.monotonic_ms()
            forgotten += await self._sweep()
        return forgotten

    async def _sweep(self) -> int:
        """Delete bytes that no row names, once they are old enough that none will."""
        swept, before = 0, self._clock.now() - ORPHAN_MS
        for prefix in ("outputs", "packages"):
            async for found in self._storage.list(prefix):
                if found.modified_at_ms < before and not await self._is_named(found.key):
                    _log.info("object without a row", action="outputs.sweep", key=found.key, size=found.size)
                    await self._storage.delete([found.key])
                    swept += 1
        return swept

    async def _is_named(self, key: str) -> bool:
        kind, _, rest = key.partition("/")
        if kind == "outputs":
            owner = AllocationId(rest.partition("/")[0])
            return await self._store.read(lambda tx: Outputs(tx).names_object(key, owner))
        owner = AllocationId(rest.partition("-")[0])
        package = await self._store.read(lambda tx: Packages(tx).find(owner))
        return package is not None and package.object == key

    # parts

    def _holder(self, lease: Lease) -> Attempt:
        """The attempt, while its node may write. Raises StaleLease, NotReady, Starting."""
        self._live.require_open()
        attempt = self._live.attempt(lease.allocation_id)
        if (
            attempt is None
            or (attempt.node_id, attempt.number, attempt.lease_token) != (lease.node_id, lease.attempt, lease.token)
            or attempt.phase not in (*BEFORE_READY, *_WRITING)
        ):
            raise StaleLease
        if attempt.phase in BEFORE_READY:
            raise NotReady(REPORT_FIRST)
        return attempt

    def _limit(self, lease: Lease) -> int:
        """Bytes that an attempt may leave: what its disk holds. Files full of holes would else be kept at no price."""
        allocation = self._live.find(lease.allocation_id)
        if allocation is None:
            raise StaleLease
        return min(MAX_BYTES, allocation.disk_gb * GB)

    async def _files(self, allocation: Allocation) -> list[StoredOutput]:
        return await self._store.lookup(lambda tx: Outputs(tx).list_for(allocation.id, allocation.attempt))

    async def _content(self, path: str, key: str, size: int) -> bytes | None:
        """A small result that the job's view can show: JSON as it is, text as a JSON string."""
        if path not in RESULT_NAMES[:2] or size > INLINE_BYTES:
            return None
        raw = await self._storage.read_bytes(key)
        try:
            if path == "result.txt":
                return orjson.dumps(raw.decode())
            orjson.loads(raw)
        except (orjson.JSONDecodeError, UnicodeDecodeError):
            return None
        return raw

    def _require_kept(self, allocation: Allocation) -> None:
        if not allocation.terminal:
            raise NotReady("the job is not over yet; what it leaves can be read when it is", retry_after_s=5)
        ended = allocation.completed_at_ms
        if ended is not None and ended < self._clock.now() - RETENTION_MS:
            raise Gone("outputs are kept for 7 days after the job's end")

    async def _pack(self, allocation: Allocation, file: BinaryIO) -> None:
        """Write the archive. Its members' names are ours or passed `is_output_path`."""
        top = f"job_{allocation.job_id.removeprefix('job_')}"
        files = await self._files(allocation)
        moment = datetime.fromtimestamp((allocation.completed_at_ms or allocation.created_at_ms) / 1000, UTC)
        date = moment.timetuple()[:6]
        summary = {
            "job_id": allocation.job_id,
            "status": allocation.status.value,
            "reason": allocation.reason.code,
            "attempt": allocation.attempt,
            "outputs": [{"path": f.path, "size": f.size, "sha256": f.sha256} for f in files],
        }
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            await _add(archive, f"{top}/output.json", date, _once(orjson.dumps(summary, option=orjson.OPT_INDENT_2)))
            for output in files:
                place = output.path if output.path in RESULT_NAMES else f"artifacts/{output.path}"
                chunks = self._storage.read(output.object, 0, output.size)
                await _add(archive, f"{top}/{place}", date, chunks, large=output.size > zipfile.ZIP64_LIMIT // 2)
            for number, name in _STREAMS.items():
                await _add(archive, f"{top}/logs/{name}.log", date, self._log(allocation.id, number))

    async def _log(self, allocation_id: AllocationId, stream: int) -> AsyncIterator[bytes]:
        for line in await self._logs.read(allocation_id, attempt=None, wanted=lambda line: line.stream == stream):
            yield f"{line.text}\n".encode(errors="replace")


def shown_result(tx: Transaction, allocation: Allocation) -> object:
    """`result` of the job's view: the content, where to get it, or None until the job is completed."""
    if allocation.status is not JobStatus.COMPLETED:
        return None
    for name in RESULT_NAMES:
        found = Outputs(tx).find(allocation.id, allocation.attempt, name)
        if found is not None and found.content is not None:
            return orjson.Fragment(found.content)
        if found is not None:
            return {"download": True, "size": found.size, "sha256": found.sha256}
    return None


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"this job may leave {MAX_FILES} files and {limit} bytes", extra={"limit_bytes": limit})


async def _add(
    archive: zipfile.ZipFile, name: str, date: tuple[int, ...], chunks: AsyncIterator[bytes], *, large: bool = False
) -> None:
    info = zipfile.ZipInfo(name, date_time=(date[0], date[1], date[2], date[3], date[4], date[5]))
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = 0o644 << 16
    with archive.open(info, "w", force_zip64=large) as member:
        async for chunk in chunks:
            await asyncio.to_thread(member.write, chunk)


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _pieces(file: BinaryIO) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(file.read, CHUNK_BYTES):
        yield piece
