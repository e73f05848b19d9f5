"""Log lines of attempts: taken in from nodes, read and followed by renters. Source: api.md section 5.3."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final

from marketplace.domain.allocations import Allocation
from marketplace.domain.ids import AllocationId, NodeId
from marketplace.errors import Gone, StaleLease
from marketplace.protocol.control import LogLine, Logs, LogsAck
from marketplace.services.arrivals import Arrivals
from marketplace.services.clock import Clock
from marketplace.services.live import Live
from marketplace.store.allocations import Allocations, Attempts
from marketplace.store.engine import Store, Transaction
from marketplace.store.log_lines import LogLines, StoredLine

MAX_LINE_BYTES: Final = 16 << 10
MAX_ATTEMPT_BYTES: Final = 100 << 20
RETENTION_MS: Final = 7 * 24 * 3_600_000
"""Specified: api.md section 5.3."""
NODE_STREAM: Final = 3
_LAST_LINES_MS: Final = 3_000
"""Chosen: a node may still deliver lines when its attempt has ended; a follower waits so long for them."""
_POLL_S: Final = 1.0


class JobLogs:
    """Takes in and gives out."""

    def __init__(self, store: Store, live: Live, clock: Clock) -> None:
        self._store = store
        self._live = live
        self._clock = clock
        self._arrivals: Arrivals[AllocationId] = Arrivals()

    async def take(self, node_id: NodeId, logs: Logs) -> LogsAck:
        """Store what is new of a batch. Raises StaleLease.

        Lines of an attempt that is over are taken too, as long as its node and lease are named: the end of a log
        often comes after the end of the work.
        """
        allocation_id = AllocationId(logs.allocation_id)
        now = self._clock.now()

        def write(tx: Transaction) -> int:
            if Attempts(tx).find_lease(allocation_id, logs.attempt) != (node_id, logs.lease_token):
                raise StaleLease
            expected, size = LogLines(tx).position(allocation_id, logs.attempt)
            if size > MAX_ATTEMPT_BYTES:
                return max(expected, logs.lines[-1].seq + 1) if logs.lines else expected
            fresh = _following(logs.lines, expected)
            if not fresh:
                return expected
            kept, size_bytes = _capped(fresh, logs.attempt, size)
            LogLines(tx).append(allocation_id, kept, size_bytes, now, size)
            return fresh[-1].seq + 1

        position = await self._store.write(write)
        self._arrivals.tell(allocation_id)
        return LogsAck(next_seq=position)

    def require_kept(self, allocation: Allocation) -> None:
        """Raises Gone once the log is past its retention."""
        ended = allocation.completed_at_ms
        if allocation.terminal and ended is not None and ended < self._clock.now() - RETENTION_MS:
            raise Gone("the log was kept for 7 days after the job's end")

    async def read(
        self,
        allocation_id: AllocationId,
        *,
        attempt: int | None,
        after: tuple[int, int] = (0, 0),
        tail: int | None = None,
        wanted: Callable[[StoredLine], bool] = lambda _line: True,
    ) -> list[StoredLine]:
        """Wanted lines of all attempts or of one, in order; at most the last `tail` of them."""
        if tail is not None:
            return await self._store.read(
                lambda tx: LogLines(tx).tail(
                    allocation_id, tail, attempt, lambda line: (line.attempt, line.seq) > after and wanted(line)
                )
            )
        lines = await self._store.read(
            lambda tx: LogLines(tx).list_after(allocation_id, after=after, attempt=attempt, limit=1_000_000)
        )
        return [line for line in lines if wanted(line)]

    async def follow(
        self, allocation: Allocation, *, attempt: int | None, after: tuple[int, int]
    ) -> AsyncIterator[list[StoredLine]]:
        """Batches of lines as they come, until the job is terminal and its last lines had time to arrive."""
        ended_at: int | None = None
        with self._arrivals.following(allocation.id) as arrived:
            while True:
                arrived.clear()
                lines = await self._store.read(
                    lambda tx, after=after: LogLines(tx).list_after(allocation.id, after=after, attempt=attempt)  # type: ignore[misc]
                )
                if lines:
                    after = (lines[-1].attempt, lines[-1].seq)
                    yield lines
                    continue
                if ended_at is None and await self._over(allocation.id):
                    # What came between the last look and the end is behind that look: once more, however long ago it
                    # ended.
                    ended_at = self._clock.monotonic_ms()
                    continue
                if ended_at is not None and self._clock.monotonic_ms() - ended_at >= await self._grace(allocation.id):
                    return
                try:
                    async with asyncio.timeout(_POLL_S if ended_at is None else 0.1):
                        await arrived.wait()
                except TimeoutError:
                    continue

    async def last_lines(self, allocation_id: AllocationId) -> None:
        """Return when the last lines of a job that is over had time to arrive: at once, if it ended long ago."""
        await asyncio.sleep(await self._grace(allocation_id) / 1000)

    async def forget_old(self) -> int:
        """Delete what is past its retention; how many chunks."""
        before = self._clock.now() - RETENTION_MS
        return await self._store.write(lambda tx: LogLines(tx).forget_before(before))

    async def _over(self, allocation_id: AllocationId) -> bool:
        """Whether nothing of it goes on. A market that begins has loaded nothing yet: then its row says so."""
        if self._live.find(allocation_id) is not None:
            return False
        found = await self._store.lookup(lambda tx: Allocations(tx).find(allocation_id))
        return found is None or found.terminal

    async def _grace(self, allocation_id: AllocationId) -> int:
        """How long after its end a job's last lines are waited for; not at all when it ended long ago."""
        attempts = await self._store.lookup(lambda tx: Attempts(tx).list_for(allocation_id))
        ends = [a.exited_at_ms or a.ended_at_ms for a in attempts]
        latest = max((end for end in ends if end is not None), default=0)
        return max(0, _LAST_LINES_MS - (self._clock.now() - latest))


def _following(lines: tuple[LogLine, ...], expected: int) -> list[LogLine]:
    """The lines from `expected` on, up to the first gap."""
    fresh: list[LogLine] = []
    for line in lines:
        if line.seq == expected:
            fresh.append(line)
            expected += 1
    return fresh


def _capped(lines: list[LogLine], attempt: int, size: int) -> tuple[list[StoredLine], int]:
    """Lines while the attempt is under its cap, each cut to its own, and the bytes they count for.

    The first one beyond is replaced by a mark, the rest is dropped, and the sum stays over the cap for good.
    """
    kept: list[StoredLine] = []
    total = 0
    for line in lines:
        text = line.text
        # In UTF-8 a character is one byte where all are ASCII, which Python knows without looking.
        length = len(text) if text.isascii() else len(text.encode(errors="replace"))
        if length > MAX_LINE_BYTES:
            text = text.encode(errors="replace")[:MAX_LINE_BYTES].decode(errors="ignore")
            length = len(text.encode())
        total += length
        if size + total > MAX_ATTEMPT_BYTES:
            mark = "the log of this attempt is over 100 MiB; what follows is not kept"
            return [*kept, StoredLine(attempt, line.seq, line.at_ms, NODE_STREAM, mark)], total
        kept.append(StoredLine(attempt, line.seq, line.at_ms, line.stream, text))
    return kept, total
