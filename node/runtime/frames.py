"""Follows a container's output as the engine frames it: stream, time of reading, bytes."""

import asyncio
import struct
from collections.abc import AsyncGenerator

from node.runtime.engine import QUICK_S, Engine
from node.runtime.inspection import nanoseconds
from node.runtime.port import LOG_LINE_BYTES, LogStream

_HEADER = struct.Struct(">BxxxL")  # Docker's HTTP API, "Attach to a container", stream format
_STREAMS = {1: LogStream.STDOUT, 2: LogStream.STDERR}


async def frames(
    engine: Engine, name: str, since_ns: int, *, follow: bool
) -> AsyncGenerator[tuple[LogStream, int, bytes]]:
    """Output from since_ns on. follow: until the container ends, else what is there now.

    Raises EngineUnavailable when the connection breaks, EngineRefused (404) when there is no such container.
    """
    seconds, nanos = divmod(since_ns, 1_000_000_000)
    params = {"stdout": "1", "stderr": "1", "timestamps": "1", "since": f"{seconds}.{nanos:09}"}
    if follow:
        params["follow"] = "1"
    timeout_s = None if follow else 10 * QUICK_S
    async with engine.stream("GET", f"containers/{name}/logs", params=params, timeout_s=timeout_s) as answer:
        while True:
            try:
                kind, length = _HEADER.unpack(await answer.content.readexactly(_HEADER.size))
                data = await answer.content.readexactly(length)
            except asyncio.IncompleteReadError:
                return  # the end, or a broken connection: the caller reads the container's state and knows
            stamp, _, text = data.partition(b" ")
            if len(text) < LOG_LINE_BYTES and not text.endswith(b"\n"):
                text += b"\n"  # Docker's `local` driver loses the newline behind a line of several pieces
            yield _STREAMS[kind], nanoseconds(stamp.decode("ascii")), text
