"""The outbox's rows. The port that the chain's sender asks for is `services/outbox.py`, over this."""

from dataclasses import dataclass
from typing import Any

from marketplace.store.engine import Transaction

_COLUMNS = "operation, signature, raw, last_valid_block_height, state, slot, failure"
_DEAD = "('failed', 'expired')"


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """One signed transaction. signature: base58. failure: JSON text of the transaction error."""

    operation: str
    signature: str
    raw: bytes
    last_valid_block_height: int
    state: str
    slot: int | None
    failure: str | None


class Outbox:
    """Insert, update, look up."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def insert(self, entry: StoredEntry) -> StoredEntry:
        """Write a built entry, or return the operation's own one that may still land or has landed."""
        standing = self._one(
            f"SELECT {_COLUMNS} FROM outbox WHERE operation = :operation AND state NOT IN {_DEAD}"  # noqa: S608
            " ORDER BY sequence DESC LIMIT 1",
            operation=entry.operation,
        )
        standing = standing or self.find(entry.signature)
        if standing is not None:
            return standing
        self._tx.change(
            f"INSERT INTO outbox ({_COLUMNS})"  # noqa: S608 - columns are ours
            " VALUES (:operation, :signature, :raw, :height, :state, :slot, :failure)",
            {
                "operation": entry.operation,
                "signature": entry.signature,
                "raw": entry.raw,
                "height": entry.last_valid_block_height,
                "state": entry.state,
                "slot": entry.slot,
                "failure": entry.failure,
            },
        )
        return entry

    def update(self, signature: str, state: str, slot: int | None, failure: str | None) -> None:
        """Write where the entry stands."""
        self._tx.change(
            "UPDATE outbox SET state = :state, slot = :slot, failure = :failure WHERE signature = :signature",
            {"signature": signature, "state": state, "slot": slot, "failure": failure},
        )

    def mark_sent(self, signature: str) -> bool:
        """From built to sent; whether it was built."""
        return bool(
            self._tx.change(
                "UPDATE outbox SET state = 'sent' WHERE signature = :signature AND state = 'built'",
                {"signature": signature},
            )
        )

    def find(self, signature: str) -> StoredEntry | None:
        return self._one(f"SELECT {_COLUMNS} FROM outbox WHERE signature = :signature", signature=signature)  # noqa: S608

    def latest(self, operation: str) -> StoredEntry | None:
        """The operation's newest entry, in whatever state."""
        return self._one(
            f"SELECT {_COLUMNS} FROM outbox WHERE operation = :operation ORDER BY sequence DESC LIMIT 1",  # noqa: S608
            operation=operation,
        )

    def list_unfinished(self) -> list[StoredEntry]:
        """Everything built, sent or confirmed, oldest first."""
        return [
            StoredEntry(*row)
            for row in self._tx.rows(
                f"SELECT {_COLUMNS} FROM outbox WHERE state IN ('built', 'sent', 'confirmed') ORDER BY sequence"  # noqa: S608
            )
        ]

    def _one(self, sql: str, **parameters: Any) -> StoredEntry | None:
        row = self._tx.row(sql, parameters)
        return None if row is None else StoredEntry(*row)
