"""The node's held connection, `GET /v1/nodes/{id}/control`: subprotocol `reaver.node.v1`, api.md section 5.5."""

import asyncio
import itertools
import secrets
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from aiohttp import WSCloseCode, WSMsgType, web
from pydantic import ValidationError

from marketplace.api.fields import NodeIdPath
from marketplace.api.json_bodies import without_nul
from marketplace.api.routes import NODE, Call, RateClass, Route
from marketplace.domain.ids import NodeId
from marketplace.errors import MarketError
from marketplace.protocol.control import (
    MAX_FRAME_BYTES,
    SUBPROTOCOL,
    Claim,
    ClaimAck,
    ClaimRequest,
    Command,
    ErrorBody,
    ExecControl,
    ExecData,
    ExecEnd,
    ExecOpen,
    Frame,
    FrameType,
    Heartbeat,
    Hello,
    Logs,
    Message,
    Refuse,
    StateReport,
)
from marketplace.services.claims import ANSWER_MS
from marketplace.services.execs import UNREACHABLE, ExecService
from marketplace.services.logs import JobLogs
from marketplace.services.node_control import NodeControl

_log = structlog.get_logger(__name__)

HELLO_S: Final = 10.0
"""Chosen: a connection that doesn't introduce itself is closed."""
COMMAND_S: Final = 5.0
"""Chosen: a command that isn't acknowledged comes again with the next heartbeat."""
EXEC_S: Final = 60.0
"""Chosen: a command that reads nothing for so long takes no more input."""
_EXEC_FRAMES: Final = {
    ExecOpen: FrameType.EXEC,
    ExecData: FrameType.EXEC_DATA,
    ExecControl: FrameType.EXEC_CONTROL,
}
PING_S: Final = 20.0
MAX_AT_ONCE: Final = 64
"""Chosen: frames of one node in work at once; further ones wait in its socket."""


class NodeConnection:
    """One socket. It is the node's link for as long as it lasts."""

    def __init__(
        self, socket: web.WebSocketResponse, node_id: NodeId, control: NodeControl, logs: JobLogs, execs: ExecService
    ) -> None:
        self._socket = socket
        self._node_id = node_id
        self._control = control
        self._logs = logs
        self._execs = execs
        self._prefix = secrets.token_hex(4)
        self._numbers = itertools.count(1)
        # None comes where the connection ends first.
        self._answers: dict[str, asyncio.Future[Frame | None]] = {}
        self._claims: dict[str, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Semaphore(MAX_AT_ONCE)
        # Offers may be made while hello is still being answered; on the wire the answer comes first.
        self._greeted = asyncio.Event()
        self._welcomed = False

    # what the market asks: NodeLink

    async def request_claim(self, request: ClaimRequest) -> Claim | Refuse | None:
        """Offer an attempt and wait for the answer."""
        frame = self._frame(FrameType.CLAIM_REQUEST, request)
        answer = await self._ask(frame, ANSWER_MS / 1000)
        if answer is None:
            return None
        try:
            if answer.type is FrameType.CLAIM:
                claim = Claim.model_validate(answer.body)
                self._claims[_name(claim)] = answer.id
                return claim
            if answer.type is FrameType.REFUSE:
                return Refuse.model_validate(answer.body)
        except ValidationError as error:
            _log.warning("claim can't be read", action="control.claim", node=self._node_id, error=str(error))
        return None

    async def answer_claim(self, claim: Claim, lease_token: str | None) -> None:
        """Give the lease, or say that the claim is not taken."""
        frame_id = self._claims.pop(_name(claim), None)
        if frame_id is None:
            return
        if lease_token is not None:
            await self._send(self._frame(FrameType.ACK, ClaimAck(lease_token=lease_token), re=frame_id))
            return
        refusal = ErrorBody(code="already_assigned", message="the claim was not taken; drop it")
        await self._send(self._frame(FrameType.ERROR, refusal, re=frame_id))

    async def command(self, command: Command) -> bool:
        """Whether the node acknowledged it in time."""
        answer = await self._ask(self._frame(FrameType.COMMAND, command), COMMAND_S)
        return answer is not None and answer.type is FrameType.ACK

    async def exec(self, body: ExecOpen | ExecData | ExecControl) -> ErrorBody | None:
        """Pass on what belongs to a command beside a job; None once the node took it."""
        answer = await self._ask(self._frame(_EXEC_FRAMES[type(body)], body), EXEC_S)
        if answer is None:
            return UNREACHABLE
        return ErrorBody.model_validate(answer.body) if answer.type is FrameType.ERROR else None

    async def close(self, reason: str) -> None:
        """End the connection; the node comes back by itself."""
        await self._socket.close(code=WSCloseCode.GOING_AWAY, message=reason.encode()[:120])

    # what the node says

    async def serve(self) -> None:
        """Until the node leaves. Raises nothing: a frame that can't be served is answered with an error."""
        try:
            if not await self._welcome():
                return
            async for message in self._socket:
                if message.type is not WSMsgType.TEXT:
                    await self.close("text frames only")
                    return
                frame = await self._parse(message.data)
                if frame is None:
                    return
                await self._turn.acquire()
                task = asyncio.create_task(self._take(frame))
                self._tasks.add(task)
                task.add_done_callback(self._done)
        finally:
            self._control.disconnected(self._node_id, self)
            self._execs.disconnected(self)
            self._greeted.set()
            for answer in self._answers.values():
                if not answer.done():
                    # Not cancelled: that couldn't be told from an end of who waits for it.
                    answer.set_result(None)
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _welcome(self) -> bool:
        try:
            async with asyncio.timeout(HELLO_S):
                message = await self._socket.receive()
        except TimeoutError:
            await self.close("no hello")
            return False
        if message.type is not WSMsgType.TEXT:
            return False
        frame = await self._parse(message.data)
        if frame is None or frame.type is not FrameType.HELLO:
            await self.close("hello comes first")
            return False
        self._welcomed = await self._answer(frame, lambda: self._hello(frame))
        self._greeted.set()
        return self._welcomed

    async def _hello(self, frame: Frame) -> Message:
        return await self._control.hello(self._node_id, self, Hello.model_validate(frame.body))

    async def _parse(self, text: str) -> Frame | None:
        try:
            return Frame.model_validate_json(without_nul(text.encode()))
        except ValidationError:
            await self.close("not a frame")
            return None

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._turn.release()
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("frame not served", action="control.frame", node=self._node_id, exc_info=error)

    async def _take(self, frame: Frame) -> None:
        waiting = self._answers.get(frame.re or "")
        if waiting is not None:
            if not waiting.done():
                waiting.set_result(frame)
            return
        match frame.type:
            case FrameType.HEARTBEAT:
                await self._answer(
                    frame, lambda: self._control.heartbeat(self._node_id, Heartbeat.model_validate(frame.body))
                )
            case FrameType.STATE:
                await self._answer(
                    frame, lambda: self._control.state(self._node_id, StateReport.model_validate(frame.body))
                )
            case FrameType.LOGS:
                await self._answer(frame, lambda: self._logs.take(self._node_id, Logs.model_validate(frame.body)))
            case FrameType.CLAIM:
                await self._answer(frame, lambda: self._claim_again(frame))
            case FrameType.EXEC_DATA:
                await self._answer(frame, lambda: self._execs.take(self._node_id, ExecData.model_validate(frame.body)))
            case FrameType.EXEC_END:
                await self._answer(frame, lambda: self._execs.take(self._node_id, ExecEnd.model_validate(frame.body)))
            case FrameType.ACK | FrameType.ERROR | FrameType.REFUSE:
                # Late answers to something that was given up: nothing depends on them.
                return
            case _:
                await self._refuse(frame, "invalid_request", f"a node doesn't send {frame.type}")

    async def _claim_again(self, frame: Frame) -> Message:
        """A claim whose request is no longer waited for: taken before, or too late."""
        return self._control.claim_again(self._node_id, Claim.model_validate(frame.body))

    async def _answer(self, frame: Frame, serve: Callable[[], Awaitable[Message]]) -> bool:
        try:
            body = await serve()
        except MarketError as error:
            problem = error.problem()
            await self._refuse(frame, problem.code, problem.message)
            return False
        except ValidationError as error:
            places = ", ".join(".".join(str(part) for part in e["loc"]) for e in error.errors()[:5])
            await self._refuse(frame, "invalid_request", f"the body can't be read at: {places}")
            return False
        kind = FrameType.HELLO if frame.type is FrameType.HELLO else FrameType.ACK
        await self._send(self._frame(kind, body, re=frame.id))
        return True

    async def _refuse(self, frame: Frame, code: str, message: str) -> None:
        await self._send(self._frame(FrameType.ERROR, ErrorBody(code=code, message=message), re=frame.id))

    async def _ask(self, frame: Frame, timeout_s: float) -> Frame | None:
        answer: asyncio.Future[Frame | None] = asyncio.get_running_loop().create_future()
        self._answers[frame.id] = answer
        try:
            async with asyncio.timeout(timeout_s):
                await self._greeted.wait()
                if not (self._welcomed and await self._send(frame)):
                    return None
                return await answer
        except TimeoutError:
            return None
        finally:
            self._answers.pop(frame.id, None)

    async def _send(self, frame: Frame) -> bool:
        if self._socket.closed:
            return False
        try:
            await self._socket.send_str(frame.model_dump_json(exclude_none=True))
        except (ConnectionError, RuntimeError):
            return False
        return True

    def _frame(self, kind: FrameType, body: Message, *, re: str | None = None) -> Frame:
        return Frame(type=kind, id=f"{self._prefix}-{next(self._numbers)}", re=re, body=body.model_dump(mode="json"))


def _name(claim: Claim) -> str:
    return f"{claim.allocation_id}:{claim.attempt}"


class ControlChannels:
    """Open connections, ended together when the process stops."""

    def __init__(self, control: NodeControl, logs: JobLogs, execs: ExecService) -> None:
        self._control = control
        self._logs = logs
        self._execs = execs
        self._open: set[NodeConnection] = set()

    async def serve(self, call: Call, node_id: NodeId) -> web.StreamResponse:
        """Upgrade and serve."""
        socket = web.WebSocketResponse(protocols=(SUBPROTOCOL,), heartbeat=PING_S, max_msg_size=MAX_FRAME_BYTES)
        await socket.prepare(call.http)
        connection = NodeConnection(socket, node_id, self._control, self._logs, self._execs)
        self._open.add(connection)
        try:
            await connection.serve()
        finally:
            self._open.discard(connection)
        return socket

    async def stop(self) -> None:
        """Say goodbye; nodes go on metering and come back."""
        for connection in list(self._open):
            await connection.close("the market is restarting")


def control_routes(channels: ControlChannels) -> list[Route]:
    """The held connection."""

    async def connect(call: Call, node_id: NodeIdPath) -> web.StreamResponse:
        return await channels.serve(call, NodeId(node_id))

    return [
        Route(
            "GET",
            "/v1/nodes/{node_id}/control",
            connect,
            "The node's held connection (WebSocket)",
            NODE,
            rate=RateClass.UNCOUNTED,
        )
    ]
