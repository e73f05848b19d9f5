"""Reading one job and a page of jobs, over HTTP: with 100,000 finished jobs in the store, and with a hundredth of them.

Figures of both stand beside each other: neither may slow with history (tests assert that by plans and counts). The
limit, in the same run, is a bare aiohttp handler (scripts/bare_server.py).
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from scripts.bare_server import measure_floor
from scripts.bench_submit import WALLETS, market_under_load
from scripts.load import CONNECTIONS, drive, request
from scripts.local_stack import Stack

if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench get", description=__doc__)
    parser.add_argument("--requests", type=int, default=4_000)
    parser.add_argument("--jobs", type=int, nargs="+", default=[1_000, 100_000])
    options = parser.parse_args()
    answer: dict[str, Any] = {"load_average_before": os.getloadavg()[0], "cores": os.cpu_count()}
    with tempfile.TemporaryDirectory() as home:
        stack = Stack(Path(home))
        try:
            stack.start_chain()
            stack.init_market()
            for jobs in options.jobs:
                answer[f"{jobs} jobs"] = measure(stack, jobs, options.requests)
        finally:
            stack.stop()
    answer["limit: bare aiohttp"] = measure_floor(
        lambda _: request("GET", "/v1/jobs/job", "token"), options.requests, connections=CONNECTIONS
    )
    answer["load_average_after"] = os.getloadavg()[0]
    print(json.dumps(answer, indent=2))
    return 0


def measure(stack: Stack, jobs: int, requests: int) -> dict[str, Any]:
    arguments = (
        "--jobs",
        str(jobs),
        "--wallets",
        str(min(jobs, WALLETS)),
        "--file",
        str(stack.home / f"{jobs}.sqlite3"),
    )
    with market_under_load(stack, *arguments) as served:
        port, tokens, ids = served["port"], served["tokens"], served["jobs"]
        process = psutil.Process(served["process"])
        wallets = len(ids)

        def run(make: Callable[[int], bytes]) -> dict[str, Any]:
            drive(port, make, wallets)  # each token is verified once, and then known, as in use
            before = process.cpu_times()
            load = drive(port, make, requests)
            after = process.cpu_times()
            used_s = after.user + after.system - before.user - before.system
            return {**load.summary(), "cpu_ms_per_request": round(used_s * 1000 / requests, 3)}

        return {
            "GET /v1/jobs/{id}": run(lambda n: request("GET", f"/v1/jobs/{ids[n % wallets]}", tokens[n % wallets])),
            "GET /v1/jobs?limit=20": run(lambda n: request("GET", "/v1/jobs?limit=20", tokens[n % wallets])),
        }


if __name__ == "__main__":
    raise SystemExit(main())
