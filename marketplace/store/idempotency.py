"""Idempotency keys: bound to a body when the intent is written or the call succeeds, answered once."""

from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from marketplace.domain.quantities import Millis
from marketplace.store.engine import Transaction


@dataclass(frozen=True, slots=True)
class KeyScope:
    """A key means something only to one principal on one route."""

    subject: str
    route: str
    key: str


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """What the successful call answered. secrets_until: after it, secrets in the body are no longer shown."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    secrets_until: Millis | None


@dataclass(frozen=True, slots=True)
class BoundKey:
    """A key with the body it belongs to; answer is None while the work has not succeeded."""

    body_sha256: bytes
    answer: StoredAnswer | None


class IdempotencyKeys:
    """Find, bind, answer, forget."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def find(self, scope: KeyScope, now: Millis) -> BoundKey | None:
        """The key, unless it was never bound or its time is over."""
        row = self._tx.row(
            "SELECT body_sha256, status, headers, body, secrets_until_ms FROM idempotency_keys"
            " WHERE subject = :subject AND route = :route AND key = :key AND expires_at_ms > :now",
            {"subject": scope.subject, "route": scope.route, "key": scope.key, "now": now},
        )
        if row is None:
            return None
        answer = None
        if row[1] is not None:
            answer = StoredAnswer(row[1], orjson.loads(row[2]), row[3], None if row[4] is None else Millis(row[4]))
        return BoundKey(bytes(row[0]), answer)

    def bind(self, scope: KeyScope, body_sha256: bytes, now: Millis, expires_at: Millis) -> bytes:
        """Bind the key to this body unless it is bound already; the hash of the body it is bound to."""
        parameters = {
            "subject": scope.subject,
            "route": scope.route,
            "key": scope.key,
            "body": body_sha256,
            "now": now,
            "expires": expires_at,
        }
        # A key past its time is as good as none, and begins anew with this body.
        written = self._tx.change(
            "INSERT INTO idempotency_keys (subject, route, key, body_sha256, bound_at_ms, expires_at_ms)"
            " VALUES (:subject, :route, :key, :body, :now, :expires) ON CONFLICT (subject, route, key)"
            " DO UPDATE SET body_sha256 = excluded.body_sha256, bound_at_ms = excluded.bound_at_ms,"
            " expires_at_ms = excluded.expires_at_ms, status = NULL, headers = NULL, body = NULL,"
            " secrets_until_ms = NULL WHERE idempotency_keys.expires_at_ms <= :now",
            parameters,
        )
        if written:
            return body_sha256
        row = self._tx.row(
            "SELECT body_sha256 FROM idempotency_keys WHERE subject = :subject AND route = :route AND key = :key",
            {"subject": scope.subject, "route": scope.route, "key": scope.key},
        )
        return bytes(row[0]) if row else body_sha256

    def answer(self, scope: KeyScope, body_sha256: bytes, answer: StoredAnswer) -> bool:
        """Keep the answer of a key that is bound to this body; whether it was. The first answer stays."""
        return bool(
            self._tx.change(
                "UPDATE idempotency_keys SET status = :status, headers = :headers, body = :body,"
                " secrets_until_ms = :secrets"
                " WHERE subject = :subject AND route = :route AND key = :key AND body_sha256 = :sha256"
                " AND status IS NULL",
                {
                    "subject": scope.subject,
                    "route": scope.route,
                    "key": scope.key,
                    "sha256": body_sha256,
                    "status": answer.status,
                    "headers": orjson.dumps(dict(answer.headers)).decode(),
                    "body": answer.body,
                    "secrets": answer.secrets_until,
                },
            )
        )

    def forget_expired(self, now: Millis) -> int:
        """Delete keys past their time; how many."""
        return self._tx.change("DELETE FROM idempotency_keys WHERE expires_at_ms <= :now", {"now": now})
