"""The aiohttp server: JSON-RPC on POST /, subscriptions on a WebSocket at /, on both ports."""

import asyncio
import itertools
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import WSCloseCode, WSMsgType, web

from marketplace.localnet.chain import Chain
from marketplace.localnet.errors import ConfigInvalid, JournalBroken
from marketplace.localnet.rpc.envelope import answer
from marketplace.localnet.rpc.methods import Methods
from marketplace.localnet.rpc.pubsub import Subscriptions
from marketplace.localnet.rpc.subjects.cluster import Endpoints

_log = logging.getLogger(__name__)

# Specified: Agave's default --rpc-max-request-body-size.
_MOST_BODY_BYTES: Final = 50 * 1024
# Chosen: a subscriber that far behind is cut off, so that its backlog can't grow without an end.
_MOST_QUEUED: Final = 10_000
# Chosen: how often a neighbouring port for the WebSocket is looked for when the RPC port is left to the system.
_PORT_TRIES: Final = 50


class Server:
    """Serves one chain until `stop`; everything runs in the loop's thread, so requests never overlap."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._methods = Methods(chain)
        self._ids = itertools.count()
        self._sockets: set[web.WebSocketResponse] = set()
        self._runner: web.AppRunner | None = None
        self._ticking: asyncio.Task[None] | None = None
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def start(self, host: str, rpc_port: int, ws_port: int | None) -> tuple[int, int]:
        """Bind and serve; the two ports. ws_port None: the port after the RPC port. Raises ConfigInvalid."""
        rpc, ws = _bind_both(host, rpc_port, ws_port)
        app = web.Application(client_max_size=_MOST_BODY_BYTES, middlewares=[self._fail_stop])
        app.router.add_post("/", self._post)
        app.router.add_get("/", self._get)
        app.router.add_get("/health", self._health)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        for bound in (rpc, ws):
            await web.SockSite(self._runner, bound).start()
        self._ticking = asyncio.create_task(self._tick_forever())
        ports = rpc.getsockname()[1], ws.getsockname()[1]
        self._methods.listen_at(Endpoints(f"{host}:{ports[0]}", f"{host}:{ports[1]}"))
        return ports

    async def stop(self) -> None:
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.gather(self._ticking, return_exceptions=True)
        for each in set(self._sockets):
            await each.close(code=WSCloseCode.GOING_AWAY)
        if self._runner is not None:
            await self._runner.cleanup()

    @web.middleware
    async def _fail_stop(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        """A broken journal ends the process: what it can't keep it may not answer."""
        try:
            return await handler(request)
        except JournalBroken as broken:
            self._fail(broken)
            raise

    async def _post(self, request: web.Request) -> web.Response:
        if request.content_type != "application/json":
            return web.Response(
                status=415,
                text="Supplied content type is not allowed. Content-Type: application/json is required\n",
            )
        told = answer(await request.read(), self._methods.call)
        return web.Response(body=told if told is not None else b"", content_type="application/json")

    async def _get(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return web.Response(status=405, text="Used HTTP Method is not allowed. POST or OPTIONS is required\n")
        return await self._converse(request)

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _converse(self, request: web.Request) -> web.WebSocketResponse:
        connection = web.WebSocketResponse(heartbeat=30, max_msg_size=_MOST_BODY_BYTES)
        await connection.prepare(request)
        queue: asyncio.Queue[bytes] = asyncio.Queue(_MOST_QUEUED)
        overrun = asyncio.Event()

        def send(text: bytes) -> None:
            try:
                queue.put_nowait(text)
            except asyncio.QueueFull:
                overrun.set()

        subscriptions = Subscriptions(self._chain, send, self._ids)
        writing = asyncio.create_task(_write(connection, queue, overrun))
        self._sockets.add(connection)
        try:
            async for message in connection:
                if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                    break
                told = answer(message.data, subscriptions.call)
                if told is not None:
                    send(told)
                subscriptions.announce()
        finally:
            self._sockets.discard(connection)
            subscriptions.close()
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
        return connection

    async def _tick_forever(self) -> None:
        """Slots pass without requests too: subscribers wait for them."""
        try:
            while True:
                await asyncio.sleep(self._chain.until_next_slot_s())
                self._chain.tick()
        except JournalBroken as broken:
            self._fail(broken)

    def _fail(self, broken: JournalBroken) -> None:
        _log.critical("stopping: %s", broken)
        if not self.failed.done():
            self.failed.set_exception(broken)


async def _write(connection: web.WebSocketResponse, queue: "asyncio.Queue[bytes]", overrun: asyncio.Event) -> None:
    """Send what is queued, in order; close a connection whose queue ran over."""
    while not overrun.is_set():
        text = await queue.get()
        await connection.send_str(text.decode())
    await connection.close(code=WSCloseCode.TRY_AGAIN_LATER, message=b"too far behind")


def _bind_both(host: str, rpc_port: int, ws_port: int | None) -> tuple[socket.socket, socket.socket]:
    tries = _PORT_TRIES if rpc_port == 0 and ws_port is None else 1
    failure: Any = None
    for _ in range(tries):
        rpc = _bind(host, rpc_port)
        chosen = ws_port if ws_port is not None else rpc.getsockname()[1] + 1
        try:
            return rpc, _bind(host, chosen)
        except ConfigInvalid as error:
            rpc.close()
            failure = error
    raise ConfigInvalid(str(failure))


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except (OSError, OverflowError) as error:
        raise ConfigInvalid(f"can't listen on {host}:{port}: {error}. Choose another port (0: any).") from error
    return bound
