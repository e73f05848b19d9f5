"""The program's rules in exact integers, written from program.md, to be held against the real program.

Several markets, renters, nodes, delegators and escrows. Nothing here imports the product: the arithmetic is written
again. Amounts are base units, times milliseconds of chain time. The model says what must be true after an accepted
step; `Refusal` is raised where the program must refuse. Keys are names.
"""

from dataclasses import dataclass, field, replace

from tests.program.model_rules import (
    ASSIGN,
    DAY,
    EXTEND,
    GRANT,
    HOUR,
    OPEN,
    Rules,
    due,
    fee,
    need,
)
from tests.program.model_stake import ACTIVE, Staking


@dataclass
class Wallet:
    vault: int = 0
    locked: int = 0
    compensation_owed: int = 0


@dataclass
class Allowance:
    """Revoked with caps of zero."""

    escrow_cap: int = 0
    day_cap: int = 0
    total_cap: int = 0
    max_price: int = 0
    expires_at: int = 0
    day: int = 0
    day_used: int = 0
    total_used: int = 0

    def require_live(self, now):
        need(self.total_cap, "AllowanceRevoked")
        need(now < self.expires_at, "AllowanceExpired")

    def roll(self, now):
        if self.day != now // DAY:
            self.day, self.day_used = now // DAY, 0

    def use_up(self, amount, now):
        self.roll(now)
        need(self.day_used + amount <= self.day_cap, "DayCapExceeded")
        need(self.total_used + amount <= self.total_cap, "TotalCapExceeded")
        self.day_used += amount
        self.total_used += amount

    def give_back(self, amount, opened_day, now):
        self.roll(now)
        self.total_used -= amount
        if opened_day == self.day:
            self.day_used -= amount


@dataclass
class Market:
    matcher: str
    meter: str
    fee_bps: int
    pending_bps: int = 0
    pending_at: int = 0
    owed: int = 0
    protocol: int = 0
    given: int = 0

    def fee_at(self, now):
        return self.pending_bps if self.pending_at and now >= self.pending_at else self.fee_bps


@dataclass
class Attempt:
    number: int = 0
    node: str = ""
    price: int = 0
    meter: str = ""
    protocol_bps: int = 0
    fee_bps: int = 0
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
    by_quit: bool = False
    can_be_loss: bool = False
    overclaim: bool = False
    loss: bool = False
    compensation: int = 0

    @property
    def outcome(self):
        if self.loss or self.overclaim:
            return "lost"
        return "quit" if self.by_quit else "well"


@dataclass
class Escrow:
    wallet: str
    market: str
    allowed: bool
    """Opened by the market under the wallet's allowance."""
    hardware: str | None
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


class Model(Staking):
    """The whole deployment."""

    def __init__(self, rules, now, *, epoch_ms, epoch_start, scheduled):
        super().__init__()
        self.rules: Rules = rules
        self.now = now
        self.epoch_ms, self.epoch_start, self.scheduled = epoch_ms, epoch_start, scheduled
        self.paused = 0
        self.admin, self.candidate = "admin", None
        self.stake: dict[str, int] = {}
        self.payment: dict[str, int] = {"protocol": 0}
        self.wallets: dict[str, Wallet] = {}
        self.allowances: dict[tuple[str, str], Allowance] = {}
        self.markets: dict[str, Market] = {}
        self.escrows: dict[int, Escrow] = {}
        self.compensation_vault = 0

    # administration

    def set_params(self, signer, changes):
        need(signer == self.admin, "NotAdmin")
        self.rules = replace(self.rules, **changes)

    def set_class(self, signer, name, minimum_bond, *, enabled):
        need(signer == self.admin, "NotAdmin")
        self.classes[name].minimum_bond, self.classes[name].enabled = minimum_bond, enabled

    def set_pause(self, signer, bits):
        need(signer == self.admin, "NotAdmin")
        need(bits < 128, "ParameterOutOfBounds")
        self.paused = bits

    def propose_admin(self, signer, candidate):
        need(signer == self.admin, "NotAdmin")
        self.candidate = candidate

    def accept_admin(self, signer):
        need(signer == self.candidate, "NotAdmin")
        self.admin, self.candidate = signer, None

    # markets

    def set_fee(self, name, bps):
        m = self.markets[name]
        need(bps <= self.rules.max_market_bps, "FeeTooHigh")
        m.fee_bps = m.fee_at(self.now)
        m.pending_bps, m.pending_at = bps, self.now + self.rules.fee_delay

    def rotate(self, name, matcher, meter):
        need(matcher != meter, "KeysEqual")
        self.markets[name].matcher, self.markets[name].meter = matcher, meter

    def withdraw_fees(self, name):
        m = self.markets[name]
        need(m.owed, "NothingOwed")
        self.payment[name] += m.owed
        m.owed = 0

    def sweep(self, name):
        m = self.markets[name]
        need(m.protocol, "NothingOwed")
        self.payment["protocol"] += m.protocol
        m.protocol = 0

    # renters

    def deposit(self, wallet, amount):
        need(amount, "AmountZero")
        need(amount <= self.payment[wallet], "Custom(1)")
        self.payment[wallet] -= amount
        self.wallets[wallet].vault += amount

    def withdraw(self, wallet, amount):
        w = self.wallets[wallet]
        need(amount, "AmountZero")
        need(amount <= w.vault - w.locked, "InsufficientFunds")
        w.vault -= amount
        self.payment[wallet] += amount

    def claim_compensation(self, wallet):
        w = self.wallets[wallet]
        need(w.compensation_owed, "NothingOwed")
        self.stake[wallet] += w.compensation_owed
        self.compensation_vault -= w.compensation_owed
        w.compensation_owed = 0

    def grant(self, wallet, market, escrow_cap, day_cap, total_cap, expires_at):
        """Replaces the caps; what was used stays used."""
        need(not self.paused & GRANT, "Paused")
        need(min(escrow_cap, day_cap, total_cap) and self.now < expires_at, "AllowanceTerms")
        a = self.allowances.setdefault((wallet, market), Allowance())
        a.escrow_cap, a.day_cap, a.total_cap, a.max_price = escrow_cap, day_cap, total_cap, 10**9
        a.expires_at = expires_at

    def revoke(self, wallet, market):
        a = self.allowances[wallet, market]
        a.escrow_cap = a.day_cap = a.total_cap = a.max_price = 0

    # escrows

    def allowance(self, e):
        return self.allowances[e.wallet, e.market] if e.allowed else None

    def open(self, number, signer, wallet, market, terms, *, allowed):
        w = self.wallets[wallet]
        need(not self.paused & OPEN, "Paused")
        need(terms.deposit >= self.rules.minimum_deposit, "DepositTooSmall")
        need(w.vault - w.locked >= terms.deposit, "InsufficientFunds")
        if allowed:
            a = self.allowances[wallet, market]
            need(signer == self.markets[market].matcher, "NotMatcher")
            a.require_live(self.now)
            need(terms.deposit <= a.escrow_cap, "EscrowCapExceeded")
            need(terms.price <= a.max_price, "PriceAboveAllowance")
            a.use_up(terms.deposit, self.now)
        w.locked += terms.deposit
        self.escrows[number] = Escrow(
            wallet=wallet,
            market=market,
            allowed=allowed,
            hardware=terms.hardware,
            price=terms.price,
            deposit=terms.deposit,
            max_ms=terms.max_ms,
            attempts_allowed=terms.attempts,
            opened=self.now,
            assign_by=self.now + self.rules.queue_limit,
        )

    def extend(self, number, signer, added, added_ms):
        e = self.escrows[number]
        need(not self.paused & EXTEND, "Paused")
        need(added or added_ms, "AmountZero")
        need(signer == (self.markets[e.market].matcher if e.allowed else e.wallet), "NotOpener")
        need(e.state != "closing", "EscrowIsClosing")
        need(not e.stop_at, "EscrowIsStopping")
        e.deposit += added
        e.max_ms += added_ms
        w, a = self.wallets[e.wallet], self.allowance(e)
        need(w.vault - w.locked >= added, "InsufficientFunds")
        w.locked += added
        if a is not None:
            a.require_live(self.now)
            need(e.deposit <= a.escrow_cap, "EscrowCapExceeded")
            a.use_up(added, self.now)
        if e.state == "assigned":
            n = self.nodes[e.attempt.node]
            n.exposure += added
            e.attempt.exposure += added
            need(not added or n.exposure <= self.rules.exposure_limit(n.pool.active.stake), "ExposureExceeded")

    def cancel(self, number, signer):
        e = self.escrows[number]
        need(signer in {e.wallet, self.markets[e.market].matcher}, "NotOpener")
        need(e.state != "closing", "EscrowIsClosing")
        if e.state == "open":
            self.close(e)
        else:
            need(not e.stop_at, "StopAlreadySet")
            e.stop_at = self.now + self.rules.stop_after

    # attempts

    def assign(self, number, signer, node, price, at, *, forged=False):
        """By a claim for all that is left, dated `at`; forged: signed by another key than the node's."""
        e, n, r = self.escrows[number], self.nodes[node], self.rules
        market, allowance = self.markets[e.market], self.allowance(e)
        need(not self.paused & ASSIGN, "Paused")
        need(signer == market.matcher, "NotMatcher")
        need(e.state != "closing", "EscrowIsClosing")
        need(e.state == "open", "EscrowNotOpen")
        need(not e.stop_at, "EscrowIsStopping")
        need(self.now <= e.assign_by, "AssignWindowPassed")
        need(e.attempt.number < e.attempts_allowed, "AttemptsExhausted")
        if allowance is not None:
            allowance.require_live(self.now)
            need(price <= allowance.max_price, "PriceAboveAllowance")
        need(at <= self.now + r.skew, "ClaimFromFuture")
        need(self.now <= at + r.claim_limit, "ClaimStale")
        need(price <= e.price, "PriceAboveCeiling")
        need(e.left, "NothingLeft")
        need(n.status == ACTIVE, "NodeNotActive")
        need(n.market == e.market, "NodeElsewhere")
        need(e.hardware in {None, n.hardware}, "ClassMismatch")
        need(self.classes[n.hardware].enabled, "ClassDisabled")
        need(not n.pool.active.is_dead, "PoolDead")
        need(n.pool.bond >= self.classes[n.hardware].minimum_bond + n.held, "BondTooSmall")
        taken = n.slot(self.epoch).compensated
        need(not taken or r.room(n.pool.bond, taken) > 0, "SlashCapReached")
        need(n.exposure + e.left <= r.exposure_limit(n.pool.active.stake), "ExposureExceeded")
        need(not forged, "ApprovalWrongKey")
        e.attempt = Attempt(
            number=e.attempt.number + 1,
            node=node,
            price=price,
            meter=market.meter,
            protocol_bps=r.protocol_bps,
            fee_bps=market.fee_at(self.now) + r.protocol_bps,
            assigned=self.now,
            last_at=self.now,
            metered_at=self.now,
            exposure=e.left,
        )
        e.state = "assigned"
        n.exposure += e.left
        n.attempts += 1

    def voucher(self, e, attempt, shown, *, latest, time_left):
        """Accepts one voucher into an attempt, and pays it. Its sequence is always the next."""
        r, (at, started, billed, counter) = self.rules, shown
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
        need(counter in {attempt.meter, e.wallet}, "ApprovalWrongKey")
        self.pay(e, attempt, attempt.amount, amount)
        attempt.sequence += 1
        attempt.started, attempt.last_at, attempt.billed, attempt.amount = started, at, billed, amount
        attempt.exposure -= paying
        if counter == attempt.meter:
            attempt.metered_at, attempt.metered = at, amount

    def pay(self, e, attempt, before, after):
        w, n, m = self.wallets[e.wallet], self.nodes[attempt.node], self.markets[e.market]
        paying = after - before
        protocol = fee(after, attempt.protocol_bps) - fee(before, attempt.protocol_bps)
        fees = max(0, fee(after, attempt.fee_bps) - fee(before, attempt.fee_bps) - protocol)
        stakers = n.pool.book_fees(fees * self.rules.node_share_bps // 10_000, self.now)
        if n.operator in self.frozen:
            n.owed += paying - protocol - fees
        else:
            self.payment[n.operator] += paying - protocol - fees
        m.owed += fees - stakers
        m.protocol += protocol
        w.vault -= paying
        w.locked -= paying
        e.paid += paying
        n.exposure -= paying

    def latest(self):
        return self.now + self.rules.skew, "VoucherFromFuture"

    def settle(self, number, state, shown):
        """Of the running attempt."""
        e = self.escrows[number]
        n = self.nodes[e.attempt.node]
        self.voucher(e, e.attempt, shown, latest=self.latest(), time_left=e.max_ms - e.ended_ms)
        if state == "running":
            return
        n.exposure -= e.attempt.exposure
        n.attempts -= 1
        e.attempt.exposure = 0
        n.book(e.attempt.metered, e.attempt.protocol_bps, "well", self.epoch)
        self.reopen(e)
        if state == "final" or e.stop_at:
            self.close(e)

    def settle_ended(self, number, state, shown):
        """Of the last attempt, which has ended: a final voucher closes the escrow."""
        e = self.escrows[number]
        need(e.state != "closing", "EscrowIsClosing")
        need(state == "final", "EscrowNotAssigned")
        need(shown[2] == e.attempt.billed, "FinalAmountChanged")
        self.voucher(e, e.attempt, shown, latest=self.latest(), time_left=e.attempt.billed)
        self.close(e)

    def settle_contested(self, number, state, shown):
        """Of the contested attempt: as a contest, and a final one closes an escrow that runs no other."""
        e = self.escrows[number]
        need(e.state != "closing", "EscrowIsClosing")
        closes = e.state == "open" and state == "final"
        self.contest(number, shown)
        if closes:
            self.close(e)

    def reopen(self, e):
        e.ended_ms += e.attempt.billed
        e.state = "open"
        e.assign_by = self.now + self.rules.queue_limit

    def close(self, e):
        self.unlock(e, e.left)
        e.state = "closing" if e.contest else "closed"

    def unlock(self, e, amount):
        self.wallets[e.wallet].locked -= amount
        if e.allowed:
            self.allowance(e).give_back(amount, e.opened // DAY, self.now)

    def one_sided(self, e, **how):
        """Ends the running attempt and opens its contest."""
        a = e.attempt
        need(e.contest is None, "ContestBusy")
        silence = self.now - max(a.last_at, a.assigned)
        reserve = min(-(-a.price * (max(0, silence) + self.rules.skew) // HOUR), a.exposure)
        self.nodes[a.node].exposure -= a.exposure - reserve
        a.exposure = reserve
        self.reopen(e)
        e.contest = Contest(a, self.now, **how)
        e.attempt = replace(a, exposure=0)

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
            wanted = r.stake_of(c.attempt.amount * r.compensation_bps // 10_000)
            free = max(0, n.pool.bond - n.held)
            c.compensation = min(wanted, free, r.room(n.pool.bond, n.slot(self.epoch).compensated))
        n.held += c.compensation

    def running(self, number):
        e = self.escrows[number]
        need(e.state != "closing", "EscrowIsClosing")
        need(e.state == "assigned", "EscrowNotAssigned")
        return e

    def show(self, e, shown):
        if shown is not None:
            self.voucher(e, e.attempt, shown, latest=self.latest(), time_left=e.max_ms - e.ended_ms)

    def end_and_decide(self, e, **how):
        self.one_sided(e, **how)
        self.decide(e)
        if e.stop_at:
            self.close(e)

    def release(self, number, signer, shown):
        """shown: (at, started, billed, countersigner) of a voucher, or None."""
        e = self.running(number)
        need(signer in {e.attempt.meter, self.markets[e.market].meter}, "NotReleaser")
        self.show(e, shown)
        need(shown is None or shown[3] == e.attempt.meter, "CountersignerNotMeter")
        silent = max(e.attempt.last_at, e.attempt.assigned)
        need(self.now >= silent + self.rules.lost_after, "ReleaseTooEarly")
        self.end_and_decide(e, can_be_loss=True)

    def release_by_matcher(self, number, signer):
        e = self.running(number)
        need(signer == self.markets[e.market].matcher, "NotReleaser")
        need(e.attempt.sequence == 0, "AlreadyPaid")
        self.end_and_decide(e)

    def quit(self, number, shown):
        e = self.running(number)
        self.show(e, shown)
        self.end_and_decide(e, by_quit=True, can_be_loss=True)

    def prove_overclaim(self, number, billed):
        e = self.running(number)
        need(billed > 2 * (self.now - e.attempt.assigned) + self.rules.contest, "NoOverclaim")
        node = self.nodes[e.attempt.node]
        self.one_sided(e, overclaim=True)
        if e.stop_at:
            self.close(e)
        self.slash(node)

    def contest(self, number, shown):
        e = self.escrows[number]
        need(e.contest is not None, "NoContest")
        c = e.contest
        need(self.now <= c.released + self.rules.contest, "ContestWindowPassed")
        self.voucher(e, c.attempt, shown, latest=(c.released, "VoucherAfterRelease"), time_left=None)
        need(shown[3] == c.attempt.meter, "CountersignerNotMeter")
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
        taken = self.compensate(n, c.compensation)
        self.compensation_vault += taken
        self.wallets[e.wallet].compensation_owed += taken
        n.book(c.attempt.metered, c.attempt.protocol_bps, c.outcome, self.epoch)
        if e.state == "closing":
            self.unlock(e, c.attempt.exposure)
            e.state = "closed"
        elif e.attempt.number == c.attempt.number:
            e.attempt = replace(c.attempt, exposure=0)
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
        self.one_sided(e)
        self.close(e)

    # what must always hold

    def check(self):
        for name, w in self.wallets.items():
            mine = [e for e in self.escrows.values() if e.wallet == name]
            open_part = sum(e.deposit - e.paid for e in mine if e.state in {"open", "assigned"})
            reserved = sum(e.reserve for e in mine if e.state == "closing")
            assert w.locked == open_part + reserved, name
            assert 0 <= w.locked <= w.vault, name
            assert w.compensation_owed >= 0, name
        for (wallet, market), a in self.allowances.items():
            mine = [e for e in self.escrows.values() if e.allowed and (e.wallet, e.market) == (wallet, market)]
            alive = sum(e.deposit - e.paid for e in mine if e.state in {"open", "assigned"})
            reserved = sum(e.reserve for e in mine if e.state == "closing")
            assert a.total_used == alive + reserved + sum(e.paid for e in mine), (wallet, market)
            assert 0 <= a.day_used <= a.total_used
        for name, n in self.nodes.items():
            running = sum(
                e.attempt.exposure for e in self.escrows.values() if e.state == "assigned" and e.attempt.node == name
            )
            contested = sum(e.reserve for e in self.escrows.values() if e.contest and e.contest.attempt.node == name)
            assert n.exposure == running + contested, name
            assert min(n.held, n.owed, n.exposure, n.attempts) >= 0, name
            n.pool.check(n.owed)
        assert all(e.left >= 0 for e in self.escrows.values() if e.state != "closed")
        assert sum(w.compensation_owed for w in self.wallets.values()) == self.compensation_vault
        waiting = sum(e.emission - e.distributed for e in self.epochs.values() if e.closed)
        assert 0 <= waiting == self.committed <= self.emission_vault
        balances = (*self.payment.values(), *self.stake.values())
        assert min(balances) >= 0
        assert all(min(m.owed, m.protocol) >= 0 for m in self.markets.values())
