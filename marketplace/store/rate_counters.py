"""Request counters of the current windows, flushed in batches, so that a restart forgets none."""

from collections.abc import Sequence
from dataclasses import dataclass

from marketplace.store.engine import Transaction


@dataclass(frozen=True, slots=True)
class WindowKey:
    """A subject's window: `window_s` long, starting at a multiple of it since the epoch."""

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

    def forget_ended(self, now_s: int) -> int:
        """Delete counters of windows that have ended; how many."""
        return self._tx.change("DELETE FROM rate_counters WHERE window_end_s <= :now", {"now": now_s})
