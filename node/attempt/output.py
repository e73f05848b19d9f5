"""The attempt's log on its way to the market, and what its vouchers say of it."""

import asyncio
import contextlib
from typing import Final

import structlog

from marketplace.protocol.control import FrameType, LogLine, Logs, LogsAck
from marketplace.protocol.digests import LogDigest
from node.attempt.work import Work
from node.errors import MarketRefused
from node.logs import LogPump

# Chosen: the container has ended, so its log is on disk; a minute covers an engine that restarts.
LOG_END_S: Final = 60.0

_log = structlog.get_logger("node.attempt")


class Output:
    """The log of one attempt; nothing is read of it before `start`."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._pump: LogPump | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Read and send from here on; once is enough."""
        if self._pump is not None:
            return
        work = self._work
        self._pump = LogPump(
            work.tools.runtime,
            work.record.key,
            limit_bytes=work.terms.log_limit_bytes,
            next_seq=work.record.log_next_seq,
            send=self._send,
        )
        self._task = work.spawn(self._pump.run())

    def digest(self) -> bytes:
        """Of the lines read so far, 32 bytes."""
        return self._pump.digest() if self._pump else LogDigest().value()

    async def read_to_end(self) -> None:
        """Until the last line is in the digest, or it took too long (after the container's end)."""
        if self._pump is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOG_END_S):
                    await self._pump.read_to_end()

    async def sent(self) -> None:
        """Until the market has every line; at once where nothing is sent."""
        if self._task is not None:
            await asyncio.wait({self._task})

    async def _send(self, lines: tuple[LogLine, ...]) -> int:
        """Lines to the market. Lines that it refuses for good are dropped: the container must go some day."""
        work, key = self._work, self._work.record.key
        body = Logs(allocation_id=key.allocation, attempt=key.attempt, lease_token=work.lease_token, lines=lines)
        try:
            ack = await work.tools.channel.insist(FrameType.LOGS, body, LogsAck, names=work.names)
        except MarketRefused as error:
            _log.warning("logs refused", action="logs_refused", code=error.code, lines=len(lines), **work.names)
            return lines[-1].seq + 1
        if ack.next_seq > work.record.log_next_seq:
            work.save(log_next_seq=ack.next_seq)
        return ack.next_seq
