"""Repositories of events, keys, counters, logins and built transactions."""

from marketplace.domain.ids import AccountId, EventId
from marketplace.domain.quantities import Millis
from marketplace.store.events import Events, NewEvent
from marketplace.store.idempotency import IdempotencyKeys, KeyScope, StoredAnswer
from marketplace.store.logins import Challenge, Challenges, Login, Logins
from marketplace.store.rate_counters import RateCounters, WindowKey


def event(number, account="acct_a", resource="job_a"):
    return NewEvent(
        EventId(f"evt_{number}"), AccountId(account), "job.completed", resource, Millis(number), {"n": number}
    )


async def test_events_are_paged_by_cursor_for_an_account_and_for_a_resource(store):
    cursors = [await store.write(lambda tx, n=n: Events(tx).append(event(n))) for n in range(4)]
    await store.write(lambda tx: Events(tx).append(event(9, account="acct_b", resource="job_b")))
    assert cursors == sorted(set(cursors))
    page = await store.read(lambda tx: Events(tx).list_for_account(AccountId("acct_a"), after=cursors[1], limit=1))
    assert [(entry.cursor, entry.data) for entry in page] == [(cursors[2], {"n": 2})]
    assert len(await store.read(lambda tx: Events(tx).list_for_resource("job_b"))) == 1
    assert await store.read(lambda tx: Events(tx).newest()) == cursors[-1] + 1


async def test_a_key_keeps_its_first_body_until_its_time_is_over(store):
    scope = KeyScope("acct_a", "POST /v1/jobs", "k")

    def bind(body, now):
        return store.write(lambda tx: IdempotencyKeys(tx).bind(scope, body, Millis(now), Millis(now + 100)))

    assert await bind(b"one", 0) == b"one"
    assert await bind(b"two", 99) == b"one"
    assert await bind(b"two", 100) == b"two"
    assert (await store.read(lambda tx: IdempotencyKeys(tx).find(scope, Millis(100)))).answer is None
    answer = StoredAnswer(201, {"Location": "/x"}, b"{}", None)
    await store.write(lambda tx: IdempotencyKeys(tx).answer(scope, b"two", answer))
    await store.write(lambda tx: IdempotencyKeys(tx).answer(scope, b"two", StoredAnswer(500, {}, b"later", None)))
    assert (await store.read(lambda tx: IdempotencyKeys(tx).find(scope, Millis(199)))).answer == answer
    assert await store.read(lambda tx: IdempotencyKeys(tx).find(scope, Millis(200))) is None
    assert await store.write(lambda tx: IdempotencyKeys(tx).forget_expired(Millis(200))) == 1


async def test_counters_add_up_and_end(store):
    key = WindowKey("acct_a", 60, 120)
    for _ in range(2):
        await store.write(lambda tx: RateCounters(tx).add([(key, 3), (WindowKey("acct_b", 60, 60), 1)]))
    assert await store.read(lambda tx: RateCounters(tx).list_open(130)) == [(key, 6)]
    assert await store.write(lambda tx: RateCounters(tx).forget_ended(130)) == 1


def challenge(nonce, address, issued):
    return Challenge(nonce, "wallet", "login", address, f"text {nonce}", Millis(issued), Millis(issued + 100))


async def test_challenges_of_the_same_address_come_first_and_only_the_newest_stay(store):
    for number in range(4):
        await store.write(lambda tx, n=number: Challenges(tx).create(challenge(f"a{n}", "a", n), keep=2))
    await store.write(lambda tx: Challenges(tx).create(challenge("b", "b", 9), keep=2))
    listed = await store.read(lambda tx: Challenges(tx).list_outstanding("wallet", "a", Millis(50), 16))
    assert [entry.nonce for entry in listed] == ["a3", "a2", "b"]
    assert await store.write(lambda tx: Challenges(tx).consume("a3", Millis(50)))
    assert not await store.write(lambda tx: Challenges(tx).consume("a3", Millis(50)))
    assert not await store.write(lambda tx: Challenges(tx).consume("a2", Millis(102)))
    assert await store.write(lambda tx: Challenges(tx).forget_expired(Millis(102))) == 1


async def test_a_refresh_token_is_used_once_and_a_login_ends_with_its_last_token(store):
    login = Login("login_a", "acct_a", "wallet", "read", Millis(0), Millis(100), revoked=False)

    def begin(tx):
        Logins(tx).create(login)
        Logins(tx).add_refresh_token(b"hash", "login_a", Millis(0), Millis(100))

    await store.write(begin)
    assert await store.write(lambda tx: Logins(tx).use_refresh_token(b"hash", Millis(1), None))
    assert not await store.write(lambda tx: Logins(tx).use_refresh_token(b"hash", Millis(2), None))
    assert await store.write(lambda tx: Logins(tx).forget_expired(Millis(99))) == 0
    assert await store.write(lambda tx: Logins(tx).forget_expired(Millis(100))) == 2
    assert await store.read(lambda tx: Logins(tx).find("login_a")) is None
