"""Alerts of an allowance: each threshold once, across restarts, by what the chain says."""

import pytest

from marketplace.domain.events import EventType
from marketplace.domain.ids import AccountId
from marketplace.domain.quantities import Millis, Tokens
from marketplace.errors import ChainUnavailable
from marketplace.services.chain_port import AllowanceView
from marketplace.services.clock import Ids, ManualClock, SystemRandom
from marketplace.services.feed import Feed
from marketplace.services.spend_alerts import SpendAlerts
from marketplace.store.engine import Store
from marketplace.store.events import EventFilter
from marketplace.store.logins import Accounts
from marketplace.store.spend_alerts import SpendAlertRows

ACCOUNT, WALLET = AccountId("acct_a"), "wallet"
DAY_MS = 86_400_000


class Chain:
    """What the chain says of the one allowance."""

    def __init__(self):
        self.used, self.used_today, self.down = 0, 0, False

    async def find(self, wallet):
        assert wallet == WALLET
        if self.down:
            raise ChainUnavailable
        return AllowanceView(
            address="allowance", per_escrow=Tokens(50), per_day=Tokens(60), total=Tokens(100),
            used_today=Tokens(self.used_today), used_total=Tokens(self.used), max_price_per_hour=Tokens(1),
            expires_at=Millis(2**52), nonces=None,
        )  # fmt: skip


class World:
    def __init__(self, store):
        self.store, self.clock, self.chain = store, ManualClock(), Chain()
        self.feed = Feed(store, self.clock, Ids(self.clock, SystemRandom()))
        self.restart()

    def restart(self):
        self.alerts = SpendAlerts(
            self.store, self.feed, self.chain.find, self.clock, decimals=lambda: 6, currency="USDC"
        )

    async def use(self, deposit, last=None):
        self.chain.used += deposit
        self.chain.used_today += deposit
        await self.store.write(lambda tx: SpendAlertRows(tx).note(WALLET, last or deposit))

    async def told(self):
        page = await self.feed.page(EventFilter(ACCOUNT), after=0, limit=100)
        return [(event.type, event.data["cap"], event.data["percent"]) for event in page.events]


@pytest.fixture
async def world(tmp_path):
    store = Store(tmp_path / "market.sqlite3")
    await store.open()
    await store.write(lambda tx: Accounts(tx).create(ACCOUNT, WALLET, Millis(0)))
    yield World(store)
    await store.close()


USED, EXHAUSTED = EventType.ALLOWANCE_USED.value, EventType.ALLOWANCE_EXHAUSTED.value


async def test_each_threshold_of_each_cap_is_told_once(world):
    for deposit in (20, 5, 10):
        await world.use(deposit)
        await world.alerts.work()
        await world.alerts.work()
    assert await world.told() == [(USED, "per_day", 50)]
    world.clock.advance(DAY_MS)
    world.chain.used_today = 0
    world.restart()
    for _ in range(7):
        await world.use(9)
        await world.alerts.work()
    # 44 53 62 71 80 89 98 of 100, and 9 18 27 36 45 54 63 of 60
    assert (await world.told())[1:] == [
        (USED, "total", 50), (USED, "per_day", 50), (USED, "total", 80), (EXHAUSTED, "per_day", 100),
        (EXHAUSTED, "total", 100),
    ]  # fmt: skip


async def test_what_a_job_gave_back_arms_the_threshold_again(world):
    await world.use(50)
    await world.alerts.work()
    world.chain.used, world.chain.used_today = 20, 0
    await world.use(1)
    await world.alerts.work()
    await world.use(35)
    await world.alerts.work()
    assert [t for t in await world.told() if t[1] == "total"] == [(USED, "total", 50)] * 2


async def test_a_new_allowance_is_told_of_anew(world):
    await world.use(50)
    await world.alerts.work()
    await world.store.write(lambda tx: SpendAlertRows(tx).begin_anew(WALLET, 8))
    await world.alerts.work()
    assert [t for t in await world.told() if t[1] == "total"] == [(USED, "total", 50)] * 2


async def test_an_allowance_that_is_granted_while_the_chain_is_asked_is_told_of(world):
    await world.use(50)
    await world.alerts.work()
    await world.use(1)
    find = world.chain.find

    async def find_and_grant(wallet):
        found = await find(wallet)
        await world.store.write(lambda tx: SpendAlertRows(tx).begin_anew(WALLET, 8))
        return found

    world.chain.find = find_and_grant
    world.restart()
    await world.alerts.work()
    world.chain.find = find
    world.restart()
    await world.alerts.work()
    assert [t for t in await world.told() if t[1] == "total"] == [(USED, "total", 50)] * 2


@pytest.mark.parametrize(("opener", "slot", "times"), [("market", 9, 1), ("market", 8, 2), (WALLET, 9, 2)])
async def test_what_was_told_of_an_allowance_whose_grant_is_read_later_is_told_once(world, opener, slot, times):
    """The market reads at once what it opened itself, and the wallet's grant before it with its next look."""

    def opened(tx):
        tx.change(
            "INSERT INTO chain_escrows (escrow, wallet, opener, nonce, terms_hash, deposit, state, attempt, paid,"
            " refunded, operator, stakers, market, protocol, compensation, opened_signature)"
            " VALUES ('e', :wallet, :opener, 1, :hash, 50, 'open', 0, 0, 0, 0, 0, 0, 0, 0, 's')",
            {"wallet": WALLET, "opener": opener, "hash": bytes(32)},
        )
        tx.change(
            "INSERT INTO chain_events (signature, position, slot, seen_at_ms, name, escrow, fields, finalized)"
            " VALUES ('s', 0, :slot, 0, 'EscrowOpened', 'e', '{}', :no)",
            {"slot": slot, "no": False},
        )

    await world.store.write(opened)
    await world.use(50)
    await world.alerts.work()
    await world.store.write(lambda tx: SpendAlertRows(tx).begin_anew(WALLET, 8))
    await world.alerts.work()
    assert [t for t in await world.told() if t[1] == "total"] == [(USED, "total", 50)] * times


async def test_a_chain_that_does_not_answer_delays_an_alert_and_loses_none(world):
    world.chain.down = True
    await world.use(80, last=1)
    await world.alerts.work()
    assert await world.told() == []
    world.chain.down = False
    world.restart()
    await world.alerts.work()
    assert (USED, "total", 80) in await world.told()
