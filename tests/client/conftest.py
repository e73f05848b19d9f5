import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp.test_utils import TestServer

from marketplace.client.client import ReaverClient
from marketplace.client.intents import IntentStore
from marketplace.client.keypairs import Keypair, load_keypair
from marketplace.client.known_markets import KnownMarkets
from marketplace.client.tokens import TokenCache
from tests.client.fake_market import FakeMarket, key


@pytest.fixture
def keypair_file(tmp_path: Path) -> Path:
    file = tmp_path / "id.json"
    file.write_text(json.dumps(list(bytes(key("wallet")))))
    return file


@pytest.fixture
def keypair(keypair_file: Path) -> Keypair:
    return load_keypair(keypair_file)


@pytest.fixture
async def market() -> AsyncIterator[FakeMarket]:
    fake = FakeMarket()
    async with TestServer(fake.app(), host="127.0.0.1") as server:
        fake.base_url = str(server.make_url("")).rstrip("/")
        yield fake


@pytest.fixture
def state_folder(tmp_path: Path) -> Path:
    return tmp_path / "state"


class Waits:
    """A sleep that does not sleep, and remembers how long it was asked to."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


@pytest.fixture
def waits() -> Waits:
    return Waits()


ClientFactory = Callable[[], ReaverClient]


@pytest.fixture
async def new_client(
    market: FakeMarket, keypair: Keypair, state_folder: Path, waits: Callable[[float], Awaitable[None]]
) -> AsyncIterator[ClientFactory]:
    """Makes clients that share one state folder, as runs of the command line do."""
    made: list[ReaverClient] = []

    def make() -> ReaverClient:
        client = ReaverClient(
            market.base_url,
            keypair,
            TokenCache(state_folder),
            intents=IntentStore(state_folder),
            known_markets=KnownMarkets(state_folder),
            sleep=waits,
        )
        made.append(client)
        return client

    yield make
    for client in made:
        await client.__aexit__(None, None, None)


@pytest.fixture
def client(new_client: ClientFactory) -> ReaverClient:
    return new_client()
