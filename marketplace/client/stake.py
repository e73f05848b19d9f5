"""A delegator's side of `/v1/stake`: looking, and acts that are checked before they are signed.

What the market says of nodes, shares and tickets is bound to what the caller named: a node's pool is derived here
from its account, shares are those asked for (or worth no more than the amount asked for), a withdrawal is of the
ticket that was named. Rewards and stake can go to the wallet's own token accounts only.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from marketplace.chain.addresses import parse_address
from marketplace.chain.errors import NotCanonical
from marketplace.client.calls import Calls, page, segment
from marketplace.client.errors import MalformedAnswer, TransactionRefused
from marketplace.client.models import Node
from marketplace.client.payments import Consent, Paid, Payments
from marketplace.client.stake_models import (
    ActedOn,
    Pools,
    Position,
    Positions,
    PreparedStake,
    SimulatedStake,
    StakeHistory,
)
from marketplace.client.terms import MarketOnChain
from marketplace.domain.money import format_amount, parse_amount

if TYPE_CHECKING:
    from solders.pubkey import Pubkey

    from marketplace.client.guard import CheckedTransaction, Guard
    from marketplace.client.stake_guard import TicketRef

_STAKE: Final = "/v1/stake"
_PRICE_MOVES: Final = 1_000
"""Chosen: one part in so many by which a pool's price may differ between looking and preparing."""


class StakeCalls:
    """One wallet's stake at one market. Amounts are base units of the stake token."""

    def __init__(self, calls: Calls, payments: Payments) -> None:
        self._calls = calls
        self._payments = payments

    # looking

    async def positions(self) -> Positions:
        """The wallet's positions with rewards and tickets."""
        return (await self._calls.get(f"{_STAKE}/positions")).read(Positions)

    async def pools(
        self, *, sort: str | None = None, epochs: int | None = None, limit: int | None = None, offset: int | None = None
    ) -> Pools:
        """Nodes to stake on. epochs: over how many of them past yield is counted."""
        given = {"sort": sort, "epochs": None if epochs is None else str(epochs)}
        params = {name: value for name, value in given.items() if value is not None}
        return (await self._calls.get(f"{_STAKE}/pools", params | page(limit, offset))).read(Pools)

    async def history(self, *, limit: int | None = None, offset: int | None = None) -> StakeHistory:
        """Own acts and rewards, newest first."""
        return (await self._calls.get(f"{_STAKE}/history", page(limit, offset))).read(StakeHistory)

    async def simulate(self, node: str, amount: int, epochs: int) -> SimulatedStake:
        """What this stake would have earned on the node in the last whole epochs."""
        body = {"node_id": segment(node), "amount": await self._text(amount), "epochs": epochs}
        return (await self._calls.send("POST", f"{_STAKE}/simulate", body)).read(SimulatedStake)

    async def units(self, amount: str) -> int:
        """Base units of an amount in whole stake tokens; raises MalformedAmount."""
        return parse_amount(amount, (await self._calls.market()).deployment.stake_decimals)

    # acting

    async def delegate(self, node: str, amount: int, consent: Consent | None = None) -> Paid:
        """Stake on a node. Raises TransactionRefused, Declined, ApiError."""
        account = await self._node_account(node)
        market = await self._calls.market()
        body = {"node_id": node, "amount": await self._text(amount), "mint": str(market.deployment.stake_mint)}
        return await self._act(
            "delegate", body, lambda guard, prepared: guard.delegate(prepared.transaction, account, amount), consent
        )

    async def claim(self, node: str | None, consent: Consent | None = None) -> Paid:
        """Pay out rewards of one node, None: of all, as many as fit one transaction."""
        wanted = None if node is None else await self._pool_of(node)
        body: dict[str, object] = {"all": True} if node is None else {"node_id": node}

        def check(guard: "Guard", prepared: PreparedStake) -> "CheckedTransaction":
            pools = [wanted] if wanted is not None else [_address(item.pool) for item in prepared.items]
            return guard.claim(prepared.transaction, pools)

        return await self._act("claim", body, check, consent)

    async def unbond(
        self, node: str, *, amount: int | None = None, shares: int | None = None, consent: Consent | None = None
    ) -> Paid:
        """Take stake out of a node's pool; without amount and shares all of it."""
        pool = await self._pool_of(node)
        held = await self._position(node)
        body: dict[str, object] = {"node_id": node}
        if amount is not None:
            body["amount"] = await self._text(amount)
        elif shares is not None:
            body["shares"] = str(shares)
        else:
            body["all"] = True
        stake = 0 if held is None else await self.units(held.stake)

        def check(guard: "Guard", prepared: PreparedStake) -> "CheckedTransaction":
            item = _only(prepared)
            if item.shares is None or item.index is None:
                raise MalformedAnswer("the market does not say which shares it unbonds, and as which ticket")
            if held is None:
                raise TransactionRefused("it unbonds shares of a node on which the wallet has none")
            if amount is not None:
                _require_worth(item.shares, amount, held.shares, stake)
            else:
                wanted = held.shares if shares is None else shares
                if item.shares != wanted:
                    raise TransactionRefused(f"it unbonds {item.shares} shares, {wanted} were asked for")
            return guard.unbond(prepared.transaction, pool, item.shares, item.index)

        return await self._act("unbond", body, check, consent)

    async def withdraw(self, ticket: str | None, consent: Consent | None = None) -> Paid:
        """Pay out one ticket, None: all whose time has passed, as many as fit one transaction."""
        body: dict[str, object] = {"all": True} if ticket is None else {"ticket_id": segment(ticket)}
        market = await self._calls.market()

        def check(guard: "Guard", prepared: PreparedStake) -> "CheckedTransaction":
            from marketplace.client.stake_guard import TicketRef  # noqa: PLC0415 - loads the coders

            references = []
            for item in prepared.items:
                if item.index is None:
                    raise MalformedAnswer("the market does not number a ticket that it withdraws")
                references.append(TicketRef(_address(item.pool), item.index))
            if ticket is not None and [str(self._ticket(market, ref)) for ref in references] != [ticket]:
                raise TransactionRefused("it withdraws another ticket than the one that was named")
            return guard.withdraw_tickets(prepared.transaction, references)

        return await self._act("withdraw", body, check, consent)

    async def distribute(self, node: str, epoch: int, consent: Consent | None = None) -> Paid:
        """Draw a node's part of an epoch's emission, for all who have staked on it; anyone may."""
        account = await self._node_account(node)
        body = {"node_id": node, "epoch": epoch}
        return await self._act(
            "distribute", body, lambda guard, prepared: guard.distribute(prepared.transaction, account, epoch), consent
        )

    # plumbing

    async def _act(
        self,
        word: str,
        body: Mapping[str, object],
        check: "Callable[[Guard, PreparedStake], CheckedTransaction]",
        consent: Consent | None,
    ) -> Paid:
        return await self._payments.pay_offer(PreparedStake, f"{_STAKE}/{word}", body, check, consent=consent)

    async def _position(self, node: str) -> Position | None:
        """The wallet's position on a node, as the market shows it."""
        for position in (await self.positions()).positions:
            if node in {position.node_id, position.node}:
                return position
        return None

    async def _node_account(self, node: str) -> "Pubkey":
        """The Node account: the address itself where that was given, else what the market calls by this id."""
        if not node.startswith("node_"):
            return parse_address(node)
        found = (await self._calls.get(f"/v1/nodes/{segment(node)}")).read(Node)
        if found.address is None or found.node_key is None:
            raise MalformedAnswer("the market does not say where this node's account is")
        account = _address(found.address)
        if (await self._calls.market()).deployment.addresses.node(_address(found.node_key)) != account:
            raise TransactionRefused(f"the account {account} is not that of the node's key {found.node_key}")
        return account

    async def _pool_of(self, node: str) -> "Pubkey":
        return (await self._calls.market()).deployment.addresses.pool(await self._node_account(node))

    async def _text(self, amount: int) -> str:
        return format_amount(amount, (await self._calls.market()).deployment.stake_decimals)

    def _ticket(self, market: MarketOnChain, ticket: "TicketRef") -> "Pubkey":
        addresses = market.deployment.addresses
        return addresses.ticket(addresses.position(ticket.pool, self._calls.signer().address), ticket.index)


def _address(text: str) -> "Pubkey":
    try:
        return parse_address(text)
    except NotCanonical as error:
        raise MalformedAnswer(f"{text!r} is no address") from error


def _only(prepared: PreparedStake) -> ActedOn:
    if len(prepared.items) != 1:
        raise MalformedAnswer(f"the market's transaction acts on {len(prepared.items)} things, one was asked for")
    return prepared.items[0]


def _require_worth(shares: int, amount: int, held: int, stake: int) -> None:
    """Refuse shares that are worth more than the amount, at the price of the own position.

    Rounding takes up to two units, and the pool's price may have moved since the market was asked for it.
    """
    most = amount + amount // _PRICE_MOVES + 2
    if shares > held or shares * stake > most * held:
        raise TransactionRefused(f"it unbonds {shares} of {held} shares, which are worth more than what was asked for")
