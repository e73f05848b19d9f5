"""A good receipt, signed for real, and the chain's answers that belong to it."""

import base64
import hashlib
import struct
from typing import Any

import base58
from solders.hash import Hash
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from marketplace.chain.addresses import Addresses
from marketplace.domain.money import FeeRates, amount_due, per_gpu_second, split_payment
from marketplace.domain.quantities import Bps, Millis, Tokens
from marketplace.protocol.vouchers import VoucherMessage, VoucherState
from tests.client.fake_market import PROGRAM, key

NODE_KEY, METER, ESCROW, GENESIS = key("node"), key("meter"), key("escrow").pubkey(), key("genesis").pubkey()
NODE = Addresses(PROGRAM).node(NODE_KEY.pubkey())
WALLET = key("wallet").pubkey()
SIGNATURE = key("payer").sign_message(b"settle")
PRICE, BILLED, DEPOSIT, SLOT = 360_000, 4_000, 60_000, 77


def good_receipt() -> dict[str, Any]:
    amount = amount_due(Tokens(PRICE), Millis(BILLED))
    voucher = VoucherMessage(
        program_id=bytes(PROGRAM),
        genesis_hash=bytes(GENESIS),
        escrow=bytes(ESCROW),
        attempt=1,
        wallet=bytes(WALLET),
        node=bytes(NODE),
        sequence=3,
        started_at_ms=1_000,
        at_ms=5_000,
        billed_ms=BILLED,
        amount=amount,
        state=VoucherState.FINAL,
        reason=1,
        digest=bytes(32),
    )
    split = split_payment(Tokens(0), amount, FeeRates(Bps(100), Bps(500), Bps(5_000)))
    signing = voucher.signing_bytes()
    return {
        "receipt_id": "rcpt_1",
        "job_id": "job_1",
        "provider": str(NODE),
        "client": str(WALLET),
        "units": "4.000",
        "unit_type": "gpu_seconds",
        "unit_price": per_gpu_second(Tokens(PRICE * 10**6), 1, 6),
        "price": str(amount),
        "model": None,
        "image": "alpine",
        "image_digest": None,
        "started_at": None,
        "completed_at": None,
        "reason": "completed",
        "escrow": str(ESCROW),
        "market": str(key("market").pubkey()),
        "program_id": str(PROGRAM),
        "genesis_hash": str(GENESIS),
        "decimals": 6,
        "currency": "USDC",
        "deposit": str(DEPOSIT),
        "vouchers": [base64.b64encode(voucher.fields()).decode()],
        "signatures": [_signature("node", NODE_KEY, signing), _signature("meter", METER, signing)],
        "settlements": [
            {
                "transaction": str(SIGNATURE),
                "slot": SLOT,
                "attempt": 1,
                "voucher": 0,
                "node": str(NODE),
                "price_per_hour": str(PRICE),
                "protocol_bps": 100,
                "fee_bps": 500,
                "node_share_bps": 5_000,
                "billed_ms": BILLED,
                "amount": str(amount),
                "amounts": {
                    name: str(getattr(split, name)) for name in ("paid", "operator", "stakers", "market", "protocol")
                },
            }
        ],
        "refunded": str(DEPOSIT - amount),
        "output_digest": None,
    }


def _signature(role: str, signer: Keypair, message: bytes) -> dict[str, Any]:
    signature = base58.b58encode(bytes(signer.sign_message(message))).decode()
    return {"role": role, "voucher": 0, "key": str(signer.pubkey()), "alg": "Ed25519", "sig": signature}


def settled_event(receipt: dict[str, Any], **changes: Any) -> bytes:
    """The event as the program logs it (program.md section 9; the order of the IDL's fields)."""
    payment = receipt["settlements"][0]
    amounts = {name: int(text) for name, text in payment["amounts"].items()}
    values: dict[str, Any] = {
        "escrow": ESCROW,
        "attempt": 1,
        "node": NODE,
        "countersigner": METER.pubkey(),
        "sequence": 3,
        "state": 3,
        "reason": 1,
        "billed": BILLED,
        "amount": int(payment["amount"]),
        **amounts,
        "owed": 0,
        "refunded": int(receipt["refunded"]),
    } | changes
    body = struct.pack(
        "<32sI32s32sQBHQQQQQQQBQ32s",
        bytes(values["escrow"]),
        values["attempt"],
        bytes(values["node"]),
        bytes(values["countersigner"]),
        values["sequence"],
        values["state"],
        values["reason"],
        values["billed"],
        values["amount"],
        values["paid"],
        values["operator"],
        values["stakers"],
        values["market"],
        values["protocol"],
        values["owed"],
        values["refunded"],
        bytes(32),
    )
    return hashlib.sha256(b"event:Settled").digest()[:8] + body


def closed_event(receipt: dict[str, Any], **changes: Any) -> bytes:
    values: dict[str, Any] = {
        "wallet": WALLET,
        "paid": int(receipt["price"]),
        "refunded": int(receipt["refunded"]),
        "contested": 0,
    } | changes
    body = struct.pack(
        "<32s32sHQQB",
        bytes(ESCROW),
        bytes(values["wallet"]),
        1,
        values["paid"],
        values["refunded"],
        values["contested"],
    )
    return hashlib.sha256(b"event:EscrowClosed").digest()[:8] + body


def contest_closed_event(**changes: Any) -> bytes:
    values: dict[str, Any] = {"escrow": ESCROW, "attempt": 1, "node": NODE, "compensation": 7} | changes
    body = struct.pack(
        "<32sI32sBQBQ16s",
        bytes(values["escrow"]),
        values["attempt"],
        bytes(values["node"]),
        1,
        0,
        1,
        values["compensation"],
        values["compensation"].to_bytes(16, "little"),
    )
    return hashlib.sha256(b"event:ContestClosed").digest()[:8] + body


def landed(*events: bytes, err: object = None, slot: int = SLOT, by: Pubkey = PROGRAM) -> dict[str, object]:
    """`getTransaction`'s answer."""
    data = [f"Program data: {base64.b64encode(event).decode()}" for event in events]
    return {
        "slot": slot,
        "blockTime": 1_700_000_000,
        "version": 0,
        "transaction": {
            "signatures": [str(SIGNATURE)],
            "message": {
                "accountKeys": [str(WALLET), str(by)],
                "recentBlockhash": str(Hash.default()),
                "instructions": [{"programIdIndex": 1, "accounts": [0], "data": base58.b58encode(b"x").decode()}],
            },
        },
        "meta": {
            "err": err,
            "fee": 5000,
            "preBalances": [10, 0],
            "postBalances": [3, 0],
            "logMessages": [f"Program {by} invoke [1]", *data, f"Program {by} success"],
            "preTokenBalances": [],
            "postTokenBalances": [],
        },
    }
