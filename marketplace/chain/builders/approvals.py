"""A voucher as an argument, with the signature checks that must stand beside it."""

from typing import Final

from solders.pubkey import Pubkey
from solders.signature import Signature

from marketplace.chain.builders.refs import SignedVoucher
from marketplace.chain.ed25519 import SignatureCheck
from marketplace.chain.instructions import VoucherArgs
from marketplace.protocol.vouchers import VoucherMessage

# Specified (programs/reaver_market/src/messages.rs, SUBMITTER): the submitter of the transaction approves.
APPROVED_BY_SUBMITTER: Final = 255
NO_VOUCHER: Final = VoucherArgs(
    sequence=0,
    started_at=0,
    at=0,
    billed=0,
    state=0,
    reason=0,
    digest=bytes(32),
    node_approval=APPROVED_BY_SUBMITTER,
    counter_approval=APPROVED_BY_SUBMITTER,
)


def approvals(
    voucher: SignedVoucher | None, submitter: Pubkey, check_at: int
) -> tuple[tuple[SignatureCheck, ...], VoucherArgs]:
    """The signature checks of a voucher, and its arguments with their indexes.

    Raises ValueError when a side neither submits nor has signed: the program would refuse it anyway.
    """
    if voucher is None:
        return (), NO_VOUCHER
    message = voucher.message
    checks: list[SignatureCheck] = []

    def index(side: str, key: Pubkey, signature: Signature | None) -> int:
        if key == submitter:
            return APPROVED_BY_SUBMITTER
        if signature is None:
            raise ValueError(f"the {side} has not signed this voucher")
        checks.append(SignatureCheck(key, message.signing_bytes(), signature))
        return check_at + len(checks) - 1

    node_index = index("node", voucher.node_key, voucher.node_signature)
    counter_index = index("countersigner", voucher.counter_key, voucher.counter_signature)
    return tuple(checks), _arguments(message, node_index, counter_index)


def node_approval(
    voucher: SignedVoucher, submitter: Pubkey, check_at: int
) -> tuple[tuple[SignatureCheck, ...], VoucherArgs]:
    """As `approvals`, for a voucher that only its node has to have signed."""
    message = voucher.message
    if voucher.node_key == submitter:
        return (), _arguments(message, APPROVED_BY_SUBMITTER, APPROVED_BY_SUBMITTER)
    if voucher.node_signature is None:
        raise ValueError("the node has not signed this voucher")
    check = SignatureCheck(voucher.node_key, message.signing_bytes(), voucher.node_signature)
    return (check,), _arguments(message, check_at, APPROVED_BY_SUBMITTER)


def _arguments(message: VoucherMessage, node_index: int, counter_index: int) -> VoucherArgs:
    return VoucherArgs(
        sequence=message.sequence,
        started_at=message.started_at_ms,
        at=message.at_ms,
        billed=message.billed_ms,
        state=int(message.state),
        reason=message.reason,
        digest=message.digest,
        node_approval=node_index,
        counter_approval=counter_index,
    )
