"""The voucher series: what may never fall, and what is never billed."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from marketplace.domain.money import amount_due
from marketplace.domain.quantities import Millis, Tokens
from marketplace.domain.reasons import Reason
from marketplace.protocol.vouchers import VoucherState
from node.clock import Anchor
from node.metering import Bounds, Series
from tests.node.conftest import IDENTITY

START = 1_700_000_000_000
bounds = st.builds(
    Bounds,
    price_per_hour=st.integers(0, 10**12).map(Tokens),
    max_ms=st.integers(1, 10**9).map(Millis),
    deposit=st.integers(0, 10**13).map(Tokens),
)


def series(limits: Bounds) -> Series:
    return Series(IDENTITY, b"\x05" * 32, b"\x06" * 32, 1, limits, START)


@given(bounds, st.lists(st.integers(-1_000, 10**9), min_size=1, max_size=30), st.integers(0, 5_000))
def test_a_series_never_falls_and_never_passes_its_bounds(limits: Bounds, moments: list[int], conceded: int) -> None:
    current = replace(series(limits), conceded_ms=conceded)
    last = None
    for moment in moments:
        voucher, current = current.next(START + moment, bytes(32))
        assert voucher.billed_ms <= voucher.at_ms - voucher.started_at_ms
        assert voucher.billed_ms <= limits.max_ms
        assert voucher.amount == amount_due(limits.price_per_hour, Millis(voucher.billed_ms)) <= limits.deposit
        if last is not None:
            assert voucher.sequence == last.sequence + 1
            assert voucher.at_ms >= last.at_ms
            assert 0 <= voucher.billed_ms - last.billed_ms <= voucher.at_ms - last.at_ms
        last = voucher


@given(bounds)
def test_the_limit_is_the_last_millisecond_that_the_deposit_pays(limits: Bounds) -> None:
    assert amount_due(limits.price_per_hour, limits.limit_ms) <= limits.deposit
    if limits.ends_for_want_of_funds:
        assert amount_due(limits.price_per_hour, Millis(limits.limit_ms + 1)) > limits.deposit


@given(st.integers(0, 10_000), st.integers(0, 10_000), st.integers(0, 10_000))
def test_after_a_concession_billing_goes_on_from_what_was_countersigned(
    accepted_at: int, refused_after: int, unseen: int
) -> None:
    current = series(Bounds(Tokens(3_600_000), Millis(10**9), Tokens(10**12)))
    accepted, current = current.next(START + accepted_at, bytes(32))
    refused, current = current.next(START + accepted_at + refused_after, bytes(32))
    conceded = current.concede(unseen, accepted)
    voucher, _ = conceded.next(refused.at_ms + 500, bytes(32), VoucherState.FINAL, Reason.COMPLETED)
    assert voucher.sequence == refused.sequence + 1
    assert voucher.billed_ms >= accepted.billed_ms
    assert voucher.billed_ms - accepted.billed_ms <= voucher.at_ms - accepted.at_ms
    assert voucher.billed_ms == max(accepted.billed_ms, voucher.at_ms - START - unseen)


class ScriptedClock:
    def __init__(self) -> None:
        self.boot_id = "one"
        self.monotonic = 5_000
        self.wall = 1_000_000

    def monotonic_ms(self) -> int:
        return self.monotonic

    def wall_ms(self) -> int:
        return self.wall


def test_a_moved_wall_clock_moves_no_bill() -> None:
    clock = ScriptedClock()
    anchor = Anchor.set(clock, START)
    clock.monotonic += 750
    clock.wall += 86_400_000
    assert anchor.now_ms(clock) == START + 750


def test_after_a_reboot_the_wall_clock_carries_chain_time_and_never_backwards() -> None:
    clock = ScriptedClock()
    anchor = Anchor.set(clock, START)
    clock.boot_id, clock.monotonic = "two", 3
    clock.wall += 60_000
    assert anchor.now_ms(clock) == START + 60_000
    clock.wall = 0
    assert anchor.now_ms(clock) == START
