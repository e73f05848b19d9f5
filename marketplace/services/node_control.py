"""What nodes say over their held connection, and what they are told. Source: api.md section 5.5, system.md section 5.

Every report may come again: it is told from a new one by (allocation, attempt, sequence) and answered alike. A
report without the attempt's lease changes nothing. The heartbeat's answer always carries what a node may have
missed, so that a lost push costs one heartbeat at most.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import base58
import structlog

from marketplace.domain.allocations import Allocation, Attempt, AttemptPhase
from marketplace.domain.ids import AllocationId, NodeId
from marketplace.domain.instants import instant_text
from marketplace.domain.lifecycle import AllocationState
from marketplace.domain.nodes import NodeStatus
from marketplace.domain.quantities import Millis
from marketplace.domain.reasons import Reason, believed
from marketplace.errors import AlreadyAssigned, Malformed, MarketError, NotReady, StaleLease, VoucherInvalid
from marketplace.protocol.control import (
    AttemptState,
    Claim,
    ClaimAck,
    Command,
    CommandType,
    Countersignature,
    Heartbeat,
    HeartbeatAck,
    Hello,
    Holding,
    StateAck,
    StateReport,
    Welcome,
)
from marketplace.protocol.vouchers import VoucherMessage, VoucherState
from marketplace.services.chain_port import ChainPort
from marketplace.services.clock import Clock
from marketplace.services.live import Change, Decide, Live
from marketplace.services.meter import Meter, Objection
from marketplace.services.node_registry import NodeLink, NodeRegistry
from marketplace.services.scheduler import Scheduler, exit_attempt, lose_attempt
from marketplace.services.usage import JobUsage
from marketplace.store.allocations import Attempts
from marketplace.store.engine import Store

_log = structlog.get_logger(__name__)

MISSED: Final = 3
"""Heartbeats that may be missing before a node counts as lost (api.md section 5.5)."""
SILENT_FOR: Final = 3
"""So many times lost_after of silence of the market make a quit no loss (program.md section 4)."""
WATCHES_PER_BEAT: Final = 4
FINEST_WATCH_MS: Final = 500
"""Chosen: of the 2 s beyond three intervals in which lost work goes on, a quarter. Each look goes over all nodes."""
ASSIGNED_WAIT_MS: Final = 15_000
"""Chosen: a node may see its assignment on chain before we do; its report waits so long for ours."""
MAX_UNACKED_MS: Final = 900_000
"""Specified: system.md section 5."""
AHEAD_PATIENCE_MS: Final = 15_000
"""Chosen: so long a last voucher of which only the chain's clock is short may wait for it; what it bills beyond the
last countersigned one is worth less than a slot that stays taken."""


@dataclass(slots=True)
class _Told:
    """The attempt that a node was last told about."""

    node_id: NodeId
    number: int
    phase: AttemptPhase
    extended_ms: Millis


class NodeControl:
    """Answers nodes."""

    def __init__(
        self,
        store: Store,
        chain: ChainPort,
        live: Live,
        registry: NodeRegistry,
        meter: Meter,
        scheduler: Scheduler,
        clock: Clock,
        *,
        heartbeat_ms: int,
        pause_ms: int,
        usage: JobUsage,
    ) -> None:
        self._store = store
        self._chain = chain
        self._live = live
        self._registry = registry
        self._meter = meter
        self._scheduler = scheduler
        self._clock = clock
        self._heartbeat_ms = heartbeat_ms
        self._pause_ms = pause_ms
        self._usage = usage
        self._told: dict[AllocationId, _Told] = {}
        self._ahead_since_ms: dict[AllocationId, tuple[int, int]] = {}
        self._watched_ms: int | None = None
        self._watch_pause_ms = 0
        self._pushes: set[asyncio.Task[None]] = set()
        live.on_change(self._changed)

    # what nodes say

    async def hello(self, node_id: NodeId, link: NodeLink, hello: Hello) -> Welcome:
        """The node is connected; what it obeys, and what it may forget. Raises Starting."""
        self._live.require_open()
        await self._registry.connect(node_id, link, hello)
        held = {(h.allocation_id, h.attempt) for h in hello.holding}
        for attempt in self._live.attempts_of(node_id):
            if not attempt.live:
                continue
            if (attempt.allocation_id, attempt.number) not in held:
                _log.warning(
                    "node lost an attempt", action="control.hello", node=node_id, allocation=attempt.allocation_id
                )
                await self._live.change(attempt.allocation_id, lose_attempt(attempt.number, self._clock.now()))
            elif not self._meter.serves(attempt):
                await self._give_up(attempt)
        self._scheduler.wake_queued()
        terms = self._chain.terms
        return Welcome(
            server_time_ms=self._clock.now(),
            heartbeat_ms=self._heartbeat_ms,
            max_unacked_ms=MAX_UNACKED_MS,
            start_limit_ms=terms.ready_limit,
            pause_ms=self._pause_ms,
            market=terms.market,
            meter_key=terms.meter_key,
            program_id=base58.b58encode(terms.program_id).decode(),
            genesis_hash=base58.b58encode(terms.genesis_hash).decode(),
            forget=tuple(h for h in hello.holding if not self._holds(node_id, h)),
        )

    def disconnected(self, node_id: NodeId, link: NodeLink) -> None:
        """The connection ended."""
        self._registry.disconnect(node_id, link)

    async def heartbeat(self, node_id: NodeId, beat: Heartbeat) -> HeartbeatAck:
        """Countersignatures, refusals and commands. Raises Starting."""
        self._live.require_open()
        presence = self._registry.find(node_id)
        could_take = presence is not None and self._registry.accepts_work(presence)
        room = await self._registry.heard_of(
            node_id, draining=beat.draining, images=beat.images, free_slots=beat.free_slots
        )
        signed, refused = await self._meter.countersign(node_id, beat.allocations)
        await self._usage.note(node_id, beat.allocations)
        for entry in beat.allocations:
            if entry.progress is not None:
                await self._note_progress(node_id, AllocationId(entry.allocation_id), entry.attempt, entry.progress)
        if presence is not None and (room or not could_take) and self._registry.accepts_work(presence):
            self._scheduler.wake_queued()
        return HeartbeatAck(
            server_time_ms=self._clock.now(),
            next_ms=self._heartbeat_ms,
            chain_time_ms=self._chain.now(),
            countersigned=tuple(signed),
            refused=tuple(refused),
            commands=tuple(self._missed(node_id, beat)),
        )

    def claim_again(self, node_id: NodeId, claim: Claim) -> ClaimAck:
        """A claim whose answer was lost. Raises AlreadyAssigned when it is not the one that was taken, Starting."""
        self._live.require_open()
        attempt = self._live.attempt(AllocationId(claim.allocation_id))
        if (
            attempt is None
            or attempt.node_id != node_id
            or attempt.number != claim.attempt
            or attempt.claim_signature != claim.signature
            or attempt.phase is AttemptPhase.ENDED
        ):
            raise AlreadyAssigned
        return ClaimAck(lease_token=attempt.lease_token)

    async def state(self, node_id: NodeId, report: StateReport) -> StateAck:
        """Take a change of an attempt's state. Raises StaleLease, NotReady, VoucherInvalid, Malformed."""
        self._live.require_open()
        allocation_id = AllocationId(report.allocation_id)
        attempt = self._holder(node_id, report)
        if attempt is None or report.sequence <= attempt.report_sequence:
            return await self._ack_again(node_id, report, attempt)
        if report.state in (AttemptState.READY, AttemptState.EXITED) and attempt.phase is AttemptPhase.CLAIMED:
            await self._wait_assigned(allocation_id, attempt)
        if report.state is AttemptState.EXITED:
            await self._exited(allocation_id, report)
            return await self._ack_again(node_id, report, self._live.attempt(allocation_id))
        changes = {
            AttemptState.READY: self._ready,
            AttemptState.PAUSED: self._paused,
            AttemptState.RUNNING: self._resumed,
            AttemptState.UPLOADING: self._uploading,
        }
        await self._live.change(allocation_id, _once(report, changes.get(report.state, _progressed)(report)))
        return StateAck()

    # watching nodes

    async def watch(self) -> int:
        """Three heartbeats missing: the node is lost, and so are its attempts. In how many ms to look again.

        While this process itself stood still it read nobody's heartbeat: that time is no node's silence.
        """
        now, most = self._clock.monotonic_ms(), MISSED * self._heartbeat_ms
        pause = self._heartbeat_ms // WATCHES_PER_BEAT
        stood_still = max(0, now - (self._watched_ms if self._watched_ms is not None else now) - self._watch_pause_ms)
        self._watched_ms = now
        if stood_still > pause:
            self._registry.excuse(stood_still)
        soonest = pause
        for presence in self._registry:
            silent = now - presence.last_beat_ms if presence.last_beat_ms is not None else 0
            if silent < most:
                soonest = min(soonest, most - silent)
                continue
            node_id = presence.node.id
            if not presence.lost:
                _log.warning("node lost", action="control.watch", node=node_id, silent_ms=silent)
            await self._registry.note_lost(node_id)
            for attempt in self._live.attempts_of(node_id):
                if attempt.live and attempt.phase is not AttemptPhase.CLAIMED:
                    await self._live.change(attempt.allocation_id, lose_attempt(attempt.number, self._clock.now()))
        # Whoever would be lost before the next look is looked at in time: a quarter of a long heartbeat is too late.
        self._watch_pause_ms = max(50, min(pause, FINEST_WATCH_MS), soonest)
        return self._watch_pause_ms

    async def close(self) -> None:
        """Wait for pushes that are on their way."""
        for task in list(self._pushes):
            task.cancel()
        await asyncio.gather(*self._pushes, return_exceptions=True)

    # reports

    def _holder(self, node_id: NodeId, report: StateReport) -> Attempt | None:
        """The attempt whose lease the report names, None when that is over."""
        attempt = self._live.attempt(AllocationId(report.allocation_id))
        if (
            attempt is None
            or attempt.node_id != node_id
            or attempt.number != report.attempt
            or attempt.lease_token != report.lease_token
        ):
            return None
        return attempt if attempt.live else None

    async def _ack_again(self, node_id: NodeId, report: StateReport, attempt: Attempt | None) -> StateAck:
        """The same answer to a report that was taken before. Raises StaleLease for one that never was.

        attempt: of the allocation as it stands in memory; None, or another one, when the report's is over.
        """
        present = attempt if attempt is not None and attempt.number == report.attempt else None
        known = present or await self._store.lookup(
            lambda tx: Attempts(tx).find(AllocationId(report.allocation_id), report.attempt)
        )
        if (
            known is None
            or known.node_id != node_id
            or known.lease_token != report.lease_token
            or report.sequence > known.report_sequence
        ):
            raise StaleLease
        return StateAck(countersignature=_countersignature(known, report))

    async def _wait_assigned(self, allocation_id: AllocationId, attempt: Attempt) -> None:
        def over(_allocation: Allocation) -> bool:
            latest = self._live.attempt(allocation_id)
            return latest is None or latest.number != attempt.number or latest.phase is not AttemptPhase.CLAIMED

        if await self._live.wait_for(allocation_id, over, ASSIGNED_WAIT_MS) is None:
            raise NotReady("the assignment is not confirmed yet; report it again")

    def _ready(self, report: StateReport) -> Decide:
        def decide(allocation: Allocation, attempt: Attempt | None) -> Change | None:
            if attempt is None or attempt.number != report.attempt or not attempt.live:
                raise StaleLease
            if attempt.phase is AttemptPhase.READY:
                return None
            running = replace(
                attempt,
                phase=AttemptPhase.READY,
                meter_at_ms=self._clock.now(),
                started_chain_ms=report.started_at_ms,
                report_sequence=report.sequence,
            )
            active = replace(
                allocation,
                state=AllocationState.ACTIVE,
                image_digest=allocation.image_digest or report.image_digest,
            )
            return Change(active, running, ("job.running",), {"node_id": attempt.node_id})

        return decide

    def _paused(self, report: StateReport) -> Decide:
        def decide(allocation: Allocation, attempt: Attempt | None) -> Change | None:
            if attempt is None or attempt.number != report.attempt or attempt.phase is not AttemptPhase.READY:
                raise StaleLease
            now = self._clock.now()
            held = replace(attempt, report_sequence=report.sequence, paused_at_ms=now)
            until = instant_text(Millis(now + self._pause_ms))
            return Change(allocation, held, ("allocation.paused",), {"paused_until": until})

        return decide

    def _resumed(self, report: StateReport) -> Decide:
        def decide(allocation: Allocation, attempt: Attempt | None) -> Change | None:
            if attempt is None or attempt.number != report.attempt or attempt.phase is not AttemptPhase.READY:
                raise StaleLease
            seen = replace(attempt, report_sequence=report.sequence)
            if attempt.paused_at_ms is None:
                return Change(allocation, seen)
            now = self._clock.now()
            running = replace(seen, paused_at_ms=None, paused_ms=attempt.unbilled_ms(now))
            left = {"seconds_left": running.left_ms(now) // 1000}
            return Change(allocation, running, ("allocation.resumed",), left)

        return decide

    def _uploading(self, report: StateReport) -> Decide:
        """The work is over: nothing is billed from here on, and the time limit is the delivery's own."""

        def decide(allocation: Allocation, attempt: Attempt | None) -> Change | None:
            if attempt is None or attempt.number != report.attempt or not attempt.live:
                raise StaleLease
            if attempt.phase is not AttemptPhase.READY:
                return None
            over = replace(
                attempt,
                phase=AttemptPhase.UPLOADING,
                uploading_at_ms=self._clock.now(),
                reason=self._believed(_reason_of(report), allocation, attempt),
                report_sequence=report.sequence,
            )
            return Change(replace(allocation, uploading=True), over, ("job.uploading",), {"node_id": attempt.node_id})

        return decide

    async def _exited(self, allocation_id: AllocationId, report: StateReport) -> None:
        reason = _reason_of(report)
        found: list[Objection] = []
        at_ms = self._ended_ms(report)

        def decide(allocation: Allocation, attempt: Attempt | None) -> Change | None:
            if attempt is None or attempt.number != report.attempt or not attempt.live:
                raise StaleLease
            over, closes = attempt, False
            booked = self._believed(reason, allocation, attempt)
            if report.voucher is not None:
                judged = self._meter.judge(allocation, attempt, report.voucher)
                if isinstance(judged, Objection):
                    found.append(judged)
                    return None
                if (
                    judged.voucher.state is VoucherState.RUNNING
                    or not judged.voucher.reason == reason == booked
                    or (reason is Reason.NODE_QUIT and not self._may_quit(attempt))
                ):
                    found.append(Objection.STATE)
                    return None
                over, closes = judged.attempt, judged.voucher.state is VoucherState.FINAL
            over = replace(over, report_sequence=report.sequence)
            change = exit_attempt(
                report.attempt,
                booked,
                at_ms,
                exit_code=report.exit_code,
                detail=report.detail,
                closes=closes,
                with_attempt=lambda _attempt: over,
            )(allocation, attempt)
            if change is None or report.image_digest is None:
                return change
            digest = change.allocation.image_digest or report.image_digest
            return replace(change, allocation=replace(change.allocation, image_digest=digest))

        await self._live.change(allocation_id, _once(report, decide))
        if found:
            raise self._refusal(found[0], allocation_id, report)

    def _believed(self, said: Reason, allocation: Allocation, attempt: Attempt) -> Reason:
        presence = self._registry.find(attempt.node_id)
        return believed(
            said,
            ready=attempt.meter_at_ms is not None,
            cancelling=allocation.cancelling,
            # What its beats alone say is told to nobody, and would be gone with the next.
            draining=presence is not None and presence.node.status is NodeStatus.DRAINING,
        )

    def _may_quit(self, attempt: Attempt) -> bool:
        """Whether we were silent for so long that leaving is no loss: then both sides sign it.

        Otherwise it is released on what was acknowledged before, and compensated as a lost one. The chain decides a
        quit by the same rule (programs/reaver_market, `quit`).
        """
        voucher = None if attempt.voucher is None else VoucherMessage.from_fields(attempt.voucher)
        heard = max(voucher.at_ms if voucher else 0, attempt.started_chain_ms or 0, attempt.assigned_chain_ms or 0)
        return self._chain.now() >= heard + SILENT_FOR * self._chain.terms.lost_after

    async def _give_up(self, attempt: Attempt) -> None:
        """End an attempt that nobody can meter any more; the node is told to forget it.

        A node with an RPC of its own quits it on its last countersigned voucher, which is no loss; where none does,
        it is released by that voucher (settlement.py waits long enough for the node to be first).
        """
        _log.error(
            "the attempt's meter key is not here: it ends on its last countersigned voucher",
            action="control.meter_gone", allocation=attempt.allocation_id, attempt=attempt.number,
            meter=attempt.meter_key, wanted=f"keys/retired/meter-{attempt.meter_key}.json",
        )  # fmt: skip
        lose = lose_attempt(attempt.number, self._clock.now(), reason=Reason.MARKET_ERROR)
        await self._live.change(attempt.allocation_id, lose)

    def _refusal(self, found: Objection, allocation_id: AllocationId, report: StateReport) -> MarketError:
        if found is Objection.AHEAD and self._may_wait(allocation_id, report):
            return NotReady("the chain's clock has not reached the last voucher's time yet; report it again")
        return VoucherInvalid(f"the last voucher was not countersigned: {found}", extra={"objection": found})

    def _may_wait(self, allocation_id: AllocationId, report: StateReport) -> bool:
        """Whether this report has not waited long for the chain's clock. One that is sent again is the same one."""
        now = self._clock.monotonic_ms()
        sequence, since = self._ahead_since_ms.get(allocation_id, (0, now))
        if sequence != report.sequence:
            since = now
        self._ahead_since_ms[allocation_id] = (report.sequence, since)
        return now - since < AHEAD_PATIENCE_MS

    def _ended_ms(self, report: StateReport) -> int:
        """When the work ended: now, or as long ago as its last voucher says of an end that we could not hear of."""
        now = self._clock.now()
        if report.voucher is None:
            return now
        try:
            voucher = VoucherMessage.from_fields(report.voucher.fields)
        except ValueError:
            return now
        ago = self._chain.now() - voucher.at_ms
        return now - ago if self._chain.terms.skew < ago < MAX_UNACKED_MS else now

    async def _note_progress(self, node_id: NodeId, allocation_id: AllocationId, number: int, progress: int) -> None:
        def decide(allocation: Allocation, attempt: Attempt | None) -> Change | None:
            if attempt is None or (attempt.node_id, attempt.number) != (node_id, number) or not attempt.live:
                return None
            # It never falls, and only a completed job shows 100 (api.md section 5.3).
            shown = min(progress, 99)
            if shown <= allocation.progress:
                return None
            return Change(replace(allocation, progress=shown), attempt, ("job.progress",), {"progress": shown})

        await self._live.change(allocation_id, decide)

    # commands

    def _holds(self, node_id: NodeId, holding: Holding) -> bool:
        attempt = self._live.attempt(AllocationId(holding.allocation_id))
        return (
            attempt is not None
            and attempt.node_id == node_id
            and attempt.number == holding.attempt
            and attempt.phase not in (AttemptPhase.ENDED, AttemptPhase.LOST)
        )

    def _missed(self, node_id: NodeId, beat: Heartbeat) -> list[Command]:
        """What the node should know by now."""
        commands = [
            _assigned(attempt)
            for attempt in self._live.attempts_of(node_id)
            if attempt.phase in (AttemptPhase.ASSIGNED, AttemptPhase.PULLING)
        ]
        for entry in beat.allocations:
            holding = Holding(allocation_id=entry.allocation_id, attempt=entry.attempt, state=entry.state)
            if not self._holds(node_id, holding):
                commands.append(_settled(entry.allocation_id, entry.attempt))
                continue
            attempt = self._live.attempt(AllocationId(entry.allocation_id))
            if attempt is not None and attempt.live and attempt.extended_ms > entry.extended_ms:
                commands.append(_extend(attempt))
        return commands

    def _changed(self, allocation: Allocation) -> None:
        """Push what changed for a node; free capacity goes to who waits."""
        attempt = self._live.attempt(allocation.id)
        told = self._told.get(allocation.id)
        if attempt is None or not attempt.live:
            self._ahead_since_ms.pop(allocation.id, None)
        if allocation.terminal:
            self._told.pop(allocation.id, None)
        elif attempt is not None:
            self._told[allocation.id] = _Told(attempt.node_id, attempt.number, attempt.phase, attempt.extended_ms)
        over = (
            told is not None
            and told.phase is not AttemptPhase.ENDED
            and (
                allocation.terminal
                or attempt is None
                or attempt.number != told.number
                or attempt.phase is AttemptPhase.ENDED
            )
        )
        if told is not None and over:
            self._push(told.node_id, _settled(allocation.id, told.number))
            self._scheduler.wake_queued()
        elif (
            not allocation.terminal
            and attempt is not None
            and attempt.phase is AttemptPhase.ASSIGNED
            and (told is None or told.phase is not AttemptPhase.ASSIGNED or told.number != attempt.number)
        ):
            self._push(attempt.node_id, _assigned(attempt))
        if (
            attempt is not None
            and attempt.live
            and told is not None
            and told.number == attempt.number
            and told.extended_ms < attempt.extended_ms
        ):
            self._push(attempt.node_id, _extend(attempt))

    def _push(self, node_id: NodeId, command: Command) -> None:
        presence = self._registry.find(node_id)
        if presence is None or presence.link is None:
            return
        task: asyncio.Task[None] = asyncio.create_task(_deliver(presence.link, command))
        self._pushes.add(task)
        task.add_done_callback(self._pushes.discard)


async def _deliver(link: NodeLink, command: Command) -> None:
    """A push that fails is made good by the next heartbeat's answer."""
    await link.command(command)


def _once(report: StateReport, decide: Decide) -> Decide:
    """The change, unless the same report was taken while this one waited: nodes repeat what they had no answer to."""

    def unless_taken(allocation: Allocation, attempt: Attempt | None) -> Change | None:
        taken = attempt is not None and (
            (attempt.number, attempt.lease_token) == (report.attempt, report.lease_token)
            and report.sequence <= attempt.report_sequence
        )
        return None if taken else decide(allocation, attempt)

    return unless_taken


def _progressed(report: StateReport) -> Callable[[Allocation, Attempt | None], Change | None]:
    def decide(allocation: Allocation, attempt: Attempt | None) -> Change | None:
        if attempt is None or attempt.number != report.attempt or not attempt.live:
            raise StaleLease
        phase = attempt.phase
        if report.state is AttemptState.PULLING and phase is AttemptPhase.ASSIGNED:
            phase = AttemptPhase.PULLING
        seen = replace(allocation, image_digest=allocation.image_digest or report.image_digest)
        return Change(seen, replace(attempt, phase=phase, report_sequence=report.sequence))

    return decide


def _reason_of(report: StateReport) -> Reason:
    """Why a node says that the work ended. Raises Malformed."""
    try:
        reason = Reason(report.reason)
    except ValueError as error:
        raise Malformed(f"{report.reason} is no reason") from error
    if reason is Reason.RUNNING:
        raise Malformed("what runs has not ended")
    return reason


def _countersignature(attempt: Attempt, report: StateReport) -> Countersignature | None:
    if report.voucher is None or attempt.voucher != report.voucher.fields or attempt.meter_signature is None:
        return None
    return Countersignature(
        allocation_id=attempt.allocation_id,
        attempt=attempt.number,
        sequence=attempt.voucher_sequence,
        signature=attempt.meter_signature,
    )


def _assigned(attempt: Attempt) -> Command:
    return Command(
        id=f"assigned:{attempt.allocation_id}:{attempt.number}",
        type=CommandType.ASSIGNED,
        allocation_id=attempt.allocation_id,
        attempt=attempt.number,
    )


def _extend(attempt: Attempt) -> Command:
    return Command(
        id=f"extend:{attempt.allocation_id}:{attempt.number}:{attempt.extended_ms}:{attempt.extended_deposit}",
        type=CommandType.EXTEND,
        allocation_id=attempt.allocation_id,
        attempt=attempt.number,
        extended_ms=attempt.extended_ms,
        extended_deposit=attempt.extended_deposit,
    )


def _settled(allocation_id: str, number: int) -> Command:
    return Command(
        id=f"settled:{allocation_id}:{number}",
        type=CommandType.SETTLED,
        allocation_id=allocation_id,
        attempt=number,
    )
