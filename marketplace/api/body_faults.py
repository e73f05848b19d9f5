"""Everything that is wrong with a body at once: faults of its form, and beside them those of what it says.

A model's form is checked as a whole, but its own rules over several fields, and the rules of a use case, are looked at
only once the form is right. So what is at fault is taken out, and what is left is looked at by those rules too: a
caller mends all of it in one go. What follows only from something being taken out is not told.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any, Final

from pydantic import ValidationError

from marketplace.api.fields import RequestModel
from marketplace.api.problems import MAX_FINDINGS, findings
from marketplace.errors import Detail, DetailCode, Invalid, MarketError

Check = Callable[[Any, frozenset[str]], None]
"""What else is wrong with a body of its model's form. Second: dotted names that were left out of it, as they were at
fault. Raises Invalid.
"""
_Place = tuple[int | str, ...]
_ROUNDS: Final = 4
"""Form, rules over several fields, the use case's own; and one more."""


def all_faults(
    error: ValidationError | Invalid, value: dict[str, Any], model: type[RequestModel], check: Check | None
) -> Invalid:
    """The faults of form in `error`, and what else is wrong with the rest of `value`, which is used up."""
    found: list[Detail] = []
    out: set[str] = set()
    left: ValidationError | Invalid | None = error
    for _ in range(_ROUNDS):
        if left is None or not _note(left, found, out, value):
            break
        left = _look(value, model, check, frozenset(out))
    return Invalid.of(found)


def _note(error: ValidationError | Invalid, found: list[Detail], out: set[str], value: dict[str, Any]) -> bool:
    """Add what is new in it, and take that out of the value; whether there is a rest to be looked at."""
    whole = all(detail.code is DetailCode.UNKNOWN_FIELD for detail in found)
    told = {detail.field for detail in found}
    details = error.details if isinstance(error, Invalid) else findings(error)
    found += [each for each in details if each.field not in told and (whole or not _may_follow(each, out))]
    if isinstance(error, ValidationError) and error.error_count() > MAX_FINDINGS:
        return False
    taken = {name for place in _places(error) if (name := _take_out(value, place))}
    out |= taken
    return bool(taken)


def _look(
    value: dict[str, Any], model: type[RequestModel], check: Check | None, out: frozenset[str]
) -> ValidationError | Invalid | None:
    """What is wrong with the value, None where nothing is, or where it can't be looked at now."""
    try:
        sound = model.model_validate_json(json.dumps(value))
        if check is not None:
            check(sound, out)
    except (ValidationError, Invalid) as error:
        return error
    except MarketError:
        return None
    return None


def _may_follow(detail: Detail, out: set[str]) -> bool:
    """Whether it may be wrong only as something was left out."""
    below = any(detail.field.startswith(f"{name}.") or name.startswith(f"{detail.field}.") for name in out)
    return below or detail.code in {DetailCode.REQUIRED, DetailCode.UNSATISFIABLE}


def _places(error: ValidationError | Invalid) -> Sequence[_Place]:
    if isinstance(error, ValidationError):
        return [item["loc"] for item in error.errors(include_url=False, include_input=False, include_context=False)]
    return [tuple(detail.field.split(".")) for detail in error.details]


def _take_out(value: object, place: _Place) -> str:
    """Remove the innermost named member on the way to `place`; its dotted name, empty where there is none."""
    holder: dict[str, Any] | None = None
    name = path = ""
    walked: list[str] = []
    for part in place:
        if isinstance(value, dict) and part in value:
            holder, name, value = value, str(part), value[str(part)]
            walked.append(name)
            path = ".".join(walked)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
            walked.append(str(part))
        else:
            break
    if holder is not None:
        del holder[name]
    return path
