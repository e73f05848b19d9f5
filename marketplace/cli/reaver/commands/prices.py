"""`reaver prices`, `reaver gpu-types`: what there is, what it costs, and what it has cost."""

from collections import defaultdict
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Final

import typer

from marketplace.cli.reaver.options import DEFAULT_API, ApiUrl, JsonFlag, KeypairFile
from marketplace.cli.reaver.output import Output
from marketplace.cli.reaver.session import Connection, run, with_client

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from marketplace.client.client import ReaverClient
    from marketplace.client.figure_models import PriceDay, PriceList

_PAGE: Final = 100
_MAX_PAGES: Final = 20
"""Chosen: a month of every class in every region; well inside a minute's requests."""
_LEVELS: Final = "▁▂▃▄▅▆▇█"
_NOTHING: Final = "·"


def prices(
    gpu: Annotated[str | None, typer.Option("--gpu", metavar="CLASS", help="Only this class.")] = None,
    region: Annotated[str | None, typer.Option("--region", metavar="REGION", help="Only this region.")] = None,
    days: Annotated[int, typer.Option("--days", min=1, max=90, help="How far back.")] = 30,
    api: ApiUrl = DEFAULT_API,
    keypair: KeypairFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what classes cost an hour, of one GPU or slot: a line each on a terminal, a row a day in pipes.

    \b
    trend    a mark a day, oldest first: what was agreed, · for a day without;
             of a class in which no job found a node, the lowest floor
    floor    the lowest of a node that took work, newest day
    agreed   the mean of the newest day on which a job found a node

    \b
      reaver prices
      reaver prices --gpu a100 --days 90
      reaver prices --json
    """
    output = Output(as_json=as_json)
    connection = Connection(api, keypair)
    pages = run(output, lambda: with_client(connection, lambda c: _all(c, gpu, region, days)))
    found = [day for page in pages for day in page.prices]
    last = pages[-1]
    if as_json:
        shown = last.model_dump(by_alias=True) | {"prices": [day.model_dump(by_alias=True) for day in found]}
        output.json(shown)
        return
    empty = "nothing was on offer then; `reaver gpu-types` lists the classes"
    if output.terminal:
        columns = ("class", "region", "trend", "floor", "agreed", "lowest", "highest", "jobs", "mean wait")
        output.table(columns, [_line(key, of, days) for key, of in _by_class(found)], empty)
        if found:
            output.line(f"{last.currency} an hour, of one GPU or slot")
    else:
        columns = ("day", "class", "region", "floor", "agreed", "lowest", "highest", "jobs", "wait ms")
        output.table(columns, [_row(day) for day in found], empty)
    if last.has_more:
        output.note(f"{len(found)} of {last.total} days of classes; narrow it by --gpu, --region or --days")


def gpu_types(
    api: ApiUrl = DEFAULT_API,
    keypair: KeypairFile = None,
    as_json: JsonFlag = False,
) -> None:
    """List hardware classes, and what of each is to be had now.

    \b
      reaver gpu-types
      reaver gpu-types --json
    """
    output = Output(as_json=as_json)
    connection = Connection(api, keypair)
    found = run(output, lambda: with_client(connection, lambda c: c.figures.gpu_types()))
    if as_json:
        output.json(found.model_dump(by_alias=True))
        return
    output.table(
        ("class", "what", "VRAM", "vCPU", "RAM", "nodes", "free", "regions", "an hour from"),
        [
            (
                entry.id,
                entry.title,
                f"{entry.vram_gb} GB" if entry.gpu else None,
                str(entry.vcpu),
                f"{entry.ram_gb} GB",
                str(entry.nodes),
                str(entry.free),
                " ".join(entry.regions) or None,
                None if entry.price_per_hour is None else f"{entry.price_per_hour} {entry.currency}",
            )
            for entry in found.gpu_types
        ],
        "this market knows no classes",
    )


def trend(values: "Sequence[Decimal | None]") -> str:
    """A mark for each value, the lowest of them the lowest mark; all in the middle where they are equal."""
    known = [value for value in values if value is not None]
    low, high = min(known, default=Decimal(0)), max(known, default=Decimal(0))

    def mark(value: Decimal | None) -> str:
        if value is None:
            return _NOTHING
        if high == low:
            return _LEVELS[len(_LEVELS) // 2 - 1]
        return _LEVELS[int((value - low) * (len(_LEVELS) - 1) / (high - low))]

    return "".join(mark(value) for value in values)


async def _all(client: "ReaverClient", gpu: str | None, region: str | None, days: int) -> "list[PriceList]":
    pages: list[PriceList] = []
    while not pages or (pages[-1].has_more and len(pages) < _MAX_PAGES):
        offset = len(pages) * _PAGE
        pages.append(await client.figures.prices(gpu=gpu, region=region, days=days, limit=_PAGE, offset=offset))
    return pages


def _by_class(days: "Iterable[PriceDay]") -> "list[tuple[tuple[str, str], list[PriceDay]]]":
    """By class and region, each newest day first."""
    found: dict[tuple[str, str], list[PriceDay]] = defaultdict(list)
    for day in days:
        found[day.gpu, day.region].append(day)
    return sorted((key, sorted(of, key=lambda day: day.date, reverse=True)) for key, of in found.items())


def _line(key: tuple[str, str], days: "list[PriceDay]", back: int) -> tuple[str | None, ...]:
    by_date = {date.fromisoformat(day.date): day for day in days}
    newest = max(by_date)
    # As far back as anything is known, and no further than was asked for.
    count = min(back, (newest - min(by_date)).days + 1)
    span = [by_date.get(newest - timedelta(days=ago)) for ago in reversed(range(count))]
    # One kind of price: an agreed one beside a floor would be no trend.
    agreed = [None if day is None or day.clearing_mean is None else Decimal(day.clearing_mean) for day in span]
    floors = [None if day is None or day.floor is None else Decimal(day.floor) for day in span]
    values = agreed if any(value is not None for value in agreed) else floors
    attempts = sum(day.attempts for day in days)
    waits = [(day.wait_mean_ms, day.attempts) for day in days if day.wait_mean_ms is not None]
    lows = [Decimal(day.clearing_low) for day in days if day.clearing_low is not None]
    highs = [Decimal(day.clearing_high) for day in days if day.clearing_high is not None]
    wait_ms = sum(mean * many for mean, many in waits) // attempts if waits and attempts else None
    return (
        *key,
        trend(values),
        days[0].floor,
        next((day.clearing_mean for day in days if day.clearing_mean is not None), None),
        str(min(lows)) if lows else None,
        str(max(highs)) if highs else None,
        str(attempts),
        None if wait_ms is None else f"{wait_ms / 1000:.1f} s",
    )


def _row(day: "PriceDay") -> tuple[str | None, ...]:
    wait = None if day.wait_mean_ms is None else str(day.wait_mean_ms)
    amounts = (day.floor, day.clearing_mean, day.clearing_low, day.clearing_high)
    return (day.date, day.gpu, day.region, *amounts, str(day.attempts), wait)
