"""The market's HTTP routes that a node needs, and the authenticated WebSocket to it.

Nothing is signed here but a login text that was rebuilt from its fields: a key that signs claims must not be
made to sign anything else.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, Literal, Self
from urllib.parse import quote, urlsplit

import aiohttp
import base58

from marketplace.protocol.control import MAX_FRAME_BYTES, SUBPROTOCOL
from marketplace.protocol.siws import SignInInput
from marketplace.protocol.terms import canonical_json
from node.chain import Windows
from node.errors import MarketRefused, MarketUnavailable, NotTrusted
from node.keys import KeyPair

# Chosen: a market that takes longer than this to answer a plain request is as good as gone.
REQUEST_TIMEOUT_S: Final = 20.0
# Chosen: a transfer of which nothing arrives for so long is begun again.
SILENCE_S: Final = 60.0
# Chosen: dead connections are noticed within two of these.
PING_S: Final = 10.0
_RENEW_BEFORE_S: Final = 60.0

Purpose = Literal["login", "node"]


@dataclass(frozen=True, slots=True)
class Pins:
    """What the market publishes of itself (`/v1/constants`), to be pinned by the configuration."""

    address: str
    program_id: str
    genesis_hash: str
    decimals: int


class MarketHttp:
    """HTTP with one key's login; use as an async context manager."""

    def __init__(self, url: str, key: KeyPair, purpose: Purpose) -> None:
        self._url = url.rstrip("/")
        self._key = key
        self._purpose = purpose
        self._session: aiohttp.ClientSession | None = None
        self._token: str | None = None
        self._token_until = 0.0

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def constants(self) -> dict[str, Any]:
        """The published numbers. Raises MarketUnavailable, MarketRefused."""
        return await self._call("GET", "/v1/constants", token=None)

    async def pins(self) -> Pins:
        """What the market says it is. Raises MarketUnavailable, MarketRefused, NotTrusted."""
        chain = (await self.constants()).get("chain")
        if not isinstance(chain, dict):
            raise NotTrusted("the market's constants don't name its chain")
        try:
            return Pins(
                address=_address(chain["market"]),
                program_id=_address(chain["program_id"]),
                genesis_hash=_address(chain["genesis_hash"]),
                decimals=int(chain["decimals"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise NotTrusted(f"the market's constants can't be read at {error}") from error

    async def windows(self) -> Windows:
        """The program's time limits, as the market publishes them.

        Raises MarketUnavailable, MarketRefused, NotTrusted.
        """
        timing: dict[str, Any] = (await self.constants()).get("timing") or {}
        try:
            claim, skew, lost = (Decimal(str(timing[name])) for name in ("claim_limit_s", "skew_s", "lost_after_s"))
        except (KeyError, TypeError, ArithmeticError) as error:
            raise NotTrusted("the market's constants don't name its time limits") from error
        return Windows(claim_limit_ms=int(claim * 1000), skew_ms=int(skew * 1000), lost_after_ms=int(lost * 1000))

    async def get(self, path: str) -> dict[str, Any]:
        """A GET with this login. Raises MarketUnavailable, MarketRefused."""
        return await self._authenticated("GET", path, None, {})

    async def post(self, path: str, body: dict[str, Any], *, idempotency_key: str | None = None) -> dict[str, Any]:
        """A POST with this login. Raises MarketUnavailable, MarketRefused."""
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        return await self._authenticated("POST", path, body, headers)

    @asynccontextmanager
    async def stream(
        self, method: str, path: str, *, headers: dict[str, str], body: AsyncIterator[bytes] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A request whose body, or whose answer's, is read in pieces; no limit in all, but on silence.

        Raises MarketUnavailable, MarketRefused. A body is sent once: a login that is over is renewed for the next try.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=REQUEST_TIMEOUT_S, sock_read=SILENCE_S)
        sent = {**headers, "Authorization": f"Bearer {await self._login()}"}
        try:
            async with self._open.request(
                method, self._url + path, data=body, headers=sent, timeout=timeout, allow_redirects=False
            ) as response:
                if response.status == HTTPStatus.UNAUTHORIZED:
                    self._token = None
                if response.status >= HTTPStatus.BAD_REQUEST:
                    raise await _refusal(response)
                yield response
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            raise MarketUnavailable(f"{self._host} broke off: {error}") from error

    async def connect(self, node_id: str) -> aiohttp.ClientWebSocketResponse:
        """The control channel's WebSocket. Raises MarketUnavailable, MarketRefused."""
        token = await self._login()
        path = f"/v1/nodes/{quote(node_id, safe='')}/control"
        try:
            return await self._open.ws_connect(
                self._url + path,
                headers={"Authorization": f"Bearer {token}"},
                protocols=(SUBPROTOCOL,),
                max_msg_size=MAX_FRAME_BYTES,
                heartbeat=PING_S,
            )
        except aiohttp.WSServerHandshakeError as error:
            self._token = None  # whatever was wrong with it: the next attempt logs in anew
            raise MarketRefused("control_channel", error.message, status=error.status) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise MarketUnavailable(f"{self._host} does not answer: {error}") from error

    @property
    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise AssertionError("used outside its context")
        return self._session

    @property
    def _host(self) -> str:
        return urlsplit(self._url).netloc

    async def _authenticated(
        self, method: str, path: str, body: dict[str, Any] | None, headers: dict[str, str]
    ) -> dict[str, Any]:
        try:
            return await self._call(method, path, body, token=await self._login(), headers=headers)
        except MarketRefused as error:
            if error.status != 401:
                raise
        self._token = None
        return await self._call(method, path, body, token=await self._login(), headers=headers)

    async def _login(self) -> str:
        if self._token is not None and time.monotonic() < self._token_until:
            return self._token
        address = self._key.address
        challenge = await self._call("GET", f"/v1/auth/challenge?wallet={address}&purpose={self._purpose}", token=None)
        message = self._checked_challenge(challenge)
        signature = base58.b58encode(self._key.sign(message.encode())).decode()
        body = {"wallet": address, "signature": signature, "nonce": challenge["nonce"]}
        answer = await self._call("POST", "/v1/auth/verify", body, token=None)
        token, lifetime = answer.get("token"), answer.get("expiresIn")
        if not isinstance(token, str) or not isinstance(lifetime, int):
            raise NotTrusted("the market's login answer has no token")
        self._token = token
        self._token_until = time.monotonic() + max(0.0, lifetime - _RENEW_BEFORE_S)
        return token

    def _checked_challenge(self, challenge: dict[str, Any]) -> str:
        """The login text, rebuilt from its fields. Raises NotTrusted when the text is anything else."""
        try:
            given: dict[str, str] = {name: str(value) for name, value in challenge["input"].items()}
            rebuilt = SignInInput(
                domain=given["domain"],
                address=given["address"],
                statement=given["statement"],
                uri=given["uri"],
                chain_id=given["chainId"],
                nonce=given["nonce"],
                issued_at=given["issuedAt"],
                expiration_time=given["expirationTime"],
            ).message()
        except (KeyError, AttributeError) as error:
            raise NotTrusted(f"the market's login challenge can't be read at {error}") from error
        if rebuilt != challenge.get("message") or challenge.get("nonce") != given["nonce"]:
            raise NotTrusted("the market's login text is not what its fields say; it was not signed")
        if given["address"] != self._key.address:
            raise NotTrusted("the market's login text names another key; it was not signed")
        if given["domain"] != self._host:
            raise NotTrusted(f"the login text is for {given['domain']}, not for {self._host}; it was not signed")
        return rebuilt

    async def _call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        token: str | None,
        headers: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        sent = dict(headers or {})
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        data = None
        if body is not None:
            data = canonical_json(body)
            sent["Content-Type"] = "application/json"
        try:
            async with self._open.request(method, self._url + path, data=data, headers=sent) as response:
                status = response.status
                answer = await response.json(content_type=None) if status != 204 else {}
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise MarketUnavailable(f"{self._host} does not answer: {error}") from error
        except ValueError as error:
            raise MarketUnavailable(f"{self._host} answered {status} without JSON") from error
        if not isinstance(answer, dict):
            raise MarketUnavailable(f"{self._host} answered {status} with something else than an object")
        if status >= 400:
            code, message = str(answer.get("error", "error")), str(answer.get("message", ""))
            raise MarketRefused(code, message, status=status, body=answer)
        return answer


class NodeConnector:
    """Connects the control channel of one registered node."""

    def __init__(self, http: MarketHttp, node_id: str) -> None:
        self._http = http
        self._node_id = node_id

    async def connect(self) -> aiohttp.ClientWebSocketResponse:
        """Raises MarketUnavailable, MarketRefused, NotTrusted."""
        return await self._http.connect(self._node_id)


async def _refusal(response: aiohttp.ClientResponse) -> MarketRefused:
    try:
        answer = await response.json(content_type=None)
        code, message = str(answer["error"]), str(answer.get("message", ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        code, message = "error", "no readable answer"
    return MarketRefused(code, message, status=response.status)


def _address(value: object) -> str:
    """Base58 of 32 bytes. Raises ValueError."""
    if not isinstance(value, str) or len(base58.b58decode(value)) != 32:
        raise ValueError("not an address")
    return value
