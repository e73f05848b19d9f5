"""How long a log is kept, and followed."""

import asyncio
from dataclasses import replace

import pytest

from marketplace.domain.ids import AllocationId
from marketplace.domain.lifecycle import AllocationState
from marketplace.domain.reasons import Reason
from marketplace.errors import Gone
from marketplace.services.clock import ManualClock
from marketplace.services.live import Live
from marketplace.services.logs import RETENTION_MS, JobLogs
from marketplace.store.allocations import Allocations
from marketplace.store.log_lines import LogLines, StoredLine
from tests.services.test_meter import ALLOCATION
from tests.store.test_job_rows import FULL


def test_a_log_is_gone_7_days_after_its_job_s_end_and_said_so():
    clock = ManualClock()
    logs = JobLogs(None, None, clock)
    ended = replace(FULL, state=AllocationState.RELEASED, completed_at_ms=clock.now())
    clock.advance(RETENTION_MS)
    logs.require_kept(ended)
    clock.advance(1)
    with pytest.raises(Gone, match="7 days"):
        logs.require_kept(ended)
    logs.require_kept(replace(ended, state=AllocationState.ACTIVE))


async def test_a_market_that_begins_takes_no_job_for_over(store):
    """It answers before it has loaded what goes on: a follower who comes back then must not be told of an end."""
    clock = ManualClock()
    running = replace(ALLOCATION, id=AllocationId("alloc_a"), state=AllocationState.ACTIVE)
    await store.write(lambda tx: Allocations(tx).create(running))
    logs = JobLogs(store, Live(store, clock, None, None, "USDC"), clock)
    lines = logs.follow(running, attempt=None, after=(0, 0))
    upcoming = asyncio.ensure_future(anext(lines))
    assert await asyncio.wait({upcoming}, timeout=0.1) == (set(), {upcoming})
    over = replace(running, state=AllocationState.RELEASED, reason=Reason.COMPLETED)
    await store.write(lambda tx: Allocations(tx).update(over))
    logs._arrivals.tell(running.id)
    with pytest.raises(StopAsyncIteration):
        async with asyncio.timeout(30):
            await upcoming


async def test_what_came_just_before_the_end_is_told_too(store):
    """Stored after a follower has looked for lines, and before it looks whether the job is over."""
    clock = ManualClock()
    running = replace(ALLOCATION, id=AllocationId("alloc_a"), state=AllocationState.ACTIVE)
    await store.write(lambda tx: Allocations(tx).create(running))

    def end(tx):
        LogLines(tx).append(running.id, [StoredLine(1, 1, 1, 1, "the last")], 8, 1)
        Allocations(tx).update(replace(running, state=AllocationState.RELEASED, reason=Reason.COMPLETED))

    class Ending(JobLogs):
        ended = False

        async def _over(self, allocation_id):
            if not self.ended:
                self.ended = True
                await self._store.write(end)
            return await super()._over(allocation_id)

    logs = Ending(store, Live(store, clock, None, None, "USDC"), clock)
    batches = [batch async for batch in logs.follow(running, attempt=None, after=(0, 0))]
    assert [[line.text for line in batch] for batch in batches] == [["the last"]]
