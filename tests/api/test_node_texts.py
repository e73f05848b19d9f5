"""Text that no database holds, from programs and engines through a node's frames: on both stores."""

import asyncio
from pathlib import Path

import pytest

from marketplace.app import Market
from marketplace.settings import StoreSettings
from tests.api.conftest import settings_in
from tests.api.serving import ready
from tests.api.test_jobs import allowed, node, submit, until
from tests.store.conftest import cluster, location, migrated_file, postgres_url

__all__ = ["allowed", "cluster", "location", "migrated_file", "node", "postgres_url"]


@pytest.fixture
async def live_market(location, tmp_path, chain):
    settings = settings_in(tmp_path, chain.folder / "keys", chain.rpc)
    store = StoreSettings(path=location) if isinstance(location, Path) else StoreSettings(url=location)
    market = Market.build(settings.model_copy(update={"store": store}))
    await market.start()
    await ready(market)
    yield market
    await market.stop()


async def test_a_character_that_no_database_holds_keeps_no_report_from_being_taken(allowed, node, live_market):
    (_, job, _), attempt = await asyncio.gather(submit(allowed, retry={"max_attempts": 1}), node.take())
    await until(allowed, job["id"], "assigned")
    assert (await attempt.report("pulling", detail="a\0b"))["type"] == "ack"
    assert (await attempt.log("one\0two", "\\u0000 is not one"))["type"] == "ack"
    # named, nobody has such an attempt: told, and the connection stays
    named = {**attempt.name, "lease_token": attempt.lease}
    for field in ("allocation_id", "lease_token"):
        wrong = {**named, field: "x\0"}
        answer = await node.ask("state", {**wrong, "sequence": 9, "state": "pulling"})
        assert (answer["type"], answer["body"]["code"]) == ("error", "lease_lost"), answer
        answer = await node.ask("logs", {**wrong, "lines": []})
        assert (answer["type"], answer["body"]["code"]) == ("error", "lease_lost"), answer
    assert (await attempt.report("exited", reason=8, detail="no such \0 tag, \\u0000"))["type"] == "ack"
    job = await until(allowed, job["id"], "failed")
    assert job["attempts"][0]["detail"] == "no such \ufffd tag, \\u0000"
    status, lines, _ = await allowed("GET", f"/v1/jobs/{job['id']}/logs")
    assert (status, lines.decode().splitlines()) == (200, ["one\ufffdtwo", "\\u0000 is not one"])
