"""The two chains that are compared, as real processes: reaver-localnet, and a solana-test-validator."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scripts.processes import free_ports

VALIDATOR = os.environ.get("SOLANA_TEST_VALIDATOR") or shutil.which("solana-test-validator")
START_S = 90


class Chain:
    """A JSON-RPC endpoint and its WebSocket; `kind` is "localnet" or "validator"."""

    def __init__(self, kind: str, rpc: str, ws: str) -> None:
        self.kind = kind
        self.rpc = rpc
        self.ws = ws

    def post(self, body: bytes) -> Any:
        request = urllib.request.Request(self.rpc, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as response:
            text = response.read()
        return json.loads(text) if text else None

    def answer(self, method: str, params: list[Any]) -> dict[str, Any]:
        request = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
        return self.post(json.dumps(request).encode())

    def result(self, method: str, *params: Any) -> Any:
        answer = self.answer(method, list(params))
        assert "error" not in answer, (method, params, answer)
        return answer["result"]

    def value(self, method: str, *params: Any) -> Any:
        return self.result(method, *params)["value"]

    def until(self, what: str, holds: Callable[[], Any], limit_s: float = 60) -> Any:
        """The first true answer of `holds`."""
        deadline = time.monotonic() + limit_s
        while True:
            found = holds()
            if found:
                return found
            assert time.monotonic() < deadline, f"{self.kind}: {what} did not happen in {limit_s} s"
            time.sleep(0.05)

    def landed(self, signature: str, commitment: str = "confirmed") -> dict[str, Any]:
        """The status of a transaction, once it has reached the commitment."""
        wanted = {"confirmed": ("confirmed", "finalized"), "finalized": ("finalized",)}[commitment]

        def status() -> Any:
            (found,) = self.value("getSignatureStatuses", [signature])
            return found if found is not None and found["confirmationStatus"] in wanted else None

        return self.until(f"{commitment} of {signature}", status)


@contextmanager
def validator(folder: Path, *arguments: str) -> Iterator[Chain]:
    """A fresh Agave validator; killed at the end, its ledger deleted."""
    assert VALIDATOR is not None
    folder.mkdir(parents=True, exist_ok=True)
    (base,) = free_ports(1, in_a_row=60)
    command = [
        VALIDATOR, "--ledger", str(folder / "ledger"), "--reset", "--quiet", "--bind-address", "127.0.0.1",
        "--rpc-port", str(base), "--faucet-port", str(base + 3), "--gossip-port", str(base + 4),
        "--dynamic-port-range", f"{base + 10}-{base + 59}", *arguments,
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    try:
        chain = Chain("validator", f"http://127.0.0.1:{base}", f"ws://127.0.0.1:{base + 1}")
        chain.until("its start", lambda: _is_up(chain, process), START_S)
        yield chain
    finally:
        process.kill()
        process.wait(timeout=30)
        shutil.rmtree(folder / "ledger", ignore_errors=True)


def _is_up(chain: Chain, process: "subprocess.Popen[bytes]") -> bool:
    assert process.poll() is None, "the validator ended"
    try:
        return chain.result("getHealth") == "ok" and chain.result("getSlot", {"commitment": "confirmed"}) > 0
    except (OSError, AssertionError):
        return False


@contextmanager
def localnet(folder: Path) -> Iterator[Chain]:
    """A fresh reaver-localnet with a validator's slots; killed at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "localnet.toml"
    config.write_text('[chain]\ndata = "data"\nslot_ms = 100\nfinality_slots = 32\n')
    process = subprocess.Popen(
        [sys.executable, "-m", "marketplace.localnet", "start", "--config", str(config), "--rpc-port", "0", "--json"],
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        yield Chain("localnet", ready["rpc"], ready["ws"])
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)
        if process.stdout is not None:
            process.stdout.close()
