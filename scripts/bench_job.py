"""A job of 5 s of work, submitted and paid through the whole market, against bare `docker run` of the same image.

Both run on the same engine in the same minutes, in turns. The peer does none of what the market does: no quote,
no escrow, no meter, no sandbox, no payment. The target of the design is a ratio of at most 1.25.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from scripts.demo_run import LAMPORTS_PER_SIGNATURE, attempt_timings, moment
from scripts.local_stack import ROOT, Stack, engine, images

WORK = ("sleep", "5")
UNIT_PRICE = "0.00002"


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench job", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="how often each side runs")
    runs = parser.parse_args().runs
    image = images()["busybox"]
    host = engine()
    with tempfile.TemporaryDirectory() as home:
        stack = Stack(Path(home), docker_host=host)
        try:
            answer = measure(stack, image, host, runs)
        finally:
            stack.stop()
    print(json.dumps(answer, indent=2))
    return 0


def measure(stack: Stack, image: str, host: str, runs: int) -> dict[str, Any]:
    stack.start_chain()
    stack.init_market()
    stack.start_market()
    stack.create_wallet(deposit="5")
    stack.add_node("alpha", floor=UNIT_PRICE, check_image=image)
    stack.start_node("alpha")
    stack.reaver(
        "allow", "grant", "--per-job", "1", "--per-day", "5", "--total", "5", "--max-price-per-hour", "1",
        "--expires", "1d",
    )  # fmt: skip
    bare, market, timings, signatures, lamports = [], [], [], set(), set()
    rent_left = 0
    for _ in range(runs + 1):
        bare.append(run_bare(image, host))
        took, job = run_market(stack, image)
        market.append(took)
        timings.append(attempt_timings(job))
        s = job["settlement"]
        signatures.add(s["signatures"])
        lamports.add(s["signatures"] * LAMPORTS_PER_SIGNATURE)
        rent_left += s["rent_left_lamports"]
    # the first of each warms caches and is not counted
    bare, market, timings = bare[1:], market[1:], timings[1:]
    bare_ms, market_ms = statistics.median(bare), statistics.median(market)
    return {
        "bench": "job",
        "commit": commit(),
        "cores": os.cpu_count(),
        "runs": runs,
        "work_s": 5,
        "peer": "docker run of the same image on the same engine",
        "peer_ms": {"median": bare_ms, "min": min(bare), "max": max(bare)},
        "job_ms": {"median": market_ms, "min": min(market), "max": max(market)},
        "ratio": round(market_ms / bare_ms, 3),
        "overhead_ms": market_ms - bare_ms,
        "submit_to_claimed_ms": statistics.median(t["submit_to_claimed"] for t in timings),
        "claimed_to_running_ms": statistics.median(t["claimed_to_running"] for t in timings),
        "exit_to_paid_ms": statistics.median(t["exit_to_paid"] for t in timings),
        "signatures": sorted(signatures),
        "fees_lamports": sorted(lamports),
        "rent_left_lamports": rent_left,
        "slot_ms": stack.slot_ms,
    }


def run_bare(image: str, host: str) -> int:
    started = time.monotonic()
    subprocess.run(
        [shutil.which("docker") or "/usr/bin/docker", "run", "--rm", image, *WORK],
        check=True,
        env={**os.environ, "DOCKER_HOST": host},
    )
    return round((time.monotonic() - started) * 1000)


def run_market(stack: Stack, image: str) -> tuple[int, dict[str, Any]]:
    """Milliseconds from the submission to the answer that it has ended, as the job's own clock tells, and the job.

    The CLI's start-up (a Python interpreter) is not the market's and is left out.
    """
    answer = stack.reaver(
        "run", "--image", image, "--gpu", "cpu-small", "--max-minutes", "5", "--disk-gb", "1", "--", *WORK
    )
    job = stack.wait_settled(answer["job_id"])

    created, ended = moment(job["created_at"]), moment(job["attempts"][-1]["ended_at"])
    return round((ended - created) * 1000), job


def commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
