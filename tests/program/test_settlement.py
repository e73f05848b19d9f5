"""Opening, assigning, paying and ending. The negative tests are named after the lines of program.md section 6."""

from dataclasses import replace

import pytest
from solders.instruction import Instruction
from solders.pubkey import Pubkey

from marketplace.chain.accounts import EscrowState
from marketplace.chain.ed25519 import ED25519_PROGRAM
from marketplace.chain.events import (
    AssignedEvent,
    ContestClosedEvent,
    EscrowClosedEvent,
    EscrowOpenedEvent,
    ReleasedEvent,
    SettledEvent,
    SlashedEvent,
)
from marketplace.domain.money import FeeRates, split_payment
from marketplace.domain.quantities import Bps, Tokens
from marketplace.protocol.vouchers import VoucherState
from tests.program.flows import (
    DEPOSIT,
    FEES,
    PRICE,
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
    GPU,
    HOUR,
    PARAMS,
    Refused,
    key,
    new_world,
    refused,
    with_account,
    with_args,
)

RATES = FeeRates(Bps(PARAMS.protocol_bps), Bps(FEES), Bps(PARAMS.node_share_bps))


@pytest.fixture
def renter(world):
    return world.renter("renter", vault=10 * DEPOSIT)


@pytest.fixture
def node(world):
    return new_node(world)


@pytest.fixture
def running(world, renter, node):
    """An assigned escrow that the wallet opened."""
    escrow = open_escrow(world, renter, own_escrow(world, renter))
    assign(world, escrow, node)
    return escrow


def of(kind, events):
    return [e for e in events if isinstance(e, kind)]


def balances(world, renter, *nodes):
    """Every token of the payment mint that the program or the parties hold."""
    addresses = world.build.addresses
    held = [world.vault_tokens(renter.pubkey()), addresses.market_fees(world.market)]
    for node in nodes:
        held += [
            addresses.pool_fees(addresses.pool(node.address(world))),
            world.payment_account(node.operator.pubkey()),
        ]
    return sum(world.tokens(a) for a in held)


# --- the straight way


def test_open_and_assign_go_in_one_transaction_with_two_signatures(world, renter, node):
    grant(world, renter)
    escrow = market_escrow(world, renter)
    # the claim's fields are known before the escrow exists
    opened = open_escrow(world, renter, market_escrow(world, renter, 2))
    example = claim(world, opened, node)
    message = replace(example.message, escrow=bytes(world.build.escrow_address(escrow)))
    signed = replace(example, message=message, signature=node.key.sign_message(message.signing_bytes()))
    approved = world.build.assign(escrow, node.ref(world), world.matcher.pubkey(), signed)
    events = world.send(
        *approved.checks,
        world.build.open_escrow(escrow, world.matcher.pubkey(), terms(1)),
        approved.call,
        signers=[world.matcher],
        label="open + assign",
    )
    assert len(of(EscrowOpenedEvent, events)) == len(of(AssignedEvent, events)) == 1
    account = read(world, escrow)
    assert account.state == EscrowState.ASSIGNED
    assert account.attempt.exposure == DEPOSIT == world.node(node.key).exposure


def test_a_final_voucher_pays_everybody_unlocks_the_rest_and_returns_the_rent(world, renter, node, running):
    rent_before = world.svm.get_account(renter.pubkey()).lamports
    world.pass_ms(40_000)
    total = balances(world, renter, node)
    events = finish(world, running, node, 1, 40_000)
    split = split_payment(Tokens(0), Tokens(40_000), RATES)
    settled = of(SettledEvent, events)[0]
    assert (settled.operator, settled.stakers, settled.market, settled.protocol) == (
        split.operator,
        split.stakers,
        split.market,
        split.protocol,
    )
    assert settled.refunded == DEPOSIT - 40_000
    assert of(EscrowClosedEvent, events)[0].refunded == DEPOSIT - 40_000
    assert not world.exists(world.build.escrow_address(running))
    assert world.vault(renter).locked == 0
    assert world.tokens(world.vault_tokens(renter.pubkey())) == 10 * DEPOSIT - 40_000
    assert world.tokens(world.payment_account(node.operator.pubkey())) == split.operator
    market, pool = world.market_account(), world.pool(node.key)
    assert (market.market_owed, market.protocol_owed) == (split.market, split.protocol)
    assert pool.fees_unclaimed == split.stakers == world.tokens(pool.fee_vault)
    assert balances(world, renter, node) == total
    after = world.node(node.key)
    assert (after.attempts, after.exposure, after.attempts_well, after.amount_well) == (0, 0, 1, 40_000)
    assert world.svm.get_account(renter.pubkey()).lamports > rent_before


def test_partial_settlements_cost_what_one_costs(world, renter, node, running):
    paid = 0
    for sequence, second in enumerate((7, 20, 33), start=1):
        world.pass_ms(second * 1_000 - paid)
        events = settle(world, running, node, voucher(world, running, node, sequence, second * 1_000))
        paid = second * 1_000
        assert of(SettledEvent, events)[0].amount == paid
    finish(world, running, node, 9, 33_000)
    assert world.tokens(world.vault_tokens(renter.pubkey())) == 10 * DEPOSIT - 33_000
    market = world.market_account()
    assert market.protocol_owed == 330


def test_an_ended_attempt_leaves_the_escrow_to_the_next(world, renter, node, running):
    world.pass_ms(10_000)
    settle(world, running, node, voucher(world, running, node, 1, 10_000, state=VoucherState.ENDED, reason=20))
    account = read(world, running)
    assert (account.state, account.paid, account.ended_time) == (EscrowState.OPEN, 10_000, 10_000)
    second = new_node(world, "second")
    assign(world, running, second)
    assert read(world, running).attempt.exposure == DEPOSIT - 10_000
    world.pass_ms(5_000)
    finish(world, running, second, 1, 5_000)
    assert world.tokens(world.vault_tokens(renter.pubkey())) == 10 * DEPOSIT - 15_000


def test_the_wallet_may_countersign_instead_of_the_meter(world, renter, node, running):
    world.pass_ms(3_000)
    finish(world, running, node, 1, 3_000, counter=renter)
    # it pays, and counts for nobody's record
    assert world.node(node.key).attempts_well == 0
    assert world.tokens(world.vault_tokens(renter.pubkey())) == 10 * DEPOSIT - 3_000


def test_a_lost_node_is_paid_to_its_last_voucher_and_its_operator_compensates(world, renter, node, running):
    world.pass_ms(20_000)
    last = voucher(world, running, node, 1, 20_000)
    world.pass_ms(PARAMS.lost_after)
    released = of(ReleasedEvent, release(world, running, node, last))[0]
    assert released.loss
    # what could still be owed: the silence and the clocks' difference
    assert released.reserve == PARAMS.lost_after + PARAMS.skew
    second = new_node(world, "second")
    assign(world, running, second)
    assert read(world, running).attempt.exposure == DEPOSIT - 20_000 - released.reserve
    bond = world.pool(node.key).active_stake
    events = end_contest(world, running, node)
    closed = of(ContestClosedEvent, events)[0]
    expected = 20_000 * PARAMS.compensation_bps // 10_000
    assert closed.loss
    assert closed.compensation == expected == world.vault(renter).compensation_owed
    assert of(SlashedEvent, events)[0].amount == expected
    pool = world.pool(node.key)
    assert pool.active_stake == bond - expected == world.tokens(pool.stake_vault)
    assert pool.bond_shares == world.position(node.key, node.operator).shares
    lost = world.node(node.key)
    assert (lost.attempts_lost, lost.amount_lost, lost.attempts, lost.exposure, lost.held) == (1, 20_000, 0, 0, 0)
    world.pass_ms(10_000)
    finish(world, running, second, 1, 10_000)
    world.send(world.build.claim_compensation(renter.pubkey()), signers=[renter], label="claim_compensation")
    assert world.tokens(world.stake_account(renter.pubkey())) == expected
    assert world.tokens(world.vault_tokens(renter.pubkey())) == 10 * DEPOSIT - 30_000


def test_an_escrow_of_the_market_returns_its_rent_to_the_matcher_and_its_caps(world, renter, node):
    grant(world, renter, day_cap=DEPOSIT, total_cap=5 * DEPOSIT)
    before = world.svm.get_account(world.matcher.pubkey()).lamports
    escrow = open_escrow(world, renter, market_escrow(world, renter))
    assert world.allowance(renter).day_used == DEPOSIT
    assign(world, escrow, node)
    world.pass_ms(1_000)
    finish(world, escrow, node, 1, 1_000)
    allowance = world.allowance(renter)
    assert (allowance.day_used, allowance.total_used) == (1_000, 1_000)
    fees = 5_000 * (1 + 2)  # open; assign with the node's signature
    assert world.svm.get_account(world.matcher.pubkey()).lamports == before - fees


# --- line 6, 7


def test_line_6_the_same_account_in_two_places(world, renter, node, running):
    world.pass_ms(1_000)
    signed = voucher(world, running, node, 1, 1_000)
    call = world.build.settle(running, node.ref(world), world.meter.pubkey(), signed)
    for changes, name in (
        ({"market_fees": call.call.accounts.pool_fees}, "WrongTokenAccount"),
        ({"payout": call.call.accounts.vault_tokens}, "WrongTokenAccount"),
        ({"pool": call.call.accounts.node}, "WrongAccountType"),
        ({"vault": call.call.accounts.escrow}, "WrongAccountType"),
    ):
        with refused(name):
            world.send(*call.checks, with_account(call.call, **changes), signers=[world.meter])


def test_line_7_a_closed_escrow_can_t_be_revived(world, renter, node, running):
    world.pass_ms(1_000)
    signed = voucher(world, running, node, 1, 1_000, state=VoucherState.FINAL, reason=1)
    approved = world.build.settle(running, node.ref(world), world.meter.pubkey(), signed)
    again = world.build.open_escrow(running, renter.pubkey(), terms(1))
    with refused("NonceUsed"):
        world.send(*approved.checks, approved.call, again, signers=[world.meter, renter])
    send(world, approved, world.meter)
    with refused("WrongAccountOwner"):
        send(world, approved, world.meter)
    with refused("NonceUsed"):
        open_escrow(world, renter, running)


# --- line 10: signatures


def settle_parts(world, escrow, node):
    world.pass_ms(1_000)
    signed = voucher(world, escrow, node, 1, 1_000)
    approved = world.build.settle(escrow, node.ref(world), world.meter.pubkey(), signed)
    return world.instruction(approved.checks[0]), approved.call, signed


def patched(check, at, value):
    data = bytearray(check.data)
    data[at : at + len(value)] = value
    return Instruction(check.program_id, bytes(data), [])


def test_line_10_the_signature_s_instruction_is_held_to_the_letter(world, renter, node, running):
    check, call, _ = settle_parts(world, running, node)
    # a pointer to another instruction for signature, key or message
    for at in (4, 8, 14):
        with pytest.raises(Refused) as caught:
            world.send(patched(check, at, b"\0\0"), call, signers=[world.meter])
        assert caught.value.name in {"ApprovalMalformed", "Custom(0)", "Custom(2)", "Custom(3)"}
    # two signatures in one instruction
    two = bytearray(check.data)
    two[0] = 2
    with pytest.raises(Refused):
        world.send(Instruction(check.program_id, bytes(two), []), call, signers=[world.meter])
    with refused("ApprovalWrongProgram"):
        world.send(
            world.instruction(world.build.deposit(renter.pubkey(), renter.pubkey(), 1)),
            call,
            signers=[world.meter, renter],
        )
    with refused("ApprovalNotBelow"):
        world.send(with_args(call, voucher=replace(call.args.voucher, node_approval=0)), check, signers=[world.meter])
    with refused("WrongSysvar"):
        world.send(check, with_account(call, instructions=key("sysvar").pubkey()), signers=[world.meter])


def test_line_10_a_bad_signature_fails_before_the_program(world, node, running):
    check, call, _ = settle_parts(world, running, node)
    broken = patched(check, 48, bytes(64))
    with pytest.raises(Refused) as caught:
        world.send(broken, call, signers=[world.meter])
    assert caught.value.name.startswith("Custom(")
    assert check.program_id == ED25519_PROGRAM


def test_line_10_an_index_that_has_no_instruction(world, node, running):
    check, call, _ = settle_parts(world, running, node)
    with refused("ApprovalNotBelow"):
        world.send(check, with_args(call, voucher=replace(call.args.voucher, node_approval=9)), signers=[world.meter])


# --- line 11: messages of elsewhere


@pytest.mark.parametrize(
    "change",
    [
        {"program_id": bytes(32)},
        {"genesis_hash": bytes(32)},
        {"escrow": bytes(32)},
        {"wallet": bytes(32)},
        {"node": bytes(32)},
        {"attempt": 2},
        {"digest": bytes(32)},
        {"amount": 1},
        {"reason": 3},
    ],
)
def test_line_11_a_voucher_of_elsewhere_is_worth_nothing(world, node, running, change):
    world.pass_ms(1_000)
    right = voucher(world, running, node, 1, 1_000)
    wrong = voucher(world, running, node, 1, 1_000, **change)
    forged = replace(wrong, message=right.message)
    approved = world.build.settle(running, node.ref(world), world.meter.pubkey(), forged)
    # the arguments are the right ones, the signature is over the wrong message
    checks = world.build.settle(running, node.ref(world), world.meter.pubkey(), wrong).checks
    with refused("ApprovalWrongMessage"):
        world.send(*checks, approved.call, signers=[world.meter])


def test_line_11_a_claim_is_no_voucher(world, renter, node, running):
    world.pass_ms(1_000)
    right = voucher(world, running, node, 1, 1_000)
    other = claim(world, running, node)
    approved = world.build.settle(running, node.ref(world), world.meter.pubkey(), right)
    check = replace(approved.checks[0], message=other.message.signing_bytes(), signature=other.signature)
    with refused("ApprovalWrongMessage"):
        world.send(check, approved.call, signers=[world.meter])


def test_line_11_old_attempts_and_old_sequences(world, renter, node, running):
    world.pass_ms(10_000)
    old, older = voucher(world, running, node, 5, 9_000), voucher(world, running, node, 99, 10_000)
    settle(world, running, node, voucher(world, running, node, 6, 10_000))
    with refused("SequenceNotHigher"):
        settle(world, running, node, old)
    settle(world, running, node, voucher(world, running, node, 7, 10_000, state=VoucherState.ENDED, reason=20))
    assign(world, running, node)
    with refused("WrongAttempt"):
        settle(world, running, node, older)


def test_line_11_another_market_s_meter_signs_nothing_here(world, node, running):
    world.pass_ms(1_000)
    stranger = key("another meter")
    with refused("ApprovalWrongKey"):
        settle(world, running, node, voucher(world, running, node, 1, 1_000, counter=stranger))
    with refused("ApprovalWrongKey"):
        settle(world, running, node, voucher(world, running, node, 1, 1_000, node_signer=stranger).__class__(
            voucher(world, running, node, 1, 1_000).message, stranger.pubkey(), world.meter.pubkey(),
            stranger.sign_message(voucher(world, running, node, 1, 1_000).message.signing_bytes()),
            None,
        ))  # fmt: skip


# --- line 12, 13: clocks and amounts


def test_line_12_time_is_bounded_by_the_chain_s_clock(world, renter, node, running):
    world.pass_ms(10_000)
    now = world.chain_ms
    cases = {
        "BilledBeyondClock": {"billed": 10_001},
        "VoucherFromFuture": {"billed": 1, "at_ms": now + PARAMS.skew + 1},
        "StartTooEarly": {"billed": 1, "started_at_ms": now - 10_000 - PARAMS.skew - 1},
        "StartAfterVoucher": {"billed": 0, "started_at_ms": now + 1},
    }
    for name, change in cases.items():
        options = dict(change)
        billed = options.pop("billed")
        with refused(name):
            settle(world, running, node, voucher(world, running, node, 1, billed, **options))
    settle(world, running, node, voucher(world, running, node, 1, 4_000, at_ms=now - 5_000))
    cases = {
        "BilledFell": {"billed": 3_999},
        "StartChanged": {"billed": 4_000, "started_at_ms": now - 9_000},
        "VoucherTimeFell": {"billed": 4_000, "at_ms": now - 5_001},
        "BilledTooFast": {"billed": 9_001},
    }
    for name, change in cases.items():
        options = dict(change)
        billed = options.pop("billed")
        with refused(name):
            settle(world, running, node, voucher(world, running, node, 2, billed, **options))


def test_line_12_neither_the_maximum_time_nor_the_deposit_can_be_exceeded(world, renter, node):
    escrow = open_escrow(world, renter, own_escrow(world, renter), max_time_ms=5_000)
    assign(world, escrow, node)
    world.pass_ms(60_000)
    with refused("BilledBeyondMaximum"):
        finish(world, escrow, node, 1, 5_001)
    finish(world, escrow, node, 1, 5_000)
    poor = open_escrow(world, renter, own_escrow(world, renter, 2), max_time_ms=HOUR, deposit=20_000)
    assign(world, poor, node)
    world.pass_ms(60_000)
    with refused("AmountBeyondExposure"):
        finish(world, poor, node, 1, 20_001)
    finish(world, poor, node, 1, 20_000)


def test_line_13_rent_goes_to_the_recorded_payer_only(world, renter, node, running):
    world.pass_ms(1_000)
    signed = voucher(world, running, node, 1, 1_000, state=VoucherState.FINAL, reason=1)
    approved = world.build.settle(running, node.ref(world), world.meter.pubkey(), signed)
    with refused("WrongRentPayer"):
        world.send(
            *approved.checks, with_account(approved.call, rent_payer=world.meter.pubkey()), signers=[world.meter]
        )


# --- line 14: payout accounts


@pytest.mark.parametrize("how", ["closed", "frozen", "other owner", "other mint"])
def test_line_14_a_payout_account_that_can_t_take_tokens_never_blocks(world, renter, node, running, how):
    payout = world.payment_account(node.operator.pubkey())
    payment = world.build.deployment.payment_mint
    if how == "closed":
        world.svm.set_account(payout, replace_account(world, payout))
    elif how == "frozen":
        world.put_token(payout, payment, node.operator.pubkey(), state=2)
    elif how == "other owner":
        world.put_token(payout, payment, world.build.addresses.vault(renter.pubkey()))
    else:
        world.put_token(payout, world.build.deployment.stake_mint, node.operator.pubkey())
    world.pass_ms(10_000)
    settled = of(SettledEvent, finish(world, running, node, 1, 10_000))[0]
    assert settled.owed
    assert world.node(node.key).owed == settled.operator == 9_500
    pool = world.pool(node.key)
    assert world.tokens(pool.fee_vault) == settled.operator + settled.stakers
    other = world.put_token(key("fresh account").pubkey(), payment, node.operator.pubkey())
    call = world.build.withdraw_owed(node.operator.pubkey(), node.key.pubkey(), other)
    world.send(call, signers=[node.operator], label="withdraw_owed")
    assert world.tokens(other) == settled.operator
    assert world.node(node.key).owed == 0
    with refused("NothingOwed"):
        world.send(call, signers=[node.operator])


def replace_account(world, address):
    account = world.svm.get_account(address)
    return type(account)(0, b"", Pubkey.default(), False, 0)


def test_line_14_only_the_stored_payout_account_is_accepted(world, node, running):
    world.pass_ms(1_000)
    signed = voucher(world, running, node, 1, 1_000)
    approved = world.build.settle(running, node.ref(world), world.meter.pubkey(), signed)
    other = world.put_token(key("mine").pubkey(), world.build.deployment.payment_mint, node.operator.pubkey())
    with refused("WrongTokenAccount"):
        world.send(*approved.checks, with_account(approved.call, payout=other), signers=[world.meter])


# --- line 17: every lock ends


def test_line_17_an_open_escrow_is_reaped_after_its_queue_limit(world, renter):
    escrow = open_escrow(world, renter, own_escrow(world, renter))
    world.pass_ms(PARAMS.queue_limit)
    with refused("ReapTooEarly"):
        reap(world, escrow, None)
    world.pass_ms(1_000)
    closed = of(EscrowClosedEvent, reap(world, escrow, None))[0]
    assert (closed.refunded, closed.reason) == (DEPOSIT, 5)
    assert world.vault(renter).locked == 0


def test_line_17_an_assigned_escrow_is_reaped_after_everything_has_passed(world, renter, node, running):
    world.pass_ms(PARAMS.ready_limit + DEPOSIT + PARAMS.reap_grace)
    with refused("ReapTooEarly"):
        reap(world, running, node)
    world.pass_ms(1_000)
    reap(world, running, node)
    account = read(world, running)
    assert (account.state, account.contest.loss) == (EscrowState.CLOSING, False)
    end_contest(world, running, node)
    assert not world.exists(world.build.escrow_address(running))
    assert world.vault(renter).locked == 0
    assert world.pool(node.key).active_stake == BOND
    with refused("WrongAccountOwner"):
        close_contest(world, running, node)


# --- line 18: allowances


def test_line_18_each_cap_holds(world, renter):
    grant(world, renter, escrow_cap=DEPOSIT, day_cap=2 * DEPOSIT, total_cap=3 * DEPOSIT, max_price=PRICE)
    with refused("EscrowCapExceeded"):
        open_escrow(world, renter, market_escrow(world, renter, 1), deposit=DEPOSIT + 1)
    with refused("PriceAboveAllowance"):
        open_escrow(world, renter, market_escrow(world, renter, 1), ceiling_price=PRICE + 1)
    open_escrow(world, renter, market_escrow(world, renter, 1))
    open_escrow(world, renter, market_escrow(world, renter, 2))
    with refused("DayCapExceeded"):
        open_escrow(world, renter, market_escrow(world, renter, 3), deposit=1_000)
    world.pass_ms(24 * HOUR)
    open_escrow(world, renter, market_escrow(world, renter, 3))
    with refused("TotalCapExceeded"):
        open_escrow(world, renter, market_escrow(world, renter, 4), deposit=1_000)
    # an escrow of yesterday returns to the total, not to today's use
    cancel(world, market_escrow(world, renter, 1), renter)
    allowance = world.allowance(renter)
    assert (allowance.day_used, allowance.total_used) == (DEPOSIT, 2 * DEPOSIT)
    cancel(world, market_escrow(world, renter, 3), renter)
    allowance = world.allowance(renter)
    assert (allowance.day_used, allowance.total_used) == (0, DEPOSIT)


def test_line_18_expired_and_revoked_neither_open_nor_assign(world, renter, node):
    grant(world, renter, expires_at_ms=world.chain_ms + 60_000)
    escrow = open_escrow(world, renter, market_escrow(world, renter, 1))
    world.pass_ms(60_000)
    with refused("AllowanceExpired"):
        open_escrow(world, renter, market_escrow(world, renter, 2))
    with refused("AllowanceExpired"):
        assign(world, escrow, node)
    grant(world, renter)
    world.send(world.build.revoke_allowance(renter.pubkey(), world.market), signers=[renter])
    with refused("AllowanceRevoked"):
        open_escrow(world, renter, market_escrow(world, renter, 2))
    with refused("AllowanceRevoked"):
        assign(world, escrow, node)
    # and the money is free again at once
    cancel(world, escrow, renter)
    assert world.vault(renter).locked == 0


def test_line_18_a_lowered_price_stops_an_assignment(world, renter, node):
    grant(world, renter)
    escrow = open_escrow(world, renter, market_escrow(world, renter))
    grant(world, renter, max_price=PRICE - 1)
    with refused("PriceAboveAllowance"):
        assign(world, escrow, node)


def test_line_18_only_the_named_market_s_matcher_opens(world, renter):
    grant(world, renter)
    stranger = world.renter("stranger")
    escrow = replace(market_escrow(world, renter), rent_payer=stranger.pubkey())
    call = world.build.open_escrow(escrow, stranger.pubkey(), terms(1))
    with refused("NotMatcher"):
        world.send(call, signers=[stranger])
    authority = world.renter("other authority")
    other = world.build.register_market(authority.pubkey(), authority.pubkey(), stranger.pubkey(), key("m").pubkey(), 0)
    world.send(other, signers=[authority])
    with refused("WrongAllowance"):
        world.send(with_account(call, market=other.accounts.market), signers=[stranger])
    own = replace(call, accounts=replace(call.accounts, allowance=None))
    with refused("NotWallet"):
        world.send(own, signers=[stranger])


def test_line_18_the_allowance_must_be_the_escrow_s(world, renter, node):
    grant(world, renter)
    mine = open_escrow(world, renter, own_escrow(world, renter, 1))
    theirs = open_escrow(world, renter, market_escrow(world, renter, 1))
    allowance = world.build.addresses.allowance(renter.pubkey(), world.market)
    with refused("AllowanceUnexpected"):
        world.send(
            with_account(world.build.cancel_escrow(mine, renter.pubkey()), allowance=allowance), signers=[renter]
        )
    with refused("AllowanceMissing"):
        world.send(with_account(world.build.cancel_escrow(theirs, renter.pubkey()), allowance=None), signers=[renter])


# --- line 19: nonces


def test_line_19_nonces_are_used_once_in_a_window(world, renter):
    world.fund(renter.pubkey(), sol=1_000)
    open_escrow(world, renter, own_escrow(world, renter, 0), deposit=1_000)
    with refused("NonceUsed"):
        open_escrow(world, renter, own_escrow(world, renter, 0), deposit=1_000)
    with refused("NonceTooFarAhead"):
        open_escrow(world, renter, own_escrow(world, renter, 257), deposit=1_000)
    for nonce in (256, 512, 768, 1_024):
        open_escrow(world, renter, own_escrow(world, renter, nonce), deposit=1_000)
    open_escrow(world, renter, own_escrow(world, renter, 1), deposit=1_000)
    open_escrow(world, renter, own_escrow(world, renter, 1_025), deposit=1_000)
    with refused("NonceTooOld"):
        open_escrow(world, renter, own_escrow(world, renter, 1), deposit=1_000)


def test_line_19_two_openers_have_two_windows(world, renter):
    grant(world, renter)
    open_escrow(world, renter, own_escrow(world, renter, 7))
    open_escrow(world, renter, market_escrow(world, renter, 7))
    assert world.vault(renter).locked == 2 * DEPOSIT


def test_line_19_a_thousand_and_twenty_four_escrows_are_outstanding_at_once(world):
    """The whole window is in use, every number of it once; the next one pushes the lowest out, closed or not."""
    rich = world.renter("rich", vault=10**9)
    world.svm.airdrop(rich.pubkey(), 10**13)
    for nonce in range(1, 1_025):
        open_escrow(world, rich, own_escrow(world, rich, nonce), deposit=1_000)
    assert world.vault(rich).locked == 1_024 * 1_000
    window = world.vault(rich).nonces
    assert (window.highest, bytes(window.used)) == (1_024, b"\xff" * 128)
    for nonce in (1, 512, 1_024):
        with refused("NonceUsed"):
            open_escrow(world, rich, own_escrow(world, rich, nonce), deposit=1_000)
    open_escrow(world, rich, own_escrow(world, rich, 1_025), deposit=1_000)
    cancel(world, own_escrow(world, rich, 1), rich)  # its number has left the window, its money has not
    with refused("NonceTooOld"):
        open_escrow(world, rich, own_escrow(world, rich, 1), deposit=1_000)
    assert world.vault(rich).locked == 1_024 * 1_000


# --- line 21: claims


@pytest.mark.parametrize(
    "change",
    [
        {"terms_hash": bytes(32)},
        {"market": bytes(32)},
        {"node": bytes(32)},
        {"class_id": GPU},
        {"attempt": 2},
        {"fee_bps": FEES - 1},
        {"escrow": bytes(32)},
        {"genesis_hash": bytes(32)},
    ],
)
def test_line_21_a_claim_for_other_terms_is_no_consent(world, renter, node, change):
    escrow = open_escrow(world, renter, own_escrow(world, renter))
    right, wrong = claim(world, escrow, node), claim(world, escrow, node, **change)
    approved = world.build.assign(escrow, node.ref(world), world.matcher.pubkey(), right)
    checks = world.build.assign(escrow, node.ref(world), world.matcher.pubkey(), wrong).checks
    with refused("ApprovalWrongMessage"):
        world.send(*checks, approved.call, signers=[world.matcher])


def test_line_21_a_claim_binds_price_time_and_deposit(world, renter, node):
    escrow = open_escrow(world, renter, own_escrow(world, renter))
    low = claim(world, escrow, node)
    cheaper = replace(low, message=replace(low.message, price_per_hour=PRICE - 1))
    with pytest.raises(Refused):
        assign(world, escrow, node, cheaper)
    with refused("PriceAboveCeiling"):
        assign(world, escrow, node, price_per_hour=PRICE + 1)
    with refused("PriceZero"):
        assign(world, escrow, node, price_per_hour=0)
    with refused("TimeLeftTooShort"):
        assign(world, escrow, node, remaining_max_ms=DEPOSIT + 1)
    with refused("DepositLeftTooSmall"):
        assign(world, escrow, node, remaining_deposit=DEPOSIT + 1)
    assign(world, escrow, node, price_per_hour=PRICE - 1)
    assert read(world, escrow).attempt.price == PRICE - 1


def test_line_21_a_claim_grows_stale_and_is_not_of_the_future(world, renter, node):
    escrow = open_escrow(world, renter, own_escrow(world, renter))
    signed = claim(world, escrow, node)
    with refused("ClaimFromFuture"):
        assign(world, escrow, node, at_ms=world.chain_ms + PARAMS.skew + 1)
    world.pass_ms(PARAMS.claim_limit + 1_000)
    with refused("ClaimStale"):
        assign(world, escrow, node, signed)


def test_line_21_only_the_node_s_key_claims_and_only_the_matcher_assigns(world, renter, node):
    escrow = open_escrow(world, renter, own_escrow(world, renter))
    signed = claim(world, escrow, node, signer=key("stranger"))
    with refused("ApprovalWrongKey"):
        assign(world, escrow, node, replace(signed, node_key=key("stranger").pubkey()))
    stranger = world.renter("stranger")
    approved = world.build.assign(escrow, node.ref(world), stranger.pubkey(), claim(world, escrow, node))
    with refused("NotMatcher"):
        send(world, approved, stranger)


def test_a_node_takes_only_what_its_class_and_stake_cover(world, renter, node):
    gpu = open_escrow(world, renter, own_escrow(world, renter, 1), class_id=GPU)
    with refused("ClassMismatch"):
        assign(world, gpu, node, class_id=CPU)
    anything = open_escrow(world, renter, own_escrow(world, renter, 2), class_id=bytes(16))
    assign(world, anything, node)
    rich = world.renter("rich", payment=100 * BOND, vault=50 * BOND)
    large = open_escrow(world, rich, own_escrow(world, rich), deposit=10 * BOND, max_time_ms=10 * BOND)
    with refused("ExposureExceeded"):
        assign(world, large, node)
    world.send(
        world.build.set_class(world.payer.pubkey(), ADMIN.pubkey(), CPU, BOND, enabled=False),
        signers=[world.payer, ADMIN],
    )
    other = open_escrow(world, renter, own_escrow(world, renter, 3))
    with refused("ClassDisabled"):
        assign(world, other, node)


def test_an_escrow_is_opened_within_bounds(world, renter):
    for name, change in (
        ("DepositTooSmall", {"deposit": PARAMS.minimum_deposit - 1}),
        ("PriceZero", {"ceiling_price": 0}),
        ("DurationOutOfBounds", {"max_time_ms": 0}),
        ("AttemptsOutOfBounds", {"attempts_allowed": 0}),
        ("InsufficientFunds", {"deposit": 10 * DEPOSIT + 1}),
    ):
        with refused(name):
            open_escrow(world, renter, own_escrow(world, renter), **change)


def test_attempts_are_counted(world, renter, node):
    escrow = open_escrow(world, renter, own_escrow(world, renter), attempts_allowed=1)
    assign(world, escrow, node)
    with refused("EscrowNotOpen"):
        assign(world, escrow, node)
    settle(world, escrow, node, voucher(world, escrow, node, 1, 0, state=VoucherState.ENDED, reason=20))
    with refused("AttemptsExhausted"):
        assign(world, escrow, node)


# --- line 22: one-sided ends


def test_line_22_the_matcher_s_release_never_compensates_nor_follows_a_settlement(world, renter, node, running):
    for reason in (1, 6, 11, 18):
        with pytest.raises(Refused) as caught:
            release(world, running, node, reason=reason, submitter=world.matcher)
        assert caught.value.name in {"ReasonNotAllowed", "NotReleaser"}
    released = of(ReleasedEvent, release(world, running, node, reason=8, submitter=world.matcher))[0]
    assert not released.loss
    end_contest(world, running, node)
    assert world.pool(node.key).active_stake == BOND
    assert world.node(node.key).attempts_lost == 0
    assign(world, running, node)
    world.pass_ms(1_000)
    settle(world, running, node, voucher(world, running, node, 1, 1_000))
    with refused("AlreadyPaid"):
        release(world, running, node, reason=8, submitter=world.matcher)


def test_line_22_release_too_early_and_by_strangers(world, renter, node, running):
    world.pass_ms(10_000)
    last = voucher(world, running, node, 1, 10_000)
    world.pass_ms(PARAMS.lost_after - 1_000)
    with refused("ReleaseTooEarly"):
        release(world, running, node, last)
    world.pass_ms(1_000)
    with refused("NotReleaser"):
        release(world, running, node, last, submitter=world.payer)
    with refused("NotReleaser"):
        release(world, running, node, last, submitter=world.matcher)
    release(world, running, node, last)


def test_line_22_a_release_needs_the_meter_s_own_countersignature(world, renter, node, running):
    world.pass_ms(10_000)
    by_wallet = voucher(world, running, node, 1, 10_000, counter=renter)
    world.pass_ms(PARAMS.lost_after)
    with refused("CountersignerNotMeter"):
        release(world, running, node, by_wallet)


def test_line_22_a_later_voucher_clears_the_loss_and_is_paid_from_the_reserve(world, renter, node, running):
    world.pass_ms(10_000)
    early = voucher(world, running, node, 1, 10_000)
    world.pass_ms(PARAMS.lost_after)
    late = voucher(world, running, node, 2, 10_000 + PARAMS.lost_after)
    released = of(ReleasedEvent, release(world, running, node, early))[0]
    assert released.loss
    assert released.compensation == world.node(node.key).held > 0
    by_wallet = voucher(world, running, node, 2, 11_000, contested=True, counter=renter, at_ms=world.chain_ms)
    with refused("CountersignerNotMeter"):
        contest(world, running, node, by_wallet)
    with refused("WrongNode"):
        contest(world, running, new_node(world, "x"), late)
    contest(world, running, node, late)
    account = read(world, running)
    assert not account.contest.loss
    assert world.node(node.key).held == 0
    assert account.paid == 10_000 + PARAMS.lost_after
    after = world.build.contest(running, node.ref(world), world.payer.pubkey(), late)
    with refused("SequenceNotHigher"):
        send(world, after, world.payer)
    end_contest(world, running, node)
    assert world.pool(node.key).active_stake == BOND
    with refused("NoContest"):
        contest(world, running, node, late)


def test_line_22_nothing_dated_after_the_release_or_shown_after_the_window(world, renter, node, running):
    world.pass_ms(10_000)
    early = voucher(world, running, node, 1, 10_000)
    world.pass_ms(PARAMS.lost_after)
    late = voucher(world, running, node, 2, 12_000)
    release(world, running, node, early)
    world.pass_ms(2_000)
    with refused("VoucherAfterRelease"):
        contest(world, running, node, voucher(world, running, node, 3, 12_000, contested=True))
    with refused("ContestWindowOpen"):
        close_contest(world, running, node)
    world.pass_ms(PARAMS.contest)
    with refused("ContestWindowPassed"):
        contest(world, running, node, late)


def test_line_22_more_than_the_reserve_is_never_paid(world, renter, node):
    escrow = open_escrow(world, renter, own_escrow(world, renter))
    assign(world, escrow, node)
    world.pass_ms(40_000)
    settle(world, escrow, node, voucher(world, escrow, node, 1, 10_000))
    world.pass_ms(PARAMS.lost_after)
    # by the clock 36 s more could be billed, but only the silence is reserved
    greedy = voucher(
        world,
        escrow,
        node,
        2,
        10_000 + PARAMS.lost_after + PARAMS.skew + 1,
        started_at_ms=world.chain_ms - 46_000,
    )
    release(world, escrow, node)
    with pytest.raises(Refused) as caught:
        contest(world, escrow, node, greedy)
    assert caught.value.name in {"AmountBeyondReserve", "BilledTooFast"}


def test_line_22_quitting_with_an_old_voucher_is_a_loss_unless_the_market_was_silent(world, renter, node, running):
    world.pass_ms(10_000)
    last = voucher(world, running, node, 1, 10_000)
    world.pass_ms(2_000)
    released = of(ReleasedEvent, quit_attempt(world, running, node, last))[0]
    assert released.loss
    end_contest(world, running, node)
    assert world.node(node.key).attempts_lost == 1
    # the compensation took the bond below its class: nothing is assigned until it is topped up
    with refused("BondTooSmall"):
        assign(world, running, node)
    world.send(world.build.bond(node.operator.pubkey(), node.key.pubkey(), BOND), signers=[node.operator])
    assign(world, running, node)
    world.pass_ms(10_000)
    last = voucher(world, running, node, 1, 10_000)
    world.pass_ms(3 * PARAMS.lost_after)
    released = of(ReleasedEvent, quit_attempt(world, running, node, last))[0]
    assert not released.loss
    end_contest(world, running, node)
    assert world.node(node.key).attempts_quit == 1


def test_line_22_only_the_node_quits(world, renter, node, running):
    approved = world.build.quit(running, node.ref(world), world.payer.pubkey(), None)
    with refused("NotNodeKey"):
        send(world, approved, world.payer)


def test_line_22_cancelling_during_a_contest_waits_for_it_in_state_closing(world, renter, node, running):
    world.pass_ms(10_000)
    last = voucher(world, running, node, 1, 10_000)
    world.pass_ms(PARAMS.lost_after)
    release(world, running, node, last)
    closed = of(EscrowClosedEvent, cancel(world, running, renter))[0]
    reserve = PARAMS.lost_after + PARAMS.skew
    assert closed.contested
    assert closed.refunded == DEPOSIT - 10_000 - reserve
    assert world.vault(renter).locked == reserve
    assert read(world, running).state == EscrowState.CLOSING
    for action in (
        lambda: cancel(world, running, renter),
        lambda: assign(world, running, node),
        lambda: reap(world, running, node),
        lambda: release(world, running, node),
    ):
        with refused("EscrowIsClosing"):
            action()
    end_contest(world, running, node)
    assert world.vault(renter).locked == 0
    assert not world.exists(world.build.escrow_address(running))


def test_line_22_a_final_voucher_during_another_s_contest_closes_later(world, renter, node, running):
    world.pass_ms(10_000)
    last = voucher(world, running, node, 1, 10_000)
    world.pass_ms(PARAMS.lost_after)
    release(world, running, node, last)
    second = new_node(world, "second")
    assign(world, running, second)
    world.pass_ms(2_000)
    closed = of(EscrowClosedEvent, finish(world, running, second, 1, 2_000))[0]
    assert closed.contested
    assert world.vault(renter).locked == PARAMS.lost_after + PARAMS.skew
    end_contest(world, running, node)
    assert world.vault(renter).locked == 0
    assert world.vault(renter).compensation_owed == 2_000
    assert world.tokens(world.vault_tokens(renter.pubkey())) == 10 * DEPOSIT - 12_000


def test_line_22_a_second_loss_waits_for_the_first_block(world, renter, node, running):
    world.pass_ms(2_000)
    release_at = voucher(world, running, node, 1, 2_000)
    world.pass_ms(PARAMS.lost_after)
    release(world, running, node, release_at)
    second = new_node(world, "second")
    assign(world, running, second)
    world.pass_ms(PARAMS.lost_after)
    with refused("ContestBusy"):
        release(world, running, second)
    close_contest(world, running, node)
    release(world, running, second)


def test_line_22_cancelling_an_assigned_escrow_stops_the_meter(world, renter, node, running):
    world.pass_ms(10_000)
    cancel(world, running, renter)
    with refused("StopAlreadySet"):
        cancel(world, running, renter)
    assert read(world, running).stop_at == world.chain_ms + PARAMS.stop_after
    world.pass_ms(2_000)
    finish(world, running, node, 1, 12_000)
    assert world.vault(renter).locked == 0


def test_line_22_billing_ends_at_stop_at():
    world = new_world()
    renter = world.renter("renter", payment=10**9, vault=10**8)
    node = new_node(world)
    escrow = open_escrow(world, renter, own_escrow(world, renter), deposit=10**6, max_time_ms=10**6)
    assign(world, escrow, node)
    world.pass_ms(10_000)
    cancel(world, escrow, renter)
    world.pass_ms(PARAMS.stop_after + 5_000)
    with refused("BilledBeyondClock"):
        finish(world, escrow, node, 1, 10_000 + PARAMS.stop_after + 1)
    finish(world, escrow, node, 1, 10_000 + PARAMS.stop_after)


def test_line_22_after_a_cancellation_nothing_is_assigned_again(world, renter, node, running):
    cancel(world, running, renter)
    settle(world, running, node, voucher(world, running, node, 1, 0, state=VoucherState.ENDED, reason=20))
    # an ended attempt of a cancelled escrow closes it
    assert not world.exists(world.build.escrow_address(running))
    assert world.vault(renter).locked == 0


def test_line_22_a_cancelled_escrow_gets_no_further_attempt_after_a_loss(world, renter, node, running):
    world.pass_ms(10_000)
    cancel(world, running, renter)
    released = of(EscrowClosedEvent, release(world, running, node))[0]
    assert released.contested
    with refused("EscrowIsClosing"):
        assign(world, running, node)
    end_contest(world, running, node)
    assert world.vault(renter).locked == 0


def test_line_22_strangers_cancel_nothing(world, renter, node, running):
    stranger = world.renter("stranger")
    with refused("NotOpener"):
        cancel(world, running, stranger)


# --- line 24, 25


def test_line_24_a_payout_account_of_ours_is_refused_at_registration(world, renter):
    operator, node_key = key("operator z"), key("node z")
    world.fund(operator.pubkey(), stake=BOND)
    call = world.build.register_node(operator.pubkey(), node_key.pubkey(), world.market, CPU, BOND, 0)
    with refused("WrongTokenOwner"):
        world.send(with_account(call, payout=world.vault_tokens(renter.pubkey())), signers=[operator, node_key])


def test_line_25_a_node_with_work_stays_where_it_is(world, renter, node, running):
    world.fund(node.operator.pubkey(), stake=50 * BOND)
    world.send(world.build.bond(node.operator.pubkey(), node.key.pubkey(), 45 * BOND), signers=[node.operator])
    payout = world.payment_account(node.operator.pubkey())
    move = world.build.update_node(node.operator.pubkey(), node.key.pubkey(), world.market, GPU, payout)
    with refused("AttemptsOpen"):
        world.send(move, signers=[node.operator])
    # the payout account may change at any time
    other = world.put_token(key("new payout").pubkey(), world.build.deployment.payment_mint, node.operator.pubkey())
    world.send(
        world.build.update_node(node.operator.pubkey(), node.key.pubkey(), world.market, CPU, other),
        signers=[node.operator],
    )
    world.pass_ms(1_000)
    finish(world, running, node, 1, 1_000)
    assert world.tokens(other) == 950


def test_line_25_several_losses_never_take_more_of_a_bond_than_its_cap(world):
    rich = world.renter("rich", payment=10**12, vault=10**11)
    node = new_node(world)
    # an attempt that costs more than the bond is worth
    price = 1_000 * PRICE
    world.fund(node.operator.pubkey(), stake=100 * BOND)
    taken = 0
    for nonce in (1, 2):
        escrow = open_escrow(
            world, rich, own_escrow(world, rich, nonce), deposit=4 * BOND, ceiling_price=price, max_time_ms=HOUR
        )
        assign(world, escrow, node)
        world.pass_ms(150_000)
        last = voucher(world, escrow, node, 1, 150_000)
        world.pass_ms(PARAMS.lost_after)
        release(world, escrow, node, last)
        bond = world.pool(node.key).active_stake
        world.pass_ms(PARAMS.contest + 1_000)
        closed = of(ContestClosedEvent, close_contest(world, escrow, node))[0]
        taken += closed.compensation
        assert closed.compensation <= bond * PARAMS.slash_cap_bps // 10_000
        if world.pool(node.key).active_stake < BOND:
            with refused("BondTooSmall"):
                assign(world, open_escrow(world, rich, own_escrow(world, rich, nonce + 10)), node)
            world.send(world.build.bond(node.operator.pubkey(), node.key.pubkey(), 2 * BOND), signers=[node.operator])
    assert world.vault(rich).compensation_owed == taken > 0
