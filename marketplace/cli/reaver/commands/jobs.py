"""`reaver jobs`: list, inspect, follow, steer."""

from pathlib import Path
from typing import Annotated

import typer

from marketplace.cli.reaver.commands.events import After, Follow, Limit, follow_feed, refuse_limit, show_events
from marketplace.cli.reaver.commands.requests import label_filter
from marketplace.cli.reaver.commands.views import gpu_cells, megabytes, show_job, show_jobs, thousandths
from marketplace.cli.reaver.options import DEFAULT_API, ApiUrl, JsonFlag, KeypairFile, refuse_misplaced
from marketplace.cli.reaver.output import Output
from marketplace.cli.reaver.session import Connection, run, with_client

JobId = Annotated[str, typer.Argument(metavar="JOB", help="Id of the job, such as job_…", show_default=False)]

app = typer.Typer(
    help="""List, inspect and follow jobs. Alone: the newest ones.

    \b
      reaver jobs
      reaver jobs --status running,queued --gpu a100 --label team=vision
      reaver jobs get JOB
      reaver jobs follow JOB
      reaver jobs extend JOB 3600
      reaver jobs retry JOB
      reaver jobs exec JOB -- sh
      reaver jobs top
    """,
    invoke_without_command=True,
    rich_markup_mode=None,
)


@app.callback()
def list_jobs(
    context: typer.Context,
    status: Annotated[str | None, typer.Option("--status", help="Only these: queued,running,completed,…")] = None,
    gpu: Annotated[str | None, typer.Option("--gpu", metavar="CLASS", help="Only of this class.")] = None,
    label: Annotated[str | None, typer.Option("--label", metavar="K=V", help="Only with this label.")] = None,
    consumer: Annotated[str | None, typer.Option("--consumer", metavar="ID", help="Only for this consumer.")] = None,
    model: Annotated[str | None, typer.Option("--model", metavar="NAME", help="Only of this model.")] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Draw it anew until Ctrl-C.")] = False,
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
    from marketplace.client.client import JobFilter

    output = Output(as_json=as_json)
    connection = Connection(api, keypair)
    words = tuple(word.strip() for word in status.split(",")) if status else ()
    wanted = JobFilter(words, gpu, label_filter(label), consumer, model)
    if watch:
        from marketplace.cli.reaver.commands.watching import watch_list

        if as_json:
            raise typer.BadParameter(
                "goes without --json; `reaver jobs watch JOB --json` ends with one", param_hint="--watch"
            )
        watch_list(output, connection, wanted, limit, offset)
        return
    found = run(
        output,
        lambda: with_client(connection, lambda c: c.list_jobs(wanted, limit=limit, offset=offset)),
    )
    if as_json:
        output.json(found.model_dump(by_alias=True))
        return
    if wanted != JobFilter():
        show_jobs(output, found.jobs, "no job is like that; `reaver jobs` lists all of them")
    elif found.total:
        show_jobs(output, found.jobs, f"there are only {found.total}")
    else:
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
    attempt: Annotated[int | None, typer.Option("--attempt", min=1, help="Only of this attempt, from 1.")] = None,
    following: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the job is over: jobs follow.")
    ] = False,
    api: ApiUrl = DEFAULT_API,
    keypair: KeypairFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Print the log so far; with --follow as it is written."""
    if following:
        if stream != "all" or tail is not None or attempt is not None:
            raise typer.BadParameter("what is followed is the whole log; leave the others out", param_hint="--follow")
        follow_job(job, api=api, keypair=keypair, as_json=as_json)
    output = Output(as_json=as_json)
    connection = Connection(api, keypair)
    raw = run(
        output, lambda: with_client(connection, lambda c: c.job_log(job, stream=stream, tail=tail, attempt=attempt))
    )
    # Not splitlines(), which also breaks at what a progress bar writes.
    lines = raw.decode("utf-8", "replace").removesuffix("\n").split("\n") if raw else []
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


@app.command("watch")
def watch_job(job: JobId, api: ApiUrl = DEFAULT_API, keypair: KeypairFile = None, as_json: JsonFlag = False) -> None:
    """Show state, progress, cost so far and time left until the job is over; end with its exit code.

    \b
      reaver jobs watch JOB
    """
    from marketplace.cli.reaver.commands.following import finish
    from marketplace.cli.reaver.commands.watching import watch

    output = Output(as_json=as_json)
    finish(output, watch(output, Connection(api, keypair), job))


@app.command("download")
def download(
    job: JobId,
    to: Annotated[Path | None, typer.Option("--output", "-o", metavar="DIR", help="Where to.  [default: JOB]")] = None,
    api: ApiUrl = DEFAULT_API,
    keypair: KeypairFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Fetch what a job left in /outputs, into an empty folder. Each file's digest is checked.

    \b
      reaver jobs download JOB -o results
    """
    from marketplace.cli.reaver.commands.outputs import fetch, free_folder

    output = Output(as_json=as_json)
    folder = to or Path(job)
    free_folder(folder)
    number = fetch(output, Connection(api, keypair), job, folder)
    if as_json:
        output.json({"job_id": job, "folder": str(folder), "files": number})


@app.command("retry")
def retry_job(
    job: JobId,
    priority: Annotated[str | None, typer.Option("--priority", help="low, normal, high, urgent.")] = None,
    seconds: Annotated[int | None, typer.Option("--timeout-seconds", min=1, max=86_400, help="Its time.")] = None,
    max_price_per_hour: Annotated[
        str | None, typer.Option("--max-price-per-hour", metavar="AMOUNT", help="Highest price per hour, in tokens.")
    ] = None,
    api: ApiUrl = DEFAULT_API,
    keypair: KeypairFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Run an ended job once more, as a new one at today's price, paid inside your allowance.

    \b
      reaver jobs retry JOB
      reaver jobs retry JOB --timeout-seconds 7200 --priority high
    """
    output = Output(as_json=as_json)
    connection = Connection(api, keypair)
    made = run(
        output,
        lambda: with_client(
            connection,
            lambda c: c.retry_job(
                job, priority=priority, timeout_seconds=seconds, max_price_per_hour=max_price_per_hour
            ),
        ),
    )
    if as_json:
        output.json(made.model_dump(by_alias=True))
        return
    output.line(f"Job {made.id} is {made.status}; it repeats {job}")
    output.note(f"`reaver jobs follow {made.id}` shows its log")


@app.command("extend")
def extend_job(
    job: JobId,
    seconds: Annotated[int, typer.Argument(metavar="SECONDS", min=1, help="More time.", show_default=False)],
    api: ApiUrl = DEFAULT_API,
    keypair: KeypairFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Give a job more time; a paused one goes on. What it doesn't use comes back.

    Paid inside your allowance, or by your wallet's signature where that opened the job's escrow.

    \b
      reaver jobs extend JOB 3600
    """
    output = Output(as_json=as_json)
    connection = Connection(api, keypair)
    found = run(output, lambda: with_client(connection, lambda c: c.extend_job(job, seconds)))
    if as_json:
        output.json(found.model_dump(by_alias=True))
    else:
        output.line(f"Job {found.id} has {seconds} s more")


@app.command("events")
def job_events(
    job: JobId,
    after: After = None,
    limit: Limit = None,
    follow: Follow = False,
    api: ApiUrl = DEFAULT_API,
    keypair: KeypairFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what happened to a job, oldest first. With --follow until it is over.

    \b
      reaver jobs events JOB
      reaver jobs events JOB --follow
      reaver jobs events JOB --json --after 1250
    """
    output = Output(as_json=as_json)
    connection = Connection(api, keypair)
    if follow:
        refuse_limit(limit)
        follow_feed(output, connection, lambda client, state: client.follow_job_events(job, after=after, state=state))
        return
    show_events(
        output, run(output, lambda: with_client(connection, lambda c: c.job_events(job, after=after, limit=limit)))
    )


@app.command("placement")
def job_placement(
    job: JobId, api: ApiUrl = DEFAULT_API, keypair: KeypairFile = None, as_json: JsonFlag = False
) -> None:
    """Show why a job went to its node: who was in the draw, and what kept the others out.

    \b
      reaver jobs placement JOB
    """
    output = Output(as_json=as_json)
    connection = Connection(api, keypair)
    found = run(output, lambda: with_client(connection, lambda client: client.figures.placement(job)))
    if as_json:
        output.json(found.model_dump(by_alias=True))
        return
    output.table(
        ("attempt", "node", "floor an hour", "reputation", "image there", "weight", "chosen"),
        [
            (
                str(p.attempt),
                c.node_id,
                c.floor_per_hour,
                c.reputation,
                "yes" if c.image_present else None,
                str(c.weight),
                "yes" if c.chosen else None,
            )
            for p in found.placements
            for c in p.candidates
        ],
        "no node took it yet; `reaver jobs get` says what it waits for",
    )
    for placement in found.placements:
        for out in placement.exclusions:
            output.note(f"attempt {placement.attempt}: {out.nodes} nodes kept out by {out.because}")


@app.command("exec")
def exec_job(
    job: JobId,
    command: Annotated[list[str], typer.Argument(metavar="-- CMD…", help="What to run there.", show_default=False)],
    tty: Annotated[
        bool | None,
        typer.Option("--tty/--no-tty", "-t/-T", help="A terminal for it.  [default: where both ends here are one]"),
    ] = None,
    api: ApiUrl = DEFAULT_API,
    keypair: KeypairFile = None,
) -> None:
    """Run a command beside a running job, in its container; ends with the command's own exit code.

    \b
    On a terminal every key goes to it, Ctrl-C too; Ctrl-] leaves. In a pipe standard input
    goes in and both streams come out, unchanged. It costs nothing of its own and is no end
    of the job; what it leaves running ends with the job.

    \b
      reaver jobs exec JOB -- sh
      reaver jobs exec JOB -- cat /outputs/model.bin > model.bin
      tar c data | reaver jobs exec JOB -- tar x -C /scratch
    """
    from marketplace.cli.reaver.commands.remote import run_beside

    run_beside(Output(as_json=False), Connection(api, keypair), job, tuple(command), tty=tty)


@app.command("top")
def top_jobs(
    once: Annotated[bool, typer.Option("--once", help="Show it once, instead of until Ctrl-C.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100, help="How many jobs, the newest first.")] = 20,
    api: ApiUrl = DEFAULT_API,
    keypair: KeypairFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what running jobs use, drawn anew until Ctrl-C. With --json, or in a pipe, once.

    \b
    Processors, memory and network as each job's node measured them with its last heartbeat;
    a rate is over the time between its last two.

    \b
      reaver jobs top
      reaver jobs top --json
    """
    from marketplace.cli.reaver.commands.top import show_top

    show_top(Output(as_json=as_json), Connection(api, keypair), limit, once=once)


@app.command("metrics")
def job_metrics(job: JobId, api: ApiUrl = DEFAULT_API, keypair: KeypairFile = None, as_json: JsonFlag = False) -> None:
    """Show what a job used over time: processors, memory, GPUs where its node measures them, network.

    \b
      reaver jobs metrics JOB
      reaver jobs metrics JOB --json
    """
    output = Output(as_json=as_json)
    connection = Connection(api, keypair)
    found = run(output, lambda: with_client(connection, lambda c: c.job_metrics(job)))
    if as_json:
        output.json(found.model_dump(by_alias=True))
        return
    output.table(
        ("at", "attempt", "cores", "memory MB", "GPU %", "GPU MB", "received MB", "sent MB"),
        [
            (
                s.at,
                str(s.attempt),
                None if s.cpu_milli is None else thousandths(s.cpu_milli),
                megabytes(s.memory_bytes),
                *gpu_cells(s),
                megabytes(s.received_bytes),
                megabytes(s.sent_bytes),
            )
            for s in found.samples
        ],
        "nothing measured yet; nodes report with each heartbeat",
    )
