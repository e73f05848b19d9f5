"""`/v1/jobs/{id}/exec`: a command beside a running job, over a WebSocket. Source: api.md section 5.3.

client                                   market
{"cmd": [...], "tty", "rows", "cols"} ->
<- {"opened": true}, or {"error": {...}} and the end
binary: input                         ->
{"resize": {"rows", "cols"}}          ->
{"end_input": true}                   ->
<- binary: one byte (1 stdout, 2 stderr), then output
<- {"exit_code": 0}, and the end
"""

import asyncio
from typing import Annotated, Final

import orjson
from aiohttp import WSCloseCode, WSMessage, WSMsgType, web
from pydantic import Field, StringConstraints, ValidationError

from marketplace.api.fields import JobIdPath, RequestModel
from marketplace.api.routes import Call, Route, scope
from marketplace.domain.ids import JobId
from marketplace.errors import Conflict, Malformed, MarketError, NotFound, QuotaExceeded
from marketplace.protocol.control import MAX_EXEC_BYTES, ExecData, ExecEnd
from marketplace.services.execs import ExecService, ExecSession
from marketplace.services.jobs import JobService
from marketplace.services.principals import Scope

FIRST_S: Final = 10.0
PING_S: Final = 20.0
MAX_MESSAGE_BYTES: Final = 64 << 10
"""Chosen: of one message of a client; longer input comes in several."""


class ExecRequest(RequestModel):
    """The command, and the terminal it is shown on."""

    cmd: list[Annotated[str, StringConstraints(max_length=4096, pattern="^[^\\x00]*$")]] = Field(
        min_length=1, max_length=256
    )
    tty: bool = False
    rows: int = Field(default=24, ge=1, le=1000)
    cols: int = Field(default=80, ge=1, le=1000)


class _Size(RequestModel):
    rows: int = Field(ge=1, le=1000)
    cols: int = Field(ge=1, le=1000)


class _Order(RequestModel):
    resize: _Size | None = None
    end_input: bool = False


def job_exec_routes(jobs: JobService, execs: ExecService) -> list[Route]:
    """The one socket."""

    async def connect(call: Call, job_id: JobIdPath) -> web.StreamResponse:
        allocation = await jobs.get(call.account_id, JobId(job_id))
        socket = web.WebSocketResponse(heartbeat=PING_S, max_msg_size=MAX_MESSAGE_BYTES)
        execs.check(allocation)
        if not socket.can_prepare(call.http).ok:
            # Last, so that a plain GET says why a handshake was refused: clients lose the body of that answer.
            raise Malformed('open it as a WebSocket (docs/renter.md, "What it uses, and a command beside it")')
        await socket.prepare(call.http)
        try:
            request = await _first(socket)
            session = await execs.open(
                allocation, tuple(request.cmd), tty=request.tty, rows=request.rows, cols=request.cols
            )
        except MarketError as error:
            problem = error.problem()
            await _say(socket, {"error": {"code": problem.code, "message": problem.message}})
            await socket.close(code=WSCloseCode.POLICY_VIOLATION)
            return socket
        try:
            await _serve(socket, session)
        finally:
            await execs.close(session)
        return socket

    return [
        Route(
            "GET", "/v1/jobs/{job_id}/exec", connect, "A command beside a running job (WebSocket)", scope(Scope.JOBS),
            errors=(NotFound, Malformed, Conflict, QuotaExceeded),
        ),
    ]  # fmt: skip


async def _first(socket: web.WebSocketResponse) -> ExecRequest:
    try:
        async with asyncio.timeout(FIRST_S):
            message = await socket.receive()
        if message.type is WSMsgType.TEXT:
            return ExecRequest.model_validate_json(message.data)
    except TimeoutError as error:
        raise Malformed("no command came") from error
    except ValidationError as error:
        places = ", ".join(".".join(str(part) for part in e["loc"]) for e in error.errors()[:5])
        raise Malformed(f"the command can't be read at: {places}") from error
    raise Malformed("the command comes first, as a text message")


async def _serve(socket: web.WebSocketResponse, session: ExecSession) -> None:
    """Until the command ends, the client leaves or the node goes away."""
    await _say(socket, {"opened": True})
    ways = {asyncio.create_task(_inwards(socket, session)), asyncio.create_task(_outwards(socket, session))}
    try:
        done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in done:
            way.result()
    except ConnectionError:
        return  # the client has gone
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        await socket.close()


async def _inwards(socket: web.WebSocketResponse, session: ExecSession) -> None:
    async for message in socket:
        if message.type is WSMsgType.BINARY:
            for at in range(0, len(message.data), MAX_EXEC_BYTES):
                await session.write(message.data[at : at + MAX_EXEC_BYTES])
        elif message.type is WSMsgType.TEXT and not await _obey(message, session):
            await _say(socket, {"error": {"code": "invalid_request", "message": "neither resize nor end_input"}})
            return


async def _obey(message: WSMessage, session: ExecSession) -> bool:
    try:
        order = _Order.model_validate_json(message.data)
    except ValidationError:
        return False
    if order.resize is not None:
        await session.resize(order.resize.rows, order.resize.cols)
    if order.end_input:
        await session.write(b"", end=True)
    return True


async def _outwards(socket: web.WebSocketResponse, session: ExecSession) -> None:
    while True:
        piece = await session.next()
        match piece:
            case ExecData():
                await socket.send_bytes(bytes([piece.stream]) + piece.data)
            case ExecEnd():
                await _say(socket, {"exit_code": piece.exit_code})
                return
            case None:
                await _say(socket, {"error": {"code": "not_ready", "message": "the node's connection ended"}})
                return


async def _say(socket: web.WebSocketResponse, body: object) -> None:
    if not socket.closed:
        await socket.send_str(orjson.dumps(body).decode())
