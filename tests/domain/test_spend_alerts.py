"""Half, four fifths, and used up."""

import pytest

from marketplace.domain.spend_alerts import EXHAUSTED, reached, still_told


@pytest.mark.parametrize(
    ("used", "last", "threshold"),
    [(0, 1, 0), (49, 1, 0), (50, 1, 50), (79, 1, 50), (80, 1, 80), (99, 1, 80), (100, 1, 100), (100, 0, 100),
     (99, 2, 100), (95, 5, 80), (96, 5, 100), (60, 41, 100), (101, 1, 100)],
)  # fmt: skip
def test_the_threshold_is_by_the_use_and_used_up_means_that_no_such_escrow_fits(used, last, threshold):
    assert reached(used, 100, last) == threshold


@pytest.mark.parametrize(
    ("told", "used", "holds"),
    [(0, 100, 0), (50, 50, 50), (50, 40, 50), (50, 39, 0), (80, 70, 80), (80, 69, 50), (80, 39, 0), (EXHAUSTED, 90, 100),
     (EXHAUSTED, 89, 80)],
)  # fmt: skip
def test_what_was_told_is_told_again_only_after_the_use_fell_well_below(told, used, holds):
    assert still_told(told, used, 100) == holds
