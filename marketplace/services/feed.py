"""The feed of what happened: appended in the transaction of what happened, paged and followed by its owner.

Invariant: a reader that goes on after the last cursor it was given misses nothing and sees nothing twice, across
restarts: the cursor rises in the order of commits, and a wake-up only shortens a wait, the store decides.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from marketplace.domain.events import EventType
from marketplace.domain.ids import AccountId, EventId
from marketplace.domain.instants import instant_text
from marketplace.domain.lifecycle import TERMINAL_STATUSES, JobStatus
from marketplace.domain.reasons import Reason
from marketplace.errors import CursorExpired, DetailCode, Invalid
from marketplace.services.arrivals import Arrivals
from marketplace.services.clock import Clock, Ids
from marketplace.store.allocations import AllocationFilter, Allocations
from marketplace.store.engine import Store, Transaction
from marketplace.store.events import Event, EventFilter, Events, NewEvent

RETENTION_MS: Final = 30 * 24 * 3_600_000
"""Specified: api.md section 5.10."""
MAX_PAGE: Final = 1000
"""Specified: api.md section 5.10."""
_FOLLOW_PAGE: Final = 200
_FORGET_PAGE: Final = 2_000
"""Chosen: what one transaction deletes, so that others wait some milliseconds at most."""
_POLL_S: Final = 5.0
"""Chosen: how long a lost wake-up can delay an event."""
_LIVE: Final = tuple(status for status in JobStatus if status not in TERMINAL_STATUSES)


@dataclass(frozen=True, slots=True)
class EventPage:
    """Events, oldest first. next: the cursor to go on after. more: whether there are some after it already."""

    events: Sequence[Event]
    next: int
    more: bool


@dataclass(frozen=True, slots=True)
class LiveJob:
    """A job that is not over, as the feed tells of it."""

    job_id: str
    status: str
    reason: str | None
    reason_number: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is live, and the cursor after which the feed tells the rest."""

    jobs: Sequence[LiveJob]
    cursor: int


def event_object(event: Event) -> dict[str, object]:
    """The event as its readers have it, in pages, streams and webhooks."""
    return {
        "id": event.id,
        "cursor": str(event.cursor),
        "type": event.type,
        "timestamp": instant_text(event.at),
        "account": event.account,
        "data": dict(event.data),
        "resource": event.resource,
    }


class Feed:
    """Appends, pages, follows, forgets."""

    def __init__(self, store: Store, clock: Clock, ids: Ids) -> None:
        self._store = store
        self._clock = clock
        self._ids = ids
        self._arrivals: Arrivals[AccountId] = Arrivals()
        self._listeners: list[Callable[[], None]] = []

    def append(
        self, tx: Transaction, account: AccountId, kind: EventType, resource: str, data: Mapping[str, object]
    ) -> int:
        """Tell of something in the transaction in which it happens; its cursor."""
        event = NewEvent(EventId(self._ids.new("evt")), account, kind.value, resource, self._clock.now(), data)
        cursor = Events(tx).append(event)
        tx.after_commit(lambda: self.wake(account))
        return cursor

    def wake(self, account: AccountId) -> None:
        """Something of this account may have been appended."""
        self._arrivals.tell(account)
        for listener in self._listeners:
            listener()

    def on_append(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever anything may have been appended, on the event loop. It must not block."""
        self._listeners.append(listener)

    async def require_kept(self, after: int) -> None:
        """Raises CursorExpired for a cursor that is past the retention, Invalid for one that was never given out."""

        def read(tx: Transaction) -> tuple[int, int]:
            return Events(tx).forgotten(), Events(tx).newest()

        forgotten, newest = await self._store.lookup(read)
        if 0 < after < forgotten:
            raise CursorExpired(extra={"oldest": str(forgotten)})
        if after > newest:
            raise Invalid.field("after", DetailCode.OUT_OF_RANGE, "is no cursor of this feed; it is ahead of it")

    async def newest(self) -> int:
        """The last cursor given out."""
        return await self._store.lookup(lambda tx: Events(tx).newest())

    async def page(self, wanted: EventFilter, *, after: int, limit: int) -> EventPage:
        """Events after a cursor; 0 for the oldest that are kept. Raises CursorExpired, Invalid."""
        await self.require_kept(after)
        found = await self._store.read(lambda tx: Events(tx).page(wanted, after=after, limit=limit + 1))
        kept = found[:limit]
        return EventPage(kept, kept[-1].cursor if kept else after, len(found) > limit)

    async def snapshot(self, account: AccountId) -> Snapshot:
        """The account's jobs that are not over, as of one moment of the feed."""

        def read(tx: Transaction) -> Snapshot:
            wanted = AllocationFilter(account_id=account, statuses=_LIVE)
            jobs = [
                LiveJob(
                    job_id=found.job_id,
                    status=found.status.value,
                    reason=None if found.reason is Reason.RUNNING else found.reason.code,
                    reason_number=int(found.reason),
                    attempt=found.attempt,
                )
                for found in Allocations(tx).page(wanted, limit=MAX_PAGE, offset=0)[0]
            ]
            return Snapshot(jobs, Events(tx).newest())

        return await self._store.read(read)

    async def follow(self, wanted: EventFilter, *, after: int) -> AsyncIterator[Sequence[Event]]:
        """Events after a cursor in batches as they come, for ever; an empty batch when all so far were given."""
        with self._arrivals.following(wanted.account) as arrived:
            while True:
                arrived.clear()
                found = await self._store.read(
                    lambda tx, after=after: Events(tx).page(wanted, after=after, limit=_FOLLOW_PAGE)  # type: ignore[misc]
                )
                yield found
                if found:
                    after = found[-1].cursor
                    continue
                try:
                    async with asyncio.timeout(_POLL_S):
                        await arrived.wait()
                except TimeoutError:
                    continue

    async def forget_old(self) -> int:
        """Delete what is past its retention; how many."""
        before = self._clock.now() - RETENTION_MS
        total = 0
        while True:
            gone = await self._store.write(lambda tx: Events(tx).forget_before(before, _FORGET_PAGE))
            total += gone
            if gone < _FORGET_PAGE:
                return total
