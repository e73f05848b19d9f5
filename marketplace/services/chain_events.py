"""What happened on chain, taken into the books and into the allocations it concerns, each event once.

This is the only writer of the books, and the only place where an allocation learns that its escrow opened, was
assigned, paid or closed: whether our own act did it, a node's, the renter's or a stranger's. An act that has
landed is absorbed at once; the watcher finds it again later, and finds it recorded. Event and consequence are
one transaction, so a kill between them leaves neither.
"""

import asyncio
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import orjson
import structlog
from solders.pubkey import Pubkey
from solders.signature import Signature

from marketplace.chain.addresses import ED25519_PROGRAM
from marketplace.chain.answers import LandedTransaction
from marketplace.chain.errors import ChainError
from marketplace.chain.events import (
    AssignedEvent,
    ContestClosedEvent,
    ContestedEvent,
    EscrowClosedEvent,
    EscrowExtendedEvent,
    EscrowOpenedEvent,
    EscrowStoppingEvent,
    NodeRegisteredEvent,
    OverclaimProvedEvent,
    ProgramEvent,
    ReleasedEvent,
    SettledEvent,
)
from marketplace.chain.watcher import (
    AddressCursor,
    ObservedEvent,
    ObservedTransaction,
    PendingSignature,
    WatchBatch,
    WatchCursor,
    Watcher,
    WatcherRpc,
)
from marketplace.crash import crash_point
from marketplace.domain.allocations import Allocation, Attempt, AttemptPhase
from marketplace.domain.lifecycle import AllocationState
from marketplace.domain.quantities import Millis, Tokens
from marketplace.domain.reasons import Reason
from marketplace.domain.retries import pause_before_next
from marketplace.domain.timing import rearmed
from marketplace.errors import UniqueViolation
from marketplace.protocol.vouchers import VoucherState
from marketplace.services.chain_feed import ChainFeed
from marketplace.services.chain_port import ChainPort
from marketplace.services.clock import Clock
from marketplace.services.live import Change, Live, ended
from marketplace.services.stake_books import Commissions, StakeBooks
from marketplace.store.allocations import Allocations, Attempts, Contest, Contests
from marketplace.store.api_keys import KeySpending
from marketplace.store.books import Books, ChainEscrow, EscrowTransaction, Movement, StoredEvent, moved
from marketplace.store.engine import Store, Transaction
from marketplace.store.extensions import Extension, Extensions, ExtensionState
from marketplace.store.settlements import Payment, Settlements
from marketplace.store.stake import StakeRows

_log = structlog.get_logger(__name__)

CURSOR: Final = "program"
_FOUND_TRIES: Final = 5
"""Chosen: how often a transaction just confirmed is asked for before it is left to the watcher."""

OWN_END: Final = frozenset(
    {
        Reason.COMPLETED, Reason.APP_ERROR, Reason.CANCELLED, Reason.TIMEOUT, Reason.QUEUE_EXPIRED, Reason.OOM,
        Reason.DISK_FULL, Reason.CRASH_LOOP, Reason.OUTPUT_DELIVERY_FAILED, Reason.OUTPUT_TOO_LARGE,
        Reason.OUT_OF_FUNDS, Reason.POLICY,
    }
)  # fmt: skip
"""Ends of the workload's or the renter's own: `released`. Every other one left the work undone: `failed`."""

EscrowEvent = (
    EscrowOpenedEvent
    | EscrowExtendedEvent
    | EscrowStoppingEvent
    | AssignedEvent
    | SettledEvent
    | ReleasedEvent
    | ContestedEvent
    | ContestClosedEvent
    | EscrowClosedEvent
    | OverclaimProvedEvent
)
_PURPOSES: Final[dict[type[ProgramEvent], str]] = {
    EscrowOpenedEvent: "open",
    EscrowExtendedEvent: "extend",
    EscrowStoppingEvent: "stop",
    AssignedEvent: "assign",
    SettledEvent: "settle",
    ReleasedEvent: "release",
    ContestedEvent: "contest",
    ContestClosedEvent: "close_contest",
    OverclaimProvedEvent: "prove_overclaim",
}


@dataclass(frozen=True, slots=True)
class _Seen:
    """An event with what its consequences need. at_ms: the market's clock when it was read."""

    observed: ObservedEvent
    event: EscrowEvent
    escrow: str
    at_ms: int

    @property
    def signature(self) -> str:
        return str(self.observed.signature)


class ChainEvents:
    """Reads, records, concludes."""

    def __init__(
        self,
        store: Store,
        live: Live,
        rpc: WatcherRpc,
        watcher: Watcher,
        program: Pubkey,
        clock: Clock,
        chain: ChainPort,
        stake: StakeBooks,
        feed: ChainFeed,
        *,
        observe: Callable[[LandedTransaction], ObservedTransaction],
    ) -> None:
        self._store = store
        self._live = live
        self._rpc = rpc
        self._watcher = watcher
        self._program = program
        self._clock = clock
        self._chain = chain
        self._stake = stake
        self._feed = feed
        self._observe = observe
        self._lock = asyncio.Lock()
        self._caught_up = asyncio.Event()

    async def catch_up(self) -> None:
        """Read everything up to now: before it the market spends nothing. Raises chain.errors.ChainError."""
        cursor = await self._cursor()
        while True:
            batch = await self._watcher.poll(cursor)
            await self._take(batch)
            cursor = batch.cursor
            if batch.caught_up:
                self._caught_up.set()
                return

    async def run(self) -> None:
        """Follow the chain until cancelled."""
        async for batch in self._watcher.follow(await self._cursor()):
            await self._take(batch)

    async def absorb(self, signature: str) -> bool:
        """Take in a transaction that has just landed; whether the chain's node had it to read."""
        for attempt in range(_FOUND_TRIES):
            try:
                landed = await self._rpc.find_transaction(Signature.from_string(signature))
            except ChainError:
                return False
            if landed is not None:
                await self._take_landed(landed)
                return True
            await asyncio.sleep(0.1 * (attempt + 1))
        return False

    async def _cursor(self) -> WatchCursor:
        text = await self._store.read(lambda tx: Books(tx).find_cursor(CURSOR))
        return WatchCursor.start([self._program]) if text is None else _cursor_of(text)

    async def _take(self, batch: WatchBatch) -> None:
        for transaction in batch.observed:
            await self._take_observed(transaction, None)
        finalized = [str(s) for s in batch.finalized]
        dropped = [str(s) for s in batch.dropped]
        if dropped:
            _log.error("transactions of a dropped fork undone in the books", action="chain.drop", signatures=dropped)
        text, slot = _cursor_text(batch.cursor), max((t.slot for t in batch.observed), default=0)

        def write(tx: Transaction) -> None:
            books = Books(tx)
            books.finalize(finalized)
            books.undo(dropped)
            StakeRows(tx).undo(dropped)
            books.put_cursor(CURSOR, text, slot)

        if not batch.empty:
            await self._store.write(write)

    async def _take_landed(self, landed: LandedTransaction) -> None:
        if landed.failure is None:
            await self._take_observed(self._observe(landed), landed)

    async def _take_observed(self, transaction: ObservedTransaction, landed: LandedTransaction | None) -> None:
        async with self._lock:
            escrows: dict[str, list[ProgramEvent]] = {}
            for observed in transaction.events:
                escrow = getattr(observed.event, "escrow", None)
                if escrow is not None:
                    escrows.setdefault(str(escrow), []).append(observed.event)
            # Before its events: who sees an escrow closed also sees the transaction that closed it.
            if escrows:
                await self._note_transaction(transaction, escrows, landed)
            commissions = await self._commissions(transaction, landed)
            for observed in transaction.events:
                await self._take_event(observed, commissions)

    async def _commissions(self, transaction: ObservedTransaction, landed: LandedTransaction | None) -> Commissions:
        """What nodes were registered with here. Asked for once: whoever has the event recorded has it too."""
        registrations = [o for o in transaction.events if isinstance(o.event, NodeRegisteredEvent)]
        if all([await self._has_stake(o) for o in registrations]):
            return {}
        found = landed or await self._rpc.find_transaction(transaction.signature)
        return {} if found is None else self._stake.commissions(found)

    async def _has_stake(self, observed: ObservedEvent) -> bool:
        signature = str(observed.signature)
        return await self._store.lookup(lambda tx: StakeRows(tx).has_event(signature, observed.index))

    async def _note_transaction(
        self, transaction: ObservedTransaction, escrows: dict[str, list[ProgramEvent]], landed: LandedTransaction | None
    ) -> None:
        """What the transaction cost. Asked for once; a chain that doesn't answer is asked when it is seen again."""
        signature = str(transaction.signature)
        known = await self._store.lookup(
            lambda tx: {e for e in escrows if any(t.signature == signature for t in Books(tx).list_transactions(e))}
        )
        missing = [escrow for escrow in escrows if escrow not in known]
        if not missing:
            return
        found = landed or await self._rpc.find_transaction(transaction.signature)
        if found is None:
            return
        rows = [
            EscrowTransaction(
                escrow=escrow,
                signature=signature,
                slot=found.slot,
                purpose="+".join(
                    dict.fromkeys(_PURPOSES[type(e)] for e in escrows[escrow] if type(e) in _PURPOSES)
                ) or "cancel",
                signatures=_signatures(found),
                fee_lamports=found.fee_lamports,
                fee_payer=str(found.account_keys[0]),
            )
            for escrow in missing
        ]  # fmt: skip

        def write(tx: Transaction) -> None:
            for row in rows:
                Books(tx).put_transaction(row)

        await self._store.write(write)

    async def _take_event(self, observed: ObservedEvent, commissions: Commissions) -> None:
        signature = str(observed.signature)
        at_ms = self._clock.now()

        def record_stake(tx: Transaction) -> None:
            self._stake.record(tx, observed, at_ms, commissions)

        try:
            if await self._store.lookup(lambda tx: Books(tx).has_event(signature, observed.index)):
                # Recorded by a version that kept no books of stake: the cursor was set back, so that it is seen again.
                if self._stake.concerns(observed.event) and not await self._has_stake(observed):
                    await self._store.write(record_stake)
            elif isinstance(observed.event, EscrowEvent):
                await self._take_escrow_event(_Seen(observed, observed.event, str(observed.event.escrow), at_ms))
            else:
                stored = _stored(observed, None, at_ms)

                def write(tx: Transaction) -> None:
                    Books(tx).record(stored, ())
                    record_stake(tx)
                    self._feed.tell(tx, observed)

                await self._store.write(write)
        except UniqueViolation:
            _log.info("event recorded meanwhile", action="chain.event", signature=signature)

    async def _take_escrow_event(self, seen: _Seen) -> None:
        allocation = self._live.find_by_escrow(seen.escrow)
        if allocation is None:
            await self._store.write(lambda tx: self._record(tx, seen, settle_attempt=True))
            return
        if isinstance(seen.event, EscrowOpenedEvent):
            # Confirmed and not yet recorded, whether our act or the watcher saw it first.
            crash_point("market.after_confirm")
        intents: list[Extension] = []
        if isinstance(seen.event, EscrowExtendedEvent):
            # Written before its act: what this event fulfils is there by now.
            intents = await self._store.read(lambda tx: Extensions(tx).list_for(allocation.id))

        def decide(present: Allocation, attempt: Attempt | None) -> Change:
            current = attempt is not None and attempt.number == getattr(seen.event, "attempt", None)
            change = self._consequence(seen, present, attempt, intents) or Change(present, attempt)
            also = change.also

            def write(tx: Transaction) -> None:
                self._record(tx, seen, settle_attempt=not current)
                if also is not None:
                    also(tx)

            return replace(change, also=write)

        if await self._live.change(allocation.id, decide) is None:
            # Over while this waited for its turn: the event has no consequence any more, and is booked all the same.
            await self._store.write(lambda tx: self._record(tx, seen, settle_attempt=True))

    def _consequence(  # noqa: PLR0911 - one return for each kind of event
        self, seen: _Seen, allocation: Allocation, attempt: Attempt | None, intents: Sequence[Extension]
    ) -> Change | None:
        match seen.event:
            case EscrowOpenedEvent():
                return _opened(seen, allocation, attempt)
            case EscrowExtendedEvent() as event:
                return _extended(seen, event, allocation, attempt, _fulfilled(intents, event))
            case EscrowStoppingEvent() as event:
                return _stopping(seen, event, allocation, attempt)
            case AssignedEvent() as event:
                return _assigned(seen, event, allocation, attempt)
            case SettledEvent() as event:
                return _settled(seen, event, allocation, attempt)
            case ReleasedEvent() as event:
                return _released(seen, event, allocation, attempt)
            case EscrowClosedEvent() as event:
                return _closed(seen, event, allocation, attempt)
            case _:
                return None

    def _record(self, tx: Transaction, seen: _Seen, *, settle_attempt: bool) -> None:
        """The event, what it moved, and what the escrow is after it; and the contest it opens or closes."""
        books = Books(tx)
        before = books.find_escrow(seen.escrow)
        after, movements = _book(seen, before)
        books.record(_stored(seen.observed, seen.escrow, seen.at_ms), movements)
        self._stake.record(tx, seen.observed, seen.at_ms, {})
        if after is not None:
            books.put_escrow(after)
        if isinstance(seen.event, SettledEvent):
            Settlements(tx).record(_payment(seen, seen.event))
        self._feed.tell(tx, seen.observed)
        allocation = Allocations(tx).find_by_escrow(seen.escrow)
        if allocation is None:
            return
        if after is not None and after.state == "closed":
            KeySpending(tx).settle(allocation.id, Tokens(after.paid))
        match seen.event:
            case SettledEvent() as event if settle_attempt:
                attempt = Attempts(tx).find(allocation.id, event.attempt)
                if attempt is not None:
                    Attempts(tx).update(_paid(attempt, event))
            case ReleasedEvent() as event:
                due = event.released_at + self._chain.terms.contest_window
                Contests(tx).create(Contest(seen.escrow, event.attempt, allocation.id, due))
            case ContestClosedEvent() as event:
                Contests(tx).close(seen.escrow, event.attempt)
            case _:
                pass


def _opened(seen: _Seen, allocation: Allocation, attempt: Attempt | None) -> Change | None:
    if allocation.state is not AllocationState.REQUESTED:
        return None
    funded = replace(
        allocation,
        state=AllocationState.RESERVING,
        opening=False,
        error=None,
        funded_at_ms=seen.at_ms,
        open_signature=seen.signature,
        # It waits from now on: a wallet may take its time to sign.
        queue_until_ms=seen.at_ms + allocation.queue_ms,
    )
    return Change(funded, attempt, ("job.queued",))


def _fulfilled(intents: Sequence[Extension], event: EscrowExtendedEvent) -> Extension | None:
    """The oldest intent that this event fulfils; None where the wallet extended by itself."""
    return next(
        (
            e
            for e in intents
            if e.state is not ExtensionState.LANDED
            and (e.added_ms, e.added_deposit) == (event.added_time, event.added_deposit)
        ),
        None,
    )


def _extended(
    seen: _Seen,
    event: EscrowExtendedEvent,
    allocation: Allocation,
    attempt: Attempt | None,
    extension: Extension | None,
) -> Change:
    """There is more time, whoever added it: the running attempt may use it, and is told by node_control.

    What the node consented to in its claim stays as it was: the chain holds the assignment against that.
    """
    more = attempt
    if attempt is not None and attempt.phase not in (AttemptPhase.ENDED, AttemptPhase.EXITED, AttemptPhase.LOST):
        more = replace(
            attempt,
            extended_ms=Millis(attempt.extended_ms + event.added_time),
            extended_deposit=Tokens(attempt.extended_deposit + event.added_deposit),
            extended_at_ms=seen.at_ms,
        )
    automatic = event.added_time if extension is not None and extension.automatic else 0
    left = event.max_time if more is None else more.left_ms(seen.at_ms)
    extended = replace(
        allocation,
        max_ms=Millis(event.max_time),
        deposit=Tokens(event.deposit),
        auto_extended_ms=Millis(allocation.auto_extended_ms + automatic),
        warned=rearmed(Millis(event.max_time), left, allocation.warned),
    )

    def landed(tx: Transaction) -> None:
        if extension is not None:
            Extensions(tx).mark(allocation.id, extension.number, ExtensionState.LANDED)

    # That there is more of both is told for every escrow, by `chain_feed`.
    return Change(extended, more, also=landed)


def _stopping(seen: _Seen, event: EscrowStoppingEvent, allocation: Allocation, attempt: Attempt | None) -> Change:
    """The wallet cancelled its running escrow itself: that is the renter's cancel, and nothing after it is paid."""
    stopping = replace(allocation, stop_at_chain_ms=event.stop_at)
    if not allocation.cancelling and allocation.state is not AllocationState.RELEASING:
        stopping = replace(stopping, cancelling=True, cancelling_at_ms=seen.at_ms)
    return Change(stopping, attempt)


def _assigned(seen: _Seen, event: AssignedEvent, allocation: Allocation, attempt: Attempt | None) -> Change | None:
    if attempt is None or attempt.number != event.attempt or attempt.phase is not AttemptPhase.CLAIMED:
        return None
    assigned = replace(
        attempt,
        phase=AttemptPhase.ASSIGNED,
        assigned_at_ms=seen.at_ms,
        assigned_chain_ms=event.assigned_at,
        meter_key=str(event.meter),
    )
    if allocation.state is AllocationState.RESERVING:
        return Change(replace(allocation, state=AllocationState.PROVISIONING), assigned, ("job.assigned",))
    return Change(allocation, assigned)


def _settled(seen: _Seen, event: SettledEvent, allocation: Allocation, attempt: Attempt | None) -> Change | None:
    if attempt is None or attempt.number != event.attempt:
        return None
    paid = _paid(attempt, event)
    if event.state == VoucherState.RUNNING or attempt.phase is AttemptPhase.ENDED:
        return Change(allocation, paid)
    over = ended(paid, _reason(event.reason), seen.at_ms)
    if event.state == VoucherState.FINAL:
        # The close follows in the same transaction; until then the job shows its last word.
        reason = allocation.reason if allocation.reason is not Reason.RUNNING else _reason(event.reason)
        return Change(replace(allocation, state=AllocationState.RELEASING, reason=reason), over)
    return _goes_on(allocation, over, seen.at_ms)


def _released(seen: _Seen, event: ReleasedEvent, allocation: Allocation, attempt: Attempt | None) -> Change | None:
    if attempt is None or attempt.number != event.attempt or attempt.phase is AttemptPhase.ENDED:
        return None
    return _goes_on(allocation, ended(attempt, _reason(event.reason), seen.at_ms), seen.at_ms)


def _goes_on(allocation: Allocation, over: Attempt, at_ms: int) -> Change:
    """An attempt ended without the escrow: the same escrow waits for another node, unless the job is ending."""
    if allocation.state is AllocationState.RELEASING:
        return Change(allocation, over)
    pause_ms = pause_before_next(over.number, over.reason)
    excluded = allocation.excluded
    if not pause_ms:
        # Where the work itself ended, the node did what it should: it may be asked again.
        excluded = tuple(dict.fromkeys((*excluded, over.node_id)))
    waiting = replace(
        allocation,
        state=AllocationState.RESERVING,
        excluded=excluded,
        retry_at_ms=at_ms + pause_ms if pause_ms else None,
        queue_until_ms=at_ms + pause_ms + allocation.queue_ms,
    )
    return Change(waiting, over, ("job.attempt_failed",))


def _closed(seen: _Seen, event: EscrowClosedEvent, allocation: Allocation, attempt: Attempt | None) -> Change | None:
    reason = allocation.reason
    if reason is Reason.RUNNING:
        # Somebody else closed it: the wallet or a reaper. A reason we don't know is our own fault to explain.
        reason = _reason(event.reason) if event.reason and not allocation.cancelling else Reason.CANCELLED
    over = attempt
    if attempt is not None and attempt.phase is not AttemptPhase.ENDED:
        over = ended(attempt, reason, seen.at_ms)
    state = AllocationState.RELEASED if reason in OWN_END else AllocationState.FAILED
    done = replace(
        allocation,
        state=state,
        reason=reason,
        opening=False,
        completed_at_ms=allocation.completed_at_ms or seen.at_ms,
        progress=100 if reason is Reason.COMPLETED else allocation.progress,
    )
    return Change(done, over, (f"job.{done.status.value}",))


def _reason(number: int) -> Reason:
    """The reason of an event. Node and wallet may sign any number: one we don't know must not stop the reader."""
    try:
        return Reason(number)
    except ValueError:
        return Reason.MARKET_ERROR


def _paid(attempt: Attempt, event: SettledEvent) -> Attempt:
    return replace(
        attempt,
        paid=Tokens(attempt.paid + event.paid),
        operator_received=Tokens(attempt.operator_received + event.operator),
    )


def _book(  # noqa: PLR0911 - one return for each kind of event
    seen: _Seen, before: ChainEscrow | None
) -> tuple[ChainEscrow | None, tuple[Movement, ...]]:
    """The escrow after the event, and the movements of its money. Program: design page program.md, section 9."""
    inside = f"escrow:{seen.escrow}"
    match seen.event:
        case EscrowOpenedEvent() as event:
            opened = ChainEscrow(
                escrow=seen.escrow,
                wallet=str(event.wallet),
                opener=str(event.opener),
                nonce=event.nonce,
                terms_hash=bytes(event.terms_hash),
                deposit=event.deposit,
                state="open",
                opened_signature=seen.signature,
            )
            return opened, (Movement(f"vault:{event.wallet}", -event.deposit), Movement(inside, event.deposit))
        case EscrowExtendedEvent() as event if before is not None:
            extended = replace(before, deposit=event.deposit)
            added = event.added_deposit
            return extended, (Movement(f"vault:{before.wallet}", -added), Movement(inside, added))
        case AssignedEvent() as event if before is not None:
            return replace(before, state="assigned", attempt=event.attempt), ()
        case SettledEvent() as event if before is not None:
            after = moved(
                before, paid=event.paid, operator=event.operator, stakers=event.stakers,
                market=event.market, protocol=event.protocol,
            )  # fmt: skip
            if event.state == VoucherState.ENDED and event.attempt == before.attempt and before.state == "assigned":
                after = replace(after, state="open")
            operator = "owed" if event.owed else "operator"
            return after, (
                Movement(inside, -event.paid),
                Movement(f"{operator}:{event.node}", event.operator),
                Movement(f"stakers:{event.node}", event.stakers),
                Movement("market", event.market),
                Movement("protocol", event.protocol),
            )
        case ReleasedEvent() if before is not None:
            return replace(before, state="open" if before.state == "assigned" else before.state), ()
        case EscrowClosedEvent() as event if before is not None:
            after = moved(before, refunded=event.refunded)
            after = replace(
                after, state="closing" if event.contested else "closed",
                closed_at_ms=None if event.contested else seen.at_ms,
            )  # fmt: skip
            return after, (Movement(inside, -event.refunded), Movement(f"vault:{before.wallet}", event.refunded))
        case ContestClosedEvent() as event if before is not None:
            after = moved(before, compensation=event.compensation)
            if not event.refunded:
                return after, ()
            after = moved(after, refunded=event.released)
            after = replace(after, state="closed", closed_at_ms=seen.at_ms)
            return after, (Movement(inside, -event.released), Movement(f"vault:{before.wallet}", event.released))
        case _:
            return before, ()


def _payment(seen: _Seen, event: SettledEvent) -> Payment:
    return Payment(
        signature=seen.signature,
        position=seen.observed.index,
        escrow=seen.escrow,
        attempt=event.attempt,
        node=str(event.node),
        at_ms=seen.at_ms,
        billed_ms=event.billed,
        paid=event.paid,
        operator=event.operator,
        stakers=event.stakers,
        market=event.market,
        protocol=event.protocol,
    )


def _stored(observed: ObservedEvent, escrow: str | None, at_ms: int) -> StoredEvent:
    attempt, node = getattr(observed.event, "attempt", None), getattr(observed.event, "node", None)
    return StoredEvent(
        signature=str(observed.signature),
        position=observed.index,
        slot=observed.slot,
        seen_at_ms=at_ms,
        name=type(observed.event).__name__.removesuffix("Event"),
        escrow=escrow,
        attempt=attempt,
        fields=orjson.dumps(_plain(observed.event)).decode(),
        node=None if node is None else str(node),
    )


def _plain(value: object) -> object:
    """JSON of an event's fields: addresses as base58, bytes as hex, 128-bit numbers as text."""
    if isinstance(value, Pubkey):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**64:
        return str(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return value


def _signatures(landed: LandedTransaction) -> int:
    """Signatures that the base fee was charged for: the transaction's own and those the precompile checked."""
    checked = sum(i.data[0] for i in landed.instructions if i.program == ED25519_PROGRAM and i.data)
    return landed.signature_count + checked


def _cursor_text(cursor: WatchCursor) -> str:
    return orjson.dumps(
        {
            "addresses": [[str(a.address), None if a.final is None else str(a.final)] for a in cursor.addresses],
            "pending": [[str(p.signature), p.slot] for p in cursor.pending],
        }
    ).decode()


def _cursor_of(text: str) -> WatchCursor:
    data = orjson.loads(text)
    return WatchCursor(
        addresses=tuple(
            AddressCursor(Pubkey.from_string(a), None if f is None else Signature.from_string(f))
            for a, f in data["addresses"]
        ),
        pending=tuple(PendingSignature(Signature.from_string(s), slot) for s, slot in data["pending"]),
    )
