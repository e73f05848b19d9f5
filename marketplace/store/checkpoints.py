"""Rows of jobs' checkpoints: one for each job, the latest that is whole."""

from dataclasses import dataclass
from typing import Final

from marketplace.domain.ids import AccountId, AllocationId
from marketplace.store.engine import Transaction
from marketplace.store.records import Statements, to_values
from marketplace.store.tables.checkpoints import CheckpointRow

assert CheckpointRow.__tablename__ == "checkpoints"  # noqa: S101 - what the statements below name


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint. attempt: which wrote it. object: where its bytes are. sha256: hex digits."""

    allocation_id: AllocationId
    account_id: AccountId
    attempt: int
    object: str
    size: int
    sha256: str
    at_ms: int


_CHECKPOINT: Final = Statements(Checkpoint, "checkpoints")


class Checkpoints:
    """Put, find, forget."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def put(self, checkpoint: Checkpoint) -> str | None:
        """Write it in place of the one before; that one's object, which is now nobody's."""
        before = self.find(checkpoint.allocation_id)
        self.delete(checkpoint.allocation_id)
        self._tx.change(_CHECKPOINT.insert, to_values(checkpoint))
        return None if before is None else before.object

    def find(self, allocation_id: AllocationId) -> Checkpoint | None:
        row = self._tx.row(f"{_CHECKPOINT.select} WHERE allocation_id = :id", {"id": allocation_id})
        return None if row is None else _CHECKPOINT.read(row)

    def usage(self, account_id: AccountId, but: AllocationId) -> int:
        """Bytes of an account's checkpoints, but for one job's."""
        row = self._tx.row(
            "SELECT COALESCE(sum(size), 0) FROM checkpoints WHERE account_id = :account AND allocation_id <> :but",
            {"account": account_id, "but": but},
        )
        return int(row[0]) if row else 0

    def list_past(self, before_ms: int, limit: int) -> list[Checkpoint]:
        """Those of jobs that ended before an instant."""
        rows = self._tx.rows(
            f"{_CHECKPOINT.select} WHERE at_ms < :before"  # noqa: S608 - our own text
            " AND allocation_id IN (SELECT id FROM allocations WHERE completed_at_ms < :before)"
            " ORDER BY at_ms LIMIT :limit",
            {"before": before_ms, "limit": limit},
        )
        return [_CHECKPOINT.read(row) for row in rows]

    def delete(self, allocation_id: AllocationId) -> None:
        self._tx.change("DELETE FROM checkpoints WHERE allocation_id = :id", {"id": allocation_id})
