"""Lists of one account over HTTP, with 1,000 and with 100,000 jobs that are all its own; and quotes, one by one.

Figures of both stand beside each other: no list may slow with history (tests assert that by plans and counts). The
history's total is the one that counts what its span holds, from an index alone: a day is a thirtieth of the jobs. The
limit, in the same run, is a bare aiohttp handler (scripts/bare_server.py).
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil

from scripts.bare_server import measure_floor
from scripts.bench_submit import JOB, market_under_load
from scripts.load import drive, request
from scripts.local_stack import Stack

if TYPE_CHECKING:
    from collections.abc import Callable

AT_ONCE: Final = 4
QUOTES: Final = 300


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench list", description=__doc__)
    parser.add_argument("--requests", type=int, default=800, help="of each list")
    parser.add_argument("--jobs", type=int, nargs="+", default=[1_000, 100_000])
    options = parser.parse_args()
    answer: dict[str, Any] = {
        "bench": "list", "load_average_before": os.getloadavg()[0], "cores": os.cpu_count(),
        "requests_at_once": AT_ONCE,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as home:
        stack = Stack(Path(home))
        try:
            stack.start_chain()
            stack.init_market()
            for jobs in options.jobs:
                answer[f"{jobs} jobs of the account"] = measure(stack, jobs, options.requests)
        finally:
            stack.stop()
    answer["limit: bare aiohttp"] = measure_floor(
        lambda _: request("GET", "/v1/jobs?limit=20", "token"), options.requests, connections=AT_ONCE
    )
    answer["load_average_after"] = os.getloadavg()[0]
    print(json.dumps(answer, indent=2))
    return 0


def measure(stack: Stack, jobs: int, requests: int) -> dict[str, Any]:
    arguments = ["--stand-in", "--jobs", str(jobs), "--wallets", "1", "--file", str(stack.home / f"{jobs}.sqlite3")]
    yesterday = (datetime.now(UTC) - timedelta(days=1)).date().isoformat()
    lists = {
        "every job": "/v1/jobs?limit=20",
        "one word": "/v1/jobs?limit=20&status=completed",
        "several words": "/v1/jobs?limit=20&status=running,completed,failed",
        "a day of the history": f"/v1/jobs/history?limit=20&from={yesterday}&to={yesterday}",
    }
    with market_under_load(stack, *arguments) as served:
        token = served["tokens"][0]
        process = psutil.Process(served["process"])

        def run(make: Callable[[int], bytes], total: int, connections: int) -> dict[str, Any]:
            drive(served["port"], make, 20, connections=connections)
            before = process.cpu_times()
            load = drive(served["port"], make, total, connections=connections)
            after = process.cpu_times()
            used_s = after.user + after.system - before.user - before.system
            return {**load.summary(), "cpu_ms_each": round(used_s * 1000 / total, 3)}

        found: dict[str, Any] = {
            name: run(lambda _, path=path: request("GET", path, token), requests, AT_ONCE)  # type: ignore[misc]
            for name, path in lists.items()
        }
        body = json.dumps({**JOB, "seconds": 300, "maxMinutes": None}).encode()
        started = time.time_ns()
        found["POST /v1/quote, one by one"] = run(
            lambda n: request("POST", "/v1/quote", token, body, f"Idempotency-Key: quote-{started}-{n}\r\n"), QUOTES, 1
        )
    return found


if __name__ == "__main__":
    raise SystemExit(main())
