"""Pausing, wash trading and upgrade authorities: lines 5, 16, 20 and 23 of program.md section 6."""

import struct
from dataclasses import replace

import pytest
from solders.account import Account
from solders.pubkey import Pubkey

from marketplace.chain.builders import EscrowRef
from marketplace.protocol.vouchers import VoucherState
from tests.program.flows import (
    DEPOSIT,
    assign,
    cancel,
    end_contest,
    finish,
    grant,
    new_node,
    open_escrow,
    own_escrow,
    quit_attempt,
    read,
    reap,
    release,
    settle,
    voucher,
)
from tests.program.world import (
    ADMIN,
    BOND,
    CPU,
    EPOCH_MS,
    PARAMS,
    PROGRAM,
    Refused,
    bare_world,
    key,
    with_account,
)

UPGRADEABLE_LOADER = Pubkey.from_string("BPFLoaderUpgradeab1e11111111111111111111111")


def pause(world, bits: int) -> None:
    world.send(world.build.set_pause(ADMIN.pubkey(), bits), signers=[ADMIN])


def name_of(action) -> str:
    with pytest.raises(Refused) as caught:
        action()
    return caught.value.name


def test_line_16_pause_closes_each_way_in_and_no_way_out(world):
    renter = world.renter("renter", vault=10 * DEPOSIT)
    node, second = new_node(world), new_node(world, "second")
    escrows = [open_escrow(world, renter, own_escrow(world, renter, n)) for n in range(1, 8)]
    for escrow in escrows[:5]:
        assign(world, escrow, node)
    pause(world, 127)
    operator = world.renter("operator x")
    world.fund(operator.pubkey(), stake=2 * BOND)
    register = world.build.register_node(operator.pubkey(), key("node x").pubkey(), world.market, CPU, BOND, 0)
    market = world.build.register_market(operator.pubkey(), operator.pubkey(), key("1").pubkey(), key("2").pubkey(), 0)
    bond = world.build.bond(node.operator.pubkey(), node.key.pubkey(), 1)
    assert name_of(lambda: open_escrow(world, renter, own_escrow(world, renter, 99))) == "Paused"
    assert name_of(lambda: assign(world, escrows[6], second)) == "Paused"
    assert name_of(lambda: grant(world, renter)) == "Paused"
    assert name_of(lambda: world.send(register, signers=[operator, key("node x")])) == "Paused"
    assert name_of(lambda: world.send(market, signers=[operator])) == "Paused"
    assert name_of(lambda: world.send(bond, signers=[node.operator])) == "Paused"
    # every way out stays open
    world.pass_ms(3_000)
    final, quits, lost, reaped, cancelled, waiting, last = escrows
    finish(world, final, node, 1, 1_000)
    quit_attempt(world, quits, node, voucher(world, quits, node, 1, 1_000))
    cancel(world, cancelled, renter)
    settle(world, cancelled, node, voucher(world, cancelled, node, 1, 1_000, state=VoucherState.FINAL, reason=3))
    cancel(world, waiting, renter)
    world.pass_ms(PARAMS.lost_after)
    release(world, lost, node)
    end_contest(world, quits, node)
    world.pass_ms(PARAMS.ready_limit + DEPOSIT + PARAMS.reap_grace + PARAMS.queue_limit)
    reap(world, reaped, node)
    for escrow in (quits, lost, last):
        if read(world, escrow).contest.attempt.number:
            end_contest(world, escrow, node)
        reap(world, escrow, None)
    end_contest(world, reaped, node)
    account = world.vault(renter)
    assert account.locked == 0
    rest = world.tokens(world.vault_tokens(renter.pubkey()))
    world.send(world.build.withdraw(renter.pubkey(), rest), signers=[renter])
    if account.compensation_owed:
        world.send(world.build.claim_compensation(renter.pubkey()), signers=[renter])
    assert world.node(node.key).attempts == 0


def test_line_23_a_market_without_fee_still_pays_the_protocol(world):
    renter = world.renter("renter", vault=10 * DEPOSIT)
    authority, operator, node_key = world.renter("washer"), key("operator w"), key("node w")
    world.send(
        world.build.register_market(
            authority.pubkey(), authority.pubkey(), world.matcher.pubkey(), world.meter.pubkey(), 0
        ),
        signers=[authority],
    )
    market = world.build.addresses.market(authority.pubkey())
    world.fund(operator.pubkey(), stake=BOND)
    world.send(
        world.build.register_node(operator.pubkey(), node_key.pubkey(), market, CPU, BOND, 0),
        signers=[operator, node_key],
    )
    from tests.program.flows import Node

    node = Node(operator, node_key)
    escrow = EscrowRef(renter.pubkey(), renter.pubkey(), 1, market, renter.pubkey())
    open_escrow(world, renter, escrow)
    assign(world, escrow, node, fee_bps=PARAMS.protocol_bps)
    world.pass_ms(10_000)
    finish(world, escrow, node, 1, 10_000)
    assert world.tokens(world.payment_account(operator.pubkey())) == 10_000 - 100
    assert world.tokens(world.build.addresses.market_fees(market)) == 100


def test_line_23_neither_nothing_nor_the_wallet_s_own_word_makes_a_record(world):
    renter = world.renter("renter", vault=10 * DEPOSIT)
    node = new_node(world)
    for nonce, (billed, counter) in enumerate(((0, None), (1_000, renter)), start=1):
        escrow = open_escrow(world, renter, own_escrow(world, renter, nonce))
        assign(world, escrow, node)
        world.pass_ms(2_000)
        finish(world, escrow, node, 1, billed, counter=counter)
    account = world.node(node.key)
    assert (account.attempts_well, account.amount_well) == (0, 0)
    assert all(slot.well == 0 and slot.protocol_fees == 0 for slot in account.epochs)


def test_line_20_commission_comes_first_and_the_rest_goes_to_the_shares(world):
    renter = world.renter("renter", vault=10 * DEPOSIT)
    node = new_node(world, commission_bps=1_000)
    escrow = open_escrow(world, renter, own_escrow(world, renter))
    assign(world, escrow, node)
    world.pass_ms(50_000)
    finish(world, escrow, node, 1, 50_000)
    pool = world.pool(node.key)
    # 400 bps of 50,000 is 2,000; half of it is the pool's, a tenth of that the commission
    assert (pool.fees_unclaimed, pool.commission_fees) == (1_000, 100)
    earned = pool.active_shares * pool.fees >> 64
    assert 899 <= earned <= 900


def program_data(authority: Pubkey | None) -> bytes:
    tail = b"\0" + bytes(32) if authority is None else b"\1" + bytes(authority)
    return struct.pack("<IQ", 3, 0) + tail


@pytest.mark.parametrize("authority", [key("upgrade authority").pubkey(), None, Pubkey.default()])
def test_line_5_an_upgradeable_program_is_initialized_by_its_upgrade_authority(authority):
    """The loader's accounts are written here: this virtual machine deploys nothing through that loader."""
    world = bare_world()
    loaded = world.svm.get_account(PROGRAM)
    data_address = key("program data").pubkey()
    state = struct.pack("<I", 2) + bytes(data_address)
    # an account beside the running one that looks as the loader would have it
    fake = key("program seen by initialize").pubkey()
    world.svm.set_account(fake, Account(10**9, state, UPGRADEABLE_LOADER, False, 0))
    world.svm.set_account(data_address, Account(10**9, program_data(authority), UPGRADEABLE_LOADER, False, 0))
    call = world.build.initialize(
        world.payer.pubkey(), ADMIN.pubkey(), key("protocol token").pubkey(), data_address, PARAMS, EPOCH_MS, 0
    )
    # another account than the program itself is refused, whatever it looks like
    assert name_of(lambda: world.send(with_account(call, program=fake), signers=[world.payer, ADMIN])) == "WrongProgram"
    assert loaded is not None


def test_an_unknown_instruction_and_wrong_arguments_are_told_apart(world):
    from solders.instruction import Instruction

    renter = world.renter("r", vault=1_000)
    good = world.instruction(world.build.withdraw(renter.pubkey(), 1))
    cases = {
        "UnknownInstruction": replace_data(good, b"12345678"),
        "WrongArguments": replace_data(good, bytes(good.data) + b"\0"),
        "WrongAccountCount": Instruction(good.program_id, bytes(good.data), list(good.accounts)[:-1]),
    }
    for name, instruction in cases.items():
        assert name_of(lambda i=instruction: world.send(i, signers=[renter])) == name
    assert name_of(lambda: world.send(replace_data(good, b"123"), signers=[renter])) == "UnknownInstruction"


def replace_data(instruction, data):
    return type(instruction)(instruction.program_id, data, list(instruction.accounts))


def test_an_escrow_of_another_program_s_market_is_refused(world):
    renter = world.renter("renter", vault=10 * DEPOSIT)
    escrow = own_escrow(world, renter)
    forged = key("forged market").pubkey()
    world.copy_account(world.market, forged, owner=key("other program").pubkey())
    assert name_of(lambda: open_escrow(world, renter, replace(escrow, market=forged))) == "WrongAccountOwner"
