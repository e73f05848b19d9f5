"""`reaver jobs top`: what running jobs use now, in a table that is drawn anew."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from marketplace.cli.reaver.commands.views import gpu_cells, megabytes, thousandths
from marketplace.cli.reaver.output import Output
from marketplace.cli.reaver.session import Connection, run, with_client

if TYPE_CHECKING:
    from marketplace.client.account_models import UsageSample
    from marketplace.client.client import ReaverClient
    from marketplace.client.models import JobRow

_EVERY_S: Final = 5.0
"""Chosen: nodes measure as often."""
_EACH_S: Final = 1.0
"""Chosen: a request for each job leaves half of a wallet's 120 a minute to other commands; api.md section 3."""
_BACK: Final = timedelta(minutes=2)
"""Chosen: several heartbeats; what is older says nothing of now."""
_COLUMNS: Final = (
    "job",
    "cores",
    "memory MB",
    "GPU %",
    "GPU MB",
    "in kB/s",
    "out kB/s",
    "in MB",
    "out MB",
    "class",
    "name",
)


@dataclass(frozen=True, slots=True)
class Used:
    """One job's last sample. received_per_s, sent_per_s: bytes, None for its first one."""

    job: "JobRow"
    sample: "UsageSample | None"
    received_per_s: int | None
    sent_per_s: int | None

    @classmethod
    def of(cls, job: "JobRow", samples: "tuple[UsageSample, ...]") -> "Used":
        if not samples:
            return cls(job, None, None, None)
        last = samples[-1]
        before = samples[-2] if len(samples) > 1 and samples[-2].attempt == last.attempt else None
        if before is None:
            return cls(job, last, None, None)
        between_ms = _milliseconds(last.at) - _milliseconds(before.at)
        if between_ms <= 0:
            return cls(job, last, None, None)
        received = max(0, last.received_bytes - before.received_bytes) * 1000 // between_ms
        sent = max(0, last.sent_bytes - before.sent_bytes) * 1000 // between_ms
        return cls(job, last, received, sent)


def show_top(output: Output, connection: Connection, limit: int, *, once: bool) -> None:
    """Until Ctrl-C on a terminal, once elsewhere."""
    if once or not output.terminal:
        used = run(output, lambda: with_client(connection, lambda client: _look(client, limit)))
        if output.as_json:
            output.json({"jobs": [_object(each) for each in used]})
        else:
            output.table(_COLUMNS, [_cells(each) for each in used], "no job runs now")
        return

    async def work(client: "ReaverClient") -> None:
        with output.live() as show:
            while True:
                used = await _look(client, limit)
                show(_COLUMNS, [_cells(each) for each in used], [])
                await asyncio.sleep(max(_EVERY_S, _EACH_S * len(used)))

    try:
        run(output, lambda: with_client(connection, work))
    except KeyboardInterrupt:
        output.note("the jobs run on")


async def _look(client: "ReaverClient", limit: int) -> list[Used]:
    from marketplace.client.client import JobFilter

    _, ahead_s = await client.visit()
    since = datetime.now(UTC) + timedelta(seconds=ahead_s or 0) - _BACK
    jobs = (await client.list_jobs(JobFilter(status=("running",)), limit=limit)).jobs
    return [Used.of(job, (await client.job_metrics(job.id, since=since)).samples) for job in jobs]


def _object(used: Used) -> dict[str, object]:
    return {
        "job_id": used.job.id,
        "name": used.job.name,
        "gpu": used.job.gpu,
        "used": None if used.sample is None else used.sample.model_dump(),
        "received_bytes_per_s": used.received_per_s,
        "sent_bytes_per_s": used.sent_per_s,
    }


def _cells(used: Used) -> tuple[str | None, ...]:
    sample, job = used.sample, used.job
    if sample is None:
        return (job.id, *(None for _ in _COLUMNS[1:-2]), job.gpu, job.name)
    return (
        job.id,
        None if sample.cpu_milli is None else thousandths(sample.cpu_milli),
        megabytes(sample.memory_bytes),
        *gpu_cells(sample),
        None if used.received_per_s is None else thousandths(used.received_per_s),
        None if used.sent_per_s is None else thousandths(used.sent_per_s),
        megabytes(sample.received_bytes),
        megabytes(sample.sent_bytes),
        job.gpu,
        job.name,
    )


def _milliseconds(at: str) -> int:
    return int(datetime.fromisoformat(at).timestamp() * 1000)
