"""What the chain holds of stake and emission: an owner's positions and tickets, a pool's positions, the epochs.

Nothing here loops over all positions of anything but the owner who asks: a pool's are counted on chain, and paged.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from solders.pubkey import Pubkey

from marketplace.chain.accounts import (
    ClassAccount,
    ConfigAccount,
    EpochAccount,
    NodeAccount,
    PoolAccount,
    PositionAccount,
    TicketAccount,
)
from marketplace.chain.addresses import CLOCK_SYSVAR
from marketplace.chain.answers import AccountInfo
from marketplace.chain.errors import AccountMismatch, AccountMissing
from marketplace.chain.reader import (
    POSITION_OWNER_AT,
    POSITION_POOL_AT,
    TICKET_OWNER_AT,
    ChainReader,
    Located,
    token_account,
)
from marketplace.chain.rpc import ProgramFilter

# Specified (Clock): slot u64, epoch start i64, epoch u64, leader schedule epoch u64, unix timestamp i64.
_CLOCK: Final = struct.Struct("<QqQQq")
MAX_PAGE: Final = 100
"""As many accounts as one getMultipleAccounts call takes."""


@dataclass(frozen=True, slots=True)
class EmissionState:
    """Deployment, emission vault and chain time at one slot. vault: base units of the stake token."""

    config: ConfigAccount
    vault: int
    now_ms: int
    slot: int


@dataclass(frozen=True, slots=True)
class StakedNode:
    """A node and its pool at one slot."""

    address: Pubkey
    node: NodeAccount
    pool_address: Pubkey
    pool: PoolAccount
    slot: int


@dataclass(frozen=True, slots=True)
class PositionPage:
    """Some positions of a pool, in the order of their addresses. more: whether others come after the last."""

    positions: tuple[Located[PositionAccount], ...]
    more: bool


class StakeReader:
    """Reads at `confirmed`; raises as `ChainReader` does."""

    def __init__(self, reader: ChainReader) -> None:
        self._reader = reader
        self._addresses = reader.addresses

    async def chain_time_ms(self) -> int:
        """The Clock sysvar's time, which counts whole seconds. Raises AccountMissing where the chain shows none."""
        (clock,) = await self._reader.rpc.list_accounts([CLOCK_SYSVAR])
        return clock_ms(clock)

    async def emission(self) -> EmissionState:
        """What decides about epochs, read in one call so that it belongs together."""
        wanted = [self._addresses.config(), self._addresses.emission(), CLOCK_SYSVAR]
        config, vault, clock = await self._reader.rpc.list_accounts(wanted)
        if config is None or vault is None:
            raise AccountMissing("the deployment has no Config or no emission vault")
        return EmissionState(
            config=self._reader.located(ConfigAccount, config).account,
            vault=token_account(vault).amount,
            now_ms=clock_ms(clock),
            slot=config.slot,
        )

    async def list_positions_of_owner(self, owner: Pubkey) -> list[Located[PositionAccount]]:
        """In all pools, the operator's own bonds among them, in the order of their addresses."""
        wanted = [ProgramFilter(offset=POSITION_OWNER_AT, match=bytes(owner))]
        found = await self._reader.list_accounts(PositionAccount, wanted)
        return sorted(found, key=lambda entry: bytes(entry.address))

    async def list_tickets_of_owner(self, owner: Pubkey) -> list[Located[TicketAccount]]:
        """In all pools, soonest unlocked first."""
        wanted = [ProgramFilter(offset=TICKET_OWNER_AT, match=bytes(owner))]
        found = await self._reader.list_accounts(TicketAccount, wanted)
        return sorted(found, key=lambda entry: (entry.account.unlock_at, bytes(entry.address)))

    async def page_positions_of_pool(
        self, pool: Pubkey, *, after: Pubkey | None = None, limit: int = MAX_PAGE
    ) -> PositionPage:
        """At most `limit` (and MAX_PAGE) positions behind the address `after`. Their number is `PoolAccount.positions`.

        Only addresses of all of them travel; a position closed meanwhile is left out.
        """
        wanted = [ProgramFilter(offset=POSITION_POOL_AT, match=bytes(pool))]
        everything = await self._reader.list_addresses(PositionAccount, wanted)
        behind = [address for address in everything if after is None or bytes(address) > bytes(after)]
        size = max(1, min(limit, MAX_PAGE))
        found = await self._reader.find_many(PositionAccount, behind[:size])
        return PositionPage(tuple(entry for entry in found if entry is not None), more=len(behind) > size)

    async def find_position(self, pool: Pubkey, owner: Pubkey) -> Located[PositionAccount] | None:
        return await self._reader.find(PositionAccount, self._addresses.position(pool, owner))

    async def find_ticket(self, position: Pubkey, index: int) -> Located[TicketAccount] | None:
        return await self._reader.find(TicketAccount, self._addresses.ticket(position, index))

    async def find_node(self, node: Pubkey) -> StakedNode | None:
        """node: address of the Node account. Node and pool are of one slot."""
        found = await self.find_nodes([node])
        return found[0]

    async def find_nodes(self, nodes: Sequence[Pubkey]) -> list[StakedNode | None]:
        """One entry per Node address, in order, None where there is none. Each with its pool at the same slot."""
        pools = [self._addresses.pool(node) for node in nodes]
        pairs = [key for pair in zip(nodes, pools, strict=True) for key in pair]
        found = await self._reader.rpc.list_accounts(pairs)
        return [self._staked(node, pool) for node, pool in zip(found[::2], found[1::2], strict=True)]

    async def find_pools(self, pools: Sequence[Pubkey]) -> list[Located[PoolAccount] | None]:
        return await self._reader.find_many(PoolAccount, pools)

    async def find_classes(self, class_ids: Sequence[bytes]) -> list[ClassAccount | None]:
        addresses = [self._addresses.hardware_class(class_id) for class_id in class_ids]
        found = await self._reader.find_many(ClassAccount, addresses)
        return [None if entry is None else entry.account for entry in found]

    async def find_epochs(self, indexes: Sequence[int]) -> list[EpochAccount | None]:
        """None for an epoch that nobody registered for yet, and for one that is over."""
        found = await self._reader.find_many(EpochAccount, [self._addresses.epoch(index) for index in indexes])
        return [None if entry is None else entry.account for entry in found]

    async def list_epochs(self) -> list[EpochAccount]:
        """All epochs that have an account now, in their order."""
        found = await self._reader.list_accounts(EpochAccount, [])
        return sorted((entry.account for entry in found), key=lambda epoch: epoch.index)

    def _staked(self, node: AccountInfo | None, pool: AccountInfo | None) -> StakedNode | None:
        if node is None or not node.data:
            return None
        account = self._reader.located(NodeAccount, node).account
        if pool is None or pool.address != account.pool:
            raise AccountMismatch(f"the node {node.address} has no pool at the address that it names")
        return StakedNode(
            address=node.address,
            node=account,
            pool_address=pool.address,
            pool=self._reader.located(PoolAccount, pool).account,
            slot=node.slot,
        )


def clock_ms(info: AccountInfo | None) -> int:
    """Chain time in the Clock sysvar. Raises AccountMissing for anything else."""
    if info is None or len(info.data) != _CLOCK.size:
        raise AccountMissing("the chain shows no clock")
    return int(_CLOCK.unpack(info.data)[4]) * 1_000
