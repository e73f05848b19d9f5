"""One paid job over HTTP, and everything that is told of it afterwards: placement, usage, earnings, classes."""

import asyncio
import csv
import io

import pytest

from marketplace.domain.matching import IMAGE_BONUS
from marketplace.protocol.vouchers import VoucherState
from tests.api.conftest import Renter, Wallet
from tests.api.scripted_node import ScriptedNode

JOB = {"image": "docker.io/library/busybox:latest", "gpu": "cpu-small", "maxMinutes": 5, "consumer_id": "team-a"}
ALLOWANCE = {
    "per_job": "5", "per_day": "50", "total": "50", "max_price_per_hour": "5", "expires_at": "2100-01-01T00:00:00Z",
}  # fmt: skip


@pytest.fixture
async def nodes(chain, live_market, live_call):
    """A cheap node, and one far dearer, of one operator."""
    operator = await Renter.funded(Wallet(), chain, live_market, live_call)
    made = []
    for floor in ("0.00002", "0.0004"):
        node = ScriptedNode(operator)
        await node.register(floor=floor)
        await node.connect(live_call)
        made.append(node)
    yield made
    for node in made:
        await node.close()


async def test_a_node_that_holds_the_image_has_twice_the_chance_and_the_other_still_one(
    renter, chain, live_market, live_call
):
    operator = await Renter.funded(Wallet(), chain, live_market, live_call)
    warm, cold = ScriptedNode(operator), ScriptedNode(operator)
    warm.images = (JOB["image"],)
    for node in (warm, cold):
        await node.register()
        await node.connect(live_call)
    await renter.deposit("5")
    _, prepared, _ = await renter("POST", "/v1/allowance", json=ALLOWANCE)
    await renter.send(prepared)
    submitting = asyncio.create_task(renter("POST", "/v1/jobs", json=JOB))
    # whichever was drawn: the other one has nothing to take
    taking = [asyncio.create_task(node.take()) for node in (warm, cold)]
    _, (idle,) = await asyncio.wait(taking, return_when=asyncio.FIRST_COMPLETED)
    idle.cancel()
    status, job, _ = await submitting
    assert status == 201, job
    _, told, _ = await renter("GET", f"/v1/jobs/{job['id']}/placement")
    (choice,) = told["placements"]
    drawn = {each["node_id"]: each for each in choice["candidates"]}
    assert (drawn[warm.id]["image_present"], drawn[cold.id]["image_present"]) == (True, False)
    assert drawn[warm.id]["weight"] == IMAGE_BONUS * drawn[cold.id]["weight"] > 0
    # the choice is the draw's, by these weights
    point = int(choice["draw"]) % sum(each["weight"] for each in choice["candidates"])
    for each in choice["candidates"]:
        if point < each["weight"]:
            break
        point -= each["weight"]
    assert each["chosen"]
    assert each["node_id"] == choice["node_id"]
    for node in (warm, cold):
        await node.close()


def units(text):
    return int(text.replace(".", ""))


async def test_what_is_told_of_a_paid_job(one_day, renter, nodes, live_market, live_call):
    cheap, dear = nodes
    await renter.deposit("5")
    _, prepared, _ = await renter("POST", "/v1/allowance", json=ALLOWANCE)
    await renter.send(prepared)
    submitting = asyncio.create_task(renter("POST", "/v1/jobs", json=JOB))
    attempt = await cheap.take()
    status, job, _ = await submitting
    assert status == 201, job
    async with asyncio.timeout(30):
        while (await renter("GET", f"/v1/jobs/{job['id']}"))[1]["status"] != "assigned":  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await attempt.ready(live_market)
    final = attempt.voucher(900, state=VoucherState.FINAL, reason=1)
    assert (await attempt.report("exited", reason=1, exit_code=0, voucher=final))["type"] == "ack"
    paid = {"state": "open"}
    async with asyncio.timeout(30):
        while paid["state"] != "closed":
            await asyncio.sleep(0.05)
            paid = (await renter("GET", f"/v1/jobs/{job['id']}"))[1]["settlement"]

    # placement: the choice can be made again from what is shown
    _, told, _ = await renter("GET", f"/v1/jobs/{job['id']}/placement")
    (choice,) = told["placements"]
    assert (choice["attempt"], choice["node_id"]) == (1, cheap.id)
    (drawn,) = choice["candidates"]
    assert (drawn["node_id"], drawn["chosen"], drawn["weight"] % IMAGE_BONUS) == (cheap.id, True, 0)
    point = int(choice["draw"]) % sum(each["weight"] for each in choice["candidates"])
    assert 0 <= point < drawn["weight"]
    assert choice["excluded"] == [{"node_id": dear.id, "because": "price"}]
    assert choice["exclusions"] == [{"because": "price", "nodes": 1}]

    # usage: every grouping sums to the escrow's own figures
    for group, name in (
        ("day", paid["settled_at"][:10]), ("job", job["id"]), ("node", cheap.id), ("gpu", "cpu-small"),
        ("consumer", "team-a"), ("kind", "job"),
    ):  # fmt: skip
        status, usage, _ = await renter("GET", f"/v1/usage?group_by={group}")
        assert status == 200, usage
        assert [entry["group"] for entry in usage["usage"]] == [name]
        for entry in (usage["usage"][0], usage["sums"]):
            assert entry["paid"] == paid["paid"]
            assert entry["operator_received"] == paid["operator_received"]
            assert entry["to_stakers"] == paid["fees"]["stakers"]
            assert (entry["market_fee"], entry["protocol_fee"]) == (paid["fees"]["market"], paid["fees"]["protocol"])
            assert (entry["gpu_seconds"], entry["jobs"]) == ("0.900", 1)
    _, text, headers = await renter("GET", "/v1/usage?group_by=job&format=csv")
    (row,) = csv.DictReader(io.StringIO(text.decode()))
    assert (row["job"], row["paid"], row["currency"]) == (job["id"], paid["paid"], "USDC")
    assert headers["Content-Type"] == "text/csv; charset=utf-8"
    assert (await renter("GET", "/v1/usage?group_by=colour"))[0] == 422
    assert (await renter("GET", "/v1/usage?to=2020-01-31"))[1]["sums"]["jobs"] == 0

    # earnings: anybody sees sums, the operator sees jobs
    status, earned, _ = await renter("GET", f"/v1/nodes/{cheap.id}/earnings?bucket=hour")
    assert status == 200, earned
    assert units(earned["gross"]) == units(earned["net"]) + units(earned["fees"]) + units(earned["to_stakers"])
    assert (earned["gross"], earned["net"]) == (paid["paid"], paid["operator_received"])
    assert (units(earned["compensation_paid"]), units(earned["slashed"]), earned["jobs"]) == (0, 0, 1)
    status, answer, _ = await renter("GET", f"/v1/nodes/{cheap.id}/earnings?bucket=job")
    assert (status, answer["error"]) == (403, "forbidden")
    _, earned, _ = await cheap.operator("GET", f"/v1/nodes/{cheap.id}/earnings?bucket=job")
    assert [record["group"] for record in earned["records"]] == [job["id"]]
    token = (await live_call.login(cheap, "node"))["token"]
    assert (await live_call("GET", f"/v1/nodes/{cheap.id}/earnings?bucket=job", token=token))[0] == 200
    assert (await live_call("GET", f"/v1/nodes/{dear.id}/earnings?bucket=job", token=token))[0] == 403
    assert (await renter("GET", f"/v1/nodes/{dear.id}/earnings"))[1]["records"] == []

    # classes, with what is to be had of each
    _, classes, _ = await renter("GET", "/v1/gpu-types")
    found = {entry["id"]: entry for entry in classes["gpu_types"]}
    assert (found["cpu-small"]["nodes"], found["cpu-small"]["price_per_hour"]) == (2, "0.072000")
    assert (found["h100"]["nodes"], found["h100"]["price_per_hour"]) == (0, None)

    # prices: what was agreed, and the lowest floor on offer
    await live_market.jobs.prices.note_floors()
    _, prices, _ = await renter("GET", "/v1/prices?gpu=cpu&region=eu&days=1")
    (today,) = prices["prices"]
    assert (today["gpu"], today["region"], today["floor"]) == ("cpu-small", "eu", "0.072000")
    assert {today["clearing_low"], today["clearing_mean"], today["clearing_high"]} == {"0.072000"}
    assert today["attempts"] == 1
    assert 0 <= today["wait_mean_ms"] == today["wait_longest_ms"] < 60_000
    assert (await renter("GET", "/v1/prices?gpu=h100"))[1]["total"] == 0
    for query in ("gpu=z9", "region=moon", "region=de", "days=91", "days=0"):
        assert (await renter("GET", f"/v1/prices?{query}"))[0] == 422
