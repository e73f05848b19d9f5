"""What running work used: samples of its heartbeats, kept thin and for a while."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import insert, select

from marketplace.domain.ids import AllocationId
from marketplace.store.engine import Transaction
from marketplace.store.records import from_row, to_values
from marketplace.store.tables.timing import UsageSampleRow

_SAMPLES: Final = UsageSampleRow.__table__  # type: ignore[attr-defined]  # sqlmodel adds it at run time


@dataclass(frozen=True, slots=True)
class UsageSample:
    """One look. cpu_ms, received_bytes, sent_bytes: since the start of the attempt; memory_bytes: at the moment.

    gpu_percent, gpu_memory_bytes: at the moment, None where the node doesn't measure them.
    """

    allocation_id: AllocationId
    attempt: int
    at_ms: int
    cpu_ms: int
    memory_bytes: int
    received_bytes: int
    sent_bytes: int
    gpu_percent: int | None = None
    gpu_memory_bytes: int | None = None


class UsageSamples:
    """Add, list, forget."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def add(self, samples: Sequence[UsageSample]) -> None:
        """Each has a moment of its own within its attempt."""
        if samples:
            self._tx.execute(insert(_SAMPLES), [to_values(sample) for sample in samples])

    def list_for(self, allocation_id: AllocationId, from_ms: int, to_ms: int) -> list[UsageSample]:
        """In order of time, both ends included."""
        rows = self._tx.execute(
            select(_SAMPLES)
            .where(_SAMPLES.c.allocation_id == allocation_id, _SAMPLES.c.at_ms >= from_ms, _SAMPLES.c.at_ms <= to_ms)
            .order_by(_SAMPLES.c.at_ms, _SAMPLES.c.attempt)
        ).mappings()
        return [from_row(UsageSample, row) for row in rows]

    def forget(self, before_ms: int) -> int:
        """Delete what is older; how many."""
        return self._tx.change("DELETE FROM usage_samples WHERE at_ms < :before", {"before": before_ms})
