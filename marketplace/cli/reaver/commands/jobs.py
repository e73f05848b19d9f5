"""`reaver jobs`: list, inspect, follow, cancel."""

from typing import Annotated

import typer

from marketplace.cli.reaver.commands.views import show_job, show_jobs
from marketplace.cli.reaver.options import DEFAULT_API, ApiUrl, JsonFlag, KeypairFile, refuse_misplaced
from marketplace.cli.reaver.output import Output
from marketplace.cli.reaver.session import Connection, run, with_client

JobId = Annotated[str, typer.Argument(metavar="JOB", help="Id of the job, such as job_…", show_default=False)]

app = typer.Typer(
    help="""List, inspect and follow jobs. Alone: the newest ones.

    \b
      reaver jobs
      reaver jobs --status running,queued
      reaver jobs get JOB
      reaver jobs follow JOB
    """,
    invoke_without_command=True,
    rich_markup_mode=None,
)


@app.callback()
def list_jobs(
    context: typer.Context,
    status: Annotated[str | None, typer.Option("--status", help="Only these: queued,running,completed,…")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, max=100, help="How many.  [default: 20]")] = None,
    offset: Annotated[int | None, typer.Option("--offset", min=0, help="Leave out the newest n.")] = None,
    api: ApiUrl = DEFAULT_API,
    keypair: KeypairFile = None,
    as_json: JsonFlag = False,
) -> None:
    """List jobs, newest first."""
    if context.invoked_subcommand is not None:
        refuse_misplaced(context)
        return
    output = Output(as_json=as_json)
    connection = Connection(api, keypair)
    wanted = tuple(word.strip() for word in status.split(",")) if status else ()
    found = run(
        output,
        lambda: with_client(connection, lambda c: c.list_jobs(status=wanted, limit=limit, offset=offset)),
    )
    if as_json:
        output.json(found.model_dump(by_alias=True))
        return
    show_jobs(output, found.jobs)
    if found.has_more:
        output.note(f"{len(found.jobs)} of {found.total}; more with --offset {(offset or 0) + len(found.jobs)}")


@app.command("get")
def get_job(job: JobId, api: ApiUrl = DEFAULT_API, keypair: KeypairFile = None, as_json: JsonFlag = False) -> None:
    """Show one job: how it went, and where the money went."""
    output = Output(as_json=as_json)
    connection = Connection(api, keypair)
    found = run(output, lambda: with_client(connection, lambda client: client.get_job(job)))
    if as_json:
        output.json(found.model_dump(by_alias=True))
    else:
        show_job(output, found)


@app.command("logs")
def job_logs(
    job: JobId,
    stream: Annotated[str, typer.Option("--stream", help="all, stdout or stderr.")] = "all",
    tail: Annotated[int | None, typer.Option("--tail", min=1, max=10_000, help="Only the last n lines.")] = None,
    api: ApiUrl = DEFAULT_API,
    keypair: KeypairFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Print the log so far."""
    output = Output(as_json=as_json)
    connection = Connection(api, keypair)
    raw = run(output, lambda: with_client(connection, lambda c: c.job_log(job, stream=stream, tail=tail)))
    lines = raw.decode("utf-8", "replace").splitlines()
    if as_json:
        output.json({"job_id": job, "lines": lines})
        return
    for line in lines:
        output.raw(line)


@app.command("follow")
def follow_job(job: JobId, api: ApiUrl = DEFAULT_API, keypair: KeypairFile = None, as_json: JsonFlag = False) -> None:
    """Print the log as it is written, and end with the job's exit code.

    \b
    A broken connection is taken up again without gap or repetition.
    Ctrl-C asks: detach (the job runs on), cancel it, or go on.
    With --json the log goes to standard error and the finished job to standard output.
    """
    from marketplace.cli.reaver.commands.following import finish, follow

    output = Output(as_json=as_json)
    finish(output, follow(output, Connection(api, keypair), job))


@app.command("cancel")
def cancel_job(job: JobId, api: ApiUrl = DEFAULT_API, keypair: KeypairFile = None, as_json: JsonFlag = False) -> None:
    """End a job. What it used is paid; the rest comes back. A queued one costs nothing."""
    output = Output(as_json=as_json)
    connection = Connection(api, keypair)
    found = run(output, lambda: with_client(connection, lambda client: client.cancel_job(job)))
    if as_json:
        output.json(found.model_dump(by_alias=True))
    else:
        output.line(f"Job {found.id} is {found.status}")


@app.command("receipt")
def job_receipt(
    job: JobId,
    file: Annotated[str | None, typer.Option("--output", "-o", metavar="FILE", help="Write it to a file.")] = None,
    api: ApiUrl = DEFAULT_API,
    keypair: KeypairFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Fetch the receipt of a settled job, as JSON.

    \b
      reaver jobs receipt JOB -o receipt.json && reaver receipt verify receipt.json
    """
    from pathlib import Path

    from marketplace.cli.reaver.output import exact_json

    output = Output(as_json=as_json)
    connection = Connection(api, keypair)
    found = run(output, lambda: with_client(connection, lambda client: client.receipt(job)))
    if file is None:
        output.json(found)
        return
    try:
        Path(file).write_text(exact_json(found) + "\n", encoding="utf-8")
    except OSError as error:
        raise typer.BadParameter(f"{file} can't be written: {error.strerror}", param_hint="--output") from error
    if as_json:
        output.json({"job_id": job, "file": file})
    else:
        output.line(f"Receipt written to {file}")
        output.note(f"`reaver receipt verify {file}` checks it")
