"""Inputs and outputs of jobs at the market: a real market, chain and program, a node that says what a test says."""

import asyncio
import hashlib
import io
import json
import zipfile

import pytest
from yarl import URL

from marketplace.protocol.vouchers import VoucherState
from marketplace.services import job_orders
from marketplace.services import outputs as rules
from marketplace.store.files import Files
from tests.api.conftest import Renter, Wallet
from tests.api.test_jobs import allowed, balanced, node, submit, until

__all__ = ["allowed", "node"]
DAY_MS = 24 * 3_600_000


def digest(data):
    return hashlib.sha256(data).hexdigest()


class Delivery:
    """An attempt's files, over the node's own HTTP."""

    def __init__(self, call, node, attempt, token):
        self.call, self.attempt, self.token = call, attempt, token
        self.place = f"/v1/nodes/{node.id}/allocations/{attempt.request.allocation_id}"

    async def __call__(self, method, rest, *, lease=None, number=None, **more):
        headers = {"X-Lease-Token": self.attempt.lease if lease is None else lease}
        path = f"{self.place}/{rest}?attempt={number or self.attempt.request.attempt}"
        return await self.call(method, path, token=self.token, headers=headers, **more)

    async def put(self, path, data, **more):
        return await self("PUT", f"outputs/{path}", data=data, **more)


@pytest.fixture
async def begin(live_market, live_call, allowed, node):
    """Submit a job and bring it to where it runs."""

    async def begin(key="k", **fields):
        (status, job, _), attempt = await asyncio.gather(submit(allowed, key, **fields), node.take())
        assert status == 201, job
        token = (await live_call.login(node, "node"))["token"]
        return job["id"], attempt, Delivery(live_call, node, attempt, token)

    return begin


@pytest.fixture
async def run(begin, allowed, live_market):
    async def run(key="k", **fields):
        job_id, attempt, delivery = await begin(key, **fields)
        await until(allowed, job_id, "assigned", "running")
        await attempt.report("pulling")
        await attempt.ready(live_market)
        await until(allowed, job_id, "running")
        return job_id, attempt, delivery

    return run


async def closed(renter, job_id):
    async with asyncio.timeout(30):
        while True:
            _, job, _ = await renter("GET", f"/v1/jobs/{job_id}")
            if job["settlement"]["state"] == "closed":
                return job
            await asyncio.sleep(0.4)  # below the rate limit of a wallet


async def end(attempt, reason=1, state=VoucherState.FINAL, exit_code=0):
    voucher = attempt.voucher(0, state=state, reason=reason)
    answer = await attempt.report("exited", reason=reason, exit_code=exit_code, voucher=voucher)
    assert answer["type"] == "ack", answer


async def test_what_a_job_leaves_is_shown_and_downloaded(run, allowed, live_call):
    job_id, attempt, delivery = await run()
    status, problem, _ = await allowed("GET", f"/v1/jobs/{job_id}/download")
    assert (status, problem["error"]) == (409, "not_ready")
    await attempt.report("uploading", reason=1)
    job = await until(allowed, job_id, "uploading")
    assert job["result"] is None
    assert (await allowed("GET", "/v1/jobs?status=uploading"))[1]["total"] == 1
    assert (await allowed("GET", "/v1/jobs?status=running"))[1]["total"] == 0
    assert (await delivery.put("sub/model.bin", b"old"))[0] == 200
    status, taken, _ = await delivery.put("sub/model.bin", b"model" * 1000)
    assert (status, taken) == (200, {"path": "sub/model.bin", "size": 5000, "sha256": digest(b"model" * 1000)})
    assert (await delivery.put("result.json", b'{"answer": 4.20, "n": 123456789012345678901}'))[0] == 200
    status, held, _ = await delivery("GET", "outputs")
    assert [file["path"] for file in held["outputs"]] == ["result.json", "sub/model.bin"]
    await attempt.log("hello", "world")
    await end(attempt)
    await until(allowed, job_id, "completed")
    job = await closed(allowed, job_id)
    balanced(job)
    assert (job["result"], job["progress"]) == ({"answer": 4.2, "n": 123456789012345678901}, 100)
    assert job["output_config"] == {"destination": "local", "format": "json"}
    status, _, headers = await allowed("GET", f"/v1/jobs/{job_id}/download")
    assert (status, headers["Content-Type"]) == (200, "application/json")
    status, raw, _ = await allowed(
        "GET", f"/v1/jobs/{job_id}/download?path=result.json", headers={"Range": "bytes=0-8"}
    )
    assert (status, raw) == (206, b'{"answer"')
    status, raw, _ = await allowed("GET", f"/v1/jobs/{job_id}/download?path=sub/model.bin")
    assert (status, raw) == (200, b"model" * 1000)
    status, problem, _ = await allowed("GET", f"/v1/jobs/{job_id}/download?path=sub/none")
    assert (status, problem["error"]) == (404, "not_found")
    _, listed, _ = await allowed("GET", f"/v1/jobs/{job_id}/outputs")
    assert (listed["total"], listed["total_bytes"]) == (2, 5044)


async def test_the_archive_holds_everything_and_is_made_once(run, allowed, live_market):
    job_id, attempt, delivery = await run(output_config={"format": "archive"})
    await attempt.report("uploading", reason=1)
    await delivery.put("result.txt", "grüß".encode())
    await delivery.put("a/b.bin", b"b")
    await attempt.log("hello")
    await end(attempt)
    job = await until(allowed, job_id, "completed")
    assert job["result"] == "grüß"
    status, raw, headers = await allowed("GET", f"/v1/jobs/{job_id}/download")
    assert (status, headers["Content-Type"]) == (200, "application/zip")
    archive = zipfile.ZipFile(io.BytesIO(raw))
    top = f"job_{job_id.removeprefix('job_')}"
    assert sorted(archive.namelist()) == [
        f"{top}/artifacts/a/b.bin", f"{top}/logs/stderr.log", f"{top}/logs/stdout.log", f"{top}/output.json",
        f"{top}/result.txt",
    ]  # fmt: skip
    assert archive.read(f"{top}/logs/stdout.log") == b"hello\n"
    assert json.loads(archive.read(f"{top}/output.json"))["status"] == "completed"
    assert headers["ETag"] == f'"{digest(raw)}"'
    status, again, _ = await allowed("GET", f"/v1/jobs/{job_id}/download", headers={"Range": "bytes=-4"})
    assert (status, again) == (206, raw[-4:])
    assert len([found async for found in live_market.jobs.outputs._storage.list("packages")]) == 1


async def test_without_a_result_the_answer_says_what_there_is(run, allowed):
    job_id, attempt, delivery = await run()
    await attempt.report("uploading", reason=2)
    await delivery.put("trace.txt", b"why")
    await end(attempt, reason=2, exit_code=3)
    job = await until(allowed, job_id, "failed")
    assert job["result"] is None
    status, problem, _ = await allowed("GET", f"/v1/jobs/{job_id}/download")
    assert (status, problem["error"]) == (404, "not_found")
    assert "path= reads one of its 1 files" in problem["message"]
    assert (await allowed("GET", f"/v1/jobs/{job_id}/download?path=trace.txt"))[1] == b"why"


@pytest.mark.parametrize(
    ("content", "shown"),
    [(b"not json", "download"), (b"[" + b"1," * 40_000 + b"1]", "download"), (b'{"a":NaN}', "download"), (b"7", 7)],
)
async def test_a_result_that_is_no_small_json_is_downloaded(run, allowed, content, shown):
    job_id, attempt, delivery = await run()
    await attempt.report("uploading", reason=1)
    await delivery.put("result.json", content)
    await end(attempt)
    job = await until(allowed, job_id, "completed")
    expected = {"download": True, "size": len(content), "sha256": digest(content)} if shown == "download" else shown
    assert job["result"] == expected


async def test_only_the_holder_of_the_lease_delivers(run, begin, allowed, live_call, node):
    job_id, attempt, delivery = await run()
    for more in ({"lease": "0" * 32}, {"lease": ""}, {"number": 2}):
        status, problem, _ = await delivery.put("a", b"x", **more)
        assert (status, problem["error"]) == (409, "lease_lost"), more
    other = Delivery(live_call, node, attempt, allowed.token)
    assert (await other.put("a", b"x"))[0] == 403
    await attempt.report("uploading", reason=1)
    await end(attempt)
    await until(allowed, job_id, "completed")
    status, problem, _ = await delivery.put("late", b"x")
    assert (status, problem["error"]) == (409, "lease_lost")
    assert (await allowed("GET", f"/v1/jobs/{job_id}/outputs"))[1]["total"] == 0


async def test_files_that_are_faster_than_the_report_of_their_start_are_told_to_wait(
    begin, allowed, node, live_market, live_call
):
    job_id, attempt, delivery = await begin()
    await until(allowed, job_id, "assigned")
    for method, rest, more in (("GET", "outputs", {}), ("PUT", "outputs/a", {"data": b"x"})):
        status, problem, _ = await delivery(method, rest, **more)
        assert (status, problem["error"], problem["retryable"]) == (409, "not_ready", True)
        assert (await delivery(method, rest, lease="0" * 32, **more))[1]["error"] == "lease_lost"
    await attempt.ready(live_market)
    assert (await delivery.put("a", b"x"))[0] == 200


@pytest.mark.parametrize(
    "path", ["..%2Fup", "a%2F..%2F..%2Fb", "%2Fetc", "a%5Cb", "a%0Ab", "a%2F%2Fb", "d%2F" * 40 + "x"]
)
async def test_no_path_leads_out(run, live_market, path):
    _, _, delivery = await run()

    url = URL(f"{delivery.call.base}{delivery.place}/outputs/{path}?attempt=1", encoded=True)
    headers = {"X-Lease-Token": delivery.attempt.lease, "Authorization": f"Bearer {delivery.token}"}
    async with delivery.call.session.put(url, data=b"x", headers=headers) as response:
        assert response.status in (404, 422), await response.text()
    assert [found async for found in live_market.jobs.outputs._storage.list("outputs")] == []


@pytest.mark.parametrize(("name", "value"), [("MAX_BYTES", 10), ("GB", 5)])
async def test_more_than_the_limit_or_the_job_s_disk_is_refused_and_leaves_nothing(
    run, monkeypatch, live_market, name, value
):
    _, _, delivery = await run()
    monkeypatch.setattr(rules, name, value)  # a job has a disk of 2 GB
    monkeypatch.setattr(rules, "MAX_FILES", 2)
    assert (await delivery.put("a", b"x" * 8))[0] == 200
    status, problem, _ = await delivery.put("b", b"x" * 3)
    assert (status, problem["error"]) == (413, "payload_too_large")
    assert (await delivery.put("a", b"x" * 10))[0] == 200
    assert (await delivery.put("c", b""))[0] == 200
    assert (await delivery.put("d", b""))[0] == 413
    assert len([found async for found in live_market.jobs.outputs._storage.list("outputs")]) == 2


async def test_a_cancel_that_comes_while_outputs_travel_ends_their_delivery(run, allowed, node):
    job_id, attempt, delivery = await run()
    await attempt.report("uploading", reason=1)
    await delivery.put("partial", b"x")
    assert (await allowed("POST", f"/v1/jobs/{job_id}/cancel"))[1]["status"] == "cancelling"
    while not any(command["type"] == "stop" for command in node.commands):
        await attempt.node.ask("heartbeat", {"sequence": 1, "free_slots": 1})
    await end(attempt, reason=3)
    await until(allowed, job_id, "cancelled")
    balanced(await closed(allowed, job_id))
    assert (await allowed("GET", f"/v1/jobs/{job_id}/download?path=partial"))[1] == b"x"


async def test_a_text_a_value_and_a_file_reach_the_node(begin, allowed, live_call):
    _, upload, _ = await allowed("POST", "/v1/files?name=data.csv", data=b"1,2")
    file_id = upload["file_id"]
    wanted = [
        ("hello", "input.txt", b"hello"),
        ({"text": "file_or_not"}, "input.txt", b"file_or_not"),
        ({"b": 1, "a": [True, None]}, "input.json", b'{"a":[true,null],"b":1}'),
        (file_id, "data.csv", b"1,2"),
    ]
    for number, (given, name, content) in enumerate(wanted):
        job_id, attempt, delivery = await begin(f"k{number}", input=given)
        status, raw, headers = await delivery("GET", "input")
        assert (status, raw) == (200, content)
        assert headers["Content-Disposition"] == f"attachment; filename*=UTF-8''{name}"
        assert headers["ETag"] == f'"{digest(content)}"'
        assert attempt.spec.input.name in (name, None)
        if given == file_id:
            status, problem, _ = await allowed("DELETE", f"/v1/files/{file_id}")
            assert (status, problem["error"], problem["used_by"]) == (409, "in_use", [job_id])
        assert (await delivery("GET", "input", lease="x"))[0] == 409
        await attempt.report("exited", reason=14, detail="the input is not what its digest says")
        job = await closed(allowed, job_id)
        balanced(job)
        assert (job["reason"], job["settlement"]["paid"]) == ("input_unavailable", "0.000000")
    assert (await allowed("DELETE", f"/v1/files/{file_id}"))[0] == 204


async def test_a_file_that_is_deleted_while_a_job_is_submitted_is_missing_or_in_use(allowed, node, live_market):
    """Whichever transaction comes first: the job that names no file any more is never written, and never paid."""
    _, upload, _ = await allowed("POST", "/v1/files?name=data.csv", data=b"1,2")
    # The submission has looked at its input, and waits for its turn to write.
    turn = live_market.jobs.groups._jobs._wallet_locks.setdefault(allowed.address, asyncio.Lock())
    async with turn:
        submitting = asyncio.create_task(submit(allowed, input=upload["file_id"]))
        async with asyncio.timeout(20):
            while not turn._waiters and not submitting.done():  # noqa: ASYNC110 - the moment that is meant
                await asyncio.sleep(0.01)
        assert (await allowed("DELETE", f"/v1/files/{upload['file_id']}"))[0] == 204
    status, problem, _ = await submitting
    assert (status, problem["details"][0]["code"]) == (422, "file_missing"), problem
    assert (await allowed("GET", "/v1/jobs"))[1]["total"] == 0
    assert (await allowed("GET", "/v1/escrows"))[1]["escrows"] == []


async def test_a_file_that_was_deleted_in_the_moment_of_the_submission_is_named(begin, allowed, live_market):
    _, upload, _ = await allowed("POST", "/v1/files?name=data.csv", data=b"1,2")
    _, attempt, delivery = await begin(input=upload["file_id"])
    await live_market.store.write(lambda tx: Files(tx).delete(upload["file_id"]))
    status, problem, _ = await delivery("GET", "input")
    assert (status, problem["message"]) == (404, "the upload that this job reads was deleted")
    await attempt.report("exited", reason=14)


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ("file_1111111111111111111111", "file_missing"),
        ("https://10.0.0.1/private", "not_allowed"),
        ("https://user:password@example.com/", "not_allowed"),
    ],
)
async def test_an_input_that_is_not_there_opens_no_escrow(allowed, node, given, code):
    status, problem, _ = await submit(allowed, input=given)
    assert (status, problem["error"]) == (422, "validation_error"), problem
    assert (problem["details"][0]["field"], problem["details"][0]["code"]) == ("input", code)
    assert (await allowed("GET", "/v1/escrows"))[1]["escrows"] == []


async def test_an_input_that_is_too_large_opens_no_escrow(allowed, node, monkeypatch):
    monkeypatch.setattr(job_orders, "MAX_INLINE_BYTES", 1000)
    status, problem, _ = await submit(allowed, input="x" * 1001)
    assert (status, problem["error"], problem["limit_bytes"]) == (413, "payload_too_large", 1000), problem
    assert (await allowed("GET", "/v1/escrows"))[1]["escrows"] == []


async def test_another_accounts_file_is_not_there(allowed, node, chain, live_market, live_call):
    other = await Renter.funded(Wallet(), chain, live_market, live_call)
    _, upload, _ = await other("POST", "/v1/files?name=a", data=b"secret")
    status, problem, _ = await submit(allowed, input=upload["file_id"])
    assert (status, problem["details"][0]["code"]) == (422, "file_missing")


async def test_a_long_text_is_taken(begin, allowed):
    text = "\n" * 500_000
    _, _, delivery = await begin(input=text)
    status, raw, _ = await delivery("GET", "input")
    assert (status, raw) == (200, text.encode())
