"""`/v1/jobs`: submit, list, read, cancel, logs, receipt. Source: api.md sections 5.2 and 5.3."""

from collections.abc import Callable
from typing import Annotated

from marketplace.api.fields import (
    CommaList,
    JobIdPath,
    Page,
    ResponseModel,
)
from marketplace.api.native.job_bodies import JobRequest
from marketplace.api.native.job_views import JobList, JobView, JobViews, SubmitView
from marketplace.api.routes import Call, Reply, Route, scope
from marketplace.domain.catalogue import UnknownName, find_class
from marketplace.domain.ids import JobId
from marketplace.domain.lifecycle import FILTER_SYNONYMS, JobStatus
from marketplace.errors import (
    AlreadyTerminal,
    ChainUnavailable,
    DetailCode,
    InsufficientFunds,
    Invalid,
    NotFound,
    NotReady,
    QuotaExceeded,
    QuoteExpired,
    QuoteMismatch,
    SignatureRequired,
)
from marketplace.protocol.receipts import Receipt
from marketplace.services.job_orders import read_order
from marketplace.services.jobs import JobService, status_filter
from marketplace.services.principals import Scope
from marketplace.services.receipts import ReceiptService
from marketplace.store.allocations import AllocationFilter


class JobsQuery(Page):
    status: Annotated[list[str] | None, CommaList] = None
    gpu: str | None = None
    label: str | None = None
    model: str | None = None
    consumer_id: str | None = None


class ReceiptView(ResponseModel, Receipt):
    """The receipt's own model, as an answer."""


def job_routes(jobs: JobService, receipts: ReceiptService, runtime_of: Callable[[str], str | None]) -> list[Route]:
    """Everything of a job. runtime_of: what a node runs work with."""
    views = JobViews(jobs, runtime_of)

    async def submit(call: Call, body: JobRequest) -> Reply[SubmitView]:
        order = read_order(body.fields(), decimals=jobs.decimals, image_needed=True)
        allocation = await jobs.submit(call.account, call.idempotency, order)
        return Reply(views.submitted(allocation), status=201, headers={"Location": f"/v1/jobs/{allocation.job_id}"})

    async def list_jobs(call: Call, query: JobsQuery) -> JobList:
        wanted = AllocationFilter(
            account_id=call.account_id,
            states=None if query.status is None else status_filter([_status(word) for word in query.status]),
            class_id=None if query.gpu is None else _class(query.gpu),
            label=None if query.label is None else _label(query.label),
            consumer_id=query.consumer_id,
        )
        if query.model is not None:
            return JobList(jobs=[], total=0, has_more=False)
        found, total = await jobs.list_jobs(wanted, limit=query.limit, offset=query.offset)
        entries = [views.entry(allocation, attempts) for allocation, attempts in found]
        return JobList(jobs=entries, total=total, has_more=query.offset + len(entries) < total)

    async def get_job(call: Call, job_id: JobIdPath) -> JobView:
        return views.job(await jobs.details(await jobs.get(call.account_id, JobId(job_id))))

    async def cancel_job(call: Call, job_id: JobIdPath) -> JobView:
        return views.job(await jobs.details(await jobs.cancel(call.account_id, JobId(job_id))))

    async def get_receipt(call: Call, job_id: JobIdPath) -> ReceiptView:
        receipt = await receipts.get(await jobs.get(call.account_id, JobId(job_id)))
        return ReceiptView.model_validate(receipt.model_dump())

    funding = (InsufficientFunds, SignatureRequired, ChainUnavailable)
    cancel_errors = (NotFound, AlreadyTerminal)
    return [
        Route(
            "POST", "/v1/jobs", submit, "Submit a job", scope(Scope.JOBS), status=201, idempotent=True,
            errors=(Invalid, QuoteExpired, QuoteMismatch, QuotaExceeded, *funding),
        ),
        Route("GET", "/v1/jobs", list_jobs, "Jobs of the account", scope(Scope.READ), errors=(Invalid,)),
        Route("GET", "/v1/jobs/{job_id}", get_job, "A job", scope(Scope.READ), errors=(NotFound,)),
        Route(
            "POST", "/v1/jobs/{job_id}/cancel", cancel_job, "Stop a job; what is used is paid, the rest returns",
            scope(Scope.JOBS), errors=cancel_errors,
        ),
        Route(
            "DELETE", "/v1/jobs/{job_id}", cancel_job, "The same as cancel", scope(Scope.JOBS), errors=cancel_errors,
        ),
        Route(
            "GET", "/v1/jobs/{job_id}/receipt", get_receipt, "The proof of what was paid", scope(Scope.READ),
            errors=(NotFound, NotReady),
        ),
    ]  # fmt: skip


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


def _class(name: str) -> str:
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
