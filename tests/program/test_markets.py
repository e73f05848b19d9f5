"""A market's keys, its fee, its earnings and its nodes."""

import pytest

from marketplace.chain.accounts import NodeStatus
from marketplace.chain.events import FeeSetEvent, FeesWithdrawnEvent, KeysRotatedEvent, NodeUpdatedEvent
from tests.program.flows import (
    assign,
    finish,
    grant,
    market_escrow,
    new_node,
    open_escrow,
    own_escrow,
    read,
    release,
    settle,
    voucher,
)
from tests.program.world import PARAMS, key, refused, with_account


@pytest.fixture
def renter(world):
    return world.renter("renter", vault=10_000_000)


@pytest.fixture
def node(world):
    return new_node(world)


def rotate(world, matcher, meter, authority=None):
    authority = authority or world.authority
    return world.send(
        world.build.rotate_keys(world.authority.pubkey(), matcher.pubkey(), meter.pubkey()),
        signers=[authority],
        label="rotate_keys",
    )


def set_fee(world, fee_bps):
    call = world.build.set_fee(world.authority.pubkey(), fee_bps)
    return world.send(call, signers=[world.authority], label="set_fee")


def suspend(world, node, *, suspended=True):
    call = world.build.suspend_node(world.authority.pubkey(), node.address(world), suspended=suspended)
    return world.send(call, signers=[world.authority], label="suspend_node")


def earn(world, renter, node, nonce, billed):
    escrow = open_escrow(world, renter, own_escrow(world, renter, nonce))
    assign(world, escrow, node)
    world.pass_ms(-(-billed // 1_000) * 1_000)  # the clock counts whole seconds
    finish(world, escrow, node, 1, billed)


# --- keys


def test_line_24_a_running_attempt_keeps_its_meter_and_the_next_has_the_new_one(world, renter, node):
    running = open_escrow(world, renter, own_escrow(world, renter, 1))
    waiting = open_escrow(world, renter, own_escrow(world, renter, 2))
    assign(world, running, node)
    matcher, meter, former = key("new matcher"), key("new meter"), world.meter
    for who in (matcher, meter):
        world.svm.airdrop(who.pubkey(), 10**9)
    (event,) = rotate(world, matcher, meter)
    assert event == KeysRotatedEvent(world.market, matcher.pubkey(), meter.pubkey())
    with refused("NotMatcher"):
        assign(world, waiting, node)
    world.matcher = matcher
    assign(world, waiting, node)
    world.pass_ms(2_000)
    # the former meter's countersignature is good for the attempt that was assigned with it, and only there
    settle(world, running, node, voucher(world, running, node, 1, 1_000, counter=former))
    with refused("ApprovalWrongKey"):
        settle(world, waiting, node, voucher(world, waiting, node, 1, 1_000, counter=former))
    settle(world, waiting, node, voucher(world, waiting, node, 1, 1_000, counter=meter))
    assert read(world, running).attempt.meter == former.pubkey()
    assert read(world, waiting).attempt.meter == meter.pubkey()
    world.pass_ms(PARAMS.lost_after)
    # of a running attempt both the old and the new meter may say that the node is lost
    release(world, running, node, submitter=meter)
    with refused("NotReleaser"):
        release(world, waiting, node, submitter=former)


def test_keys_are_rotated_by_the_authority_to_two_different_ones(world):
    before = world.market_account()
    with refused("KeysEqual"):
        rotate(world, key("one"), key("one"))
    for thief in (world.matcher, world.meter):
        call = world.build.rotate_keys(world.authority.pubkey(), thief.pubkey(), key("x").pubkey())
        with refused("NotMarketAuthority"):
            world.send(with_account(call, authority=thief.pubkey()), signers=[thief])
    assert world.market_account() == before


# --- the fee


def test_line_15_a_fee_is_announced_and_comes_into_effect_after_the_delay(world, renter, node):
    (event,) = set_fee(world, 1_500)
    due = world.chain_ms + PARAMS.fee_delay
    assert event == FeeSetEvent(world.market, 1_500, due)
    market = world.market_account()
    assert (market.fee_bps, market.pending_fee_bps, market.pending_fee_at) == (400, 1_500, due)
    first, second = (open_escrow(world, renter, own_escrow(world, renter, n)) for n in (1, 2))
    world.pass_ms(PARAMS.fee_delay - 1_000)
    assign(world, first, node, fee_bps=500)
    world.pass_ms(1_000)
    with refused("ApprovalWrongMessage"):  # the node consented to the old fee
        assign(world, second, node, fee_bps=500)
    assign(world, second, node, fee_bps=1_600)
    assert read(world, first).attempt.fee_bps == 500
    assert read(world, second).attempt.fee_bps == 1_600


def test_line_15_a_due_fee_stays_until_the_next_one_is_due(world):
    set_fee(world, 1_500)
    world.pass_ms(PARAMS.fee_delay)
    set_fee(world, 200)
    market = world.market_account()
    assert (market.fee_bps, market.pending_fee_bps) == (1_500, 200)
    assert market.pending_fee_at == world.chain_ms + PARAMS.fee_delay


def test_line_15_a_new_announcement_replaces_one_that_is_not_due(world):
    set_fee(world, 1_500)
    world.pass_ms(PARAMS.fee_delay - 1_000)
    set_fee(world, 200)
    market = world.market_account()
    assert (market.fee_bps, market.pending_fee_bps) == (400, 200)
    assert market.pending_fee_at == world.chain_ms + PARAMS.fee_delay


def test_line_15_a_fee_has_a_bound_and_its_authority(world):
    with refused("FeeTooHigh"):
        set_fee(world, PARAMS.max_market_bps + 1)
    set_fee(world, PARAMS.max_market_bps)
    call = with_account(world.build.set_fee(world.authority.pubkey(), 1), authority=world.matcher.pubkey())
    with refused("NotMarketAuthority"):
        world.send(call, signers=[world.matcher])


# --- earnings


def test_a_market_and_the_protocol_take_exactly_what_is_recorded(world, renter, node):
    earn(world, renter, node, 1, 33_333)
    protocol, whole = -(-33_333 // 100), -(-33_333 * 5 // 100)
    fees = whole - protocol
    own = fees - fees // 2
    market = world.market_account()
    assert (market.market_owed, market.protocol_owed) == (own, protocol)
    vault = world.build.addresses.market_fees(world.market)
    # a donation belongs to nobody
    world.put_token(vault, world.build.deployment.payment_mint, world.market, own + protocol + 5)
    world.fund(world.authority.pubkey())
    destination = world.payment_account(world.authority.pubkey())
    (event,) = world.send(world.build.withdraw_fees(world.authority.pubkey()), signers=[world.authority])
    assert event == FeesWithdrawnEvent(world.market, world.authority.pubkey(), destination, own)
    assert (world.tokens(destination), world.tokens(vault)) == (own, protocol + 5)
    with refused("NothingOwed"):
        world.send(world.build.withdraw_fees(world.authority.pubkey()), signers=[world.authority])
    protocol_token = key("protocol token").pubkey()
    sweep = world.build.sweep_protocol_fees(world.payer.pubkey(), world.market, protocol_token)
    (event,) = world.send(sweep, signers=[world.payer], label="sweep_protocol_fees")
    assert (event.market, event.destination, event.amount) == (world.market, protocol_token, protocol)
    assert (world.tokens(protocol_token), world.tokens(vault)) == (protocol, 5)
    market = world.market_account()
    assert (market.market_owed, market.protocol_owed) == (0, 0)
    with refused("NothingOwed"):
        world.send(sweep, signers=[world.payer])


def test_fees_go_to_nobody_else(world, renter, node):
    earn(world, renter, node, 1, 10_000)
    thief = world.renter("thief")
    withdraw = world.build.withdraw_fees(world.authority.pubkey(), destination=world.payment_account(thief.pubkey()))
    with refused("NotMarketAuthority"):
        world.send(with_account(withdraw, authority=thief.pubkey()), signers=[thief])
    vault = world.build.addresses.market_fees(world.market)
    with refused("DuplicateAccount"):
        world.send(with_account(withdraw, destination=vault), signers=[world.authority])
    with refused("WrongTokenAccount"):
        world.send(with_account(withdraw, market_fees=world.payment_account(thief.pubkey())), signers=[world.authority])
    with refused("WrongProgram"):
        world.send(with_account(withdraw, token_program=key("token").pubkey()), signers=[world.authority])
    sweep = world.build.sweep_protocol_fees(thief.pubkey(), world.market, world.payment_account(thief.pubkey()))
    with refused("WrongTokenAccount"):
        world.send(sweep, signers=[thief])


def test_one_market_s_vault_pays_no_other_market(world, renter, node):
    """Nor does a market that has earned nothing withdraw what stands in another's books."""
    earn(world, renter, node, 1, 10_000)
    rival = key("rival")
    world.fund(rival.pubkey())
    world.send(
        world.build.register_market(rival.pubkey(), rival.pubkey(), key("m1").pubkey(), key("m2").pubkey(), 0),
        signers=[rival],
    )
    withdraw = world.build.withdraw_fees(rival.pubkey())
    with refused("NothingOwed"):
        world.send(withdraw, signers=[rival])
    with refused("NotMarketAuthority"):
        world.send(with_account(withdraw, market=world.market), signers=[rival])
    theirs = world.build.addresses.market_fees(world.market)
    with refused("WrongTokenAccount"):
        world.send(with_account(withdraw, market_fees=theirs), signers=[rival])


def test_line_12_what_a_fee_vault_is_short_of_is_never_paid(world, renter, node):
    earn(world, renter, node, 1, 10_000)
    world.fund(world.authority.pubkey())
    market = world.market_account()
    vault = world.build.addresses.market_fees(world.market)
    recorded = market.market_owed + market.protocol_owed
    world.put_token(vault, world.build.deployment.payment_mint, world.market, recorded - 1)
    with refused("ConservationBroken"):
        world.send(world.build.withdraw_fees(world.authority.pubkey()), signers=[world.authority])


# --- nodes


@pytest.mark.parametrize("draining", [False, True])
def test_a_suspended_node_gets_no_work_until_it_is_lifted(world, renter, node, draining):
    first, second = (open_escrow(world, renter, own_escrow(world, renter, n)) for n in (1, 2))
    assign(world, first, node)
    if draining:
        call = world.build.drain(node.operator.pubkey(), node.key.pubkey(), draining=True)
        world.send(call, signers=[node.operator])
    (event,) = suspend(world, node)
    assert isinstance(event, NodeUpdatedEvent)
    assert (event.node, event.market, event.status) == (node.address(world), world.market, NodeStatus.SUSPENDED)
    with refused("NodeNotActive"):
        assign(world, second, node)
    # what it has it finishes, and is paid for
    world.pass_ms(1_000)
    finish(world, first, node, 1, 1_000)
    with refused("NodeSuspended"):
        suspend(world, node)
    (event,) = suspend(world, node, suspended=False)
    assert event.status == NodeStatus.ACTIVE
    assign(world, second, node)
    with refused("NodeNotSuspended"):
        suspend(world, node, suspended=False)


def test_a_market_suspends_its_own_nodes_only(world, node):
    rival = key("rival")
    world.svm.airdrop(rival.pubkey(), 10**10)
    world.send(
        world.build.register_market(rival.pubkey(), rival.pubkey(), key("m1").pubkey(), key("m2").pubkey(), 0),
        signers=[rival],
    )
    call = world.build.suspend_node(rival.pubkey(), node.address(world), suspended=True)
    with refused("NodeElsewhere"):
        world.send(call, signers=[rival])
    with refused("NotMarketAuthority"):
        world.send(with_account(call, market=world.market), signers=[rival])
    for hot in (world.matcher, world.meter):
        own = world.build.suspend_node(world.authority.pubkey(), node.address(world), suspended=True)
        with refused("NotMarketAuthority"):
            world.send(with_account(own, authority=hot.pubkey()), signers=[hot])


def test_a_retired_node_is_neither_suspended_nor_lifted(world, node):
    world.write("Node", node.address(world), {"status": int(NodeStatus.RETIRED)})
    for suspended in (True, False):
        with refused("NodeRetired"):
            suspend(world, node, suspended=suspended)


def test_a_boolean_is_zero_or_one(world, node):
    instruction = world.instruction(
        world.build.suspend_node(world.authority.pubkey(), node.address(world), suspended=True)
    )
    data = bytes(instruction.data)[:-1] + b"\x02"
    forged = type(instruction)(instruction.program_id, data, instruction.accounts)
    with refused("WrongArguments"):
        world.send(forged, signers=[world.authority])


def test_line_18_the_former_matcher_opens_under_no_allowance(world, renter):
    grant(world, renter)
    former, matcher = world.matcher, key("new matcher")
    world.svm.airdrop(matcher.pubkey(), 10**9)
    rotate(world, matcher, world.meter)
    with refused("NotMatcher"):
        open_escrow(world, renter, market_escrow(world, renter, 1))
    world.matcher = matcher
    open_escrow(world, renter, market_escrow(world, renter, 1))
    assert former.pubkey() != matcher.pubkey()
