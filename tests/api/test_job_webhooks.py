"""A job that names a URL: its events go there, signed with the account's default secret, and nothing else's do."""

import asyncio
import json

import pytest
from aiohttp import web
from standardwebhooks import Webhook as Verifier

from marketplace.app import Market
from marketplace.settings import OutgoingSettings
from tests.api.conftest import settings_in
from tests.api.serving import ready
from tests.api.test_jobs import allowed, submit, until

__all__ = ["allowed"]


@pytest.fixture
async def live_market(tmp_path, chain):
    """A market that may deliver to this machine."""
    settings = settings_in(tmp_path, chain.folder / "keys", chain.rpc)
    market = Market.build(settings.model_copy(update={"outgoing": OutgoingSettings(loopback=True)}))
    await market.start()
    await ready(market)
    yield market
    await market.stop()


@pytest.fixture
async def receiver():
    got = []

    async def take(request):
        body = await request.read()
        got.append((request.path, dict(request.headers), body, json.loads(body)))
        return web.Response(status=204)

    application = web.Application()
    application.router.add_post("/{name}", take)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}", got
    await runner.cleanup()


async def arrived(got, count):
    async with asyncio.timeout(30):
        while len(got) < count:  # noqa: ASYNC110 - what waits is another task, behind a socket
            await asyncio.sleep(0.05)


async def test_a_job_s_events_go_where_its_body_said(allowed, receiver):
    url, got = receiver
    _, rotated, _ = await allowed("POST", "/v1/webhooks/default-secret")
    body = {"max_price_per_hour": "0.5"}
    _, other, _ = await submit(allowed, "other", **body)
    status, job, _ = await submit(allowed, "mine", webhook=f"{url}/mine", **body)
    assert status == 201, job
    # the same submission again is the same job and the same webhook
    await submit(allowed, "mine", webhook=f"{url}/mine", **body)
    for each in (other, job):
        await allowed("DELETE", f"/v1/jobs/{each['id']}")
        await until(allowed, each["id"], "cancelled")
    await arrived(got, 2)
    assert sorted(event["type"] for _, _, _, event in got) == ["job.cancelled", "job.queued"]
    for _, headers, raw, event in got:
        assert event["data"]["job_id"] == job["id"]
        assert Verifier(rotated["secret"]).verify(raw, headers) == event
    assert (await allowed("GET", "/v1/webhooks"))[1]["total"] == 0
    # once more is a new job, whose events go there, too
    status, again, _ = await allowed("POST", f"/v1/jobs/{job['id']}/retry", json={"max_price_per_hour": "0.5"})
    assert status == 201, again
    await arrived(got, 3)
    assert got[-1][3]["data"]["job_id"] == again["job_id"]
    await allowed("DELETE", f"/v1/jobs/{again['job_id']}")


async def test_a_job_may_not_name_a_url_that_leads_inside(allowed):
    for url in ("http://10.0.0.1/", "https://169.254.169.254/", "http://hooks.test/", "file:///etc/passwd"):
        status, problem, _ = await submit(allowed, url, webhook=url, max_price_per_hour="0.5")
        assert (status, [d["field"] for d in problem["details"]]) == (422, ["webhook"]), url
    assert (await allowed("GET", "/v1/jobs"))[1]["total"] == 0
