"""PostgreSQL over asyncpg: the same units of work, run in groups by one writer, with readers beside it.

A unit is a plain function; here each of its statements waits for the network. It runs in a greenlet, so that its
waits are the event loop's: no thread, and no second way to write a unit. Hot SQL goes to asyncpg as it is, with
`:name` turned into `$1`; Core statements go through SQLAlchemy on the same connection.

Units were written for one writer, and read before they write. So writers take turns here as well: groups of units
share one transaction under an advisory lock, each under its own savepoint. Other replicas wait for that lock, and
cursors become visible in the order they were given out. docs/decisions/011.

Invariants: a future is resolved only after COMMIT was answered; whoever holds the database for itself holds it by
the connection it writes on, and writes nothing once that is lost.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, TypeVar

import asyncpg
import sqlalchemy.exc
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool
from sqlalchemy.sql.base import Executable
from sqlalchemy.util.concurrency import await_, greenlet_spawn

from marketplace.errors import StoreUnavailable, UniqueViolation
from marketplace.store.units import MAX_PENDING, Engine, Parameters, Transaction, Unit, numbered, resolve

_T = TypeVar("_T")

_LOOKUPS: Final = 4
"""Connections for lookups; chosen: each is held for a fraction of a millisecond."""
_WRITER_LOCK: Final = int.from_bytes(b"reaver\0\1")
"""Advisory lock of who writes. Chosen; advisory locks are each database's own."""
_LOST: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError, sqlalchemy.exc.SQLAlchemyError)
_CONNECT_TIMEOUT_S: Final = 10.0
_STATEMENT_TIMEOUT_S: Final = 60.0
"""Chosen: a server that doesn't answer is given up; no statement of ours takes a second."""
_SESSION: Final = {
    "application_name": "reaver-market",
    # A process that vanished keeps its locks until the server notices: after 25 s instead of two hours.
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    # One that hangs within a transaction must not stop the others' writing for good.
    "idle_in_transaction_session_timeout": "30s",
    "lock_timeout": "30s",
}


class PostgresTransaction(Transaction):
    """One unit of work on a connection of this engine. Its methods are called inside a greenlet."""

    __slots__ = ("_connection", "_hooks", "_raw")

    def __init__(self, raw: Any, connection: AsyncConnection) -> None:
        self._raw = raw
        self._connection = connection
        self._hooks: list[Callable[[], None]] = []

    def execute(self, statement: Executable, parameters: Parameters | Sequence[Parameters] | None = None) -> Any:
        connection = self._connection.sync_connection
        if connection is None:
            raise StoreUnavailable
        try:
            return connection.execute(statement, parameters)
        except sqlalchemy.exc.IntegrityError as error:
            raise UniqueViolation from error
        except (sqlalchemy.exc.DBAPIError, OSError) as error:
            raise StoreUnavailable from error

    def rows(self, sql: str, parameters: Parameters | None = None) -> list[tuple[Any, ...]]:
        text, names = numbered(sql, "$")
        return [tuple(row) for row in self._call(self._raw.fetch, text, *_values(names, parameters))]

    def change(self, sql: str, parameters: Parameters | None = None) -> int:
        text, names = numbered(sql, "$")
        tag: str = self._call(self._raw.execute, text, *_values(names, parameters))
        return int(tag.rsplit(" ", 1)[-1])

    def change_many(self, sql: str, parameters: Sequence[Parameters]) -> None:
        if parameters:
            text, names = numbered(sql, "$")
            self._call(self._raw.executemany, text, [_values(names, one) for one in parameters])

    def after_commit(self, hook: Callable[[], None]) -> None:
        self._hooks.append(hook)

    @property
    def hooks(self) -> Sequence[Callable[[], None]]:
        return self._hooks

    @staticmethod
    def _call(method: Callable[..., Any], *arguments: object) -> Any:
        try:
            return await_(method(*arguments))
        except asyncpg.IntegrityConstraintViolationError as error:
            raise UniqueViolation from error
        except _LOST as error:
            raise StoreUnavailable from error


class _Session:
    """A connection with its SQLAlchemy face; the owner begins and ends transactions itself."""

    def __init__(self, raw: Any, connection: AsyncConnection) -> None:
        self.raw = raw
        self._connection = connection

    def transaction(self) -> PostgresTransaction:
        return PostgresTransaction(self.raw, self._connection)

    async def close(self) -> None:
        """Close it, also when it is broken."""
        if not self.raw.is_closed() and self.raw.is_in_transaction():
            # SQLAlchemy's own ending of the connection knows nothing of a transaction begun here.
            self.raw.terminate()
        with contextlib.suppress(*_LOST):
            if self.raw.is_closed():
                await self._connection.invalidate()
            await self._connection.close()


class _Sessions:
    """Up to `limit` connections, made when needed, kept while they are sound."""

    def __init__(self, connect: Callable[[], Any], limit: int) -> None:
        self._connect = connect
        self._free = asyncio.Semaphore(limit)
        self._idle: list[_Session] = []

    @contextlib.asynccontextmanager
    async def take(self) -> AsyncIterator[_Session]:
        """A session; closed instead of kept when it is left within a transaction or by anything but a clean end."""
        async with self._free:
            session = self._idle.pop() if self._idle else await self._connect()
            sound = False
            try:
                yield session
                sound = True
            except Exception:
                sound = True  # the unit's own error; whether the connection is sound is seen below
                raise
            finally:
                if sound and not session.raw.is_closed() and not session.raw.is_in_transaction():
                    self._idle.append(session)
                else:
                    session.raw.terminate()
                    await session.close()

    async def close(self) -> None:
        """Close what is idle."""
        while self._idle:
            await self._idle.pop().close()


class PostgresEngine(Engine):
    """`Store` over one PostgreSQL database.

    exclusive: hold the database while open, so that a second one is refused; else groups take turns.
    """

    def __init__(self, url: str, *, asynchronous_commit: bool, readers: int, group_limit: int, exclusive: bool) -> None:
        self._url = _driver_url(url)
        self._asynchronous_commit = asynchronous_commit
        self._exclusive = exclusive
        self._group_limit = group_limit
        self._engine: AsyncEngine | None = None
        self._writer: _Session | None = None
        self._snapshots = _Sessions(self._connect_reader, readers)
        self._lookups = _Sessions(self._connect_reader, _LOOKUPS)
        self._queue: asyncio.Queue[Unit[Any] | None] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._open = False
        turn = "" if exclusive else f" SELECT pg_advisory_xact_lock({_WRITER_LOCK});"
        self._begin = f"BEGIN;{turn} SAVEPOINT unit"

    async def open(self) -> None:
        from marketplace.store.schema import upgrade  # noqa: PLC0415 alembic is slow to import and needed once

        settings = dict(_SESSION)
        if self._asynchronous_commit:
            settings["synchronous_commit"] = "off"
        self._engine = create_async_engine(
            self._url,
            poolclass=NullPool,
            connect_args={
                "timeout": _CONNECT_TIMEOUT_S,
                "command_timeout": _STATEMENT_TIMEOUT_S,
                "statement_cache_size": 512,
                "server_settings": settings,
            },
        )
        try:
            self._writer = await self._connect_writer()
            async with self._engine.begin() as connection:
                await connection.run_sync(upgrade)
            self._open = True
            self._task = asyncio.create_task(self._write_groups(), name="store-writer")
        except _LOST as error:
            await self._dispose()
            raise StoreUnavailable(f"the database {self._url.render_as_string()} can't be opened: {error}") from error
        except BaseException:
            await self._dispose()
            raise

    async def close(self) -> None:
        if not self._open:
            return
        self._open = False
        self._queue.put_nowait(None)
        if self._task is not None:
            await self._task
        await self._dispose()

    async def write(self, work: Callable[[Transaction], _T]) -> _T:
        if not self._open:
            raise StoreUnavailable
        if self._queue.qsize() > MAX_PENDING:
            raise StoreUnavailable("the database has too much work queued; nothing was changed, try again")
        future: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait(Unit(work, future))
        return await future

    async def read(self, work: Callable[[Transaction], _T]) -> _T:
        return await self._on_snapshot(self._snapshots, work)

    async def lookup(self, work: Callable[[Transaction], _T]) -> _T:
        return await self._on_snapshot(self._lookups, work)

    async def _on_snapshot(self, sessions: _Sessions, work: Callable[[Transaction], _T]) -> _T:
        async with self._session(sessions) as session:
            await session.raw.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            try:
                return await greenlet_spawn(work, session.transaction())
            finally:
                if not session.raw.is_closed():
                    await session.raw.execute("ROLLBACK")

    @contextlib.asynccontextmanager
    async def _session(self, sessions: _Sessions) -> AsyncIterator[_Session]:
        if not self._open:
            raise StoreUnavailable
        try:
            async with sessions.take() as session:
                yield session
        except _LOST as error:
            raise StoreUnavailable from error

    async def _connect(self) -> _Session:
        if self._engine is None:
            raise StoreUnavailable
        connection = await self._engine.connect()
        try:
            # Transactions are begun and ended here, by hand: SQLAlchemy must not begin any.
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            return _Session((await connection.get_raw_connection()).driver_connection, connection)
        except BaseException:
            await connection.close()
            raise

    async def _connect_reader(self) -> _Session:
        session = await self._connect()
        await session.raw.execute("SET default_transaction_read_only = on")
        return session

    async def _connect_writer(self) -> _Session:
        session = await self._connect()
        if self._exclusive and not await session.raw.fetchval("SELECT pg_try_advisory_lock($1)", _WRITER_LOCK):
            await session.close()
            raise StoreUnavailable("another process uses the database; stop it first")
        return session

    async def _write_groups(self) -> None:
        stopping = False
        while not stopping:
            first = await self._queue.get()
            if first is None:
                break
            group = [first]
            while len(group) < self._group_limit and not self._queue.empty():
                unit = self._queue.get_nowait()
                if unit is None:
                    stopping = True
                    break
                group.append(unit)
            await self._commit_group(group)

    async def _commit_group(self, group: list[Unit[Any]]) -> None:
        try:
            if self._writer is None:
                self._writer = await self._connect_writer()
            session = self._writer
            await session.raw.execute(self._begin)
            for index, unit in enumerate(group):
                await self._run(session, unit, is_last=index + 1 == len(group))
            await session.raw.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - the writer outlives whatever happened: all others wait for it
            writer, self._writer = self._writer, None
            if writer is not None:
                writer.raw.terminate()
                await writer.close()
            for unit in group:
                unit.result, unit.hooks = None, ()
                if unit.error is None:
                    unit.error = StoreUnavailable()
                    unit.error.__cause__ = error
        resolve(group)

    async def _run(self, session: _Session, unit: Unit[Any], *, is_last: bool) -> None:
        """Run one unit under a savepoint. Raises what the driver raises when the whole group is lost."""
        transaction = session.transaction()
        try:
            unit.result = await greenlet_spawn(unit.work, transaction)
        except Exception as error:  # noqa: BLE001 - the caller's error, handed back to the caller
            unit.error = error
            await session.raw.execute("ROLLBACK TO unit")
        else:
            unit.hooks = transaction.hooks
            if not is_last:
                await session.raw.execute("RELEASE unit; SAVEPOINT unit")

    async def _dispose(self) -> None:
        if self._writer is not None:
            await self._writer.close()
            self._writer = None
        await self._snapshots.close()
        await self._lookups.close()
        if self._engine is not None:
            await self._engine.dispose()
            self._engine = None


def _driver_url(url: str) -> URL:
    parsed = make_url(url.replace("postgres://", "postgresql://", 1))
    return parsed.set(drivername="postgresql+asyncpg")


def _values(names: tuple[str, ...], parameters: Parameters | None) -> list[Any]:
    return [parameters[name] for name in names] if parameters else []
