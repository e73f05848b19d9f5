"""Deliveries through a real socket and a clock that moves only when told to: a receiver that is down for a day."""

import asyncio
import json
import time

import pytest
from aiohttp import web
from standardwebhooks import Webhook as Verifier

from marketplace.domain.destinations import Reach
from marketplace.domain.events import EventType
from marketplace.domain.ids import AccountId
from marketplace.domain.webhook_retries import MAX_ATTEMPTS
from marketplace.errors import Conflict
from marketplace.outgoing import Outgoing
from marketplace.protocol.webhook_signatures import secret_bytes, signature_header
from marketplace.services.clock import Ids, ManualClock, SystemRandom
from marketplace.services.feed import RETENTION_MS, Feed, event_object
from marketplace.services.key_ring import create_key_ring
from marketplace.services.stored_secrets import SecretKeeper
from marketplace.services.webhook_deliveries import AT_ONCE_EACH, LEASE_MS, WebhookDeliveries
from marketplace.services.webhooks import OLD_SECRET_MS, WebhookChanges, WebhookService
from marketplace.store.engine import Store
from marketplace.store.events import EventFilter
from marketplace.store.webhooks import Deliveries

MINE, OTHER = AccountId("acct_a"), AccountId("acct_b")
HOUR_MS = 3_600_000


class Middle(SystemRandom):
    """No jitter: the chance that changes nothing."""

    def token_bytes(self, count):
        return (100).to_bytes(count, "big") if count == 4 else super().token_bytes(count)


class Receiver:
    """Somebody's server. answer: status and headers of the next answers."""

    def __init__(self):
        self.answer = (204, {})
        self.well = set()  # paths that always answer 200
        self.requests = []
        self.held = asyncio.Event()
        self.held.set()

    async def take(self, request):
        body = await request.read()
        self.requests.append((request.path, dict(request.headers), body))
        await self.held.wait()
        status, headers = (200, {}) if request.path in self.well else self.answer
        return web.Response(status=status, headers=headers, body=b"x" * 100_000)

    @property
    def ids(self):
        return [headers["webhook-id"] for _, headers, _ in self.requests]


@pytest.fixture
async def receiver():
    receiver = Receiver()
    application = web.Application()
    application.router.add_post("/{tail:.*}", receiver.take)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield receiver
    receiver.held.set()
    await runner.cleanup()


class World:
    """The services over one store; a restart makes new ones."""

    def __init__(self, store, keeper, clock):
        self.store, self.keeper, self.clock = store, keeper, clock
        self.counted = []
        self.start()

    def start(self, reach=Reach.LOOPBACK_TOO):
        ids = Ids(self.clock, SystemRandom())
        self.feed = Feed(self.store, self.clock, ids)
        self.deliveries = WebhookDeliveries(
            self.store, self.feed, self.keeper, Outgoing(reach), self.clock, Middle(), count=self.counted.append
        )
        self.service = WebhookService(
            self.store, self.feed, self.keeper, self.clock, SystemRandom(), ids, reach=Reach.LOOPBACK_TOO,
            queued=self.deliveries.duty.wake, concluded=self.deliveries.concluded,
        )  # fmt: skip

    async def restart(self):
        await self.deliveries.stop()
        self.start()

    async def happen(self, number=1, account=MINE, kind=EventType.JOB_COMPLETED):
        data = {"n": number}
        return await self.store.write(lambda tx: self.feed.append(tx, account, kind, "job_a", data))

    async def settle(self):
        """Until nothing is due and nothing runs."""
        async with asyncio.timeout(60):
            while True:
                # One that ends during a look makes room, of which the look may not know yet.
                running = bool(self.deliveries._tasks)
                delay = await self.deliveries.work()
                if self.deliveries._tasks:
                    await asyncio.wait(self.deliveries._tasks)
                elif delay > 0 and not running:
                    return

    async def create(self, url, account=MINE, patterns=("*",)):
        return await self.service.create(account, url=url, patterns=patterns, description="", active=True)

    async def states(self, webhook):
        found, _ = await self.service.list_deliveries(webhook.account, webhook.id, limit=100, offset=0)
        return [delivery.state.value for delivery, _ in found]

    async def told(self, kind, account=MINE):
        page = await self.feed.page(EventFilter(account, types=(kind.value,)), after=0, limit=100)
        return list(page.events)


@pytest.fixture
async def world(tmp_path):
    store = Store(tmp_path / "market.sqlite3")
    await store.open()
    keeper = SecretKeeper(create_key_ring(tmp_path / "secrets.json", SystemRandom()), SystemRandom())
    # Verifiers of the standard compare with the machine's clock.
    world = World(store, keeper, ManualClock(int(time.time()) * 1000))
    yield world
    await world.deliveries.stop()
    await store.close()


async def test_an_event_arrives_as_the_feed_has_it_signed_by_the_standard(world, receiver):
    webhook, secret = await world.create(f"{receiver.url}/hook?key=1", patterns=("job.*",))
    await world.happen()
    await world.happen(kind=EventType.VAULT_DEPOSITED)
    await world.happen(account=OTHER)
    await world.settle()
    ((path, headers, body),) = receiver.requests
    event = (await world.told(EventType.JOB_COMPLETED))[0]
    assert (path, json.loads(body)) == ("/hook", event_object(event))
    assert Verifier(secret).verify(body, headers) == event_object(event)
    assert (headers["webhook-id"], headers["webhook-attempt"], headers["Content-Type"]) == (
        event.id, "1", "application/json",
    )  # fmt: skip
    assert await world.states(webhook) == ["delivered"]
    assert world.counted == ["delivered"]
    await world.settle()
    assert len(receiver.requests) == 1


async def test_what_happened_before_a_webhook_was_made_is_not_its_own(world, receiver):
    await world.happen(0)
    await world.create(receiver.url)
    await world.restart()
    await world.happen(1)
    await world.settle()
    assert [json.loads(body)["data"] for _, _, body in receiver.requests] == [{"n": 1}]


async def test_a_receiver_that_is_down_for_a_day_is_tried_at_the_published_times_and_gets_it_at_the_last(
    world, receiver
):
    receiver.answer = (500, {})
    webhook, secret = await world.create(receiver.url)
    begun = world.clock.now()
    await world.happen()
    await world.settle()
    times = [0]
    for _ in range(MAX_ATTEMPTS - 1):
        due = await world.store.read(lambda tx: Deliveries(tx).next_due(world.clock.now()))
        world.clock.advance(due - world.clock.now() - 1)
        await world.settle()
        assert len(receiver.requests) == len(times)
        world.clock.advance(1)
        if len(times) == MAX_ATTEMPTS - 1:
            receiver.answer = (200, {})
        # A process that was restarted meanwhile goes on where the other stood.
        await world.restart()
        await world.settle()
        times.append((world.clock.now() - begun) // 1000)
    assert times == [0, 5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400]
    assert [headers["webhook-attempt"] for _, headers, _ in receiver.requests] == [str(n + 1) for n in range(10)]
    assert len(set(receiver.ids)) == 1
    # each attempt is signed anew, with its own time
    _, headers, body = receiver.requests[-1]
    at = world.clock.now() // 1000
    assert headers["webhook-timestamp"] == str(at)
    assert headers["webhook-signature"] == signature_header([secret_bytes(secret)], headers["webhook-id"], at, body)
    assert await world.states(webhook) == ["delivered"]
    assert (await world.service.get(MINE, webhook.id)).active


async def run_out(world):
    """Let time pass until nothing is to be tried any more."""
    await world.settle()
    while (due := await world.store.read(lambda tx: Deliveries(tx).next_due(world.clock.now()))) is not None:
        world.clock.advance(due - world.clock.now())
        await world.settle()


async def test_after_a_day_without_a_delivery_the_webhook_is_disabled_and_replay_brings_what_was_missed(
    world, receiver
):
    receiver.answer = (500, {})
    webhook, _ = await world.create(receiver.url)
    receiver.well.add("/other")
    other, _ = await world.create(f"{receiver.url}/other", patterns=("webhook.*",))
    before = await world.feed.newest()
    await world.happen(1)
    await world.settle()
    world.clock.advance(HOUR_MS)
    await world.happen(2)
    await run_out(world)
    (disabled,) = await world.told(EventType.WEBHOOK_DISABLED)
    assert (disabled.resource, disabled.data["reason"], disabled.data["last_status"]) == (
        webhook.id,
        "unreachable",
        500,
    )
    off = await world.service.get(MINE, webhook.id)
    assert (off.active, off.disabled_reason) == (False, "unreachable")
    assert await world.states(webhook) == ["stopped", "failed"]
    # the other webhook is told of it
    assert [path for path, _, _ in receiver.requests].count("/other") == 1
    await world.happen(3)
    with pytest.raises(Conflict):
        await world.service.replay(MINE, webhook.id, after=before, since_ms=None)
    receiver.answer = (200, {})
    receiver.requests.clear()
    await world.service.update(MINE, other.id, WebhookChanges(active=False))
    await world.service.update(MINE, webhook.id, WebhookChanges(active=True))
    await world.happen(4)
    await world.settle()
    assert [json.loads(body)["data"] for _, _, body in receiver.requests] == [{"n": 4}]
    receiver.requests.clear()
    count, until = await world.service.replay(MINE, webhook.id, after=before, since_ms=None)
    assert until == await world.feed.newest()
    await world.settle()
    kinds = [json.loads(body)["type"] for _, _, body in receiver.requests]
    assert len(kinds) == count
    assert sorted(json.loads(b)["data"].get("n", 0) for _, _, b in receiver.requests) == [0] * (count - 4) + [
        1,
        2,
        3,
        4,
    ]


async def test_one_event_that_is_never_taken_disables_no_webhook_that_takes_others(world, receiver):
    webhook, _ = await world.create(receiver.url)
    receiver.answer = (500, {})
    await world.happen(1)
    await world.settle()
    receiver.answer = (200, {})
    await world.happen(2)
    await world.settle()
    receiver.answer = (500, {})
    await run_out(world)
    assert sorted(await world.states(webhook)) == ["delivered", "failed"]
    assert (await world.service.get(MINE, webhook.id)).active
    assert not await world.told(EventType.WEBHOOK_DISABLED)


async def test_a_receiver_that_is_gone_is_asked_once(world, receiver):
    receiver.answer = (410, {})
    webhook, _ = await world.create(receiver.url)
    await world.happen()
    await run_out(world)
    assert len(receiver.requests) == 1
    assert (await world.service.get(MINE, webhook.id)).disabled_reason == "gone"
    (disabled,) = await world.told(EventType.WEBHOOK_DISABLED)
    assert disabled.data["reason"] == "gone"


@pytest.mark.parametrize(("status", "text", "least_s"), [
    (429, "7200", 7200), (503, "60", 60), (503, "0", 5), (429, "soon", 5), (400, "7200", 5), (503, "date", 600),
])  # fmt: skip
async def test_a_receiver_that_asks_for_a_pause_gets_it(world, receiver, status, text, least_s):
    if text == "date":
        moment = time.gmtime(world.clock.now() // 1000 + 600)
        text = time.strftime("%a, %d %b %Y %H:%M:%S GMT", moment)
    receiver.answer = (status, {"Retry-After": text})
    await world.create(receiver.url)
    await world.happen()
    await world.settle()
    due = await world.store.read(lambda tx: Deliveries(tx).next_due(world.clock.now()))
    assert due - world.clock.now() == least_s * 1000


async def test_a_redirect_is_a_failure(world, receiver):
    receiver.answer = (302, {"Location": f"{receiver.url}/elsewhere"})
    webhook, _ = await world.create(receiver.url)
    await world.happen()
    await world.settle()
    assert [path for path, _, _ in receiver.requests] == ["/"]
    ((delivery, _),), _ = await world.service.list_deliveries(MINE, webhook.id, limit=9, offset=0)
    assert (delivery.last_status, delivery.last_error) == (302, "redirect_not_followed")


async def test_a_rotated_secret_signs_too_for_a_day(world, receiver):
    webhook, old = await world.create(receiver.url)
    rotated = await world.service.rotate(MINE, webhook.id)
    assert rotated.old_until_ms == world.clock.now() + OLD_SECRET_MS
    await world.happen(1)
    await world.settle()
    _, headers, body = receiver.requests[0]
    for secret in (old, rotated.secret):
        Verifier(secret).verify(body, headers)
    world.clock.advance(OLD_SECRET_MS)
    await world.happen(2)
    await world.settle()
    _, headers, body = receiver.requests[1]
    at = int(headers["webhook-timestamp"])
    assert headers["webhook-signature"] == signature_header(
        [secret_bytes(rotated.secret)], headers["webhook-id"], at, body
    )


async def test_what_was_being_sent_when_the_process_was_killed_is_sent_again(world, receiver):
    webhook, _ = await world.create(receiver.url)
    await world.happen()
    receiver.held.clear()
    await world.deliveries.work()
    while not receiver.requests:  # noqa: ASYNC110 - it is on its way through a socket
        await asyncio.sleep(0.01)
    # What a killed process knew, it wrote nowhere.
    world.deliveries._write = lambda *_: asyncio.sleep(0)
    await world.restart()
    assert await world.deliveries.work() > 0
    assert len(receiver.requests) == 1
    world.clock.advance(LEASE_MS)
    receiver.held.set()
    await world.settle()
    assert len(receiver.requests) == 2
    assert len(set(receiver.ids)) == 1
    assert await world.states(webhook) == ["delivered"]


async def test_a_stop_in_order_leaves_it_due_at_once(world, receiver):
    webhook, _ = await world.create(receiver.url)
    await world.happen()
    receiver.held.clear()
    await world.deliveries.work()
    while not receiver.requests:  # noqa: ASYNC110 - it is on its way through a socket
        await asyncio.sleep(0.01)
    await world.restart()
    receiver.held.set()
    await world.settle()
    assert [headers["webhook-attempt"] for _, headers, _ in receiver.requests] == ["1", "1"]
    assert await world.states(webhook) == ["delivered"]


async def test_a_receiver_that_says_nothing_holds_up_nobody_else(world, receiver):
    slow, _ = await world.create(f"{receiver.url}/slow")
    quick, _ = await world.create(f"{receiver.url}/quick", account=OTHER)
    receiver.held.clear()
    for number in range(3 * AT_ONCE_EACH):
        await world.happen(number)
    await world.deliveries.work()
    while len(receiver.requests) < AT_ONCE_EACH:  # noqa: ASYNC110 - they are on their way through sockets
        await asyncio.sleep(0.01)
    await world.happen(99, account=OTHER)
    await world.deliveries.work()
    while not any(path == "/quick" for path, _, _ in receiver.requests):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert sum(path == "/slow" for path, _, _ in receiver.requests) == AT_ONCE_EACH
    receiver.held.set()
    await world.settle()
    assert set(await world.states(slow)) == set(await world.states(quick)) == {"delivered"}


async def test_an_address_that_turned_private_is_not_asked(world, receiver):
    webhook, _ = await world.create(receiver.url)
    await world.deliveries.stop()
    world.start(Reach.PUBLIC)
    await world.happen()
    await world.settle()
    assert not receiver.requests
    ((delivery, _),), _ = await world.service.list_deliveries(MINE, webhook.id, limit=9, offset=0)
    assert (delivery.state, delivery.last_status, delivery.last_error) == ("pending", None, "address_refused")


async def test_secrets_are_sealed_in_the_store_and_a_key_that_is_gone_is_said_so(world, receiver, tmp_path):
    webhook, secret = await world.create(receiver.url)
    raw = (tmp_path / "market.sqlite3").read_bytes() + (tmp_path / "market.sqlite3-wal").read_bytes()
    assert secret.encode() not in raw
    assert secret_bytes(secret) not in raw
    world.keeper = SecretKeeper(create_key_ring(tmp_path / "other.json", SystemRandom()), SystemRandom())
    await world.restart()
    await world.happen()
    await world.settle()
    assert not receiver.requests
    ((delivery, _),), _ = await world.service.list_deliveries(MINE, webhook.id, limit=9, offset=0)
    assert delivery.last_error == "secret_unreadable"


async def test_replay_from_an_instant_brings_what_happened_since(world, receiver):
    await world.happen(0)
    world.clock.advance(HOUR_MS)
    since = world.clock.now()
    for number in (1, 2):
        await world.happen(number)
    webhook, _ = await world.create(receiver.url)
    assert (await world.service.replay(MINE, webhook.id, after=None, since_ms=since))[0] == 2
    await world.settle()
    assert sorted(json.loads(body)["data"]["n"] for _, _, body in receiver.requests) == [1, 2]
    assert (await world.service.replay(MINE, webhook.id, after=None, since_ms=since + 1))[0] == 0


async def test_deliveries_are_forgotten_with_the_feed(world, receiver):
    webhook, _ = await world.create(receiver.url)
    await world.happen()
    await world.settle()
    world.clock.advance(RETENTION_MS)
    await world.deliveries.forget_old()
    assert await world.states(webhook) == ["delivered"]
    world.clock.advance(1)
    await world.deliveries.forget_old()
    assert await world.states(webhook) == []


async def test_a_webhook_of_a_job_hears_of_that_job_only(world, receiver):
    def named(tx):
        world.service.create_for_job(tx, MINE, "job_a", f"{receiver.url}/job")
        world.service.create_for_job(tx, MINE, "job_b", f"{receiver.url}/b")

    await world.store.write(named)
    await world.happen()
    await world.settle()
    assert [path for path, _, _ in receiver.requests] == ["/job"]
    assert await world.service.list_own(MINE) == []
    # its owner gets the secret that signed by rotating it
    rotated = await world.service.rotate_default(MINE)
    assert rotated.old_until_ms is not None
    await world.happen(2)
    await world.settle()
    _, headers, body = receiver.requests[-1]
    Verifier(rotated.secret).verify(body, headers)
