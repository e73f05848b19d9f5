import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace.domain.money import AmountOverflow
from marketplace.domain.quantities import MAX_U64, Bps, Millis, Shares, Stake, Tokens
from marketplace.domain.staking import (
    Bucket,
    EmissionRules,
    EpochClock,
    accrue,
    commission_floor,
    decayed,
    distribution_floor,
    earned_floor,
    emission_of_epoch,
    exposure_limit_floor,
    in_force,
    overclaim_slash_floor,
    pending_reward,
    slash_room_floor,
    stake_of_tokens_floor,
    unbonding_slash_floor,
    weight_floor,
)
from tests.domain import staking_vectors

VECTORS = json.loads(staking_vectors.FILE.read_text())
SUPPLY = staking_vectors.SUPPLY
stakes = st.integers(0, SUPPLY)


def numbers(vector: dict[str, str | None]) -> dict[str, Any]:
    return {name: None if value is None else int(value) for name, value in vector.items()}


def or_none(compute: Callable[[], int]) -> int | None:
    try:
        return compute()
    except AmountOverflow:
        return None


def test_the_vectors_are_what_their_command_writes() -> None:
    assert staking_vectors.vectors() == VECTORS


@pytest.mark.parametrize("vector", VECTORS["buckets"])
def test_shares_and_their_worth_equal_the_shared_vectors(vector: dict[str, str | None]) -> None:
    v = numbers(vector)
    bucket = Bucket(Stake(v["stake"]), Shares(v["shares"]))
    assert or_none(lambda: bucket.shares_for_floor(Stake(v["amount"]))) == v["minted"]
    assert or_none(lambda: bucket.shares_for_ceil(Stake(v["amount"]))) == v["burned"]
    assert or_none(lambda: bucket.stake_for_floor(Shares(v["held"]))) == v["worth"]
    assert or_none(bucket.least_alive_ceil) == v["least_alive"]


@pytest.mark.parametrize("vector", VECTORS["accruals"])
def test_rewards_per_share_equal_the_shared_vectors(vector: dict[str, str | None]) -> None:
    v = numbers(vector)
    if v["growth"] is None:
        with pytest.raises(AmountOverflow):
            accrue(v["reward"], v["remainder"], Shares(v["shares"]))
        return
    grown = accrue(v["reward"], v["remainder"], Shares(v["shares"]))
    assert (grown.per_share, grown.remainder) == (v["growth"], v["rest"])
    assert or_none(lambda: earned_floor(Shares(v["held"]), grown.per_share)) == v["earned"]


@pytest.mark.parametrize("vector", VECTORS["weights"])
def test_weights_equal_the_shared_vectors(vector: dict[str, str | None]) -> None:
    v = numbers(vector)
    assert weight_floor(Stake(v["active_stake"]), Tokens(v["well"]), Tokens(v["lost"])) == v["weight"]


@pytest.mark.parametrize("vector", VECTORS["schedules"])
def test_emissions_equal_the_shared_vectors(vector: dict[str, str | None]) -> None:
    v = numbers(vector)
    scheduled = Stake(v["scheduled"])
    assert emission_of_epoch(scheduled, Stake(v["vault"]), Stake(v["committed"])) == v["emission"]
    assert decayed(scheduled, Bps(v["decay_bps"])) == v["next"]


@pytest.mark.parametrize("vector", VECTORS["distributions"])
def test_a_pools_part_equals_the_shared_vectors(vector: dict[str, str | None]) -> None:
    v = numbers(vector)
    rules = EmissionRules(Bps(v["cap_bps"]), v["exposure_rate"])
    part = or_none(
        lambda: distribution_floor(
            Stake(v["emission"]), Stake(v["weight"]), v["total_weight"], Tokens(v["protocol_fees"]), rules
        )
    )
    assert part == v["amount"]


@pytest.mark.parametrize("vector", VECTORS["slashes"])
def test_slashes_equal_the_shared_vectors(vector: dict[str, str | None]) -> None:
    v = numbers(vector)
    value, slashed, cap = Stake(v["value"]), Stake(v["slashed"]), Bps(v["cap_bps"])
    assert or_none(lambda: slash_room_floor(value, slashed, cap)) == v["room"]
    assert or_none(lambda: overclaim_slash_floor(value, slashed, Bps(v["part_bps"]), cap)) == v["taken"]


@given(stakes, stakes, stakes)
def test_staking_and_unstaking_never_gains(stake: int, shares: int, amount: int) -> None:
    bucket = Bucket(Stake(stake), Shares(shares))
    minted = bucket.shares_for_floor(Stake(amount))
    after = Bucket(Stake(stake + amount), Shares(shares + minted))
    assert after.stake_for_floor(minted) <= amount


@given(st.lists(st.integers(1, SUPPLY), min_size=1, max_size=8), st.integers(1, SUPPLY))
def test_what_all_shares_earn_is_what_was_shared_out_but_for_its_rounding(rewards: list[int], shares: int) -> None:
    accumulator, remainder = 0, 0
    for reward in rewards:
        grown = accrue(reward, remainder, Shares(shares))
        accumulator, remainder = accumulator + grown.per_share, grown.remainder
    earned = pending_reward(Shares(shares), accumulator, 0, 0)
    assert sum(rewards) - 1 <= earned <= sum(rewards)


def test_a_pending_reward_is_what_was_credited_and_what_grew_since() -> None:
    assert pending_reward(Shares(10), 7 << 64, 3 << 64, 5) == 45
    with pytest.raises(AmountOverflow):
        pending_reward(Shares(1), 0, 1 << 70, 0)


def test_a_commission_is_taken_first_and_rounded_for_the_stakers() -> None:
    assert commission_floor(1_999, Bps(5)) == 0
    assert commission_floor(2_000, Bps(5)) == 1


def test_an_announced_number_counts_from_its_moment_on() -> None:
    assert in_force(Bps(5), Bps(7), Millis(100), Millis(99)) == 5
    assert in_force(Bps(5), Bps(7), Millis(100), Millis(100)) == 7
    assert in_force(Bps(5), Bps(7), Millis(0), Millis(100)) == 5


def test_a_pool_is_dead_below_a_unit_per_million_shares() -> None:
    assert Bucket(Stake(1), Shares(10**6 + 1)).is_dead
    assert not Bucket(Stake(1), Shares(10**6)).is_dead
    assert not Bucket(Stake(0), Shares(0)).is_dead


@pytest.mark.parametrize("length", [20_000, 86_400_000, 20_001])
@given(epoch=st.integers(0, 5_000), offset=st.integers(0, 5))
def test_an_epochs_windows_follow_each_other_without_a_gap(length: int, epoch: int, offset: int) -> None:
    clock = EpochClock(Millis(1_000), Millis(length))
    half = clock.begins_at(epoch + 1) + length // 2
    assert clock.index_at(clock.begins_at(epoch)) == epoch
    for at in (half + offset, half - 1 - offset, clock.begins_at(epoch + 1) + offset):
        moment = Millis(at)
        assert clock.may_register(epoch, moment) is not clock.may_close(epoch, moment)
    assert not clock.may_register(epoch, Millis(clock.begins_at(epoch + 1) - 1))
    assert clock.may_distribute(epoch, Millis(clock.begins_at(epoch + 3) - 1))
    assert not clock.may_distribute(epoch, clock.begins_at(epoch + 3))


def test_a_slash_leaves_the_unbonding_bucket_alive() -> None:
    everything = Bps(10_000)
    assert unbonding_slash_floor(Bucket(Stake(10), Shares(3 * 10**6)), Stake(0), everything, everything) == 7
    assert unbonding_slash_floor(Bucket(Stake(10), Shares(3)), Stake(0), Bps(2_000), everything) == 2
    assert unbonding_slash_floor(Bucket(Stake(1), Shares(3 * 10**6)), Stake(0), everything, everything) == 0
    assert unbonding_slash_floor(Bucket(Stake(10), Shares(2**128 - 1)), Stake(0), everything, everything) == 0


def test_stake_and_tokens_stand_for_each_other_at_the_published_rate() -> None:
    assert stake_of_tokens_floor(Tokens(3), 2_000_000) == 1
    assert exposure_limit_floor(Stake(50_000_000), 1_000_000, 10) == 500_000_000
    with pytest.raises(AmountOverflow):
        stake_of_tokens_floor(Tokens(1), 0)
    with pytest.raises(AmountOverflow):
        exposure_limit_floor(Stake(MAX_U64), 2_000_000, 1)


def test_ten_years_of_daily_epochs_only_lose_what_the_schedule_says() -> None:
    """Each epoch's schedule is at most a unit below the exact decay of the one before, and never above it."""
    scheduled = Stake(SUPPLY)
    for _ in range(3_650):
        following = decayed(scheduled, Bps(10))
        assert 0 <= scheduled * 9_990 - following * 10_000 < 10_000
        scheduled = following
    assert 0 < scheduled < SUPPLY
