"""Watching: jobs in a table that is drawn anew, with state, progress, cost so far and time left."""

import asyncio
import time
from datetime import datetime
from typing import TYPE_CHECKING, Final

from marketplace.cli.reaver.commands.following import settled, to_the_end
from marketplace.cli.reaver.output import Output
from marketplace.cli.reaver.session import Connection, run, with_client

if TYPE_CHECKING:
    from marketplace.client.client import JobFilter, ReaverClient
    from marketplace.client.models import Job, JobRow

_EVERY_S: Final = 2.0
"""Chosen: half of a wallet's 120 requests a minute are left for other commands; api.md section 3."""
_LIST_EVERY_S: Final = 3.0
_CELLS: Final = 10
_COLUMNS: Final = ("job", "status", "progress", "cost so far", "at most", "time left", "node")
_LIST_COLUMNS: Final = ("job", "status", "reason", "image", "node", "cost", "created")


def watch(output: Output, connection: Connection, job_id: str) -> "Job":
    """Show a job until it is over and settled; the job as it then is. Ctrl-C asks, as following does."""
    return to_the_end(output, connection, job_id, lambda client: _watched(output, client, job_id))


def watch_list(
    output: Output, connection: Connection, wanted: "JobFilter", limit: int | None, offset: int | None
) -> None:
    """Show a list of jobs until Ctrl-C."""

    async def work(client: "ReaverClient") -> None:
        seen: dict[str, str] = {}
        with output.live() as show:
            while True:
                found = await client.list_jobs(wanted, limit=limit, offset=offset)
                news = [f"{job.id} {job.status}" for job in found.jobs if seen.get(job.id) != job.status]
                seen |= {job.id: job.status for job in found.jobs}
                show(_LIST_COLUMNS, [_row(job) for job in found.jobs], news)
                await asyncio.sleep(_LIST_EVERY_S)

    try:
        run(output, lambda: with_client(connection, work))
    except KeyboardInterrupt:
        output.note("the jobs run on")


async def _watched(output: Output, client: "ReaverClient", job_id: str) -> "Job":
    said = ""
    with output.live() as show:
        while True:
            job = await client.get_job(job_id)
            line = f"{job.status} {job.progress} %" if job.status == "running" and job.progress else job.status
            cost = f", {job.cost} {job.currency} so far" if job.cost is not None else ""
            show(_COLUMNS, [job_cells(job, time.time())], [] if line == said else [f"{line}{cost}"])
            said = line
            if job.terminal:
                break
            await asyncio.sleep(_EVERY_S)
    return await settled(output, client, job_id)


def job_cells(job: "Job", now_s: float) -> tuple[str | None, ...]:
    """One job's cells under `_COLUMNS`. now_s: Unix seconds."""
    left = time_left_s(job, now_s)
    full = min(job.progress, 100) * _CELLS // 100
    return (
        job.id,
        job.status,
        f"{'█' * full}{'░' * (_CELLS - full)} {job.progress:3} %",
        None if job.cost is None else f"{job.cost} {job.currency}",
        None if job.settlement is None or job.settlement.deposit is None else job.settlement.deposit,
        None if left is None else _clock(left),
        job.node_id or _waits(job),
    )


def time_left_s(job: "Job", now_s: float) -> int | None:
    """Billed seconds left, None without a limit or after the end; never beyond the limit."""
    if job.timeout_seconds is None or job.terminal:
        return None
    used_s = 0.0
    for attempt in job.attempts:
        billed_s = attempt.billed_ms / 1000
        if attempt.ready_at is not None and attempt.ended_at is None:
            # Vouchers come seconds apart; between them the clock goes on.
            billed_s = max(billed_s, now_s - datetime.fromisoformat(attempt.ready_at).timestamp())
        used_s += billed_s
    return min(job.timeout_seconds, max(0, int(job.timeout_seconds - used_s)))


def _clock(seconds: int) -> str:
    hours, rest = divmod(seconds, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"


def _waits(job: "Job") -> str | None:
    if job.queue is None or job.status != "queued":
        return None
    return "waits: " + ("; ".join(because.constraint for because in job.queue.because) or "its turn")


def _row(job: "JobRow") -> tuple[str | None, ...]:
    return (job.id, job.status, job.reason, job.image, job.node_id, job.cost, job.created_at)
