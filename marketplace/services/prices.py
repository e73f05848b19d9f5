"""Prices with their history: floors, what was agreed, and how long it was waited for. Source: api.md section 5.3."""

from collections.abc import Sequence
from typing import Final

from marketplace.domain.catalogue import region_of
from marketplace.services.clock import Clock
from marketplace.services.node_registry import NodeRegistry
from marketplace.store.engine import Store, Transaction
from marketplace.store.prices import DAY_MS, PriceDay, PriceDays

MAX_DAYS: Final = 90
"""Specified: api.md section 5.3."""


class PriceService:
    """Notes the floors on offer, and reads the days."""

    def __init__(self, store: Store, registry: NodeRegistry, clock: Clock) -> None:
        self._store = store
        self._registry = registry
        self._clock = clock
        self._noted: dict[tuple[int, str, str], int] = {}

    async def note_floors(self) -> None:
        """Write the lowest floors of nodes that take work now, where today's are higher."""
        now = self._clock.now()
        today = now // DAY_MS
        lower: dict[tuple[int, str, str], int] = {}
        for presence in self._registry:
            if not self._registry.accepts_work(presence):
                continue
            place = (today, presence.node.class_id, region_of(presence.node.region))
            floor = presence.node.floor_per_hour
            known = lower.get(place, self._noted.get(place))
            if known is None or floor < known:
                lower[place] = floor
        if not lower:
            return

        def write(tx: Transaction) -> None:
            for (_, class_id, region), floor in lower.items():
                PriceDays(tx).note_floor(now, class_id, region, floor)

        await self._store.write(write)
        self._noted = {place: floor for place, floor in (self._noted | lower).items() if place[0] == today}

    async def days(
        self, days: int, class_id: str | None, region: str | None, *, limit: int, offset: int
    ) -> tuple[Sequence[PriceDay], int]:
        """The last so many days, today included."""
        first = self._clock.now() // DAY_MS - days + 1
        return await self._store.read(
            lambda tx: PriceDays(tx).page(first, class_id, region, limit=limit, offset=offset)
        )
