"""The receipt of a settled job, and its check with nothing but the receipt: signatures, arithmetic, sums.

What a receipt proves: the node and the meter signed these vouchers, the payments follow from them by the published
formulas, and every unit of the deposit went somewhere. That the named transactions are on chain, and that the
keys are this market's, is what `--rpc` and `--market` add (`reaver receipt verify`).
"""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import base58
from pydantic import BaseModel, ConfigDict, Field

from marketplace.domain.money import (
    AmountOverflow,
    FeeRates,
    amount_due,
    format_amount,
    per_gpu_second,
    split_payment,
)
from marketplace.domain.quantities import Bps, Millis, Tokens
from marketplace.domain.reasons import Reason
from marketplace.protocol.signatures import verify
from marketplace.protocol.vouchers import VoucherMessage, VoucherState

MAX_GPUS: Final = 8
"""GPUs or slots of one job. Specified: api.md section 5.2."""
Units = Annotated[str, Field(pattern=r"^\d{1,20}$")]
"""Base units as text: no JSON reader rounds it."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ReceiptSignature(_Part):
    """One signature over one voucher's signing bytes. voucher: index in `vouchers`. key, sig: base58."""

    role: Literal["node", "meter"]
    voucher: int = Field(ge=0)
    key: str
    alg: Literal["Ed25519"] = "Ed25519"
    sig: str


class SettledAmounts(_Part):
    """Where one payment went, in base units of the payment token."""

    paid: Units
    operator: Units
    stakers: Units
    market: Units
    protocol: Units


class ReceiptSettlement(_Part):
    """One payment. voucher: index in `vouchers`; billed_ms, amount: the attempt's, cumulative."""

    transaction: str
    slot: int
    attempt: int = Field(ge=1)
    voucher: int | None = Field(ge=0)
    node: str
    price_per_hour: Units
    protocol_bps: int = Field(ge=0, le=10_000)
    fee_bps: int = Field(ge=0, le=10_000)
    node_share_bps: int = Field(ge=0, le=10_000)
    billed_ms: int = Field(ge=0)
    amount: Units
    amounts: SettledAmounts


class ReceiptCompensation(_Part):
    """What the operator's bond owes the renter for a lost attempt: base units of the stake token, in the vault."""

    transaction: str
    slot: int
    attempt: int = Field(ge=1)
    node: str
    amount: Units
    decimals: int = Field(ge=0, le=18)
    currency: Literal["STAKE"] = "STAKE"


class Receipt(_Part):
    """What `GET /v1/jobs/{id}/receipt` answers; amounts in base units. Source: api.md section 5.3.

    provider, client: the Node account of the last attempt, and the wallet. units: GPU-seconds (slot-seconds), decimal.
    unit_price: base units per GPU-second, decimal, for the last attempt. deposit = price + refunded.
    vouchers: base64 of their fields. compensations: none in receipts of before they were told.
    """

    receipt_id: str
    job_id: str
    provider: str
    client: str
    units: str
    unit_type: Literal["gpu_seconds"] = "gpu_seconds"
    unit_price: str
    price: Units
    model: str | None
    image: str
    image_digest: str | None
    started_at: str | None
    completed_at: str | None
    reason: str
    escrow: str
    market: str
    program_id: str
    genesis_hash: str
    decimals: int = Field(ge=0, le=18)
    currency: str
    deposit: Units
    vouchers: list[str]
    signatures: list[ReceiptSignature]
    settlements: list[ReceiptSettlement]
    refunded: Units
    output_digest: str | None
    compensations: list[ReceiptCompensation] = Field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. detail: what was found, with the keys and numbers."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Verification:
    """All checks; node_keys and meter_keys: who signed, base58, for the reader to compare."""

    checks: tuple[Check, ...]
    node_keys: tuple[str, ...]
    meter_keys: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether every check holds."""
        return all(check.passed for check in self.checks)


def verify_receipt(receipt: Receipt, *, meter_key: str | None = None) -> Verification:
    """Check a receipt offline.

    meter_key: base58, pins the market's meter; without it the keys found are only reported.
    """
    vouchers, checks = _vouchers(receipt)
    for index, voucher in enumerate(vouchers):
        checks += _voucher_checks(receipt, index, voucher, meter_key)
    checks += _payment_checks(receipt, vouchers)
    checks += _compensation_checks(receipt)
    if receipt.output_digest is not None:
        checks.append(_digest_check(receipt.output_digest, vouchers))
    checks += _unit_checks(receipt, vouchers)
    checks.append(_sum_check(receipt))
    return Verification(
        checks=tuple(checks),
        node_keys=_keys(receipt, "node"),
        meter_keys=_keys(receipt, "meter"),
    )


def _keys(receipt: Receipt, role: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(s.key for s in receipt.signatures if s.role == role))


def _vouchers(receipt: Receipt) -> tuple[list[VoucherMessage], list[Check]]:
    vouchers: list[VoucherMessage] = []
    for index, text in enumerate(receipt.vouchers):
        try:
            vouchers.append(VoucherMessage.from_fields(base64.b64decode(text, validate=True)))
        except (binascii.Error, ValueError) as error:
            return [], [Check(f"voucher {index} can be read", passed=False, detail=str(error))]
    return vouchers, [Check("the vouchers can be read", passed=True, detail=f"{len(vouchers)}")]


def _voucher_checks(receipt: Receipt, index: int, voucher: VoucherMessage, meter_key: str | None) -> list[Check]:
    named = (
        ("program", voucher.program_id, receipt.program_id),
        ("genesis hash", voucher.genesis_hash, receipt.genesis_hash),
        ("escrow", voucher.escrow, receipt.escrow),
        ("wallet", voucher.wallet, receipt.client),
    )
    wrong = [name for name, raw, text in named if base58.b58encode(raw).decode() != text]
    checks = [
        Check(
            f"voucher {index} is of this escrow, wallet and chain",
            passed=not wrong,
            detail=f"attempt {voucher.attempt}, sequence {voucher.sequence}" if not wrong else f"not: {wrong}",
        )
    ]
    for role in ("node", "meter"):
        signature = next((s for s in receipt.signatures if s.role == role and s.voucher == index), None)
        name = f"voucher {index} is signed by the {role}"
        if signature is None:
            checks.append(Check(name, passed=False, detail="no signature"))
            continue
        good = verify(_decode(signature.key), voucher.signing_bytes(), _decode(signature.sig))
        checks.append(Check(name, passed=good, detail=signature.key))
        if role == "meter" and meter_key is not None:
            checks.append(
                Check(f"voucher {index}'s meter is the market's", passed=signature.key == meter_key, detail=meter_key)
            )
    return checks


def _decode(text: str) -> bytes:
    try:
        return base58.b58decode(text)
    except ValueError:
        return b""


def _payment_checks(receipt: Receipt, vouchers: Sequence[VoucherMessage]) -> list[Check]:
    """Each payment against its voucher and the formulas; payments of one attempt build on each other."""
    checks: list[Check] = []
    before: dict[int, int] = {}
    for index, payment in enumerate(receipt.settlements):
        amount, price = Tokens(int(payment.amount)), Tokens(int(payment.price_per_hour))
        if payment.voucher is not None and payment.voucher < len(vouchers):
            voucher = vouchers[payment.voucher]
            same = (voucher.attempt, voucher.billed_ms, voucher.amount) == (
                payment.attempt,
                payment.billed_ms,
                amount,
            ) and base58.b58encode(voucher.node).decode() == payment.node
            checks.append(
                Check(f"payment {index} is what its voucher says", passed=same, detail=f"{amount} base units")
            )
        elif amount:
            checks.append(Check(f"payment {index} names its voucher", passed=False, detail="money without a voucher"))
        checks.append(
            Check(
                f"payment {index}: amount = floor(price x time)",
                passed=_is_due(price, payment.billed_ms, amount),
                detail=f"{price} per hour x {payment.billed_ms} ms = {amount}",
            )
        )
        earlier = Tokens(before.get(payment.attempt, 0))
        before[payment.attempt] = amount
        parts = payment.amounts
        checks.append(
            Check(
                f"payment {index}: fees and shares",
                passed=_splits(payment, earlier, amount),
                detail=(
                    f"paid {parts.paid}: operator {parts.operator}, stakers {parts.stakers}, "
                    f"market {parts.market}, protocol {parts.protocol}"
                ),
            )
        )
    finals = [v for v in vouchers if v.state is VoucherState.FINAL]
    for voucher in finals:
        code = Reason(voucher.reason).code if voucher.reason in set(Reason) else str(voucher.reason)
        checks.append(Check("the final voucher's reason is the receipt's", passed=code == receipt.reason, detail=code))
    return checks


def _compensation_checks(receipt: Receipt) -> list[Check]:
    """Each is of another attempt that was paid something, by the node that was paid. The amount is the chain's word."""
    paid = {(payment.attempt, payment.node) for payment in receipt.settlements if int(payment.amounts.paid)}
    seen: set[int] = set()
    checks = []
    for index, entry in enumerate(receipt.compensations):
        fits = (entry.attempt, entry.node) in paid and entry.attempt not in seen and int(entry.amount) > 0
        seen.add(entry.attempt)
        detail = f"{format_amount(int(entry.amount), entry.decimals)} {entry.currency} for attempt {entry.attempt}"
        checks.append(Check(f"compensation {index} is of an attempt that was paid", passed=fits, detail=detail))
    return checks


def _digest_check(output_digest: str, vouchers: Sequence[VoucherMessage]) -> Check:
    signed = f"sha256:{vouchers[-1].digest.hex()}" if vouchers else "no voucher"
    return Check("the output's digest is the last voucher's", passed=signed == output_digest, detail=signed)


def _is_due(price: Tokens, billed_ms: int, amount: int) -> bool:
    try:
        return amount_due(price, Millis(billed_ms)) == amount
    except AmountOverflow:
        return False


def _splits(payment: ReceiptSettlement, before: Tokens, now: Tokens) -> bool:
    rates = FeeRates(Bps(payment.protocol_bps), Bps(payment.fee_bps), Bps(payment.node_share_bps))
    try:
        split = split_payment(before, now, rates)
    except AmountOverflow:
        return False
    given = payment.amounts
    return (split.paid, split.operator, split.stakers, split.market, split.protocol) == tuple(
        int(text) for text in (given.paid, given.operator, given.stakers, given.market, given.protocol)
    )


def _unit_checks(receipt: Receipt, vouchers: Sequence[VoucherMessage]) -> list[Check]:
    """Time and unit price against vouchers and agreed price, for some number of GPUs or slots that a job may have.

    Nothing where the last attempt was never paid: its price is then in no payment.
    """
    last = receipt.settlements[-1] if receipt.settlements else None
    if last is None or last.node != receipt.provider:
        return []
    billed: dict[int, int] = {}
    for voucher in vouchers:
        billed[voucher.attempt] = max(billed.get(voucher.attempt, 0), voucher.billed_ms)
    # The receipt's unit price has 12 places of base units; those of whole tokens have so many fewer.
    price = Tokens(int(last.price_per_hour) * 10**receipt.decimals)
    fits = any(
        (receipt.units, receipt.unit_price)
        == (format_amount(sum(billed.values()) * gpus, 3), per_gpu_second(price, gpus, receipt.decimals))
        for gpus in range(1, MAX_GPUS + 1)
    )
    detail = f"{receipt.units} {receipt.unit_type} at {receipt.unit_price} base units"
    return [Check("units and unit price follow from time and price", passed=fits, detail=detail)]


def _sum_check(receipt: Receipt) -> Check:
    paid = sum(int(payment.amounts.paid) for payment in receipt.settlements)
    deposit, price, refunded = int(receipt.deposit), int(receipt.price), int(receipt.refunded)
    return Check(
        "deposit = paid + refunded",
        passed=paid == price and deposit == price + refunded,
        detail=f"{deposit} = {paid} + {refunded}",
    )
