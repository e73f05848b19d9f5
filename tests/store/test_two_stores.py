"""Two stores over one PostgreSQL database: leases, keys, counters and cursors are as exact as with one."""

import asyncio

import pytest

from marketplace.domain.ids import AccountId, EventId
from marketplace.domain.quantities import Millis
from marketplace.errors import StoreUnavailable
from marketplace.store.engine import Sharing, Store
from marketplace.store.events import Events, NewEvent
from marketplace.store.idempotency import IdempotencyKeys, KeyScope
from marketplace.store.leases import Leases
from marketplace.store.rate_counters import RateCounters, WindowKey
from tests.store.conftest import POSTGRES

pytestmark = POSTGRES.marks
ROUNDS = 40


@pytest.fixture
async def stores(postgres_url):
    opened = [Store(postgres_url, sharing=Sharing.MANY) for _ in range(2)]
    for store in opened:
        await store.open()
    yield opened
    for store in opened:
        await store.close()


async def everywhere(stores, work):
    """Units of both stores at once: `work(n)` makes the n-th of each."""
    return await asyncio.gather(*(store.write(work(n)) for n in range(ROUNDS) for store in stores))


async def test_a_lease_is_had_by_one_of_two(stores):
    tokens = iter(range(2 * ROUNDS))

    def acquire(number):
        token = f"token-{next(tokens)}"
        return lambda tx: Leases(tx).acquire(f"duty-{number}", "me", token, 0, 100)

    had = await everywhere(stores, acquire)
    assert sum(had) == ROUNDS


async def test_a_key_is_bound_to_one_of_two_bodies(stores):
    bodies = iter(range(2 * ROUNDS))

    def bind(number):
        body = str(next(bodies)).encode()
        scope = KeyScope("acct", "POST /v1/jobs", f"key-{number}")
        return lambda tx: IdempotencyKeys(tx).bind(scope, body, Millis(0), Millis(100))

    bound = await everywhere(stores, bind)
    assert all(bound[n] == bound[n + 1] for n in range(0, 2 * ROUNDS, 2))


async def test_counters_of_two_limiters_add_up(stores):
    key = WindowKey("wallet", 60, 0)
    await everywhere(stores, lambda _: lambda tx: RateCounters(tx).add([(key, 1)]))
    for store in stores:
        assert await store.read(lambda tx: RateCounters(tx).list_open(1)) == [(key, 2 * ROUNDS)]


async def test_who_saw_a_cursor_has_seen_all_before_it(stores):
    """A reader that goes on after the newest cursor it saw misses nothing, though two processes append."""
    account = AccountId("acct_a")
    numbers = iter(range(2 * ROUNDS))

    def append(_number):
        event = NewEvent(EventId(f"evt_{next(numbers)}"), account, "job.queued", "job_a", Millis(0), {})
        return lambda tx: Events(tx).append(event)

    appending = asyncio.create_task(everywhere(stores, append))
    seen = []
    while not appending.done() or len(seen) < 2 * ROUNDS:
        after = seen[-1] if seen else 0
        page = await stores[0].read(lambda tx, after=after: Events(tx).list_for_account(account, after=after))
        seen += [event.cursor for event in page]
    assert sorted(await appending) == seen


async def test_read_then_write_is_one_step_for_both(stores):
    """What every unit may rely on: between its read and its write nobody else writes."""

    def add_one(_number):
        def work(tx):
            (found,) = tx.row("SELECT created_at_ms FROM accounts WHERE id = 'sum'")
            tx.change("UPDATE accounts SET created_at_ms = :sum WHERE id = 'sum'", {"sum": found + 1})

        return work

    await stores[0].write(lambda tx: tx.change("INSERT INTO accounts (id, created_at_ms) VALUES ('sum', 0)"))
    await everywhere(stores, add_one)
    assert await stores[1].lookup(lambda tx: tx.row("SELECT created_at_ms FROM accounts")) == (2 * ROUNDS,)


async def test_a_database_held_for_one_is_refused_to_others_and_given_back(postgres_url):
    first, second = Store(postgres_url), Store(postgres_url)
    await first.open()
    with pytest.raises(StoreUnavailable, match="another process uses the database"):
        await second.open()
    await first.close()
    await second.open()
    await second.close()


async def test_a_connection_that_breaks_loses_its_group_alone(stores):
    """The server ends the writer's session: that group is told, the next one is written on a new connection."""
    first, second = stores

    def break_off(tx):
        tx.change("INSERT INTO accounts (id, created_at_ms) VALUES ('lost', 1)")
        tx.rows("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(StoreUnavailable):
        await first.write(break_off)
    await first.write(lambda tx: tx.change("INSERT INTO accounts (id, created_at_ms) VALUES ('kept', 1)"))
    assert await second.read(lambda tx: tx.rows("SELECT id FROM accounts")) == [("kept",)]
