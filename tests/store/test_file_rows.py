"""Rows of files, uploads and outputs."""

import pytest

from marketplace.domain.ids import AccountId, AllocationId, FileId, UploadId
from marketplace.errors import UniqueViolation
from marketplace.store.files import Files, Part, StoredFile, Upload, Uploads, Usage
from marketplace.store.outputs import Outputs, Package, Packages, StoredOutput

MINE = AccountId("acct_a")
JOB = AllocationId("alloc_a")


def file(name, size=10, at=0, account=MINE):
    return StoredFile(FileId(f"file_{name}"), account, name, size, "0" * 64, "text/plain", at, at + 100)


def output(path, size=1, attempt=1, content=None):
    return StoredOutput(JOB, attempt, path, size, "0" * 64, f"outputs/{path}-{size}", 5, content)


async def test_files_are_paged_counted_and_forgotten(store):
    for n in range(3):
        await store.write(lambda tx, n=n: Files(tx).create(file(f"{n}", at=n)))
    await store.write(lambda tx: Files(tx).create(file("other", account=AccountId("acct_b"))))
    found, total = await store.read(lambda tx: Files(tx).page(MINE, limit=2, offset=0))
    assert ([f.name for f in found], total) == (["2", "1"], 3)
    assert await store.read(lambda tx: Files(tx).usage(MINE)) == Usage(3, 30)
    assert {f.name for f in await store.read(lambda tx: Files(tx).list_expired(101, 10))} == {"other", "0", "1"}
    await store.write(lambda tx: Files(tx).mark_gone(FileId("file_0")))
    assert await store.read(lambda tx: Files(tx).usage(MINE)) == Usage(2, 20)
    gone = await store.lookup(lambda tx: Files(tx).find(FileId("file_0")))
    assert gone is not None
    assert not gone.stored
    assert await store.write(lambda tx: Files(tx).forget_before(1000)) == 1
    with pytest.raises(UniqueViolation):
        await store.write(lambda tx: Files(tx).create(file("1")))


async def test_a_part_takes_the_place_of_an_earlier_one(store):
    upload = Upload(UploadId("upl_a"), MINE, FileId("file_u"), "u", 7, None, "text/plain", 0, 100)

    def begin(tx):
        Uploads(tx).create(upload)
        first = Uploads(tx).put_part(Part(upload.id, 1, 3, "0", "uploads/one"))
        second = Uploads(tx).put_part(Part(upload.id, 1, 4, "1", "uploads/two"))
        return first, second

    assert await store.write(begin) == (None, "uploads/one")
    assert [p.size for p in await store.lookup(lambda tx: Uploads(tx).parts(upload.id))] == [4]
    assert await store.read(lambda tx: Files(tx).usage(MINE)) == Usage(1, 7)
    await store.write(lambda tx: Uploads(tx).mark_done(upload.id))
    assert await store.read(lambda tx: Files(tx).usage(MINE)) == Usage(0, 0)
    assert [u.id for u in await store.read(lambda tx: Uploads(tx).list_expired(100, 5))] == [upload.id]
    await store.write(lambda tx: Uploads(tx).delete(upload.id))
    assert await store.lookup(lambda tx: Uploads(tx).find(upload.id)) is None


async def test_outputs_belong_to_an_attempt_and_replace_their_like(store):
    def write(tx):
        Outputs(tx).put(output("b"))
        Outputs(tx).put(output("a", content=b"{}"))
        Outputs(tx).put(output("a", attempt=2))
        return Outputs(tx).put(output("b", size=9))

    assert await store.write(write) == "outputs/b-1"
    listed = await store.lookup(lambda tx: Outputs(tx).list_for(JOB, 1))
    assert [(o.path, o.size) for o in listed] == [("a", 1), ("b", 9)]
    assert await store.lookup(lambda tx: Outputs(tx).usage(JOB, 1, "a")) == (1, 9)
    found = await store.lookup(lambda tx: Outputs(tx).find(JOB, 1, "a"))
    assert found is not None
    assert bytes(found.content) == b"{}"
    assert await store.lookup(lambda tx: Outputs(tx).names_object("outputs/b-9", JOB))
    assert not await store.lookup(lambda tx: Outputs(tx).names_object("outputs/b-1", JOB))
    # its job is not known as ended, so nothing of it is past its time
    assert await store.read(lambda tx: Outputs(tx).list_past(1000, 5)) == []


async def test_a_job_has_one_package(store):
    package = Package(JOB, "packages/a", 3, "0" * 64, 5)
    await store.write(lambda tx: Packages(tx).create(package))
    assert await store.lookup(lambda tx: Packages(tx).find(JOB)) == package
    with pytest.raises(UniqueViolation):
        await store.write(lambda tx: Packages(tx).create(package))
    assert await store.read(lambda tx: Packages(tx).list_past(6, 5)) == [package]
    await store.write(lambda tx: Packages(tx).delete(JOB))
    assert await store.lookup(lambda tx: Packages(tx).find(JOB)) is None
