"""Stake, its shares, what they earn and what they can lose: the program's own numbers, computed here the same.

Vectors: tests/golden/staking.json, read by this module's tests and by the program's. Everything that would leave
the chain's widths raises AmountOverflow, as the program refuses it. Source: program.md section 5.
"""

from dataclasses import dataclass
from typing import Final

from marketplace.domain.money import AmountOverflow
from marketplace.domain.quantities import BPS_SCALE, MAX_U64, MAX_U128, Bps, Millis, Shares, Stake, Tokens

RATE_ONE: Final = 1_000_000
"""Stake base units that an exposure rate speaks of; math.rs, RATE_ONE."""
DEAD_SHARES_PER_UNIT: Final = 1_000_000
"""A pool whose unit of stake carries more shares is dead; math.rs, DEAD_SHARES_PER_UNIT."""
_ACCUMULATOR_ONE: Final = 1 << 64
"""Accumulators are Q64.64."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket of stake and the shares that divide it.

    One virtual unit and one virtual share stand beside them: an empty bucket starts at one share per unit, and
    its first owner can't set the price.
    """

    stake: Stake
    shares: Shares

    def shares_for_floor(self, stake: Stake) -> Shares:
        """Shares minted for a stake: floor(stake x (shares + 1) / (bucket's stake + 1))."""
        unit, shares = self._price()
        return _shares(stake * shares // unit)

    def shares_for_ceil(self, stake: Stake) -> Shares:
        """Shares burned for a stake: the same, rounded up."""
        unit, shares = self._price()
        return _shares(-(-stake * shares // unit))

    def stake_for_floor(self, shares: Shares) -> Stake:
        """What shares are worth: floor(shares x (bucket's stake + 1) / (shares of all + 1))."""
        unit, everything = self._price()
        return _stake(shares * unit // everything)

    @property
    def is_dead(self) -> bool:
        """Whether the stake has fallen below one unit per 1,000,000 shares: nothing may be added."""
        return self.stake * DEAD_SHARES_PER_UNIT < self.shares

    def least_alive_ceil(self) -> Stake:
        """The least stake with which it lives: ceil(shares / 1,000,000)."""
        return _stake(-(-self.shares // DEAD_SHARES_PER_UNIT))

    def _price(self) -> tuple[int, int]:
        return _stake(self.stake + 1), _shares(self.shares + 1)


# Rewards


@dataclass(frozen=True, slots=True)
class Growth:
    """A reward shared out: by how much the accumulator grows per share (Q64.64), and what waits for the next one."""

    per_share: int
    remainder: int


def accrue(reward: int, remainder: int, shares: Shares) -> Growth:
    """Share a reward out over all active shares. Raises AmountOverflow without any share."""
    waiting = _u128(reward * _ACCUMULATOR_ONE + remainder)
    if shares == 0:
        raise AmountOverflow
    return Growth(*divmod(waiting, shares))


def earned_floor(shares: Shares, growth: int) -> int:
    """What shares earned while the accumulator grew: floor(shares x growth / 2^64)."""
    return _u64(shares * growth // _ACCUMULATOR_ONE)


def pending_reward(shares: Shares, accumulator: int, paid: int, earned: int) -> int:
    """What a position could claim now of one kind of reward, its commission apart.

    accumulator: the pool's. paid: the accumulator when the position was last settled. earned: what was credited then.
    """
    return _u64(earned + earned_floor(shares, accumulator - paid))


def commission_floor(reward: int, commission: Bps) -> int:
    """The operator's part of a reward, taken before it is shared out; the rest goes to all shares, its own too."""
    return reward * commission // BPS_SCALE


def in_force(current: Bps, announced: Bps, effective_at: Millis, now: Millis) -> Bps:
    """A commission or fee of a moment. effective_at: of the announced one, 0 where none is announced."""
    return announced if effective_at and now >= effective_at else current


# Epochs


@dataclass(frozen=True, slots=True)
class EpochClock:
    """When epochs begin and what may be done with them when. start: of epoch 0; length: of each."""

    start: Millis
    length: Millis

    def index_at(self, now: Millis) -> int:
        """The epoch of a moment. Raises AmountOverflow for one before epoch 0."""
        return _u64(now - self.start) // self.length

    def begins_at(self, epoch: int) -> Millis:
        return Millis(self.start + epoch * self.length)

    def may_register(self, epoch: int, now: Millis) -> bool:
        """Weights of an epoch are registered in the first half of the next one."""
        return self.begins_at(epoch + 1) <= now < self._half_of_next(epoch)

    def may_close(self, epoch: int, now: Millis) -> bool:
        """Its emission is fixed from the second half of the next one on (in the order of epochs)."""
        return now >= self._half_of_next(epoch)

    def may_distribute(self, epoch: int, now: Millis) -> bool:
        """A closed epoch is distributed until the second epoch after it ends."""
        return now < self.begins_at(epoch + 3)

    def _half_of_next(self, epoch: int) -> int:
        return self.begins_at(epoch + 1) + self.length // 2


def weight_floor(active_stake: Stake, well: Tokens, lost: Tokens) -> Stake:
    """A pool's weight of an epoch: floor(active stake x well / (well + lost)); 0 without any metered attempt.

    well, lost: meter-countersigned amounts of the attempts that ended in that epoch.
    """
    total = min(well + lost, MAX_U64)
    return Stake(0) if total == 0 else _stake(active_stake * well // total)


def emission_of_epoch(scheduled: Stake, vault: Stake, committed: Stake) -> Stake:
    """What an epoch's emission is when it is closed.

    vault: balance of the emission vault. committed: what epochs closed earlier may still draw from it.
    """
    return Stake(min(scheduled, max(vault - committed, 0)))


def decayed(scheduled: Stake, decay: Bps) -> Stake:
    """The next epoch's schedule: floor(scheduled x (10,000 - decay) / 10,000)."""
    return Stake(scheduled * (BPS_SCALE - decay) // BPS_SCALE)


@dataclass(frozen=True, slots=True)
class EmissionRules:
    """cap: a pool's emission, at most this part of its protocol fees. exposure_rate: payment units per 10^6 stake."""

    cap: Bps
    exposure_rate: int


def distribution_floor(
    emission: Stake, weight: Stake, total_weight: int, protocol_fees: Tokens, rules: EmissionRules
) -> Stake:
    """A pool's part of an epoch's emission, commission included: by weight, capped by the fees it brought.

    protocol_fees: of the pool's node in that epoch. Raises AmountOverflow when no weight is registered.
    """
    if total_weight == 0:
        raise AmountOverflow
    by_weight = emission * weight // total_weight
    fees = protocol_fees * rules.cap // BPS_SCALE
    return _stake(min(by_weight, fees * RATE_ONE // rules.exposure_rate))


# What can be lost, and what it covers


def stake_of_tokens_floor(amount: Tokens, exposure_rate: int) -> Stake:
    """Stake units that a payment amount stands for: floor(amount x 1,000,000 / rate)."""
    if exposure_rate == 0:
        raise AmountOverflow
    return _stake(amount * RATE_ONE // exposure_rate)


def exposure_limit_floor(active_stake: Stake, exposure_rate: int, multiple: int) -> Tokens:
    """The most that a node's open escrows may be worth: floor(stake x rate / 1,000,000) x multiple."""
    once = _u64(active_stake * exposure_rate // RATE_ONE)
    return Tokens(_u64(once * multiple))


def slash_room_floor(value: Stake, slashed: Stake, cap: Bps) -> Stake:
    """How much more may be taken in an epoch: slashed <= cap x (value + slashed).

    value: of the bucket (or the bond) now. slashed: what the epoch has taken of it already.
    """
    limit = _stake(value + slashed) * cap // BPS_SCALE
    return Stake(max(limit - slashed, 0))


def overclaim_slash_floor(value: Stake, slashed: Stake, part: Bps, cap: Bps) -> Stake:
    """What a proved over-claim takes of the active stake: its part, within the epoch's room."""
    return Stake(min(value * part // BPS_SCALE, slash_room_floor(value, slashed, cap)))


def unbonding_slash_floor(unbonding: Bucket, slashed: Stake, part: Bps, cap: Bps) -> Stake:
    """What it takes of the unbonding bucket: the same, but that the bucket stays alive for whoever leaves next."""
    try:
        spare = max(unbonding.stake - unbonding.least_alive_ceil(), 0)
    except AmountOverflow:
        spare = 0
    return Stake(min(overclaim_slash_floor(unbonding.stake, slashed, part, cap), spare))


def _u64(value: int) -> int:
    if not 0 <= value <= MAX_U64:
        raise AmountOverflow
    return value


def _u128(value: int) -> int:
    if not 0 <= value <= MAX_U128:
        raise AmountOverflow
    return value


def _stake(value: int) -> Stake:
    return Stake(_u64(value))


def _shares(value: int) -> Shares:
    return Shares(_u128(value))
