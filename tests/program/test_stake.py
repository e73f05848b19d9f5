"""Delegating, claiming, leaving, commission, retiring: successes and refusals.

Lines 20 and 25 of program.md section 6, and its lines on accounts and signers for these instructions.
"""

import pytest

from tests.program.flows import (
    DEPOSIT,
    Node,
    assign,
    cancel,
    end_contest,
    finish,
    new_node,
    open_escrow,
    own_escrow,
    quit_attempt,
    reap,
    release,
    settle,
    voucher,
)
from tests.program.stake_flows import (
    STAKE,
    check_pool,
    claim,
    delegate,
    delegator,
    drain,
    earn,
    give_tokens,
    pool_address,
    position_address,
    put_emission,
    retire,
    set_commission,
    ticket_address,
    unbond,
    unbond_bond,
    unlock,
    withdraw_ticket,
)
from tests.program.world import (
    ADMIN,
    BOND,
    CPU,
    GPU,
    PARAMS,
    PROGRAM,
    key,
    new_world,
    refused,
    unsigned,
    with_account,
    with_args,
)


def event(events, name):
    """The one event of that name."""
    (found,) = [e for e in events if type(e).__name__ == f"{name}Event"]
    return found


def stake_of(world, owner) -> int:
    return world.tokens(world.stake_account(owner.pubkey()))


def payment_of(world, owner) -> int:
    return world.tokens(world.payment_account(owner.pubkey()))


def earned(reward: int, shares: int, among: int) -> int:
    """What shares get of a reward: Q64.64 per share rounded down, then the shares' part rounded down."""
    return ((reward << 64) // among * shares) >> 64


def pause_ways_in(world) -> None:
    world.send(world.build.set_pause(ADMIN.pubkey(), 127), signers=[world.payer, ADMIN])


@pytest.fixture
def node(world) -> Node:
    return new_node(world)


# --- delegate


def test_a_delegation_makes_a_position_and_adds_to_it(world, node):
    owner = delegator(world, "d")
    told = event(delegate(world, node, owner), "Delegated")
    assert (told.amount, told.shares, told.owner) == (STAKE, STAKE, owner.pubkey())
    delegate(world, node, owner, 7)
    position, pool = world.position(node.key, owner), world.pool(node.key)
    assert (position.shares, position.rent_payer, position.is_operator) == (STAKE + 7, owner.pubkey(), False)
    assert (pool.active_stake, pool.active_shares, pool.bond_shares) == (BOND + STAKE + 7,) * 2 + (BOND,)
    assert pool.positions == 2
    assert world.tokens(pool.stake_vault) == BOND + STAKE + 7
    assert stake_of(world, owner) == 9 * STAKE - 7
    check_pool(world, node, [owner])


def test_a_position_survives_lamports_that_somebody_sent_there_first(world, node):
    owner = delegator(world, "d")
    world.svm.airdrop(position_address(world, node, owner), 12_345)
    delegate(world, node, owner)
    assert world.position(node.key, owner).shares == STAKE


def test_what_a_delegation_refuses(world, node):
    owner, other = delegator(world, "d"), new_node(world, "other")
    call = world.build.delegate(owner.pubkey(), node.address(world), STAKE)
    own = world.build.delegate(node.operator.pubkey(), node.address(world), STAKE)
    pool, elsewhere = pool_address(world, node), pool_address(world, other)
    delegate(world, other, owner)
    cases = (
        ("AmountZero", with_args(call, amount=0)),
        ("WrongPool", with_account(call, pool=elsewhere)),
        ("WrongTokenAccount", with_account(call, pool_stake=world.build.addresses.pool_stake(elsewhere))),
        ("WrongTokenAccount", with_account(call, pool_stake=world.build.addresses.pool_fees(pool))),
        ("DuplicateAccount", with_account(call, stake_source=world.build.addresses.pool_stake(pool))),
        ("WrongAddress", with_account(call, position=key("nowhere").pubkey())),
        ("WrongPosition", with_account(call, position=position_address(world, other, owner))),
        ("NotPositionOwner", with_account(call, position=position_address(world, node, node.operator))),
        ("WrongAccountOwner", with_account(call, position=world.stake_account(owner.pubkey()))),
        ("WrongAccountType", with_account(call, position=pool)),
        ("WrongAccountType", with_account(call, node=pool)),
        ("WrongProgram", with_account(call, token_program=PROGRAM)),
        ("WrongProgram", with_account(call, system_program=PROGRAM)),
        ("Custom(4)", with_account(call, stake_source=world.stake_account(node.operator.pubkey()))),
        ("Custom(1)", with_args(call, amount=10**12)),
    )
    for name, changed in cases:
        with refused(name):
            world.send(changed, signers=[owner])
    with refused("OperatorPosition"):
        world.send(own, signers=[node.operator])
    with refused("SignerMissing"):
        world.send(unsigned(world.instruction(call), owner.pubkey()), signers=[world.payer])
    pause_ways_in(world)
    with refused("Paused"):
        world.send(call, signers=[owner])


def test_a_retired_node_takes_no_stake_a_draining_or_suspended_one_does(world, node):
    owner = delegator(world, "d")
    drain(world, node)
    delegate(world, node, owner, 1)
    world.send(
        world.build.suspend_node(world.authority.pubkey(), node.address(world), suspended=True),
        signers=[world.authority],
    )
    delegate(world, node, owner, 1)
    retire(world, node)
    with refused("NodeRetired"):
        delegate(world, node, owner, 1)
    assert world.position(node.key, owner).shares == 2


def test_stake_that_would_buy_no_share_is_refused(world, node):
    """No instruction makes such a price, since none raises it above one unit per share: the rule holds all the same."""
    world.write("Pool", pool_address(world, node), {"active_shares": BOND // 10, "bond_shares": BOND // 10})
    with refused("AmountZero"):
        delegate(world, node, delegator(world, "d"), 9)


# --- claim


def test_rewards_go_to_shares_and_the_operator_takes_his_commission(world):
    node = Node(*world.operator("n", commission_bps=1_000))
    renter, owner = world.renter("r", vault=10**9), delegator(world, "d", stake=BOND)
    delegate(world, node, owner, BOND)
    fees = earn(world, renter, node, DEPOSIT)
    assert fees == DEPOSIT * 4 // 100 // 2
    before = payment_of(world, node.operator)
    told = event(claim(world, node, owner), "RewardsClaimed")
    each = earned(fees - fees // 10, BOND, 2 * BOND)
    assert (told.fees, told.emission) == (each, 0)
    assert payment_of(world, owner) == each
    claim(world, node, node.operator)
    assert payment_of(world, node.operator) - before == fees // 10 + each
    pool = world.pool(node.key)
    assert (pool.fees_unclaimed, pool.commission_fees) == (fees - fees // 10 - 2 * each, 0)
    assert pool.fees_unclaimed <= 2, "rounding costs less than a unit a claim"
    assert world.position(node.key, node.operator).shares == BOND
    for who in (owner, node.operator):
        with refused("NothingOwed"):
            claim(world, node, who)
    check_pool(world, node, [owner])


def test_emission_is_paid_in_stake_beside_the_fees(world, node):
    owner, renter = delegator(world, "d", stake=BOND), world.renter("r", vault=10**9)
    delegate(world, node, owner, BOND)
    fees = earn(world, renter, node, DEPOSIT)
    put_emission(world, node, 1_001)
    told = event(claim(world, node, owner), "RewardsClaimed")
    half = earned(fees, BOND, 2 * BOND)
    assert (told.fees, told.emission) == (half, 500)
    assert (payment_of(world, owner), stake_of(world, owner)) == (half, 500)
    pool = world.pool(node.key)
    assert (pool.fees_unclaimed, pool.emission_unclaimed) == (fees - half, 501)
    assert world.tokens(pool.stake_vault) == 2 * BOND + 501


def test_a_destination_is_looked_at_only_where_its_kind_is_paid(world, node):
    owner, renter = delegator(world, "d", stake=BOND), world.renter("r", vault=10**9)
    delegate(world, node, owner, BOND)
    earn(world, renter, node, DEPOSIT)
    call = world.build.claim(owner.pubkey(), pool_address(world, node))
    with refused("DuplicateAccount"):
        world.send(with_account(call, payment_destination=call.accounts.pool_fees), signers=[owner])
    world.send(with_account(call, stake_destination=key("nothing").pubkey()), signers=[owner])
    put_emission(world, node, 1_001)
    with refused("DuplicateAccount"):
        world.send(with_account(call, stake_destination=call.accounts.pool_stake), signers=[owner])
    world.send(with_account(call, payment_destination=call.accounts.pool_fees), signers=[owner])
    assert stake_of(world, owner) == 500


def test_what_a_claim_refuses(world, node):
    owner, renter, other = delegator(world, "d", stake=BOND), world.renter("r", vault=10**9), new_node(world, "other")
    delegate(world, node, owner, BOND // 2)
    delegate(world, other, owner, BOND // 2)
    earn(world, renter, node, DEPOSIT)
    call = world.build.claim(owner.pubkey(), pool_address(world, node))
    addresses, elsewhere = world.build.addresses, pool_address(world, other)
    cases = (
        ("WrongTokenAccount", with_account(call, pool_fees=addresses.pool_fees(elsewhere))),
        ("WrongTokenAccount", with_account(call, pool_stake=addresses.pool_stake(elsewhere))),
        ("WrongPosition", with_account(call, position=position_address(world, other, owner))),
        ("NotPositionOwner", with_account(call, position=position_address(world, node, node.operator))),
        ("WrongAccountType", with_account(call, position=pool_address(world, node))),
        ("WrongProgram", with_account(call, token_program=PROGRAM)),
        ("Custom(3)", with_account(call, payment_destination=world.stake_account(owner.pubkey()))),
    )
    for name, changed in cases:
        with refused(name):
            world.send(changed, signers=[owner])
    theirs = world.build.claim(node.operator.pubkey(), pool_address(world, node))
    stolen = with_account(theirs, owner=owner.pubkey())
    with refused("NotPositionOwner"):
        world.send(stolen, signers=[owner])


def test_the_last_claim_of_an_empty_position_closes_it(world, node):
    owner, renter = delegator(world, "d"), world.renter("r", vault=10**9)
    delegate(world, node, owner)
    earn(world, renter, node, DEPOSIT)
    unbond(world, node, owner)
    unlock(world)
    withdraw_ticket(world, node, owner)
    address = position_address(world, node, owner)
    assert world.exists(address), "it has earned something"
    rent = world.svm.get_account(address).lamports
    call = world.build.claim(owner.pubkey(), pool_address(world, node))
    with refused("WrongRentPayer"):
        world.send(with_account(call, rent_payer=renter.pubkey()), signers=[owner])
    before = world.svm.get_account(owner.pubkey()).lamports
    world.send(call, signers=[world.payer, owner])
    assert not world.exists(address)
    assert world.svm.get_account(owner.pubkey()).lamports == before + rent
    assert world.pool(node.key).positions == 1


# --- unbond and withdraw_ticket


def test_shares_leave_at_once_and_are_paid_after_the_unbonding_time(world, node):
    owner = delegator(world, "d")
    delegate(world, node, owner)
    told = event(unbond(world, node, owner, 400_000), "Unbonded")
    assert (told.shares, told.amount, told.index) == (400_000, 400_000, 0)
    assert told.unlock_at == world.chain_ms + PARAMS.unbonding
    pool = world.pool(node.key)
    assert (pool.active_stake, pool.active_shares) == (BOND + 600_000,) * 2
    assert (pool.unbonding_stake, pool.unbonding_shares) == (400_000,) * 2
    unbond(world, node, owner)
    ticket = world.ticket(node.key, owner, 1)
    assert (ticket.shares, ticket.index, ticket.owner, ticket.rent_payer) == (
        600_000,
        1,
        owner.pubkey(),
        owner.pubkey(),
    )
    world.pass_ms(PARAMS.unbonding - 1_000)
    with refused("TicketLocked"):
        withdraw_ticket(world, node, owner, 0)
    world.pass_ms(1_000)
    withdraw_ticket(world, node, owner, 1)
    assert world.position(node.key, owner).tickets == 1
    told = event(withdraw_ticket(world, node, owner, 0), "TicketWithdrawn")
    assert (told.amount, told.shares) == (400_000, 400_000)
    assert stake_of(world, owner) == 10 * STAKE
    assert not world.exists(position_address(world, node, owner)), "nothing of it is left"
    assert not world.exists(ticket_address(world, node, owner, 0))
    pool = world.pool(node.key)
    assert (pool.positions, pool.unbonding_stake, pool.unbonding_shares) == (1, 0, 0)
    delegate(world, node, owner)
    assert world.position(node.key, owner).next_ticket == 0


def test_what_unbonding_refuses(world, node):
    owner, other = delegator(world, "d"), new_node(world, "other")
    delegate(world, node, owner)
    delegate(world, other, owner)
    pool = pool_address(world, node)
    call = world.build.unbond(owner.pubkey(), pool, STAKE, 0)
    cases = (
        ("AmountZero", with_args(call, shares=0)),
        ("SharesInsufficient", with_args(call, shares=STAKE + 1)),
        ("SharesInsufficient", with_args(call, shares=2**128 - 1)),
        ("WrongPosition", with_account(call, position=position_address(world, other, owner))),
        ("WrongPosition", with_account(call, pool=pool_address(world, other))),
        ("NotPositionOwner", with_account(call, position=position_address(world, node, node.operator))),
        ("WrongAddress", with_account(call, ticket=ticket_address(world, node, owner, 1))),
        ("WrongAddress", with_account(call, ticket=ticket_address(world, other, owner, 0))),
        ("WrongProgram", with_account(call, system_program=PROGRAM)),
    )
    for name, changed in cases:
        with refused(name):
            world.send(changed, signers=[owner])
    with refused("OperatorPosition"):
        world.send(world.build.unbond(node.operator.pubkey(), pool, 1, 0), signers=[node.operator])
    with refused("SignerMissing"):
        world.send(unsigned(world.instruction(call), owner.pubkey()), signers=[world.payer])


def test_what_withdrawing_a_ticket_refuses(world, node):
    owner, thief, other = delegator(world, "d"), delegator(world, "thief"), new_node(world, "other")
    for who in (owner, thief):
        delegate(world, node, who)
        unbond(world, node, who, 10)
    delegate(world, other, owner)
    unbond(world, other, owner, 10)
    unlock(world)
    addresses, pool, elsewhere = world.build.addresses, pool_address(world, node), pool_address(world, other)
    call = world.build.withdraw_ticket(owner.pubkey(), pool, 0)
    cases = (
        ("WrongTicket", with_account(call, ticket=ticket_address(world, node, thief, 0))),
        ("WrongTicket", with_account(call, position=position_address(world, node, thief))),
        ("WrongRentPayer", with_account(call, rent_payer=thief.pubkey())),
        ("WrongTokenAccount", with_account(call, pool_stake=addresses.pool_stake(elsewhere))),
        ("WrongPosition", with_account(call, pool=elsewhere, pool_stake=addresses.pool_stake(elsewhere))),
        ("DuplicateAccount", with_account(call, destination=addresses.pool_stake(pool))),
        ("WrongAccountType", with_account(call, ticket=position_address(world, node, owner))),
        ("Custom(3)", with_account(call, destination=world.payment_account(owner.pubkey()))),
        ("WrongProgram", with_account(call, token_program=PROGRAM)),
    )
    for name, changed in cases:
        with refused(name):
            world.send(changed, signers=[owner])
    stolen = with_account(call, owner=thief.pubkey(), destination=world.stake_account(thief.pubkey()))
    with refused("NotPositionOwner"):
        world.send(stolen, signers=[thief])
    withdraw_ticket(world, node, owner)
    with refused("WrongAccountOwner"):
        withdraw_ticket(world, node, owner)


def test_line_16_pause_closes_no_way_out_of_a_pool(world, node):
    owner, renter = delegator(world, "d"), world.renter("r", vault=10**9)
    delegate(world, node, owner)
    earn(world, renter, node, DEPOSIT)
    pause_ways_in(world)
    unbond(world, node, owner)
    claim(world, node, owner)
    set_commission(world, node, 100)
    drain(world, node)
    unbond_bond(world, node)
    unlock(world)
    withdraw_ticket(world, node, owner)
    withdraw_ticket(world, node, node.operator)
    claim(world, node, node.operator)
    retire(world, node)
    assert not world.exists(node.address(world))


# --- line 20


def test_line_20_the_first_depositor_can_t_price_out_the_second(world, node):
    """The operator leaves one unit, gives the vault a fortune, and gains nothing: donations are not recorded."""
    drain(world, node)
    unbond_bond(world, node, BOND - 1)
    pool = world.pool(node.key)
    assert (pool.active_stake, pool.active_shares) == (1, 1)
    give_tokens(world, pool.stake_vault, 10**12)
    owner = delegator(world, "d")
    told = event(delegate(world, node, owner), "Delegated")
    assert told.shares == STAKE
    unbond(world, node, owner)
    unbond_bond(world, node)
    unlock(world)
    withdraw_ticket(world, node, owner)
    assert stake_of(world, owner) == 10 * STAKE
    withdraw_ticket(world, node, node.operator, 0)
    withdraw_ticket(world, node, node.operator, 1)
    assert stake_of(world, node.operator) == 10 * BOND
    emission = world.tokens(world.config().emission_vault)
    told = event(retire(world, node), "NodeClosed")
    assert told.stake_surplus == 10**12
    assert world.tokens(world.config().emission_vault) == emission + 10**12


def test_line_20_dust_is_unbonded_and_takes_nothing_from_others(world, node):
    whale, ant = delegator(world, "whale"), delegator(world, "ant")
    delegate(world, node, whale)
    delegate(world, node, ant, 50)
    # a pool that was slashed: a share is worth a little less than a unit, so a single one is worth none
    world.write("Pool", pool_address(world, node), {"active_stake": BOND + STAKE + 50 - 1_000})
    worth = STAKE * (BOND + STAKE + 50 - 1_000 + 1) // (BOND + STAKE + 50 + 1)
    for index in range(50):
        told = event(unbond(world, node, ant, 1), "Unbonded")
        assert (told.amount, told.index) == (0, index)
    told = event(unbond(world, node, whale), "Unbonded")
    assert worth <= told.amount <= worth + 50, "what dust leaves behind is the others'"
    unlock(world)
    for index in range(50):
        assert event(withdraw_ticket(world, node, ant, index), "TicketWithdrawn").amount == 0
    withdraw_ticket(world, node, whale)
    assert stake_of(world, whale) - 9 * STAKE in range(worth - 1, worth + 51)
    assert not world.exists(position_address(world, node, ant))
    check_pool(world, node, [whale, ant])


def test_line_20_a_dead_pool_takes_nothing_and_lets_everybody_out(world, node):
    owner, renter = delegator(world, "d", stake=BOND), world.renter("r", vault=10**9)
    delegate(world, node, owner, BOND)
    fees = earn(world, renter, node, DEPOSIT)
    # 100,000,000 shares: it lives on 100 units, and dies on 99
    world.write("Pool", pool_address(world, node), {"active_stake": 100})
    delegate(world, node, delegator(world, "late"), 1)
    world.write("Pool", pool_address(world, node), {"active_stake": 99})
    for call, signer in (
        (world.build.delegate(owner.pubkey(), node.address(world), 1), owner),
        (world.build.bond(node.operator.pubkey(), node.key.pubkey(), 1), node.operator),
    ):
        with refused("PoolDead"):
            world.send(call, signers=[signer])
    claim(world, node, owner)
    assert payment_of(world, owner) == earned(fees, BOND, 2 * BOND)
    unbond(world, node, owner)
    drain(world, node)
    unbond_bond(world, node)
    unlock(world)
    withdraw_ticket(world, node, owner)
    withdraw_ticket(world, node, node.operator)
    assert not world.exists(position_address(world, node, owner))


def test_line_20_a_commission_change_leaves_waiting_rewards_alone(world, node):
    owner, renter = delegator(world, "d", stake=BOND), world.renter("r", vault=10**9)
    delegate(world, node, owner, BOND)
    first = earn(world, renter, node, DEPOSIT, nonce=1)
    told = event(set_commission(world, node, 500), "CommissionSet")
    assert told.effective_at == world.chain_ms + PARAMS.commission_delay
    soon = earn(world, renter, node, 10_000, nonce=2)
    assert world.pool(node.key).commission_fees == 0, "announced, not in effect"
    world.pass_ms(PARAMS.commission_delay)
    later = earn(world, renter, node, DEPOSIT, nonce=3)
    assert world.pool(node.key).commission_fees == later * 500 // 10_000
    claim(world, node, owner)
    due = (first + soon + later - later * 500 // 10_000) // 2
    assert payment_of(world, owner) in {due, due - 1}


def test_what_joins_later_earns_nothing_of_before(world, node):
    early, late = delegator(world, "early", stake=BOND), delegator(world, "late", stake=10 * BOND)
    renter = world.renter("r", vault=10**9)
    delegate(world, node, early, BOND)
    fees = earn(world, renter, node, DEPOSIT)
    delegate(world, node, late, 10 * BOND)
    with refused("NothingOwed"):
        claim(world, node, late)
    unbond(world, node, early)
    more = earn(world, renter, node, DEPOSIT, nonce=2)
    claim(world, node, early)
    assert payment_of(world, early) == earned(fees, BOND, 2 * BOND), "shares that left earn no more"
    claim(world, node, late)
    assert payment_of(world, late) in {more * 10 // 11, more * 10 // 11 - 1}


# --- unbond_bond, line 25


def test_line_25_the_class_bond_stays_while_the_node_is_active(world):
    node = Node(*world.operator("n", bond=BOND + 1_000))
    with refused("BondBelowClass"):
        unbond_bond(world, node, 1_001)
    told = event(unbond_bond(world, node, 1_000), "Unbonded")
    assert (told.amount, told.owner) == (1_000, node.operator.pubkey())
    pool = world.pool(node.key)
    assert (pool.bond_shares, pool.unbonding_stake) == (BOND, 1_000)
    unlock(world)
    withdraw_ticket(world, node, node.operator)
    assert stake_of(world, node.operator) == 10 * (BOND + 1_000) - BOND
    check_pool(world, node, [])


def test_line_25_with_attempts_the_bond_stays_also_of_a_draining_or_suspended_node(world, node):
    renter = world.renter("r", vault=10**9)
    escrow = open_escrow(world, renter, own_escrow(world, renter))
    assign(world, escrow, node)
    drain(world, node)
    with refused("BondBelowClass"):
        unbond_bond(world, node, 1)
    with refused("AttemptsOpen"):
        retire(world, node)
    world.pass_ms(10_000)
    finish(world, escrow, node, 1, 10_000)
    unbond_bond(world, node)
    assert world.pool(node.key).bond_shares == 0


def test_line_25_what_is_held_for_losses_stays_beside_the_class_bond(world):
    """Several losses on one bond: each holds its own part, and no part leaves before its contest is closed."""
    extra = 100_000
    node, renter = Node(*world.operator("n", bond=BOND + extra)), world.renter("r", vault=10**9)
    escrows = [open_escrow(world, renter, own_escrow(world, renter, n)) for n in (1, 2)]
    for escrow in escrows:
        assign(world, escrow, node)
        world.pass_ms(10_000)
        settle(world, escrow, node, voucher(world, escrow, node, 1, 10_000))
    world.pass_ms(PARAMS.lost_after)
    for escrow in escrows:
        release(world, escrow, node)
    held = world.node(node.key).held
    assert held == 2 * 10_000 * PARAMS.compensation_bps // 10_000
    with refused("BondBelowClass"):
        unbond_bond(world, node, extra - held + 1)
    unbond_bond(world, node, extra - held)
    drain(world, node)
    with refused("BondBelowClass"):
        unbond_bond(world, node, 1)
    world.pass_ms(PARAMS.contest + 1_000)
    for escrow in escrows:
        end_contest(world, escrow, node)
        reap_when_due(world, escrow)
    assert world.vault(renter).compensation_owed == held
    assert world.node(node.key).held == 0
    pool = world.pool(node.key)
    assert pool.active_stake == BOND
    unbond_bond(world, node)


def reap_when_due(world, escrow) -> None:
    world.pass_ms(PARAMS.queue_limit + 1_000)
    reap(world, escrow, None)


def test_line_25_no_move_to_another_class_below_its_bond_or_with_attempts(world, node):
    renter = world.renter("r", vault=10**9)
    world.fund(node.operator.pubkey(), stake=40 * BOND)
    payout = world.payment_account(node.operator.pubkey())
    move = world.build.update_node(node.operator.pubkey(), node.key.pubkey(), world.market, GPU, payout)
    with refused("BondBelowClass"):
        world.send(move, signers=[node.operator])
    world.send(world.build.bond(node.operator.pubkey(), node.key.pubkey(), 39 * BOND), signers=[node.operator])
    escrow = open_escrow(world, renter, own_escrow(world, renter))
    assign(world, escrow, node)
    with refused("AttemptsOpen"):
        world.send(move, signers=[node.operator])
    world.pass_ms(1_000)
    finish(world, escrow, node, 1, 1_000)
    world.send(move, signers=[node.operator])
    with refused("BondBelowClass"):
        unbond_bond(world, node, 1, class_id=GPU)
    with refused("WrongClass"):
        unbond_bond(world, node, 1)


def test_what_unbonding_the_bond_refuses(world):
    node, other = Node(*world.operator("n", bond=2 * BOND)), new_node(world, "other")
    owner = delegator(world, "d")
    delegate(world, node, owner)
    operator = node.operator.pubkey()
    call = world.build.unbond_bond(operator, node.key.pubkey(), CPU, 10, 0)
    cases = (
        ("AmountZero", with_args(call, shares=0)),
        ("SharesInsufficient", with_args(call, shares=2 * BOND + 1)),
        ("NotOperator", with_account(call, node=other.address(world))),
        ("WrongPool", with_account(call, pool=pool_address(world, other))),
        ("WrongPosition", with_account(call, position=position_address(world, node, owner))),
        ("WrongPosition", with_account(call, position=position_address(world, other, other.operator))),
        ("WrongAddress", with_account(call, ticket=ticket_address(world, node, node.operator, 1))),
        ("WrongProgram", with_account(call, system_program=PROGRAM)),
        ("WrongAccountType", with_account(call, class_account=world.build.addresses.config())),
    )
    for name, changed in cases:
        with refused(name):
            world.send(changed, signers=[node.operator])
    with refused("NotOperator"):
        world.send(with_account(call, operator=owner.pubkey()), signers=[owner])


# --- set_commission and drain


def test_line_15_a_commission_changes_by_steps_and_after_its_delay(world, node):
    step = PARAMS.commission_step_bps
    with refused("CommissionStepTooLarge"):
        set_commission(world, node, step + 1)
    set_commission(world, node, step)
    with refused("CommissionStepTooLarge"):
        set_commission(world, node, 2 * step)
    told = event(set_commission(world, node, step - 1), "CommissionSet")
    pool = world.pool(node.key)
    assert (pool.commission_bps, pool.pending_commission_bps) == (0, step - 1)
    assert pool.pending_commission_at == told.effective_at
    world.pass_ms(PARAMS.commission_delay)
    set_commission(world, node, 2 * step - 1)
    assert world.pool(node.key).commission_bps == step - 1, "the due one was put into effect first"
    world.pass_ms(PARAMS.commission_delay)
    set_commission(world, node, step)
    assert world.pool(node.key).commission_bps == 2 * step - 1


def test_line_15_what_a_commission_change_refuses(world):
    node, stranger = Node(*world.operator("n", commission_bps=10_000)), delegator(world, "s")
    other = new_node(world, "other")
    with refused("ParameterOutOfBounds"):
        set_commission(world, node, 10_001)
    call = world.build.set_commission(node.operator.pubkey(), node.key.pubkey(), 9_900)
    with refused("WrongPool"):
        world.send(with_account(call, pool=pool_address(world, other)), signers=[node.operator])
    with refused("NotOperator"):
        world.send(with_account(call, operator=stranger.pubkey()), signers=[stranger])
    delegate(world, node, stranger)
    retire(world, node)
    with refused("NodeRetired"):
        set_commission(world, node, 9_900)


def test_a_draining_node_takes_no_work_until_it_says_so(world, node):
    renter = world.renter("r", vault=10**9)
    escrow = open_escrow(world, renter, own_escrow(world, renter))
    told = event(drain(world, node), "NodeUpdated")
    assert (told.node, told.status) == (node.address(world), 1)
    with refused("NodeNotActive"):
        assign(world, escrow, node)
    drain(world, node, draining=False)
    assign(world, escrow, node)
    assert world.node(node.key).status == 0


def test_what_draining_refuses(world, node):
    stranger = delegator(world, "s")
    call = world.build.drain(node.operator.pubkey(), node.key.pubkey(), draining=True)
    with refused("NotOperator"):
        world.send(with_account(call, operator=stranger.pubkey()), signers=[stranger])
    raw = world.instruction(call)
    with refused("WrongArguments"):
        world.send(type(raw)(raw.program_id, bytes(raw.data)[:-1] + b"\2", raw.accounts), signers=[node.operator])
    suspend = world.build.suspend_node(world.authority.pubkey(), node.address(world), suspended=True)
    world.send(suspend, signers=[world.authority])
    for draining in (True, False):
        with refused("NodeSuspended"):
            drain(world, node, draining=draining)
    delegate(world, node, stranger)
    retire(world, node)
    with refused("NodeRetired"):
        drain(world, node)


# --- retire


def test_an_empty_node_is_closed_and_everything_of_it_goes_home(world, node):
    owner, renter = delegator(world, "d", stake=BOND), world.renter("r", vault=10**9)
    delegate(world, node, owner, BOND - 1)
    fees = earn(world, renter, node, 99_999)
    put_emission(world, node, 1_001)
    told = event(retire(world, node), "NodeUpdated")
    assert told.status == 3
    unbond(world, node, owner)
    claim(world, node, owner)
    unbond_bond(world, node)
    claim(world, node, node.operator)
    unlock(world)
    assert retire(world, node) == [], "tickets are open: nothing happens"
    withdraw_ticket(world, node, owner)
    assert retire(world, node) == []
    withdraw_ticket(world, node, node.operator)
    pool, market, emission = world.pool(node.key), world.market_account(), world.config().emission_vault
    stake_left, fees_left = world.tokens(pool.stake_vault), world.tokens(pool.fee_vault)
    assert (stake_left, fees_left) == (pool.emission_unclaimed, pool.fees_unclaimed)
    assert 0 <= fees_left <= 2 < fees
    assert 0 < stake_left <= 2
    before = world.tokens(emission), world.tokens(market.fee_vault)
    accounts = [
        node.address(world),
        pool_address(world, node),
        position_address(world, node, node.operator),
        pool.stake_vault,
        pool.fee_vault,
    ]
    rent = sum(world.svm.get_account(a).lamports for a in accounts)
    lamports = world.svm.get_account(node.operator.pubkey()).lamports
    call = world.build.retire(node.operator.pubkey(), node.key.pubkey(), world.market)
    told = event(world.send(call, signers=[world.payer, node.operator], label="retire"), "NodeClosed")
    assert (told.stake_surplus, told.fee_surplus) == (stake_left, fees_left)
    assert (world.tokens(emission), world.tokens(market.fee_vault)) == (before[0] + stake_left, before[1] + fees_left)
    assert world.market_account().market_owed == market.market_owed + fees_left
    assert not any(world.exists(a) for a in accounts)
    assert world.svm.get_account(node.operator.pubkey()).lamports == lamports + rent
    # the machine may come back
    again = new_node(world)
    assert world.pool(again.key).fees == 0


def test_what_keeps_a_retired_node_from_closing(world):
    node, renter = Node(*world.operator("n", commission_bps=1_000)), world.renter("r", vault=10**9)
    earn(world, renter, node, DEPOSIT)
    retire(world, node)
    unbond_bond(world, node)
    unlock(world)
    withdraw_ticket(world, node, node.operator)
    assert retire(world, node) == [], "the operator has rewards to claim"
    assert world.node(node.key).status == 3
    claim(world, node, node.operator)
    world.write("Node", node.address(world), {"owed": 5})
    give_tokens(world, world.pool(node.key).fee_vault, 5)
    assert retire(world, node) == [], "the operator is owed"
    payout = world.payment_account(node.operator.pubkey())
    world.send(world.build.withdraw_owed(node.operator.pubkey(), node.key.pubkey(), payout), signers=[node.operator])
    event(retire(world, node), "NodeClosed")


def test_what_retiring_refuses(world, node):
    other, stranger = new_node(world, "other"), delegator(world, "s")
    addresses = world.build.addresses
    authority = key("second authority")
    world.svm.airdrop(authority.pubkey(), 10**10)
    world.send(
        world.build.register_market(authority.pubkey(), authority.pubkey(), key("m2").pubkey(), key("w2").pubkey(), 0),
        signers=[authority],
    )
    second = addresses.market(authority.pubkey())
    elsewhere = pool_address(world, other)
    call = world.build.retire(node.operator.pubkey(), node.key.pubkey(), world.market)
    own = call.accounts
    cases = (
        ("NotOperator", with_account(call, node=other.address(world))),
        ("WrongPool", with_account(call, pool=elsewhere)),
        ("WrongMarket", with_account(call, market=second, market_fees=addresses.market_fees(second))),
        ("WrongPosition", with_account(call, position=position_address(world, other, other.operator))),
        ("WrongTokenAccount", with_account(call, market_fees=addresses.market_fees(second))),
        ("WrongTokenAccount", with_account(call, emission_vault=world.stake_account(node.operator.pubkey()))),
        ("WrongTokenAccount", with_account(call, pool_stake=addresses.pool_stake(elsewhere))),
        ("WrongTokenAccount", with_account(call, pool_fees=addresses.pool_fees(elsewhere))),
        ("WrongTokenAccount", with_account(call, pool_fees=own.pool_stake, pool_stake=own.pool_fees)),
        ("WrongProgram", with_account(call, token_program=PROGRAM)),
    )
    for name, changed in cases:
        with refused(name):
            world.send(changed, signers=[node.operator])
    with refused("NotOperator"):
        world.send(with_account(call, operator=stranger.pubkey()), signers=[stranger])


def test_line_25_a_node_with_a_contest_open_can_t_retire(world, node):
    renter = world.renter("r", vault=10**9)
    escrow = open_escrow(world, renter, own_escrow(world, renter))
    assign(world, escrow, node)
    quit_attempt(world, escrow, node)
    with refused("AttemptsOpen"):
        retire(world, node)
    end_contest(world, escrow, node)
    cancel(world, escrow, renter)
    retire(world, node)
    unbond_bond(world, node)
    unlock(world)
    withdraw_ticket(world, node, node.operator)
    event(retire(world, node), "NodeClosed")


def test_several_delegators_come_and_go_and_the_books_close():
    """Three nodes of one pool size, five delegators each way; at the end every unit is accounted for."""
    world = new_world()
    node, renter = Node(*world.operator("n", commission_bps=777)), world.renter("r", vault=10**9)
    owners = [delegator(world, str(n), stake=10 * STAKE + n) for n in range(5)]
    put_in = sum(stake_of(world, o) for o in owners) + 10 * BOND
    for turn, owner in enumerate(owners):
        delegate(world, node, owner, 3 * STAKE + turn)
        earn(world, renter, node, 10_001 + turn, nonce=turn + 1)
        check_pool(world, node, owners)
    for turn, owner in enumerate(owners):
        unbond(world, node, owner, STAKE + turn)
        put_emission(world, node, 101 + turn)
        claim(world, node, owner)
        check_pool(world, node, owners)
    for owner in owners:
        unbond(world, node, owner)
    retire(world, node)
    unbond_bond(world, node)
    claim(world, node, node.operator)
    unlock(world)
    for owner in owners:
        withdraw_ticket(world, node, owner, 0)
        withdraw_ticket(world, node, owner, 1)
        if world.exists(position_address(world, node, owner)):
            claim(world, node, owner)
    withdraw_ticket(world, node, node.operator)
    told = event(retire(world, node), "NodeClosed")
    emitted = sum(101 + turn for turn in range(5))
    assert sum(stake_of(world, o) for o in (*owners, node.operator)) == put_in + emitted - told.stake_surplus
    assert told.stake_surplus <= 12
    assert told.fee_surplus <= 12


def test_compute_units(world, node):
    owner, renter = delegator(world, "d"), world.renter("r", vault=10**9)
    delegate(world, node, owner)
    delegate(world, node, owner)
    earn(world, renter, node, DEPOSIT)
    put_emission(world, node, 1_000_001)
    claim(world, node, owner)
    put_emission(world, node, 1_000_001)
    unbond(world, node, owner)
    claim(world, node, owner)
    unlock(world)
    withdraw_ticket(world, node, owner)
    drain(world, node)
    unbond_bond(world, node)
    unlock(world)
    withdraw_ticket(world, node, node.operator)
    claim(world, node, node.operator)
    retire(world, node)
    ceilings = {
        "delegate": 25_000,
        "unbond": 25_000,
        "claim": 25_000,
        "withdraw_ticket": 15_000,
        "unbond_bond": 25_000,
        "retire": 35_000,
    }
    used = {name: max(world.units[name]) for name in ceilings}
    print(used)
    assert all(used[name] <= most for name, most in ceilings.items()), used


def test_a_slashed_ticket_pays_its_part(world, node):
    owner = delegator(world, "d")
    delegate(world, node, owner)
    unbond(world, node, owner)
    world.write("Pool", pool_address(world, node), {"unbonding_stake": STAKE // 2})
    unlock(world)
    withdraw_ticket(world, node, owner)
    assert stake_of(world, owner) == 9 * STAKE + STAKE // 2
