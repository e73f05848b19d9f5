"""Ed25519 over our messages, by libsodium."""

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

SIGNATURE_BYTES = 64


def verify(key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` (64 bytes) is by `key` (32 bytes) over `message`. Malformed input is simply False."""
    if len(key) != 32 or len(signature) != SIGNATURE_BYTES:
        return False
    try:
        VerifyKey(key).verify(message, signature)
    except (BadSignatureError, ValueError):
        return False
    return True


def sign(seed: bytes, message: bytes) -> bytes:
    """Signature (64 bytes) by the key of this 32-byte seed."""
    return SigningKey(seed).sign(message).signature
