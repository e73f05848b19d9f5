from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from marketplace.chain.outbox import OutboxStore
from marketplace.services.outbox import StoreOutbox
from marketplace.store.engine import Store
from marketplace.store.schema import migrate
from tests.chain.outbox_conformance import OutboxConformance, entry


class TestStoreOutbox(OutboxConformance):
    @pytest.fixture
    async def outbox(self, tmp_path: Path) -> AsyncIterator[OutboxStore]:
        path = tmp_path / "market.sqlite3"
        migrate(path)
        store = Store(path)
        await store.open()
        yield StoreOutbox(store)
        await store.close()


async def test_what_was_recorded_is_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "market.sqlite3"
    migrate(path)
    first = Store(path)
    await first.open()
    recorded = await StoreOutbox(first).insert(entry("pay:a", 1))
    await first.close()
    second = Store(path)
    await second.open()
    assert await StoreOutbox(second).list_unfinished() == [recorded]
    await second.close()
