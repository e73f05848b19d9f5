"""A signed transaction that a wallet hands back: its message and whether everybody has signed it.

What the message says is not read here: the caller compares its bytes with those it once built itself.
"""

from dataclasses import dataclass

from solders.message import to_bytes_versioned
from solders.transaction import VersionedTransaction

from marketplace.chain.transactions import decode_base64
from marketplace.errors import UnsupportedTransaction


@dataclass(frozen=True, slots=True)
class SignedBytes:
    """message: what was signed. complete: every signature is there and good. signature: the first one, base58."""

    raw: bytes
    message: bytes
    complete: bool
    signature: str


def read_signed(text: str) -> SignedBytes:
    """Read a base64 transaction. Raises UnsupportedTransaction for anything but legacy and version 0."""
    raw = decode_base64(text)
    try:
        transaction = VersionedTransaction.from_bytes(raw)
    except ValueError as error:
        raise UnsupportedTransaction("bytes that are no legacy or version 0 transaction; nothing was sent") from error
    signatures = transaction.signatures
    required = transaction.message.header.num_required_signatures
    keys = transaction.message.account_keys
    if bytes(transaction) != raw or not 0 < required == len(signatures) <= len(keys):
        raise UnsupportedTransaction("a transaction with bytes or signatures that it doesn't need; nothing was sent")
    message = to_bytes_versioned(transaction.message)
    return SignedBytes(
        raw=raw,
        message=message,
        complete=all(signature.verify(key, message) for key, signature in zip(keys, signatures, strict=False)),
        signature=str(signatures[0]),
    )
