"""The event feed. One transition = one transaction = one event, appended by the transition's own unit of work."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson

from marketplace.domain.ids import AccountId, EventId
from marketplace.domain.quantities import Millis
from marketplace.store.engine import Transaction


@dataclass(frozen=True, slots=True)
class NewEvent:
    """Something that happened. type: past tense, such as `job.completed`. resource: id of what it is about."""

    id: EventId
    account: AccountId
    type: str
    resource: str
    at: Millis
    data: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Event:
    """An event in the feed; cursor orders it."""

    cursor: int
    id: EventId
    account: AccountId
    type: str
    resource: str
    at: Millis
    data: Mapping[str, object]


class Events:
    """Append and page."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def append(self, event: NewEvent) -> int:
        """Write `event`; its cursor."""
        rows = self._tx.rows(
            "INSERT INTO events (id, account, type, resource, data, at_ms)"
            " VALUES (:id, :account, :type, :resource, :data, :at) RETURNING cursor",
            {
                "id": event.id,
                "account": event.account,
                "type": event.type,
                "resource": event.resource,
                "data": orjson.dumps(event.data).decode(),
                "at": event.at,
            },
        )
        return int(rows[0][0])

    def list_for_account(self, account: AccountId, *, after: int = 0, limit: int = 1000) -> Sequence[Event]:
        """Events of an account after a cursor, oldest first."""
        return self._page("account", account, after, limit)

    def list_for_resource(self, resource: str, *, after: int = 0, limit: int = 1000) -> Sequence[Event]:
        """Events about one resource after a cursor, oldest first."""
        return self._page("resource", resource, after, limit)

    def newest(self) -> int:
        """The last cursor given out; 0 where nothing ever happened."""
        row = self._tx.row("SELECT max(cursor) FROM events")
        return int(row[0]) if row and row[0] is not None else 0

    def _page(self, column: str, value: str, after: int, limit: int) -> Sequence[Event]:
        rows = self._tx.rows(
            "SELECT cursor, id, account, type, resource, data, at_ms FROM events"  # noqa: S608 - column is ours
            f" WHERE {column} = :value AND cursor > :after ORDER BY cursor LIMIT :limit",
            {"value": value, "after": after, "limit": limit},
        )
        return [
            Event(
                cursor=row[0],
                id=EventId(row[1]),
                account=AccountId(row[2]),
                type=row[3],
                resource=row[4],
                data=orjson.loads(row[5]),
                at=Millis(row[6]),
            )
            for row in rows
        ]
