"""No instruction loops over positions or pools: what a claim and an epoch cost is the same for one as for many.

Counted in units and accounts, never in time. `scripts/bench stake` measures the same at 10,000 positions and 1,000 pools.
"""

from scripts.bench_stake import pools_grow, positions_grow

NEAR = 300
"""Units that a branch may cost more or less: far less than one step of a loop that reads or writes an account."""


def test_a_claim_and_an_epoch_cost_the_same_whatever_the_number_of_positions():
    one, some, many = positions_grow((1, 100, 1_000))
    for found in (some, many):
        for kind in ("delegate", "claim"):
            first, now = getattr(one, kind), getattr(found, kind)
            assert now.units_max - first.units_min <= NEAR, (kind, found.positions, first, now)
            assert first.units_max - now.units_min <= NEAR, (kind, found.positions, first, now)
            assert now.accounts_max == first.accounts_max
        for part in ("register_first", "close", "distribute_last"):
            first, now = getattr(one.epoch, part), getattr(found.epoch, part)
            assert abs(now.units - first.units) <= NEAR, (part, found.positions)
            assert now.accounts == first.accounts
    # the measure would see a loop: the peer is one, and its cost is the number of positions
    assert many.push.units == 1_000 * one.push.units
    assert one.push.units > 10 * NEAR


def test_a_claim_and_a_pools_part_of_an_epoch_cost_the_same_whatever_the_number_of_pools():
    one, some, many = pools_grow((1, 10, 60))
    for found in (some, many):
        assert abs(found.claim.units_max - one.claim.units_min) <= NEAR
        assert abs(found.epoch.close.units - one.epoch.close.units) <= NEAR
        assert abs(found.epoch.register_first.units - one.epoch.register_first.units) <= NEAR
        assert abs(found.epoch.distribute_last.units - one.epoch.distribute_last.units) <= NEAR
        for kind in ("register", "distribute"):
            spread = getattr(found.epoch, kind)
            assert spread.count == found.pools - 1
            assert spread.units_max - spread.units_min <= NEAR, (kind, found.pools, spread)
            assert abs(spread.units_max - getattr(some.epoch, kind).units_max) <= NEAR
            assert spread.accounts_max == getattr(some.epoch, kind).accounts_max
