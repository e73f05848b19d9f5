"""One row, one frozen dataclass: columns carry the fields' names, enums their values, tuples JSON text."""

import dataclasses
import json
import types
import typing
from collections.abc import Callable, Mapping
from enum import Enum
from functools import cache
from typing import Any, TypeVar

_T = TypeVar("_T")


def to_values(record: Any) -> dict[str, Any]:
    """Column values of a dataclass instance."""
    return {f.name: plain(getattr(record, f.name)) for f in dataclasses.fields(record)}


def plain(value: Any) -> Any:
    """One field's value as its column holds it."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return json.dumps(value, separators=(",", ":"))
    return value


def from_row(kind: type[_T], row: Mapping[str, Any]) -> _T:
    """The dataclass of a row. Columns that the dataclass lacks are left out."""
    return kind(**{name: read(row[name]) for name, read in _readers(kind)})  # type: ignore[arg-type]


@cache
def _readers(kind: type[Any]) -> tuple[tuple[str, Callable[[Any], Any]], ...]:
    hints = typing.get_type_hints(kind)
    return tuple((f.name, _reader(hints[f.name])) for f in dataclasses.fields(kind))


def _reader(hint: Any) -> Callable[[Any], Any]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        inner = _reader(next(a for a in typing.get_args(hint) if a is not type(None)))
        return lambda value: None if value is None else inner(value)
    if typing.get_origin(hint) is tuple:
        return _tuple
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint
    if hint is bool:
        return bool
    return lambda value: value


def _tuple(text: str) -> tuple[Any, ...]:
    return tuple(tuple(item) if isinstance(item, list) else item for item in json.loads(text))
