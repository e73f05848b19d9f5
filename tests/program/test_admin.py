"""Parameters, pauses and the hand-over of the administration."""

from dataclasses import replace

import pytest
from solders.pubkey import Pubkey

from marketplace.chain.events import AdminChangedEvent, AdminProposedEvent, ParamsSetEvent, PauseSetEvent
from tests.program.flows import assign, finish, grant, new_node, open_escrow, own_escrow, read
from tests.program.world import ADMIN, EPOCH_MS, PARAMS, key, refused, with_account

YEAR_MS = 365 * 24 * 3_600_000


def set_params(world, params, admin=ADMIN):
    return world.send(world.build.set_params(admin.pubkey(), params), signers=[admin], label="set_params")


def set_pause(world, bits, admin=ADMIN):
    return world.send(world.build.set_pause(admin.pubkey(), bits), signers=[admin], label="set_pause")


def test_the_admin_sets_the_numbers_and_nothing_else_of_the_deployment(world):
    before = world.config()
    changed = replace(PARAMS, protocol_bps=250, lost_after=7_000, minimum_deposit=77, exposure_multiple=3)
    (event,) = set_params(world, changed)
    assert event == ParamsSetEvent(changed)
    assert world.config() == replace(before, params=changed)


def test_new_numbers_hold_from_the_next_act(world):
    """A running attempt keeps the fees it was assigned with."""
    renter, node = world.renter("renter", vault=1_000_000), new_node(world)
    first, second = (open_escrow(world, renter, own_escrow(world, renter, n)) for n in (1, 2))
    assign(world, first, node)
    set_params(world, replace(PARAMS, protocol_bps=1_000))
    assign(world, second, node, fee_bps=1_400)
    world.pass_ms(10_000)
    finish(world, first, node, 1, 10_000)
    assert world.market_account().protocol_owed == 100
    assert read(world, second).attempt.protocol_bps == 1_000
    finish(world, second, node, 1, 10_000)
    assert world.market_account().protocol_owed == 100 + 1_000


@pytest.mark.parametrize(
    "change",
    [
        *(
            {name: 10_001}
            for name in (
                "node_share_bps",
                "compensation_bps",
                "overclaim_bps",
                "slash_cap_bps",
                "decay_bps",
                "emission_cap_bps",
                "commission_step_bps",
            )
        ),
        {"protocol_bps": 8_001},  # with the market's highest of 2,000 more than everything
        {"exposure_rate": 0},
        {"exposure_multiple": 0},
        {"exposure_multiple": 1_001},
        {"minimum_deposit": 0},
        *({name: 999} for name in ("lost_after", "ready_limit", "claim_limit", "stop_after", "contest", "fee_delay")),
        *({name: YEAR_MS + 1} for name in ("reap_grace", "queue_limit", "unbonding", "commission_delay", "fee_delay")),
        {"skew": PARAMS.lost_after + 1},
        {"unbonding": 2 * EPOCH_MS - 1},
        {"unbonding": 50_000, "contest": 50_001},
    ],
    ids=str,
)
def test_line_15_numbers_outside_their_bounds_are_refused(world, change):
    with refused("ParameterOutOfBounds"):
        set_params(world, replace(PARAMS, **change))
    assert world.config().params == PARAMS


def test_line_15_unbonding_outlasts_two_epochs_and_a_contest(world):
    edge = replace(PARAMS, unbonding=2 * EPOCH_MS, contest=2 * EPOCH_MS)
    set_params(world, edge)
    assert world.config().params == edge


def test_the_admin_alone_sets_numbers_and_pauses(world):
    stranger = world.renter("stranger")
    with refused("NotAdmin"):
        set_params(world, PARAMS, stranger)
    with refused("NotAdmin"):
        set_pause(world, 1, stranger)
    with refused("NotAdmin"):
        world.send(world.build.propose_admin(stranger.pubkey(), stranger.pubkey()), signers=[stranger])


def test_a_pause_is_set_and_lifted_bit_by_bit(world):
    for bits in (0, 1, 0b101_0101, 127, 0):
        (event,) = set_pause(world, bits)
        assert event == PauseSetEvent(bits)
        assert world.config().paused == bits
    with refused("ParameterOutOfBounds"):
        set_pause(world, 128)
    with refused("ParameterOutOfBounds"):
        set_pause(world, 255)


def test_each_bit_closes_its_own_way_in_only(world):
    renter, node = world.renter("renter", vault=1_000_000), new_node(world)
    set_pause(world, 1)
    with refused("Paused"):
        open_escrow(world, renter, own_escrow(world, renter, 1))
    grant(world, renter)
    set_pause(world, 64)
    with refused("Paused"):
        grant(world, renter)
    escrow = open_escrow(world, renter, own_escrow(world, renter, 1))
    set_pause(world, 4)
    with refused("Paused"):
        assign(world, escrow, node)
    set_pause(world, 127 - 4)
    assign(world, escrow, node)


def test_line_15_the_administration_changes_hands_in_two_steps(world):
    heir, stranger = key("heir"), key("stranger")
    for who in (heir, stranger):
        world.svm.airdrop(who.pubkey(), 10**9)
    accept = world.build.accept_admin
    with refused("NotAdmin"):
        world.send(accept(heir.pubkey()), signers=[heir])
    (event,) = world.send(world.build.propose_admin(ADMIN.pubkey(), heir.pubkey()), signers=[ADMIN])
    assert event == AdminProposedEvent(ADMIN.pubkey(), heir.pubkey())
    # until it is accepted nothing has changed
    assert (world.config().admin, world.config().pending_admin) == (ADMIN.pubkey(), heir.pubkey())
    with refused("NotAdmin"):
        set_pause(world, 1, heir)
    with refused("NotAdmin"):
        world.send(accept(stranger.pubkey()), signers=[stranger])
    with refused("NotAdmin"):
        world.send(accept(ADMIN.pubkey()), signers=[ADMIN])
    # somebody else's name on the heir's place doesn't help: who accepts must sign
    with refused("NotAdmin"):
        world.send(with_account(accept(heir.pubkey()), candidate=stranger.pubkey()), signers=[stranger])
    (event,) = world.send(accept(heir.pubkey()), signers=[heir])
    assert event == AdminChangedEvent(ADMIN.pubkey(), heir.pubkey())
    assert (world.config().admin, world.config().pending_admin) == (heir.pubkey(), Pubkey.default())
    with refused("NotAdmin"):
        set_pause(world, 1)
    with refused("NotAdmin"):
        world.send(accept(heir.pubkey()), signers=[heir])
    set_pause(world, 1, heir)


def test_line_15_a_proposal_is_replaced_and_taken_back(world):
    first, second = key("first"), key("second")
    for who in (first, second):
        world.svm.airdrop(who.pubkey(), 10**9)
        world.send(world.build.propose_admin(ADMIN.pubkey(), who.pubkey()), signers=[ADMIN])
    with refused("NotAdmin"):
        world.send(world.build.accept_admin(first.pubkey()), signers=[first])
    world.send(world.build.propose_admin(ADMIN.pubkey(), Pubkey.default()), signers=[ADMIN])
    with refused("NotAdmin"):
        world.send(world.build.accept_admin(second.pubkey()), signers=[second])
    assert world.config().admin == ADMIN.pubkey()
