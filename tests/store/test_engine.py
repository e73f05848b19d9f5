"""The writer's promises: durable before answered, alone in failure, one process at a time, reads beside it."""

import asyncio
import contextlib
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import asyncpg
import pytest
import sqlalchemy
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from marketplace.errors import NotFound, SchemaOutdated, StoreUnavailable, UniqueViolation
from marketplace.store import sqlite
from marketplace.store.engine import Store, is_postgres
from marketplace.store.schema import _config, migrate, newest_revision
from marketplace.store.sqlite import SqliteEngine
from marketplace.store.tables import METADATA


def add(tx, account):
    tx.change("INSERT INTO accounts (id, created_at_ms) VALUES (:id, 1)", {"id": account})


def count(tx):
    return tx.row("SELECT count(*) FROM accounts")[0]


async def test_what_was_written_is_read_by_every_way(store):
    await store.write(lambda tx: add(tx, "a"))
    assert await store.read(count) == 1
    assert await store.lookup(count) == 1
    assert await store.write(count) == 1


async def test_a_unit_that_fails_is_undone_alone(store):
    def fails(tx):
        add(tx, "lost")
        raise NotFound

    results = await asyncio.gather(
        *(store.write(lambda tx, n=n: add(tx, f"a{n}")) for n in range(5)),
        store.write(fails),
        *(store.write(lambda tx, n=n: add(tx, f"b{n}")) for n in range(5)),
        return_exceptions=True,
    )
    assert [type(result) for result in results if result is not None] == [NotFound]
    assert await store.read(count) == 10


async def test_a_duplicate_is_told_and_takes_nothing_with_it(store):
    await store.write(lambda tx: add(tx, "a"))
    results = await asyncio.gather(
        store.write(lambda tx: add(tx, "a")), store.write(lambda tx: add(tx, "b")), return_exceptions=True
    )
    assert isinstance(results[0], UniqueViolation)
    assert results[1] is None
    with pytest.raises(UniqueViolation):
        await store.write(
            lambda tx: tx.execute(sqlalchemy.text("INSERT INTO accounts (id, created_at_ms) VALUES ('b', 1)"))
        )


async def test_core_statements_and_hot_sql_are_one_transaction(store):
    def work(tx):
        tx.execute(METADATA.tables["accounts"].insert(), {"id": "core", "created_at_ms": 1})
        add(tx, "hot")
        raise NotFound

    with pytest.raises(NotFound):
        await store.write(work)
    assert await store.read(count) == 0


async def test_hooks_run_after_the_commit_and_only_then(store):
    seen = []

    def succeeds(tx):
        add(tx, "a")
        tx.after_commit(lambda: seen.append("told"))

    def fails(tx):
        tx.after_commit(lambda: seen.append("never"))
        raise NotFound

    await store.write(succeeds)
    with pytest.raises(NotFound):
        await store.write(fails)
    await store.write(lambda tx: None)
    assert seen == ["told"]


async def test_a_hook_that_fails_keeps_nobody_waiting(store):
    reported, seen = [], []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reported.append(context["exception"]))

    def fails(tx):
        tx.after_commit(lambda: 1 // 0)
        tx.after_commit(lambda: seen.append("next"))

    async with asyncio.timeout(60):
        await asyncio.gather(store.write(fails), store.write(lambda tx: tx.after_commit(lambda: seen.append("other"))))
    assert [type(error) for error in reported] == [ZeroDivisionError]
    assert seen == ["next", "other"]


async def test_a_busy_writer_lets_units_gather_into_one_commit(tmp_path, monkeypatch):
    groups = []
    gathering, gathered = threading.Event(), threading.Event()
    commit = SqliteEngine._commit_group

    def spaced(seconds):
        assert 0 <= seconds <= 0.01
        gathering.set()
        assert gathered.wait(60)

    monkeypatch.setattr(sqlite, "sleep", spaced)
    monkeypatch.setattr(
        SqliteEngine, "_commit_group", lambda *arguments: (groups.append(len(arguments[2])), commit(*arguments))
    )
    store = Store(tmp_path / "market.sqlite3")
    await store.open()
    holding, held = threading.Event(), threading.Event()

    def slow(_tx):
        holding.set()
        held.wait(60)

    first = asyncio.create_task(store.write(slow))
    assert await asyncio.to_thread(holding.wait, 60)
    burst = [asyncio.create_task(store.write(lambda tx, n=n: add(tx, f"a{n}"))) for n in range(5)]
    await asyncio.sleep(0)
    held.set()
    await asyncio.gather(first, *burst)
    # One caller alone is never kept waiting: nothing was spaced until a commit held several units.
    assert not gathering.is_set()
    one = asyncio.create_task(store.write(lambda tx: add(tx, "b")))
    assert await asyncio.to_thread(gathering.wait, 60)
    other = asyncio.create_task(store.write(lambda tx: add(tx, "c")))
    await asyncio.sleep(0)
    gathered.set()
    await asyncio.gather(one, other)
    await store.write(lambda tx: add(tx, "d"))
    await store.close()
    assert groups == [1, 5, 2, 1]


async def test_a_cancelled_caller_leaves_a_whole_outcome(store):
    task = asyncio.create_task(store.write(lambda tx: add(tx, "a")))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await store.write(count) == 1


async def test_readers_cannot_write(store):
    with pytest.raises(StoreUnavailable):
        await store.read(lambda tx: add(tx, "a"))
    with pytest.raises(StoreUnavailable):
        await store.lookup(lambda tx: add(tx, "a"))


@pytest.mark.parametrize("way", ["read", "lookup"])
async def test_a_read_is_one_snapshot(store, location, way):
    def twice(tx):
        before = count(tx)
        with ThreadPoolExecutor(1) as elsewhere:
            elsewhere.submit(insert_past_the_store, location).result()
        return before, count(tx)

    assert await getattr(store, way)(twice) == (0, 0)
    assert await getattr(store, way)(count) == 1


def insert_past_the_store(location):
    """As another process would."""
    statement = "INSERT INTO accounts (id, created_at_ms) VALUES ('elsewhere', 1)"

    async def insert():
        connection = await asyncpg.connect(location)
        await connection.execute(statement)
        await connection.close()

    if is_postgres(location):
        asyncio.run(insert())
    else:
        with contextlib.closing(sqlite3.connect(location, isolation_level=None)) as connection:
            connection.execute(statement)


async def test_a_second_process_is_refused(store, location):
    run = await run_elsewhere(location, "await store.open()")
    assert run.returncode == 1
    assert b"another process uses the database" in run.stderr


async def test_what_was_answered_survives_sigkill(location):
    run = await run_elsewhere(
        location,
        "await store.open()\n"
        "    for n in range(20):\n"
        "        await store.write(lambda tx: tx.change("
        "\"INSERT INTO accounts (id, created_at_ms) VALUES (:id, 1)\", {'id': f'a{n}'}))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)",
    )
    assert run.returncode == -9
    store = Store(location)
    await open_soon(store)
    assert await store.read(count) == 20
    await store.close()


async def open_soon(store):
    """PostgreSQL takes a moment to see that the process that held the database is gone."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await store.open()
            except StoreUnavailable:
                await asyncio.sleep(0.05)


async def run_elsewhere(location, code):
    """Run statements about `store` in a process of its own."""
    program = (
        "import asyncio, os, pathlib, signal, sys\n"
        "from marketplace.store.engine import Store\n"
        "async def main(at):\n"
        "    store = Store(at if '://' in at else pathlib.Path(at))\n"
        f"    {code}\n"
        "asyncio.run(main(sys.argv[1]))\n"
    )
    return await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", program, str(location)], capture_output=True, timeout=60, check=False
    )


async def test_a_closed_store_says_so(store):
    await store.close()
    for attempt in (store.write(count), store.read(count)):
        with pytest.raises(StoreUnavailable):
            await attempt
    with pytest.raises(StoreUnavailable):
        await store.lookup(count)


async def test_the_migrated_schema_is_the_tables(store):
    """Types too: a column that a migration made too narrow would refuse values on PostgreSQL only."""

    def differences(tx):
        connection = getattr(tx._connection, "sync_connection", tx._connection)
        return compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), METADATA)

    assert await store.write(differences) == []


def test_migrating_twice_changes_nothing(tmp_path):
    path = tmp_path / "market.sqlite3"
    assert migrate(path) == migrate(path) == newest_revision()


def test_attempts_of_an_older_database_get_the_meter_of_their_assignment(tmp_path):
    path = tmp_path / "market.sqlite3"
    engine = sqlalchemy.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        older = _config()
        older.attributes["connection"] = connection
        command.upgrade(older, "0003")
    engine.dispose()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute(
            "INSERT INTO allocations (" + _filled(db, "allocations", id="'alloc_1'", escrow="'escrow_1'", labels="'[]'")
        )
        for number in (1, 2):
            db.execute(
                "INSERT INTO attempts (" + _filled(db, "attempts", allocation_id="'alloc_1'", number=str(number))
            )
        event = {"name": "'Assigned'", "escrow": "'escrow_1'", "attempt": "1", "fields": """'{"meter": "old"}'"""}
        db.execute("INSERT INTO chain_events (" + _filled(db, "chain_events", **event))
        db.commit()
    migrate(path)
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT number, meter_key FROM attempts ORDER BY number").fetchall() == [
            (1, "old"),
            (2, None),
        ]


def test_jobs_of_an_older_database_are_counted(tmp_path):
    path = tmp_path / "market.sqlite3"
    engine = sqlalchemy.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        older = _config()
        older.attributes["connection"] = connection
        command.upgrade(older, "0023")
    engine.dispose()
    with contextlib.closing(sqlite3.connect(path)) as db:
        for number, funded in enumerate(("1", "1", "NULL")):
            given = {"id": f"'{number}'", "escrow": f"'{number}'", "key": f"'{number}'", "nonce": str(number)}
            row = _filled(db, "allocations", labels="'[]'", status="'queued'", funded_at_ms=funded, **given)
            db.execute("INSERT INTO allocations (" + row)
        db.commit()
    migrate(path)
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT status, jobs FROM job_counts").fetchall() == [("queued", 2)]


def _filled(db, table, **given):
    """The rest of an INSERT: what is given, and something for every other column that must not be empty."""
    rows = db.execute(f"PRAGMA table_info({table})").fetchall()
    columns = {name: given.get(name, "0") for _, name, _, needed, _, key in rows if needed or key or name in given}
    return f"{', '.join(columns)}) VALUES ({', '.join(columns.values())})"


def test_a_newer_database_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "market.sqlite3"
    migrate(path)
    engine = sqlalchemy.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaOutdated, match="9999"):
        migrate(path)
    with engine.connect() as connection:
        assert connection.execute(sqlalchemy.text("SELECT version_num FROM alembic_version")).scalar() == "9999"
    engine.dispose()


def test_a_file_that_is_no_database_is_told(tmp_path):
    path = tmp_path / "market.sqlite3"
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(StoreUnavailable):
        migrate(path)
