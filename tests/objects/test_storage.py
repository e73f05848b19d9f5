"""One suite for every place of objects: memory, a folder, and a real S3 server."""

import hashlib
import os
import secrets
import zlib
from pathlib import Path

import pytest

from marketplace.errors import ObjectsUnavailable, TooLarge
from marketplace.objects.storage import CHUNK_BYTES, ObjectMissing, ObjectStorage, S3Access
from tests.objects.seaweed import ACCESS_KEY, SECRET_KEY, s3_server


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        server.make_bucket("things")
        yield server


@pytest.fixture(params=["memory", "folder", "s3"])
def storage(request, tmp_path):
    if request.param == "memory":
        return ObjectStorage.in_memory()
    if request.param == "folder":
        return ObjectStorage.in_folder(tmp_path / "objects")
    server = request.getfixturevalue("server")
    prefix = secrets.token_hex(8)
    return ObjectStorage.in_bucket(S3Access("things", prefix, server.endpoint, "x", ACCESS_KEY, SECRET_KEY, 5))


async def pieces(*parts):
    for part in parts:
        yield part


async def test_what_is_written_is_read_whole_and_by_ranges(storage):
    data = bytes(range(256)) * 5000
    written = await storage.write("files/a", pieces(data[:1000], b"", data[1000:]))
    assert (written.size, written.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert written.crc32 == zlib.crc32(data)
    assert await storage.read_bytes("files/a") == data
    assert b"".join([p async for p in storage.read("files/a", 10, 20)]) == data[10:20]
    assert b"".join([p async for p in storage.read("files/a", len(data) - 3)]) == data[-3:]
    assert [p async for p in storage.read("files/a", 5, 5)] == []


async def test_an_empty_object_is_an_object(storage):
    written = await storage.write("files/empty", pieces())
    assert (written.size, await storage.read_bytes("files/empty")) == (0, b"")


class Disk:
    """What a power cut leaves of a folder: bytes that were synced, under names that their folders were synced with."""

    def __init__(self):
        self.files = {}
        self.folders = {}
        self._sync = os.fsync

    def fsync(self, descriptor):
        self._sync(descriptor)
        place, found = Path(f"/proc/self/fd/{descriptor}").readlink(), os.fstat(descriptor)
        if place.is_dir():
            self.folders[found.st_ino] = {e.name: e.inode() for e in os.scandir(place)}
        else:
            self.files[found.st_ino] = place.read_bytes()

    def left(self, folder):
        """Contents by path, beginning at a folder that was there before."""
        left = {}
        for name, inode in self.folders.get(folder.stat().st_ino, {}).items():
            if (folder / name).is_dir():
                left |= {f"{name}/{path}": data for path, data in self.left(folder / name).items()}
            else:
                left[name] = self.files.get(inode, b"")
        return left


async def test_what_was_stored_is_there_after_a_power_cut(tmp_path, monkeypatch):
    disk = Disk()
    storage = ObjectStorage.in_folder(tmp_path)
    monkeypatch.setattr(os, "fsync", disk.fsync)
    objects = {"files/a": b"a" * 10, "outputs/job/1/deep/b.bin": b"b" * 3 * CHUNK_BYTES, "outputs/job/2/c": b""}
    for key, data in objects.items():
        await storage.write_bytes(key, data)
    assert disk.left(tmp_path) == objects
    await storage.write_bytes("files/a", b"another")
    assert disk.left(tmp_path) == objects | {"files/a": b"another"}
    # a folder that goes with its last object is a new one when it comes again
    await storage.delete(["outputs/job/2/c"])
    await storage.write_bytes("outputs/job/2/c", b"again")
    assert disk.left(tmp_path)["outputs/job/2/c"] == b"again"


async def test_a_write_that_fails_leaves_what_was_there(storage):
    await storage.write_bytes("files/a", b"before")

    async def failing():
        yield b"x" * (2 * CHUNK_BYTES)
        raise ConnectionResetError("the client left")

    with pytest.raises(ConnectionResetError):
        await storage.write("files/a", failing())
    with pytest.raises(TooLarge):
        await storage.write("files/b", pieces(b"x" * 11), limit_bytes=10)
    assert await storage.read_bytes("files/a") == b"before"
    with pytest.raises(ObjectMissing):
        await storage.read_bytes("files/b")


async def test_deleting_twice_is_as_once_and_listing_shows_the_rest(storage):
    for name in ("a", "b"):
        await storage.write_bytes(f"files/{name}", b"1234")
    await storage.write_bytes("other/c", b"")
    await storage.delete(["files/a"])
    await storage.delete(["files/a", "files/never"])
    assert [(f.key, f.size) async for f in storage.list("files")] == [("files/b", 4)]


@pytest.mark.parametrize("key", ["../up", "a//b", "/a", "a/../b", "a/..", "", "a b", "a/é"])
async def test_no_foreign_text_becomes_a_key(key):
    storage = ObjectStorage.in_memory()
    with pytest.raises(AssertionError):
        await storage.write_bytes(key, b"")


async def test_an_outage_is_an_error_and_over_when_it_is_over(tmp_path):
    with s3_server(tmp_path) as server:
        server.make_bucket("things")
        storage = ObjectStorage.in_bucket(S3Access("things", "", server.endpoint, "x", ACCESS_KEY, SECRET_KEY, 1))
        await storage.write_bytes("files/a", b"kept")
        server.stop()
        with pytest.raises(ObjectsUnavailable):
            await storage.write_bytes("files/b", b"lost")
        with pytest.raises(ObjectsUnavailable):
            await storage.read_bytes("files/a")
        server.start()
        assert await storage.read_bytes("files/a") == b"kept"


async def test_a_wrong_secret_is_refused_and_not_shown(server):
    storage = ObjectStorage.in_bucket(S3Access("things", "", server.endpoint, "x", ACCESS_KEY, "wrong-secret", 2))
    with pytest.raises(ObjectsUnavailable) as refused:
        await storage.write_bytes("files/a", b"")
    assert "wrong-secret" not in str(refused.value)
