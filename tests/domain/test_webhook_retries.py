"""The published times of deliveries that fail."""

from hypothesis import given
from hypothesis import strategies as st

from marketplace.domain.webhook_retries import MAX_ATTEMPTS, MAX_PAUSE_MS, pause_ms

PUBLISHED_S = [0, 5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400]
MIDDLE = 100
"""The chance that changes nothing."""


def test_without_jitter_the_attempts_are_at_the_published_times():
    at, times = 0, [0]
    for attempts in range(1, MAX_ATTEMPTS):
        at += pause_ms(attempts, MIDDLE)
        times.append(at // 1000)
    assert times == PUBLISHED_S
    assert pause_ms(MAX_ATTEMPTS, MIDDLE) is None


@given(st.integers(1, MAX_ATTEMPTS - 1), st.integers(0, 2**32 - 1))
def test_each_pause_is_at_most_a_tenth_off(attempts, chance):
    exact = pause_ms(attempts, MIDDLE)
    assert exact * 9 <= pause_ms(attempts, chance) * 10 <= exact * 11


def test_both_ends_of_the_jitter_occur():
    assert {pause_ms(1, chance) for chance in (0, 200)} == {4500, 5500}


@given(st.integers(1, MAX_ATTEMPTS - 1), st.integers(0, 10**9))
def test_what_a_receiver_asked_for_is_the_least_and_bounded(attempts, asked_s):
    pause = pause_ms(attempts, MIDDLE, asked_s)
    assert pause == max(pause_ms(attempts, MIDDLE), min(asked_s * 1000, MAX_PAUSE_MS))
