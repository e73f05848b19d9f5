"""Other people's secrets while the market keeps them: encrypted in the store, each with the id of its key.

AES-256-GCM under a key ring of its own (`secrets.json` beside the other keys). What a value belongs to is
authenticated with it, so that a row that is copied elsewhere in the store opens nothing. A key that is replaced stays
in the ring until nothing names it any more.
"""

from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from marketplace.errors import StoreError
from marketplace.services.clock import RandomSource
from marketplace.services.key_ring import KeyRing

RING_FILE: Final = "secrets.json"
_NONCE_BYTES: Final = 12
"""Specified: NIST SP 800-38D, section 8.2. Random: a ring's key is to be replaced long before 2^32 values."""


class Unreadable(StoreError):
    """A stored secret can't be opened: its key is not in the ring, or the row was altered."""


@dataclass(frozen=True, slots=True)
class StoredSecret:
    """A secret as the store keeps it. key_id: in the ring; sealed: nonce and ciphertext with its tag."""

    key_id: str
    sealed: bytes


class SecretKeeper:
    """Seals and opens. purpose: what the value belongs to, such as `job alloc_…`; the same for both."""

    def __init__(self, ring: KeyRing, random: RandomSource) -> None:
        self._ring = ring
        self._random = random

    def seal(self, purpose: str, plain: bytes) -> StoredSecret:
        """The value under the ring's current key."""
        nonce = self._random.token_bytes(_NONCE_BYTES)
        sealed = AESGCM(self._ring.signing_key).encrypt(nonce, plain, purpose.encode())
        return StoredSecret(self._ring.current, nonce + sealed)

    def unseal(self, purpose: str, stored: StoredSecret) -> bytes:
        """The value. Raises Unreadable."""
        key = self._ring.keys.get(stored.key_id)
        if key is None:
            raise Unreadable(f"no key {stored.key_id} in {RING_FILE}: put it back, for values are sealed with it")
        nonce, sealed = stored.sealed[:_NONCE_BYTES], stored.sealed[_NONCE_BYTES:]
        try:
            return AESGCM(key).decrypt(nonce, sealed, purpose.encode())
        except (InvalidTag, ValueError) as error:
            raise Unreadable(
                f"what was sealed for {purpose} can't be opened: the row or the key was altered"
            ) from error
