"""Uploads by parts while somebody else acts on them: what was answered holds."""

import hashlib

import pytest

from marketplace.domain.ids import AccountId
from marketplace.errors import Conflict, NotFound
from marketplace.objects.storage import ObjectStorage
from marketplace.services.clock import Ids, ManualClock, SystemRandom
from marketplace.services.files import FileService, NewFile
from marketplace.store.engine import Store
from tests.services.test_outputs import Late, once

MINE = AccountId("acct_a")


class World:
    """A service, and one upload whose only part is here."""

    def __init__(self, folder):
        clock, self.storage = ManualClock(), ObjectStorage.in_memory()
        self.store = Store(folder / "market.sqlite3")
        self.files = FileService(self.store, self.storage, None, clock, Ids(clock, SystemRandom()))

    async def begin(self):
        self.upload = await self.files.begin(MINE, NewFile("a", "text/plain", hashlib.sha256(b"x").hexdigest(), 1))
        await self.files.put_part(MINE, self.upload.id, 1, once(b"x"))

    async def left(self):
        return sorted([found.key async for found in self.storage.list("files")])


@pytest.fixture
async def world(tmp_path):
    world = World(tmp_path)
    await world.store.open()
    await world.begin()
    yield world
    await world.store.close()


async def test_an_upload_that_is_abandoned_while_it_is_completed_is_no_file(world):
    async def abandon():
        world.files._store = world.store
        await world.files.abandon(MINE, world.upload.id)

    world.files._store = Late(world.store, abandon)
    with pytest.raises(NotFound):
        await world.files.complete(MINE, world.upload.id)
    assert await world.files.list_files(MINE, limit=9, offset=0) == ([], 0)
    assert await world.left() == []


async def test_a_part_that_is_replaced_while_it_is_completed_is_not_lost(world):
    async def replace():
        world.files._store = world.store
        await world.files.put_part(MINE, world.upload.id, 1, once(b"y"))

    world.files._store = Late(world.store, replace)
    with pytest.raises(Conflict, match="again"):
        await world.files.complete(MINE, world.upload.id)
    _, (part,) = await world.files.get_upload(MINE, world.upload.id)
    assert part.sha256 == hashlib.sha256(b"y").hexdigest()
    await world.files.put_part(MINE, world.upload.id, 1, once(b"x"))
    assert (await world.files.complete(MINE, world.upload.id)).size == 1
