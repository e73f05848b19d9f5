"""Events make the books and move the jobs: each once, in whatever order we learn of them, whoever caused them."""

import asyncio
import hashlib
from dataclasses import replace

import pytest
from solders.pubkey import Pubkey
from solders.signature import Signature

from marketplace.chain.events import (
    AssignedEvent,
    ContestClosedEvent,
    EscrowClosedEvent,
    EscrowOpenedEvent,
    ReleasedEvent,
    SettledEvent,
)
from marketplace.chain.program import AnchorCodec
from marketplace.chain.watcher import ObservedEvent, ObservedTransaction
from marketplace.domain.allocations import AttemptPhase
from marketplace.domain.lifecycle import AllocationState
from marketplace.domain.quantities import Millis
from marketplace.domain.reasons import Reason
from marketplace.domain.staking import EpochClock
from marketplace.services.chain_events import ChainEvents
from marketplace.services.chain_feed import ChainFeed
from marketplace.services.clock import Ids, ManualClock, SystemRandom
from marketplace.services.feed import Feed
from marketplace.services.live import Change, Live
from marketplace.services.stake_books import StakeBooks
from marketplace.store.allocations import Contests
from marketplace.store.books import Books
from marketplace.store.engine import Store
from marketplace.store.events import Events
from tests.services.test_meter import ACCOUNT, ALLOCATION, ATTEMPT, ESCROW, TERMS, WALLET

KEY = {name: Pubkey.from_bytes(raw) for name, raw in (("escrow", ESCROW), ("wallet", WALLET), ("node", ACCOUNT))}
NULL = Pubkey.default()
DEPOSIT = ALLOCATION.deposit


class Terms:
    """What reading events needs of the chain: the published windows and decimals."""

    terms = TERMS


class NoHistory:
    """A node that has forgotten its transactions: what they cost stays unknown, what they did does not."""

    async def find_transaction(self, signature, commitment=None):
        return None


def opened():
    return EscrowOpenedEvent(
        KEY["escrow"], KEY["wallet"], NULL, NULL, 1, bytes(16), ALLOCATION.terms_hash, DEPOSIT, 1, 60_000, 3, 0
    )


def assigned(number=1):
    return AssignedEvent(KEY["escrow"], number, KEY["node"], 1, 500, 100, NULL, DEPOSIT, 1_000_000)


def settled(state, paid=100, number=1, reason=1):
    return SettledEvent(
        KEY["escrow"],
        number,
        KEY["node"],
        NULL,
        1,
        state,
        reason,
        10,
        paid,
        paid,
        paid - 5,
        2,
        2,
        1,
        False,
        0,
        bytes(32),
    )


def closed(refunded, reason=1, contested=False):
    return EscrowClosedEvent(KEY["escrow"], KEY["wallet"], reason, DEPOSIT - refunded, refunded, contested)


def released(number=1, reserve=50):
    return ReleasedEvent(KEY["escrow"], number, KEY["node"], NULL, 18, True, reserve, 7, 2_000_000)


def contest_closed(freed, refunded, number=1):
    return ContestClosedEvent(KEY["escrow"], number, KEY["node"], True, freed, refunded, 7, 3)


class World:
    def __init__(self, store):
        self.store, self.clock = store, ManualClock()
        ids = Ids(self.clock, SystemRandom())
        self.live = Live(store, self.clock, ids, Terms(), "USDC")
        told = ChainFeed(Feed(store, self.clock, ids), lambda: TERMS, "USDC")
        stake = StakeBooks(AnchorCodec(NULL), lambda: EpochClock(Millis(0), Millis(20_000)))
        self.events = ChainEvents(
            store, self.live, NoHistory(), None, NULL, self.clock, Terms(), stake, told, observe=None
        )
        self.number = 0

    async def land(self, *events, again=False):
        self.number += not again
        signature = Signature.from_bytes(hashlib.sha512(bytes([self.number])).digest())
        observed = tuple(ObservedEvent(signature, i, self.number, None, e) for i, e in enumerate(events))
        await self.events._take_observed(ObservedTransaction(signature, self.number, None, observed, False), None)

    async def begin(self, **fields):
        await self.live.create(replace(ALLOCATION, attempt=0, opening=True, **fields))
        claimed = replace(ATTEMPT, phase=AttemptPhase.CLAIMED, assigned_chain_ms=None, meter_at_ms=None)
        await self.live.change(ALLOCATION.id, lambda a, _: Change(replace(a, attempt=1), claimed))

    @property
    def job(self):
        return self.live.find(ALLOCATION.id)

    @property
    def attempt(self):
        return self.live.attempt(ALLOCATION.id)

    async def told(self):
        return [e.type for e in await self.store.lookup(lambda tx: Events(tx).list_for_resource(ALLOCATION.job_id))]

    async def books(self):
        return await self.store.lookup(
            lambda tx: (Books(tx).find_escrow(ALLOCATION.escrow), Books(tx).sums(ALLOCATION.escrow))
        )


@pytest.fixture
async def world(tmp_path):
    store = Store(tmp_path / "market.sqlite3")
    await store.open()
    yield World(store)
    await store.close()


async def test_a_whole_job_is_told_and_booked_once_however_often_it_is_seen(world):
    await world.begin()
    for again in (False, True, True):
        await world.land(opened(), assigned(), again=again)
    assert (world.job.state, world.attempt.phase) == (AllocationState.PROVISIONING, AttemptPhase.ASSIGNED)
    for again in (False, True):
        await world.land(settled(3), closed(DEPOSIT - 100), again=again)
    assert world.job is None
    assert (await world.told()) == ["job.queued", "job.assigned", "job.completed"]
    escrow, sums = await world.books()
    assert (escrow.state, escrow.paid, escrow.refunded) == ("closed", 100, DEPOSIT - 100)
    assert sum(sums.values()) == 0
    assert sums[f"escrow:{ALLOCATION.escrow}"] == 0
    assert sums[f"operator:{KEY['node']}"] == 95


async def test_a_released_attempt_goes_on_and_its_contest_is_noted_and_paid(world):
    await world.begin()
    await world.land(opened(), assigned())
    await world.land(settled(1), released())
    assert (world.job.state, world.job.excluded) == (AllocationState.RESERVING, (ATTEMPT.node_id,))
    assert (world.attempt.phase, world.attempt.paid) == (AttemptPhase.ENDED, 100)
    contests = await world.store.lookup(lambda tx: Contests(tx).list_open())
    assert [c.due_chain_ms for c in contests] == [2_000_000 + TERMS.contest_window]
    await world.land(contest_closed(50, refunded=False))
    assert await world.store.lookup(lambda tx: Contests(tx).list_open()) == []
    escrow, sums = await world.books()
    assert (escrow.compensation, escrow.refunded, sum(sums.values())) == (7, 0, 0)
    assert (await world.told())[-1] == "job.attempt_failed"


async def test_an_escrow_that_closes_in_a_contest_keeps_the_reserve_until_it_ends(world):
    await world.begin()
    await world.land(opened(), assigned())
    await world.land(settled(1), released())
    await world.land(closed(DEPOSIT - 150, reason=3, contested=True))
    assert (await world.books())[0].state == "closing"
    await world.land(contest_closed(50, refunded=True))
    escrow, sums = await world.books()
    assert (escrow.state, escrow.refunded) == ("closed", DEPOSIT - 100)
    assert sums[f"escrow:{ALLOCATION.escrow}"] == 0


async def test_a_reason_nobody_knows_doesn_t_stop_the_reader(world):
    await world.begin()
    await world.land(opened(), assigned())
    await world.land(settled(3, reason=999), closed(DEPOSIT - 100, reason=999))
    assert (await world.told())[-1] == "job.failed"


async def test_an_escrow_without_an_intent_is_booked_and_never_run(world):
    await world.land(opened())
    assert world.live.find_by_escrow(ALLOCATION.escrow) is None
    found = await world.store.lookup(lambda tx: Books(tx).find_by_terms(ALLOCATION.wallet, ALLOCATION.terms_hash))
    assert found.escrow == ALLOCATION.escrow


async def test_what_lands_as_its_intent_is_given_up_is_booked(world):
    await world.live.create(replace(ALLOCATION, attempt=0, opening=True))
    over = {"state": AllocationState.RELEASED, "reason": Reason.CANCELLED, "opening": False}
    async with world.live.lock(ALLOCATION.id):
        giving_up = asyncio.create_task(
            world.live.change(ALLOCATION.id, lambda a, attempt: Change(replace(a, **over), attempt))
        )
        await asyncio.sleep(0)
        landing = asyncio.create_task(world.land(opened()))
        # the transaction's cost is asked for before its event is taken
        for _ in range(20):
            await asyncio.sleep(0)
    await asyncio.gather(giving_up, landing)
    assert world.job is None
    escrow, sums = await world.books()
    assert (escrow.state, sums[f"escrow:{ALLOCATION.escrow}"]) == ("open", DEPOSIT)


async def test_what_the_wallet_closed_itself_ends_the_job(world):
    await world.begin()
    await world.land(opened())
    await world.land(closed(DEPOSIT, reason=3))
    assert world.job is None
    assert (await world.told()) == ["job.queued", "job.cancelled"]


async def test_a_killed_process_finds_what_was_written(world):
    await world.begin()
    await world.land(opened(), assigned())
    after = World(world.store)
    await after.live.load()
    assert (after.job, after.attempt) == (world.job, world.attempt)
    assert after.attempt.reason is Reason.RUNNING
