"""What stake would have earned: a pool's recorded history, lived through once more with one position added.

Exact integers, by the program's own arithmetic. The pool's rewards are taken as they came; the added stake shares
them with everybody else, and is slashed with everybody else. (That more stake would also have drawn more emission is
left out: what a pool draws is mostly capped by its fees.)
"""

from collections.abc import Sequence
from dataclasses import dataclass

from marketplace.domain.quantities import Shares, Stake, Tokens
from marketplace.domain.staking import Bucket, accrue, earned_floor
from marketplace.store.stake import StakeEvent, StakeKind


@dataclass(frozen=True, slots=True)
class EpochEarning:
    """What was earned in one epoch, and what the position was worth at its end."""

    epoch: int
    payment: Tokens
    stake: Stake
    value: Stake


@dataclass(frozen=True, slots=True)
class Replay:
    """The position's life. value: what its shares are worth at the end, without the rewards.

    entered: the pool existed in that time.
    """

    entered: bool
    shares: Shares
    payment: Tokens
    stake: Stake
    value: Stake
    epochs: tuple[EpochEarning, ...]


@dataclass(slots=True)
class _Pool:
    """The pool as recorded (stake alone) and with the position in it."""

    recorded: int
    stake: int
    shares: int
    own: int = 0
    entered: bool = False
    fees: int = 0
    fees_remainder: int = 0
    emission: int = 0
    emission_remainder: int = 0

    @property
    def active(self) -> Bucket:
        return Bucket(Stake(self.stake), Shares(self.shares))

    def enter(self, amount: Stake) -> None:
        self.entered = True
        self.own = self.active.shares_for_floor(amount)
        self.stake += amount
        self.shares += self.own

    def take(self, event: StakeEvent) -> None:
        match event.kind:
            case StakeKind.REGISTERED | StakeKind.BONDED | StakeKind.DELEGATED:
                self._change(event.stake, int(event.shares))
            case StakeKind.UNBONDED | StakeKind.SLASHED_BOND:
                self._change(-event.stake, -int(event.shares))
            case StakeKind.SLASHED if self.recorded:
                # All shares lose alike: the added ones as much as theirs, on top of what was taken.
                self.stake -= event.stake * self.stake // self.recorded
                self.recorded -= event.stake
            case StakeKind.FEES if self.shares:
                growth = accrue(event.payment - event.commission, self.fees_remainder, Shares(self.shares))
                self.fees, self.fees_remainder = self.fees + growth.per_share, growth.remainder
            case StakeKind.EMISSION if self.shares:
                growth = accrue(event.stake - event.commission, self.emission_remainder, Shares(self.shares))
                self.emission, self.emission_remainder = self.emission + growth.per_share, growth.remainder
            case _:
                pass

    def earned(self) -> tuple[int, int, int]:
        """Payment, stake, value so far."""
        own = Shares(self.own)
        return earned_floor(own, self.fees), earned_floor(own, self.emission), self.active.stake_for_floor(own)

    def _change(self, stake: int, shares: int) -> None:
        self.recorded += stake
        self.stake += stake
        self.shares += shares


def replay(
    amount: Stake, opening_stake: int, opening_shares: int, events: Sequence[StakeEvent], epochs: range
) -> Replay:
    """Stake put in when the first of `epochs` began (or the pool, if later), lived through to the end of the last.

    opening_…: of the pool at that moment. events: of the pool in these epochs, in order. Raises AmountOverflow.
    """
    pool = _Pool(recorded=opening_stake, stake=opening_stake, shares=opening_shares)
    if opening_shares:
        pool.enter(amount)
    waiting = iter(events)
    event = next(waiting, None)
    told: list[EpochEarning] = []
    before = (0, 0)
    for epoch in epochs:
        while event is not None and event.at_epoch <= epoch:
            pool.take(event)
            if not pool.entered and event.kind is StakeKind.REGISTERED:
                pool.enter(amount)
            event = next(waiting, None)
        payment, stake, value = pool.earned()
        told.append(EpochEarning(epoch, Tokens(payment - before[0]), Stake(stake - before[1]), Stake(value)))
        before = (payment, stake)
    payment, stake, value = pool.earned()
    return Replay(pool.entered, Shares(pool.own), Tokens(payment), Stake(stake), Stake(value), tuple(told))
