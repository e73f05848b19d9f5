"""Sending signed transactions: through an RPC of the caller's own choice instead of the market."""

import asyncio
import time
from typing import Final, Protocol

from marketplace.chain.addresses import parse_signature
from marketplace.chain.answers import Commitment
from marketplace.chain.errors import RpcError
from marketplace.chain.rpc import RpcClient
from marketplace.client.errors import MarketChanged, NotConfirmed, TransactionFailed

_REBROADCAST_S: Final = 1.0


class Relay(Protocol):
    """How signed bytes reach the chain."""

    async def send(self, signed: bytes) -> str:
        """Hand over signed bytes; their signature."""

    async def confirmed(self, signature: str, timeout_s: float) -> None:
        """Until the chain has it. Raises TransactionFailed, NotConfirmed."""

    async def check_cluster(self, genesis_hash: str) -> None:
        """Raises MarketChanged when the market settles on another cluster."""


class RpcRelay:
    """Relay through a Solana RPC endpoint: the same bytes again and again until they land."""

    def __init__(self, rpc: RpcClient) -> None:
        self._rpc = rpc
        self._sent: dict[str, bytes] = {}

    async def send(self, signed: bytes) -> str:
        """Hand over signed bytes after the endpoint's own simulation. Raises TransactionFailed."""
        try:
            signature = str(await self._rpc.send_transaction(signed, skip_preflight=False))
        except RpcError as error:
            if error.failure is None:
                raise
            raise TransactionFailed(
                f"the chain refuses the transaction ({error.failure}); nothing was spent"
            ) from error
        self._sent[signature] = signed
        return signature

    async def confirmed(self, signature: str, timeout_s: float) -> None:
        """Until the chain has it; an unseen transaction is sent again, byte for byte."""
        deadline = time.monotonic() + timeout_s
        wanted = parse_signature(signature)
        while True:
            (status,) = await self._rpc.get_signature_statuses([wanted])
            if status is not None and status.commitment.reaches(Commitment.CONFIRMED):
                if status.failure is not None:
                    raise TransactionFailed(f"transaction {signature} failed on chain ({status.failure})")
                return
            if time.monotonic() > deadline:
                raise NotConfirmed(f"transaction {signature} is not confirmed yet; look again with the same command")
            if status is None and signature in self._sent:
                await self._rpc.send_transaction(self._sent[signature])
            await asyncio.sleep(_REBROADCAST_S)

    async def check_cluster(self, genesis_hash: str) -> None:
        """The endpoint's own genesis hash must be the market's."""
        found = str(await self._rpc.get_genesis_hash())
        if found != genesis_hash:
            raise MarketChanged(
                f"the market settles on the cluster with genesis {genesis_hash}, --rpc is on {found}. "
                "Nothing was signed; use an RPC of the market's cluster"
            )
