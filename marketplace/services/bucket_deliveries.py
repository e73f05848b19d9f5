"""Brings what jobs left into their renters' buckets, while the node that ran them still holds the attempt.

    waiting ─► delivering ─► delivered   the node says that all is here; it hears how it ended, then reports its end
                    └──────► failed      its last voucher says output_delivery_failed; what was left is kept here

So the reason on chain is the job's, and the market alone writes to the bucket. Intent before act: the row says
`delivering` and whose outputs before the first byte goes; each file is noted when it is there; `output.json`, which
lists them with their digests, comes last. A process that is killed anywhere goes on with what isn't noted, and writing
an object again changes nothing.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import orjson
import structlog

from marketplace.crash import crash_point
from marketplace.domain.allocations import AttemptPhase, job_of
from marketplace.domain.buckets import MAX_KEY_BYTES, DeliveryState
from marketplace.domain.ids import AccountId, AllocationId
from marketplace.errors import MarketError, ObjectsUnavailable, StaleLease
from marketplace.objects.storage import ObjectStorage
from marketplace.outgoing import Outgoing
from marketplace.protocol.outputs import RESULT_NAMES
from marketplace.services.bucket_client import PART_BYTES, BucketClient, BucketRefused, BucketSilent, UploadGone
from marketplace.services.bucket_credentials import CredentialService
from marketplace.services.clock import Clock
from marketplace.services.duties import Duty
from marketplace.services.live import Live
from marketplace.services.outputs import JobOutputs, Lease
from marketplace.store.buckets import BucketDeliveries, BucketDelivery
from marketplace.store.engine import Store, Transaction
from marketplace.store.outputs import Outputs, StoredOutput

_log = structlog.get_logger(__name__)

PATIENCE_MS: Final = 300_000
"""Chosen: how long a service may stand in trouble, from the last thing that went through, before the delivery has
failed. The node's slot is held meanwhile and nobody pays for it, so it is not longer; see docs/decisions/016."""
BYTES_A_SECOND: Final = 1 << 20
"""Chosen: a delivery that is slower than this, beyond its patience, has failed: whoever owns the bucket would hold the
slot otherwise."""
FIRST_PAUSE_S: Final = 0.5
LAST_PAUSE_S: Final = 10.0
WAIT_MS: Final = 15_000
"""How long an answer to the node waits for the end; below the time in which a node expects one."""
AT_ONCE: Final = 8
"""Deliveries at a time; chosen. No account takes more of them than it leaves free, so a few slow buckets of one renter
keep nobody else waiting."""
_FILES_AT_ONCE: Final = 4
_BUFFERS: Final = 2
"""Parts of one delivery in memory at a time, so 128 MiB over all; chosen. They are nobody else's: a bucket that takes
its parts byte by byte would hold up every other delivery until that one had failed."""
_IDLE_MS: Final = 5_000
_BEGINNINGS: Final = 3
_HELD: Final = (AttemptPhase.READY, AttemptPhase.UPLOADING)
SUMMARY: Final = "output.json"


@dataclass(frozen=True, slots=True)
class HandedOver:
    """How far the delivery is, as the node hears it. detail: why it failed."""

    state: DeliveryState
    detail: str | None = None


class BucketCourier:
    """Takes over from nodes, and delivers as a duty that one process holds."""

    def __init__(
        self,
        store: Store,
        storage: ObjectStorage,
        live: Live,
        outputs: JobOutputs,
        credentials: CredentialService,
        outgoing: Outgoing,
        clock: Clock,
        *,
        count: Callable[[str], None],
        patience_ms: int = PATIENCE_MS,
    ) -> None:
        """count: told how each ended."""
        self._count = count
        self.patience_ms = patience_ms
        self._store = store
        self._storage = storage
        self._live = live
        self._outputs = outputs
        self._credentials = credentials
        self._outgoing = outgoing
        self._clock = clock
        self._tasks: dict[AllocationId, asyncio.Task[None]] = {}
        self._ended: dict[AllocationId, asyncio.Event] = {}
        self._running: dict[AllocationId, AccountId | None] = {}
        self.duty = Duty("bucket-deliveries", store, clock, self.work)

    async def stop(self) -> None:
        """Break off what runs; it goes on where it was when this is started again."""
        tasks = tuple(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._outgoing.close()

    async def hand_over(self, lease: Lease) -> HandedOver:
        """The node says that everything is here: begin, or how it stands by now. Raises StaleLease, NotReady.

        Where nothing is to be delivered elsewhere, it is delivered.
        """
        files = await self._outputs.held(lease)
        allocation_id = lease.allocation_id

        def begin(tx: Transaction) -> BucketDelivery | None:
            known = BucketDeliveries(tx).find(allocation_id)
            if known is None or known.attempt >= lease.attempt:
                return known
            now = self._clock.now()
            begun = replace(
                known,
                state=DeliveryState.DELIVERING if files else DeliveryState.DELIVERED,
                attempt=lease.attempt,
                files=len(files),
                size=sum(file.size for file in files),
                started_at_ms=now,
                ended_at_ms=None if files else now,
                error=None,
            )
            BucketDeliveries(tx).update(begun)
            BucketDeliveries(tx).forget_files(allocation_id)
            return begun

        delivery = await self._store.write(begin)
        if delivery is None:
            return HandedOver(DeliveryState.DELIVERED)
        if delivery.state is DeliveryState.DELIVERING:
            crash_point("market.delivery_begun")
            delivery = await self._wait(delivery)
        return HandedOver(delivery.state, delivery.error)

    async def work(self) -> int:
        """Start what is to be delivered; in how many milliseconds to look again."""
        begun, accounts = await self._store.read(
            lambda tx: (BucketDeliveries(tx).list_begun(), BucketDeliveries(tx).accounts_of_begun())
        )
        for delivery in begun:
            allocation_id, account = delivery.allocation_id, accounts.get(delivery.allocation_id)
            if allocation_id in self._tasks or not self._has_room(account):
                continue
            self._running[allocation_id] = account
            task = asyncio.create_task(self._deliver(delivery), name=f"delivery of {allocation_id}")
            self._tasks[allocation_id] = task
        return _IDLE_MS

    def _has_room(self, account: AccountId | None) -> bool:
        """Whether one more of an account's may run: only while more are free than run for it."""
        return list(self._running.values()).count(account) < AT_ONCE - len(self._running)

    async def _wait(self, delivery: BucketDelivery) -> BucketDelivery:
        """How it stands when it has ended, or after a while."""
        ended = self._ended.setdefault(delivery.allocation_id, asyncio.Event())
        self.duty.wake()
        try:
            async with asyncio.timeout(WAIT_MS / 1000):
                await ended.wait()
        except TimeoutError:
            pass
        return await self._store.read(lambda tx: BucketDeliveries(tx).find(delivery.allocation_id)) or delivery

    async def _deliver(self, delivery: BucketDelivery) -> None:
        """One delivery to its end."""
        allocation_id = delivery.allocation_id
        try:
            # Another run of it may have ended while the list was read that this one was found in.
            if await self._store.read(lambda tx: BucketDeliveries(tx).find(allocation_id)) != delivery:
                return
            run = _Run(
                self._store, self._storage, self._live, self._clock, self._credentials, self._outgoing, delivery,
                self.patience_ms,
            )  # fmt: skip
            error = await run.run()
            await self._conclude(delivery, error)
        except MarketError as error:
            # Our own store: the row stays as it is, and the duty begins again.
            _log.warning("delivery", action="begins again", allocation=delivery.allocation_id, cause=error.message)
        except Exception:  # noqa: BLE001 - a task's outer edge: one bad delivery is no other's
            _log.exception("delivery failed", action="buckets.deliver", allocation=delivery.allocation_id)
            await self._conclude(delivery, "the market's own fault")
        finally:
            self._tasks.pop(delivery.allocation_id, None)
            self._running.pop(delivery.allocation_id, None)
            ended = self._ended.pop(delivery.allocation_id, None)
            if ended is not None:
                ended.set()
            self.duty.wake()

    async def _conclude(self, delivery: BucketDelivery, error: str | None) -> None:
        over = replace(
            delivery,
            state=DeliveryState.DELIVERED if error is None else DeliveryState.FAILED,
            ended_at_ms=self._clock.now(),
            error=error,
        )

        def write(tx: Transaction) -> None:
            present = BucketDeliveries(tx).find(delivery.allocation_id)
            if present is not None and (present.attempt, present.state) == (delivery.attempt, delivery.state):
                BucketDeliveries(tx).update(over)
                BucketDeliveries(tx).forget_files(delivery.allocation_id)

        await self._store.write(write)
        self._count(over.state.value)
        _log.info(
            "outputs delivered" if error is None else "outputs not delivered", action="buckets.deliver",
            allocation=delivery.allocation_id, files=delivery.files, bytes=delivery.size, error=error,
        )  # fmt: skip


class _Run:
    """One delivery under way in this process."""

    def __init__(
        self,
        store: Store,
        storage: ObjectStorage,
        live: Live,
        clock: Clock,
        credentials: CredentialService,
        outgoing: Outgoing,
        delivery: BucketDelivery,
        patience_ms: int,
    ) -> None:
        self._patience_ms = patience_ms
        self._store = store
        self._storage = storage
        self._live = live
        self._clock = clock
        self._buffers = asyncio.Semaphore(_BUFFERS)
        self._credentials = credentials
        self._outgoing = outgoing
        self._delivery = delivery
        self._trouble: str | None = None
        self._began_ms = self._progress_ms = clock.monotonic_ms()

    async def run(self) -> str | None:
        """Deliver everything; why that failed, None when all is there. Raises MarketError of our own store."""
        delivery = self._delivery
        names = (delivery.allocation_id, delivery.attempt)
        files = await self._store.read(lambda tx: Outputs(tx).list_for(*names))
        done = await self._store.read(lambda tx: BucketDeliveries(tx).delivered(delivery.allocation_id))
        try:
            client = BucketClient(self._outgoing, await self._credentials.login(delivery))
        except MarketError as error:
            return error.message
        too_long = next(
            (file.path for file in files if len(self._key(_place_of(file.path)).encode()) > MAX_KEY_BYTES), None
        )
        if too_long is not None:
            return f"with the prefix the path {too_long[:64]}… makes a key of more than {MAX_KEY_BYTES} bytes"
        turn = asyncio.Semaphore(_FILES_AT_ONCE)

        async def one(file: StoredOutput) -> None:
            async with turn:
                await self._file(client, file)

        try:
            async with asyncio.TaskGroup() as group:
                for file in files:
                    if file.path not in done:
                        group.create_task(one(file))
            summary = _summary(delivery, files)
            await self._patiently(lambda: client.put(self._key(SUMMARY), summary, "application/json"))
        except (BucketRefused, StaleLease) as error:
            return _words(error)
        except ExceptionGroup as errors:
            first = errors.exceptions[0]
            if isinstance(first, (BucketRefused, StaleLease)):
                return _words(first)
            raise first from errors
        crash_point("market.delivered")
        return None

    def _key(self, name: str) -> str:
        return self._delivery.place.key(f"{job_of(self._delivery.allocation_id)}/{name}")

    async def _file(self, client: BucketClient, file: StoredOutput) -> None:
        """One file, until it is there. Raises BucketRefused, StaleLease."""
        for _ in range(_BEGINNINGS):
            try:
                await self._patiently(lambda: self._send(client, file))
            except UploadGone:
                continue
            crash_point("market.delivering")
            return
        raise BucketRefused("the service keeps forgetting an upload that was begun")

    async def _patiently(self, send: Callable[[], Awaitable[None]]) -> None:
        """Again and again while the service is in trouble. Raises BucketRefused, StaleLease, UploadGone."""
        pause = FIRST_PAUSE_S
        while True:
            self._require_wanted()
            try:
                await send()
            except BucketSilent as silent:
                said = str(silent)
            except ObjectsUnavailable:
                said = "the market's own storage does not answer"
            else:
                self._progress_ms = self._clock.monotonic_ms()
                return
            if self._clock.monotonic_ms() - self._progress_ms >= self._patience_ms:
                raise BucketRefused(f"{said}, for too long")
            self._trouble = said
            _log.info(
                "delivery is tried again", action="buckets.retry", allocation=self._delivery.allocation_id, cause=said
            )
            await asyncio.sleep(pause)
            pause = min(LAST_PAUSE_S, pause * 2)

    def _require_wanted(self) -> None:
        """Raise StaleLease where nobody waits for it any more, BucketRefused where it takes too long."""
        delivery = self._delivery
        attempt = self._live.attempt(delivery.allocation_id)
        if attempt is None or attempt.number != delivery.attempt or attempt.phase not in _HELD:
            raise StaleLease
        limit_ms = self._patience_ms + delivery.size * 1000 // BYTES_A_SECOND
        if self._clock.monotonic_ms() - self._began_ms >= limit_ms:
            raise BucketRefused(f"{self._trouble}, for too long" if self._trouble else "the service is too slow")

    async def _send(self, client: BucketClient, file: StoredOutput) -> None:
        """One file, and that it is there. Raises BucketRefused, BucketSilent, UploadGone, ObjectsUnavailable."""
        key = self._key(_place_of(file.path))
        if file.size <= PART_BYTES:
            async with self._buffers:
                await client.put(key, await self._bytes(file, 0, file.size))
        else:
            await self._send_parts(client, key, file)
        at_ms = self._clock.now()
        await self._store.write(lambda tx: BucketDeliveries(tx).put_file(file.allocation_id, file.path, at_ms=at_ms))

    async def _send_parts(self, client: BucketClient, key: str, file: StoredOutput) -> None:
        """A large file. What an earlier try sent of it is let go first: it would lie there for ever, and cost."""
        before = await self._store.read(lambda tx: BucketDeliveries(tx).upload_of(file.allocation_id, file.path))
        if before is not None:
            with contextlib.suppress(UploadGone):
                await client.abort(key, before)
        upload_id = await client.begin(key)
        await self._store.write(
            lambda tx: BucketDeliveries(tx).put_file(file.allocation_id, file.path, upload_id=upload_id)
        )
        digest, tags = hashlib.sha256(), []
        for number, start in enumerate(range(0, file.size, PART_BYTES), 1):
            async with self._buffers:
                data = await self._bytes(file, start, min(file.size, start + PART_BYTES))
                digest.update(data)
                tags.append(await self._part(client, key, upload_id, number, data))
        if digest.hexdigest() != file.sha256:
            raise BucketRefused("what is kept of a file is not what the node delivered")
        await self._patiently(lambda: client.finish(key, upload_id, tags))

    async def _part(self, client: BucketClient, key: str, upload_id: str, number: int, data: bytes) -> str:
        """One part, tried again by itself: a gigabyte isn't begun anew for a connection that broke."""
        tags: list[str] = []

        async def send() -> None:
            tags.append(await client.put_part(key, upload_id, number, data))

        await self._patiently(send)
        return tags[-1]

    async def _bytes(self, file: StoredOutput, start: int, end: int) -> bytes:
        return b"".join([piece async for piece in self._storage.read(file.object, start, end)])


def _words(error: BucketRefused | StaleLease) -> str:
    return str(error) if isinstance(error, BucketRefused) else "the attempt ended while its outputs were delivered"


def _place_of(path: str) -> str:
    """Where a file lies beside the summary: as in the archive that `download` gives."""
    return path if path in RESULT_NAMES else f"artifacts/{path}"


def _summary(delivery: BucketDelivery, files: Sequence[StoredOutput]) -> bytes:
    listed = [
        {"path": file.path, "key": delivery.place.key(f"{job_of(delivery.allocation_id)}/{_place_of(file.path)}"),
         "size": file.size, "sha256": file.sha256}
        for file in files
    ]  # fmt: skip
    summary = {"job_id": job_of(delivery.allocation_id), "attempt": delivery.attempt, "outputs": listed}
    return orjson.dumps(summary, option=orjson.OPT_INDENT_2)
