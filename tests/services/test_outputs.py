"""How long what a job left is kept, and what is never kept without a row."""

import io
import zipfile
from dataclasses import replace

import pytest

from marketplace.domain.allocations import AttemptPhase
from marketplace.domain.lifecycle import AllocationState
from marketplace.domain.reasons import Reason
from marketplace.errors import Gone, NotReady, StaleLease
from marketplace.objects.storage import ObjectStorage
from marketplace.services.clock import Ids, ManualClock, SystemRandom
from marketplace.services.live import Change, Live
from marketplace.services.logs import JobLogs
from marketplace.services.outputs import RETENTION_MS, Format, JobOutputs, Lease
from marketplace.store.allocations import Allocations
from marketplace.store.log_lines import LogLines, StoredLine
from marketplace.store.outputs import Outputs, Packages, StoredOutput
from tests.services.test_meter import ALLOCATION, ATTEMPT, Chain
from tests.store.test_job_rows import FULL


async def keys(storage):
    return sorted([f.key for prefix in ("outputs", "packages") async for f in storage.list(prefix)])


async def test_outputs_and_their_archive_are_gone_7_days_after_the_end(store):
    clock, storage = ManualClock(), ObjectStorage.in_memory()
    outputs = JobOutputs(store, storage, None, JobLogs(store, None, clock), clock, Ids(clock, SystemRandom()))
    outputs._swept_ms = clock.monotonic_ms()
    ended = replace(
        FULL,
        state=AllocationState.RELEASED,
        reason=Reason.COMPLETED,
        completed_at_ms=clock.now(),
        attempt=1,
        id="alloc_1",
    )
    await storage.write_bytes("outputs/alloc_1/1-a", b"{}")
    row = StoredOutput(ended.id, 1, "result.json", 2, "0" * 64, "outputs/alloc_1/1-a", clock.now(), b"{}")

    def write(tx):
        Allocations(tx).create(ended)
        Outputs(tx).put(row)

    await store.write(write)
    with pytest.raises(NotReady):
        await outputs.list_files(replace(ended, state=AllocationState.ACTIVE))
    assert (await outputs.find_result(ended, Format.JSON)).path == "result.json"
    package = await outputs.package(ended)
    assert await outputs.package(ended) == package
    clock.advance(RETENTION_MS)
    assert await outputs.clean() == 0
    assert len(await keys(storage)) == 2
    clock.advance(1)
    outputs._swept_ms = clock.monotonic_ms()
    for reading in (outputs.list_files(ended), outputs.package(ended), outputs.find_file(ended, "result.json")):
        with pytest.raises(Gone, match="7 days"):
            await reading
    assert await outputs.clean() == 2
    assert await keys(storage) == []
    assert await store.lookup(lambda tx: (Outputs(tx).list_for(ended.id, 1), Packages(tx).find(ended.id))) == ([], None)


async def test_bytes_that_no_row_names_are_swept_and_no_others(store):
    clock, storage = ManualClock(), ObjectStorage.in_memory()
    outputs = JobOutputs(store, storage, None, JobLogs(store, None, clock), clock, Ids(clock, SystemRandom()))
    for key in ("outputs/alloc_1/1-named", "outputs/alloc_1/1-left", "packages/alloc_1-left"):
        await storage.write_bytes(key, b"x")
    row = StoredOutput("alloc_1", 1, "a", 1, "0" * 64, "outputs/alloc_1/1-named", clock.now())
    await store.write(lambda tx: Outputs(tx).put(row))
    clock.advance(max(0, 4_000_000_000_000 - clock.now()))
    assert await outputs._sweep() == 2
    assert await keys(storage) == ["outputs/alloc_1/1-named"]


class Late:
    """A store before whose next write something else is written."""

    def __init__(self, store, first):
        self.store, self.first = store, first

    async def write(self, work):
        await self.first()
        return await self.store.write(work)

    async def lookup(self, work):
        return await self.store.lookup(work)


async def once(data):
    yield data


async def test_nothing_is_left_by_an_attempt_that_ended_while_it_was_written(store):
    clock, storage = ManualClock(), ObjectStorage.in_memory()
    ids = Ids(clock, SystemRandom())
    live = Live(store, clock, ids, Chain(), "USDC")
    await live.create(replace(ALLOCATION, attempt=0, opening=True))
    await live.change(ALLOCATION.id, lambda a, _: Change(replace(a, attempt=1), ATTEMPT))
    live.open()

    async def end():
        await live.change(ALLOCATION.id, lambda a, attempt: Change(a, replace(attempt, phase=AttemptPhase.EXITED)))

    lease = Lease(ATTEMPT.node_id, ALLOCATION.id, 1, ATTEMPT.lease_token)
    outputs = JobOutputs(store, storage, live, JobLogs(store, live, clock), clock, ids)
    await outputs.take(lease, "in-time", once(b"x"))
    outputs._store = Late(store, end)
    with pytest.raises(StaleLease):
        await outputs.take(lease, "late", once(b"x"))
    assert [row.path for row in await store.lookup(lambda tx: Outputs(tx).list_for(ALLOCATION.id, 1))] == ["in-time"]
    assert len(await keys(storage)) == 1


async def test_an_archive_has_the_last_lines_of_the_log(store):
    """It is made once: whoever asks for it at once must not have it made without what is still on its way."""
    clock, storage = ManualClock(), ObjectStorage.in_memory()

    class Arriving(JobLogs):
        async def last_lines(self, allocation_id):
            await self._store.write(
                lambda tx: LogLines(tx).append(allocation_id, [StoredLine(1, 1, 1, 1, "the last")], 8, 1)
            )
            await super().last_lines(allocation_id)

    outputs = JobOutputs(store, storage, None, Arriving(store, None, clock), clock, Ids(clock, SystemRandom()))
    ended = replace(
        FULL, state=AllocationState.RELEASED, reason=Reason.COMPLETED, completed_at_ms=clock.now(), attempt=1
    )
    await store.write(lambda tx: Allocations(tx).create(ended))
    package = await outputs.package(ended)
    raw = io.BytesIO(await storage.read_bytes(package.object))
    with zipfile.ZipFile(raw) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("stdout.log")]
        assert archive.read(name) == b"the last\n"
