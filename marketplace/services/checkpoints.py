"""Checkpoints of jobs: taken in while an attempt runs, given to the next one, forgotten with the job's outputs.

The row names one whole checkpoint, or none: bytes are read to their end before it is switched, so that one that breaks
off, or isn't one, leaves the one before it in place. A job that repeats one which did not complete begins with that.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass
from typing import Final
from weakref import WeakValueDictionary

import structlog

from marketplace.domain.allocations import Allocation, AttemptPhase, allocation_of
from marketplace.domain.ids import AllocationId
from marketplace.domain.lifecycle import JobStatus
from marketplace.domain.quantities import GB
from marketplace.errors import DetailCode, Invalid, NotFound, NotReady, StaleLease, TooLarge
from marketplace.objects.storage import ObjectStorage
from marketplace.protocol.checkpoints import OVERHEAD_BYTES, Entry, MalformedCheckpoint, read_checkpoint
from marketplace.protocol.terms import JobSpec
from marketplace.services.clock import Clock, Ids
from marketplace.services.live import Live
from marketplace.services.outputs import BEFORE_READY, ORPHAN_MS, REPORT_FIRST, RETENTION_MS, Lease
from marketplace.store.allocations import Allocations
from marketplace.store.checkpoints import Checkpoint, Checkpoints
from marketplace.store.engine import Store, Transaction

_log = structlog.get_logger(__name__)

QUOTA_BYTES: Final = 100 << 30
"""Of one account's checkpoints; chosen, as much as its files may have."""
_AT_ONCE: Final = 200
_SWEEP_EVERY_MS: Final = 6 * 3_600_000
_PREFIX: Final = "checkpoints"


@dataclass(frozen=True, slots=True)
class SavedCheckpoint:
    """A checkpoint on its way to a node."""

    checkpoint: Checkpoint
    chunks: AsyncIterator[bytes]


class JobCheckpoints:
    """Takes in, gives out, forgets."""

    def __init__(self, store: Store, storage: ObjectStorage, live: Live, clock: Clock, ids: Ids) -> None:
        self._store = store
        self._storage = storage
        self._live = live
        self._clock = clock
        self._ids = ids
        self._taking: WeakValueDictionary[AllocationId, asyncio.Lock] = WeakValueDictionary()
        self._swept_ms: int | None = None

    async def take(self, lease: Lease, chunks: AsyncIterable[bytes]) -> Checkpoint:
        """Take one in place of the one before.

        Raises StaleLease, NotReady, Invalid, TooLarge, ObjectsUnavailable.
        """
        lock = self._taking.get(lease.allocation_id) or asyncio.Lock()
        self._taking[lease.allocation_id] = lock
        # One at a time: whoever sends many at once fills no more disk than who sends one.
        async with lock:
            return await self._take(lease, chunks)

    async def _take(self, lease: Lease, chunks: AsyncIterable[bytes]) -> Checkpoint:
        allocation = self._holder(lease, (AttemptPhase.READY, AttemptPhase.UPLOADING))
        spec = JobSpec.model_validate_json(allocation.spec)
        if spec.checkpoint_minutes is None:
            raise Invalid.field("checkpoint", DetailCode.NOT_ALLOWED, "is nothing that this job asked for")
        limit = spec.disk_gb * GB + OVERHEAD_BYTES
        key = f"{_PREFIX}/{allocation.id}/{lease.attempt}-{self._ids.new('cp')}"
        used = await self._store.read(lambda tx: Checkpoints(tx).usage(allocation.account_id, allocation.id))
        room = min(limit, QUOTA_BYTES - used)
        if room <= 0:
            raise _over_quota()
        try:
            written = await self._storage.write(key, _checked(chunks), limit_bytes=room)
        except TooLarge as error:
            raise (error if room == limit else _over_quota()) from error
        except MalformedCheckpoint as error:
            raise Invalid.field("body", DetailCode.NOT_ALLOWED, f"is no whole checkpoint: {error}") from error
        checkpoint = Checkpoint(
            allocation.id, allocation.account_id, lease.attempt, key, written.size, written.sha256, self._clock.now()
        )

        def write(tx: Transaction) -> str | None:
            if Checkpoints(tx).usage(allocation.account_id, allocation.id) + written.size > QUOTA_BYTES:
                raise _over_quota()
            return Checkpoints(tx).put(checkpoint)

        try:
            self._holder(lease, (AttemptPhase.READY, AttemptPhase.UPLOADING))
            before = await self._store.write(write)
        except (StaleLease, TooLarge):
            await self._storage.delete([key])
            raise
        if before is not None:
            await self._storage.delete([before])
        return checkpoint

    async def open(self, lease: Lease) -> SavedCheckpoint:
        """What the attempt goes on from. Raises StaleLease; NotFound where it begins from nothing."""
        allocation = self._holder(lease, None)
        found = await self._store.read(lambda tx: _latest(tx, allocation))
        if found is None:
            raise NotFound("the job has no checkpoint")
        return SavedCheckpoint(found, self._storage.read(found.object, 0, found.size))

    async def begins_with_one(self, allocation: Allocation) -> bool:
        """Whether its next attempt has something to go on from."""
        if JobSpec.model_validate_json(allocation.spec).checkpoint_minutes is None:
            return False
        return await self._store.read(lambda tx: _latest(tx, allocation)) is not None

    async def clean(self) -> int:
        """Forget what is past its time; how many."""
        before = self._clock.now() - RETENTION_MS
        forgotten = 0
        for checkpoint in await self._store.read(lambda tx: Checkpoints(tx).list_past(before, _AT_ONCE)):
            allocation_id = checkpoint.allocation_id
            await self._store.write(lambda tx, id_=allocation_id: Checkpoints(tx).delete(id_))  # type: ignore[misc]
            await self._storage.delete([checkpoint.object])
            forgotten += 1
        if self._swept_ms is None or self._clock.monotonic_ms() - self._swept_ms >= _SWEEP_EVERY_MS:
            self._swept_ms = self._clock.monotonic_ms()
            forgotten += await self._sweep()
        return forgotten

    async def _sweep(self) -> int:
        """Delete bytes that no row names, once they are old enough that none will."""
        swept, before = 0, self._clock.now() - ORPHAN_MS
        async for found in self._storage.list(_PREFIX):
            owner = AllocationId(found.key.split("/")[1])
            if found.modified_at_ms >= before:
                continue
            named = await self._store.read(lambda tx, id_=owner: Checkpoints(tx).find(id_))  # type: ignore[misc]
            if named is None or named.object != found.key:
                _log.info("object without a row", action="checkpoints.sweep", key=found.key, size=found.size)
                await self._storage.delete([found.key])
                swept += 1
        return swept

    def _holder(self, lease: Lease, phases: tuple[AttemptPhase, ...] | None) -> Allocation:
        """The allocation, while the attempt's node holds it. phases: None for any.

        Raises StaleLease, Starting; NotReady where a report of the node's is still on its way.
        """
        self._live.require_open()
        allocation, attempt = self._live.find(lease.allocation_id), self._live.attempt(lease.allocation_id)
        if (
            allocation is None
            or attempt is None
            or not attempt.live
            or (attempt.node_id, attempt.number, attempt.lease_token) != (lease.node_id, lease.attempt, lease.token)
            or (phases is not None and attempt.phase not in (*BEFORE_READY, *phases))
        ):
            raise StaleLease
        if phases is not None and attempt.phase not in phases:
            raise NotReady(REPORT_FIRST)
        return allocation


def _latest(tx: Transaction, allocation: Allocation) -> Checkpoint | None:
    own = Checkpoints(tx).find(allocation.id)
    if own is not None or allocation.retry_of is None:
        return own
    first = Allocations(tx).find(allocation_of(allocation.retry_of))
    if first is None or first.status is JobStatus.COMPLETED:
        return None  # what is done is done anew, from its beginning
    return Checkpoints(tx).find(first.id)


async def _checked(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """The same bytes, once they have been understood as a checkpoint. Raises MalformedCheckpoint."""
    seen: list[bytes] = []

    async def watched() -> AsyncIterator[bytes]:
        async for chunk in chunks:
            seen.append(chunk)
            yield chunk

    async for part in read_checkpoint(watched()):
        if isinstance(part, (Entry, bytes)) and seen:
            yield b"".join(seen)
            seen.clear()
    if seen:
        yield b"".join(seen)


def _over_quota() -> TooLarge:
    return TooLarge(
        f"the account's checkpoints take more than {QUOTA_BYTES >> 30} GiB",
        extra={"quota": "checkpoints", "limit_bytes": QUOTA_BYTES},
    )
