"""The smallest change of a request that a node would take now: what a quote without a match ends with.

Every change is tried as a whole new request, priced and matched as one: what is named here matches when it is asked.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from marketplace.domain.catalogue import find_class, region_of
from marketplace.domain.matching import Candidate
from marketplace.domain.money import format_amount, per_gpu_second
from marketplace.domain.pricing import firm_price
from marketplace.domain.quantities import MILLIS_PER_HOUR, Tokens
from marketplace.services.job_orders import Order

Value = str | int | float | tuple[str, ...]
"""A field's new value, as the request would have it."""
_Fields = tuple[tuple[str, Value], ...]
_Step = Callable[[Order], tuple[Order, _Fields] | None]
"""One change: the changed order and the fields that make it, None where it changes nothing."""


@dataclass(frozen=True, slots=True)
class Nearest:
    """The smallest change that would match: fields with their new values."""

    change: _Fields
    nodes_then: int
    price_per_hour: Tokens


@dataclass(frozen=True, slots=True)
class Look:
    """How an order would fare now.

    candidates: all nodes, with their floors for it. fitting: those that would take it. price: the firm price, ceiling
    of the renter's own aside; None without any floor.
    """

    candidates: Callable[[Order], Sequence[Candidate]]
    fitting: Callable[[Order], Sequence[Candidate]]
    price: Callable[[Order], Tokens | None]


def find_nearest(order: Order, look: Look, decimals: int) -> Nearest | None:
    """The smallest single change that would match, else the smallest pair."""
    steps = list(_steps(order, look, decimals))
    for count in (1, 2):
        for chosen in itertools.combinations(steps, count):
            changed = order
            fields: _Fields = ()
            # Prices come first in the list and are found last, when the rest of the order is known.
            for step in reversed(chosen):
                made = step(changed)
                if made is not None:
                    changed, fields = made[0], (*made[1], *fields)
            fitting = look.fitting(changed) if fields else ()
            if fitting:
                lowest = Tokens(min(c.floor_per_hour for c in fitting))
                return Nearest(fields, len(fitting), firm_price(lowest, order.priority))
    return None


def _steps(order: Order, look: Look, decimals: int) -> Iterator[_Step]:
    """Single changes, the smallest first: price, time, place, nodes, network, size, class."""
    candidates = look.candidates(order)
    wanted = [class_id for tier in order.tiers for class_id in tier]
    own = [c for c in candidates if c.class_id in wanted]
    if order.max_price_per_hour is not None:
        yield lambda o: _with_price(o, look, decimals)
    yield lambda o: _with_time(o, look)
    if order.regions:
        for region in sorted({region_of(c.region) for c in own} - set(order.regions)):
            yield lambda o, region=region: (replace(o, regions=(region,)), (("region", region),))  # type: ignore[misc]
    if order.only_nodes:
        yield lambda o: (replace(o, only_nodes=()), (("nodes", ()),))
    if order.exclude_nodes:
        yield lambda o: (replace(o, exclude_nodes=()), (("exclude_nodes", ()),))
    if order.spec.network == "egress":
        yield lambda o: (_respecified(o, network="none"), (("network", "none"),))
    room = max((c.max_disk_gb for c in own), default=0)
    if 0 < room < order.spec.disk_gb:
        yield lambda o: (_respecified(o, disk_gb=room), (("requirements.disk_gb", room),))
    yield from _humbler_steps(order, own)
    if "requirements.gpu_types" not in order.named:
        yield from _class_steps(order, candidates, wanted)


def _humbler_steps(order: Order, own: Sequence[Candidate]) -> Iterator[_Step]:
    """What the best of these nodes has, where more was asked of their driver or record; then a smaller job."""
    cuda = max((c.cuda for c in own), default=0)
    if 0 < cuda < order.min_cuda:
        text = f"{cuda // 100}.{cuda % 100}"
        yield lambda o: (replace(o, min_cuda=cuda), (("requirements.min_cuda", text),))
    best = max((c.reputation for c in own), default=Fraction(0))
    if best * 1_000_000 < order.min_reputation_millionths:
        # Rounded down to four places, so that the node itself passes.
        places = int(best * 10_000)
        yield lambda o: (
            replace(o, min_reputation_millionths=places * 100), (("requirements.min_reputation", places / 10_000),),
        )  # fmt: skip
    if order.spec.min_ram_gb is None and order.spec.min_vcpu is None:
        for count in range(order.spec.gpu_count - 1, 0, -1):
            yield lambda o, count=count: (  # type: ignore[misc]
                _respecified(o, gpu_count=count), (("requirements.gpu_count", count),),
            )  # fmt: skip


def _class_steps(order: Order, candidates: Sequence[Candidate], wanted: Sequence[str]) -> Iterator[_Step]:
    """Another class of the same kind that gives what was asked for besides it."""
    kinds = {find_class(class_id).gpu for class_id in wanted}
    others = {c.class_id for c in candidates if find_class(c.class_id).gpu in kinds}
    names = [name for name in ("gpu", "requirements.gpu_type") if name in order.named] or ["gpu"]
    for other in sorted(others - set(wanted)):
        if _gives(other, order):
            yield lambda o, other=other: (  # type: ignore[misc]
                replace(_respecified(o, class_id=other), tiers=((other,),)), tuple((name, other) for name in names),
            )  # fmt: skip


def _gives(class_id: str, order: Order) -> bool:
    """Whether a class gives what was asked for besides it."""
    entry, spec = find_class(class_id), order.spec
    return (
        entry.vram_gb >= (spec.min_vram_gb or 0)
        and entry.ram_gb * spec.gpu_count >= (spec.min_ram_gb or 0)
        and entry.vcpu * spec.gpu_count >= (spec.min_vcpu or 0)
    )


def _with_price(order: Order, look: Look, decimals: int) -> tuple[Order, _Fields] | None:
    """The firm price as the ceiling, in the unit in which the renter named his."""
    price = look.price(order)
    if price is None or price == order.max_price_per_hour:
        return None
    changed = replace(order, max_price_per_hour=price)
    if "max_price_per_gpu_second" in order.named:
        text = per_gpu_second(price, order.spec.gpu_count, decimals)
        return changed, (("max_price_per_gpu_second", text),)
    return changed, (("max_price_per_hour", format_amount(price, decimals)),)


def _with_time(order: Order, look: Look) -> tuple[Order, _Fields] | None:
    """As much time as the nodes' stake covers at this price, in the unit in which the renter named his."""
    price = order.max_price_per_hour or look.price(order)
    wanted = [class_id for tier in order.tiers for class_id in tier]
    rooms = [c.exposure_room for c in look.candidates(order) if c.class_id in wanted]
    if not price or not rooms:
        return None
    name = next((n for n in ("timeout_seconds", "seconds", "maxMinutes") if n in order.named), "maxMinutes")
    unit = 60 if name == "maxMinutes" else 1
    count = max(rooms) * MILLIS_PER_HOUR // price // 1000 // unit
    if count == 0 or count * unit >= order.max_seconds:
        return None
    return replace(order, max_seconds=count * unit), ((name, count),)


def _respecified(order: Order, **changes: str | int) -> Order:
    return replace(order, spec=order.spec.model_copy(update=changes))
