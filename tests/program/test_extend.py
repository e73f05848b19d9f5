"""Adding deposit and time to an escrow, by who opened it."""

import pytest

from marketplace.chain.events import EscrowExtendedEvent
from marketplace.protocol.vouchers import VoucherState
from tests.program.flows import (
    DEPOSIT,
    assign,
    cancel,
    end_contest,
    finish,
    grant,
    market_escrow,
    new_node,
    open_escrow,
    own_escrow,
    quit_attempt,
    read,
    settle,
    voucher,
)
from tests.program.world import ADMIN, BOND, HOUR, PARAMS, key, refused, with_account

TEN_YEARS = 315_360_000_000
DAY = 24 * HOUR


@pytest.fixture
def renter(world):
    return world.renter("renter", vault=10 * DEPOSIT)


@pytest.fixture
def node(world):
    return new_node(world)


def extend(world, escrow, deposit, time=0, *, node=None, signer=None, **accounts):
    if signer is None:
        wallet = key("renter")
        signer = world.matcher if escrow.under_allowance else wallet
    ref = None if node is None else node.ref(world)
    call = world.build.extend_escrow(escrow, signer.pubkey(), deposit, time, ref)
    return world.send(with_account(call, **accounts), signers=[signer], label="extend_escrow")


def test_a_waiting_escrow_grows(world, renter):
    escrow = open_escrow(world, renter, own_escrow(world, renter))
    before = read(world, escrow)
    (event,) = extend(world, escrow, 7, 9)
    account = read(world, escrow)
    assert event == EscrowExtendedEvent(
        world.build.escrow_address(escrow), 7, 9, before.deposit + 7, before.max_time + 9
    )
    assert (account.deposit, account.max_time) == (before.deposit + 7, before.max_time + 9)
    assert account.attempt == before.attempt
    assert account.assign_by == before.assign_by
    assert world.vault(renter).locked == DEPOSIT + 7


def test_a_running_attempt_may_cost_more_and_take_longer(world, renter, node):
    escrow = open_escrow(world, renter, own_escrow(world, renter))
    assign(world, escrow, node)
    world.pass_ms(120_000)
    with refused("BilledBeyondMaximum"):
        settle(world, escrow, node, voucher(world, escrow, node, 1, DEPOSIT + 20_000))
    extend(world, escrow, 0, 20_000, node=node)
    with refused("AmountBeyondExposure"):
        settle(world, escrow, node, voucher(world, escrow, node, 1, DEPOSIT + 20_000))
    extend(world, escrow, 30_000, node=node)
    assert read(world, escrow).attempt.exposure == DEPOSIT + 30_000
    assert world.node(node.key).exposure == DEPOSIT + 30_000
    assert world.vault(renter).locked == DEPOSIT + 30_000
    finish(world, escrow, node, 1, DEPOSIT + 20_000)
    # the rest comes back, and nothing of it stays on the node
    assert (world.vault(renter).locked, world.node(node.key).exposure) == (0, 0)
    assert world.tokens(world.vault_tokens(renter.pubkey())) == 9 * DEPOSIT - 20_000


def test_what_is_added_is_there_for_the_next_attempt(world, renter, node):
    escrow = open_escrow(world, renter, own_escrow(world, renter))
    assign(world, escrow, node)
    world.pass_ms(1_000)
    settle(world, escrow, node, voucher(world, escrow, node, 1, 1_000, state=VoucherState.ENDED, reason=1))
    extend(world, escrow, 500, node=node)  # a node is not looked at where none runs
    assert world.node(node.key).exposure == 0
    assign(world, escrow, node)
    assert read(world, escrow).attempt.exposure == DEPOSIT - 1_000 + 500


def test_beside_a_contest_the_deposit_grows_and_the_reserve_stays(world, renter, node):
    escrow = open_escrow(world, renter, own_escrow(world, renter))
    assign(world, escrow, node)
    world.pass_ms(3_000)
    quit_attempt(world, escrow, node, voucher(world, escrow, node, 1, 3_000))
    reserve = read(world, escrow).contest.attempt.exposure
    extend(world, escrow, 500)
    assert read(world, escrow).contest.attempt.exposure == reserve == PARAMS.skew
    end_contest(world, escrow, node)
    cancel(world, escrow, renter)
    assert world.vault(renter).locked == 0


def test_nothing_is_no_extension(world, renter):
    escrow = open_escrow(world, renter, own_escrow(world, renter))
    with refused("AmountZero"):
        extend(world, escrow, 0, 0)


def test_only_the_opener_extends(world, renter):
    grant(world, renter)
    own = open_escrow(world, renter, own_escrow(world, renter, 1))
    markets = open_escrow(world, renter, market_escrow(world, renter, 1))
    stranger = world.renter("stranger")
    for escrow, others in ((own, (world.matcher, stranger)), (markets, (renter, world.meter, stranger))):
        for who in others:
            with refused("NotOpener"):
                extend(world, escrow, 1, signer=who)
    extend(world, own, 1)
    extend(world, markets, 1)


def test_line_18_a_former_matcher_extends_nothing(world, renter):
    grant(world, renter)
    escrow = open_escrow(world, renter, market_escrow(world, renter))
    former, matcher = world.matcher, key("new matcher")
    world.svm.airdrop(matcher.pubkey(), 10**9)
    world.send(
        world.build.rotate_keys(world.authority.pubkey(), matcher.pubkey(), world.meter.pubkey()),
        signers=[world.authority],
    )
    with refused("NotOpener"):
        extend(world, escrow, 1, signer=former)
    extend(world, escrow, 1, signer=matcher)


def test_line_18_an_extension_counts_against_every_cap(world, renter):
    grant(world, renter, escrow_cap=DEPOSIT + 100, day_cap=2 * DEPOSIT + 150, total_cap=3 * DEPOSIT)
    first = open_escrow(world, renter, market_escrow(world, renter, 1))
    with refused("EscrowCapExceeded"):
        extend(world, first, 101)
    extend(world, first, 100)
    allowance = world.allowance(renter)
    assert (allowance.day_used, allowance.total_used) == (DEPOSIT + 100, DEPOSIT + 100)
    second = open_escrow(world, renter, market_escrow(world, renter, 2))
    with refused("DayCapExceeded"):
        extend(world, second, 51)
    extend(world, second, 50)
    world.pass_ms(DAY)
    # another day: only the total is left to bound it
    grant(world, renter, escrow_cap=10 * DEPOSIT, day_cap=10 * DEPOSIT, total_cap=2 * DEPOSIT + 160)
    with refused("TotalCapExceeded"):
        extend(world, second, 11)
    extend(world, second, 10)
    allowance = world.allowance(renter)
    assert (allowance.day_used, allowance.total_used) == (10, 2 * DEPOSIT + 160)
    # what comes back returns to the total, and not to another day's use
    cancel(world, first, world.matcher)
    cancel(world, second, world.matcher)
    allowance = world.allowance(renter)
    assert (allowance.day_used, allowance.total_used) == (10, 0)


def test_line_18_a_revoked_or_expired_allowance_extends_nothing(world, renter):
    grant(world, renter, expires_at_ms=world.chain_ms + 60_000)
    escrow = open_escrow(world, renter, market_escrow(world, renter))
    world.pass_ms(60_000)
    with refused("AllowanceExpired"):
        extend(world, escrow, 1)
    with refused("AllowanceExpired"):
        extend(world, escrow, 0, 1)
    grant(world, renter)
    world.send(world.build.revoke_allowance(renter.pubkey(), world.market), signers=[renter])
    with refused("AllowanceRevoked"):
        extend(world, escrow, 1)


def test_line_18_an_extension_takes_the_escrow_s_own_allowance(world, renter):
    other = world.renter("other", vault=DEPOSIT)
    for who in (renter, other):
        grant(world, who)
    escrow = open_escrow(world, renter, market_escrow(world, renter))
    own = open_escrow(world, renter, own_escrow(world, renter, 2))
    theirs = world.build.addresses.allowance(other.pubkey(), world.market)
    mine = world.build.addresses.allowance(renter.pubkey(), world.market)
    with refused("WrongAllowance"):
        extend(world, escrow, 1, allowance=theirs)
    with refused("AllowanceMissing"):
        extend(world, escrow, 1, allowance=None)
    with refused("AllowanceUnexpected"):
        extend(world, own, 1, allowance=mine)


def test_what_is_not_free_is_not_added(world, renter):
    escrow = open_escrow(world, renter, own_escrow(world, renter))
    with refused("InsufficientFunds"):
        extend(world, escrow, 9 * DEPOSIT + 1)
    with refused("MathOverflow"):
        extend(world, escrow, 2**64 - 1)
    extend(world, escrow, 9 * DEPOSIT)
    assert world.vault(renter).locked == 10 * DEPOSIT


def test_an_escrow_s_time_keeps_its_upper_bound(world, renter):
    escrow = open_escrow(world, renter, own_escrow(world, renter))
    with refused("DurationOutOfBounds"):
        extend(world, escrow, 0, TEN_YEARS - DEPOSIT + 1)
    with refused("MathOverflow"):
        extend(world, escrow, 0, 2**64 - 1)
    extend(world, escrow, 0, TEN_YEARS - DEPOSIT)


def test_a_cancelled_or_closing_escrow_does_not_grow(world, renter, node):
    stopping = open_escrow(world, renter, own_escrow(world, renter, 1))
    closing = open_escrow(world, renter, own_escrow(world, renter, 2))
    for escrow in (stopping, closing):
        assign(world, escrow, node)
    cancel(world, stopping, renter)
    with refused("EscrowIsStopping"):
        extend(world, stopping, 1, node=node)
    quit_attempt(world, closing, node)
    cancel(world, closing, renter)
    with refused("EscrowIsClosing"):
        extend(world, closing, 1)


def test_a_running_attempt_s_node_covers_what_is_added(world, node):
    """10 x 50 units of stake are 500 units of payment: exactly as much and not one more."""
    limit = PARAMS.exposure_multiple * BOND
    renter = world.renter("renter", payment=2 * limit, vault=2 * limit)
    escrow = open_escrow(world, renter, own_escrow(world, renter))
    assign(world, escrow, node)
    with refused("ExposureExceeded"):
        extend(world, escrow, limit - DEPOSIT + 1, node=node)
    extend(world, escrow, limit - DEPOSIT, node=node)
    assert world.node(node.key).exposure == limit
    with refused("ExposureExceeded"):
        extend(world, escrow, 1, node=node)
    # time alone puts nothing more at stake, even where the stake has shrunk since
    pool = world.build.addresses.pool(node.address(world))
    world.write("Pool", pool, {"active_stake": BOND - 1})
    extend(world, escrow, 0, 1, node=node)


def test_a_running_attempt_is_extended_with_its_own_node_and_pool(world, renter, node):
    other = new_node(world, "other")
    escrow = open_escrow(world, renter, own_escrow(world, renter))
    assign(world, escrow, node)
    with refused("WrongNode"):
        extend(world, escrow, 1)
    with refused("WrongNode"):
        extend(world, escrow, 1, node=other)
    with refused("WrongPool"):
        extend(world, escrow, 1, node=node, pool=world.build.addresses.pool(other.address(world)))
    with refused("WrongPool"):
        extend(world, escrow, 0, 1, node=node, pool=None)


def test_an_extension_takes_only_accounts_that_belong_together(world, renter):
    other = world.renter("other", vault=DEPOSIT)
    escrow = open_escrow(world, renter, own_escrow(world, renter))
    with refused("WrongVault"):
        extend(world, escrow, 1, vault=world.build.addresses.vault(other.pubkey()))
    with refused("WrongTokenAccount"):
        extend(world, escrow, 1, vault_tokens=world.vault_tokens(other.pubkey()))
    rival = key("rival")
    world.svm.airdrop(rival.pubkey(), 10**10)
    world.send(
        world.build.register_market(rival.pubkey(), rival.pubkey(), key("m1").pubkey(), key("m2").pubkey(), 0),
        signers=[rival],
    )
    with refused("WrongMarket"):
        extend(world, escrow, 1, market=world.build.addresses.market(rival.pubkey()))


def test_line_16_extending_is_a_way_in(world, renter):
    escrow = open_escrow(world, renter, own_escrow(world, renter))
    world.send(world.build.set_pause(ADMIN.pubkey(), 2), signers=[ADMIN])
    with refused("Paused"):
        extend(world, escrow, 1)
    cancel(world, escrow, renter)
