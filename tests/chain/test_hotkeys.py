from dataclasses import fields

import pytest
from solders.hash import Hash
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey

from marketplace.chain.builders import CallBuilder, Deployment, EscrowRef, NodeRef
from marketplace.chain.errors import UnsupportedTransaction
from marketplace.chain.hotkeys import CRANK_CALLS, MATCHER_CALLS, METER_CALLS, HotKey
from marketplace.chain.instructions import INSTRUCTION_TYPES
from marketplace.chain.program import AnchorCodec
from marketplace.chain.transactions import Assembler, Step, TransferLamports, UnsignedTransaction
from tests.chain.test_transactions import Node

PROGRAM = Pubkey.from_string("5qwExNyh26kwngLGHpXEPD4PgoiZWia8neGpQRPJUSyN")
CODEC = AnchorCodec(PROGRAM)
PAIR = Keypair.from_seed(bytes([1]) * 32)
KEY = PAIR.pubkey()
OTHER = Pubkey.from_bytes(bytes([5]) * 32)
CALLS = CallBuilder(Deployment(PROGRAM, bytes(32), OTHER, OTHER, 6, 6))
ESCROW = EscrowRef(OTHER, OTHER, 1, OTHER, OTHER)


def unsigned(*steps: Step) -> UnsignedTransaction:
    wire = [Assembler(Node(), CODEC).wire(step) for step in steps]
    return UnsignedTransaction(MessageV0.try_compile(KEY, wire, [], Hash.default()), 150, 5_000)


def test_a_key_signs_what_is_on_its_list() -> None:
    key = HotKey(PAIR, MATCHER_CALLS, CODEC)
    signed = key.sign(unsigned(CALLS.cancel_escrow(ESCROW, KEY)))
    assert signed.signature.verify(KEY, unsigned(CALLS.cancel_escrow(ESCROW, KEY)).message_bytes)


@pytest.mark.parametrize(
    "step",
    [
        CALLS.withdraw(KEY, 1),
        CALLS.revoke_allowance(KEY, OTHER),
        CALLS.close_contest(ESCROW, NodeRef(KEY, KEY, KEY, bytes(16)), KEY),
        TransferLamports(KEY, OTHER, 1),
    ],
)
def test_a_key_signs_nothing_else_even_beside_it(step: Step) -> None:
    key = HotKey(PAIR, MATCHER_CALLS, CODEC)
    with pytest.raises(UnsupportedTransaction, match="does not sign"):
        key.sign(unsigned(CALLS.cancel_escrow(ESCROW, KEY), step))
    with pytest.raises(UnsupportedTransaction, match="does not sign"):
        key.partially_sign(unsigned(step))


def test_the_matcher_does_not_settle_and_the_meter_does_not_open() -> None:
    assert "settle" not in MATCHER_CALLS
    assert not METER_CALLS & {"open_escrow", "assign", "cancel_escrow"}


def test_the_meter_cranks_and_nothing_in_that_goes_to_an_account_of_its_choice() -> None:
    assert CRANK_CALLS < METER_CALLS
    assert not MATCHER_CALLS & CRANK_CALLS
    for name in CRANK_CALLS:
        accounts = {item.name for item in fields(INSTRUCTION_TYPES[name].ACCOUNTS)}
        assert not accounts & {"destination", "payout", "payment_destination", "stake_destination"}


def test_a_high_fee_is_not_signed() -> None:
    with pytest.raises(UnsupportedTransaction, match="above this key's bound"):
        HotKey(PAIR, MATCHER_CALLS, CODEC, max_fee_lamports=4_999).sign(unsigned(CALLS.cancel_escrow(ESCROW, KEY)))


def test_only_our_messages_are_signed_as_messages() -> None:
    key = HotKey(PAIR, METER_CALLS, CODEC)
    voucher = b"reaver:voucher:1" + bytes(32)
    assert key.sign_message(voucher).verify(KEY, voucher)
    for wrong in (b"", voucher + b"\0", bytes(48), unsigned(CALLS.withdraw(KEY, 1)).message_bytes):
        with pytest.raises(UnsupportedTransaction):
            key.sign_message(wrong)


def test_a_hot_key_does_not_show_its_secret() -> None:
    shown = repr(HotKey(PAIR, METER_CALLS, CODEC))
    assert str(KEY) in shown
    assert str(PAIR) not in shown
