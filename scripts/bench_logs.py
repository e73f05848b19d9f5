"""Log lines a node delivers: stored a second, and how soon a renter who follows has them; 100,000 jobs in the store.

Batches go to `POST /v1/nodes/{id}/allocations/{id}/logs` as the node's own daemon sends them, for several jobs at once.
First as fast as they are answered, then at the specified 50,000 lines a second while some jobs are followed as event
streams; a line's latency is from when its batch was sent until the follower read it. The limit, in the same run: the
same batches to a bare aiohttp handler that reads them and forgets them (scripts/bare_server.py).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import selectors
import socket
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import psutil

from marketplace.domain.allocations import job_of
from marketplace.domain.ids import AllocationId
from scripts.bare_server import measure_floor
from scripts.bench_submit import market_under_load
from scripts.load import Load, drive, request
from scripts.local_stack import Stack

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

BATCH: Final = 200
"""Lines of a POST; a daemon sends up to 500."""
FOLLOWED: Final = 4
_LINE: Final = re.compile(rb"id: 1\.(\d+)\n")


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench logs", description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000, help="finished jobs in the store")
    parser.add_argument("--running", type=int, default=16, help="jobs that print")
    parser.add_argument("--lines", type=int, default=400_000, help="as fast as they are taken")
    parser.add_argument("--seconds", type=int, default=8, help="at the given rate, followed")
    parser.add_argument("--per-second", type=int, default=50_000, help="lines of that rate")
    options = parser.parse_args()
    answer: dict[str, Any] = {
        "bench": "logs", "load_average_before": os.getloadavg()[0], "cores": os.cpu_count(),
        "jobs_in_store": options.jobs, "jobs_that_print": options.running, "lines_of_a_batch": BATCH,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as home:
        stack = Stack(Path(home))
        try:
            stack.start_chain()
            stack.init_market()
            answer |= measure(stack, options)
        finally:
            stack.stop()
    answer["load_average_after"] = os.getloadavg()[0]
    print(json.dumps(answer, indent=2))
    return 0


def measure(stack: Stack, options: argparse.Namespace) -> dict[str, Any]:
    arguments = ["--stand-in", "--jobs", str(options.jobs), "--running", str(options.running)]
    arguments += ["--file", str(stack.home / "logs.sqlite3")]
    with market_under_load(stack, *arguments) as served:
        feed = _Feed(served)
        process = psutil.Process(served["process"])
        flat_out = options.lines // BATCH
        paced = options.seconds * options.per_second // BATCH
        before = process.cpu_times()
        load = drive(served["port"], feed.batch, flat_out, connections=options.running)
        after = process.cpu_times()
        used_s = after.user + after.system - before.user - before.system
        stored = {
            **_lines(load), **load.summary(), "cpu_us_per_line": round(used_s * 1e6 / (flat_out * BATCH), 2),
        }  # fmt: skip
        with _Followers(served, after=[feed.sent(job, flat_out) for job in range(FOLLOWED)]) as arrivals:
            load = drive(
                served["port"], lambda n: feed.batch(n + flat_out), paced, connections=options.running,
                per_second=options.per_second / BATCH,
            )  # fmt: skip
            latencies = sorted(_latencies(feed, load, flat_out, arrivals(feed.sent(0, flat_out + paced))))
    floor = measure_floor(feed.batch, flat_out, connections=options.running)
    return {
        "stored, as fast as taken": stored,
        f"followed at {options.per_second} lines a second": {
            **_lines(load), "followed_jobs": FOLLOWED, "lines_read": len(latencies),
            **{f"follow_p{p}_ms": round(latencies[len(latencies) * p // 100], 1) for p in (50, 95, 99)},
        },
        "limit: bare aiohttp, batches read and forgotten": floor,
    }  # fmt: skip


class _Feed:
    """Batches of lines: number n is of job n mod jobs, so that each job's lines go over one connection, in order."""

    def __init__(self, served: dict[str, Any]) -> None:
        self._node = served["node"]
        self._running = served["running"]

    def batch(self, number: int) -> bytes:
        allocation, lease = self._running[number % len(self._running)]
        first = number // len(self._running) * BATCH + 1
        now = time.time_ns() // 1_000_000
        lines = [
            {"seq": seq, "at_ms": now, "stream": 1, "text": f"step {seq}: loss 0.0421, 118.3 samples/s, lr 3.0e-04"}
            for seq in range(first, first + BATCH)
        ]
        body = json.dumps({"allocation_id": allocation, "attempt": 1, "lease_token": lease, "lines": lines}).encode()
        path = f"/v1/nodes/{self._node['id']}/allocations/{allocation}/logs"
        return request("POST", path, self._node["token"], body)

    def sent(self, job: int, batches: int) -> int:
        """The last line of a job that so many batches of all jobs hold."""
        return len(range(job, batches, len(self._running))) * BATCH

    def batch_of(self, job: int, seq: int) -> int:
        """The batch that a line of a job is in."""
        return (seq - 1) // BATCH * len(self._running) + job


def _lines(load: Load) -> dict[str, object]:
    return {"lines": len(load.latencies) * BATCH, "lines_per_second": round(len(load.latencies) * BATCH / load.seconds)}


def _latencies(feed: _Feed, load: Load, skipped: int, arrivals: list[list[tuple[float, int]]]) -> list[float]:
    """Milliseconds from sending to reading, of every followed line."""
    return [
        (at - load.sent_at[feed.batch_of(job, seq) - skipped]) * 1000
        for job, read in enumerate(arrivals)
        for at, seq in read
    ]


class _Followers:
    """A process that follows the first jobs; called with the last line to wait for, it gives (instant, line) of each.

    after: the last line of each that is not wanted.
    """

    def __init__(self, served: dict[str, Any], after: list[int]) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=follow, args=(theirs, served, after), daemon=True)

    def __enter__(self) -> Self:
        self._process.start()
        self._pipe.recv()
        return self

    def __call__(self, last: int) -> list[list[tuple[float, int]]]:
        self._pipe.send(last)
        found: list[list[tuple[float, int]]] = self._pipe.recv()
        return found

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join()


def follow(pipe: Connection, served: dict[str, Any], after: list[int]) -> None:
    """In the followers' process: read all streams until each has the last line."""
    selector = selectors.DefaultSelector()
    read: list[list[tuple[float, int]]] = [[] for _ in after]
    rest = [b""] * len(after)
    for job, start in enumerate(after):
        allocation = AllocationId(served["running"][job][0])
        connection = socket.create_connection(("127.0.0.1", served["port"]))
        path = f"/v1/jobs/{job_of(allocation)}/logs?follow=true&since=1.{start}"
        connection.sendall(request("GET", path, served["tokens"][job], b"", "Accept: text/event-stream\r\n"))
        head = connection.recv(1 << 16)
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(head.decode())
        selector.register(connection, selectors.EVENT_READ, job)
    pipe.send("following")
    last = 0
    deadline = time.monotonic() + 120
    while not last or any(not lines or lines[-1][1] < last for lines in read):
        if pipe.poll():
            last = pipe.recv()
        if time.monotonic() > deadline:
            raise SystemExit(f"lines are missing: {[lines[-1:] for lines in read]} of {last}")
        for key, _ in selector.select(0.1):
            job = key.data
            part = rest[job] + key.fileobj.recv(1 << 18)  # type: ignore[union-attr]  # a socket
            now = time.perf_counter()
            end = part.rfind(b"\n") + 1
            rest[job] = part[end:]
            read[job] += [(now, int(seq)) for seq in _LINE.findall(part[:end])]
    pipe.send(read)


if __name__ == "__main__":
    raise SystemExit(main())
