"""Outputs into a renter's bucket: a real market, chain and program, a real S3 server, a node that says what it is told."""

import asyncio
import io
import json

import pytest
from aiohttp import ClientSession, web

from marketplace.app import Market
from marketplace.domain.buckets import MalformedPlace, parse_place
from marketplace.domain.reasons import Reason
from marketplace.objects.storage import ObjectStorage, S3Access
from marketplace.protocol.outputs import OutputFile, manifest_digest
from marketplace.protocol.vouchers import VoucherState
from marketplace.services.bucket_client import PART_BYTES
from tests.api.conftest import Caller, Renter, Wallet, settings_in
from tests.api.scripted_node import ScriptedNode
from tests.api.serving import ready
from tests.api.test_job_secrets import everything_stored
from tests.api.test_jobs import ALLOWANCE, submit, until
from tests.api.test_reasons import money_is_as_the_table_says
from tests.api.test_transfers import Delivery, closed, digest
from tests.objects.seaweed import ACCESS_KEY, PLAIN_KEY, SECRET_KEY, s3_server

pytestmark = pytest.mark.timeout(180)
BILLED_MS = 300


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        server.make_bucket("theirs")
        yield server


@pytest.fixture
def settings(tmp_path, chain):
    settings = settings_in(tmp_path, chain.folder / "keys", chain.rpc)
    return settings.model_copy(
        update={
            "outgoing": settings.outgoing.model_copy(update={"loopback": True}),
            "limits": settings.limits.model_copy(update={"wallet": 6000, "address": 6000}),
        }
    )


async def started(settings):
    market = Market.build(settings)
    await market.start()
    await ready(market)
    return market


@pytest.fixture
async def live_market(settings):
    market = await started(settings)
    yield market
    await market.stop()


@pytest.fixture
async def node(chain, live_market, live_call):
    scripted = ScriptedNode(await Renter.funded(Wallet(), chain, live_market, live_call))
    await scripted.register()
    await scripted.connect(live_call)
    yield scripted
    await scripted.close()


@pytest.fixture
async def allowed(renter):
    await renter.deposit("20")
    _, prepared, _ = await renter("POST", "/v1/allowance", json=ALLOWANCE)
    await renter.send(prepared)
    return renter


def login(server, **more):
    return {
        "name": "mine", "kind": "s3", "endpoint": server.endpoint, "region": "us-east-1", "access_key": ACCESS_KEY,
        "secret_key": SECRET_KEY, **more,
    }  # fmt: skip


async def keep(renter, body):
    status, made, _ = await renter("POST", "/v1/credentials", json=body)
    assert status == 201, made
    return made


async def run(renter, node, market, key, files, **fields):
    """A job that has left these files and says so; the call in which it does."""
    (status, job, _), attempt = await asyncio.gather(submit(renter, key, **fields), node.take())
    assert status == 201, job
    await until(renter, job["id"], "assigned", "running")
    await attempt.ready(market)
    await until(renter, job["id"], "running")
    delivery = Delivery(renter.call, node, attempt, (await renter.call.login(node, "node"))["token"])
    await attempt.report("uploading", reason=1)
    for path, data in files.items():
        status, taken, _ = await delivery.put(path, io.BytesIO(data))
        assert (status, taken["sha256"]) == (200, digest(data)), taken
    return job["id"], attempt, delivery


async def handed_over(delivery):
    """What the node hears when the delivery has ended."""
    async with asyncio.timeout(90):
        while True:
            status, answer, _ = await delivery("POST", "outputs")
            assert status == 200, answer
            if answer["state"] != "delivering":
                return answer


async def end(attempt, files, reason=Reason.COMPLETED):
    assert manifest_digest(OutputFile(path, len(data), digest(data)) for path, data in files.items())
    voucher = attempt.voucher(
        BILLED_MS, at=attempt.started + BILLED_MS, state=VoucherState.FINAL, reason=int(reason)
    )  # fmt: skip
    answer = await attempt.report("exited", reason=int(reason), exit_code=0, voucher=voucher)
    assert answer["type"] == "ack", answer


def bucket(server, prefix=""):
    return ObjectStorage.in_bucket(
        S3Access("theirs", prefix, server.endpoint, access_key=ACCESS_KEY, secret_key=SECRET_KEY, timeout_s=10)
    )


async def content(server, prefix):
    """Everything below a prefix, by the rest of its key."""
    return {found async for found in _found(server, prefix)}


async def _found(server, prefix):
    async for found in bucket(server).list(prefix):
        yield found.key.removeprefix(f"{prefix}/"), found.size


async def test_a_login_is_kept_sealed_shown_without_its_secret_and_guarded(live_call, live_market, server):
    token = (await live_call.login(Wallet()))["token"]

    async def call(method, path, **more):
        return await live_call(method, path, token=token, **more)

    headers = {"Idempotency-Key": "k"}
    status, made, answered = await call("POST", "/v1/credentials", json=login(server, default=True), headers=headers)
    assert (status, answered["Location"]) == (201, f"/v1/credentials/{made['id']}")
    assert list(made) == ["id", "name", "kind", "endpoint", "region", "access_key", "default", "created_at"]
    assert (await call("POST", "/v1/credentials", json=login(server, default=True), headers=headers))[1] == made
    status, refused, _ = await call("POST", "/v1/credentials", json=login(server))
    assert (status, refused["error"]) == (409, "already_exists")
    other = (await call("POST", "/v1/credentials", json=login(server, name="second", default=True)))[1]
    _, listed, _ = await call("GET", "/v1/credentials")
    assert [(each["name"], each["default"]) for each in listed["credentials"]] == [("mine", False), ("second", True)]
    assert (await call("GET", f"/v1/credentials/{other['id']}"))[1] == other
    everything = everything_stored(live_market.settings.database)
    assert [table for table, text in everything.items() if SECRET_KEY in text] == []
    for endpoint in (
        "http://10.0.0.1", "https://169.254.169.254", "http://[::ffff:10.0.0.1]:9000", "https://user:pw@s3.test",
        "https://s3.test/bucket", "https://s3.test/?x=1", "ftp://s3.test", "http://s3.test",
    ):  # fmt: skip
        status, answer, _ = await call("POST", "/v1/credentials", json=login(server, name="n", endpoint=endpoint))
        assert (status, answer["details"][0]["field"]) == (422, "endpoint"), (endpoint, answer)
        assert SECRET_KEY not in json.dumps(answer)
    assert (await call("DELETE", f"/v1/credentials/{made['id']}"))[0] == 204
    assert (await call("GET", f"/v1/credentials/{made['id']}"))[0] == 404
    # which login a job takes
    job = {"image": "a", "gpu": "cpu-small", "max_price_per_hour": "1"}
    for output, field, code in (
        ({"destination": "s3://theirs", "credential_id": made["id"]}, "output_config.credential_id", "not_allowed"),
        ({"credential_id": other["id"]}, "output_config.credential_id", "conflict"),
        ({"destination": "s3://Theirs"}, "output_config.destination", "not_allowed"),
        ({"destination": "gs://theirs"}, "output_config.destination", "not_allowed"),
        ({"destination": "s3://theirs/a/../b"}, "output_config.destination", "not_allowed"),
    ):
        status, answer, _ = await call("POST", "/v1/jobs", json=job | {"output_config": output})
        assert (status, [(d["field"], d["code"]) for d in answer["details"]]) == (422, [(field, code)]), output
    stranger = (await live_call.login(Wallet()))["token"]
    body = job | {"output_config": {"destination": "s3://theirs"}}
    status, answer, _ = await live_call("POST", "/v1/jobs", token=stranger, json=body)
    assert (status, answer["details"][0]["code"]) == (422, "required")
    assert "/v1/credentials" in answer["message"]
    status, answer, _ = await live_call("POST", "/v1/groups", token=stranger, json={"job": body, "count": 2})
    assert (status, answer["details"][0]["code"]) == (422, "required"), "before any member is opened"
    await live_call("POST", "/v1/credentials", token=stranger, json=login(server, name="a"))
    await live_call("POST", "/v1/credentials", token=stranger, json=login(server, name="b"))
    status, answer, _ = await live_call("POST", "/v1/jobs", token=stranger, json=body)
    assert (status, "several" in answer["message"]) == (422, True)


async def test_outputs_come_into_the_bucket_whole_before_the_job_is_over(allowed, node, live_market, server, capfd):
    made = await keep(allowed, login(server))
    files = {
        "result.json": b'{"a": 1}',
        "models/step 1+é(b)!'.bin": b"m" * 70_000,
        "large.bin": bytes(range(256)) * (2 * PART_BYTES // 256) + b"rest",
        "empty": b"",
    }
    config = {"destination": "s3://theirs/runs/today", "format": "archive"}
    job_id, attempt, delivery = await run(allowed, node, live_market, "k", files, output_config=config)
    status, refused, _ = await allowed("DELETE", f"/v1/credentials/{made['id']}")
    assert (status, refused["error"], refused["used_by"]) == (409, "in_use", [job_id])
    assert await handed_over(delivery) == {"state": "delivered", "detail": None}
    assert (await delivery("POST", "outputs"))[1]["state"] == "delivered", "and said so again"
    job = (await allowed("GET", f"/v1/jobs/{job_id}"))[1]
    assert (job["status"], job["delivery"]["state"], job["delivery"]["files"]) == ("uploading", "delivered", 4)
    await end(attempt, files)
    job = await closed(allowed, job_id)
    money_is_as_the_table_says(job, Reason.COMPLETED, BILLED_MS)
    assert job["output_config"] == config
    place = f"runs/today/{job_id}"
    stored = bucket(server)
    summary = json.loads(await stored.read_bytes(f"{place}/output.json"))
    assert (summary["job_id"], summary["attempt"]) == (job_id, 1)
    assert {each["path"]: each["sha256"] for each in summary["outputs"]} == {p: digest(d) for p, d in files.items()}
    assert {name for name, _ in await content(server, place)} == {
        "output.json", "result.json", "artifacts/large.bin", "artifacts/empty", "artifacts/models/step 1+é(b)!'.bin",
    }  # fmt: skip
    assert digest(await stored.read_bytes(f"{place}/artifacts/large.bin")) == digest(files["large.bin"])
    # served here as well
    assert (await allowed("GET", f"/v1/jobs/{job_id}/download?path=empty"))[0] == 200
    assert (await allowed("DELETE", f"/v1/credentials/{made['id']}"))[0] == 204
    assert SECRET_KEY not in "".join(capfd.readouterr())
    assert 'reaver_bucket_deliveries_total{outcome="delivered"} 1.0' in live_market.metrics.exposition()[0].decode()


async def test_what_a_service_refuses_is_output_delivery_failed_at_once(allowed, node, live_market, server):
    cases = (
        ({"secret_key": "planted-wrong-key"}, "theirs", "403 SignatureDoesNotMatch"),
        ({"access_key": "planted-nobody"}, "theirs", "403 InvalidAccessKeyId"),
        ({"access_key": PLAIN_KEY}, "not-there", "403 AccessDenied"),
        # public when it was kept, this machine when it is asked
        ({"endpoint": "https://rebinding.test"}, "theirs", "an address that is the machine itself"),
    )
    files = {"result.txt": b"kept"}
    for number, (fields, name, said) in enumerate(cases):
        if "endpoint" in fields:
            live_market.jobs.courier._outgoing._resolver = Names("127.0.0.1")
            await live_market.jobs.courier._outgoing.close()
        made = await keep(allowed, login(server, name=str(number), **fields))
        config = {"destination": f"s3://{name}/x", "credential_id": made["id"], "format": "text"}
        job_id, attempt, delivery = await run(allowed, node, live_market, str(number), files, output_config=config)
        answer = await handed_over(delivery)
        assert (answer["state"], said in answer["detail"]) == ("failed", True), answer
        await end(attempt, files, Reason.OUTPUT_DELIVERY_FAILED)
        job = await closed(allowed, job_id)
        money_is_as_the_table_says(job, Reason.OUTPUT_DELIVERY_FAILED, BILLED_MS)
        assert (job["delivery"]["state"], job["delivery"]["error"]) == ("failed", answer["detail"])
        assert (await allowed("GET", f"/v1/jobs/{job_id}/download"))[1] == b"kept", "the local copy"


class Names:
    """A resolver with one answer."""

    def __init__(self, address):
        self.address = address

    async def resolve(self, host, port=0, family=0):
        return [{"hostname": host, "host": self.address, "port": port, "family": 2, "proto": 6, "flags": 0}]

    async def close(self):
        pass


async def test_a_redirect_is_not_followed(allowed, node, live_market, server):
    asked = []

    async def elsewhere(request):
        asked.append(request.headers["Host"])
        return web.Response(status=307, headers={"Location": f"{server.endpoint}{request.path}"})

    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{rest:.*}", elsewhere)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        await keep(allowed, login(server, endpoint=f"http://127.0.0.1:{runner.addresses[0][1]}"))
        files = {"a": b"a"}
        config = {"destination": "s3://theirs/redirected"}
        job_id, attempt, delivery = await run(allowed, node, live_market, "k", files, output_config=config)
        answer = await handed_over(delivery)
        assert (answer["state"], "307" in answer["detail"], len(asked)) == ("failed", True, 1)
        assert await content(server, "redirected") == set()
        await end(attempt, files, Reason.OUTPUT_DELIVERY_FAILED)
        await until(allowed, job_id, "failed")
    finally:
        await runner.cleanup()


async def test_an_outage_that_lasts_fails_and_a_shorter_one_is_waited_out_also_by_a_market_that_restarts(
    allowed, node, live_market, settings, server
):
    await keep(allowed, login(server))
    server.stop()
    try:
        # longer than its patience: failed, and kept here
        files = {f"part-{n}": b"x" * 100_000 for n in range(4)}
        config = {"destination": "s3://theirs/outage"}
        patience, live_market.jobs.courier.patience_ms = live_market.jobs.courier.patience_ms, 1_000
        job_id, attempt, delivery = await run(allowed, node, live_market, "lasts", files, output_config=config)
        answer = await handed_over(delivery)
        assert (answer["state"], "too long" in answer["detail"]) == ("failed", True), answer
        await end(attempt, files, Reason.OUTPUT_DELIVERY_FAILED)
        money_is_as_the_table_says(await closed(allowed, job_id), Reason.OUTPUT_DELIVERY_FAILED, BILLED_MS)
        assert (await allowed("GET", f"/v1/jobs/{job_id}/download?path=part-0"))[1] == files["part-0"]
        # shorter: what was begun goes on by itself, in another process too
        live_market.jobs.courier.patience_ms = patience
        files = {"small": b"s", "large.bin": b"l" * (2 * PART_BYTES + 5)}
        config = {"destination": "s3://theirs/restarted"}
        job_id, attempt, delivery = await run(allowed, node, live_market, "a", files, output_config=config)
        waiting = asyncio.create_task(delivery("POST", "outputs"))
        async with asyncio.timeout(60):
            while not live_market.jobs.courier._tasks:  # noqa: ASYNC110 - what a probe does
                await asyncio.sleep(0.02)
        waiting.cancel()
        await live_market.stop()
        await asyncio.to_thread(server.start)
        again = await started(settings)
        try:
            # nobody asks: what was begun goes on by itself
            async with asyncio.timeout(60):
                while len(await content(server, f"restarted/{job_id}")) < 3:  # noqa: ASYNC110 - what a probe does
                    await asyncio.sleep(0.1)
            async with ClientSession() as session:
                allowed.call = delivery.call = Caller(session, f"http://127.0.0.1:{again.port}")
                assert (await handed_over(delivery))["state"] == "delivered"
                await node.close()
                await node.connect(allowed.call, [attempt.name | {"state": "uploading"}])
                await end(attempt, files)
                job = await closed(allowed, job_id)
                assert (job["status"], job["delivery"]["state"]) == ("completed", "delivered")
        finally:
            await again.stop()
    finally:
        if server.process is None:
            server.start()


async def test_a_job_that_leaves_nothing_delivers_nothing(allowed, node, live_market, server):
    await keep(allowed, login(server))
    config = {"destination": "s3://theirs/nothing"}
    job_id, attempt, delivery = await run(allowed, node, live_market, "k", {}, output_config=config)
    assert (await handed_over(delivery))["state"] == "delivered"
    await end(attempt, {"a": b""})
    job = await until(allowed, job_id, "completed")
    assert (job["delivery"]["files"], await content(server, "nothing")) == (0, set())
    assert (await delivery("POST", "outputs"))[1]["error"] == "lease_lost"


@pytest.mark.parametrize(
    "text",
    ["s3://", "s3://ab", "s3://UPPER", "s3://a..b", "s3://10.0.0.1", "s3://buck/a//b", "s3://buck/../b", "s3://buck/a\nb",
     "s3://buck/" + "x" * 257, "https://buck/x", "Local"],
)  # fmt: skip
def test_what_names_no_bucket_is_refused(text):
    with pytest.raises(MalformedPlace):
        parse_place(text)


def test_a_place_is_written_as_it_was_read():
    for text in ("s3://bucket", "s3://bucket/a/b"):
        assert str(parse_place(text)) == text
    assert str(parse_place("s3://bucket/a/")) == "s3://bucket/a"
