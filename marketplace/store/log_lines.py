"""Log lines in chunks: one row for each batch that a node sent, the lines as newline-delimited JSON."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

import orjson

from marketplace.domain.ids import AllocationId
from marketplace.store.engine import Transaction

LAST_CHUNK: Final = (
    "SELECT last_seq, size_before, size_bytes FROM log_chunks WHERE allocation_id = :allocation AND attempt = :attempt"
    " ORDER BY first_seq DESC LIMIT 1"
)
"""One row, however long the log is: it is asked for each batch."""
_NO_ATTEMPT: Final = (1 << 31) - 1
"""Above every attempt's number, and the largest of its column."""


class StoredLine(NamedTuple):
    """One line. stream: 1 stdout, 2 stderr, 3 the node itself. A tuple: tens of thousands are made in a second."""

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
        named = {"allocation": allocation_id, "attempt": attempt}
        last = self._tx.row(LAST_CHUNK, named)
        if last is None:
            return 1, 0
        last_seq, size_before, size_bytes = last
        if size_before is None:
            # Written before chunks kept it: that one time all are summed.
            total = self._tx.row(
                "SELECT sum(size_bytes) FROM log_chunks WHERE allocation_id = :allocation AND attempt = :attempt", named
            )
            return int(last_seq) + 1, int(total[0]) if total else 0
        return int(last_seq) + 1, int(size_before) + int(size_bytes)

    def append(
        self,
        allocation_id: AllocationId,
        lines: Sequence[StoredLine],
        size_bytes: int,
        now_ms: int,
        size_before: int | None = None,
    ) -> None:
        """Write lines of one attempt, without gaps among them.

        size_bytes: what they count for under the cap. size_before: what those before them do, where it is known.
        """
        if size_before is None:
            size_before = self.position(allocation_id, lines[0].attempt)[1]
        body = b"\n".join([orjson.dumps((seq, at_ms, stream, text)) for _, seq, at_ms, stream, text in lines])
        self._tx.change(
            "INSERT INTO log_chunks"
            " (allocation_id, attempt, first_seq, last_seq, size_bytes, size_before, lines, at_ms)"
            " VALUES (:allocation, :attempt, :first, :last, :size, :before, :lines, :now)",
            {
                "allocation": allocation_id,
                "attempt": lines[0].attempt,
                "first": lines[0].seq,
                "last": lines[-1].seq,
                "size": size_bytes,
                "before": size_before,
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

    def tail(
        self,
        allocation_id: AllocationId,
        count: int,
        attempt: int | None = None,
        wanted: Callable[[StoredLine], bool] = lambda _line: True,
    ) -> list[StoredLine]:
        """The last `count` of the wanted lines, in order."""
        lines: deque[StoredLine] = deque()
        if count:
            for line in self._walk_back(allocation_id, attempt):
                if wanted(line):
                    lines.appendleft(line)
                    if len(lines) == count:
                        break
        return list(lines)

    def forget_before(self, at_ms: int) -> int:
        """Delete the chunks of what ended before `at_ms`; how many."""
        return self._tx.change(
            "DELETE FROM log_chunks WHERE at_ms < :at"
            " AND allocation_id IN (SELECT id FROM allocations WHERE completed_at_ms < :at)",
            {"at": at_ms},
        )

    def _walk(self, allocation_id: AllocationId, after: tuple[int, int], attempt: int | None) -> Iterator[StoredLine]:
        position = after
        while True:
            rows = self._tx.rows(
                "SELECT attempt, last_seq, lines FROM log_chunks WHERE allocation_id = :allocation"  # noqa: S608 - ours
                " AND (attempt > :number OR (attempt = :number AND last_seq > :seq))"
                f"{_only(attempt)} ORDER BY attempt, first_seq LIMIT 16",
                {"allocation": allocation_id, "number": position[0], "seq": position[1], "attempt": attempt},
            )
            if not rows:
                return
            for number, last, body in rows:
                for line in _parse(number, body):
                    if (number, line.seq) > after:
                        yield line
                position = (number, last)

    def _walk_back(self, allocation_id: AllocationId, attempt: int | None) -> Iterator[StoredLine]:
        position: tuple[int, int] = (_NO_ATTEMPT, 0)
        while True:
            rows = self._tx.rows(
                "SELECT attempt, first_seq, lines FROM log_chunks WHERE allocation_id = :allocation"  # noqa: S608 - ours
                " AND (attempt < :number OR (attempt = :number AND first_seq < :seq))"
                f"{_only(attempt)} ORDER BY attempt DESC, first_seq DESC LIMIT 16",
                {"allocation": allocation_id, "number": position[0], "seq": position[1], "attempt": attempt},
            )
            if not rows:
                return
            for number, first, body in rows:
                yield from reversed(_parse(number, body))
                position = (number, first)


def _only(attempt: int | None) -> str:
    return "" if attempt is None else " AND attempt = :attempt"


def _parse(attempt: int, body: bytes) -> list[StoredLine]:
    return [StoredLine(attempt, *orjson.loads(line)) for line in body.split(b"\n")]
