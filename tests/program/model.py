"""The program's rules in exact integers, written from program.md, to be held against the real program.

One market, several renters, nodes and escrows. Nothing here imports the product: the arithmetic is written again.
Amounts are base units, times milliseconds of chain time. The model says what must be true after an accepted step;
`Refusal` is raised where the program must refuse.
"""

from dataclasses import dataclass, field

HOUR = 3_600_000
DAY = 24 * HOUR


class Refusal(Exception):
    """The rules say no. The argument is the name of the program's error."""


@dataclass(frozen=True)
class Rules:
    """The constants of one deployment."""

    protocol_bps: int
    fee_bps: int
    node_share_bps: int
    compensation_bps: int
    slash_cap_bps: int
    lost_after: int
    ready_limit: int
    skew: int
    contest: int
    reap_grace: int
    queue_limit: int
    stop_after: int
    minimum_deposit: int
    exposure_multiple: int
    minimum_bond: int
    epoch_ms: int
    epoch_start: int


def due(price, billed):
    return price * billed // HOUR


def fee(amount, bps):
    return -(-amount * bps // 10_000)


@dataclass
class Wallet:
    outside: int
    vault: int = 0
    locked: int = 0
    compensation_owed: int = 0
    compensation_received: int = 0


@dataclass
class Allowance:
    """Revoked with caps of zero."""

    escrow_cap: int
    day_cap: int
    total_cap: int
    max_price: int
    expires_at: int
    day: int = 0
    day_used: int = 0
    total_used: int = 0

    def roll(self, now):
        if self.day != now // DAY:
            self.day, self.day_used = now // DAY, 0

    def give_back(self, amount, opened_day, now):
        self.roll(now)
        self.total_used -= amount
        if opened_day == self.day:
            self.day_used -= amount


@dataclass
class Node:
    stake: int
    """All of it the operator's bond."""
    shares: int
    paid: int = 0
    stakers: int = 0
    fees: int = 0
    """Per share, in units of 2^-64."""
    rest: int = 0
    bonded: int = 0
    """Beyond the bond of the registration."""
    frozen: bool = False
    """The payout account takes nothing."""
    owed: int = 0
    exposure: int = 0
    attempts: int = 0
    held: int = 0
    well: int = 0
    lost: int = 0
    quits: int = 0
    compensated: dict[int, int] = field(default_factory=dict)

    def value(self, shares):
        """Worth of shares, with one virtual unit and share."""
        return shares * (self.stake + 1) // (self.shares + 1)

    def shares_for(self, stake):
        """Shares burned for a stake, rounded up."""
        return -(-(stake * (self.shares + 1)) // (self.stake + 1))

    @property
    def bond(self):
        return self.value(self.shares)


@dataclass
class Attempt:
    number: int = 0
    node: str = ""
    price: int = 0
    assigned: int = 0
    started: int = 0
    sequence: int = 0
    last_at: int = 0
    metered_at: int = 0
    billed: int = 0
    amount: int = 0
    metered: int = 0
    exposure: int = 0


@dataclass
class Contest:
    attempt: Attempt
    released: int
    by_quit: bool
    can_be_loss: bool
    loss: bool = False
    compensation: int = 0


@dataclass
class Escrow:
    wallet: str
    allowed: bool
    """Opened by the market under the wallet's allowance."""
    price: int
    deposit: int
    max_ms: int
    attempts_allowed: int
    opened: int
    assign_by: int
    state: str = "open"
    paid: int = 0
    ended_ms: int = 0
    stop_at: int = 0
    attempt: Attempt = field(default_factory=Attempt)
    contest: Contest | None = None

    @property
    def reserve(self):
        return self.contest.attempt.exposure if self.contest else 0

    @property
    def left(self):
        return self.deposit - self.paid - self.reserve


def need(holds, name):
    if not holds:
        raise Refusal(name)


class Model:
    """The whole deployment."""

    def __init__(self, rules, now):
        self.rules, self.now = rules, now
        self.wallets: dict[str, Wallet] = {}
        self.allowances: dict[str, Allowance] = {}
        self.nodes: dict[str, Node] = {}
        self.escrows: dict[int, Escrow] = {}
        self.market = self.protocol = 0

    # renters

    def deposit(self, wallet, amount):
        w = self.wallets[wallet]
        need(amount, "AmountZero")
        need(amount <= w.outside, "Custom(1)")
        w.outside -= amount
        w.vault += amount

    def withdraw(self, wallet, amount):
        w = self.wallets[wallet]
        need(amount, "AmountZero")
        need(amount <= w.vault - w.locked, "InsufficientFunds")
        w.vault -= amount
        w.outside += amount

    def claim_compensation(self, wallet):
        w = self.wallets[wallet]
        need(w.compensation_owed, "NothingOwed")
        w.compensation_received += w.compensation_owed
        w.compensation_owed = 0

    def grant(self, wallet, escrow_cap, day_cap, total_cap):
        """Replaces the caps; what was used stays used."""
        a = self.allowances[wallet]
        need(min(escrow_cap, day_cap, total_cap) and self.now < a.expires_at, "AllowanceTerms")
        a.escrow_cap, a.day_cap, a.total_cap, a.max_price = escrow_cap, day_cap, total_cap, 10**9

    def revoke(self, wallet):
        a = self.allowances[wallet]
        a.escrow_cap = a.day_cap = a.total_cap = a.max_price = 0

    def bond(self, node, amount):
        n = self.nodes[node]
        need(amount, "AmountZero")
        minted = amount * (n.shares + 1) // (n.stake + 1)
        need(minted, "AmountZero")
        n.shares += minted
        n.stake += amount
        n.bonded += amount

    def withdraw_owed(self, node):
        n = self.nodes[node]
        need(n.owed, "NothingOwed")
        n.paid += n.owed
        n.owed = 0

    def open(self, number, wallet, price, deposit, max_ms, attempts, *, allowed):
        w = self.wallets[wallet]
        need(deposit >= self.rules.minimum_deposit, "DepositTooSmall")
        need(w.vault - w.locked >= deposit, "InsufficientFunds")
        if allowed:
            a = self.allowances[wallet]
            need(a.total_cap, "AllowanceRevoked")
            need(self.now < a.expires_at, "AllowanceExpired")
            need(deposit <= a.escrow_cap, "EscrowCapExceeded")
            need(price <= a.max_price, "PriceAboveAllowance")
            today = a.day_used if a.day == self.now // DAY else 0
            need(today + deposit <= a.day_cap, "DayCapExceeded")
            need(a.total_used + deposit <= a.total_cap, "TotalCapExceeded")
            a.roll(self.now)
            a.day_used += deposit
            a.total_used += deposit
        w.locked += deposit
        self.escrows[number] = Escrow(
            wallet, allowed, price, deposit, max_ms, attempts, self.now, self.now + self.rules.queue_limit
        )

    def cancel(self, number):
        e = self.escrows[number]
        need(e.state != "closing", "EscrowIsClosing")
        if e.state == "open":
            self.close(e)
        else:
            need(not e.stop_at, "StopAlreadySet")
            e.stop_at = self.now + self.rules.stop_after

    # attempts

    def assign(self, number, node, price):
        e, n, r = self.escrows[number], self.nodes[node], self.rules
        need(e.state != "closing", "EscrowIsClosing")
        need(e.state == "open", "EscrowNotOpen")
        need(not e.stop_at, "EscrowIsStopping")
        need(self.now <= e.assign_by, "AssignWindowPassed")
        need(e.attempt.number < e.attempts_allowed, "AttemptsExhausted")
        if e.allowed:
            a = self.allowances[e.wallet]
            need(a.total_cap, "AllowanceRevoked")
            need(self.now < a.expires_at, "AllowanceExpired")
            need(price <= a.max_price, "PriceAboveAllowance")
        need(price <= e.price, "PriceAboveCeiling")
        need(e.left, "NothingLeft")
        need(n.bond >= r.minimum_bond + n.held, "BondTooSmall")
        taken = n.compensated.get(self.epoch, 0)
        need(not taken or self.room(n) > 0, "SlashCapReached")
        need(n.exposure + e.left <= n.stake * r.exposure_multiple, "ExposureExceeded")
        e.attempt = Attempt(
            number=e.attempt.number + 1,
            node=node,
            price=price,
            assigned=self.now,
            last_at=self.now,
            metered_at=self.now,
            exposure=e.left,
        )
        e.state = "assigned"
        n.exposure += e.left
        n.attempts += 1

    def voucher(self, e, attempt, at, started, billed, *, latest, time_left, by_meter):
        """Accepts one voucher into an attempt, and pays it. sequence is always the next."""
        r = self.rules
        if attempt.sequence == 0:
            need(started >= attempt.assigned - r.skew, "StartTooEarly")
        else:
            need(started == attempt.started, "StartChanged")
            need(at >= attempt.last_at, "VoucherTimeFell")
        need(started <= at, "StartAfterVoucher")
        need(at <= latest[0], latest[1])
        need(billed >= attempt.billed, "BilledFell")
        need(billed <= max(0, (min(at, e.stop_at) if e.stop_at else at) - started), "BilledBeyondClock")
        if attempt.sequence:
            need(billed - attempt.billed <= at - attempt.last_at, "BilledTooFast")
        need(time_left is None or billed <= time_left, "BilledBeyondMaximum")
        amount = due(attempt.price, billed)
        paying = amount - attempt.amount
        need(paying <= attempt.exposure, "AmountBeyondReserve" if time_left is None else "AmountBeyondExposure")
        self.pay(e, attempt, attempt.amount, amount)
        attempt.sequence += 1
        attempt.started, attempt.last_at, attempt.billed, attempt.amount = started, at, billed, amount
        attempt.exposure -= paying
        if by_meter:
            attempt.metered_at, attempt.metered = at, amount

    def pay(self, e, attempt, before, after):
        r, w, n = self.rules, self.wallets[e.wallet], self.nodes[attempt.node]
        paying = after - before
        protocol = fee(after, r.protocol_bps) - fee(before, r.protocol_bps)
        fees = max(0, fee(after, r.fee_bps) - fee(before, r.fee_bps) - protocol)
        stakers = fees * r.node_share_bps // 10_000
        if n.frozen:
            n.owed += paying - protocol - fees
        else:
            n.paid += paying - protocol - fees
        n.stakers += stakers
        if stakers:
            growth, n.rest = divmod((stakers << 64) + n.rest, n.shares)
            n.fees += growth
        self.market += fees - stakers
        self.protocol += protocol
        w.vault -= paying
        w.locked -= paying
        e.paid += paying
        n.exposure -= paying

    def settle(self, number, state, at, started, billed, *, by_meter=True):
        e = self.escrows[number]
        need(e.state != "closing", "EscrowIsClosing")
        need(e.state == "assigned", "EscrowNotAssigned")
        n = self.nodes[e.attempt.node]
        latest = (self.now + self.rules.skew, "VoucherFromFuture")
        self.voucher(
            e, e.attempt, at, started, billed, latest=latest, time_left=e.max_ms - e.ended_ms, by_meter=by_meter
        )
        if state == "running":
            return
        n.exposure -= e.attempt.exposure
        n.attempts -= 1
        e.attempt.exposure = 0
        if e.attempt.metered:
            n.well += 1
        self.reopen(e)
        if state == "final" or e.stop_at:
            self.close(e)

    def reopen(self, e):
        e.ended_ms += e.attempt.billed
        e.state = "open"
        e.assign_by = self.now + self.rules.queue_limit

    def close(self, e):
        refund = e.left
        self.unlock(e, refund)
        e.state = "closing" if e.contest else "closed"

    def unlock(self, e, amount):
        self.wallets[e.wallet].locked -= amount
        if e.allowed:
            self.allowances[e.wallet].give_back(amount, e.opened // DAY, self.now)

    def end_one_sided(self, e, *, by_quit, can_be_loss):
        r, a = self.rules, e.attempt
        need(e.contest is None, "ContestBusy")
        silence = self.now - max(a.last_at, a.assigned)
        reserve = min(-(-a.price * (max(0, silence) + r.skew) // HOUR), a.exposure)
        self.nodes[a.node].exposure -= a.exposure - reserve
        a.exposure = reserve
        self.reopen(e)
        e.contest = Contest(a, self.now, by_quit, can_be_loss)
        ended = Attempt(**{**vars(a), "exposure": 0})
        e.attempt = ended

    @property
    def epoch(self):
        return (self.now - self.rules.epoch_start) // self.rules.epoch_ms

    def room(self, n):
        taken = n.compensated.get(self.epoch, 0)
        return max(0, (n.bond + taken) * self.rules.slash_cap_bps // 10_000 - taken)

    def decide(self, e):
        r, c = self.rules, e.contest
        n = self.nodes[c.attempt.node]
        if c.by_quit:
            late = c.released < c.attempt.metered_at + 3 * r.lost_after
        else:
            late = c.released >= c.attempt.metered_at + r.lost_after
        c.loss = c.can_be_loss and late
        n.held -= c.compensation
        c.compensation = 0
        if c.loss:
            wanted = c.attempt.amount * r.compensation_bps // 10_000
            c.compensation = min(wanted, max(0, n.bond - n.held), self.room(n))
        n.held += c.compensation

    def release(self, number, shown):
        """shown: (at, started, billed) of a voucher by the meter, or None."""
        e = self.escrows[number]
        need(e.state != "closing", "EscrowIsClosing")
        need(e.state == "assigned", "EscrowNotAssigned")
        self.show(e, shown)
        silent = max(e.attempt.last_at, e.attempt.assigned)
        need(self.now >= silent + self.rules.lost_after, "ReleaseTooEarly")
        self.one_sided(e, by_quit=False, can_be_loss=True)

    def release_by_matcher(self, number):
        e = self.escrows[number]
        need(e.state != "closing", "EscrowIsClosing")
        need(e.state == "assigned", "EscrowNotAssigned")
        need(e.attempt.sequence == 0, "AlreadyPaid")
        self.one_sided(e, by_quit=False, can_be_loss=False)

    def quit(self, number, shown):
        e = self.escrows[number]
        need(e.state != "closing", "EscrowIsClosing")
        need(e.state == "assigned", "EscrowNotAssigned")
        self.show(e, shown)
        self.one_sided(e, by_quit=True, can_be_loss=True)

    def show(self, e, shown):
        if shown is not None:
            latest = (self.now + self.rules.skew, "VoucherFromFuture")
            self.voucher(e, e.attempt, *shown, latest=latest, time_left=e.max_ms - e.ended_ms, by_meter=True)

    def one_sided(self, e, *, by_quit, can_be_loss):
        self.end_one_sided(e, by_quit=by_quit, can_be_loss=can_be_loss)
        self.decide(e)
        if e.stop_at:
            self.close(e)

    def contest(self, number, at, started, billed):
        e = self.escrows[number]
        need(e.contest is not None, "NoContest")
        c = e.contest
        need(self.now <= c.released + self.rules.contest, "ContestWindowPassed")
        latest = (c.released, "VoucherAfterRelease")
        self.voucher(e, c.attempt, at, started, billed, latest=latest, time_left=None, by_meter=True)
        self.decide(e)

    def close_contest(self, number):
        e = self.escrows[number]
        need(e.contest is not None, "NoContest")
        c = e.contest
        n = self.nodes[c.attempt.node]
        need(self.now > c.released + self.rules.contest, "ContestWindowOpen")
        n.exposure -= c.attempt.exposure
        n.attempts -= 1
        n.held -= c.compensation
        taken = min(c.compensation, n.bond, self.room(n))
        if taken:
            n.shares -= min(n.shares, n.shares_for(taken))
            n.stake -= taken
            n.compensated[self.epoch] = n.compensated.get(self.epoch, 0) + taken
            self.wallets[e.wallet].compensation_owed += taken
        if c.loss:
            n.lost += 1
        elif c.by_quit:
            n.quits += 1
        elif c.attempt.metered:
            n.well += 1
        if e.state == "closing":
            self.unlock(e, c.attempt.exposure)
            e.state = "closed"
        e.contest = None

    def reap(self, number):
        e = self.escrows[number]
        if e.state == "open":
            need(self.now > e.assign_by, "ReapTooEarly")
            self.close(e)
            return
        need(e.state == "assigned", "EscrowIsClosing")
        limit = e.attempt.assigned + self.rules.ready_limit + (e.max_ms - e.ended_ms)
        if e.stop_at:
            limit = min(limit, e.stop_at)
        need(self.now > limit + self.rules.reap_grace, "ReapTooEarly")
        self.end_one_sided(e, by_quit=False, can_be_loss=False)
        self.close(e)

    # what must always hold

    def check(self):
        for name, w in self.wallets.items():
            open_part = sum(
                e.deposit - e.paid
                for e in self.escrows.values()
                if e.wallet == name and e.state in {"open", "assigned"}
            )
            reserved = sum(e.reserve for e in self.escrows.values() if e.wallet == name and e.state == "closing")
            assert w.locked == open_part + reserved, name
            assert 0 <= w.locked <= w.vault, name
        for name, n in self.nodes.items():
            running = sum(
                e.attempt.exposure for e in self.escrows.values() if e.state == "assigned" and e.attempt.node == name
            )
            contested = sum(e.reserve for e in self.escrows.values() if e.contest and e.contest.attempt.node == name)
            assert n.exposure == running + contested, name
            assert 0 <= n.held <= n.bond, name
            assert min(n.stake, n.shares, n.exposure, n.attempts) >= 0, name
        for e in self.escrows.values():
            assert e.left >= 0 or e.state == "closed"
