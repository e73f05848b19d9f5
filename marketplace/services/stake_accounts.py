"""A wallet's stake as the chain holds it: its own positions and tickets, and nothing of anybody else's.

Where to look comes from the books; what is there comes from the chain. The cost grows with the wallet's own pools and
tickets, never with the positions of a pool: two calls for up to fifty pools, whatever their size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from solders.pubkey import Pubkey

from marketplace.chain.accounts import NodeAccount, NodeStatus, PoolAccount, PositionAccount, TicketAccount
from marketplace.chain.addresses import Addresses, associated_token_address
from marketplace.chain.answers import AccountInfo
from marketplace.chain.reader import ChainReader, Located, TokenAccountState, token_account
from marketplace.domain.quantities import Bps, Millis, Shares, Stake, Tokens
from marketplace.domain.staking import Bucket, in_force, pending_reward

_NEWEST_TICKETS: Final = 8
"""Chosen: tickets beyond those that are open which are asked for first; older ones are found in further calls."""


@dataclass(frozen=True, slots=True)
class PoolState:
    """A node with its pool, of one slot."""

    address: Pubkey
    pool: PoolAccount
    node_address: Pubkey
    node: NodeAccount

    @property
    def active(self) -> Bucket:
        return Bucket(Stake(self.pool.active_stake), Shares(self.pool.active_shares))

    @property
    def unbonding(self) -> Bucket:
        return Bucket(Stake(self.pool.unbonding_stake), Shares(self.pool.unbonding_shares))

    @property
    def retired(self) -> bool:
        return self.node.status == NodeStatus.RETIRED

    def commission(self, now: Millis) -> Bps:
        """What is taken of a reward that is booked now."""
        pool = self.pool
        return in_force(
            Bps(pool.commission_bps), Bps(pool.pending_commission_bps), Millis(pool.pending_commission_at), now
        )


@dataclass(frozen=True, slots=True)
class OpenTicket:
    """Shares on their way out. address: of the Ticket account."""

    address: Pubkey
    account: TicketAccount

    def ready(self, now: Millis) -> bool:
        return now >= self.account.unlock_at


@dataclass(frozen=True, slots=True)
class Holding:
    """A wallet's part of one pool. position: None where it has none."""

    state: PoolState
    position: PositionAccount | None
    tickets: tuple[OpenTicket, ...] = ()

    @property
    def shares(self) -> Shares:
        return Shares(self.position.shares if self.position is not None else 0)

    @property
    def staked(self) -> Stake:
        """What the shares are worth in the pool."""
        return self.state.active.stake_for_floor(self.shares)

    @property
    def worth_withdrawn(self) -> Stake:
        """What they would pay if they were unbonded and withdrawn at today's prices: rounded down twice."""
        amount = self.staked
        waiting = self.state.unbonding
        shares = waiting.shares_for_floor(amount)
        after = Bucket(Stake(waiting.stake + amount), Shares(waiting.shares + shares))
        return after.stake_for_floor(shares)

    @property
    def pending_payment(self) -> Tokens:
        """Fee rewards that a claim would pay now, the operator's commission with his."""
        if self.position is None:
            return Tokens(0)
        pool, own = self.state.pool, self.position
        earned = pending_reward(self.shares, pool.fees, own.fees_paid, own.fees_earned)
        return Tokens(earned + (pool.commission_fees if own.is_operator else 0))

    @property
    def pending_stake(self) -> Stake:
        """Emission that a claim would pay now, the operator's commission with his."""
        if self.position is None:
            return Stake(0)
        pool, own = self.state.pool, self.position
        earned = pending_reward(self.shares, pool.emission, own.emission_paid, own.emission_earned)
        return Stake(earned + (pool.commission_emission if own.is_operator else 0))

    @property
    def unbonding(self) -> Stake:
        """What the open tickets are worth now."""
        return Stake(sum(self.ticket_worth(ticket) for ticket in self.tickets))

    def ticket_worth(self, ticket: OpenTicket) -> Stake:
        return self.state.unbonding.stake_for_floor(Shares(ticket.account.shares))


@dataclass(frozen=True, slots=True)
class WalletTokens:
    """What a wallet holds beside the program. has_…: whether its token account exists."""

    payment: Tokens
    stake: Stake
    has_payment: bool
    has_stake: bool


@dataclass(frozen=True, slots=True)
class Acting:
    """What an action on one pool starts from, of one slot."""

    holding: Holding
    tokens: WalletTokens


class StakeAccounts:
    """Reads at `confirmed`. Raises chain.errors.ChainError when nobody answers."""

    def __init__(self, reader: ChainReader, payment_mint: Pubkey, stake_mint: Pubkey) -> None:
        self._reader = reader
        self._addresses: Addresses = reader.addresses
        self._payment_mint = payment_mint
        self._stake_mint = stake_mint

    async def find_pool(self, node: Pubkey) -> PoolState | None:
        """node: address of the Node account."""
        pool = self._addresses.pool(node)
        found = await self._reader.rpc.list_accounts([node, pool])
        return self._state(node, pool, found[0], found[1])

    async def find_acting(self, owner: Pubkey, node: Pubkey) -> Acting | None:
        """Node, pool, position and the wallet's tokens, in one call; None where there is no such node."""
        pool = self._addresses.pool(node)
        found = await self._reader.rpc.list_accounts(
            [node, pool, self._addresses.position(pool, owner), *self._token_accounts(owner)]
        )
        state = self._state(node, pool, found[0], found[1])
        if state is None:
            return None
        return Acting(Holding(state, self._position(found[2])), self._tokens(found[3], found[4]))

    async def tokens(self, owner: Pubkey) -> WalletTokens:
        """What the wallet holds beside the program."""
        payment, stake = await self._reader.rpc.list_accounts(self._token_accounts(owner))
        return self._tokens(payment, stake)

    async def holdings(self, owner: Pubkey, pools: Sequence[Pubkey]) -> list[Holding]:
        """The wallet's positions in those of the pools where it has one, with their tickets, in the given order."""
        wanted = [key for pool in pools for key in (pool, self._addresses.position(pool, owner))]
        found = await self._reader.rpc.list_accounts(wanted)
        held: list[tuple[Pubkey, PoolAccount, PositionAccount]] = []
        for pool, info, own in zip(pools, found[::2], found[1::2], strict=True):
            position = self._position(own)
            if position is not None and info is not None and info.data:
                held.append((pool, self._reader.located(PoolAccount, info).account, position))
        tickets, nodes = await self._tickets_and_nodes(owner, held)
        return [
            Holding(PoolState(pool, account, account.node, nodes[account.node]), position, tuple(tickets[pool]))
            for pool, account, position in held
            if account.node in nodes
        ]

    async def find_ticket(self, ticket: Pubkey) -> OpenTicket | None:
        """The ticket at an address, None for anything else that may be there."""
        info = await self._reader.rpc.find_account(ticket)
        codec = self._reader.codec
        if info is None or info.owner != codec.program:
            return None
        if info.data[:8] != codec.account_discriminator(TicketAccount):
            return None
        return OpenTicket(ticket, self._reader.located(TicketAccount, info).account)

    async def _tickets_and_nodes(
        self, owner: Pubkey, held: Sequence[tuple[Pubkey, PoolAccount, PositionAccount]]
    ) -> tuple[dict[Pubkey, list[OpenTicket]], dict[Pubkey, NodeAccount]]:
        """Open tickets are mostly the newest: those are asked for first, together with the nodes."""
        tickets: dict[Pubkey, list[OpenTicket]] = {pool: [] for pool, _, _ in held}
        below = {pool: position.next_ticket for pool, _, position in held}
        nodes: dict[Pubkey, NodeAccount] = {}
        wanted_nodes = [account.node for _, account, _ in held]
        while True:
            asked: list[tuple[Pubkey, Pubkey]] = []
            for pool, _, position in held:
                missing = position.tickets - len(tickets[pool])
                if missing <= 0 or below[pool] == 0:
                    continue
                first = max(0, below[pool] - missing - _NEWEST_TICKETS)
                address = self._addresses.position(pool, owner)
                indexes = range(below[pool] - 1, first - 1, -1)
                asked.extend((pool, self._addresses.ticket(address, index)) for index in indexes)
                below[pool] = first
            if not asked and not wanted_nodes:
                return {pool: sorted(found, key=_by_unlock) for pool, found in tickets.items()}, nodes
            found = await self._reader.rpc.list_accounts([*wanted_nodes, *(address for _, address in asked)])
            for info in found[: len(wanted_nodes)]:
                if info is not None and info.data:
                    nodes[info.address] = self._reader.located(NodeAccount, info).account
            for (pool, _), info in zip(asked, found[len(wanted_nodes) :], strict=True):
                if info is not None and info.data:
                    tickets[pool].append(OpenTicket(info.address, self._reader.located(TicketAccount, info).account))
            wanted_nodes = []

    def _state(
        self, node: Pubkey, pool: Pubkey, node_info: AccountInfo | None, pool_info: AccountInfo | None
    ) -> PoolState | None:
        codec = self._reader.codec
        for info, kind in ((node_info, NodeAccount), (pool_info, PoolAccount)):
            # Whoever asks may name any address: what is no node of ours is not there.
            if info is None or info.owner != codec.program or info.data[:8] != codec.account_discriminator(kind):
                return None
        assert node_info is not None and pool_info is not None  # noqa: S101, PT018 - checked in the loop
        return PoolState(
            address=pool,
            pool=self._reader.located(PoolAccount, pool_info).account,
            node_address=node,
            node=self._reader.located(NodeAccount, node_info).account,
        )

    def _position(self, info: AccountInfo | None) -> PositionAccount | None:
        # An address that only received lamports is no position yet.
        if info is None or not info.data:
            return None
        located: Located[PositionAccount] = self._reader.located(PositionAccount, info)
        return located.account

    def _token_accounts(self, owner: Pubkey) -> tuple[Pubkey, Pubkey]:
        return (
            associated_token_address(owner, self._payment_mint),
            associated_token_address(owner, self._stake_mint),
        )

    def _tokens(self, payment: AccountInfo | None, stake: AccountInfo | None) -> WalletTokens:
        has_payment, payment_amount = _amount(payment)
        has_stake, stake_amount = _amount(stake)
        return WalletTokens(Tokens(payment_amount), Stake(stake_amount), has_payment, has_stake)


def _amount(info: AccountInfo | None) -> tuple[bool, int]:
    """Whether a token account exists, and what can be moved out of it."""
    if info is None or not info.data:
        return False, 0
    account = token_account(info)
    return True, account.amount if account.state is TokenAccountState.INITIALIZED else 0


def _by_unlock(ticket: OpenTicket) -> tuple[int, int]:
    return ticket.account.unlock_at, ticket.account.index
