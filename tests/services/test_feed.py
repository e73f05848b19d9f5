"""The feed: nothing missed, nothing twice, and gone after 30 days with a cursor that says so."""

import asyncio

import pytest

from marketplace.domain.events import EventType
from marketplace.domain.ids import AccountId
from marketplace.errors import CursorExpired, Invalid
from marketplace.services import feed as feeds
from marketplace.services.clock import Ids, ManualClock, SystemRandom
from marketplace.services.feed import RETENTION_MS, Feed
from marketplace.store.events import EventFilter

MINE, OTHER = AccountId("acct_a"), AccountId("acct_b")


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def feed(store, clock):
    return Feed(store, clock, Ids(clock, SystemRandom()))


async def append(feed, number, account=MINE, kind=EventType.JOB_PROGRESS, resource="job_a"):
    return await feed._store.write(lambda tx: feed.append(tx, account, kind, resource, {"n": number}))


async def test_a_page_goes_on_where_the_last_one_ended(feed):
    for number in range(5):
        await append(feed, number)
        await append(feed, number, OTHER)
    seen, after = [], 0
    while True:
        page = await feed.page(EventFilter(MINE), after=after, limit=2)
        seen += [event.data["n"] for event in page.events]
        after = page.next
        if not page.more:
            break
    assert seen == [0, 1, 2, 3, 4]
    assert (await feed.page(EventFilter(MINE), after=after, limit=2)).next == after


async def test_a_page_is_of_the_types_and_the_resource_that_were_asked_for(feed):
    await append(feed, 1)
    await append(feed, 2, kind=EventType.JOB_FAILED)
    await append(feed, 3, resource="job_b")
    await append(feed, 4, OTHER, resource="job_a")
    failed = await feed.page(EventFilter(MINE, types=(EventType.JOB_FAILED.value,)), after=0, limit=9)
    assert [event.data["n"] for event in failed.events] == [2]
    one = await feed.page(EventFilter(MINE, resources=("job_a",)), after=0, limit=9)
    assert [event.data["n"] for event in one.events] == [1, 2]
    both = await feed.page(EventFilter(MINE, resources=("job_a", "job_b")), after=0, limit=9)
    assert [event.data["n"] for event in both.events] == [1, 2, 3]


class Held:
    """A store whose next answer waits for the test, seen as it was when it was asked."""

    def __init__(self, store):
        self.store, self.gate, self.asked = store, None, asyncio.Event()

    async def read(self, work):
        found = await self.store.read(work)
        gate, self.gate = self.gate, None
        if gate is not None:
            self.asked.set()
            await gate.wait()
        return found

    def __getattr__(self, name):
        return getattr(self.store, name)


async def test_what_one_follower_has_seen_wakes_the_other_too(feed, store, monkeypatch):
    monkeypatch.setattr(feeds, "_POLL_S", 1_000)
    held = feed._store = Held(store)
    slow, quick = feed.follow(EventFilter(MINE), after=0), feed.follow(EventFilter(MINE), after=0)
    held.gate = gate = asyncio.Event()
    looking = asyncio.create_task(anext(slow))
    await held.asked.wait()
    await append(feed, 1)
    assert [event.data["n"] for event in await anext(quick)] == [1]
    gate.set()
    assert list(await looking) == []
    async with asyncio.timeout(30):
        assert [event.data["n"] for event in await anext(slow)] == [1]
    await slow.aclose()
    await quick.aclose()
    assert not feed._arrivals._following


async def test_a_follower_gets_each_event_once_while_they_are_written(feed):
    got = []

    async def follow():
        async for events in feed.follow(EventFilter(MINE), after=0):
            got.extend(event.data["n"] for event in events)
            if len(got) >= 60:
                return

    followers = [asyncio.create_task(follow())]
    await asyncio.gather(*(append(feed, number, MINE if number % 2 else OTHER) for number in range(120)))
    async with asyncio.timeout(60):
        await asyncio.gather(*followers)
    assert sorted(got) == list(range(1, 120, 2))


async def test_what_is_undone_is_not_told(feed, store):
    def fail(tx):
        feed.append(tx, MINE, EventType.JOB_FAILED, "job_a", {})
        raise Invalid

    with pytest.raises(Invalid):
        await store.write(fail)
    assert not (await feed.page(EventFilter(MINE), after=0, limit=9)).events


async def test_after_30_days_an_event_is_gone_and_its_cursor_says_from_where_to_go_on(feed, clock):
    old = [await append(feed, number) for number in range(3)]
    clock.advance(RETENTION_MS)
    fresh = await append(feed, 3)
    assert await feed.forget_old() == 0
    clock.advance(1)
    assert await feed.forget_old() == 3
    with pytest.raises(CursorExpired) as expired:
        await feed.page(EventFilter(MINE), after=old[0], limit=9)
    assert expired.value.extra == {"oldest": str(old[-1])}
    for after in (0, old[-1]):
        assert [e.cursor for e in (await feed.page(EventFilter(MINE), after=after, limit=9)).events] == [fresh]


async def test_a_cursor_ahead_of_the_feed_is_refused_and_the_newest_survives_an_empty_feed(feed, clock):
    newest = await append(feed, 1)
    with pytest.raises(Invalid):
        await feed.page(EventFilter(MINE), after=newest + 1, limit=9)
    clock.advance(RETENTION_MS + 1)
    await feed.forget_old()
    assert await feed.newest() == newest
    assert not (await feed.page(EventFilter(MINE), after=newest, limit=9)).events
