"""Nodes that poll: the POST form of the control channel carries a whole job."""

import asyncio

import pytest

from marketplace.protocol.vouchers import VoucherState
from tests.api.conftest import Renter, Wallet
from tests.api.polling_node import HELLO, PollingNode
from tests.api.scripted_node import ScriptedNode
from tests.api.test_jobs import allowed, balanced, submit, until  # noqa: F401 - a fixture among them


@pytest.fixture
async def polling(chain, live_market, live_call):
    node = PollingNode(await Renter.funded(Wallet(), chain, live_market, live_call))
    await node.register()
    status, _, _ = await node.connect(live_call)
    assert status == 204
    return node


async def test_a_polling_node_runs_a_job_to_its_payment(allowed, polling, live_market):  # noqa: F811
    submitting = asyncio.create_task(submit(allowed, command=["echo"]))
    attempt = await polling.take()
    status, answer, _ = await submitting
    assert status == 201
    # the assignment comes with a heartbeat, where no connection could push it
    job = await until(allowed, answer["id"], "assigned")
    async with asyncio.timeout(20):
        while True:
            beat = (await polling.ask("heartbeat", {"sequence": 1, "free_slots": 1}))["body"]
            if any(c["type"] == "assigned" for c in beat["commands"]):
                break
            await asyncio.sleep(0.05)
    await attempt.ready(live_market)
    assert (await attempt.log("by post"))["body"] == {"next_seq": 2}
    taken = await attempt.beat(attempt.voucher(500))
    assert [c["sequence"] for c in taken["countersigned"]] == [1]
    final = attempt.voucher(900, state=VoucherState.FINAL, reason=1)
    ended = await attempt.report("exited", reason=1, exit_code=0, voucher=final)
    assert ended["body"]["countersignature"]["sequence"] == 2
    job = await until(allowed, job["id"], "completed")
    balanced(job)
    _, text, _ = await allowed("GET", f"/v1/jobs/{job['id']}/logs")
    assert text == b"by post\n"


async def test_cancelling_reaches_a_polling_node_with_its_next_heartbeat(allowed, polling, live_market):  # noqa: F811
    submitting = asyncio.create_task(submit(allowed))
    attempt = await polling.take()
    _, answer, _ = await submitting
    await until(allowed, answer["id"], "assigned")
    await attempt.ready(live_market)
    await until(allowed, answer["id"], "running")
    await allowed("POST", f"/v1/jobs/{answer['id']}/cancel")
    async with asyncio.timeout(20):
        while True:
            beat = await attempt.beat(None)
            if stops := [c for c in beat["commands"] if c["type"] == "stop"]:
                break
            await asyncio.sleep(0.05)
    assert stops[0]["reason"] == 3
    final = attempt.voucher(300, state=VoucherState.FINAL, reason=3)
    assert (await attempt.report("exited", reason=3, exit_code=143, voucher=final))["type"] == "ack"
    balanced(await until(allowed, answer["id"], "cancelled"))


async def test_an_offer_that_is_refused_goes_to_another_node(allowed, polling, chain, live_market, live_call):  # noqa: F811
    submitting = asyncio.create_task(submit(allowed))
    _, request = await polling.next_request()
    other = ScriptedNode(await Renter.funded(Wallet(), chain, live_market, live_call))
    await other.register()
    await other.connect(live_call)
    refusal = {"allocation_id": request.allocation_id, "attempt": request.attempt, "refuse": "busy"}
    status, _, _ = await polling.post("claim", refusal)
    assert status == 204
    # the node may be asked again before the other one is known; it goes on refusing
    taking = asyncio.create_task(other.take())
    while not taking.done():
        status, answer, _ = await polling.post("claim", {"wait_ms": 100})
        for again in answer["claim_requests"] if status == 200 else ():
            await polling.post(
                "claim", {"allocation_id": again["allocation_id"], "attempt": again["attempt"], "refuse": "busy"}
            )
    assert (await taking).spec.image
    assert (await submitting)[0] == 201
    await other.close()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"wait_ms": 30_001}, 422),
        ({"max": 0}, 422),
        ({"allocation_id": "alloc_x"}, 422),
        ({"allocation_id": "alloc_x", "attempt": 1, "refuse": "busy", "at_ms": 1, "signature": ""}, 422),
        ({"attempt": 1}, 422),
        ({"allocation_id": "alloc_x", "attempt": 1, "at_ms": 1, "signature": "AA=="}, 409),
        ({"allocation_id": "alloc_x", "attempt": 1, "refuse": "late"}, 204),
        ({"unknown": 1}, 422),
    ],
)
async def test_what_a_poll_may_not_say(polling, body, status):
    assert (await polling.post("claim", body))[0] == status


async def test_a_node_says_hello_before_it_polls_and_a_connection_ends_its_polls(chain, live_market, live_call):
    node = PollingNode(await Renter.funded(Wallet(), chain, live_market, live_call))
    await node.register()
    node.call, node.token = live_call, (await live_call.login(node, "node"))["token"]
    status, answer, _ = await node.post("claim", {})
    assert (status, answer["error"]) == (409, "conflict")
    assert (await node.post("claim", {"hello": HELLO}))[0] == 204
    waiting = asyncio.create_task(node.post("claim", {"wait_ms": 20_000}))
    await asyncio.sleep(0)
    held = ScriptedNode(node.operator, bytes(node.key))
    held.id = node.id
    await held.connect(live_call)
    status, answer, _ = await waiting
    # the poll may have come after the connection, which ended polling for good
    assert (status, answer["error"]) == (409, "conflict")
    await held.close()


async def test_a_node_drains_itself_and_takes_work_again(polling):
    for drain, shown in ((True, "draining"), (False, "active")):
        status, answer, _ = await polling.post("drain", {"drain": drain})
        assert (status, answer["status"]) == (200, shown)


async def test_a_node_was_last_seen_at_its_last_heartbeat(polling, live_call):
    async def seen():
        return (await live_call("GET", f"/v1/nodes/{polling.id}", token=polling.token))[1]["last_seen_at"]

    first = await seen()
    async with asyncio.timeout(10):
        while await seen() == first:
            await polling.ask("heartbeat", {"sequence": 2, "free_slots": 2})
