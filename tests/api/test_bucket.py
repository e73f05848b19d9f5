"""A market whose files lie in a bucket: the same as in a folder, and what an outage of the bucket does."""

import pytest
from aiohttp import ClientSession

from marketplace.app import Market
from marketplace.services.readiness import Lifecycle
from marketplace.settings import ObjectSettings
from tests.api.conftest import Caller
from tests.objects.seaweed import ACCESS_KEY, SECRET_KEY, s3_server

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def server(tmp_path):
    with s3_server(tmp_path) as server:
        server.make_bucket("market")
        yield server


@pytest.fixture
async def market(settings, clock, server):
    objects = ObjectSettings(
        bucket="market", prefix="deployment", endpoint=server.endpoint, access_key=ACCESS_KEY, secret_key=SECRET_KEY,
        timeout_s=2,
    )  # fmt: skip
    market = Market.build(settings.model_copy(update={"objects": objects}), clock=clock)
    await market.start()
    market.readiness.lifecycle = Lifecycle.RUNNING
    market.jobs.live.open()
    yield market
    await market.stop()


@pytest.fixture
async def call(market):
    async with ClientSession() as session:
        yield Caller(session, f"http://127.0.0.1:{market.port}")


async def test_an_outage_of_the_bucket_is_said_and_passes(call, market, server, wallet, capfd):
    token = (await call.login(wallet))["token"]
    status, file, _ = await call("POST", "/v1/files?name=a", token=token, data=b"kept")
    assert status == 201, file
    content = f"/v1/files/{file['file_id']}/content"
    status, body, _ = await call("GET", content, token=token, headers={"Range": "bytes=1-2"})
    assert (status, body) == (206, b"ep")
    server.stop()
    for method, path, data in (("GET", content, None), ("POST", "/v1/files?name=b", b"lost")):
        status, problem, headers = await call(method, path, token=token, data=data)
        assert (status, problem["error"], problem["retryable"]) == (503, "store_unavailable", True)
        assert headers["Retry-After"]
    status, listed, _ = await call("GET", "/v1/files", token=token)
    assert (status, listed["total"]) == (200, 1), "what is not kept is not listed, and the rest goes on"
    server.start()
    assert (await call("GET", content, token=token))[1] == b"kept"
    assert (await call("POST", "/v1/files?name=b", token=token, data=b"again"))[0] == 201
    assert (await call("DELETE", f"/v1/files/{file['file_id']}", token=token))[0] == 204
    assert SECRET_KEY not in "".join(capfd.readouterr())
