"""Seed 000 as its reader would follow it: each example typed as it stands, each answer of the published shape."""

import json
import re
import shlex
from pathlib import Path
from string import Template
from urllib.parse import urlsplit

import pytest

from tests.api.conftest import Renter, Wallet
from tests.api.scripted_node import HARDWARE, ScriptedNode

SEED = json.loads((Path(__file__).parents[1] / "golden/seed_000.json").read_text())
VIEWS = json.loads((Path(__file__).parents[1] / "golden/native_views.json").read_text())
"""Fields of answers in their order. Source: api.md sections 5.1 to 5.5."""


async def curl(call, text, replaced=(), **variables):
    """A curl command of the page, sent to the market under test. replaced: the page's placeholders."""
    for placeholder, value in replaced:
        assert placeholder in text
        text = text.replace(placeholder, value)
    words = shlex.split(Template(text.replace("\\\n", "")).safe_substitute(variables))
    assert words[:2] == ["curl", "-s"]
    method, path, headers, data = "GET", "", {}, None
    rest = iter(words[2:])
    for word in rest:
        if word == "-X":
            method = next(rest)
        elif word == "-H":
            name, _, value = next(rest).partition(": ")
            headers[name] = value
        elif word == "-d":
            data = next(rest)
        else:
            url = urlsplit(word)
            path = f"{url.path}?{url.query}" if url.query else url.path
    return await call(method, path, headers=headers, data=data)


def has_shape(answer, example):
    """The example's fields come first, in its order, with its types."""
    assert list(answer)[: len(example)] == list(example)
    for name, value in example.items():
        assert type(answer[name]) is type(value), name


def has_fields(answer, view):
    """Every published field, in order; more may stand among them."""
    assert [name for name in answer if name in VIEWS[view]] == VIEWS[view]


async def log_in(call, wallet):
    """By the page's two commands."""
    status, challenge, _ = await curl(call, SEED["challenge"], [("7xQs...4Fve", wallet.address)])
    assert status == 200
    status, answer, _ = await curl(
        call,
        SEED["verify"],
        [("7xQs...4Fve", wallet.address), ("<base58-sig>", wallet.sign(challenge["message"]))],
    )
    assert status == 200
    return answer


async def test_a_wallet_logs_in(call, wallet):
    answer = await log_in(call, wallet)
    has_shape(answer, SEED["verify_answer"])
    assert answer["token"].startswith("eyJ")
    assert answer["expiresIn"] == SEED["verify_answer"]["expiresIn"]


@pytest.fixture
async def a100(chain, live_market, live_call):
    """A registered node of the class that the page's example asks for."""
    node = ScriptedNode(await Renter.funded(Wallet(), chain, live_market, live_call))
    hardware = {**HARDWARE, "gpus": ["A100"]}
    await node.register(floor="0.0001", **{"class": "a100", "hardware": hardware})
    return node


async def test_a_job_is_submitted(renter, a100):
    await renter.deposit("20")
    allowance = {"per_job": "5", "per_day": "9", "total": "9", "max_price_per_hour": "5"}
    _, prepared, _ = await renter("POST", "/v1/allowance", json={**allowance, "expires_at": "2100-01-01T00:00:00Z"})
    await renter.send(prepared)
    status, answer, headers = await curl(renter.call, SEED["submit"], TOKEN=renter.token)
    assert status == 201, answer
    has_shape(answer, SEED["submit_answer"])
    assert answer["status"] == "queued"
    assert re.fullmatch(r"job_[1-9A-HJ-NP-Za-km-z]{22}", answer["id"])
    assert list(answer) == [
        "id", "status", "job_id", "estimated_cost", "estimated_time_seconds", "currency", "max_cost", "quote_id",
        "escrow", "transaction", "created_at",
    ]  # fmt: skip
    assert (answer["estimated_cost"], answer["estimated_time_seconds"], answer["max_cost"]) == (
        0.7344,
        7200,
        "0.734400",
    )
    assert headers["Idempotency-Key"]
    status, job, _ = await renter("GET", f"/v1/jobs/{answer['id']}")
    assert status == 200
    has_fields(job, "job")
    _, listed, _ = await renter("GET", "/v1/jobs")
    assert list(listed) == ["jobs", "total", "has_more"]
    assert list(listed["jobs"][0]) == [
        "job_id", "status", "model", "id", "image", "node_id", "cost", "created_at", "completed_at", "reason",
        "gpu", "name", "currency",
    ]  # fmt: skip
    status, job, _ = await renter("POST", f"/v1/jobs/{answer['id']}/cancel")
    assert status == 200
    has_fields(job, "job")


async def test_an_empty_wallet_is_told_what_it_lacks_to_the_letter(live_call, a100):
    token = (await live_call.login(Wallet()))["token"]
    status, answer, _ = await curl(live_call, SEED["submit"], TOKEN=token)
    assert status == 402
    assert list(answer.items())[:3] == list(SEED["error"].items())
    del answer["request_id"]
    assert list(answer.items())[3:] == [
        ("retryable", True), ("required", "0.734400"), ("available", "0.000000"), ("wallet_balance", "0.000000"),
        ("shortfall", "0.734400"), ("currency", "USDC"), ("missing", "payment_token"),
    ]  # fmt: skip


async def test_quotes_and_nodes_have_their_published_fields(renter, a100):
    _, quote, _ = await renter("POST", "/v1/quote", json={"gpu": "a100", "region": "eu", "maxMinutes": 120})
    has_fields(quote, "quote")
    assert (quote["estimated_cost"], quote["match"]) == (0.7344, False)
    status, node, _ = await renter("GET", f"/v1/nodes/{a100.id}")
    assert status == 200
    has_fields(node, "node")
    assert [type(node[name]) for name in ("id", "class", "region")] == [str] * 3
    assert 0 <= node["reputation"] <= 1
    assert 0 <= node["uptime"] <= 1
    assert list((await renter("GET", "/v1/nodes"))[1]) == ["nodes", "total", "has_more"]


@pytest.mark.parametrize("route", SEED["routes"])
async def test_every_route_of_the_page_is_there_and_counted(call, wallet, route):
    """With a token it is none of "no such route"; and every answer, of whatever status, says where the limit stands."""
    token = (await log_in(call, wallet))["token"]
    method, _, path = route.partition(" ")
    status, answer, headers = await call(method, path.replace(":id", "job_x"), token=token)
    assert status != 405
    assert "route" not in (answer["message"] if status == 404 else "")
    assert list(SEED["rate_limits"]) == [name for name in headers if name.startswith("X-RateLimit-")]
    assert [int(headers[name]) > 0 for name in SEED["rate_limits"]] == [True] * 3
    assert headers["X-RateLimit-Limit"] == str(SEED["rate_limits"]["X-RateLimit-Limit"])
    assert int(headers["X-RateLimit-Reset"]) % 60 == 0


@pytest.mark.parametrize(("path", "status"), [("/v1/nothing", 404), ("/v1/jobs/job_x", 404), ("/v1/me", 200)])
async def test_remaining_counts_down_on_errors_too(call, wallet, path, status):
    token = (await call.login(wallet))["token"]
    seen = []
    for _ in range(3):
        got, _, headers = await call("GET", path, token=token)
        assert got == status
        seen.append(int(headers["X-RateLimit-Remaining"]))
    assert seen == [119, 118, 117]
