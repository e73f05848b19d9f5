"""Fields of the job body over HTTP, each with its effect: a real market, the real program, scripted nodes."""

import asyncio
import json
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from marketplace.app import Market
from marketplace.chain.constants import LOCALNET
from marketplace.domain.reasons import Reason
from marketplace.protocol.sealing import unseal
from marketplace.protocol.terms import FIELDS, SPEC_VERSION
from marketplace.protocol.vouchers import VoucherState
from tests.api.conftest import Renter, Wallet, settings_in
from tests.api.leaps import LeapingClock, looked_at
from tests.api.scripted_node import HARDWARE, ScriptedNode
from tests.api.serving import ready
from tests.api.test_jobs import ALLOWANCE, balanced, submit, until
from tests.chain.market import localnet


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """A chain whose market has GPU classes."""
    profile = replace(LOCALNET, class_bonds={**LOCALNET.class_bonds, **dict.fromkeys(("v100", "a100", "h100"), 50)})
    with localnet(tmp_path_factory.mktemp("chain"), profile=profile) as running:
        yield running


@pytest.fixture
async def live_market(tmp_path, chain):
    """A market that believes what nodes say of their GPUs, with a clock that leaps when told to."""
    settings = settings_in(tmp_path, chain.folder / "keys", chain.rpc)
    settings = settings.model_copy(update={"market": settings.market.model_copy(update={"trust_hardware": True})})
    market = Market.build(settings, clock=LeapingClock())
    await market.start()
    await ready(market)
    yield market
    await market.stop()


@pytest.fixture
async def allowed(renter):
    """A renter with a vault and an allowance."""
    await renter.deposit("20")
    _, prepared, _ = await renter("POST", "/v1/allowance", json=ALLOWANCE)
    await renter.send(prepared)
    return renter


@pytest.fixture
async def add_node(chain, live_market, live_call):
    """Registers and connects a scripted node of a class."""
    nodes = []

    async def add(class_id, floor="0.00002", cuda=None, spec_version=SPEC_VERSION):
        node = ScriptedNode(await Renter.funded(Wallet(), chain, live_market, live_call))
        node.spec_version = spec_version
        node.hardware = {**HARDWARE, "gpus": [] if class_id == "cpu-small" else [class_id] * 2, "cuda_version": cuda}
        await node.register(floor, **{"class": class_id, "hardware": node.hardware})
        assert (await node.connect(live_call))["type"] == "hello"
        nodes.append(node)
        return node

    yield add
    for node in nodes:
        await node.close()


async def run_to_exit(market, renter, node, submitting, exit_code, *, final):
    """Claim the next attempt, run it for a moment, let it exit; the job's id. submitting: of the first attempt."""
    attempt = await node.take()
    if submitting is not None:
        await submitting
    job_id = attempt.request.allocation_id.replace("alloc_", "job_")
    await until(renter, job_id, "assigned")
    await attempt.ready(market)
    await until(renter, job_id, "running")
    reason = 2 if exit_code else 1
    voucher = attempt.voucher(300, state=VoucherState.FINAL if final else VoucherState.ENDED, reason=reason)
    answer = await attempt.report("exited", reason=reason, exit_code=exit_code, voucher=voucher)
    assert answer["type"] == "ack", answer
    return job_id


async def test_a_listed_exit_code_is_tried_again_after_a_pause_at_the_renters_cost(allowed, add_node, live_market):
    node = await add_node("cpu-small")
    submitting = asyncio.create_task(submit(allowed, retry={"max_attempts": 2, "exit_codes": [75], "on": []}))
    first = await run_to_exit(live_market, allowed, node, submitting, 75, final=False)
    job = await until(allowed, first, "queued")
    assert [(a["number"], a["end_reason"], a["exit_code"]) for a in job["attempts"]] == [(1, "app_error", 75)]
    assert job["attempts"][0]["paid"] == "0.000006"
    await paused_for(allowed, job, 1, 10)
    assert job["retry"] == {"max_attempts": 2, "on": [], "exit_codes": [75], "extend": False}
    await looked_at(live_market, first.replace("job_", "alloc_"))
    assert node.requests.empty()
    live_market.clock.ahead_ms += 10_000
    live_market.jobs.scheduler.wake_queued()
    # the same node is asked: it did what it should
    await run_to_exit(live_market, allowed, node, None, 75, final=True)
    job = await until(allowed, first, "failed")
    balanced(job)
    assert (job["reason"], job["exit_code"], job["settlement"]["billed_ms"]) == ("app_error", 75, 600)
    assert [a["node_id"] for a in job["attempts"]] == [node.id] * 2


async def paused_for(renter, job, number, seconds):
    """The pause before the next attempt is of so many seconds, from the end of that one's payment."""
    _, page, _ = await renter("GET", f"/v1/jobs/{job['id']}/events?types=job.attempt_failed&limit=1000")
    (failed,) = (event for event in page["events"] if event["data"]["attempt"] == number)
    instants = job["attempts"][number - 1]["ended_at"], job["queue"]["retry_at"], failed["timestamp"]
    ended, again, told = (datetime.fromisoformat(each) for each in instants)
    assert ended <= again - timedelta(seconds=seconds) <= told


async def commanded(node, kind, allocation_id):
    async with asyncio.timeout(60):
        while True:
            for found in node.commands:
                if (found["type"], found["allocation_id"]) == (kind, allocation_id):
                    return found
            await asyncio.sleep(0.02)


async def test_a_node_that_is_not_ready_within_the_limit_is_told_to_stop_and_another_has_it_for_nothing(
    allowed, add_node, live_market
):
    slow = await add_node("cpu-small")
    submitting = asyncio.create_task(submit(allowed, max_price_per_hour="0.5"))
    attempt = await slow.take()
    job_id = (await submitting)[1]["id"]
    await until(allowed, job_id, "assigned")
    assert (await attempt.report("pulling"))["type"] == "ack"
    limit = (await allowed("GET", "/v1/constants"))[1]["timing"]["start_limit_s"]
    over_at = live_market.jobs.live.attempt(attempt.request.allocation_id).assigned_at_ms + int(limit * 1000)
    live_market.clock.stand_at(over_at - 1)
    await looked_at(live_market, attempt.request.allocation_id)
    assert slow.commands == [c for c in slow.commands if c["type"] == "assigned"]
    live_market.clock.stand_at(over_at)
    live_market.jobs.scheduler.wake(attempt.request.allocation_id)
    stop = await commanded(slow, "stop", attempt.request.allocation_id)
    live_market.clock.go_on()
    assert stop["reason"] == Reason.START_TIMEOUT
    job = await until(allowed, job_id, "queued")
    assert [(a["end_reason"], a["billed_ms"], a["paid"]) for a in job["attempts"]] == [("start_timeout", 0, "0.000000")]
    late = await attempt.report("ready", started_at_ms=live_market.jobs.chain.now())
    assert (late["type"], late["body"]["code"]) == ("error", "lease_lost")
    quick = await add_node("cpu-small")
    await run_to_exit(live_market, allowed, quick, None, 0, final=True)
    job = await until(allowed, job_id, "completed")
    assert [a["node_id"] for a in job["attempts"]] == [slow.id, quick.id]


async def test_a_node_that_does_not_obey_a_stop_is_lost_to_its_last_acknowledged_voucher(
    allowed, add_node, live_market
):
    node = await add_node("cpu-small")
    submitting = asyncio.create_task(submit(allowed, max_price_per_hour="0.5", stop_grace_seconds=1))
    attempt = await node.take()
    job_id = (await submitting)[1]["id"]
    await until(allowed, job_id, "assigned")
    await attempt.ready(live_market)
    await until(allowed, job_id, "running")
    assert (await attempt.beat(attempt.voucher(300)))["countersigned"]
    await allowed("DELETE", f"/v1/jobs/{job_id}")
    await commanded(node, "stop", attempt.request.allocation_id)
    live_market.clock.ahead_ms += 31_000
    live_market.jobs.scheduler.wake(attempt.request.allocation_id)
    job = await until(allowed, job_id, "cancelled")
    assert (job["reason"], job["attempts"][0]["end_reason"], job["attempts"][0]["billed_ms"]) == (
        "cancelled", "node_lost", 300,
    )  # fmt: skip
    refused = await attempt.beat(attempt.voucher(20_000))
    assert [r["code"] for r in refused["refused"]] == ["lease_lost"]


async def test_an_allowance_that_is_revoked_while_a_job_waits_stops_it_and_blames_no_node(
    allowed, add_node, live_market
):
    _, answer, _ = await submit(allowed, max_price_per_hour="0.5", queue_seconds=60)
    await until(allowed, answer["id"], "queued")
    _, prepared, _ = await allowed("DELETE", "/v1/allowance")
    await allowed.send(prepared)
    node = await add_node("cpu-small")
    await node.take()
    wanted = [{"constraint": "allowance", "wanted": "granted", "best": "revoked", "nodes_excluded": 0}]
    async with asyncio.timeout(60):
        while True:
            _, job, _ = await allowed("GET", f"/v1/jobs/{answer['id']}")
            if job["queue"] and job["queue"]["because"] == wanted:
                break
            await asyncio.sleep(0.1)
    assert (job["status"], job["attempts"]) == ("queued", [])
    # no node is asked for what can't be assigned
    live_market.jobs.scheduler.wake_queued()
    await looked_at(live_market, answer["id"].replace("job_", "alloc_"))
    assert node.requests.empty()
    _, prepared, _ = await allowed("POST", "/v1/allowance", json=ALLOWANCE)
    await allowed.send(prepared)
    live_market.jobs.scheduler.wake_queued()
    await run_to_exit(live_market, allowed, node, None, 0, final=True)
    job = await until(allowed, answer["id"], "completed")
    balanced(job)
    assert [a["node_id"] for a in job["attempts"]] == [node.id]


async def test_an_end_that_the_renter_left_out_is_the_last(allowed, add_node):
    node = await add_node("cpu-small")
    submitting = asyncio.create_task(submit(allowed, retry={"on": ["node_lost"]}))
    attempt = await node.take()
    _, answer, _ = await submitting
    await until(allowed, answer["id"], "assigned")
    assert (await attempt.report("exited", reason=8))["type"] == "ack"
    job = await until(allowed, answer["id"], "failed")
    assert (job["reason"], len(job["attempts"]), job["settlement"]["paid"]) == ("pull_failed", 1, "0.000000")


async def test_the_first_class_of_the_list_that_is_there_takes_it(allowed, add_node):
    cheap = await add_node("v100", cuda="12.2")
    dear = await add_node("a100", "0.0001", cuda="12.8")
    wanted = {"gpu_types": ["h100", "a100", "v100"], "min_vram_gb": 16}
    _, quote, _ = await allowed("POST", "/v1/quote", json={"requirements": wanted, "maxMinutes": 5})
    assert (quote["match"], quote["class"], quote["nodes_now"]) == (True, "any", 2)
    submitting = asyncio.create_task(submit(allowed, gpu=None, requirements=wanted))
    attempt = await dear.take()
    _, answer, _ = await submitting
    assert (attempt.request.class_id, attempt.spec.class_id) == ("a100", "a100")
    job = await until(allowed, answer["id"], "assigned")
    assert (job["gpu"], job["requirements"]["gpu_types"]) == ("a100", ["h100", "a100", "v100"])
    assert job["settlement"]["price_per_hour"] == "0.360000"
    # the dearer one is lost to it: the next of the list goes on
    await attempt.report("exited", reason=8)
    attempt = await cheap.take()
    job = await until(allowed, answer["id"], "assigned")
    assert job["gpu"] == "v100"
    await attempt.report("exited", reason=7)
    assert (await until(allowed, answer["id"], "failed"))["settlement"]["paid"] == "0.000000"


async def test_what_no_node_has_is_said_with_what_would_do(allowed, add_node):
    await add_node("v100", cuda="12.2")
    body = {"gpu": "v100", "maxMinutes": 5, "requirements": {"min_cuda": "12.4"}}
    _, quote, _ = await allowed("POST", "/v1/quote", json=body)
    assert quote["because"] == [{"constraint": "cuda", "wanted": "12.4", "best": "12.2", "nodes_excluded": 1}]
    assert quote["nearest"]["change"] == {"requirements.min_cuda": "12.2"}
    body["requirements"] = {"min_reputation": 0.9}
    _, quote, _ = await allowed("POST", "/v1/quote", json=body)
    assert quote["because"] == [{"constraint": "reputation", "wanted": "0.9000", "best": "0.5000", "nodes_excluded": 1}]
    assert quote["nearest"]["change"] == {"requirements.min_reputation": 0.5}
    status, answer, _ = await submit(allowed, **body)
    assert status == 201, answer
    _, job, _ = await allowed("GET", f"/v1/jobs/{answer['id']}")
    assert job["queue"]["because"] == quote["because"]
    assert job["requirements"]["min_reputation"] == 0.9


async def test_a_node_that_is_older_than_a_job_s_fields_is_not_offered_it(allowed, add_node, live_call):
    node = await add_node("cpu-small", spec_version=None)
    body = {"maxMinutes": 5, "shm_gb": 0.5}
    status, newer, _ = await submit(allowed, "newer", **body)
    assert (status, newer["status"]) == (201, "queued"), newer
    because = [{"constraint": "version", "wanted": "2", "best": "1", "nodes_excluded": 1}]
    assert (await allowed("GET", f"/v1/jobs/{newer['id']}"))[1]["queue"]["because"] == because
    # what uses old fields only is read by it, to the last name that is sent
    submitting = asyncio.create_task(submit(allowed, "older", command=["x"], env={"A": "b"}, maxMinutes=5))
    attempt = await node.take()
    status, older, _ = await submitting
    assert (status, attempt.request.allocation_id) == (201, older["id"].replace("job_", "alloc_"))
    sent = json.loads(unseal(bytes(node.key), attempt.request.sealed_spec))
    assert (sent["command"], set(sent) <= FIELDS[1]) == (["x"], True)
    assert node.requests.empty(), "the other was never offered"
    # updated, it takes the other one
    await until(allowed, older["id"], "assigned")
    await node.close()
    node.spec_version = SPEC_VERSION
    holding = [{"allocation_id": attempt.request.allocation_id, "attempt": 1, "state": "pulling"}]
    assert (await node.connect(live_call, holding))["type"] == "hello"
    attempt = await node.take()
    assert (attempt.request.allocation_id, attempt.spec.shm_mb) == (newer["id"].replace("job_", "alloc_"), 500)
    _, placement, _ = await allowed("GET", f"/v1/jobs/{newer['id']}/placement")
    assert placement["placements"][-1]["node_id"] == node.id


async def test_jobs_are_found_by_whose_they_are(allowed, add_node):
    await add_node("cpu-small")
    for key, consumer in (("a", "team-1"), ("b", "team-2"), ("c", None)):
        fields = {} if consumer is None else {"consumer_id": consumer}
        status, answer, _ = await submit(allowed, key, region="na", max_price_per_hour="0.1", **fields)
        assert status == 201, answer
    _, listed, _ = await allowed("GET", "/v1/jobs?consumer_id=team-2")
    assert listed["total"] == 1
    _, job, _ = await allowed("GET", f"/v1/jobs/{listed['jobs'][0]['id']}")
    assert job["consumer_id"] == "team-2"


async def test_an_ended_job_is_repeated_with_all_that_it_said(allowed, add_node):
    node = await add_node("cpu-small")
    said = {"secrets": {"TOKEN": "planted"}, "labels": {"a": "b"}, "consumer_id": "team", "retry": {"max_attempts": 1}}
    submitting = asyncio.create_task(submit(allowed, command=["x"], shm_gb=0.5, **said))
    attempt = await node.take()
    _, first, _ = await submitting
    path = f"/v1/jobs/{first['id']}/retry"
    status, refused, _ = await allowed("POST", path)
    assert (status, refused["error"], refused["state"]) == (409, "conflict", "assigned")
    await attempt.report("exited", reason=8)
    await until(allowed, first["id"], "failed")
    headers = {"Idempotency-Key": "again"}
    body = {"timeout_seconds": 60, "priority": "high"}
    repeating = asyncio.create_task(allowed("POST", path, json=body, headers=headers))
    again = await node.take()
    status, second, headers = await repeating
    assert (status, headers["Location"]) == (201, f"/v1/jobs/{second['id']}")
    assert (again.spec.command, again.spec.secrets, again.spec.limit_ms) == (("x",), {"TOKEN": "planted"}, 60_000)
    assert again.request.escrow != attempt.request.escrow
    job = await until(allowed, second["id"], "assigned")
    assert (job["retry_of"], job["timeout_seconds"], job["priority"]) == (first["id"], 60, "high")
    assert {name: job[name] for name in ("labels", "consumer_id", "secret_names", "shm_gb")} == {
        "labels": {"a": "b"}, "consumer_id": "team", "secret_names": ["TOKEN"], "shm_gb": 0.5,
    }  # fmt: skip
    status, replayed, _ = await allowed("POST", path, json=body, headers={"Idempotency-Key": "again"})
    assert (status, replayed["id"]) == (201, second["id"])
    status, refused, _ = await allowed("POST", path, json={"priority": "now"})
    assert (status, refused["details"][0]["field"]) == (422, "priority")
    await again.report("exited", reason=7)
    await until(allowed, second["id"], "failed")


async def test_the_wait_for_a_node_begins_when_the_wallet_has_signed(renter, live_market):
    status, answer, _ = await submit(renter, region="na", max_price_per_hour="0.1", queue_seconds=60)
    assert (status, answer["error"]) == (402, "signature_required")
    live_market.clock.ahead_ms += 70_000
    await renter.send(answer)
    async with asyncio.timeout(60):
        while not (jobs := (await renter("GET", "/v1/jobs"))[1]["jobs"]):  # noqa: ASYNC110 - what a client does
            await asyncio.sleep(0.05)
    job = await until(renter, jobs[0]["id"], "queued", "expired")
    assert job["status"] == "queued"
    since, over = (datetime.fromisoformat(job["queue"][name]) for name in ("waiting_since", "until"))
    assert (over - since).total_seconds() == 60
    live_market.clock.ahead_ms += 60_000
    live_market.jobs.scheduler.wake_queued()
    job = await until(renter, job["id"], "expired")
    assert job["settlement"]["refunded"] == job["settlement"]["deposit"]


async def test_a_later_attempt_gets_the_full_time_again_inside_the_allowance(allowed, add_node, live_market):
    node = await add_node("cpu-small")
    retry = {"max_attempts": 3, "exit_codes": [75], "extend": True}
    submitting = asyncio.create_task(submit(allowed, retry=retry))
    job_id = await run_to_exit(live_market, allowed, node, submitting, 75, final=False)
    job = await until(allowed, job_id, "queued")
    assert job["retry"]["extend"] is True
    deposit = job["settlement"]["deposit"]
    live_market.clock.ahead_ms += 10_000
    live_market.jobs.scheduler.wake_queued()
    request_id, request = await node.next_request()
    assert (request.attempt, request.max_ms) == (2, 300_000)
    _, job, _ = await allowed("GET", f"/v1/jobs/{job_id}")
    assert job["settlement"]["deposit"] > deposit
    assert [t["kind"] for t in job["settlement"]["transactions"]].count("extend") == 1
    # outside the allowance the next one has what is left
    attempt = await node.claim(request_id, request)
    await until(allowed, job_id, "assigned")
    await attempt.ready(live_market)
    await until(allowed, job_id, "running")
    _, prepared, _ = await allowed("DELETE", "/v1/allowance")
    await allowed.send(prepared)
    voucher = attempt.voucher(300, state=VoucherState.ENDED, reason=2)
    assert (await attempt.report("exited", reason=2, exit_code=75, voucher=voucher))["type"] == "ack"
    job = await until(allowed, job_id, "queued")
    await paused_for(allowed, job, 2, 20)
    live_market.clock.ahead_ms += 20_000
    live_market.jobs.scheduler.wake_queued()
    _, request = await node.next_request()
    assert (request.attempt, request.max_ms) == (3, 299_700)
