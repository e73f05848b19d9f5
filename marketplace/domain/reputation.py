"""A node's reputation, 0..1, from what the chain says of it and nothing else.

Formula (published by /v1/constants and docs/reputation.md): with `well` attempts that ended well and
`bad` attempts that ended in a loss or an early quit, (well + 1) / (well + 3 x bad + 2). A new node
starts at one half, a single loss weighs as much as three good ends, and nobody reaches 1 exactly.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

LOSS_WEIGHT: Final = 3
"""Chosen: a lost attempt costs its renter more than a good one earns the node's name."""


@dataclass(frozen=True, slots=True)
class Record:
    """Lifetime counters of a node, as its account on chain holds them.

    well, lost, quit: attempts that ended so, counted by vouchers that the market's meter countersigned.
    """

    well: int
    lost: int
    quit: int


def reputation(record: Record) -> Fraction:
    """Exact reputation; what is shown has four decimal places, rounded down."""
    bad = record.lost + record.quit
    return Fraction(record.well + 1, record.well + LOSS_WEIGHT * bad + 2)
