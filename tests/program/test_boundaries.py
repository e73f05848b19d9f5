"""Exact bounds, overflows and odd orders: what a number at its edge may neither steal nor block."""

import struct
from dataclasses import replace

import pytest
from solders.account import Account
from solders.instruction import Instruction

from marketplace.chain.accounts import EscrowState
from marketplace.chain.ed25519 import ED25519_PROGRAM
from marketplace.chain.events import (
    ContestClosedEvent,
    ContestedEvent,
    EscrowClosedEvent,
    ReleasedEvent,
    SettledEvent,
)
from marketplace.protocol.vouchers import VoucherState
from tests.program.flows import (
    DEPOSIT,
    FEES,
    PRICE,
    Node,
    assign,
    cancel,
    claim,
    close_contest,
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
    reap,
    release,
    send,
    settle,
    terms,
    voucher,
)
from tests.program.world import (
    ADMIN,
    BOND,
    CPU,
    EPOCH_MS,
    HOUR,
    PARAMS,
    bare_world,
    key,
    new_world,
    refused,
    with_account,
    with_args,
)

U64 = 2**64 - 1


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


def of(kind, events):
    return [e for e in events if isinstance(e, kind)]


# --- vouchers


def test_line_12_a_voucher_has_a_sequence_a_known_state_and_a_known_reason(world, node, running):
    world.pass_ms(2_000)
    for changes, name in (
        ({"sequence": 0}, "VoucherMissing"),
        ({"state": 0}, "VoucherStateUnknown"),
        ({"state": 4}, "VoucherStateUnknown"),
        ({"reason": 36}, "ReasonNotAllowed"),
    ):
        right = world.build.settle(
            running, node.ref(world), world.meter.pubkey(), voucher(world, running, node, 1, 1_000)
        )
        arguments = replace(right.call.args.voucher, **changes)
        with refused(name):
            world.send(*right.checks, with_args(right.call, voucher=arguments), signers=[world.meter])


def test_line_12_one_millisecond_beyond_the_clocks_difference_is_too_much(world, node, running):
    world.pass_ms(10_000)
    now, assigned = world.chain_ms, read(world, running).attempt.assigned_at
    with refused("VoucherFromFuture"):
        settle(world, running, node, voucher(world, running, node, 1, 0, at_ms=now + PARAMS.skew + 1))
    early = assigned - PARAMS.skew
    with refused("StartTooEarly"):
        settle(world, running, node, voucher(world, running, node, 1, 0, started_at_ms=early - 1))
    edge = voucher(world, running, node, 1, 0, started_at_ms=early, at_ms=now + PARAMS.skew)
    settle(world, running, node, edge)


def test_line_11_an_attempt_that_was_never_there(world, renter, node, running):
    world.pass_ms(1_000)
    approved = world.build.settle(
        running, node.ref(world), world.meter.pubkey(), voucher(world, running, node, 1, 1_000)
    )
    for attempt in (0, 2):
        with refused("WrongAttempt"):
            world.send(*approved.checks, with_args(approved.call, attempt=attempt), signers=[world.meter])


def test_line_22_after_an_attempt_s_end_only_its_unchanged_final_voucher_closes(world, renter, node, running):
    world.pass_ms(10_000)
    settle(world, running, node, voucher(world, running, node, 1, 5_000, state=VoucherState.ENDED, reason=20))
    again = voucher(world, running, node, 2, 5_000, state=VoucherState.ENDED, reason=20)
    with refused("EscrowNotAssigned"):
        settle(world, running, node, again)
    for billed in (4_999, 5_001):
        with refused("FinalAmountChanged"):
            finish(world, running, node, 2, billed)
    settled = finish(world, running, node, 2, 5_000)
    assert of(SettledEvent, settled)[0].paid == 0
    assert of(EscrowClosedEvent, settled)[0].refunded == DEPOSIT - 5_000
    # counted once
    assert world.node(node.key).attempts_well == 1
    assert world.vault(renter).locked == 0


def test_line_22_a_final_voucher_of_the_contested_attempt_closes_unless_another_runs(world, renter, node, running):
    world.pass_ms(10_000)
    early = voucher(world, running, node, 1, 8_000)
    world.pass_ms(PARAMS.lost_after)
    last = voucher(world, running, node, 2, 12_000, state=VoucherState.FINAL, reason=1)
    later = replace(last, message=replace(last.message, sequence=3))
    raw = later.message.signing_bytes()
    later = replace(later, node_signature=node.key.sign_message(raw), counter_signature=world.meter.sign_message(raw))
    release(world, running, node, early)
    second = new_node(world, "second")
    assign(world, running, second)
    assert not of(EscrowClosedEvent, settle(world, running, node, last))
    assert read(world, running).state == EscrowState.ASSIGNED
    settle(world, running, second, voucher(world, running, second, 1, 0, state=VoucherState.ENDED, reason=20))
    closed = of(EscrowClosedEvent, settle(world, running, node, later))[0]
    assert closed.contested
    assert read(world, running).state == EscrowState.CLOSING
    with refused("EscrowIsClosing"):
        settle(world, running, node, later)
    end_contest(world, running, node)
    assert world.vault(renter).locked == 0


def test_line_22_a_contested_attempt_s_own_final_amount_is_kept_behind_the_contest(world, renter, node, running):
    world.pass_ms(10_000)
    early = voucher(world, running, node, 1, 8_000)
    world.pass_ms(PARAMS.lost_after)
    late = voucher(world, running, node, 2, 12_000)
    release(world, running, node, early)
    contest(world, running, node, late)
    end_contest(world, running, node)
    assert read(world, running).attempt.amount == 12_000
    with refused("FinalAmountChanged"):
        finish(world, running, node, 3, 8_000, at_ms=world.chain_ms)
    finish(world, running, node, 3, 12_000)
    assert world.tokens(world.vault_tokens(renter.pubkey())) == 10 * DEPOSIT - 12_000


def test_the_same_voucher_is_settled_once(world, node, running):
    world.pass_ms(1_000)
    same = voucher(world, running, node, 1, 1_000)
    settle(world, running, node, same)
    with refused("SequenceNotHigher"):
        settle(world, running, node, same)


def test_line_10_who_submits_approves_only_for_itself(world, renter, node, running):
    """255 in an approval's place says "the submitter": it must be the very key that is asked for."""
    world.pass_ms(2_000)
    signed = voucher(world, running, node, 1, 1_000)
    by_meter = world.build.settle(running, node.ref(world), world.meter.pubkey(), signed)
    assert by_meter.call.args.voucher.counter_approval == 255
    for who, approvals in (
        (world.meter, {"node_approval": 255}),
        (world.payer, {"node_approval": 255, "counter_approval": 255}),
        (renter, {"node_approval": 255, "counter_approval": 255}),
        (world.payer, {"counter_approval": 255}),
    ):
        call = with_args(by_meter.call, voucher=replace(by_meter.call.args.voucher, **approvals))
        with refused("ApprovalWrongKey"):
            world.send(*by_meter.checks, with_account(call, submitter=who.pubkey()), signers=[who])
    # the node for the node, the wallet for the countersignature
    world.svm.airdrop(node.key.pubkey(), 10**9)
    settle(world, running, node, signed, submitter=node.key)
    settle(world, running, node, voucher(world, running, node, 2, 1_000, counter=renter), submitter=renter)
    escrow = open_escrow(world, renter, own_escrow(world, renter, 2))
    approved = world.build.assign(escrow, node.ref(world), world.matcher.pubkey(), claim(world, escrow, node))
    with refused("ApprovalWrongKey"):
        world.send(with_args(approved.call, claim_approval=255), signers=[world.matcher])


def ed25519(key_bytes, signature, message, *, count=1, length=None):
    """An instruction of the precompile with `count` entries, all for the same bytes; length: of the message it checks."""
    at = 2 + 14 * count
    entry = struct.pack("<7H", at + 32, 0xFFFF, at, 0xFFFF, at + 96, len(message) if length is None else length, 0xFFFF)
    data = bytes([count, 0]) + entry * count + key_bytes + signature + message
    return Instruction(ED25519_PROGRAM, data, [])


def test_line_10_exactly_one_signature_over_exactly_the_whole_message(world, node, running):
    """Both are good signatures to the precompile, and no approval to the program."""
    world.pass_ms(2_000)
    signed = voucher(world, running, node, 1, 1_000)
    call = world.build.settle(running, node.ref(world), world.meter.pubkey(), signed).call
    whole = signed.message.signing_bytes()
    who = bytes(node.key.pubkey())
    twice = ed25519(who, bytes(node.key.sign_message(whole)), whole, count=2)
    prefix = ed25519(who, bytes(node.key.sign_message(whole[:-1])), whole, length=len(whole) - 1)
    longer = ed25519(who, bytes(node.key.sign_message(whole + b"x")), whole + b"x")
    for check in (twice, prefix, longer):
        with refused("ApprovalMalformed"):
            world.send(check, call, signers=[world.meter])
    world.send(ed25519(who, bytes(node.key.sign_message(whole)), whole), call, signers=[world.meter])


# --- one-sided ends


def test_line_22_the_matcher_shows_no_voucher(world, node, running):
    world.pass_ms(2_000)
    with refused("VoucherUnexpected"):
        release(world, running, node, voucher(world, running, node, 1, 1_000), reason=8, submitter=world.matcher)


def test_line_22_a_meter_releases_for_silence_only(world, node, running):
    world.pass_ms(PARAMS.lost_after)
    for reason in (0, 1, 6, 11, 17, 19, 32):
        with refused("ReasonNotAllowed"):
            release(world, running, node, reason=reason)
    release(world, running, node, reason=31)


def rotate(world, matcher, meter):
    call = world.build.rotate_keys(world.authority.pubkey(), matcher.pubkey(), meter.pubkey())
    world.send(call, signers=[world.authority])


def test_line_24_vouchers_and_releases_of_the_former_meter_stay_good(world, renter, node, running):
    former, present = world.meter, key("new meter")
    world.svm.airdrop(present.pubkey(), 10**9)
    rotate(world, key("new matcher"), present)
    world.pass_ms(2_000)
    with refused("ApprovalWrongKey"):
        settle(world, running, node, voucher(world, running, node, 1, 1_000, counter=present))
    settle(world, running, node, voucher(world, running, node, 1, 1_000, counter=former))
    assert world.node(node.key).amount_well == 0
    second = open_escrow(world, renter, own_escrow(world, renter, 2))
    with refused("NotMatcher"):
        assign(world, second, node)
    with refused("NotOpener"):
        cancel(world, second, world.matcher)
    rotate(world, world.matcher, present)
    assign(world, second, node)
    assert read(world, second).attempt.meter == present.pubkey()
    world.pass_ms(PARAMS.lost_after)
    release(world, running, node, submitter=former)
    with refused("NotReleaser"):
        release(world, second, node, submitter=former)
    # the market's meter of the moment releases what was assigned under the former one, too
    end_contest(world, running, node)
    third = open_escrow(world, renter, own_escrow(world, renter, 3))
    assign(world, third, new_node(world, "third"))
    rotate(world, world.matcher, former)
    world.pass_ms(PARAMS.lost_after)
    release(world, third, node_of(world, "third"), submitter=former)


def node_of(world, name):
    return Node(key(f"operator {name}"), key(f"node {name}"))


def test_the_matcher_cancels_what_the_wallet_opened(world, renter, node, running):
    """What a rotated-in matcher does to escrows of a stolen one."""
    cancel(world, running, world.matcher)
    assert read(world, running).stop_at == world.chain_ms + PARAMS.stop_after
    waiting = open_escrow(world, renter, own_escrow(world, renter, 2))
    cancel(world, waiting, world.matcher)
    assert world.vault(renter).locked == DEPOSIT


def test_line_18_a_former_matcher_neither_opens_nor_assigns(world, renter, node):
    grant(world, renter)
    escrow = open_escrow(world, renter, market_escrow(world, renter))
    rotate(world, key("new matcher"), world.meter)
    with refused("NotMatcher"):
        open_escrow(world, renter, market_escrow(world, renter, 2))
    with refused("NotMatcher"):
        assign(world, escrow, node)


def test_line_24_a_new_fee_counts_from_the_next_attempt(world, renter, node, running):
    world.send(world.build.set_fee(world.authority.pubkey(), 900), signers=[world.authority])
    world.pass_ms(PARAMS.fee_delay)
    settled = of(SettledEvent, settle(
        world, running, node, voucher(world, running, node, 1, 10_000, state=VoucherState.ENDED, reason=20)
    ))[0]  # fmt: skip
    assert settled.market + settled.stakers + settled.protocol == 10_000 * FEES // 10_000
    with refused("ApprovalWrongMessage"):
        # the claim was for the former fee: the node is asked again
        approved = world.build.assign(running, node.ref(world), world.matcher.pubkey(), claim(world, running, node))
        send(world, approved, world.matcher)
    assign(world, running, node, fee_bps=1_000)
    world.pass_ms(10_000)
    settled = of(SettledEvent, finish(world, running, node, 1, 10_000))[0]
    assert settled.market + settled.stakers + settled.protocol == 1_000


def test_line_22_only_the_meter_s_word_decides_a_quit(world, renter, node, running):
    """A later voucher that only the wallet countersigned moves the clock of the reserve, not that of the loss."""
    world.pass_ms(2_000)
    settle(world, running, node, voucher(world, running, node, 1, 1_000))
    world.pass_ms(3 * PARAMS.lost_after - 2_000)
    settle(world, running, node, voucher(world, running, node, 2, 2_000, counter=renter))
    world.pass_ms(2_000)
    released = of(ReleasedEvent, quit_attempt(world, running, node))[0]
    assert not released.loss, "the meter was silent for three times lost_after"
    assert released.reserve == 2_000 + PARAMS.skew


def test_line_22_a_quit_is_a_loss_until_the_market_was_silent_three_times_as_long(world, node, running):
    world.pass_ms(2_000)
    last = voucher(world, running, node, 1, 1_000)
    world.pass_ms(3 * PARAMS.lost_after - 1_000)
    assert of(ReleasedEvent, quit_attempt(world, running, node, last))[0].loss


def test_line_22_a_quit_is_decided_anew_by_a_later_voucher(world, renter, node, running):
    """A node that hides its last voucher to look abandoned is contested with it."""
    world.pass_ms(2_000)
    old = voucher(world, running, node, 1, 1_000)
    world.pass_ms(3 * PARAMS.lost_after - 3_000)
    recent = voucher(world, running, node, 2, 10_000)
    world.pass_ms(3_000)
    assert not of(ReleasedEvent, quit_attempt(world, running, node, old))[0].loss
    contested = of(ContestedEvent, contest(world, running, node, recent))[0]
    assert contested.loss
    assert contested.compensation == 2_000 == world.node(node.key).held
    assert of(ContestClosedEvent, end_contest(world, running, node))[0].compensation == 2_000


def test_line_22_a_reaped_attempt_is_never_a_loss_whatever_is_shown(world, renter, node, running):
    world.pass_ms(10_000)
    last = voucher(world, running, node, 1, 10_000)
    world.pass_ms(PARAMS.ready_limit + DEPOSIT + PARAMS.reap_grace)
    reap(world, running, node)
    contest(world, running, node, last)
    assert not read(world, running).contest.loss
    closed = of(ContestClosedEvent, end_contest(world, running, node))[0]
    assert (closed.loss, closed.compensation, closed.refunded) == (False, 0, True)
    assert world.tokens(world.vault_tokens(renter.pubkey())) == 10 * DEPOSIT - 10_000
    # it counts, since the meter signed for it
    assert world.node(node.key).amount_well == 10_000


def test_line_22_reaping_waits_for_the_stop_or_for_the_last_possible_moment(world, renter, node):
    escrow = open_escrow(world, renter, own_escrow(world, renter), max_time_ms=HOUR)
    assign(world, escrow, node)
    cancel(world, escrow, renter)
    world.pass_ms(PARAMS.stop_after + PARAMS.reap_grace)
    with refused("ReapTooEarly"):
        reap(world, escrow, node)
    world.pass_ms(1_000)
    reap(world, escrow, node)


def test_line_22_reaping_counts_only_the_time_that_is_left_after_a_failover(world, renter, node, running):
    world.pass_ms(60_000)
    settle(world, running, node, voucher(world, running, node, 1, 60_000, state=VoucherState.ENDED, reason=20))
    second = new_node(world, "second")
    assign(world, running, second)
    world.pass_ms(PARAMS.ready_limit + DEPOSIT - 60_000 + PARAMS.reap_grace)
    with refused("ReapTooEarly"):
        reap(world, running, second)
    world.pass_ms(1_000)
    reap(world, running, second)


def test_line_17_reap_waits_for_an_open_contest_and_then_goes_on(world, renter, node, running):
    world.pass_ms(PARAMS.lost_after)
    release(world, running, node)
    second = new_node(world, "second")
    assign(world, running, second)
    world.pass_ms(PARAMS.ready_limit + DEPOSIT + PARAMS.reap_grace + 1_000)
    with refused("ContestBusy"):
        reap(world, running, second)
    close_contest(world, running, node)
    reap(world, running, second)
    end_contest(world, running, second)
    assert world.vault(renter).locked == 0


def test_line_22_a_reserve_is_rounded_up(world, renter, node):
    escrow = open_escrow(world, renter, own_escrow(world, renter), ceiling_price=PRICE // 3_600)
    assign(world, escrow, node)
    world.pass_ms(PARAMS.lost_after + 1_000)
    # a unit in 3,600 ms: 9 s of silence and skew are two and a half
    assert of(ReleasedEvent, release(world, escrow, node))[0].reserve == 3


def test_line_22_the_matcher_s_release_is_no_loss_after_any_silence(world, node, running):
    world.pass_ms(2 * PARAMS.lost_after)
    released = of(ReleasedEvent, release(world, running, node, reason=8, submitter=world.matcher))[0]
    assert (released.loss, released.compensation) == (False, 0)
    assert not read(world, running).contest.loss


def test_line_22_the_window_is_open_to_its_last_second(world, node, running):
    world.pass_ms(2_000)
    early = voucher(world, running, node, 1, 1_000)
    world.pass_ms(PARAMS.lost_after)
    late = voucher(world, running, node, 2, 1_500)
    release(world, running, node, early)
    world.pass_ms(PARAMS.contest)
    with refused("ContestWindowOpen"):
        close_contest(world, running, node)
    contest(world, running, node, late)
    world.pass_ms(1_000)
    close_contest(world, running, node)


def test_line_22_another_node_ends_nobody_s_attempt_without_a_voucher_either(world, renter, node, running):
    """Without a voucher only this link says whose attempt ends, and whose bond is at stake."""
    other = new_node(world, "other")
    # so that its books could bear the end of the wrong attempt
    assign(world, open_escrow(world, renter, own_escrow(world, renter, 2)), other)
    world.pass_ms(PARAMS.lost_after)
    with refused("WrongNode"):
        release(world, running, other)
    with refused("WrongNode"):
        release(world, running, other, reason=8, submitter=world.matcher)
    with refused("WrongNode"):
        quit_attempt(world, running, other)


def test_line_12_what_a_vault_is_short_of_is_never_paid(world, renter, node, running):
    """No instruction makes such a state: the last check stands for what we didn't think of."""
    vault = world.build.addresses.vault(renter.pubkey())
    payment = world.build.deployment.payment_mint
    world.put_token(world.vault_tokens(renter.pubkey()), payment, vault, DEPOSIT - 1)
    world.pass_ms(1_000)
    with refused("ConservationBroken"):
        settle(world, running, node, voucher(world, running, node, 1, 1_000))


def test_line_12_what_a_pool_is_short_of_is_never_taken(world, renter, node, running):
    world.pass_ms(10_000)
    signed = voucher(world, running, node, 1, 10_000)
    world.pass_ms(PARAMS.lost_after)
    release(world, running, node, signed)
    pool = world.build.addresses.pool(node.address(world))
    world.put_token(world.pool(node.key).stake_vault, world.build.deployment.stake_mint, pool, BOND - 1)
    with refused("ConservationBroken"):
        end_contest(world, running, node)


# --- compensation


def test_line_25_what_is_held_for_one_loss_is_not_held_for_another():
    world = new_world(params=replace(PARAMS, slash_cap_bps=10_000, compensation_bps=10_000))
    rich = world.renter("rich", payment=10**12, vault=10**11)
    node = new_node(world, bond=2 * BOND)
    escrows = []
    for nonce in (1, 2):
        escrow = open_escrow(
            world, rich, own_escrow(world, rich, nonce), deposit=8 * BOND, ceiling_price=1_000 * PRICE, max_time_ms=HOUR
        )
        assign(world, escrow, node)
        escrows.append(escrow)
    world.pass_ms(80_000)
    shown = [voucher(world, escrow, node, 1, 80_000) for escrow in escrows]
    world.pass_ms(PARAMS.lost_after)
    noted = [
        of(ReleasedEvent, release(world, escrow, node, signed))[0].compensation
        for escrow, signed in zip(escrows, shown, strict=True)
    ]
    assert noted == [80_000_000, 2 * BOND - 80_000_000]
    world.pass_ms(PARAMS.contest + 1_000)
    for escrow in escrows:
        close_contest(world, escrow, node)
    assert world.vault(rich).compensation_owed == 2 * BOND
    world.send(world.build.claim_compensation(rich.pubkey()), signers=[rich])
    with refused("NothingOwed"):
        world.send(world.build.claim_compensation(rich.pubkey()), signers=[rich])
    assert world.tokens(world.stake_account(rich.pubkey())) == 2 * BOND


def test_line_25_two_losses_at_once_hold_no_more_than_the_cap_and_each_gets_what_is_left(world):
    rich = world.renter("rich", payment=10**12, vault=10**11)
    node = new_node(world, bond=2 * BOND)
    escrows = []
    for nonce in (1, 2):
        escrow = open_escrow(
            world, rich, own_escrow(world, rich, nonce),
            deposit=8 * BOND, ceiling_price=1_000 * PRICE, max_time_ms=HOUR,
        )  # fmt: skip
        assign(world, escrow, node)
        escrows.append(escrow)
    world.pass_ms(380_000)
    shown = [voucher(world, escrow, node, 1, 380_000) for escrow in escrows]
    world.pass_ms(PARAMS.lost_after)
    noted = []
    for escrow, signed in zip(escrows, shown, strict=True):
        noted.append(of(ReleasedEvent, release(world, escrow, node, signed))[0].compensation)
    # a fifth of 380,000,000 each, of a bond of 100,000,000 of which half may go in an epoch
    assert noted == [BOND, BOND]
    assert world.node(node.key).held == 2 * BOND
    world.pass_ms(PARAMS.contest + 1_000)
    taken = [of(ContestClosedEvent, close_contest(world, escrow, node))[0].compensation for escrow in escrows]
    assert taken == [BOND, 0]
    slot = max(world.node(node.key).epochs, key=lambda slot: slot.epoch)
    assert (slot.compensated, slot.lost) == (BOND, 2 * 380_000_000)
    assert world.vault(rich).compensation_owed == BOND
    assert world.node(node.key).held == 0
    with refused("SlashCapReached"):
        # half of the bond is left, which is the class bond: the epoch's cap stands in the way
        assign(world, open_escrow(world, rich, own_escrow(world, rich, 3)), node)


def test_the_rate_turns_payment_into_stake_and_back():
    world = new_world(params=replace(PARAMS, exposure_rate=2_000_000))
    renter, node = world.renter("renter", payment=10**12, vault=10**11), new_node(world)
    escrow = open_escrow(world, renter, own_escrow(world, renter), deposit=20 * BOND, max_time_ms=HOUR)
    assign(world, escrow, node)
    with refused("ExposureExceeded"):
        assign(world, open_escrow(world, renter, own_escrow(world, renter, 2), deposit=1_000), node)
    world.pass_ms(10_000)
    signed = voucher(world, escrow, node, 1, 10_000)
    world.pass_ms(PARAMS.lost_after)
    # a fifth of 10,000 payment units, at two for a stake unit
    assert of(ReleasedEvent, release(world, escrow, node, signed))[0].compensation == 1_000


def test_a_compensation_beyond_64_bits_is_the_whole_bond_and_blocks_nothing():
    params = replace(PARAMS, exposure_rate=1, exposure_multiple=1_000, compensation_bps=10_000, slash_cap_bps=10_000)
    world = new_world(params=params)
    paid = 2 * 10**13
    renter = world.renter("renter", payment=10 * paid, vault=5 * paid)
    bond = 10**18
    world.fund(key("operator n").pubkey(), stake=bond)
    operator, node_key = key("operator n"), key("node n")
    world.send(
        world.build.register_node(operator.pubkey(), node_key.pubkey(), world.market, CPU, bond, 0),
        signers=[operator, node_key],
    )
    node = Node(operator, node_key)
    price = paid * HOUR // 1_000
    escrow = open_escrow(world, renter, own_escrow(world, renter), deposit=2 * paid, ceiling_price=price)
    assign(world, escrow, node)
    world.pass_ms(1_000)
    signed = voucher(world, escrow, node, 1, 1_000)
    world.pass_ms(PARAMS.lost_after)
    released = of(ReleasedEvent, release(world, escrow, node, signed))[0]
    assert released.compensation == bond
    closed = of(ContestClosedEvent, end_contest(world, escrow, node))[0]
    assert closed.compensation == bond
    pool = world.pool(node_key)
    assert (pool.active_stake, pool.bond_shares, pool.active_shares) == (0, 0, 0)
    cancel(world, escrow, renter)
    assert world.vault(renter).locked == 0


def test_a_compensation_leaves_the_operator_what_its_shares_had_earned(world, renter):
    node = new_node(world, bond=BOND)
    escrow = open_escrow(world, renter, own_escrow(world, renter))
    assign(world, escrow, node)
    world.pass_ms(50_000)
    signed = voucher(world, escrow, node, 1, 50_000)
    world.pass_ms(PARAMS.lost_after)
    release(world, escrow, node, signed)
    before = world.pool(node.key)
    end_contest(world, escrow, node)
    position, pool = world.position(node.key, node.operator), world.pool(node.key)
    assert position.shares < before.bond_shares
    assert position.fees_earned == before.bond_shares * before.fees >> 64
    assert 999 <= position.fees_earned <= 1_000
    assert position.fees_paid == pool.fees
    # the same before more is bonded
    second = open_escrow(world, renter, own_escrow(world, renter, 2))
    world.send(world.build.bond(node.operator.pubkey(), node.key.pubkey(), BOND), signers=[node.operator])
    assign(world, second, node)
    world.pass_ms(50_000)
    finish(world, second, node, 1, 50_000)
    pool = world.pool(node.key)
    earned = position.fees_earned + (pool.bond_shares * (pool.fees - position.fees_paid) >> 64)
    world.send(world.build.bond(node.operator.pubkey(), node.key.pubkey(), BOND), signers=[node.operator])
    assert world.position(node.key, node.operator).fees_earned == earned
    assert 1_998 <= earned <= 2_000


def test_a_compensation_burns_shares_rounded_against_the_operator(world, renter, node, running):
    pool = world.build.addresses.pool(node.address(world))
    world.pass_ms(10_000)
    signed = voucher(world, running, node, 1, 10_000)
    world.pass_ms(PARAMS.lost_after)
    release(world, running, node, signed)
    # as an over-claim's slash would leave it: less stake for the same shares
    stake = BOND * 3 // 7
    world.write("Pool", pool, {"active_stake": stake})
    world.put_token(world.pool(node.key).stake_vault, world.build.deployment.stake_mint, pool, stake)
    closed = of(ContestClosedEvent, end_contest(world, running, node))[0]
    assert closed.compensation == 2_000
    assert 2_000 * (BOND + 1) % (stake + 1) != 0
    assert closed.burned == 2_000 * (BOND + 1) // (stake + 1) + 1
    assert world.position(node.key, node.operator).shares == world.pool(node.key).bond_shares == BOND - closed.burned


def test_a_pool_without_shares_earns_nothing_and_the_market_takes_its_part(world, renter, node, running):
    pool = world.build.addresses.pool(node.address(world))
    world.write("Pool", pool, {"active_stake": 0, "active_shares": 0, "bond_shares": 0})
    world.pass_ms(10_000)
    settled = of(SettledEvent, finish(world, running, node, 1, 10_000))[0]
    assert (settled.stakers, settled.market, settled.protocol) == (0, 400, 100)
    market = world.market_account()
    assert world.tokens(market.fee_vault) == market.market_owed + market.protocol_owed == 500


def test_line_20_a_commission_that_has_become_due_counts_from_the_next_booking(world, renter, node, running):
    pool = world.build.addresses.pool(node.address(world))
    world.write("Pool", pool, {"pending_commission_bps": 5_000, "pending_commission_at": world.chain_ms + 20_000})
    world.pass_ms(10_000)
    settle(world, running, node, voucher(world, running, node, 1, 10_000))
    assert (world.pool(node.key).fees_unclaimed, world.pool(node.key).commission_fees) == (200, 0)
    world.pass_ms(10_000)
    settle(world, running, node, voucher(world, running, node, 2, 20_000))
    after = world.pool(node.key)
    assert (after.fees_unclaimed, after.commission_fees, after.commission_bps) == (400, 100, 5_000)


# --- numbers at their end, and accounts that take nothing: everybody gets out


def test_line_17_a_price_without_bound_blocks_nobody_s_way_out(world, renter, node):
    escrow = open_escrow(world, renter, own_escrow(world, renter), ceiling_price=U64, max_time_ms=2 * HOUR)
    assign(world, escrow, node, price_per_hour=U64)
    world.pass_ms(HOUR + 10_000)
    with refused("MathOverflow"):
        settle(world, escrow, node, overflowing(world, escrow, node, HOUR + 1_000))
    with refused("AmountBeyondExposure"):
        settle(world, escrow, node, voucher(world, escrow, node, 1, 1))
    released = of(ReleasedEvent, release(world, escrow, node))[0]
    assert released.reserve == DEPOSIT
    assert world.node(node.key).exposure == DEPOSIT
    end_contest(world, escrow, node)
    assert world.node(node.key).exposure == 0
    assign(world, escrow, node, price_per_hour=U64)
    world.pass_ms(PARAMS.ready_limit + 2 * HOUR + PARAMS.reap_grace + 1_000)
    reap(world, escrow, node)
    end_contest(world, escrow, node)
    assert world.vault(renter).locked == 0
    assert world.node(node.key).attempts == 0


def overflowing(world, escrow, node, billed):
    """A voucher whose amount leaves 64 bits: no honest side can even write it."""
    signed = voucher(world, escrow, node, 1, 0)
    message = replace(signed.message, billed_ms=billed)
    raw = message.signing_bytes()
    return replace(
        signed,
        message=message,
        node_signature=node.key.sign_message(raw),
        counter_signature=world.meter.sign_message(raw),
    )


def test_nothing_left_is_nothing_to_assign(world, renter, node):
    escrow = open_escrow(world, renter, own_escrow(world, renter), deposit=5_000, max_time_ms=HOUR)
    assign(world, escrow, node)
    world.pass_ms(10_000)
    settle(world, escrow, node, voucher(world, escrow, node, 1, 5_000, state=VoucherState.ENDED, reason=20))
    with refused("NothingLeft"):
        assign(world, escrow, node)
    cancel(world, escrow, renter)


def test_the_time_to_assign_ends_with_the_queue_limit(world, renter, node):
    escrow = open_escrow(world, renter, own_escrow(world, renter))
    world.pass_ms(PARAMS.queue_limit)
    late = open_escrow(world, renter, own_escrow(world, renter, 2))
    assign(world, escrow, node)
    world.pass_ms(PARAMS.queue_limit + 1_000)
    with refused("AssignWindowPassed"):
        assign(world, late, node)


def test_line_21_a_claim_is_good_to_the_last_second_of_its_limit(world, renter, node):
    escrow = open_escrow(world, renter, own_escrow(world, renter))
    signed = claim(world, escrow, node)
    world.pass_ms(PARAMS.claim_limit)
    stale = claim(world, escrow, node, at_ms=world.chain_ms - PARAMS.claim_limit - 1)
    with refused("ClaimStale"):
        assign(world, escrow, node, stale)
    assign(world, escrow, node, signed)


def test_line_21_after_an_attempt_less_time_is_left_to_claim(world, renter, node, running):
    world.pass_ms(10_000)
    settle(world, running, node, voucher(world, running, node, 1, 10_000, state=VoucherState.ENDED, reason=20))
    with refused("TimeLeftTooShort"):
        assign(world, running, node, remaining_max_ms=DEPOSIT - 10_000 + 1)
    assign(world, running, node, remaining_max_ms=DEPOSIT - 10_000)


def test_an_escrow_s_time_and_attempts_have_an_upper_bound(world, renter):
    ten_years = 315_360_000_000
    for name, changes in (
        ("DurationOutOfBounds", {"max_time_ms": ten_years + 1}),
        ("DurationOutOfBounds", {"max_time_ms": U64}),
        ("AttemptsOutOfBounds", {"attempts_allowed": 65}),
    ):
        with refused(name):
            open_escrow(world, renter, own_escrow(world, renter), **changes)
    open_escrow(world, renter, own_escrow(world, renter), max_time_ms=ten_years, attempts_allowed=64)


def test_what_is_locked_is_neither_locked_again_nor_withdrawn(world, renter):
    open_escrow(world, renter, own_escrow(world, renter), deposit=10 * DEPOSIT)
    with refused("InsufficientFunds"):
        open_escrow(world, renter, own_escrow(world, renter, 2), deposit=1_000)
    with refused("InsufficientFunds"):
        world.send(world.build.withdraw(renter.pubkey(), 1), signers=[renter])


def test_line_17_a_clock_that_steps_back_blocks_no_way_out(world, renter, node, running):
    grant(world, renter)
    under = open_escrow(world, renter, market_escrow(world, renter))
    assign(world, under, node)
    world.pass_ms(-3_600_000)
    quit_attempt(world, running, node)
    cancel(world, under, renter)
    quit_attempt(world, under, node)
    for escrow in (running, under):
        end_contest(world, escrow, node)
    cancel(world, running, renter)
    assert world.vault(renter).locked == 0
    assert world.allowance(renter).total_used == 0
    assert world.node(node.key).attempts == 0


def test_line_13_a_rent_payer_that_became_a_program_holds_nobody(world, renter, node):
    """Whoever pays the rent may later be anything: closing pays it all the same."""
    payer = key("future program")
    world.svm.airdrop(payer.pubkey(), 10**9)
    escrow = replace(own_escrow(world, renter), rent_payer=payer.pubkey())
    call = world.build.open_escrow(escrow, renter.pubkey(), terms(1))
    world.send(with_account(call, payer=payer.pubkey()), signers=[renter, payer])
    assign(world, escrow, node)
    program = world.svm.get_account(world.build.deployment.program)
    assert program is not None
    world.svm.set_account(payer.pubkey(), Account(10**10, bytes(program.data), program.owner, True, 0))
    world.pass_ms(1_000)
    finish(world, escrow, node, 1, 1_000)
    assert world.svm.get_account(payer.pubkey()).lamports > 10**10


def test_line_14_a_frozen_vault_stops_payments_and_no_way_out(world, renter, node, running):
    tokens = world.vault_tokens(renter.pubkey())
    payment, owner = world.build.deployment.payment_mint, world.build.addresses.vault(renter.pubkey())
    world.put_token(tokens, payment, owner, 10 * DEPOSIT, state=2)
    world.pass_ms(10_000)
    with refused("TokenAccountInvalid"):
        finish(world, running, node, 1, 10_000)
    world.pass_ms(PARAMS.ready_limit + DEPOSIT + PARAMS.reap_grace)
    reap(world, running, node)
    end_contest(world, running, node)
    assert world.vault(renter).locked == 0
    assert world.node(node.key).attempts == 0


def test_line_14_a_frozen_stake_vault_keeps_no_escrow_that_was_not_lost(world, renter, node, running):
    pool = world.pool(node.key)
    stake = world.build.deployment.stake_mint
    world.put_token(pool.stake_vault, stake, world.build.addresses.pool(node.address(world)), BOND, state=2)
    release(world, running, node, reason=8, submitter=world.matcher)
    end_contest(world, running, node)
    cancel(world, running, renter)
    assert world.vault(renter).locked == 0


def test_line_1_the_protocol_s_account_is_of_the_payment_mint_and_nobody_else_s_to_spend():
    for name, mint, encumbrance in (
        ("WrongMint", "stake_mint", {}),
        ("TokenAccountDelegated", "payment_mint", {"delegate": key("delegate").pubkey()}),
        ("TokenAccountDelegated", "payment_mint", {"close_authority": key("closer").pubkey()}),
    ):
        world = bare_world()
        account = key("protocol token").pubkey()
        world.put_token(account, getattr(world.build.deployment, mint), ADMIN.pubkey(), **encumbrance)
        call = world.build.initialize(world.payer.pubkey(), ADMIN.pubkey(), account, None, PARAMS, EPOCH_MS, 0)
        with refused(name):
            world.send(call, signers=[world.payer, ADMIN])


def test_fees_of_many_small_payments_never_fall_below_nothing():
    """At equal fee rates' edges a payment's total fee grows by less than the protocol's: nobody is owed a rebate."""
    world = new_world(fee_bps=0)
    renter, node = world.renter("renter", vault=10 * DEPOSIT), new_node(world)
    escrow = open_escrow(world, renter, own_escrow(world, renter))
    assign(world, escrow, node, fee_bps=PARAMS.protocol_bps)
    paid = 0
    for sequence in range(1, 12):
        world.pass_ms(1_000)
        billed = sequence * 97
        settled = of(SettledEvent, settle(world, escrow, node, voucher(world, escrow, node, sequence, billed)))[0]
        assert (settled.market, settled.stakers) == (0, 0)
        paid += settled.protocol
    assert paid == -(-11 * 97 // 100)
    # an unchanged voucher pays nothing, to nobody
    same = of(SettledEvent, settle(world, escrow, node, voucher(world, escrow, node, 12, billed)))[0]
    assert (same.paid, same.operator, same.protocol, same.owed) == (0, 0, 0, False)


def test_where_the_whole_fee_grows_by_less_than_the_protocol_s_the_operator_bears_the_unit():
    world = new_world(fee_bps=1)
    renter, node = world.renter("renter", vault=10 * DEPOSIT), new_node(world)
    escrow = open_escrow(world, renter, own_escrow(world, renter))
    assign(world, escrow, node, fee_bps=PARAMS.protocol_bps + 1)
    world.pass_ms(2_000)
    first = of(SettledEvent, settle(world, escrow, node, voucher(world, escrow, node, 1, 100)))[0]
    assert (first.operator, first.market + first.stakers, first.protocol) == (98, 1, 1)
    world.pass_ms(1_000)
    # 101 units: the protocol's fee rises to 2, that of both stays 2
    then = of(SettledEvent, settle(world, escrow, node, voucher(world, escrow, node, 2, 101)))[0]
    assert (then.operator, then.market + then.stakers, then.protocol, then.paid) == (0, 0, 1, 1)


def test_small_payments_round_no_unit_back_from_the_protocol(world, renter, node, running):
    totals = {"operator": 0, "stakers": 0, "market": 0, "protocol": 0}
    for sequence in range(1, 41):
        world.pass_ms(1_000)
        settled = of(SettledEvent, settle(world, running, node, voucher(world, running, node, sequence, sequence)))[0]
        assert settled.operator + settled.stakers + settled.market + settled.protocol == settled.paid == 1
        for name in totals:
            totals[name] += getattr(settled, name)
    assert totals["protocol"] == 1
    assert totals["protocol"] + totals["market"] + totals["stakers"] == 2


def test_line_23_a_record_keeps_each_epoch_s_metered_amounts_and_fees(world, renter, node, running):
    world.pass_ms(10_000)
    finish(world, running, node, 1, 10_000)
    lost = open_escrow(world, renter, own_escrow(world, renter, 2))
    assign(world, lost, node)
    world.pass_ms(10_000)
    signed = voucher(world, lost, node, 1, 8_000)
    world.pass_ms(PARAMS.lost_after)
    release(world, lost, node, signed)
    end_contest(world, lost, node)
    slots = world.node(node.key).epochs
    assert (sum(s.well for s in slots), sum(s.lost for s in slots)) == (10_000, 8_000)
    assert sum(s.protocol_fees for s in slots) == 180
