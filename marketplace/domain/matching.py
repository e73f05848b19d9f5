"""Which node takes an allocation: filters with their reasons, then a choice weighted by reputation."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import Final

from marketplace.domain.catalogue import lies_in
from marketplace.domain.ids import NodeId
from marketplace.domain.pricing import Priority, band_limit, with_priority
from marketplace.domain.quantities import Tokens


class Constraint(StrEnum):
    """Why a node can't take a request; also the vocabulary of a quote's `because`."""

    CLASS = "class"
    REGION = "region"
    CAPACITY = "capacity"
    PRICE = "price"
    EXPOSURE = "exposure"
    STATUS = "status"
    EXCLUDED = "excluded"
    VERSION = "version"
    NETWORK = "network"
    DISK = "disk"
    CUDA = "cuda"
    REPUTATION = "reputation"


@dataclass(frozen=True, slots=True)
class Request:
    """What an allocation asks of a node.

    tiers: hardware classes that will do, those that are preferred first; within a tier the price decides.
    max_price_per_hour: the escrow's ceiling, None while it is being quoted without one.
    exposure: payment units that the assignment would add to the node's exposure.
    regions: codes of regions and countries; empty means anywhere. min_cuda: as `catalogue.cuda_version`, 0 for any.
    spec_version: the lowest that a node has to know to read it.
    """

    tiers: tuple[tuple[str, ...], ...]
    regions: frozenset[str]
    gpu_count: int
    priority: Priority
    max_price_per_hour: Tokens | None
    exposure: Tokens
    egress: bool = True
    disk_gb: int = 0
    min_cuda: int = 0
    min_reputation: Fraction = Fraction(0)
    spec_version: int = 1
    excluded: frozenset[NodeId] = field(default_factory=frozenset)
    classes: frozenset[str] = field(init=False)
    """Those of all tiers; kept, for each decision asks every node."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", frozenset(class_id for tier in self.tiers for class_id in tier))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node as the scheduler knows it now.

    region: its place, a region's code or that of a country in one.
    free_slots: GPUs, or slots of a CPU class, not promised to anyone.
    exposure_room: payment units that its stake still covers.
    """

    node_id: NodeId
    class_id: str
    region: str
    floor_per_hour: Tokens
    free_slots: int
    exposure_room: Tokens
    reputation: Fraction
    accepts_work: bool
    can_egress: bool
    max_disk_gb: int = 0
    cuda: int = 0
    spec_version: int = 1
    images: frozenset[str] = field(default_factory=frozenset)


IMAGE_BONUS: Final = 2
"""Chosen: a node that holds the image counts twice; work gathers where it starts at once, others still get some."""


def obstacle(request: Request, candidate: Candidate) -> Constraint | None:
    """The first reason why this node can't take it, None when it can. Hard facts come before price."""
    checks = (
        (candidate.class_id in request.classes, Constraint.CLASS),
        (not request.regions or lies_in(candidate.region, request.regions), Constraint.REGION),
        (candidate.node_id not in request.excluded, Constraint.EXCLUDED),
        (candidate.accepts_work, Constraint.STATUS),
        (candidate.spec_version >= request.spec_version, Constraint.VERSION),
        (candidate.can_egress or not request.egress, Constraint.NETWORK),
        (candidate.max_disk_gb >= request.disk_gb, Constraint.DISK),
        (candidate.cuda >= request.min_cuda, Constraint.CUDA),
        (not request.min_reputation or candidate.reputation >= request.min_reputation, Constraint.REPUTATION),
        (candidate.free_slots >= request.gpu_count, Constraint.CAPACITY),
        (candidate.exposure_room >= request.exposure, Constraint.EXPOSURE),
        (
            request.max_price_per_hour is None
            or with_priority(candidate.floor_per_hour, request.priority) <= request.max_price_per_hour,
            Constraint.PRICE,
        ),
    )
    return next((constraint for holds, constraint in checks if not holds), None)


def band(request: Request, candidates: Collection[Candidate]) -> list[Candidate]:
    """Nodes of the first tier in which any fits, within the band of its lowest floor, cheapest first, then by id."""
    able = [c for c in candidates if obstacle(request, c) is None]
    fitting = next((found for tier in request.tiers if (found := [c for c in able if c.class_id in tier])), [])
    if not fitting:
        return []
    limit = band_limit(min(c.floor_per_hour for c in fitting))
    return sorted((c for c in fitting if c.floor_per_hour <= limit), key=lambda c: (c.floor_per_hour, c.node_id))


def weight(candidate: Candidate, image: str | None) -> int:
    """Integer weight of a candidate in the draw: its reputation in millionths, at least 1, doubled with the image."""
    base = max(1, int(candidate.reputation * 1_000_000))
    return base * IMAGE_BONUS if image is not None and image in candidate.images else base


def choose(candidates: Sequence[Candidate], image: str | None, draw: int) -> Candidate | None:
    """One candidate, with probability proportional to its weight.

    draw: a non-negative random integer of at least 64 bits from the caller's source; the same draw
    over the same candidates always chooses the same node.
    """
    if not candidates:
        return None
    weights = [weight(c, image) for c in candidates]
    point = draw % sum(weights)
    for candidate, share in zip(candidates, weights, strict=True):
        if point < share:
            return candidate
        point -= share
    raise AssertionError("the point lies below the sum of the weights")
