"""A receipt proves itself; every kind of lie in it is found."""

import base64
import hashlib

import base58
import pytest
from nacl.signing import SigningKey

from marketplace.domain.money import FeeRates, amount_due, per_gpu_second, split_payment
from marketplace.domain.quantities import Bps, Millis, Tokens
from marketplace.domain.reasons import Reason
from marketplace.protocol.receipts import (
    Receipt,
    ReceiptCompensation,
    ReceiptSettlement,
    ReceiptSignature,
    SettledAmounts,
    verify_receipt,
)
from marketplace.protocol.vouchers import VoucherMessage, VoucherState

NODE, METER = SigningKey(b"n" * 32), SigningKey(b"m" * 32)
PROGRAM, GENESIS, ESCROW, WALLET, ACCOUNT = (hashlib.sha256(name).digest() for name in (b"p", b"g", b"e", b"w", b"a"))
PRICE, BILLED, DEPOSIT = 7_200_000, 5_014, 61_200
DUE = amount_due(Tokens(PRICE), Millis(BILLED))


def b58(raw: bytes) -> str:
    return base58.b58encode(raw).decode()


def key_of(key: SigningKey) -> str:
    return b58(key.verify_key.encode())


def receipt() -> Receipt:
    voucher = VoucherMessage(
        PROGRAM, GENESIS, ESCROW, 1, WALLET, ACCOUNT, 6, 1_000, 6_014, BILLED, DUE, VoucherState.FINAL,
        int(Reason.COMPLETED), bytes(32),
    )  # fmt: skip
    split = split_payment(Tokens(0), DUE, FeeRates(Bps(100), Bps(500), Bps(5_000)))
    return Receipt(
        receipt_id="rcpt_1",
        job_id="job_1",
        provider=b58(ACCOUNT),
        client=b58(WALLET),
        units="5.014",
        unit_price=per_gpu_second(Tokens(PRICE * 10**6), 1, 6),
        price=str(DUE),
        model=None,
        image="busybox",
        image_digest=None,
        started_at=None,
        completed_at=None,
        reason="completed",
        escrow=b58(ESCROW),
        market=b58(bytes(32)),
        program_id=b58(PROGRAM),
        genesis_hash=b58(GENESIS),
        decimals=6,
        currency="USDC",
        deposit=str(DEPOSIT),
        vouchers=[base64.b64encode(voucher.fields()).decode()],
        signatures=[
            ReceiptSignature(
                role=role, voucher=0, key=key_of(key), sig=b58(key.sign(voucher.signing_bytes()).signature)
            )
            for role, key in (("node", NODE), ("meter", METER))
        ],
        settlements=[
            ReceiptSettlement(
                transaction="t",
                slot=1,
                attempt=1,
                voucher=0,
                node=b58(ACCOUNT),
                price_per_hour=str(PRICE),
                protocol_bps=100,
                fee_bps=500,
                node_share_bps=5_000,
                billed_ms=BILLED,
                amount=str(DUE),
                amounts=SettledAmounts(
                    paid=str(split.paid),
                    operator=str(split.operator),
                    stakers=str(split.stakers),
                    market=str(split.market),
                    protocol=str(split.protocol),
                ),
            )
        ],
        refunded=str(DEPOSIT - DUE),
        output_digest=f"sha256:{bytes(32).hex()}",
    )


def test_an_honest_receipt_verifies_and_names_the_keys():
    found = verify_receipt(receipt(), meter_key=key_of(METER))
    assert found.passed, [c for c in found.checks if not c.passed]
    assert found.node_keys == (key_of(NODE),)
    assert found.meter_keys == (key_of(METER),)


def changed(**fields: object) -> Receipt:
    return receipt().model_copy(update=fields)


def with_payment(**fields: object) -> Receipt:
    honest = receipt()
    return honest.model_copy(update={"settlements": [honest.settlements[0].model_copy(update=fields)]})


def with_amounts(**fields: str) -> Receipt:
    amounts = receipt().settlements[0].amounts.model_copy(update=fields)
    return with_payment(amounts=amounts)


def compensation(**fields: object) -> ReceiptCompensation:
    told = {"transaction": "c", "slot": 2, "attempt": 1, "node": b58(ACCOUNT), "amount": "7", "decimals": 6}
    return ReceiptCompensation.model_validate(told | fields)


def test_a_compensation_of_a_paid_attempt_is_a_part_of_the_receipt():
    found = verify_receipt(changed(compensations=[compensation()]))
    assert found.passed
    (check,) = [c for c in found.checks if "compensation" in c.name]
    assert check.detail == "0.000007 STAKE for attempt 1"


@pytest.mark.parametrize(
    "lie",
    [
        changed(compensations=[compensation(attempt=2)]),
        changed(compensations=[compensation(node=b58(WALLET))]),
        changed(compensations=[compensation(amount="0")]),
        changed(compensations=[compensation(), compensation(transaction="d")]),
        changed(price=str(DUE + 1)),
        changed(refunded=str(DEPOSIT)),
        changed(deposit=str(DEPOSIT + 1)),
        changed(client=b58(ESCROW)),
        changed(escrow=b58(WALLET)),
        changed(program_id=b58(GENESIS)),
        changed(genesis_hash=b58(PROGRAM)),
        changed(reason="cancelled"),
        changed(signatures=receipt().signatures[:1]),
        changed(signatures=receipt().signatures[1:]),
        changed(signatures=[s.model_copy(update={"key": key_of(NODE)}) for s in receipt().signatures]),
        changed(output_digest="sha256:" + "1" * 64),
        changed(unit_price="1"),
        changed(units="5.015"),
        changed(units="10.028"),
        changed(vouchers=["AAAA"]),
        changed(vouchers=["not base64"]),
        with_payment(billed_ms=BILLED + 1),
        with_payment(amount=str(DUE + 1)),
        with_payment(price_per_hour=str(PRICE * 2)),
        with_payment(attempt=2),
        with_payment(node=b58(WALLET)),
        with_payment(voucher=None),
        with_payment(fee_bps=400),
        with_amounts(operator="0"),
        with_amounts(protocol="0"),
        with_amounts(paid=str(DUE - 1)),
    ],
)
def test_a_lie_is_found(lie):
    assert not verify_receipt(lie).passed


def test_two_slots_cost_half_as_much_each():
    halved = per_gpu_second(Tokens(PRICE * 10**6), 2, 6)
    assert verify_receipt(changed(units="10.028", unit_price=halved)).passed


def test_another_meter_than_the_pinned_one_is_found():
    found = verify_receipt(receipt(), meter_key=key_of(NODE))
    assert [c.name for c in found.checks if not c.passed] == ["voucher 0's meter is the market's"]


def test_a_voucher_altered_in_any_byte_is_found():
    honest = receipt()
    raw = base64.b64decode(honest.vouchers[0])
    for position in range(0, len(raw), 7):
        altered = bytearray(raw)
        altered[position] ^= 1
        lie = honest.model_copy(update={"vouchers": [base64.b64encode(bytes(altered)).decode()]})
        assert not verify_receipt(lie).passed
