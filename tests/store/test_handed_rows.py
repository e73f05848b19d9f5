"""Rows of storage logins, deliveries to buckets, checkpoints, and of what a group leaves; on both databases."""

from dataclasses import replace

import pytest

from marketplace.domain.buckets import DeliveryState
from marketplace.domain.groups import Group
from marketplace.domain.ids import AccountId, AllocationId, CredentialId, GroupId
from marketplace.domain.lifecycle import AllocationState
from marketplace.domain.reasons import Reason
from marketplace.errors import UniqueViolation
from marketplace.store.allocations import Allocations
from marketplace.store.buckets import BucketDeliveries, BucketDelivery, Credential, Credentials
from marketplace.store.checkpoints import Checkpoint, Checkpoints
from marketplace.store.groups import Groups
from marketplace.store.outputs import Outputs, StoredOutput
from tests.services.test_meter import ALLOCATION

ONE = AllocationId("alloc_one")
LOGIN = Credential(
    id=CredentialId("cred_1"), account_id=AccountId("acct_1"), name="ours", kind="s3", endpoint="https://s3.test",
    region="r", access_key="a", is_default=True, key_id="k", sealed=b"\x00sealed", created_at_ms=5,
)  # fmt: skip


def job(name, number, **changes):
    return replace(ALLOCATION, id=AllocationId(name), key=name, nonce=number, escrow=name, **changes)


async def test_one_login_is_the_default_and_its_jobs_are_known(store):
    second = replace(LOGIN, id=CredentialId("cred_2"), name="other", created_at_ms=6)
    await store.write(lambda tx: Credentials(tx).create(LOGIN))
    await store.write(lambda tx: Credentials(tx).create(second))
    found = await store.lookup(lambda tx: Credentials(tx).list_for(LOGIN.account_id))
    assert found == [replace(LOGIN, is_default=False), second]
    with pytest.raises(UniqueViolation):
        await store.write(lambda tx: Credentials(tx).create(replace(LOGIN, id=CredentialId("cred_3"))))

    def write(tx):
        for number, (name, state) in enumerate((("one", AllocationState.ACTIVE), ("over", AllocationState.RELEASED))):
            Allocations(tx).create(job(f"alloc_{name}", number, state=state, completed_at_ms=1))
            BucketDeliveries(tx).create(BucketDelivery(AllocationId(f"alloc_{name}"), LOGIN.id, "b", "p"))

    await store.write(write)
    assert await store.lookup(lambda tx: Credentials(tx).users(LOGIN.id)) == [ONE]
    await store.write(lambda tx: Credentials(tx).delete(LOGIN.id))
    assert await store.lookup(lambda tx: Credentials(tx).find(LOGIN.id)) is None


async def test_a_delivery_remembers_what_is_there(store):
    planned = BucketDelivery(ONE, LOGIN.id, "bucket", "")
    begun = replace(planned, state=DeliveryState.DELIVERING, attempt=1, files=2, size=3 << 40, started_at_ms=7)

    def write(tx):
        rows = BucketDeliveries(tx)
        rows.create(planned)
        assert rows.list_begun() == []
        rows.update(begun)
        rows.put_file(ONE, "a", upload_id="u")
        assert (rows.upload_of(ONE, "a"), rows.upload_of(ONE, "b"), rows.delivered(ONE)) == ("u", None, set())
        rows.put_file(ONE, "a", at_ms=9)
        return rows.list_begun(), rows.upload_of(ONE, "a"), rows.delivered(ONE)

    assert await store.write(write) == ([begun], None, {"a"})
    await store.write(lambda tx: BucketDeliveries(tx).forget_files(ONE))
    assert await store.lookup(lambda tx: BucketDeliveries(tx).delivered(ONE)) == set()


async def test_a_job_has_one_checkpoint_until_it_is_long_over(store):
    first = Checkpoint(ONE, AccountId("acct_1"), 1, "checkpoints/one", 5 << 30, "00", 10)
    second = replace(first, object="checkpoints/two", size=7, at_ms=20)

    def write(tx):
        rows = Checkpoints(tx)
        Allocations(tx).create(job(ONE, 1, state=AllocationState.RELEASED, completed_at_ms=30))
        assert rows.put(first) is None
        assert rows.usage(first.account_id, AllocationId("alloc_other")) == 5 << 30
        assert rows.put(second) == first.object
        return rows.find(ONE), rows.usage(first.account_id, ONE), rows.list_past(30, 9), rows.list_past(31, 9)

    assert await store.write(write) == (second, 0, [], [second])


async def test_what_a_group_left_is_read_in_one_go(store):
    group_id = GroupId("grp_1")
    group = Group(
        id=group_id, account_id=ALLOCATION.account_id, wallet="w", key_id=None, create_key="k", body_hash=b"h",
        name=None, job="{}", count=2, created_at_ms=1,
    )  # fmt: skip

    def write(tx):
        groups = Groups(tx)
        groups.create(group, (), ("job_1",))
        groups.put_secrets(group_id, "key", b"\x00s")
        for number in range(2):
            name = f"alloc_{number}"
            done = {"state": AllocationState.RELEASED, "reason": Reason.COMPLETED, "completed_at_ms": 50 - number}
            Allocations(tx).create(job(name, number, attempt=2, **done))
            groups.submitted(group_id, number, AllocationId(name))
            for attempt in (1, 2):
                Outputs(tx).put(StoredOutput(AllocationId(name), attempt, "f", 1, "00", f"o/{name}/{attempt}", 1))
        files = [output.object for output in Outputs(tx).list_of_group(group_id, 9)]
        return files, groups.completed(group_id), groups.has_job(group_id, AllocationId("alloc_1")), groups.secrets(group_id)  # fmt: skip

    assert await store.write(write) == (["o/alloc_0/2", "o/alloc_1/2"], (2, 49), True, ("key", b"\x00s"))
    await store.write(lambda tx: Groups(tx).forget_secrets(group_id))
    found = await store.lookup(lambda tx: (Groups(tx).secrets(group_id), Groups(tx).has_job(group_id, ONE)))
    assert found == (None, False)
    assert len(await store.lookup(lambda tx: Outputs(tx).list_of_group(group_id, 1))) == 1
