"""How an attempt ends: which reason an order or an outcome stands for, and whether another node may go on."""

from typing import Final

from marketplace.domain.reasons import Reason
from node.journal import Ending
from node.runtime.port import Outcome

_DETAIL_CHARACTERS: Final = 2000

REQUEUING: Final = frozenset(
    {
        Reason.PULL_FAILED,
        Reason.START_TIMEOUT,
        Reason.VERIFY_FAILED,
        Reason.NODE_QUIT,
        Reason.NODE_DRAINED,
        Reason.INTERRUPTED,
        Reason.WORKER_UNHEALTHY,
    }
)
"""Ends after which another node may go on: the last voucher is `ended`, the escrow stays open."""


def ordered_reason(number: int) -> Reason:
    """The reason of an order; an order without a reason we know is the renter's cancel."""
    try:
        reason = Reason(number)
    except ValueError:
        return Reason.CANCELLED
    return Reason.CANCELLED if reason is Reason.RUNNING else reason


def natural_reason(outcome: Outcome) -> Reason:
    """Why a container that nobody stopped has ended."""
    if outcome.disk_full:
        return Reason.DISK_FULL
    if outcome.oom_killed:
        return Reason.OOM
    return Reason.COMPLETED if outcome.exit_code == 0 else Reason.APP_ERROR


def ending(
    reason: Reason, at_ms: int, *, final: bool, detail: str | None = None, outcome: Outcome | None = None
) -> Ending:
    """The end of an attempt, as journalled. at_ms: chain time; final: as ordered, where the reason lets it be."""
    return Ending(
        reason=reason,
        at_ms=at_ms,
        final=final and reason not in REQUEUING,
        exit_code=outcome.exit_code if outcome else None,
        detail=_told(detail) if detail else None,
    )


def _told(detail: str) -> str:
    """Words of engines, hosts and file names, as a report can carry them: no NUL, no half of a surrogate pair."""
    return detail[:_DETAIL_CHARACTERS].replace("\0", "\ufffd").encode(errors="replace").decode()
