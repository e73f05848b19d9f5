"""`GET /v1/nodes/{id}/earnings`: what a node was paid. Source: api.md section 5.5."""

from enum import StrEnum
from typing import Annotated, Final, Literal

from aiohttp import web
from pydantic import Field

from marketplace.api.csv_tables import MEDIA_TYPE, csv_response
from marketplace.api.dates import SpanQuery, span_of
from marketplace.api.fields import PAGE_LIMIT, DecimalText, MillisInstant, NodeIdPath, ResponseModel
from marketplace.api.json_bodies import dump_model
from marketplace.api.native.usage import GROUPS_OF_A_TABLE, usage_entry
from marketplace.api.routes import Call, Route, reading_or_node
from marketplace.domain.ids import NodeId
from marketplace.domain.money import format_amount
from marketplace.errors import Forbidden, Invalid, NotFound, Starting
from marketplace.services.clock import Clock
from marketplace.services.ledger import LedgerService
from marketplace.services.node_registry import Presence
from marketplace.services.principals import NodePrincipal, Scope
from marketplace.store.settlements import Grouping, Sums

_DEFAULT_LIMIT: Final = 20


class Bucket(StrEnum):
    """What earnings are grouped by. JOB: for the operator only."""

    DAY = "day"
    HOUR = "hour"
    JOB = "job"


class EarningsQuery(SpanQuery):
    """limit: of JSON 20; of CSV everything."""

    bucket: Bucket = Bucket.DAY
    limit: Annotated[int, Field(ge=1)] | None = None
    offset: Annotated[int, Field(ge=0, le=2**53)] = 0
    format: Literal["json", "csv"] = "json"


class EarningsEntry(ResponseModel):
    """gross = net + to_stakers + fees. group: UTC date, hour or job."""

    group: str | None
    gross: DecimalText
    fees: DecimalText
    net: DecimalText
    to_stakers: DecimalText
    gpu_seconds: DecimalText
    jobs: int


class EarningsView(ResponseModel):
    """Settled amounts. compensation_paid, slashed: in stake_currency; the first is a part of the second."""

    node_id: str
    from_: MillisInstant = Field(serialization_alias="from")
    to: MillisInstant
    currency: str
    gross: DecimalText
    fees: DecimalText
    net: DecimalText
    to_stakers: DecimalText
    compensation_paid: DecimalText
    slashed: DecimalText
    stake_currency: str
    gpu_seconds: DecimalText
    jobs: int
    records: list[EarningsEntry]
    total: int
    has_more: bool


def earnings_routes(ledger: LedgerService, clock: Clock) -> list[Route]:
    """One route."""

    def entry(grouping: Grouping, sums: Sums) -> EarningsEntry:
        shown = usage_entry(ledger, grouping, sums)
        return EarningsEntry(
            group=shown.group,
            gross=shown.paid,
            fees=format_amount(sums.market + sums.protocol, ledger.decimals),
            net=shown.operator_received,
            to_stakers=shown.to_stakers,
            gpu_seconds=shown.gpu_seconds,
            jobs=shown.jobs,
        )

    async def get_earnings(call: Call, node_id: NodeIdPath, query: EarningsQuery) -> web.Response:
        presence = ledger.node(NodeId(node_id))
        if query.bucket is Bucket.JOB and not _own(call, presence):
            raise Forbidden("single jobs of a node are shown to its operator only")
        span = span_of(query, clock.now())
        grouping = Grouping(query.bucket.value)
        table = query.format == "csv"
        most = GROUPS_OF_A_TABLE if table else PAGE_LIMIT
        limit = min(query.limit or (most if table else _DEFAULT_LIMIT), most)
        found = await ledger.earnings(
            presence.node.address, span.start, span.until, grouping, limit=limit, offset=query.offset
        )
        records = [entry(grouping, sums) for sums in found.report.groups]
        if table:
            header = (query.bucket.value, *(name for name in EarningsEntry.model_fields if name != "group"), "currency")
            rows = [(*record.model_dump().values(), ledger.currency) for record in records]
            return csv_response("earnings.csv", header, rows)
        whole = entry(grouping, found.report.sums)
        answer = EarningsView(
            node_id=node_id,
            from_=span.start,
            to=span.until,
            currency=ledger.currency,
            gross=whole.gross,
            fees=whole.fees,
            net=whole.net,
            to_stakers=whole.to_stakers,
            compensation_paid=format_amount(found.taken.compensation, ledger.stake_decimals),
            slashed=format_amount(found.taken.slashed, ledger.stake_decimals),
            stake_currency="STAKE",
            gpu_seconds=whole.gpu_seconds,
            jobs=whole.jobs,
            records=records,
            total=found.report.total,
            has_more=query.offset + len(records) < found.report.total,
        )
        return web.Response(body=dump_model(answer), content_type="application/json")

    return [
        Route(
            "GET", "/v1/nodes/{node_id}/earnings", get_earnings, "What a node was paid, by day, hour or job",
            reading_or_node(Scope.NODES), errors=(NotFound, Forbidden, Invalid, Starting),
            produces=("application/json", MEDIA_TYPE), documents=EarningsView,
        ),
    ]  # fmt: skip


def _own(call: Call, presence: Presence) -> bool:
    """Whether the caller is the node, or its operator."""
    caller = call.caller
    if isinstance(caller, NodePrincipal):
        return caller.node_id == presence.node.id
    return presence.node.operator == caller.wallet or presence.node.account_id == caller.account_id
