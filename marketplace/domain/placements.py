"""Why a node was chosen for an attempt, and why not the others: enough to make the choice again."""

from dataclasses import dataclass
from typing import Final

from marketplace.domain.ids import NodeId
from marketplace.domain.quantities import Tokens

DECLINED: Final = "declined"
"""It fitted, was asked, and refused or was silent."""
KEPT: Final = "kept_for_more_urgent"
"""It fitted, and somebody more urgent waits for all that it has free."""
DEARER: Final = "dearer"
"""It fitted, outside the band of the lowest floor, or only in a class that is less preferred."""
MAX_EXCLUDED: Final = 100
"""Nodes that are named; all are counted. Chosen: a few kB for each attempt, however many nodes there are."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A node in the draw. weight: its share of the draw's range. reputation: decimal text."""

    node_id: NodeId
    floor_per_hour: Tokens
    reputation: str
    image_present: bool
    weight: int


@dataclass(frozen=True, slots=True)
class Excluded:
    """A node that was not in the draw. why: a constraint of `matching`, or one of the words above."""

    node_id: NodeId
    why: str


@dataclass(frozen=True, slots=True)
class Placement:
    """One choice. The chosen is the candidate in whose share `draw` modulo the sum of the weights falls, in order."""

    at_ms: int
    node_id: NodeId
    draw: int
    candidates: tuple[Drawn, ...]
    excluded: tuple[Excluded, ...]
    counts: tuple[tuple[str, int], ...]
