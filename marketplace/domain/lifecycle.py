"""The state machine of an allocation, and the words that jobs show of it (api.md section 9)."""

from enum import StrEnum
from typing import Final

from marketplace.domain.reasons import Reason


class AllocationState(StrEnum):
    """States of one renter's use of capacity."""

    REQUESTED = "requested"
    """Intent written, not funded yet."""
    RESERVING = "reserving"
    """Funded, waiting for a node (queued)."""
    PROVISIONING = "provisioning"
    """Claimed by a node: assigning, pulling, starting."""
    VERIFYING = "verifying"
    ACTIVE = "active"
    """Ready: the meter runs."""
    STOPPED = "stopped"
    RELEASING = "releasing"
    """Ended; money not settled yet."""
    RELEASED = "released"
    FAILED = "failed"
    """Never became active, or lost for good."""


_S = AllocationState
TRANSITIONS: Final[dict[AllocationState, frozenset[AllocationState]]] = {
    _S.REQUESTED: frozenset({_S.RESERVING, _S.FAILED}),
    _S.RESERVING: frozenset({_S.PROVISIONING, _S.RELEASING, _S.RELEASED, _S.FAILED}),
    _S.PROVISIONING: frozenset({_S.VERIFYING, _S.ACTIVE, _S.RESERVING, _S.RELEASING, _S.FAILED}),
    _S.VERIFYING: frozenset({_S.ACTIVE, _S.RESERVING, _S.RELEASING, _S.FAILED}),
    _S.ACTIVE: frozenset({_S.STOPPED, _S.RESERVING, _S.RELEASING, _S.FAILED}),
    _S.STOPPED: frozenset({_S.ACTIVE, _S.RELEASING}),
    _S.RELEASING: frozenset({_S.RELEASED, _S.FAILED}),
    _S.RELEASED: frozenset(),
    _S.FAILED: frozenset(),
}


def may_follow(state: AllocationState, following: AllocationState) -> bool:
    """Whether the state machine allows the step."""
    return following in TRANSITIONS[state]


class JobStatus(StrEnum):
    """Words that families native and 002 show for a job."""

    QUEUED = "queued"
    ASSIGNED = "assigned"
    RUNNING = "running"
    UPLOADING = "uploading"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    EXPIRED = "expired"


TERMINAL_STATUSES: Final = frozenset(
    {JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.TIMED_OUT, JobStatus.EXPIRED}
)

FILTER_SYNONYMS: Final[dict[str, JobStatus]] = {
    "pending": JobStatus.QUEUED,
    "starting": JobStatus.ASSIGNED,
    "in_progress": JobStatus.RUNNING,
    "canceling": JobStatus.CANCELLING,
    "canceled": JobStatus.CANCELLED,
    "error": JobStatus.FAILED,
    "timeout": JobStatus.TIMED_OUT,
}
"""Words that filters accept besides the table's; answers use the table's only."""


def final_status(reason: Reason) -> JobStatus:
    """Terminal word of a job that ended for `reason`."""
    match reason:
        case Reason.COMPLETED:
            return JobStatus.COMPLETED
        case Reason.CANCELLED:
            return JobStatus.CANCELLED
        case Reason.TIMEOUT:
            return JobStatus.TIMED_OUT
        case Reason.QUEUE_EXPIRED:
            return JobStatus.EXPIRED
        case _:
            return JobStatus.FAILED


def job_status(state: AllocationState, reason: Reason, *, cancelling: bool, uploading: bool = False) -> JobStatus:
    """Word shown for an allocation.

    reason: why it ended, RUNNING while it did not.
    cancelling: the renter asked for the end and it is not terminal yet. uploading: the work is over, outputs travel.
    """
    if state in (_S.RELEASED, _S.FAILED):
        return final_status(reason)
    if cancelling:
        return JobStatus.CANCELLING
    match state:
        case _S.REQUESTED | _S.RESERVING:
            return JobStatus.QUEUED
        case _S.PROVISIONING | _S.VERIFYING:
            return JobStatus.ASSIGNED
        case _:
            return JobStatus.UPLOADING if uploading else JobStatus.RUNNING
