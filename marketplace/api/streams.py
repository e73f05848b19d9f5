"""Server-sent events: an id on every event, a keep-alive comment each 15 s, resumed by Last-Event-ID."""

import asyncio
import contextlib
from collections import Counter as Tally
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
from aiohttp import web

from marketplace.api.routes import Call
from marketplace.errors import QuotaExceeded
from marketplace.metrics import Metrics

KEEP_ALIVE_S: Final = 15.0
"""Specified: api.md section 1.2, row "streams"."""
_LOOK_S: Final = 1.0
"""How soon a client that left is noticed while there is nothing to send, so that its place is free when it comes back;
chosen: sooner than a reader reconnects twice."""
_FIRST_EVENT_S: Final = 0.05
"""How long the first event may take before the stream is opened without it; chosen: errors come faster."""


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event. id: where a client resumes. data: JSON value, or text that is sent as it is."""

    id: str
    event: str
    data: Any

    @classmethod
    def position(cls, event_id: str) -> "ServerEvent":
        """No event: where to resume for a client that is cut off before it had one."""
        return cls(event_id, "", None)

    def encode(self) -> bytes:
        """The event's lines. Line breaks can't occur in the id or name, and are split in text."""
        if not self.event:
            return f"id: {self.id}\n\n".encode()
        if not isinstance(self.data, str):
            # JSON as it is written here has no line breaks.
            return b"id: %b\nevent: %b\ndata: %b\n\n" % (self.id.encode(), self.event.encode(), orjson.dumps(self.data))
        lines = [f"id: {self.id}", f"event: {self.event}"]
        lines += [f"data: {line}" for line in self.data.splitlines() or [""]]
        return ("\n".join(lines) + "\n\n").encode()


Upcoming = ServerEvent | Sequence[ServerEvent]
"""What a stream sends next: one event, or some that are ready together and are written together."""


@dataclass(frozen=True, slots=True)
class StreamForm:
    """How events are written. keep_alive: what is sent while there are none; nothing where a form has no comments."""

    content_type: str
    encode: Callable[[ServerEvent], bytes]
    keep_alive: bytes = b""


SERVER_SENT: Final = StreamForm("text/event-stream; charset=utf-8", ServerEvent.encode, b": keep-alive\n\n")


class Streams:
    """Open event streams: counted per principal, ended together when the process stops."""

    def __init__(self, metrics: Metrics, *, per_principal: int, keep_alive_s: float = KEEP_ALIVE_S) -> None:
        self._metrics = metrics
        self._per_principal = per_principal
        self._keep_alive_s = keep_alive_s
        self._open: Tally[str] = Tally()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def serve(
        self, call: Call, events: AsyncIterator[Upcoming], form: StreamForm = SERVER_SENT
    ) -> web.StreamResponse:
        """Send `events` until they end, the client leaves or the process stops. form: how they are written.

        Raises QuotaExceeded, before anything is sent, when this caller has too many streams open. What `events`
        raises before its first event is still answered as an error; later it can only end the stream.
        """
        who = call.principal.subject if call.principal is not None else call.client_address
        if self._open[who] >= self._per_principal:
            raise QuotaExceeded(
                f"at most {self._per_principal} streams may be open at once; close one",
                extra={"quota": "streams", "limit": self._per_principal},
                retry_after_s=1,
            )
        response = web.StreamResponse(headers={"Content-Type": form.content_type, "X-Accel-Buffering": "no"})
        if call.head:
            await response.prepare(call.http)
            return response
        task = asyncio.current_task()
        self._open[who] += 1
        self._metrics.streams.inc()
        if task is not None:
            self._tasks.add(task)
        try:
            await self._send(call, response, events, form)
        finally:
            if task is not None:
                self._tasks.discard(task)
            self._metrics.streams.dec()
            self._open[who] -= 1
            if not self._open[who]:
                del self._open[who]
        return response

    async def stop(self) -> None:
        """End every stream; clients reconnect and resume elsewhere."""
        for task in tuple(self._tasks):
            task.cancel()

    async def _send(
        self, call: Call, response: web.StreamResponse, events: AsyncIterator[Upcoming], form: StreamForm
    ) -> None:
        upcoming = asyncio.ensure_future(_next(events))
        try:
            while True:
                wait_s = self._keep_alive_s if response.prepared else _FIRST_EVENT_S
                done = await _arrives(upcoming, call, wait_s)
                event = upcoming.result() if done else None
                await self._begin(call, response)
                if event is not None:
                    upcoming = asyncio.ensure_future(_next(events))
                    if written := _encoded(event, form):
                        await response.write(written)
                elif done:
                    break
                elif form.keep_alive:
                    await response.write(form.keep_alive)
            await response.write_eof()
        except ConnectionResetError:
            return
        finally:
            upcoming.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await upcoming
            close = getattr(events, "aclose", None)
            if close is not None:
                await close()

    async def _begin(self, call: Call, response: web.StreamResponse) -> None:
        if not response.prepared:
            await response.prepare(call.http)


async def _arrives(upcoming: "asyncio.Future[Upcoming | None]", call: Call, wait_s: float) -> bool:
    """Whether it is there within this time. Raises ConnectionResetError when the client has left meanwhile."""
    loop = asyncio.get_running_loop()
    until = loop.time() + wait_s
    while (left := until - loop.time()) > 0:
        done, _ = await asyncio.wait({upcoming}, timeout=min(left, _LOOK_S))
        if done:
            return True
        transport = call.http.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has left")
    return upcoming.done()


def _encoded(upcoming: Upcoming, form: StreamForm) -> bytes:
    if isinstance(upcoming, ServerEvent):
        return form.encode(upcoming)
    return b"".join(form.encode(event) for event in upcoming)


async def _next(events: AsyncIterator[Upcoming]) -> Upcoming | None:
    return await anext(events, None)
