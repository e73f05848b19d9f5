"""When a wallet is told how much of an allowance is used: at half, at four fifths, and when it is used up."""

from typing import Final

from marketplace.domain.quantities import Tokens

THRESHOLDS: Final = (50, 80)
"""Percent of a cap. Specified: together with 100, which here means used up."""
EXHAUSTED: Final = 100
_REARM_POINTS: Final = 10
"""Chosen: what a job gave back must bring the use so far below a threshold before that is told again."""


def reached(used: Tokens, cap: Tokens, last: Tokens) -> int:
    """The highest threshold reached: 0, 50, 80, or 100 where nothing like the last escrow fits any more.

    used, cap: of the allowance, base units. last: deposit of the last escrow opened under it.
    """
    if cap - used < max(last, 1):
        return EXHAUSTED
    return max((each for each in THRESHOLDS if used * 100 >= cap * each), default=0)


def still_told(told: int, used: Tokens, cap: Tokens) -> int:
    """What was told and still holds, or nearly: the highest threshold that the use is at most 10 points below."""
    return max(
        (each for each in (*THRESHOLDS, EXHAUSTED) if each <= told and used * 100 >= cap * (each - _REARM_POINTS)),
        default=0,
    )
