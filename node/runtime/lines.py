"""Cuts an engine's output into lines with positions, and holds the two limits of a log.

Engines hand out pieces with a timestamp and can seek by time only; several pieces may share a timestamp. So a
position remembers, per stream, the last timestamp and how many pieces of it were read, and a reader that starts
from it skips exactly those. Within one stream timestamps don't go back (the engine stamps in order).
"""

from collections.abc import Iterator
from dataclasses import replace

from node.runtime.port import LOG_LINE_BYTES, LOG_TOTAL_BYTES, LogLine, LogPosition, LogStream


class LineReader:
    """Fed with an engine's pieces in order, answers what comes behind a position.

    The same bytes give the same lines with the same numbers, wherever reading starts again: so a digest over
    lines survives the node's restart.
    """

    def __init__(self, after: LogPosition, *, total_bytes: int = LOG_TOTAL_BYTES) -> None:
        self._position = after
        self._after = after
        self._total_bytes = total_bytes
        self._seen = {LogStream.STDOUT: (0, 0), LogStream.STDERR: (0, 0)}
        self._full = after.text_bytes > total_bytes

    @property
    def full(self) -> bool:
        """Whether the mark was read: nothing will follow it."""
        return self._full

    @property
    def since_ns(self) -> int:
        """From which timestamp on pieces are needed."""
        return min(self._after.stdout_at_ns, self._after.stderr_at_ns)

    def feed(self, stream: LogStream, at_ns: int, data: bytes) -> Iterator[LogLine]:
        """Lines of one piece. The total limit is checked before each: the last line is the truncation mark."""
        for text, complete in _pieces(data):
            if self._full or self._skips(stream, at_ns):
                continue
            position = self._position
            if position.text_bytes + len(text) > self._total_bytes:
                self._full = True
                mark = f"[output truncated after {position.text_bytes} bytes]".encode()
                # Beyond the limit stands for: the mark was read too.
                behind = replace(position, number=position.number + 1, text_bytes=self._total_bytes + 1)
                yield LogLine(LogStream.RUNTIME, mark, complete=True, at_ns=at_ns, position=behind)
                return
            self._position = self._advanced(stream, at_ns, len(text))
            yield LogLine(stream, text, complete, at_ns, self._position)

    def _skips(self, stream: LogStream, at_ns: int) -> bool:
        """Whether this piece was read before the position that we started from."""
        last_at, same = self._seen[stream]
        same = same + 1 if at_ns == last_at else 1
        self._seen[stream] = (at_ns, same)
        after_ns, after_same = self._of(stream, self._after)
        return at_ns < after_ns or (at_ns == after_ns and same <= after_same)

    def _advanced(self, stream: LogStream, at_ns: int, length: int) -> LogPosition:
        position = self._position
        number, text_bytes = position.number + 1, position.text_bytes + length
        last_ns, same = self._of(stream, position)
        same = same + 1 if at_ns == last_ns else 1
        if stream is LogStream.STDOUT:
            return replace(position, number=number, text_bytes=text_bytes, stdout_at_ns=at_ns, stdout_same=same)
        return replace(position, number=number, text_bytes=text_bytes, stderr_at_ns=at_ns, stderr_same=same)

    @staticmethod
    def _of(stream: LogStream, position: LogPosition) -> tuple[int, int]:
        if stream is LogStream.STDOUT:
            return position.stdout_at_ns, position.stdout_same
        return position.stderr_at_ns, position.stderr_same


def _pieces(data: bytes) -> Iterator[tuple[bytes, bool]]:
    """Text without its newline, at most LOG_LINE_BYTES, and whether a newline followed."""
    start = 0
    while start < len(data):
        newline = data.find(b"\n", start, start + LOG_LINE_BYTES + 1)
        if newline >= 0:
            yield data[start:newline], True
            start = newline + 1
        else:
            yield data[start : start + LOG_LINE_BYTES], False
            start += LOG_LINE_BYTES
