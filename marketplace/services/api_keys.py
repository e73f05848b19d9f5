"""API keys: made by a login, shown once, checked at each request. Source: api.md sections 4.1 and 4.5.

The secret is derived from the account and the Idempotency-Key of its making, as refresh tokens are: a repeated call
shows it again for five minutes, and it stands nowhere but in the answer. The store has its SHA-256.
"""

import base64
import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from marketplace.domain.ids import AccountId, AllocationId, KeyId
from marketplace.domain.money import format_amount
from marketplace.domain.quantities import Millis, Tokens
from marketplace.errors import (
    DetailCode,
    Forbidden,
    Invalid,
    NotFound,
    QuotaExceeded,
    SpendLimitReached,
    StoreError,
    Unauthenticated,
    UniqueViolation,
)
from marketplace.services.clock import Clock, Ids
from marketplace.services.idempotency import SECRET_RETENTION_MS, KeyInUse
from marketplace.services.key_ring import KeyRing
from marketplace.services.principals import NO_ADMINS, AccountPrincipal, Admins, KeyRate, Scope
from marketplace.store.api_keys import ApiKey, ApiKeys, KeyOwner, KeySpending
from marketplace.store.engine import Store, Transaction

_log = structlog.get_logger(__name__)

KEY_PREFIX: Final = "rk_"
MAX_KEYS: Final = 100
"""Of one account; chosen."""
FRESH_MS: Final = 5_000
"""How old a cached "not deleted" may be. Specified: api.md section 4.5."""
_SHOWN: Final = 8
"""Characters of the secret that lists show, so that its owner tells keys apart; 48 of 256 bits."""
_MAX_CHARACTERS: Final = 256
_MAX_CACHED: Final = 50_000
"""Chosen: about 30 MB."""


def is_api_key(text: str) -> bool:
    """Whether this has the form of a key."""
    return text.startswith(KEY_PREFIX)


@dataclass(frozen=True, slots=True)
class NewKey:
    """What is asked for. per_day, total: base units."""

    name: str
    scopes: frozenset[Scope]
    rate: KeyRate
    expires_at: Millis | None
    per_day: Tokens | None
    total: Tokens | None


@dataclass(frozen=True, slots=True)
class KeyUse:
    """A key as lists show it. spent_today: of this UTC day's limit."""

    key: ApiKey
    spent_today: Tokens


@dataclass(slots=True)
class _Cached:
    principal: AccountPrincipal
    expires_at: Millis | None
    checked_at: Millis


class ApiKeyService:
    """Makes, checks, lists and deletes keys."""

    def __init__(self, store: Store, ring: KeyRing, clock: Clock, ids: Ids, admins: Admins = NO_ADMINS) -> None:
        self._admins = admins
        self._store = store
        self._ring = ring
        self._clock = clock
        self._ids = ids
        self._cache: OrderedDict[bytes, _Cached] = OrderedDict()
        self._used: dict[KeyId, Millis] = {}
        self._listeners: list[Callable[[], None]] = []

    async def create(self, caller: AccountPrincipal, call: KeyInUse, wanted: NewKey) -> tuple[ApiKey, str | None, bool]:
        """The key, its secret, and whether this call made it. A repeated call's secret is None after five minutes.

        Raises Forbidden for a key as the caller and for scopes that the caller lacks, Invalid, QuotaExceeded.
        """
        caller.require_login("to make an API key")
        lacking = sorted(wanted.scopes - caller.scopes)
        if lacking:
            raise Forbidden(
                f"this login lacks the scope {lacking[0]}, so it can't give it to a key",
                extra={"required_scope": str(lacking[0])},
            )
        now = self._clock.now()
        if wanted.expires_at is not None and wanted.expires_at <= now:
            raise Invalid.field("expires_at", DetailCode.OUT_OF_RANGE, "must lie in the future")
        known = await self._find_made(caller.account_id, call.key)
        if known is not None:
            secret = self._derived(known.id)
            shown = known.key_hash == key_hash(secret) and now - known.created_at <= SECRET_RETENTION_MS
            return known, secret if shown else None, False
        key_id = KeyId(self._ids.new("key"))
        secret = self._derived(key_id)
        key = ApiKey(
            id=key_id,
            account_id=caller.account_id,
            create_key=call.key,
            key_hash=key_hash(secret),
            prefix=secret[: len(KEY_PREFIX) + _SHOWN],
            name=wanted.name,
            scopes=" ".join(sorted(wanted.scopes)),
            rate_class=wanted.rate.value,
            per_day=wanted.per_day,
            total=wanted.total,
            spent=Tokens(0),
            created_at=now,
            expires_at=wanted.expires_at,
            last_used_at=None,
        )

        def write(tx: Transaction) -> None:
            if ApiKeys(tx).count(caller.account_id) >= MAX_KEYS:
                raise QuotaExceeded(
                    f"an account has at most {MAX_KEYS} API keys; delete one",
                    extra={"quota": "keys", "limit": MAX_KEYS},
                )
            call.bind(tx)
            ApiKeys(tx).create(key)

        try:
            await self._store.write(write)
        except UniqueViolation:
            # Another process made it under the same key meanwhile.
            known = await self._find_made(caller.account_id, call.key)
            if known is None:
                raise
            return known, self._derived(known.id), False
        return key, secret, True

    async def list_keys(self, account_id: AccountId, *, limit: int, offset: int) -> tuple[Sequence[KeyUse], int]:
        """A page, newest first, and how many there are."""
        await self.flush()
        now = self._clock.now()

        def read(tx: Transaction) -> tuple[Sequence[KeyUse], int]:
            found = ApiKeys(tx).page(account_id, limit=limit, offset=offset)
            today = KeySpending(tx).today([key.id for key in found], now)
            return [KeyUse(key, today[key.id]) for key in found], ApiKeys(tx).count(account_id)

        return await self._store.read(read)

    async def delete(self, account_id: AccountId, key_id: KeyId) -> None:
        """The key is good for nothing: here at once, elsewhere within FRESH_MS. Raises NotFound."""
        if not await self._store.write(lambda tx: ApiKeys(tx).delete(account_id, key_id)):
            raise NotFound
        for digest in [digest for digest, cached in self._cache.items() if cached.principal.key_id == key_id]:
            del self._cache[digest]
        for listener in self._listeners:
            listener()

    def on_delete(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever a key is gone, on the event loop. It must not block."""
        self._listeners.append(listener)

    async def authenticate(self, text: str) -> AccountPrincipal:
        """The account behind a key. Raises Unauthenticated."""
        now = self._clock.now()
        if len(text) > _MAX_CHARACTERS:
            raise Unauthenticated("this API key is malformed")
        digest = key_hash(text)
        cached = self._cache.get(digest)
        if cached is None or now - cached.checked_at >= FRESH_MS:
            self._cache.pop(digest, None)
            owner = await self._store.lookup(lambda tx: ApiKeys(tx).find_by_hash(digest))
            if owner is None:
                raise Unauthenticated("this API key is unknown or was deleted; make one with a login")
            cached = self._cache[digest] = _Cached(self._principal(owner), owner.key.expires_at, now)
            if len(self._cache) > _MAX_CACHED:
                self._cache.popitem(last=False)
        if cached.expires_at is not None and cached.expires_at <= now:
            raise Unauthenticated("this API key has expired; make another with a login")
        if cached.principal.key_id is not None:
            self._used[cached.principal.key_id] = now
        return cached.principal

    async def flush(self) -> None:
        """Write when keys were last used; what a failing store doesn't take waits for the next time."""
        used: Mapping[KeyId, Millis]
        used, self._used = self._used, {}
        if not used:
            return
        try:
            await self._store.write(lambda tx: ApiKeys(tx).note_uses(used))
        except StoreError:
            _log.warning("api_keys.flush_failed", action="last uses wait for the next flush")
            self._used = {**used, **self._used}

    async def forget_days(self) -> int:
        """Delete sums of days that count no more; how many."""
        now = self._clock.now()
        return await self._store.write(lambda tx: KeySpending(tx).forget_days(now))

    def _principal(self, owner: KeyOwner) -> AccountPrincipal:
        known = {str(entry) for entry in Scope}
        scopes = frozenset(Scope(name) for name in owner.key.scopes.split() if name in known)
        return AccountPrincipal(
            account_id=owner.key.account_id,
            wallet=owner.wallet,
            login_id="",
            scopes=self._admins.allowed(scopes, owner.wallet),
            key_id=owner.key.id,
            key_rate=KeyRate(owner.key.rate_class),
        )

    async def _find_made(self, account_id: AccountId, create_key: str) -> ApiKey | None:
        return await self._store.lookup(lambda tx: ApiKeys(tx).find_by_create_key(account_id, create_key))

    def _derived(self, key_id: KeyId) -> str:
        """A secret that only this id and our own secret yield: 256 bits, unguessable. A deleted key's never comes back,
        for ids aren't given twice: a repeated call would otherwise make the key anew that its owner had ended.
        """
        text = f"api key\n{key_id}".encode()
        mac = hmac.new(self._ring.signing_key, text, hashlib.sha256).digest()
        return KEY_PREFIX + base64.urlsafe_b64encode(mac).rstrip(b"=").decode()


class KeyBudget:
    """What a caller's API key may still spend without the wallet; a login has no such limit.

    Counted is what the market opens or extends by itself: the deposit while it is open, then what was paid of it. What
    a wallet signs itself is the wallet's own decision, and no key's. decimals, currency: of the payment token.
    """

    def __init__(self, caller: AccountPrincipal, clock: Clock, decimals: int, currency: str) -> None:
        self._key_id = caller.key_id
        self._clock = clock
        self._decimals = decimals
        self._currency = currency

    def hold(self, tx: Transaction, allocation_id: AllocationId, amount: Tokens) -> None:
        """Take a deposit of the key's limits, in the caller's unit of work. Raises SpendLimitReached."""
        if self._key_id is None:
            return
        try:
            reached = KeySpending(tx).hold(self._key_id, allocation_id, amount, self._clock.now())
        except NotFound as error:
            raise Unauthenticated("this API key was deleted; nothing was spent") from error
        if reached is None:
            return
        shown = {name: format_amount(getattr(reached, name), self._decimals) for name in ("cap", "spent", "wanted")}
        raise SpendLimitReached(
            f"this API key's {reached.limit} limit of {shown['cap']} {self._currency} leaves less than the deposit of"
            f" {shown['wanted']}; nothing was spent, use another credential or wait for open jobs to settle",
            extra={"limit": reached.limit, **shown, "currency": self._currency},
        )


def key_hash(secret: str) -> bytes:
    """What the store has of a key."""
    return hashlib.sha256(secret.encode()).digest()
