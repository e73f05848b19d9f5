"""What is done next for each allocation: one task for each, one act at a time, every step readable from its rows.

A task looks at its allocation and performs the one act that its state asks for. It decides nothing that isn't
written: after a kill at any step the next process looks at the same rows and performs the same act under the same
operation name, which the outbox knows. What an act brought about comes back as chain events (chain_events.py).

    requested   market opens: ask a free node for its claim, then open (+ assign) in one transaction
    reserving   ask a free node for its claim; nobody: wait. Cancelled, expired, attempts used up: releasing
    provisioning  claimed: assign. Assigned: wait for ready, at most the start limit
    active      wait. Exited with another attempt to follow: settle `ended`. Lost: release
    releasing   settle the final voucher; or release what never started; or cancel what nobody runs
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Final, Protocol

import orjson
import structlog

from marketplace.crash import crash_point
from marketplace.domain.allocations import Allocation, Attempt, AttemptPhase, Opener
from marketplace.domain.catalogue import region_of
from marketplace.domain.ids import AllocationId, NodeId
from marketplace.domain.lifecycle import AllocationState
from marketplace.domain.matching import Candidate, Request, band, choose, obstacle, weight
from marketplace.domain.placements import DEARER, DECLINED, KEPT, MAX_EXCLUDED, Drawn, Excluded, Placement
from marketplace.domain.pricing import with_priority
from marketplace.domain.quantities import Millis, Tokens
from marketplace.domain.reasons import Reason
from marketplace.domain.retries import RETRIED
from marketplace.domain.timing import RESTORE_LIMIT_MS, TimeWarning, due_warnings, extension_lead_ms, next_warning_ms
from marketplace.errors import MarketError, StaleLease
from marketplace.protocol.terms import version_of
from marketplace.services.chain_port import ActPending, ActRefused, Assign, ChainPort, Landed, OpenEscrow
from marketplace.services.claims import Claims, SignedClaim, Terms, claim_message
from marketplace.services.clock import Clock, RandomSource
from marketplace.services.live import Change, Live
from marketplace.services.node_registry import NodeRegistry
from marketplace.services.obstacles import ALLOWANCE, Because, explain, four_places
from marketplace.services.settlement import Settlement
from marketplace.store.api_keys import KeySpending
from marketplace.store.engine import Transaction
from marketplace.store.placements import Placements
from marketplace.store.prices import PriceDays

_log = structlog.get_logger(__name__)

FIRST_RETRY_MS: Final = 200
LAST_RETRY_MS: Final = 15_000
"""Chosen: an act that failed is tried again after 0.2 s, doubling to 15 s, for ever: money is never given up."""
POLL_MS: Final = 5_000
"""Chosen: who waits for a node looks this often even when nothing wakes it."""
POLL_EACH_MS: Final = 100
"""Chosen: with n of them each waits n times this, so that looking takes at most a quarter of a core (measured: a look
at 10,000 nodes takes 25 ms)."""
SPARE_WAKES: Final = 16
AGING_MS: Final = 600_000
"""Who waited so long goes with the next higher priority. Specified: api.md section 5.1."""
STOP_REPEAT_MS: Final = 2_000
UPLOAD_LIMIT_MS: Final = 1_800_000
"""Chosen: 20 GiB at 100 Mbit/s. Longer would come near the time when strangers may reap the escrow."""
STOP_PATIENCE_MS: Final = 30_000
"""Chosen: how long beyond its grace a node may take to end an attempt before it counts as silent."""


PAUSE_SLACK_MS: Final = 5_000
"""Chosen: the node ends a pause itself; only one that does not is told to."""
AUTO_RETRY_MS: Final = 15_000
"""Chosen: how often an extension that something is in the way of is tried again."""

_WAITED_TOO_LONG: Final = frozenset({"ClaimStale", "ClaimFromFuture"})
_WITHHELD: Final = {"AllowanceRevoked": "revoked", "AllowanceExpired": "expired"}
"""The wallet took back what its escrow was opened under: no node can be assigned, and none is to blame."""


class Extender(Protocol):
    """Adds time inside what a renter allowed; `ExtensionService` is it."""

    async def extend_by_itself(self, allocation: Allocation) -> bool: ...

    async def restore(self, allocation: Allocation) -> bool: ...


class HandsOn(Protocol):
    """Knows what one attempt hands to the next; `JobCheckpoints` is it."""

    async def begins_with_one(self, allocation: Allocation) -> bool: ...


class Scheduler:
    """Drives every live allocation."""

    def __init__(
        self,
        live: Live,
        chain: ChainPort,
        registry: NodeRegistry,
        claims: Claims,
        settlement: Settlement,
        clock: Clock,
        random: RandomSource,
        extender: Extender,
        checkpoints: HandsOn,
        *,
        pause_ms: int,
    ) -> None:
        self._extender = extender
        self._checkpoints = checkpoints
        self._pause_ms = pause_ms
        self._live = live
        self._chain = chain
        self._registry = registry
        self._claims = claims
        self._settlement = settlement
        self._clock = clock
        self._random = random
        self._tasks: dict[AllocationId, asyncio.Task[None]] = {}
        self._woken: dict[AllocationId, asyncio.Event] = {}
        self._passed_over: set[AllocationId] = set()
        """Those that waited and could not be served when they last tried: nobody yields to them."""
        self._withheld: dict[AllocationId, str] = {}
        """Those whose wallet's allowance was revoked or has expired, in that word: no node is asked meanwhile."""
        self._running = False

    async def run(self) -> None:
        """Drive what the store knows and whatever comes, until cancelled."""
        self._running = True
        self._live.on_change(self._changed)
        for allocation in self._live:
            self._changed(allocation)
        try:
            await asyncio.Event().wait()
        finally:
            self._running = False
            tasks = list(self._tasks.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def wake_queued(self) -> None:
        """Capacity came: the most urgent of those who wait look again, a few more than can be served.

        The rest are found by their polls: a look costs milliseconds at ten thousand nodes, so not everybody who
        waits is woken for one free slot.
        """
        now = self._clock.now()
        waiting = [a for a in self._live if a.state is AllocationState.RESERVING and (a.retry_at_ms or 0) <= now]
        places = 2 * self._registry.free_capacity() + SPARE_WAKES
        for allocation in sorted(waiting, key=self._urgency)[:places]:
            self._passed_over.discard(allocation.id)
            self.wake(allocation.id)

    def wake(self, allocation_id: AllocationId) -> None:
        """Look at this one now."""
        event = self._woken.get(allocation_id)
        if event is not None:
            event.set()

    def queue_position(self, allocation: Allocation) -> int:
        """Place among those who wait for the same classes, from 1."""
        wanted = _classes(allocation)
        waiting = sorted(
            (a for a in self._live if a.state is AllocationState.RESERVING and not wanted.isdisjoint(_classes(a))),
            key=self._urgency,
        )
        return next((n for n, a in enumerate(waiting, 1) if a.id == allocation.id), len(waiting) + 1)

    def obstacles(self, allocation: Allocation) -> tuple[Because, ...]:
        """Why no node takes it, in the words of a quote; or what only its wallet can change."""
        withheld = self._withheld.get(allocation.id)
        if withheld is not None:
            return (Because(ALLOWANCE, "granted", withheld, 0),)
        return explain(self._request(allocation, allocation.deposit), self._candidates(allocation))

    def _urgency(self, allocation: Allocation) -> tuple[int, int, str]:
        order = ("urgent", "high", "normal", "low").index(allocation.priority.value)
        waited = self._clock.now() - allocation.waiting_since_ms
        return max(0, order - waited // AGING_MS), allocation.created_at_ms, allocation.id

    def _changed(self, allocation: Allocation) -> None:
        self.wake(allocation.id)
        if allocation.terminal or not self._running or allocation.id in self._tasks:
            return
        self._woken[allocation.id] = asyncio.Event()
        task = asyncio.create_task(self._drive(allocation.id), name=f"drive {allocation.id}")
        self._tasks[allocation.id] = task
        task.add_done_callback(lambda _task: self._forget(allocation.id))

    def _forget(self, allocation_id: AllocationId) -> None:
        self._passed_over.discard(allocation_id)
        self._withheld.pop(allocation_id, None)
        self._tasks.pop(allocation_id, None)
        self._woken.pop(allocation_id, None)

    async def _drive(self, allocation_id: AllocationId) -> None:
        woken = self._woken[allocation_id]
        backoff = FIRST_RETRY_MS
        while True:
            woken.clear()
            allocation = self._live.find(allocation_id)
            if allocation is None:
                return
            try:
                delay = await self._step(allocation)
                backoff = FIRST_RETRY_MS
            except StaleLease:
                delay = 0
            except (MarketError, ActPending, ActRefused) as error:
                _log.warning(
                    "act not done yet", action="scheduler.step", allocation=allocation_id,
                    state=allocation.state.value, error=str(error),
                )  # fmt: skip
                self._passed_over.add(allocation_id)
                delay, backoff = backoff, min(backoff * 2, LAST_RETRY_MS)
            except Exception:  # noqa: BLE001 - the outer edge, see below
                # The outer edge of this allocation's task: a fault in one must not end the others, nor itself.
                _log.exception("step failed", action="scheduler.step", allocation=allocation_id)
                self._passed_over.add(allocation_id)
                delay, backoff = backoff, min(backoff * 2, LAST_RETRY_MS)
            await _woken_within(woken, delay)

    async def _step(self, allocation: Allocation) -> int | None:
        """Perform what is due; in how many milliseconds to look again, None when only a change calls for it."""
        attempt = self._live.attempt(allocation.id)
        if attempt is not None and (attempt.number != allocation.attempt or attempt.phase is AttemptPhase.ENDED):
            attempt = None
        match allocation.state:
            case AllocationState.REQUESTED:
                return await self._open(allocation, attempt)
            case AllocationState.RESERVING:
                return await (self._match(allocation) if attempt is None else self._attend(allocation, attempt))
            case AllocationState.RELEASING:
                return await self._settlement.finish(allocation, attempt)
            case _ if attempt is None:
                raise AssertionError(f"{allocation.id} is {allocation.state} without an attempt")
            case _:
                return await self._attend(allocation, attempt)

    # opening

    async def _open(self, allocation: Allocation, attempt: Attempt | None) -> int | None:
        """Open the escrow under the wallet's allowance, with the first attempt where a node is free."""
        if not allocation.opening or allocation.opener is not Opener.MARKET:
            return None
        operation = f"open:{allocation.escrow}"
        if attempt is None and not await self._chain.under_way(operation):
            attempt = await self._claim(allocation)
        opening = OpenEscrow(
            escrow=allocation.escrow,
            wallet=allocation.wallet,
            nonce=allocation.nonce,
            class_id=allocation.class_id,
            terms_hash=allocation.terms_hash,
            ceiling_per_hour=allocation.ceiling_per_hour,
            deposit=allocation.deposit,
            max_time=allocation.max_ms,
            attempts=allocation.max_attempts,
        )
        acts = (opening,) if attempt is None else (opening, self._assignment(allocation, attempt))
        try:
            landed = await self._chain.perform(operation, acts)
        except ActRefused as refused:
            await self._open_refused(allocation, attempt, refused)
            return 0
        return await self._absorbed(landed)

    async def _open_refused(self, allocation: Allocation, attempt: Attempt | None, refused: ActRefused) -> None:
        """Nothing landed. With a claim the assignment may be at fault: open alone. Else the opening is given up."""
        _log.warning(
            "escrow not opened", action="scheduler.open", allocation=allocation.id, error=refused.name or str(refused)
        )
        if attempt is not None:
            await self._drop(allocation.id, attempt, refused)
            return

        def give_up(present: Allocation, latest: Attempt | None) -> Change | None:
            if present.state is not AllocationState.REQUESTED:
                return None
            return Change(
                replace(present, opening=False, error=refused.name or str(refused)),
                latest,
                also=lambda tx: KeySpending(tx).settle(present.id, Tokens(0)),
            )

        await self._live.change(allocation.id, give_up)

    # matching

    async def _match(self, allocation: Allocation) -> int | None:
        reason = self._end_of_wait(allocation)
        if reason is not None:
            await self._release(allocation.id, reason)
            return 0
        pause_ms = (allocation.retry_at_ms or 0) - self._clock.now()
        if pause_ms > 0:
            return pause_ms
        max_ms, deposit = allocation.max_ms, allocation.deposit
        if allocation.attempt:
            if allocation.retry_extend:
                await self._extender.restore(allocation)
            max_ms, deposit = await self._remaining(allocation)
        if max_ms <= 0 or deposit <= 0:
            await self._release(allocation.id, Reason.TIMEOUT if max_ms <= 0 else Reason.OUT_OF_FUNDS)
            return 0
        withheld = await self._is_withheld(allocation)
        if withheld or await self._claim(allocation, (max_ms, deposit)) is None:
            poll_ms = max(POLL_MS, POLL_EACH_MS * len(self._tasks))
            return min(poll_ms, max(0, allocation.queue_until_ms - self._clock.now()))
        return 0

    async def _is_withheld(self, allocation: Allocation) -> bool:
        """Whether the wallet still withholds what an assignment of it was refused for; asked of the chain."""
        if allocation.id not in self._withheld:
            return False
        allowance = await self._chain.find_allowance(allocation.wallet)
        if allowance is None or not allowance.total or self._chain.now() >= allowance.expires_at:
            self._passed_over.add(allocation.id)
            return True
        del self._withheld[allocation.id]
        return False

    def _end_of_wait(self, allocation: Allocation) -> Reason | None:
        """Why it waits no longer."""
        if allocation.cancelling:
            return Reason.CANCELLED
        last = self._live.attempt(allocation.id)
        if allocation.attempt >= allocation.max_attempts:
            return last.reason if last is not None and last.reason is not Reason.RUNNING else Reason.NODE_LOST
        if last is not None and allocation.retry.rules_out(last.reason, last.exit_code):
            return last.reason
        if self._clock.now() >= allocation.queue_until_ms:
            return Reason.QUEUE_EXPIRED
        return None

    async def _remaining(self, allocation: Allocation) -> tuple[Millis, Tokens]:
        """Time and money that earlier attempts left."""
        view = await self._chain.find_escrow(allocation.escrow)
        if view is None or view.state != "open":
            raise ActPending(f"escrow {allocation.escrow} is not open for another attempt")
        return view.time_left, view.deposit_left

    async def _claim(self, allocation: Allocation, terms: tuple[Millis, Tokens] | None = None) -> Attempt | None:
        """Ask nodes, best draw first, until one signs; its attempt, written. None when none is free or willing."""
        self._passed_over.discard(allocation.id)
        if not self._registry.has_room():
            return None
        max_ms, deposit = terms or (allocation.max_ms, allocation.deposit)
        asked: set[NodeId] = set()
        barred: set[NodeId] = set()
        while True:
            request = self._request(allocation, deposit, frozenset(asked | barred))
            candidates = band(request, self._candidates(allocation))
            draw = int.from_bytes(self._random.token_bytes(16), "big")
            # Nodes name the images that they hold as renters do.
            chosen = choose(candidates, allocation.image, draw)
            if chosen is None:
                if asked:
                    self._passed_over.add(allocation.id)
                return None
            if self._comes_later(allocation, chosen):
                barred.add(chosen.node_id)
                continue
            asked.add(chosen.node_id)
            offer = Terms(
                allocation.attempt + 1, with_priority(chosen.floor_per_hour, allocation.priority), max_ms, deposit
            )
            claim = await self._claims.ask(allocation, chosen.node_id, offer)
            if claim is not None:
                reasons = self._placement(allocation, deposit, candidates, chosen, draw, asked, barred)
                # Not ours: it was cancelled meanwhile, and no other node is asked for what nobody wants.
                return await self._take(allocation.id, chosen, offer, claim, reasons)

    def _placement(
        self,
        allocation: Allocation,
        exposure: Tokens,
        drawn: Sequence[Candidate],
        chosen: Candidate,
        draw: int,
        asked: Collection[NodeId],
        barred: Collection[NodeId],
    ) -> Placement:
        """Why this node, and why not the others, as of now."""
        image = allocation.image
        request = self._request(allocation, exposure)
        passed: dict[NodeId, str] = {node_id: DECLINED for node_id in asked if node_id != chosen.node_id}
        passed |= dict.fromkeys(barred, KEPT)
        in_draw = {c.node_id for c in drawn}
        excluded: list[Excluded] = []
        counts: dict[str, int] = {}
        for candidate in self._candidates(allocation):
            if candidate.node_id in in_draw:
                continue
            found = obstacle(request, candidate)
            why = passed.get(candidate.node_id) or (found.value if found is not None else DEARER)
            counts[why] = counts.get(why, 0) + 1
            if len(excluded) < MAX_EXCLUDED:
                excluded.append(Excluded(candidate.node_id, why))
        return Placement(
            at_ms=self._clock.now(),
            node_id=chosen.node_id,
            draw=draw,
            candidates=tuple(
                Drawn(c.node_id, c.floor_per_hour, four_places(c.reputation), image in c.images, weight(c, image))
                for c in drawn
            ),
            excluded=tuple(excluded),
            counts=tuple(sorted(counts.items())),
        )

    def _note_choice(
        self, tx: Transaction, allocation: Allocation, chosen: Candidate, offer: Terms, reasons: Placement
    ) -> None:
        """Keep why this node has it, what it agreed to, and how long that took."""
        Placements(tx).put(allocation.id, offer.attempt, reasons)
        price = -(-offer.price_per_hour // allocation.gpu_count)
        waited = max(0, reasons.at_ms - allocation.waiting_since_ms)
        PriceDays(tx).note_choice(reasons.at_ms, chosen.class_id, region_of(chosen.region), price, waited)

    def _comes_later(self, allocation: Allocation, chosen: Candidate) -> bool:
        """Whether more urgent allocations wait for all that this node has free. They are woken: it is theirs now."""
        presence = self._registry.find(chosen.node_id)
        if presence is None:
            return False
        mine, left = self._urgency(allocation), chosen.free_slots - allocation.gpu_count
        now = self._clock.now()
        for other in self._live:
            if (
                other.state is not AllocationState.RESERVING
                or chosen.class_id not in _classes(other)
                or (other.retry_at_ms or 0) > now
                or other.id in self._passed_over
                or self._urgency(other) >= mine
            ):
                continue
            candidate = self._registry.candidate(presence, other.priority, other.gpu_count)
            if obstacle(self._request(other, other.deposit), candidate) is None:
                self.wake(other.id)
                left -= other.gpu_count
                if left < 0:
                    return True
        return False

    async def _take(
        self, allocation_id: AllocationId, chosen: Candidate, offer: Terms, claim: SignedClaim, reasons: Placement
    ) -> Attempt | None:
        """Write the attempt that the claim begins, and why this node has it; then tell the node."""
        presence = self._registry.find(chosen.node_id)
        assert presence is not None  # noqa: S101 - nodes are never removed
        market = self._chain.terms
        attempt = Attempt(
            allocation_id=allocation_id,
            number=offer.attempt,
            node_id=chosen.node_id,
            node_key=presence.node.node_key,
            node_address=presence.node.address,
            lease_token=self._random.token_bytes(16).hex(),
            phase=AttemptPhase.CLAIMED,
            price_per_hour=offer.price_per_hour,
            fee_bps=market.fee_bps,
            protocol_bps=market.protocol_bps,
            max_ms=offer.max_ms,
            deposit=offer.deposit,
            slots=0,
            claim_at_chain_ms=claim.message.at_ms,
            claim_signature=claim.claim.signature,
            claimed_at_ms=self._clock.now(),
            class_id=chosen.class_id,
        )

        def begin(present: Allocation, _latest: Attempt | None) -> Change | None:
            waiting = present.state is AllocationState.RESERVING
            opening = present.state is AllocationState.REQUESTED and present.opening
            if present.cancelling or present.attempt != offer.attempt - 1 or not (waiting or opening):
                return None
            taken = replace(present, attempt=offer.attempt, retry_at_ms=None)
            begun = replace(attempt, slots=present.gpu_count)
            if waiting:
                taken = replace(taken, state=AllocationState.PROVISIONING)
            return Change(
                taken,
                begun,
                ("job.assigned",) if waiting else (),
                also=lambda tx: self._note_choice(tx, present, chosen, offer, reasons),
            )

        await self._live.change(allocation_id, begin)
        written = self._live.attempt(allocation_id)
        ours = written is not None and written.lease_token == attempt.lease_token
        crash_point("market.after_claim")
        await claim.link.answer_claim(claim.claim, attempt.lease_token if ours else None)
        return written if ours else None

    def _request(self, allocation: Allocation, exposure: Tokens, asked: frozenset[NodeId] = frozenset()) -> Request:
        barred = set(allocation.excluded) | asked
        if allocation.only_nodes:
            barred |= {p.node.id for p in self._registry if p.node.id not in allocation.only_nodes}
        return Request(
            tiers=allocation.classes,
            regions=frozenset(allocation.regions),
            gpu_count=allocation.gpu_count,
            priority=allocation.priority,
            max_price_per_hour=allocation.ceiling_per_hour,
            exposure=exposure,
            egress=allocation.egress,
            disk_gb=allocation.disk_gb,
            min_cuda=allocation.min_cuda,
            min_reputation=Fraction(allocation.min_reputation_millionths, 1_000_000),
            spec_version=version_of(n for n, v in orjson.loads(allocation.spec).items() if v is not None),
            excluded=frozenset(barred),
        )

    def _candidates(self, allocation: Allocation) -> list[Candidate]:
        return self._registry.candidates(allocation.priority, allocation.gpu_count)

    # a running attempt

    async def _attend(self, allocation: Allocation, attempt: Attempt) -> int | None:
        match attempt.phase:
            case AttemptPhase.CLAIMED:
                return await self._assign(allocation, attempt)
            case AttemptPhase.EXITED | AttemptPhase.LOST:
                return await self._settlement.end_attempt(allocation, attempt)
            case _:
                return await self._watch(allocation, attempt)

    async def _assign(self, allocation: Allocation, attempt: Attempt) -> int | None:
        try:
            landed = await self._chain.perform(
                f"assign:{allocation.escrow}:{attempt.number}", (self._assignment(allocation, attempt),)
            )
        except ActRefused as refused:
            if await self._is_assigned(allocation, attempt):
                return FIRST_RETRY_MS
            _log.warning(
                "assignment refused", action="scheduler.assign", allocation=allocation.id, node=attempt.node_id,
                error=refused.name or str(refused),
            )  # fmt: skip
            await self._drop(allocation.id, attempt, refused)
            await self._registry.refresh_one(attempt.node_id)
            return 0
        return await self._absorbed(landed)

    async def _is_assigned(self, allocation: Allocation, attempt: Attempt) -> bool:
        """Whether the chain has it already: it landed with the opening, and its event is about to be read."""
        view = await self._chain.find_escrow(allocation.escrow)
        return view is not None and (view.attempt.number, view.attempt.node) == (attempt.number, attempt.node_address)

    async def _watch(self, allocation: Allocation, attempt: Attempt) -> int | None:
        """A node has it. Look that it starts in time, ends in time, and ends when asked to."""
        now = self._clock.now()
        if attempt.phase not in (AttemptPhase.READY, AttemptPhase.UPLOADING):
            limit = (attempt.assigned_at_ms or now) + self._chain.terms.ready_limit
            if now >= limit and await self._checkpoints.begins_with_one(allocation):
                limit += RESTORE_LIMIT_MS  # the node keeps to both, and ends a transfer that stalls
            if now >= limit:
                await self._settlement.command_stop(allocation, attempt, Reason.START_TIMEOUT)
                await self._exit_unstarted(allocation.id, attempt.number, Reason.START_TIMEOUT)
                return 0
        else:
            limit = self._stop_at(attempt, now)
        if attempt.phase is AttemptPhase.UPLOADING:
            # A cancel that ended the work keeps what it left; one that comes now ends the delivery.
            limit = (attempt.uploading_at_ms or now) + UPLOAD_LIMIT_MS
            cancelled = allocation.cancelling and attempt.reason is not Reason.CANCELLED
            wanted = Reason.CANCELLED if cancelled else Reason.OUTPUT_DELIVERY_FAILED if now >= limit else None
        else:
            wanted = Reason.CANCELLED if allocation.cancelling else Reason.TIMEOUT if now >= limit else None
        if wanted is None:
            waits = [limit - now]
            if attempt.phase is AttemptPhase.READY:
                waits += [await self._warn(allocation, attempt), await self._top_up(allocation, attempt)]
            return max(1, min(waits))
        stopping_since = self._stopping_since(allocation, limit, wanted)
        if now >= stopping_since + allocation.stop_grace_ms + STOP_PATIENCE_MS:
            await self._lose(allocation.id, attempt.number)
            return 0
        await self._settlement.command_stop(allocation, attempt, wanted)
        return STOP_REPEAT_MS

    def _stop_at(self, attempt: Attempt, now: int) -> int:
        """When the market itself ends an attempt for its time: after the pause that its node may hold it in."""
        if attempt.held:
            return (attempt.paused_at_ms or now) + self._pause_ms + PAUSE_SLACK_MS
        limit = (attempt.meter_at_ms or now) + attempt.limit_ms + attempt.unbilled_ms(now)
        return limit + self._pause_ms + PAUSE_SLACK_MS if self._registry.can_pause(attempt.node_id) else limit

    async def _warn(self, allocation: Allocation, attempt: Attempt) -> int:
        """Tell the renter that little time is left, each threshold once; in how many ms the next is due."""
        now = self._clock.now()
        for warning in due_warnings(allocation.max_ms, attempt.left_ms(now), allocation.warned):
            await self._live.change(allocation.id, _warned(warning, attempt.left_ms(now)))
        present = self._live.find(allocation.id) or allocation
        wait = next_warning_ms(present.max_ms, attempt.left_ms(now), present.warned)
        return _FAR_MS if wait is None else wait

    async def _top_up(self, allocation: Allocation, attempt: Attempt) -> int:
        """Extend what its renter allowed to be extended, shortly before its limit or once it is held there."""
        if allocation.auto_extended_ms >= allocation.auto_extend_ms:
            return _FAR_MS
        wait = attempt.left_ms(self._clock.now()) - extension_lead_ms(attempt.limit_ms)
        if wait > 0:
            return wait
        return 1 if await self._extender.extend_by_itself(allocation) else AUTO_RETRY_MS

    def _stopping_since(self, allocation: Allocation, limit: int, wanted: Reason) -> int:
        asked = allocation.cancelling_at_ms if wanted is Reason.CANCELLED else None
        return limit if asked is None else min(limit, asked)

    def _assignment(self, allocation: Allocation, attempt: Attempt) -> Assign:
        offer = Terms(attempt.number, attempt.price_per_hour, attempt.max_ms, attempt.deposit)
        presence = self._registry.find(attempt.node_id)
        assert presence is not None  # noqa: S101 - nodes are never removed
        return Assign(
            escrow=allocation.escrow,
            wallet=allocation.wallet,
            opener=allocation.opener,
            node_key=attempt.node_key,
            claim=claim_message(self._chain, allocation, presence.node, offer, attempt.claim_at_chain_ms),
            signature=attempt.claim_signature,
        )

    async def _absorbed(self, landed: Landed) -> int:
        """What landed is taken in at once; where the chain's node doesn't show it yet, the watcher will."""
        return 0 if await self._settlement.absorb(landed) else FIRST_RETRY_MS

    # changes

    async def _drop(self, allocation_id: AllocationId, attempt: Attempt, refused: ActRefused) -> None:
        """A claim that never came to the chain: forget it.

        The node isn't asked again for this allocation, unless its claim only waited too long, or it was the wallet
        that took something back.
        """
        if refused.name in _WITHHELD:
            self._withheld[allocation_id] = _WITHHELD[refused.name]
        barred = () if refused.name in _WAITED_TOO_LONG | _WITHHELD.keys() else (attempt.node_id,)

        def drop(present: Allocation, latest: Attempt | None) -> Change | None:
            if latest is None or latest.number != attempt.number or latest.phase is not AttemptPhase.CLAIMED:
                return None
            state = present.state
            if state is AllocationState.PROVISIONING:
                state = AllocationState.RESERVING
            return Change(
                replace(
                    present,
                    state=state,
                    attempt=attempt.number - 1,
                    excluded=tuple(dict.fromkeys((*present.excluded, *barred))),
                ),
                None,
            )

        await self._live.change(allocation_id, drop)

    async def _release(self, allocation_id: AllocationId, reason: Reason) -> None:
        """Nobody runs it and nobody will: the escrow is to be closed."""

        def release(present: Allocation, latest: Attempt | None) -> Change | None:
            if present.state is not AllocationState.RESERVING:
                return None
            return Change(replace(present, state=AllocationState.RELEASING, reason=reason), latest)

        await self._live.change(allocation_id, release)

    async def _exit_unstarted(self, allocation_id: AllocationId, number: int, reason: Reason) -> None:
        await self._live.change(allocation_id, exit_attempt(number, reason, self._clock.now()))

    async def _lose(self, allocation_id: AllocationId, number: int) -> None:
        await self._live.change(allocation_id, lose_attempt(number, self._clock.now()))


async def _woken_within(woken: asyncio.Event, delay_ms: int | None) -> None:
    """Wait for it, at most so long; None for ever. Time sets it itself: that costs half of a timeout."""
    if woken.is_set():
        return
    alarm = None if delay_ms is None else asyncio.get_running_loop().call_later(delay_ms / 1000, woken.set)
    try:
        await woken.wait()
    finally:
        if alarm is not None:
            alarm.cancel()


def _classes(allocation: Allocation) -> frozenset[str]:
    return frozenset(class_id for tier in allocation.classes for class_id in tier)


_FAR_MS: Final = 3_600_000


def _warned(warning: TimeWarning, left_ms: int) -> Callable[[Allocation, Attempt | None], Change | None]:
    def decide(allocation: Allocation, attempt: Attempt | None) -> Change | None:
        if allocation.warned & warning.bit or allocation.terminal:
            return None
        said = {"threshold": warning.code, "seconds_left": left_ms // 1000}
        return Change(
            replace(allocation, warned=allocation.warned | warning.bit), attempt, ("allocation.funds_low",), said
        )

    return decide


def exit_attempt(
    number: int,
    reason: Reason,
    at_ms: int,
    *,
    exit_code: int | None = None,
    detail: str | None = None,
    closes: bool = False,
    with_attempt: Callable[[Attempt], Attempt] | None = None,
) -> Callable[[Allocation, Attempt | None], Change | None]:
    """The change when an attempt's work is over: another attempt follows, or the allocation ends with its reason.

    closes: the node signed a final voucher, so nothing can follow.
    with_attempt: further changes of the attempt, such as its last voucher.
    """

    def decide(allocation: Allocation, attempt: Attempt | None) -> Change | None:
        if attempt is None or attempt.number != number or not attempt.live:
            return None
        over = with_attempt(attempt) if with_attempt is not None else attempt
        over = replace(
            over, phase=AttemptPhase.EXITED, reason=reason, exited_at_ms=at_ms, exit_code=exit_code, detail=detail
        )
        goes_on = allocation.retry.leaves_open(number, reason, exit_code)
        if goes_on and not (closes or allocation.cancelling):
            return Change(replace(allocation, uploading=False), over)
        final = Reason.CANCELLED if allocation.cancelling and reason in RETRIED else reason
        return Change(
            replace(
                allocation,
                state=AllocationState.RELEASING,
                reason=final,
                completed_at_ms=at_ms,
                error=detail,
                uploading=False,
            ),
            over,
        )

    return decide


def lose_attempt(
    number: int, at_ms: int, *, reason: Reason = Reason.NODE_LOST
) -> Callable[[Allocation, Attempt | None], Change | None]:
    """The change when a node is silent: its attempt is to be released, on what it was last acknowledged.

    reason: MARKET_ERROR where the silence is our own, so that nobody can meter it any more.
    """

    def decide(allocation: Allocation, attempt: Attempt | None) -> Change | None:
        if attempt is None or attempt.number != number or not attempt.live or attempt.phase is AttemptPhase.CLAIMED:
            return None
        lost = replace(attempt, phase=AttemptPhase.LOST, reason=reason, exited_at_ms=at_ms)
        return Change(replace(allocation, uploading=False), lost)

    return decide
