"""`POST /v1/jobs/{id}/retry`: an ended job once more, as a new one. Source: api.md section 5.3."""

from marketplace.api.fields import AmountText, JobIdPath, RequestModel
from marketplace.api.native.job_views import JobViews, SubmitView
from marketplace.api.routes import Call, Reply, Route, scope
from marketplace.domain.ids import JobId
from marketplace.errors import (
    ChainUnavailable,
    Conflict,
    Gone,
    InsufficientFunds,
    Invalid,
    NotFound,
    QuotaExceeded,
    SignatureRequired,
)
from marketplace.services.job_orders import Changes
from marketplace.services.jobs import JobService
from marketplace.services.principals import Scope


class RetryRequest(RequestModel):
    """What it may do otherwise; the price is that of now."""

    priority: str | None = None
    timeout_seconds: int | None = None
    max_price_per_gpu_second: AmountText | None = None
    max_price_per_hour: AmountText | None = None


def retry_routes(jobs: JobService, views: JobViews) -> list[Route]:
    """One route."""

    async def retry(call: Call, job_id: JobIdPath, body: RetryRequest) -> Reply[SubmitView]:
        changes = Changes(body.priority, body.timeout_seconds, body.max_price_per_gpu_second, body.max_price_per_hour)
        allocation = await jobs.retry(call.account, call.idempotency, JobId(job_id), changes)
        return Reply(views.submitted(allocation), status=201, headers={"Location": f"/v1/jobs/{allocation.job_id}"})

    return [
        Route(
            "POST", "/v1/jobs/{job_id}/retry", retry, "An ended job once more, as a new job", scope(Scope.JOBS),
            status=201, idempotent=True,
            errors=(
                NotFound, Conflict, Gone, Invalid, QuotaExceeded, InsufficientFunds, SignatureRequired,
                ChainUnavailable,
            ),
        ),
    ]  # fmt: skip
