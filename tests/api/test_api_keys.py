"""API keys over HTTP: made once by a login, good within their scopes, limits and time, gone when deleted."""

import asyncio
from pathlib import Path

import pytest
from aiohttp import ClientSession

from marketplace.app import Market
from marketplace.protocol.vouchers import VoucherState
from tests.api.conftest import Caller, Renter, Wallet, settings_in
from tests.api.scripted_node import ScriptedNode
from tests.api.serving import ready
from tests.api.test_jobs import until

JOB = {"image": "docker.io/library/busybox:latest", "gpu": "cpu-small", "maxMinutes": 5, "max_price_per_hour": "1.2"}
"""Deposit: 1.2 an hour for 5 min = 0.1."""
ALLOWANCE = {
    "per_job": "5", "per_day": "50", "total": "50", "max_price_per_hour": "5", "expires_at": "2100-01-01T00:00:00Z",
}  # fmt: skip


@pytest.fixture
async def allowed(renter):
    await renter.deposit("20")
    _, prepared, _ = await renter("POST", "/v1/allowance", json=ALLOWANCE)
    await renter.send(prepared)
    return renter


async def make(renter, name="ci", scopes=("jobs",), key="make", **more):
    body = {"name": name, "scopes": list(scopes), **more}
    return await renter("POST", "/v1/api-keys", json=body, headers={"Idempotency-Key": key})


async def submit(call, secret, key, **more):
    headers = {"X-Api-Key": secret, "Idempotency-Key": key}
    return await call("POST", "/v1/jobs", json=JOB | more, headers=headers)


async def test_a_key_is_shown_once_and_acts_within_its_scopes(renter, live_call, live_market):
    status, made, headers = await make(renter, expires_at="2100-01-01T00:00:00Z")
    assert (status, list(made)[:7]) == (201, ["id", "name", "key", "prefix", "scopes", "created_at", "expires_at"])
    secret = made["key"]
    assert secret.startswith("rk_")
    assert len(secret) == 46
    assert made["prefix"] == secret[:11]
    # the same call again shows it again, and makes no second one; another body is refused
    status, again, headers = await make(renter, expires_at="2100-01-01T00:00:00Z")
    assert (status, again, headers["Idempotent-Replayed"]) == (201, made, "true")
    assert (await make(renter, name="other"))[1]["error"] == "idempotency_key_reused"
    # it is nowhere in the store
    database = Path(live_market.settings.database)
    for file in database.parent.glob(f"{database.name}*"):
        assert secret.encode() not in file.read_bytes()
    # either header, or both when they agree
    for headers in ({"X-Api-Key": secret}, {"Authorization": f"Bearer {secret}"}):
        status, jobs, got = await live_call("GET", "/v1/jobs", headers=headers)
        assert (status, jobs["total"]) == (200, 0)
        assert got["X-RateLimit-Limit"] in {"60", "1000"}
    status, _, _ = await live_call("GET", "/v1/jobs", token=secret, headers={"X-Api-Key": secret})
    assert status == 200
    status, answer, _ = await live_call("GET", "/v1/jobs", token=renter.token, headers={"X-Api-Key": secret})
    assert (status, answer["error"]) == (401, "unauthorized")
    # what it lacks it can't do
    status, answer, _ = await live_call("GET", "/v1/vault", token=secret)
    assert (status, answer["error"], answer["required_scope"]) == (403, "forbidden", "read")
    status, answer, _ = await live_call("POST", "/v1/vault/deposit", token=secret, json={"amount": "1"})
    assert (status, answer["required_scope"]) == (403, "money")
    # the list shows it without its secret, and when it was last used
    status, listed, _ = await renter("GET", "/v1/api-keys")
    assert (status, listed["total"], listed["has_more"]) == (200, 1, False)
    (shown,) = listed["api_keys"]
    assert "key" not in shown
    assert shown["last_used_at"] is not None
    # deleted: refused at once
    stranger = (await live_call.login(Wallet()))["token"]
    assert (await live_call("DELETE", f"/v1/api-keys/{made['id']}", token=stranger))[0] == 404
    assert (await renter("DELETE", f"/v1/api-keys/{made['id']}"))[0] == 204
    assert (await live_call("GET", "/v1/jobs", token=secret))[0] == 401
    assert (await renter("GET", "/v1/api-keys"))[1]["total"] == 0
    # and for good: the call that made it makes another one
    _, remade, _ = await make(renter, expires_at="2100-01-01T00:00:00Z")
    assert remade["key"] != secret
    assert (await live_call("GET", "/v1/jobs", token=secret))[0] == 401


async def test_a_key_makes_no_keys_and_ends_no_login(renter, live_call):
    secret = (await make(renter, scopes=("keys", "read")))[1]["key"]
    status, answer, _ = await live_call("POST", "/v1/api-keys", token=secret, json={"name": "x", "scopes": ["read"]})
    assert (status, answer["error"]) == (403, "forbidden")
    assert "needs a login, not a key" in answer["message"]
    assert (await live_call("POST", "/v1/auth/logout", token=secret))[0] == 403
    assert (await live_call("GET", "/v1/api-keys", token=secret))[1]["total"] == 1


WRONG = [
    ({"name": "", "scopes": ["read"]}, "name"),
    ({"name": "x", "scopes": []}, "scopes"),
    ({"name": "x", "scopes": ["root"]}, "scopes.0"),
    ({"name": "x", "scopes": ["read"], "rate_class": "gold"}, "rate_class"),
    ({"name": "x", "scopes": ["read"], "expires_at": "2001-01-01T00:00:00Z"}, "expires_at"),
    ({"name": "x", "scopes": ["read"], "spend_limit": {}}, "spend_limit"),
    ({"name": "x", "scopes": ["read"], "spend_limit": {"total": "0"}}, "spend_limit.total"),
    ({"name": "x", "scopes": ["read"], "spend_limit": {"per_day": "0.0000001"}}, "spend_limit.per_day"),
    ({"name": "x", "scopes": ["read"], "colour": "red"}, "colour"),
]


async def test_what_makes_no_key(renter):
    for body, field in WRONG:
        status, answer, _ = await renter("POST", "/v1/api-keys", json=body)
        assert (status, answer["error"]) == (422, "validation_error")
        assert field in [detail["field"] for detail in answer["details"]]
    # nobody gives away a scope he lacks
    status, answer, _ = await make(renter, scopes=("admin",))
    assert (status, answer["required_scope"]) == (403, "admin")


async def test_a_spending_limit_is_exact_at_once_and_after_a_restart(
    one_day, allowed, live_market, live_call, chain, tmp_path
):
    made = (await make(allowed, spend_limit={"per_day": "0.35", "total": "0.55"}))[1]
    secret = made["key"]
    answers = await asyncio.gather(*(submit(live_call, secret, f"k{n}") for n in range(6)))
    assert sorted(status for status, _, _ in answers) == [201, 201, 201, 402, 402, 402]
    refused = next(answer for status, answer, _ in answers if status == 402)
    assert (refused["error"], refused["limit"], refused["retryable"]) == ("spend_limit", "per_day", False)
    assert (refused["cap"], refused["spent"], refused["wanted"]) == ("0.350000", "0.300000", "0.100000")
    # the login has no such limit, and what it spends is not the key's
    status, mine, _ = await allowed("POST", "/v1/jobs", json=JOB)
    assert status == 201
    limits = (await allowed("GET", "/v1/api-keys"))[1]["api_keys"][0]["spend_limit"]
    assert (limits["spent_today"], limits["spent"]) == ("0.300000", "0.300000")
    # refunded: it comes back
    job = next(answer for status, answer, _ in answers if status == 201)
    assert (await allowed("POST", f"/v1/jobs/{job['id']}/cancel"))[0] == 200
    await until(allowed, job["id"], "cancelled")
    limits = (await allowed("GET", "/v1/api-keys"))[1]["api_keys"][0]["spend_limit"]
    assert (limits["spent_today"], limits["spent"]) == ("0.200000", "0.200000")
    await live_market.stop()
    again = Market.build(settings_in(tmp_path, chain.folder / "keys", chain.rpc))
    await again.start()
    try:
        async with ClientSession() as session:
            call = Caller(session, f"http://127.0.0.1:{again.port}")
            await ready(again)
            assert (await submit(call, secret, "k7"))[0] == 201
            status, answer, _ = await submit(call, secret, "k8")
            assert (status, answer["error"]) == (402, "spend_limit")
            # the same submit again is the same job, and is counted once
            assert (await submit(call, secret, "k7"))[0] == 201
            await call("POST", f"/v1/jobs/{mine['id']}/cancel", token=secret)
    finally:
        await again.stop()


async def test_what_a_key_spent_is_what_its_jobs_paid(allowed, chain, live_market, live_call):
    operator = await Renter.funded(Wallet(), chain, live_market, live_call)
    node = ScriptedNode(operator)
    await node.register()
    await node.connect(live_call)
    try:
        secret = (await make(allowed, spend_limit={"total": "1"}))[1]["key"]
        submitting = asyncio.create_task(submit(live_call, secret, "paid"))
        attempt = await node.take()
        _, job, _ = await submitting
        await until(allowed, job["id"], "assigned")
        await attempt.ready(live_market)
        final = attempt.voucher(900, state=VoucherState.FINAL, reason=2)
        assert (await attempt.report("exited", reason=2, exit_code=1, voucher=final))["type"] == "ack"
        view = {"settlement": {"state": "open"}}
        async with asyncio.timeout(60):
            while view["settlement"]["state"] != "closed":
                await asyncio.sleep(0.05)
                view = (await allowed("GET", f"/v1/jobs/{job['id']}"))[1]
        (key,) = (await allowed("GET", "/v1/api-keys"))[1]["api_keys"]
        assert key["spend_limit"]["spent"] == view["settlement"]["paid"] != "0.000000"
    finally:
        await node.close()
