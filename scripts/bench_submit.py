"""Durable submissions: HTTP in, intent and queue row durable, answer out; 100,000 finished jobs in the store.

The sender is a stand-in (scripts/market_under_load.py) and the limits are raised; the same with the chain stands
beside it. The limit is a bare aiohttp handler under the same requests (scripts/bare_server.py). The peer, in the same
run, is Dramatiq with Redis, the fastest Python queue that takes jobs one by one (its process calls it directly, without
HTTP, credentials, keys or money), with Redis as it comes and with an fsync for each job, as the market does.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from marketplace.services.jobs import MAX_UNASSIGNED
from scripts.bare_server import measure_floor
from scripts.load import drive, request
from scripts.local_stack import ROOT, Stack
from scripts.peers import enqueue_with_dramatiq

if TYPE_CHECKING:
    from collections.abc import Iterator

JOB = {
    "image": "docker.io/library/busybox:latest", "command": ["true"], "gpu": "cpu-small", "region": "eu",
    "maxMinutes": 5, "max_price_per_hour": "1",
}  # fmt: skip
WALLETS = 2_000
GROUP = 10
"""Jobs of a group here: with those submitted before it a wallet stays below what it may have unassigned."""
WARM_UP = WALLETS
"""One submission a wallet: each token is verified once, and then known, as in use."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench submit", description=__doc__)
    parser.add_argument("--submissions", type=int, default=10_000, help="with the stand-in")
    parser.add_argument("--groups", type=int, default=200, help=f"groups of {GROUP} jobs, with the stand-in")
    parser.add_argument("--no-chain", action="store_true")
    parser.add_argument("--jobs", type=int, default=100_000, help="finished jobs in the store")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--database", default="", help="URL of a PostgreSQL database instead of SQLite")
    parser.add_argument("--profile", type=Path, help="where to write a profile of the market's event loop")
    parser.add_argument("--no-peer", action="store_true")
    options = parser.parse_args()
    answer: dict[str, Any] = {"load_average_before": os.getloadavg()[0], "cores": os.cpu_count(), "jobs": options.jobs}
    with tempfile.TemporaryDirectory() as home:
        stack = Stack(Path(home))
        try:
            stack.start_chain()
            stack.init_market()
            answer |= stand_in(stack, options)
            if not options.no_chain:
                answer["market, with the chain"] = with_chain(stack, options.jobs)
        finally:
            stack.stop()
        if not options.no_peer:
            answer["peer: dramatiq with redis"] = enqueue_with_dramatiq(Path(home), options.submissions)
    answer["load_average_after"] = os.getloadavg()[0]
    print(json.dumps(answer, indent=2))
    return 0


@contextmanager
def market_under_load(stack: Stack, *arguments: str) -> Iterator[dict[str, Any]]:
    """A market in a process of its own; what it printed when it served."""
    command = [sys.executable, "-m", "scripts.market_under_load", "--config", str(stack.config), *arguments]
    with (stack.home / "load.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, cwd=ROOT,
            env={**os.environ, **stack.folders()},
        )  # fmt: skip
    assert process.stdin is not None  # noqa: S101 - PIPE
    assert process.stdout is not None  # noqa: S101
    try:
        line = process.stdout.readline()
        if not line:
            raise SystemExit((stack.home / "load.log").read_text()[-3000:])
        yield json.loads(line)
    finally:
        process.stdin.close()
        process.wait(timeout=60)
        process.stdout.close()
        errors = (stack.home / "load.log").read_text()
        if errors:
            print(errors[:3000], file=sys.stderr)


def stand_in(stack: Stack, options: argparse.Namespace) -> dict[str, object]:
    arguments = ["--stand-in", "--jobs", str(options.jobs), "--wallets", str(WALLETS), "--past", str(stack.home)]
    arguments += ["--file", str(stack.home / "stand-in.sqlite3")]
    if options.database:
        arguments += ["--database", options.database]
    if options.profile:
        arguments += ["--profile", str(options.profile)]
    with market_under_load(stack, *arguments) as served:
        port, tokens = served["port"], served["tokens"]

        def make(number: int) -> bytes:
            body = json.dumps({**JOB, "name": f"bench {number}"}).encode()
            key = f"Idempotency-Key: bench-{number}\r\n"
            return request("POST", "/v1/jobs", tokens[number % WALLETS], body, key)

        floor = measure_floor(make, options.submissions, connections=options.connections)
        drive(port, make, WARM_UP, wanted=201)
        process = psutil.Process(served["process"])
        if options.profile:
            process.send_signal(signal.SIGUSR1)
        before = process.cpu_times()
        load = drive(
            port, lambda n: make(n + WARM_UP), options.submissions, wanted=201, connections=options.connections
        )
        used_s = _used_s(process, before)
        groups = in_groups(port, tokens, process, options.groups)
    return {
        "market, STAND-IN sender, raised limits": {
            **load.summary(), "cpu_ms_per_submission": round(used_s * 1000 / options.submissions, 3),
        },
        f"the same, jobs in groups of {GROUP}": groups,
        "limit: the same requests to bare aiohttp": floor,
    }  # fmt: skip


def in_groups(port: int, tokens: list[str], process: psutil.Process, count: int) -> dict[str, object]:
    """So many groups, each of another wallet; the time and processor time until each of their jobs is submitted.

    Answers and the looks at them are part of it: three requests a group or a few more.
    """
    before, began = process.cpu_times(), time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port)

    def ask(method: str, path: str, token: str, body: object = None) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        found: dict[str, Any] = json.loads(answer.read())
        if answer.status >= 400:
            raise SystemExit(f"{method} {path}: {found}")
        return found

    made = [(token, ask("POST", "/v1/groups", token, {"job": JOB, "count": GROUP})["id"]) for token in tokens[:count]]
    for token, group in made:
        while (present := ask("GET", f"/v1/groups/{group}?limit=1", token))["summary"].get("waiting"):
            if present["blocked"]:
                raise SystemExit(f"{group}: {present['blocked']}")
            time.sleep(0.1)
    seconds = time.perf_counter() - began
    connection.close()
    jobs = count * GROUP
    return {
        "jobs": jobs, "seconds": round(seconds, 3), "per_second": round(jobs / seconds),
        "cpu_ms_per_job": round(_used_s(process, before) * 1000 / jobs, 3),
    }  # fmt: skip


def _used_s(process: psutil.Process, before: Any) -> float:
    after = process.cpu_times()
    return float(after.user + after.system - before.user - before.system)


def with_chain(stack: Stack, jobs: int) -> dict[str, object]:
    """One wallet with an allowance, and as many submissions as it may have unassigned: 20 at once."""
    with market_under_load(stack, "--jobs", str(jobs), "--wallets", str(WALLETS), "--past", str(stack.home)):
        return _on_chain(stack)


def _on_chain(stack: Stack) -> dict[str, object]:
    stack.create_wallet(deposit="5")
    stack.reaver(
        "allow", "grant", "--per-job", "1", "--per-day", "5", "--total", "5", "--max-price-per-hour", "1",
        "--expires", "1d",
    )  # fmt: skip
    token = str(stack.token())
    body = json.dumps({**JOB, "max_price_per_hour": "0.1"}).encode()

    def make(number: int) -> bytes:
        return request("POST", "/v1/jobs", token, body, f"Idempotency-Key: chain-{number}\r\n")

    port = int(stack.api_url.rsplit(":", 1)[1])
    return drive(port, make, MAX_UNASSIGNED, wanted=201, connections=MAX_UNASSIGNED).summary()


if __name__ == "__main__":
    raise SystemExit(main())
