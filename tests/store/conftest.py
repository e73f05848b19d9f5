"""Every test here that takes `store` runs on SQLite, and on PostgreSQL under the mark `postgres`."""

import asyncio
import itertools
import shutil
from collections.abc import Iterator

import asyncpg
import pytest

from marketplace.store.engine import Store
from marketplace.store.schema import migrate
from scripts.postgres import UNSAFE, running_cluster

POSTGRES = pytest.param("postgres", marks=[pytest.mark.postgres, pytest.mark.xdist_group("postgres")])
_numbers = itertools.count()


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    """URL of a server with an empty, migrated database `template`."""

    async def prepare(url):
        await _administer(url, "CREATE DATABASE template")
        store = Store(f"{url}/template")
        await store.open()
        await store.close()

    with running_cluster(*UNSAFE) as url:
        asyncio.run(prepare(url))
        yield url


@pytest.fixture
async def postgres_url(cluster):
    """A fresh database."""
    name = f"test_{next(_numbers)}"
    await _administer(cluster, f"CREATE DATABASE {name} TEMPLATE template")
    yield f"{cluster}/{name}"
    await _administer(cluster, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory):
    """An empty database: a copy of it is made much faster than it is."""
    path = tmp_path_factory.mktemp("store") / "market.sqlite3"
    migrate(path)
    return path


@pytest.fixture(params=["sqlite", POSTGRES])
def location(request, tmp_path):
    """Where a fresh store is: a file, or a URL."""
    if request.param == "postgres":
        return request.getfixturevalue("postgres_url")
    return shutil.copy(request.getfixturevalue("migrated_file"), tmp_path / "market.sqlite3")


@pytest.fixture
async def store(location):
    opened = Store(location)
    await opened.open()
    yield opened
    await opened.close()


async def _administer(url, statement):
    connection = await asyncpg.connect(f"{url}/postgres")
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
