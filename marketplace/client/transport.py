"""HTTP to one market: typed errors, exact numbers, and retries that can't spend twice.

A 429 or 503 is repeated after its Retry-After, and a broken connection after a short wait, for requests that may be
repeated: GET, HEAD, and those with an Idempotency-Key. Everything else is sent once.
"""

import asyncio
import io
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from types import TracebackType
from typing import Final, Self, TypeVar
from urllib.parse import urlsplit

import aiohttp
from pydantic import BaseModel, ValidationError

from marketplace.client.errors import ApiError, FieldProblem, MalformedAnswer, SignatureNeeded, Unreachable

MAX_ANSWER_BYTES: Final = 16 << 20
"""Chosen: a page of 100 nodes stays far below it, and a hostile answer can't fill the memory."""
_BYTES_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, connect=10, sock_read=60)
"""Of a body of any size: silence is bounded, the whole is not."""
_PING_S: Final = 20.0
"""Of a socket: how long its silence may last before it is asked for; as the market asks."""
_T = TypeVar("_T", bound=BaseModel)

Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often, and how long at most, a repeatable request is tried again.

    attempts: tries in all. longest_s: a Retry-After beyond it is not waited for, the error is raised instead.
    first_s: wait after a broken connection, doubled each time.
    """

    attempts: int = 5
    longest_s: int = 60
    first_s: float = 0.25


@dataclass(frozen=True, slots=True)
class Reply:
    """A successful answer."""

    status: int
    body: object
    headers: Mapping[str, str]

    def read(self, model: type[_T]) -> _T:
        """The body as this model; raises MalformedAnswer."""
        return parse(model, self.body)


def parse(model: type[_T], body: object) -> _T:
    """A value from JSON as this model; raises MalformedAnswer naming the field."""
    try:
        return model.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the body"
        raise MalformedAnswer(
            f"the market's answer is not a {model.__name__}: {where}: {first['msg']}. "
            "Client and market may be of different versions"
        ) from error


def decode_json(raw: bytes) -> object:
    """JSON with fractions read exactly (Decimal); raises MalformedAnswer."""
    try:
        return json.loads(raw, parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        raise MalformedAnswer("the market's answer is not JSON; is the address that of a Reaver market?") from error


class Transport:
    """One market's HTTP endpoint. An async context manager.

    api_url: base URL, with or without a trailing `/v1`.
    """

    def __init__(
        self,
        api_url: str,
        *,
        retry: RetryPolicy | None = None,
        timeout_s: float = 60,
        sleep: Sleep = asyncio.sleep,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.base_url = base_url(api_url)
        self._retry = retry or RetryPolicy()
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, connect=10)
        self._sleep = sleep
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def request(
        self,
        method: str,
        path: str,
        *,
        token: str | None = None,
        params: Mapping[str, str] | None = None,
        body: object = None,
        idempotency_key: str | None = None,
    ) -> Reply:
        """One call. Raises ApiError (SignatureNeeded for that 402), Unreachable, MalformedAnswer."""
        headers = _headers(token, idempotency_key)
        repeatable = method in {"GET", "HEAD"} or idempotency_key is not None
        attempt = 0
        while True:
            attempt += 1
            last = not repeatable or attempt >= self._retry.attempts
            try:
                return await self._once(method, path, headers, params, body)
            except Unreachable:
                if last:
                    raise
                await self._sleep(self._retry.first_s * 2 ** (attempt - 1))
            except ApiError as error:
                wait_s = _wait_of(error)
                if last or wait_s is None or wait_s > self._retry.longest_s:
                    raise
                await self._sleep(wait_s)

    @asynccontextmanager
    async def stream(
        self,
        path: str,
        *,
        token: str | None,
        params: Mapping[str, str],
        last_event_id: str | None,
        read_timeout_s: float,
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """A server-sent event stream, as chunks. Raises as `request` does; the caller resumes it.

        read_timeout_s: longest silence; the market sends a comment each 15 s.
        """
        headers = {**_headers(token, None), "Accept": "text/event-stream"}
        if last_event_id is not None:
            headers["Last-Event-ID"] = last_event_id
        timeout = aiohttp.ClientTimeout(total=None, connect=10, sock_read=read_timeout_s)
        try:
            async with self._http().get(
                self.base_url + path, headers=headers, params=dict(params), timeout=timeout, allow_redirects=False
            ) as response:
                if response.status != 200:
                    raise _as_error(response, await _read(response))
                if response.content_type != "text/event-stream":
                    raise MalformedAnswer(f"the market answered {response.content_type} where events were asked for")
                yield response.content.iter_any()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(_why(self.base_url, error)) from error

    async def _once(
        self, method: str, path: str, headers: Mapping[str, str], params: Mapping[str, str] | None, body: object
    ) -> Reply:
        try:
            async with self._http().request(
                method,
                self.base_url + path,
                headers=dict(headers),
                params=dict(params) if params else None,
                # A redirect would carry the bearer token, or the body of a spending call, somewhere else.
                allow_redirects=False,
                data=None if body is None else json.dumps(body, allow_nan=False).encode(),
            ) as response:
                raw = await _read(response)
                if 200 <= response.status < 300:
                    content = decode_json(raw) if raw else None
                    return Reply(response.status, content, {k.lower(): v for k, v in response.headers.items()})
                raise _as_error(response, raw)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(_why(self.base_url, error)) from error

    async def text(self, path: str, *, token: str | None, params: Mapping[str, str], accept: str) -> bytes:
        """A body that isn't JSON (logs), whole."""
        headers = {**_headers(token, None), "Accept": accept}
        try:
            async with self._http().get(
                self.base_url + path, headers=headers, params=dict(params), allow_redirects=False
            ) as response:
                raw = await _read(response, limit=None)
                if response.status != 200:
                    raise _as_error(response, raw)
                return raw
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(_why(self.base_url, error)) from error

    async def send_bytes(
        self, method: str, path: str, content: bytes, *, token: str | None, params: Mapping[str, str] | None = None
    ) -> Reply:
        """A call whose body is bytes; sent once. Its answer is JSON."""
        headers = {**_headers(token, None), "Content-Type": "application/octet-stream"}
        try:
            async with self._http().request(
                method,
                self.base_url + path,
                headers=headers,
                params=dict(params) if params else None,
                allow_redirects=False,
                data=io.BytesIO(content),
                timeout=_BYTES_TIMEOUT,
            ) as response:
                raw = await _read(response)
                if 200 <= response.status < 300:
                    return Reply(response.status, decode_json(raw) if raw else None, {})
                raise _as_error(response, raw)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(_why(self.base_url, error)) from error

    async def read_bytes(
        self, path: str, *, token: str | None, params: Mapping[str, str] | None = None
    ) -> AsyncIterator[bytes]:
        """The bytes of an answer as they come. Raises as `request` does."""
        headers = {**_headers(token, None), "Accept": "*/*"}
        try:
            async with self._http().get(
                self.base_url + path,
                headers=headers,
                params=dict(params) if params else None,
                allow_redirects=False,
                timeout=_BYTES_TIMEOUT,
            ) as response:
                if response.status != 200:
                    raise _as_error(response, await _read(response))
                async for chunk in response.content.iter_any():
                    yield chunk
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(_why(self.base_url, error)) from error

    @asynccontextmanager
    async def socket(self, path: str, *, token: str | None) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """A WebSocket. Raises as `request` does, also when the connection breaks inside the block."""
        url = self.base_url + path
        try:
            async with self._http().ws_connect(url, headers=_headers(token, None), heartbeat=_PING_S) as socket:
                yield socket
        except aiohttp.WSServerHandshakeError as refused:
            # The handshake's answer has lost its body; the same path says by plain HTTP what is the matter.
            await self.request("GET", path, token=token)
            raise Unreachable(_why(self.base_url, refused)) from refused
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(_why(self.base_url, error)) from error

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=self._timeout,
                connector=aiohttp.TCPConnector(ssl=self._tls) if self._tls else None,
                trust_env=False,
            )
        return self._session


def base_url(api_url: str) -> str:
    """Scheme, host and path prefix without `/v1`; raises ValueError for anything but an http(s) URL."""
    url = api_url.rstrip("/").removesuffix("/v1").rstrip("/")
    parts = urlsplit(url)
    if (
        parts.scheme not in {"http", "https"}
        or not parts.netloc
        or parts.query
        or parts.fragment
        or "@" in parts.netloc
    ):
        raise ValueError(f"{api_url!r} is not an http(s)://host[:port] address")
    return url


def _headers(token: str | None, idempotency_key: str | None) -> dict[str, str]:
    headers = {"Accept": "application/json", "Content-Type": "application/json", "User-Agent": "reaver-client"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    if idempotency_key is not None:
        headers["Idempotency-Key"] = idempotency_key
    return headers


async def _read(response: aiohttp.ClientResponse, limit: int | None = MAX_ANSWER_BYTES) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if limit is not None and size > limit:
            raise MalformedAnswer(f"the market's answer exceeds {limit} bytes")
        parts.append(chunk)
    return b"".join(parts)


def _why(url: str, error: BaseException) -> str:
    what = "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
    return f"the market at {url} can't be reached ({what}); check REAVER_API and whether it is running"


def _wait_of(error: ApiError) -> float | None:
    """Seconds until a repetition makes sense, None when it makes none."""
    if error.status in {429, 503} or error.code == "idempotency_in_progress":
        return float(error.retry_after_s) if error.retry_after_s is not None else None
    return None


def _as_error(response: aiohttp.ClientResponse, raw: bytes) -> Exception:
    try:
        body = decode_json(raw)
    except MalformedAnswer:
        body = None
    header = response.headers.get("Retry-After", "")
    retry_after_s = int(header) if header.isascii() and header.isdecimal() else None
    if not isinstance(body, dict) or not isinstance(body.get("error"), str):
        # A proxy's page or another server's: the status is all there is to tell.
        code = "overloaded" if response.status in {502, 503, 504} else "unexpected_answer"
        return ApiError(
            code=code,
            status=response.status,
            message=f"HTTP {response.status} without the market's error body; is this address a Reaver market?",
            retry_after_s=retry_after_s,
        )
    kind = SignatureNeeded if (response.status, body["error"]) == (402, "signature_required") else ApiError
    known = {"error", "message", "status", "request_id", "retryable", "details"}
    return kind(
        code=body["error"],
        status=response.status,
        message=str(body.get("message", "")),
        details=tuple(_field_problem(entry) for entry in _list(body.get("details")) if isinstance(entry, dict)),
        request_id=str(body["request_id"]) if body.get("request_id") else response.headers.get("X-Request-ID"),
        retryable=body.get("retryable") is True,
        retry_after_s=retry_after_s,
        extra={name: value for name, value in body.items() if name not in known},
    )


def _field_problem(entry: Mapping[str, object]) -> FieldProblem:
    return FieldProblem(
        field=str(entry.get("field", "")),
        code=str(entry.get("code", "")),
        message=str(entry.get("message", "")),
        allowed=tuple(str(value) for value in _list(entry.get("allowed"))),
        suggestions=tuple(str(value) for value in _list(entry.get("suggestions"))),
    )


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
