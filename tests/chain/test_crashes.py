"""A payer killed at each crash point of the sender pays exactly once when it is started again."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from solders.pubkey import Pubkey

from marketplace.chain.keyfiles import create_keypair
from tests.chain.market import ROOT, Actor
from tests.chain.paying_process import LAMPORTS

pytestmark = pytest.mark.xdist_group("chain-localnet")


@pytest.mark.parametrize("point", ["sender.before_send", "sender.after_send", "sender.after_confirm"])
async def test_a_payment_is_made_once_through_a_crash(actor: Actor, tmp_path: Path, point: str) -> None:
    key = create_keypair(tmp_path / "id.json")
    await actor.fund(key.pubkey())
    to = Pubkey.new_unique()
    arguments = [actor.running.rpc, str(tmp_path / "market.sqlite3"), str(tmp_path / "id.json"), str(to)]
    command = [sys.executable, "-m", "tests.chain.paying_process", *arguments]

    def run(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=60, check=False
        )

    killed = await asyncio.to_thread(run, {"REAVER_CRASH_AT": point})
    assert killed.returncode == -9, killed.stderr
    assert "finalized" not in killed.stdout.splitlines()
    again = await asyncio.to_thread(run, {})
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[-1] == "finalized"
    assert await actor.rpc.get_balance(to) == LAMPORTS
