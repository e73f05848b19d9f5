"""Quotes over HTTP with a scripted node: what they say would match does match, and what they name is honoured."""

import pytest

from tests.api.test_jobs import JOB, allowed, node, submit

__all__ = ["allowed", "node"]


async def quoted(renter, **fields):
    body = {name: value for name, value in {**JOB, **fields}.items() if value is not None}
    status, quote, _ = await renter("POST", "/v1/quote", json=body)
    assert status == 200, quote
    return body, quote


def changed(body, change):
    """The request with the fields that a quote names, as a client would set them."""
    body = {**body, "requirements": {**body.get("requirements", {})}}
    for field, value in change.items():
        within, _, name = field.rpartition(".")
        (body[within] if within else body)[name] = value
    return body


async def test_the_nearest_change_matches_when_it_is_asked(renter, node):
    for fields, change in (
        ({"max_price_per_hour": "0.01"}, {"max_price_per_hour": "0.073440"}),
        ({"max_price_per_gpu_second": "0.000001"}, {"max_price_per_gpu_second": "0.000020400000"}),
        ({"region": "na"}, {"region": "eu"}),
        ({"region": None, "regions": ["na"]}, {"region": "eu"}),
        ({"nodes": ["node_1ChJi2zzUEQj27StmcbzUJ"]}, {"nodes": []}),
        ({"exclude_nodes": [node.id]}, {"exclude_nodes": []}),
        ({"requirements": {"disk_gb": 2000}}, {"requirements.disk_gb": 50}),
        ({"requirements": {"gpu_count": 3}}, {"requirements.gpu_count": 2}),
        ({"max_price_per_hour": "900000"}, {"max_price_per_hour": "0.073440"}),
        ({"max_price_per_hour": "0.01", "region": "na"}, {"max_price_per_hour": "0.073440", "region": "eu"}),
        (
            {"max_price_per_hour": "0.01", "requirements": {"gpu_count": 3}},
            {"max_price_per_hour": "0.146880", "requirements.gpu_count": 2},
        ),
    ):
        body, quote = await quoted(renter, **fields)
        assert (quote["match"], quote["nearest"]["change"]) == (False, change), fields
        _, again = await quoted(renter, **changed(body, quote["nearest"]["change"]))
        assert again["match"], (fields, again["because"])
        assert again["nodes_now"] == quote["nearest"]["nodes_then"]


async def test_a_smaller_job_is_priced_as_the_smaller_job(renter, node):
    _, quote = await quoted(renter, requirements={"gpu_count": 8})
    assert quote["nearest"]["price_per_hour"] == "0.146880"


async def test_a_quote_that_cannot_be_met_says_so(renter, node):
    _, quote = await quoted(renter, gpu="h100")
    assert (quote["match"], quote["quote"], quote["nearest"]) == (False, None, None)
    assert [b["constraint"] for b in quote["because"]] == ["class"]
    status, answer, _ = await submit(renter, gpu="h100", quote_id=quote["id"])
    assert (status, answer["error"]) == (422, "quote_mismatch")
    assert "names no price" in answer["message"]


@pytest.mark.parametrize("price", ["18446744073709.551615", "99999999999999"])
async def test_a_price_that_no_chain_could_hold_is_refused(renter, node, price):
    status, answer, _ = await renter("POST", "/v1/quote", json={**JOB, "max_price_per_hour": price, "maxMinutes": 1440})
    assert (status, answer["details"][0]["field"]) == (422, "max_price_per_hour")


@pytest.mark.parametrize("name", ["quote", "quote_id"])
async def test_a_quote_of_a_quote_is_refused(renter, name):
    status, answer, _ = await renter("POST", "/v1/quote", json={**JOB, name: "quote_1"})
    assert (status, answer["details"][0]["field"]) == (422, name)


async def test_a_quote_is_named_by_the_job_it_was_given_for(allowed, node):
    """By its id or by its token alike; the deposit is at least the chain's, the estimate what it would cost."""
    body, quote = await quoted(allowed, max_price_per_hour="0.01")
    assert (quote["estimated_cost"], quote["max_total"]) == (0.000833, "0.001000")
    del body["max_price_per_hour"]
    for number, named in enumerate(({"quote_id": quote["id"]}, {"quote": quote["quote"]})):
        status, job, _ = await submit(allowed, f"q{number}", **named)
        assert (status, job["quote_id"]) == (201, quote["id"])
        assert (job["estimated_cost"], job["max_cost"]) == (0.000833, "0.001000")
    _, answer, _ = await submit(allowed, "q2", quote=quote["quote"], quote_id=quote["id"])
    assert answer["details"][0] == {"field": "quote", "code": "conflict", "message": "give one of quote and quote_id"}
