"""The feed over HTTP: pages and streams of what happened, for its owner alone, without gap or repetition."""

import asyncio
import json

import pytest
from aiohttp import ClientPayloadError, ClientSession

from marketplace.app import Market
from marketplace.domain.events import EventType
from marketplace.store.logins import Accounts
from tests.api.conftest import Caller, Renter, Wallet, settings_in
from tests.api.serving import ready
from tests.api.test_jobs import allowed, submit, until

__all__ = ["allowed"]


def blocks(text):
    """Blocks of an event stream as (id, event, data); comments left out."""
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line and not line.startswith(":"))
        if fields:
            yield fields.get("id"), fields.get("event"), json.loads(fields.get("data", "null"))


class Reader:
    """A client of an event stream, as browsers are: it knows the last id, and comes back with it."""

    def __init__(self, session, base, token, query=""):
        self.session, self.base, self.token, self.query = session, base, token, query
        self.last = None
        self.events = []
        self.refused = None
        self.opened = asyncio.Event()

    async def read(self, enough):
        """Until `enough` says so of what was got, or the stream ends."""
        headers = {"Authorization": f"Bearer {self.token}", "Accept": "text/event-stream"}
        if self.last is not None:
            headers["Last-Event-ID"] = self.last
        async with self.session.get(self.base + "/v1/events" + self.query, headers=headers) as stream:
            if stream.status != 200:
                self.refused = stream.status, await stream.json()
                return
            self.opened.set()
            buffer = ""
            while not enough(self):
                try:
                    chunk = await stream.content.readany()
                except ClientPayloadError:
                    return
                if not chunk:
                    return
                buffer += chunk.decode()
                whole, _, buffer = buffer.rpartition("\n\n")
                for event_id, kind, data in blocks(whole):
                    self.last = event_id
                    if kind is not None:
                        self.events.append((kind, data))


async def cancelled_job(renter, key="k"):
    status, job, _ = await submit(renter, key, max_price_per_hour="0.5")
    assert status == 201, job
    await renter("DELETE", f"/v1/jobs/{job['id']}")
    return await until(renter, job["id"], "cancelled")


async def test_a_job_s_events_are_listed_and_streamed_to_their_end(allowed, live_call):
    job = await cancelled_job(allowed)
    path = f"/v1/jobs/{job['id']}/events"
    status, page, _ = await allowed("GET", path)
    assert status == 200
    kinds = [event["type"] for event in page["events"] if event["type"].startswith("job.")]
    assert kinds == ["job.queued", "job.cancelled"]
    last = next(event for event in page["events"] if event["type"] == "job.cancelled")
    assert list(last)[:6] == ["id", "cursor", "type", "timestamp", "account", "data"]
    assert last["data"] == {
        "job_id": job["id"], "status": "cancelled", "reason": "cancelled", "reason_number": 3, "cost": "0.000000",
        "currency": "USDC", "attempt": 0,
    }  # fmt: skip
    assert (page["next"], page["has_more"]) == (page["events"][-1]["cursor"], False)
    # the stream is the page, then one `end`, and nothing after that
    status, stream, _ = await allowed("GET", path, headers={"Accept": "text/event-stream"})
    told = [(event_id, kind) for event_id, kind, _ in blocks(stream.decode()) if kind]
    assert told == [*((event["cursor"], event["type"]) for event in page["events"]), ("end", "end")]
    headers = {"Accept": "text/event-stream", "Last-Event-ID": "end"}
    assert (await allowed("GET", path, headers=headers))[0] == 204
    # whoever else asks is told nothing
    stranger = (await live_call.login(Wallet()))["token"]
    assert (await live_call("GET", path, token=stranger))[0] == 404
    _, theirs, _ = await live_call("GET", f"/v1/events?resource={job['id']}", token=stranger)
    assert theirs == {"events": [], "next": "0", "has_more": False}


async def test_the_feed_is_filtered_and_paged(allowed):
    first, second = await cancelled_job(allowed, "a"), await cancelled_job(allowed, "b")
    _, found, _ = await allowed("GET", "/v1/events?types=job.*&limit=3")
    assert [(e["type"], e["data"]["job_id"]) for e in found["events"]] == [
        ("job.queued", first["id"]), ("job.cancelled", first["id"]), ("job.queued", second["id"]),
    ]  # fmt: skip
    assert found["has_more"]
    _, rest, _ = await allowed("GET", f"/v1/events?types=job.queued,job.cancelled&after={found['next']}")
    assert [e["type"] for e in rest["events"]] == ["job.cancelled"]
    _, about, _ = await allowed("GET", f"/v1/events?types=job.queued&resource={second['id']}")
    assert [e["data"]["job_id"] for e in about["events"]] == [second["id"]]


@pytest.mark.parametrize(
    ("query", "field"),
    [("types=job.done", "types"), ("after=x", "after"), ("after=-1", "after"), ("after=99999999", "after"),
     ("after=" + "9" * 19, "after"), ("limit=0", "limit"), ("resource=" + "a" * 65, "resource")],
)  # fmt: skip
async def test_a_wrong_question_is_refused_by_name(live_market, live_call, query, field):
    token = (await live_call.login(Wallet()))["token"]
    for accept in ("application/json", "text/event-stream"):
        status, problem, _ = await live_call("GET", f"/v1/events?{query}", token=token, headers={"Accept": accept})
        assert (status, [d["field"] for d in problem["details"]]) == (422, [field])


async def test_a_stream_goes_on_across_restarts_without_gap_or_repetition(tmp_path, chain):
    """Events are written all the time; the reader's stream breaks with the market, and he comes back with his id."""
    settings = settings_in(tmp_path, chain.folder / "keys", chain.rpc)
    wallet, reader, written = Wallet(), None, []
    async with ClientSession() as session:
        for life in range(3):
            market = await ready(await started(settings))
            base = f"http://127.0.0.1:{market.port}"
            if reader is None:
                token = (await Caller(session, base).login(wallet))["token"]
                account = await market.store.lookup(lambda tx: Accounts(tx).find_by_wallet(wallet.address))
                reader = Reader(session, base, token)
            reader.base = base
            reader.opened.clear()
            reading = asyncio.create_task(reader.read(lambda r: len(r.events) >= 90))
            async with asyncio.timeout(60):
                await reader.opened.wait()
                while reader.last is None:  # noqa: ASYNC110 - the first time: from where it can come back
                    await asyncio.sleep(0.01)
            for number in range(30 * life, 30 * life + 30):
                written.append(number)
                await append(market, account, {"n": number})
            if life < 2:
                await market.stop()
            async with asyncio.timeout(60):
                await reading
        assert [data["data"]["n"] for _, data in reader.events] == written
        await market.stop()


async def told_of(renter, *kinds):
    """A page of the feed once events of all these kinds are in it."""
    async with asyncio.timeout(60):
        while True:
            _, page, _ = await renter("GET", "/v1/events")
            if {event["type"] for event in page["events"]} >= set(kinds):
                return page
            await asyncio.sleep(0.1)


async def append(market, account, data):
    feed = market.jobs.feed
    return await market.store.write(lambda tx: feed.append(tx, account, EventType.JOB_PROGRESS, "job_x", data))


async def started(settings):
    market = Market.build(settings)
    await market.start()
    return market


async def test_a_snapshot_tells_what_is_live_and_the_stream_goes_on_from_there(allowed, live_call):
    await cancelled_job(allowed, "over")
    jobs = [(await submit(allowed, key, max_price_per_hour="0.5"))[1]["id"] for key in ("a", "b")]
    reader = Reader(live_call.session, live_call.base, allowed.token, "?snapshot=1&types=job.*")
    await reader.read(lambda r: len(r.events) == 2)
    assert sorted((kind, data["job_id"], data["status"]) for kind, data in reader.events) == sorted(
        ("snapshot", job, "queued") for job in jobs
    )
    await allowed("DELETE", f"/v1/jobs/{jobs[0]}")
    await reader.read(lambda r: len(r.events) == 3)
    assert [(kind, data["data"]["job_id"]) for kind, data in reader.events[2:]] == [("job.cancelled", jobs[0])]
    # cut off inside the snapshot, it begins anew
    cut = Reader(live_call.session, live_call.base, allowed.token, "?snapshot=1")
    await cut.read(lambda r: bool(r.events))
    cut.last, cut.events = "1-1", []
    await cut.read(lambda r: bool(r.events))
    assert cut.events[0][0] == "snapshot"
    await allowed("DELETE", f"/v1/jobs/{jobs[1]}")


async def test_a_cursor_past_the_retention_says_from_where_to_go_on(live_market, live_call, renter):
    feed, store = live_market.jobs.feed, live_market.store
    account = await store.lookup(lambda tx: Accounts(tx).find_by_wallet(renter.address))
    cursors = [await append(live_market, account, {}) for _ in range(3)]
    await store.write(lambda tx: tx.change("UPDATE events SET at_ms = 1 WHERE cursor <= :c", {"c": cursors[1]}))
    assert await feed.forget_old() >= 2
    for headers in ({}, {"Accept": "text/event-stream"}):
        status, problem, _ = await renter("GET", f"/v1/events?after={cursors[0]}", headers=headers)
        assert (status, problem["error"], problem["oldest"]) == (410, "cursor_expired", str(cursors[1]))
    _, page, _ = await renter("GET", f"/v1/events?after={cursors[1]}&resource=job_x")
    assert [e["cursor"] for e in page["events"]] == [str(cursors[2])]


@pytest.fixture
async def renter(chain, live_market, live_call):
    return await Renter.funded(Wallet(), chain, live_market, live_call)


async def test_money_that_moves_on_chain_is_told_and_an_allowance_that_runs_out(live_market, renter):
    await renter.deposit("3")
    caps = {
        "per_job": "1",
        "per_day": "9",
        "total": "1",
        "max_price_per_hour": "9",
        "expires_at": "2100-01-01T00:00:00Z",
    }
    _, grant, _ = await renter("POST", "/v1/allowance", json=caps)
    await renter.send(grant)
    # an hour at 0.6 takes six tenths of the allowance; the next one like it doesn't fit
    status, job, _ = await submit(renter, "a", max_price_per_hour="0.6", maxMinutes=60)
    assert status == 201, job
    page = await told_of(renter, "allowance.exhausted")
    (alert,) = (event["data"] for event in page["events"] if event["type"] == "allowance.exhausted")
    assert (alert["cap"], alert["percent"], alert["used"], alert["limit"]) == ("total", 100, "0.600000", "1.000000")
    await renter("DELETE", f"/v1/jobs/{job['id']}")
    await until(renter, job["id"], "cancelled")
    # what the wallet did by itself is read from the chain a moment after it
    page = await told_of(renter, "vault.deposited", "allowance.granted", "escrow.closed")
    told = {event["type"]: event["data"] for event in page["events"]}
    assert told["vault.deposited"]["amount"] == "3.000000"
    assert told["allowance.granted"]["total"] == "1.000000"
    assert (told["escrow.opened"]["deposit"], told["escrow.opened"]["job_id"]) == ("0.600000", job["id"])
    assert (told["escrow.closed"]["refunded"], told["escrow.closed"]["paid"]) == ("0.600000", "0.000000")
    _, own, _ = await renter("GET", f"/v1/jobs/{job['id']}/events")
    assert {"job.queued", "escrow.opened", "job.cancelled", "escrow.closed"} <= {e["type"] for e in own["events"]}
