"""Whose the attempt is: first the lease by the market's word, then the assignment by the chain's."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, Final

import structlog

from marketplace.domain.reasons import Reason
from marketplace.protocol.control import Claim, ClaimAck, FrameType
from node.attempt.orders import Orders, Stopped
from node.attempt.work import Work
from node.chain import Chain, ChainRefused, ChainSilent, Standing
from node.errors import MarketRefused
from node.journal import Stop

_CHAIN_RETRY_S: Final = 1.0
# Chosen: how far our RPC may be behind the market's is a slot or two; the renter waits meanwhile.
_CHAIN_LAG_S: Final = 0.1

_log = structlog.get_logger("node.attempt")


class Claiming:
    """assigned_at_ms: chain time of the assignment; 0 while it is not known."""

    def __init__(self, work: Work, orders: Orders) -> None:
        self.assigned_at_ms = 0
        self._work = work
        self._orders = orders

    async def hold_lease(self) -> bool:
        """Give the market our consent, until it takes or refuses it, or the claim is no longer live."""
        work, record = self._work, self._work.record
        if record.lease_token is not None:
            return True
        claim = Claim(
            allocation_id=record.key.allocation,
            attempt=record.key.attempt,
            at_ms=record.claim_at_ms,
            signature=record.claim_signature,
        )
        asking = work.tools.channel.insist(FrameType.CLAIM, claim, ClaimAck, re=record.request_frame, names=work.names)
        try:
            ack = await self._while_claim_lives(asking)
        except (MarketRefused, TimeoutError, Stopped) as error:
            _log.info("claim not taken", action="claim_not_taken", error=str(error) or "no answer", **work.names)
            work.tools.journal.forget(record.key)
            return False
        work.save(lease_token=ack.lease_token)
        return True

    async def until_assigned(self) -> None:
        """Until the chain says that the attempt is ours. Raises Stopped when it can no longer become so.

        Without an RPC of our own the market's word has to do; with one, the escrow's word counts alone.
        """
        chain = self._work.tools.chain
        while True:
            if chain is None:
                if self._orders.assigned.is_set():
                    return
            elif await self._assigned_on_chain(chain):
                return
            if not self._claim_lives() and not self._orders.assigned.is_set():
                raise Stopped(_quit("not assigned while the claim was live"))
            await self._told_or_soon()

    async def _while_claim_lives(self, asking: Coroutine[Any, Any, ClaimAck]) -> ClaimAck:
        """The answer. Raises TimeoutError when the claim can no longer bind us and the chain shows no assignment."""
        task = asyncio.create_task(asking)
        chain = self._work.tools.chain
        try:
            while True:
                left_ms = self._claim_ends_ms() - self._work.now_ms()
                done, _ = await asyncio.wait({task}, timeout=max(left_ms / 1000, _CHAIN_RETRY_S))
                if done:
                    return task.result()
                if self._claim_lives():
                    continue
                if chain is None or not await self._assigned_on_chain(chain):
                    raise TimeoutError
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _claim_ends_ms(self) -> int:
        return self._work.record.claim_at_ms + self._work.terms.claim_limit_ms

    def _claim_lives(self) -> bool:
        return self._work.now_ms() <= self._claim_ends_ms()

    async def _told_or_soon(self) -> None:
        """Until the market says `assigned`; once it has, until the chain may be asked again."""
        if self._orders.assigned.is_set():
            await asyncio.sleep(_CHAIN_LAG_S)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CHAIN_RETRY_S):
                await self._orders.assigned.wait()

    async def _assigned_on_chain(self, chain: Chain) -> bool:
        """Whether the escrow is assigned to us at the agreed price. Raises Stopped when it is to someone else."""
        work = self._work
        try:
            assignment = await chain.look(work.record)
        except (ChainSilent, ChainRefused):
            return False
        if assignment.standing is Standing.OVER:
            raise Stopped(_quit("the escrow is not assigned to this node"))
        if assignment.standing is Standing.WAITING:
            return False
        if assignment.price_per_hour != work.record.request.price_per_hour:
            raise Stopped(_quit("assigned at another price than agreed"))
        self.assigned_at_ms = assignment.assigned_at_ms
        work.save(assigned=True, meter_key=assignment.meter_key)
        return True


def _quit(detail: str) -> Stop:
    return Stop(Reason.NODE_QUIT, 0, final=False, detail=detail)
