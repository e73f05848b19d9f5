"""`reaver quote`: what a job would cost, and whether a node could take it now."""

from typing import TYPE_CHECKING, Annotated

import typer

from marketplace.cli.reaver.commands.requests import (
    DiskGb,
    Environment,
    Gpu,
    GpuCount,
    JobFile,
    JobPriority,
    MaxMinutes,
    MaxPrice,
    ModelName,
    Region,
    job_request,
)
from marketplace.cli.reaver.options import DEFAULT_API, ApiUrl, JsonFlag, KeypairFile
from marketplace.cli.reaver.output import Output, Style
from marketplace.cli.reaver.session import Connection, described, run, with_client

if TYPE_CHECKING:
    from marketplace.client.models import Quote


def quote(
    file: JobFile = None,
    gpu: Gpu = None,
    gpu_count: GpuCount = None,
    image: Annotated[str | None, typer.Option("--image", help="Container image.")] = None,
    model: ModelName = None,
    region: Region = None,
    max_minutes: MaxMinutes = None,
    env: Environment = None,
    priority: JobPriority = None,
    max_price_per_hour: MaxPrice = None,
    disk_gb: DiskGb = None,
    command: Annotated[list[str] | None, typer.Argument(metavar="[-- CMD…]", show_default=False)] = None,
    api: ApiUrl = DEFAULT_API,
    keypair: KeypairFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Show the firm price of a job. Nothing is spent or reserved.

    \b
    The quoted price is a ceiling that the chain enforces: the job may cost less, never more.
    Where no node matches, the reasons and the smallest change that would help are shown.

    \b
      reaver quote --gpu h100 --region na --max-minutes 60
      reaver quote --gpu cpu-small --max-price-per-hour 0.05
      reaver quote --file job.yaml
    """
    output = Output(as_json=as_json)
    connection = Connection(api, keypair)
    request = described(
        output,
        lambda: job_request(
            file=file,
            image=image,
            model=model,
            gpu=gpu,
            gpu_count=gpu_count,
            region=region,
            max_minutes=max_minutes,
            environment=env,
            priority=priority,
            max_price_per_hour=max_price_per_hour,
            disk_gb=disk_gb,
            command=command,
        ),
    )
    found = run(output, lambda: with_client(connection, lambda client: client.quote(request)))
    if as_json:
        output.json(found.model_dump(by_alias=True))
    else:
        show_quote(output, found)


def show_quote(output: Output, found: "Quote") -> None:
    """A quote for a person."""
    currency = found.currency
    fees = found.fees
    costs = found.chain_costs
    output.fields(
        f"Quote {found.id}",
        [
            ("class", found.class_ + (f" x {found.gpu_count}" if found.gpu_count > 1 else "")),
            ("region", ", ".join(found.regions) or "any"),
            (
                "price",
                "none: nobody offers this yet"
                if found.price_per_hour is None
                else f"{found.price_per_hour} {currency} an hour, fees included",
            ),
            (
                "at most",
                None
                if found.max_total is None
                else f"{found.max_total} {currency} for {_duration(found.max_seconds)}; the unused part comes back",
            ),
            ("expected", None if found.expected_cost is None else f"{found.expected_cost} {currency}"),
            (
                "fees",
                None
                if fees is None
                else f"{_percent(fees.market_bps)} market, {_percent(fees.protocol_bps)} protocol (inside the price)",
            ),
            (
                "chain",
                None
                if costs is None
                else f"{costs.signatures} signatures, {costs.lamports_fees} lamports, paid by the {costs.paid_by}",
            ),
            ("nodes now", str(found.nodes_now)),
            ("firm until", found.expires_at),
        ],
    )
    if found.match:
        return
    output.line("No node can take it now; a job would wait in the queue.", Style.BUSY)
    for because in found.because:
        best = "" if because.best is None else f", best on offer {because.best}"
        output.line(f"  {because.constraint}: wanted {because.wanted}{best} ({because.nodes_excluded} nodes)")
    if found.nearest is not None:
        changes = ", ".join(f"{name} = {value}" for name, value in found.nearest.change.items())
        output.line(f"  nearest change that would match: {changes} ({found.nearest.nodes_then} nodes)")


def _duration(seconds: int) -> str:
    return f"{seconds // 60} min" if seconds % 60 == 0 else f"{seconds} s"


def _percent(bps: int) -> str:
    whole, part = divmod(bps, 100)
    return f"{whole}.{part:02d} %" if part else f"{whole} %"
