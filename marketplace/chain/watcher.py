"""Reading what happened on chain, in order, nothing twice and nothing left out.

The truth is an address's history (`getSignaturesForAddress`), read from a stored cursor; notifications only
shorten the wait. A poll is pure: it returns a batch and the cursor after it, and the reader records both in
one transaction of its store. A crash before that repeats the batch, a crash after it never does: each event
of (signature, index) is recorded exactly once.

A transaction is observed at `confirmed`, then either finalized, or dropped when its fork was: goods move on
the first, books close on the second.
"""

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import structlog
from solders.pubkey import Pubkey
from solders.signature import Signature

from marketplace.chain.answers import Commitment, LandedTransaction, SignatureInfo
from marketplace.chain.errors import ChainError
from marketplace.chain.events import ProgramEvent
from marketplace.chain.logs import EventDecoder, read_events
from marketplace.chain.rpc import MAX_HISTORY
from marketplace.chain.subscriptions import Hints, PollOnly

_log = structlog.get_logger(__name__)

# Chosen: bounds one batch, so that catching up after a long pause is done in steps that are each recorded.
DEFAULT_BATCH: Final = 200
# Chosen: transactions asked for at once; an endpoint's own budget holds them back further.
_AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True)
class PendingSignature:
    """A transaction observed at `confirmed` that isn't final yet."""

    signature: Signature
    slot: int


@dataclass(frozen=True, slots=True)
class AddressCursor:
    """How far one address's history is read: everything up to `final` (inclusive) is final and recorded."""

    address: Pubkey
    final: Signature | None = None


@dataclass(frozen=True, slots=True)
class WatchCursor:
    """What a reader stores between polls. Starts as `WatchCursor.start(addresses)`."""

    addresses: tuple[AddressCursor, ...]
    pending: tuple[PendingSignature, ...] = ()

    @classmethod
    def start(cls, addresses: Iterable[Pubkey]) -> "WatchCursor":
        """From the beginning of each address's history."""
        return cls(tuple(AddressCursor(address) for address in addresses))


@dataclass(frozen=True, slots=True)
class ObservedEvent:
    """An event with its place: (signature, index) is its identity.

    instruction: which of our program's it is an effect of, where that stands in the transaction itself; None where
    another program called ours.
    """

    signature: Signature
    index: int
    slot: int
    block_time: int | None
    event: ProgramEvent
    instruction: str | None = None


@dataclass(frozen=True, slots=True)
class ObservedTransaction:
    """A successful transaction in the history, with its events in order.

    truncated: its log was cut, so events may be missing: the accounts are the truth.
    """

    signature: Signature
    slot: int
    block_time: int | None
    events: tuple[ObservedEvent, ...]
    truncated: bool


@dataclass(frozen=True, slots=True)
class WatchBatch:
    """What one poll found; recorded together with `cursor`.

    observed: newly confirmed, oldest first. finalized: observed before (or just now), final now.
    dropped: observed before, and the fork they were on is gone: what they did is undone.
    """

    observed: tuple[ObservedTransaction, ...]
    finalized: tuple[Signature, ...]
    dropped: tuple[Signature, ...]
    cursor: WatchCursor
    caught_up: bool

    @property
    def empty(self) -> bool:
        return not (self.observed or self.finalized or self.dropped)


class WatcherRpc(Protocol):
    """What watching needs of the chain; `RpcClient` has it."""

    async def list_signatures(
        self,
        address: Pubkey,
        *,
        before: Signature | None = None,
        until: Signature | None = None,
        limit: int = MAX_HISTORY,
        commitment: Commitment = Commitment.CONFIRMED,
        min_slot: int | None = None,
    ) -> list[SignatureInfo]: ...

    async def find_transaction(
        self, signature: Signature, commitment: Commitment = Commitment.CONFIRMED
    ) -> LandedTransaction | None: ...

    async def get_slot(self, commitment: Commitment = Commitment.CONFIRMED) -> int: ...


class Watcher:
    """Reads one program's events out of the histories of some addresses."""

    def __init__(
        self,
        rpc: WatcherRpc,
        decoder: EventDecoder,
        *,
        hints: Hints | None = None,
        poll_s: float = 1.0,
        batch: int = DEFAULT_BATCH,
    ) -> None:
        self._rpc = rpc
        self._decoder = decoder
        self._hints = hints or PollOnly()
        self._poll_s = poll_s
        self._batch = batch
        # Final lines that were listed and not yet recorded, after the line they follow: a long history is then
        # listed once, not once per batch. Only a cache: a cursor that doesn't fit it lists anew.
        self._backlog: dict[Pubkey, tuple[Signature | None, list[SignatureInfo]]] = {}

    async def follow(self, cursor: WatchCursor) -> AsyncIterator[WatchBatch]:
        """Batches for ever, none of them empty. The next is read after the reader has taken the last one.

        A chain that doesn't answer is waited for.
        """
        while True:
            try:
                batch = await self.poll(cursor)
            except ChainError as error:
                _log.warning("chain not reachable", action="watcher.poll", error=str(error))
                await self._hints.wait(self._poll_s)
                continue
            cursor = batch.cursor
            if not batch.empty:
                yield batch
            if batch.caught_up:
                await self._hints.wait(self._poll_s)

    async def poll(self, cursor: WatchCursor) -> WatchBatch:
        """One look, from `cursor`. Changes nothing but the returned cursor. Raises ChainError."""
        # The order matters: what is older than the final slot and absent from histories read after it is gone.
        # Hence the histories are asked of endpoints only that have come as far: one that lags drops nothing.
        final_slot = await self._rpc.get_slot(Commitment.FINALIZED)
        histories = [await self._history(entry, final_slot) for entry in cursor.addresses]
        lines = _in_order(histories)
        known = {pending.signature for pending in cursor.pending}
        fresh = [line for line in lines if line.signature not in known]
        observed, read = await self._observe(fresh[: self._batch])
        recorded = known | {line.signature for line in read}
        slots = {line.signature: line.slot for line in lines}
        finalized = [line.signature for line in lines if line.signature in recorded and line.slot <= final_slot]
        dropped = [p.signature for p in cursor.pending if p.signature not in slots and p.slot <= final_slot]
        gone = {*finalized, *dropped}
        pending = [PendingSignature(s, slots.get(s, _slot_of(cursor, s))) for s in _ordered(cursor, read)]
        return WatchBatch(
            observed=tuple(observed),
            finalized=tuple(s for s in finalized if s in slots),
            dropped=tuple(dropped),
            cursor=WatchCursor(
                addresses=tuple(
                    AddressCursor(entry.address, _advanced(entry, history, set(finalized)))
                    for entry, history in zip(cursor.addresses, histories, strict=True)
                ),
                pending=tuple(entry for entry in pending if entry.signature not in gone),
            ),
            caught_up=len(read) == len(fresh),
        )

    async def _history(self, entry: AddressCursor, final_slot: int) -> list[SignatureInfo]:
        """Everything newer than the cursor, oldest first, page by page."""
        listed = self._listed(entry)
        until = listed[-1].signature if listed else entry.final
        fresh: list[SignatureInfo] = []
        before: Signature | None = None
        while True:
            page = await self._rpc.list_signatures(
                entry.address, before=before, until=until, limit=MAX_HISTORY, min_slot=final_slot
            )
            fresh.extend(page)
            if len(page) < MAX_HISTORY:
                break
            before = page[-1].signature
        # An endpoint that doesn't know `until` any more, or repeats itself, lists old lines again.
        distinct = {line.signature: line for line in reversed(fresh)}
        newer = list(distinct.values())
        if until in distinct:
            newer = newer[list(distinct).index(until) + 1 :]
        lines = [*listed, *newer]
        final = list(itertools.takewhile(lambda line: line.slot <= final_slot, lines))
        self._backlog[entry.address] = (entry.final, final)
        return lines

    def _listed(self, entry: AddressCursor) -> list[SignatureInfo]:
        """The part of the backlog behind this cursor."""
        follows, lines = self._backlog.get(entry.address, (entry.final, []))
        if follows == entry.final:
            return lines
        for position, line in enumerate(lines):
            if line.signature == entry.final:
                return lines[position + 1 :]
        return []

    async def _observe(self, lines: Sequence[SignatureInfo]) -> tuple[list[ObservedTransaction], list[SignatureInfo]]:
        """Read the transactions in order; stop at the first that the node doesn't have yet."""
        observed: list[ObservedTransaction] = []
        read: list[SignatureInfo] = []
        for start in range(0, len(lines), _AT_ONCE):
            group = lines[start : start + _AT_ONCE]
            for line, landed in zip(group, await asyncio.gather(*map(self._landed, group)), strict=True):
                if line.failure is None:
                    if landed is None:
                        return observed, read
                    if landed.failure is None:
                        observed.append(self.observed(landed))
                read.append(line)
        return observed, read

    async def _landed(self, line: SignatureInfo) -> LandedTransaction | None:
        """The transaction itself; a failed one is not asked for, it has no events."""
        return await self._rpc.find_transaction(line.signature) if line.failure is None else None

    def observed(self, landed: LandedTransaction) -> ObservedTransaction:
        """What a landed transaction shows to a reader that fetched it itself, ahead of the next poll."""
        log = read_events(landed.logs, self._decoder)
        ours = [each.data for each in landed.instructions if each.program == self._decoder.program]
        # What an endpoint's log and its transaction don't agree on is nobody's instruction.
        names = [
            None if call is None or call >= len(ours) else self._decoder.instruction_name(ours[call])
            for call in log.calls
        ]
        events = tuple(
            ObservedEvent(landed.signature, index, landed.slot, landed.block_time, event, name)
            for index, (event, name) in enumerate(zip(log.events, names, strict=True))
        )
        return ObservedTransaction(landed.signature, landed.slot, landed.block_time, events, log.truncated)


def _in_order(histories: Sequence[Sequence[SignatureInfo]]) -> list[SignatureInfo]:
    """One history out of several, oldest first, each transaction once.

    Slots order what is in different slots. Inside a slot a transaction comes after all that precede it in
    any of the histories; transactions that share no watched address have no order to keep.
    """
    lines: dict[Signature, SignatureInfo] = {}
    before: dict[Signature, int] = {}
    after: dict[Signature, list[Signature]] = {}
    for history in histories:
        for position, line in enumerate(history):
            lines[line.signature] = line
            before.setdefault(line.signature, 0)
            if position:
                before[line.signature] += 1
                after.setdefault(history[position - 1].signature, []).append(line.signature)
    ranks = {signature: rank for rank, signature in enumerate(lines)}
    ready = [(lines[s].slot, ranks[s], s) for s, count in before.items() if count == 0]
    heapq.heapify(ready)
    ordered: list[SignatureInfo] = []
    while ready:
        _, _, signature = heapq.heappop(ready)
        ordered.append(lines[signature])
        for following in after.get(signature, ()):
            before[following] -= 1
            if before[following] == 0:
                heapq.heappush(ready, (lines[following].slot, ranks[following], following))
    return ordered


def _ordered(cursor: WatchCursor, read: Iterable[SignatureInfo]) -> list[Signature]:
    return [*(pending.signature for pending in cursor.pending), *(line.signature for line in read)]


def _slot_of(cursor: WatchCursor, signature: Signature) -> int:
    return next((p.slot for p in cursor.pending if p.signature == signature), 0)


def _advanced(entry: AddressCursor, history: Sequence[SignatureInfo], finalized: set[Signature]) -> Signature | None:
    """The newest line up to which this history is final and recorded without a gap."""
    final = entry.final
    for line in history:
        if line.signature not in finalized:
            break
        final = line.signature
    return final
