"""The event feed. One transition = one transaction = one event, appended by the transition's own unit of work."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from marketplace.domain.ids import AccountId, EventId
from marketplace.domain.quantities import Millis
from marketplace.store.engine import Transaction

FORGOTTEN: Final = "forgotten"


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
        return self.page(EventFilter(account), after=after, limit=limit)

    def list_for_resource(self, resource: str, *, after: int = 0, limit: int = 1000) -> Sequence[Event]:
        """Events about one resource after a cursor, whoever's they are, oldest first."""
        rows = self._tx.rows(
            "SELECT cursor, id, account, type, resource, data, at_ms FROM events"
            " WHERE resource = :resource AND cursor > :after ORDER BY cursor LIMIT :limit",
            {"resource": resource, "after": after, "limit": limit},
        )
        return [_event(row) for row in rows]

    def page(self, wanted: "EventFilter", *, after: int, limit: int) -> Sequence[Event]:
        """Wanted events after a cursor, oldest first."""
        conditions = ["cursor > :after"]
        parameters: dict[str, object] = {"after": after, "limit": limit, "account": wanted.account}
        for name, values in (("resource", wanted.resources), ("type", wanted.types)):
            if values is not None:
                parameters |= {f"{name}{n}": value for n, value in enumerate(values)}
                conditions.append(f"{name} IN ({', '.join(f':{name}{n}' for n in range(len(values)))})")
        # As an expression, so that no database walks the account's index where the resource's is the short one.
        account = "account" if wanted.resources is None else "account || ''"
        conditions.append(f"{account} = :account")
        rows = self._tx.rows(
            "SELECT cursor, id, account, type, resource, data, at_ms FROM events"  # noqa: S608 - columns are ours
            f" WHERE {' AND '.join(conditions)} ORDER BY cursor LIMIT :limit",
            parameters,
        )
        return [_event(row) for row in rows]

    def newest(self) -> int:
        """The last cursor given out; 0 where nothing ever happened."""
        row = self._tx.row("SELECT max(cursor) FROM events")
        return max(int(row[0]) if row and row[0] is not None else 0, self.forgotten())

    def first_since(self, account: AccountId, at_ms: int) -> int:
        """The cursor just before an account's first event at or after an instant; the newest where there is none."""
        row = self._tx.row(
            "SELECT min(cursor) FROM events WHERE account = :account AND at_ms >= :at",
            {"account": account, "at": at_ms},
        )
        return int(row[0]) - 1 if row and row[0] is not None else self.newest()

    def forgotten(self) -> int:
        """The last cursor whose event was deleted for its age; 0 where none was."""
        return self.mark(FORGOTTEN)

    def forget_before(self, at_ms: int, limit: int) -> int:
        """Delete at most `limit` events older than this; how many. The mark that readers are told moves along."""
        rows = self._tx.rows(
            "DELETE FROM events WHERE cursor IN"
            " (SELECT cursor FROM events WHERE at_ms < :before ORDER BY at_ms, cursor LIMIT :limit) RETURNING cursor",
            {"before": at_ms, "limit": limit},
        )
        if rows:
            self.put_mark(FORGOTTEN, max(self.forgotten(), *(int(row[0]) for row in rows)))
        return len(rows)

    def mark(self, name: str) -> int:
        """A position in the feed that somebody keeps; 0 before it was put."""
        row = self._tx.row("SELECT cursor FROM feed_marks WHERE name = :name", {"name": name})
        return int(row[0]) if row else 0

    def put_mark(self, name: str, cursor: int) -> None:
        """Keep a position."""
        self._tx.change(
            "INSERT INTO feed_marks (name, cursor) VALUES (:name, :cursor)"
            " ON CONFLICT (name) DO UPDATE SET cursor = :cursor",
            {"name": name, "cursor": cursor},
        )


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Whose events, about what, of which types; None for all."""

    account: AccountId
    resources: tuple[str, ...] | None = None
    types: tuple[str, ...] | None = None


def events_of(tx: Transaction, cursors: Sequence[int]) -> list[Event]:
    """The events with these cursors that are still kept; at most a page of them."""
    if not cursors:
        return []
    names = {f"c{n}": cursor for n, cursor in enumerate(cursors)}
    rows = tx.rows(
        "SELECT cursor, id, account, type, resource, data, at_ms FROM events"  # noqa: S608 - names are ours
        f" WHERE cursor IN ({', '.join(':' + name for name in names)}) ORDER BY cursor",
        names,
    )
    return [_event(row) for row in rows]


def _event(row: tuple[Any, ...]) -> Event:
    return Event(
        cursor=row[0],
        id=EventId(row[1]),
        account=AccountId(row[2]),
        type=row[3],
        resource=row[4],
        data=orjson.loads(row[5]),
        at=Millis(row[6]),
    )
