"""Output of one attempt on its way to the market: numbered, digested, coalesced, capped.

The engine keeps the lines; only the number of the first one that the market lacks is journalled. After a restart
the log is read again from its start: the digest comes out the same, and what the market has is not sent again.
"""

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from marketplace.protocol.control import MAX_FRAME_BYTES, MAX_LOG_LINES, LogLine
from marketplace.protocol.digests import LogDigest
from node.runtime.errors import ContainerVanished, EngineUnavailable
from node.runtime.port import AttemptKey, LogStream, Runtime

# Chosen: below what a person notices, above what would send a frame a line.
COALESCE_S: Final = 0.2
# The envelope, ids and the token of a frame; the lines get the rest.
_BATCH_BYTES: Final = MAX_FRAME_BYTES - 16 * 1024
_ENGINE_RETRY_S: Final = 1.0
_REFUSED_RETRY_S: Final = 1.0
_NODE_STREAM: Final = 3
_STREAMS: Final = {LogStream.STDOUT: 1, LogStream.STDERR: 2, LogStream.RUNTIME: _NODE_STREAM}

_log = structlog.get_logger("node.logs")

Send = Callable[[tuple[LogLine, ...]], Awaitable[int]]
"""Sends lines; answers the number of the first line that the market does not have."""


class LogPump:
    """Reads one container's output to its end, and sends it. `run` is its one task."""

    def __init__(self, runtime: Runtime, key: AttemptKey, *, limit_bytes: int, next_seq: int, send: Send) -> None:
        self._runtime = runtime
        self._key = key
        self._limit_bytes = limit_bytes
        self._next_seq = next_seq
        self._send = send
        self._digest = LogDigest()
        self._seq = 0
        self._bytes = 0
        self._waiting: deque[LogLine] = deque()
        self._arrived = asyncio.Event()
        self._read_all = asyncio.Event()
        self._sent_all = asyncio.Event()

    def digest(self) -> bytes:
        """Digest of the lines read so far, 32 bytes."""
        return self._digest.value()

    async def read_to_end(self) -> None:
        """Until the container's last line is in the digest (after its end)."""
        await self._read_all.wait()

    async def delivered(self) -> None:
        """Until the market has every line."""
        await self._sent_all.wait()

    async def run(self) -> None:
        """Read and send until both are done."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._read())
            group.create_task(self._send_all())

    async def _read(self) -> None:
        position = None
        try:
            while True:
                try:
                    async for line in self._runtime.logs(self._key, after=position):
                        position = line.position
                        if not self._add(_STREAMS[line.stream], line.text, line.at_ns // 1_000_000):
                            return
                except EngineUnavailable:
                    await asyncio.sleep(_ENGINE_RETRY_S)
                else:
                    return
        except ContainerVanished:
            _log.warning("the container's log is gone", action="log_gone", allocation=self._key.allocation)
        finally:
            self._read_all.set()
            self._arrived.set()

    def _add(self, stream: int, raw: bytes, at_ms: int) -> bool:
        """Take one line; False when the cap is reached and reading ends."""
        text = raw.decode("utf-8", "replace").replace("\0", "\ufffd")  # as the market keeps it: both digest the same
        more = self._bytes + len(raw) <= self._limit_bytes
        if not more:
            stream, text = _NODE_STREAM, f"output beyond {self._limit_bytes} bytes is not kept"
        self._bytes += len(raw)
        self._seq += 1
        self._digest.feed(stream, text.encode())
        if self._seq >= self._next_seq:
            self._waiting.append(LogLine(seq=self._seq, at_ms=at_ms, stream=stream, text=text))
            self._arrived.set()
        return more

    async def _send_all(self) -> None:
        while True:
            await self._arrived.wait()
            if len(self._waiting) < MAX_LOG_LINES and not self._read_all.is_set():
                await self._more_or_soon()
            while self._waiting:
                batch = self._batch()
                next_seq = await self._send(batch)
                if next_seq <= batch[0].seq:
                    # The market kept none of it: it is not asked again in a tight loop.
                    await asyncio.sleep(_REFUSED_RETRY_S)
                self._next_seq = max(next_seq, self._next_seq)
                while self._waiting and self._waiting[0].seq < self._next_seq:
                    self._waiting.popleft()
            if self._read_all.is_set():
                self._sent_all.set()
                return
            self._arrived.clear()

    async def _more_or_soon(self) -> None:
        """A moment for more lines to join the batch, cut short by the end of the log."""
        try:
            async with asyncio.timeout(COALESCE_S):
                await self._read_all.wait()
        except TimeoutError:
            return

    def _batch(self) -> tuple[LogLine, ...]:
        """The first waiting lines that fit one frame."""
        lines: list[LogLine] = []
        size = 0
        for line in self._waiting:
            size += len(json.dumps(line.text).encode()) + 96
            if lines and (size > _BATCH_BYTES or len(lines) == MAX_LOG_LINES):
                break
            lines.append(line)
        return tuple(lines)
