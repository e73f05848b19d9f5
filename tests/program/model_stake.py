"""Stake in exact integers: buckets, positions, tickets, rewards, and epochs of emission.

Written from program.md section 5; nothing here imports the product. Token accounts outside the program are
balances under a name in `stake` and `payment`.
"""

from dataclasses import dataclass, field

from tests.program.model_rules import BOND, DELEGATE, REGISTER, Rules, fee, need

DEAD_SHARES_PER_UNIT = 1_000_000
ACTIVE, DRAINING, SUSPENDED, RETIRED = range(4)


@dataclass
class Bucket:
    """Stake and the shares that divide it, with one virtual unit and one virtual share."""

    stake: int = 0
    shares: int = 0

    def worth(self, shares):
        return shares * (self.stake + 1) // (self.shares + 1)

    def minted(self, stake):
        return stake * (self.shares + 1) // (self.stake + 1)

    def burned(self, stake):
        return -(-(stake * (self.shares + 1)) // (self.stake + 1))

    @property
    def is_dead(self):
        return self.stake * DEAD_SHARES_PER_UNIT < self.shares

    @property
    def least_alive(self):
        return -(-self.shares // DEAD_SHARES_PER_UNIT)


@dataclass
class Reward:
    """One kind of reward: per share in units of 2^-64."""

    per_share: int = 0
    rest: int = 0
    unclaimed: int = 0
    commission: int = 0

    def book(self, amount, bps, shares):
        commission = amount * bps // 10_000
        growth, self.rest = divmod(((amount - commission) << 64) + self.rest, shares)
        self.per_share += growth
        self.commission += commission
        self.unclaimed += amount


@dataclass
class Ticket:
    shares: int
    unlock_at: int


@dataclass
class Position:
    shares: int = 0
    fees_paid: int = 0
    emission_paid: int = 0
    fees: int = 0
    emission: int = 0
    next_ticket: int = 0
    tickets: dict[int, Ticket] = field(default_factory=dict)

    def settle(self, pool):
        self.fees += self.shares * (pool.fees.per_share - self.fees_paid) >> 64
        self.emission += self.shares * (pool.emission.per_share - self.emission_paid) >> 64
        self.fees_paid, self.emission_paid = pool.fees.per_share, pool.emission.per_share

    @property
    def is_empty(self):
        return not (self.shares or self.tickets or self.fees or self.emission)


@dataclass
class Pool:
    operator: str
    commission_bps: int
    active: Bucket = field(default_factory=Bucket)
    unbonding: Bucket = field(default_factory=Bucket)
    fees: Reward = field(default_factory=Reward)
    emission: Reward = field(default_factory=Reward)
    pending_bps: int = 0
    pending_at: int = 0
    positions: dict[str, Position] = field(default_factory=dict)
    given_stake: int = 0
    """Sent to the stake vault by strangers."""
    given_fees: int = 0

    @property
    def own(self):
        return self.positions[self.operator]

    @property
    def bond(self):
        return self.active.worth(self.own.shares)

    @property
    def recorded(self):
        return self.active.stake + self.unbonding.stake + self.emission.unclaimed

    def roll(self, now):
        if self.pending_at and now >= self.pending_at:
            self.commission_bps, self.pending_at = self.pending_bps, 0

    def book_fees(self, amount, now):
        """What of it the pool takes."""
        if not self.active.shares or not amount:
            return 0
        self.roll(now)
        self.fees.book(amount, self.commission_bps, self.active.shares)
        return amount

    def join(self, owner, stake):
        position = self.positions[owner]
        position.settle(self)
        minted = self.active.minted(stake)
        need(minted, "AmountZero")
        position.shares += minted
        self.active.stake += stake
        self.active.shares += minted

    def leave(self, owner, shares, unlock_at):
        need(shares, "AmountZero")
        position = self.positions[owner]
        need(shares <= position.shares, "SharesInsufficient")
        position.settle(self)
        stake = self.active.worth(shares)
        minted = self.unbonding.minted(stake)
        position.shares -= shares
        self.active.shares -= shares
        self.active.stake -= stake
        self.unbonding.shares += minted
        self.unbonding.stake += stake
        position.tickets[position.next_ticket] = Ticket(minted, unlock_at)
        position.next_ticket += 1

    def close_if_empty(self, owner):
        if owner != self.operator and self.positions[owner].is_empty:
            del self.positions[owner]

    def check(self, owed):
        shares = sum(p.shares for p in self.positions.values())
        assert shares == self.active.shares
        assert self.unbonding.shares == sum(t.shares for p in self.positions.values() for t in p.tickets.values())
        # no price ever rises above one unit per share
        assert 0 <= self.active.stake <= self.active.shares
        assert 0 <= self.unbonding.stake <= self.unbonding.shares
        # everything that waits can be paid: what is earned, and what would be after settling now
        for reward, paid, earned in (
            (self.fees, "fees_paid", "fees"),
            (self.emission, "emission_paid", "emission"),
        ):
            waiting = sum(
                getattr(p, earned) + (p.shares * (reward.per_share - getattr(p, paid)) >> 64)
                for p in self.positions.values()
            )
            assert 0 <= waiting + reward.commission <= reward.unclaimed
        assert sum(self.unbonding.worth(t.shares) for p in self.positions.values() for t in p.tickets.values()) <= (
            self.unbonding.stake
        )
        assert owed >= 0


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
    registered: bool = False
    distributed: bool = False


@dataclass
class Node:
    operator: str
    market: str
    hardware: str
    pool: Pool
    status: int = ACTIVE
    owed: int = 0
    exposure: int = 0
    attempts: int = 0
    held: int = 0
    well: int = 0
    lost: int = 0
    quits: int = 0
    slots: dict[int, Slot] = field(default_factory=dict)

    def slot(self, epoch):
        return self.slots.setdefault(epoch, Slot())

    def book(self, metered, protocol_bps, outcome, epoch):
        slot = self.slot(epoch)
        slot.protocol_fees += fee(metered, protocol_bps)
        if outcome == "lost":
            slot.lost += metered
            self.lost += 1
        else:
            slot.well += metered
            self.quits += outcome == "quit"
            self.well += outcome == "well" and metered > 0


@dataclass
class Epoch:
    """One epoch's account."""

    total_weight: int = 0
    registered: int = 0
    served: int = 0
    closed: bool = False
    emission: int = 0
    distributed: int = 0


@dataclass
class Class:
    minimum_bond: int
    enabled: bool = True


class Staking:
    """Nodes, their pools, and the emission. `frozen`: operators whose payout account takes nothing."""

    rules: Rules
    now: int
    paused: int
    epoch_ms: int
    epoch_start: int
    stake: dict[str, int]
    payment: dict[str, int]

    def __init__(self):
        self.nodes: dict[str, Node] = {}
        self.classes: dict[str, Class] = {}
        self.frozen: set[str] = set()
        self.epochs: dict[int, Epoch] = {}
        self.next_epoch = self.scheduled = self.committed = self.emission_vault = self.distributed = 0

    @property
    def epoch(self):
        return (self.now - self.epoch_start) // self.epoch_ms

    @property
    def is_first_half(self):
        return (self.now - self.epoch_start) % self.epoch_ms < self.epoch_ms // 2

    # operators

    def register(self, name, market, hardware, bond, commission_bps):
        operator = f"op {name}"
        need(not self.paused & REGISTER, "Paused")
        need(self.classes[hardware].enabled, "ClassDisabled")
        need(bond >= self.classes[hardware].minimum_bond, "BondBelowClass")
        need(operator not in self.frozen, "TokenAccountInvalid")
        need(name not in self.nodes, "AlreadyInitialized")
        need(self.stake[operator] >= bond, "Custom(1)")
        pool = Pool(operator, commission_bps, positions={operator: Position()})
        self.stake[operator] -= bond
        pool.join(operator, bond)
        self.nodes[name] = Node(operator, market, hardware, pool)

    def bond(self, name, amount):
        n = self.nodes[name]
        need(not self.paused & BOND, "Paused")
        need(n.status != RETIRED, "NodeRetired")
        need(amount, "AmountZero")
        need(not n.pool.active.is_dead, "PoolDead")
        need(self.stake[n.operator] >= amount, "Custom(1)")
        self.stake[n.operator] -= amount
        n.pool.join(n.operator, amount)

    def unbond_bond(self, name, shares):
        n = self.nodes[name]
        n.pool.leave(n.operator, shares, self.now + self.rules.unbonding)
        if n.status == ACTIVE or n.attempts:
            need(n.pool.bond >= self.classes[n.hardware].minimum_bond + n.held, "BondBelowClass")

    def update_node(self, name, market, hardware):
        n = self.nodes[name]
        need(n.status != RETIRED, "NodeRetired")
        need(n.operator not in self.frozen, "TokenAccountInvalid")
        if (n.market, n.hardware) != (market, hardware):
            need(not n.attempts, "AttemptsOpen")
            need(self.classes[hardware].enabled, "ClassDisabled")
            need(n.pool.bond >= self.classes[hardware].minimum_bond + n.held, "BondBelowClass")
            if n.market != market and n.status == SUSPENDED:
                n.status = ACTIVE
            n.market, n.hardware = market, hardware

    def set_commission(self, name, bps):
        n = self.nodes[name]
        need(n.status != RETIRED, "NodeRetired")
        need(bps <= 10_000, "ParameterOutOfBounds")
        n.pool.roll(self.now)
        need(abs(bps - n.pool.commission_bps) <= self.rules.commission_step_bps, "CommissionStepTooLarge")
        n.pool.pending_bps, n.pool.pending_at = bps, self.now + self.rules.commission_delay

    def drain(self, name, *, draining):
        n = self.nodes[name]
        need(n.status != RETIRED, "NodeRetired")
        need(n.status != SUSPENDED, "NodeSuspended")
        n.status = DRAINING if draining else ACTIVE

    def suspend(self, name, market, *, suspended):
        n = self.nodes[name]
        need(n.market == market, "NodeElsewhere")
        need(n.status != RETIRED, "NodeRetired")
        need(suspended == (n.status != SUSPENDED), "NodeSuspended" if suspended else "NodeNotSuspended")
        n.status = SUSPENDED if suspended else ACTIVE

    def withdraw_owed(self, name):
        n = self.nodes[name]
        need(n.owed, "NothingOwed")
        need(n.operator not in self.frozen, "Custom(17)")
        self.payment[n.operator] += n.owed
        n.owed = 0

    def retire(self, name):
        n, pool = self.nodes[name], self.nodes[name].pool
        need(not n.attempts, "AttemptsOpen")
        n.status = RETIRED
        pool.own.settle(pool)
        waits = n.owed or n.held or pool.fees.commission or pool.emission.commission
        if waits or len(pool.positions) > 1 or not pool.own.is_empty:
            return
        self.emission_vault += pool.recorded + pool.given_stake
        self.markets[n.market].owed += pool.fees.unclaimed + pool.given_fees
        del self.nodes[name]

    # delegators; claim and withdraw_ticket are the operators' too

    def position(self, owner, name):
        positions = self.nodes[name].pool.positions
        need(owner in positions, "WrongAccountOwner")
        return positions[owner]

    def delegate(self, owner, name, amount):
        n = self.nodes[name]
        need(not self.paused & DELEGATE, "Paused")
        need(n.status != RETIRED, "NodeRetired")
        need(owner != n.operator, "OperatorPosition")
        need(amount, "AmountZero")
        need(not n.pool.active.is_dead, "PoolDead")
        need(self.stake[owner] >= amount, "Custom(1)")
        n.pool.positions.setdefault(owner, Position())
        self.stake[owner] -= amount
        n.pool.join(owner, amount)

    def claim(self, owner, name):
        pool, position = self.nodes[name].pool, self.position(owner, name)
        position.settle(pool)
        fees, emission = position.fees, position.emission
        position.fees = position.emission = 0
        if owner == pool.operator:
            fees, emission = fees + pool.fees.commission, emission + pool.emission.commission
            pool.fees.commission = pool.emission.commission = 0
        need(fees or emission, "NothingOwed")
        need(not fees or owner not in self.frozen, "Custom(17)")
        pool.fees.unclaimed -= fees
        pool.emission.unclaimed -= emission
        self.payment[owner] += fees
        self.stake[owner] += emission
        pool.close_if_empty(owner)

    def unbond(self, owner, name, shares):
        self.position(owner, name)
        need(owner != self.nodes[name].operator, "OperatorPosition")
        self.nodes[name].pool.leave(owner, shares, self.now + self.rules.unbonding)

    def withdraw_ticket(self, owner, name, index):
        pool, position = self.nodes[name].pool, self.position(owner, name)
        ticket = position.tickets[index]
        need(self.now >= ticket.unlock_at, "TicketLocked")
        stake = pool.unbonding.worth(ticket.shares)
        pool.unbonding.shares -= ticket.shares
        pool.unbonding.stake -= stake
        self.stake[owner] += stake
        del position.tickets[index]
        pool.close_if_empty(owner)

    def slash(self, node):
        """An over-claim's part of both buckets; the shares stay."""
        r, pool, slot = self.rules, node.pool, node.slot(self.epoch)

        def part(stake, slashed):
            return min(stake * r.overclaim_bps // 10_000, r.room(stake, slashed))

        active = part(pool.active.stake, slot.slashed_active)
        unbonding = part(pool.unbonding.stake, slot.slashed_unbonding)
        unbonding = min(unbonding, max(0, pool.unbonding.stake - pool.unbonding.least_alive))
        pool.active.stake -= active
        pool.unbonding.stake -= unbonding
        slot.slashed_active += active
        slot.slashed_unbonding += unbonding
        self.emission_vault += active + unbonding

    def compensate(self, node, noted):
        """Burns bond shares for a noted compensation; what was taken."""
        pool, slot = node.pool, node.slot(self.epoch)
        taken = min(noted, pool.bond, self.rules.room(pool.bond, slot.compensated))
        if taken:
            pool.own.settle(pool)
            burned = min(pool.own.shares, pool.active.burned(taken))
            pool.own.shares -= burned
            pool.active.shares -= burned
            pool.active.stake -= taken
            slot.compensated += taken
        return taken

    # epochs

    def register_weight(self, name, epoch):
        n = self.nodes[name]
        need(
            self.epoch == epoch + 1 and self.is_first_half and epoch >= self.next_epoch,
            "EpochWindowClosed",
        )
        slot = n.slot(epoch)
        need(not slot.registered, "WeightRegisteredAlready")
        need(slot.well, "WeightZero")
        weight = n.pool.active.stake * slot.well // (slot.well + slot.lost)
        need(weight, "WeightZero")
        slot.weight, slot.registered = weight, True
        account = self.epochs.setdefault(epoch, Epoch())
        account.total_weight += weight
        account.registered += 1

    def close_epoch(self, epoch):
        is_next = epoch == self.next_epoch
        if is_next:
            late = self.epoch > epoch + 1 or (self.epoch == epoch + 1 and not self.is_first_half)
            need(late, "EpochTooEarly")
        if epoch not in self.epochs:
            need(is_next, "WrongEpoch")
            self.end_schedule(0)
            return
        account = self.epochs[epoch]
        is_over = self.epoch > epoch + 2
        if is_next:
            account.emission = self.end_schedule(0 if is_over else self.emission_vault)
            account.closed = True
            if not is_over:
                return
        else:
            need(account.closed, "WrongEpoch")
            need(is_over, "EpochNotOver")
        self.end_epoch(epoch)

    def end_schedule(self, vault):
        emission = min(self.scheduled, max(0, vault - self.committed))
        self.scheduled = self.scheduled * (10_000 - self.rules.decay_bps) // 10_000
        self.committed += emission
        self.next_epoch += 1
        return emission

    def end_epoch(self, epoch):
        account = self.epochs.pop(epoch)
        self.committed -= account.emission - account.distributed

    def distribute(self, name, epoch):
        n, r = self.nodes[name], self.rules
        need(epoch in self.epochs, "WrongAccountOwner")
        account = self.epochs[epoch]
        need(self.epoch <= epoch + 2, "EpochOver")
        need(account.closed, "EpochNotClosed")
        slot = n.slot(epoch)
        need(slot.registered, "NotRegistered")
        need(not slot.distributed, "AlreadyDistributed")
        slot.distributed = True
        most = r.stake_of(slot.protocol_fees * r.emission_cap_bps // 10_000)
        amount = min(account.emission * slot.weight // account.total_weight, most)
        if not n.pool.active.shares:
            amount = 0
        if amount:
            n.pool.roll(self.now)
            n.pool.emission.book(amount, n.pool.commission_bps, n.pool.active.shares)
        account.distributed += amount
        account.served += 1
        self.committed -= amount
        self.distributed += amount
        self.emission_vault -= amount
        if account.served == account.registered:
            self.end_epoch(epoch)
