"""Warnings, leads and steps of running out of time."""

from hypothesis import given
from hypothesis import strategies as st

from marketplace.domain.quantities import Millis
from marketplace.domain.timing import (
    due_warnings,
    extension_lead_ms,
    extension_step_ms,
    next_warning_ms,
    rearmed,
    warnings_of,
)

HOUR = 3_600_000
totals = st.integers(1, 30 * 24 * HOUR).map(Millis)


def test_a_long_job_is_warned_at_a_tenth_an_hour_and_ten_minutes() -> None:
    given_bits, told = 0, []
    for left in range(24 * HOUR, -1, -1_000):
        for warning in due_warnings(Millis(24 * HOUR), left, given_bits):
            given_bits |= warning.bit
            told.append((warning.code, left))
    assert told == [("10%", 24 * HOUR // 10), ("1h", HOUR), ("10min", 600_000)]


def test_a_short_job_is_not_warned_of_what_it_never_had() -> None:
    assert [w.code for w in warnings_of(Millis(300_000))] == ["10%"]
    assert [w.code for w in warnings_of(Millis(HOUR))] == ["10min", "10%"]


def test_all_that_were_missed_are_told_in_their_order_and_never_again() -> None:
    due = due_warnings(Millis(24 * HOUR), 1, 0)
    assert [w.code for w in due] == ["10%", "1h", "10min"]
    assert due_warnings(Millis(24 * HOUR), 1, sum(w.bit for w in due)) == ()
    assert next_warning_ms(Millis(24 * HOUR), 1, sum(w.bit for w in due)) is None


@given(totals, st.integers(0, 30 * 24 * HOUR), st.integers(0, 7))
def test_the_next_warning_is_due_exactly_then(total: Millis, left: int, bits: int) -> None:
    due = due_warnings(total, left, bits)
    after = bits | sum(w.bit for w in due)
    wait = next_warning_ms(total, left, after)
    if wait is not None:
        assert due_warnings(total, left - wait, after)
        assert not due_warnings(total, left - wait + 1, after)
    # with more time what lies ahead again is told again, the rest is not
    again = rearmed(total, left, after)
    assert not due_warnings(total, left, again)


@given(totals, st.integers(0, 40 * 24 * HOUR))
def test_an_extension_comes_before_the_limit_and_within_what_is_allowed(limit: Millis, allowed: int) -> None:
    assert 0 <= extension_lead_ms(limit) < max(limit, 1)
    assert 0 <= extension_step_ms(limit, allowed) <= min(allowed, HOUR)
