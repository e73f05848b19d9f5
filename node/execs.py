"""Commands beside jobs: what the market opens, fed and read piece by piece until they end.

Each piece is answered once it was passed on, and the next one waits for that: whoever is slow is waited for. A
command lives no longer than the connection that it was opened over.
"""

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Final

import structlog

from marketplace.protocol.control import (
    MAX_EXEC_BYTES,
    ExecControl,
    ExecData,
    ExecEnd,
    ExecOpen,
    FrameType,
    Message,
)
from node.control import ControlChannel
from node.errors import MarketRefused, MarketUnavailable
from node.runtime.errors import CapabilityMissing, ContainerVanished, EngineUnavailable, StartFailed
from node.runtime.port import AttemptKey, Beside, LogStream, Runtime

MAX_AT_ONCE: Final = 8
_STREAMS: Final = {LogStream.STDOUT: 1, LogStream.STDERR: 2}

_log = structlog.get_logger("node.execs")


class ExecRefused(Exception):
    """The command is not run; the message says why. Caught by the agent, which answers with it."""


@dataclass(slots=True)
class _Session:
    process: Beside
    task: asyncio.Task[None]


class Execs:
    """All commands of this daemon."""

    def __init__(self, runtime: Runtime, channel: ControlChannel) -> None:
        self._runtime = runtime
        self._channel = channel
        self._sessions: dict[str, _Session] = {}
        self._opening = 0

    async def open(self, order: ExecOpen) -> None:
        """Start it; returns once it runs. Raises ExecRefused."""
        if len(self._sessions) + self._opening >= MAX_AT_ONCE:
            raise ExecRefused(f"this node runs at most {MAX_AT_ONCE} commands beside jobs")
        self._opening += 1
        try:
            key = AttemptKey(order.allocation_id, order.attempt)
            process = await self._runtime.beside(key, order.cmd, tty=order.tty)
        except (CapabilityMissing, ContainerVanished, StartFailed, EngineUnavailable, ValueError) as error:
            raise ExecRefused(str(error)) from error
        finally:
            self._opening -= 1
        if order.tty:
            await process.resize(order.rows, order.cols)
        task = asyncio.create_task(self._read(order.exec_id, process))
        self._sessions[order.exec_id] = _Session(process, task)
        _log.info("command beside a job", action="exec", allocation=order.allocation_id, tty=order.tty)

    async def take(self, piece: ExecData) -> None:
        """Input for one. Raises ExecRefused when it has ended."""
        session = self._sessions.get(piece.exec_id)
        if session is None:
            raise ExecRefused("the command has ended")
        if piece.data:
            await session.process.write(piece.data)
        if piece.end:
            await session.process.end_input()

    async def control(self, order: ExecControl) -> None:
        """Another size, or its end."""
        session = self._sessions.get(order.exec_id)
        if session is None:
            return
        if order.rows is not None and order.cols is not None:
            await session.process.resize(order.rows, order.cols)
        if order.close:
            await self._end(order.exec_id)

    async def close(self) -> None:
        """The connection is gone, or the daemon ends."""
        for exec_id in list(self._sessions):
            await self._end(exec_id)

    async def _end(self, exec_id: str) -> None:
        session = self._sessions.pop(exec_id, None)
        if session is not None:
            session.task.cancel()
            await asyncio.gather(session.task, return_exceptions=True)
            await session.process.close()

    async def _read(self, exec_id: str, process: Beside) -> None:
        with contextlib.suppress(MarketRefused, MarketUnavailable):  # nobody listens any more
            while (output := await process.read()) is not None:
                stream, data = output
                for at in range(0, len(data), MAX_EXEC_BYTES):
                    piece = ExecData(exec_id=exec_id, stream=_STREAMS[stream], data=data[at : at + MAX_EXEC_BYTES])
                    await self._channel.ask(FrameType.EXEC_DATA, piece, Message)
            end = ExecEnd(exec_id=exec_id, exit_code=await process.exit_code())
            await self._channel.ask(FrameType.EXEC_END, end, Message)
        self._sessions.pop(exec_id, None)
        await process.close()
