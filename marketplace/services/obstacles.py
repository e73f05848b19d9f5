"""Why no node takes a request, in words: one vocabulary for quotes and for jobs that wait."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from marketplace.domain.matching import Candidate, Constraint, Request, obstacle
from marketplace.domain.money import format_amount

ALLOWANCE: Final = "allowance"
"""A constraint of no node: the wallet's allowance for this market, under which the escrow was opened."""


@dataclass(frozen=True, slots=True)
class Because:
    """A constraint that keeps nodes out: what was wanted, the best there is, how many fail at it.

    Prices and exposures are base units as text.
    """

    constraint: str
    wanted: str
    best: str | None
    nodes_excluded: int

    def shown(self, decimals: int) -> "Because":
        """The same with its amounts as decimal text."""
        if self.constraint not in (Constraint.PRICE, Constraint.EXPOSURE):
            return self
        wanted = format_amount(int(self.wanted), decimals) if self.wanted.isdecimal() else self.wanted
        best = None if self.best is None else format_amount(int(self.best), decimals)
        return Because(self.constraint, wanted, best, self.nodes_excluded)


def explain(request: Request, candidates: Sequence[Candidate]) -> tuple[Because, ...]:
    """Each constraint that keeps nodes out, the one nearest to a match last."""
    groups: dict[Constraint, list[Candidate]] = {}
    for candidate in candidates:
        found = obstacle(request, candidate)
        if found is not None:
            groups.setdefault(found, []).append(candidate)
    if not groups:
        return (Because(Constraint.CLASS.value, _wanted(Constraint.CLASS, request), None, 0),)
    return tuple(
        Because(found.value, _wanted(found, request), _best(found, groups[found]), len(groups[found]))
        for found in Constraint
        if found in groups
    )


def _wanted(found: Constraint, request: Request) -> str:
    return {
        Constraint.CLASS: ",".join(class_id for tier in request.tiers for class_id in tier),
        Constraint.REGION: ",".join(sorted(request.regions)),
        Constraint.CAPACITY: str(request.gpu_count),
        Constraint.PRICE: str(request.max_price_per_hour),
        Constraint.EXPOSURE: str(request.exposure),
        Constraint.STATUS: "active",
        Constraint.EXCLUDED: "not excluded",
        Constraint.VERSION: str(request.spec_version),
        Constraint.NETWORK: "egress",
        Constraint.DISK: str(request.disk_gb),
        Constraint.CUDA: _cuda(request.min_cuda),
        Constraint.REPUTATION: four_places(request.min_reputation),
    }[found]


def _best(found: Constraint, nodes: list[Candidate]) -> str | None:  # noqa: PLR0911 - one for each constraint
    match found:
        case Constraint.PRICE:
            return str(min(c.floor_per_hour for c in nodes))
        case Constraint.CAPACITY:
            return str(max(c.free_slots for c in nodes))
        case Constraint.DISK:
            return str(max(c.max_disk_gb for c in nodes))
        case Constraint.VERSION:
            return str(max(c.spec_version for c in nodes))
        case Constraint.CUDA:
            return _cuda(max(c.cuda for c in nodes)) if any(c.cuda for c in nodes) else None
        case Constraint.REPUTATION:
            return four_places(max(c.reputation for c in nodes))
        case Constraint.EXPOSURE:
            return str(max(c.exposure_room for c in nodes))
        case Constraint.REGION:
            return ",".join(sorted({c.region for c in nodes}))
        case Constraint.CLASS:
            return ",".join(sorted({c.class_id for c in nodes}))
        case _:
            return None


def _cuda(version: int) -> str:
    return f"{version // 100}.{version % 100}"


def four_places(value: Fraction) -> str:
    """Four places, rounded down, as the node's own view shows it."""
    return format_amount(int(value * 10**4), 4)
