"""Webhooks, their secrets, and the durable queue of their deliveries.

A try holds a lease on its row: a token and the time until which it is the holder's. Whoever writes an outcome names
the token; zero rows means that the row was queued anew meanwhile, and the outcome is dropped.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import insert, select, update

from marketplace.domain.ids import AccountId, WebhookId
from marketplace.domain.webhooks import Delivery, DeliveryState, Webhook
from marketplace.errors import StaleLease
from marketplace.store.engine import Transaction
from marketplace.store.events import Event, events_of
from marketplace.store.records import from_row, to_values
from marketplace.store.tables.webhooks import WebhookRow

_WEBHOOKS: Final = WebhookRow.__table__  # type: ignore[attr-defined]  # sqlmodel adds it at run time
_COLUMNS: Final = (
    "webhook_id, cursor, state, attempts, created_at_ms, due_at_ms, token,"
    " first_at_ms, last_at_ms, last_status, last_error"
)


@dataclass(frozen=True, slots=True)
class WebhookSecret:
    """Sealed secrets of an owner. old_…: the one before, which signs too until old_until_ms."""

    owner: str
    key_id: str
    sealed: bytes
    old_key_id: str | None = None
    old_sealed: bytes | None = None
    old_until_ms: int | None = None


@dataclass(frozen=True, slots=True)
class FeedEntry:
    """What decides who hears of an event; without its data."""

    cursor: int
    account: AccountId
    type: str
    resource: str


class Webhooks:
    """Create, find, list, change, delete; and their secrets."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def create(self, webhook: Webhook) -> None:
        """Write a new one."""
        self._tx.execute(insert(_WEBHOOKS), to_values(webhook))

    def update(self, webhook: Webhook) -> None:
        """Write one back."""
        self._tx.execute(update(_WEBHOOKS).where(_WEBHOOKS.c.id == webhook.id), to_values(webhook))

    def note_delivered(self, webhook_id: WebhookId, at_ms: int) -> None:
        """Something was taken."""
        self._tx.change("UPDATE webhooks SET delivered_at_ms = :at WHERE id = :id", {"at": at_ms, "id": webhook_id})

    def find(self, webhook_id: WebhookId) -> Webhook | None:
        row = self._tx.execute(select(_WEBHOOKS).where(_WEBHOOKS.c.id == webhook_id)).mappings().first()
        return None if row is None else from_row(Webhook, row)

    def find_for_job(self, job_id: str) -> Webhook | None:
        row = self._tx.execute(select(_WEBHOOKS).where(_WEBHOOKS.c.job_id == job_id)).mappings().first()
        return None if row is None else from_row(Webhook, row)

    def list_own(self, account: AccountId) -> list[Webhook]:
        """Those that the account made, the oldest first; not those of its jobs."""
        rows = self._tx.execute(
            select(_WEBHOOKS)
            .where(_WEBHOOKS.c.account == account, _WEBHOOKS.c.job_id.is_(None))
            .order_by(_WEBHOOKS.c.created_at_ms, _WEBHOOKS.c.id)
        ).mappings()
        return [from_row(Webhook, row) for row in rows]

    def list_hearing(self, account: AccountId, resources: Sequence[str]) -> list[Webhook]:
        """Active ones of an account that may hear of these resources."""
        rows = self._tx.execute(
            select(_WEBHOOKS).where(
                _WEBHOOKS.c.account == account,
                _WEBHOOKS.c.active,
                _WEBHOOKS.c.job_id.is_(None) | _WEBHOOKS.c.job_id.in_(resources),
            )
        ).mappings()
        return [from_row(Webhook, row) for row in rows]

    def delete(self, webhook_id: WebhookId) -> None:
        """With its secret and its deliveries."""
        self._tx.change("DELETE FROM webhook_deliveries WHERE webhook_id = :id", {"id": webhook_id})
        self._tx.change("DELETE FROM webhook_secrets WHERE owner = :id", {"id": webhook_id})
        self._tx.change("DELETE FROM webhooks WHERE id = :id", {"id": webhook_id})

    def forget_jobs(self, before_ms: int, limit: int) -> int:
        """Delete webhooks of jobs that were named before an instant and have nothing on its way; how many."""
        return self._tx.change(
            "DELETE FROM webhooks WHERE id IN (SELECT w.id FROM webhooks w WHERE w.job_id IS NOT NULL"
            " AND w.created_at_ms < :before AND NOT EXISTS (SELECT 1 FROM webhook_deliveries d"
            " WHERE d.webhook_id = w.id) LIMIT :limit)",
            {"before": before_ms, "limit": limit},
        )

    def find_secret(self, owner: str) -> WebhookSecret | None:
        row = self._tx.row(
            "SELECT owner, key_id, sealed, old_key_id, old_sealed, old_until_ms FROM webhook_secrets"
            " WHERE owner = :owner",
            {"owner": owner},
        )
        return None if row is None else WebhookSecret(*row)

    def put_secret(self, secret: WebhookSecret) -> None:
        """Write an owner's secrets, in place of what was there."""
        self._tx.change("DELETE FROM webhook_secrets WHERE owner = :owner", {"owner": secret.owner})
        self._tx.change(
            "INSERT INTO webhook_secrets (owner, key_id, sealed, old_key_id, old_sealed, old_until_ms)"
            " VALUES (:owner, :key_id, :sealed, :old_key_id, :old_sealed, :old_until_ms)",
            to_values(secret),
        )


class Deliveries:
    """The queue."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def news(self, after: int, limit: int) -> list[FeedEntry]:
        """Events after a cursor whose account has an active webhook."""
        rows = self._tx.rows(
            "SELECT e.cursor, e.account, e.type, e.resource FROM events e WHERE e.cursor > :after"
            " AND EXISTS (SELECT 1 FROM webhooks w WHERE w.account = e.account AND w.active)"
            " ORDER BY e.cursor LIMIT :limit",
            {"after": after, "limit": limit},
        )
        return [FeedEntry(row[0], AccountId(row[1]), row[2], row[3]) for row in rows]

    def add(self, found: Sequence[tuple[WebhookId, int]], now_ms: int) -> None:
        """Queue events for webhooks; what is queued already stays as it is."""
        self._tx.change_many(
            "INSERT INTO webhook_deliveries (webhook_id, cursor, state, attempts, due_at_ms, created_at_ms)"
            " VALUES (:webhook, :cursor, 'pending', 0, :now, :now) ON CONFLICT (webhook_id, cursor) DO NOTHING",
            [{"webhook": webhook, "cursor": cursor, "now": now_ms} for webhook, cursor in found],
        )

    def requeue(self, webhook_id: WebhookId, cursors: Sequence[int], now_ms: int) -> None:
        """Queue events for a webhook, whether they were delivered, failed or never queued; not what is tried now."""
        self._tx.change_many(
            "INSERT INTO webhook_deliveries (webhook_id, cursor, state, attempts, due_at_ms, created_at_ms)"
            " VALUES (:webhook, :cursor, 'pending', 0, :now, :now) ON CONFLICT (webhook_id, cursor) DO UPDATE"
            " SET state = 'pending', attempts = 0, due_at_ms = :now, first_at_ms = NULL"
            " WHERE webhook_deliveries.token IS NULL",
            [{"webhook": webhook_id, "cursor": cursor, "now": now_ms} for cursor in cursors],
        )

    def list_due(self, now_ms: int, busy: Sequence[str], limit: int) -> list[tuple[WebhookId, int]]:
        """What is due, the longest due first; without webhooks that have enough on their hands."""
        names = {f"busy{n}": name for n, name in enumerate(busy)}
        others = f" AND webhook_id NOT IN ({', '.join(':' + name for name in names)})" if names else ""
        rows = self._tx.rows(
            f"SELECT webhook_id, cursor FROM webhook_deliveries WHERE due_at_ms <= :now{others}"  # noqa: S608 - names are ours
            " ORDER BY due_at_ms, webhook_id, cursor LIMIT :limit",
            {"now": now_ms, "limit": limit, **names},
        )
        return [(WebhookId(row[0]), int(row[1])) for row in rows]

    def next_due(self, now_ms: int) -> int | None:
        """When something is due after now."""
        row = self._tx.row("SELECT min(due_at_ms) FROM webhook_deliveries WHERE due_at_ms > :now", {"now": now_ms})
        return None if row is None or row[0] is None else int(row[0])

    def claim(self, webhook_id: WebhookId, cursor: int, token: str, now_ms: int, until_ms: int) -> Delivery | None:
        """Take a try that is due; None when somebody else did."""
        rows = self._tx.rows(
            "UPDATE webhook_deliveries SET token = :token, due_at_ms = :until,"  # noqa: S608 - columns are ours
            " first_at_ms = CASE WHEN first_at_ms IS NULL THEN :now ELSE first_at_ms END"
            f" WHERE webhook_id = :webhook AND cursor = :cursor AND due_at_ms <= :now RETURNING {_COLUMNS}",
            {"token": token, "until": until_ms, "now": now_ms, "webhook": webhook_id, "cursor": cursor},
        )
        return _delivery(rows[0]) if rows else None

    def find(self, webhook_id: WebhookId, cursor: int) -> Delivery | None:
        row = self._tx.row(
            f"SELECT {_COLUMNS} FROM webhook_deliveries WHERE webhook_id = :webhook AND cursor = :cursor",  # noqa: S608
            {"webhook": webhook_id, "cursor": cursor},
        )
        return None if row is None else _delivery(row)

    def conclude(self, before: Delivery, after: Delivery) -> None:
        """Write the outcome of a try. Raises StaleLease when it was queued anew meanwhile, or is gone."""
        changed = self._tx.change(
            "UPDATE webhook_deliveries SET state = :state, attempts = :attempts, due_at_ms = :due, token = NULL,"
            " last_at_ms = :at, last_status = :status, last_error = :error"
            " WHERE webhook_id = :webhook AND cursor = :cursor AND token = :token",
            {
                "state": after.state.value,
                "attempts": after.attempts,
                "due": after.due_at_ms,
                "at": after.last_at_ms,
                "status": after.last_status,
                "error": after.last_error,
                "webhook": before.webhook_id,
                "cursor": before.cursor,
                "token": before.token,
            },
        )
        if changed != 1:
            raise StaleLease

    def stop(self, webhook_id: WebhookId) -> None:
        """Nothing more is tried for a webhook; what a try that runs now brings is dropped."""
        self._tx.change(
            "UPDATE webhook_deliveries SET state = 'stopped', due_at_ms = NULL, token = NULL"
            " WHERE webhook_id = :webhook AND state = 'pending'",
            {"webhook": webhook_id},
        )

    def page(self, webhook_id: WebhookId, limit: int, offset: int) -> tuple[list[tuple[Delivery, Event | None]], int]:
        """Deliveries of a webhook with their events, the newest first, and how many there are."""
        total = self._tx.row(
            "SELECT count(*) FROM webhook_deliveries WHERE webhook_id = :webhook", {"webhook": webhook_id}
        )
        rows = self._tx.rows(
            f"SELECT {_COLUMNS} FROM webhook_deliveries WHERE webhook_id = :webhook"  # noqa: S608 - columns are ours
            " ORDER BY cursor DESC LIMIT :limit OFFSET :offset",
            {"webhook": webhook_id, "limit": limit, "offset": offset},
        )
        found = [_delivery(row) for row in rows]
        events = {event.cursor: event for event in events_of(self._tx, [each.cursor for each in found])}
        return [(each, events.get(each.cursor)) for each in found], int(total[0]) if total else 0

    def forget_before(self, at_ms: int, limit: int) -> int:
        """Delete what was queued before an instant; how many."""
        return self._tx.change(
            "DELETE FROM webhook_deliveries WHERE (webhook_id, cursor) IN (SELECT webhook_id, cursor"
            " FROM webhook_deliveries WHERE created_at_ms < :before AND state != 'pending' LIMIT :limit)",
            {"before": at_ms, "limit": limit},
        )


def _delivery(row: tuple[Any, ...]) -> Delivery:
    return Delivery(
        webhook_id=WebhookId(row[0]),
        cursor=int(row[1]),
        state=DeliveryState(row[2]),
        attempts=int(row[3]),
        created_at_ms=int(row[4]),
        due_at_ms=row[5],
        token=row[6],
        first_at_ms=row[7],
        last_at_ms=row[8],
        last_status=row[9],
        last_error=row[10],
    )
