"""One job body, many jobs: what a group is, and the words that are shown of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from marketplace.domain.ids import AccountId, AllocationId, GroupId, KeyId


class MemberState(StrEnum):
    """How far a member is. Once it is submitted it is a job like any other, with a job's words."""

    WAITING = "waiting"
    """Nothing is locked for it: its money is free in the renter's vault."""
    SUBMITTED = "submitted"
    SKIPPED = "skipped"
    """What it should have followed was not completed."""
    CANCELLED = "cancelled"
    REFUSED = "refused"
    """Its body can't be served any more."""
    UNFUNDED = "unfunded"
    """No money or leave for it came in time."""


class GroupStatus(StrEnum):
    """The word of a group."""

    WAITING = "waiting"
    RUNNING = "running"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Group:
    """A group. key_id: of the API key that asked for it. create_key, body_hash: the call's key and what it is bound to.

    job: JSON text of the body that all members share. ready_at_ms: since when members may begin. blocked: JSON text of
    the error that keeps further members from being opened, None while nothing does.
    """

    id: GroupId
    account_id: AccountId
    wallet: str
    key_id: KeyId | None
    create_key: str
    body_hash: bytes
    name: str | None
    job: str
    count: int
    created_at_ms: int
    ready_at_ms: int | None = None
    cancelled_at_ms: int | None = None
    ended_at_ms: int | None = None
    over: bool = False
    blocked: str | None = None

    def status(self, words: Mapping[str, int]) -> GroupStatus:
        """The word. words: how many members show which of theirs."""
        if not self.over:
            if self.cancelled_at_ms is not None:
                return GroupStatus.CANCELLING
            return GroupStatus.WAITING if self.ready_at_ms is None else GroupStatus.RUNNING
        if words.get("completed", 0) == self.count:
            return GroupStatus.COMPLETED
        return GroupStatus.FAILED if self.cancelled_at_ms is None else GroupStatus.CANCELLED


@dataclass(frozen=True, slots=True)
class Member:
    """One member. word: the job's once there is one, else its own. position: from 0."""

    position: int
    allocation_id: AllocationId | None
    word: str
    error: str | None
