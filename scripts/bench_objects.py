"""What it costs that a stored object survives a power cut: writes to a folder, against the same driver without it.

The peer is obstore's own `put_async` into the same kind of folder, in turns with ours: whole or not at all as well,
but on the disk only when the kernel gets to it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import obstore
from obstore.store import LocalStore

from marketplace.objects.storage import ObjectStorage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench objects", description=__doc__)
    parser.add_argument("--objects", type=int, default=200, help="small ones")
    parser.add_argument("--small", type=int, default=10_000, help="bytes of a small one")
    parser.add_argument("--large", type=int, default=256 << 20, help="bytes of a large one")
    parser.add_argument("--folder", type=Path, default=None, help="where; a temporary folder if left out")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        print(json.dumps(asyncio.run(measure(Path(folder), options)), indent=1))
    return 0


async def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    storage = ObjectStorage.in_folder(folder / "ours")
    (folder / "bare").mkdir()
    bare = LocalStore(folder / "bare")

    async def put(key: str, data: bytes) -> None:
        await obstore.put_async(bare, key, data, use_multipart=True)

    async def write(key: str, data: bytes) -> None:
        await storage.write_bytes(key, data)

    answer: dict[str, Any] = {"bench": "objects", "load_average_before": os.getloadavg()[0], "cores": os.cpu_count()}
    small, large = os.urandom(options.small), os.urandom(options.large)
    sides: dict[str, Callable[[str, bytes], Awaitable[None]]] = {"ours": write, "bare": put}
    times: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(options.objects):
        for name, store in sides.items():
            times[name].append(await timed(store(f"outputs/job{number}/1/a", small)))
    for name, store in sides.items():
        every = asyncio.gather(*(store(f"outputs/at-once{n}/1/a", small) for n in range(options.objects)))
        answer[name] = {
            "small_median_ms": round(median(times[name]) * 1000, 2),
            "small_at_once_s": round(await timed(every), 3),
            "large_s": round(median([await timed(store(f"files/large{n}", large)) for n in range(3)]), 2),
        }
    return answer


async def timed(work: Awaitable[object]) -> float:
    """Seconds that it takes."""
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


if __name__ == "__main__":
    raise SystemExit(main())
