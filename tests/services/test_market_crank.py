"""The market's own crank: rounds when they are due, none while they aren't, and none at all where it is turned off."""

import pytest
from solders.keypair import Keypair

from marketplace import app_crank
from marketplace.app import Market
from marketplace.app_crank import MarketCrank
from marketplace.chain.errors import RpcUnavailable
from marketplace.domain.quantities import Millis
from marketplace.services.clock import ManualClock
from marketplace.services.crank import CrankDuty, CrankReport, Done, NotDone
from tests.api.conftest import settings_in

KEY = Keypair()


class Link:
    """What a crank is built from; the rounds themselves are scripted."""

    codec = calls = assembler = None

    class reader:  # noqa: N801 - stands for an attribute
        addresses = None

    class facts:  # noqa: N801 - stands for an attribute
        market = KEY.pubkey()


class Keys:
    meter = KEY


class Events:
    def __init__(self):
        self.absorbed = []

    async def absorb(self, signature):
        self.absorbed.append(signature)
        return True


@pytest.fixture
def crank(monkeypatch):
    clock, events, rounds = ManualClock(), Events(), []

    async def once(chain, rules):
        assert rules.transactions < 64
        assert chain.submitter == KEY.pubkey()
        outcome = rounds.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(app_crank, "crank_once", once)
    return MarketCrank(Link(), None, Keys(), events, clock), clock, events, rounds


def report(wake_at, *, left=0, done=(), refused=()):
    return CrankReport(Millis(100_000), tuple(done), tuple(refused), left, Millis(wake_at))


async def test_a_round_is_done_when_the_epochs_next_half_begins_and_not_before(crank):
    work, clock, _, rounds = crank[0].work, *crank[1:]
    rounds += [report(107_000), report(115_000)]
    assert await work() == 7_100
    clock.advance(7_099)
    assert await work() == 1
    assert len(rounds) == 1
    clock.advance(1)
    assert await work() == 15_100
    assert not rounds


async def test_what_is_left_is_done_at_once_and_escrows_are_looked_at_in_long_epochs_too(crank):
    work, clock, events, rounds = crank[0].work, *crank[1:]
    done = [Done(CrankDuty.CLOSE, "1", "s1"), Done(CrankDuty.CLOSE, "2", "s1"), Done(CrankDuty.SWEEP, "m", "s2")]
    rounds += [report(86_500_000, left=3, done=done), report(86_500_000, refused=[NotDone(CrankDuty.REAP, "e", "x")])]
    assert await work() == 100
    assert events.absorbed == ["s1", "s2"]
    clock.advance(100)
    assert await work() == 30_000


async def test_a_chain_that_is_away_is_asked_again(crank):
    work, clock, _, rounds = crank[0].work, *crank[1:]
    rounds += [RpcUnavailable("away"), report(101_000)]
    assert await work() == 2_000
    clock.advance(2_000)
    assert await work() == 1_100


@pytest.mark.parametrize("wanted", [True, False])
def test_it_runs_unless_the_settings_say_otherwise(tmp_path, wanted):
    settings = settings_in(tmp_path, tmp_path / "keys")
    changed = settings.model_copy(update={"market": settings.market.model_copy(update={"crank": wanted})})
    assert ("crank" in Market.build(changed).jobs.duties()) is wanted
    assert settings.market.crank is True
