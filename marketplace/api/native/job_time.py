"""`/v1/jobs/{id}/extend`: more time for a job. Source: api.md section 5.3."""

from collections.abc import Callable

from pydantic import Field

from marketplace.api.fields import JobIdPath, RequestModel
from marketplace.api.native.job_views import JobView, JobViews
from marketplace.api.routes import Call, Route, scope
from marketplace.domain.ids import JobId
from marketplace.domain.quantities import Millis
from marketplace.domain.timing import MAX_TOTAL_MS
from marketplace.errors import (
    AlreadyTerminal,
    ChainUnavailable,
    Conflict,
    ExposureExceeded,
    InsufficientFunds,
    Invalid,
    NotFound,
    SignatureRequired,
)
from marketplace.services.extensions import ExtensionService
from marketplace.services.jobs import JobService
from marketplace.services.principals import Scope


class ExtendRequest(RequestModel):
    """More time. What it costs at most is locked at once, and what is not used returns at the end."""

    additional_seconds: int = Field(ge=1, le=MAX_TOTAL_MS // 1000)


def job_time_routes(
    jobs: JobService, extensions: ExtensionService, runtime_of: Callable[[str], str | None]
) -> list[Route]:
    """Extending. runtime_of: what a node runs work with."""
    views = JobViews(jobs, runtime_of)

    async def extend(call: Call, job_id: JobIdPath, body: ExtendRequest) -> JobView:
        allocation = await jobs.get(call.account_id, JobId(job_id))
        added = Millis(body.additional_seconds * 1000)
        extended = await extensions.extend(call.account, call.idempotency, allocation, added)
        return views.job(await jobs.details(extended))

    return [
        Route(
            "POST", "/v1/jobs/{job_id}/extend", extend, "More time for a job", scope(Scope.JOBS), idempotent=True,
            errors=(
                Invalid, NotFound, AlreadyTerminal, Conflict, ExposureExceeded, InsufficientFunds, SignatureRequired,
                ChainUnavailable,
            ),
        ),
    ]  # fmt: skip
