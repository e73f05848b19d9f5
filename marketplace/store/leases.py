"""Leases on duties: owner, token, expiry. Whoever writes as the holder names the token; zero rows means stale."""

from marketplace.errors import StaleLease
from marketplace.store.engine import Transaction


class Leases:
    """Acquire, renew, release."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def acquire(self, kind: str, owner: str, token: str, now_ms: int, ttl_ms: int) -> bool:
        """Take the duty when it is free or expired; whether it is ours now."""
        changed = self._tx.change(
            "INSERT INTO leases (kind, owner, token, expires_at_ms) VALUES (:kind, :owner, :token, :until)"
            " ON CONFLICT (kind) DO UPDATE SET owner = :owner, token = :token, expires_at_ms = :until"
            " WHERE leases.expires_at_ms <= :now",
            {"kind": kind, "owner": owner, "token": token, "until": now_ms + ttl_ms, "now": now_ms},
        )
        return changed == 1

    def renew(self, kind: str, token: str, now_ms: int, ttl_ms: int) -> None:
        """Hold it longer. Raises StaleLease when it is no longer ours."""
        changed = self._tx.change(
            "UPDATE leases SET expires_at_ms = :until WHERE kind = :kind AND token = :token AND expires_at_ms > :now",
            {"kind": kind, "token": token, "until": now_ms + ttl_ms, "now": now_ms},
        )
        if changed != 1:
            raise StaleLease

    def release(self, kind: str, token: str) -> None:
        """Give it back; harmless when it is no longer ours."""
        self._tx.change("DELETE FROM leases WHERE kind = :kind AND token = :token", {"kind": kind, "token": token})
