"""`GET /v1/events` and `GET /v1/jobs/{id}/events`: pages, or a stream that resumes. Source: api.md section 5.10.

A stream begins with a block that has an id alone: a client that is cut off before the first event still knows where
it was. Snapshot events have ids of their own (`<cursor>-<number>`) but for the last; resuming inside begins it anew.
"""

from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Annotated, Any, Final

from aiohttp import web
from pydantic import AfterValidator, Field, WithJsonSchema

from marketplace.api.fields import CommaList, Flag, JobIdPath, QueryModel, ResponseModel
from marketplace.api.json_bodies import dump_model
from marketplace.api.routes import Call, Route, reading
from marketplace.api.streams import ServerEvent, Streams
from marketplace.domain.allocations import Allocation
from marketplace.domain.events import UnknownPattern, matching_types
from marketplace.domain.ids import JobId
from marketplace.domain.reasons import Reason
from marketplace.errors import CursorExpired, DetailCode, Invalid, NotFound
from marketplace.services.feed import MAX_PAGE, Feed, Snapshot, event_object
from marketplace.services.jobs import JobService
from marketplace.services.principals import Scope
from marketplace.store.events import Event, EventFilter

EVENT_STREAM: Final = "text/event-stream"
END_ID: Final = "end"
"""Id of the last event of a job's stream."""
_MAX_DIGITS: Final = 18


class JobEventsQuery(QueryModel):
    """after: a cursor. types: names and patterns such as job.*; limit: of a page."""

    after: Annotated[str, Field(max_length=64)] | None = None
    types: Annotated[list[str] | None, CommaList] = None
    limit: Annotated[int, Field(ge=1), AfterValidator(lambda limit: min(limit, MAX_PAGE))] = 100


class EventsQuery(JobEventsQuery):
    """resource: the id of what events are about. snapshot: a stream tells first what is live."""

    resource: Annotated[str, Field(max_length=64)] | None = None
    snapshot: Flag = False


class EventView(ResponseModel):
    """Something that happened."""

    id: str
    cursor: str
    type: str
    timestamp: Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
    account: str
    data: dict[str, Any]
    resource: str


class EventList(ResponseModel):
    """next: go on with `after` of this."""

    events: list[EventView]
    next: str
    has_more: bool


def event_view(event: Event) -> EventView:
    """The event object."""
    return EventView.model_validate(event_object(event))


def event_routes(feed: Feed, jobs: JobService, streams: Streams) -> list[Route]:
    """Page and follow."""
    reader = _Reader(feed, jobs)

    async def list_events(call: Call, query: EventsQuery) -> web.StreamResponse:
        resources = None if query.resource is None else (query.resource,)
        wanted = EventFilter(call.account_id, resources=resources, types=_types(query.types))
        if call.accepts(EVENT_STREAM):
            return await streams.serve(call, await reader.stream(call, wanted, query))
        return await reader.page(wanted, query)

    async def list_job_events(call: Call, job_id: JobIdPath, query: JobEventsQuery) -> web.StreamResponse:
        allocation = await jobs.get(call.account_id, JobId(job_id))
        resources = (allocation.job_id, allocation.escrow)
        wanted = EventFilter(call.account_id, resources=resources, types=_types(query.types))
        if not call.accepts(EVENT_STREAM):
            return await reader.page(wanted, query)
        if call.last_event_id == END_ID:
            # A browser comes back after every end of a stream, until it is told that there is nothing more.
            return web.Response(status=HTTPStatus.NO_CONTENT)
        after = _start(call.last_event_id, "Last-Event-ID") or _start(query.after, "after")
        await feed.require_kept(after)
        return await streams.serve(call, reader.job_stream(allocation, wanted, after))

    return [
        Route(
            "GET", "/v1/events", list_events, "What happened, of the last 30 days, or as it happens",
            reading(Scope.WEBHOOKS), errors=(Invalid, CursorExpired), produces=("application/json", EVENT_STREAM),
            documents=EventList,
        ),
        Route(
            "GET", "/v1/jobs/{job_id}/events", list_job_events, "What happened to a job and its escrow",
            reading(Scope.JOBS), errors=(NotFound, Invalid, CursorExpired),
            produces=("application/json", EVENT_STREAM), documents=EventList,
        ),
    ]  # fmt: skip


class _Reader:
    """Answers of both routes."""

    def __init__(self, feed: Feed, jobs: JobService) -> None:
        self._feed = feed
        self._jobs = jobs

    async def page(self, wanted: EventFilter, query: JobEventsQuery) -> web.Response:
        page = await self._feed.page(wanted, after=_start(query.after, "after"), limit=query.limit)
        answer = EventList(events=[event_view(e) for e in page.events], next=str(page.next), has_more=page.more)
        return web.Response(body=dump_model(answer), content_type="application/json")

    async def stream(self, call: Call, wanted: EventFilter, query: EventsQuery) -> AsyncIterator[ServerEvent]:
        """From where the client was, else what is live, else after a cursor, else from now on."""
        resumed = call.last_event_id or ""
        unfinished = "-" in resumed
        if resumed and not unfinished:
            after = _start(resumed, "Last-Event-ID")
        elif query.snapshot or unfinished:
            return self._snapshot_first(await self._feed.snapshot(wanted.account), wanted)
        else:
            after = await self._feed.newest() if query.after is None else _start(query.after, "after")
        await self._feed.require_kept(after)
        return self._follow(wanted, after)

    async def job_stream(self, allocation: Allocation, wanted: EventFilter, after: int) -> AsyncIterator[ServerEvent]:
        """The job's events to its end, then one `end`."""
        yield ServerEvent.position(str(after))
        over = False
        async for events in self._feed.follow(wanted, after=after):
            for event in events:
                yield _server_event(event)
            if events:
                continue
            if over:
                break
            over = (await self._jobs.get(allocation.account_id, allocation.job_id)).terminal
            if over:
                # Looked at once more: the last event is written in the transaction of the end.
                self._feed.wake(allocation.account_id)
        ended = await self._jobs.get(allocation.account_id, allocation.job_id)
        reason = None if ended.reason is Reason.RUNNING else ended.reason.code
        yield ServerEvent(END_ID, "end", {"status": ended.status.value, "reason": reason})

    async def _snapshot_first(self, snapshot: Snapshot, wanted: EventFilter) -> AsyncIterator[ServerEvent]:
        for number, job in enumerate(snapshot.jobs, 1):
            last = number == len(snapshot.jobs)
            data = {
                "job_id": job.job_id, "status": job.status, "reason": job.reason, "reason_number": job.reason_number,
                "attempt": job.attempt,
            }  # fmt: skip
            yield ServerEvent(str(snapshot.cursor) if last else f"{snapshot.cursor}-{number}", "snapshot", data)
        async for event in self._follow(wanted, snapshot.cursor):
            yield event

    async def _follow(self, wanted: EventFilter, after: int) -> AsyncIterator[ServerEvent]:
        yield ServerEvent.position(str(after))
        async for events in self._feed.follow(wanted, after=after):
            for event in events:
                yield _server_event(event)


def _server_event(event: Event) -> ServerEvent:
    return ServerEvent(str(event.cursor), event.type, dump_model(event_view(event)).decode())


def _types(patterns: list[str] | None) -> tuple[str, ...] | None:
    if patterns is None:
        return None
    try:
        return tuple(sorted(matching_types(patterns)))
    except UnknownPattern as unknown:
        raise Invalid.field("types", DetailCode.NOT_ALLOWED, str(unknown), suggestions=unknown.suggestions) from unknown


def _start(text: str | None, name: str) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS):
        raise Invalid.field(name, DetailCode.NOT_ALLOWED, "must be a cursor of this feed, such as 1250")
    return int(text)
