"""reaver-node as an operator types it."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from marketplace.domain.reasons import Reason
from marketplace.protocol.control import CommandType
from node import settings
from node.settings import RuntimeKind
from tests.node.daemon_process import daemon_on
from tests.node.scripted_market import ScriptedMarket, spec


async def command(*words: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "node.cli", *words, env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(60):
        out, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), errors.decode()


async def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, node.cli; print([m for m in ('aiohttp', 'solders', 'anchorpy', 'aiodocker') if m in sys.modules])"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert out.decode().strip() == "[]"


async def test_init_creates_keys_and_configuration_once_and_pins_the_market(
    tmp_path: Path, market: ScriptedMarket
) -> None:
    config = tmp_path / "node" / "config.toml"
    words = (
        "init", "--config", str(config), "--market", market.url, "--runtime", "process", "--slots", "1", "--json",
        "--deployment", "second", "--private-registry", "127.0.0.1:5000", "--private-registry", "registry.lan:80",
    )  # fmt: skip
    code, out, errors = await command(*words)
    assert code == 0, out + errors
    assert json.loads(out)["ok"]
    loaded = settings.load(config)
    assert loaded.market.program_id == market.program_id
    assert loaded.runtime.kind is RuntimeKind.PROCESS
    assert loaded.runtime.deployment == "second"
    assert loaded.runtime.private_registries == ("127.0.0.1:5000", "registry.lan:80")
    for name in ("node.json", "operator.json"):
        assert (config.parent / name).stat().st_mode & 0o777 == 0o600
    before = {path.name: path.read_bytes() for path in config.parent.iterdir() if path.is_file()}
    code, _, _ = await command(*words)
    assert code == 0
    assert {path.name: path.read_bytes() for path in config.parent.iterdir() if path.is_file()} == before


async def test_init_does_not_change_pins_and_says_what_to_do(tmp_path: Path, market: ScriptedMarket) -> None:
    config = tmp_path / "config.toml"
    words = ("init", "--config", str(config), "--market", market.url, "--runtime", "process", "--slots", "1")
    assert (await command(*words))[0] == 0
    pinned = settings.load(config).market.program_id
    market.program_id = "11111111111111111111111111111112"
    code, out, _ = await command(*words)
    assert code == 1
    assert "another market than the pinned one" in out
    assert settings.load(config).market.program_id == pinned


async def test_init_names_what_has_to_be_fixed(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    code, out, _ = await command(
        "init", "--config", str(config), "--market", "http://127.0.0.1:9", "--runtime", "process", "--slots", "999",
        "--json",
    )  # fmt: skip
    assert code == 1
    found: dict[str, Any] = {each["subject"]: each for each in json.loads(out)["findings"]}
    assert "lower node.slots" in found["capacity"]["fix"]
    assert "start the market" in found["market"]["fix"]
    assert found["engine"]["ok"]


@pytest.mark.parametrize("word", ["start", "status", "drain", "register"])
async def test_a_missing_configuration_is_said_plainly(tmp_path: Path, word: str) -> None:
    code, _, errors = await command(word, "--config", str(tmp_path / "none.toml"))
    assert code == 1
    assert "reaver-node init" in errors
    assert "Traceback" not in errors


async def test_an_unregistered_node_does_not_start(tmp_path: Path, market: ScriptedMarket) -> None:
    config = tmp_path / "config.toml"
    await command("init", "--config", str(config), "--market", market.url, "--runtime", "process", "--slots", "1")
    code, _, errors = await command("start", "--config", str(config))
    assert code == 1
    assert "reaver-node register" in errors


async def test_status_and_drain_beside_a_running_daemon(tmp_path: Path) -> None:
    image = '\n[runtime.images.work]\nentrypoint = ["/bin/sh", "-c", "sleep 600"]\n'
    async with daemon_on(tmp_path, RuntimeKind.PROCESS, {}, image) as daemon:
        market, config = daemon.market, str(daemon.config)
        _, out, _ = await command("status", "--config", config, "--json")
        assert not json.loads(out)["running"]
        await daemon.start()
        seen = await market.offer(spec("work"))
        # it asks for the next one after it has noted the one before
        await market.until(lambda: len(seen.countersigned) >= 2 and seen.countersigned[-2].billed_ms > 0, timeout_s=60)
        _, out, _ = await command("status", "--config", config, "--json")
        report = json.loads(out)
        assert report["running"]
        assert report["attempts"][0]["step"] == "ready"
        assert report["attempts"][0]["countersigned"] > 0
        code, out, _ = await command("drain", "--config", config)
        assert code == 0
        assert "draining" in out
        assert market.posts["drain"] == [{"drain": True}]
        await market.until(lambda: market.beats[-1].draining, timeout_s=60)
        code, _, _ = await command("undrain", "--config", config)
        assert code == 0
        await market.until(lambda: not market.beats[-1].draining, timeout_s=60)
        await market.command(CommandType.STOP, seen, reason=Reason.CANCELLED.value, grace_ms=100)
        await daemon.until_clean()
