"""A job's log as its renter reads it: from anywhere, of one stream, resumed without gap or repetition."""

import asyncio

import pytest

from tests.api.test_jobs import allowed, node, submit, until

__all__ = ["allowed", "node"]


@pytest.fixture
async def job(allowed, node, live_market):
    """A job with six lines that has ended: stdout 1 3 5, stderr 2 4 6, a second apart."""
    submitting = asyncio.create_task(submit(allowed))
    attempt = await node.take()
    _, answer, _ = await submitting
    await until(allowed, answer["id"], "assigned")
    rows = [
        {"seq": n, "at_ms": 1_000_000_000_000 + n * 1000, "stream": 2 - n % 2, "text": f"line {n}"} for n in range(1, 7)
    ]
    taken = await node.ask("logs", {**attempt.name, "lease_token": attempt.lease, "lines": rows})
    assert taken["body"] == {"next_seq": 7}
    await attempt.report("exited", reason=7)
    await until(allowed, answer["id"], "failed")
    return f"/v1/jobs/{answer['id']}/logs"


async def events(renter, path, last=None):
    headers = {} if last is None else {"Last-Event-ID": last}
    status, stream, _ = await renter("GET", path, headers=headers)
    assert status == 200, stream
    return [line.removeprefix("id: ") for line in stream.decode().splitlines() if line.startswith("id:")]


async def test_a_part_of_a_log_is_read(allowed, job):
    for query, seqs in (
        ("", "123456"),
        ("?stream=stderr", "246"),
        ("?tail=2", "56"),
        ("?tail=2&stream=stdout", "35"),
        ("?tail=0", ""),
        ("?since=1.4", "56"),
        ("?since=4", "56"),
        ("?since=4&tail=1", "6"),
        ("?since=2001-09-09T01:46:45Z", "56"),
        ("?since=2001-09-09T01:46:45Z&tail=9", "56"),
        ("?since=2001-09-09T01:46:43.500Z&stream=stdout", "5"),
        ("?since=2100-01-01T00:00:00Z", ""),
        ("?attempt=2", ""),
    ):
        status, text, _ = await allowed("GET", job + query)
        assert (status, text.decode().replace("line ", "").replace("\n", "")) == (200, seqs), query
        if seqs:
            joint = "&" if query else "?"
            assert await events(allowed, f"{job}{query}{joint}follow=1") == [*(f"1.{n}" for n in seqs), "end"], query


@pytest.mark.parametrize("form", ["text/plain", "application/x-ndjson"])
async def test_a_followed_log_is_written_as_it_was_asked_for(allowed, job, form):
    async def read(query, accept):
        headers = {"Authorization": f"Bearer {allowed.token}", "Accept": accept}
        async with allowed.call.session.get(allowed.call.base + job + query, headers=headers) as response:
            return response.content_type, await response.text()

    for query in ("?stream=stdout", "?tail=3"):
        whole = await read(query, form)
        assert whole[1]
        assert await read(f"{query}&follow=1", form) == whole == (form, whole[1])
    assert (await read("?follow=1&tail=1", "*/*"))[0] == "text/event-stream"


async def test_a_stream_resumes_where_it_broke(allowed, job):
    """Whatever it was opened with, and not again once it has ended."""
    for query in ("?follow=1", "?follow=1&tail=1", "?follow=1&since=1.5"):
        assert await events(allowed, job + query, "1.2") == ["1.3", "1.4", "1.5", "1.6", "end"]
    assert await events(allowed, job + "?follow=1&tail=0") == ["end"]
    status, body, headers = await allowed("GET", job + "?follow=1", headers={"Last-Event-ID": "end"})
    assert (status, body) == (204, b"")
    assert "X-RateLimit-Remaining" in headers


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("?since=abc", {}),
        ("?since=1.99999999999999999999", {}),
        ("?since=-1", {}),
        ("?since=2026-11-22T00:00:00", {}),
        ("?attempt=99999999999999999999", {}),
        ("?attempt=0", {}),
        ("?tail=10001", {}),
        ("?stream=both", {}),
        ("", {"Last-Event-ID": "9" * 5000}),
    ],
)
async def test_what_is_no_place_in_a_log_is_refused(allowed, job, query, headers):
    status, answer, _ = await allowed("GET", job + query, headers=headers)
    assert (status, answer["error"]) == (422, "validation_error")
