"""Groups over HTTP: one body, many jobs, one summary, one cancel; what follows waits with its money free."""

import asyncio
import hashlib
import time
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from aiohttp import ClientSession

from marketplace.app import Market
from marketplace.protocol.sealing import unseal
from marketplace.protocol.terms import JobSpec
from marketplace.protocol.vouchers import VoucherState
from marketplace.services.groups import FUNDING_MS
from tests.api.conftest import Caller, Renter, Wallet, settings_in
from tests.api.scripted_node import ScriptedNode
from tests.api.serving import ready

JOB = {"image": "docker.io/library/busybox:latest", "gpu": "cpu-small", "maxMinutes": 5, "max_price_per_hour": "1.2"}
"""Deposit: 0.1 each."""
ALLOWANCE = {
    "per_job": "5", "per_day": "50", "total": "50", "max_price_per_hour": "5", "expires_at": "2100-01-01T00:00:00Z",
}  # fmt: skip


@pytest.fixture
async def allowed(renter):
    await renter.deposit("5")
    _, prepared, _ = await renter("POST", "/v1/allowance", json=ALLOWANCE)
    await renter.send(prepared)
    return renter


@pytest.fixture
async def node(chain, live_market, live_call):
    operator = await Renter.funded(Wallet(), chain, live_market, live_call)
    scripted = ScriptedNode(operator)
    await scripted.register()
    await scripted.connect(live_call)
    yield scripted
    await scripted.close()


async def order(renter, key="g", **more):
    body = {name: value for name, value in ({"job": JOB, "count": 2} | more).items() if value is not None}
    return await renter("POST", "/v1/groups", json=body, headers={"Idempotency-Key": key})


async def until(renter, group_id, reached):
    group = {}
    async with asyncio.timeout(30):
        while not group or not reached(group):
            await asyncio.sleep(0.05)
            status, group, _ = await renter("GET", f"/v1/groups/{group_id}")
            assert status == 200, group
    return group


async def run_one(node, market, reason=1):
    attempt = await node.take()
    async with asyncio.timeout(20):
        while market.jobs.live.attempt(attempt.request.allocation_id).assigned_at_ms is None:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    await attempt.ready(market)
    final = attempt.voucher(900, state=VoucherState.FINAL, reason=reason)
    ended = await attempt.report("exited", reason=reason, exit_code=reason - 1, voucher=final)
    assert ended["type"] == "ack", ended
    return attempt


async def test_members_run_as_jobs_and_what_follows_waits_for_all_of_them(allowed, node, live_market, monkeypatch):
    # what follows begins because the group before it ended, not because somebody looks every ten seconds
    monkeypatch.setattr("marketplace.services.groups._POLL_S", 3600)
    status, group, headers = await order(allowed, name="train")
    assert (status, headers["Location"]) == (201, f"/v1/groups/{group['id']}")
    assert (group["name"], group["count"], group["total"]) == ("train", 2, 2)
    # the same call is the same group; another body is refused
    status, again, headers = await order(allowed, name="train")
    assert (again["id"], headers["Idempotent-Replayed"]) == (group["id"], "true")
    assert (await order(allowed, name="other"))[1]["error"] == "idempotency_key_reused"
    status, follower, _ = await order(allowed, "f", count=1, after=[group["id"]])
    assert (status, follower["status"], follower["summary"]) == (201, "waiting", {"waiting": 1})
    attempts = [await run_one(node, live_market) for _ in range(2)]
    assert sorted(a.spec.env["REAVER_GROUP_POSITION"] for a in attempts) == ["0", "1"]
    assert {a.spec.env["REAVER_GROUP_COUNT"] for a in attempts} == {"2"}
    done = await until(allowed, group["id"], lambda g: g["ended_at"])
    assert (done["status"], done["summary"], done["locked"]) == ("completed", {"completed": 2}, "0.000000")
    jobs = [(await allowed("GET", f"/v1/jobs/{member['job_id']}"))[1] for member in done["jobs"]]
    assert sum(int(job["cost"].replace(".", "")) for job in jobs) == int(done["cost"].replace(".", "")) > 0
    # now the follower's turn comes
    await run_one(node, live_market, reason=2)
    ended = await until(allowed, follower["id"], lambda g: g["ended_at"])
    assert (ended["status"], ended["summary"], ended["after"]) == ("failed", {"failed": 1}, [group["id"]])
    # what follows what failed is never opened, and locks nothing
    _, skipped, _ = await order(allowed, "s", after=[ended["jobs"][0]["job_id"]])
    skipped = await until(allowed, skipped["id"], lambda g: g["ended_at"])
    assert (skipped["status"], skipped["summary"], skipped["cost"]) == ("failed", {"skipped": 2}, "0.000000")
    assert (await allowed("GET", "/v1/vault"))[1]["locked"] == "0.000000"
    listed = (await allowed("GET", "/v1/groups"))[1]
    assert [entry["id"] for entry in listed["groups"]] == [skipped["id"], follower["id"], group["id"]]
    assert (await allowed("POST", f"/v1/groups/{group['id']}/cancel"))[1]["error"] == "already_terminal"


async def test_one_cancel_ends_all_and_refunds_all_also_after_a_restart(allowed, live_market, chain, tmp_path):
    _, group, _ = await order(allowed, count=30)
    # nobody takes them: as many as the market pays the rent of are open, the rest waits
    opened = await until(allowed, group["id"], lambda g: g["summary"].get("queued", 0) >= 20)
    assert opened["blocked"] is None or opened["blocked"]["error"] == "signature_required"
    blocked = await until(allowed, group["id"], lambda g: g["blocked"])
    waiting = blocked["summary"]["waiting"]
    assert blocked["summary"]["queued"] == 30 - waiting
    assert int(blocked["locked"].replace(".", "")) == (30 - waiting) * 100_000
    _, second, _ = await order(allowed, "second", count=1, after=[group["id"]])
    status, cancelling, _ = await allowed("POST", f"/v1/groups/{group['id']}/cancel")
    assert (status, cancelling["status"]) == (200, "cancelling")
    await live_market.stop()
    again = Market.build(settings_in(tmp_path, chain.folder / "keys", chain.rpc))
    await again.start()
    try:
        async with ClientSession() as session:
            call = Caller(session, f"http://127.0.0.1:{again.port}")
            await ready(again)
            allowed.call = call
            ended = await until(allowed, group["id"], lambda g: g["ended_at"])
            assert (ended["status"], ended["summary"]) == ("cancelled", {"cancelled": 30})
            assert (ended["locked"], ended["cost"]) == ("0.000000", "0.000000")
            follower = await until(allowed, second["id"], lambda g: g["ended_at"])
            assert follower["summary"] == {"skipped": 1}
            assert (await allowed("GET", "/v1/vault"))[1]["locked"] == "0.000000"
    finally:
        await again.stop()


async def test_without_leave_nothing_is_asked_of_the_wallet_and_the_group_says_what_blocks_it(renter, live_market):
    await renter.deposit("1")
    _, group, _ = await order(renter, count=2)
    blocked = await until(renter, group["id"], lambda g: g["blocked"])
    assert (blocked["status"], blocked["summary"]) == ("running", {"waiting": 2})
    assert blocked["blocked"]["error"] == "signature_required"
    assert (await renter("GET", "/v1/jobs"))[1]["total"] == 0
    # leave comes: it goes on by itself
    _, prepared, _ = await renter("POST", "/v1/allowance", json=ALLOWANCE)
    await renter.send(prepared)
    await live_market.jobs.groups.work()
    opened = await until(renter, group["id"], lambda g: g["summary"] == {"queued": 2})
    assert opened["blocked"] is None
    await renter("POST", f"/v1/groups/{group['id']}/cancel")
    await until(renter, group["id"], lambda g: g["ended_at"])
    assert FUNDING_MS > 0
    # refused by name
    for more, field in (
        ({"count": 0}, "count"), ({"count": 1001}, "count"), ({"inputs": ["a"]}, "inputs"),
        ({"count": None}, "inputs"), ({"count": None, "inputs": []}, "inputs"),
        ({"after": ["job_1111111111111111111111"]}, "after.0"), ({"job": {**JOB, "gpu": "z9"}}, "job.gpu"),
        ({"job": {**JOB, "secrets": {"REAVER_A": "b"}}}, "job.secrets"), ({"job": {**JOB, "quote": "x"}}, "job.quote"),
    ):  # fmt: skip
        status, answer, _ = await order(renter, f"w{field}{more}"[:40].replace(" ", ""), **more)
        assert (status, answer["error"]) == (422, "validation_error"), (more, answer)
        assert [detail["field"] for detail in answer["details"]] == [field]


async def test_members_of_a_deleted_key_end_at_once_and_say_so(renter, live_market, live_call):
    await renter.deposit("1")
    _, key, _ = await renter("POST", "/v1/api-keys", json={"name": "ci", "scopes": ["jobs"]})
    body = {"job": JOB, "count": 2}
    status, group, _ = await live_call("POST", "/v1/groups", token=key["key"], json=body)
    assert status == 201, group
    # one that still waits for its turn, behind the other
    follows = {"job": JOB, "count": 1, "after": [group["id"]]}
    _, later, _ = await live_call("POST", "/v1/groups", token=key["key"], json=follows)
    await until(renter, group["id"], lambda g: g["blocked"])
    assert (await renter("DELETE", f"/v1/api-keys/{key['id']}"))[0] == 204
    for each, count in ((group, 2), (later, 1)):
        ended = await until(renter, each["id"], lambda g: g["ended_at"])
        assert (ended["status"], ended["summary"], ended["blocked"]) == ("failed", {"refused": count}, None)
        assert {member["error"] for member in ended["jobs"]} == {
            "the API key that asked for this group was deleted or has expired; nothing was locked for this job"
        }
    assert (await renter("GET", "/v1/vault"))[1]["locked"] == "0.000000"


async def test_members_of_a_key_that_expires_end_as_those_of_a_deleted_one(renter, live_market, live_call, monkeypatch):
    await renter.deposit("1")
    expires_at = datetime.fromtimestamp(time.time() + 3600, UTC).isoformat()
    asked = {"name": "an hour", "scopes": ["jobs"], "expires_at": expires_at}
    _, key, _ = await renter("POST", "/v1/api-keys", json=asked)
    status, group, _ = await live_call("POST", "/v1/groups", token=key["key"], json={"job": JOB, "count": 2})
    assert status == 201, group
    await until(renter, group["id"], lambda g: g["blocked"])
    groups = live_market.jobs.groups
    present = groups._clock
    monkeypatch.setattr(groups, "_clock", SimpleNamespace(now=lambda: present.now() + 3_600_000))
    groups.wake()
    ended = await until(renter, group["id"], lambda g: g["ended_at"])
    assert (ended["status"], ended["summary"], ended["blocked"]) == ("failed", {"refused": 2}, None)


async def test_each_member_has_its_own_input(allowed, node, live_market):
    job = {"job": JOB | {"input": "shared"}, "count": None, "inputs": ["x"]}
    assert (await order(allowed, "no", **job))[1]["details"][0]["field"] == "job.input"
    status, group, _ = await order(allowed, count=None, inputs=["first", {"n": 2}, "file_1111111111111111111111"])
    assert (status, group["count"]) == (201, 3)
    attempts = [await run_one(node, live_market) for _ in range(2)]
    names = {a.spec.env["REAVER_GROUP_POSITION"]: a.spec.input for a in attempts}
    assert set(names) == {"0", "1"}
    assert names["0"] != names["1"]
    done = await until(allowed, group["id"], lambda g: g["ended_at"])
    # a file that isn't there ends that member, and no other
    assert (done["status"], done["summary"]) == ("failed", {"completed": 2, "refused": 1})
    assert "input" in done["jobs"][2]["error"]


async def test_a_number_of_any_length_reaches_its_member_as_it_was_given(allowed, node, live_market):
    long = 10**30 + 1
    status, group, _ = await allowed("POST", "/v1/groups", json={"job": JOB, "inputs": [[long]]})
    assert status == 201, group
    _, request = await node.next_request()
    spec = JobSpec.model_validate_json(unseal(bytes(node.key), request.sealed_spec))
    text = f"[{long}]".encode()
    assert (spec.input.size, spec.input.sha256) == (len(text), hashlib.sha256(text).hexdigest())
    await allowed("POST", f"/v1/groups/{group['id']}/cancel")


async def test_a_group_that_trips_the_market_keeps_no_other_waiting(allowed, live_market, monkeypatch):
    groups = live_market.jobs.groups
    advance, tripped = groups._advance, []

    async def tripping(group):
        if group.name == "trips":
            tripped.append(group.id)
            raise UnicodeError("nobody thought of this")
        await advance(group)

    monkeypatch.setattr(groups, "_advance", tripping)
    assert (await order(allowed, "bad", name="trips"))[0] == 201
    _, good, _ = await order(allowed, "good")
    await groups.work()  # and isn't begun anew after a pause that doubles to a minute
    assert tripped
    assert (await until(allowed, good["id"], lambda g: "waiting" not in g["summary"]))["blocked"] is None


async def test_no_member_is_submitted_by_two_rounds_at_once(allowed, live_market, monkeypatch):
    groups = live_market.jobs.groups
    submit, running, beside = groups._submit_one, set(), []

    async def watched(group, due, position, own):
        beside.append(position in running)
        running.add(position)
        block = await submit(group, due, position, own)
        running.discard(position)
        return block

    monkeypatch.setattr(groups, "_submit_one", watched)
    _, group, _ = await order(allowed)
    await asyncio.gather(groups.work(), groups.work())
    assert (await until(allowed, group["id"], lambda g: g["summary"] == {"queued": 2}))["blocked"] is None
    assert beside == [False, False]


async def test_an_input_whose_host_is_no_name_ends_its_member(allowed, live_market):
    _, group, _ = await order(allowed, count=None, inputs=["https://xn--a.test/", "https://a..b/"])
    done = await until(allowed, group["id"], lambda g: g["ended_at"])
    assert done["summary"] == {"refused": 2}
    assert "input" in done["jobs"][0]["error"]
