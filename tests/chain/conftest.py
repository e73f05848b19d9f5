import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import pytest

from marketplace.chain.rpc import RpcClient
from tests.chain.market import Actor, Running, localnet


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One chain with one market for all of them; tests keep apart by their own fresh wallets."""
    with localnet(tmp_path_factory.mktemp("chain")) as chain:
        yield chain


@pytest.fixture
async def actor(running: Running) -> AsyncIterator[Actor]:
    async with RpcClient([running.rpc]) as rpc:
        subject = Actor(running, rpc)
        loop = asyncio.create_task(subject.sender.run())
        yield subject
        loop.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await loop
