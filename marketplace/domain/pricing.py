"""Which price clears: the lowest floor that satisfies a request, and the band of near-equal floors above it."""

from enum import StrEnum
from typing import Final

from marketplace.domain.quantities import BPS_SCALE, Bps, Tokens

BAND: Final = Bps(200)
"""Floors up to 2 % above the lowest compete on reputation, not on price (system.md section 5)."""


class Priority(StrEnum):
    """How urgent a renter is; the premium goes to the node."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"
    URGENT = "urgent"


FACTORS: Final[dict[Priority, Bps]] = {
    Priority.LOW: Bps(10_000),
    Priority.NORMAL: Bps(10_000),
    Priority.HIGH: Bps(15_000),
    Priority.URGENT: Bps(20_000),
}
"""Multiples of the floor, in basis points; specified in api.md section 5.1."""


def with_priority(floor: Tokens, priority: Priority) -> Tokens:
    """What a node with this floor is paid per hour, rounded up (the floor is a promise to the node)."""
    return Tokens(-(-floor * FACTORS[priority] // BPS_SCALE))


def band_limit(lowest: Tokens) -> Tokens:
    """Highest floor that still competes with `lowest`, rounded down."""
    return Tokens(lowest * (BPS_SCALE + BAND) // BPS_SCALE)


def firm_price(lowest: Tokens, priority: Priority) -> Tokens:
    """Quoted price per hour: lowest x 1.02 x priority, so that every node of the band fits under it."""
    return with_priority(band_limit(lowest), priority)
