"""When a node counts as lost, when its attempt ended, and that a second loss waits for the first."""

from dataclasses import replace

import pytest

from marketplace.domain.allocations import AttemptPhase
from marketplace.domain.quantities import Millis
from marketplace.domain.reasons import Reason
from marketplace.services.chain_port import Landed, ReleaseLost
from marketplace.services.clock import ManualClock
from marketplace.services.live import ended
from marketplace.services.node_control import NodeControl
from marketplace.services.scheduler import lose_attempt
from marketplace.services.settlement import LOOK_AGAIN_MS, Settlement
from tests.services.test_meter import ALLOCATION, ATTEMPT, TERMS

BEAT_MS = 1_000
LOST = replace(ATTEMPT, phase=AttemptPhase.LOST, reason=Reason.NODE_LOST, exited_at_ms=70_000)


class Escrow:
    """As the chain shows it: with or without an open contest of an earlier attempt."""

    def __init__(self, contested_attempt):
        self.contested_attempt = contested_attempt


class Chain:
    """Shows one escrow, at a time long after the attempt's last sign of life, and notes what it is told to do."""

    terms = TERMS

    def __init__(self):
        self.escrow = Escrow(0)
        self.performed = []

    def now(self):
        return Millis(10_000_000)

    async def find_escrow(self, escrow):
        return self.escrow

    async def perform(self, operation, acts):
        self.performed.append((operation, acts))
        return Landed("signature", 1)


class Absorbing:
    async def absorb(self, signature):
        return True


async def test_a_second_loss_waits_until_the_first_is_decided():
    chain = Chain()
    settlement = Settlement(None, chain, None, Absorbing())
    second = replace(LOST, number=2)
    chain.escrow = Escrow(contested_attempt=1)
    assert await settlement.end_attempt(ALLOCATION, second) == LOOK_AGAIN_MS
    assert chain.performed == []
    chain.escrow = Escrow(contested_attempt=0)
    assert await settlement.end_attempt(ALLOCATION, second) == 0
    [(operation, (act,))] = chain.performed
    assert operation == f"release:{ALLOCATION.escrow}:2"
    assert isinstance(act, ReleaseLost)


async def test_a_node_whose_meter_the_market_lost_has_time_to_quit_without_a_loss():
    """Quitting is no loss from three times lost_after on; the market's release would be one."""
    chain = Chain()
    settlement = Settlement(None, chain, None, Absorbing())
    assigned = 10_000_000 - 3 * TERMS.lost_after - 1_000
    silent = replace(LOST, assigned_chain_ms=assigned, meter_key="old", meter_signature=b"m")
    assert await settlement.end_attempt(ALLOCATION, replace(silent, reason=Reason.MARKET_ERROR)) > 0
    assert chain.performed == []
    assert await settlement.end_attempt(ALLOCATION, silent) == 0
    [(_, (act,))] = chain.performed
    assert (act.meter_key, act.meter_signature) == ("old", b"m")


def test_an_attempt_ended_when_its_work_did_and_not_when_it_was_settled():
    exited = replace(ATTEMPT, phase=AttemptPhase.EXITED, reason=Reason.COMPLETED, exited_at_ms=60_000)
    assert ended(exited, Reason.COMPLETED, 65_000).ended_at_ms == 60_000
    assert ended(ATTEMPT, Reason.CANCELLED, 65_000).ended_at_ms == 65_000
    change = lose_attempt(1, 70_000)(ALLOCATION, ATTEMPT)
    assert change is not None
    assert ended(change.attempt, Reason.NODE_LOST, 80_000).ended_at_ms == 70_000


class Presence:
    """What the watch looks at of a node."""

    def __init__(self, clock):
        self.node = type("Node", (), {"id": "node_1"})()
        self.last_beat_ms = clock.monotonic_ms()
        self.lost = False


class Registry:
    """One node; `excuse` as the real one does it."""

    def __init__(self, clock):
        self.clock, self.presence = clock, Presence(clock)

    def __iter__(self):
        return iter([self.presence])

    def excuse(self, milliseconds):
        self.presence.last_beat_ms = min(self.clock.monotonic_ms(), self.presence.last_beat_ms + milliseconds)

    async def note_lost(self, node_id):
        self.presence.lost = True


class NothingLive:
    def on_change(self, listener): ...

    def attempts_of(self, node_id):
        return []


@pytest.fixture
def watched():
    clock = ManualClock()
    registry = Registry(clock)
    control = NodeControl(
        None, None, NothingLive(), registry, None, None, clock, heartbeat_ms=BEAT_MS, pause_ms=0, usage=None
    )
    return clock, registry.presence, control


async def test_three_missing_heartbeats_are_a_lost_node(watched):
    clock, presence, control = watched
    for _ in range(11):
        await control.watch()
        clock.advance(BEAT_MS // 4)
    assert not presence.lost
    clock.advance(BEAT_MS // 4)
    await control.watch()
    assert presence.lost


async def test_of_long_heartbeats_three_missing_ones_are_noticed_within_half_a_second():
    clock = ManualClock()
    registry = Registry(clock)
    control = NodeControl(
        None, None, NothingLive(), registry, None, None, clock, heartbeat_ms=15_000, pause_ms=0, usage=None
    )
    clock.advance(3_700)
    while True:
        pause = await control.watch()
        if registry.presence.lost:
            break
        clock.advance(pause)
    assert 45_000 <= clock.monotonic_ms() - registry.presence.last_beat_ms <= 45_500


async def test_a_market_that_stood_still_loses_nobody_for_it(watched):
    clock, presence, control = watched
    await control.watch()
    clock.advance(60 * BEAT_MS)
    await control.watch()
    assert not presence.lost
    # silence goes on counting from there
    for _ in range(12):
        clock.advance(BEAT_MS // 4)
        await control.watch()
    assert presence.lost
