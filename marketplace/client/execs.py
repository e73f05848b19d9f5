"""A command beside a running job, over a WebSocket: input, a terminal's size, output, its exit code."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from aiohttp import ClientConnectionError, ClientWebSocketResponse, WSMsgType

from marketplace.client.calls import Calls, segment
from marketplace.client.errors import ApiError, MalformedAnswer, Unreachable
from marketplace.client.transport import decode_json

MAX_PIECE_BYTES: Final = 32 << 10
"""Of input in one message; half of what the market takes."""
_STDERR: Final = 2


@dataclass(frozen=True, slots=True)
class Terminal:
    """A terminal's size."""

    rows: int
    cols: int


@dataclass(frozen=True, slots=True)
class ExecOutput:
    """What the command wrote. On a terminal all of it is standard output."""

    data: bytes
    stderr: bool


@dataclass(frozen=True, slots=True)
class ExecEnd:
    """The command has ended. exit_code: None where its node can't tell."""

    exit_code: int | None


class RemoteCommand:
    """A command that runs beside a job. It loses its input and output when the block that it was opened in ends."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self._socket = socket

    async def output(self) -> AsyncIterator[ExecOutput | ExecEnd]:
        """Output as it comes, and last its end. Raises ApiError, Unreachable when it is cut off, MalformedAnswer."""
        async for message in self._socket:
            if message.type is WSMsgType.BINARY:
                yield ExecOutput(message.data[1:], message.data[:1] == bytes([_STDERR]))
            elif message.type is WSMsgType.TEXT:
                yield _ended(message.data)
                return
        raise Unreachable("the connection to the command ended before the command did; it may run on beside the job")

    async def write(self, data: bytes) -> None:
        """Input; returns once it is on its way. Nothing is an error once the command has ended."""
        for at in range(0, len(data), MAX_PIECE_BYTES):
            await self._send(data[at : at + MAX_PIECE_BYTES])

    async def end_input(self) -> None:
        """No more input comes."""
        await self._send({"end_input": True})

    async def resize(self, terminal: Terminal) -> None:
        """The terminal has another size."""
        await self._send({"resize": {"rows": terminal.rows, "cols": terminal.cols}})

    async def _send(self, message: bytes | dict[str, object]) -> None:
        if self._socket.closed:
            return
        try:
            if isinstance(message, bytes):
                await self._socket.send_bytes(message)
            else:
                await self._socket.send_str(json.dumps(message))
        except (ClientConnectionError, ConnectionError):
            return  # whoever reads the output hears of it


@asynccontextmanager
async def open_command(
    calls: Calls, job_id: str, command: tuple[str, ...], terminal: Terminal | None
) -> AsyncIterator[RemoteCommand]:
    """Start a command in the job's container. terminal: None runs it without one.

    Raises ApiError: the job isn't running, its node can't, too many run already, or there is no such command.
    """
    order: dict[str, object] = {"cmd": list(command), "tty": terminal is not None}
    if terminal is not None:
        order |= {"rows": terminal.rows, "cols": terminal.cols}
    async with calls.socket(f"/v1/jobs/{segment(job_id)}/exec") as socket:
        await socket.send_str(json.dumps(order))
        message = await socket.receive()
        if message.type is not WSMsgType.TEXT:
            raise Unreachable("the market ended the connection before the command began")
        if _text(message.data) != {"opened": True}:
            _ended(message.data)
        yield RemoteCommand(socket)


def _ended(text: str) -> ExecEnd:
    """The last message. Raises ApiError for one that says what went wrong, MalformedAnswer."""
    match _text(text):
        case {"exit_code": int() | None as code}:
            return ExecEnd(code)
        case {"error": {"code": str(code), "message": str(message)}}:
            raise ApiError(code=code, status=409, message=message)
        case _:
            raise MalformedAnswer("the market says something of the command that can't be read")


def _text(text: str) -> object:
    return decode_json(text.encode())
