"""A node that signs for more time than can have passed."""

from dataclasses import replace

import pytest

from marketplace.chain.accounts import EscrowState
from marketplace.chain.events import EscrowClosedEvent, OverclaimProvedEvent, ReleasedEvent, SlashedEvent
from tests.program.flows import (
    DEPOSIT,
    assign,
    cancel,
    contest,
    end_contest,
    finish,
    grant,
    market_escrow,
    new_node,
    open_escrow,
    own_escrow,
    quit_attempt,
    read,
    release,
    send,
    settle,
    voucher,
)
from tests.program.world import BOND, EPOCH_MS, PARAMS, key, refused, with_account, with_args

OVERCLAIM = 32


@pytest.fixture
def renter(world):
    return world.renter("renter", vault=10 * DEPOSIT)


@pytest.fixture
def node(world):
    return new_node(world)


@pytest.fixture
def running(world, renter, node):
    escrow = open_escrow(world, renter, own_escrow(world, renter))
    assign(world, escrow, node)
    return escrow


def prove(world, escrow, node, signed, *, submitter=None, accounts=None):
    submitter = submitter or world.payer
    approved = world.build.prove_overclaim(escrow, node.ref(world), submitter.pubkey(), signed)
    return world.send(
        *approved.checks, with_account(approved.call, **(accounts or {})), signers=[submitter], label="prove_overclaim"
    )


def limit(world, escrow):
    """The most that a voucher may bill without being an over-claim."""
    return 2 * (world.chain_ms - read(world, escrow).attempt.assigned_at) + PARAMS.contest


def lie(world, escrow, node, *, more=1, **changes):
    return voucher(world, escrow, node, changes.pop("sequence", 9), limit(world, escrow) + more, **changes)


def slash(stake, slashed):
    """A fifth of a bucket, but with what the epoch has seen at most half of what there was."""
    room = (stake + slashed) * PARAMS.slash_cap_bps // 10_000 - slashed
    return min(stake * PARAMS.overclaim_bps // 10_000, max(0, room))


def slot(world, node):
    """What the node did in the epoch of the moment."""
    epoch = (world.chain_ms - world.config().epoch_start) // EPOCH_MS
    found = world.node(node.key).epochs[epoch % 3]
    assert found.epoch == epoch
    return found


def top_up(world, node):
    """The bond above the class's again."""
    call = world.build.bond(node.operator.pubkey(), node.key.pubkey(), BOND)
    world.send(call, signers=[node.operator])


def test_one_millisecond_beyond_what_can_have_passed_is_slashed(world, renter, node, running):
    world.pass_ms(4_000)
    with refused("NoOverclaim"):
        prove(world, running, node, lie(world, running, node, more=0))
    pool_stake = world.build.addresses.pool_stake(world.build.addresses.pool(node.address(world)))
    before = world.pool(node.key)
    signed = lie(world, running, node)
    events = prove(world, running, node, signed, submitter=renter)
    taken = slash(BOND, 0)
    assert taken == BOND // 5
    address, escrow = node.address(world), world.build.escrow_address(running)
    reserve = 4_000 + PARAMS.skew
    assert events == [
        OverclaimProvedEvent(escrow, 1, address, world.chain_ms, signed.message.billed_ms),
        ReleasedEvent(escrow, 1, address, renter.pubkey(), OVERCLAIM, False, reserve, 0, world.chain_ms),
        SlashedEvent(address, world.build.addresses.pool(address), 1, OVERCLAIM, taken, 0),
    ]
    after = world.pool(node.key)
    assert after.active_stake == before.active_stake - taken
    assert (after.active_shares, after.bond_shares) == (before.active_shares, before.bond_shares)
    assert world.tokens(pool_stake) == BOND - taken
    assert world.tokens(world.build.addresses.emission()) == taken
    # it is a one-sided end like any other, but nobody is compensated
    account = read(world, running)
    assert (account.state, account.contest.reason, account.contest.can_be_loss) == (EscrowState.OPEN, OVERCLAIM, False)
    record = world.node(node.key)
    assert (record.attempts, record.exposure, record.held) == (1, reserve, 0)
    end_contest(world, running, node)
    record = world.node(node.key)
    assert (record.attempts_lost, record.attempts_well, record.attempts) == (1, 0, 0)
    assert world.vault(renter).compensation_owed == 0
    assert world.tokens(world.build.addresses.emission()) == taken


def test_its_metered_amount_counts_as_lost(world, renter, node, running):
    world.pass_ms(3_000)
    settle(world, running, node, voucher(world, running, node, 1, 3_000))
    prove(world, running, node, lie(world, running, node))
    end_contest(world, running, node)
    record = world.node(node.key)
    assert (record.amount_lost, record.amount_well) == (3_000, 0)
    now = slot(world, node)
    assert (now.lost, now.well, now.protocol_fees) == (3_000, 0, 30)


def test_what_the_node_had_really_earned_is_still_paid_in_the_window(world, renter, node, running):
    world.pass_ms(4_000)
    honest = voucher(world, running, node, 1, 4_000)
    prove(world, running, node, lie(world, running, node))
    contest(world, running, node, honest)
    assert read(world, running).paid == 4_000
    end_contest(world, running, node)
    assert world.node(node.key).attempts_lost == 1


def test_both_buckets_pay_and_no_share_falls(world, node, running):
    """Who is on his way out is slashed as who stays: the over-claim may be older than his ticket."""
    leaving = BOND // 2
    operator = node.operator
    extra = BOND
    world.send(world.build.bond(operator.pubkey(), node.key.pubkey(), extra), signers=[operator])
    shares = world.pool(node.key).bond_shares * leaving // (BOND + extra)
    world.send(
        world.build.unbond_bond(operator.pubkey(), node.key.pubkey(), world.node(node.key).class_id, shares, 0),
        signers=[operator],
    )
    before = world.pool(node.key)
    assert before.unbonding_stake == leaving
    world.pass_ms(1_000)
    events = prove(world, running, node, lie(world, running, node))
    active, unbonding = slash(before.active_stake, 0), slash(before.unbonding_stake, 0)
    slashed = [(event.bucket, event.amount, event.burned) for event in events if isinstance(event, SlashedEvent)]
    assert slashed == [(1, active, 0), (2, unbonding, 0)]
    after = world.pool(node.key)
    assert (after.active_stake, after.unbonding_stake) == (
        before.active_stake - active,
        before.unbonding_stake - unbonding,
    )
    assert (after.active_shares, after.unbonding_shares, after.bond_shares) == (
        before.active_shares,
        before.unbonding_shares,
        before.bond_shares,
    )
    assert world.tokens(world.build.addresses.emission()) == active + unbonding
    # the ticket is worth a fifth less
    world.pass_ms(PARAMS.unbonding)
    held = world.tokens(world.stake_account(operator.pubkey()))
    pool = world.build.addresses.pool(node.address(world))
    world.send(world.build.withdraw_ticket(operator.pubkey(), pool, 0), signers=[operator])
    paid = world.tokens(world.stake_account(operator.pubkey())) - held
    ticket = before.unbonding_shares
    assert paid == ticket * (after.unbonding_stake + 1) // (after.unbonding_shares + 1)
    assert leaving - unbonding - 1 <= paid <= leaving - unbonding


def test_line_25_several_over_claims_of_one_epoch_stop_at_the_cap(world, renter, node):
    world.pass_ms(EPOCH_MS - (world.chain_ms - world.config().epoch_start) % EPOCH_MS)  # an epoch's first moment
    escrows = [open_escrow(world, renter, own_escrow(world, renter, n)) for n in range(1, 7)]
    for escrow in escrows:
        assign(world, escrow, node)
    stake, slashed = BOND, 0
    for escrow in escrows[:5]:
        prove(world, escrow, node, lie(world, escrow, node))
        taken = slash(stake, slashed)
        stake, slashed = stake - taken, slashed + taken
        assert world.pool(node.key).active_stake == stake
    assert slashed == BOND // 2  # the cap is reached: 20 %, 16 %, 12.8 % and what was left of half
    now = slot(world, node)
    assert (now.slashed_active, now.slashed_unbonding, now.compensated) == (slashed, 0, 0)
    # the next epoch has a cap of its own
    world.pass_ms(EPOCH_MS)
    prove(world, escrows[5], node, lie(world, escrows[5], node))
    assert world.pool(node.key).active_stake == stake - slash(stake, 0)


def test_a_cancelled_escrow_goes_to_closing(world, renter, node):
    grant(world, renter)
    escrow = open_escrow(world, renter, market_escrow(world, renter))
    assign(world, escrow, node)
    world.pass_ms(2_000)
    cancel(world, escrow, world.matcher)
    events = prove(world, escrow, node, lie(world, escrow, node))
    reserve = 2_000 + PARAMS.skew
    closed = next(event for event in events if isinstance(event, EscrowClosedEvent))
    assert (closed.reason, closed.refunded, closed.contested) == (OVERCLAIM, DEPOSIT - reserve, True)
    assert read(world, escrow).state == EscrowState.CLOSING
    assert world.vault(renter).locked == reserve
    assert world.allowance(renter).total_used == reserve
    end_contest(world, escrow, node)
    assert not world.exists(world.build.escrow_address(escrow))
    assert (world.vault(renter).locked, world.allowance(renter).total_used) == (0, 0)


def test_only_the_node_s_own_signature_proves_it(world, renter, node, running):
    """Whoever countersigned or did not is of no account; a stranger's signature in the node's place is."""
    world.pass_ms(1_000)
    with refused("ApprovalWrongKey"):
        forged = lie(world, running, node, node_signer=renter)
        approved = world.build.prove_overclaim(running, node.ref(world), world.payer.pubkey(), forged)
        check = approved.checks[0]
        stranger = type(check)(renter.pubkey(), check.message, forged.node_signature)
        world.send(stranger, approved.call, signers=[world.payer])
    # the node itself may not hide behind a wrong countersigner
    prove(world, running, node, lie(world, running, node, counter=key("nobody")))


def test_the_node_as_submitter_approves_itself(world, node, running):
    world.svm.airdrop(node.key.pubkey(), 10**9)
    signed = lie(world, running, node)
    approved = world.build.prove_overclaim(running, node.ref(world), node.key.pubkey(), signed)
    call = with_args(approved.call, voucher=approved.call.args.voucher)
    with refused("ApprovalWrongKey"):
        other = with_args(call, voucher=replace(call.args.voucher, node_approval=255))
        world.send(with_account(other, submitter=world.payer.pubkey()), signers=[world.payer])
    send(world, approved, node.key)


def test_line_11_a_voucher_of_another_attempt_or_escrow_proves_nothing(world, renter, node, running):
    other = open_escrow(world, renter, own_escrow(world, renter, 2))
    assign(world, other, node)
    world.pass_ms(1_000)
    of_other = lie(world, other, node)
    with refused("ApprovalWrongMessage"):
        prove(world, running, node, of_other)
    with refused("ApprovalWrongMessage"):
        prove(world, running, node, lie(world, running, node, attempt=2))
    with refused("ApprovalWrongMessage"):
        prove(world, running, node, lie(world, running, node, genesis_hash=bytes(32)))
    old = lie(world, running, node, more=10**9)
    prove(world, running, node, old)
    end_contest(world, running, node)
    top_up(world, node)
    assign(world, running, node)
    with refused("ApprovalWrongMessage"):  # the first attempt's, shown against the second
        prove(world, running, node, old)


def test_an_over_claim_is_proved_once_per_attempt_and_of_a_running_one(world, renter, node, running):
    world.pass_ms(1_000)
    signed = lie(world, running, node, more=10**9)
    prove(world, running, node, signed)
    with refused("EscrowNotAssigned"):
        prove(world, running, node, signed)
    top_up(world, node)
    assign(world, running, node)
    # another contest is still open
    with refused("ContestBusy"):
        prove(world, running, node, lie(world, running, node))
    cancel(world, running, renter)
    finish(world, running, node, 1, 0)
    with refused("EscrowIsClosing"):
        prove(world, running, node, signed)


def test_a_voucher_has_a_sequence_and_a_known_state(world, node, running):
    with refused("VoucherMissing"):
        prove(world, running, node, lie(world, running, node, sequence=0))
    signed = lie(world, running, node)
    approved = world.build.prove_overclaim(running, node.ref(world), world.payer.pubkey(), signed)
    for state in (0, 4, 255):
        call = with_args(approved.call, voucher=replace(approved.call.args.voucher, state=state))
        with refused("VoucherStateUnknown"):
            world.send(*approved.checks, call, signers=[world.payer])


def test_line_1_a_proof_takes_only_the_accounts_of_its_escrow(world, renter, node, running):
    other = new_node(world, "other")
    wallet = world.renter("other wallet", vault=DEPOSIT)
    world.pass_ms(1_000)
    signed = lie(world, running, node)
    addresses = world.build.addresses
    their_pool = addresses.pool(other.address(world))
    for name, account, error in (
        ("node", other.address(world), "WrongNode"),
        ("pool", their_pool, "WrongPool"),
        ("pool_stake", addresses.pool_stake(their_pool), "WrongTokenAccount"),
        ("emission_vault", addresses.compensation(), "WrongTokenAccount"),
        ("emission_vault", world.stake_account(renter.pubkey()), "WrongTokenAccount"),
        ("vault", addresses.vault(wallet.pubkey()), "WrongVault"),
        ("token_program", key("x").pubkey(), "WrongProgram"),
    ):
        with refused(error):
            prove(world, running, node, signed, accounts={name: account})
    grant(world, renter)
    with refused("AllowanceUnexpected"):
        theirs = addresses.allowance(renter.pubkey(), world.market)
        prove(world, running, node, signed, accounts={"allowance": theirs})
    prove(world, running, node, signed)


def test_line_25_a_slashed_node_gets_no_work_below_its_class_bond(world, renter, node, running):
    prove(world, running, node, lie(world, running, node))
    waiting = open_escrow(world, renter, own_escrow(world, renter, 2))
    with refused("BondTooSmall"):
        assign(world, waiting, node)
    world.send(world.build.bond(node.operator.pubkey(), node.key.pubkey(), BOND // 5 + 1), signers=[node.operator])
    assign(world, waiting, node)


def test_line_17_a_compensation_held_before_an_over_claim_is_cut_to_what_the_bond_still_is(world, renter, node):
    """close_contest never fails for want of bond, and what is slashed is not paid twice."""
    first, second = (open_escrow(world, renter, own_escrow(world, renter, n)) for n in (1, 2))
    for escrow in (first, second):
        assign(world, escrow, node)
    world.pass_ms(10_000)
    settle(world, first, node, voucher(world, first, node, 1, 10_000))
    world.pass_ms(PARAMS.lost_after)
    release(world, first, node)
    noted = read(world, first).contest.compensation
    assert noted == 2_000
    prove(world, second, node, lie(world, second, node))
    pool = world.build.addresses.pool(node.address(world))
    world.write("Pool", pool, {"active_stake": 2_500})  # slashed until little is left
    end_contest(world, first, node)
    bond = world.pool(node.key)
    assert world.vault(renter).compensation_owed <= 1_251
    assert bond.active_stake == 2_500 - world.vault(renter).compensation_owed
    end_contest(world, second, node)
    assert world.node(node.key).held == 0


def test_a_quit_first_leaves_nothing_to_prove(world, node, running):
    world.pass_ms(1_000)
    signed = lie(world, running, node, more=10**9)
    quit_attempt(world, running, node)
    with refused("EscrowNotAssigned"):
        prove(world, running, node, signed)
