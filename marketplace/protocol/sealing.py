"""Sealing a job's spec (with its env and secrets) to a node's key, so that only that node reads it.

The node's Ed25519 key is turned into its X25519 form; the box is libsodium's sealed box.
"""

from nacl.exceptions import CryptoError
from nacl.public import SealedBox
from nacl.signing import SigningKey, VerifyKey


class NotForUs(Exception):
    """The sealed bytes are not for this key, or were altered on the way."""


def seal(node_key: bytes, plain: bytes) -> bytes:
    """Sealed bytes that only the holder of `node_key` (32 bytes, Ed25519 public) opens."""
    return SealedBox(VerifyKey(node_key).to_curve25519_public_key()).encrypt(plain)


def unseal(node_seed: bytes, sealed: bytes) -> bytes:
    """What was sealed to the key of this 32-byte seed. Raises NotForUs."""
    try:
        return SealedBox(SigningKey(node_seed).to_curve25519_private_key()).decrypt(sealed)
    except CryptoError as error:
        raise NotForUs from error
