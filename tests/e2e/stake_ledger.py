"""What every stake event of a chain must say, computed from the events before it: integers only, nothing asked twice.

The ledger is fed the program's events in their order. Each amount in them is first computed here, by domain/staking.py
and domain/money.py; an event that says something else raises LedgerDiffers. What the ledger holds afterwards is what the
chain's accounts must hold.
"""

from collections import defaultdict
from dataclasses import dataclass, field

from solders.pubkey import Pubkey

from marketplace.chain import events as ev
from marketplace.chain.accounts import ConfigAccount, PoolAccount, PositionAccount
from marketplace.domain.money import FeeRates, amount_due, fee_ceil, split_payment
from marketplace.domain.quantities import Bps, Millis, Shares, Stake, Tokens
from marketplace.domain.reasons import Reason
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
    in_force,
    overclaim_slash_floor,
    unbonding_slash_floor,
    weight_floor,
)
from marketplace.protocol.vouchers import VoucherState

EMPTY = Bucket(Stake(0), Shares(0))


class LedgerDiffers(AssertionError):
    """The chain says something else than the model computes."""


@dataclass
class Reward:
    """One kind of reward of a pool."""

    per_share: int = 0
    remainder: int = 0
    commission: int = 0
    unclaimed: int = 0

    def book(self, amount: int, commission: int, shares: int) -> None:
        grown = accrue(amount - commission, self.remainder, Shares(shares))
        self.per_share += grown.per_share
        self.remainder = grown.remainder
        self.commission += commission
        self.unclaimed += amount


@dataclass
class Position:
    """One owner's shares; earned and paid by kind of reward."""

    is_operator: bool = False
    shares: int = 0
    earned: dict[str, int] = field(default_factory=lambda: {"fees": 0, "emission": 0})
    paid: dict[str, int] = field(default_factory=lambda: {"fees": 0, "emission": 0})


@dataclass
class Slot:
    """What a node did in one epoch."""

    well: int = 0
    lost: int = 0
    protocol_fees: int = 0
    compensated: int = 0
    slashed_active: int = 0
    slashed_unbonding: int = 0
    weight: int = 0


@dataclass
class Pool:
    """A node's pool."""

    node: Pubkey
    operator: Pubkey
    active: Bucket = EMPTY
    unbonding: Bucket = EMPTY
    commission: int = 0
    pending: tuple[int, int] = (0, 0)
    rewards: dict[str, Reward] = field(default_factory=lambda: {"fees": Reward(), "emission": Reward()})
    positions: dict[Pubkey, Position] = field(default_factory=dict)
    tickets: dict[Pubkey, int] = field(default_factory=dict)
    slots: dict[int, Slot] = field(default_factory=lambda: defaultdict(Slot))

    def commission_at(self, now: int) -> Bps:
        return in_force(Bps(self.commission), Bps(self.pending[0]), Millis(self.pending[1]), Millis(now))

    def settled(self, owner: Pubkey) -> Position:
        """The position with everything credited that its shares earned; a new one where there is none."""
        position = self.positions.setdefault(owner, Position(owner == self.operator))
        for kind, reward in self.rewards.items():
            position.earned[kind] += earned_floor(Shares(position.shares), reward.per_share - position.paid[kind])
            position.paid[kind] = reward.per_share
        return position


@dataclass
class Epoch:
    """An epoch somebody registered for, or that is closed."""

    total_weight: int = 0
    emission: int = 0
    distributed: int = 0


@dataclass
class Work:
    """An attempt."""

    assigned: ev.AssignedEvent
    paid: int = 0
    metered: int = 0
    overclaimed: bool = False


def same(what: str, said: object, computed: object) -> None:
    """Raises LedgerDiffers unless the chain says what was computed."""
    if said != computed:
        raise LedgerDiffers(f"{what}: the chain says {said}, the model {computed}")


class Ledger:
    """All pools of a deployment, its epochs and its emission vault.

    config: the deployment's, for what never changes. scheduled: the first epoch's emission. vault: what the emission
    vault was funded with, before the first epoch anybody registered for was closed.
    """

    def __init__(self, config: ConfigAccount, *, scheduled: int, vault: int) -> None:
        self.params = config.params
        self.clock = EpochClock(Millis(config.epoch_start), Millis(config.epoch_length))
        self.scheduled, self.vault, self.committed = Stake(scheduled), vault, 0
        self.pools: dict[Pubkey, Pool] = {}
        self.of_node: dict[Pubkey, Pool] = {}
        self.work: dict[tuple[Pubkey, int], Work] = {}
        self.epochs: dict[int, Epoch] = {}
        self.next_epoch = 0

    def take(self, event: ev.ProgramEvent, now: int) -> None:
        """The next event, of a transaction that ran at `now` (chain time)."""
        match event:
            case ev.NodeRegisteredEvent():
                self._registered(event)
            case ev.CommissionSetEvent():
                pool = self.pools[event.pool]
                pool.commission, pool.pending = (
                    pool.commission_at(now),
                    (event.commission_bps, event.effective_at),
                )
                same("a commission's effect", event.effective_at, now + self.params.commission_delay)
            case ev.BondedEvent():
                self._added(event.pool, event.operator, event.amount, event.shares)
            case ev.DelegatedEvent():
                self._added(event.pool, event.owner, event.amount, event.shares)
            case ev.UnbondedEvent():
                self._unbonded(event, now)
            case ev.TicketWithdrawnEvent():
                self._withdrawn(event)
            case ev.RewardsClaimedEvent():
                self._claimed(event)
            case ev.AssignedEvent():
                self.work[event.escrow, event.attempt] = Work(event)
            case ev.SettledEvent():
                self._paid(event, now)
            case ev.OverclaimProvedEvent():
                same("the transaction's time", event.at, now)
                self.work[event.escrow, event.attempt].overclaimed = True
            case ev.ContestClosedEvent():
                work = self.work[event.escrow, event.attempt]
                self._book(work, lost=event.loss or work.overclaimed, now=now)
            case ev.SlashedEvent():
                self._slashed(event, now)
            case ev.WeightRegisteredEvent():
                self._weighed(event)
            case ev.EpochClosedEvent():
                self._closed(event, now)
            case ev.DistributedEvent():
                self._distributed(event, now)
            case ev.EpochEndedEvent():
                epoch = self.epochs[event.epoch]
                same(
                    "an ended epoch",
                    (event.distributed, event.freed),
                    (epoch.distributed, epoch.emission - epoch.distributed),
                )
                self.committed -= event.freed
            case _:
                pass

    # stake

    def _registered(self, event: ev.NodeRegisteredEvent) -> None:
        pool = Pool(event.node, event.operator)
        self.pools[event.pool] = self.of_node[event.node] = pool
        self._added(event.pool, event.operator, event.bond, event.shares)

    def _added(self, address: Pubkey, owner: Pubkey, amount: int, shares: int) -> None:
        pool = self.pools[address]
        position = pool.settled(owner)
        same("shares of a stake", shares, pool.active.shares_for_floor(Stake(amount)))
        pool.active = grown(pool.active, amount, shares)
        position.shares += shares

    def _unbonded(self, event: ev.UnbondedEvent, now: int) -> None:
        pool = self.pools[event.pool]
        position = pool.settled(event.owner)
        same("what unbonded shares are worth", event.amount, pool.active.stake_for_floor(Shares(event.shares)))
        same("a ticket's time", event.unlock_at, now + self.params.unbonding)
        pool.tickets[event.ticket] = pool.unbonding.shares_for_floor(Stake(event.amount))
        pool.active = grown(pool.active, -event.amount, -event.shares)
        pool.unbonding = grown(pool.unbonding, event.amount, pool.tickets[event.ticket])
        position.shares -= event.shares

    def _withdrawn(self, event: ev.TicketWithdrawnEvent) -> None:
        pool = self.pools[event.pool]
        shares = pool.tickets.pop(event.ticket)
        worth = pool.unbonding.stake_for_floor(Shares(shares))
        same("a ticket", (event.shares, event.amount), (shares, worth))
        pool.unbonding = grown(pool.unbonding, -worth, -shares)

    def _claimed(self, event: ev.RewardsClaimedEvent) -> None:
        pool = self.pools[event.pool]
        position, due = pool.settled(event.owner), {}
        for kind, reward in pool.rewards.items():
            due[kind] = position.earned[kind]
            position.earned[kind] = 0
            if position.is_operator:
                due[kind] += reward.commission
                reward.commission = 0
            reward.unclaimed -= due[kind]
        same("claimed rewards", (event.fees, event.emission), (due["fees"], due["emission"]))

    def _slashed(self, event: ev.SlashedEvent, now: int) -> None:
        pool, slot = self.pools[event.pool], self.of_node[event.node].slots[self.clock.index_at(Millis(now))]
        part, cap = Bps(self.params.overclaim_bps), Bps(self.params.slash_cap_bps)
        if event.bucket == 0:
            # a compensation: its amount was noted by another formula, its shares are burned
            burned = min(pool.active.shares_for_ceil(Stake(event.amount)), pool.positions[pool.operator].shares)
            same("burned shares of a bond", event.burned, burned)
            pool.settled(pool.operator).shares -= burned
            pool.active = grown(pool.active, -event.amount, -burned)
            slot.compensated += event.amount
            return
        same("an over-claim's reason", (event.reason, event.burned), (int(Reason.OVERCLAIM), 0))
        if event.bucket == 1:
            computed = overclaim_slash_floor(pool.active.stake, Stake(slot.slashed_active), part, cap)
            pool.active = grown(pool.active, -computed, 0)
            slot.slashed_active += computed
        else:
            computed = unbonding_slash_floor(pool.unbonding, Stake(slot.slashed_unbonding), part, cap)
            pool.unbonding = grown(pool.unbonding, -computed, 0)
            slot.slashed_unbonding += computed
        same(f"a slash of bucket {event.bucket}", event.amount, computed)
        self.vault += computed

    # pay

    def _paid(self, event: ev.SettledEvent, now: int) -> None:
        work = self.work[event.escrow, event.attempt]
        agreed = work.assigned
        rates = FeeRates(Bps(agreed.protocol_bps), Bps(agreed.fee_bps), Bps(self.params.node_share_bps))
        same("what is due", event.amount, amount_due(Tokens(agreed.price), Millis(event.billed)))
        split = split_payment(Tokens(work.paid), Tokens(event.amount), rates)
        said = (event.paid, event.operator, event.stakers, event.market, event.protocol)
        same("who is paid", said, (split.paid, split.operator, split.stakers, split.market, split.protocol))
        work.paid = event.amount
        if event.countersigner == agreed.meter:
            work.metered = event.amount
        pool = self.of_node[event.node]
        if split.stakers:
            commission = commission_floor(split.stakers, pool.commission_at(now))
            pool.rewards["fees"].book(split.stakers, commission, pool.active.shares)
        if event.state != VoucherState.RUNNING:
            self._book(work, lost=False, now=now)

    def _book(self, work: Work, *, lost: bool, now: int) -> None:
        slot = self.of_node[work.assigned.node].slots[self.clock.index_at(Millis(now))]
        slot.protocol_fees += fee_ceil(Tokens(work.metered), Bps(work.assigned.protocol_bps))
        if lost:
            slot.lost += work.metered
        else:
            slot.well += work.metered

    # epochs

    def _weighed(self, event: ev.WeightRegisteredEvent) -> None:
        pool, epoch = self.of_node[event.node], self.epochs.setdefault(event.epoch, Epoch())
        slot = pool.slots[event.epoch]
        slot.weight = weight_floor(pool.active.stake, Tokens(slot.well), Tokens(slot.lost))
        epoch.total_weight += slot.weight
        same("a weight", (event.weight, event.total_weight), (slot.weight, epoch.total_weight))

    def _closed(self, event: ev.EpochClosedEvent, now: int) -> None:
        same("the order of epochs", event.epoch, self.next_epoch)
        epoch = self.epochs.setdefault(event.epoch, Epoch())
        in_time = self.clock.may_distribute(event.epoch, Millis(now))
        if epoch.total_weight and in_time:
            epoch.emission = emission_of_epoch(self.scheduled, Stake(self.vault), Stake(self.committed))
        same("an epoch's emission", (event.emission, event.total_weight), (epoch.emission, epoch.total_weight))
        self.committed += epoch.emission
        self.scheduled = decayed(self.scheduled, Bps(self.params.decay_bps))
        self.next_epoch += 1

    def _distributed(self, event: ev.DistributedEvent, now: int) -> None:
        pool, epoch = self.pools[event.pool], self.epochs[event.epoch]
        slot = pool.slots[event.epoch]
        rules = EmissionRules(Bps(self.params.emission_cap_bps), self.params.exposure_rate)
        amount = distribution_floor(
            Stake(epoch.emission), Stake(slot.weight), epoch.total_weight, Tokens(slot.protocol_fees), rules
        )
        commission = commission_floor(amount, pool.commission_at(now))
        same("a pool's part of an emission", (event.amount, event.commission), (amount, commission))
        if amount:
            pool.rewards["emission"].book(amount, commission, pool.active.shares)
        epoch.distributed += amount
        self.committed -= amount
        self.vault -= amount

    # what the chain's accounts must hold

    def check_config(self, config: ConfigAccount) -> None:
        same(
            "the deployment",
            (config.next_epoch, config.scheduled_emission, config.committed_emission, config.distributed_emission),
            (self.next_epoch, self.scheduled, self.committed, sum(e.distributed for e in self.epochs.values())),
        )

    def check_pool(self, address: Pubkey, account: PoolAccount) -> None:
        pool = self.pools[address]
        fees, emission = pool.rewards["fees"], pool.rewards["emission"]
        same("active stake", (account.active_stake, account.active_shares), (pool.active.stake, pool.active.shares))
        same(
            "unbonding stake",
            (account.unbonding_stake, account.unbonding_shares),
            (pool.unbonding.stake, pool.unbonding.shares),
        )
        same("the bond's shares", account.bond_shares, pool.positions[pool.operator].shares)
        same(
            "fee rewards",
            (account.fees, account.fees_remainder, account.commission_fees, account.fees_unclaimed),
            (fees.per_share, fees.remainder, fees.commission, fees.unclaimed),
        )
        same(
            "emission rewards",
            (account.emission, account.emission_remainder, account.commission_emission, account.emission_unclaimed),
            (emission.per_share, emission.remainder, emission.commission, emission.unclaimed),
        )

    def check_position(self, pool: Pubkey, account: PositionAccount) -> None:
        """Its shares, and what it would be paid by a claim now."""
        position = self.pools[pool].settled(account.owner)
        waiting = {
            kind: earned + earned_floor(Shares(account.shares), reward.per_share - paid)
            for kind, reward, earned, paid in (
                ("fees", self.pools[pool].rewards["fees"], account.fees_earned, account.fees_paid),
                ("emission", self.pools[pool].rewards["emission"], account.emission_earned, account.emission_paid),
            )
        }
        same("a position's shares", account.shares, position.shares)
        same("a position's rewards", waiting, position.earned)


def grown(bucket: Bucket, stake: int, shares: int) -> Bucket:
    return Bucket(Stake(bucket.stake + stake), Shares(bucket.shares + shares))
