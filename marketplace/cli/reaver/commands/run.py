"""`reaver run`: submit a job."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from marketplace.cli.reaver.commands.requests import (
    DiskGb,
    Environment,
    Gpu,
    GpuCount,
    InputText,
    JobFile,
    JobPriority,
    Labels,
    MaxMinutes,
    MaxPrice,
    ModelName,
    Name,
    NetworkName,
    Region,
    Secrets,
    job_request,
    needs_image,
)
from marketplace.cli.reaver.options import DEFAULT_API, ApiUrl, JsonFlag, KeypairFile, MarketAddress, Program, RpcUrl
from marketplace.cli.reaver.output import Output
from marketplace.cli.reaver.session import Connection, described, run, with_client

if TYPE_CHECKING:
    from marketplace.client.client import ReaverClient, Submission
    from marketplace.client.requests import JobRequest


def run_job(
    context: typer.Context,
    file: JobFile = None,
    image: Annotated[str | None, typer.Option("--image", help="Container image, by tag or digest.")] = None,
    gpu: Gpu = None,
    gpu_count: GpuCount = None,
    model: ModelName = None,
    region: Region = None,
    max_minutes: MaxMinutes = None,
    env: Environment = None,
    secret: Secrets = None,
    label: Labels = None,
    name: Name = None,
    priority: JobPriority = None,
    max_price_per_hour: MaxPrice = None,
    disk_gb: DiskGb = None,
    network: NetworkName = None,
    input_text: InputText = None,
    entrypoint: Annotated[str | None, typer.Option("--entrypoint", help="Replaces the image's entry point.")] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Print the log and end with the job's exit code.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Show state, progress, cost and time left until it is over.")
    ] = False,
    upload: Annotated[
        Path | None, typer.Option("--upload", metavar="PATH", help="Send this file; the job finds it in /inputs.")
    ] = None,
    download: Annotated[
        Path | None,
        typer.Option("--download", metavar="DIR", help="Wait for the end, and fetch what the job left, into DIR."),
    ] = None,
    array: Annotated[
        int | None, typer.Option("--array", min=1, max=1000, help="Order so many jobs of it, as a group.")
    ] = None,
    array_inputs: Annotated[
        Path | None, typer.Option("--array-inputs", metavar="FILE", help="Or one job for each line: its input.")
    ] = None,
    after: Annotated[
        list[str] | None, typer.Option("--after", metavar="ID", help="Of a group: a job or group to complete first.")
    ] = None,
    local: Annotated[
        bool, typer.Option("--local", help="Run it on this machine: same sandbox, no market, no escrow, no account.")
    ] = False,
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- CMD…]", help="Command instead of the image's own.", show_default=False),
    ] = None,
    api: ApiUrl = DEFAULT_API,
    keypair: KeypairFile = None,
    rpc: RpcUrl = None,
    program: Program = None,
    market: MarketAddress = None,
    as_json: JsonFlag = False,
) -> None:
    """Submit a container job, paid by the second.

    \b
    A quote is taken and shown first; its price is the ceiling. With an allowance
    (reaver allow grant) the market opens the escrow; without one you sign it here, after
    reaver has checked that it locks what was quoted, for this job, and does nothing else.
    Pulling the image is free. What the job doesn't use comes back when it ends.

    \b
      reaver run --image alpine --gpu cpu-small --max-minutes 5 --follow -- echo hello
      reaver run --image docker.io/myorg/job:latest --gpu h100 --region na --max-minutes 60
      reaver run --image myorg/train --gpu a100 --env EPOCHS=3 --max-price-per-hour 2.50
      reaver run --model gpt2 --input "Once upon a time" --follow
      reaver run --file job.yaml --max-minutes 30 --watch
      reaver run --file job.yaml --array 100
      reaver run --file job.yaml --upload data.csv --download results
      reaver run --file job.yaml --local --upload data.csv --download results

    \b
    --local takes the image that lies on this machine under that name, else pulls it, and
    follows it to its end. Ctrl-C stops it; nothing of it is left. What only a market
    gives effect to (a price, a region, nodes, …) is refused by name.

    \b
    Interrupted before an answer (a lost connection, Ctrl-C)? Give the same command again:
    it completes the same submission and pays once.
    With --follow or --watch, Ctrl-C asks: detach, cancel, or go on.
    """
    from marketplace.cli.reaver.commands.following import ending, show_end
    from marketplace.cli.reaver.commands.following import follow as follow_job
    from marketplace.cli.reaver.commands.groups import submit_group
    from marketplace.cli.reaver.commands.local import run_here
    from marketplace.cli.reaver.commands.outputs import fetch, free_folder, given_input, uploaded
    from marketplace.cli.reaver.commands.watching import watch as watch_job

    many = array is not None or array_inputs is not None
    _refuse_together(follow=follow, watch=watch, download=download is not None, many=many, after=bool(after))
    output = Output(as_json=as_json)
    connection = Connection(api, keypair, rpc, program, market)
    request = described(
        output,
        lambda: job_request(
            file=file,
            image=image,
            model=model,
            given_input=input_text,
            network=network,
            gpu=gpu,
            gpu_count=gpu_count,
            region=region,
            max_minutes=max_minutes,
            environment=env,
            secrets=secret,
            labels=label,
            name=name,
            priority=priority,
            max_price_per_hour=max_price_per_hour,
            disk_gb=disk_gb,
            entrypoint=entrypoint,
            command=command,
        ),
    )
    needs_image(request)
    if download is not None:
        free_folder(download)
    if local:
        _refuse_of_a_market(context)
        given_input(request, upload)
        run_here(output, request, upload, download)
    if upload is not None:
        request = uploaded(output, connection, request, upload)
    if many:
        submit_group(output, connection, request, array, array_inputs, after)
        return
    try:
        submission = run(output, lambda: with_client(connection, lambda client: _submit(output, client, request)))
    except KeyboardInterrupt:
        from marketplace.cli.reaver.exits import Exit

        output.note("interrupted; give the same command again to complete this submission, it pays once")
        raise typer.Exit(int(Exit.INTERRUPTED)) from None
    job = submission.job
    if not (follow or watch or download):
        if as_json:
            output.json(job.model_dump(by_alias=True) | {"resumed": submission.resumed, "signed": submission.signed})
        else:
            _show(output, submission)
        return
    output.note(f"job {job.id} {job.status}")
    ended = (follow_job if follow else watch_job)(output, connection, job.id)
    if download is not None:
        fetch(output, connection, job.id, download)
    show_end(output, ended)
    raise ending(ended)


def _refuse_together(*, follow: bool, watch: bool, download: bool, many: bool, after: bool) -> None:
    """Raise typer.BadParameter for options that would be without effect beside each other."""
    if follow and watch:
        raise typer.BadParameter("give one of --follow and --watch", param_hint="--watch")
    if many and (follow or watch or download):
        raise typer.BadParameter("goes without --follow, --watch and --download", param_hint="--array")
    if after and not many:
        raise typer.BadParameter("goes with --array or --array-inputs", param_hint="--after")


_OF_A_MARKET: Final = ("watch", "array", "array_inputs", "after", "api", "keypair", "rpc", "program", "market")


def _refuse_of_a_market(context: typer.Context) -> None:
    """Raise typer.BadParameter for options that a run on this machine has no use for."""
    for name in _OF_A_MARKET:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter("has no effect on a run on this machine", param_hint=f"--{name.replace('_', '-')}")


async def _submit(output: Output, client: "ReaverClient", request: "JobRequest") -> "Submission":
    quote = await client.quote(request)
    currency = quote.currency
    if quote.price_per_hour is not None:
        output.note(
            f"{quote.price_per_hour} {currency} an hour at most, {quote.max_total} {currency} locked until the end"
            + ("" if quote.match else "; no node is free now, the job will wait")
        )
    with output.working("submitting"):
        submission = await client.submit_job(request, quote)
    if submission.resumed:
        output.note("an earlier submission of this command was completed; nothing was paid twice")
    return submission


def _show(output: Output, submission: "Submission") -> None:
    job = submission.job
    output.fields(
        f"Job {job.id}",
        [
            ("status", job.status),
            ("at most", None if job.max_cost is None else f"{job.max_cost} {job.currency}"),
            ("escrow", job.escrow),
            ("transaction", job.transaction),
        ],
    )
    output.note(f"`reaver jobs follow {job.id}` shows its log")
