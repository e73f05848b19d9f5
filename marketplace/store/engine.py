"""The database as services see it: SQLite by a file's path, PostgreSQL by its URL."""

from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import TypeVar

from sqlalchemy.engine import make_url

from marketplace.store.units import Engine, Transaction

__all__ = ["Sharing", "Store", "Transaction"]

_T = TypeVar("_T")


class Sharing(Enum):
    """How many stores may write to one PostgreSQL database at a time. A SQLite file always has one."""

    ONE = "one"
    """The first one holds it; a second one is refused. What the market asks for: it keeps live jobs in memory."""
    MANY = "many"
    """Groups of writes take turns. For what keeps no state beside the database."""


class Store:
    """Runs units of work: plain functions over a `Transaction`.

    location: a SQLite file, or a URL `postgresql://…`. synchronous: FULL survives a power cut, NORMAL only the death
    of this process. readers: snapshots read at once. group_limit: units in one commit.
    """

    def __init__(
        self,
        location: Path | str,
        *,
        synchronous: str = "FULL",
        readers: int = 2,
        group_limit: int = 256,
        sharing: Sharing = Sharing.ONE,
    ) -> None:
        self._engine = _engine(location, synchronous, readers, group_limit, sharing)

    async def open(self) -> None:
        """Take the database, bring its schema up to date, start. Raises StoreUnavailable, SchemaOutdated."""
        await self._engine.open()

    async def close(self) -> None:
        """Commit what is queued, then stop; harmless when not open."""
        await self._engine.close()

    async def write(self, work: Callable[[Transaction], _T]) -> _T:
        """Run `work` in a transaction; its result once it is durable.

        Units run one after the other, each sees all earlier ones, and many share a commit. What `work` raises is
        raised here, and everything it did is undone. The unit runs to its end even when the caller is cancelled
        meanwhile: an outcome is never half written. On PostgreSQL other tasks run while `work` waits for a statement.
        Raises StoreUnavailable: nothing was written, or the connection was lost while committing and nobody knows.
        """
        return await self._engine.write(work)

    async def read(self, work: Callable[[Transaction], _T]) -> _T:
        """Run `work` on one consistent snapshot; writing in it is an error."""
        return await self._engine.read(work)

    async def lookup(self, work: Callable[[Transaction], _T]) -> _T:
        """Run `work` for a few lookups by key, on one consistent snapshot too; writing in it is an error.

        On SQLite right here on the event loop, which costs less than a thread hop, and without letting others run.
        """
        return await self._engine.lookup(work)


def name_of(location: Path | str) -> str:
    """The database as a person may see it: without its password."""
    return make_url(str(location)).render_as_string() if is_postgres(location) else str(location)


def is_postgres(location: Path | str) -> bool:
    """Whether this names a PostgreSQL database."""
    return isinstance(location, str) and location.startswith(("postgresql://", "postgres://"))


def _engine(location: Path | str, synchronous: str, readers: int, group_limit: int, sharing: Sharing) -> Engine:
    if is_postgres(location):
        # The driver is loaded where it is asked for only.
        from marketplace.store.postgres import PostgresEngine  # noqa: PLC0415

        return PostgresEngine(
            str(location),
            asynchronous_commit=synchronous == "NORMAL",
            readers=readers,
            group_limit=group_limit,
            exclusive=sharing is Sharing.ONE,
        )
    from marketplace.store.sqlite import SqliteEngine  # noqa: PLC0415

    return SqliteEngine(Path(location), synchronous=synchronous, readers=readers, group_limit=group_limit)
