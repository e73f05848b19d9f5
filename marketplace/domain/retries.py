"""Whether another attempt follows an attempt's end, and when. Source: api.md section 5.2, field `retry`."""

from dataclasses import dataclass
from typing import Final

from marketplace.domain.quantities import Millis
from marketplace.domain.reasons import Reason

MAX_ATTEMPTS: Final = 5
DEFAULT_ATTEMPTS: Final = 3
"""Specified: api.md section 5.2."""
FIRST_PAUSE_MS: Final = 10_000
LAST_PAUSE_MS: Final = 300_000
"""Specified: api.md section 5.2: after a listed exit code 10 s, doubling to 5 min."""
MAX_EXIT_CODES: Final = 32
"""Chosen: more says "any", which a workload is better asked to say itself."""

RETRIED: Final = frozenset(
    {
        Reason.NODE_LOST, Reason.NODE_QUIT, Reason.NODE_DRAINED, Reason.INTERRUPTED, Reason.PULL_FAILED,
        Reason.START_TIMEOUT, Reason.VERIFY_FAILED,
    }
)  # fmt: skip
"""Ends of an attempt that are no fault of the work: another node is asked, unless `retry.on` leaves them out."""
WORK_ENDS: Final = frozenset({Reason.APP_ERROR, Reason.OOM, Reason.DISK_FULL})
"""Ends of the work itself that have an exit code."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """max_attempts: in all, the first included. on: of RETRIED. exit_codes: of the work, retried at the renter's cost.

    extend: a later attempt gets the full time again, as far as the wallet's allowance permits.
    Ends that are nobody's choice here (the market's own fault, an overclaim) are always followed by another attempt.
    """

    max_attempts: int = DEFAULT_ATTEMPTS
    on: frozenset[Reason] = RETRIED
    exit_codes: frozenset[int] = frozenset()
    extend: bool = False

    def covers(self, reason: Reason, exit_code: int | None) -> bool:
        """Whether an attempt that ended so may be followed by another, while attempts are left."""
        if reason in WORK_ENDS:
            return exit_code is not None and exit_code in self.exit_codes
        return reason in self.on

    def rules_out(self, reason: Reason, exit_code: int | None) -> bool:
        """Whether the renter wants no further attempt after this end."""
        return reason in RETRIED | WORK_ENDS and not self.covers(reason, exit_code)

    def leaves_open(self, attempt: int, reason: Reason, exit_code: int | None) -> bool:
        """Whether the escrow of attempt number `attempt` stays open after this end: its last voucher is not final."""
        return attempt < self.max_attempts and self.covers(reason, exit_code)


def pause_before_next(attempt: int, reason: Reason) -> Millis:
    """How long to wait before the attempt after number `attempt`: nothing but after the work's own end."""
    if reason not in WORK_ENDS:
        return Millis(0)
    return Millis(min(FIRST_PAUSE_MS << min(attempt - 1, 10), LAST_PAUSE_MS))
