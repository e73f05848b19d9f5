"""`GET /v1/jobs/{id}/logs`: text, newline-delimited JSON, or a followed stream. Source: api.md section 5.3."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Final, Literal

import orjson
from aiohttp import web
from pydantic import Field, TypeAdapter, ValidationError

from marketplace.api.fields import Flag, InstantText, JobIdPath, QueryModel
from marketplace.api.routes import Call, Route, reading
from marketplace.api.streams import SERVER_SENT, ServerEvent, StreamForm, Streams, Upcoming
from marketplace.domain.allocations import Allocation
from marketplace.domain.ids import JobId
from marketplace.domain.instants import instant_text
from marketplace.domain.quantities import Millis
from marketplace.domain.reasons import Reason
from marketplace.errors import DetailCode, Gone, Invalid, NotFound
from marketplace.services.jobs import JobService
from marketplace.services.logs import JobLogs
from marketplace.services.principals import Scope
from marketplace.store.log_lines import StoredLine

STREAM_NAMES: Final = {1: "stdout", 2: "stderr", 3: "node"}
MAX_TAIL: Final = 10_000
"""Specified: api.md section 5.3."""
MAX_NUMBER: Final = 2**31 - 1
_MAX_DIGITS: Final = 18
"""Both: what a column holds."""
END_ID: Final = "end"
"""Id of a stream's last event."""
_INSTANT: Final[TypeAdapter[Millis]] = TypeAdapter(InstantText)


class LogsQuery(QueryModel):
    """since: a line's id such as 2.250, its number in the first attempt, or an instant."""

    follow: Flag = False
    stream: Literal["all", "stdout", "stderr"] = "all"
    attempt: Annotated[int, Field(ge=1, le=MAX_NUMBER)] | None = None
    since: Annotated[str, Field(max_length=64)] | None = None
    tail: Annotated[int, Field(ge=0, le=MAX_TAIL)] | None = None


@dataclass(frozen=True, slots=True)
class _Start:
    """From where on lines are wanted: after one of them, and not before an instant."""

    after: tuple[int, int] = (0, 0)
    at_ms: int = 0


def log_routes(jobs: JobService, logs: JobLogs, streams: Streams) -> list[Route]:
    """Read and follow."""

    async def get_logs(call: Call, job_id: JobIdPath, query: LogsQuery) -> web.StreamResponse:
        allocation = await jobs.get(call.account_id, JobId(job_id))
        logs.require_kept(allocation)
        if call.last_event_id == END_ID:
            # A browser comes back after every end of a stream, until it is told that there is nothing more.
            return web.Response(status=HTTPStatus.NO_CONTENT)
        if call.last_event_id:
            # It resumes: whatever it was to begin with, it has had.
            start, tail = _Start(_line_id(call.last_event_id, "Last-Event-ID")), None
        else:
            start, tail = _since(query.since), query.tail
        if query.follow or call.accepts("text/event-stream"):
            return await streams.serve(call, _follow(jobs, logs, allocation, query, start, tail), _form(call))
        lines = await logs.read(
            allocation.id,
            attempt=query.attempt,
            after=start.after,
            tail=tail,
            wanted=lambda line: _wanted(line, query, start),
        )
        if call.accepts("application/x-ndjson"):
            body = b"".join(orjson.dumps(_line(line)) + b"\n" for line in lines)
            return web.Response(body=body, content_type="application/x-ndjson")
        text = "".join(line.text + "\n" for line in lines)
        return web.Response(text=text, content_type="text/plain", charset="utf-8")

    return [
        Route(
            "GET", "/v1/jobs/{job_id}/logs", get_logs, "What the job printed", reading(Scope.JOBS),
            errors=(NotFound, Invalid, Gone),
            produces=("text/plain", "application/x-ndjson", "text/event-stream"),
        ),
    ]  # fmt: skip


def _form(call: Call) -> StreamForm:
    """What a follower wants to read: events unless it names another type."""
    if call.accepts("text/event-stream"):
        return SERVER_SENT
    if call.accepts(_JSON_LINES.content_type):
        return _JSON_LINES
    return _TEXT if call.accepts("text/plain") else SERVER_SENT


async def _follow(
    jobs: JobService, logs: JobLogs, allocation: Allocation, query: LogsQuery, start: _Start, tail: int | None
) -> AsyncIterator[Upcoming]:
    """Lines as they come, those of one batch together, then one `end`."""
    after = start.after
    if tail is not None:
        newest = await logs.read(allocation.id, attempt=query.attempt, tail=1)
        reached = max([after, *((line.attempt, line.seq) for line in newest)])
        for line in await logs.read(
            allocation.id,
            attempt=query.attempt,
            after=after,
            tail=tail,
            wanted=lambda line: (line.attempt, line.seq) <= reached and _wanted(line, query, start),
        ):
            yield _event(line)
        after = reached
    async for lines in logs.follow(allocation, attempt=query.attempt, after=after):
        batch = [_event(line) for line in lines if _wanted(line, query, start)]
        if batch:
            yield batch
    ended = await jobs.get(allocation.account_id, allocation.job_id)
    reason = None if ended.reason is Reason.RUNNING else ended.reason.code
    yield ServerEvent(END_ID, "end", {"status": ended.status.value, "reason": reason})


def _since(text: str | None) -> _Start:
    """Where a reader wants to begin."""
    if not text:
        return _Start()
    if "T" not in text:
        return _Start(after=_line_id(text, "since"))
    try:
        return _Start(at_ms=_INSTANT.validate_python(text))
    except ValidationError as error:
        raise _no_start("since") from error


def _line_id(text: str, name: str) -> tuple[int, int]:
    """`<attempt>.<seq>` as our event ids are, or a sequence of the first attempt."""
    attempt, dot, seq = text.partition(".")
    if not dot:
        attempt, seq = "1", text
    numbers = (attempt, seq)
    if not all(n.isascii() and n.isdecimal() and len(n) <= _MAX_DIGITS for n in numbers):
        raise _no_start(name)
    return int(attempt), int(seq)


def _no_start(name: str) -> Invalid:
    return Invalid.field(
        name, DetailCode.NOT_ALLOWED, "must be a line's id such as 1.250, or an instant such as 2026-02-13T10:00:00Z"
    )


def _wanted(line: StoredLine, query: LogsQuery, start: _Start) -> bool:
    return line.at_ms >= start.at_ms and (query.stream == "all" or STREAM_NAMES[line.stream] == query.stream)


def _line(line: StoredLine) -> dict[str, object]:
    return {
        "seq": line.seq,
        "ts": instant_text(line.at_ms),
        "stream": STREAM_NAMES[line.stream],
        "line": line.text,
        "attempt": line.attempt,
    }


def _event(line: StoredLine) -> ServerEvent:
    return ServerEvent(f"{line.attempt}.{line.seq}", "log", _line(line))


def _json_line(event: ServerEvent) -> bytes:
    return b"" if event.event != "log" else orjson.dumps(event.data) + b"\n"


def _text_line(event: ServerEvent) -> bytes:
    return b"" if event.event != "log" else event.data["line"].encode() + b"\n"


_JSON_LINES: Final = StreamForm("application/x-ndjson", _json_line)
_TEXT: Final = StreamForm("text/plain; charset=utf-8", _text_line)
