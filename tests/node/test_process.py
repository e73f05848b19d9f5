"""The real daemon as a process, killed with SIGKILL at every point that hurts, and started again.

The work is real as well: processes of the development runtime, which outlive the daemon.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import base58
import pytest
from solders.pubkey import Pubkey

from marketplace.chain.addresses import Addresses
from marketplace.domain.reasons import Reason
from marketplace.protocol.control import CommandType
from node import keys, settings
from node.journal import read_only
from node.metering import Identity
from node.settings import RuntimeKind
from tests.node.scripted_market import NODE_ID, ScriptedMarket, reason, spec

PROGRAM = b"\x21" * 32
SCRIPT = 'echo started >>"$MARK"; echo hello; sleep 1; echo bye'


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


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Daemon]:
    key = keys.generate()
    keys.write(tmp_path / "node.json", key)
    identity = Identity(
        program_id=PROGRAM,
        genesis_hash=b"\x22" * 32,
        market=b"\x23" * 32,
        node=bytes(Addresses(Pubkey.from_bytes(PROGRAM)).node(Pubkey.from_bytes(key.public))),
    )
    market = ScriptedMarket(key, identity, heartbeat_ms=200)
    await market.start()
    file = tmp_path / "config.toml"
    text = settings.template(
        market_url=market.url, rpc_url="", region="eu", class_id="cpu-small", slots=1, kind=RuntimeKind.PROCESS
    )
    command = json.dumps(["/bin/sh", "-c", SCRIPT])
    file.write_text(f"{text}\n[runtime.images.work]\nentrypoint = {command}\n")
    settings.update(
        file,
        {
            "node": {"id": NODE_ID},
            "market": {
                "address": base58.b58encode(identity.market).decode(),
                "program_id": base58.b58encode(identity.program_id).decode(),
                "genesis_hash": base58.b58encode(identity.genesis_hash).decode(),
            },
        },
    )
    made = Daemon(tmp_path, market)
    yield made
    for process in made.running:
        if process.returncode is None:
            process.kill()
            await process.wait()
    await market.stop()


@pytest.mark.parametrize(
    "point",
    ["node.after_claim", "node.pulling", "node.running", "node.before_final_voucher", "node.after_final_voucher"],
)
async def test_a_daemon_killed_at_any_point_ends_the_job_right_and_once(daemon: Daemon, point: str) -> None:
    market = daemon.market
    first = await daemon.start(crash_at=point)
    seen = await market.offer(spec("work", env={"MARK": str(daemon.mark)}))
    code, errors = await daemon.ended(first)
    assert code == -signal.SIGKILL, errors
    assert f"crash point {point}" in errors
    await daemon.start()
    await market.until(lambda: seen.final, timeout_s=30)
    await daemon.until_clean()
    assert reason(seen) is Reason.COMPLETED
    assert daemon.mark.read_text() == "started\n"
    assert seen.text == ["hello", "bye"]
    assert seen.final is not None
    assert seen.final.billed_ms <= 2_500


async def test_a_daemon_killed_in_mid_run_adopts_its_work_and_goes_on(daemon: Daemon) -> None:
    market = daemon.market
    first = await daemon.start()
    seen = await market.offer(spec("work", env={"MARK": str(daemon.mark)}))
    await market.until(lambda: len(seen.countersigned) >= 2, timeout_s=30)
    before = seen.countersigned[-1]
    await daemon.kill(first)
    second = await daemon.start()
    await market.until(lambda: seen.final, timeout_s=30)
    await daemon.until_clean()
    assert daemon.mark.read_text() == "started\n"
    assert seen.final is not None
    assert seen.final.started_at_ms == before.started_at_ms
    assert seen.final.sequence > before.sequence
    assert 900 <= seen.final.billed_ms <= 2_500
    second.terminate()
    code, _ = await daemon.ended(second)
    assert code == 0


async def test_sigterm_leaves_the_work_running_for_the_next_start(daemon: Daemon) -> None:
    market = daemon.market
    first = await daemon.start()
    seen = await market.offer(spec("work", env={"MARK": str(daemon.mark)}))
    await market.until(lambda: seen.countersigned, timeout_s=30)
    first.terminate()
    code, errors = await daemon.ended(first)
    assert code == 0, errors
    assert seen.exited is None
    await daemon.start()
    await market.until(lambda: seen.final, timeout_s=30)
    assert reason(seen) is Reason.COMPLETED
    assert daemon.mark.read_text() == "started\n"


async def test_drain_on_stop_waits_for_the_work(daemon: Daemon) -> None:
    market = daemon.market
    process = await daemon.start(options=("--drain-on-stop",))
    seen = await market.offer(spec("work", env={"MARK": str(daemon.mark)}))
    await market.until(lambda: seen.countersigned, timeout_s=30)
    process.terminate()
    await market.until(lambda: seen.final, timeout_s=30)
    code, errors = await daemon.ended(process)
    assert code == 0, errors
    assert reason(seen) is Reason.COMPLETED


async def test_a_second_daemon_on_the_same_folder_refuses_to_start(daemon: Daemon) -> None:
    await daemon.start()
    await daemon.market.until(lambda: daemon.market.beats, timeout_s=30)
    second = await daemon.start()
    code, errors = await daemon.ended(second)
    assert code == 1
    assert "in use" in errors


async def test_an_order_to_stop_ends_a_real_process_group(daemon: Daemon) -> None:
    market = daemon.market
    await daemon.start()
    job = spec("work", env={"MARK": str(daemon.mark)}, entrypoint=("/bin/sh", "-c", "sleep 600"))
    seen = await market.offer(job)
    await market.until(lambda: seen.countersigned, timeout_s=30)
    await market.command(CommandType.STOP, seen, reason=Reason.CANCELLED.value, grace_ms=500)
    await market.until(lambda: seen.final, timeout_s=30)
    assert reason(seen) is Reason.CANCELLED
    await daemon.until_clean()
