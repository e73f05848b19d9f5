"""Which deliveries to buckets run at a time, on both databases: no renter's slow buckets keep another's outputs waiting."""

import asyncio
from dataclasses import replace

from marketplace.domain.buckets import DeliveryState
from marketplace.domain.ids import AccountId, AllocationId, CredentialId
from marketplace.services.bucket_deliveries import AT_ONCE, BucketCourier
from marketplace.services.clock import SystemClock
from marketplace.store.allocations import Allocations
from marketplace.store.buckets import BucketDeliveries, BucketDelivery
from tests.services.test_meter import ALLOCATION


class Unanswering:
    """Logins whose endpoints take everything and answer nothing."""

    def __init__(self):
        self.begun = []

    async def login(self, delivery):
        self.begun.append(delivery.allocation_id)
        await asyncio.Event().wait()


class Nothing:
    async def close(self):
        pass


async def test_slow_buckets_of_one_account_leave_room_for_others(store):
    def write(tx):
        for number in range(30):
            # the one who came first has twenty
            account = AccountId("acct_slow" if number < 20 else f"acct_{number % 2}")
            name = AllocationId(f"alloc_{number:02}")
            Allocations(tx).create(
                replace(ALLOCATION, id=name, key=name, nonce=number, escrow=name, account_id=account)
            )
            BucketDeliveries(tx).create(
                BucketDelivery(name, CredentialId("cred"), "b", "", DeliveryState.DELIVERING, 1, 1, 1, number)
            )

    await store.write(write)
    logins = Unanswering()
    courier = BucketCourier(
        store, None, None, None, logins, Nothing(), SystemClock(), count=lambda state: None
    )  # fmt: skip
    await courier.work()
    async with asyncio.timeout(60):
        while len(logins.begun) < 7:  # noqa: ASYNC110 - each is a task of its own
            await asyncio.sleep(0.01)
    await courier.work()
    slow = [name for name in logins.begun if name < "alloc_20"]
    assert (len(slow), AT_ONCE - len(logins.begun)) == (AT_ONCE // 2, 1), logins.begun
    assert {name for name in logins.begun if name >= "alloc_20"} >= {"alloc_20", "alloc_21"}
    await courier.stop()
