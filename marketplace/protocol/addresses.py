"""Addresses and signatures as text: canonical base58 only, so that one key has one spelling."""

import base58

ADDRESS_BYTES = 32
SIGNATURE_BYTES = 64


class MalformedBase58(ValueError):
    """The text is not the canonical base58 of the expected number of bytes."""


def address_bytes(text: str) -> bytes:
    """The 32 bytes of an address. Raises MalformedBase58."""
    return _decode(text, ADDRESS_BYTES)


def signature_bytes(text: str) -> bytes:
    """The 64 bytes of a signature. Raises MalformedBase58."""
    return _decode(text, SIGNATURE_BYTES)


def base58_text(raw: bytes) -> str:
    """The canonical base58 of these bytes."""
    return base58.b58encode(raw).decode("ascii")


def _decode(text: str, length: int) -> bytes:
    # Longer text can't be canonical, and decoding costs the square of the length.
    if not text.isascii() or not 0 < len(text) <= length * 2:
        raise MalformedBase58(f"not the base58 of {length} bytes")
    try:
        raw = base58.b58decode(text)
    except ValueError as error:
        raise MalformedBase58(f"not the base58 of {length} bytes") from error
    if len(raw) != length or base58_text(raw) != text:
        raise MalformedBase58(f"not the canonical base58 of {length} bytes")
    return raw
