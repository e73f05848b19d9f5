"""Keys of a node and its operator, as the JSON keypair files that Solana's own tools write."""

import json
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

import base58
from nacl.signing import SigningKey

from marketplace.protocol import signatures

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class KeyUnusable(Exception):
    """A key file is missing, malformed, or readable by others; the message says which and how to mend it."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An Ed25519 key. The seed never appears in a representation, so that no log line can carry it."""

    seed: bytes = field(repr=False)
    public: bytes

    @property
    def address(self) -> str:
        """The public key in base58."""
        return base58.b58encode(self.public).decode()

    def sign(self, message: bytes) -> bytes:
        """Signature of 64 bytes."""
        return signatures.sign(self.seed, message)


def generate() -> KeyPair:
    """A new key from the system's random source."""
    key = SigningKey.generate()
    return KeyPair(seed=bytes(key), public=bytes(key.verify_key))


def write(path: Path, pair: KeyPair) -> None:
    """Write a new keypair file, readable by its owner only. An existing file is never replaced.

    Raises FileExistsError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        json.dump(list(pair.seed + pair.public), file)
        file.flush()
        os.fsync(file.fileno())


def load(path: Path) -> KeyPair:
    """The key in a keypair file. Raises KeyUnusable."""
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="ascii")
    except FileNotFoundError as error:
        raise KeyUnusable(f"{path} does not exist; `reaver-node init` creates it") from error
    except (OSError, UnicodeDecodeError) as error:
        raise KeyUnusable(f"{path} can't be read: {error}") from error
    if mode & _OTHERS:
        raise KeyUnusable(f"{path} can be read by others; run: chmod 600 {path}")
    try:
        raw = bytes(json.loads(text))
    except (ValueError, TypeError) as error:
        raise KeyUnusable(f"{path} is not a keypair file (a JSON list of 64 bytes)") from error
    if len(raw) != 64:
        raise KeyUnusable(f"{path} holds {len(raw)} bytes, a keypair file holds 64")
    key = SigningKey(raw[:32])
    if bytes(key.verify_key) != raw[32:]:
        raise KeyUnusable(f"{path}: its public half does not belong to its secret half")
    return KeyPair(seed=raw[:32], public=raw[32:])
