"""`reaver prices`: a mark a day on a terminal, a row a day in pipes."""

from decimal import Decimal
from typing import Any

import pytest

from marketplace.cli.reaver.commands.prices import _by_class, _line, _row, trend
from marketplace.client.figure_models import PriceDay


def day(date: str, floor: str | None, mean: str | None = None, attempts: int = 0, **more: Any) -> PriceDay:
    return PriceDay(
        date=date, gpu="a100", region="eu", floor=floor, clearing_mean=mean, attempts=attempts,
        **{"clearing_low": mean, "clearing_high": mean, "wait_mean_ms": 500 if attempts else None} | more,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("values", "marks"),
    [
        ([], ""),
        ([None], "·"),
        (["1"], "▄"),
        (["2", "2", None], "▄▄·"),
        (["1", "8", "4.5", None, "1"], "▁█▄·▁"),
        (["0.000001", "0.000002"], "▁█"),
    ],
)
def test_a_trend_has_a_mark_for_each_day(values: list[str | None], marks: str) -> None:
    assert trend([None if value is None else Decimal(value) for value in values]) == marks


def test_a_line_sums_a_class_up_and_leaves_no_day_out() -> None:
    days = [
        day("2026-03-04", "0.5"),
        day("2026-03-02", "0.6", "1.0", 2, clearing_low="0.9", clearing_high="1.25"),
        day("2026-03-01", "0.7", "0.8", 1, wait_mean_ms=2_000),
        day("2026-03-05", None),
    ]
    ((key, of),) = _by_class(days)
    assert _line(key, of, 30) == ("a100", "eu", "▁█···", None, "1.0", "0.8", "1.25", "3", "1.0 s")
    # no further back than was asked for
    assert _line(key, of, 2)[2] == "▄·"
    assert _row(days[1]) == ("2026-03-02", "a100", "eu", "0.6", "1.0", "0.9", "1.25", "2", "500")
