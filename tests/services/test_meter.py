"""The meter countersigns a voucher whole or refuses it; each field that is wrong has its objection."""

import asyncio
import contextlib
import hashlib
import threading
from collections.abc import AsyncIterator
from dataclasses import replace

import base58
import pytest
from nacl.signing import SigningKey

from marketplace.domain.allocations import Allocation, Attempt, AttemptPhase, Opener
from marketplace.domain.ids import AccountId, AllocationId, NodeId
from marketplace.domain.money import amount_due
from marketplace.domain.pricing import Priority
from marketplace.domain.quantities import Bps, Lamports, Millis, Tokens
from marketplace.domain.reasons import Reason
from marketplace.protocol.control import AllocationBeat, AttemptState, SignedVoucher
from marketplace.protocol.vouchers import VoucherMessage, VoucherState
from marketplace.services.chain_port import MarketTerms
from marketplace.services.clock import Ids, ManualClock, SystemRandom
from marketplace.services.live import Change, Live
from marketplace.services.meter import Meter, Objection, Reading, objection
from marketplace.store.allocations import Attempts
from marketplace.store.engine import Store

PROGRAM, GENESIS, ESCROW, WALLET, ACCOUNT = (hashlib.sha256(name).digest() for name in (b"p", b"g", b"e", b"w", b"a"))
PRICE = Tokens(3_600_000)
ASSIGNED, STARTED = 1_000_000, 1_002_000
METER_AT = 50_000
"""The market's own clock has another origin than the chain's."""


def b58(raw: bytes) -> str:
    return base58.b58encode(raw).decode()


TERMS = MarketTerms(
    program_id=PROGRAM,
    genesis_hash=GENESIS,
    market=b58(bytes(32)),
    matcher_key="",
    meter_key="",
    payment_mint="",
    stake_mint="",
    decimals=6,
    stake_decimals=6,
    fee_bps=Bps(500),
    protocol_bps=Bps(100),
    node_share_bps=Bps(5_000),
    lost_after=Millis(6_000),
    ready_limit=Millis(60_000),
    claim_limit=Millis(30_000),
    skew=Millis(2_000),
    contest_window=Millis(5_000),
    reap_grace=Millis(10_000),
    queue_limit=Millis(600_000),
    minimum_deposit=Tokens(1_000),
    compensation_bps=Bps(2_000),
    escrow_rent=Lamports(1),
)
ALLOCATION = Allocation(
    id=AllocationId("alloc_1"),
    account_id=AccountId("acct_1"),
    wallet=b58(WALLET),
    key="k",
    body_hash=b"",
    opener=Opener.MARKET,
    nonce=1,
    escrow=b58(ESCROW),
    terms_hash=bytes(32),
    spec="{}",
    submitted="{}",
    class_id="cpu-small",
    regions=(),
    gpu_count=1,
    image="busybox",
    egress=True,
    disk_gb=10,
    priority=Priority.NORMAL,
    ceiling_per_hour=PRICE,
    deposit=Tokens(60_000),
    max_ms=Millis(60_000),
    max_attempts=3,
    stop_grace_ms=Millis(10_000),
    queue_ms=Millis(1),
    queue_until_ms=1,
    created_at_ms=1,
    attempt=1,
)
ATTEMPT = Attempt(
    allocation_id=ALLOCATION.id,
    number=1,
    node_id=NodeId("node_1"),
    node_key=b58(SigningKey(b"n" * 32).verify_key.encode()),
    node_address=b58(ACCOUNT),
    lease_token="lease",
    phase=AttemptPhase.READY,
    price_per_hour=PRICE,
    fee_bps=500,
    protocol_bps=100,
    max_ms=Millis(60_000),
    deposit=Tokens(60_000),
    slots=1,
    claim_at_chain_ms=ASSIGNED,
    claim_signature=b"",
    claimed_at_ms=METER_AT - 5_000,
    assigned_chain_ms=ASSIGNED,
    meter_at_ms=METER_AT,
)


def voucher(billed: int = 10_000, sequence: int = 1, **fields: object) -> VoucherMessage:
    made = VoucherMessage(
        PROGRAM, GENESIS, ESCROW, 1, WALLET, ACCOUNT, sequence, STARTED, STARTED + billed, billed,
        amount_due(PRICE, Millis(max(0, billed))), VoucherState.RUNNING, 0, bytes(32),
    )  # fmt: skip
    return replace(made, **fields)


def after(elapsed: int) -> Reading:
    return Reading(METER_AT + elapsed, STARTED + elapsed)


def found(made: VoucherMessage, elapsed: int = 10_000, attempt: Attempt = ATTEMPT) -> Objection | None:
    return objection(TERMS, ALLOCATION, attempt, made, after(elapsed))


def acknowledged(made: VoucherMessage) -> Attempt:
    return replace(
        ATTEMPT,
        voucher=made.fields(),
        voucher_sequence=made.sequence,
        billed_ms=Millis(made.billed_ms),
        amount=Tokens(made.amount),
    )


def test_a_right_voucher_is_countersigned_and_so_is_the_one_after_it():
    first = voucher()
    assert found(first) is None
    assert found(voucher(20_000, 2), 20_000, acknowledged(first)) is None


def test_the_market_s_own_clock_bounds_the_bill_to_the_millisecond():
    assert found(voucher(11_000), 10_000) is None
    assert found(voucher(11_001), 10_000) is Objection.CLOCK


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (voucher(program_id=bytes(32)), Objection.OTHER_ALLOCATION),
        (voucher(genesis_hash=bytes(32)), Objection.OTHER_ALLOCATION),
        (voucher(escrow=bytes(32)), Objection.OTHER_ALLOCATION),
        (voucher(attempt=2), Objection.OTHER_ALLOCATION),
        (voucher(wallet=bytes(32)), Objection.OTHER_ALLOCATION),
        (voucher(node=bytes(32)), Objection.OTHER_ALLOCATION),
        (voucher(sequence=0), Objection.SEQUENCE),
        (voucher(reason=1), Objection.STATE),
        (voucher(state=VoucherState.FINAL), Objection.STATE),
        (voucher(state=VoucherState.FINAL, reason=33), Objection.STATE),
        (voucher(state=VoucherState.FINAL, reason=int(Reason.NODE_QUIT)), Objection.STATE),
        (voucher(started_at_ms=ASSIGNED - 2_001, at_ms=STARTED), Objection.START),
        (voucher(started_at_ms=STARTED + 20_000), Objection.START),
        (voucher(at_ms=STARTED + 12_001), Objection.AHEAD),
        (voucher(at_ms=STARTED + 9_999), Objection.CLOCK),
        (voucher(amount=10_001), Objection.AMOUNT),
        (voucher(amount=9_999), Objection.AMOUNT),
    ],
)
def test_each_wrong_field_has_its_objection(wrong, expected):
    assert found(wrong) is expected


def test_more_than_the_time_limit_is_refused():
    assert found(voucher(60_001), 100_000) is Objection.TIME_LIMIT


def test_nothing_is_billed_before_ready():
    early = replace(ATTEMPT, meter_at_ms=None)
    assert found(voucher(), attempt=early) is Objection.NOT_READY
    never = voucher(0, state=VoucherState.FINAL, reason=int(Reason.APP_ERROR))
    assert found(never, 0, early) is None


def test_a_voucher_never_falls_nor_changes_its_start_nor_outruns_its_own_clock():
    before = acknowledged(voucher(10_000, 5))
    assert found(voucher(20_000, 5), 20_000, before) is Objection.SEQUENCE
    assert found(voucher(9_000, 6, at_ms=STARTED + 11_000), 20_000, before) is Objection.CLOCK
    moved = voucher(20_000, 6, started_at_ms=STARTED - 1)
    assert found(moved, 20_000, before) is Objection.START
    jump = voucher(20_000, 6, at_ms=STARTED + 20_000)
    late = replace(before, voucher=voucher(10_000, 5, at_ms=STARTED + 15_000).fields())
    assert found(jump, 20_000, late) is Objection.CLOCK


def test_nothing_follows_a_final_voucher():
    final = voucher(10_000, 5, state=VoucherState.FINAL, reason=int(Reason.COMPLETED))
    assert found(final) is None
    assert found(voucher(10_000, 6), 20_000, acknowledged(final)) is Objection.STATE


def test_more_than_the_deposit_is_refused():
    assert found(voucher(), attempt=replace(ATTEMPT, deposit=Tokens(9_999))) is Objection.AMOUNT


class Chain:
    terms = TERMS

    def now(self) -> Millis:
        return Millis(STARTED + 10_000)


class MarketKey:
    """The market's own key, and no other."""

    def holds(self, meter: str | None) -> bool:
        return meter is None

    def sign(self, meter: str | None, message: bytes) -> bytes:
        return SigningKey(b"m" * 32).sign(message).signature


@contextlib.asynccontextmanager
async def writer_at_rest(store: Store) -> AsyncIterator[None]:
    """Units are taken in and not begun: who waits for one waits until the end, however fast the disk is."""
    end = threading.Event()
    rest = asyncio.create_task(store.write(lambda _tx: end.wait()))
    await asyncio.sleep(0)
    try:
        yield
    finally:
        end.set()
        await rest


async def test_a_voucher_of_a_heartbeat_that_is_given_up_is_in_place_and_in_the_store_or_in_neither(tmp_path):
    store, clock = Store(tmp_path / "market.sqlite3"), ManualClock(METER_AT + 10_000)
    await store.open()
    live = Live(store, clock, Ids(clock, SystemRandom()), Chain(), "USDC")
    await live.create(replace(ALLOCATION, attempt=0, opening=True))
    await live.change(ALLOCATION.id, lambda a, _: Change(replace(a, attempt=1), ATTEMPT))
    meter = Meter(store, Chain(), live, clock, MarketKey())

    def beat(billed: int) -> tuple[AllocationBeat, ...]:
        made = voucher(billed)
        signature = SigningKey(b"n" * 32).sign(made.signing_bytes()).signature
        sent = SignedVoucher(fields=made.fields(), signature=signature)
        return (
            AllocationBeat(
                allocation_id=ALLOCATION.id, attempt=1, lease_token="lease", state=AttemptState.RUNNING, voucher=sent
            ),
        )

    async with writer_at_rest(store):
        given_up = asyncio.create_task(meter.countersign(ATTEMPT.node_id, beat(9_000)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
    # the same sequence with another bill: the first is as good as told, although nobody heard the answer
    signed, refused = await meter.countersign(ATTEMPT.node_id, beat(10_000))
    assert (signed, [r.code for r in refused]) == ([], [Objection.SEQUENCE])
    kept = await store.lookup(lambda tx: Attempts(tx).find(ALLOCATION.id, 1))
    assert kept.billed_ms == live.attempt(ALLOCATION.id).billed_ms == 9_000
    await store.close()
