"""Spending limits of API keys: exact, whatever the order; what was not paid comes back."""

import asyncio
import uuid

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marketplace.domain.ids import AccountId, AllocationId, KeyId
from marketplace.domain.quantities import Millis, Tokens
from marketplace.errors import NotFound
from marketplace.store.api_keys import ApiKey, ApiKeys, KeySpending

DAY = 86_400_000
NOON = Millis(20_000 * DAY + DAY // 2)


class Refused(Exception):
    pass


async def make(store, *, per_day=None, total=None):
    name = uuid.uuid4().hex
    key = ApiKey(
        id=KeyId(name), account_id=AccountId("acct"), create_key=name, key_hash=name.encode(), prefix="", name="n",
        scopes="jobs", rate_class="client", per_day=per_day, total=total, spent=Tokens(0), created_at=NOON,
        expires_at=None, last_used_at=None,
    )  # fmt: skip
    await store.write(lambda tx: ApiKeys(tx).create(key))
    return key.id


async def hold(store, key_id, allocation, amount, now=NOON):
    def work(tx):
        reached = KeySpending(tx).hold(key_id, AllocationId(allocation), Tokens(amount), Millis(now))
        if reached is not None:
            raise Refused(reached.limit)

    try:
        await store.write(work)
    except Refused as refused:
        return str(refused)
    return None


async def settle(store, allocation, paid):
    await store.write(lambda tx: KeySpending(tx).settle(AllocationId(allocation), Tokens(paid)))


async def state(store, key_id, now=NOON):
    def work(tx):
        spent = tx.row("SELECT spent FROM api_keys WHERE id = :id", {"id": key_id})[0]
        return spent, KeySpending(tx).today([key_id], Millis(now))[key_id]

    return await store.read(work)


async def test_many_at_once_take_exactly_what_fits(store):
    key_id = await make(store, total=Tokens(100))
    answers = await asyncio.gather(*(hold(store, key_id, f"a{n}", 7) for n in range(40)))
    assert answers.count(None) == 14
    assert await state(store, key_id) == (98, 98)


async def test_what_was_refunded_comes_back_on_the_day_it_was_taken(store):
    key_id = await make(store, per_day=Tokens(10), total=Tokens(25))
    assert await hold(store, key_id, "a", 10) is None
    assert await hold(store, key_id, "b", 1) == "per_day"
    assert await hold(store, key_id, "b", 10, NOON + DAY) is None
    await settle(store, "a", 4)
    await settle(store, "a", 0)
    assert await state(store, key_id) == (14, 4)
    assert await state(store, key_id, NOON + DAY) == (14, 10)
    assert await hold(store, key_id, "c", 6) is None
    assert await hold(store, key_id, "d", 6, NOON + 2 * DAY) == "total"
    assert await hold(store, key_id, "d", 5, NOON + 2 * DAY) is None


async def test_a_deleted_key_holds_nothing_and_what_it_held_settles(store):
    key_id = await make(store, total=Tokens(10))
    assert await hold(store, key_id, "a", 3) is None
    assert await store.write(lambda tx: ApiKeys(tx).delete(AccountId("other"), key_id)) is False
    assert await store.write(lambda tx: ApiKeys(tx).delete(AccountId("acct"), key_id)) is True
    with pytest.raises(NotFound):
        await hold(store, key_id, "b", 1)
    await settle(store, "a", 1)
    assert await store.read(lambda tx: tx.rows("SELECT * FROM api_key_holds")) == []


async def test_what_is_added_to_a_job_counts_for_its_key(store):
    key_id = await make(store, total=Tokens(10))

    async def more(allocation, amount):
        return await store.write(lambda tx: KeySpending(tx).hold_more(AllocationId(allocation), Tokens(amount), NOON))

    assert await more("a", 99) is None
    assert await hold(store, key_id, "a", 3) is None
    assert await more("a", 4) is None
    assert await state(store, key_id) == (7, 7)
    assert await hold(store, key_id, "b", 4) == "total"


async def test_sums_of_past_days_are_forgotten_once_nothing_is_held_of_them(store):
    key_id = await make(store, per_day=Tokens(10))
    await hold(store, key_id, "a", 3)
    await hold(store, key_id, "b", 3, NOON + DAY)
    await settle(store, "b", 1)
    later = Millis(NOON + 5 * DAY)
    assert await store.write(lambda tx: KeySpending(tx).forget_days(later)) == 1
    await settle(store, "a", 1)
    assert await state(store, key_id) == (2, 1)


STEPS = st.lists(
    st.tuples(st.sampled_from("abcd"), st.integers(1, 40), st.integers(0, 3), st.booleans()), min_size=1, max_size=15
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
async def test_whole_histories_equal_an_exact_model(store, steps):
    key_id = await make(store, per_day=Tokens(60), total=Tokens(120))
    held: dict[str, list[tuple[int, int]]] = {}
    spent, days = 0, [0, 0, 0, 0]
    name = uuid.uuid4().hex
    for allocation, amount, day, ends in steps:
        if ends:
            holds = sorted(held.pop(allocation, []))
            paid = min(amount, sum(h for _, h in holds))
            await settle(store, name + allocation, paid)
            for at, part in holds:
                back = part - min(part, paid)
                paid -= part - back
                spent -= back
                days[at] -= back
        else:
            fits = days[day] + amount <= 60 and spent + amount <= 120
            answer = await hold(store, key_id, name + allocation, amount, NOON + day * DAY)
            assert (answer is None) == fits
            if fits:
                held.setdefault(allocation, []).append((day, amount))
                spent += amount
                days[day] += amount
        for at in range(4):
            assert await state(store, key_id, NOON + at * DAY) == (spent, days[at])
