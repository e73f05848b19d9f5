"""Whether a job's input is what its model takes: the part of JSON Schema that models' entries may use.

A schema that says something we don't check is refused when it is read, so that what is published is what is enforced.
Source: json-schema.org, draft 2020-12, for what the keywords mean; decision 015 for `format: file`.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

MAX_FAULTS: Final = 20
"""Chosen: what a person reads of a list of ten thousand texts that are all wrong."""
_MAX_DEPTH: Final = 16
_NOTES: Final = frozenset({
    "$schema", "$comment", "title", "description", "default", "examples", "deprecated", "contentMediaType",
})  # fmt: skip
"""Said to people and clients; they refuse nothing."""


class File(Enum):
    """Stands for an input that is an upload or a URL, whose content only the node sees."""

    GIVEN = "a file"


class FaultKind(Enum):
    MISSING = "missing"
    UNKNOWN = "unknown"
    RANGE = "range"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong. path: dotted, below the input; empty for the input itself."""

    path: str
    kind: FaultKind
    message: str


@dataclass(frozen=True, slots=True)
class _Type:
    python: tuple[type, ...]
    words: str


_TYPES: Final = {
    "string": _Type((str,), "a text"),
    "array": _Type((list,), "a list"),
    "object": _Type((dict,), "an object"),
    "integer": _Type((int,), "a whole number"),
    "number": _Type((int, float), "a number"),
    "boolean": _Type((bool,), "true or false"),
    "null": _Type((type(None),), "null"),
}
_SIZES: Final = {
    "string": ("minLength", "maxLength", "characters"),
    "array": ("minItems", "maxItems", "entries"),
}


_BOUNDS: Final = (("minimum", "at least"), ("maximum", "at most"))


def check_schema(schema: object, depth: int = 0) -> None:
    """Raises ValueError for a schema with a keyword or a value that isn't checked here."""
    if not isinstance(schema, Mapping) or depth > _MAX_DEPTH:
        raise ValueError(f"must be a table, at most {_MAX_DEPTH} deep")
    if "anyOf" in schema:
        _check_alternatives(schema, depth)
    elif schema.keys() - _NOTES:
        _check_type(schema, depth)


def faults(schema: Mapping[str, Any], value: object) -> tuple[Fault, ...]:
    """What is wrong with an input, by a schema that check_schema took; at most MAX_FAULTS."""
    found: list[Fault] = []
    for fault in _faults(schema, value, ""):
        found.append(fault)
        if len(found) == MAX_FAULTS:
            break
    return tuple(found)


def _check_alternatives(schema: Mapping[str, Any], depth: int) -> None:
    if rest := schema.keys() - _NOTES - {"anyOf"}:
        raise ValueError(f"anyOf stands alone, without {min(rest)}")
    if not isinstance(schema["anyOf"], list) or not schema["anyOf"]:
        raise ValueError("anyOf must be a list of schemas")
    for each in schema["anyOf"]:
        check_schema(each, depth + 1)


def _check_type(schema: Mapping[str, Any], depth: int) -> None:
    kind = schema.get("type")
    if not isinstance(kind, str) or kind not in _TYPES:
        raise ValueError(f"type must be one of {', '.join(_TYPES)}")
    for name, value in schema.items():
        if name == "type" or name in _NOTES:
            continue
        is_sound = _are_values if name == "enum" else _SOUND.get(kind, {}).get(name)
        if is_sound is None or not is_sound(value, depth):
            raise ValueError(f"{name} of {kind} is nothing that this market checks, or has a value that it can't have")


def _is_count(value: object, _: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: object, _: int) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_file(value: object, _: int) -> bool:
    return value == "file"


def _is_flag(value: object, _: int) -> bool:
    return isinstance(value, bool)


def _are_names(value: object, _: int) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _are_values(value: object, _: int) -> bool:
    return isinstance(value, list) and bool(value)


def _is_schema(value: object, depth: int) -> bool:
    check_schema(value, depth + 1)
    return True


def _are_schemas(value: object, depth: int) -> bool:
    return isinstance(value, Mapping) and all(_is_schema(each, depth) for each in value.values())


_SOUND: Final[dict[str, dict[str, Callable[[object, int], bool]]]] = {
    "string": {"minLength": _is_count, "maxLength": _is_count, "format": _is_file},
    "array": {"minItems": _is_count, "maxItems": _is_count, "items": _is_schema},
    "object": {"properties": _are_schemas, "required": _are_names, "additionalProperties": _is_flag},
    "integer": {"minimum": _is_number, "maximum": _is_number},
    "number": {"minimum": _is_number, "maximum": _is_number},
}
"""What may be said of which type, and which values it may have."""


def _faults(schema: Mapping[str, Any], value: object, path: str) -> Iterator[Fault]:
    if "anyOf" in schema:
        yield from _of_any(schema["anyOf"], value, path)
    elif not _fits(schema, value):
        yield Fault(path, FaultKind.WRONG, f"must be {_words(schema)}")
    elif "enum" in schema and json.dumps(value) not in map(json.dumps, schema["enum"]):
        yield Fault(path, FaultKind.WRONG, f"must be one of {json.dumps(schema['enum'])}")
    elif isinstance(value, str):
        yield from _of_size(schema, "string", len(value), path)
    elif isinstance(value, list):
        yield from _of_list(schema, value, path)
    elif isinstance(value, dict):
        yield from _of_object(schema, value, path)
    elif isinstance(value, int | float):
        yield from _of_number(schema, value, path)


def _of_list(schema: Mapping[str, Any], value: Sequence[object], path: str) -> Iterator[Fault]:
    yield from _of_size(schema, "array", len(value), path)
    for place, each in enumerate(value if "items" in schema else ()):
        yield from _faults(schema["items"], each, _below(path, str(place)))


def _of_number(schema: Mapping[str, Any], value: float, path: str) -> Iterator[Fault]:
    if not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        bounds = [f"{words} {schema[name]}" for name, words in _BOUNDS if name in schema]
        yield Fault(path, FaultKind.RANGE, f"must be {' and '.join(bounds)}")


def _of_any(alternatives: Sequence[Mapping[str, Any]], value: object, path: str) -> Iterator[Fault]:
    """None where one alternative takes it; else the faults by the one that is of its type, or which types there are."""
    near: list[Fault] | None = None
    for each in alternatives:
        found = list(_faults(each, value, path))
        if not found:
            return
        if near is None and ("anyOf" in each or _fits(each, value)):
            near = found
    if near is not None:
        yield from near
    else:
        words = list(dict.fromkeys(_words(each) for each in alternatives))
        yield Fault(path, FaultKind.WRONG, f"must be {' or '.join(words)}")


def _of_size(schema: Mapping[str, Any], kind: str, size: int, path: str) -> Iterator[Fault]:
    least, most, of = _SIZES[kind]
    if size < schema.get(least, 0):
        yield Fault(path, FaultKind.RANGE, f"must have at least {schema[least]} {of}")
    elif size > schema.get(most, size):
        yield Fault(path, FaultKind.RANGE, f"must have at most {schema[most]} {of}")


def _of_object(schema: Mapping[str, Any], value: Mapping[str, object], path: str) -> Iterator[Fault]:
    properties: Mapping[str, Any] = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in value:
            yield Fault(_below(path, name), FaultKind.MISSING, "is needed by this model")
    for name, each in value.items():
        if name in properties:
            yield from _faults(properties[name], each, _below(path, name))
        elif schema.get("additionalProperties") is False:
            yield Fault(_below(path, name), FaultKind.UNKNOWN, "is nothing that this model takes")


def _fits(schema: Mapping[str, Any], value: object) -> bool:
    """Whether the value is of the schema's type; true and false are no numbers, as in JSON."""
    kind = schema.get("type")
    if kind is None:
        return True
    if value is File.GIVEN or schema.get("format") == "file":
        return value is File.GIVEN and schema.get("format") == "file"
    return isinstance(value, _TYPES[kind].python) and (kind == "boolean" or not isinstance(value, bool))


def _words(schema: Mapping[str, Any]) -> str:
    if schema.get("format") == "file":
        return "the file_id of an upload or a URL"
    return _TYPES[schema["type"]].words if "type" in schema else "one of several things"


def _below(path: str, name: str) -> str:
    # a name may be as long as the input
    return f"{path}.{name[:64]}" if path else name[:64]
