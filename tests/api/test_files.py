"""Files over HTTP: whole and by parts, checked, ranged, counted, expired."""

import asyncio
import base64
import hashlib
import io

import pytest
from aiohttp import FormData

from marketplace.services import files as rules
from marketplace.services.clock import ManualClock
from marketplace.services.readiness import Lifecycle
from tests.api.conftest import Wallet

DAY_MS = 24 * 3_600_000


@pytest.fixture
async def token(call, wallet, market):
    market.readiness.lifecycle = Lifecycle.RUNNING  # files need no chain
    market.jobs.live.open()
    return (await call.login(wallet))["token"]


@pytest.fixture
def small(monkeypatch):
    """The published sizes, a million times smaller: what is tested is the arithmetic."""
    for name, value in (("MIN_PART_BYTES", 8), ("MAX_PART_BYTES", 64), ("MAX_FILE_BYTES", 500), ("QUOTA_BYTES", 1000)):
        monkeypatch.setattr(rules, name, value)


def digest(data):
    return hashlib.sha256(data).hexdigest()


async def upload(call, token, data, name="data.bin", **query):
    query = "&".join(f"{k}={v}" for k, v in {"name": name, **query}.items())
    return await call(
        "POST", f"/v1/files?{query}", token=token, data=io.BytesIO(data) if isinstance(data, bytes) else data
    )


async def test_a_form_without_a_part_is_refused_as_unreadable(call, token):
    headers = {"Content-Type": "multipart/form-data; boundary=xyz"}
    body = io.BytesIO(b"--xyz\r\n--xyz--\r\n")
    status, answer, _ = await call("POST", "/v1/files", token=token, headers=headers, data=body)
    assert (status, answer["error"]) == (400, "invalid_request")


async def test_a_file_comes_back_as_it_was_sent(call, token, market):
    data = bytes(range(256)) * 9000
    status, file, headers = await upload(call, token, data, sha256=digest(data))
    assert status == 201, file
    assert list(file) == ["file_id", "name", "size", "sha256", "content_type", "created_at", "expires_at"]
    assert (file["name"], file["size"], file["sha256"]) == ("data.bin", len(data), digest(data))
    assert headers["Location"] == f"/v1/files/{file['file_id']}"
    status, seen, _ = await call("GET", f"/v1/files/{file['file_id']}", token=token)
    assert (status, seen) == (200, file)
    status, body, headers = await call("GET", f"/v1/files/{file['file_id']}/content", token=token)
    assert (status, body) == (200, data)
    assert headers["ETag"] == f'"{digest(data)}"'
    expected = base64.b64encode(hashlib.sha256(data).digest()).decode()
    assert headers["Repr-Digest"] == f"sha-256=:{expected}:"
    assert headers["Content-Disposition"] == "attachment; filename*=UTF-8''data.bin"
    status, listed, _ = await call("GET", "/v1/files", token=token)
    assert (listed["files"], listed["total"], listed["has_more"]) == ([file], 1, False)


@pytest.mark.parametrize(
    ("wanted", "status", "expected", "content_range"),
    [
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-2", 206, b"89", "bytes 8-9/10"),
        ("bytes=-99", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=4-99", 206, b"456789", "bytes 4-9/10"),
        ("bytes=0-1,3-4", 200, b"0123456789", None),
        ("bytes=5-4", 200, b"0123456789", None),
        ("lines=1-2", 200, b"0123456789", None),
        ("bytes=10-", 416, None, "bytes */10"),
        ("bytes=-0", 416, None, "bytes */10"),
    ],
)
async def test_a_range_is_served_as_the_standard_says(call, token, wanted, status, expected, content_range):
    _, file, _ = await upload(call, token, b"0123456789")
    path = f"/v1/files/{file['file_id']}/content"
    found, body, headers = await call("GET", path, token=token, headers={"Range": wanted})
    assert found == status
    assert headers.get("Content-Range") == content_range
    if expected is None:
        assert body["error"] == "range_not_satisfiable"
    else:
        assert body == expected


async def test_a_reader_who_has_it_is_told_so(call, token):
    _, file, _ = await upload(call, token, b"0123456789")
    path, etag = f"/v1/files/{file['file_id']}/content", f'"{file["sha256"]}"'
    status, body, _ = await call("GET", path, token=token, headers={"If-None-Match": etag})
    assert (status, body) == (304, b"")
    for wanted in ("*", f"W/{etag}", f'"another", {etag}'):
        assert (await call("GET", path, token=token, headers={"If-None-Match": wanted}))[0] == 304
    assert (await call("GET", path, token=token, headers={"If-None-Match": '"another"'}))[0] == 200
    both = {"Range": "bytes=0-1", "If-Range": '"another"'}
    assert (await call("GET", path, token=token, headers=both))[0] == 200
    status, body, headers = await call("HEAD", path, token=token)
    assert (status, body, headers["Content-Length"]) == (200, b"", "10")


async def test_who_wants_another_version_gets_none(call, token):
    """RFC 9110, section 13.1.1: compared strongly, before ranges and before If-None-Match."""
    _, file, _ = await upload(call, token, b"0123456789")
    path, etag = f"/v1/files/{file['file_id']}/content", f'"{file["sha256"]}"'
    for wanted in (etag, "*", f'"another", {etag}'):
        status, body, _ = await call("GET", path, token=token, headers={"If-Match": wanted, "Range": "bytes=0-1"})
        assert (status, body) == (206, b"01")
    for wanted in ('"another"', f"W/{etag}", ""):
        for more in ({}, {"Range": "bytes=99-"}, {"If-None-Match": etag}):
            status, answer, _ = await call("GET", path, token=token, headers={"If-Match": wanted, **more})
            assert (status, answer["error"], answer["etag"]) == (412, "precondition_failed", etag)
    assert (await call("HEAD", path, token=token, headers={"If-Match": '"another"'}))[0] == 412
    assert (await call("GET", path, token=token, headers={"If-Match": etag, "If-None-Match": etag}))[0] == 304


async def test_a_form_works_as_well(call, token):
    form = FormData(quote_fields=False)
    form.add_field("sha256", digest(b"content"))
    form.add_field("file", b"content", filename="../../photo.png", content_type="image/png")
    status, file, _ = await call("POST", "/v1/files", token=token, data=form)
    assert status == 201, file
    assert (file["name"], file["content_type"], file["size"]) == ("photo.png", "image/png", 7)


@pytest.mark.parametrize(
    ("path", "data", "code", "field"),
    [
        ("/v1/files", b"x", "required", "name"),
        ("/v1/files?name=..", b"x", "not_allowed", "name"),
        ("/v1/files?name=a%0Ab", b"x", "not_allowed", "name"),
        ("/v1/files?name=a&sha256=zz", b"x", "not_allowed", "sha256"),
        (f"/v1/files?name=a&sha256={'0' * 64}", b"x", "conflict", "sha256"),
    ],
)
async def test_what_is_wrong_is_said_and_nothing_is_kept(call, token, market, path, data, code, field):
    status, problem, _ = await call("POST", path, token=token, data=data)
    assert (status, problem["error"]) == (422, "validation_error"), problem
    assert (problem["details"][0]["field"], problem["details"][0]["code"]) == (field, code)
    assert (await call("GET", "/v1/files", token=token))[1]["total"] == 0
    assert [found async for found in market.jobs.files._storage.list("files")] == []


async def test_a_form_without_its_file_is_refused(call, token):
    form = FormData()
    form.add_field("other", b"content", filename="a")
    status, problem, _ = await call("POST", "/v1/files", token=token, data=form)
    assert (status, problem["details"][0]["field"]) == (422, "file")


@pytest.mark.parametrize(("name", "said"), [("sha256", "before"), ("file", "one file"), ("other", "before")])
async def test_what_follows_the_file_of_a_form_is_not_ignored(call, token, market, name, said):
    form = FormData(quote_fields=False)
    form.add_field("file", b"content", filename="photo.png")
    form.add_field(name, "0" * 64)
    status, problem, _ = await call("POST", "/v1/files", token=token, data=form)
    assert (status, problem["details"][0]["field"]) == (422, name)
    assert said in problem["message"]
    assert (await call("GET", "/v1/files", token=token))[1]["total"] == 0
    assert [found async for found in market.jobs.files._storage.list("files")] == []


async def test_the_same_key_uploads_once(call, token):
    headers = {"Idempotency-Key": "one"}
    answers = [await call("POST", "/v1/files?name=a", token=token, data=b"once", headers=headers) for _ in range(2)]
    assert answers[0][1] == answers[1][1]
    assert answers[1][2]["Idempotent-Replayed"] == "true"
    assert (await call("GET", "/v1/files", token=token))[1]["total"] == 1
    status, problem, _ = await call("POST", "/v1/files?name=a", token=token, data=b"longer", headers=headers)
    assert (status, problem["error"]) == (422, "idempotency_key_reused")


async def test_a_broken_upload_leaves_nothing(call, token, market):
    async def breaking():
        yield b"x" * 100_000
        raise ConnectionResetError

    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever the client's library calls it
        await call("POST", "/v1/files?name=a", token=token, data=breaking())
    assert (await call("GET", "/v1/files", token=token))[1]["total"] == 0


async def test_too_large_is_refused_before_and_while_it_comes(small, call, token, market):
    status, problem, _ = await upload(call, token, b"x" * 501)
    assert (status, problem["error"], problem["limit_bytes"]) == (413, "payload_too_large", 500)

    async def chunked():
        for _ in range(6):
            yield b"x" * 100

    status, problem, _ = await upload(call, token, chunked())
    assert (status, problem["error"]) == (413, "payload_too_large")
    assert [found async for found in market.jobs.files._storage.list("files")] == []


async def test_the_quota_is_exact_under_concurrency(small, call, token):
    answers = await asyncio.gather(*(upload(call, token, b"x" * 300, name=f"f{n}") for n in range(6)))
    assert sorted(status for status, _, _ in answers) == [201, 201, 201, 429, 429, 429]
    refused = next(body for status, body, _ in answers if status == 429)
    assert (refused["error"], refused["quota"], refused["limit"]) == ("quota_exceeded", "file_bytes", 1000)
    file = next(body for status, body, _ in answers if status == 201)
    assert (await call("DELETE", f"/v1/files/{file['file_id']}", token=token))[0] == 204
    status, begun, _ = await call("POST", "/v1/files/uploads", token=token, json={"name": "a", "size": 350})
    assert status == 201
    assert (await upload(call, token, b"x" * 100))[0] == 429  # the announced size counts
    assert (await call("DELETE", f"/v1/files/uploads/{begun['upload_id']}", token=token))[0] == 204
    assert (await upload(call, token, b"x" * 100))[0] == 201


async def test_an_upload_goes_on_by_its_parts(small, call, token, market):
    data = b"a" * 64 + b"b" * 10 + b"c" * 3
    wanted = {"name": "big.bin", "size": len(data), "sha256": digest(data)}
    status, begun, _ = await call("POST", "/v1/files/uploads", token=token, json=wanted)
    assert (status, begun["parts"], begun["file_id"]) == (201, [], None)
    path = f"/v1/files/uploads/{begun['upload_id']}"
    assert (await call("PUT", f"{path}/parts/3", token=token, data=b"c" * 3))[0] == 200
    assert (await call("PUT", f"{path}/parts/1", token=token, data=b"z" * 64))[0] == 200
    assert (await call("PUT", f"{path}/parts/1", token=token, data=b"a" * 64))[0] == 200
    status, problem, _ = await call("POST", f"{path}/complete", token=token)
    assert (status, problem["details"][0]["message"]) == (422, "part 2 is missing")
    assert (await call("PUT", f"{path}/parts/2", token=token, data=b"b" * 10))[0] == 200
    _, seen, _ = await call("GET", path, token=token)
    assert [(part["number"], part["size"]) for part in seen["parts"]] == [(1, 64), (2, 10), (3, 3)]
    (status, file, _), (_, again, _) = await asyncio.gather(
        call("POST", f"{path}/complete", token=token), call("POST", f"{path}/complete", token=token)
    )
    assert (status, file, file["sha256"]) == (201, again, digest(data))
    assert (await call("GET", f"/v1/files/{file['file_id']}/content", token=token))[1] == data
    assert [found async for found in market.jobs.files._storage.list("uploads")] == []
    status, problem, _ = await call("PUT", f"{path}/parts/4", token=token, data=b"late")
    assert (status, problem["error"]) == (409, "conflict")


@pytest.mark.parametrize(
    ("parts", "size", "sha256", "said"),
    [
        ([b"x" * 7, b"x"], 8, None, "part 1 has less than"),
        ([b"x" * 8], 9, None, "8 bytes are held, 9 were announced"),
        ([b"x" * 8], 8, "0" * 64, "what arrived has the digest"),
    ],
)
async def test_parts_that_are_not_what_was_announced_make_no_file(small, call, token, parts, size, sha256, said):
    wanted = {"name": "a", "size": size, "sha256": sha256}
    _, begun, _ = await call("POST", "/v1/files/uploads", token=token, json=wanted)
    path = f"/v1/files/uploads/{begun['upload_id']}"
    for number, part in enumerate(parts, 1):
        assert (await call("PUT", f"{path}/parts/{number}", token=token, data=part))[0] == 200
    status, problem, _ = await call("POST", f"{path}/complete", token=token)
    assert (status, said in problem["message"]) == (422, True), problem
    assert (await call("GET", "/v1/files", token=token))[1]["total"] == 0


async def test_a_part_that_is_too_large_and_one_without_a_number_are_refused(small, call, token):
    _, begun, _ = await call("POST", "/v1/files/uploads", token=token, json={"name": "a", "size": 100})
    path = f"/v1/files/uploads/{begun['upload_id']}"
    assert (await call("PUT", f"{path}/parts/1", token=token, data=b"x" * 65))[0] == 413
    assert (await call("PUT", f"{path}/parts/0", token=token, data=b"x"))[0] == 422
    assert (await call("PUT", f"{path}/parts/x", token=token, data=b"x"))[0] == 422


async def test_files_end_after_30_days_and_uploads_after_one(call, token, market, clock: ManualClock, wallet):
    _, file, _ = await upload(call, token, b"old")
    _, begun, _ = await call("POST", "/v1/files/uploads", token=token, json={"name": "a", "size": 3})
    path = f"/v1/files/uploads/{begun['upload_id']}"
    await call("PUT", f"{path}/parts/1", token=token, data=b"old")
    service = market.jobs.files
    assert await service.clean() == 0
    clock.advance(DAY_MS)
    token = (await call.login(wallet))["token"]
    assert (await call("GET", path, token=token))[0] == 410
    assert await service.clean() == 1
    assert (await call("GET", path, token=token))[0] == 404
    clock.advance(29 * DAY_MS)
    token = (await call.login(wallet))["token"]
    content = f"/v1/files/{file['file_id']}/content"
    status, problem, _ = await call("GET", content, token=token)
    assert (status, problem["error"]) == (410, "gone")
    assert await service.clean() == 1
    assert (await call("GET", content, token=token))[0] == 410
    assert (await call("GET", "/v1/files", token=token))[1]["total"] == 0
    assert [found async for found in service._storage.list("files")] == []
    clock.advance(31 * DAY_MS)
    await service.clean()
    token = (await call.login(wallet))["token"]
    assert (await call("GET", content, token=token))[0] == 404


async def test_bytes_that_no_row_names_are_swept_and_no_others(call, token, market, clock):
    _, file, _ = await upload(call, token, b"named")
    service = market.jobs.files
    await service._storage.write_bytes("files/file_left_by_a_crash", b"x")
    await service._storage.write_bytes("uploads/upl_left/1-part_x", b"x")
    moved = 2_000_000_000_000 - clock.now()
    clock.advance(max(0, moved))
    assert await service._sweep(clock.now()) == 2
    left = [found.key async for found in service._storage.list("files")]
    assert left == [f"files/{file['file_id']}"]


async def test_a_strangers_file_is_not_there(call, token):
    _, file, _ = await upload(call, token, b"mine")
    stranger = (await call.login(Wallet()))["token"]
    for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
        status, problem, _ = await call(method, f"/v1/files/{file['file_id']}{path}", token=stranger)
        assert (status, problem["error"]) == (404, "not_found")
    assert (await call("GET", "/v1/files", token=stranger))[1]["total"] == 0
