"""One row, one frozen dataclass: columns carry the fields' names, enums their values, tuples JSON text."""

import dataclasses
import json
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from functools import cache
from operator import attrgetter
from typing import Any, Final, Generic, TypeVar

_T = TypeVar("_T")
_PLAIN: Final = frozenset({int, str, bytes, bool, type(None)})
"""Types that drivers take as they are, and that no column writes otherwise."""
_encode: Final = json.JSONEncoder(separators=(",", ":")).encode
_MAX_UPDATES: Final = 256
"""Texts of partial updates kept of one table; chosen: each is one kind of step, and there are some dozens."""


class Statements(Generic[_T]):
    """SQL text for the rows of one dataclass, made once: building a Core statement costs more than running it.

    Columns are the dataclass's fields, in their order; values come from `to_values`, rows go to `read`.
    written: columns beside them, which are only searched by.
    """

    __slots__ = ("_kind", "_table", "_updates", "insert", "select", "update")

    def __init__(self, kind: type[_T], table: str, *written: str) -> None:
        names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]  # a dataclass
        self._kind = kind
        self._table = table
        self._updates: dict[tuple[str, ...], str] = {}
        self.select = f"SELECT {', '.join(names)} FROM {table}"  # noqa: S608 - names of ours
        names += written
        self.insert = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join(f':{name}' for name in names)})"  # noqa: S608
        self.update = f"UPDATE {table} SET {', '.join(f'{name} = :{name}' for name in names)}"  # noqa: S608

    def update_of(self, names: tuple[str, ...]) -> str:
        """`update` of these columns only: what isn't written costs nothing, and its indexes aren't touched."""
        text = self._updates.get(names)
        if text is None:
            text = f"UPDATE {self._table} SET {', '.join(f'{name} = :{name}' for name in names)}"  # noqa: S608
            if len(self._updates) < _MAX_UPDATES:
                self._updates[names] = text
        return text

    def read(self, row: Sequence[Any]) -> _T:
        """The dataclass of a row of `select`."""
        readers = _readers(self._kind)  # type: ignore[arg-type]  # mypy asks whether classes are hashable
        return self._kind(*[v if read is None else read(v) for v, (_, read) in zip(row, readers, strict=True)])


def to_values(record: Any) -> dict[str, Any]:
    """Column values of a dataclass instance."""
    names, get = _fields(type(record))  # type: ignore[arg-type]
    return {
        name: value if type(value) in _PLAIN else plain(value) for name, value in zip(names, get(record), strict=True)
    }


def changed_values(before: Any, after: Any) -> dict[str, Any]:
    """Column values of `after` that differ from those of `before`, of the same dataclass."""
    names, get = _fields(type(after))  # type: ignore[arg-type]
    return {
        name: new if type(new) in _PLAIN else plain(new)
        for name, old, new in zip(names, get(before), get(after), strict=True)
        if old is not new and old != new
    }


def changed(record: _T, **changes: object) -> _T:
    """`dataclasses.replace` for hot paths: a record of sixty fields is copied in a third of the time."""
    _, get = _fields(type(record))  # type: ignore[arg-type]
    places = _places(type(record))  # type: ignore[arg-type]
    values = list(get(record))
    for name, value in changes.items():
        values[places[name]] = value
    return type(record)(*values)


def from_row(kind: type[_T], row: Mapping[str, Any]) -> _T:
    """The dataclass of a row. Columns that the dataclass lacks are left out."""
    readers = _readers(kind)  # type: ignore[arg-type]
    return kind(**{name: row[name] if read is None else read(row[name]) for name, read in readers})


def plain(value: Any) -> Any:
    """One field's value as its column holds it."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return _encode(value) if value else "[]"
    return value


@cache
def _fields(kind: type[Any]) -> tuple[tuple[str, ...], Callable[[Any], tuple[Any, ...]]]:
    """Names of the fields, and what reads them all at once. Dataclasses of rows have two or more."""
    names = tuple(field.name for field in dataclasses.fields(kind))
    return names, attrgetter(*names)


@cache
def _places(kind: type[Any]) -> dict[str, int]:
    """Which field is which, from 0."""
    return {name: place for place, name in enumerate(_fields(kind)[0])}  # type: ignore[arg-type]


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
