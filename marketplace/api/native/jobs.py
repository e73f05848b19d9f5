"""`/v1/jobs`: submit, list, read, cancel, logs, receipt. Source: api.md sections 5.2 and 5.3."""

from collections.abc import Callable
from typing import Final

from marketplace.api.fields import (
    JobIdPath,
    ResponseModel,
)
from marketplace.api.native.job_bodies import JobRequest, telling_of_the_rest
from marketplace.api.native.job_lists import job_list_routes
from marketplace.api.native.job_views import JobView, JobViews, SubmitView
from marketplace.api.routes import Call, Reply, Route, reading, scope
from marketplace.domain.ids import JobId
from marketplace.errors import (
    AlreadyTerminal,
    ChainUnavailable,
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
from marketplace.services.clock import Clock
from marketplace.services.jobs import JobService
from marketplace.services.model_registry import ModelRegistry
from marketplace.services.models import read_whole_order
from marketplace.services.principals import Scope
from marketplace.services.receipts import ReceiptService

MAX_JOB_BYTES: Final = 4 << 20
"""Chosen: an input of 1 MiB, most of whose characters JSON writes as two or more, beside the rest."""


class ReceiptView(ResponseModel, Receipt):
    """The receipt's own model, as an answer."""


def job_routes(
    jobs: JobService,
    receipts: ReceiptService,
    clock: Clock,
    runtime_of: Callable[[str], str | None],
    models: ModelRegistry,
) -> list[Route]:
    """Everything of a job. runtime_of: what a node runs work with."""
    views = JobViews(jobs, runtime_of)

    async def submit(call: Call, body: JobRequest) -> Reply[SubmitView]:
        try:
            order = read_whole_order(body.fields(), models.catalogue, decimals=jobs.decimals)
        except Invalid:
            # What was taken once stands: a model that is gone since must not hide the job that was paid for.
            known = await jobs.resume(call.account, call.idempotency, body.secrets)
            if known is None:
                raise
            allocation = known
        else:
            allocation = await jobs.submit(call.account, call.idempotency, order)
        return Reply(views.submitted(allocation), status=201, headers={"Location": f"/v1/jobs/{allocation.job_id}"})

    def check(body: JobRequest, left_out: frozenset[str]) -> None:
        with telling_of_the_rest(left_out):
            read_whole_order(body.fields(), models.catalogue, decimals=jobs.decimals)

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
            max_body=MAX_JOB_BYTES, check=check,
            errors=(Invalid, QuoteExpired, QuoteMismatch, QuotaExceeded, *funding),
        ),
        *job_list_routes(jobs, views, clock),
        Route("GET", "/v1/jobs/{job_id}", get_job, "A job", reading(Scope.JOBS), errors=(NotFound,)),
        Route(
            "POST", "/v1/jobs/{job_id}/cancel", cancel_job, "Stop a job; what is used is paid, the rest returns",
            scope(Scope.JOBS), errors=cancel_errors,
        ),
        Route(
            "DELETE", "/v1/jobs/{job_id}", cancel_job, "The same as cancel", scope(Scope.JOBS), errors=cancel_errors,
        ),
        Route(
            "GET", "/v1/jobs/{job_id}/receipt", get_receipt, "The proof of what was paid", reading(Scope.JOBS),
            errors=(NotFound, NotReady),
        ),
    ]  # fmt: skip
