import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiohttp.test_utils import TestServer
from typer.testing import CliRunner, Result

from marketplace.cli.reaver.root import app
from tests.client.fake_market import FakeMarket, key


@pytest.fixture
def market() -> Iterator[FakeMarket]:
    fake = FakeMarket()
    with served(fake):
        yield fake


@contextmanager
def served(fake: FakeMarket) -> Iterator[None]:
    """The market on a loop of its own: the commands run their own."""
    loop = asyncio.new_event_loop()
    server = TestServer(fake.app(), host="127.0.0.1")

    async def start() -> None:
        await server.start_server()
        fake.base_url = str(server.make_url("")).rstrip("/")

    loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield
    asyncio.run_coroutine_threadsafe(server.close(), loop).result(60)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(60)
    loop.close()


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Variables of one user; without a market."""
    file = tmp_path / "id.json"
    file.write_text(json.dumps(list(bytes(key("wallet")))))
    return {"REAVER_KEYPAIR": str(file), "REAVER_STATE_DIR": str(tmp_path / "state")}


class Reaver:
    """Runs `reaver` in this process."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment
        self._runner = CliRunner()

    def __call__(self, *arguments: str) -> Result:
        return self._runner.invoke(app, list(arguments), env=self.environment)


@pytest.fixture
def reaver(market: FakeMarket, environment: dict[str, str]) -> Reaver:
    return Reaver(environment | {"REAVER_API": market.base_url})
