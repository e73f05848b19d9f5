"""The node's end of the control channel: one outgoing WebSocket, held for ever.

A request that matters (claim, state, logs) is kept until the market has answered it, and sent again after each
reconnect and whenever an answer is overdue; the market deduplicates. A heartbeat is never sent again: a fresh
one says more. What the market asks is given to the `Receiver`; a command is acknowledged once it was obeyed.
"""

import asyncio
import contextlib
import itertools
import random
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar

import aiohttp
import structlog
from pydantic import ValidationError

from marketplace.errors import Code
from marketplace.protocol.control import (
    MAX_FRAME_BYTES,
    ClaimRequest,
    Command,
    ErrorBody,
    ExecControl,
    ExecData,
    ExecOpen,
    Frame,
    FrameType,
    Heartbeat,
    HeartbeatAck,
    Hello,
    Message,
    Welcome,
)
from node.errors import MarketRefused, MarketUnavailable, NodeError

# Chosen: a restarted market is found again within a second, a dead one is asked every ten, or every heartbeat where
# that is less: three missing ones are a lost node, and a market that comes back must not count our pause as that.
BACKOFF_FIRST_S: Final = 0.2
BACKOFF_MOST_S: Final = 10.0
# Chosen: longer than any answer of a healthy market, shorter than its patience (3 heartbeats of 15 s).
ANSWER_DUE_S: Final = 10.0
_REMEMBERED_COMMANDS: Final = 1024
_RETRYABLE: Final = frozenset(code.public for code in Code if code.retryable)
_MARKET_RETRY_S: Final = 1.0

_log = structlog.get_logger("node.control")
_M = TypeVar("_M", bound=Message)


class Connector(Protocol):
    """Opens an authenticated WebSocket to the market."""

    async def connect(self) -> aiohttp.ClientWebSocketResponse:
        """Raises MarketUnavailable, MarketRefused."""
        ...


class Receiver(Protocol):
    """What the market's frames are given to."""

    async def hello(self) -> Hello:
        """The first frame of a connection."""
        ...

    async def on_welcome(self, welcome: Welcome) -> None:
        """The market's answer to it. Raises NotTrusted, which ends the connection."""
        ...

    async def on_claim_request(self, frame_id: str, request: ClaimRequest) -> None:
        """Answer through `ControlChannel.send` or `request`, within the request's time."""
        ...

    async def on_command(self, command: Command) -> None:
        """Obey. Returns when the order is journalled, not when it is done."""
        ...

    async def on_exec(self, body: Message) -> str | None:
        """Something of a command beside a job (ExecOpen, ExecData, ExecControl); why not, None when it is done."""
        ...

    async def on_disconnect(self) -> None:
        """The connection ended."""
        ...


_EXEC_BODIES: Final[dict[FrameType, type[Message]]] = {
    FrameType.EXEC: ExecOpen,
    FrameType.EXEC_DATA: ExecData,
    FrameType.EXEC_CONTROL: ExecControl,
}


@dataclass(slots=True)
class _Pending:
    frame: Frame
    answer: asyncio.Future[Frame]
    sent_at: float = field(default=0.0)


class ControlChannel:
    """Keeps the connection and matches answers to requests. `run` is its one task."""

    def __init__(
        self,
        connector: Connector,
        receiver: Receiver,
        *,
        rng: random.Random | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        answer_due_s: float = ANSWER_DUE_S,
    ) -> None:
        """answer_due_s: when a request is sent again; without an answer to hello for ANSWER_DUE_S one connects anew."""
        self._connector = connector
        self._receiver = receiver
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not a secret
        self._sleep = sleep
        self._answer_due_s = answer_due_s
        self._prefix = secrets.token_hex(6)
        self._numbers = itertools.count(1)
        self._pending: OrderedDict[str, _Pending] = OrderedDict()
        self._beats: dict[str, asyncio.Future[Frame]] = {}
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._ready = asyncio.Event()
        self._obeyed: OrderedDict[str, None] = OrderedDict()
        self._backoff_most_s = BACKOFF_MOST_S
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections = 0
        """Connections welcomed so far."""

    @property
    def connected(self) -> bool:
        """Whether the market has welcomed this connection."""
        return self._ready.is_set()

    async def wait_connected(self) -> None:
        """Until the market has welcomed us."""
        await self._ready.wait()

    async def run(self) -> None:
        """Connect, serve, and connect again with jittered backoff, until cancelled."""
        delay = BACKOFF_FIRST_S
        try:
            while True:
                before = self.connections
                try:
                    await self._connection()
                except (NodeError, aiohttp.ClientError, OSError) as error:
                    _log.warning("disconnected", action="disconnected", error=str(error))
                if self.connections > before:
                    delay = BACKOFF_FIRST_S
                await self._sleep(delay * self._rng.uniform(0.5, 1.0))
                delay = min(delay * 2, self._backoff_most_s)
        finally:
            await self._cancel_tasks()

    async def request(self, kind: FrameType, body: Message, answer: type[_M], *, re: str | None = None) -> _M:
        """Send until answered, across reconnects. Raises MarketRefused for an error frame."""
        frame = self._frame(kind, body, re)
        pending = _Pending(frame, asyncio.get_running_loop().create_future())
        self._pending[frame.id] = pending
        try:
            await self._send_pending(pending)
            while True:
                done, _ = await asyncio.wait({pending.answer}, timeout=self._answer_due_s)
                if done:
                    return _read(pending.answer.result(), answer)
                await self._send_pending(pending)
        finally:
            self._pending.pop(frame.id, None)

    async def insist(
        self, kind: FrameType, body: Message, answer: type[_M], *, names: Mapping[str, object], re: str | None = None
    ) -> _M:
        """The answer, asked for again while the market says that asking again can help. Raises MarketRefused.

        names: what the log calls the subject by.
        """
        while True:
            try:
                return await self.request(kind, body, answer, re=re)
            except MarketRefused as error:
                if error.code not in _RETRYABLE:
                    raise
                _log.warning("market not ready", action="market_not_ready", code=error.code, **names)
                await asyncio.sleep(_MARKET_RETRY_S)

    async def beat(self, heartbeat: Heartbeat, *, timeout_s: float) -> HeartbeatAck:
        """One heartbeat over the present connection.

        Raises MarketUnavailable when there is none or no answer came in time, MarketRefused.
        """
        if self._socket is None or not self._ready.is_set():
            raise MarketUnavailable("not connected")
        frame = self._frame(FrameType.HEARTBEAT, heartbeat, None)
        future = asyncio.get_running_loop().create_future()
        self._beats[frame.id] = future
        try:
            await self._send(frame)
            async with asyncio.timeout(timeout_s):
                return _read(await future, HeartbeatAck)
        except TimeoutError as error:
            raise MarketUnavailable(f"no answer to a heartbeat within {timeout_s:.1f} s") from error
        finally:
            self._beats.pop(frame.id, None)

    async def ask(self, kind: FrameType, body: Message, answer: type[_M]) -> _M:
        """Send once over the present connection and wait for the answer, however long that takes.

        Raises MarketUnavailable when there is no connection or it ends first, MarketRefused.
        """
        if self._socket is None or not self._ready.is_set():
            raise MarketUnavailable("not connected")
        frame = self._frame(kind, body, None)
        future = asyncio.get_running_loop().create_future()
        self._beats[frame.id] = future
        try:
            await self._send(frame)
            return _read(await future, answer)
        finally:
            self._beats.pop(frame.id, None)

    async def send(self, kind: FrameType, body: Message, *, re: str | None = None) -> None:
        """Send once if connected: for what loses nothing when it is lost."""
        if self._socket is not None:
            with contextlib.suppress(MarketUnavailable):
                await self._send(self._frame(kind, body, re))

    async def obey(self, command: Command) -> None:
        """Give a command to the receiver unless it was obeyed before."""
        if command.id in self._obeyed:
            return
        await self._receiver.on_command(command)
        self._obeyed[command.id] = None
        while len(self._obeyed) > _REMEMBERED_COMMANDS:
            self._obeyed.popitem(last=False)

    async def _connection(self) -> None:
        socket = await self._connector.connect()
        self._socket = socket
        try:
            hello = self._frame(FrameType.HELLO, await self._receiver.hello(), None)
            await self._send(hello)
            welcome = await self._welcome(socket, hello.id)
            await self._receiver.on_welcome(welcome)
            self._backoff_most_s = min(BACKOFF_MOST_S, welcome.heartbeat_ms / 1000)
            self.connections += 1
            self._ready.set()
            _log.info("connected", action="connected", unanswered=len(self._pending))
            for pending in list(self._pending.values()):
                await self._send_pending(pending)
            async for message in socket:
                if message.type is not aiohttp.WSMsgType.TEXT:
                    raise MarketUnavailable(f"the market sent a {message.type.name} frame")
                self._dispatch(_parse(message.data))
            raise MarketUnavailable(f"the market closed the connection ({socket.close_code})")
        finally:
            self._socket = None
            self._ready.clear()
            for future in self._beats.values():
                if not future.done():
                    future.set_exception(MarketUnavailable("the connection was lost"))
            await self._cancel_tasks()
            await self._receiver.on_disconnect()
            await socket.close()

    async def _welcome(self, socket: aiohttp.ClientWebSocketResponse, hello_id: str) -> Welcome:
        """The answer to hello; it is the first frame of the market."""
        try:
            async with asyncio.timeout(ANSWER_DUE_S):
                message = await socket.receive()
        except TimeoutError as error:
            raise MarketUnavailable("the market did not answer hello") from error
        if message.type is not aiohttp.WSMsgType.TEXT:
            raise MarketUnavailable("the market closed the connection before it answered hello")
        frame = _parse(message.data)
        if frame.type is FrameType.ERROR:
            _read(frame, Welcome)
        if frame.type is not FrameType.HELLO or frame.re not in (None, hello_id):
            raise MarketUnavailable(f"the market answered hello with {frame.type}")
        return _body(frame, Welcome)

    def _dispatch(self, frame: Frame) -> None:
        if frame.type in (FrameType.ACK, FrameType.ERROR):
            self._answered(frame)
        elif frame.type is FrameType.CLAIM_REQUEST:
            request = _body(frame, ClaimRequest)
            self._start(self._receiver.on_claim_request(frame.id, request))
        elif frame.type is FrameType.COMMAND:
            self._start(self._command(frame.id, _body(frame, Command)))
        elif frame.type in _EXEC_BODIES:
            self._start(self._exec(frame.id, _body(frame, _EXEC_BODIES[frame.type])))
        else:
            raise MarketUnavailable(f"the market sent a {frame.type} frame, which nodes send")

    def _answered(self, frame: Frame) -> None:
        future = self._beats.get(frame.re or "")
        if future is None and (pending := self._pending.get(frame.re or "")) is not None:
            future = pending.answer
        if future is None:
            # The answer to something sent twice: the first answer was enough.
            _log.debug("answer to nothing", action="late_answer", type=frame.type, re=frame.re)
        elif not future.done():
            future.set_result(frame)

    async def _command(self, frame_id: str, command: Command) -> None:
        await self.obey(command)
        await self.send(FrameType.ACK, Message(), re=frame_id)

    async def _exec(self, frame_id: str, body: Message) -> None:
        refused = await self._receiver.on_exec(body)
        if refused is None:
            await self.send(FrameType.ACK, Message(), re=frame_id)
        else:
            await self.send(FrameType.ERROR, ErrorBody(code=Code.CONFLICT.public, message=refused), re=frame_id)

    def _start(self, work: Awaitable[None]) -> None:
        """Answer beside the reader: an answer may itself wait for an answer."""

        async def guarded() -> None:
            try:
                await work
            except NodeError as error:
                _log.warning("frame not served", action="frame_failed", error=str(error))

        task = asyncio.create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("frame not served", action="frame_failed", exc_info=error)

    async def _cancel_tasks(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _send_pending(self, pending: _Pending) -> None:
        if self._ready.is_set():
            with contextlib.suppress(MarketUnavailable):  # it is sent again after the reconnect
                await self._send(pending.frame)

    async def _send(self, frame: Frame) -> None:
        text = frame.model_dump_json(exclude_none=True)
        if len(text.encode()) > MAX_FRAME_BYTES:
            raise AssertionError(f"a {frame.type} frame of {len(text)} characters would be refused")
        socket = self._socket
        if socket is None:
            raise MarketUnavailable("not connected")
        try:
            await socket.send_str(text)
        except (aiohttp.ClientError, ConnectionError, RuntimeError) as error:
            raise MarketUnavailable(f"the connection was lost: {error}") from error

    def _frame(self, kind: FrameType, body: Message, re: str | None) -> Frame:
        return Frame(type=kind, id=f"{self._prefix}-{next(self._numbers)}", re=re, body=body.model_dump(mode="json"))


def _parse(text: str) -> Frame:
    try:
        return Frame.model_validate_json(text)
    except ValidationError as error:
        raise MarketUnavailable(f"the market sent a frame that can't be read: {error.error_count()} errors") from error


def _body(frame: Frame, model: type[_M]) -> _M:
    try:
        return model.model_validate(frame.body)
    except ValidationError as error:
        places = ", ".join(".".join(str(part) for part in e["loc"]) for e in error.errors())
        raise MarketUnavailable(f"the market's {frame.type} frame can't be read at: {places}") from error


def _read(frame: Frame, model: type[_M]) -> _M:
    """The answer's body. Raises MarketRefused for an error frame."""
    if frame.type is FrameType.ERROR:
        body = _body(frame, ErrorBody)
        raise MarketRefused(body.code, body.message)
    return _body(frame, model)
