"""What capacity cost, and how long it was waited for, by day."""

from dataclasses import dataclass
from typing import Final

from marketplace.store.engine import Transaction

DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class PriceDay:
    """One UTC day of one class in one region. Prices per hour of one GPU, base units; None where there was none."""

    day: int
    class_id: str
    region: str
    floor: int | None
    lowest: int | None
    highest: int | None
    price_sum: int
    choices: int
    wait_sum_ms: int
    longest_wait_ms: int


_COLUMNS: Final = "day, class_id, region, floor, lowest, highest, price_sum, choices, wait_sum_ms, longest_wait_ms"
_WHERE: Final = (
    "FROM price_days WHERE day >= :day AND (:class_id = '' OR class_id = :class_id)"
    " AND (:region = '' OR region = :region)"
)


class PriceDays:
    """Note and list."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def note_floor(self, at_ms: int, class_id: str, region: str, floor: int) -> None:
        """A floor of a node that takes work; the day keeps the lowest."""
        self._tx.change(
            "INSERT INTO price_days (day, class_id, region, floor, price_sum, choices, wait_sum_ms, longest_wait_ms)"
            " VALUES (:day, :class_id, :region, :floor, 0, 0, 0, 0) ON CONFLICT (day, class_id, region) DO UPDATE SET"
            " floor = CASE WHEN price_days.floor IS NULL OR price_days.floor > excluded.floor THEN excluded.floor"
            " ELSE price_days.floor END",
            {"day": at_ms // DAY_MS, "class_id": class_id, "region": region, "floor": floor},
        )

    def note_choice(self, at_ms: int, class_id: str, region: str, price: int, wait_ms: int) -> None:
        """A node was found: at this price, after this wait."""
        self._tx.change(
            "INSERT INTO price_days (day, class_id, region, lowest, highest, price_sum, choices, wait_sum_ms,"
            " longest_wait_ms) VALUES (:day, :class_id, :region, :price, :price, :price, 1, :wait, :wait)"
            " ON CONFLICT (day, class_id, region) DO UPDATE SET"
            " lowest = CASE WHEN price_days.lowest IS NULL OR price_days.lowest > excluded.lowest THEN excluded.lowest"
            " ELSE price_days.lowest END,"
            " highest = CASE WHEN price_days.highest IS NULL OR price_days.highest < excluded.highest"
            " THEN excluded.highest ELSE price_days.highest END,"
            " price_sum = price_days.price_sum + excluded.price_sum, choices = price_days.choices + 1,"
            " wait_sum_ms = price_days.wait_sum_ms + excluded.wait_sum_ms,"
            " longest_wait_ms = CASE WHEN price_days.longest_wait_ms < excluded.longest_wait_ms"
            " THEN excluded.longest_wait_ms ELSE price_days.longest_wait_ms END",
            {"day": at_ms // DAY_MS, "class_id": class_id, "region": region, "price": price, "wait": wait_ms},
        )

    def page(
        self, from_day: int, class_id: str | None, region: str | None, *, limit: int, offset: int
    ) -> tuple[list[PriceDay], int]:
        """The latest days first; and how many rows there are."""
        values = {"day": from_day, "class_id": class_id or "", "region": region or ""}
        rows = self._tx.rows(
            f"SELECT {_COLUMNS} {_WHERE} ORDER BY day DESC, class_id, region LIMIT :limit OFFSET :offset",
            values | {"limit": limit, "offset": offset},
        )
        total = self._tx.row(f"SELECT count(*) {_WHERE}", values)
        return [PriceDay(*row) for row in rows], int(total[0]) if total else 0
