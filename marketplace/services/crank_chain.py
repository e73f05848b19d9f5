"""The crank's view of a real chain, and its acts by one key."""

from collections.abc import Callable, Sequence
from typing import Final

from solders.pubkey import Pubkey

from marketplace.chain.accounts import EpochAccount, EscrowAccount, MarketAccount, NodeAccount, PoolAccount
from marketplace.chain.builders import CallBuilder
from marketplace.chain.errors import ChainError, TransactionExpired, TransactionFailed
from marketplace.chain.instructions import ProgramInstruction
from marketplace.chain.reader import ESCROW_MARKET_AT, ChainReader, Located
from marketplace.chain.rpc import ProgramFilter
from marketplace.chain.sender import Sender
from marketplace.chain.stakes import EmissionState, StakeReader
from marketplace.chain.transactions import Assembler, SignedTransaction, UnsignedTransaction
from marketplace.services.crank import CrankRefused

LAND_S: Final = 120.0
"""Chosen: longer than a blockhash lives, so that an act has landed or expired when it is given up."""


class ActNotLanded(ChainError):
    """A transaction was not seen to land in time. If it still does, the next round sees what it did."""


class SolanaCrank:
    """`CrankChain` over one endpoint and one signer.

    sign: by the submitter's key alone (`HotKey.sign`, or a keypair's). market: look after its nodes, escrows and fees
    only; None: everybody's. The sender's loop must run beside it.
    """

    def __init__(
        self,
        reader: ChainReader,
        calls: CallBuilder,
        assembler: Assembler,
        sender: Sender,
        submitter: Pubkey,
        sign: Callable[[UnsignedTransaction], SignedTransaction],
        market: Pubkey | None = None,
    ) -> None:
        self._reader = reader
        self._stakes = StakeReader(reader)
        self._calls = calls
        self._assembler = assembler
        self._sender = sender
        self._submitter = submitter
        self._sign = sign
        self._market = market

    @property
    def submitter(self) -> Pubkey:
        return self._submitter

    @property
    def calls(self) -> CallBuilder:
        return self._calls

    async def emission(self) -> EmissionState:
        return await self._stakes.emission()

    async def list_epochs(self) -> list[EpochAccount]:
        return await self._stakes.list_epochs()

    async def list_nodes(self) -> list[Located[NodeAccount]]:
        if self._market is not None:
            return await self._reader.list_nodes_of_market(self._market)
        return await self._reader.list_accounts(NodeAccount, [])

    async def find_nodes(self, addresses: Sequence[Pubkey]) -> list[Located[NodeAccount] | None]:
        return await self._reader.find_many(NodeAccount, addresses)

    async def find_pools(self, nodes: Sequence[Pubkey]) -> list[PoolAccount | None]:
        found = await self._reader.find_many(PoolAccount, [self._calls.addresses.pool(node) for node in nodes])
        return [None if pool is None else pool.account for pool in found]

    async def list_escrows(self) -> list[Located[EscrowAccount]]:
        of_market = [] if self._market is None else [ProgramFilter(offset=ESCROW_MARKET_AT, match=bytes(self._market))]
        return await self._reader.list_accounts(EscrowAccount, of_market)

    async def list_markets(self) -> list[Located[MarketAccount]]:
        if self._market is not None:
            return [await self._reader.get(MarketAccount, self._market)]
        return await self._reader.list_accounts(MarketAccount, [])

    async def perform(self, calls: Sequence[ProgramInstruction]) -> str:
        """Simulated first: what the program would refuse costs nothing. Raises CrankRefused, ChainError."""
        try:
            unsigned = await self._assembler.assemble(calls, self._submitter)
            signed = self._sign(unsigned)
            # Named by its own signature: acts repeat over time, and the program refuses what was done already.
            operation = f"crank:{signed.signature}"
            await self._sender.submit(operation, signed.raw, signed.last_valid_block_height)
            entry = await self._sender.wait(signed.signature, timeout_s=LAND_S)
        except TransactionFailed as failed:
            raise CrankRefused(str(failed), failed.error_name) from failed
        except TransactionExpired as expired:
            raise ActNotLanded("a transaction was not taken in time and can no longer land") from expired
        if not entry.state.landed:
            raise ActNotLanded(f"transaction {signed.signature} was sent and not seen to land within {LAND_S:.0f} s")
        return str(signed.signature)
