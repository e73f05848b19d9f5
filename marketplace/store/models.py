"""Models that admins gave to the market while it runs."""

from dataclasses import dataclass

from marketplace.domain.quantities import Millis
from marketplace.store.engine import Transaction


@dataclass(frozen=True, slots=True)
class StoredModel:
    """entry: JSON text, as it was given. wallet: whose act it was."""

    name: str
    entry: str
    wallet: str
    changed_at: Millis


class StoredModels:
    """Put, delete, list; names are compared without regard to case."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def put(self, model: StoredModel) -> None:
        """In place of the one of this name, where there is one."""
        self._tx.change(
            "INSERT INTO models (folded, name, entry, wallet, changed_at_ms)"
            " VALUES (:folded, :name, :entry, :wallet, :changed)"
            " ON CONFLICT (folded) DO UPDATE SET name = excluded.name, entry = excluded.entry,"
            " wallet = excluded.wallet, changed_at_ms = excluded.changed_at_ms",
            {
                "folded": model.name.casefold(),
                "name": model.name,
                "entry": model.entry,
                "wallet": model.wallet,
                "changed": model.changed_at,
            },
        )

    def delete(self, name: str) -> bool:
        """False where there is none."""
        return bool(self._tx.change("DELETE FROM models WHERE folded = :folded", {"folded": name.casefold()}))

    def all(self) -> list[StoredModel]:
        """Every one, by name."""
        rows = self._tx.rows("SELECT name, entry, wallet, changed_at_ms FROM models ORDER BY folded", {})
        return [StoredModel(row[0], row[1], row[2], Millis(row[3])) for row in rows]
