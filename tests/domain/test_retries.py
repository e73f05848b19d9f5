"""Pauses before another attempt. Source: api.md section 5.2: 10 s doubling to 5 min."""

from marketplace.domain.reasons import Reason
from marketplace.domain.retries import pause_before_next


def test_the_pause_after_an_exit_code_doubles_to_five_minutes():
    pauses = [pause_before_next(number, Reason.APP_ERROR) for number in range(1, 8)]
    assert pauses == [10_000, 20_000, 40_000, 80_000, 160_000, 300_000, 300_000]


def test_another_node_is_asked_at_once():
    assert pause_before_next(3, Reason.NODE_LOST) == 0
