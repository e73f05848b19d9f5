"""What is durable is seen by everybody, whoever was cancelled; nonces of intents are known without asking again."""

import asyncio
from dataclasses import replace

import pytest

from marketplace.domain.allocations import Opener
from marketplace.domain.ids import AllocationId
from marketplace.domain.lifecycle import AllocationState
from marketplace.domain.nonces import AHEAD, WINDOW
from marketplace.domain.quantities import Millis
from marketplace.domain.reasons import Reason
from marketplace.services.clock import Ids, ManualClock, SystemRandom
from marketplace.services.live import Change, Live
from marketplace.services.promised_nonces import PromisedNonces
from marketplace.services.run_histories import RunHistories
from marketplace.store import sqlite, units
from marketplace.store.allocations import Allocations
from marketplace.store.engine import Store
from tests.services.test_meter import ALLOCATION, ATTEMPT, Chain, writer_at_rest

INTENT = replace(ALLOCATION, attempt=0, opening=True)


@pytest.fixture
async def store(tmp_path):
    opened = Store(tmp_path / "market.sqlite3")
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
def live(store):
    clock = ManualClock()
    return Live(store, clock, Ids(clock, SystemRandom()), Chain(), "USDC")


async def cancelled(store, work):
    """Begin it, and give it up while its unit is on the way."""
    async with writer_at_rest(store):
        task = asyncio.create_task(work)
        for _ in range(3):
            await asyncio.sleep(0)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_a_cancelled_caller_wrote_is_in_place_and_told(store, live):
    told = []
    live.on_change(lambda allocation: told.append(allocation.progress))
    await cancelled(store, live.create(INTENT))
    await store.write(lambda tx: None)
    assert live.find(INTENT.id) == INTENT
    await cancelled(store, live.change(INTENT.id, lambda a, attempt: Change(replace(a, progress=7), attempt)))
    await store.write(lambda tx: None)
    assert live.find(INTENT.id) == await store.lookup(lambda tx: Allocations(tx).find(INTENT.id))
    assert told == [0, 7]
    # and the next change begins with what it left
    after = await live.change(INTENT.id, lambda a, attempt: Change(replace(a, progress=8), attempt))
    assert (after.progress, after.version) == (8, 2)


async def test_who_comes_while_a_cancelled_change_is_written_waits_for_what_it_leaves(store, live):
    await live.create(INTENT)
    async with writer_at_rest(store):
        first = asyncio.create_task(live.change(INTENT.id, lambda a, attempt: Change(replace(a, progress=7), attempt)))
        await asyncio.sleep(0)
        first.cancel()
        following = live.change(INTENT.id, lambda a, attempt: Change(replace(a, progress=a.progress + 1), attempt))
        second = asyncio.create_task(following)
        for _ in range(3):
            await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await first
    assert (await second).progress == 8


async def test_a_row_that_is_ahead_of_its_hooks_is_read_again_once_they_ran(store, live, monkeypatch):
    await live.create(INTENT)
    assert not await live.catch_up(INTENT)
    held = []
    monkeypatch.setattr(sqlite, "resolve", held.append)
    changing = asyncio.create_task(live.change(INTENT.id, lambda a, attempt: Change(replace(a, progress=7), attempt)))
    while not held:  # noqa: ASYNC110 - the writer's thread
        await asyncio.sleep(0)
    row = await store.lookup(lambda tx: Allocations(tx).find(INTENT.id))
    assert (row.progress, live.find(INTENT.id).progress) == (7, 0), "committed, and not in place yet"
    waiting = asyncio.create_task(live.catch_up(row))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    units.resolve(held.pop())
    assert await waiting, "read again: it may have gone on meanwhile"
    assert live.find(INTENT.id) == row == await changing
    assert not await live.catch_up(row)


async def test_a_row_whose_hooks_never_ran_is_answered_by_the_store_alone(store, live, monkeypatch):
    await live.create(INTENT)
    monkeypatch.setattr("marketplace.services.live.CATCH_UP_MS", 1)
    assert not await live.catch_up(replace(INTENT, version=1))
    assert not await live.catch_up(replace(INTENT, id=AllocationId("alloc_unknown")))


async def test_nonces_of_intents_are_asked_for_once_and_kept_up(store, live):
    def intent(nonce, **fields):
        name = AllocationId(f"alloc_{nonce}")
        return replace(INTENT, id=name, key=name, escrow=name, nonce=nonce, **fields)

    await store.write(lambda tx: Allocations(tx).create(intent(3)))
    nonces = PromisedNonces(store, live)
    assert await nonces.of(INTENT.wallet, Opener.MARKET, 1) == {3}
    # a row that nobody told of is not seen: it is not asked for again
    await store.write(lambda tx: Allocations(tx).create(intent(4)))
    await live.create(intent(5))
    await live.create(intent(6, opener=Opener.WALLET))
    assert await nonces.of(INTENT.wallet, Opener.MARKET, 1) == {3, 5}
    assert await nonces.of(INTENT.wallet, Opener.WALLET, 1) == {6}
    # another opener's turn: the nonce that is promised now is known
    await live.change(
        AllocationId("alloc_6"), lambda a, attempt: Change(replace(a, opener=Opener.MARKET, nonce=9), attempt)
    )
    assert await nonces.of(INTENT.wallet, Opener.MARKET, 1) == {3, 5, 9}
    kept = await nonces.of(INTENT.wallet, Opener.MARKET, 1)
    kept |= set(range(100, 100 + 2 * (WINDOW + AHEAD)))
    assert min(await nonces.of(INTENT.wallet, Opener.MARKET, 2_000)) == 2_000


async def test_runs_are_asked_for_again_when_one_has_ended(store, live):
    asked, histories = [], RunHistories(store, live)

    async def ended(number, billed_ms):
        name = AllocationId(f"alloc_{number}")
        running = replace(
            INTENT, id=name, key=name, escrow=name, nonce=number, opening=False, attempt=1, funded_at_ms=1,
            created_at_ms=number, state=AllocationState.RELEASING, reason=Reason.COMPLETED,
        )  # fmt: skip
        attempt = replace(ATTEMPT, allocation_id=name, billed_ms=Millis(billed_ms))
        await live.create(replace(running, attempt=0))
        await live.change(name, lambda a, _: Change(running, attempt))
        over = {"state": AllocationState.RELEASED, "completed_at_ms": 9}
        await live.change(name, lambda a, latest: Change(replace(a, **over), latest))

    async def last():
        asked.append(await histories.last(INTENT.account_id, INTENT.image, 20))
        return asked[-1]

    assert await last() == []
    await ended(1, 700)
    assert await last() == [700]
    # what nobody told of is not seen: it is not asked for again
    await store.write(lambda tx: tx.change("UPDATE attempts SET billed_ms = 5"))
    assert await last() == [700]
    await ended(2, 900)
    assert await last() == [900, 5]
