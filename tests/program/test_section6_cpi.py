"""Line 10 of program.md section 6, its last clause, and what other programs may call: through a real second program.

`cpi_caller.so` is built from programs/cpi_caller: it calls its first account with the others and with its own data.
"""

from dataclasses import replace
from pathlib import Path

import pytest
from solders.instruction import AccountMeta, Instruction
from solders.system_program import TransferParams, transfer

from marketplace.protocol.vouchers import VoucherState
from tests.program.flows import (
    DEPOSIT,
    assign,
    claim,
    contest,
    new_node,
    open_escrow,
    own_escrow,
    read,
    release,
    terms,
    voucher,
)
from tests.program.world import PARAMS, PROGRAM, key, refused, with_args

CALLER = key("cpi caller").pubkey()


@pytest.fixture
def world(world):
    world.svm.add_program_from_file(CALLER, str(Path(__file__).with_name("cpi_caller.so")))
    return world


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


def through_caller(world, call):
    """The same call, made by the other program."""
    instruction = world.instruction(call)
    accounts = [AccountMeta(PROGRAM, is_signer=False, is_writable=False), *instruction.accounts]
    return Instruction(CALLER, bytes(instruction.data), accounts)


def send_from_below(world, approved, *signers):
    return world.send(*approved.checks, through_caller(world, approved.call), signers=list(signers))


def test_line_10_an_assignment_with_a_signed_claim_is_taken_at_top_level_only(world, renter, node):
    escrow = open_escrow(world, renter, own_escrow(world, renter))
    approved = world.build.assign(escrow, node.ref(world), world.matcher.pubkey(), claim(world, escrow, node))
    assert approved.checks
    with refused("NotTopLevel"):
        send_from_below(world, approved, world.matcher)
    world.send(*approved.checks, approved.call, signers=[world.matcher])


def test_line_10_a_settlement_with_a_signed_voucher_is_taken_at_top_level_only(world, node, running):
    world.pass_ms(2_000)
    signed = voucher(world, running, node, 1, 1_000)
    for who in (world.meter, world.payer):
        approved = world.build.settle(running, node.ref(world), who.pubkey(), signed)
        with refused("NotTopLevel"):
            send_from_below(world, approved, who)
    final = voucher(world, running, node, 1, 1_000, state=VoucherState.FINAL, reason=1)
    with refused("NotTopLevel"):
        send_from_below(world, world.build.settle(running, node.ref(world), world.payer.pubkey(), final), world.payer)
    assert read(world, running).paid == 0


def test_line_10_no_other_act_takes_signatures_from_below_either(world, node, running):
    world.pass_ms(PARAMS.lost_after)
    shown = voucher(world, running, node, 1, 1_000, at_ms=read(world, running).attempt.assigned_at + 1_000)
    world.pass_ms(PARAMS.lost_after)
    world.svm.airdrop(node.key.pubkey(), 10**9)
    ref = node.ref(world)
    with refused("NotTopLevel"):
        send_from_below(world, world.build.release_node(running, ref, world.meter.pubkey(), 18, shown), world.meter)
    with refused("NotTopLevel"):
        send_from_below(world, world.build.quit(running, ref, node.key.pubkey(), shown), node.key)
    lie = voucher(world, running, node, 1, 10**8)
    with refused("NotTopLevel"):
        send_from_below(world, world.build.prove_overclaim(running, ref, world.payer.pubkey(), lie), world.payer)
    release(world, running, node)
    later = voucher(world, running, node, 1, 1_000, contested=True)
    with refused("NotTopLevel"):
        send_from_below(world, world.build.contest(running, ref, world.payer.pubkey(), later), world.payer)
    contest(world, running, node, later)


def test_what_needs_no_signature_but_the_transaction_s_works_from_below(world, renter, node):
    """A wallet that is a program, or a program that cranks, needs these; signers are signers from below too."""
    escrow = own_escrow(world, renter, 5)
    for call, signer in (
        (world.build.withdraw(renter.pubkey(), 1_000), renter),
        (world.build.deposit(renter.pubkey(), renter.pubkey(), 1_000), renter),
        (world.build.open_escrow(escrow, renter.pubkey(), terms(5)), renter),
        (world.build.extend_escrow(escrow, renter.pubkey(), 1, 0, None), renter),
        (world.build.cancel_escrow(escrow, renter.pubkey()), renter),
        (world.build.suspend_node(world.authority.pubkey(), node.address(world), suspended=True), world.authority),
    ):
        world.send(through_caller(world, call), signers=[signer])
    assert world.vault(renter).locked == 0
    assert not world.exists(world.build.escrow_address(escrow))


def test_who_signs_the_transaction_approves_from_below_too(world, renter, node, running):
    """Where both sides are signers of the transaction there is nothing to read from the instructions sysvar: a
    quit without a voucher by the node's own key."""
    world.svm.airdrop(node.key.pubkey(), 10**9)
    approved = world.build.quit(running, node.ref(world), node.key.pubkey(), None)
    assert not approved.checks
    world.send(through_caller(world, approved.call), signers=[node.key])
    assert read(world, running).contest.by_quit


def test_line_2_a_signature_is_not_made_by_passing_through_another_program(world, renter):
    stranger = world.renter("stranger")
    call = world.build.withdraw(renter.pubkey(), 1_000, destination=world.payment_account(stranger.pubkey()))
    instruction = through_caller(world, call)
    metas = [
        AccountMeta(m.pubkey, m.is_signer and m.pubkey != renter.pubkey(), m.is_writable) for m in instruction.accounts
    ]
    with refused("SignerMissing"):
        world.send(Instruction(CALLER, instruction.data, metas), signers=[stranger])


def test_line_10_an_index_that_speaks_of_the_caller_s_instruction_is_no_way_around(world, node, running):
    """The approval's index counts the transaction's instructions, of which the caller's is one."""
    world.pass_ms(2_000)
    signed = voucher(world, running, node, 1, 1_000)
    approved = world.build.settle(running, node.ref(world), world.meter.pubkey(), signed)
    for index in (0, 1, 2, 254):
        args = replace(approved.call.args.voucher, node_approval=index)
        with refused("NotTopLevel"):
            world.send(
                *approved.checks, through_caller(world, with_args(approved.call, voucher=args)), signers=[world.meter]
            )


def test_line_7_an_escrow_closed_from_below_is_not_revived_in_the_same_transaction(world, renter, node):
    """Close, fund its address again, open it again with its number: the nonce window says no."""
    escrow = open_escrow(world, renter, own_escrow(world, renter, 3))
    address = world.build.escrow_address(escrow)
    revive = transfer(TransferParams(from_pubkey=renter.pubkey(), to_pubkey=address, lamports=10**8))
    with refused("NonceUsed"):
        world.send(
            through_caller(world, world.build.cancel_escrow(escrow, renter.pubkey())),
            revive,
            through_caller(world, world.build.open_escrow(escrow, renter.pubkey(), terms(3))),
            signers=[renter],
        )
    world.send(through_caller(world, world.build.cancel_escrow(escrow, renter.pubkey())), revive, signers=[renter])
    left = world.svm.get_account(address)
    assert bytes(left.data) == b""
    assert str(left.owner) == "11111111111111111111111111111111"
