"""A node's reputation, 0..1, from what the chain says of it and nothing else.

Formula (published in docs/reputation.md): with `well` attempts that ended well and `lost` that were lost,
(well + 1) / (well + 3 x lost + 2). A new node starts at one half, a single loss weighs as much as three good
ends, and nobody reaches 1 exactly.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

LOSS_WEIGHT: Final = 3
"""Chosen: a lost attempt costs its renter more than a good one earns the node's name."""


@dataclass(frozen=True, slots=True)
class Record:
    """Lifetime counters of a node, as its account on chain holds them.

    well, lost: attempts that ended so and whose usage the market's meter countersigned. An early quit is a loss
    on chain too. The third counter there, of nodes that left a silent market in time, is no fault and no merit.
    """

    well: int
    lost: int


def reputation(record: Record) -> Fraction:
    """Exact reputation; what is shown has four decimal places, rounded down."""
    return Fraction(record.well + 1, record.well + LOSS_WEIGHT * record.lost + 2)
