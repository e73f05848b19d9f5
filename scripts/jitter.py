"""A machine with more work than cores, for one command: its processes stand still for random moments.

usage: python -m scripts.jitter [--seed N] [--most-ms N] [--apart-ms N] -- COMMAND …

Every now and then a process of the command's tree is stopped and goes on a moment later, as it would be by a busy
scheduler, a slow disk or a pause of the whole machine. What a test's outcome must not depend on shows within minutes:

    python -m scripts.jitter --seed 1 -- .venv/bin/pytest -n 0 tests/node/test_transfers.py

The exit code is the command's. The same seed draws the same pauses; when they fall is the machine's own business.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import time

import psutil

LOOK_S = 1
"""How old a list of the tree's processes may be: reading it costs as much as a short pause."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m scripts.jitter", description="Stops processes for random moments.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--most-ms", type=int, default=600, help="longest pause; a quarter of it is usual")
    parser.add_argument("--apart-ms", type=int, default=150, help="usual time between two pauses")
    parser.add_argument("command", nargs="+")
    given = parser.parse_args()
    chance = random.Random(given.seed)  # noqa: S311 - a load, no secret
    with subprocess.Popen(given.command) as process:
        disturb(process, chance, most_s=given.most_ms / 1_000, apart_s=given.apart_ms / 1_000)
    sys.exit(process.returncode)


def disturb(process: subprocess.Popen[bytes], chance: random.Random, *, most_s: float, apart_s: float) -> None:
    """Until it has ended. Half of the pauses are its own, the others anybody's of its tree."""
    pids, looked_at = [process.pid], 0.0
    while process.poll() is None:
        time.sleep(chance.expovariate(1 / apart_s))
        if time.monotonic() - looked_at > LOOK_S:
            pids, looked_at = tree(process.pid), time.monotonic()
        pause(
            process.pid if chance.random() < 1 / 2 else chance.choice(pids), min(chance.expovariate(4 / most_s), most_s)
        )


def tree(pid: int) -> list[int]:
    """The process and all that it has begun and that is still there."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    return [pid]


def pause(pid: int, seconds: float) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            os.kill(pid, signal.SIGCONT)


if __name__ == "__main__":
    main()
