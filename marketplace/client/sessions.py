"""The login of one wallet at one market: from the cache, refreshed, or made anew."""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final

import base58

from marketplace.client.errors import ApiError, KeypairError, LoginNeeded
from marketplace.client.keypairs import Keypair
from marketplace.client.login import ChainId, text_to_sign
from marketplace.client.models import Challenge, TokenAnswer
from marketplace.client.tokens import StoredLogin, TokenCache
from marketplace.client.transport import Transport

_EARLY_S: Final = 60
"""A token this close to its end is refreshed first; chosen: longer than any request may take."""


class Session:
    """Gives a bearer token, and makes or refreshes the login behind it.

    keypair: None can only use a given token. api_key: what speaks for the account instead of any login. now_s: Unix
    seconds.
    """

    def __init__(
        self,
        transport: Transport,
        keypair: Keypair | None,
        cache: TokenCache | None,
        *,
        api_key: str | None = None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._transport = transport
        self._keypair = keypair
        self._cache = cache
        self._now_s = now_s
        self._login: StoredLogin | None = None
        self._renewing = asyncio.Lock()
        if api_key is not None and not _is_api_key(api_key):
            raise KeypairError("what was given as an API key is none: one begins with rk_ and stands on one line")
        self._api_key = api_key

    @property
    def by_key(self) -> bool:
        """Whether an API key speaks for the account."""
        return self._api_key is not None

    @property
    def subject(self) -> str:
        """Whose unanswered calls these are: the wallet's, or the API key's. Raises LoginNeeded without either."""
        if self._api_key is not None and self._keypair is None:
            return "api-key " + hashlib.sha256(self._api_key.encode()).hexdigest()[:32]
        return self.wallet

    @property
    def wallet(self) -> str:
        """Address of the wallet; raises LoginNeeded without a keypair."""
        return str(self.signer().address)

    def find(self) -> StoredLogin | None:
        """The cached login, expired or not."""
        if self._login is None and self._cache is not None and self._keypair is not None:
            self._login = self._cache.find(self._transport.base_url, self.wallet)
        return self._login

    async def token(self, chain_id: Callable[[], Awaitable[ChainId]]) -> str:
        """A token good for the next minute: cached, else refreshed, else by a new login.

        chain_id: the cluster that a login text has to name; asked for only when one is to be signed.
        """
        if self._api_key is not None:
            return self._api_key
        # One call at a time sees to a token: those that wait take what the first one got.
        async with self._renewing:
            login = self.find()
            now_s = int(self._now_s())
            if login is not None and login.expires_at_s - _EARLY_S > now_s:
                return login.token
            if login is not None and login.refresh_expires_at_s > now_s:
                try:
                    return (await self.refresh(login)).token
                except ApiError as error:
                    if error.status != 401 or self._keypair is None:
                        raise
            return (await self.login(await chain_id())).token

    async def login(self, chain_id: ChainId) -> StoredLogin:
        """Sign in anew. Raises ChallengeRefused when the login text is not ours to sign."""
        if self._api_key is not None:
            raise LoginNeeded("an API key needs no login; without it (REAVER_API_KEY) the wallet signs in")
        signer = self.signer()
        reply = await self._transport.request("GET", "/v1/auth/challenge", params={"wallet": self.wallet})
        challenge = reply.read(Challenge)
        text = text_to_sign(
            challenge,
            api_url=self._transport.base_url,
            wallet=self.wallet,
            chain_id=chain_id,
            now=datetime.fromtimestamp(self._now_s(), UTC),
        )
        signature = base58.b58encode(signer.sign(text.encode())).decode()
        body = {"wallet": self.wallet, "signature": signature, "nonce": challenge.nonce}
        answer = await self._transport.request("POST", "/v1/auth/verify", body=body)
        return self._keep(answer.read(TokenAnswer))

    async def refresh(self, login: StoredLogin) -> StoredLogin:
        """Exchange the refresh token; it is used up, so the new pair is stored before anything else.

        Two processes that present the same one would look like theft and end the login (api.md section 4.4), so
        the second waits for the first and takes its result. The key lets a lost answer be asked for again.
        """
        if self._cache is None:
            return await self._refresh(login)
        async with self._cache.locked(login.api_url, login.wallet):
            current = self._cache.find(login.api_url, login.wallet)
            if current is not None and current.refresh_token != login.refresh_token:
                self._login = current
                return current
            return await self._refresh(login)

    async def _refresh(self, login: StoredLogin) -> StoredLogin:
        key = "refresh-" + hashlib.sha256(login.refresh_token.encode()).hexdigest()[:32]
        answer = await self._transport.request(
            "POST", "/v1/auth/refresh", body={"refresh_token": login.refresh_token}, idempotency_key=key
        )
        return self._keep(answer.read(TokenAnswer))

    async def logout(self) -> bool:
        """End the login at the market and forget it here; False when there was none."""
        if self._api_key is not None:
            raise LoginNeeded("an API key has no login that could end; its owner ends it: reaver keys delete KEY")
        login = self.find()
        if login is None:
            return False
        try:
            await self._transport.request("POST", "/v1/auth/logout", token=login.token)
        except ApiError as error:
            # 401: the market has already ended it, which is what was asked for.
            if error.status != 401:
                raise
        self.drop()
        return True

    def drop(self, token: str | None = None) -> None:
        """Forget the login here. token: only if that one is still its own, and not one that was taken meanwhile."""
        if token is not None:
            newest = self._login
            if self._cache is not None and self._keypair is not None:
                newest = self._cache.find(self._transport.base_url, self.wallet)
            if newest is not None and newest.token != token:
                self._login = newest
                return
        if self._cache is not None and self._keypair is not None:
            self._cache.forget(self._transport.base_url, self.wallet)
        self._login = None

    def signer(self) -> Keypair:
        """The wallet's key. Raises LoginNeeded where none was given."""
        if self._keypair is not None:
            return self._keypair
        if self._api_key is not None:
            raise LoginNeeded(
                "this needs the wallet's own signature, which no API key gives: name the keypair file of the key's"
                " wallet with --keypair or REAVER_KEYPAIR; jobs inside an allowance need none (reaver allow grant)"
            )
        raise LoginNeeded(
            "this needs a wallet: name its keypair file with --keypair or REAVER_KEYPAIR, or an API key by"
            " REAVER_API_KEY"
        )

    def _keep(self, answer: TokenAnswer) -> StoredLogin:
        now_s = int(self._now_s())
        login = StoredLogin(
            api_url=self._transport.base_url,
            wallet=self.wallet,
            token=answer.token,
            expires_at_s=now_s + answer.expires_in,
            refresh_token=answer.refresh_token,
            refresh_expires_at_s=now_s + answer.refresh_expires_in,
        )
        if self._cache is not None:
            self._cache.store(login)
        self._login = login
        return login


def _is_api_key(text: str) -> bool:
    return text.startswith("rk_") and text.isascii() and text.isprintable() and " " not in text
