"""Calls over HTTP: retries that can't pay twice, typed errors, exact numbers."""

from decimal import Decimal

import pytest
from aiohttp import web

from marketplace.client.client import JobFilter, ReaverClient
from marketplace.client.errors import ApiError, MalformedAnswer, Unreachable
from marketplace.client.requests import JobRequest
from marketplace.client.transport import base_url
from tests.client.conftest import Waits
from tests.client.fake_market import FakeMarket, error

JOB = JobRequest(image="alpine", gpu="cpu-small", max_minutes=10)


async def test_a_busy_market_is_asked_again_after_the_time_it_names(
    market: FakeMarket, client: ReaverClient, waits: Waits
) -> None:
    market.before["GET /v1/vault"] = [
        error(429, "rate_limited", "slow down", retry_after=3),
        error(503, "overloaded", "later", retry_after=7),
    ]
    assert (await client.vault()).available == "19.950000"
    assert waits.seconds == [3.0, 7.0]


async def test_a_wait_that_is_too_long_is_an_error(market: FakeMarket, client: ReaverClient, waits: Waits) -> None:
    market.before["GET /v1/vault"] = [error(429, "rate_limited", "slow down", retry_after=3600)]
    with pytest.raises(ApiError) as refused:
        await client.vault()
    assert refused.value.retry_after_s == 3600
    assert waits.seconds == []


async def test_a_call_without_a_key_is_sent_once(market: FakeMarket, client: ReaverClient) -> None:
    await client.login()
    market.before["POST /v1/jobs/job_1/cancel"] = [error(503, "overloaded", "later", retry_after=1)]
    with pytest.raises(ApiError):
        await client.cancel_job("job_1")
    assert len(market.spent("/v1/jobs/job_1/cancel")) == 1


async def test_a_broken_connection_repeats_a_spending_call_with_its_key(
    market: FakeMarket, client: ReaverClient
) -> None:
    market.allowance = True
    market.before["POST /v1/jobs"] = ["drop after", "drop"]
    submission = await client.submit_job(JOB, await client.quote(JOB))
    calls = market.spent("/v1/jobs")
    assert len(calls) == 3
    assert len({call.key for call in calls}) == 1
    assert list(market.jobs) == [submission.job.id]


async def test_a_market_that_is_not_there_is_unreachable(market: FakeMarket, client: ReaverClient) -> None:
    market.before["GET /v1/constants"] = ["drop"] * 20
    with pytest.raises(Unreachable, match="REAVER_API"):
        await client.constants()


async def test_an_error_carries_code_details_and_extra(market: FakeMarket, client: ReaverClient) -> None:
    detail = {"field": "gpu", "code": "unknown_gpu", "message": "unknown", "suggestions": ["h100"], "allowed": []}
    market.before["POST /v1/quote"] = [error(422, "validation_error", "gpu: unknown", details=[detail], more=1)]
    with pytest.raises(ApiError) as refused:
        await client.quote(JOB)
    problem = refused.value
    assert (problem.code, problem.status, problem.message) == ("validation_error", 422, "gpu: unknown")
    assert [(d.field, d.code, d.suggestions) for d in problem.details] == [("gpu", "unknown_gpu", ("h100",))]
    assert problem.extra == {"more": 1}


@pytest.mark.parametrize(
    "answer",
    [
        web.Response(text="<html>", content_type="text/html"),
        web.json_response({"wallet": 1}),
        web.json_response([]),
    ],
    ids=["a page", "a wrong type", "a list"],
)
async def test_an_answer_that_is_none_is_malformed(
    market: FakeMarket, client: ReaverClient, answer: web.Response
) -> None:
    market.before["GET /v1/vault"] = [answer]
    with pytest.raises(MalformedAnswer):
        await client.vault()


async def test_a_redirect_is_not_followed_with_the_token(market: FakeMarket, client: ReaverClient) -> None:
    market.before["GET /v1/vault"] = [web.Response(status=307, headers={"Location": "/v1/me"})]
    with pytest.raises(ApiError) as refused:
        await client.vault()
    assert refused.value.status == 307
    assert "/v1/me" not in [s.path for s in market.seen]


async def test_numbers_are_exact(market: FakeMarket, client: ReaverClient) -> None:
    quote = await client.quote(JOB)
    assert quote.estimated_cost == "0.05"
    node = await client.get_node("node_1")
    assert node.reputation == Decimal("0.97")


async def test_an_id_cannot_name_another_path(client: ReaverClient) -> None:
    for bad in ("../me", "a/b", "", "a?b", "a%2fb"):
        with pytest.raises(ValueError, match="is not an id"):
            await client.get_job(bad)


@pytest.mark.parametrize("url", ["ftp://x", "x", "http://", "http://a?b=c", "http://user:pw@host"])
def test_only_plain_addresses_are_markets(url: str) -> None:
    with pytest.raises(ValueError, match="is not an http"):
        base_url(url)


def test_a_version_at_the_end_of_the_address_is_the_same_market() -> None:
    assert base_url("https://api.example/v1/") == base_url("https://api.example") == "https://api.example"


async def test_the_log_is_followed_across_breaks_without_gap_or_duplicate(
    market: FakeMarket, client: ReaverClient
) -> None:
    market.allowance = True
    market.log = [f"line {n}" for n in range(10)]
    market.log_breaks_after = [2, 3, 7]
    job = (await client.submit_job(JOB, await client.quote(JOB))).job
    items = [item async for item in client.follow_job(job.id)]
    assert [getattr(i, "line", None) for i in items[:-1]] == market.log
    assert items[-1].status == "completed"  # type: ignore[union-attr]


async def test_a_log_stream_that_never_ends_the_job_is_given_up(
    market: FakeMarket, client: ReaverClient, waits: Waits
) -> None:
    market.allowance = True
    job = (await client.submit_job(JOB, await client.quote(JOB))).job
    market.log_breaks_after = [3] * 200
    market.log = ["a", "b", "c"]

    async def forever() -> None:
        async for _ in client.follow_job(job.id):
            # Each connection resumes after the last line and is closed at once.
            market.before[f"GET /v1/jobs/{job.id}/logs"] = ["drop"] * 200

    with pytest.raises(Unreachable):
        await forever()
    assert sum(waits.seconds) >= 300


async def test_jobs_can_be_read_and_cancelled(market: FakeMarket, client: ReaverClient) -> None:
    market.allowance = True
    job = (await client.submit_job(JOB, await client.quote(JOB))).job
    assert [row.id for row in (await client.list_jobs(JobFilter(status=("completed",)), limit=5)).jobs] == [job.id]
    assert (await client.job_log(job.id)) == b"one\ntwo\nthree\n"
    assert (await client.wait_for_job(job.id, settled=True)).settlement is not None
    assert (await client.cancel_job(job.id)).status == "cancelled"
    assert await client.receipt(job.id) == {"job_id": job.id, "price": "400", "unit_price": Decimal("0.1")}


async def test_units_are_exact(client: ReaverClient) -> None:
    assert await client.units("12.5") == 12_500_000
