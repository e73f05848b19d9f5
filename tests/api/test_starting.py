"""Before the start-up sweep nobody is told anything that a store not yet read would say."""

import pytest
from aiohttp import ClientSession

from marketplace.app import Market
from marketplace.domain.ids import AccountId, NodeId, new_id
from marketplace.domain.nodes import Node, NodeStatus
from marketplace.domain.quantities import Millis, Tokens
from marketplace.protocol.control import SUBPROTOCOL
from marketplace.store.engine import Store
from marketplace.store.logins import Accounts
from marketplace.store.nodes import Nodes
from tests.api.conftest import Caller, Wallet, settings_in
from tests.api.scripted_node import CAPABILITIES, HARDWARE

NODE_ID = NodeId(new_id("node", 1, 1))


@pytest.fixture
async def starting(tmp_path):
    """A market with a registered node, whose chain doesn't answer: it never gets past its sweep."""
    node_key, owner, account_id = Wallet(), Wallet(), AccountId(new_id("acct", 1, 1))
    settings = settings_in(tmp_path, tmp_path / "keys")
    store = Store(settings.database)
    await store.open()
    node = Node(
        id=NODE_ID,
        node_key=node_key.address,
        address="1" * 32,
        operator=owner.address,
        account_id=account_id,
        class_id="cpu-small",
        region="eu",
        floor_per_hour=Tokens(1),
        status=NodeStatus.ACTIVE,
        declared="{}",
        joined_at_ms=0,
        register_key="k",
        body_hash=b"",
    )

    def known(tx):
        Accounts(tx).create(account_id, owner.address, Millis(0))
        Nodes(tx).create(node)

    await store.write(known)
    await store.close()
    market = Market.build(settings)
    await market.start()
    async with ClientSession() as session:
        yield Caller(session, f"http://127.0.0.1:{market.port}"), node_key
    await market.stop()


async def test_a_node_that_runs_something_is_not_told_to_forget_it(starting):
    call, node_key = starting
    token = (await call.login(node_key, "node"))["token"]
    async with call.session.ws_connect(
        f"{call.base}/v1/nodes/{NODE_ID}/control",
        headers={"Authorization": f"Bearer {token}"},
        protocols=(SUBPROTOCOL,),
    ) as socket:
        body = {
            "version": "t", "hardware": HARDWARE, "capabilities": CAPABILITIES, "slots": 1, "free_slots": 0,
            "holding": [{"allocation_id": "alloc_1", "attempt": 1, "state": "running"}],
        }  # fmt: skip
        await socket.send_json({"type": "hello", "id": "1", "body": body})
        answer = await socket.receive_json(timeout=10)
    assert (answer["type"], answer["re"], answer["body"]["code"]) == ("error", "1", "starting")


async def test_nodes_and_jobs_are_not_said_to_be_gone(starting):
    call, _ = starting
    token = (await call.login(Wallet()))["token"]
    for path in ("/v1/nodes", f"/v1/nodes/{NODE_ID}"):
        status, answer, headers = await call("GET", path, token=token)
        assert (status, answer["error"]) == (503, "starting")
        assert int(headers["Retry-After"]) >= 1
    body = {"image": "busybox", "gpu": "cpu-small"}
    status, answer, _ = await call("POST", "/v1/jobs", token=token, json=body)
    assert (status, answer["error"]) == (503, "starting")
