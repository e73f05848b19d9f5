"""Transactions per second, and the time from sending to `confirmed`, of reaver-localnet and of a real validator.

Both have slots of 400 ms and the same load in the same run, one after the other: closed-loop clients on one machine,
each of which pays lamports to an address, waits for `confirmed` by a subscription, and pays again. The driver shares
the cores with the chain under test.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import shutil
import socket
import statistics
import sys
import tempfile
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import orjson
from solders.hash import Hash
from solders.keypair import Keypair
from solders.message import Message
from solders.system_program import TransferParams, transfer
from solders.transaction import Transaction

from scripts.bench_job import commit
from scripts.local_stack import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from solders.pubkey import Pubkey

SLOT_MS: Final = 400  # a solana-test-validator's own, and the localnet's default
START_S: Final = 90
FUNDED_LAMPORTS: Final = 10**9
# A blockhash is good for about a minute; a fresh one every so often leaves none too old to land.
BLOCKHASH_S: Final = 5.0
# What wasn't confirmed by then is sent again, the same bytes; the validator takes them by UDP from its own RPC.
RESEND_S: Final = 2.0
LOST_S: Final = 60.0


@dataclass
class Chain:
    """One chain under test, and one WebSocket for all of its clients."""

    name: str
    rpc: str
    ws: str
    session: aiohttp.ClientSession
    blockhash: Hash = field(default_factory=Hash.default)
    _socket: aiohttp.ClientWebSocketResponse | None = None
    _answers: dict[int, asyncio.Future[int]] = field(default_factory=dict)
    _confirmed: dict[int, asyncio.Future[None]] = field(default_factory=dict)
    _next_id: int = 0

    async def call(self, method: str, *params: Any) -> Any:
        body = orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)})
        async with self.session.post(self.rpc, data=body, headers={"Content-Type": "application/json"}) as response:
            answer = orjson.loads(await response.read())
        if "error" in answer:
            raise RuntimeError(f"{self.name}: {method}: {answer['error']}")
        return answer["result"]

    async def is_up(self) -> bool:
        try:
            return await self.call("getHealth") == "ok" and await self.call("getSlot", {"commitment": "confirmed"}) > 0
        except (aiohttp.ClientError, RuntimeError):
            return False

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """The subscriptions' connection and the newest blockhash, for as long as the block lasts."""
        await self._renew()
        async with self.session.ws_connect(self.ws, max_msg_size=0) as self._socket:
            tasks = [asyncio.create_task(self._hear()), asyncio.create_task(self._renew_forever())]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def confirmation(self, signature: str) -> asyncio.Future[None]:
        """Done when the signature is confirmed. Asked for before sending."""
        if self._socket is None:
            raise RuntimeError("not connected")
        self._next_id += 1
        number, answered = self._next_id, asyncio.get_running_loop().create_future()
        self._answers[number] = answered
        params = [signature, {"commitment": "confirmed"}]
        request = {"jsonrpc": "2.0", "id": number, "method": "signatureSubscribe", "params": params}
        await self._socket.send_str(orjson.dumps(request).decode())
        return self._confirmed.setdefault(await answered, asyncio.get_running_loop().create_future())

    async def _hear(self) -> None:
        if self._socket is None:
            return
        async for message in self._socket:
            told = orjson.loads(message.data)
            if "id" in told:
                self._answers.pop(told["id"]).set_result(told["result"])
                continue
            error = told["params"]["result"]["value"]["err"]
            if error is not None:
                raise RuntimeError(f"{self.name}: a payment failed: {error}")
            number = told["params"]["subscription"]
            waiting = self._confirmed.setdefault(number, asyncio.get_running_loop().create_future())
            waiting.set_result(None)
        closed = RuntimeError(f"{self.name} closed the subscriptions' connection ({self._socket.close_code})")
        for each in (*self._confirmed.values(), *self._answers.values()):
            if not each.done():
                each.set_exception(closed)

    async def _renew_forever(self) -> None:
        while True:
            await asyncio.sleep(BLOCKHASH_S)
            await self._renew()

    async def _renew(self) -> None:
        latest = await self.call("getLatestBlockhash", {"commitment": "confirmed"})
        self.blockhash = Hash.from_string(latest["value"]["blockhash"])


@dataclass
class Client:
    """Pays, waits, pays again."""

    chain: Chain
    key: Keypair
    to: Pubkey
    latencies_s: list[float] = field(default_factory=list)
    lost: int = 0
    sent: int = 0

    async def run_until(self, deadline: float) -> None:
        while time.monotonic() < deadline:
            await self._pay()

    async def _pay(self) -> None:
        self.sent += 1
        terms = TransferParams(from_pubkey=self.key.pubkey(), to_pubkey=self.to, lamports=1_000_000 + self.sent)
        blockhash = self.chain.blockhash
        message = Message.new_with_blockhash([transfer(terms)], self.key.pubkey(), blockhash)
        payment = Transaction([self.key], message, blockhash)
        wire = base64.b64encode(bytes(payment)).decode()
        confirmed = await self.chain.confirmation(str(payment.signatures[0]))
        started = time.monotonic()
        while not confirmed.done():
            if time.monotonic() - started > LOST_S:
                self.lost += 1
                return
            await self.chain.call("sendTransaction", wire, {"encoding": "base64", "skipPreflight": True})
            await asyncio.wait([confirmed], timeout=RESEND_S)
        confirmed.result()  # raises what ended the connection
        self.latencies_s.append(time.monotonic() - started)


async def measure(chain: Chain, clients: int, seconds: float) -> dict[str, Any]:
    """One load on one chain."""
    people = [Client(chain, Keypair(), Keypair().pubkey()) for _ in range(clients)]
    async with chain.connected():
        for each in people:
            await chain.call("requestAirdrop", str(each.key.pubkey()), FUNDED_LAMPORTS)
        await _until(lambda: _all_funded(chain, people), START_S)
        started = time.monotonic()
        await asyncio.gather(*(each.run_until(started + seconds) for each in people))
        took_s = time.monotonic() - started
    latencies = sorted(latency for each in people for latency in each.latencies_s)
    centiles = statistics.quantiles(latencies, n=100, method="inclusive")
    return {
        "confirmed": len(latencies),
        "lost": sum(each.lost for each in people),
        "per_second": round(len(latencies) / took_s, 1),
        "p50_ms": round(centiles[49] * 1000),
        "p99_ms": round(centiles[98] * 1000),
    }


async def _all_funded(chain: Chain, people: list[Client]) -> bool:
    for start in range(0, len(people), 100):
        addresses = [str(each.key.pubkey()) for each in people[start : start + 100]]
        found = await chain.call("getMultipleAccounts", addresses, {"commitment": "confirmed"})
        if None in found["value"]:
            return False
    return True


async def _until(holds: Any, limit_s: float) -> None:
    async with asyncio.timeout(limit_s):
        while not await holds():  # noqa: ASYNC110 - a chain has no event for it
            await asyncio.sleep(0.2)


@asynccontextmanager
async def running(name: str, command: list[str], rpc_port: int, home: Path) -> AsyncIterator[Chain]:
    """The chain's process, up; killed at the end."""
    with (home / f"{name}.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log, cwd=home)
    try:
        # as many connections as there are clients: one that waits for another's would measure the driver
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            chain = Chain(name, f"http://127.0.0.1:{rpc_port}", f"ws://127.0.0.1:{rpc_port + 1}", session)
            await _until(chain.is_up, START_S)
            yield chain
    finally:
        process.kill()
        await process.wait()


def localnet(home: Path) -> tuple[list[str], int]:
    port = free_ports(2)
    config = home / "localnet.toml"
    config.write_text(f'[chain]\ndata = "chain"\nslot_ms = {SLOT_MS}\nrpc_port = {port}\n')
    return [str(ROOT / ".venv/bin/reaver-localnet"), "start", "--config", str(config)], port


def validator_program() -> str:
    named = os.environ.get("SOLANA_TEST_VALIDATOR") or shutil.which("solana-test-validator")
    if not named:
        raise SystemExit("bench localnet: its peer is missing: set SOLANA_TEST_VALIDATOR (docs/localnet.md)")
    return named


def validator(home: Path) -> tuple[list[str], int]:
    port = free_ports(60)
    words = (
        "--ledger", str(home / "ledger"), "--reset", "--quiet", "--bind-address", "127.0.0.1", "--rpc-port", str(port),
        "--faucet-port", str(port + 3), "--gossip-port", str(port + 4),
        "--dynamic-port-range", f"{port + 10}-{port + 59}", "--faucet-per-time-sol-cap", "1000000",
        # its default of 100 waiting notifications ends the connection of 256 clients that are told at once
        "--rpc-pubsub-queue-capacity-items", "100000",
    )  # fmt: skip
    return [validator_program(), *words], port


def free_ports(count: int) -> int:
    """The first of so many ports in a row that nobody listens on now."""
    for base in range(21_000, 60_000, count):
        try:
            for port in range(base, base + count):
                with socket.create_server(("127.0.0.1", port)):
                    pass
        except OSError:
            continue
        return base
    raise SystemExit("bench localnet: no free ports")


async def bench(loads: list[int], seconds: float) -> dict[str, Any]:
    results: dict[str, Any] = {}
    validator_program()  # its absence is said before the first measurement, not after
    for name, made in (("localnet", localnet), ("validator", validator)):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            command, port = made(Path(folder))
            async with running(name, command, port, Path(folder)) as chain:
                version = await chain.call("getVersion")
                results[name] = {
                    "version": version["solana-core"],
                    "loads": {str(clients): await measure(chain, clients, seconds) for clients in loads},
                }
    return {
        "bench": "localnet",
        "commit": commit(),
        "cores": os.cpu_count(),
        "slot_ms": SLOT_MS,
        "seconds": seconds,
        "work": "one signed transfer of lamports a transaction; clients wait for `confirmed` before the next",
        "peer": "solana-test-validator, same load, same run, one after the other",
        **results,
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench localnet", description=__doc__)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 256], help="how many pay at once; each a load")
    parser.add_argument("--seconds", type=float, default=15, help="how long each load lasts")
    options = parser.parse_args()
    print(json.dumps(asyncio.run(bench(options.clients, options.seconds)), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
