"""What stake would have earned: the recorded history lived through once more, to the unit."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from marketplace.domain.quantities import Shares, Stake
from marketplace.domain.staking import Bucket, accrue, earned_floor
from marketplace.services.stake_yields import replay
from marketplace.store.stake import StakeEvent, StakeKind


def event(kind, at_epoch, number=0, **fields):
    return StakeEvent(f"s{number}", 0, number, number, at_epoch, kind, pool="p", **fields)


def test_a_stake_shares_what_came_with_those_who_were_there():
    events = [
        event(StakeKind.FEES, 5, payment=110, commission=10),
        event(StakeKind.EMISSION, 6, epoch=5, stake=60),
        event(StakeKind.FEES, 7, payment=7),
    ]
    lived = replay(Stake(32), 96, 96, events, range(5, 8))
    assert (lived.payment, lived.stake, lived.value, lived.shares) == (26, 15, 32, 32)
    assert [(e.payment, e.stake) for e in lived.epochs] == [(25, 0), (0, 15), (1, 0)]


def test_it_enters_a_pool_that_begins_within_the_window_with_its_registration():
    events = [event(StakeKind.REGISTERED, 6, stake=128, shares="128"), event(StakeKind.FEES, 6, payment=40)]
    lived = replay(Stake(128), 0, 0, events, range(4, 8))
    assert (lived.entered, lived.payment, [e.payment for e in lived.epochs]) == (True, 20, [0, 0, 20, 0])
    nothing = replay(Stake(100), 0, 0, [], range(4, 8))
    assert (nothing.entered, nothing.payment, nothing.value) == (False, 0, 0)


def test_it_is_slashed_with_everybody_and_shares_no_loss_of_the_bond():
    slashed = replay(Stake(100), 300, 300, [event(StakeKind.SLASHED, 1, stake=60)], range(1, 2))
    # a fifth of 300 was taken: a fifth of 400 would have been
    assert slashed.value == Bucket(Stake(320), Shares(400)).stake_for_floor(Shares(100)) == 80
    bond = replay(Stake(100), 300, 300, [event(StakeKind.SLASHED_BOND, 1, stake=60, shares="60")], range(1, 2))
    assert bond.value == 100


def test_too_little_for_a_share_earns_nothing():
    lived = replay(Stake(1), 3_000_000, 1, [event(StakeKind.FEES, 1, payment=50)], range(1, 2))
    assert (lived.entered, lived.shares, lived.payment) == (True, 0, 0)


@given(
    st.integers(1, 10**15),
    st.integers(1, 10**15),
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 10**9), st.integers(0, 10_000)), max_size=30),
)
def test_rewards_are_those_of_the_programs_accumulator_in_whatever_epochs_they_came(own, others, rewards):
    rewards.sort(key=lambda reward: reward[0])
    events = [
        event(StakeKind.FEES, epoch, number, payment=amount, commission=amount * bps // 10_000)
        for number, (epoch, amount, bps) in enumerate(rewards)
    ]
    lived = replay(Stake(own), others, others, events, range(5))
    shares = Bucket(Stake(others), Shares(others)).shares_for_floor(Stake(own))
    growth, remainder = 0, 0
    for reward in events:
        step = accrue(reward.payment - reward.commission, remainder, Shares(others + shares))
        growth, remainder = growth + step.per_share, step.remainder
    assert lived.payment == earned_floor(shares, growth) == sum(e.payment for e in lived.epochs)
    fair = Fraction(shares, others + shares) * sum(e.payment - e.commission for e in events)
    assert fair - 2 <= lived.payment <= fair
