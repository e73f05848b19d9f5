"""A repeated POST does its work once. Source: api.md section 1.2, row "idempotency".

A key binds to the body when the intent is written or the call succeeds; errors before that leave it free. A use
case that writes an intent calls `KeyInUse.bind(tx)` in the intent's own unit of work, so that key and intent are
durable together; the frame binds the key of every other call together with its answer. After a bound call that
ended in an error (402, 503, a crash) the next one runs the use case again, which finds its intent and goes on.

A kept answer that has secrets is sealed as a whole, as everything secret in the store is: who reads the store reads
none of them. Why so: docs/decisions/018.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from marketplace.domain.quantities import Millis
from marketplace.errors import IdempotencyInProgress, IdempotencyKeyReused, Malformed
from marketplace.services.clock import Clock
from marketplace.services.stored_secrets import SecretKeeper, StoredSecret
from marketplace.store.engine import Store, Transaction
from marketplace.store.idempotency import IdempotencyKeys, KeyScope, StoredAnswer

RETENTION_MS: Final = 24 * 3600 * 1000
"""How long answers are kept. Specified: api.md section 1.2."""
SECRET_RETENTION_MS: Final = 5 * 60 * 1000
"""How long secrets in them are. Specified: api.md section 1.2."""
_SEALED: Final = b"\0"
"""Begins a kept body that is sealed; no JSON text begins so."""
_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")


@dataclass(frozen=True, slots=True)
class KeyInUse:
    """A key whose call is running now. given: the client chose it."""

    scope: KeyScope
    body_sha256: bytes
    given: bool
    bound_at: Millis

    @property
    def key(self) -> str:
        """The key itself."""
        return self.scope.key

    def bind(self, tx: Transaction) -> None:
        """Bind the key to this body in the caller's unit of work. Raises IdempotencyKeyReused."""
        expires_at = Millis(self.bound_at + RETENTION_MS)
        if IdempotencyKeys(tx).bind(self.scope, self.body_sha256, self.bound_at, expires_at) != self.body_sha256:
            raise IdempotencyKeyReused


def check_key(key: str) -> str:
    """The key, if it is 1..255 visible ASCII characters. Raises Malformed."""
    if _KEY.fullmatch(key) is None:
        raise Malformed("Idempotency-Key must be 1 to 255 visible ASCII characters")
    return key


class Idempotency:
    """Keys of running calls in memory (SQLite means one process), of finished ones in the store."""

    def __init__(self, store: Store, clock: Clock, keeper: SecretKeeper) -> None:
        self._store = store
        self._clock = clock
        self._keeper = keeper
        self._running: set[KeyScope] = set()

    async def begin(self, scope: KeyScope, body_sha256: bytes, *, given: bool) -> KeyInUse | StoredAnswer:
        """Start a call, or the answer to replay. Every KeyInUse returned is given back by `end`.

        Raises IdempotencyInProgress, IdempotencyKeyReused, Unreadable.
        """
        if scope in self._running:
            raise IdempotencyInProgress
        now = self._clock.now()
        # Running from here on: the same key may be presented again while the store is asked.
        self._running.add(scope)
        begun = False
        try:
            bound = await self._store.lookup(lambda tx: IdempotencyKeys(tx).find(scope, now)) if given else None
            if bound is not None:
                if bound.body_sha256 != body_sha256:
                    raise IdempotencyKeyReused
                if bound.answer is not None:
                    return self._opened(scope, bound.answer)
            begun = True
            return KeyInUse(scope, body_sha256, given, now)
        finally:
            if not begun:
                self._running.discard(scope)

    async def succeed(
        self, key: KeyInUse, status: int, headers: Mapping[str, str], body: bytes, *, has_secrets: bool
    ) -> None:
        """Keep the answer of a call that succeeded."""
        secrets_until = Millis(self._clock.now() + SECRET_RETENTION_MS) if has_secrets else None
        kept = self._sealed(key.scope, body) if has_secrets else body
        answer = StoredAnswer(status, headers, kept, secrets_until)

        def keep(tx: Transaction) -> None:
            keys = IdempotencyKeys(tx)
            if not keys.answer(key.scope, key.body_sha256, answer):
                # Nobody bound it yet, as use cases do that write an intent; or it has its answer.
                key.bind(tx)
                keys.answer(key.scope, key.body_sha256, answer)

        await self._store.write(keep)

    def end(self, key: KeyInUse) -> None:
        """The call is over, however it ended."""
        self._running.discard(key.scope)

    def secrets_expired(self, answer: StoredAnswer) -> bool:
        """Whether secrets in this answer are replayed as null."""
        return answer.secrets_until is not None and answer.secrets_until <= self._clock.now()

    def _sealed(self, scope: KeyScope, body: bytes) -> bytes:
        """The body as one value: mark, id of the ring's key, space, sealed bytes."""
        sealed = self._keeper.seal(_purpose(scope), body)
        return _SEALED + sealed.key_id.encode() + b" " + sealed.sealed

    def _opened(self, scope: KeyScope, answer: StoredAnswer) -> StoredAnswer:
        """The answer as it was given. One without the mark was kept before there was sealing."""
        if not answer.body.startswith(_SEALED):
            return answer
        key_id, _, sealed = answer.body.removeprefix(_SEALED).partition(b" ")
        return replace(answer, body=self._keeper.unseal(_purpose(scope), StoredSecret(key_id.decode(), sealed)))

    async def forget_expired(self) -> int:
        """Delete keys past their retention; how many."""
        now = self._clock.now()
        return await self._store.write(lambda tx: IdempotencyKeys(tx).forget_expired(now))


def _purpose(scope: KeyScope) -> str:
    return f"answer {scope.subject} {scope.route} {scope.key}"
