"""Other people's queues, for comparison: each in an environment of its own, with a server of its own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

DRAMATIQ: Final = "dramatiq[redis]==2.2.1"
_CACHE: Final = Path(os.environ.get("REAVER_CACHE", Path.home() / ".cache/reaver"))
_ENQUEUE: Final = """
import json, sys, threading, time
import dramatiq
from dramatiq.brokers.redis import RedisBroker

port, total, threads = map(int, sys.argv[1:])
broker = RedisBroker(host="127.0.0.1", port=port)
dramatiq.set_broker(broker)

@dramatiq.actor
def job(image, command, name):
    pass

def send(share):
    for n in range(share):
        job.send("docker.io/library/busybox:latest", ["true"], f"bench {n}")

send(200)
workers = [threading.Thread(target=send, args=(total // threads,)) for _ in range(threads)]
started = time.perf_counter()
for worker in workers: worker.start()
for worker in workers: worker.join()
seconds = time.perf_counter() - started
sent = total // threads * threads
print(json.dumps({"jobs": sent, "seconds": round(seconds, 3), "per_second": round(sent / seconds)}))
"""


def enqueue_with_dramatiq(home: Path, jobs: int) -> dict[str, object]:
    """Jobs a second that one process gives to Redis, one by one: the best of 1 and 8 threads."""
    if shutil.which("redis-server") is None:
        return {"left out": "redis-server is not installed (Debian: apt-get install redis-server)"}
    python = _environment("dramatiq", DRAMATIQ)
    answer: dict[str, object] = {"version": DRAMATIQ}
    for name, policy in (("as it comes, no fsync per job", "no"), ("an fsync for each job", "always")):
        with _redis(home / f"redis-{policy}", policy) as port:
            runs = [_run(python, str(port), str(jobs), str(threads)) for threads in (1, 8)]
        answer[name] = max(runs, key=lambda run: run["per_second"])
    return answer


def _run(python: Path, *arguments: str) -> dict[str, float]:
    done = subprocess.run([str(python), "-c", _ENQUEUE, *arguments], check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _environment(name: str, requirement: str) -> Path:
    folder = _CACHE / "peers" / name
    python = folder / "bin/python"
    uv = str(_CACHE / "uv/bin/uv")
    if not python.exists():
        subprocess.run([uv, "venv", "--quiet", str(folder)], check=True)
    subprocess.run([uv, "pip", "install", "--quiet", "--python", str(python), requirement], check=True)
    return python


@contextmanager
def _redis(folder: Path, appendfsync: str) -> Iterator[int]:
    folder.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    command = [
        "redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "",
        "--appendonly", "no" if appendfsync == "no" else "yes", "--appendfsync", appendfsync,
    ]  # fmt: skip
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield port
    finally:
        server.terminate()
        server.wait(10)
