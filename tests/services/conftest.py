"""What the services' tests share."""

import pytest

from marketplace.store.engine import Store


@pytest.fixture
async def store(tmp_path):
    store = Store(tmp_path / "market.sqlite3")
    await store.open()
    yield store
    await store.close()
