"""Hints that something happened on chain: signature and account subscriptions over one WebSocket.

A hint wakes its listener early and means nothing else. It may be lost, late, doubled or a lie, so every
listener polls anyway; without any WebSocket all that is lost is a little time.
"""

import asyncio
import contextlib
import itertools
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import aiohttp
import orjson
import structlog
from solders.pubkey import Pubkey
from solders.signature import Signature

from marketplace.chain.answers import Commitment

_log = structlog.get_logger(__name__)

# Chosen: a dead peer is noticed within two of these.
_HEARTBEAT_S: Final = 20.0
_MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024
# Chosen: bounds memory when a caller forgets; the oldest signature is dropped, its poll still finds it.
_MAX_SIGNATURES: Final = 4_096


class Hints(Protocol):
    """What a polling loop needs of the outside: to be woken before its next poll is due."""

    def watch_signature(self, signature: Signature) -> None: ...

    async def wait(self, timeout_s: float) -> None: ...


class PollOnly:
    """No hints: every wait takes its whole time."""

    def watch_signature(self, signature: Signature) -> None:
        """Nothing to watch with."""

    async def wait(self, timeout_s: float) -> None:
        await asyncio.sleep(timeout_s)


class Listener:
    """One polling loop's view of the subscriptions. Woken by any signature or account it watches."""

    def __init__(self, subscriptions: "Subscriptions") -> None:
        self._subscriptions = subscriptions
        self._woken = asyncio.Event()

    def watch_signature(self, signature: Signature) -> None:
        self._subscriptions.watch(_Topic("signatureSubscribe", str(signature)), self)

    def watch_account(self, address: Pubkey) -> None:
        self._subscriptions.watch(_Topic("accountSubscribe", str(address)), self)

    async def wait(self, timeout_s: float) -> None:
        """Until a hint comes, at most `timeout_s`; a hint that came since the last wait counts."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._woken.wait()
        self._woken.clear()

    def wake(self) -> None:
        self._woken.set()


@dataclass(frozen=True, slots=True)
class _Topic:
    method: str
    key: str

    @property
    def once(self) -> bool:
        """A signature's subscription ends with its first notification."""
        return self.method == "signatureSubscribe"


class Subscriptions:
    """Keeps one WebSocket to an RPC node, reconnects with backoff and renews what is watched.

    `run` is started by the composition root and cancelled by it. Every reconnect wakes all listeners: what
    was missed meanwhile is found by their polls.
    """

    def __init__(self, url: str, *, max_pause_s: float = 10.0) -> None:
        self._url = url
        self._max_pause_s = max_pause_s
        self._watched: dict[_Topic, set[Listener]] = {}
        self._wanted: asyncio.Queue[_Topic] = asyncio.Queue()
        self._requests: dict[int, _Topic] = {}
        self._active: dict[int, _Topic] = {}
        self._ids = itertools.count(1)
        self._jitter = random.Random()  # noqa: S311 - spreads reconnects, guards nothing

    def listener(self) -> Listener:
        return Listener(self)

    def watch(self, topic: _Topic, listener: Listener) -> None:
        known = topic in self._watched
        self._watched.setdefault(topic, set()).add(listener)
        if not known:
            self._wanted.put_nowait(topic)
            self._forget_oldest()

    async def run(self) -> None:
        """Connect, listen, reconnect: until cancelled."""
        failures = 0
        async with aiohttp.ClientSession() as session:
            while True:
                try:
                    async with session.ws_connect(
                        self._url, heartbeat=_HEARTBEAT_S, max_msg_size=_MAX_MESSAGE_BYTES
                    ) as socket:
                        failures = 0
                        await self._serve(socket)
                except (aiohttp.ClientError, OSError, TimeoutError) as error:
                    failures += 1
                    _log.info("subscriptions lost", action="reconnect", error=type(error).__name__)
                pause = min(0.25 * 2 ** min(failures, 8), self._max_pause_s)
                await asyncio.sleep(pause * (0.75 + self._jitter.random() / 2))

    async def _serve(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._requests.clear()
        self._active.clear()
        while not self._wanted.empty():
            self._wanted.get_nowait()
        for topic in list(self._watched):
            await self._subscribe(socket, topic)
        self._wake_all()
        async with asyncio.TaskGroup() as tasks:
            writer = tasks.create_task(self._write(socket))
            try:
                async for message in socket:
                    if message.type is aiohttp.WSMsgType.TEXT:
                        self._read(message.data)
            finally:
                writer.cancel()

    async def _write(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            topic = await self._wanted.get()
            if topic in self._watched:
                try:
                    await self._subscribe(socket, topic)
                except (aiohttp.ClientError, OSError):
                    return

    async def _subscribe(self, socket: aiohttp.ClientWebSocketResponse, topic: _Topic) -> None:
        number = next(self._ids)
        self._requests[number] = topic
        options: dict[str, Any] = {"commitment": Commitment.CONFIRMED}
        if not topic.once:
            options["encoding"] = "base64"
        request = {"jsonrpc": "2.0", "id": number, "method": topic.method, "params": [topic.key, options]}
        await socket.send_str(orjson.dumps(request).decode())

    def _read(self, data: str) -> None:
        """Take note of an answer or a notification; anything of another shape is no hint."""
        try:
            message = orjson.loads(data)
        except orjson.JSONDecodeError:
            return
        if not isinstance(message, Mapping):
            return
        number = message.get("id")
        if isinstance(number, int) and number in self._requests:
            topic = self._requests.pop(number)
            subscription = message.get("result")
            if isinstance(subscription, int):
                self._active[subscription] = topic
            return
        params = message.get("params")
        subscription = params.get("subscription") if isinstance(params, Mapping) else None
        if isinstance(subscription, int) and subscription in self._active:
            self._notify(subscription)

    def _notify(self, subscription: int) -> None:
        topic = self._active[subscription]
        for listener in self._watched.get(topic, ()):
            listener.wake()
        if topic.once:
            del self._active[subscription]
            self._watched.pop(topic, None)

    def _wake_all(self) -> None:
        for listeners in self._watched.values():
            for listener in listeners:
                listener.wake()

    def _forget_oldest(self) -> None:
        signatures = [topic for topic in self._watched if topic.once]
        if len(signatures) > _MAX_SIGNATURES:
            self._watched.pop(signatures[0], None)
