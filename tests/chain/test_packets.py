"""The protocol's transactions fit a packet and cost the signatures that the design promises."""

from collections.abc import Callable

import pytest
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from marketplace.chain.addresses import class_id
from marketplace.chain.builders import (
    Approved,
    CallBuilder,
    Deployment,
    EscrowRef,
    EscrowTerms,
    NodeRef,
    SignedClaim,
    SignedVoucher,
)
from marketplace.chain.constants import LOCALNET
from marketplace.chain.program import AnchorCodec
from marketplace.chain.transactions import MAX_TRANSACTION_BYTES, Assembler, FeePolicy, Step, inspect
from marketplace.protocol.claims import ClaimMessage
from marketplace.protocol.vouchers import VoucherMessage, VoucherState
from tests.chain.test_transactions import Node

CODEC = AnchorCodec(Pubkey.from_string("5qwExNyh26kwngLGHpXEPD4PgoiZWia8neGpQRPJUSyN"))
KEYS = [Keypair.from_seed(bytes([n]) * 32) for n in range(1, 8)]
WALLET, MATCHER, METER, NODE, OPERATOR, STRANGER, MINT = (key.pubkey() for key in KEYS)
MARKET = Pubkey.from_bytes(bytes([99]) * 32)
CALLS = CallBuilder(Deployment(CODEC.program, bytes(32), MINT, MARKET, 6, 6))
ESCROW = EscrowRef(WALLET, MARKET, 1, MARKET, MATCHER)
OWN = EscrowRef(WALLET, WALLET, 1, MARKET, WALLET)
REF = NodeRef(NODE, OPERATOR, Pubkey.from_bytes(bytes([98]) * 32), class_id("cpu-small"))
TERMS = EscrowTerms(1, class_id("cpu-small"), bytes(32), 10, 1_000, 3_600_000, 3)
CLAIM_MESSAGE = ClaimMessage(
    bytes(32), bytes(32), bytes(32), 1, bytes(32), bytes(32), class_id("cpu-small"), 10, 1, 1, bytes(32), 500, 1
)
CLAIM = SignedClaim(CLAIM_MESSAGE, NODE, KEYS[3].sign_message(CLAIM_MESSAGE.signing_bytes()))
MESSAGE = VoucherMessage(
    bytes(32), bytes(32), bytes(32), 1, bytes(32), bytes(32), 1, 1, 2, 1, 1, VoucherState.FINAL, 1, bytes(32)
)
VOUCHER = SignedVoucher(
    MESSAGE,
    NODE,
    METER,
    KEYS[3].sign_message(MESSAGE.signing_bytes()),
    KEYS[2].sign_message(MESSAGE.signing_bytes()),
)


def approved(made: Approved, *before: Step) -> list[Step]:
    return [*made.checks, *before, made.call]


CASES: dict[str, tuple[Callable[[], list[Step]], Pubkey, int]] = {
    "open and assign": (
        lambda: approved(CALLS.assign(ESCROW, REF, MATCHER, CLAIM), CALLS.open_escrow(ESCROW, MATCHER, TERMS)),
        MATCHER,
        2,
    ),
    "open alone": (lambda: [CALLS.open_escrow(ESCROW, MATCHER, TERMS)], MATCHER, 1),
    "settle by the meter": (lambda: approved(CALLS.settle(ESCROW, REF, METER, VOUCHER)), METER, 2),
    "settle by the node": (lambda: approved(CALLS.settle(ESCROW, REF, NODE, VOUCHER)), NODE, 2),
    "settle by a stranger": (lambda: approved(CALLS.settle(ESCROW, REF, STRANGER, VOUCHER)), STRANGER, 3),
    "release with a voucher": (lambda: approved(CALLS.release_node(ESCROW, REF, METER, 18, VOUCHER)), METER, 2),
    "quit with a voucher": (lambda: approved(CALLS.quit(ESCROW, REF, NODE, VOUCHER)), NODE, 2),
    "contest by a stranger": (lambda: approved(CALLS.contest(ESCROW, REF, STRANGER, VOUCHER)), STRANGER, 3),
    "close the contest": (lambda: [CALLS.close_contest(ESCROW, REF, METER)], METER, 1),
    "vault, deposit and escrow by the wallet": (
        lambda: [
            CALLS.open_vault(WALLET, WALLET),
            CALLS.deposit(WALLET, WALLET, 5),
            CALLS.open_escrow(OWN, WALLET, TERMS),
        ],
        WALLET,
        1,
    ),
    "over-claim by a stranger": (
        lambda: approved(CALLS.prove_overclaim(ESCROW, REF, STRANGER, VOUCHER)),
        STRANGER,
        2,
    ),
    "over-claim by the node itself": (
        lambda: approved(CALLS.prove_overclaim(ESCROW, REF, NODE, VOUCHER)),
        NODE,
        1,
    ),
    "extending a running escrow": (lambda: [CALLS.extend_escrow(ESCROW, MATCHER, 5, 6, REF)], MATCHER, 1),
    "extending an open escrow": (lambda: [CALLS.extend_escrow(OWN, WALLET, 5, 0, None)], WALLET, 1),
    "delegating": (lambda: [CALLS.delegate(WALLET, MARKET, 5)], WALLET, 1),
    "claiming from four pools": (
        lambda: [CALLS.claim(WALLET, Pubkey.from_bytes(bytes([n]) * 32)) for n in range(60, 64)],
        WALLET,
        1,
    ),
    "unbonding": (lambda: [CALLS.unbond(WALLET, MARKET, 2**127, 3)], WALLET, 1),
    "withdrawing a ticket": (lambda: [CALLS.withdraw_ticket(WALLET, MARKET, 3)], WALLET, 1),
    "unbonding the bond": (lambda: [CALLS.unbond_bond(OPERATOR, NODE, REF.class_id, 2**127, 3)], OPERATOR, 1),
    "retiring": (lambda: [CALLS.retire(OPERATOR, NODE, MARKET)], OPERATOR, 1),
    "distributing": (lambda: [CALLS.distribute(STRANGER, MARKET, 7, METER)], STRANGER, 1),
    "setting all parameters": (lambda: [CALLS.set_params(WALLET, LOCALNET.params(6, 6))], WALLET, 1),
    "registering a node": (
        lambda: [CALLS.register_node(OPERATOR, NODE, MARKET, REF.class_id, 50, 100)],
        OPERATOR,
        2,
    ),
}


@pytest.mark.parametrize("name", CASES)
async def test_every_transaction_fits_and_costs_what_is_promised(name: str) -> None:
    steps, payer, signatures = CASES[name]
    node = Node(used=100_000, fees=(10**6,))
    assembler = Assembler(node, CODEC, FeePolicy(max_price=50_000))
    unsigned = await assembler.assemble(steps(), payer)
    size = len(unsigned.partially_signed())
    print(f"{name}: {size} bytes, {signatures} signatures")
    assert size <= MAX_TRANSACTION_BYTES
    priority = 110_000 * 50_000 // 1_000_000
    assert unsigned.fee_lamports == signatures * 5_000 + priority
    assert list(inspect(unsigned.base64(), CODEC).steps) == steps()


def test_approvals_name_the_checks_where_they_stand() -> None:
    by_meter = CALLS.settle(ESCROW, REF, METER, VOUCHER).call.args.voucher
    assert (by_meter.node_approval, by_meter.counter_approval) == (0, 255)
    by_node = CALLS.settle(ESCROW, REF, NODE, VOUCHER).call.args.voucher
    assert (by_node.node_approval, by_node.counter_approval) == (255, 0)
    late = CALLS.settle(ESCROW, REF, STRANGER, VOUCHER, check_at=3).call.args.voucher
    assert (late.node_approval, late.counter_approval) == (3, 4)
    assert CALLS.assign(ESCROW, REF, MATCHER, CLAIM, check_at=2).call.args.claim_approval == 2


def test_a_side_that_neither_submits_nor_signed_is_missed_at_once() -> None:
    half = SignedVoucher(MESSAGE, NODE, METER, counter_signature=VOUCHER.counter_signature)
    with pytest.raises(ValueError, match="node has not signed"):
        CALLS.settle(ESCROW, REF, METER, half)
    assert CALLS.settle(ESCROW, REF, NODE, half).call.args.voucher.node_approval == 255
