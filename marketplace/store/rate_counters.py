"""Request counters of the current windows, flushed in batches, so that a restart forgets none."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from sqlalchemy import select, tuple_

from marketplace.store.engine import Transaction
from marketplace.store.tables.requests import RateCounterRow

_COUNTERS: Final = RateCounterRow.__table__  # type: ignore[attr-defined]  # sqlmodel adds it at run time
_AT_ONCE: Final = 300
"""Counters of one statement; chosen: three parameters each, far below what either database takes."""


class WindowKey(NamedTuple):
    """A subject's window: `window_s` long, starting at a multiple of it since the epoch.

    A tuple, since each request looks some up: it is made and hashed without running any Python.
    """

    subject: str
    window_s: int
    start_s: int


class RateCounters:
    """Add and load."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def add(self, increments: Sequence[tuple[WindowKey, int]]) -> None:
        """Add to each counter, creating those that are missing."""
        self._tx.change_many(
            "INSERT INTO rate_counters (subject, window_s, window_start_s, requests, window_end_s)"
            " VALUES (:subject, :window, :start, :requests, :end)"
            " ON CONFLICT (subject, window_s, window_start_s)"
            " DO UPDATE SET requests = rate_counters.requests + excluded.requests",
            [
                {
                    "subject": key.subject,
                    "window": key.window_s,
                    "start": key.start_s,
                    "requests": requests,
                    "end": key.start_s + key.window_s,
                }
                for key, requests in increments
            ],
        )

    def list_open(self, now_s: int) -> list[tuple[WindowKey, int]]:
        """Counters whose window has not ended."""
        rows = self._tx.rows(
            "SELECT subject, window_s, window_start_s, requests FROM rate_counters WHERE window_end_s > :now",
            {"now": now_s},
        )
        return [(WindowKey(row[0], row[1], row[2]), row[3]) for row in rows]

    def sums(self, keys: Sequence[WindowKey]) -> list[tuple[WindowKey, int]]:
        """These counters as they stand now."""
        found: list[tuple[WindowKey, int]] = []
        named = tuple_(_COUNTERS.c.subject, _COUNTERS.c.window_s, _COUNTERS.c.window_start_s)
        for start in range(0, len(keys), _AT_ONCE):
            wanted = [(key.subject, key.window_s, key.start_s) for key in keys[start : start + _AT_ONCE]]
            rows = self._tx.execute(
                select(
                    _COUNTERS.c.subject, _COUNTERS.c.window_s, _COUNTERS.c.window_start_s, _COUNTERS.c.requests
                ).where(named.in_(wanted))
            )
            found += [(WindowKey(row[0], row[1], row[2]), int(row[3])) for row in rows]
        return found

    def forget_ended(self, now_s: int) -> int:
        """Delete counters of windows that have ended; how many."""
        return self._tx.change("DELETE FROM rate_counters WHERE window_end_s <= :now", {"now": now_s})
