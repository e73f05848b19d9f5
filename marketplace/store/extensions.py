"""Time and deposit that are to be added to escrows: the intents, and what became of them."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from sqlalchemy import insert, select, update

from marketplace.domain.ids import AllocationId
from marketplace.domain.quantities import Millis, Tokens
from marketplace.store.engine import Transaction
from marketplace.store.records import from_row, to_values
from marketplace.store.tables.timing import ExtensionRow

_EXTENSIONS: Final = ExtensionRow.__table__  # type: ignore[attr-defined]  # sqlmodel adds it at run time


class ExtensionState(StrEnum):
    """PENDING: not seen on chain. LANDED: its event is in the books. REFUSED: the program said no."""

    PENDING = "pending"
    LANDED = "landed"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Extension:
    """One extension of one allocation.

    key, body_hash: the Idempotency-Key that asked for it, None where the market did by itself (automatic).
    from_ms: the time limit that it was added to, as the chain had it: from_ms + added_ms there means it has landed.
    """

    allocation_id: AllocationId
    number: int
    key: str | None
    body_hash: bytes
    automatic: bool
    from_ms: Millis
    added_ms: Millis
    added_deposit: Tokens
    created_at_ms: int
    state: ExtensionState = ExtensionState.PENDING


class Extensions:
    """Find, create, mark."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def create(self, extension: Extension) -> None:
        """Raises UniqueViolation when the number is taken."""
        self._tx.execute(insert(_EXTENSIONS), to_values(extension))

    def list_for(self, allocation_id: AllocationId) -> list[Extension]:
        """All of an allocation, in the order in which they were asked for."""
        rows = self._tx.execute(
            select(_EXTENSIONS).where(_EXTENSIONS.c.allocation_id == allocation_id).order_by(_EXTENSIONS.c.number)
        ).mappings()
        return [from_row(Extension, row) for row in rows]

    def mark(self, allocation_id: AllocationId, number: int, state: ExtensionState) -> None:
        """Write down what became of it."""
        self._tx.execute(
            update(_EXTENSIONS)
            .where(_EXTENSIONS.c.allocation_id == allocation_id, _EXTENSIONS.c.number == number)
            .values(state=state.value)
        )
