"""Logging in with a wallet (Sign-In-With-Solana), staying logged in, and leaving. Source: api.md 4.2 to 4.4."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from marketplace.domain.ids import ALPHABET, AccountId
from marketplace.domain.instants import instant_text
from marketplace.domain.nodes import NodeStatus
from marketplace.domain.quantities import Millis
from marketplace.errors import (
    ChallengeExpired,
    DetailCode,
    Invalid,
    InvalidSignature,
    MarketError,
    NotFound,
    RefreshReused,
    Unauthenticated,
)
from marketplace.protocol.addresses import address_bytes, signature_bytes
from marketplace.protocol.signatures import verify
from marketplace.protocol.siws import SignInInput
from marketplace.services.clock import Clock, Ids, RandomSource
from marketplace.services.key_ring import KeyRing
from marketplace.services.principals import LOGIN_SCOPES
from marketplace.services.tokens import LIFETIME_S, Tokens
from marketplace.store.engine import Store, Transaction
from marketplace.store.logins import Account, Accounts, Challenge, Challenges, Login, Logins
from marketplace.store.nodes import Nodes

CHALLENGE_MS: Final = 300_000
"""Specified: api.md section 4.2."""
REFRESH_S: Final = 2_592_000
"""30 days. Specified: api.md section 4.4."""
REFRESH_RETRY_MS: Final = 60_000
"""How long the same Idempotency-Key replays a refresh. Specified: api.md section 4.4."""
_NONCE_CHARACTERS: Final = 22
_OUTSTANDING: Final = 5
"""Challenges kept per wallet and client address. Specified: api.md section 4.2."""
_TRIED: Final = 16
"""Challenges tried without a nonce. Specified: api.md section 4.2."""


class Purpose(StrEnum):
    """What a signature over a challenge is good for; each has its own statement in the text."""

    LOGIN = "login"
    NODE = "node"


@dataclass(frozen=True, slots=True)
class IssuedChallenge:
    """A challenge as issued, and the fields its text was made from."""

    challenge: Challenge
    fields: SignInInput


@dataclass(frozen=True, slots=True)
class Session:
    """What a login or refresh yields."""

    token: str
    expires_in_s: int
    refresh_token: str
    refresh_expires_in_s: int


@dataclass(frozen=True, slots=True)
class SignInText:
    """What every login text of this deployment has in common."""

    domain: str
    uri: str
    chain_id: str

    def fields(self, wallet: str, purpose: Purpose, nonce: str, issued_at: Millis) -> SignInInput:
        """Fields of one challenge."""
        statement = (
            f"Sign in to Reaver as the node {wallet}. No funds move."
            if purpose is Purpose.NODE
            else "Sign in to Reaver. No funds move."
        )
        return SignInInput(
            domain=self.domain,
            address=wallet,
            statement=statement,
            uri=self.uri,
            chain_id=self.chain_id,
            nonce=nonce,
            issued_at=instant_text(issued_at),
            expiration_time=instant_text(Millis(issued_at + CHALLENGE_MS)),
        )


class LoginService:
    """Challenges, logins, refreshes, logouts."""

    def __init__(
        self,
        store: Store,
        tokens: Tokens,
        ring: KeyRing,
        text: SignInText,
        clock: Clock,
        random: RandomSource,
        ids: Ids,
        *,
        count: Callable[[str], None] = lambda _outcome: None,
    ) -> None:
        self._store = store
        self._tokens = tokens
        self._ring = ring
        self._text = text
        self._clock = clock
        self._random = random
        self._ids = ids
        self._count = count

    async def issue_challenge(self, wallet: str, purpose: Purpose, client_address: str) -> IssuedChallenge:
        """A text for `wallet` (canonical base58; under purpose node a node's key) to sign within 5 minutes."""
        now = self._clock.now()
        nonce = self._nonce()
        fields = self._text.fields(wallet, purpose, nonce, now)
        challenge = Challenge(
            nonce=nonce,
            wallet=wallet,
            purpose=purpose.value,
            client_address=client_address,
            message=fields.message(),
            issued_at=now,
            expires_at=Millis(now + CHALLENGE_MS),
        )
        await self._store.write(lambda tx: Challenges(tx).create(challenge, keep=_OUTSTANDING))
        return IssuedChallenge(challenge, fields)

    async def verify(
        self, wallet: str, signature: str, client_address: str, *, nonce: str | None, signed_message: str | None
    ) -> Session:
        """Log in with the signature over an outstanding challenge. A failed attempt uses nothing up.

        wallet, signature: canonical base58. signed_message: base64 of the text the wallet signed; it must be the
        issued text byte by byte. Raises ChallengeExpired, InvalidSignature, Invalid, Unauthenticated.
        """
        now = self._clock.now()
        outstanding = await self._store.read(
            lambda tx: Challenges(tx).list_outstanding(wallet, client_address, now, _TRIED if nonce is None else 1000)
        )
        candidates = [entry for entry in outstanding if nonce is None or hmac.compare_digest(entry.nonce, nonce)]
        if not candidates:
            self._count("challenge_expired")
            raise ChallengeExpired
        won = self._signed(candidates, wallet, signature, signed_message)
        if won is None:
            self._count("invalid_signature")
            raise InvalidSignature
        session = await self._store.write(lambda tx: self._log_in(tx, won, now))
        self._count("login")
        return session

    async def refresh(self, refresh_token: str, retry_key: str | None) -> Session:
        """A new pair for an unused refresh token. Raises Unauthenticated, RefreshReused.

        retry_key: the request's Idempotency-Key. The same key with the same token within a minute gets the same
        refresh token again: the new token is derived from both, so no answer has to be kept in clear.
        """
        now = self._clock.now()
        outcome = await self._store.write(lambda tx: self._rotate(tx, refresh_token, retry_key, now))
        if isinstance(outcome, Session):
            self._count("refresh")
            return outcome
        login_id, error = outcome
        if login_id is not None:
            self._tokens.forget(login_id)
        self._count("refresh_refused")
        raise error

    async def log_out(self, login_id: str) -> None:
        """End a login with all its tokens."""
        now = self._clock.now()
        await self._store.write(lambda tx: Logins(tx).revoke(login_id, now))
        self._tokens.forget(login_id)

    async def get_account(self, account_id: AccountId) -> Account:
        """The account with its wallets. Raises NotFound."""
        account = await self._store.read(lambda tx: Accounts(tx).find(account_id))
        if account is None:
            raise NotFound
        return account

    async def forget_expired(self) -> int:
        """Delete challenges, tokens and logins past their time; how many."""
        now = self._clock.now()
        return await self._store.write(lambda tx: Challenges(tx).forget_expired(now) + Logins(tx).forget_expired(now))

    def _signed(
        self, candidates: Sequence[Challenge], wallet: str, signature: str, signed_message: str | None
    ) -> Challenge | None:
        """The candidate that this signature is over."""
        key, raw = address_bytes(wallet), signature_bytes(signature)
        shown = None if signed_message is None else _decode_base64(signed_message)
        for challenge in candidates:
            text = challenge.message.encode()
            if (shown is None or hmac.compare_digest(text, shown)) and verify(key, text, raw):
                return challenge
        return None

    def _log_in(self, tx: Transaction, challenge: Challenge, now: Millis) -> Session:
        # Deleting the challenge and issuing the tokens are one transaction: of two that race, one wins.
        if not Challenges(tx).consume(challenge.nonce, now):
            raise ChallengeExpired
        subject: str
        scope = ""
        if challenge.purpose == Purpose.NODE:
            node = Nodes(tx).find_by_key(challenge.wallet)
            if node is None or node.status is NodeStatus.RETIRED:
                raise Unauthenticated("this node key is not registered here; run `reaver-node register`")
            subject = node.id
        else:
            subject = self._account_of(tx, challenge.wallet, now)
            scope = " ".join(sorted(LOGIN_SCOPES))
        login = Login(
            id=self._ids.new("login"),
            subject=subject,
            wallet=challenge.wallet,
            scope=scope,
            created_at=now,
            expires_at=Millis(now + REFRESH_S * 1000),
            revoked=False,
        )
        Logins(tx).create(login)
        token = "rt_" + base64.urlsafe_b64encode(self._random.token_bytes(32)).rstrip(b"=").decode()
        return self._session(tx, login, token, now)

    def _account_of(self, tx: Transaction, wallet: str, now: Millis) -> AccountId:
        account_id = Accounts(tx).find_by_wallet(wallet)
        if account_id is None:
            account_id = AccountId(self._ids.new("acct"))
            Accounts(tx).create(account_id, wallet, now)
        return account_id

    def _session(self, tx: Transaction, login: Login, refresh_token: str, now: Millis) -> Session:
        Logins(tx).add_refresh_token(_hash(refresh_token), login.id, now, Millis(now + REFRESH_S * 1000))
        return Session(self._tokens.issue(login), LIFETIME_S, refresh_token, REFRESH_S)

    def _rotate(
        self, tx: Transaction, refresh_token: str, retry_key: str | None, now: Millis
    ) -> Session | tuple[str | None, MarketError]:
        """The new pair, or which login to forget and what to raise. Returned, so that a revocation is committed."""
        logins = Logins(tx)
        held = logins.find_refresh_token(_hash(refresh_token))
        login = logins.find(held.login_id) if held is not None else None
        if held is None or login is None or held.expires_at <= now:
            return None, Unauthenticated("this refresh token is unknown or expired; log in again")
        if login.revoked:
            return None, Unauthenticated("this login has ended; log in again")
        retry_hash = None if retry_key is None else hashlib.sha256(retry_key.encode()).digest()
        if held.used_at is not None:
            successor = self._derived(refresh_token, retry_key) if retry_key is not None else None
            if successor is not None and held.retry_key_hash == retry_hash and now - held.used_at <= REFRESH_RETRY_MS:
                child = logins.find_refresh_token(_hash(successor))
                if child is not None and child.used_at is None:
                    remaining_s = (child.expires_at - now) // 1000
                    return Session(self._tokens.issue(login), LIFETIME_S, successor, remaining_s)
            logins.revoke(login.id, now)
            return login.id, RefreshReused()
        logins.use_refresh_token(held.token_hash, now, retry_hash)
        logins.prolong(login.id, Millis(now + REFRESH_S * 1000))
        token = (
            self._derived(refresh_token, retry_key)
            if retry_key is not None
            else "rt_" + base64.urlsafe_b64encode(self._random.token_bytes(32)).rstrip(b"=").decode()
        )
        return self._session(tx, login, token, now)

    def _derived(self, refresh_token: str, retry_key: str) -> str:
        """A refresh token that only this token, this key and our secret yield: 256 bits, unguessable."""
        text = f"refresh\n{refresh_token}\n{retry_key}".encode()
        mac = hmac.new(self._ring.signing_key, text, hashlib.sha256).digest()
        return "rt_" + base64.urlsafe_b64encode(mac).rstrip(b"=").decode()

    def _nonce(self) -> str:
        number = int.from_bytes(self._random.token_bytes(32), "big")
        characters = []
        for _ in range(_NONCE_CHARACTERS):
            number, digit = divmod(number, len(ALPHABET))
            characters.append(ALPHABET[digit])
        return "".join(characters)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _decode_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Invalid.field("signed_message", DetailCode.NOT_ALLOWED, "must be base64") from error
