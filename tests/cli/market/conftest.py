"""A localnet with a market, its key files where `reaver-market` looks for them, and the command in this process."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from typer.testing import CliRunner, Result

from marketplace.chain.rpc import RpcClient
from marketplace.cli.market import app
from tests.chain.market import Actor, Running, localnet

T = TypeVar("T")


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A chain of one test module: its tests change the deployment's numbers."""
    with localnet(tmp_path_factory.mktemp("chain")) as running:
        yield running


@dataclass
class Operator:
    """The market's operator at his terminal. keys: the folder with the key files."""

    running: Running
    keys: Path
    config: Path

    def __call__(self, *arguments: str) -> Result:
        """Run `reaver-market`."""
        return CliRunner().invoke(
            app, [*arguments, "--config", str(self.config)], env={"HOME": str(self.config.parent)}
        )

    def on_chain(self, use: Callable[[Actor], Awaitable[T]]) -> T:
        """Look at the chain, or act there, apart from the command."""

        async def work() -> T:
            async with RpcClient([self.running.rpc]) as rpc:
                actor = Actor(self.running, rpc)
                loop = asyncio.create_task(actor.sender.run())
                try:
                    return await use(actor)
                finally:
                    loop.cancel()
                    await asyncio.gather(loop, return_exceptions=True)

        return asyncio.run(work())

    def config_account(self) -> Any:
        return self.on_chain(lambda actor: actor.reader.get_config())

    def market_account(self) -> Any:
        return self.on_chain(lambda actor: actor.reader.get_market(actor.market))


@pytest.fixture
def operator(tmp_path: Path, chain: Running) -> Operator:
    config = tmp_path / "market.toml"
    config.write_text(
        f'[chain]\nrpc_url = "{chain.rpc}"\n[market]\ndata_dir = "data"\nkeys_dir = "{tmp_path / "keys"}"\n'
    )
    shutil.copytree(chain.folder / "keys", tmp_path / "keys")
    return Operator(chain, tmp_path / "keys", config)
