"""`GET /v1/jobs` and `GET /v1/jobs/history`: filters, pages, totals, CSV. Source: api.md section 5.3."""

from typing import Annotated, Final, Literal

from aiohttp import web
from pydantic import Field

from marketplace.api.csv_tables import MEDIA_TYPE, csv_response
from marketplace.api.dates import SpanQuery, span_of
from marketplace.api.fields import PAGE_LIMIT, CommaList, Page, QueryModel, millis_text, seconds_text
from marketplace.api.json_bodies import dump_model
from marketplace.api.native.job_views import JobEntry, JobList, JobViews
from marketplace.api.routes import Call, Route, reading
from marketplace.domain.allocations import Allocation
from marketplace.domain.catalogue import ANY, UnknownName, find_class
from marketplace.domain.lifecycle import FILTER_SYNONYMS, TERMINAL_STATUSES, JobStatus
from marketplace.errors import DetailCode, Invalid
from marketplace.services.clock import Clock
from marketplace.services.jobs import JobService
from marketplace.services.principals import Scope
from marketplace.store.allocations import AllocationFilter

CSV_ROWS: Final = 50_000
"""Most lines of one CSV answer; chosen: about 10 MB. Beyond it the span has to be narrowed."""
_DEFAULT_LIMIT: Final = 20
_COLUMNS: Final = (
    "job_id", "status", "image", "model", "gpu", "gpu_count", "node_id", "name", "consumer_id", "created_at",
    "completed_at", "reason", "cost", "currency",
)  # fmt: skip


class JobFilters(QueryModel):
    status: Annotated[list[str] | None, CommaList] = None
    gpu: str | None = None
    label: str | None = None
    model: str | None = None
    consumer_id: str | None = None


class JobsQuery(JobFilters, Page):
    pass


class HistoryQuery(JobFilters, SpanQuery):
    """limit: of JSON 20; of CSV everything."""

    limit: Annotated[int, Field(ge=1)] | None = None
    offset: Annotated[int, Field(ge=0, le=2**53)] = 0
    format: Literal["json", "csv"] = "json"


def job_list_routes(jobs: JobService, views: JobViews, clock: Clock) -> list[Route]:
    """The lists; registered before what has an id in the same place."""

    async def page(wanted: AllocationFilter, limit: int, offset: int) -> JobList:
        found, total = await jobs.list_jobs(wanted, limit=limit, offset=offset)
        entries = [views.entry(allocation, attempts) for allocation, attempts in found]
        return JobList(jobs=entries, total=total, has_more=offset + len(entries) < total)

    async def list_jobs(call: Call, query: JobsQuery) -> JobList:
        statuses = None if query.status is None else [_status(word) for word in query.status]
        wanted = _filter(call, query, statuses)
        return await page(wanted, query.limit, query.offset)

    async def list_history(call: Call, query: HistoryQuery) -> web.Response:
        span = span_of(query, clock.now())
        statuses = None if query.status is None else [_ended(word) for word in query.status]
        wanted = _filter(call, query, statuses, ended_from_ms=span.start, ended_until_ms=span.until)
        if query.format == "json":
            limit = min(query.limit or _DEFAULT_LIMIT, PAGE_LIMIT)
            answer = await page(wanted, limit, query.offset)
            return web.Response(body=dump_model(answer), content_type="application/json")
        limit = min(query.limit or CSV_ROWS, CSV_ROWS)
        found, total = await jobs.list_jobs(wanted, limit=limit, offset=query.offset)
        if query.limit is None and total - query.offset > CSV_ROWS:
            raise Invalid.field(
                "from",
                DetailCode.OUT_OF_RANGE,
                f"{total} jobs are more than the {CSV_ROWS} of one table; narrow the span",
            )
        rows = [_row(allocation, views.entry(allocation, attempts), jobs.currency) for allocation, attempts in found]
        return csv_response("jobs.csv", _COLUMNS, rows)

    access = reading(Scope.JOBS)
    return [
        Route("GET", "/v1/jobs", list_jobs, "Jobs of the account, newest first", access, errors=(Invalid,)),
        Route(
            "GET", "/v1/jobs/history", list_history, "Jobs that have ended, by when they did", access,
            errors=(Invalid,), produces=("application/json", MEDIA_TYPE), documents=JobList,
        ),
    ]  # fmt: skip


def _filter(call: Call, query: JobFilters, statuses: list[JobStatus] | None, **span: int) -> AllocationFilter:
    return AllocationFilter(
        account_id=call.account_id,
        statuses=statuses,
        class_id=None if query.gpu is None else _class(query.gpu),
        label=None if query.label is None else _label(query.label),
        consumer_id=query.consumer_id,
        model=query.model,
        **span,
    )


def _row(allocation: Allocation, entry: JobEntry, currency: str) -> tuple[str | int | None, ...]:
    return (
        entry.job_id,
        entry.status,
        entry.image,
        entry.model,
        entry.gpu,
        allocation.gpu_count,
        entry.node_id,
        allocation.name,
        allocation.consumer_id,
        seconds_text(entry.created_at),
        None if entry.completed_at is None else millis_text(entry.completed_at),
        entry.reason,
        entry.cost,
        currency,
    )


def _status(word: str) -> JobStatus:
    text = word.casefold()
    if text in FILTER_SYNONYMS:
        return FILTER_SYNONYMS[text]
    try:
        return JobStatus(text)
    except ValueError as error:
        raise Invalid.field(
            "status", DetailCode.NOT_ALLOWED, "is none of the words", allowed=tuple(JobStatus)
        ) from error


def _ended(word: str) -> JobStatus:
    """A word of the history. Raises Invalid for a job that goes on."""
    status = _status(word)
    if status not in TERMINAL_STATUSES:
        raise Invalid.field(
            "status", DetailCode.NOT_ALLOWED, "is no word of jobs that have ended", allowed=sorted(TERMINAL_STATUSES)
        )
    return status


def _class(name: str) -> str:
    if name.casefold() == ANY:
        return ANY
    try:
        return find_class(name).id
    except UnknownName as unknown:
        raise Invalid.field(
            "gpu", DetailCode.UNKNOWN_GPU, "is no class we know", suggestions=unknown.suggestions
        ) from unknown


def _label(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise Invalid.field("label", DetailCode.NOT_ALLOWED, "must be name:value")
    return name, value
