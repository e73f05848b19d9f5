"""What the market knows of nodes from the chain."""

import asyncio
from types import SimpleNamespace

from marketplace.domain.reputation import Record
from marketplace.services.clock import ManualClock
from marketplace.services.node_registry import NodeRegistry
from tests.services.test_logins import NODE_ID, node_with


class Chain:
    """Answers of the one node's account: for lists as it was when they were asked for, given when `listed` says so."""

    def __init__(self):
        self.status, self.listed = "active", asyncio.Event()

    def _view(self):
        return SimpleNamespace(node_key="key", status=self.status, record=Record(0, 0))

    async def list_nodes(self):
        view = self._view()
        await self.listed.wait()
        return [view]

    async def find_node(self, _key):
        return self._view()


async def test_a_long_look_at_all_nodes_does_not_put_back_what_a_later_one_saw(store):
    chain = Chain()
    registry = NodeRegistry(store, chain, None, None, ManualClock(), trust_hardware=True)
    registry.add(node_with("key"))
    looking = asyncio.create_task(registry.refresh())
    async with asyncio.timeout(30):
        while not chain.listed._waiters:  # noqa: ASYNC110 - until the list was asked for
            await asyncio.sleep(0.001)
    chain.status = "suspended"
    await registry.refresh_one(NODE_ID)
    chain.listed.set()
    await looking
    assert registry.find(NODE_ID).chain.status == "suspended"
    await registry.refresh()
    assert registry.find(NODE_ID).chain.status == "suspended"
