"""`reaver-market` as people run it: real processes, a real localnet."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.chain.market import localnet

COMMAND = str(Path(sys.executable).with_name("reaver-market"))
# One of them starts seven processes after a chain; each has 90 s.
pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    with localnet(tmp_path_factory.mktemp("chain")) as running:
        yield running


@pytest.fixture
def folder(tmp_path, chain):
    (tmp_path / "market.toml").write_text(
        f'[chain]\nrpc_url = "{chain.rpc}"\n[market]\ndata_dir = "data"\n[api]\nport = 0\n'
    )
    return tmp_path


def run(folder, *arguments):
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    command = [COMMAND, arguments[0], "--config", "market.toml", *arguments[1:]]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=90, check=False)


def test_init_twice_serve_and_stop(folder):
    first = run(folder, "init", "--json")
    assert first.returncode == 0, first.stderr
    made = json.loads(first.stdout)
    assert made["done"]
    for name in ("authority", "matcher", "meter", "quote", "tokens"):
        assert (folder / "data" / "keys" / f"{name}.json").stat().st_mode & 0o777 == 0o600
    assert json.loads(run(folder, "init", "--json").stdout) == made | {"done": []}
    assert run(folder, "doctor").returncode == 0
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(
            [COMMAND, "serve", "--config", "market.toml", "--json"],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=log,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            assert ready["public_url"] == ready["api"]
            with urllib.request.urlopen(f"{ready['api']}/openapi.json", timeout=60) as response:
                document = json.load(response)
            assert document["servers"] == [{"url": ready["api"]}]
            refused = run(folder, "migrate")
            assert (refused.returncode, "another process" in refused.stderr) == (1, True)
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()
    lines = [json.loads(line) for line in (folder / "log").read_text().splitlines()]
    assert {"market.listening", "market.stopped"} <= {line["event"] for line in lines}
    migrated = run(folder, "migrate", "--json")
    assert json.loads(migrated.stdout)["revision"]


def test_serving_without_keys_says_what_to_do(folder):
    served = run(folder, "serve")
    assert served.returncode == 1
    assert "reaver-market init" in served.stderr
    assert "Traceback" not in served.stderr


def test_a_taken_port_is_told(folder):
    server = socket.create_server(("127.0.0.1", 0))
    assert run(folder, "init").returncode == 0
    served = run(folder, "serve", "--port", str(server.getsockname()[1]))
    server.close()
    assert (served.returncode, "can't listen" in served.stderr) == (1, True)


def test_an_unreachable_chain_is_told(folder):
    made = run(folder, "init", "--rpc", "http://127.0.0.1:9")
    assert made.returncode == 1
    assert "Traceback" not in made.stderr
    assert made.stderr.startswith("reaver-market: ")


def test_config_prints_what_takes_effect(folder):
    shown = json.loads(run(folder, "config").stdout)
    assert shown["market"]["data_dir"] == "data"


def test_help_loads_nothing_heavy():
    code = (
        "import sys, marketplace.cli.market\n"
        "heavy = {'sqlmodel', 'sqlalchemy', 'anchorpy', 'aiohttp', 'solders', 'alembic', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
