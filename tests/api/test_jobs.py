"""Jobs over HTTP with a scripted node: a real market, a real chain, the real program; only containers are missing."""

import asyncio
import json

import base58
import pytest
from aiohttp import ClientSession
from nacl.signing import SigningKey

from marketplace.app import Market
from marketplace.chain.events import AssignedEvent
from marketplace.protocol.receipts import Receipt, verify_receipt
from marketplace.protocol.vouchers import VoucherState
from marketplace.services import live as memory
from tests.api.conftest import Caller, Renter, Wallet, settings_in
from tests.api.scripted_node import ScriptedNode
from tests.api.serving import ready

JOB = {"image": "docker.io/library/busybox:latest", "gpu": "cpu-small", "region": "eu", "maxMinutes": 5}
ALLOWANCE = {
    "per_job": "5", "per_day": "50", "total": "50", "max_price_per_hour": "5", "expires_at": "2100-01-01T00:00:00Z",
}  # fmt: skip


@pytest.fixture
async def node(chain, live_market, live_call):
    operator = await Renter.funded(Wallet(), chain, live_market, live_call)
    scripted = ScriptedNode(operator)
    await scripted.register()
    welcome = await scripted.connect(live_call)
    assert welcome["type"] == "hello"
    yield scripted
    await scripted.close()


@pytest.fixture
async def allowed(renter):
    """A renter with a vault and an allowance."""
    await renter.deposit("20")
    _, prepared, _ = await renter("POST", "/v1/allowance", json=ALLOWANCE)
    await renter.send(prepared)
    return renter


async def until(renter, job_id, *words):
    pause = 0.05
    async with asyncio.timeout(60):
        while True:
            status, job, _ = await renter("GET", f"/v1/jobs/{job_id}")
            assert status == 200, job
            if job["status"] in words:
                return job
            await asyncio.sleep(pause)
            # a wallet may ask 120 times a minute, and some of these wait for seconds
            pause = min(pause * 1.5, 1)


async def submit(renter, key="k", **fields):
    return await renter("POST", "/v1/jobs", json={**JOB, **fields}, headers={"Idempotency-Key": key})


def balanced(job):
    money = job["settlement"]
    assert money["state"] == "closed"
    units = lambda text: int(text.replace(".", ""))  # noqa: E731
    assert units(money["deposit"]) == units(money["paid"]) + units(money["refunded"])
    parts = units(money["operator_received"]) + sum(units(v) for v in money["fees"].values())
    assert units(money["paid"]) == parts
    assert money["rent_left_lamports"] == 0


async def test_a_job_is_claimed_metered_settled_and_proved(allowed, node, live_market, live_call):
    submitting = asyncio.create_task(submit(allowed, env={"A": "b"}, command=["echo"]))
    attempt = await node.take()
    status, answer, headers = await submitting
    assert (status, headers["Location"]) == (201, f"/v1/jobs/{answer['id']}")
    assert (attempt.spec.env, attempt.spec.command) == ({"A": "b"}, ("echo",))
    job = await until(allowed, answer["id"], "assigned")
    await attempt.ready(live_market)
    await until(allowed, job["id"], "running")
    assert (await attempt.log("one", "two"))["body"] == {"next_seq": 3}
    # what the market's clock has not seen is refused, and so is a foreign signature
    early = await attempt.beat(attempt.voucher(200_000))
    assert [(r["code"]) for r in early["refused"]] == ["clock"]
    forged = await attempt.beat(attempt.voucher(1, at=attempt.started + 10, key=SigningKey.generate()))
    assert [(r["code"]) for r in forged["refused"]] == ["signature"]
    taken = await attempt.beat(attempt.voucher(500))
    assert [c["sequence"] for c in taken["countersigned"]] == [3]
    bad = await attempt.report("exited", reason=1, voucher=attempt.voucher(90_000, state=VoucherState.FINAL, reason=1))
    assert (bad["type"], bad["body"]["code"]) == ("error", "voucher_invalid")
    final = attempt.voucher(900, state=VoucherState.FINAL, reason=1)
    ended = await attempt.report("exited", reason=1, exit_code=0, voucher=final)
    assert ended["body"]["countersignature"]["sequence"] == 5
    job = await until(allowed, job["id"], "completed")
    balanced(job)
    assert (job["settlement"]["billed_ms"], job["attempts"][0]["end_reason"]) == (900, "completed")
    assert (len(job["settlement"]["transactions"]), job["settlement"]["signatures"]) == (2, 4)
    # the receipt proves it offline
    _, receipt, _ = await allowed("GET", f"/v1/jobs/{job['id']}/receipt")
    found = verify_receipt(Receipt.model_validate(receipt), meter_key=str(live_market.keys.meter.pubkey()))
    assert found.passed, [c for c in found.checks if not c.passed]
    assert found.node_keys == (node.address,)
    # the same key is the same job, another body under it is refused, and nobody else sees it
    status, again, headers = await submit(allowed, env={"A": "b"}, command=["echo"])
    assert (status, again, headers["Idempotent-Replayed"]) == (201, answer, "true")
    assert headers["Location"] == f"/v1/jobs/{job['id']}"
    listed = (await allowed("GET", "/v1/jobs"))[1]["jobs"]
    assert [(j["id"], j["cost"]) for j in listed] == [(job["id"], job["cost"])]
    assert (await submit(allowed))[1]["error"] == "idempotency_key_reused"
    stranger = (await live_call.login(Wallet()))["token"]
    for path in ("", "/logs", "/receipt"):
        assert (await live_call("GET", f"/v1/jobs/{job['id']}{path}", token=stranger))[0] == 404
    _, text, _ = await allowed("GET", f"/v1/jobs/{job['id']}/logs")
    assert text == b"one\ntwo\n"
    _, stream, _ = await allowed("GET", f"/v1/jobs/{job['id']}/logs?follow=1")
    assert b"id: 1.2\nevent: log" in stream
    assert b'event: end\ndata: {"status":"completed","reason":"completed"}' in stream
    assert (await allowed("POST", f"/v1/jobs/{job['id']}/cancel"))[1]["error"] == "already_terminal"


async def test_who_was_shown_that_a_job_is_over_is_answered_accordingly(allowed, node, live_market, monkeypatch):
    """The store shows a commit before the market's memory has heard of it: no answer goes back behind one before."""
    live = live_market.jobs.live
    heard, unheard = live._take_in, []

    def hear(allocation, attempt):
        if allocation.terminal:
            unheard.append((allocation, attempt))
        else:
            heard(allocation, attempt)

    monkeypatch.setattr(live, "_take_in", hear)
    monkeypatch.setattr(memory, "CATCH_UP_MS", 60_000)
    (_, answer, _), attempt = await asyncio.gather(submit(allowed), node.take())
    await until(allowed, answer["id"], "assigned")
    await attempt.ready(live_market)
    final = attempt.voucher(500, state=VoucherState.FINAL, reason=1)
    assert (await attempt.report("exited", reason=1, exit_code=0, voucher=final))["type"] == "ack"
    # what GET shows is the store's, of one moment
    async with asyncio.timeout(30):
        while not unheard:  # noqa: ASYNC110 - the moment that is meant
            await asyncio.sleep(0.02)
    asking = [
        asyncio.create_task(allowed(method, f"/v1/jobs/{answer['id']}/{what}"))
        for method, what in (("GET", "receipt"), ("GET", "outputs"), ("POST", "cancel"))
    ]
    while len(live._waiters.get(attempt.request.allocation_id, ())) < len(asking):
        assert not any(task.done() for task in asking), [task.result() for task in asking if task.done()]
        await asyncio.sleep(0.02)
    heard(*unheard[0])
    (receipt, outputs, cancelled) = await asyncio.gather(*asking)
    assert (receipt[0], outputs[0], cancelled[0], cancelled[1]["error"]) == (200, 200, 409, "already_terminal")


async def test_an_end_that_is_reported_again_while_it_is_taken_is_answered_alike(allowed, node, live_market):
    (_, answer, _), attempt = await asyncio.gather(submit(allowed), node.take())
    await until(allowed, answer["id"], "assigned")
    await attempt.ready(live_market)
    final = attempt.voucher(500, state=VoucherState.FINAL, reason=1)
    body = {**attempt.name, "lease_token": attempt.lease, "sequence": 2, "state": "exited", "reason": 1, "exit_code": 0}
    told = await asyncio.gather(*(node.ask("state", {**body, "voucher": final}) for _ in range(3)))
    assert [each["type"] for each in told] == ["ack"] * 3, told
    assert {json.dumps(each["body"]["countersignature"]) for each in told} == {
        json.dumps(told[0]["body"]["countersignature"])
    }
    assert told[0]["body"]["countersignature"]["sequence"] == 1
    balanced(await until(allowed, answer["id"], "completed"))


async def test_an_assignment_that_has_landed_stands_although_its_event_is_read_late(
    allowed, node, live_market, monkeypatch
):
    """The escrow's opening wakes who drives the job before the assignment of the same transaction is in the books."""
    events, scheduler = live_market.jobs.events, live_market.jobs.scheduler
    take, assign, tried = events._take_event, scheduler._assign, asyncio.Event()

    async def late(observed, commissions):
        if isinstance(observed.event, AssignedEvent):
            async with asyncio.timeout(20):
                await tried.wait()
        await take(observed, commissions)

    async def not_shown_yet(_signature):
        return False

    async def watched(allocation, attempt):
        try:
            return await assign(allocation, attempt)
        finally:
            tried.set()

    # the chain's node doesn't show the transaction yet: the watcher reads it
    monkeypatch.setattr(events, "absorb", not_shown_yet)
    monkeypatch.setattr(events, "_take_event", late)
    monkeypatch.setattr(scheduler, "_assign", watched)
    (_, answer, _), attempt = await asyncio.gather(submit(allowed), node.take())
    await until(allowed, answer["id"], "assigned")
    assert tried.is_set()
    await attempt.ready(live_market)
    final = attempt.voucher(500, state=VoucherState.FINAL, reason=1)
    assert (await attempt.report("exited", reason=1, exit_code=0, voucher=final))["type"] == "ack"
    job = await until(allowed, answer["id"], "completed")
    balanced(job)
    assert len(job["attempts"]) == 1


async def test_what_never_starts_costs_nothing_and_goes_to_another_node(allowed, node):
    submitting = asyncio.create_task(submit(allowed))
    attempt = await node.take()
    _, answer, _ = await submitting
    await until(allowed, answer["id"], "assigned")
    assert (await attempt.report("exited", reason=8))["type"] == "ack"
    job = await until(allowed, answer["id"], "queued")
    assert [(a["number"], a["end_reason"], a["paid"]) for a in job["attempts"]] == [(1, "pull_failed", "0.000000")]
    assert job["queue"]["because"] == [
        {"constraint": "excluded", "wanted": "not excluded", "best": None, "nodes_excluded": 1}
    ]
    lost = await attempt.report("ready", started_at_ms=1)
    assert (lost["type"], lost["body"]["code"]) == ("error", "lease_lost")
    status, _, _ = await allowed("DELETE", f"/v1/jobs/{answer['id']}")
    assert status == 200
    job = await until(allowed, answer["id"], "cancelled")
    assert job["settlement"]["paid"] == "0.000000"


async def test_who_comes_too_late_for_the_allowance_is_told_which_cap_is_in_the_way(one_day, renter):
    await renter.deposit("5")
    _, prepared, _ = await renter("POST", "/v1/allowance", json={**ALLOWANCE, "per_day": "0.15"})
    await renter.send(prepared)
    fields = {"region": "na", "max_price_per_hour": "1.2"}
    answers = await asyncio.gather(*(submit(renter, f"k{n}", **fields) for n in range(3)))
    assert sorted(status for status, _, _ in answers) == [201, 402, 402]
    assert {a.get("blocked_by") for status, a, _ in answers if status == 402} == {"per_day"}
    assert (await renter("GET", "/v1/vault"))[1]["locked"] == "0.100000"


async def test_without_an_allowance_the_wallet_signs_and_the_landed_escrow_is_the_submission(renter, live_market):
    status, answer, _ = await submit(renter, max_price_per_hour="0.1")
    assert (status, answer["error"], answer["blocked_by"]) == (402, "signature_required", "vault_short")
    assert list(answer)[:3] == ["error", "message", "status"]
    again = (await submit(renter, max_price_per_hour="0.1"))[1]
    assert (again["transaction"], again["escrow"]) == (answer["transaction"], answer["escrow"])
    assert (await renter("GET", "/v1/jobs"))[1]["total"] == 0
    await renter.send(answer)
    # nobody repeats the POST: the watcher starts the work
    async with asyncio.timeout(60):
        while (await renter("GET", "/v1/jobs"))[1]["total"] == 0:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    status, submitted, _ = await submit(renter, max_price_per_hour="0.1")
    assert (status, submitted["escrow"]) == (201, answer["escrow"])
    status, job, _ = await renter("POST", f"/v1/jobs/{submitted['id']}/cancel")
    assert status == 200
    job = await until(renter, submitted["id"], "cancelled")
    balanced(job)
    assert (await renter("GET", "/v1/vault"))[1]["locked"] == "0.000000"


async def test_neither_vault_nor_wallet_has_enough(live_call, live_market):
    poor = Wallet()
    token = (await live_call.login(poor))["token"]
    body = {**JOB, "max_price_per_hour": "1"}
    status, answer, _ = await live_call("POST", "/v1/jobs", token=token, json=body)
    assert (status, answer["error"], answer["status"]) == (402, "insufficient_escrow", 402)
    assert answer["message"] == "wallet balance below rate × maxMinutes"  # noqa: RUF001 - the seed's own words
    assert (answer["required"], answer["shortfall"], answer["missing"]) == ("0.083333", "0.083333", "payment_token")


@pytest.mark.parametrize(
    ("fields", "field", "code"),
    [
        ({"gpu": "cpu-smal"}, "gpu", "unknown_gpu"),
        ({"image": "Not An Image"}, "image", "not_allowed"),
        ({"retry": {"max_attempts": 6}}, "retry.max_attempts", "out_of_range"),
        ({"requirements": {"min_ram_gb": 3}}, "requirements.min_ram_gb", "unsatisfiable"),
        ({"nonsense": 1}, "nonsense", "unknown_field"),
        ({"maxMinutes": 0}, "maxMinutes", "out_of_range"),
        ({"region": "mars"}, "region", "unknown_region"),
        ({"queue_seconds": 90_000}, "queue_seconds", "out_of_range"),
        ({"network": "host"}, "network", "not_allowed"),
        ({"name": "x" * 65}, "name", "out_of_range"),
        ({"labels": {str(n): "x" for n in range(17)}}, "labels", "out_of_range"),
        ({"labels": {"a:b": "c"}}, "labels", "not_allowed"),
        ({"workdir": "tmp"}, "workdir", "not_allowed"),
    ],
)
async def test_a_wrong_field_is_refused_by_name_before_anything_exists(live_call, fields, field, code):
    token = (await live_call.login(Wallet()))["token"]
    status, answer, _ = await live_call("POST", "/v1/jobs", token=token, json={**JOB, **fields})
    assert (status, answer["error"]) == (422, "validation_error"), answer
    assert (answer["details"][0]["field"], answer["details"][0]["code"]) == (field, code)
    assert "Value error" not in answer["message"]
    assert " should " not in answer["message"]


MANY = [
    # unknown names hide nothing of the rest
    ({"colour": 1, "gpu": "cpu-smal", "region": "mars", "maxMinutes": 0}, {
        ("colour", "unknown_field"), ("gpu", "unknown_gpu"), ("region", "unknown_region"), ("maxMinutes", "out_of_range"),
    }),
    ({"requirements": {"colour": 1, "min_ram_gb": 3}}, {
        ("requirements.colour", "unknown_field"), ("requirements.min_ram_gb", "unsatisfiable"),
    }),
    ({"kind": "job", "colour": 1, "region": "mars"}, {
        ("kind", "not_allowed"), ("colour", "unknown_field"), ("region", "unknown_region"),
    }),
    # nor do values of another type, and what only follows from those is not told
    ({"name": 5, "workdir": "tmp", "image": "Not An Image"}, {
        ("name", "not_allowed"), ("workdir", "not_allowed"), ("image", "not_allowed"),
    }),
    ({"gpu": 5, "region": "mars", "shm_gb": 900, "requirements": {"min_ram_gb": 3}}, {
        ("gpu", "not_allowed"), ("region", "unknown_region"),
    }),
    ({"model": 5, "image": None, "priority": "soon"}, {("model", "not_allowed"), ("priority", "not_allowed")}),
    # two that contradict each other, and one more
    ({"quote": "a", "quote_id": "b", "region": "mars"}, {("quote", "conflict"), ("region", "unknown_region")}),
    # what is named elsewhere is looked up once the rest is right
    ({"webhook": "http://10.0.0.1/", "registry_auth_id": "reg_1", "input": "file_1111111111111111111111"}, {
        ("webhook", "not_allowed"), ("registry_auth_id", "not_allowed"), ("input", "file_missing"),
    }),
    # whole numbers of any length are no fault of ours
    ({"colour": 10**30, "maxMinutes": 10**30, "input": [10**30]}, {
        ("colour", "unknown_field"), ("maxMinutes", "out_of_range"),
    }),
    ({f"x{n}": 1 for n in range(99)} | {"region": "mars"}, {(f"x{n}", "unknown_field") for n in range(32)}),
]  # fmt: skip


async def test_all_that_is_wrong_with_a_body_is_told_at_once(live_call):
    token = (await live_call.login(Wallet()))["token"]
    for fields, wanted in MANY:
        status, answer, _ = await live_call("POST", "/v1/jobs", token=token, json={**JOB, **fields})
        assert (status, answer["error"]) == (422, "validation_error"), answer
        assert {(detail["field"], detail["code"]) for detail in answer["details"]} == wanted, fields
    assert "(and 99 more)" in answer["message"]
    quote = {**JOB, "colour": 1, "gpu": "cpu-smal"}
    _, answer, _ = await live_call("POST", "/v1/quote", token=token, json=quote)
    assert [detail["field"] for detail in answer["details"]] == ["colour", "gpu"]
    group = {"job": {**JOB, "region": "mars", "colour": 1}, "count": 2, "size": 1}
    _, answer, _ = await live_call("POST", "/v1/groups", token=token, json=group)
    assert {detail["field"] for detail in answer["details"]} == {"job.colour", "size", "job.region"}


@pytest.mark.parametrize(("path", "name"), [("transactions/abc", "signature"), ("escrows/abc", "address")])
async def test_a_path_parameter_is_refused_by_its_name(live_call, path, name):
    token = (await live_call.login(Wallet()))["token"]
    status, answer, _ = await live_call("GET", f"/v1/{path}", token=token)
    assert (status, answer["details"][0]["field"]) == (422, name)


async def test_a_quote_is_firm_or_says_what_would_match(renter, node):
    status, quote, _ = await renter("POST", "/v1/quote", json={**JOB, "seconds": 300})
    assert (status, quote["match"], quote["price_per_hour"], quote["class"]) == (200, True, "0.073440", "cpu-small")
    assert (quote["estimated_cost"], quote["nodes_now"]) == (0.00612, 1)
    assert (await renter("GET", f"/v1/quotes/{quote['id']}"))[1] == quote
    status, cheap, _ = await renter("POST", "/v1/quote", json={**JOB, "max_price_per_hour": "0.01"})
    assert (cheap["match"], cheap["because"][0]["constraint"], cheap["because"][0]["best"]) == (
        False, "price", "0.072000",
    )  # fmt: skip
    assert cheap["nearest"] == {
        "change": {"max_price_per_hour": "0.073440"}, "nodes_then": 1, "price_per_hour": "0.073440",
    }  # fmt: skip
    _, far, _ = await renter("POST", "/v1/quote", json={**JOB, "region": "na"})
    assert far["nearest"]["change"] == {"region": "eu"}
    status, answer, _ = await submit(renter, quote=quote["quote"], maxMinutes=6)
    assert (status, answer["error"]) == (422, "quote_mismatch")


async def test_a_job_for_a_country_waits_for_a_node_that_says_it_is_there(node, renter):
    """Not a place of the same region, nor a machine that names only the region."""
    status, quote, _ = await renter("POST", "/v1/quote", json={**JOB, "region": "FR"})
    assert (status, quote["regions"], quote["match"]) == (200, ["fr"], False)
    assert quote["because"][0] == {"constraint": "region", "wanted": "fr", "best": "eu", "nodes_excluded": 1}
    assert quote["nearest"]["change"] == {"region": "eu"}
    french = ScriptedNode(node.operator)
    await french.register(region="FR")
    _, shown, _ = await renter("GET", f"/v1/nodes/{french.id}")
    assert (shown["region"], shown["country"]) == ("eu", "fr")
    await french.connect(renter.call)
    try:
        for place, found in (("fr", [french.id]), ("de", []), ("eu", [french.id, node.id])):
            _, quote, _ = await renter("POST", "/v1/quote", json={**JOB, "region": place})
            assert sorted(n["node_id"] for n in quote["sample"]) == sorted(found)
            assert {n["region"] for n in quote["sample"]} <= {"eu"}
    finally:
        await french.close()


async def test_nodes_are_listed_drained_and_owned(live_call, node, renter):
    _, listed, _ = await renter("GET", "/v1/nodes?gpu=cpu-small&region=eu")
    shown = next(n for n in listed["nodes"] if n["id"] == node.id)
    for query, total in [
        ("min_ram_gb=8&min_disk_gb=100&min_vram_gb=0", 1), ("min_ram_gb=9", 0), ("min_disk_gb=101", 0),
        ("min_vram_gb=1", 0), ("min_cuda=11", 0), ("region=de", 0), ("class=cpu", 1),
    ]:  # fmt: skip
        assert (query, (await renter("GET", f"/v1/nodes?{query}"))[1]["total"]) == (query, total)
    for query in ("min_ram_gb=-1", "min_cuda=new", "min_net_mbps=1", "region=moon"):
        assert (await renter("GET", f"/v1/nodes?{query}"))[0] == 422
    assert (shown["available"], shown["status"], shown["free_gpus"]) == (True, "active", 2)
    assert shown["reputation"] == 0.5
    assert (await renter("POST", f"/v1/nodes/{node.id}/drain", json={"drain": True}))[0] == 404
    _, drained, _ = await node.operator("POST", f"/v1/nodes/{node.id}/drain", json={"drain": True})
    assert (drained["status"], drained["available"]) == ("draining", False)
    _, back, _ = await node.operator("POST", f"/v1/nodes/{node.id}/drain", json={"drain": False})
    assert (back["status"], back["available"]) == ("active", True)
    forged = {
        "node_key": Wallet().address, "region": "eu", "price_floor_per_gpu_second": "1",
        "hardware": {"vcpu": 1, "ram_bytes": 1, "disk_bytes": 0, "gpus": []},
        "node_signature": base58.b58encode(bytes(64)).decode(),
    }  # fmt: skip
    status, answer, _ = await renter("POST", "/v1/nodes/register", json=forged)
    assert (status, answer["error"]) == (403, "forbidden")


async def test_a_server_with_an_empty_store_recognises_the_escrow_of_a_key(allowed, chain, live_market, tmp_path):
    status, first, _ = await submit(allowed, max_price_per_hour="0.1")
    assert (status, first["status"]) == (201, "queued")
    await live_market.stop()
    fresh = Market.build(settings_in(tmp_path / "fresh", chain.folder / "keys", chain.rpc))
    await fresh.start()
    try:
        await ready(fresh)
        async with ClientSession() as session:
            allowed.call = Caller(session, f"http://127.0.0.1:{fresh.port}")
            allowed.token = (await allowed.call.login(allowed))["token"]
            locked = (await allowed("GET", "/v1/vault"))[1]["locked"]
            status, second, _ = await submit(allowed, max_price_per_hour="0.1")
            assert (status, second["escrow"], second["status"]) == (201, first["escrow"], "queued")
            assert second["id"] != first["id"]
            assert (await allowed("GET", "/v1/vault"))[1]["locked"] == locked
            await allowed("POST", f"/v1/jobs/{second['id']}/cancel")
            balanced(await until(allowed, second["id"], "cancelled"))
    finally:
        await fresh.stop()


async def test_a_wallet_s_twenty_first_waiting_escrow_is_its_own_to_pay_for(allowed, live_market, monkeypatch):
    looks = []
    registry = live_market.jobs.registry
    monkeypatch.setattr(registry, "candidates", lambda *asked: (looks.append(asked), [])[1])
    for number in range(20):
        status, answer, _ = await submit(allowed, f"k{number}", max_price_per_hour="0.02")
        assert status == 201, answer
    status, answer, _ = await submit(allowed, "k20", max_price_per_hour="0.02")
    assert (status, answer["error"], answer["blocked_by"]) == (402, "signature_required", "unassigned")
    # where no node has room, none is looked at for any of them
    assert looks == []


async def test_who_waits_for_a_nodes_answer_can_be_ended(allowed, node):
    submitting = asyncio.create_task(submit(allowed))
    await node.next_request()
    # as a market does that stops
    driving = {task for task in asyncio.all_tasks() if task.get_name().startswith("drive ")}
    for task in driving:
        task.cancel()
    ended, _ = await asyncio.wait(driving, timeout=60)
    assert [task.cancelled() for task in ended] == [True]
    submitting.cancel()
    await asyncio.gather(submitting, return_exceptions=True)
