"""How soon and how many events reach webhooks, over a store with many jobs.

usage: scripts/bench webhooks [--jobs N] [--accounts N] [--events N] [--paced N]

The market's own feed, queue and sender over its own store with full durability; the receiver is another process on
loopback that answers 204 and does nothing else. Two series: `paced` events one by one, for the time from the commit of
an event to its arrival; then `events` queued while the sender is stopped, for deliveries a second, each with its lease,
signature and outcome on disk.

The peer, in the same run, is the same client sending as many signed requests, as many at a time, to the same receiver,
without a queue: nothing is remembered, nothing survives. What is between them is what at-least-once costs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import insert

from marketplace.domain.destinations import Reach
from marketplace.domain.events import EventType
from marketplace.domain.ids import AccountId
from marketplace.outgoing import Outgoing
from marketplace.protocol.webhook_signatures import signature_header
from marketplace.services.clock import Ids, SystemClock, SystemRandom
from marketplace.services.feed import Feed
from marketplace.services.key_ring import create_key_ring
from marketplace.services.stored_secrets import SecretKeeper
from marketplace.services.webhook_deliveries import AT_ONCE, MARK, WebhookDeliveries
from marketplace.services.webhooks import WebhookService
from marketplace.store.engine import Store
from marketplace.store.events import Events
from marketplace.store.records import to_values
from marketplace.store.tables.jobs import AllocationRow
from scripts.bench_job import commit
from tests.services.test_meter import ALLOCATION

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from marketplace.store.engine import Transaction

_ALLOCATIONS: Final = AllocationRow.__table__  # type: ignore[attr-defined]
_CHUNK: Final = 5_000


def receive(pipe: Connection) -> None:
    """The receiver's process: answers 204, and says when each id arrived, when asked."""
    asyncio.run(_receive(pipe))


async def _receive(pipe: Connection) -> None:
    arrived: dict[str, int] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
            except (asyncio.IncompleteReadError, ConnectionResetError):
                writer.close()
                return
            fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
            await reader.readexactly(int(fields["Content-Length"]))
            arrived.setdefault(fields["webhook-id"], time.monotonic_ns())
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    pipe.send(server.sockets[0].getsockname()[1])
    loop = asyncio.get_running_loop()
    while (asked := await loop.run_in_executor(None, pipe.recv)) is not None:
        pipe.send(len(arrived) if asked == "count" else arrived)
        if asked == "take":
            arrived = {}
    server.close()


class Bench:
    """The market's parts that deliver, over one store."""

    def __init__(self, folder: Path, pipe: Connection) -> None:
        clock, random = SystemClock(), SystemRandom()
        ids = Ids(clock, random)
        self.pipe = pipe
        self.store = Store(folder / "market.sqlite3")
        keeper = SecretKeeper(create_key_ring(folder / "secrets.json", random), random)
        self.feed = Feed(self.store, clock, ids)
        self.outgoing = Outgoing(Reach.LOOPBACK_TOO, connections=AT_ONCE, connections_per_host=AT_ONCE)
        self.deliveries = WebhookDeliveries(
            self.store, self.feed, keeper, self.outgoing, clock, random, count=lambda _outcome: None
        )
        self.service = WebhookService(
            self.store, self.feed, keeper, clock, random, ids, reach=Reach.LOOPBACK_TOO,
            queued=self.deliveries.duty.wake, concluded=self.deliveries.concluded,
        )  # fmt: skip

    async def seed(self, jobs: int, accounts: list[AccountId], url: str) -> None:
        """Jobs that ended long ago, an event of each in the feed, a webhook for each account."""
        row = to_values(ALLOCATION)
        for start in range(0, jobs, _CHUNK):
            numbers = range(start, min(jobs, start + _CHUNK))
            rows = [
                {
                    **row, "id": f"alloc_{n}", "account_id": accounts[n % len(accounts)], "escrow": f"escrow_{n}",
                    "key": f"key_{n}", "nonce": n + 1, "state": "released", "reason": 1,
                }
                for n in numbers
            ]  # fmt: skip

            def write(tx: Transaction, rows: list[dict[str, Any]] = rows) -> None:
                tx.execute(insert(_ALLOCATIONS), rows)
                for each in rows:
                    self.happen(tx, AccountId(each["account_id"]))

            await self.store.write(write)
        await self.store.write(lambda tx: Events(tx).put_mark(MARK, Events(tx).newest()))
        for number, account in enumerate(accounts):
            await self.service.create(account, url=f"{url}/{number}", patterns=["*"], description="", active=True)

    def happen(self, tx: Transaction, account: AccountId) -> int:
        """A job's end, as the market tells of it."""
        data = {
            "job_id": ALLOCATION.job_id, "status": "completed", "reason": "completed", "reason_number": 1,
            "cost": "0.008300", "currency": "USDC", "attempt": 1,
        }  # fmt: skip
        return self.feed.append(tx, account, EventType.JOB_COMPLETED, ALLOCATION.job_id, data)

    async def ask(self, what: str) -> Any:
        self.pipe.send(what)
        return await asyncio.get_running_loop().run_in_executor(None, self.pipe.recv)

    async def arrived(self, count: int) -> dict[str, int]:
        while await self.ask("count") < count:  # noqa: ASYNC110 - it is another process that counts
            await asyncio.sleep(0.05)
        found: dict[str, int] = await self.ask("take")
        return found

    async def paced(self, accounts: list[AccountId], count: int) -> dict[str, float]:
        """Milliseconds from the commit of an event to its arrival, one event at a time."""
        running = asyncio.create_task(self.deliveries.duty.run())
        committed: dict[str, int] = {}
        for number in range(count):
            account = accounts[number % len(accounts)]
            cursor = await self.store.write(lambda tx, account=account: self.happen(tx, account))  # type: ignore[misc]
            at = time.monotonic_ns()
            event = await self.store.read(
                lambda tx, cursor=cursor: tx.row("SELECT id FROM events WHERE cursor = :c", {"c": cursor})
            )  # type: ignore[misc]
            committed[event[0]] = at  # type: ignore[index]
            await asyncio.sleep(0.02)
        arrived = await self.arrived(count)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        times = sorted((arrived[event] - at) / 1e6 for event, at in committed.items())
        return {
            "p50_ms": round(statistics.median(times), 2),
            "p99_ms": round(times[int(len(times) * 0.99) - 1], 2),
            "max_ms": round(times[-1], 2),
        }

    async def queued(self, accounts: list[AccountId], count: int) -> dict[str, float]:
        """Deliveries a second of a queue that was filled before."""

        def write(tx: Transaction) -> None:
            for number in range(count):
                self.happen(tx, accounts[number % len(accounts)])

        await self.store.write(write)
        begun = time.monotonic()
        running = asyncio.create_task(self.deliveries.duty.run())
        await self.arrived(count)
        left = count
        while left:
            row = await self.store.read(
                lambda tx: tx.row("SELECT count(*) FROM webhook_deliveries WHERE due_at_ms IS NOT NULL")
            )
            left = row[0] if row else 0
        elapsed = time.monotonic() - begun
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return {"seconds": round(elapsed, 2), "deliveries_per_second": round(count / elapsed)}

    async def bare(self, url: str, count: int) -> dict[str, float]:
        """The peer: signed requests without a queue."""
        secret = os.urandom(32)
        numbers = iter(range(count))

        async def send() -> None:
            for number in numbers:
                body = b'{"n":%d}' % number + b" " * 400
                seconds = int(time.time())
                headers = {
                    "Content-Type": "application/json", "webhook-id": f"bare_{number}",
                    "webhook-timestamp": str(seconds),
                    "webhook-signature": signature_header([secret], f"bare_{number}", seconds, body),
                }  # fmt: skip
                async with self.outgoing.request("POST", url, headers=headers, data=body, total_s=10) as response:
                    await response.read()

        begun = time.monotonic()
        await asyncio.gather(*(send() for _ in range(AT_ONCE)))
        elapsed = time.monotonic() - begun
        await self.arrived(count)
        return {"seconds": round(elapsed, 2), "requests_per_second": round(count / elapsed)}


async def measure(arguments: argparse.Namespace, pipe: Connection, folder: Path) -> dict[str, Any]:
    url = f"http://127.0.0.1:{pipe.recv()}"
    accounts = [AccountId(f"acct_{number}") for number in range(arguments.accounts)]
    bench = Bench(folder, pipe)
    await bench.store.open()
    await bench.seed(arguments.jobs, accounts, url)
    bare = await bench.bare(url, arguments.events)
    paced = await bench.paced(accounts, arguments.paced)
    queued = await bench.queued(accounts, arguments.events)
    await bench.deliveries.stop()
    await bench.store.close()
    return {
        "bench": "webhooks",
        "commit": commit(),
        "load_average": [round(each, 1) for each in os.getloadavg()],
        "jobs_in_store": arguments.jobs,
        "accounts": arguments.accounts,
        "requests_at_once": AT_ONCE,
        "commit_to_arrival": {"events": arguments.paced, **paced},
        "queue": {"events": arguments.events, **queued},
        "peer": {"name": "the same client without a queue", "events": arguments.events, **bare},
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench webhooks", description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--accounts", type=int, default=50)
    parser.add_argument("--events", type=int, default=5_000)
    parser.add_argument("--paced", type=int, default=200)
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    receiver = context.Process(target=receive, args=(theirs,), daemon=True)
    receiver.start()
    with tempfile.TemporaryDirectory(prefix="bench-webhooks-") as folder:
        found = asyncio.run(measure(arguments, ours, Path(folder)))
    ours.send(None)
    receiver.join()
    json.dump(found, sys.stdout, indent=2)
    sys.stdout.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
