"""What a wallet does with its stake: unsigned, simulated transactions with their effect in words and numbers.

Source: api.md section 5.6. What can't work is refused before anything is built, each refusal with its own error.
`all` takes as many as fit one transaction and says what is left for the next.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from solders.pubkey import Pubkey

from marketplace.chain.accounts import NodeStatus, Pause
from marketplace.chain.addresses import parse_address
from marketplace.chain.errors import NotCanonical
from marketplace.chain.transactions import CreateTokenAccount, Step
from marketplace.domain.instants import instant_text
from marketplace.domain.money import format_amount
from marketplace.domain.quantities import BPS_SCALE, MAX_U128, Bps, Millis, Shares, Stake
from marketplace.domain.staking import Bucket
from marketplace.errors import (
    CommissionStep,
    DetailCode,
    InsufficientFunds,
    InsufficientStake,
    Invalid,
    NotFound,
    NothingToClaim,
    PoolDead,
    TransactionRejected,
)
from marketplace.services.chain_link import ChainLink
from marketplace.services.idempotency import KeyInUse
from marketplace.services.principals import AccountPrincipal
from marketplace.services.stake import StakeService
from marketplace.services.stake_accounts import Acting, Holding, OpenTicket, WalletTokens
from marketplace.services.stake_effects import ActedOn, Change, Effects, PreparedStake, details_text
from marketplace.services.stake_refusals import (
    locked,
    operators_own,
    paused,
    refusal,
    retired,
    too_little_for_a_share,
)
from marketplace.services.transactions import TransactionService
from marketplace.services.vaults import parse_positive_amount

_SHARES_DIGITS: Final = 39
"""Decimal digits of 2^128."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asks, under which key."""

    caller: AccountPrincipal
    key: KeyInUse

    @property
    def wallet(self) -> Pubkey:
        return Pubkey.from_string(self.caller.wallet)


@dataclass(frozen=True, slots=True)
class UnbondWanted:
    """Exactly one of the three. amount: decimal text in stake tokens; shares: decimal digits."""

    amount: str | None = None
    shares: str | None = None
    everything: bool = False


@dataclass(frozen=True, slots=True)
class _Plan:
    """A transaction to be built."""

    kind: str
    steps: tuple[Step, ...]
    summary: str
    effects: Effects
    items: tuple[ActedOn, ...]
    remaining: tuple[ActedOn, ...] = ()


class StakeActions:
    """Prepares; the wallet signs."""

    def __init__(
        self, stake: StakeService, link: ChainLink, transactions: TransactionService, now: Callable[[], Millis]
    ) -> None:
        """now: chain time."""
        self._stake = stake
        self._link = link
        self._transactions = transactions
        self._now = now

    async def delegate(self, asked: Asked, node: str, amount: str, mint: str | None) -> PreparedStake:
        """Stake on a node. mint: the token that the caller believes to stake; another one is refused.

        Raises Invalid, NotFound, Conflict, PoolDead, InsufficientFunds, TransactionRejected, ChainUnavailable.
        """
        if (earlier := await self._earlier(asked)) is not None:
            return earlier
        ours = str(self._link.facts.deployment.stake_mint)
        if mint is not None and mint != ours:
            raise Invalid.field("mint", DetailCode.NOT_ALLOWED, "is not the stake token's mint", allowed=(ours,))
        stake = Stake(parse_positive_amount("amount", amount, self._decimals))
        found = await self._stake.acting(asked.wallet, node)
        holding, state = found.holding, found.holding.state
        if state.retired:
            raise retired()
        if state.node.operator == asked.wallet:
            raise operators_own()
        if state.active.is_dead:
            raise PoolDead
        if Pause(self._link.facts.config.paused) & Pause.DELEGATE:
            raise paused()
        if stake > found.tokens.stake:
            raise self._short_of_stake(stake, found.tokens)
        shares = state.active.shares_for_floor(stake)
        if shares == 0:
            raise too_little_for_a_share()
        after = Bucket(Stake(state.active.stake + stake), Shares(state.active.shares + shares))
        own = Shares(holding.shares + shares)
        return await self._build(
            asked,
            _Plan(
                kind="stake.delegate",
                steps=(self._link.calls.delegate(asked.wallet, state.node_address, stake),),
                summary=f"stakes {self._text(stake)} on {self._name(holding)}; it earns from now on, can be slashed "
                "if the node over-claims, and leaves only after the unbonding time",
                effects=Effects(
                    wallet_stake=Change(found.tokens.stake, found.tokens.stake - stake),
                    shares=Change(holding.shares, own),
                    staked=Change(holding.staked, after.stake_for_floor(own)),
                    pool_stake=Change(state.active.stake, after.stake),
                ),
                items=(self._item(holding, shares=str(shares)),),
            ),
        )

    async def claim(self, asked: Asked, node: str | None) -> PreparedStake:
        """Pay out rewards of one node, or (None) of all that have any. Raises NotFound, NothingToClaim, …"""
        if (earlier := await self._earlier(asked)) is not None:
            return earlier
        accounts = self._stake.accounts
        if node is not None:
            found = await self._stake.acting(asked.wallet, node)
            waiting, tokens = [found.holding], found.tokens
        else:
            waiting, tokens = await self._stake.holdings(asked.caller.wallet), await accounts.tokens(asked.wallet)
        owed = [holding for holding in waiting if holding.pending_payment or holding.pending_stake]
        if not owed:
            raise NothingToClaim(
                "no rewards wait for this wallet there; they come with settled jobs and distributed epochs"
            )
        calls = [self._link.calls.claim(asked.wallet, holding.state.address) for holding in owed]
        first = self._token_accounts(
            asked.wallet, tokens,
            payment=any(h.pending_payment for h in owed), stake=any(h.pending_stake for h in owed),
        )  # fmt: skip
        fitting = self._link.assembler.how_many_fit(first, calls, asked.wallet)
        taken = owed[:fitting]
        payment = sum(holding.pending_payment for holding in taken)
        stake = sum(holding.pending_stake for holding in taken)
        words = " and ".join(
            text for text, paid in ((self._payment_text(payment), payment), (self._text(stake), stake)) if paid
        )
        return await self._build(
            asked,
            _Plan(
                kind="stake.claim",
                steps=(*first, *calls[:fitting]),
                summary=f"pays out {words} of rewards of {self._names(taken)} to the wallet"
                + self._left_text(len(owed) - fitting, "node"),
                effects=Effects(
                    wallet_payment=Change(tokens.payment, tokens.payment + payment) if payment else None,
                    wallet_stake=Change(tokens.stake, tokens.stake + stake) if stake else None,
                    pending_payment=Change(
                        sum(h.pending_payment for h in owed), sum(h.pending_payment for h in owed) - payment
                    ),
                    pending_stake=Change(
                        sum(h.pending_stake for h in owed), sum(h.pending_stake for h in owed) - stake
                    ),
                ),
                items=tuple(self._item(holding) for holding in taken),
                remaining=tuple(self._item(holding) for holding in owed[fitting:]),
            ),
        )

    async def unbond(self, asked: Asked, node: str, wanted: UnbondWanted) -> PreparedStake:
        """Take stake out of a pool, as a ticket. Raises Invalid, NotFound, Conflict, InsufficientStake, …"""
        if (earlier := await self._earlier(asked)) is not None:
            return earlier
        found = await self._stake.acting(asked.wallet, node)
        holding, state, position = found.holding, found.holding.state, found.holding.position
        amount = None
        if wanted.amount is not None:
            amount = Stake(parse_positive_amount("amount", wanted.amount, self._decimals))
        asked_shares = None if wanted.shares is None else _parse_shares(wanted.shares)
        if state.node.operator == asked.wallet:
            raise operators_own()
        if position is None or not holding.shares:
            raise self._nothing_staked(found)
        shares = holding.shares
        if amount is not None:
            shares = state.active.shares_for_ceil(amount)
        elif asked_shares is not None:
            shares = asked_shares
        if shares > holding.shares:
            raise InsufficientStake(
                f"the wallet has {self._text(holding.staked)} in {holding.shares} shares staked on "
                f"{self._name(holding)}, less than asked for; nothing was changed",
                extra={"staked": format_amount(holding.staked, self._decimals), "shares": str(holding.shares)},
            )
        leaves = state.active.stake_for_floor(shares)
        active = Bucket(Stake(state.active.stake - leaves), Shares(state.active.shares - shares))
        waiting = state.unbonding
        ticket_shares = waiting.shares_for_floor(leaves)
        after = Bucket(Stake(waiting.stake + leaves), Shares(waiting.shares + ticket_shares))
        unlock_at = self._now() + self._link.facts.config.params.unbonding
        ticket = self._link.calls.addresses.ticket(
            self._link.calls.addresses.position(state.address, asked.wallet), position.next_ticket
        )
        return await self._build(
            asked,
            _Plan(
                kind="stake.unbond",
                steps=(self._link.calls.unbond(asked.wallet, state.address, shares, position.next_ticket),),
                summary=f"takes {self._text(leaves)} out of {self._name(holding)}; it earns nothing from now on, can "
                f"be slashed until it is withdrawn, and can be withdrawn after {instant_text(Millis(unlock_at))}",
                effects=Effects(
                    shares=Change(holding.shares, holding.shares - shares),
                    staked=Change(holding.staked, active.stake_for_floor(Shares(holding.shares - shares))),
                    unbonding=Change(0, after.stake_for_floor(ticket_shares)),
                    pool_stake=Change(state.active.stake, active.stake),
                    pool_unbonding=Change(waiting.stake, after.stake),
                    unlock_at=unlock_at,
                ),
                items=(
                    replace(self._item(holding, shares=str(shares)), ticket=str(ticket), index=position.next_ticket),
                ),
            ),
        )

    async def withdraw(self, asked: Asked, ticket: str | None) -> PreparedStake:
        """Pay out a ticket, or (None) all whose time has passed. Raises NotFound, TooEarly, NothingToClaim, …"""
        if (earlier := await self._earlier(asked)) is not None:
            return earlier
        now = self._now()
        held = await self._tickets(asked, ticket)
        ready = [(holding, entry) for holding, entry in held if entry.ready(now)]
        if not ready:
            if not held:
                raise NothingToClaim("this wallet has unbonded nothing that waits to be withdrawn")
            soonest = min(entry.account.unlock_at for _, entry in held)
            raise locked(instant_text(Millis(soonest)))
        tokens = await self._stake.accounts.tokens(asked.wallet)
        calls = [
            self._link.calls.withdraw_ticket(asked.wallet, holding.state.address, entry.account.index)
            for holding, entry in ready
        ]
        first = self._token_accounts(asked.wallet, tokens, payment=False, stake=True)
        fitting = self._link.assembler.how_many_fit(first, calls, asked.wallet)
        paid = _paid_in_order(ready[:fitting])
        everything = sum(holding.ticket_worth(entry) for holding, entry in held)
        pools = [holding for holding, _ in ready[:fitting]]
        one_pool = pools[0].state if len({holding.state.address for holding in pools}) == 1 else None
        return await self._build(
            asked,
            _Plan(
                kind="stake.withdraw",
                steps=(*first, *calls[:fitting]),
                summary=f"pays out {self._text(paid)} that was unbonded from {self._names(pools)}"
                + self._left_text(len(ready) - fitting, "ticket"),
                effects=Effects(
                    wallet_stake=Change(tokens.stake, tokens.stake + paid),
                    unbonding=Change(everything, max(0, everything - paid)),
                    pool_unbonding=None
                    if one_pool is None
                    else Change(one_pool.unbonding.stake, one_pool.unbonding.stake - paid),
                ),
                items=tuple(self._ticket_item(*entry) for entry in ready[:fitting]),
                remaining=tuple(self._ticket_item(*entry) for entry in ready[fitting:]),
            ),
        )

    async def distribute(self, asked: Asked, node: str, epoch: int) -> PreparedStake:
        """Draw a pool's part of an epoch's emission; anybody may, for anybody's pool.

        Raises NotFound, StaleEpoch, TooEarly, Conflict, ChainUnavailable.
        """
        if (earlier := await self._earlier(asked)) is not None:
            return earlier
        found = await self._stake.acting(asked.wallet, node)
        state = found.holding.state
        account = await self._stake.epoch_account(epoch)
        call = self._link.calls.distribute(asked.wallet, state.node_address, epoch, account.rent_payer)
        return await self._build(
            asked,
            _Plan(
                kind="stake.distribute",
                steps=(call,),
                summary=f"draws the part of {self._name(found.holding)} in the emission of epoch {epoch}, for all who "
                "have staked on it",
                effects=Effects(),
                items=(self._item(found.holding),),
            ),
        )

    async def set_commission(self, asked: Asked, node: str, commission_bps: int) -> PreparedStake:
        """Announce another commission, as the operator. Raises NotFound, Invalid, Conflict, CommissionStep, …"""
        if (earlier := await self._earlier(asked)) is not None:
            return earlier
        if (operator := self._stake.operator_of(node)) is not None and operator != asked.caller.wallet:
            raise NotFound("this wallet operates no such node")
        found = await self._stake.acting(asked.wallet, node)
        holding, state = found.holding, found.holding.state
        if state.node.operator != asked.wallet:
            raise NotFound("this wallet operates no such node")
        if commission_bps > BPS_SCALE:
            raise Invalid.field("commission_bps", DetailCode.OUT_OF_RANGE, "is more than everything (10000)")
        if state.node.status == NodeStatus.RETIRED:
            raise retired()
        params = self._link.facts.config.params
        now = self._now()
        current = state.commission(now)
        step = params.commission_step_bps
        if abs(commission_bps - current) > step:
            raise CommissionStep(
                f"the commission is {current} basis points and may change by at most {step} at a time; nothing was "
                "changed",
                extra={"commission_bps": current, "step_bps": step,
                       "allowed": [max(0, current - step), min(BPS_SCALE, current + step)]},
            )  # fmt: skip
        effective_at = now + params.commission_delay
        return await self._build(
            asked,
            _Plan(
                kind="node.commission",
                steps=(self._link.calls.set_commission(asked.wallet, state.node.node_key, commission_bps),),
                summary=f"announces a commission of {_percent(Bps(commission_bps))} (now {_percent(current)}) for "
                f"{self._name(holding)}, taken of rewards after {instant_text(Millis(effective_at))}",
                effects=Effects(commission_bps=Change(current, commission_bps), effective_at=effective_at),
                items=(self._item(holding),),
            ),
        )

    @property
    def _decimals(self) -> int:
        return self._stake.units.stake

    async def _earlier(self, asked: Asked) -> PreparedStake | None:
        """What this key was answered before, while it may land: what it moves is gone from the balances by then."""
        prepared = await self._transactions.find_prepared(asked.caller, asked.key)
        return None if prepared is None else PreparedStake.read(prepared)

    async def _build(self, asked: Asked, plan: _Plan) -> PreparedStake:
        details = details_text(plan.effects, plan.items, plan.remaining)
        try:
            prepared = await self._transactions.prepare(
                asked.caller, asked.key, plan.kind, plan.steps, plan.summary, details
            )
        except TransactionRejected as rejected:
            raise refusal(rejected) from rejected
        return PreparedStake.read(prepared)

    async def _tickets(self, asked: Asked, ticket: str | None) -> list[tuple[Holding, OpenTicket]]:
        """The named one, or all of the wallet's, soonest unlocked first. Raises NotFound."""
        if ticket is None:
            held = await self._stake.holdings(asked.caller.wallet)
            found = [(holding, entry) for holding in held for entry in holding.tickets]
            return sorted(found, key=lambda pair: (pair[1].account.unlock_at, pair[1].account.index))
        accounts = self._stake.accounts
        try:
            named = await accounts.find_ticket(parse_address(ticket))
        except NotCanonical as error:
            raise NotFound("no such ticket: name it by the address of its account") from error
        if named is None or named.account.owner != asked.wallet:
            raise NotFound("this wallet has no such ticket; a withdrawn one is gone")
        holdings = await accounts.holdings(asked.wallet, [named.account.pool])
        return [(holding, named) for holding in holdings]

    def _token_accounts(self, wallet: Pubkey, tokens: WalletTokens, *, payment: bool, stake: bool) -> list[Step]:
        """Creates the wallet's own accounts that are to be paid into and don't exist."""
        deployment = self._link.facts.deployment
        steps: list[Step] = []
        if payment and not tokens.has_payment:
            steps.append(CreateTokenAccount(payer=wallet, owner=wallet, mint=deployment.payment_mint))
        if stake and not tokens.has_stake:
            steps.append(CreateTokenAccount(payer=wallet, owner=wallet, mint=deployment.stake_mint))
        return steps

    def _short_of_stake(self, wanted: Stake, tokens: WalletTokens) -> InsufficientFunds:
        return InsufficientFunds(
            f"the wallet holds {self._text(tokens.stake)}, less than {self._text(wanted)}; nothing was moved",
            extra={
                "required": format_amount(wanted, self._decimals),
                "available": format_amount(tokens.stake, self._decimals),
                "wallet_balance": format_amount(tokens.stake, self._decimals),
                "shortfall": format_amount(wanted - tokens.stake, self._decimals),
                "currency": "stake",
                "missing": "stake_token",
            },
        )

    def _nothing_staked(self, found: Acting) -> InsufficientStake:
        position = found.holding.position
        waiting = 0 if position is None else position.tickets
        more = f"; {waiting} unbondings of it wait to be withdrawn" if waiting else ""
        return InsufficientStake(
            f"this wallet has nothing staked on {self._name(found.holding)}{more}. Nothing was changed",
            extra={"staked": format_amount(0, self._decimals), "shares": "0", "tickets": waiting},
        )

    def _item(self, holding: Holding, *, shares: str | None = None) -> ActedOn:
        state = holding.state
        return ActedOn(
            node_id=self._stake.node_id(state.node_address),
            node=str(state.node_address),
            pool=str(state.address),
            shares=shares,
        )

    def _ticket_item(self, holding: Holding, ticket: OpenTicket) -> ActedOn:
        item = self._item(holding, shares=str(ticket.account.shares))
        return replace(item, ticket=str(ticket.address), index=ticket.account.index)

    def _name(self, holding: Holding) -> str:
        node = holding.state.node_address
        return str(self._stake.node_id(node) or f"the node {node}")

    def _names(self, holdings: Sequence[Holding]) -> str:
        names = list(dict.fromkeys(self._name(holding) for holding in holdings))
        return names[0] if len(names) == 1 else f"{len(names)} nodes"

    def _left_text(self, left: int, noun: str) -> str:
        return f"; {left} more {noun}{'s' if left > 1 else ''} in the next transaction" if left else ""

    def _text(self, units: int) -> str:
        return f"{format_amount(units, self._decimals)} stake tokens"

    def _payment_text(self, units: int) -> str:
        known = self._stake.units
        return f"{format_amount(units, known.payment)} {known.currency}"


def _paid_in_order(tickets: Sequence[tuple[Holding, OpenTicket]]) -> int:
    """What withdrawing them one after the other pays: each changes its pool's bucket for the next."""
    buckets: dict[Pubkey, Bucket] = {}
    paid = 0
    for holding, ticket in tickets:
        bucket = buckets.get(holding.state.address, holding.state.unbonding)
        shares = Shares(ticket.account.shares)
        amount = bucket.stake_for_floor(shares)
        buckets[holding.state.address] = Bucket(Stake(bucket.stake - amount), Shares(bucket.shares - shares))
        paid += amount
    return paid


def _parse_shares(text: str) -> Shares:
    if not text.isascii() or not text.isdecimal() or len(text) > _SHARES_DIGITS:
        raise Invalid.field("shares", DetailCode.NOT_ALLOWED, "must be a whole number as text")
    shares = int(text)
    if not 0 < shares <= MAX_U128:
        raise Invalid.field("shares", DetailCode.OUT_OF_RANGE, "must be more than 0 and fit 128 bits")
    return Shares(shares)


def _percent(bps: Bps) -> str:
    return f"{bps // 100}.{bps % 100:02d} %"
