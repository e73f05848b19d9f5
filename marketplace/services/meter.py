"""The market's own clock on an attempt, and the countersignature it gives to a voucher that agrees with it.

A voucher is countersigned whole or refused whole, never clipped. The countersignature is in the store before it
leaves: what the node can show, the market knows, also after a kill. Source: api.md 5.5, program.md section 4.
"""

import asyncio
import contextlib
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, Protocol

import base58

from marketplace.domain.allocations import Allocation, Attempt, AttemptPhase
from marketplace.domain.ids import AllocationId, NodeId
from marketplace.domain.money import AmountOverflow, amount_due
from marketplace.domain.quantities import Millis, Tokens
from marketplace.domain.reasons import Reason
from marketplace.protocol.control import AllocationBeat, Countersignature, Refusal, SignedVoucher
from marketplace.protocol.signatures import verify
from marketplace.protocol.vouchers import VoucherMessage, VoucherState
from marketplace.services.chain_port import ChainPort, MarketTerms
from marketplace.services.clock import Clock
from marketplace.services.live import Live
from marketplace.store.allocations import Attempts
from marketplace.store.engine import Store, Transaction
from marketplace.store.nodes import Nodes

TOLERANCE_MS: Final = 1_000
"""How far a node's bill may run ahead of the market's own time since `ready` (system.md section 5)."""
GATHER_MS: Final = 20
"""Chosen: heartbeats within this time share one write; a countersignature waits no longer for company."""

HANDED_OVER: Final = frozenset({Reason.NODE_QUIT, Reason.NODE_DRAINED})
"""Ends after which another node goes on: their voucher is `ended`, for `final` would close the escrow."""


class Objection(StrEnum):
    """Why a voucher is not countersigned; the code that the node is told."""

    MALFORMED = "malformed"
    OTHER_ALLOCATION = "other_allocation"
    SIGNATURE = "signature"
    SEQUENCE = "sequence"
    NOT_READY = "not_ready"
    START = "start"
    CLOCK = "clock"
    AHEAD = "ahead"
    """Right but for its time, which the chain's clock hasn't reached: the same usage may be shown later."""
    METER_GONE = "meter_gone"
    """The attempt's meter was replaced and its key isn't here: nothing more of it can be countersigned."""
    TIME_LIMIT = "time_limit"
    AMOUNT = "amount"
    STATE = "state"
    LEASE_LOST = "lease_lost"


class Countersigner(Protocol):
    """The meters' keys. An attempt keeps the meter of its assignment, also when the market has another by now.

    meter: address in base58; None is the market's own of the moment.
    """

    def holds(self, meter: str | None) -> bool:
        """Whether that meter's key is here."""
        ...

    def sign(self, meter: str | None, message: bytes) -> bytes:
        """64 bytes over a voucher's signing bytes, by a meter that `holds` knows."""
        ...


@dataclass(frozen=True, slots=True)
class Reading:
    """The market's clocks at the moment a voucher came. now_ms: its own; chain_ms: chain time."""

    now_ms: int
    chain_ms: int


def objection(
    market: MarketTerms, allocation: Allocation, attempt: Attempt, voucher: VoucherMessage, reading: Reading
) -> Objection | None:
    """The first reason not to countersign, None when every field is right. The signature is checked apart."""
    since_ready = 0
    if attempt.meter_at_ms is not None:
        since_ready = reading.now_ms - attempt.meter_at_ms - attempt.unbilled_ms(reading.now_ms) + TOLERANCE_MS
    before = VoucherMessage.from_fields(attempt.voucher) if attempt.voucher is not None else None
    last_at = before.at_ms if before is not None else voucher.started_at_ms
    # The program: assigned - skew ≤ started_at. The assignment's own time is known from its event or account.
    assigned_ms = attempt.assigned_chain_ms if attempt.assigned_chain_ms is not None else attempt.claim_at_chain_ms
    earliest = assigned_ms - market.skew
    checks = (
        (
            voucher.program_id == market.program_id
            and voucher.genesis_hash == market.genesis_hash
            and voucher.escrow == base58.b58decode(allocation.escrow)
            and voucher.attempt == attempt.number
            and voucher.wallet == base58.b58decode(allocation.wallet)
            and voucher.node == base58.b58decode(attempt.node_address),
            Objection.OTHER_ALLOCATION,
        ),
        (voucher.sequence > attempt.voucher_sequence, Objection.SEQUENCE),
        (before is None or before.state is VoucherState.RUNNING, Objection.STATE),
        (_state_agrees(voucher), Objection.STATE),
        (attempt.meter_at_ms is not None or voucher.billed_ms == 0, Objection.NOT_READY),
        (before is None or before.started_at_ms == voucher.started_at_ms, Objection.START),
        (earliest <= voucher.started_at_ms <= voucher.at_ms, Objection.START),
        (last_at <= voucher.at_ms, Objection.CLOCK),
        (attempt.billed_ms <= voucher.billed_ms <= voucher.at_ms - voucher.started_at_ms, Objection.CLOCK),
        (voucher.billed_ms - attempt.billed_ms <= voucher.at_ms - last_at, Objection.CLOCK),
        (voucher.billed_ms <= since_ready, Objection.CLOCK),
        (voucher.billed_ms <= attempt.limit_ms, Objection.TIME_LIMIT),
        (_before_stop(allocation, voucher), Objection.TIME_LIMIT),
        (voucher.amount == _due(attempt.price_per_hour, voucher.billed_ms), Objection.AMOUNT),
        (attempt.amount <= voucher.amount <= attempt.limit_amount, Objection.AMOUNT),
        # Last: only what is right otherwise is worth waiting for. A chain under load may lag by minutes.
        (voucher.at_ms <= reading.chain_ms + market.skew, Objection.AHEAD),
    )
    return next((found for holds, found in checks if not holds), None)


def _before_stop(allocation: Allocation, voucher: VoucherMessage) -> bool:
    """The program: once the wallet cancelled, billed ≤ min(at, stop_at) - started. It would refuse more for ever."""
    stop_at = allocation.stop_at_chain_ms
    return stop_at is None or voucher.billed_ms <= max(0, stop_at - voucher.started_at_ms)


def _state_agrees(voucher: VoucherMessage) -> bool:
    try:
        reason = Reason(voucher.reason)
    except ValueError:
        return False
    match voucher.state:
        case VoucherState.RUNNING:
            return reason is Reason.RUNNING
        case VoucherState.FINAL:
            return reason is not Reason.RUNNING and reason not in HANDED_OVER
        case VoucherState.ENDED:
            return reason is not Reason.RUNNING


def _due(price: Tokens, billed_ms: int) -> int:
    try:
        return amount_due(price, Millis(billed_ms))
    except AmountOverflow:
        return -1


@dataclass(frozen=True, slots=True)
class Countersigned:
    """A voucher that the meter agrees with, and the attempt with it in place. Not in the store yet."""

    attempt: Attempt
    voucher: VoucherMessage
    signature: bytes


class Meter:
    """Clocks attempts and countersigns."""

    def __init__(self, store: Store, chain: ChainPort, live: Live, clock: Clock, keys: Countersigner) -> None:
        self._store = store
        self._chain = chain
        self._live = live
        self._clock = clock
        self._keys = keys
        self._waiting: list[Attempt] = []
        self._seen: dict[NodeId, int] = {}
        self._flush: asyncio.Task[None] | None = None

    def serves(self, attempt: Attempt) -> bool:
        """Whether the key of the attempt's meter is here: without it nothing of it can be countersigned."""
        return self._keys.holds(attempt.meter_key)

    def judge(self, allocation: Allocation, attempt: Attempt, signed: SignedVoucher) -> Countersigned | Objection:
        """What the meter says to a voucher. Changes nothing."""
        try:
            voucher = VoucherMessage.from_fields(signed.fields)
        except ValueError:
            return Objection.MALFORMED
        if signed.fields == attempt.voucher and attempt.meter_signature is not None:
            return Countersigned(attempt, voucher, attempt.meter_signature)
        if not self.serves(attempt):
            return Objection.METER_GONE
        reading = Reading(self._clock.now(), self._chain.now())
        found = objection(self._chain.terms, allocation, attempt, voucher, reading)
        if found is not None:
            return found
        message = voucher.signing_bytes()
        if not verify(base58.b58decode(attempt.node_key), message, signed.signature):
            return Objection.SIGNATURE
        signature = self._keys.sign(attempt.meter_key, message)
        return Countersigned(
            replace(
                attempt,
                voucher=signed.fields,
                node_signature=signed.signature,
                meter_signature=signature,
                voucher_sequence=voucher.sequence,
                billed_ms=Millis(voucher.billed_ms),
                amount=Tokens(voucher.amount),
                started_chain_ms=voucher.started_at_ms,
            ),
            voucher,
            signature,
        )

    async def countersign(
        self, node_id: NodeId, beats: tuple[AllocationBeat, ...]
    ) -> tuple[list[Countersignature], list[Refusal]]:
        """Answers to the running vouchers of one heartbeat, durable when this returns.

        A voucher that ends an attempt belongs into a state report and is refused here. What is judged is written and
        put in place under its locks whoever is cancelled: a voucher that is in the store and not in place would be
        judged anew, and another one of its sequence countersigned as well.
        """
        return await asyncio.shield(asyncio.ensure_future(self._countersign(node_id, beats)))

    async def _countersign(
        self, node_id: NodeId, beats: tuple[AllocationBeat, ...]
    ) -> tuple[list[Countersignature], list[Refusal]]:
        signed: list[Countersignature] = []
        refused: list[Refusal] = []
        fresh: list[Attempt] = []
        async with contextlib.AsyncExitStack() as locks:
            # Each lock once, and only of the node's own attempts: a heartbeat may name one twice, or another's.
            held = {_id(beat) for beat in beats if beat.voucher is not None and self._runs(node_id, beat)}
            for allocation_id in sorted(held):
                await locks.enter_async_context(self._live.lock(allocation_id))
            for beat in sorted(beats, key=lambda b: b.allocation_id):
                if beat.voucher is None:
                    continue
                if _id(beat) not in held:
                    refused.append(_refusal(beat, beat.voucher, Objection.LEASE_LOST))
                    continue
                judged = self._judge_beat(node_id, beat, beat.voucher)
                if not isinstance(judged, Countersigned):
                    refused.append(judged)
                elif any(_id(beat) == attempt.allocation_id for attempt in fresh):
                    # One voucher of an attempt at a time: the earlier one of this heartbeat isn't in place yet.
                    refused.append(_refusal(beat, beat.voucher, Objection.SEQUENCE))
                else:
                    fresh.append(judged.attempt)
                    signed.append(_countersignature(beat.allocation_id, judged))
            self._seen[node_id] = self._clock.now()
            await self._write(fresh)
            self._live.put_vouchers(fresh)
        return signed, refused

    def _runs(self, node_id: NodeId, beat: AllocationBeat) -> bool:
        """Whether the latest attempt of the beat's allocation is this node's."""
        attempt = self._live.attempt(_id(beat))
        return attempt is not None and attempt.node_id == node_id

    def _judge_beat(self, node_id: NodeId, beat: AllocationBeat, voucher: SignedVoucher) -> Countersigned | Refusal:
        allocation, attempt = self._live.find(_id(beat)), self._live.attempt(_id(beat))
        if (
            allocation is None
            or attempt is None
            or attempt.node_id != node_id
            or attempt.number != beat.attempt
            or attempt.lease_token != beat.lease_token
            or attempt.phase is not AttemptPhase.READY
        ):
            code = Objection.LEASE_LOST
            if attempt is not None and attempt.number == beat.attempt and attempt.live:
                code = Objection.NOT_READY
            return _refusal(beat, voucher, code)
        judged = self.judge(allocation, attempt, voucher)
        if isinstance(judged, Countersigned) and judged.voucher.state is not VoucherState.RUNNING:
            judged = Objection.STATE
        if isinstance(judged, Objection):
            return _refusal(beat, voucher, judged)
        return judged

    async def _write(self, fresh: list[Attempt]) -> None:
        self._waiting.extend(fresh)
        if self._flush is None:
            self._flush = asyncio.ensure_future(self._flush_soon())
        await asyncio.shield(self._flush)

    async def _flush_soon(self) -> None:
        await asyncio.sleep(GATHER_MS / 1000)
        attempts, self._waiting = self._waiting, []
        seen, self._seen = self._seen, {}
        self._flush = None

        def write(tx: Transaction) -> None:
            Attempts(tx).write_vouchers(attempts)
            Nodes(tx).write_seen(seen)

        await self._store.write(write)


def _countersignature(allocation_id: str, judged: Countersigned) -> Countersignature:
    return Countersignature(
        allocation_id=allocation_id,
        attempt=judged.attempt.number,
        sequence=judged.voucher.sequence,
        signature=judged.signature,
    )


def _refusal(beat: AllocationBeat, voucher: SignedVoucher, code: Objection) -> Refusal:
    return Refusal(allocation_id=beat.allocation_id, attempt=beat.attempt, sequence=_sequence(voucher), code=code)


def _sequence(voucher: SignedVoucher) -> int:
    try:
        return VoucherMessage.from_fields(voucher.fields).sequence
    except ValueError:
        return 0


def _id(beat: AllocationBeat) -> AllocationId:
    return AllocationId(beat.allocation_id)
