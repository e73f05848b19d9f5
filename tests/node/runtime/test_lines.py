from hypothesis import given
from hypothesis import strategies as st

from node.runtime.lines import LineReader
from node.runtime.port import LOG_LINE_BYTES, LogLine, LogPosition, LogStream

STREAMS = (LogStream.STDOUT, LogStream.STDERR)
Piece = tuple[LogStream, int, bytes]


def read(pieces: list[Piece], after: LogPosition, total_bytes: int = 1 << 30) -> list[LogLine]:
    """As a runtime does: pieces from `since_ns` on, in the engine's order."""
    reader = LineReader(after, total_bytes=total_bytes)
    lines: list[LogLine] = []
    if not reader.full:
        for stream, at_ns, data in pieces:
            if at_ns >= reader.since_ns:
                lines += reader.feed(stream, at_ns, data)
    return lines


@st.composite
def outputs(draw: st.DrawFn) -> list[Piece]:
    """Timestamps don't go back within a stream; across streams they may, and many are equal."""
    clocks = dict.fromkeys(STREAMS, 1)
    pieces = []
    for _ in range(draw(st.integers(0, 25))):
        stream = draw(st.sampled_from(STREAMS))
        clocks[stream] += draw(st.integers(0, 2))
        pieces.append((stream, clocks[stream], draw(st.sampled_from([b"a\n", b"\n", b"bb", b"c\nd\n", b"eeee\n"]))))
    return pieces


@given(outputs(), st.integers(0, 60))
def test_reading_on_from_any_line_gives_exactly_the_rest(pieces: list[Piece], cut: int) -> None:
    whole = read(pieces, LogPosition())
    for start in range(len(whole)):
        assert read(pieces, whole[start].position) == whole[start + 1 :]
    capped = read(pieces, LogPosition(), total_bytes=cut)
    for start in range(len(capped)):
        assert read(pieces, capped[start].position, total_bytes=cut) == capped[start + 1 :]


@given(outputs(), st.integers(0, 60))
def test_the_total_limit_holds_and_is_marked_once(pieces: list[Piece], limit: int) -> None:
    lines = read(pieces, LogPosition(), total_bytes=limit)
    text = [line for line in lines if line.stream is not LogStream.RUNTIME]
    marks = [line for line in lines if line.stream is LogStream.RUNTIME]
    assert sum(len(line.text) for line in text) <= limit
    whole = read(pieces, LogPosition())
    assert bool(marks) == (len(text) < len(whole))
    assert marks == lines[len(text) :]
    assert len(marks) <= 1
    assert text == whole[: len(text)]


@given(st.binary(max_size=3 * LOG_LINE_BYTES))
def test_no_byte_is_lost_and_no_line_is_too_long(data: bytes) -> None:
    lines = read([(LogStream.STDOUT, 1, data)], LogPosition())
    assert b"".join(line.text + b"\n" * line.complete for line in lines) == data
    assert all(len(line.text) <= LOG_LINE_BYTES for line in lines)
    assert [line.position.number for line in lines] == list(range(1, len(lines) + 1))
