"""`GET /v1/prices`: floors, agreed prices and waits, by class, region and day. Source: api.md section 5.3."""

from typing import Annotated

from pydantic import Field

from marketplace.api.fields import DecimalText, Page, ResponseModel, millis_text
from marketplace.api.routes import Call, Route, reading_or_node
from marketplace.domain.catalogue import REGIONS, UnknownName, find_class, find_place, region_of
from marketplace.domain.money import format_amount
from marketplace.domain.quantities import Millis
from marketplace.errors import DetailCode, Invalid, Starting
from marketplace.services.chain_port import ChainPort
from marketplace.services.prices import MAX_DAYS, PriceService
from marketplace.services.principals import Scope
from marketplace.store.prices import DAY_MS, PriceDay


class PricesQuery(Page):
    gpu: str | None = None
    region: str | None = None
    days: Annotated[int, Field(ge=1, le=MAX_DAYS)] = 30


class PriceDayView(ResponseModel):
    """Prices per hour of one GPU, or slot of a CPU class. floor: the lowest of a node that took work that day.

    clearing_*: what was agreed with the nodes that were found, priority included; null where none was.
    """

    date: str
    gpu: str
    region: str
    floor: DecimalText | None
    clearing_low: DecimalText | None
    clearing_mean: DecimalText | None
    clearing_high: DecimalText | None
    attempts: int
    wait_mean_ms: int | None
    wait_longest_ms: int | None


class PriceList(ResponseModel):
    prices: list[PriceDayView]
    total: int
    has_more: bool
    currency: str


def price_routes(prices: PriceService, chain: ChainPort, currency: str) -> list[Route]:
    """One route."""

    def view(day: PriceDay) -> PriceDayView:
        def amount(units: int | None) -> str | None:
            return None if units is None else format_amount(units, chain.terms.decimals)

        found = day.choices or None
        return PriceDayView(
            date=millis_text(Millis(day.day * DAY_MS))[: len("2026-01-01")],
            gpu=day.class_id,
            region=day.region,
            floor=amount(day.floor),
            clearing_low=amount(day.lowest),
            clearing_mean=amount(None if found is None else day.price_sum // found),
            clearing_high=amount(day.highest),
            attempts=day.choices,
            wait_mean_ms=None if found is None else day.wait_sum_ms // found,
            wait_longest_ms=None if found is None else day.longest_wait_ms,
        )

    async def list_prices(call: Call, query: PricesQuery) -> PriceList:
        del call
        found, total = await prices.days(
            query.days, _class(query.gpu), _region(query.region), limit=query.limit, offset=query.offset
        )
        return PriceList(
            prices=[view(day) for day in found],
            total=total,
            has_more=query.offset + len(found) < total,
            currency=currency,
        )

    return [
        Route(
            "GET", "/v1/prices", list_prices, "Floors, agreed prices and waits, by class, region and day",
            reading_or_node(Scope.NODES), errors=(Invalid, Starting),
        ),
    ]  # fmt: skip


def _class(name: str | None) -> str | None:
    try:
        return None if name is None else find_class(name).id
    except UnknownName as unknown:
        raise Invalid.field(
            "gpu", DetailCode.UNKNOWN_GPU, "is no class we know", suggestions=unknown.suggestions
        ) from unknown


def _region(name: str | None) -> str | None:
    """Prices are kept by region. Raises Invalid for a country: its region's prices are not its own."""
    if name is None:
        return None
    try:
        place = find_place(name)
    except UnknownName as unknown:
        raise Invalid.field(
            "region", DetailCode.UNKNOWN_REGION, "is no region we know",
            allowed=tuple(REGIONS), suggestions=unknown.suggestions,
        ) from unknown  # fmt: skip
    if place not in REGIONS:
        raise Invalid.field(
            "region", DetailCode.NOT_ALLOWED, "is a country; prices are kept by region",
            allowed=tuple(REGIONS), suggestions=(region_of(place),),
        )  # fmt: skip
    return place
