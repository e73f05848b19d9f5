"""`GET /v1/usage`: what the account paid, summed. Source: api.md section 5.7."""

from enum import StrEnum
from typing import Annotated, Final, Literal

from aiohttp import web
from pydantic import Field

from marketplace.api.csv_tables import MEDIA_TYPE, csv_response
from marketplace.api.dates import SpanQuery, span_of
from marketplace.api.fields import PAGE_LIMIT, DecimalText, MillisInstant, ResponseModel, millis_text
from marketplace.api.json_bodies import dump_model
from marketplace.api.routes import Call, Route, reading
from marketplace.domain.allocations import job_of
from marketplace.domain.ids import AllocationId
from marketplace.domain.money import format_amount
from marketplace.domain.quantities import Millis
from marketplace.errors import Invalid, Starting
from marketplace.services.clock import Clock
from marketplace.services.ledger import LedgerService
from marketplace.services.principals import Scope
from marketplace.store.settlements import Grouping, Sums

GROUPS_OF_A_TABLE: Final = 50_000
_DEFAULT_LIMIT: Final = 20


class UsageGroup(StrEnum):
    """What usage is grouped by."""

    DAY = "day"
    JOB = "job"
    NODE = "node"
    GPU = "gpu"
    CONSUMER = "consumer"
    KIND = "kind"


class UsageQuery(SpanQuery):
    """limit: of JSON 20; of CSV everything."""

    group_by: UsageGroup = UsageGroup.DAY
    limit: Annotated[int, Field(ge=1)] | None = None
    offset: Annotated[int, Field(ge=0, le=2**53)] = 0
    format: Literal["json", "csv"] = "json"


class UsageEntry(ResponseModel):
    """group: a UTC date, a job, node, class, consumer or kind; null for what has none. paid is the sum of the rest."""

    group: str | None
    jobs: int
    gpu_seconds: DecimalText
    paid: DecimalText
    operator_received: DecimalText
    to_stakers: DecimalText
    market_fee: DecimalText
    protocol_fee: DecimalText


class UsageList(ResponseModel):
    """sums: over every group. until: exclusive."""

    usage: list[UsageEntry]
    total: int
    has_more: bool
    group_by: str
    from_: MillisInstant = Field(serialization_alias="from")
    until: MillisInstant
    currency: str
    sums: UsageEntry


def usage_entry(ledger: LedgerService, grouping: Grouping, sums: Sums) -> UsageEntry:
    """One group."""
    decimals = ledger.decimals
    return UsageEntry(
        group=_name(ledger, grouping, sums.group),
        jobs=sums.jobs,
        gpu_seconds=format_amount(sums.gpu_ms, 3),
        paid=format_amount(sums.paid, decimals),
        operator_received=format_amount(sums.operator, decimals),
        to_stakers=format_amount(sums.stakers, decimals),
        market_fee=format_amount(sums.market, decimals),
        protocol_fee=format_amount(sums.protocol, decimals),
    )


def usage_routes(ledger: LedgerService, clock: Clock) -> list[Route]:
    """One route."""

    async def get_usage(call: Call, query: UsageQuery) -> web.Response:
        span = span_of(query, clock.now())
        grouping = Grouping(query.group_by.value)
        table = query.format == "csv"
        most = GROUPS_OF_A_TABLE if table else PAGE_LIMIT
        limit = min(query.limit or (most if table else _DEFAULT_LIMIT), most)
        found = await ledger.usage(call.account_id, span.start, span.until, grouping, limit=limit, offset=query.offset)
        entries = [usage_entry(ledger, grouping, sums) for sums in found.groups]
        if table:
            header = (query.group_by.value, *(name for name in UsageEntry.model_fields if name != "group"), "currency")
            return csv_response(
                "usage.csv", header, [(*entry.model_dump().values(), ledger.currency) for entry in entries]
            )
        answer = UsageList(
            usage=entries,
            total=found.total,
            has_more=query.offset + len(entries) < found.total,
            group_by=query.group_by.value,
            from_=span.start,
            until=span.until,
            currency=ledger.currency,
            sums=usage_entry(ledger, grouping, found.sums),
        )
        return web.Response(body=dump_model(answer), content_type="application/json")

    return [
        Route(
            "GET", "/v1/usage", get_usage, "What was paid, by day, job, node, class, consumer or kind",
            reading(Scope.MONEY), errors=(Invalid, Starting), produces=("application/json", MEDIA_TYPE),
            documents=UsageList,
        ),
    ]  # fmt: skip


def _name(ledger: LedgerService, grouping: Grouping, group: str | int | None) -> str | None:
    if group is None:
        return None
    match grouping:
        case Grouping.DAY:
            return millis_text(Millis(int(group)))[: len("2026-01-01")]
        case Grouping.HOUR:
            return millis_text(Millis(int(group)))
        case Grouping.JOB:
            return job_of(AllocationId(str(group)))
        case Grouping.NODE:
            return ledger.node_name(str(group))
        case _:
            return str(group)
