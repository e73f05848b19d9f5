"""Units of work, and what every engine promises of them. `engine.py` chooses the engine."""

import asyncio
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, Generic, TypeVar

from sqlalchemy.sql.base import Executable

_T = TypeVar("_T")
Parameters = Mapping[str, Any]

MAX_PENDING: Final = 20_000
"""Units waiting for the writer before callers are refused; chosen: a few seconds of work when all is well."""


_PARAMETER: Final = re.compile(r"'[^']*'|(?<![:\w]):([A-Za-z_]\w*)")


class Transaction(ABC):
    """One unit of work. Valid only inside the function it was given to.

    An error that a statement raised ends the unit: PostgreSQL runs nothing more in it, so nobody catches one inside.
    """

    __slots__ = ()

    @abstractmethod
    def execute(self, statement: Executable, parameters: Parameters | Sequence[Parameters] | None = None) -> Any:
        """Run a SQLAlchemy Core statement. Raises UniqueViolation, StoreUnavailable."""

    @abstractmethod
    def rows(self, sql: str, parameters: Parameters | None = None) -> list[tuple[Any, ...]]:
        """All rows of a hot query, as tuples in the order of its columns. `:name` marks a parameter."""

    def row(self, sql: str, parameters: Parameters | None = None) -> tuple[Any, ...] | None:
        """The first row of a hot query, or None."""
        rows = self.rows(sql, parameters)
        return rows[0] if rows else None

    @abstractmethod
    def change(self, sql: str, parameters: Parameters | None = None) -> int:
        """Run a hot INSERT, UPDATE or DELETE; how many rows it touched. Raises UniqueViolation, StoreUnavailable."""

    @abstractmethod
    def change_many(self, sql: str, parameters: Sequence[Parameters]) -> None:
        """`change` for each of `parameters`, in one batch."""

    @abstractmethod
    def after_commit(self, hook: Callable[[], None]) -> None:
        """Call `hook` on the event loop once this unit is durable; never if it is undone. For wake-ups only."""

    @property
    @abstractmethod
    def hooks(self) -> Sequence[Callable[[], None]]:
        """Hooks of this unit, for the writer."""


class Engine(ABC):
    """One kind of database. What the methods promise stands at `Store`."""

    @abstractmethod
    async def open(self) -> None: ...

    @abstractmethod
    async def close(self) -> None: ...

    @abstractmethod
    async def write(self, work: Callable[[Transaction], _T]) -> _T: ...

    @abstractmethod
    async def read(self, work: Callable[[Transaction], _T]) -> _T: ...

    @abstractmethod
    async def lookup(self, work: Callable[[Transaction], _T]) -> _T: ...


@dataclass(slots=True)
class Unit(Generic[_T]):
    """A function on its way through the writer."""

    work: Callable[[Transaction], _T]
    future: "asyncio.Future[_T]"
    result: Any = None
    error: BaseException | None = None
    hooks: Sequence[Callable[[], None]] = field(default_factory=tuple)


def resolve(group: Sequence[Unit[Any]]) -> None:
    """Give each caller of a committed group its answer, and run the hooks before any caller goes on.

    On the event loop. A hook that fails is reported, and keeps nobody else waiting.
    """
    for unit in group:
        if not unit.future.done():
            if unit.error is not None:
                unit.future.set_exception(unit.error)
            else:
                unit.future.set_result(unit.result)
    for unit in group:
        for hook in unit.hooks:
            try:
                hook()
            except Exception as error:  # noqa: BLE001 - the outer edge: other units' callers wait for this loop
                asyncio.get_running_loop().call_exception_handler(
                    {"message": "a hook of a unit of work failed", "exception": error}
                )


@lru_cache(maxsize=2048)
def numbered(sql: str, mark: str) -> tuple[str, tuple[str, ...]]:
    """The statement with numbers for its `:name`s, and the names in that order. mark: what precedes a number.

    Drivers bind by number for a part of what finding each name costs them.
    """
    names: dict[str, int] = {}

    def number(match: re.Match[str]) -> str:
        name = match[1]
        return match[0] if name is None else f"{mark}{names.setdefault(name, len(names) + 1)}"

    return _PARAMETER.sub(number, sql), tuple(names)
