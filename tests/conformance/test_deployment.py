"""scripts/deploy-program on a real validator: killed, run again, upgraded; and the market that is set up on it."""

import base64
import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from solders.keypair import Keypair

from marketplace.chain.addresses import UPGRADEABLE_LOADER, program_data_address
from marketplace.chain.keyfiles import create_keypair, load_keypair
from scripts.deploy_program import WINDOW
from scripts.upgradeable_loader import PROGRAM_DATA_HEADER_BYTES
from tests.conformance.chains import VALIDATOR, Chain
from tests.conformance.world import World

pytestmark = [
    pytest.mark.validator,
    pytest.mark.xdist_group("validator"),
    pytest.mark.timeout(240),
    pytest.mark.skipif(not VALIDATOR, reason="NOT DEPLOYED: no solana-test-validator (docs/localnet.md)"),
]
ROOT = Path(__file__).parents[2]
COMMANDS = Path(sys.executable).parent


class Deployer:
    """Keys of one deployment, and the script run with them."""

    def __init__(self, chain: Chain, folder: Path) -> None:
        self.chain = chain
        self.folder = folder
        self.keys = {name: create_keypair(folder / f"{name}.json") for name in ("payer", "program", "authority")}
        committed = ROOT / "programs/deploy/reaver_market.so"
        self.file = Path(os.environ.get("REAVER_PROGRAM", committed))

    def run(self, *more: str, crash_at: str | None = None, **other: Path) -> "subprocess.CompletedProcess[str]":
        files = {"payer": "payer", "program": "program", "upgrade-authority": "authority"}
        named = {f"--{option}": str(self.folder / f"{key}.json") for option, key in files.items()}
        named["--file"] = str(self.file)
        named.update({f"--{option.replace('_', '-')}": str(path) for option, path in other.items()})
        words = [word for pair in named.items() for word in pair]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        if crash_at is not None:
            environment["REAVER_CRASH_AT"] = crash_at
        command = [sys.executable, "-m", "scripts.deploy_program", "--rpc", self.chain.rpc, "--json", *words, *more]
        return subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=120, check=False
        )

    def done(self, *more: str, **other: Path) -> dict[str, Any]:
        ran = self.run(*more, **other)
        assert ran.returncode == 0, ran.stderr + ran.stdout
        return json.loads(ran.stdout)

    def refused(self, *more: str, **other: Path) -> str:
        ran = self.run(*more, **other)
        assert ran.returncode == 1, ran.stderr + ran.stdout
        return json.loads(ran.stdout)["error"]

    def killed_at(self, point: str) -> None:
        ran = self.run(crash_at=point)
        assert ran.returncode == -signal.SIGKILL, (point, ran.stderr + ran.stdout)

    def account(self, key: Any) -> Any:
        return self.chain.value("getAccountInfo", str(key), {"encoding": "base64", "commitment": "confirmed"})

    def content(self) -> bytes:
        found = self.account(program_data_address(self.keys["program"].pubkey()))
        return base64.b64decode(found["data"][0])[PROGRAM_DATA_HEADER_BYTES:]

    def fund(self, key: Keypair) -> None:
        self.chain.landed(self.chain.result("requestAirdrop", str(key.pubkey()), 10**10))


@pytest.fixture
def deployer(validator_world: World, tmp_path: Path) -> Deployer:
    return Deployer(validator_world.chain, tmp_path)


def test_a_deployment_survives_being_killed_and_the_market_starts_on_it(deployer: Deployer, tmp_path: Path) -> None:
    program = deployer.keys["program"].pubkey()
    assert "are needed: nothing was done" in deployer.refused()
    deployer.fund(deployer.keys["payer"])

    deployer.killed_at("deploy.after_buffer")
    deployer.killed_at("deploy.after_window")
    assert deployer.account(program) is None
    first = deployer.done()
    assert (first["action"], first["chunks_written"]) == ("deployed", first["chunks"] - WINDOW)
    assert first["upgrade_authority"] == str(deployer.keys["authority"].pubkey())
    assert deployer.account(program)["owner"] == str(UPGRADEABLE_LOADER)
    assert deployer.content() == deployer.file.read_bytes()
    again = deployer.done()
    assert (again["action"], again["transactions"], again["slot"]) == ("unchanged", 0, first["slot"])

    # Longer by more than the room that is there: the loader has to make some first.
    longer = tmp_path / "longer.so"
    longer.write_bytes(deployer.file.read_bytes() + b"\1" * 3_000)
    deployer.file = longer
    assert "upgrade authority is" in deployer.refused(upgrade_authority=deployer.folder / "payer.json")
    deployer.killed_at("deploy.before_deploy")
    deployer.killed_at("deploy.after_deploy")
    upgraded = deployer.done("--compute-price", "1000")
    assert (upgraded["action"], upgraded["chunks_written"]) == ("unchanged", 0)
    assert upgraded["slot"] > first["slot"]
    assert upgraded["sha256"] == hashlib.sha256(longer.read_bytes()).hexdigest()
    assert deployer.content().rstrip(b"\0") == longer.read_bytes()

    market_starts(deployer, tmp_path)


def market_starts(deployer: Deployer, folder: Path) -> None:
    """`reaver-market init` on the upgraded program: only its upgrade authority may initialize it."""
    settings = folder / "market.toml"
    program = deployer.keys["program"].pubkey()
    chain = {"rpc_url": deployer.chain.rpc, "ws_url": deployer.chain.ws, "program_id": str(program)}
    lines = ["[chain]", *(f"{name} = {json.dumps(value)}" for name, value in chain.items())]
    settings.write_text("\n".join([*lines, "[market]", f"data_dir = {json.dumps(str(folder / 'market'))}", ""]))
    init = [str(COMMANDS / "reaver-market"), "init", "--config", str(settings), "--create-mints", "--json"]
    without = subprocess.run(init, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert without.returncode != 0
    assert "NotInitialAuthority" in without.stderr
    authority = str(folder / "authority.json")
    made = subprocess.run(
        [*init, "--admin", authority], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert made.returncode == 0, made.stderr + made.stdout
    answer = json.loads(made.stdout)
    assert answer["program_id"] == str(program)
    assert any("Config" in each for each in answer["done"])
    assert deployer.account(answer["market"])["owner"] == str(program)


def test_what_can_not_be_deployed_is_refused_before_anything_is_paid(deployer: Deployer, tmp_path: Path) -> None:
    deployer.fund(deployer.keys["payer"])
    text = tmp_path / "text.so"
    text.write_text("no program")
    assert "is no program file" in deployer.refused(file=text)
    assert "does not exist" in deployer.refused(program=tmp_path / "absent.json")
    # An address that somebody else's account has.
    assert "not to the upgradeable loader" in deployer.refused(program=deployer.folder / "payer.json")
    balance = deployer.chain.value("getBalance", str(deployer.keys["payer"].pubkey()), {"commitment": "confirmed"})
    assert balance == 10**10
    assert load_keypair(tmp_path / "payer.json") == deployer.keys["payer"]
