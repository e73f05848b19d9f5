"""Ending on chain what has ended: settle, release, cancel, close a contest. Each act has one name, for ever.

Money moves only by what both sides signed. What was billed comes from the last countersigned voucher; what was
paid is read back from the chain's events (chain_events.py), never from here.
"""

from typing import Final, Protocol

import structlog

from marketplace.crash import crash_point
from marketplace.domain.allocations import Allocation, Attempt, AttemptPhase
from marketplace.domain.quantities import Millis
from marketplace.domain.reasons import Reason
from marketplace.protocol.control import Command, CommandType
from marketplace.protocol.vouchers import VoucherMessage, VoucherState
from marketplace.services.chain_port import (
    Act,
    ActPending,
    ActRefused,
    CancelEscrow,
    ChainPort,
    CloseContest,
    Landed,
    ReleaseLost,
    ReleaseUnstarted,
    Settle,
)
from marketplace.services.meter import HANDED_OVER
from marketplace.services.node_registry import NodeRegistry
from marketplace.store.allocations import Attempts, Contest, Contests
from marketplace.store.engine import Store

_log = structlog.get_logger(__name__)

UNSTARTED: Final = frozenset({Reason.IMAGE_UNAVAILABLE, Reason.PULL_FAILED, Reason.START_TIMEOUT, Reason.VERIFY_FAILED})
"""Reasons 7..10: the matcher may release an attempt of which nothing is settled (program.md section 4)."""
_SAID_ON_CHAIN: Final = {Reason.INPUT_UNAVAILABLE: Reason.IMAGE_UNAVAILABLE}
"""The chain knows four reasons of what never started; an input is the renter's, as an image is, and no node's fault."""
WHOLE_SECOND_MS: Final = 1_000
TO_QUIT: Final = 4
STOP_MARGIN_MS: Final = 2_000
"""Chosen: what an order takes to the node, and a kill until it is done."""
LOOK_AGAIN_MS: Final = 500
LOOK_LATER_MS: Final = 5_000


class Absorber(Protocol):
    """Takes what landed into the books; `ChainEvents` has it."""

    async def absorb(self, signature: str) -> bool: ...


class Settlement:
    """Performs the acts that end attempts and escrows."""

    def __init__(self, store: Store, chain: ChainPort, registry: NodeRegistry, absorber: Absorber) -> None:
        self._store = store
        self._chain = chain
        self._registry = registry
        self._absorber = absorber

    async def absorb(self, landed: Landed) -> bool:
        """Take what landed into the books now; False when the watcher has to find it."""
        return await self._absorber.absorb(landed.signature)

    async def command_stop(self, allocation: Allocation, attempt: Attempt, reason: Reason) -> None:
        """Ask the node to end the attempt; repeated by the scheduler until it has."""
        presence = self._registry.find(attempt.node_id)
        if presence is None or presence.link is None:
            return
        await presence.link.command(
            Command(
                id=f"stop:{allocation.id}:{attempt.number}:{int(reason)}",
                type=CommandType.STOP,
                allocation_id=allocation.id,
                attempt=attempt.number,
                reason=int(reason),
                grace_ms=self._grace_ms(allocation),
                final=reason not in HANDED_OVER,
            )
        )

    def _grace_ms(self, allocation: Allocation) -> Millis:
        """What the renter asked for; less where the chain stops paying before that is over."""
        if allocation.stop_at_chain_ms is None:
            return allocation.stop_grace_ms
        paid_for = allocation.stop_at_chain_ms - self._chain.now() - STOP_MARGIN_MS
        return Millis(max(0, min(allocation.stop_grace_ms, paid_for)))

    async def finish(self, allocation: Allocation, attempt: Attempt | None) -> int:
        """An allocation that is releasing: pay its last attempt and close its escrow."""
        if attempt is None:
            view = await self._chain.find_escrow(allocation.escrow)
            if view is not None and view.state == "assigned":
                # An escrow of an earlier store, recognised: its node goes on and settles by itself.
                return LOOK_LATER_MS
            return await self._perform(f"cancel:{allocation.escrow}", self._cancel(allocation))
        if attempt.phase in (AttemptPhase.EXITED, AttemptPhase.LOST):
            return await self.end_attempt(allocation, attempt)
        raise ActPending(f"attempt {attempt.number} of {allocation.id} is still {attempt.phase}")

    async def end_attempt(self, allocation: Allocation, attempt: Attempt) -> int:
        """An attempt that is over here, and not yet on chain."""
        if attempt.phase is AttemptPhase.LOST:
            return await self._release_lost(allocation, attempt)
        voucher = last_voucher(attempt)
        if voucher is not None and voucher.state is not VoucherState.RUNNING:
            return await self._settle(allocation, attempt, voucher)
        gave_up = attempt.reason is Reason.NODE_QUIT and attempt.meter_at_ms is not None
        if voucher is not None or gave_up:
            # It ran, and its end was reported without a last voucher: what is acknowledged is paid, as of a lost one.
            return await self._release_lost(allocation, attempt)
        return await self._release_unstarted(allocation, attempt)

    async def close_contests(self) -> int:
        """Close every contest whose window has passed; in how many milliseconds to look again."""
        contests = await self._store.read(lambda tx: Contests(tx).list_open())
        # The chain counts whole seconds, and the window has to be over, not just full.
        now = self._chain.now() - WHOLE_SECOND_MS
        for contest in contests:
            if now >= contest.due_chain_ms:
                await self._close_contest(contest)
        waits = [c.due_chain_ms - now for c in contests if c.due_chain_ms > now]
        return max(LOOK_AGAIN_MS, min([*waits, LOOK_LATER_MS]))

    async def _settle(self, allocation: Allocation, attempt: Attempt, voucher: VoucherMessage) -> int:
        assert attempt.node_signature is not None  # noqa: S101 - written together with the voucher
        crash_point("market.before_settle")
        landed = await self._chain.perform(
            f"settle:{allocation.escrow}:{attempt.number}:{voucher.sequence}",
            (
                Settle(
                    escrow=allocation.escrow,
                    wallet=allocation.wallet,
                    opener=allocation.opener,
                    node_key=attempt.node_key,
                    voucher=voucher,
                    node_signature=attempt.node_signature,
                    meter_key=attempt.meter_key,
                    meter_signature=attempt.meter_signature,
                ),
            ),
        )
        crash_point("market.after_settle")
        return 0 if await self.absorb(landed) else LOOK_AGAIN_MS

    async def _release_lost(self, allocation: Allocation, attempt: Attempt) -> int:
        """As soon as the chain allows it: lost_after beyond the last sign of life it knows of.

        A release counts as the node's loss. Where the silence was the market's, the node may quit without one from
        three times lost_after on: it is given a fourth to do so.
        """
        terms = self._chain.terms
        voucher = last_voucher(attempt)
        alive = max(voucher.at_ms if voucher else 0, attempt.assigned_chain_ms or 0)
        patience = terms.lost_after * (TO_QUIT if attempt.reason is Reason.MARKET_ERROR else 1)
        wait = alive + patience + WHOLE_SECOND_MS - self._chain.now()
        if wait > 0:
            # The chain's clock may leap: a wait that was computed while it lagged can be over at once.
            return min(wait, LOOK_LATER_MS)
        view = await self._chain.find_escrow(allocation.escrow)
        if view is not None and view.contested_attempt:
            # One contest at a time: the earlier loss of this escrow is decided first.
            return LOOK_AGAIN_MS
        act = ReleaseLost(
            escrow=allocation.escrow,
            wallet=allocation.wallet,
            opener=allocation.opener,
            node_key=attempt.node_key,
            # The chain takes no other reason from the meter; why the work ended is the allocation's.
            reason=Reason.NODE_LOST,
            voucher=voucher,
            node_signature=attempt.node_signature,
            meter_key=attempt.meter_key,
            meter_signature=attempt.meter_signature,
        )
        return await self._perform(f"release:{allocation.escrow}:{attempt.number}", act)

    async def _release_unstarted(self, allocation: Allocation, attempt: Attempt) -> int:
        """Nothing was ever billed. Where the job ends with it, one transaction also closes the escrow.

        One that the wallet itself cancelled is closed by the release alone.
        """
        reason = _SAID_ON_CHAIN.get(attempt.reason, attempt.reason)
        if reason not in UNSTARTED:
            reason = Reason.VERIFY_FAILED
        release = ReleaseUnstarted(
            escrow=allocation.escrow,
            wallet=allocation.wallet,
            opener=allocation.opener,
            node_key=attempt.node_key,
            reason=reason,
        )
        name = f"release:{allocation.escrow}:{attempt.number}"
        if allocation.reason is not Reason.RUNNING and allocation.stop_at_chain_ms is None:
            return await self._perform(f"{name}:cancel", release, self._cancel(allocation))
        return await self._perform(name, release)

    async def _close_contest(self, contest: Contest) -> None:
        attempt = await self._store.read(lambda tx: Attempts(tx).find(contest.allocation_id, contest.attempt))
        view = await self._chain.find_escrow(contest.escrow)
        if attempt is None or view is None or view.contested_attempt != contest.attempt:
            await self._store.write(lambda tx: Contests(tx).close(contest.escrow, contest.attempt))
            return
        act = CloseContest(
            escrow=contest.escrow,
            wallet=view.wallet,
            opener=view.opener,
            node_key=attempt.node_key,
        )
        try:
            await self._perform(f"close_contest:{contest.escrow}:{contest.attempt}", act)
        except (ActRefused, ActPending) as error:
            _log.warning("contest not closed yet", action="settlement.close_contest", error=str(error))

    async def _perform(self, operation: str, *acts: Act) -> int:
        landed = await self._chain.perform(operation, acts)
        return 0 if await self.absorb(landed) else LOOK_AGAIN_MS

    def _cancel(self, allocation: Allocation) -> CancelEscrow:
        return CancelEscrow(allocation.escrow, allocation.wallet, allocation.opener)


def last_voucher(attempt: Attempt) -> VoucherMessage | None:
    """The latest countersigned voucher of an attempt."""
    return None if attempt.voucher is None else VoucherMessage.from_fields(attempt.voucher)
