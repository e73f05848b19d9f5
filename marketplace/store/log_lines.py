"""Log lines in chunks: one row for each batch that a node sent, the lines as newline-delimited JSON."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import orjson

from marketplace.domain.ids import AllocationId
from marketplace.store.engine import Transaction


@dataclass(frozen=True, slots=True)
class StoredLine:
    """One line. stream: 1 stdout, 2 stderr, 3 the node itself."""

    attempt: int
    seq: int
    at_ms: int
    stream: int
    text: str


class LogLines:
    """Append, page, forget."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def position(self, allocation_id: AllocationId, attempt: int) -> tuple[int, int]:
        """The first sequence that is not stored, and the bytes stored so far."""
        row = self._tx.row(
            "SELECT COALESCE(max(last_seq), 0) + 1, COALESCE(sum(size_bytes), 0) FROM log_chunks"
            " WHERE allocation_id = :allocation AND attempt = :attempt",
            {"allocation": allocation_id, "attempt": attempt},
        )
        return (int(row[0]), int(row[1])) if row else (1, 0)

    def append(self, allocation_id: AllocationId, lines: Sequence[StoredLine], size_bytes: int, now_ms: int) -> None:
        """Write lines of one attempt, without gaps among them. size_bytes: what they count for under the cap."""
        body = b"\n".join(orjson.dumps([line.seq, line.at_ms, line.stream, line.text]) for line in lines)
        self._tx.change(
            "INSERT INTO log_chunks (allocation_id, attempt, first_seq, last_seq, size_bytes, lines, at_ms)"
            " VALUES (:allocation, :attempt, :first, :last, :size, :lines, :now)",
            {
                "allocation": allocation_id,
                "attempt": lines[0].attempt,
                "first": lines[0].seq,
                "last": lines[-1].seq,
                "size": size_bytes,
                "lines": body,
                "now": now_ms,
            },
        )

    def list_after(
        self, allocation_id: AllocationId, *, after: tuple[int, int], attempt: int | None = None, limit: int = 5000
    ) -> list[StoredLine]:
        """Lines after (attempt, seq), in order, at least `limit` of them if there are so many."""
        lines: list[StoredLine] = []
        for line in self._walk(allocation_id, after, attempt):
            lines.append(line)
            if len(lines) >= limit:
                break
        return lines

    def tail(self, allocation_id: AllocationId, count: int, attempt: int | None = None) -> list[StoredLine]:
        """The last `count` lines, in order."""
        lines: list[StoredLine] = []
        rows = self._tx.rows(
            "SELECT attempt, lines FROM log_chunks WHERE allocation_id = :allocation"
            " AND (:attempt IS NULL OR attempt = :attempt) ORDER BY attempt DESC, first_seq DESC LIMIT :count",
            {"allocation": allocation_id, "attempt": attempt, "count": max(count, 1)},
        )
        for number, body in rows:
            lines[:0] = _parse(number, body)
            if len(lines) >= count:
                break
        return lines[-count:] if count else []

    def forget_before(self, at_ms: int) -> int:
        """Delete chunks older than `at_ms`; how many."""
        return self._tx.change("DELETE FROM log_chunks WHERE at_ms < :at", {"at": at_ms})

    def _walk(self, allocation_id: AllocationId, after: tuple[int, int], attempt: int | None) -> Iterator[StoredLine]:
        position = after
        while True:
            rows = self._tx.rows(
                "SELECT attempt, last_seq, lines FROM log_chunks WHERE allocation_id = :allocation"
                " AND (attempt > :number OR (attempt = :number AND last_seq > :seq))"
                " AND (:attempt IS NULL OR attempt = :attempt) ORDER BY attempt, first_seq LIMIT 16",
                {"allocation": allocation_id, "number": position[0], "seq": position[1], "attempt": attempt},
            )
            if not rows:
                return
            for number, last, body in rows:
                for line in _parse(number, body):
                    if (number, line.seq) > after:
                        yield line
                position = (number, last)


def _parse(attempt: int, body: bytes) -> list[StoredLine]:
    return [StoredLine(attempt, *orjson.loads(line)) for line in body.split(b"\n")]
