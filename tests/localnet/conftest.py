from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.localnet.process import Localnet, Rpc


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def localnet(tmp_path: Path) -> AsyncIterator[Localnet]:
    """A running chain with fast slots; killed at the end, whatever became of it."""
    localnet = Localnet(tmp_path / "localnet")
    await localnet.start()
    yield localnet
    await localnet.kill()


@pytest.fixture
async def rpc(localnet: Localnet, session: aiohttp.ClientSession) -> Rpc:
    return Rpc(session, localnet.rpc)
