"""A person's act straight on chain: one transaction, by keys at hand, over one RPC endpoint.

For operators and administrators, whose commands need no market. Assembling simulates: what the program would refuse
is refused before anything is signed. The signature is told before the bytes go out, so that whoever is cut off knows
what to look for. Nothing is signed again while the first could land.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.signature import Signature

from marketplace.chain.builders import CallBuilder
from marketplace.chain.errors import ChainError, TransactionFailed
from marketplace.chain.outbox import MemoryOutbox
from marketplace.chain.program import AnchorCodec
from marketplace.chain.reader import ChainReader
from marketplace.chain.rpc import RpcClient
from marketplace.chain.sender import Sender
from marketplace.chain.stakes import StakeReader
from marketplace.chain.transactions import Assembler, Step

# Chosen: longer than a blockhash lives, so that the answer is known for good when it is given up.
LAND_S: Final = 120.0
_TICK_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Act:
    """A transaction that is confirmed. fee_lamports: what its first signer paid."""

    what: str
    signature: Signature
    fee_lamports: int
    slot: int | None


class ActRefused(TransactionFailed):
    """The program refused an act: in its own sentence, with its own name for it."""

    def __init__(self, refused: TransactionFailed, sentence: str | None) -> None:
        super().__init__(refused.failure, refused.logs, refused.error_name)
        said = (
            f"{sentence} ({refused.error_name})" if sentence is not None else f"the transaction failed, {self.failure}"
        )
        self.message = f"{said}; nothing changed"


class NotLanded(ChainError):
    """A sent transaction was not seen to land in time. It may still have; look at the chain before acting again."""


@dataclass(frozen=True, slots=True)
class Acting:
    """One endpoint and one deployment of the program. Opened by `acting`."""

    rpc: RpcClient
    reader: ChainReader
    stakes: StakeReader
    calls: CallBuilder
    codec: AnchorCodec
    _sender: Sender
    _assembler: Assembler

    async def act(
        self,
        what: str,
        steps: Sequence[Step],
        signers: Sequence[Keypair],
        sending: Callable[[str, Signature], None] = lambda _what, _signature: None,
    ) -> Act:
        """Land the steps; the first signer pays. sending: told the signature before anything is sent.

        Raises ActRefused (before signing where the simulation fails), TransactionExpired (nothing happened),
        NotLanded, RpcUnavailable.
        """
        try:
            unsigned = await self._assembler.assemble(steps, signers[0].pubkey())
            signed = unsigned.sign(signers)
            sending(what, signed.signature)
            await self._sender.submit(f"{what}:{signed.signature}", signed.raw, signed.last_valid_block_height)
            entry = await self._sender.wait(signed.signature, timeout_s=LAND_S)
        except TransactionFailed as error:
            raise ActRefused(error, self._sentence(error)) from error
        if not entry.state.landed:
            raise NotLanded(
                f"{what}: transaction {signed.signature} was sent and not seen to land within {LAND_S:.0f} s; "
                "it may still have: look before you repeat it"
            )
        return Act(what, signed.signature, unsigned.fee_lamports, entry.slot)

    def _sentence(self, error: TransactionFailed) -> str | None:
        return self.codec.error_message(error.error_name) if error.error_name is not None else None


@asynccontextmanager
async def acting(rpc_url: str, program: Pubkey, *, request_timeout_s: float = 10) -> AsyncIterator[Acting]:
    """Connect to a deployment. Raises AccountMissing where the program isn't set up, RpcUnavailable."""
    codec = AnchorCodec(program)
    async with RpcClient([rpc_url], timeout_s=request_timeout_s) as rpc:
        reader = ChainReader(rpc, codec)
        calls = CallBuilder(await reader.get_deployment())
        sender = Sender(rpc, MemoryOutbox(), error_name=codec.error_name, tick_s=_TICK_S)
        loop = asyncio.create_task(sender.run())
        try:
            yield Acting(rpc, reader, StakeReader(reader), calls, codec, sender, Assembler(rpc, codec))
        finally:
            loop.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await loop
