"""When a delivery is tried again. Source: api.md section 5.9."""

from typing import Final

_SINCE_FIRST_S: Final = (
    0, 5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 14 * 3600, 20 * 3600, 24 * 3600,
)  # fmt: skip
"""Seconds from the first attempt to each one, as published."""
_JITTER_PERMILLE: Final = 100
MAX_ATTEMPTS: Final = len(_SINCE_FIRST_S)
MAX_PAUSE_MS: Final = 24 * 3_600_000
"""The longest that a receiver's Retry-After is obeyed."""


def pause_ms(attempts: int, chance: int, retry_after_s: int | None = None) -> int | None:
    """Milliseconds from the end of an attempt to the next one; None when there is none any more.

    attempts: made so far, at least 1. The pause is the published one, 10 % more or less.
    chance: any whole number, at random; decides how much. retry_after_s: what a 429 or 503 asked for, at least.
    """
    if attempts >= MAX_ATTEMPTS:
        return None
    pause_s = _SINCE_FIRST_S[attempts] - _SINCE_FIRST_S[attempts - 1]
    permille = 1000 - _JITTER_PERMILLE + chance % (2 * _JITTER_PERMILLE + 1)
    asked = 0 if retry_after_s is None else min(retry_after_s * 1000, MAX_PAUSE_MS)
    return max(pause_s * permille, asked)
