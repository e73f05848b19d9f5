"""A command beside a running job: client, market and a scripted node."""

import asyncio
import base64

import pytest

from marketplace.domain.ids import AllocationId, NodeId
from marketplace.errors import NotFound
from marketplace.protocol.control import ExecData, ExecEnd
from marketplace.services.execs import ExecService, ExecSession
from tests.api import scripted_node
from tests.api.test_job_faults import ended, make_node, quick_call, quick_market, renter, started, submit

__all__ = ["make_node", "quick_call", "quick_market", "renter"]


@pytest.fixture
def entered(monkeypatch):
    monkeypatch.setattr(scripted_node, "CAPABILITIES", {**scripted_node.CAPABILITIES, "exec": True})


def socket_of(renter, job_id):
    call = renter.call
    headers = {"Authorization": f"Bearer {renter.token}"}
    return call.session.ws_connect(f"{call.base}/v1/jobs/{job_id}/exec", headers=headers)


async def told(node, kind):
    async with asyncio.timeout(60):
        while True:
            name, body = await node.execs.get()
            if name == kind:
                return body


def piece(exec_id, stream, data):
    return {"exec_id": exec_id, "stream": stream, "data": base64.b64encode(data).decode()}


async def test_input_goes_to_the_node_and_output_and_exit_code_come_back(renter, make_node, quick_market, entered):
    node = await make_node()
    job_id, attempt = await started(renter, node, quick_market)
    status, refused, _ = await renter("GET", f"/v1/jobs/{job_id}/exec")
    assert (status, refused["error"]) == (400, "invalid_request"), refused
    async with socket_of(renter, job_id) as socket:
        await socket.send_json({"cmd": ["sh"], "tty": True, "rows": 40, "cols": 100})
        order = await told(node, "exec")
        assert (order["cmd"], order["tty"], order["rows"], order["cols"]) == (["sh"], True, 40, 100)
        assert (order["allocation_id"], order["attempt"]) == (attempt.request.allocation_id, 1)
        assert await socket.receive_json() == {"opened": True}
        await socket.send_bytes(b"x" * 40_000)
        sizes = [len(base64.b64decode((await told(node, "exec_data"))["data"])) for _ in range(2)]
        assert sizes == [32_768, 7_232]
        await socket.send_json({"resize": {"rows": 10, "cols": 20}})
        control = await told(node, "exec_control")
        assert (control["rows"], control["cols"], control["close"]) == (10, 20, False)
        await socket.send_json({"end_input": True})
        assert (await told(node, "exec_data"))["end"] is True
        assert (await node.ask("exec_data", piece(order["exec_id"], 2, b"oops")))["type"] == "ack"
        assert await socket.receive_bytes() == b"\x02oops"
        assert (await node.ask("exec_end", {"exec_id": order["exec_id"], "exit_code": 3}))["type"] == "ack"
        assert await socket.receive_json() == {"exit_code": 3}
        assert (await socket.receive()).type.name in {"CLOSE", "CLOSED"}
    # over for the node too: nobody listens
    assert (await node.ask("exec_data", piece(order["exec_id"], 1, b"more")))["type"] == "error"
    # and no end of the job
    assert (await renter("GET", f"/v1/jobs/{job_id}"))[1]["status"] == "running"
    assert (await ended(attempt, milliseconds=1, exit_code=0))["type"] == "ack"


async def test_a_client_that_leaves_ends_it_and_a_node_that_leaves_is_told(renter, make_node, quick_market, entered):
    node = await make_node()
    job_id, _ = await started(renter, node, quick_market)
    async with socket_of(renter, job_id) as socket:
        await socket.send_json({"cmd": ["sh"]})
        order = await told(node, "exec")
    control = await told(node, "exec_control")
    assert (control["exec_id"], control["close"]) == (order["exec_id"], True)
    async with socket_of(renter, job_id) as socket:
        await socket.send_json({"cmd": ["sh"]})
        await told(node, "exec")
        assert await socket.receive_json() == {"opened": True}
        await node.die()
        assert (await socket.receive_json())["error"]["code"] == "not_ready"


async def test_what_is_no_command_or_too_many_is_refused_by_name(renter, make_node, quick_market, entered):
    node = await make_node()
    job_id, _ = await started(renter, node, quick_market)
    for wrong in ({"cmd": []}, {"cmd": ["a\0b"]}, {"command": ["sh"]}, {"cmd": ["sh"], "rows": 0}):
        async with socket_of(renter, job_id) as socket:
            await socket.send_json(wrong)
            assert (await socket.receive_json())["error"]["code"] == "invalid_request"
    sockets = []
    for _ in range(4):
        socket = await socket_of(renter, job_id)
        await socket.send_json({"cmd": ["sh"]})
        assert await socket.receive_json() == {"opened": True}
        sockets.append(socket)
    async with socket_of(renter, job_id) as socket:
        await socket.send_json({"cmd": ["sh"]})
        assert (await socket.receive_json())["error"]["code"] == "quota_exceeded"
    for socket in sockets:
        await socket.close()


async def test_without_a_running_job_or_a_runtime_that_can_it_is_refused(renter, make_node, quick_market):
    _, answer, _ = await submit(renter, "waiting")
    # A client loses the body of a refused handshake, and asks plainly for it.
    status, refused, _ = await renter("GET", f"/v1/jobs/{answer['id']}/exec")
    assert (status, refused["error"], refused["state"]) == (409, "conflict", "queued"), refused
    upgrade = {
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),
    }  # fmt: skip
    status, refused, _ = await renter("GET", f"/v1/jobs/{answer['id']}/exec", headers=upgrade)
    assert (status, refused["error"], refused["state"]) == (409, "conflict", "queued"), refused
    await renter("POST", f"/v1/jobs/{answer['id']}/cancel")
    node = await make_node()
    job_id, _ = await started(renter, node, quick_market)
    status, refused, _ = await renter("GET", f"/v1/jobs/{job_id}/exec", headers=upgrade)
    assert (status, refused["error"]) == (409, "conflict"), refused
    assert "runtime can't" in refused["message"]


async def test_nothing_follows_the_end_of_a_command():
    """Also when nobody has taken the end yet."""
    execs = ExecService(None, None, None)
    session = ExecSession("exec_1", AllocationId("alloc_1"), NodeId("node_1"), None)
    execs._sessions[session.id] = session
    end = ExecEnd(exec_id="exec_1", exit_code=3)
    await execs.take(NodeId("node_1"), end)
    with pytest.raises(NotFound):
        await execs.take(NodeId("node_1"), ExecData(exec_id="exec_1", stream=1, data=b"more"))
    assert await session.next() == end


async def test_a_slow_reader_holds_the_node_back():
    execs = ExecService(None, None, None)
    session = ExecSession("exec_1", AllocationId("alloc_1"), NodeId("node_1"), None)
    execs._sessions[session.id] = session
    first, second = (ExecData(exec_id="exec_1", stream=1, data=data) for data in (b"1", b"2"))
    await execs.take(NodeId("node_1"), first)
    held = asyncio.create_task(execs.take(NodeId("node_1"), second))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not held.done()
    assert await session.next() == first
    await held
    assert await session.next() == second
