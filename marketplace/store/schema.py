"""Bringing the database's schema up to date. Released migrations are never edited; see docs/market.md."""

import sqlite3
from pathlib import Path
from typing import Final

import sqlalchemy
import sqlalchemy.event
import sqlalchemy.exc
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy.engine import Connection
from sqlalchemy.pool import StaticPool

from marketplace.errors import SchemaOutdated, StoreUnavailable

_SCRIPTS: Final = Path(__file__).parent / "migrations"
_MIGRATION_LOCK: Final = int.from_bytes(b"reaver\0\2")
"""Advisory lock of who migrates a PostgreSQL database; chosen."""
_JSON_EXTRACT: Final = sqlalchemy.text(
    "CREATE OR REPLACE FUNCTION json_extract(document varchar, path varchar) RETURNS text LANGUAGE sql IMMUTABLE"
    " AS $$ SELECT document::json #>> string_to_array(substr(path, 3), '.') $$"
)
"""Migration 0003 was released with this function of SQLite; PostgreSQL has it while migrations run."""


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    config.set_main_option("path_separator", "os")
    return config


def newest_revision() -> str:
    """The revision this version of the market needs."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if head is None:
        raise SchemaOutdated
    return head


def current_revision(connection: Connection) -> str | None:
    """The revision of an open database; None for an empty one."""
    return MigrationContext.configure(connection).get_current_revision()


def upgrade(connection: Connection) -> None:
    """Bring an open database up to date, in the caller's transaction. Raises SchemaOutdated."""
    config = _config()
    config.attributes["connection"] = connection
    is_postgres = connection.dialect.name == "postgresql"
    if is_postgres:
        # Of several replicas one migrates, the others find it done.
        connection.execute(sqlalchemy.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        connection.execute(_JSON_EXTRACT)
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise SchemaOutdated(
            f"the database is at revision {current_revision(connection)}, which this version doesn't know; "
            "nothing was changed, run the version that wrote it"
        ) from error
    if is_postgres:
        connection.execute(sqlalchemy.text("DROP FUNCTION json_extract(varchar, varchar)"))


def migrate(path: Path) -> str:
    """Create or upgrade the SQLite database at `path`; the revision it has afterwards.

    The caller holds the database's lock. All pending migrations are one transaction: a failed one leaves the
    database as it was. A database newer than this version is refused: an old process must not write to it.
    Raises SchemaOutdated, StoreUnavailable.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = sqlite3.connect(path, isolation_level=None, timeout=5.0, check_same_thread=False)
    engine = sqlalchemy.create_engine("sqlite://", creator=lambda: raw, poolclass=StaticPool)
    # The driver begins no transaction before DDL by itself; half a migration must not survive a failure.
    sqlalchemy.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    try:
        raw.execute("PRAGMA journal_mode=WAL")
        with engine.begin() as connection:
            upgrade(connection)
        return newest_revision()
    except (sqlite3.Error, sqlalchemy.exc.DBAPIError) as error:
        raise StoreUnavailable(f"the database {path} can't be opened: {error}") from error
    finally:
        engine.dispose()
        raw.close()
