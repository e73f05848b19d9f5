"""Models over HTTP: listed, quoted, run, on the receipt; a real market, the real program, a scripted node."""

import asyncio
from dataclasses import replace

import pytest

from marketplace.api.native import control
from marketplace.app import Market
from marketplace.client.client import ReaverClient
from marketplace.client.errors import MalformedAnswer
from marketplace.client.keypairs import Keypair as ClientKeypair
from marketplace.client.requests import JobRequest
from marketplace.domain.ids import AccountId
from marketplace.protocol.sealing import unseal
from marketplace.protocol.terms import JobSpec
from marketplace.services.models import ModelEntry
from marketplace.services.principals import AccountPrincipal, Scope
from tests.api.conftest import Renter, Wallet, settings_in
from tests.api.scripted_node import ScriptedNode
from tests.api.serving import ready
from tests.api.test_job_fields import run_to_exit
from tests.api.test_jobs import ALLOWANCE, balanced, until

IMAGE = "registry.test/models/tiny@sha256:" + "a" * 64
FILE = f"""
[gpt2]
image = "{IMAGE}"
command = ["runner", "generate"]
description = "Text goes on."
default_gpu = "cpu-small"
default_timeout_seconds = 120
estimated_time_seconds = 9
formats = ["json", "text"]
input_schema = {{ type = "string" }}

[embed]
image = "registry.test/models/embed:1"
description = "Text as numbers."
default_gpu = "cpu-small"
"""


@pytest.fixture
async def live_market(tmp_path, chain):
    file = tmp_path / "models.toml"
    file.write_text(FILE)
    settings = settings_in(tmp_path, chain.folder / "keys", chain.rpc)
    settings = settings.model_copy(update={"models": settings.models.model_copy(update={"file": file})})
    market = Market.build(settings)
    await market.start()
    await ready(market)
    yield market
    await market.stop()


@pytest.fixture
async def allowed(renter):
    await renter.deposit("20")
    _, prepared, _ = await renter("POST", "/v1/allowance", json=ALLOWANCE)
    await renter.send(prepared)
    return renter


@pytest.fixture
async def node(chain, live_market, live_call):
    node = ScriptedNode(await Renter.funded(Wallet(), chain, live_market, live_call))
    await node.register()
    assert (await node.connect(live_call))["type"] == "hello"
    yield node
    await node.close()


async def test_models_are_listed_and_read(renter):
    status, listed, _ = await renter("GET", "/v1/models")
    assert (status, [model["name"] for model in listed["models"]], listed["total"]) == (200, ["embed", "gpt2"], 2)
    _, page, _ = await renter("GET", "/v1/models?limit=1")
    assert (len(page["models"]), page["has_more"]) == (1, True)
    assert await _read(renter, "gpt2") == {
        "name": "gpt2", "image": IMAGE, "command": ["runner", "generate"], "description": "Text goes on.", "default_gpu": "cpu-small", "min_vram_gb": 0,
        "default_timeout_seconds": 120, "estimated_time_seconds": 9, "formats": ["json", "text"],
        "input_schema": {"type": "string"},
    }  # fmt: skip
    status, answer, _ = await renter("GET", "/v1/models/gpt3")
    assert (status, answer["error"]) == (404, "not_found")


async def _read(renter, name):
    status, model, _ = await renter("GET", f"/v1/models/{name}")
    assert status == 200, model
    return model


async def test_a_model_runs_by_its_name_and_is_named_on_job_list_and_receipt(allowed, node, live_market):
    status, quote, _ = await allowed("POST", "/v1/quote", json={"model": "gpt2"})
    assert status == 200, "a quote needs no input yet"
    status, quote, _ = await allowed("POST", "/v1/quote", json={"model": "gpt2", "input": "on"})
    assert status == 200, quote
    assert (quote["class"], quote["max_seconds"], quote["estimated_time_seconds"]) == ("cpu-small", 120, 9)
    body = {"model": "gpt2", "input": "on", "quote": quote["quote"]}
    submitting = asyncio.create_task(allowed("POST", "/v1/jobs", json=body))
    asked = await node.next_request()
    spec = JobSpec.model_validate_json(unseal(bytes(node.key), asked[1].sealed_spec))
    assert (spec.image, spec.command, spec.limit_ms) == (IMAGE, ("runner", "generate"), 120_000)
    await node.requests.put(asked)
    job_id = await run_to_exit(live_market, allowed, node, submitting, 0, final=True)
    job = await until(allowed, job_id, "completed")
    balanced(job)
    assert (job["model"], job["image"], job["timeout_seconds"]) == ("gpt2", IMAGE, 120)
    for wanted, found in (("gpt2", [job_id]), ("embed", []), ("none", [])):
        _, listed, _ = await allowed("GET", f"/v1/jobs?model={wanted}")
        assert ([(entry["job_id"], entry["model"]) for entry in listed["jobs"]], listed["total"]) == (
            [(each, wanted) for each in found], len(found),
        )  # fmt: skip
        _, past, _ = await allowed("GET", f"/v1/jobs/history?model={wanted}")
        assert past["total"] == len(found)
    status, receipt, _ = await allowed("GET", f"/v1/jobs/{job_id}/receipt")
    assert (status, receipt["model"]) == (200, "gpt2"), receipt


async def test_a_client_checks_a_models_escrow_as_any_others(renter, node, monkeypatch):
    """Without an allowance the wallet signs: the spec is computed from what the market says that the model is."""

    async def token():
        return renter.token

    await renter.deposit("20")
    async with ReaverClient(renter.call.base, ClientKeypair(bytes(renter.key))) as client:
        # these markets say another address than they listen on
        monkeypatch.setattr(client._calls, "token", token)
        asked = JobRequest(model="gpt2", input="Once upon")
        quote = await client.quote(asked)
        submission = await client.submit_job(asked, quote)
        assert submission.signed
        job = await client.get_job(submission.job.id)
        assert (job.image, job.timeout_seconds, job.gpu) == (IMAGE, 120, "cpu-small")
        _, request = await node.next_request()
        spec = JobSpec.model_validate_json(unseal(bytes(node.key), request.sealed_spec))
        model = await client.get_model("gpt2")
        wanted = asked.completed(model).spec()
        assert spec.model_copy(update={"image_digest": None}).spec_hash() == wanted.spec_hash()
        # One that says otherwise than it runs: the quote is no longer for what the model was said to be.
        lied = model.model_copy(update={"image": "registry.test/other:1"})
        monkeypatch.setattr(client, "get_model", lambda _name: _answer(lied))
        with pytest.raises(MalformedAnswer, match="spec hash"):
            await client.submit_job(replace(asked, name="again"), await client.quote(asked))
        await client.cancel_job(submission.job.id)


async def _answer(value):
    return value


async def test_wrong_models_are_refused_before_anything_is_spent(renter):
    for body, code in (
        ({"model": "gtp2"}, "unknown_model"),
        ({"model": "gpt2", "image": "busybox:1"}, "conflict"),
        ({"model": ""}, "out_of_range"),
        ({"model": "gpt2"}, "required"),
        ({"model": "gpt2", "input": 5}, "not_allowed"),
        ({"gpu": "cpu-small"}, "required"),
    ):
        status, answer, _ = await renter("POST", "/v1/jobs", json=body)
        assert (status, answer["details"][0]["code"]) == (422, code), answer
    status, answer, _ = await renter("POST", "/v1/quote", json={"model": "gtp2"})
    assert (status, answer["details"][0]["suggestions"]) == (422, ["gpt2"])


async def test_a_group_names_a_model_too(allowed, node):
    status, group, _ = await allowed("POST", "/v1/groups", json={"job": {"model": "gpt2", "input": "on"}, "count": 1})
    assert status == 201, group
    _, request = await node.next_request()
    spec = JobSpec.model_validate_json(unseal(bytes(node.key), request.sealed_spec))
    assert (spec.image, spec.command, spec.limit_ms) == (IMAGE, ("runner", "generate"), 120_000)
    status, answer, _ = await allowed("POST", "/v1/groups", json={"job": {"model": "gtp2"}, "count": 1})
    assert (status, answer["details"][0]["code"]) == (422, "unknown_model")
    body = {"job": {"model": "gpt2"}, "inputs": ["on", 5]}
    status, answer, _ = await allowed("POST", "/v1/groups", json=body)
    assert (status, answer["details"][0]["code"]) == (422, "not_allowed"), answer


ADMIN = AccountPrincipal(AccountId("acct_admin"), "wallet", "login", frozenset({Scope.ADMIN}))
TINY = ModelEntry(image="registry.test/models/tiny:1", description="d", default_gpu="cpu-small")


async def test_a_model_that_is_changed_or_deleted_takes_nothing_with_it(allowed, node, live_market, monkeypatch):
    models = live_market.jobs.models
    await models.put(ADMIN, "tiny", TINY)
    _, quote, _ = await allowed("POST", "/v1/quote", json={"model": "tiny"})
    job, key = {"model": "tiny", "maxMinutes": 2}, {"Idempotency-Key": "first"}
    with monkeypatch.context() as patch:
        # the node has this offer in hand for as long as the model changes
        patch.setattr(control, "ANSWER_MS", 60_000)
        submitting = asyncio.create_task(allowed("POST", "/v1/jobs", json=job, headers=key))
        asked = await node.next_request()
    await node.requests.put(asked)
    # Another image by the same name: the quote was for the first one, and nothing is spent under it.
    await models.put(ADMIN, "tiny", TINY.model_copy(update={"image": "registry.test/models/tiny:2"}))
    status, answer, _ = await allowed("POST", "/v1/jobs", json={"model": "tiny", "quote": quote["quote"]})
    assert (status, answer["error"]) == (422, "quote_mismatch"), answer
    await models.delete(ADMIN, "tiny")
    status, answer, _ = await allowed("POST", "/v1/jobs", json={"model": "tiny", "quote": quote["quote"]})
    assert (status, answer["details"][0]["code"]) == (422, "unknown_model")
    # What runs goes on to its end, paid by what it ran; its own call still finds it, and it can be run again.
    job_id = await run_to_exit(live_market, allowed, node, submitting, 0, final=True)
    ended = await until(allowed, job_id, "completed")
    balanced(ended)
    assert (ended["model"], ended["image"]) == ("tiny", "registry.test/models/tiny:1")
    status, again, _ = await allowed("POST", "/v1/jobs", json=job, headers=key)
    assert (status, again["id"]) == (201, job_id)
    status, retried, _ = await allowed("POST", f"/v1/jobs/{job_id}/retry")
    assert (status, (await allowed("GET", f"/v1/jobs/{retried['id']}"))[1]["image"]) == (201, ended["image"])


async def test_a_signed_job_of_a_deleted_model_is_found_by_its_call(renter, live_market):
    """Its wallet pays after the model is gone: what was signed stands, and the repeated call answers it."""
    await renter.deposit("20")
    models = live_market.jobs.models
    await models.put(ADMIN, "tiny", TINY)
    job, key = {"model": "tiny", "maxMinutes": 2, "max_price_per_hour": "1"}, {"Idempotency-Key": "signed"}
    status, needed, _ = await renter("POST", "/v1/jobs", json=job, headers=key)
    assert (status, needed["error"]) == (402, "signature_required"), needed
    await models.delete(ADMIN, "tiny")
    status, same, _ = await renter("POST", "/v1/jobs", json=job, headers=key)
    assert (status, same["transaction"]) == (402, needed["transaction"])
    await renter.send(needed)
    async with asyncio.timeout(20):
        while (made := await renter("POST", "/v1/jobs", json=job, headers=key))[0] != 201:  # noqa: ASYNC110 - what a renter does
            await asyncio.sleep(0.05)
    assert made[1]["escrow"] == needed["escrow"]
    # another body under that key is another matter, and so is another key
    status, answer, _ = await renter("POST", "/v1/jobs", json=job | {"name": "x"}, headers=key)
    assert (status, answer["error"]) in {(422, "idempotency_key_reused"), (422, "validation_error")}
    assert (await renter("POST", "/v1/jobs", json=job))[0] == 422


async def test_members_that_wait_for_a_deleted_model_are_refused_and_say_why(renter, live_market):
    models = live_market.jobs.models
    await models.put(ADMIN, "tiny", TINY)
    body = {"job": {"model": "tiny", "max_price_per_hour": "1"}, "count": 2}
    status, group, _ = await renter("POST", "/v1/groups", json=body)
    assert status == 201, group
    await models.delete(ADMIN, "tiny")
    await live_market.jobs.groups.work()
    async with asyncio.timeout(20):
        while (shown := (await renter("GET", f"/v1/groups/{group['id']}"))[1])["ended_at"] is None:  # noqa: ASYNC110 - what a renter does
            await asyncio.sleep(0.05)
    assert shown["summary"] == {"refused": 2}
    assert all("is no model we know" in member["error"] for member in shown["jobs"])
    assert shown["locked"] == "0.000000"
