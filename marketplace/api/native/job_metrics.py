"""`/v1/jobs/{id}/metrics`: what a job uses over time. Source: api.md section 5.3."""

from pydantic import Field

from marketplace.api.fields import InstantText, JobIdPath, MillisInstant, QueryModel, ResponseModel
from marketplace.api.routes import Call, Route, reading
from marketplace.domain.allocations import allocation_of
from marketplace.domain.ids import JobId
from marketplace.domain.quantities import Millis
from marketplace.errors import DetailCode, Invalid, NotFound
from marketplace.services.clock import Clock
from marketplace.services.jobs import JobService
from marketplace.services.principals import Scope
from marketplace.services.usage import RETENTION_MS, JobUsage
from marketplace.store.usage import UsageSample


class MetricsQuery(QueryModel):
    """Both ends included; without them everything that is kept."""

    from_: InstantText | None = Field(default=None, alias="from")
    to: InstantText | None = None


class GpuSample(ResponseModel):
    """percent: how busy the job's GPUs were, 0 to 100 on average. memory_bytes: of all of them; null: not measured."""

    percent: int
    memory_bytes: int | None


class MetricsSample(ResponseModel):
    """cpu_ms, received_bytes, sent_bytes: since the attempt's start. cpu_milli: thousandths of a core since the sample
    before, null for an attempt's first. gpu: null where the node doesn't measure it.
    """

    at: MillisInstant
    attempt: int
    cpu_ms: int
    cpu_milli: int | None
    memory_bytes: int
    received_bytes: int
    sent_bytes: int
    gpu: GpuSample | None


class MetricsView(ResponseModel):
    job_id: str
    samples: list[MetricsSample]


def job_metrics_routes(jobs: JobService, usage: JobUsage, clock: Clock) -> list[Route]:
    """Reading them."""

    async def get_metrics(call: Call, job_id: JobIdPath, query: MetricsQuery) -> MetricsView:
        await jobs.get(call.account_id, JobId(job_id))
        now = clock.now()
        since = query.from_ if query.from_ is not None else Millis(now - RETENTION_MS)
        until = query.to if query.to is not None else Millis(now)
        if since > until:
            raise Invalid.field("from", DetailCode.CONFLICT, "is after `to`")
        samples = await usage.list_for(allocation_of(JobId(job_id)), since, until)
        before = [None, *samples]
        return MetricsView(job_id=job_id, samples=[_view(b, s) for b, s in zip(before, samples, strict=False)])

    return [
        Route(
            "GET", "/v1/jobs/{job_id}/metrics", get_metrics, "What a job uses over time", reading(Scope.JOBS),
            errors=(NotFound, Invalid),
        ),
    ]  # fmt: skip


def _view(before: UsageSample | None, sample: UsageSample) -> MetricsSample:
    milli = None
    if before is not None and before.attempt == sample.attempt and sample.at_ms > before.at_ms:
        milli = max(0, sample.cpu_ms - before.cpu_ms) * 1000 // (sample.at_ms - before.at_ms)
    return MetricsSample(
        at=Millis(sample.at_ms),
        attempt=sample.attempt,
        cpu_ms=sample.cpu_ms,
        cpu_milli=milli,
        memory_bytes=sample.memory_bytes,
        received_bytes=sample.received_bytes,
        sent_bytes=sample.sent_bytes,
        gpu=None
        if sample.gpu_percent is None
        else GpuSample(percent=sample.gpu_percent, memory_bytes=sample.gpu_memory_bytes),
    )
