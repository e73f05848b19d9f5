"""SQLite behind one writer thread with group commit; readers in WAL mode beside it.

Many small units of work share one commit, because the flush to disk costs far more than the statements: measured
36,300 durable inserts a second in groups against 5,830 singly (stack.md section 13). Each unit runs under its own
savepoint, so one that fails takes nothing of the others with it; its caller gets its answer after the commit.

When it is busy the writer lets units gather for some milliseconds: a commit costs as much as the statements of many
units, in processor time too.

Invariants: one writer per file (a lock file says so to other processes); a future is resolved only after COMMIT
returned; a unit's `after_commit` hooks run only then, on the event loop.
"""

import asyncio
import contextlib
import fcntl
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Final, TypeVar

import sqlalchemy
import sqlalchemy.exc
from sqlalchemy.engine import Connection, CursorResult
from sqlalchemy.pool import StaticPool
from sqlalchemy.sql.base import Executable

from marketplace.errors import StoreUnavailable, UniqueViolation
from marketplace.store.units import MAX_PENDING, Engine, Parameters, Transaction, Unit, numbered, resolve

_T = TypeVar("_T")

_BUSY_TIMEOUT_S: Final = 5.0
"""How long a statement waits for another process's lock (a backup, a person with the sqlite3 shell); chosen."""

_BUSY_GROUP: Final = 4
"""Units in one commit from which on commits are spaced out; chosen: three callers at once never wait for others."""
_SPACING_S: Final = 0.01
"""How far apart commits then begin. Chosen: a submission's part of the writer's time falls by a quarter
(docs/benchmarks.md), and its answer takes three commits."""


class SqliteTransaction(Transaction):
    """One unit of work on a connection of this engine."""

    __slots__ = ("_connection", "_hooks", "_raw")

    def __init__(self, raw: sqlite3.Connection, connection: Connection) -> None:
        self._raw = raw
        self._connection = connection
        self._hooks: list[Callable[[], None]] = []

    def execute(self, statement: Executable, parameters: Parameters | Sequence[Parameters] | None = None) -> Any:
        try:
            result: CursorResult[Any] = self._connection.execute(statement, parameters)
        except sqlalchemy.exc.IntegrityError as error:
            raise UniqueViolation from error
        except sqlalchemy.exc.DBAPIError as error:
            raise StoreUnavailable from error
        return result

    def rows(self, sql: str, parameters: Parameters | None = None) -> list[tuple[Any, ...]]:
        try:
            return self._raw.execute(*_bound(sql, parameters)).fetchall()
        except sqlite3.IntegrityError as error:
            raise UniqueViolation from error
        except sqlite3.Error as error:
            raise StoreUnavailable from error

    def change(self, sql: str, parameters: Parameters | None = None) -> int:
        try:
            return self._raw.execute(*_bound(sql, parameters)).rowcount
        except sqlite3.IntegrityError as error:
            raise UniqueViolation from error
        except sqlite3.Error as error:
            raise StoreUnavailable from error

    def change_many(self, sql: str, parameters: Sequence[Parameters]) -> None:
        try:
            text, names = numbered(sql, "?")
            self._raw.executemany(text, [[one[name] for name in names] for one in parameters])
        except sqlite3.IntegrityError as error:
            raise UniqueViolation from error
        except sqlite3.Error as error:
            raise StoreUnavailable from error

    def after_commit(self, hook: Callable[[], None]) -> None:
        self._hooks.append(hook)

    @property
    def hooks(self) -> Sequence[Callable[[], None]]:
        return self._hooks


def _bound(sql: str, parameters: Parameters | None) -> tuple[str, Sequence[Any]]:
    """Text and values as the driver takes them. Raises KeyError for a parameter that wasn't given."""
    if not parameters:
        return sql, ()
    text, names = numbered(sql, "?")
    return text, [parameters[name] for name in names]


class _Session:
    """A connection with its SQLAlchemy face; the owner begins and ends transactions itself."""

    def __init__(self, path: Path, synchronous: str, *, read_only: bool) -> None:
        self.raw = sqlite3.connect(
            path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, cached_statements=512
        )
        self.raw.execute("PRAGMA journal_mode=WAL")
        self.raw.execute(f"PRAGMA synchronous={synchronous}")
        self.raw.execute("PRAGMA foreign_keys=ON")
        if read_only:
            self.raw.execute("PRAGMA query_only=ON")
        self._engine = sqlalchemy.create_engine(
            "sqlite://", creator=lambda: self.raw, poolclass=StaticPool, isolation_level="AUTOCOMMIT"
        )
        self.connection = self._engine.connect()

    def transaction(self) -> SqliteTransaction:
        return SqliteTransaction(self.raw, self.connection)

    def close(self) -> None:
        self.connection.close()
        self._engine.dispose()
        self.raw.close()


def _on_snapshot(session: _Session, work: Callable[[Transaction], _T]) -> _T:
    session.raw.execute("BEGIN")
    try:
        return work(session.transaction())
    finally:
        session.raw.execute("COMMIT")


class FileLock:
    """An exclusive lock on a file beside the database: SQLite means exactly one server process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock or raise StoreUnavailable at once."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise StoreUnavailable(f"another process uses the database ({self._path}); stop it first") from error
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the lock back; harmless when it isn't held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class SqliteEngine(Engine):
    """`Store` over one SQLite file."""

    def __init__(self, path: Path, *, synchronous: str = "FULL", readers: int = 2, group_limit: int = 256) -> None:
        self._path = path
        self._synchronous = synchronous
        self._reader_count = readers
        self._group_limit = group_limit
        self._queue: queue.SimpleQueue[Unit[Any] | None] = queue.SimpleQueue()
        self._lock = FileLock(path.with_name(path.name + ".lock"))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._readers: ThreadPoolExecutor | None = None
        self._reader_sessions: list[_Session] = []
        self._local = threading.local()
        self._lookup_session: _Session | None = None
        self._open = False

    async def open(self) -> None:
        from marketplace.store.schema import migrate  # noqa: PLC0415 alembic is slow to import and needed once

        self._lock.acquire()
        try:
            self._loop = asyncio.get_running_loop()
            await asyncio.to_thread(migrate, self._path)
            self._lookup_session = _Session(self._path, self._synchronous, read_only=True)
            self._readers = ThreadPoolExecutor(self._reader_count, thread_name_prefix="store-reader")
            self._open = True
            self._thread = threading.Thread(target=self._write_groups, name="store-writer", daemon=True)
            self._thread.start()
        except BaseException:
            self._lock.release()
            raise

    async def close(self) -> None:
        if not self._open:
            return
        self._open = False
        self._queue.put(None)
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)
        if self._readers is not None:
            await asyncio.to_thread(self._readers.shutdown)
        for session in self._reader_sessions:
            session.close()
        self._reader_sessions.clear()
        if self._lookup_session is not None:
            self._lookup_session.close()
        self._lock.release()

    async def write(self, work: Callable[[Transaction], _T]) -> _T:
        if not self._open or self._loop is None:
            raise StoreUnavailable
        if self._queue.qsize() > MAX_PENDING:
            raise StoreUnavailable("the database has too much work queued; nothing was changed, try again")
        future: asyncio.Future[_T] = self._loop.create_future()
        self._queue.put(Unit(work, future))
        return await future

    async def read(self, work: Callable[[Transaction], _T]) -> _T:
        if self._loop is None or self._readers is None or not self._open:
            raise StoreUnavailable
        return await self._loop.run_in_executor(self._readers, self._read, work)

    async def lookup(self, work: Callable[[Transaction], _T]) -> _T:
        if self._lookup_session is None or not self._open:
            raise StoreUnavailable
        return _on_snapshot(self._lookup_session, work)

    def _read(self, work: Callable[[Transaction], _T]) -> _T:
        session: _Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = _Session(self._path, self._synchronous, read_only=True)
            self._reader_sessions.append(session)
        return _on_snapshot(session, work)

    def _write_groups(self) -> None:
        session = _Session(self._path, self._synchronous, read_only=False)
        stopping = False
        group: list[Unit[Any]] = []
        began = 0.0
        try:
            while not stopping:
                first = self._queue.get()
                if first is None:
                    break
                if len(group) >= _BUSY_GROUP:
                    sleep(max(0.0, began + _SPACING_S - monotonic()))
                began = monotonic()
                group = [first]
                while len(group) < self._group_limit:
                    try:
                        unit = self._queue.get_nowait()
                    except queue.Empty:
                        break
                    if unit is None:
                        stopping = True
                        break
                    group.append(unit)
                self._commit_group(session, group)
        finally:
            session.close()

    def _commit_group(self, session: _Session, group: list[Unit[Any]]) -> None:
        try:
            session.raw.execute("BEGIN IMMEDIATE")
            for unit in group:
                self._run(session, unit)
            session.raw.execute("COMMIT")
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                session.raw.execute("ROLLBACK")
            for unit in group:
                unit.result, unit.hooks = None, ()
                if unit.error is None:
                    unit.error = StoreUnavailable()
                    unit.error.__cause__ = error
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(resolve, group)

    def _run(self, session: _Session, unit: Unit[Any]) -> None:
        """Run one unit under a savepoint. Raises sqlite3.Error when the whole group is lost."""
        session.raw.execute("SAVEPOINT unit")
        transaction = session.transaction()
        try:
            unit.result = unit.work(transaction)
        except Exception as error:  # noqa: BLE001 - the caller's error, handed back to the caller
            unit.error = error
            # A full disk or an I/O error makes SQLite end the transaction by itself; this then raises.
            session.raw.execute("ROLLBACK TO unit")
            session.raw.execute("RELEASE unit")
        else:
            session.raw.execute("RELEASE unit")
            unit.hooks = transaction.hooks
