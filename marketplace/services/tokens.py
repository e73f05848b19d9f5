"""Access tokens: HS256 JWTs, verified once and then cached. Source: api.md section 4.3."""

import base64
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final

import jwt

from marketplace.domain.ids import AccountId, NodeId, is_id
from marketplace.domain.quantities import Millis
from marketplace.errors import TokenExpired, Unauthenticated
from marketplace.services.clock import Clock, RandomSource
from marketplace.services.key_ring import KeyRing
from marketplace.services.principals import NO_ADMINS, AccountPrincipal, Admins, NodePrincipal, Principal, Scope
from marketplace.store.engine import Store
from marketplace.store.logins import Login, Logins

ALGORITHM: Final = "HS256"
AUDIENCE: Final = "reaver"
LIFETIME_S: Final = 3600
"""Specified: seed 000, `expiresIn`."""
LEEWAY_MS: Final = 30_000
"""Specified: api.md section 4.3."""
REVOCATION_DELAY_MS: Final = 5_000
"""How old a cached "not revoked" may be. Specified: api.md section 4.3."""
_MAX_TOKEN_CHARACTERS: Final = 4096
_MAX_CACHED: Final = 50_000
"""Chosen: about 50 MB; a token that fell out is verified again in 33 µs."""
_REQUIRED: Final = ["iss", "aud", "sub", "wallet", "sid", "scope", "iat", "nbf", "exp", "jti"]


@dataclass(slots=True)
class _Cached:
    principal: Principal
    expires_at: int
    checked_at: int


class Tokens:
    """Issues and verifies access tokens."""

    def __init__(
        self, ring: KeyRing, issuer: str, store: Store, clock: Clock, random: RandomSource, admins: Admins = NO_ADMINS
    ) -> None:
        self._admins = admins
        self._ring = ring
        self._issuer = issuer
        self._store = store
        self._clock = clock
        self._random = random
        self._cache: OrderedDict[str, _Cached] = OrderedDict()

    def issue(self, login: Login) -> str:
        """A token of this login, good for LIFETIME_S from now."""
        now_s = self._clock.now() // 1000
        scope = login.scope
        if is_id("acct", login.subject):
            scope = " ".join(sorted(self._admins.login_scopes(login.wallet)))
        claims = {
            "iss": self._issuer,
            "aud": AUDIENCE,
            "sub": login.subject,
            "wallet": login.wallet,
            "sid": login.id,
            "amr": ["wallet"],
            "scope": scope,
            "iat": now_s,
            "nbf": now_s,
            "exp": now_s + LIFETIME_S,
            "jti": base64.urlsafe_b64encode(self._random.token_bytes(16)).rstrip(b"=").decode(),
        }
        return jwt.encode(claims, self._ring.signing_key, algorithm=ALGORITHM, headers={"kid": self._ring.current})

    async def authenticate(self, token: str) -> Principal:
        """The principal of a token. Raises Unauthenticated, TokenExpired."""
        now = self._clock.now()
        cached = self._cache.get(token)
        if cached is None:
            cached = await self._verify(token, now)
            self._cache[token] = cached
            if len(self._cache) > _MAX_CACHED:
                self._cache.popitem(last=False)
        else:
            self._cache.move_to_end(token)
        if now > cached.expires_at + LEEWAY_MS:
            del self._cache[token]
            raise TokenExpired
        if now - cached.checked_at >= REVOCATION_DELAY_MS:
            await self._check_live(cached.principal.login_id)
            cached.checked_at = now
        return cached.principal

    def forget(self, login_id: str) -> None:
        """Tokens of a revoked login are refused by this process from now on."""
        for token in [token for token, cached in self._cache.items() if cached.principal.login_id == login_id]:
            del self._cache[token]

    async def _verify(self, token: str, now: Millis) -> _Cached:
        claims = self._claims(token)
        issued_at, not_before, expires_at = (_instant(claims[name]) for name in ("iat", "nbf", "exp"))
        if now + LEEWAY_MS < max(issued_at, not_before):
            raise Unauthenticated("this token is not valid yet; check the clocks")
        if now > expires_at + LEEWAY_MS:
            raise TokenExpired
        principal = self._principal(claims)
        await self._check_live(principal.login_id)
        return _Cached(principal, expires_at, now)

    def _claims(self, token: str) -> dict[str, Any]:
        if len(token) > _MAX_TOKEN_CHARACTERS:
            raise Unauthenticated("this token is malformed")
        try:
            kid = jwt.get_unverified_header(token).get("kid")
            key = self._ring.keys.get(kid) if isinstance(kid, str) else None
            if key is None:
                raise Unauthenticated("this token is not from here")
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                issuer=self._issuer,
                # Times are compared with the injected clock below.
                options={"require": _REQUIRED, "verify_exp": False, "verify_nbf": False, "verify_iat": False},
            )
        except jwt.InvalidTokenError as error:
            raise Unauthenticated("this token is malformed or not from here") from error
        return claims

    async def _check_live(self, login_id: str) -> None:
        if not await self._store.lookup(lambda tx: Logins(tx).is_live(login_id)):
            raise Unauthenticated("this login has ended; log in again")

    def _principal(self, claims: dict[str, Any]) -> Principal:
        subject, wallet, login_id, scope = (str(claims[name]) for name in ("sub", "wallet", "sid", "scope"))
        if is_id("node", subject):
            return NodePrincipal(NodeId(subject), wallet, login_id)
        if not is_id("acct", subject):
            raise Unauthenticated("this token is malformed")
        known = {str(entry) for entry in Scope}
        scopes = frozenset(Scope(name) for name in scope.split() if name in known)
        return AccountPrincipal(AccountId(subject), wallet, login_id, self._admins.allowed(scopes, wallet))


def _instant(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise Unauthenticated("this token is malformed")
    return value * 1000
