"""A JSON-RPC server on loopback whose answers a test scripts: the peer that the client is tried against."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

Reply = Callable[[list[Any]], Any]


class JsonRpcFault(Exception):
    def __init__(self, number: int, message: str, data: object = None) -> None:
        self.body = {"code": number, "message": message} | ({"data": data} if data is not None else {})


def no_such_method(_params: list[Any]) -> object:
    raise JsonRpcFault(-32601, "Method not found")


@dataclass
class ScriptedServer:
    replies: dict[str, Reply] = field(default_factory=dict)
    calls: list[tuple[str, list[Any]]] = field(default_factory=list)
    raw: Callable[[], web.Response] | None = None
    url: str = ""

    async def answer(self, request: web.Request) -> web.Response:
        body = orjson.loads(await request.read())
        self.calls.append((body["method"], body["params"]))
        if self.raw is not None:
            return self.raw()
        envelope: dict[str, Any] = {"jsonrpc": "2.0", "id": body["id"]}
        reply = self.replies.get(body["method"], no_such_method)
        try:
            envelope["result"] = reply(body["params"])
        except JsonRpcFault as fault:
            envelope["error"] = fault.body
        return web.json_response(envelope)


@asynccontextmanager
async def scripted_server(path: str = "/") -> AsyncIterator[ScriptedServer]:
    server = ScriptedServer()
    app = web.Application()
    app.router.add_post(path, server.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    server.url = f"http://127.0.0.1:{port}{path}"
    try:
        yield server
    finally:
        await runner.cleanup()
