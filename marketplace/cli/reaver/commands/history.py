"""`reaver history` and `reaver costs`: what ran, and what it cost."""

from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Final

import typer

from marketplace.cli.reaver.commands.requests import label_filter
from marketplace.cli.reaver.commands.views import show_jobs
from marketplace.cli.reaver.options import DEFAULT_API, ApiUrl, JsonFlag, KeypairFile
from marketplace.cli.reaver.output import Output
from marketplace.cli.reaver.session import Connection, run, with_client

if TYPE_CHECKING:
    from marketplace.client.account_models import Usage

First = Annotated[str | None, typer.Option("--from", metavar="DAY", help="First UTC day, such as 2026-02-01.")]
Last = Annotated[str | None, typer.Option("--to", metavar="DAY", help="Last UTC day, included.  [default: today]")]
_BAR: Final = 30
"""Cells of the longest bar; chosen: a day, a bar and its figures fit 80 columns."""


def history(
    first: First = None,
    last: Last = None,
    status: Annotated[str | None, typer.Option("--status", help="Only these: completed,failed,…")] = None,
    gpu: Annotated[str | None, typer.Option("--gpu", metavar="CLASS", help="Only of this class.")] = None,
    label: Annotated[str | None, typer.Option("--label", metavar="K=V", help="Only with this label.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, max=100, help="How many.  [default: 20]")] = None,
    offset: Annotated[int | None, typer.Option("--offset", min=0, help="Leave out the first n.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="All of them, as CSV.")] = False,
    api: ApiUrl = DEFAULT_API,
    keypair: KeypairFile = None,
    as_json: JsonFlag = False,
) -> None:
    """List the jobs that have ended, by when they did; without dates those of the last 30 days.

    \b
      reaver history --from 2026-02-01 --to 2026-02-28
      reaver history --status failed,timed_out
      reaver history --from 2026-01-01 --to 2026-12-31 --csv > jobs.csv
    """
    if as_csv and (as_json or limit is not None or offset is not None):
        raise typer.BadParameter("goes without --json, --limit and --offset", param_hint="--csv")
    from marketplace.client.client import JobFilter

    output = Output(as_json=as_json)
    connection = Connection(api, keypair)
    words = tuple(word.strip() for word in status.split(",")) if status else ()
    wanted = JobFilter(words, gpu, label_filter(label))
    if as_csv:
        table = run(output, lambda: with_client(connection, lambda c: c.job_history_csv(first, last, wanted)))
        typer.echo(table.decode("utf-8", "replace"), nl=False)
        return
    found = run(
        output,
        lambda: with_client(connection, lambda c: c.job_history(first, last, wanted, limit=limit, offset=offset)),
    )
    if as_json:
        output.json(found.model_dump(by_alias=True))
        return
    show_jobs(output, found.jobs, "no job ended then")
    if found.has_more:
        output.note(f"{len(found.jobs)} of {found.total}; more with --offset {(offset or 0) + len(found.jobs)}")


def costs(
    first: First = None,
    last: Last = None,
    by: Annotated[str, typer.Option("--by", help="day, job, node, gpu, consumer or kind.")] = "day",
    api: ApiUrl = DEFAULT_API,
    keypair: KeypairFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what settled jobs cost, as bars on a terminal; without dates the last 30 days.

    \b
      reaver costs
      reaver costs --by gpu --from 2026-02-01 --to 2026-02-28
      reaver costs --by consumer --json
    """
    output = Output(as_json=as_json)
    connection = Connection(api, keypair)
    found = run(output, lambda: with_client(connection, lambda c: c.usage(by, first, last, limit=100)))
    if as_json:
        output.json(found.model_dump(by_alias=True))
    else:
        _show(output, found)


def _show(output: Output, found: "Usage") -> None:
    most = max((Decimal(entry.paid) for entry in found.usage), default=Decimal(0))
    bars = [bar(Decimal(entry.paid), most) for entry in found.usage]
    columns: tuple[str, ...] = (found.group_by, "jobs", "GPU seconds", f"paid ({found.currency})")
    rows: list[tuple[str | None, ...]] = [(e.group, str(e.jobs), e.gpu_seconds, e.paid) for e in found.usage]
    if output.terminal:
        columns = (*columns, "")
        rows = [(*row, cells) for row, cells in zip(rows, bars, strict=True)]
    output.table(columns, rows, "nothing was settled then")
    if found.usage:
        output.line(f"total {found.sums.paid} {found.currency} for {found.sums.jobs} jobs")
    if found.has_more:
        output.note(f"{len(found.usage)} of {found.total} groups; the total is of all. Narrow the dates to see more")


def bar(value: Decimal, most: Decimal) -> str:
    """A bar of eighths of a cell, as long as the value's part of the most; what is not zero shows at least one."""
    if most <= 0 or value <= 0:
        return ""
    eighths = max(1, int(value * _BAR * 8 / most))
    whole, part = divmod(eighths, 8)
    return "█" * whole + ("" if part == 0 else "▏▎▍▌▋▊▉"[part - 1])
