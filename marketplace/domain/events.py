"""What can happen to somebody's things, in the past tense. Source: api.md section 5.10.

Only what this version writes or is about to: `instance`, `endpoint` and `worker` come with those things.
"""

import difflib
from collections.abc import Iterable
from enum import StrEnum


class EventType(StrEnum):
    """Types of the feed; `family.word`."""

    JOB_QUEUED = "job.queued"
    JOB_ASSIGNED = "job.assigned"
    JOB_RUNNING = "job.running"
    JOB_PROGRESS = "job.progress"
    JOB_UPLOADING = "job.uploading"
    JOB_ATTEMPT_FAILED = "job.attempt_failed"
    JOB_COMPLETED = "job.completed"
    JOB_FAILED = "job.failed"
    JOB_CANCELLED = "job.cancelled"
    JOB_TIMED_OUT = "job.timed_out"
    JOB_EXPIRED = "job.expired"
    ALLOCATION_FUNDS_LOW = "allocation.funds_low"
    ALLOCATION_PAUSED = "allocation.paused"
    ALLOCATION_RESUMED = "allocation.resumed"
    ESCROW_OPENED = "escrow.opened"
    ESCROW_EXTENDED = "escrow.extended"
    ESCROW_SETTLED = "escrow.settled"
    ESCROW_RELEASED = "escrow.released"
    ESCROW_REAPED = "escrow.reaped"
    """Anybody ended it, since nobody had in time; `escrow.closed` follows, as at every end."""
    ESCROW_CLOSED = "escrow.closed"
    VAULT_DEPOSITED = "vault.deposited"
    VAULT_WITHDRAWN = "vault.withdrawn"
    ALLOWANCE_GRANTED = "allowance.granted"
    ALLOWANCE_REVOKED = "allowance.revoked"
    ALLOWANCE_USED = "allowance.used"
    """Half, or four fifths, of a cap are used: of the total, or of the day (ours)."""
    ALLOWANCE_EXHAUSTED = "allowance.exhausted"
    NODE_REGISTERED = "node.registered"
    NODE_LOST = "node.lost"
    NODE_RETURNED = "node.returned"
    NODE_DRAINING = "node.draining"
    NODE_SUSPENDED = "node.suspended"
    NODE_SLASHED = "node.slashed"
    STAKE_DELEGATED = "stake.delegated"
    STAKE_CLAIMED = "stake.claimed"
    STAKE_UNBONDED = "stake.unbonded"
    STAKE_WITHDRAWN = "stake.withdrawn"
    STAKE_SLASHED = "stake.slashed"
    MODEL_PUT = "model.put"
    MODEL_DELETED = "model.deleted"
    """An admin's own acts, on that account's feed (ours)."""
    WEBHOOK_DISABLED = "webhook.disabled"
    WEBHOOK_TEST = "webhook.test"
    """Asked for by the webhook's owner, for that webhook alone (ours)."""

    @property
    def family(self) -> str:
        """What stands before the dot."""
        return self.value.partition(".")[0]


FAMILIES = tuple(dict.fromkeys(kind.family for kind in EventType))


class UnknownPattern(ValueError):
    """No type matches this. suggestions: what may have been meant."""

    def __init__(self, pattern: str) -> None:
        super().__init__(f"no event is called {pattern[:64]!r}")
        self.pattern = pattern
        known = ["*", *(f"{family}.*" for family in FAMILIES), *EventType]
        self.suggestions = tuple(str(name) for name in difflib.get_close_matches(pattern, known, n=3))


def matching_types(patterns: Iterable[str]) -> frozenset[EventType]:
    """Types that one of the patterns names: `*`, `job.*` or `job.completed`. Raises UnknownPattern."""
    found: set[EventType] = set()
    for pattern in patterns:
        family, dot, word = pattern.partition(".")
        if pattern == "*":
            found.update(EventType)
        elif dot and word == "*" and family in FAMILIES:
            found.update(kind for kind in EventType if kind.family == family)
        else:
            try:
                found.add(EventType(pattern))
            except ValueError as error:
                raise UnknownPattern(pattern) from error
    return frozenset(found)
