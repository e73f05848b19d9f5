"""What an operator does with his own stake, straight on chain: bond, unbond, commission, drain, claim, withdraw.

Each act is planned from what the chain says and refused here, in words, where the program would refuse it. The plan
names the amounts before and after; nothing is signed before its owner has seen them. Retiring: retirement.py.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.signature import Signature

from marketplace.chain.accounts import NodeStatus, TicketAccount
from marketplace.chain.acts import Act, Acting, acting
from marketplace.chain.addresses import NULL_ADDRESS, parse_address
from marketplace.chain.errors import AccountMissing
from marketplace.chain.instructions import ProgramInstruction
from marketplace.chain.parameters import show_length
from marketplace.chain.reader import Located
from marketplace.chain.transactions import CreateTokenAccount, Step
from marketplace.domain.instants import instant_text
from marketplace.domain.money import format_amount
from marketplace.domain.quantities import Shares, Stake
from marketplace.domain.staking import Bucket
from node.errors import ConfigUnusable, NodeError, NotTrusted
from node.keys import KeyUnusable, load
from node.settings import Settings
from node.staking.standing import Standing

_ALL_BPS: Final = 10_000
Sending = Callable[[str, Signature], None]


class StakingRefused(NodeError):
    """The program would refuse it; nothing was signed. The message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One act: what it is, its effects in words (before → after), its steps, and what comes next."""

    what: str
    effects: tuple[str, ...]
    steps: tuple[Step, ...]
    next_step: str = ""


class OperatorStake:
    """One operator's acts on one node of his."""

    def __init__(self, chain: Acting, operator: Keypair, node_key: Pubkey) -> None:
        self._chain = chain
        self._operator = operator
        self._node_key = node_key

    async def find(self) -> Standing | None:
        """None where there is no such node on chain (any more). Raises NotTrusted for another operator's node."""
        chain, operator = self._chain, self._operator.pubkey()
        found = await chain.stakes.find_node(chain.calls.addresses.node(self._node_key))
        if found is None:
            return None
        if found.node.operator != operator:
            raise NotTrusted(f"the node's operator on chain is {found.node.operator}, the configured key is {operator}")
        position = await chain.stakes.find_position(found.pool_address, operator)
        if position is None:
            raise AccountMissing("the operator's position is not on chain")
        hardware = await chain.reader.find_class(found.node.class_id)
        tickets = await chain.stakes.list_tickets_of_owner(operator)
        stake = await chain.reader.find_token_account(chain.calls.stake_account(operator))
        payment = await chain.reader.find_token_account(chain.calls.payment_account(operator))
        return Standing(
            config=await chain.reader.get_config(),
            address=found.address,
            node=found.node,
            pool_address=found.pool_address,
            pool=found.pool,
            position=position.account,
            tickets=tuple(ticket for ticket in tickets if ticket.account.pool == found.pool_address),
            minimum_bond=0 if hardware is None else hardware.minimum_bond,
            wallet_stake=None if stake is None else stake.amount,
            wallet_payment=None if payment is None else payment.amount,
            now_ms=await chain.stakes.chain_time_ms(),
        )

    async def get(self) -> Standing:
        """As `find`. Raises StakingRefused where there is no such node."""
        found = await self.find()
        if found is None:
            raise StakingRefused(
                "this node is not on chain: it is not registered yet (`reaver-node register`), or retired and closed"
            )
        return found

    async def act(self, planned: Planned, sending: Sending) -> Act:
        """Sign and land a plan. Raises what `Acting.act` raises."""
        return await self._chain.act(planned.what, planned.steps, [self._operator], sending)

    # plans

    def bond(self, now: Standing, amount: int) -> Planned:
        """Add to the bond. amount: base units of the stake token."""
        if amount == 0:
            raise StakingRefused("the amount is 0: nothing to bond")
        if now.status is NodeStatus.RETIRED:
            raise StakingRefused("the node is retired: its stake can only leave")
        if now.active.is_dead:
            raise StakingRefused("the pool is dead (slashed to almost nothing): nothing can be added; retire the node")
        wallet = now.wallet_stake or 0
        if wallet < amount:
            raise StakingRefused(
                f"the operator's wallet holds {self.stake(wallet)} stake tokens, {self.stake(amount)} are to be "
                f"bonded; send stake tokens to {self._operator.pubkey()}"
            )
        shares = now.active.shares_for_floor(Stake(amount))
        after = Bucket(Stake(now.active.stake + amount), Shares(now.active.shares + shares)).stake_for_floor(
            Shares(now.position.shares + shares)
        )
        needed = self.stake(now.bond_needed)
        return Planned(
            f"bond {self.stake(amount)} stake tokens",
            (
                f"bond: {self.stake(now.bond)} → {self.stake(after)} ({needed} needed to be given work)",
                f"wallet: {self.stake(wallet)} → {self.stake(wallet - amount)} stake tokens",
            ),
            (self._chain.calls.bond(self._operator.pubkey(), self._node_key, amount),),
        )

    def unbond(self, now: Standing, amount: int | None) -> Planned:
        """Take a part of the bond out, None for all of it. amount: base units of the stake token."""
        held = now.position.shares
        if amount == 0:
            raise StakingRefused("the amount is 0: nothing to unbond")
        if not held:
            raise StakingRefused("nothing is bonded: see `reaver-node withdraw` for what is on its way out")
        if amount is not None and amount > now.bond:
            raise StakingRefused(f"{self.stake(now.bond)} stake tokens are bonded, {self.stake(amount)} can't leave")
        shares = held if amount is None else min(now.active.shares_for_ceil(Stake(amount)), held)
        leaving = now.active.stake_for_floor(Shares(shares))
        after = Bucket(Stake(now.active.stake - leaving), Shares(now.active.shares - shares)).stake_for_floor(
            Shares(held - shares)
        )
        if now.bound and after < now.bond_needed:
            free = max(now.bond - now.bond_needed, 0)
            raise StakingRefused(
                f"{self.stake(now.bond_needed)} stake tokens must stay bonded while the node is active or has "
                f"attempts: at most {self.stake(free)} can leave now. Drain it (`reaver-node drain`) and let its work "
                "end, or retire it (`reaver-node retire`)"
            )
        unlock = instant_text(now.now_ms + now.config.params.unbonding)
        return Planned(
            f"unbond {self.stake(leaving)} stake tokens",
            (
                f"bond: {self.stake(now.bond)} → {self.stake(after)} stake tokens",
                f"on its way out, still liable to slashing: {self.stake(leaving)} until about {unlock}",
            ),
            (self._unbond_call(now, shares),),
            next_step=f"from {unlock} on: reaver-node withdraw",
        )

    def commission(self, now: Standing, bps: int) -> Planned:
        """Announce another commission, in basis points."""
        params = now.config.params
        if now.status is NodeStatus.RETIRED:
            raise StakingRefused("the node is retired: it earns nothing more to take a commission of")
        if bps > _ALL_BPS:
            raise StakingRefused(f"a commission is at most {_ALL_BPS} basis points (100 %), not {bps}")
        step = abs(bps - now.commission_bps)
        if step > params.commission_step_bps:
            least = max(now.commission_bps - params.commission_step_bps, 0)
            most = min(now.commission_bps + params.commission_step_bps, _ALL_BPS)
            raise StakingRefused(
                f"one announcement changes a commission by at most {params.commission_step_bps} basis points: "
                f"from {now.commission_bps} to between {least} and {most}, not to {bps}"
            )
        delay = show_length(params.commission_delay)
        effects = [f"commission: {now.commission_bps} → {bps} bps, {delay} after this lands"]
        if now.pool.pending_commission_at > now.now_ms:
            effects.append(f"replaces the announced {now.pool.pending_commission_bps} bps")
        call = self._chain.calls.set_commission(self._operator.pubkey(), self._node_key, bps)
        return Planned(f"announce a commission of {bps} bps", tuple(effects), (call,))

    def drain(self, now: Standing, *, draining: bool) -> Planned | None:
        """Stop taking work on chain, or take it again; None where the chain says so already."""
        if now.status is NodeStatus.RETIRED:
            raise StakingRefused("the node is retired: it takes no work any more")
        if now.status is NodeStatus.SUSPENDED:
            raise StakingRefused("the market has suspended the node: it takes no work until the market lifts that")
        if (now.status is NodeStatus.DRAINING) == draining:
            return None
        after = NodeStatus.DRAINING if draining else NodeStatus.ACTIVE
        call = self._chain.calls.drain(self._operator.pubkey(), self._node_key, draining=draining)
        what = "drain" if draining else "take work again"
        return Planned(what, (f"status: {now.status.name.lower()} → {after.name.lower()}",), (call,))

    def claim(self, now: Standing) -> Planned:
        """Pay out what the bond has earned, and the commission."""
        payment, stake = now.pending_payment, now.pending_stake
        if not payment and not stake:
            raise StakingRefused("nothing is owed: no reward and no commission waits")
        effects = []
        if payment:
            before = now.wallet_payment or 0
            effects.append(f"wallet: {self.payment(before)} → {self.payment(before + payment)} payment tokens")
        if stake:
            before = now.wallet_stake or 0
            effects.append(f"wallet: {self.stake(before)} → {self.stake(before + stake)} stake tokens")
        steps = self._accounts_for(now, payment=payment > 0, stake=stake > 0)
        call = self._chain.calls.claim(self._operator.pubkey(), now.pool_address)
        return Planned("claim rewards and commission", tuple(effects), (*steps, call))

    def withdraw(self, now: Standing, ticket: Located[TicketAccount]) -> Planned:
        """Pay out one ticket. Raises StakingRefused before its time."""
        if ticket.account.unlock_at > now.now_ms:
            raise StakingRefused(
                f"ticket {ticket.account.index} is locked until {instant_text(ticket.account.unlock_at)}"
            )
        value, before = now.ticket_value(ticket.account), now.wallet_stake or 0
        steps = self._accounts_for(now, payment=False, stake=value > 0)
        call = self._chain.calls.withdraw_ticket(self._operator.pubkey(), now.pool_address, ticket.account.index)
        return Planned(
            f"withdraw ticket {ticket.account.index}",
            (f"wallet: {self.stake(before)} → {self.stake(before + value)} stake tokens",),
            (*steps, call),
        )

    def withdraw_owed(self, now: Standing) -> Planned:
        """Pay out what the payout account could not take."""
        before = now.wallet_payment or 0
        operator = self._operator.pubkey()
        call = self._chain.calls.withdraw_owed(operator, self._node_key, self._chain.calls.payment_account(operator))
        return Planned(
            "withdraw what settlements could not pay out",
            (f"wallet: {self.payment(before)} → {self.payment(before + now.node.owed)} payment tokens",),
            (*self._accounts_for(now, payment=True, stake=False), call),
        )

    def retire(self, now: Standing) -> Planned:
        """Retire, or close what is retired and empty."""
        before = now.status.name.lower()
        after = "closed, all rent back" if not self.left(now) else "retired"
        call = self._chain.calls.retire(self._operator.pubkey(), self._node_key, now.node.market)
        return Planned("close the node" if not self.left(now) else "retire", (f"node: {before} → {after}",), (call,))

    def left(self, now: Standing) -> tuple[str, ...]:
        """What stands between this node and its closing, in words; empty when it can close."""
        lines = []
        if now.node.attempts:
            lines.append(
                f"{now.node.attempts} attempts are running or contested: drain, and wait until they have ended and "
                "their contest windows are over"
            )
        if now.node.owed:
            lines.append(f"{self.payment(now.node.owed)} payment tokens are owed to you")
        if now.position.shares:
            lines.append(f"{self.stake(now.bond)} stake tokens are bonded")
        lines.extend(
            f"ticket {ticket.account.index}: {self.stake(now.ticket_value(ticket.account))} stake tokens unlock at "
            f"{instant_text(ticket.account.unlock_at)}"
            for ticket in now.tickets
        )
        if now.pending_payment or now.pending_stake:
            lines.append(
                f"{self.payment(now.pending_payment)} payment and {self.stake(now.pending_stake)} stake tokens of "
                "rewards wait to be claimed"
            )
        if now.delegators:
            others = now.pool.active_stake - now.bond
            lines.append(
                f"{now.delegators} delegators have positions ({self.stake(max(others, 0))} stake tokens active): each "
                "has to unbond, withdraw and claim; nobody can do it for them"
            )
        return tuple(lines)

    # words

    def stake(self, units: int) -> str:
        """Base units of the stake token as text."""
        return format_amount(units, self._chain.calls.deployment.stake_decimals)

    def payment(self, units: int) -> str:
        """Base units of the payment token as text."""
        return format_amount(units, self._chain.calls.deployment.payment_decimals)

    @property
    def stake_decimals(self) -> int:
        return self._chain.calls.deployment.stake_decimals

    def _unbond_call(self, now: Standing, shares: int) -> ProgramInstruction:
        return self._chain.calls.unbond_bond(
            self._operator.pubkey(), self._node_key, now.node.class_id, shares, now.position.next_ticket
        )

    def _accounts_for(self, now: Standing, *, payment: bool, stake: bool) -> tuple[Step, ...]:
        """Token accounts of the operator that a payment needs and that don't exist."""
        operator, deployment = self._operator.pubkey(), self._chain.calls.deployment
        steps = []
        if payment and now.wallet_payment is None:
            steps.append(CreateTokenAccount(operator, operator, deployment.payment_mint))
        if stake and now.wallet_stake is None:
            steps.append(CreateTokenAccount(operator, operator, deployment.stake_mint))
        return tuple(steps)


@asynccontextmanager
async def operator_stake(settings: Settings, rpc: str | None) -> AsyncIterator[OperatorStake]:
    """The operator's key and the chain that the configuration is pinned to.

    rpc: instead of the configured endpoint. Raises ConfigUnusable, NotTrusted for another chain.
    """
    url = rpc or settings.chain.rpc_url
    if not url:
        raise ConfigUnusable(f"no RPC endpoint: set chain.rpc_url in {settings.file}, or give --rpc")
    if not settings.market.program_id:
        raise ConfigUnusable(f"{settings.file}: this node is not registered yet; run `reaver-node register`")
    try:
        operator, node = (load(settings.path(path)) for path in (settings.keys.operator, settings.keys.node))
    except KeyUnusable as error:
        raise ConfigUnusable(str(error)) from error
    program = parse_address(settings.market.program_id)
    async with acting(url, program) as chain:
        pinned = parse_address(settings.market.genesis_hash) if settings.market.genesis_hash else NULL_ADDRESS
        if pinned != NULL_ADDRESS and bytes(pinned) != chain.calls.deployment.genesis_hash:
            raise NotTrusted(f"{url} serves another chain than the one this node is pinned to")
        yield OperatorStake(chain, Keypair.from_seed(operator.seed), Pubkey.from_bytes(node.public))
