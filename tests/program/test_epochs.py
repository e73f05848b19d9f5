"""The emission: weights, closing, distribution, all against numbers computed here from program.md section 5."""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marketplace.chain.accounts import EpochAccount, EpochState
from marketplace.chain.events import (
    DistributedEvent,
    EpochClosedEvent,
    EpochEndedEvent,
    WeightRegisteredEvent,
)
from tests.program.flows import assign, end_contest, finish, new_node, open_escrow, own_escrow, release, settle, voucher
from tests.program.stake_flows import claim
from tests.program.world import BOND, EPOCH_MS, PARAMS, key, new_world, refused, with_account

FIRST = 900
FUND = 1_000_000
HALF = EPOCH_MS // 2


@pytest.fixture
def world():
    return rewarding_world()


@pytest.fixture
def renter(world):
    return world.renter("renter", vault=10**9)


@pytest.fixture
def node(world):
    return new_node(world)


def rewarding_world(first=FIRST, fund=FUND, params=PARAMS):
    """A deployment whose schedule starts with `first`, with `fund` stake tokens sent to its emission vault."""
    made = new_world(params=params, first_emission=first)
    put_emission(made, fund)
    return made


def put_emission(world, amount):
    world.put_token(
        world.build.addresses.emission(), world.build.deployment.stake_mint, world.build.addresses.config(), amount
    )


def epoch_now(world):
    return (world.chain_ms - world.config().epoch_start) // EPOCH_MS


def until(world, epoch, offset=0):
    """Waits for a moment of an epoch; does nothing when it has passed."""
    wait = world.config().epoch_start + epoch * EPOCH_MS + offset - world.chain_ms
    if wait > 0:
        world.pass_ms(wait)


def work(world, renter, node, nonce, billed):
    """An attempt that ends well, in whole seconds."""
    escrow = open_escrow(world, renter, own_escrow(world, renter, nonce))
    assign(world, escrow, node)
    world.pass_ms(billed)
    finish(world, escrow, node, 1, billed)


def register(world, node, epoch, *, submitter=None, accounts=None):
    submitter = submitter or world.payer
    call = world.build.register_weight(submitter.pubkey(), node.address(world), epoch)
    return world.send(with_account(call, **(accounts or {})), signers=[submitter], label="register_weight")


def close(world, epoch, *, rent_payer=None, accounts=None):
    call = world.build.close_epoch(world.payer.pubkey(), epoch, (rent_payer or world.payer).pubkey())
    return world.send(with_account(call, **(accounts or {})), signers=[world.payer], label="close_epoch")


def distribute(world, node, epoch, *, rent_payer=None, accounts=None):
    payer = (rent_payer or world.payer).pubkey()
    call = world.build.distribute(world.payer.pubkey(), node.address(world), epoch, payer)
    return world.send(with_account(call, **(accounts or {})), signers=[world.payer], label="distribute")


def skip_to(world, epoch):
    """Closes every epoch before this one that nobody registered for."""
    for index in range(world.config().next_epoch, epoch):
        close(world, index)


def account(world, epoch) -> EpochAccount:
    return world.read(EpochAccount, world.build.addresses.epoch(epoch))


def decayed(scheduled, bps=PARAMS.decay_bps):
    return scheduled * (10_000 - bps) // 10_000


# --- one epoch, exactly


def test_an_epoch_s_emission_reaches_the_pool_and_its_account_s_rent_comes_back(world, renter, node):
    until(world, 0)
    work(world, renter, node, 1, 10_000)
    until(world, 1)
    cranker = key("cranker")
    world.svm.airdrop(cranker.pubkey(), 10**9)
    (event,) = register(world, node, 0, submitter=cranker)
    assert event == WeightRegisteredEvent(node.address(world), 0, BOND, BOND)
    opened = account(world, 0)
    assert (opened.index, opened.state, opened.registered, opened.total_weight) == (0, EpochState.REGISTERING, 1, BOND)
    assert opened.rent_payer == cranker.pubkey()
    until(world, 1, HALF)
    (event,) = close(world, 0, rent_payer=cranker)
    assert event == EpochClosedEvent(0, FIRST, BOND)
    config = world.config()
    assert (config.next_epoch, config.scheduled_emission, config.committed_emission) == (1, decayed(FIRST), FIRST)
    spent = world.svm.get_balance(cranker.pubkey())
    amount = min(FIRST, 100)  # of 10,000 the protocol took a hundredth: 100
    events = distribute(world, node, 0, rent_payer=cranker)
    pool = world.build.addresses.pool(node.address(world))
    assert events == [DistributedEvent(pool, 0, amount, 0), EpochEndedEvent(0, amount, FIRST - amount)]
    assert not world.exists(world.build.addresses.epoch(0))
    assert world.svm.get_balance(cranker.pubkey()) > spent
    config = world.config()
    assert (config.committed_emission, config.distributed_emission) == (0, amount)
    assert world.tokens(world.build.addresses.emission()) == FUND - amount
    assert world.tokens(world.build.addresses.pool_stake(pool)) == BOND + amount
    state = world.pool(node.key)
    assert (state.emission_unclaimed, state.distributed_until) == (amount, 1)
    assert state.emission == (amount << 64) // state.active_shares
    slot = world.node(node.key).epochs[0]
    assert (slot.weight, slot.registered, slot.distributed) == (BOND, True, True)


def test_line_20_a_commission_that_comes_due_while_rewards_wait_applies_to_them(world, renter, node):
    """Commission first, rolled before the booking: the same rule as of the fees."""
    operator = node.operator
    world.send(world.build.set_commission(operator.pubkey(), node.key.pubkey(), 500), signers=[operator])
    work(world, renter, node, 1, 10_000)
    until(world, 1)
    register(world, node, 0)
    until(world, 1, HALF)
    close(world, 0)
    event = distribute(world, node, 0)[0]
    assert event.commission == 100 * 500 // 10_000 == 5
    state = world.pool(node.key)
    assert (state.commission_emission, state.emission_unclaimed, state.commission_bps) == (5, 100, 500)
    assert state.emission == (95 << 64) // state.active_shares


def test_weights_are_stake_times_what_went_well(world, renter, node):
    """One of two attempts lost: half the weight, by amounts and not by numbers."""
    other = new_node(world, "other")
    lost = open_escrow(world, renter, own_escrow(world, renter, 9))
    assign(world, lost, node)
    world.send(world.build.bond(node.operator.pubkey(), node.key.pubkey(), 1_000), signers=[node.operator])
    world.pass_ms(1_000)
    settle(world, lost, node, voucher(world, lost, node, 1, 1_000))
    world.pass_ms(PARAMS.lost_after)
    release(world, lost, node)
    end_contest(world, lost, node)
    until(world, 1)
    work(world, renter, node, 1, 3_000)
    # the loss was booked in the epoch in which its contest closed
    closed_in = next(slot.epoch for slot in world.node(node.key).epochs if slot.lost)
    assert closed_in == 0
    work(world, renter, other, 2, 4_000)
    until(world, 2)
    (event,) = register(world, node, 1)
    assert event.weight == BOND + 1_000 - 200  # the compensation of 20 % left the bond
    assert register(world, other, 1)[0].total_weight == 2 * BOND + 1_000 - 200
    # in epoch 0 nothing went well
    assert world.node(node.key).epochs[0].well == 0


def test_a_lost_amount_in_the_same_epoch_halves_the_weight(world, renter, node):
    until(world, 1)
    lost = open_escrow(world, renter, own_escrow(world, renter, 9))
    assign(world, lost, node)
    world.send(world.build.bond(node.operator.pubkey(), node.key.pubkey(), 1_000), signers=[node.operator])
    world.pass_ms(1_000)
    settle(world, lost, node, voucher(world, lost, node, 1, 1_000))
    world.pass_ms(PARAMS.lost_after)
    release(world, lost, node)
    end_contest(world, lost, node)
    work(world, renter, node, 1, 3_000)
    slot = world.node(node.key).epochs[1]
    assert (slot.epoch, slot.well, slot.lost) == (1, 3_000, 1_000)
    until(world, 2)
    (event,) = register(world, node, 1)
    assert event.weight == (BOND + 1_000 - 200) * 3_000 // 4_000


# --- windows and order


def test_line_23_a_weight_is_registered_in_the_first_half_of_the_next_epoch_only(world, renter, node):
    work(world, renter, node, 1, 10_000)
    with refused("EpochWindowClosed"):
        register(world, node, 0)  # too early: it is still epoch 0
    until(world, 1, HALF)
    with refused("EpochWindowClosed"):
        register(world, node, 0)  # too late by not a second
    with refused("EpochWindowClosed"):
        register(world, node, 1)
    until(world, 2)
    with refused("EpochWindowClosed"):
        register(world, node, 0)


def test_a_weight_is_registered_to_the_last_second_and_once(world, renter, node):
    work(world, renter, node, 1, 10_000)
    until(world, 1, HALF - 1_000)
    register(world, node, 0)
    with refused("WeightRegisteredAlready"):
        register(world, node, 0)


def test_line_23_without_anything_metered_there_is_no_weight(world, renter, node):
    """Neither an amount of 0 nor the wallet's own countersignature makes one."""
    until(world, 1)
    work(world, renter, node, 1, 0)
    escrow = open_escrow(world, renter, own_escrow(world, renter, 2))
    assign(world, escrow, node)
    world.pass_ms(3_000)
    finish(world, escrow, node, 1, 3_000, counter=renter)
    until(world, 2)
    with refused("WeightZero"):
        register(world, node, 1)


def test_line_23_a_weight_of_an_epoch_without_work_is_refused(world, renter, node):
    work(world, renter, node, 1, 3_000)  # in epoch 0
    until(world, 2)
    with refused("WeightZero"):
        register(world, node, 1)


def test_a_weight_too_small_for_a_unit_is_none(world, renter, node):
    until(world, 1)
    work(world, renter, node, 1, 1_000)
    world.write("Pool", world.build.addresses.pool(node.address(world)), {"active_stake": 0})
    until(world, 2)
    with refused("WeightZero"):
        register(world, node, 1)


def test_epochs_close_in_order_and_not_before_registration_has_ended(world):
    with refused("EpochTooEarly"):
        close(world, 0)
    until(world, 1, HALF - 1_000)
    with refused("EpochTooEarly"):
        close(world, 0)
    with refused("WrongEpoch"):
        close(world, 1)
    until(world, 1, HALF)
    close(world, 0)
    with refused("WrongEpoch"):
        close(world, 0)
    with refused("EpochTooEarly"):
        close(world, 1)
    until(world, 5)
    with refused("WrongEpoch"):
        close(world, 2)
    for index in (1, 2, 3):
        (event,) = close(world, index)
        assert event == EpochClosedEvent(index, 0, 0)
    with refused("EpochTooEarly"):
        close(world, 4)


def test_an_epoch_that_nobody_registered_for_only_decays_the_schedule(world):
    until(world, 4, HALF)
    scheduled = FIRST
    for index in range(4):
        (event,) = close(world, index)
        assert event == EpochClosedEvent(index, 0, 0)
        scheduled = decayed(scheduled)
        config = world.config()
        assert (config.scheduled_emission, config.committed_emission, config.next_epoch) == (scheduled, 0, index + 1)
    assert world.tokens(world.build.addresses.emission()) == FUND


def test_line_4_an_epoch_without_account_is_proved_by_its_derived_address(world, renter, node):
    """Nobody passes an empty address off as an epoch that did register."""
    work(world, renter, node, 1, 10_000)
    until(world, 1)
    register(world, node, 0)
    until(world, 1, HALF)
    with refused("WrongAddress"):
        close(world, 0, accounts={"epoch_account": key("empty").pubkey()})
    with refused("WrongAddress"):
        close(world, 0, accounts={"epoch_account": world.build.addresses.epoch(1)})
    with refused("WrongAccountOwner"):
        close(world, 0, accounts={"epoch_account": world.stake_account(renter.pubkey())})
    with refused("WrongAccountType"):
        close(world, 0, accounts={"epoch_account": node.address(world)})
    close(world, 0)
    assert world.config().committed_emission == FIRST


def test_line_5_an_epoch_s_address_with_lamports_on_it_is_still_its_address(world, renter, node):
    world.svm.airdrop(world.build.addresses.epoch(0), 10**9)
    work(world, renter, node, 1, 10_000)
    until(world, 1)
    register(world, node, 0)
    assert account(world, 0).registered == 1
    # one that nobody registered for, too
    world.svm.airdrop(world.build.addresses.epoch(1), 10**9)
    until(world, 2, HALF)
    close(world, 0)
    close(world, 1)


def test_the_account_of_another_epoch_is_refused(world, renter, node):
    work(world, renter, node, 1, 10_000)
    until(world, 1)
    register(world, node, 0)
    until(world, 1, HALF)
    close(world, 0)
    work(world, renter, node, 2, 3_000)
    until(world, 2)
    with refused("WrongEpoch"):
        register(world, node, 1, accounts={"epoch": world.build.addresses.epoch(0)})
    register(world, node, 1)
    until(world, 2, HALF)
    with refused("WrongEpoch"):
        close(world, 1, accounts={"epoch_account": world.build.addresses.epoch(0)})


def test_a_clock_that_steps_back_adds_nothing_to_a_closed_epoch(world, renter, node):
    other = new_node(world, "other")
    world.pass_ms(1_000)
    work(world, renter, node, 1, 3_000)
    work(world, renter, other, 2, 3_000)
    until(world, 1)
    register(world, node, 0)
    until(world, 1, HALF)
    close(world, 0)
    world.pass_ms(-2_000)
    with refused("EpochWindowClosed"):
        register(world, other, 0)


# --- distribution


def registered(world, renter, nodes, billed=10_000):
    """Epoch 0 with an attempt on each node, registered; the clock stands at the second half of epoch 1."""
    escrows = []
    for number, node in enumerate(nodes, start=1):
        escrow = open_escrow(world, renter, own_escrow(world, renter, number))
        assign(world, escrow, node)
        escrows.append(escrow)
    world.pass_ms(billed)
    for escrow, node in zip(escrows, nodes, strict=True):
        finish(world, escrow, node, 1, billed)
    until(world, 1)
    for node in nodes:
        register(world, node, 0)
    until(world, 1, HALF)


def test_two_pools_share_by_weight_and_the_last_one_ends_the_epoch():
    world = rewarding_world(first=101)
    renter = world.renter("renter", vault=10**9)
    small, large = new_node(world, "small"), new_node(world, "large", bond=2 * BOND)
    registered(world, renter, [small, large])
    close(world, 0)
    assert account(world, 0).emission == 101
    events = distribute(world, small, 0)
    assert [type(event) for event in events] == [DistributedEvent]
    assert events[0].amount == 101 * BOND // (3 * BOND) == 33
    assert world.config().committed_emission == 101 - 33
    assert account(world, 0).distributed == 33
    with refused("AlreadyDistributed"):
        distribute(world, small, 0)
    events = distribute(world, large, 0)
    assert events[0].amount == 101 * 2 // 3 == 67
    assert events[1] == EpochEndedEvent(0, 100, 1)
    assert world.config().committed_emission == 0
    assert world.tokens(world.build.addresses.emission()) == FUND - 100
    with refused("WrongAccountOwner"):  # its account is gone
        distribute(world, small, 0)


def test_line_23_washing_costs_what_it_brings(world, renter, node):
    """A pool draws at most what the protocol took of its work, however large its stake."""
    registered(world, renter, [node], billed=2_000)
    close(world, 0)
    taken = -(-2_000 * PARAMS.protocol_bps // 10_000)
    assert world.market_account().protocol_owed == taken == 20
    assert distribute(world, node, 0)[0].amount == taken


@pytest.mark.parametrize(("rate", "cap", "amount"), [(2_000_000, 10_000, 50), (1_000_000, 2_500, 25), (300, 1, 33)])
def test_line_23_the_cap_follows_the_published_rate(rate, cap, amount):
    """100 units of protocol fees: at 2 payment units per stake unit they stand for 50."""
    params = replace(PARAMS, exposure_rate=rate, emission_cap_bps=cap, exposure_multiple=1_000)
    world = rewarding_world(first=10**6, fund=10**7, params=params)
    renter = world.renter("renter", vault=10**6)
    node = new_node(world, bond=40 * BOND)
    # one attempt of 10,000; its whole deposit must be covered
    escrow = open_escrow(world, renter, own_escrow(world, renter), deposit=10_000, max_time_ms=10_000)
    assign(world, escrow, node)
    world.pass_ms(10_000)
    finish(world, escrow, node, 1, 10_000)
    until(world, 1)
    register(world, node, 0)
    until(world, 1, HALF)
    close(world, 0)
    fees = 100 * cap // 10_000
    assert distribute(world, node, 0)[0].amount == fees * 1_000_000 // rate
    if cap > 1:
        assert fees * 1_000_000 // rate == amount


def test_line_23_delegating_after_registration_adds_no_weight(world, renter, node):
    """The weight is stored: the pool draws what it would have drawn."""
    other = new_node(world, "other")
    registered(world, renter, [node, other])
    late = world.renter("late")
    world.fund(late.pubkey(), stake=100 * BOND)
    close(world, 0)
    world.send(world.build.delegate(late.pubkey(), node.address(world), 100 * BOND), signers=[late])
    assert world.pool(node.key).active_stake == 101 * BOND
    assert distribute(world, node, 0)[0].amount == min(FIRST // 2, 100)
    assert distribute(world, other, 0)[0].amount == min(FIRST // 2, 100)


def test_line_23_delegating_after_registration_takes_of_the_pool_s_other_shares_only(world, renter, node):
    """Emission goes to the shares of the moment of its distribution: who joins before it draws with them, and the
    emission vault gives no more."""
    registered(world, renter, [node])
    late = world.renter("late")
    world.fund(late.pubkey(), stake=99 * BOND)
    close(world, 0)
    world.send(world.build.delegate(late.pubkey(), node.address(world), 99 * BOND), signers=[late])
    amount = distribute(world, node, 0)[0].amount
    assert amount == min(FIRST, 100)
    (event,) = claim(world, node, late)
    assert event.emission in {amount * 99 // 100, amount * 99 // 100 - 1}


def test_line_23_dust_settled_in_a_later_epoch_makes_no_weight_of_the_rest(world, renter, node):
    """An attempt counts once, whole, in the epoch in which it ends; nothing is spread or counted twice."""
    escrow = open_escrow(world, renter, own_escrow(world, renter))
    assign(world, escrow, node)
    world.pass_ms(5_000)
    settle(world, escrow, node, voucher(world, escrow, node, 1, 5_000))
    until(world, 1)
    with refused("WeightZero"):
        register(world, node, 0)
    settle(world, escrow, node, voucher(world, escrow, node, 2, 5_001))
    world.pass_ms(1_000)
    finish(world, escrow, node, 3, 5_002)
    assert world.node(node.key).epochs[1].well == 5_002
    assert world.node(node.key).epochs[0].well == 0


def test_distribution_lasts_until_the_end_of_the_second_epoch_after(world, renter, node):
    other = new_node(world, "other")
    registered(world, renter, [node, other])
    with refused("EpochNotClosed"):
        distribute(world, node, 0)
    close(world, 0)
    until(world, 3, -1_000)
    distribute(world, node, 0)
    with refused("EpochNotOver"):
        close(world, 0)
    until(world, 3)
    with refused("EpochOver"):
        distribute(world, other, 0)
    assert world.config().committed_emission == FIRST - 100
    (event,) = close(world, 0)
    assert event == EpochEndedEvent(0, 100, FIRST - 100)
    assert world.config().committed_emission == 0
    assert not world.exists(world.build.addresses.epoch(0))
    with refused("WrongEpoch"):
        close(world, 0)


def test_an_epoch_closed_after_its_time_gives_nothing_and_returns_its_rent(world, renter, node):
    registered(world, renter, [node])
    until(world, 3)
    before = world.svm.get_balance(world.payer.pubkey())
    events = close(world, 0)
    assert events == [EpochClosedEvent(0, 0, BOND), EpochEndedEvent(0, 0, 0)]
    config = world.config()
    assert (config.committed_emission, config.next_epoch, config.scheduled_emission) == (0, 1, decayed(FIRST))
    assert world.svm.get_balance(world.payer.pubkey()) > before
    assert not world.exists(world.build.addresses.epoch(0))


def test_only_a_registered_node_draws(world, renter, node):
    other = new_node(world, "other")
    registered(world, renter, [node])
    close(world, 0)
    with refused("NotRegistered"):
        distribute(world, other, 0)


def test_a_pool_without_active_shares_draws_nothing_and_is_served(world, renter, node):
    """Nobody would have earned it: it stays in the vault, and the epoch ends all the same."""
    registered(world, renter, [node])
    close(world, 0)
    pool = world.build.addresses.pool(node.address(world))
    world.write("Pool", pool, {"active_shares": 0, "active_stake": 0})
    events = distribute(world, node, 0)
    assert events == [DistributedEvent(pool, 0, 0, 0), EpochEndedEvent(0, 0, FIRST)]
    assert world.tokens(world.build.addresses.emission()) == FUND


def test_line_1_distribution_takes_only_accounts_that_belong_together(world, renter, node):
    other = new_node(world, "other")
    registered(world, renter, [node, other])
    close(world, 0)
    addresses = world.build.addresses
    theirs = addresses.pool(other.address(world))
    for name, address, error in (
        ("pool", theirs, "WrongPool"),
        ("pool_stake", addresses.pool_stake(theirs), "WrongTokenAccount"),
        ("pool_stake", world.stake_account(renter.pubkey()), "WrongTokenAccount"),
        ("emission_vault", addresses.compensation(), "WrongTokenAccount"),
        ("token_program", key("x").pubkey(), "WrongProgram"),
        ("epoch_account", theirs, "WrongAccountType"),
        ("config", theirs, "WrongAccountType"),
    ):
        with refused(error):
            distribute(world, node, 0, accounts={name: address})
    with refused("WrongTokenAccount"):
        close(world, 1, accounts={"emission_vault": addresses.compensation()})
    with refused("WrongPool"):
        register(world, node, 0, accounts={"pool": theirs})
    distribute(world, node, 0)
    distribute(world, other, 0)


def test_line_13_an_epoch_s_rent_goes_back_to_who_paid_it(world, renter, node):
    registered(world, renter, [node])
    thief = world.renter("thief")
    close(world, 0, rent_payer=thief)  # closing its registration returns nothing yet
    with refused("WrongRentPayer"):
        distribute(world, node, 0, rent_payer=thief)
    until(world, 3)
    with refused("WrongRentPayer"):
        close(world, 0, rent_payer=thief)
    close(world, 0)


# --- the vault bounds the schedule


def test_an_epoch_gives_no_more_than_the_vault_holds_beside_what_is_committed():
    world = rewarding_world(first=900, fund=1_000)
    renter = world.renter("renter", vault=10**9)
    node = new_node(world)
    registered(world, renter, [node])
    close(world, 0)
    assert account(world, 0).emission == 900
    work(world, renter, node, 5, 3_000)  # epoch 1
    until(world, 2)
    register(world, node, 1)
    until(world, 2, HALF)
    close(world, 1)
    assert account(world, 1).emission == 100 < decayed(900)
    assert world.config().committed_emission == 1_000
    distribute(world, node, 0)
    distribute(world, node, 1)
    assert world.config().committed_emission == 0
    assert world.tokens(world.build.addresses.emission()) == 1_000 - 100 - 30


def test_an_empty_vault_gives_nothing_and_stops_no_epoch():
    world = rewarding_world(fund=0)
    renter = world.renter("renter", vault=10**9)
    node = new_node(world)
    registered(world, renter, [node])
    close(world, 0)
    events = distribute(world, node, 0)
    assert next(event for event in events if isinstance(event, DistributedEvent)).amount == 0
    assert events[-1] == EpochEndedEvent(0, 0, 0)


def test_line_12_what_the_emission_vault_is_short_of_is_never_paid(world, renter, node):
    other = new_node(world, "other")
    registered(world, renter, [node, other])
    close(world, 0)
    put_emission(world, FIRST - 1)
    with refused("ConservationBroken"):
        distribute(world, node, 0)


# --- many epochs, against a model


@dataclass
class Model:
    """Emission by program.md section 5."""

    vault: int
    scheduled: int
    committed: int = 0
    distributed: int = 0
    drawn: dict[int, int] = field(default_factory=dict)
    emission: dict[int, int] = field(default_factory=dict)

    def close(self, epoch, *, registered):
        given = min(self.scheduled, self.vault - self.committed) if registered else 0
        self.scheduled = self.scheduled * (10_000 - PARAMS.decay_bps) // 10_000
        self.committed += given
        self.emission[epoch], self.drawn[epoch] = given, 0

    def distribute(self, epoch, weight, total, fees):
        amount = min(self.emission[epoch] * weight // total, fees)
        self.vault -= amount
        self.committed -= amount
        self.distributed += amount
        self.drawn[epoch] += amount
        return amount

    def end(self, epoch):
        self.committed -= self.emission[epoch] - self.drawn[epoch]


PLAN = st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=3), min_size=1, max_size=6)
"""For each epoch, how many seconds each of three nodes works in it."""


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plan=PLAN, first=st.integers(0, 300), fund=st.integers(0, 600), skipped=st.integers(0, 1))
def test_any_run_of_epochs_follows_the_model(plan, first, fund, skipped):
    world = rewarding_world(first=first, fund=fund)
    renter = world.renter("renter", vault=10**9)
    nodes = [new_node(world, str(n), bond=BOND * (n + 1)) for n in range(3)]
    model = Model(fund, first)
    emission = world.build.addresses.emission()
    nonce = 0
    for round_, seconds in enumerate(plan):
        epoch = 1 + round_ * (2 + skipped)
        until(world, epoch)
        for node, span in zip(nodes, seconds, strict=True):
            nonce += 1
            if span:
                work(world, renter, node, nonce, span * 1_000)
        until(world, epoch + 1)
        weights, fees = {}, {}
        for n, (node, span) in enumerate(zip(nodes, seconds, strict=True)):
            if span == 0:
                with refused("WeightZero"):
                    register(world, node, epoch)
                continue
            weights[n], fees[n] = BOND * (n + 1), -(-span * 1_000 * PARAMS.protocol_bps // 10_000)
            register(world, node, epoch)
        until(world, epoch + 1, HALF)
        for index in range(world.config().next_epoch, epoch):
            close(world, index)
            model.close(index, registered=False)
        close(world, epoch)
        model.close(epoch, registered=bool(weights))
        assert world.config().scheduled_emission == model.scheduled
        for n, weight in weights.items():
            event = distribute(world, nodes[n], epoch)[0]
            assert event.amount == model.distribute(epoch, weight, sum(weights.values()), fees[n])
        if weights:
            assert model.drawn[epoch] <= model.emission[epoch]
            model.end(epoch)
            assert not world.exists(world.build.addresses.epoch(epoch))
        config = world.config()
        assert (config.committed_emission, config.distributed_emission) == (model.committed, model.distributed)
        assert config.committed_emission == 0
        assert world.tokens(emission) == model.vault >= 0
    for node in nodes:
        state = world.pool(node.key)
        stake = world.tokens(world.build.addresses.pool_stake(world.build.addresses.pool(node.address(world))))
        assert stake == state.active_stake + state.emission_unclaimed
