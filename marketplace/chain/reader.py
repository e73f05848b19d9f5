"""The program's accounts, read from the chain, typed and checked."""

import asyncio
import struct
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Generic, TypeVar

from solders.pubkey import Pubkey

from marketplace.chain.accounts import (
    AllowanceAccount,
    ClassAccount,
    ConfigAccount,
    EscrowAccount,
    MarketAccount,
    NodeAccount,
    PoolAccount,
    PositionAccount,
    VaultAccount,
)
from marketplace.chain.addresses import TOKEN_PROGRAM, Addresses
from marketplace.chain.answers import AccountInfo, Commitment
from marketplace.chain.builders import Deployment
from marketplace.chain.errors import AccountMismatch, AccountMissing
from marketplace.chain.program import MINT_BYTES, TOKEN_ACCOUNT_BYTES, AnchorCodec
from marketplace.chain.rpc import ProgramFilter, RpcClient

T = TypeVar("T")

# Offsets behind discriminator, version and bump; tests/chain/test_reader.py holds them against the IDL.
_HEADER: Final = 10
_KEY: Final = 32
ESCROW_WALLET_AT: Final = _HEADER
ESCROW_MARKET_AT: Final = _HEADER + 2 * _KEY
NODE_OPERATOR_AT: Final = _HEADER
NODE_MARKET_AT: Final = _HEADER + 2 * _KEY
ALLOWANCE_WALLET_AT: Final = _HEADER
POSITION_POOL_AT: Final = _HEADER
POSITION_OWNER_AT: Final = _HEADER + _KEY
TICKET_POSITION_AT: Final = _HEADER
TICKET_OWNER_AT: Final = _HEADER + 2 * _KEY
# Specified (SPL token): mint, owner, amount at the start of an account, its state at 108; a mint's decimals
# at 44, whether it is initialised at 45.
_TOKEN_ACCOUNT: Final = struct.Struct("<32s32sQ")
_TOKEN_STATE_AT: Final = 108
_MINT_DECIMALS_AT: Final = 44
# Measured: reading one account takes 0.3 to 2 ms; so many together stay under ten.
_AT_ONCE: Final = 8


class TokenAccountState(IntEnum):
    """Whether a token account can move tokens."""

    UNINITIALIZED = 0
    INITIALIZED = 1
    FROZEN = 2


@dataclass(frozen=True, slots=True)
class TokenAccount:
    """A classic SPL token account."""

    address: Pubkey
    mint: Pubkey
    owner: Pubkey
    amount: int
    state: TokenAccountState


@dataclass(frozen=True, slots=True)
class WalletAccounts:
    """What says what a wallet may spend: each None where there is no such account."""

    vault: VaultAccount | None
    vault_tokens: TokenAccount | None
    allowance: AllowanceAccount | None
    own_tokens: TokenAccount | None


@dataclass(frozen=True, slots=True)
class Located(Generic[T]):
    """An account with its address and the slot at which it was read."""

    address: Pubkey
    account: T
    lamports: int
    slot: int


class ChainReader:
    """Reads at `confirmed` unless told otherwise.

    `find_…` gives None where there is no such account, `get_…` raises AccountMissing. Both raise
    AccountMismatch for an account that isn't what its address promises, RpcUnavailable when nobody answers:
    "not there" and "could not ask" are never the same.
    """

    def __init__(self, rpc: RpcClient, codec: AnchorCodec) -> None:
        self.rpc = rpc
        self.codec = codec
        self.addresses = Addresses(codec.program)

    async def find(
        self, kind: type[T], address: Pubkey, commitment: Commitment = Commitment.CONFIRMED
    ) -> Located[T] | None:
        """Any account of the program at an address."""
        info = await self.rpc.find_account(address, commitment)
        # An address that only received lamports is still the System program's and empty: no account of ours.
        if info is None or not info.data:
            return None
        return self.located(kind, info)

    async def get(self, kind: type[T], address: Pubkey, commitment: Commitment = Commitment.CONFIRMED) -> Located[T]:
        found = await self.find(kind, address, commitment)
        if found is None:
            raise AccountMissing(f"no {kind.__name__.removesuffix('Account').lower()} account at {address}")
        return found

    async def list_accounts(
        self, kind: type[T], filters: Sequence[ProgramFilter], commitment: Commitment = Commitment.CONFIRMED
    ) -> list[Located[T]]:
        """All accounts of a kind that pass the filters."""
        wanted = [*self._of_kind(kind), *filters]
        found = await self.rpc.list_program_accounts(self.codec.program, wanted, commitment)
        return [self.located(kind, info) async for info in _unhurried(found)]

    async def find_many(
        self, kind: type[T], addresses: Sequence[Pubkey], commitment: Commitment = Commitment.CONFIRMED
    ) -> list[Located[T] | None]:
        """One entry per address, in order, None where there is no account. Any number of addresses."""
        found = await self.rpc.list_accounts(addresses, commitment)
        return [None if info is None or not info.data else self.located(kind, info) async for info in _unhurried(found)]

    async def list_addresses(
        self, kind: type[T], filters: Sequence[ProgramFilter], commitment: Commitment = Commitment.CONFIRMED
    ) -> list[Pubkey]:
        """Where all accounts of a kind that pass the filters are, in the order of their bytes."""
        wanted = [*self._of_kind(kind), *filters]
        return sorted(await self.rpc.list_program_addresses(self.codec.program, wanted, commitment), key=bytes)

    async def get_config(self) -> ConfigAccount:
        return (await self.get(ConfigAccount, self.addresses.config())).account

    async def get_market(self, market: Pubkey) -> MarketAccount:
        return (await self.get(MarketAccount, market)).account

    async def find_class(self, class_id: bytes) -> ClassAccount | None:
        found = await self.find(ClassAccount, self.addresses.hardware_class(class_id))
        return None if found is None else found.account

    async def find_escrow(self, escrow: Pubkey, commitment: Commitment = Commitment.CONFIRMED) -> EscrowAccount | None:
        """None for an escrow that never was and for one that is closed: the events tell which."""
        found = await self.find(EscrowAccount, escrow, commitment)
        return None if found is None else found.account

    async def find_vault(self, wallet: Pubkey) -> VaultAccount | None:
        found = await self.find(VaultAccount, self.addresses.vault(wallet))
        return None if found is None else found.account

    async def find_allowance(self, wallet: Pubkey, market: Pubkey) -> AllowanceAccount | None:
        found = await self.find(AllowanceAccount, self.addresses.allowance(wallet, market))
        return None if found is None else found.account

    async def find_node(self, node_key: Pubkey) -> NodeAccount | None:
        found = await self.find(NodeAccount, self.addresses.node(node_key))
        return None if found is None else found.account

    async def get_pool(self, node: Pubkey) -> PoolAccount:
        """node: address of the Node account."""
        return (await self.get(PoolAccount, self.addresses.pool(node))).account

    async def find_position(self, pool: Pubkey, owner: Pubkey) -> PositionAccount | None:
        found = await self.find(PositionAccount, self.addresses.position(pool, owner))
        return None if found is None else found.account

    async def list_escrows_of_wallet(self, wallet: Pubkey) -> list[Located[EscrowAccount]]:
        return await self.list_accounts(EscrowAccount, [ProgramFilter(offset=ESCROW_WALLET_AT, match=bytes(wallet))])

    async def list_nodes_of_market(self, market: Pubkey) -> list[Located[NodeAccount]]:
        return await self.list_accounts(NodeAccount, [ProgramFilter(offset=NODE_MARKET_AT, match=bytes(market))])

    async def list_nodes_of_operator(self, operator: Pubkey) -> list[Located[NodeAccount]]:
        return await self.list_accounts(NodeAccount, [ProgramFilter(offset=NODE_OPERATOR_AT, match=bytes(operator))])

    async def list_allowances_of_wallet(self, wallet: Pubkey) -> list[Located[AllowanceAccount]]:
        return await self.list_accounts(
            AllowanceAccount, [ProgramFilter(offset=ALLOWANCE_WALLET_AT, match=bytes(wallet))]
        )

    async def find_funds(self, wallet: Pubkey, market: Pubkey, own: Pubkey) -> WalletAccounts:
        """Everything that says what a wallet may spend, as of one moment, in one call.

        own: the wallet's token account. Raises AccountMismatch for an account that isn't the classic token program's.
        """
        vault, allowance = self.addresses.vault(wallet), self.addresses.allowance(wallet, market)
        infos = await self.rpc.list_accounts([vault, self.addresses.vault_tokens(vault), allowance, own])
        held = [None if info is None or not info.data else info for info in infos]
        return WalletAccounts(
            vault=None if held[0] is None else self.located(VaultAccount, held[0]).account,
            vault_tokens=None if held[1] is None else token_account(held[1]),
            allowance=None if held[2] is None else self.located(AllowanceAccount, held[2]).account,
            own_tokens=None if held[3] is None else token_account(held[3]),
        )

    async def find_token_account(
        self, address: Pubkey, commitment: Commitment = Commitment.CONFIRMED
    ) -> TokenAccount | None:
        """Raises AccountMismatch for an account that isn't the classic token program's."""
        info = await self.rpc.find_account(address, commitment)
        return None if info is None or not info.data else token_account(info)

    async def find_mint_decimals(self, mint: Pubkey) -> int | None:
        """Decimals of a classic mint, None where there is no account.

        Raises AccountMismatch for anything else, Token-2022 included.
        """
        info = await self.rpc.find_account(mint)
        if info is None or not info.data:
            return None
        if info.owner != TOKEN_PROGRAM or len(info.data) != MINT_BYTES:
            raise AccountMismatch(f"{mint} is no mint of the classic token program; Token-2022 is not supported")
        return info.data[_MINT_DECIMALS_AT]

    async def get_deployment(self) -> Deployment:
        """What every call needs to know, read from Config and the mints.

        Raises AccountMissing before `reaver-market init`, AccountMismatch when Config was made for another
        cluster: signatures for it would be worthless here.
        """
        config = await self.get_config()
        genesis = bytes(await self.rpc.get_genesis_hash())
        if genesis != config.genesis_hash:
            raise AccountMismatch("the program's Config names another cluster's genesis hash")
        payment = await self.find_mint_decimals(config.payment_mint)
        stake = await self.find_mint_decimals(config.stake_mint)
        if payment is None or stake is None:
            raise AccountMissing("a mint named by the program's Config does not exist")
        return Deployment(
            program=self.codec.program,
            genesis_hash=genesis,
            payment_mint=config.payment_mint,
            stake_mint=config.stake_mint,
            payment_decimals=payment,
            stake_decimals=stake,
        )

    def located(self, kind: type[T], info: AccountInfo) -> Located[T]:
        """An account that was read as one of ours. Raises AccountMismatch."""
        return Located(info.address, self.codec.account(kind, info), info.lamports, info.slot)

    def _of_kind(self, kind: type[object]) -> list[ProgramFilter]:
        return [
            ProgramFilter(data_size=self.codec.account_bytes(kind)),
            ProgramFilter(offset=0, match=self.codec.account_discriminator(kind)),
        ]


async def _unhurried(items: Sequence[T]) -> AsyncIterator[T]:
    """The items, with room for other tasks between some of them: a long list must not hold up a heartbeat."""
    for number, item in enumerate(items, start=1):
        yield item
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)


def token_account(info: AccountInfo) -> TokenAccount:
    """A token account that was read. Raises AccountMismatch for one that isn't the classic token program's."""
    if info.owner != TOKEN_PROGRAM or len(info.data) != TOKEN_ACCOUNT_BYTES:
        raise AccountMismatch(f"{info.address} is no account of the classic token program")
    mint, owner, amount = _TOKEN_ACCOUNT.unpack_from(info.data)
    return TokenAccount(
        address=info.address,
        mint=Pubkey.from_bytes(mint),
        owner=Pubkey.from_bytes(owner),
        amount=amount,
        state=TokenAccountState(info.data[_TOKEN_STATE_AT]),
    )
