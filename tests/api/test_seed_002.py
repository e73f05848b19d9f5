"""Seed 002 as its client would use it: its examples with an API key, answers of the published shapes and types.

What this version doesn't serve of the example's body is known by name (`NOT_YET`) and refused as such; the rest of the
example is sent as it stands.
"""

import asyncio
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from marketplace.api.native.job_bodies import NOT_YET
from marketplace.app import Market
from marketplace.chain.constants import LOCALNET
from marketplace.protocol.vouchers import VoucherState
from tests.api.conftest import Renter, Wallet, settings_in
from tests.api.scripted_node import HARDWARE, ScriptedNode
from tests.api.serving import ready
from tests.api.test_jobs import ALLOWANCE, until
from tests.api.test_transfers import Delivery
from tests.chain.market import localnet

SEED = json.loads((Path(__file__).parents[1] / "golden/seed_002.json").read_text())
CHOICES = {"output_config": {"destination": "local", "format": "json"}}
"""Where the page's example says "this or that"."""
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


def body(**changes):
    """The example, as far as it is served."""
    served = {name: value for name, value in {**SEED["submit"], **CHOICES}.items() if name not in NOT_YET}
    if "model" in NOT_YET:
        served["image"] = "docker.io/library/busybox:1"
    return {**served, **changes}


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    profile = replace(LOCALNET, class_bonds={**LOCALNET.class_bonds, **dict.fromkeys(("v100", "a100", "h100"), 50)})
    with localnet(tmp_path_factory.mktemp("chain"), profile=profile) as running:
        yield running


@pytest.fixture
async def live_market(tmp_path, chain):
    """A market that takes nodes' word for their GPUs."""
    settings = settings_in(tmp_path, chain.folder / "keys", chain.rpc)
    file = tmp_path / "models.toml"
    image = f"registry.test/models/gpt2@sha256:{'a' * 64}"
    file.write_text(f'[gpt2]\nimage = "{image}"\ndescription = "Text goes on."\ndefault_gpu = "v100"\n')
    settings = settings.model_copy(
        update={
            "market": settings.market.model_copy(update={"trust_hardware": True}),
            "models": settings.models.model_copy(update={"file": file}),
        }
    )
    market = Market.build(settings)
    await market.start()
    await ready(market)
    yield market
    await market.stop()


@pytest.fixture
async def nodes(chain, live_market, live_call):
    """An A100 in Europe, an H100 in North America and a V100, as the examples of both seeds want them."""
    found = {}
    operator = await Renter.funded(Wallet(), chain, live_market, live_call)
    for class_id, region in (("a100", "eu"), ("h100", "na"), ("v100", "eu")):
        node = ScriptedNode(operator)
        node.hardware = {**HARDWARE, "gpus": [class_id]}
        await node.register("0.0001", region, **{"class": class_id, "hardware": node.hardware, "name": class_id})
        await node.connect(live_call)
        found[class_id] = node
    yield found
    for node in found.values():
        await node.close()


class Client:
    """Calls with an API key, as this page's clients have one."""

    def __init__(self, call, key):
        self.call, self.key = call, key

    async def __call__(self, method, path, *, headers=None, **more):
        return await self.call(method, path, headers={"X-Api-Key": self.key, **(headers or {})}, **more)


@pytest.fixture
async def client(renter):
    await renter.deposit("20")
    _, prepared, _ = await renter("POST", "/v1/allowance", json=ALLOWANCE)
    await renter.send(prepared)
    status, made, _ = await renter("POST", "/v1/api-keys", json={"name": "seed", "scopes": ["jobs"]})
    assert status == 201, made
    return Client(renter.call, made["key"])


async def reached(client, renter, job_id, word):
    """The job as the client sees it, once it is there: a key may ask 60 times a minute, its wallet far more often."""
    await until(renter, job_id, word)
    status, job, _ = await client("GET", f"/v1/jobs/{job_id}")
    assert (status, job["status"]) == (200, word), job
    return job


def has_shape(answer, example):
    """The example's fields come first, in its order; each of its type, or null where it may be."""
    assert list(answer)[: len(example)] == list(example)
    for name, value in example.items():
        assert value is None or answer[name] is None or type(answer[name]) is type(value), name


async def test_a_job_goes_its_way_as_the_page_shows_it(client, renter, nodes, live_market, live_call):
    submitting = asyncio.create_task(client("POST", "/v1/jobs", json=body()))
    attempt = await nodes["v100"].take()
    status, answer, _ = await submitting
    assert status == 201, answer
    # this one field is a job's own in seed 000 and comes before: the page's three are there with their types
    shown = {name: answer[name] for name in SEED["submit_answer"]}
    assert {name: type(value) for name, value in shown.items()} == {
        "job_id": str, "estimated_cost": float, "estimated_time_seconds": int,
    }  # fmt: skip
    assert shown["estimated_cost"] == 0.3672, "2 % above the floor of 0.36 an hour, for an hour"
    await until(renter, answer["job_id"], "assigned")
    await attempt.ready(live_market)
    job = await reached(client, renter, answer["job_id"], "running")
    has_shape(job, SEED["status_answer"])
    assert (job["miner_id"], job["completed_at"], job["result"]) == (nodes["v100"].id, None, None)
    assert all(INSTANT.fullmatch(job[name]) for name in ("created_at", "started_at"))
    assert 0 <= job["progress"] < 100
    status, listed, _ = await client("GET", SEED["list"])
    assert (status, list(listed), listed["total"], listed["has_more"]) == (200, list(SEED["list_answer"]), 1, False)
    assert list(listed["jobs"][0])[:3] == list(SEED["list_answer"]["jobs"][0])
    assert (listed["jobs"][0]["job_id"], listed["jobs"][0]["status"]) == (job["job_id"], "running")
    assert attempt.spec.input is not None, "the page's input is on its way to the node"
    assert (await client("GET", f"/v1/jobs/{job['job_id']}/download"))[1]["error"] == "not_ready"
    await attempt.report("uploading", reason=1)
    deliver = Delivery(live_call, nodes["v100"], attempt, (await live_call.login(nodes["v100"], "node"))["token"])
    assert (await deliver.put("result.json", b'{"text": "gpt2 says"}'))[0] == 200
    final = attempt.voucher(200, state=VoucherState.FINAL, reason=1)
    await attempt.report("exited", reason=1, exit_code=0, voucher=final)
    job = await reached(client, renter, answer["job_id"], "completed")
    has_shape(job, SEED["status_answer"])
    assert INSTANT.fullmatch(job["completed_at"])
    assert (job["progress"], job["result"]) == (100, {"text": "gpt2 says"})
    status, downloaded, headers = await client("GET", f"/v1/jobs/{job['job_id']}/download")
    assert (status, downloaded, headers["Content-Type"]) == (200, {"text": "gpt2 says"}, "application/json")
    today = job["completed_at"][:10]
    status, history, _ = await client("GET", f"/v1/jobs/history?from={today}&to={today}")
    assert (status, list(history)) == (200, list(SEED["list_answer"]))
    assert [entry["job_id"] for entry in history["jobs"]] == [job["job_id"]], "both dates belong to the span"
    status, before, _ = await client("GET", SEED["history"])
    assert (status, before) == (200, {"jobs": [], "total": 0, "has_more": False})


async def test_a_job_is_cancelled_by_deleting_it(client, live_market):
    _, answer, _ = await client("POST", "/v1/jobs", json=body(max_price_per_hour="0.5"))
    status, job, _ = await client("DELETE", f"/v1/jobs/{answer['job_id']}")
    assert status == 200
    has_shape(job, SEED["status_answer"])
    assert (await until(client, answer["job_id"], "cancelled"))["settlement"]["paid"] == "0.000000"


@pytest.mark.parametrize("name", sorted(NOT_YET & SEED["submit"].keys()) or ["nonsense"])
async def test_what_is_not_served_yet_is_refused_by_name(live_call, name):
    token = (await live_call.login(Wallet()))["token"]
    wanted = body(**{name: SEED["submit"].get(name)})
    status, answer, _ = await live_call("POST", "/v1/jobs", token=token, json=wanted)
    assert (status, answer["details"][0]["field"]) == (422, name)


async def test_errors_and_limits_are_the_page_s(client, live_call):
    unknown = "/v1/jobs/job_1111111111111111111111"
    found = {
        "400": await client("POST", "/v1/jobs", data="{", headers={"Content-Type": "application/json"}),
        "401": await live_call("GET", "/v1/jobs"),
        "404": await client("GET", unknown),
        "422": await client("POST", "/v1/jobs", json=body(priority="now")),
    }
    for code, (status, answer, headers) in found.items():
        assert (str(status), answer["error"]) == (code, SEED["errors"][code])
        assert headers["X-RateLimit-Limit"]
    _, _, headers = await client("GET", unknown)
    assert headers["X-RateLimit-Limit"] == str(SEED["rate_limits"]["minute"])
    refused = found["404"]
    async with asyncio.timeout(60):
        while refused[0] != 429:
            refused = await client("GET", unknown)
    assert refused[1]["error"] == SEED["errors"]["429"]
    assert int(refused[2]["Retry-After"]) >= 1
