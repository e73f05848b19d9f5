"""The commands, as a person or a script runs them."""

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from marketplace.localnet.config import PAYMENT_MINT, PROGRAM_ID, STAKE_MINT, load_config
from marketplace.localnet.errors import ConfigInvalid
from tests.localnet.process import Localnet, Rpc

WALLET = "9YVyAmdtWRHP8UFsjEYuJHjVShLZjy4bskRnyrqV9HKs"
ROOT = Path(__file__).parents[2]


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "marketplace.localnet", *arguments]
    environment = {"PYTHONPATH": str(ROOT), "COLUMNS": "200", "HOME": str(cwd)}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("command", [[], ["start"], ["status"], ["faucet"], ["reset"]])
def test_help_teaches_and_loads_nothing_heavy(tmp_path: Path, command: list[str]) -> None:
    script = (
        "import sys\nfrom marketplace.localnet.cli import app\n"
        f"try: app({[*command, '--help']!r})\nexcept SystemExit: pass\n"
        # pydantic comes with typer's own command line.
        "heavy = {'solders', 'aiohttp', 'orjson', 'sqlite3', 'marketplace.localnet.config'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    environment = {"PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Usage:" in done.stdout
    assert all(line.strip() != r"\b" for line in done.stdout.splitlines())


async def test_status_and_faucet_find_the_running_chain(localnet: Localnet, rpc: Rpc, tmp_path: Path) -> None:
    config = ["--config", str(localnet.config), "--json"]
    shown = json.loads(run("status", *config, cwd=tmp_path).stdout)
    assert {name: shown[name] for name in localnet.ready if name != "ready"} == {
        name: value for name, value in localnet.ready.items() if name != "ready"
    }
    assert shown["slot"] >= shown["finalized_slot"]
    given = json.loads(run("faucet", WALLET, "--sol", "1.5", "--payment", "0.000001", *config, cwd=tmp_path).stdout)
    assert (given["lamports"], given["payment"], given["stake"]) == (1_500_000_000, 1, 0)
    assert (await rpc.until("confirmed", given["signature"]))["err"] is None
    everything = json.loads(run("faucet", WALLET, *config, cwd=tmp_path).stdout)
    assert (everything["lamports"], everything["payment"], everything["stake"]) == (10 * 10**9, 10**9, 10**10)
    assert await rpc.value("getBalance", WALLET, {"commitment": "processed"}) == 11_500_000_000


@pytest.mark.parametrize("amount", ["-1", "0.0000000001", "abc", "NaN", "Infinity"])
async def test_the_faucet_refuses_amounts_that_are_none(localnet: Localnet, tmp_path: Path, amount: str) -> None:
    done = run("faucet", WALLET, f"--sol={amount}", "--config", str(localnet.config), cwd=tmp_path)
    assert done.returncode == 1
    assert "--sol" in done.stderr


async def test_the_faucet_passes_on_what_the_chain_says(localnet: Localnet, tmp_path: Path) -> None:
    done = run("faucet", "nobody0", "--sol", "1", "--config", str(localnet.config), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "reaver-localnet: Invalid param: Invalid\n")


async def test_websocket_port_follows_the_rpc_port(localnet: Localnet) -> None:
    assert int(localnet.ws.rpartition(":")[2]) == int(localnet.rpc.rpartition(":")[2]) + 1


async def test_keys_are_for_their_owner_only(localnet: Localnet) -> None:
    for name in ("faucet", "mint-authority"):
        mode = (localnet.folder / "data" / "keys" / f"{name}.json").stat().st_mode
        assert stat.S_IMODE(mode) == 0o600


async def test_reset_deletes_the_chain_but_never_under_a_running_one(localnet: Localnet, tmp_path: Path) -> None:
    config = ["--config", str(localnet.config), "--json"]
    refused = run("reset", "--yes", *config, cwd=tmp_path)
    assert (refused.returncode, json.loads(refused.stdout)["error"]) == (1, "FolderInUse")
    stranger = localnet.folder / "data" / "notes.txt"
    stranger.write_text("mine")
    genesis = localnet.ready["genesis_hash"]
    await localnet.kill()
    done = json.loads(run("reset", "--yes", *config, cwd=tmp_path).stdout)
    assert "chain.db" in done["deleted"]
    assert stranger.read_text() == "mine"
    await localnet.start()
    assert localnet.ready["genesis_hash"] != genesis


def test_status_without_a_chain_says_what_to_do(tmp_path: Path) -> None:
    done = run("status", cwd=tmp_path)
    assert done.returncode == 1
    assert "reaver-localnet start" in done.stderr


def test_a_missing_program_is_named(tmp_path: Path) -> None:
    (tmp_path / "localnet.toml").write_text('[chain]\nprogram = "absent.so"\n')
    done = run("start", "--rpc-port", "0", cwd=tmp_path)
    assert done.returncode == 1
    assert str(tmp_path / "absent.so") in done.stderr


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run("start", "--rpc-port", port, cwd=tmp_path)
    assert done.returncode == 1
    assert f"127.0.0.1:{port}" in done.stderr


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[other]", "no \\[chain\\] section"),
        ("[chain", "TOML"),
        ("[chain]\nslotms = 3", "slotms"),
        ("[chain]\nslot_ms = 3", "slot_ms"),
        ('[chain]\nrpc_port = "8899"', "rpc_port"),
        (f'[chain]\nstake_mint = "{PAYMENT_MINT}"', "must differ"),
    ],
)
def test_a_bad_configuration_is_explained(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "localnet.toml"
    path.write_text(text)
    with pytest.raises(ConfigInvalid, match=reason):
        load_config(path)


def test_the_committed_configuration_is_the_documented_default() -> None:
    config = load_config(ROOT / "localnet.toml")
    assert (config.program_id, config.payment_mint, config.stake_mint) == (PROGRAM_ID, PAYMENT_MINT, STAKE_MINT)
    assert config.host == "127.0.0.1"
    assert config.data == ROOT / ".reaver" / "localnet"


def test_the_constant_addresses_come_from_their_published_seeds() -> None:
    import hashlib

    from solders.keypair import Keypair

    derived = [
        str(Keypair.from_seed(hashlib.sha256(f"reaver-localnet {name}".encode()).digest()).pubkey())
        for name in ("program", "payment mint", "stake mint")
    ]
    assert derived == [PROGRAM_ID, PAYMENT_MINT, STAKE_MINT]
