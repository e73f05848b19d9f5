"""Requests to one market in the name of one wallet: logged in, and at the market that is meant."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TypeVar

from aiohttp import ClientWebSocketResponse

from marketplace.client.errors import ApiError, LoginNeeded
from marketplace.client.keypairs import Keypair
from marketplace.client.known_markets import KnownMarket, KnownMarkets
from marketplace.client.login import ChainId, chain_id_of
from marketplace.client.models import Constants
from marketplace.client.pins import Pins
from marketplace.client.relay import Relay
from marketplace.client.sessions import Session
from marketplace.client.terms import MarketOnChain
from marketplace.client.tokens import StoredLogin, TokenCache
from marketplace.client.transport import Reply, RetryPolicy, Sleep, Transport

_T = TypeVar("_T")


class Calls:
    """One wallet's requests; what `ReaverClient` and its parts share. Arguments: see there."""

    def __init__(
        self,
        api_url: str,
        keypair: Keypair | None = None,
        token_cache: TokenCache | None = None,
        *,
        api_key: str | None = None,
        known_markets: KnownMarkets | None = None,
        pins: Pins | None = None,
        relay: Relay | None = None,
        retry: RetryPolicy | None = None,
        now_s: Callable[[], float] = time.time,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.transport = Transport(api_url, retry=retry, sleep=sleep)
        self.sleep = sleep
        self.relay = relay
        self._keypair = keypair
        self._session = Session(self.transport, keypair, token_cache, api_key=api_key, now_s=now_s)
        self._known_markets = known_markets
        self._pins = pins or Pins()
        self._constants: Constants | None = None
        self._now_s = now_s
        self.clock_ahead_s: float | None = None

    async def close(self) -> None:
        await self.transport.close()

    @property
    def subject(self) -> str:
        """Whose unanswered calls these are. Raises LoginNeeded without a wallet and an API key."""
        return self._session.subject

    def signer(self) -> Keypair:
        """The wallet's key. Raises LoginNeeded where none was given."""
        return self._session.signer()

    @property
    def can_sign(self) -> bool:
        """Whether there is a wallet's key here."""
        return self._keypair is not None

    async def login(self) -> StoredLogin:
        """Sign in anew, whatever is cached."""
        return await self._session.login(await self._chain_id())

    async def logout(self) -> bool:
        """End the login; False when there was none."""
        return await self._session.logout()

    async def constants(self) -> Constants:
        """The market's published numbers; its identity is compared with pins and with the last visit."""
        if self._constants is None:
            reply = await self.transport.request("GET", "/v1/constants")
            self.clock_ahead_s = _ahead_s(reply.headers.get("date"), self._now_s())
            constants = reply.read(Constants)
            chain = constants.chain
            self._pins.check(chain)
            if self._known_markets is not None:
                offered = KnownMarket(
                    program_id=chain.program_id,
                    genesis_hash=chain.genesis_hash,
                    market=chain.market,
                    payment_mint=chain.payment_mint,
                    decimals=chain.decimals,
                    quote_key=chain.quote_key,
                )
                self._known_markets.check(self.transport.base_url, offered)
            if self.relay is not None:
                await self.relay.check_cluster(chain.genesis_hash)
            self._constants = constants
        return self._constants

    async def market(self) -> MarketOnChain:
        """The market's identity on chain, checked as `constants` does."""
        return MarketOnChain.of((await self.constants()).chain)

    async def token(self) -> str:
        """A bearer token that is good now."""
        return await self._session.token(self._chain_id)

    async def get(self, path: str, params: dict[str, str] | None = None) -> Reply:
        return await self._with_token(
            lambda token: self.transport.request("GET", path, token=token, params=params or None)
        )

    async def send(self, method: str, path: str, body: object, *, key: str | None = None) -> Reply:
        """key: Idempotency-Key of a call that creates or spends."""
        return await self._with_token(
            lambda token: self.transport.request(method, path, token=token, body=body, idempotency_key=key)
        )

    async def send_bytes(
        self, method: str, path: str, content: bytes, *, params: dict[str, str] | None = None
    ) -> Reply:
        """A body that is bytes. Equal bytes sent again are the same part; a whole file may then be there twice."""
        return await self._with_token(
            lambda token: self.transport.send_bytes(method, path, content, token=token, params=params)
        )

    async def read_bytes(self, path: str, params: dict[str, str] | None = None) -> AsyncIterator[bytes]:
        """An answer that is bytes, as they come."""
        async for chunk in self.transport.read_bytes(path, token=await self.token(), params=params):
            yield chunk

    @asynccontextmanager
    async def socket(self, path: str) -> AsyncIterator[ClientWebSocketResponse]:
        """A WebSocket in the wallet's name."""
        async with AsyncExitStack() as stack:

            async def opened(token: str) -> ClientWebSocketResponse:
                return await stack.enter_async_context(self.transport.socket(path, token=token))

            yield await self._with_token(opened)

    async def _chain_id(self) -> ChainId:
        return chain_id_of((await self.constants()).chain.genesis_hash)

    async def _with_token(self, call: Callable[[str], Awaitable[_T]]) -> _T:
        token = await self.token()
        try:
            return await call(token)
        except ApiError as error:
            if error.status == HTTPStatus.UNAUTHORIZED and self._session.by_key:
                raise LoginNeeded(f"{error.message} (reaver keys create, with the wallet)") from error
            # A cached login that the market has ended meanwhile (revoked, or its key ring is new): once anew.
            if error.code not in {"token_expired", "unauthorized"} or self._keypair is None:
                raise
        self._session.drop(token)
        return await call(await self.token())


def _ahead_s(date: str | None, now_s: float) -> float | None:
    """Seconds that a Date header is ahead of a clock."""
    if date is None:
        return None
    try:
        return parsedate_to_datetime(date).timestamp() - now_s
    except ValueError:
        return None


def segment(text: str) -> str:
    """An id as a part of a path; raises ValueError for what could name another path."""
    if not text or not text.replace("_", "").replace("-", "").isalnum() or not text.isascii():
        raise ValueError(f"{text!r} is not an id")
    return text


def page(limit: int | None, offset: int | None) -> dict[str, str]:
    """Query parameters of one page."""
    given = {"limit": limit, "offset": offset}
    return {name: str(value) for name, value in given.items() if value is not None}
