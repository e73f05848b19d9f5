"""`GET /v1/jobs/{id}/logs`: text, newline-delimited JSON, or a followed stream. Source: api.md section 5.3."""

from collections.abc import AsyncIterator
from typing import Annotated, Final, Literal

import orjson
from aiohttp import web
from pydantic import Field

from marketplace.api.fields import Flag, JobIdPath, QueryModel
from marketplace.api.routes import Call, Route, scope
from marketplace.api.streams import ServerEvent, Streams
from marketplace.domain.allocations import Allocation
from marketplace.domain.ids import JobId
from marketplace.domain.instants import instant_text
from marketplace.domain.reasons import Reason
from marketplace.errors import DetailCode, Invalid, NotFound
from marketplace.services.jobs import JobService
from marketplace.services.logs import JobLogs
from marketplace.services.principals import Scope
from marketplace.store.log_lines import StoredLine

STREAM_NAMES: Final = {1: "stdout", 2: "stderr", 3: "node"}
MAX_TAIL: Final = 10_000
"""Specified: api.md section 5.3."""


class LogsQuery(QueryModel):
    follow: Flag = False
    stream: Literal["all", "stdout", "stderr"] = "all"
    attempt: Annotated[int, Field(ge=1)] | None = None
    since: Annotated[str, Field(max_length=64)] | None = None
    tail: Annotated[int, Field(ge=0, le=MAX_TAIL)] | None = None


def log_routes(jobs: JobService, logs: JobLogs, streams: Streams) -> list[Route]:
    """Read and follow."""

    async def get_logs(call: Call, job_id: JobIdPath, query: LogsQuery) -> web.StreamResponse:
        allocation = jobs.get(call.account_id, JobId(job_id))
        after = _since(call.last_event_id or query.since)
        if query.follow or call.accepts("text/event-stream"):
            return await streams.serve(call, _follow(jobs, logs, allocation, query, after))
        lines = await logs.read(allocation.id, attempt=query.attempt, after=after, tail=query.tail)
        lines = [line for line in lines if _wanted(line, query) and (line.attempt, line.seq) > after]
        if call.accepts("application/x-ndjson"):
            body = b"".join(orjson.dumps(_line(line)) + b"\n" for line in lines)
            return web.Response(body=body, content_type="application/x-ndjson")
        text = "".join(line.text + "\n" for line in lines)
        return web.Response(text=text, content_type="text/plain", charset="utf-8")

    return [
        Route(
            "GET", "/v1/jobs/{job_id}/logs", get_logs, "What the job printed", scope(Scope.READ), errors=(NotFound,),
            produces=("text/plain", "application/x-ndjson", "text/event-stream"),
        ),
    ]  # fmt: skip


async def _follow(
    jobs: JobService, logs: JobLogs, allocation: Allocation, query: LogsQuery, after: tuple[int, int]
) -> AsyncIterator[ServerEvent]:
    """Lines as they come, then one `end`."""
    if query.tail is not None:
        for line in await logs.read(allocation.id, attempt=query.attempt, tail=query.tail):
            after = max(after, (line.attempt, line.seq))
            if _wanted(line, query):
                yield _event(line)
    async for lines in logs.follow(allocation, attempt=query.attempt, after=after):
        for line in lines:
            if _wanted(line, query):
                yield _event(line)
    ended = jobs.get(allocation.account_id, allocation.job_id)
    reason = None if ended.reason is Reason.RUNNING else ended.reason.code
    yield ServerEvent("end", "end", {"status": ended.status.value, "reason": reason})


def _since(text: str | None) -> tuple[int, int]:
    """Where to go on: `<attempt>.<seq>` as our event ids are, or a sequence of the first attempt."""
    if text is None or text == "":
        return 0, 0
    attempt, dot, seq = text.partition(".")
    if not dot:
        attempt, seq = "1", text
    if not (attempt.isascii() and attempt.isdecimal() and seq.isascii() and seq.isdecimal()):
        raise Invalid.field("since", DetailCode.NOT_ALLOWED, "must be a line's id, such as 1.250")
    return int(attempt), int(seq)


def _wanted(line: StoredLine, query: LogsQuery) -> bool:
    return query.stream == "all" or STREAM_NAMES[line.stream] == query.stream


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
