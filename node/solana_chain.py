"""The node's view of the chain over its own RPC endpoint; see `chain.Chain` for what each method promises."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Final, Self

from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.signature import Signature

from marketplace.chain.accounts import EscrowAccount, EscrowState
from marketplace.chain.builders import Approved, CallBuilder, EscrowRef, NodeRef, SignedVoucher
from marketplace.chain.errors import RpcError, RpcUnavailable
from marketplace.chain.outbox import MemoryOutbox, OutboxState
from marketplace.chain.program import AnchorCodec
from marketplace.chain.reader import ChainReader
from marketplace.chain.rpc import RpcClient
from marketplace.chain.sender import Sender
from marketplace.chain.transactions import Assembler
from marketplace.errors import MarketError
from node.chain import Assignment, ChainRefused, ChainSilent, Standing, Windows
from node.journal import Accepted, Attempt
from node.keys import KeyPair

CLOCK_SYSVAR: Final = Pubkey.from_string("SysvarC1ock11111111111111111111111111111111")
# Specified (Clock): slot u64, epoch start i64, epoch u64, leader schedule epoch u64, unix timestamp i64.
_CLOCK: Final = struct.Struct("<QqQQq")
# Chosen: longer than a blockhash lives, so that the answer is known for good when it is given up.
_LAND_S: Final = 120.0


class SolanaChain:
    """One RPC endpoint and the node's key; use as an async context manager."""

    def __init__(self, rpc_url: str, program: bytes, key: KeyPair) -> None:
        self._rpc = RpcClient([rpc_url])
        self._codec = AnchorCodec(Pubkey.from_bytes(program))
        self._reader = ChainReader(self._rpc, self._codec)
        self._assembler = Assembler(self._rpc, self._codec)
        self._signer = Keypair.from_seed(key.seed)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._rpc.close()

    async def genesis_hash(self) -> bytes:
        """Which chain this is, 32 bytes."""
        async with _asking():
            return bytes(await self._rpc.get_genesis_hash())

    async def windows(self) -> Windows:
        """The program's own time limits."""
        async with _asking():
            params = (await self._reader.get_config()).params
            return Windows(claim_limit_ms=params.claim_limit, skew_ms=params.skew, lost_after_ms=params.lost_after)

    async def time_ms(self) -> int:
        async with _asking():
            info = await self._rpc.find_account(CLOCK_SYSVAR)
            if info is None:
                raise ChainSilent("the endpoint does not serve the Clock sysvar")
            seconds: int = _CLOCK.unpack_from(info.data)[4]
            return seconds * 1000

    async def look(self, attempt: Attempt) -> Assignment:
        async with _asking():
            escrow = await self._reader.find_escrow(Pubkey.from_bytes(attempt.request.escrow))
        return self._assignment(escrow, attempt)

    async def settle(self, attempt: Attempt, accepted: Accepted) -> str:
        async with _asking():
            builder, escrow, node = await self._parties(attempt)
            approved = builder.settle(escrow, node, self._signer.pubkey(), self._both_sides(attempt, accepted))
            return await self._send(f"settle:{attempt.key.allocation}:{attempt.key.attempt}", approved)

    async def quit(self, attempt: Attempt, accepted: Accepted | None) -> str:
        async with _asking():
            builder, escrow, node = await self._parties(attempt)
            voucher = self._both_sides(attempt, accepted) if accepted is not None else None
            approved = builder.quit(escrow, node, self._signer.pubkey(), voucher)
            return await self._send(f"quit:{attempt.key.allocation}:{attempt.key.attempt}", approved)

    def _assignment(self, escrow: EscrowAccount | None, attempt: Attempt) -> Assignment:
        number = attempt.request.attempt
        if escrow is None:
            # Before its assignment the escrow may not exist yet: it is opened together with it.
            return Assignment(Standing.WAITING if attempt.started_at_ms is None else Standing.OVER)
        running = escrow.attempt
        if escrow.state == EscrowState.ASSIGNED and running.number == number:
            ours = running.node == self._codec_node()
            if not ours or escrow.terms_hash != attempt.request.terms_hash:
                return Assignment(Standing.OVER)
            return Assignment(
                Standing.ASSIGNED, running.price, bytes(running.meter), running.assigned_at, running.exposure
            )
        if escrow.state != EscrowState.CLOSING and running.number < number:
            return Assignment(Standing.WAITING)
        return Assignment(Standing.OVER)

    def _codec_node(self) -> Pubkey:
        return self._reader.addresses.node(self._signer.pubkey())

    async def _parties(self, attempt: Attempt) -> tuple[CallBuilder, EscrowRef, NodeRef]:
        escrow = await self._reader.find_escrow(Pubkey.from_bytes(attempt.request.escrow))
        node = await self._reader.find_node(self._signer.pubkey())
        if escrow is None or node is None:
            raise ChainRefused("the escrow or this node's account is not on chain any more")
        return CallBuilder(await self._reader.get_deployment()), EscrowRef.of(escrow), NodeRef.of(node)

    def _both_sides(self, attempt: Attempt, accepted: Accepted) -> SignedVoucher:
        return SignedVoucher(
            message=accepted.message,
            node_key=self._signer.pubkey(),
            counter_key=Pubkey.from_bytes(attempt.meter_key),
            counter_signature=Signature.from_bytes(accepted.countersignature),
        )

    async def _send(self, operation: str, approved: Approved) -> str:
        """Sign, send, and wait until it has landed. The escrow's state is the guard against a second payment."""
        unsigned = await self._assembler.assemble([*approved.checks, approved.call], self._signer.pubkey())
        signed = unsigned.sign([self._signer])
        sender = Sender(self._rpc, MemoryOutbox(), error_name=self._codec.error_name)
        loop = asyncio.create_task(sender.run())
        try:
            await sender.submit(operation, signed.raw, signed.last_valid_block_height)
            entry = await sender.wait(signed.signature, timeout_s=_LAND_S)
        finally:
            loop.cancel()
            await asyncio.gather(loop, return_exceptions=True)
        if entry.state not in (OutboxState.CONFIRMED, OutboxState.FINALIZED):
            raise ChainSilent(f"{operation} was sent and not seen to land")
        return str(signed.signature)


@contextlib.asynccontextmanager
async def _asking() -> AsyncIterator[None]:
    """The chain's errors in the node's words."""
    try:
        yield
    except (RpcUnavailable, RpcError) as error:
        raise ChainSilent(str(error)) from error
    except MarketError as error:
        raise ChainRefused(str(error)) from error
