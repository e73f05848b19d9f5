"""One row, one frozen dataclass: columns carry the fields' names, enums their values, tuples JSON text."""

import dataclasses
import json
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from functools import cache
from typing import Any, Final, Generic, TypeVar

_T = TypeVar("_T")
_PLAIN: Final = frozenset({int, str, bytes, bool, type(None)})
"""Types that drivers take as they are, and that no column writes otherwise."""


class Statements(Generic[_T]):
    """SQL text for the rows of one dataclass, made once: building a Core statement costs more than running it.

    Columns are the dataclass's fields, in their order; values come from `to_values`, rows go to `read`.
    written: columns beside them, which are only searched by.
    """

    __slots__ = ("_kind", "insert", "select", "update")

    def __init__(self, kind: type[_T], table: str, *written: str) -> None:
        names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]  # a dataclass
        self._kind = kind
        self.select = f"SELECT {', '.join(names)} FROM {table}"  # noqa: S608 - names of ours
        names += written
        self.insert = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join(f':{name}' for name in names)})"  # noqa: S608
        self.update = f"UPDATE {table} SET {', '.join(f'{name} = :{name}' for name in names)}"  # noqa: S608

    def read(self, row: Sequence[Any]) -> _T:
        """The dataclass of a row of `select`."""
        readers = _readers(self._kind)  # type: ignore[arg-type]  # mypy asks whether classes are hashable
        return self._kind(*[v if read is None else read(v) for v, (_, read) in zip(row, readers, strict=True)])


def to_values(record: Any) -> dict[str, Any]:
    """Column values of a dataclass instance."""
    values = {}
    for name in _names(type(record)):  # type: ignore[arg-type]
        value = getattr(record, name)
        values[name] = value if type(value) in _PLAIN else plain(value)
    return values


def from_row(kind: type[_T], row: Mapping[str, Any]) -> _T:
    """The dataclass of a row. Columns that the dataclass lacks are left out."""
    readers = _readers(kind)  # type: ignore[arg-type]
    return kind(**{name: row[name] if read is None else read(row[name]) for name, read in readers})


def plain(value: Any) -> Any:
    """One field's value as its column holds it."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return json.dumps(value, separators=(",", ":"))
    return value


@cache
def _names(kind: type[Any]) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(kind))


@cache
def _readers(kind: type[Any]) -> tuple[tuple[str, Callable[[Any], Any] | None], ...]:
    hints = typing.get_type_hints(kind)
    return tuple((f.name, _reader(hints[f.name])) for f in dataclasses.fields(kind))


def _reader(hint: Any) -> Callable[[Any], Any] | None:
    """What makes a column's value the field's; None where it is that already."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        inner = _reader(next(a for a in typing.get_args(hint) if a is not type(None)))
        return None if inner is None else lambda value: None if value is None else inner(value)
    if typing.get_origin(hint) is tuple:
        return _tuple
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint
    return bool if hint is bool else None


def _tuple(text: str) -> tuple[Any, ...]:
    return tuple(tuple(item) if isinstance(item, list) else item for item in json.loads(text))
