"""Following a job: its log, its end, and what Ctrl-C means meanwhile."""

import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import typer

from marketplace.cli.reaver.commands.views import show_job
from marketplace.cli.reaver.exits import Exit
from marketplace.cli.reaver.output import Output
from marketplace.cli.reaver.session import Connection, run, with_client

if TYPE_CHECKING:
    from marketplace.client.client import ReaverClient
    from marketplace.client.models import Job
    from marketplace.client.streams import FollowState


def follow(output: Output, connection: Connection, job_id: str) -> "Job":
    """Print the log until the job is over and settled; the job as it then is. Ctrl-C: see `to_the_end`."""
    from marketplace.client.streams import FollowState

    state = FollowState()
    return to_the_end(output, connection, job_id, lambda client: _to_the_end(output, client, job_id, state))


def to_the_end(
    output: Output, connection: Connection, job_id: str, work: "Callable[[ReaverClient], Awaitable[Job]]"
) -> "Job":
    """The job as `work` leaves it.

    Ctrl-C asks whether to detach (the job runs on), to cancel (it is ended and settled), or to go on. Without a
    terminal to ask on, it detaches.
    """
    while True:
        try:
            return run(output, lambda: with_client(connection, work))
        except KeyboardInterrupt:
            _ask(output, connection, job_id)


def finish(output: Output, job: "Job") -> None:
    """Show how the job ended, and end with its own exit code."""
    show_end(output, job)
    raise ending(job)


def show_end(output: Output, job: "Job") -> None:
    """How the job ended."""
    if output.as_json:
        output.json(job.model_dump(by_alias=True))
    else:
        show_job(output, job)


def ending(job: "Job") -> typer.Exit:
    """The job's own exit code, where it has one."""
    if job.exit_code is not None and not (job.exit_code == 0 and job.status != "completed"):
        return typer.Exit(job.exit_code)
    return typer.Exit(int(Exit.DONE if job.status == "completed" else Exit.NO_EXIT_CODE))


async def _to_the_end(output: Output, client: "ReaverClient", job_id: str, state: "FollowState") -> "Job":
    from marketplace.client.models import LogLine

    said: set[str] = set()

    def tell(job: "Job") -> None:
        if job.status in {"queued", "assigned"} and job.status not in said:
            said.add(job.status)
            output.note(_progress(job))

    job = await client.get_job(job_id)
    tell(job)
    async for item in client.follow_job(job_id, state):
        if isinstance(item, LogLine):
            output.raw(item.line)
    return await settled(output, client, job_id)


async def settled(output: Output, client: "ReaverClient", job_id: str) -> "Job":
    """The job once its money is final, which is a moment after its end."""
    from marketplace.client.errors import NotConfirmed

    try:
        return await client.wait_for_job(job_id, settled=True, timeout_s=60)
    except NotConfirmed:
        job = await client.get_job(job_id)
        if not job.terminal:
            raise
        output.note("the job is over, its settlement is still on its way; look again with `reaver jobs get`")
        return job


def _progress(job: "Job") -> str:
    if job.status == "assigned":
        return f"node {job.node_id} took the job; pulling the image (not billed)"
    because = "; ".join(b.constraint for b in job.queue.because) if job.queue else ""
    return "waiting for a node" + (f" ({because})" if because else "")


def _ask(output: Output, connection: Connection, job_id: str) -> None:
    """Detach ends the process here; cancel and go on return, and the follow goes on to the end."""
    detached = f"detached; the job runs on. `reaver jobs follow {job_id}` or `reaver jobs cancel {job_id}`"
    if not sys.stdin.isatty():
        output.note(detached)
        raise typer.Exit(int(Exit.INTERRUPTED))
    sys.stderr.write("\n")
    try:
        answer = typer.prompt("[d]etach (the job runs on), [c]ancel the job, or [g]o on?", default="d", err=True)
    except (typer.Abort, KeyboardInterrupt):
        answer = "d"
    match answer.strip().lower()[:1]:
        case "c":
            run(output, lambda: with_client(connection, lambda client: client.cancel_job(job_id)))
            output.note("cancelling; what was used is paid, the rest comes back")
        case "g":
            return
        case _:
            output.note(detached)
            raise typer.Exit(int(Exit.INTERRUPTED))
