"""Stake events: recorded once, summed whatever their order, and undone to nothing."""

import itertools
from dataclasses import replace

import pytest

from marketplace.errors import UniqueViolation
from marketplace.store.stake import PoolEpoch, PoolRewards, StakeEpoch, StakeEvent, StakeKind, StakePool, StakeRows

POOL = StakePool("pool", "node", "key", "operator", "market", 1_000, "s0")
HUGE = str(2**128 - 1)


def event(number, kind, **fields):
    base = {"pool": "pool", "at_epoch": 5, "slot": number, "at_ms": number * 1000}
    return StakeEvent(f"s{number}", 0, kind=kind, **(base | fields))


REGISTERED = event(0, StakeKind.REGISTERED, owner="operator", stake=100, shares="100")
STORY = [
    event(1, StakeKind.DELEGATED, owner="alice", stake=50, shares="50"),
    event(2, StakeKind.FEES, payment=30, commission=3),
    event(3, StakeKind.WEIGHT, epoch=4, stake=150),
    event(4, StakeKind.EPOCH_CLOSED, pool=None, epoch=4, stake=70, shares="150"),
    event(5, StakeKind.EMISSION, epoch=4, stake=60, commission=6),
    event(6, StakeKind.UNBONDED, owner="alice", stake=20, shares="21", ticket="t", due_ms=99),
    event(7, StakeKind.SLASHED, stake=10),
    event(8, StakeKind.SLASHED_UNBONDING, stake=4),
    event(9, StakeKind.SLASHED_BOND, stake=5, shares="6"),
    event(10, StakeKind.EPOCH_ENDED, pool=None, epoch=4, stake=10),
]


async def record(store, events):
    await store.write(lambda tx: StakeRows(tx).record(REGISTERED, POOL))
    for each in events:
        await store.write(lambda tx, each=each: StakeRows(tx).record(each))


async def sums(store):
    return await store.lookup(
        lambda tx: (StakeRows(tx).list_pool_epochs("pool", 0, 9), StakeRows(tx).list_epochs(9, 0))
    )


@pytest.mark.parametrize("order", [STORY, STORY[::-1], STORY[5:] + STORY[:5]])
async def test_sums_are_the_same_in_whatever_order_events_are_learned_of(store, order):
    await record(store, order)
    pools, epochs = await sums(store)
    assert pools == [PoolEpoch("pool", 5, 30, 3, 60, 6, 100 + 50 - 20 - 10 - 5, str(100 + 50 - 21 - 6))]
    assert epochs == [StakeEpoch(4, 1, "150", True, 70, 4000, 1, 60, 6, True, 10)]
    assert await store.lookup(lambda tx: StakeRows(tx).stake_before("pool", 6)) == (115, 123)
    assert await store.lookup(lambda tx: StakeRows(tx).stake_before("pool", 5)) == (0, 0)
    assert await store.lookup(lambda tx: StakeRows(tx).rewards_by_pool(5, 5)) == {"pool": PoolRewards(27, 54)}
    assert await store.lookup(lambda tx: StakeRows(tx).rewards_by_pool(6, 9)) == {}


async def test_an_event_is_recorded_once(store):
    await record(store, STORY)
    before = await sums(store)
    for each in STORY:
        with pytest.raises(UniqueViolation):
            await store.write(lambda tx, each=each: StakeRows(tx).record(each))
    assert await sums(store) == before


async def test_undoing_every_event_leaves_nothing(store):
    await record(store, STORY)
    await store.write(lambda tx: StakeRows(tx).undo(["s2", "s5"]))
    (pool,), (epoch,) = await sums(store)
    assert (pool.fees, pool.emission, epoch.distributed, epoch.served) == (0, 0, 0, 0)
    assert pool.stake_change == 115
    await store.write(lambda tx: StakeRows(tx).undo([f"s{n}" for n in range(11)]))
    (pool,), epochs = await sums(store)
    assert (pool, epochs) == (PoolEpoch("pool", 5), [])
    assert await store.lookup(lambda tx: StakeRows(tx).find_pool("pool")) is None
    assert await store.lookup(lambda tx: StakeRows(tx).count_history("alice")) == 0
    assert await store.lookup(lambda tx: StakeRows(tx).list_history("alice", 9, 0)) == []
    # what was undone may land again
    await record(store, STORY)
    assert (await sums(store))[0][0].stake_change == 115


async def test_history_is_a_wallets_own_newest_first_and_paged(store):
    await record(
        store,
        [*STORY, event(11, StakeKind.CLAIMED, owner="alice", payment=1), event(12, StakeKind.DELEGATED, owner="bob")],
    )
    rows = await store.lookup(lambda tx: StakeRows(tx).list_history("alice", 2, 0))
    # what all stake of the pool lost is everybody's who was there, what the bond lost the operator's alone
    assert [row.kind for row in rows] == [StakeKind.CLAIMED, StakeKind.SLASHED_UNBONDING]
    rows = await store.lookup(lambda tx: StakeRows(tx).list_history("alice", 9, 2))
    assert [row.kind for row in rows] == [StakeKind.SLASHED, StakeKind.UNBONDED, StakeKind.DELEGATED]
    assert await store.lookup(lambda tx: StakeRows(tx).count_history("alice")) == 5
    assert await store.lookup(lambda tx: StakeRows(tx).count_history("bob")) == 1
    assert await store.lookup(lambda tx: StakeRows(tx).list_pools_of("alice")) == ["pool"]
    assert await store.lookup(lambda tx: StakeRows(tx).list_pools_of("carol")) == []


async def test_shares_of_128_bits_are_kept_whole(store):
    await record(store, [event(n, StakeKind.DELEGATED, owner="alice", stake=1, shares=HUGE) for n in (1, 2)])
    assert await store.lookup(lambda tx: StakeRows(tx).stake_before("pool", 9)) == (102, 2 * int(HUGE) + 100)


async def test_the_commission_in_force_follows_its_announcements(store):
    await record(
        store,
        [
            event(1, StakeKind.COMMISSION, bps=1_400, due_ms=21_000),
            event(5, StakeKind.COMMISSION, bps=1_200, due_ms=25_000),  # replaces the first before it took effect
            event(30, StakeKind.COMMISSION, bps=900, due_ms=50_000),
        ],
    )
    expected = {
        0: 1_000,
        1_000: 1_000,
        21_000: 1_000,
        24_999: 1_000,
        25_000: 1_200,
        49_999: 1_200,
        50_000: 900,
        99_000: 900,
    }
    for at, bps in expected.items():
        assert await store.lookup(lambda tx, at=at: StakeRows(tx).commission_at("pool", at)) == bps, at
    assert await store.lookup(lambda tx: StakeRows(tx).commission_at("unknown", 1)) is None
    unread = replace(POOL, pool="p2", commission_bps=None)
    await store.write(lambda tx: StakeRows(tx).record(event(99, StakeKind.REGISTERED, pool="p2"), unread))
    assert await store.lookup(lambda tx: StakeRows(tx).commission_at("p2", 1)) is None


async def test_pages_of_epochs_and_their_weights(store):
    for epoch, node in itertools.product(range(4), "ab"):
        number = 100 + epoch * 10 + ord(node)
        await store.write(
            lambda tx, e=epoch, n=node, i=number: StakeRows(tx).record(
                event(i, StakeKind.WEIGHT, pool=n, epoch=e, stake=7)
            )
        )
    page = await store.lookup(lambda tx: StakeRows(tx).list_epochs(2, 1))
    assert [(e.epoch, e.registered, e.total_weight) for e in page] == [(2, 2, "14"), (1, 2, "14")]
    assert await store.lookup(lambda tx: StakeRows(tx).count_epochs()) == 4
    weights = await store.lookup(lambda tx: StakeRows(tx).list_weights(1, 2))
    assert [(w.epoch, w.pool, w.stake) for w in weights] == [(2, "a", 7), (2, "b", 7), (1, "a", 7), (1, "b", 7)]
