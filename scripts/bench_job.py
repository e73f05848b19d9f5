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
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marketplace.domain.ids import created_at_ms
from scripts.job_money import LAMPORTS_PER_SIGNATURE, attempt_timings, moment
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
    bare, market = [], []
    for _ in range(runs + 1):
        bare.append(run_bare(image, host))
        market.append(run_market(stack, image))
    # the first of each warms caches and is not counted
    bare, market = bare[1:], market[1:]
    timings = [attempt_timings(run.job) for run in market]
    settlements = [run.job["settlement"] for run in market]
    signatures = sorted({s["signatures"] for s in settlements})
    bare_ms = statistics.median(bare)
    ended_ms = statistics.median(run.ended_ms for run in market)
    paid_ms = statistics.median(run.paid_ms for run in market)
    return {
        "bench": "job",
        "commit": commit(),
        "cores": os.cpu_count(),
        "runs": runs,
        "work_s": 5,
        "peer": "docker run of the same image on the same engine",
        "peer_ms": spread(bare),
        "ended_ms": spread(run.ended_ms for run in market),
        "paid_ms": spread(run.paid_ms for run in market),
        "ratio_ended": round(ended_ms / bare_ms, 3),
        "ratio_paid": round(paid_ms / bare_ms, 3),
        "overhead_ms": ended_ms - bare_ms,
        "submit_to_claimed_ms": statistics.median(t["submit_to_claimed"] for t in timings),
        "claimed_to_running_ms": statistics.median(t["claimed_to_running"] for t in timings),
        "exit_to_paid_ms": statistics.median(t["exit_to_paid"] for t in timings),
        "signatures": signatures,
        "fees_lamports": [n * LAMPORTS_PER_SIGNATURE for n in signatures],
        "rent_left_lamports": sum(s["rent_left_lamports"] for s in settlements),
        "slot_ms": stack.slot_ms,
    }


def spread(values: Iterable[int]) -> dict[str, float]:
    """Median and extremes."""
    found = list(values)
    return {"median": statistics.median(found), "min": min(found), "max": max(found)}


def run_bare(image: str, host: str) -> int:
    started = time.monotonic()
    subprocess.run(
        [shutil.which("docker") or "/usr/bin/docker", "run", "--rm", image, *WORK],
        check=True,
        env={**os.environ, "DOCKER_HOST": host},
    )
    return round((time.monotonic() - started) * 1000)


@dataclass(frozen=True)
class Run:
    """One job. ended_ms: from the submission's arrival to its end; paid_ms: to the confirmed payment."""

    ended_ms: int
    paid_ms: int
    job: dict[str, Any]


def run_market(stack: Stack, image: str) -> Run:
    """Both moments are the market's own; the CLI's start-up (a Python interpreter) is left out."""
    words = ("run", "--image", image, "--gpu", "cpu-small", "--max-minutes", "5", "--disk-gb", "1", "--", *WORK)
    job = stack.wait_settled(stack.reaver(*words)["job_id"])
    created = created_at_ms(job["job_id"])
    ended, paid = (moment(t) * 1000 for t in (job["completed_at"], job["settlement"]["settled_at"]))
    return Run(round(ended - created), round(paid - created), job)


def commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
