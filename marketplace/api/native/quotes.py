"""`POST /v1/quote`, `GET /v1/quotes/{id}`. Source: api.md section 5.1."""

from dataclasses import replace

import orjson
from aiohttp import web
from pydantic import Field

from marketplace.api.fields import (
    DecimalText,
    ExactNumber,
    JsonNumber,
    MillisInstant,
    QuoteIdPath,
    ResponseModel,
)
from marketplace.api.json_bodies import dump_model
from marketplace.api.native.job_bodies import QuoteRequest, telling_of_the_rest
from marketplace.api.routes import Call, Route, reading
from marketplace.domain.ids import QuoteId
from marketplace.domain.money import format_amount, per_gpu_second
from marketplace.domain.quantities import Millis
from marketplace.errors import Detail, DetailCode, Invalid, NotFound
from marketplace.services.chain_port import ChainPort
from marketplace.services.job_orders import Order
from marketplace.services.model_registry import ModelRegistry
from marketplace.services.models import read_whole_order
from marketplace.services.nearest import Nearest
from marketplace.services.obstacles import Because
from marketplace.services.principals import Scope
from marketplace.services.quotes import Quote, QuoteService


class FeesView(ResponseModel):
    market_bps: int
    protocol_bps: int
    node_share_bps: int
    included: bool = True


class ChainCostsView(ResponseModel):
    signatures: int
    lamports_fees: int
    lamports_rent_refundable: int
    paid_by: str = "market"


class SampleView(ResponseModel):
    node_id: str
    region: str
    reputation: str
    image_present: bool


class BecauseView(ResponseModel):
    constraint: str
    wanted: str
    best: str | None
    nodes_excluded: int


class NearestView(ResponseModel):
    change: dict[str, str | int | float | tuple[str, ...]]
    nodes_then: int
    price_per_hour: DecimalText


class QuoteView(ResponseModel):
    id: str
    quote: str | None
    estimated_cost: ExactNumber | None
    estimated_time_seconds: int
    expected_cost: DecimalText | None
    max_total: DecimalText | None
    price_per_gpu_second: DecimalText | None
    price_per_hour: DecimalText | None
    price_per_hour_units: int | None
    currency: str
    fees: FeesView
    chain_costs: ChainCostsView
    class_: str = Field(serialization_alias="class")
    gpu_count: int
    regions: list[str]
    max_seconds: int
    priority: str
    spec_hash: str
    nodes_now: int
    sample: list[SampleView]
    expires_at: MillisInstant
    match: bool
    because: list[BecauseView]
    nearest: NearestView | None


def quote_routes(quotes: QuoteService, chain: ChainPort, currency: str, models: ModelRegistry) -> list[Route]:
    """Give and read."""

    def view(quote: Quote) -> QuoteView:
        decimals, terms, price = chain.terms.decimals, chain.terms, quote.price_per_hour

        def amount(units: int | None) -> str | None:
            return None if units is None else format_amount(units, decimals)

        return QuoteView(
            id=quote.id,
            quote=quote.token,
            estimated_cost=None if quote.estimate is None else JsonNumber(quote.estimate, decimals),
            estimated_time_seconds=-(-quote.expected_ms // 1000),
            expected_cost=amount(quote.expected_cost),
            max_total=amount(quote.max_total),
            price_per_gpu_second=None if price is None else per_gpu_second(price, quote.gpu_count, decimals),
            price_per_hour=amount(price),
            price_per_hour_units=price,
            currency=currency,
            fees=FeesView(
                market_bps=terms.fee_bps - terms.protocol_bps,
                protocol_bps=terms.protocol_bps,
                node_share_bps=terms.node_share_bps,
            ),
            chain_costs=ChainCostsView(
                signatures=quote.signatures,
                lamports_fees=quote.lamports_fees,
                lamports_rent_refundable=quote.lamports_rent,
            ),
            class_=quote.class_id,
            gpu_count=quote.gpu_count,
            regions=list(quote.regions),
            max_seconds=quote.max_seconds,
            priority=quote.priority,
            spec_hash=quote.spec_hash,
            nodes_now=quote.nodes_now,
            sample=[
                SampleView(node_id=s.node_id, region=s.region, reputation=s.reputation, image_present=s.image_present)
                for s in quote.sample
            ],
            expires_at=Millis(quote.expires_at_ms),
            match=quote.match,
            because=[because_view(b, decimals) for b in quote.because],
            nearest=None if quote.nearest is None else _nearest(quote.nearest, decimals),
        )

    def read(body: QuoteRequest) -> Order:
        fields = replace(body.fields(seconds=body.seconds), quote=None)
        found = [
            Detail(name, DetailCode.NOT_ALLOWED, "is for a submission; a quote takes none")
            for name, given in (("quote", body.quote), ("quote_id", body.quote_id))
            if given is not None
        ]
        try:
            order = read_whole_order(
                fields, models.catalogue, decimals=chain.terms.decimals, image_needed=False, input_needed=False
            )
        except Invalid as wrong:
            raise Invalid.of([*found, *wrong.details]) from wrong
        if found:
            raise Invalid.of(found)
        return order

    def check(body: QuoteRequest, left_out: frozenset[str]) -> None:
        with telling_of_the_rest(left_out):
            read(body)

    async def quote(call: Call, body: QuoteRequest) -> QuoteView:
        order = read(body)
        return view(await quotes.quote(call.account_id, order, lambda found: dump_model(view(found))))

    async def get_quote(call: Call, quote_id: QuoteIdPath) -> web.Response:
        text = await quotes.find(call.account_id, QuoteId(quote_id))
        return web.Response(body=orjson.dumps(orjson.loads(text)), content_type="application/json")

    return [
        Route(
            "POST", "/v1/quote", quote, "What a job would cost, and who could take it", reading(Scope.JOBS),
            check=check, errors=(Invalid,),
        ),
        Route(
            "GET", "/v1/quotes/{quote_id}", get_quote, "A quote as it was given", reading(Scope.JOBS),
            errors=(NotFound,),
        ),
    ]  # fmt: skip


def because_view(because: Because, decimals: int) -> BecauseView:
    """One reason, its amounts as decimal text."""
    shown = because.shown(decimals)
    return BecauseView(
        constraint=shown.constraint, wanted=shown.wanted, best=shown.best, nodes_excluded=shown.nodes_excluded
    )


def _nearest(nearest: Nearest, decimals: int) -> NearestView:
    return NearestView(
        change=dict(nearest.change),
        nodes_then=nearest.nodes_then,
        price_per_hour=format_amount(nearest.price_per_hour, decimals),
    )
