"""The floor under every HTTP bench: aiohttp on uvloop with one handler that reads the body and answers the same bytes.

In a process of its own, as the market is; prints its port, and ends with its standard input. It checks nothing, keeps
nothing and knows nobody: whatever a bench's service does comes on top of what this takes.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psutil
import uvloop
from aiohttp import web

from scripts.load import drive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def measure_floor(make: Callable[[int], bytes], total: int, *, connections: int) -> dict[str, object]:
    """The same requests to a server that does nothing with them."""
    with _bare_server() as (port, process):
        drive(port, make, min(total, 500), connections=connections)
        before = process.cpu_times()
        load = drive(port, make, total, connections=connections)
        after = process.cpu_times()
    used_s = after.user + after.system - before.user - before.system
    return {**load.summary(), "cpu_ms_each": round(used_s * 1000 / total, 4)}


@contextmanager
def _bare_server() -> Iterator[tuple[int, psutil.Process]]:
    command = [sys.executable, "-m", "scripts.bare_server"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None  # noqa: S101 - PIPE
        assert process.stdout is not None  # noqa: S101
        yield int(process.stdout.readline()), psutil.Process(process.pid)
        process.stdin.close()


async def main() -> None:
    answer = b'{"id":"' + b"x" * 400 + b'"}'

    async def handle(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=answer, content_type="application/json")

    application = web.Application(client_max_size=8 << 20)
    application.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    uvloop.run(main())
