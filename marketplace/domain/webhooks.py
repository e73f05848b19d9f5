"""A URL that wants to hear of events, and the delivery of one event to it."""

from dataclasses import dataclass
from enum import StrEnum

from marketplace.domain.events import EventType, matching_types
from marketplace.domain.ids import AccountId, WebhookId


class DeliveryState(StrEnum):
    """How far a delivery is."""

    PENDING = "pending"
    """Not tried yet, being tried, or to be tried again."""
    DELIVERED = "delivered"
    FAILED = "failed"
    """Tried for the last time."""
    STOPPED = "stopped"
    """Left when its webhook was disabled or switched off; `replay` brings it."""


class DisabledReason(StrEnum):
    """Why the market stopped delivering."""

    GONE = "gone"
    """The receiver answered 410."""
    UNREACHABLE = "unreachable"
    """A delivery failed to its last attempt, and nothing else was delivered meanwhile."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """job_id: it hears of one job only, and was named in that job's body. patterns: as its owner wrote them.

    secret_owner: whose secret signs: the webhook's own id, or the account's for a job's. since_cursor: only events
    after it are its own. delivered_at_ms: of the last delivery that was taken.
    """

    id: WebhookId
    account: AccountId
    url: str
    patterns: tuple[str, ...]
    description: str
    active: bool
    secret_owner: str
    since_cursor: int
    created_at_ms: int
    updated_at_ms: int
    job_id: str | None = None
    delivered_at_ms: int | None = None
    disabled_reason: DisabledReason | None = None

    def wants(self, kind: str, resource: str, cursor: int) -> bool:
        """Whether an event of its account is for it."""
        if not self.active or cursor <= self.since_cursor:
            return False
        if kind == EventType.WEBHOOK_TEST:
            return resource == self.id
        if self.job_id is not None and resource != self.job_id:
            return False
        # A type that this list doesn't know yet is still an event.
        return "*" in self.patterns or kind in matching_types(self.patterns)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event on its way to one webhook.

    attempts: made so far. due_at_ms: when it is tried next, or when the lease of the try that runs now ends; None when
    it is over. first_at_ms: of the first attempt since it was last queued. last_status: HTTP's, None without an answer.
    """

    webhook_id: WebhookId
    cursor: int
    state: DeliveryState
    attempts: int
    created_at_ms: int
    due_at_ms: int | None = None
    token: str | None = None
    first_at_ms: int | None = None
    last_at_ms: int | None = None
    last_status: int | None = None
    last_error: str | None = None
