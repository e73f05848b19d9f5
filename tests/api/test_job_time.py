"""More time for a job, the pause at its limit, the warnings before it; real program, scripted node."""

import asyncio

import pytest

from marketplace.client.client import ReaverClient
from marketplace.client.errors import ApiError, TransactionRefused
from marketplace.client.intents import IntentStore
from marketplace.client.keypairs import Keypair
from marketplace.domain.reasons import Reason
from marketplace.protocol.vouchers import VoucherState
from tests.api import scripted_node
from tests.api.leaps import looked_at
from tests.api.test_job_faults import (
    billed,
    closed,
    command,
    ended,
    make_node,
    quick_call,
    quick_market,
    renter,
    started,
)
from tests.api.test_jobs import ALLOWANCE

__all__ = ["make_node", "quick_call", "quick_market", "renter"]

FINAL = VoucherState.FINAL


@pytest.fixture
def pausing(monkeypatch):
    monkeypatch.setattr(scripted_node, "CAPABILITIES", {**scripted_node.CAPABILITIES, "pause": True})


async def extend(renter, job_id, seconds, key="more"):
    return await renter(
        "POST", f"/v1/jobs/{job_id}/extend", json={"additional_seconds": seconds}, headers={"Idempotency-Key": key}
    )


async def said(renter, job_id):
    """Types and data of the job's events, in order."""
    status, answer, _ = await renter("GET", "/v1/events?limit=1000")
    assert status == 200, answer
    return [(event["type"], event["data"]) for event in answer["events"] if event["data"].get("job_id") == job_id]


async def heard(renter, job_id, kind, count=1):
    async with asyncio.timeout(60):
        while True:
            found = [data for name, data in await said(renter, job_id) if name == kind]
            if len(found) >= count:
                return found
            await asyncio.sleep(0.05)


async def test_an_extension_inside_the_allowance_is_locked_told_and_used(renter, make_node, quick_market):
    node = await make_node()
    job_id, attempt = await started(renter, node, quick_market, timeout_seconds=2, maxMinutes=None)
    status, job, _ = await extend(renter, job_id, 60)
    assert (status, job["timeout_seconds"], job["status"]) == (200, 62, "running"), job
    assert job["settlement"]["deposit"] == "0.008611"  # 62 s at half a token an hour
    assert [t["kind"] for t in job["settlement"]["transactions"]][-1] == "extend"
    told = await command(node, "extend")
    assert (told["extended_ms"], told["allocation_id"]) == (60_000, attempt.request.allocation_id)
    # the same key adds nothing more, and binds to its body
    status, again, headers = await extend(renter, job_id, 60)
    assert (status, again["timeout_seconds"], headers["Idempotent-Replayed"]) == (200, 62, "true")
    assert (await extend(renter, job_id, 61))[0] == 422
    await billed(attempt, 2_500)
    assert (await ended(attempt, milliseconds=2_500, exit_code=0))["type"] == "ack"
    job = await closed(renter, job_id)
    assert (job["status"], job["settlement"]["billed_ms"]) == ("completed", 2_500)
    (data,) = await heard(renter, job_id, "escrow.extended")
    assert (data["added_seconds"], data["timeout_seconds"]) == (60, 62)
    assert (await extend(renter, job_id, 1, "late"))[1]["error"] == "already_terminal"
    # once more is what was submitted, not what became of it; and what it took is what is expected of it
    for change, seconds, expected in (({}, 2, 2), ({"timeout_seconds": 60}, 60, 3)):
        repeating = asyncio.create_task(renter("POST", f"/v1/jobs/{job_id}/retry", json=change))
        assert (await node.take()).spec.limit_ms == seconds * 1000
        status, again, _ = await repeating
        assert (status, again["estimated_time_seconds"]) == (201, expected), again
        _, job, _ = await renter("GET", f"/v1/jobs/{again['id']}")
        assert (job["timeout_seconds"], job["estimated_time_seconds"]) == (seconds, expected)


async def test_a_node_that_did_not_hear_of_an_extension_is_told_with_its_heartbeat(renter, make_node, quick_market):
    node = await make_node()
    job_id, attempt = await started(renter, node, quick_market, timeout_seconds=60, maxMinutes=None)
    assert (await extend(renter, job_id, 5))[0] == 200
    beat = await attempt.beat(attempt.voucher(1))
    told = [c for c in beat["commands"] if c["type"] == "extend"]
    assert [c["extended_ms"] for c in told] == [5_000]
    entry = {**attempt.name, "lease_token": attempt.lease, "state": "running", "extended_ms": 5_000}
    knows = await node.ask("heartbeat", {"sequence": 9, "free_slots": 1, "allocations": [entry]})
    assert [c for c in knows["body"]["commands"] if c["type"] == "extend"] == []


async def test_beyond_the_allowance_nothing_is_added_and_the_obstacle_is_named(renter, make_node, quick_market):
    node = await make_node()
    job_id, _ = await started(renter, node, quick_market, timeout_seconds=3_600, maxMinutes=None)
    status, answer, _ = await extend(renter, job_id, 86_400)
    assert (status, answer["error"], answer["blocked_by"]) == (402, "signature_required", "per_job"), answer
    assert (await renter("GET", f"/v1/jobs/{job_id}"))[1]["timeout_seconds"] == 3_600
    status, answer, _ = await extend(renter, job_id, 31 * 86_400)
    assert (status, answer["details"][0]["code"]) == (422, "out_of_range"), answer
    # with a wider allowance the same key goes on
    _, prepared, _ = await renter("POST", "/v1/allowance", json={**ALLOWANCE, "per_job": "20"})
    await renter.send(prepared)
    status, job, _ = await extend(renter, job_id, 86_400)
    assert (status, job["timeout_seconds"]) == (200, 90_000), job


async def test_an_escrow_that_the_wallet_opened_is_extended_by_its_signature(renter, make_node, quick_market):
    _, prepared, _ = await renter("DELETE", "/v1/allowance")
    await renter.send(prepared)
    node = await make_node()
    body = {"image": "busybox", "gpu": "cpu-small", "region": "eu", "timeout_seconds": 60, "max_price_per_hour": "0.5"}
    send = lambda: renter("POST", "/v1/jobs", json=body, headers={"Idempotency-Key": "own"})  # noqa: E731
    status, needed, _ = await send()
    assert status == 402, needed
    await renter.send(needed)
    attempt = await node.take()
    _, answer, _ = await send()
    job_id = answer["id"]
    await command(node, "assigned")
    await attempt.ready(quick_market)
    status, needed, _ = await extend(renter, job_id, 30)
    assert (status, needed["error"], needed["escrow"]) == (402, "signature_required", answer["escrow"]), needed
    assert needed["blocked_by"] == "wallet_opened"
    # asked again before it has landed: the same bytes
    assert (await extend(renter, job_id, 30))[1]["transaction"] == needed["transaction"]
    await renter.send(needed)
    async with asyncio.timeout(60):
        while (reply := await extend(renter, job_id, 30))[0] == 402:
            assert reply[1]["transaction"] == needed["transaction"]
            await asyncio.sleep(0.1)
    assert (reply[0], reply[1]["timeout_seconds"]) == (200, 90), reply
    assert (await command(node, "extend"))["extended_ms"] == 30_000
    await billed(attempt, 100)
    assert (await ended(attempt, milliseconds=200, exit_code=0))["type"] == "ack"
    assert (await closed(renter, job_id))["settlement"]["billed_ms"] == 200


async def test_held_at_its_limit_it_costs_nothing_until_more_time_resumes_it(renter, make_node, quick_market, pausing):
    node = await make_node()
    job_id, attempt = await started(renter, node, quick_market, timeout_seconds=1, maxMinutes=None)
    await billed(attempt, 1_000)
    assert (await attempt.report("paused"))["type"] == "ack"
    (paused,) = await heard(renter, job_id, "allocation.paused")
    assert paused["paused_until"]
    job = (await renter("GET", f"/v1/jobs/{job_id}"))[1]
    assert (job["status"], job["limit_at"]) == ("running", None)
    assert job["paused_at"] is not None
    # longer than the tolerance of the meter, and than any machine takes for what follows
    held_ms = 60_000
    quick_market.clock.ahead_ms += held_ms
    await looked_at(quick_market, attempt.request.allocation_id)
    assert not [c for c in node.commands if c["type"] == "stop"]
    assert (await extend(renter, job_id, 60))[0] == 200
    await command(node, "extend")
    over = await attempt.beat(attempt.voucher(1_000 + held_ms, at=attempt.started + 1_000 + held_ms))
    assert [r["code"] for r in over["refused"]] == ["clock"], over
    assert (await attempt.report("running"))["type"] == "ack"
    await heard(renter, job_id, "allocation.resumed")
    async with asyncio.timeout(60):
        while True:
            at = max(attempt.started + 1_300, quick_market.jobs.chain.now())
            answer = await attempt.beat(attempt.voucher(1_300, at=at))
            if answer["countersigned"]:
                break
            await asyncio.sleep(0.05)
    voucher = attempt.voucher(1_300, at=at, state=FINAL, reason=1)
    assert (await attempt.report("exited", reason=1, exit_code=0, voucher=voucher))["type"] == "ack"
    job = await closed(renter, job_id)
    assert (job["status"], job["settlement"]["billed_ms"]) == ("completed", 1_300)


async def test_held_and_not_extended_it_ends_for_its_time_and_pays_its_limit(renter, make_node, quick_market, pausing):
    node = await make_node()
    job_id, attempt = await started(renter, node, quick_market, timeout_seconds=1, maxMinutes=None)
    await billed(attempt, 1_000)
    await attempt.report("paused")
    final = attempt.voucher(1_000, at=attempt.started + 1_100, state=FINAL, reason=int(Reason.TIMEOUT))
    assert (await attempt.report("exited", reason=int(Reason.TIMEOUT), voucher=final))["type"] == "ack"
    job = await closed(renter, job_id)
    assert (job["status"], job["reason"], job["settlement"]["billed_ms"]) == ("timed_out", "timeout", 1_000)


async def test_a_node_that_cannot_pause_is_stopped_at_the_limit(renter, make_node, quick_market):
    node = await make_node()
    job_id, attempt = await started(renter, node, quick_market, timeout_seconds=1, maxMinutes=None)
    stop = await command(node, "stop")
    assert (stop["reason"], stop["final"]) == (int(Reason.TIMEOUT), True)
    assert (await ended(attempt, Reason.TIMEOUT, milliseconds=1_000))["type"] == "ack"
    assert (await closed(renter, job_id))["reason"] == "timeout"


async def test_little_time_left_is_told_once_and_again_after_an_extension(renter, make_node, quick_market, pausing):
    node = await make_node()
    job_id, attempt = await started(renter, node, quick_market, timeout_seconds=200, maxMinutes=None)
    began_at = quick_market.jobs.live.attempt(attempt.request.allocation_id).meter_at_ms
    quick_market.clock.stand_at(began_at + 180_001)
    quick_market.jobs.scheduler.wake(attempt.request.allocation_id)
    (warning,) = await heard(renter, job_id, "allocation.funds_low")
    assert (warning["threshold"], warning["seconds_left"], warning["job_id"]) == ("10%", 19, job_id)
    assert (await extend(renter, job_id, 300))[0] == 200
    assert quick_market.jobs.live.find(attempt.request.allocation_id).warned == 0
    quick_market.clock.stand_at(began_at + 450_001)
    quick_market.jobs.scheduler.wake(attempt.request.allocation_id)
    found = await heard(renter, job_id, "allocation.funds_low", 2)
    assert [w["threshold"] for w in found] == ["10%", "10%"]


async def test_an_extension_that_was_allowed_comes_by_itself_and_no_further(renter, make_node, quick_market, pausing):
    node = await make_node()
    job_id, attempt = await started(
        renter, node, quick_market, timeout_seconds=200, maxMinutes=None, auto_extend={"up_to_seconds": 300}
    )
    assert (await renter("GET", f"/v1/jobs/{job_id}"))[1]["extends_at"] is not None
    # a minute before its limit, each time
    for count, run_ms in ((1, 140_000), (2, 200_000)):
        quick_market.clock.ahead_ms += run_ms
        quick_market.jobs.scheduler.wake(attempt.request.allocation_id)
        extended = await heard(renter, job_id, "escrow.extended", count)
    assert [d["timeout_seconds"] for d in extended] == [400, 500]
    job = (await renter("GET", f"/v1/jobs/{job_id}"))[1]
    assert job["auto_extend"] == {"up_to_seconds": 300, "used_seconds": 300}
    assert job["extends_at"] is None
    await billed(attempt, 100)
    assert (await ended(attempt, milliseconds=200, exit_code=0))["type"] == "ack"
    assert (await closed(renter, job_id))["status"] == "completed"


async def test_auto_extend_without_an_allowance_is_refused_by_name(renter, make_node, quick_market):
    _, prepared, _ = await renter("DELETE", "/v1/allowance")
    await renter.send(prepared)
    await make_node()
    body = {"image": "busybox", "gpu": "cpu-small", "max_price_per_hour": "0.5", "auto_extend": {"up_to_seconds": 60}}
    status, answer, _ = await renter("POST", "/v1/jobs", json=body)
    assert (status, answer["details"][0]["field"]) == (422, "auto_extend"), answer


async def test_the_client_signs_an_extension_of_its_own_escrow_once_it_has_checked_it(
    renter, make_node, quick_market, tmp_path, monkeypatch
):
    async def token():
        return renter.token

    _, prepared, _ = await renter("DELETE", "/v1/allowance")
    await renter.send(prepared)
    node = await make_node()
    body = {"image": "busybox", "gpu": "cpu-small", "region": "eu", "timeout_seconds": 60, "max_price_per_hour": "0.5"}
    send = lambda: renter("POST", "/v1/jobs", json=body, headers={"Idempotency-Key": "own"})  # noqa: E731
    _, needed, _ = await send()
    await renter.send(needed)
    attempt = await node.take()
    _, answer, _ = await send()
    async with ReaverClient(
        f"http://127.0.0.1:{quick_market.port}", Keypair(bytes(renter.key)), intents=IntentStore(tmp_path / "intents")
    ) as client:
        # these markets say another address than they listen on
        monkeypatch.setattr(client._calls, "token", token)
        with pytest.raises(TransactionRefused, match="at most"):
            await client.extend_job(answer["id"], 30, at_most=1)
        assert (await client.get_job(answer["id"])).timeout_seconds == 60
        job = await client.extend_job(answer["id"], 30)
        assert job.timeout_seconds == 90
        await renter("POST", f"/v1/jobs/{answer['id']}/cancel")
        await command(node, "stop")
        await attempt.report("exited", reason=int(Reason.CANCELLED))
        with pytest.raises(ApiError) as refused:
            await client.extend_job(answer["id"], 40)
        assert refused.value.code in {"conflict", "already_terminal"}


async def test_the_published_constants_are_those_that_hold(renter, quick_market):
    _, constants, _ = await renter("GET", "/v1/constants")
    assert constants["timing"]["pause_s"] == 120
    jobs = constants["jobs"]
    assert (jobs["timeout_s"], jobs["total_s"], jobs["warnings"]) == (86_400, 30 * 86_400, ["1h", "10min", "10%"])
    assert (jobs["stop_grace_s"], jobs["stop_patience_s"]) == (300, 30)
    assert constants["retention"]["metrics_s"] == 7 * 86_400
    assert (constants["priority"]["step_s"], jobs["retry_first_pause_s"], jobs["retry_last_pause_s"]) == (600, 10, 300)
    assert (jobs["queue_s"], jobs["default_queue_s"]) == (constants["timing"]["queue_limit_s"],) * 2
    limits = constants["limits"]
    assert (limits["log_line_bytes"], limits["log_attempt_bytes"], limits["log_tail"]) == (16 << 10, 100 << 20, 10_000)
    assert (limits["group_members"], limits["span_days"], limits["price_days"]) == (1_000, 366, 90)
    assert (limits["models"], limits["model_bytes"], limits["error_details"]) == (1_000, 64 << 10, 32)
    body = {
        "image": "busybox",
        "gpu": "cpu-small",
        "max_price_per_hour": "0.5",
        "timeout_seconds": jobs["timeout_s"] + 1,
    }
    status, answer, _ = await renter("POST", "/v1/jobs", json=body)
    assert (status, answer["details"][0]["field"]) == (422, "timeout_seconds"), answer
