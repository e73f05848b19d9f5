import asyncio
from collections.abc import AsyncIterator

import orjson
import pytest
from aiohttp import WSMsgType, web
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from marketplace.chain.subscriptions import Subscriptions

SIGNATURE = Keypair.from_seed(bytes(32)).sign_message(b"x")


class NodeSocket:
    """The node's end: accepts every subscription and notifies when told to."""

    def __init__(self) -> None:
        self.url = ""
        self.topics: dict[str, int] = {}
        self.subscribed = asyncio.Condition()
        self.sockets: list[web.WebSocketResponse] = []
        self.numbers = iter(range(100, 1000))

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets.append(socket)
        async for message in socket:
            assert message.type is WSMsgType.TEXT
            body = orjson.loads(message.data)
            number = next(self.numbers)
            await socket.send_json({"jsonrpc": "2.0", "id": body["id"], "result": number})
            async with self.subscribed:
                self.topics[body["params"][0]] = number
                self.subscribed.notify_all()
        return socket

    async def wait_for(self, key: object, *, other_than: int | None = None) -> int:
        async with asyncio.timeout(30), self.subscribed:
            await self.subscribed.wait_for(lambda: self.topics.get(str(key), other_than) != other_than)
        return self.topics[str(key)]

    async def notify(self, number: int) -> None:
        await self.sockets[-1].send_json(
            {"jsonrpc": "2.0", "method": "signatureNotification", "params": {"subscription": number, "result": {}}}
        )


@pytest.fixture
async def node() -> AsyncIterator[NodeSocket]:
    socket = NodeSocket()
    app = web.Application()
    app.router.add_get("/", socket.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    socket.url = f"ws://127.0.0.1:{runner.addresses[0][1]}/"
    yield socket
    for open_socket in socket.sockets:
        await open_socket.close()
    await runner.cleanup()


@pytest.fixture
async def subscriptions(node: NodeSocket) -> AsyncIterator[Subscriptions]:
    subject = Subscriptions(node.url, max_pause_s=0.01)
    task = asyncio.create_task(subject.run())
    yield subject
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_signatures_notification_wakes_its_listener(node: NodeSocket, subscriptions: Subscriptions) -> None:
    listener = subscriptions.listener()
    listener.watch_signature(SIGNATURE)
    number = await node.wait_for(SIGNATURE)
    await listener.wait(0.01)  # the connection's own wake-up
    await node.notify(number)
    async with asyncio.timeout(30):
        await listener.wait(60)


async def test_what_is_watched_is_watched_again_after_a_reconnect(
    node: NodeSocket, subscriptions: Subscriptions
) -> None:
    listener = subscriptions.listener()
    address = Pubkey.new_unique()
    listener.watch_account(address)
    number = await node.wait_for(address)
    await node.sockets[0].close()
    again = await node.wait_for(address, other_than=number)
    await listener.wait(0.01)
    await node.notify(again)
    async with asyncio.timeout(30):
        await listener.wait(60)


async def test_without_a_hint_the_wait_ends_at_its_time() -> None:
    listener = Subscriptions("ws://127.0.0.1:1/").listener()
    async with asyncio.timeout(30):
        await listener.wait(0.01)
