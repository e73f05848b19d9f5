"""The deployment's numbers as people write them, with the bounds that the program holds them to, in words.

Bounds: programs/reaver_market/src/state/config.rs, `Params::require_bounds`; a test sends both sides of each bound
to the program. Checked here too, because the program's refusal names no parameter.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from enum import Enum
from types import MappingProxyType
from typing import Final

from marketplace.chain.accounts import Params
from marketplace.domain.money import AmountOverflow, MalformedAmount, format_amount, parse_amount
from marketplace.errors import Invalid

_SECOND: Final = 1_000
_DAY: Final = 86_400 * _SECOND
_YEAR: Final = 365 * _DAY
_BPS_ONE: Final = 10_000
_MAX_U64: Final = 2**64 - 1
# Specified: Params.exposure_rate counts payment base units per so many stake base units.
RATE_SCALE: Final = 1_000_000

PAUSE_BITS: Final[Mapping[str, int]] = MappingProxyType(
    {"open": 1, "extend": 2, "assign": 4, "register": 8, "delegate": 16, "bond": 32, "grant": 64}
)
"""Ways in that the admin can close. Source: programs/reaver_market/src/state/config.rs, `pause`."""

_UNITS: Final[Mapping[str, int]] = MappingProxyType(
    {"ms": 1, "s": _SECOND, "m": 60 * _SECOND, "h": 3_600 * _SECOND, "d": _DAY}
)
_DURATION: Final = re.compile(r"(\d{1,14})(ms|s|m|h|d)")
_PART: Final = re.compile(r"(\d{1,5})(bps)?")
_PERCENT: Final = re.compile(r"(\d{1,3})(?:\.(\d{1,2}))?%")
_WHOLE: Final = re.compile(r"\d{1,20}")


class Kind(Enum):
    """How a number is written."""

    PART = "basis points (250) or a percentage (2.5%)"
    LENGTH = "a length such as 45s, 10m, 6h or 14d"
    TOKENS = "payment tokens such as 0.001"
    COUNT = "a whole number"


@dataclass(frozen=True, slots=True)
class Bound:
    """One number's kind, and the least and the most that the program takes, in its own units."""

    kind: Kind
    least: int
    most: int


_ANY_PART: Final = Bound(Kind.PART, 0, _BPS_ONE)
_UP_TO_A_DAY: Final = Bound(Kind.LENGTH, _SECOND, _DAY)
_UP_TO_A_YEAR: Final = Bound(Kind.LENGTH, _SECOND, _YEAR)
BOUNDS: Final[Mapping[str, Bound]] = MappingProxyType(
    {
        "exposure_rate": Bound(Kind.COUNT, 1, _MAX_U64),
        "exposure_multiple": Bound(Kind.COUNT, 1, 1_000),
        "protocol_bps": _ANY_PART,
        "max_market_bps": _ANY_PART,
        "node_share_bps": _ANY_PART,
        "compensation_bps": _ANY_PART,
        "overclaim_bps": _ANY_PART,
        "slash_cap_bps": _ANY_PART,
        "decay_bps": _ANY_PART,
        "emission_cap_bps": _ANY_PART,
        "commission_step_bps": _ANY_PART,
        "lost_after": _UP_TO_A_DAY,
        "ready_limit": _UP_TO_A_DAY,
        "claim_limit": _UP_TO_A_DAY,
        "skew": Bound(Kind.LENGTH, 0, _DAY),
        "contest": _UP_TO_A_YEAR,
        "reap_grace": _UP_TO_A_YEAR,
        "queue_limit": _UP_TO_A_YEAR,
        "stop_after": _UP_TO_A_DAY,
        "unbonding": _UP_TO_A_YEAR,
        "commission_delay": _UP_TO_A_YEAR,
        "fee_delay": _UP_TO_A_YEAR,
        "minimum_deposit": Bound(Kind.TOKENS, 1, _MAX_U64),
    }
)


class ParameterRefused(Invalid):
    """A number is outside its bounds, or is not one. The message names each."""


def show_parameter(name: str, value: int, payment_decimals: int) -> str:
    """The number as people read it, and as `parse_parameter` takes it."""
    match BOUNDS[name].kind:
        case Kind.PART:
            return f"{value}bps"
        case Kind.LENGTH:
            return show_length(value)
        case Kind.TOKENS:
            return format_amount(value, payment_decimals)
        case Kind.COUNT:
            return str(value)


def show_length(milliseconds: int) -> str:
    """Exact, in the largest unit that divides it: 90,000 is "90s"."""
    unit = next(unit for unit in ("d", "h", "m", "s", "ms") if milliseconds % _UNITS[unit] == 0)
    if unit in {"d", "h", "m"} and milliseconds == 0:
        unit = "s"
    return f"{milliseconds // _UNITS[unit]}{unit}"


def parse_parameter(name: str, text: str, payment_decimals: int) -> int:
    """The number in the program's units. Raises ParameterRefused for another name or another kind of text."""
    bound = BOUNDS.get(name)
    if bound is None:
        raise ParameterRefused(f"there is no parameter {name!r}; they are: {', '.join(BOUNDS)}")
    value = _number(bound.kind, text, payment_decimals)
    if value is None:
        raise ParameterRefused(f"{name} is {bound.kind.value}, not {text!r}")
    return value


def changed_params(
    params: Params, assignments: Mapping[str, str], *, payment_decimals: int, epoch_length: int
) -> Params:
    """The parameters with these set. Raises ParameterRefused, naming every number out of its bounds."""
    values = {name: parse_parameter(name, text, payment_decimals) for name, text in assignments.items()}
    after = replace(params, **values)
    problems = out_of_bounds(after, payment_decimals=payment_decimals, epoch_length=epoch_length)
    if problems:
        raise ParameterRefused("; ".join(problems))
    return after


def out_of_bounds(params: Params, *, payment_decimals: int, epoch_length: int) -> list[str]:
    """What the program would refuse, a sentence each; empty when it takes them all."""
    problems = []
    for field in fields(params):
        bound, value = BOUNDS[field.name], getattr(params, field.name)
        if not bound.least <= value <= bound.most:
            least, most, shown = (
                show_parameter(field.name, n, payment_decimals) for n in (bound.least, bound.most, value)
            )
            problems.append(f"{field.name} is between {least} and {most}, not {shown}")
    if params.protocol_bps + params.max_market_bps > _BPS_ONE:
        problems.append(
            f"protocol_bps and max_market_bps are {_BPS_ONE}bps together at most, not "
            f"{params.protocol_bps + params.max_market_bps}bps"
        )
    if params.skew > params.lost_after:
        problems.append(
            f"skew is at most lost_after ({show_length(params.lost_after)}), not {show_length(params.skew)}"
        )
    if params.unbonding < 2 * epoch_length:
        problems.append(
            f"unbonding is at least two epochs ({show_length(2 * epoch_length)}), not {show_length(params.unbonding)}"
        )
    if params.unbonding < params.contest:
        problems.append(
            f"unbonding is at least the contest window ({show_length(params.contest)}), not "
            f"{show_length(params.unbonding)}"
        )
    return problems


def paused_names(bits: int) -> tuple[str, ...]:
    """The ways in that are closed, by name."""
    return tuple(name for name, bit in PAUSE_BITS.items() if bits & bit)


def pause_bits(names: tuple[str, ...]) -> int:
    """The bits of these ways in; "all" is each of them. Raises ParameterRefused for another name."""
    bits = 0
    for name in names:
        if name == "all":
            return sum(PAUSE_BITS.values())
        if name not in PAUSE_BITS:
            raise ParameterRefused(f"there is no way in called {name!r}; they are: {', '.join(PAUSE_BITS)}, all")
        bits |= PAUSE_BITS[name]
    return bits


def _number(kind: Kind, text: str, payment_decimals: int) -> int | None:
    match kind:
        case Kind.PART:
            return _part(text)
        case Kind.LENGTH:
            length = _DURATION.fullmatch(text)
            return None if length is None else int(length[1]) * _UNITS[length[2]]
        case Kind.TOKENS:
            try:
                return parse_amount(text, payment_decimals)
            except (MalformedAmount, AmountOverflow):
                return None
        case Kind.COUNT:
            return int(text) if _WHOLE.fullmatch(text) else None


def _part(text: str) -> int | None:
    if (part := _PART.fullmatch(text)) is not None:
        return int(part[1])
    percent = _PERCENT.fullmatch(text)
    return None if percent is None else int(percent[1]) * 100 + int((percent[2] or "").ljust(2, "0"))
