"""The real daemon as a process on a folder of its own, with a market on loopback."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import base58
from solders.pubkey import Pubkey

from marketplace.chain.addresses import Addresses
from node import keys, settings
from node.journal import read_only
from node.metering import Identity
from node.settings import RuntimeKind
from tests.node.scripted_market import NODE_ID, ScriptedMarket

PROGRAM = b"\x21" * 32


@dataclass
class Daemon:
    """`reaver-node start` on a folder of its own."""

    folder: Path
    market: ScriptedMarket
    running: list[asyncio.subprocess.Process] = field(default_factory=list)

    @property
    def config(self) -> Path:
        return self.folder / "config.toml"

    @property
    def mark(self) -> Path:
        return self.folder / "mark"

    async def start(self, *, crash_at: str = "", options: tuple[str, ...] = ()) -> asyncio.subprocess.Process:
        environment = {"PATH": os.environ["PATH"], "REAVER_CRASH_AT": crash_at}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "node.cli", "start", "--config", str(self.config), *options,
            env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        self.running.append(process)
        return process

    async def ended(self, process: asyncio.subprocess.Process) -> tuple[int, str]:
        async with asyncio.timeout(30):
            _, errors = await process.communicate()
        assert process.returncode is not None
        return process.returncode, errors.decode()

    async def kill(self, process: asyncio.subprocess.Process) -> None:
        process.kill()
        await self.ended(process)

    async def until_clean(self) -> None:
        async with asyncio.timeout(30):
            while read_only(self.folder / "data" / "journal.sqlite3").attempts:  # noqa: ASYNC110 - a foreign process
                await asyncio.sleep(0.05)


@asynccontextmanager
async def daemon_on(
    folder: Path, kind: RuntimeKind, runtime: dict[str, str | list[str]], more: str = ""
) -> AsyncIterator[Daemon]:
    """A configured, registered node; nothing is started. more: appended to its configuration."""
    key = keys.generate()
    keys.write(folder / "node.json", key)
    identity = Identity(
        program_id=PROGRAM,
        genesis_hash=b"\x22" * 32,
        market=b"\x23" * 32,
        node=bytes(Addresses(Pubkey.from_bytes(PROGRAM)).node(Pubkey.from_bytes(key.public))),
    )
    market = ScriptedMarket(key, identity, heartbeat_ms=200)
    await market.start()
    file = folder / "config.toml"
    text = settings.template(market_url=market.url, rpc_url="", region="eu", class_id="cpu-small", slots=1, kind=kind)
    file.write_text(text + more)
    pins = {
        "address": base58.b58encode(identity.market).decode(),
        "program_id": base58.b58encode(identity.program_id).decode(),
        "genesis_hash": base58.b58encode(identity.genesis_hash).decode(),
    }
    settings.update(file, {"node": {"id": NODE_ID}, "market": dict(pins), "runtime": dict(runtime)})
    made = Daemon(folder, market)
    try:
        yield made
    finally:
        for process in made.running:
            if process.returncode is None:
                process.kill()
                await process.wait()
        await market.stop()
