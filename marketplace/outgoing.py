"""Requests to addresses that somebody else chose: webhooks, input URLs, S3 endpoints. Market and node share this.

    connect ─► URL: https, no login in it ─► resolve once ─► every address checked ─► socket to a checked address

The name is resolved by the connection itself and the socket goes to the very address that was checked, so a name
that answers differently a moment later (DNS rebinding) gains nothing. The check stands in the connector, below
redirects and connection reuse: what was not checked can't be connected to. A redirect is an answer like any other;
where `hops` allows some, each one passes the whole guard again.

Never used here: proxies and logins of the environment, cookies, decompression (an answer is as large as its bytes).

A driver that opens its own sockets can't be guarded by checking its URL first. Let it sign a URL, and send that here.
"""

import asyncio
import errno
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import AddrInfoType, Connection
from aiohttp.tracing import Trace
from yarl import URL

from marketplace.domain.destinations import Reach, is_loopback, refusal_of

MAX_URL_LENGTH: Final = 2048
"""Chosen: what servers and proxies of the field take without special settings."""
_CONNECT_S: Final = 5.0
"""How long the TCP and TLS handshakes may take; chosen: half of what a webhook has in all."""
_WAIT_S: Final = 30.0
"""How long a request may wait for a free connection and its name's addresses; chosen."""
_RESOLVER_THREADS: Final = 16
"""Chosen. Names are somebody else's, and so are their name servers: slow ones may keep only these threads."""


class DestinationRefused(Exception):
    """This address may not be asked. The text says why and names no address that a name server answered with."""


def check_url(text: str, reach: Reach) -> URL:
    """The URL as it will be asked. Raises DestinationRefused.

    Says nothing yet of the addresses behind a name: those are judged when it is connected to, each time anew.
    """
    if len(text) > MAX_URL_LENGTH:
        raise DestinationRefused(f"the URL is longer than {MAX_URL_LENGTH} characters")
    if any(character <= " " or character == "\x7f" for character in text):
        raise DestinationRefused("the URL has spaces or control characters in it")
    try:
        url = URL(text)
    except ValueError as error:
        raise DestinationRefused("the URL can't be read") from error
    _check(url, reach)
    return url


class Outgoing:
    """A guarded HTTP client with its own connections.

    trust: whose certificates are believed; the system's where None.
    resolver: what turns names into addresses; the system's where None.
    connections: how many at once, and to one host.
    """

    def __init__(
        self,
        reach: Reach,
        *,
        trust: ssl.SSLContext | None = None,
        resolver: AbstractResolver | None = None,
        connections: int = 100,
        connections_per_host: int = 10,
    ) -> None:
        self.reach = reach
        self._trust = trust
        self._resolver = resolver
        self._connections = (connections, connections_per_host)
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _opened(self) -> aiohttp.ClientSession:
        """Connections belong to the running loop, so they are made at the first request and not before."""
        if self._session is None:
            connector = _GuardedConnector(
                self.reach,
                resolver=_GuardedResolver(self.reach, self._resolver or _SystemResolver()),
                use_dns_cache=False,
                limit=self._connections[0],
                limit_per_host=self._connections[1],
                ssl=self._trust if self._trust is not None else True,
                socket_factory=_SocketGuard(self.reach),
            )
            self._session = aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False, auto_decompress=False
            )
        return self._session

    @asynccontextmanager
    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        data: Any = None,
        total_s: float | None = None,
        silence_s: float = 30.0,
        hops: int = 0,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer, whatever its status, its body unread.

        data: bytes or an asynchronous iterator of bytes. total_s: for everything, the body's reading included.
        silence_s: how long the other side may say nothing. hops: how many redirects are followed.
        Raises DestinationRefused, aiohttp.ClientError, TimeoutError.
        """
        asked = check_url(url, self.reach)
        timeout = aiohttp.ClientTimeout(total=total_s, connect=_WAIT_S, sock_connect=_CONNECT_S, sock_read=silence_s)
        async with self._opened().request(
            method,
            asked,
            headers={"Accept-Encoding": "identity", **(headers or {})},
            data=data,
            allow_redirects=hops > 0,
            max_redirects=hops + 1,  # aiohttp refuses at this many
            timeout=timeout,
        ) as response:
            yield response


def _check(url: URL, reach: Reach) -> None:
    host = _host_of(url)
    if not url.absolute or not host:
        raise DestinationRefused("the URL names no host")
    if url.user is not None or url.password is not None:
        raise DestinationRefused("a URL with a login in it is not taken; it would be shown wherever the URL is")
    here = reach is Reach.LOOPBACK_TOO and _says_loopback(host)
    if url.scheme != "https" and not (here and url.scheme == "http"):
        raise DestinationRefused("only https URLs are taken")
    if not here and (":" in host or host.replace(".", "").isdigit()):
        refusal = refusal_of(host)
        if refusal is not None:
            raise DestinationRefused(f"this address {refusal.value}")


def _host_of(url: URL) -> str | None:
    """Its host, which can be looked up. Raises DestinationRefused: an unreadable name is no fault of whoever asks."""
    try:
        host = url.host
        if url.raw_host is not None:
            url.raw_host.encode("idna")  # as the system's resolver does: labels that are empty, or too long
    except UnicodeError as error:
        raise DestinationRefused("the URL's host is no name that can be looked up") from error
    return host


def _says_loopback(host: str) -> bool:
    return host == "localhost" or is_loopback(host)


class _SystemResolver(AbstractResolver):
    """The system's resolver, in threads of its own: the loop's default ones belong to work that can't wait."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_RESOLVER_THREADS, thread_name_prefix="outgoing-names")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._threads, lambda: _addresses(host, port, family))
        return [
            ResolveResult(hostname=host, host=str(where[0]), port=port, family=kind, proto=protocol, flags=_NUMERIC)
            for kind, _, protocol, _, where in found
        ]

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


_NUMERIC: Final = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


def _addresses(host: str, port: int, family: int) -> list[tuple[Any, ...]]:
    return list(socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG))


class _GuardedResolver(AbstractResolver):
    """Resolves by `inner`, and refuses a name when any of its addresses is refused."""

    def __init__(self, reach: Reach, inner: AbstractResolver) -> None:
        self._reach = reach
        self._inner = inner

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        here = self._reach is Reach.LOOPBACK_TOO and _says_loopback(host)
        for entry in found:
            # A mixture of public and other addresses is how rebinding begins, so one bad one refuses all.
            if here:
                if not is_loopback(entry["host"]):
                    raise DestinationRefused("localhost is not this machine")
                continue
            refusal = refusal_of(entry["host"])
            if refusal is not None:
                raise DestinationRefused(f"the name leads to an address that {refusal.value}")
        return found

    async def close(self) -> None:
        await self._inner.close()


class _GuardedConnector(aiohttp.TCPConnector):
    """Checks the URL of every request that wants a connection, redirects and reused connections included."""

    def __init__(self, reach: Reach, **more: Any) -> None:
        super().__init__(**more)
        self._reach = reach

    async def connect(
        self,
        req: ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - the base class's own
    ) -> Connection:
        _check(req.url, self._reach)
        return await super().connect(req, traces, timeout)


class _SocketGuard:
    """The last line: makes sockets for checked addresses only, whatever found them."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach

    def __call__(self, info: AddrInfoType) -> socket.socket:
        family, kind, protocol, _, where = info
        address = str(where[0])
        if refusal_of(address) is not None and not (self._reach is Reach.LOOPBACK_TOO and is_loopback(address)):
            raise PermissionError(errno.EACCES, "this address is not of the public internet")
        return socket.socket(family=family, type=kind, proto=protocol)
