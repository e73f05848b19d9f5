"""A quote is believed only where it is for this request, consistent, and signed."""

from collections.abc import Callable
from typing import Any

import pytest

from marketplace.client.client import ReaverClient
from marketplace.client.errors import MalformedAnswer, NoPrice
from marketplace.client.requests import JobRequest
from tests.client.fake_market import FakeMarket

JOB = JobRequest(image="alpine", gpu="cpu-small", max_minutes=10, max_price_per_hour="0.36")

LIES: dict[str, tuple[Callable[[dict[str, Any]], dict[str, Any]], str]] = {
    "units above the shown price": (lambda q: q | {"price_per_hour_units": 720_000}, "price per hour"),
    "a price above the ceiling": (
        lambda q: q | {"price_per_hour_units": 360_001, "price_per_hour": "0.360001"},
        "above the ceiling",
    ),
    "a total above price x time": (lambda q: q | {"max_total": "1.000000"}, "exceeds price x time"),
    "another class": (lambda q: q | {"class": "h100"}, "class"),
    "another time": (lambda q: q | {"max_seconds": 3600}, "time limit"),
    "another spec": (lambda q: q | {"spec_hash": "00" * 32}, "spec hash"),
    "a token of another key": (lambda q: q | {"quote": q["quote"][:-4] + "AAAA"}, "can't be relied on"),
    "a token for another price": (
        lambda q: q | {"price_per_hour_units": 350_000, "price_per_hour": "0.350000", "max_total": "0.058333"},
        "signed price",
    ),
}


@pytest.mark.parametrize(("lie", "said"), LIES.values(), ids=LIES.keys())
async def test_a_quote_that_is_not_right_submits_nothing(
    market: FakeMarket, client: ReaverClient, lie: Callable[[dict[str, Any]], dict[str, Any]], said: str
) -> None:
    market.allowance = True
    market.quote_change = lie
    quote = await client.quote(JOB)
    with pytest.raises(MalformedAnswer, match=said):
        await client.submit_job(JOB, quote)
    assert market.spent("/v1/jobs") == []


async def test_a_quote_without_a_price_submits_nothing(market: FakeMarket, client: ReaverClient) -> None:
    nothing = dict.fromkeys(("quote", "price_per_hour", "price_per_hour_units", "max_total", "price_per_gpu_second"))
    market.quote_change = lambda q: q | nothing
    quote = await client.quote(JOB)
    with pytest.raises(NoPrice):
        await client.submit_job(JOB, quote)
    assert market.spent("/v1/jobs") == []


def test_any_region_is_no_region() -> None:
    plain = JobRequest(image="alpine", gpu="cpu-small")
    anywhere = JobRequest(image="alpine", gpu="cpu-small", region="Any")
    assert plain.spec().spec_hash() == anywhere.spec().spec_hash()
