"""When a running allocation is warned, extended by itself, held and ended. Pure arithmetic in milliseconds."""

from dataclasses import dataclass
from typing import Final

from marketplace.domain.quantities import Millis

PAUSE_LIMIT_MS: Final = 120_000
"""How long at most an allocation is held at its limit for more time. Specified: docs/renter.md, "Time"."""
RESTORE_LIMIT_MS: Final = 1_200_000
"""How long restoring a checkpoint may take beside the start limit, unbilled. Chosen: 20 GiB at 17 MiB/s; with a pause
and the longest delivery it stays below the hour after which strangers may reap an escrow that nobody ended."""
RESTORE_SILENCE_MS: Final = 120_000
"""Restoring ends when so long nothing of the checkpoint arrived. Chosen: longer than any restart of the market."""
MAX_TOTAL_MS: Final = 30 * 86_400_000
"""Chosen: an allocation with all its extensions lasts at most 30 days; the program's own bound is ten years."""
MAX_AUTO_STEP_MS: Final = 3_600_000
"""Chosen: what is added at once is locked at once, so no more than an hour."""
_LEAD_MS: Final = 300_000
_SHORT_LEAD_MS: Final = 60_000


@dataclass(frozen=True, slots=True)
class TimeWarning:
    """One threshold of time left. bit: how it is remembered that it was given."""

    bit: int
    code: str
    left_ms: Millis


def warnings_of(total_ms: Millis) -> tuple[TimeWarning, ...]:
    """The thresholds that lie within so much time in all."""
    every = (
        TimeWarning(1, "1h", Millis(3_600_000)),
        TimeWarning(2, "10min", Millis(600_000)),
        TimeWarning(4, "10%", Millis(total_ms // 10)),
    )
    return tuple(w for w in every if 0 < w.left_ms < total_ms)


def due_warnings(total_ms: Millis, left_ms: int, given: int) -> tuple[TimeWarning, ...]:
    """Warnings whose moment has come and that were not given yet, most time left first."""
    due = [w for w in warnings_of(total_ms) if left_ms <= w.left_ms and not given & w.bit]
    return tuple(sorted(due, key=lambda w: -w.left_ms))


def next_warning_ms(total_ms: Millis, left_ms: int, given: int) -> int | None:
    """How long from now the next one is due; None when none will be."""
    waits = [left_ms - w.left_ms for w in warnings_of(total_ms) if left_ms > w.left_ms and not given & w.bit]
    return min(waits, default=None)


def rearmed(total_ms: Millis, left_ms: int, given: int) -> int:
    """What stays given once there is more time: a threshold that lies ahead again will be told again."""
    return sum(w.bit for w in warnings_of(total_ms) if given & w.bit and left_ms <= w.left_ms)


def extension_lead_ms(limit_ms: Millis) -> Millis:
    """How long before its limit an allocation is extended by itself: a tenth of it, at least a minute (half of a
    shorter limit), at most five minutes.
    """
    return Millis(max(min(limit_ms // 10, _LEAD_MS), min(limit_ms // 2, _SHORT_LEAD_MS)))


def extension_step_ms(limit_ms: Millis, allowed_ms: int) -> Millis:
    """How much it is extended by itself at once: as long as it was asked for, an hour at most, within what is left."""
    return Millis(max(0, min(limit_ms, MAX_AUTO_STEP_MS, allowed_ms)))
