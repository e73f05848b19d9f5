"""Webhooks over HTTP: made, shown, changed, tested, replayed by their owner; and where they may not go."""

import asyncio
import time

import pytest
from aiohttp import ClientSession, web
from standardwebhooks import Webhook as Verifier

from marketplace.app import Market
from marketplace.domain.events import EventType
from marketplace.domain.webhooks import DeliveryState
from marketplace.services.clock import ManualClock
from marketplace.services.readiness import Lifecycle
from marketplace.settings import OutgoingSettings
from marketplace.store.logins import Accounts
from marketplace.store.webhooks import Deliveries
from tests.api.conftest import Caller, Wallet

PRIVATE = [
    "http://127.0.0.1:9/x", "https://127.0.0.1/x", "https://[::1]/x", "https://[::ffff:127.0.0.1]/x", "https://10.0.0.1/x",
    "https://169.254.169.254/latest/meta-data/", "https://2130706433/x", "https://[64:ff9b::a9fe:a9fe]/", "http://hooks.test/x",
    "https://user:secret@hooks.test/x", "ftp://hooks.test/x", "hooks.test", "https://" + "a" * 2049,
]  # fmt: skip


@pytest.fixture
def clock():
    # Verifiers of the standard compare with the machine's clock.
    return ManualClock(int(time.time()) * 1000)


@pytest.fixture
async def market(settings, clock):
    """A market that may deliver to this machine, as on a local chain; without one, which webhooks don't need."""
    market = Market.build(settings.model_copy(update={"outgoing": OutgoingSettings(loopback=True)}), clock=clock)
    await market.start()
    market.readiness.lifecycle = Lifecycle.RUNNING
    yield market
    await market.stop()


@pytest.fixture
async def token(call, wallet):
    return (await call.login(wallet))["token"]


@pytest.fixture
async def receiver():
    got = []

    async def take(request):
        got.append((dict(request.headers), await request.read()))
        return web.Response(status=204)

    application = web.Application()
    application.router.add_post("/hook", take)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/hook", got
    await runner.cleanup()


async def created(call, token, url="https://hooks.test/x", **more):
    status, made, _ = await call("POST", "/v1/webhooks", token=token, json={"url": url, **more})
    assert status == 201, made
    return made


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what waits is another task, behind a socket
            await asyncio.sleep(0.02)


async def until_delivered(market, webhook_id, cursor):
    """Once the market knows it, too: what is on its way is not sent again by a replay."""
    async with asyncio.timeout(20):
        while True:
            found = await market.store.lookup(lambda tx: Deliveries(tx).find(webhook_id, cursor))
            if found.state is DeliveryState.DELIVERED:
                return
            await asyncio.sleep(0.02)


async def test_a_webhook_is_made_shown_changed_and_deleted(call, token):
    key = {"Idempotency-Key": "k"}
    body = {"url": "https://hooks.test/x", "events": ["job.*"], "description": "mine"}
    status, made, headers = await call("POST", "/v1/webhooks", token=token, json=body, headers=key)
    assert (status, headers["Location"]) == (201, f"/v1/webhooks/{made['id']}")
    assert list(made)[:6] == ["id", "url", "events", "active", "secret", "created_at"]
    assert made["secret"].startswith("whsec_")
    assert (made["id"][:3], made["active"], made["events"]) == ("wh_", True, ["job.*"])
    # the same request again is the same webhook
    _, again, headers = await call("POST", "/v1/webhooks", token=token, json=body, headers=key)
    assert (again, headers["Idempotent-Replayed"]) == (made, "true")
    assert headers["Location"] == f"/v1/webhooks/{made['id']}"
    path = f"/v1/webhooks/{made['id']}"
    _, found, _ = await call("GET", path, token=token)
    assert "secret" not in found
    assert found["url"] == body["url"]
    _, changed, _ = await call("PATCH", path, token=token, json={"events": ["vault.*", "vault.*"], "active": False})
    assert (changed["events"], changed["active"], changed["description"]) == (["vault.*"], False, "mine")
    _, listed, _ = await call("GET", "/v1/webhooks", token=token)
    assert listed == {"webhooks": [changed], "total": 1, "has_more": False}
    assert (await call("DELETE", path, token=token))[0] == 204
    assert (await call("GET", path, token=token))[0] == 404


async def test_the_secret_of_a_replayed_answer_is_gone_after_five_minutes(call, token, clock):
    key = {"Idempotency-Key": "k"}
    body = {"url": "https://hooks.test/x"}
    await call("POST", "/v1/webhooks", token=token, json=body, headers=key)
    clock.advance(5 * 60_000 + 1)
    _, again, _ = await call("POST", "/v1/webhooks", token=token, json=body, headers=key)
    assert again["secret"] is None


@pytest.mark.parametrize("url", PRIVATE)
async def test_a_url_that_leads_inside_is_refused(settings, clock, wallet, url):
    """By a market as it runs on a public cluster."""
    market = Market.build(settings, clock=clock)
    await market.start()
    market.readiness.lifecycle = Lifecycle.RUNNING
    async with ClientSession() as session:
        call = Caller(session, f"http://127.0.0.1:{market.port}")
        token = (await call.login(wallet))["token"]
        status, problem, _ = await call("POST", "/v1/webhooks", token=token, json={"url": url})
        assert (status, problem["error"], problem["details"][0]["field"]) == (422, "validation_error", "url")
        assert "secret" not in problem["message"]
        made = await created(call, token)
        status, _, _ = await call("PATCH", f"/v1/webhooks/{made['id']}", token=token, json={"url": url})
        assert status == 422
    await market.stop()


@pytest.mark.parametrize(
    ("body", "field"),
    [({}, "url"), ({"events": []}, "events"), ({"events": ["job.done"]}, "events"), ({"events": ["*"] * 65}, "events"),
     ({"description": "x" * 257}, "description"), ({"active": "yes"}, "active"), ({"secret": "whsec_"}, "secret")],
)  # fmt: skip
async def test_a_wrong_body_is_refused_by_name(call, token, body, field):
    whole = body if field == "url" else {"url": "https://hooks.test/", **body}
    status, problem, _ = await call("POST", "/v1/webhooks", token=token, json=whole)
    assert (status, problem["details"][0]["field"]) == (422, field)


async def test_an_account_has_twenty_webhooks_at_most(call, token, market):
    await asyncio.gather(*(created(call, token) for _ in range(19)))
    answers = await asyncio.gather(
        *(call("POST", "/v1/webhooks", token=token, json={"url": "https://hooks.test/"}) for _ in range(3))
    )
    assert sorted(status for status, _, _ in answers) == [201, 429, 429]
    refused = next(problem for status, problem, _ in answers if status == 429)
    assert (refused["error"], refused["quota"], refused["limit"]) == ("quota_exceeded", "webhooks", 20)


async def test_a_test_event_is_delivered_and_answered_with_how_that_went(call, token, receiver):
    url, got = receiver
    other = await created(call, token, url)
    made = await created(call, token, url, events=["vault.*"])
    status, delivery, _ = await call("POST", f"/v1/webhooks/{made['id']}/test", token=token)
    assert (status, delivery["state"], delivery["last_status"], delivery["attempts"]) == (200, "delivered", 204, 1)
    ((headers, body),) = got
    told = Verifier(made["secret"]).verify(body, headers)
    assert (told["type"], told["data"]["webhook_id"], told["id"]) == ("webhook.test", made["id"], delivery["event_id"])
    _, listed, _ = await call("GET", f"/v1/webhooks/{made['id']}/deliveries", token=token)
    assert (listed["deliveries"], listed["total"]) == ([delivery], 1)
    _, none, _ = await call("GET", f"/v1/webhooks/{other['id']}/deliveries", token=token)
    assert none["total"] == 0
    await call("PATCH", f"/v1/webhooks/{made['id']}", token=token, json={"active": False})
    assert (await call("POST", f"/v1/webhooks/{made['id']}/test", token=token))[0] == 409


async def test_a_test_of_a_receiver_that_is_not_there_says_so(call, token):
    made = await created(call, token, "http://127.0.0.1:9/hook")
    _, delivery, _ = await call("POST", f"/v1/webhooks/{made['id']}/test", token=token)
    assert (delivery["state"], delivery["last_status"], delivery["last_error"]) == (
        "pending",
        None,
        "connection_failed",
    )
    assert delivery["next_attempt_at"] > delivery["last_attempt_at"]


async def test_events_are_delivered_and_replayed(call, token, market, wallet, receiver, clock):
    url, got = receiver
    made = await created(call, token, url)
    account = await market.store.lookup(lambda tx: Accounts(tx).find_by_wallet(wallet.address))
    feed = market.jobs.feed
    cursor = await market.store.write(lambda tx: feed.append(tx, account, EventType.JOB_COMPLETED, "job_x", {"n": 1}))
    await until(lambda: len(got) == 1)
    await until_delivered(market, made["id"], cursor)
    path = f"/v1/webhooks/{made['id']}/replay"
    for body in ({"after": str(cursor - 1)}, {"from": "2020-01-01T00:00:00Z"}):
        before = len(got)
        status, answer, _ = await call("POST", path, token=token, json=body)
        assert (status, answer) == (202, {"queued": 1, "until": str(cursor)})
        await until(lambda before=before: len(got) == before + 1)
        await until_delivered(market, made["id"], cursor)
    assert {headers["webhook-id"] for headers, _ in got} == {got[0][0]["webhook-id"]}
    for body in (
        {},
        {"after": "1", "from": "2020-01-01T00:00:00Z"},
        {"after": "x"},
        {"after": "99999"},
        {"from": "now"},
    ):
        assert (await call("POST", path, token=token, json=body))[0] == 422, body


async def test_a_rotated_secret_is_shown_once_and_signs(call, token, receiver):
    url, got = receiver
    made = await created(call, token, url)
    status, rotated, _ = await call("POST", f"/v1/webhooks/{made['id']}/rotate", token=token)
    assert status == 200
    assert rotated["secret"] != made["secret"]
    await call("POST", f"/v1/webhooks/{made['id']}/test", token=token)
    headers, body = got[0]
    for secret in (made["secret"], rotated["secret"]):
        Verifier(secret).verify(body, headers)
    _, first, _ = await call("POST", "/v1/webhooks/default-secret", token=token)
    assert first["old_secret_until"] is None


async def test_secrets_and_urls_are_in_no_log(call, token, receiver, capfd, caplog):
    caplog.set_level("DEBUG")
    url, got = receiver
    made = await created(call, token, f"{url}?key=hidden-in-the-url")
    _, rotated, _ = await call("POST", f"/v1/webhooks/{made['id']}/rotate", token=token)
    await call("POST", f"/v1/webhooks/{made['id']}/test", token=token)
    assert got
    # where it goes depends on whether an earlier test has set the log up; aiohttp's own lines are the receiver's
    records = (record.getMessage() for record in caplog.records if record.name != "aiohttp.access")
    logged = "".join([*capfd.readouterr(), *records])
    assert "request" in logged
    for secret in (made["secret"], rotated["secret"], "hidden-in-the-url"):
        assert secret not in logged


async def test_a_strangers_webhook_is_not_found(call, token):
    made = await created(call, token)
    stranger = (await call.login(Wallet()))["token"]
    assert (await call("GET", "/v1/webhooks", token=stranger))[1]["total"] == 0
    for method, tail, body in (
        ("GET", "", None), ("PATCH", "", {"active": False}), ("DELETE", "", None), ("POST", "/rotate", None),
        ("POST", "/test", None), ("GET", "/deliveries", None), ("POST", "/replay", {"after": "0"}),
    ):  # fmt: skip
        status, _, _ = await call(method, f"/v1/webhooks/{made['id']}{tail}", token=stranger, json=body)
        assert status == 404, (method, tail)
    assert (await call("GET", f"/v1/webhooks/{made['id']}", token=token))[1]["active"]
