"""Symmetric keys that sign access tokens, each with an id, so that one can be replaced without a flag day."""

import base64
import binascii
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from marketplace.errors import SettingsError
from marketplace.services.clock import RandomSource

KEY_BYTES: Final = 32
"""HS256 takes a key as long as its hash. Specified: RFC 7518, section 3.2."""


@dataclass(frozen=True, slots=True)
class KeyRing:
    """current: id of the key that signs; every key in `keys` verifies."""

    current: str
    keys: Mapping[str, bytes]

    @property
    def signing_key(self) -> bytes:
        """The key that signs."""
        return self.keys[self.current]


def load_key_ring(path: Path) -> KeyRing:
    """Read a key ring. Raises SettingsError where it is missing, readable by others, or malformed."""
    try:
        if path.stat().st_mode & 0o077:
            raise SettingsError(f"{path} can be read by others; run: chmod 600 {path}")
        document = orjson.loads(path.read_bytes())
        keys = {str(kid): base64.b64decode(text, validate=True) for kid, text in document["keys"].items()}
        ring = KeyRing(str(document["current"]), keys)
    except FileNotFoundError as error:
        raise SettingsError(f"{path} does not exist; run `reaver-market init`") from error
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError, binascii.Error) as error:
        raise SettingsError(f"{path} is not a key ring") from error
    if ring.current not in keys or any(len(key) < KEY_BYTES for key in keys.values()):
        raise SettingsError(f"{path} is not a key ring")
    return ring


def create_key_ring(path: Path, random: RandomSource) -> KeyRing:
    """The key ring at `path`, made with one new key where there is none yet. Never replaces a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kid = random.token_bytes(4).hex()
    document = {"current": kid, "keys": {kid: base64.b64encode(random.token_bytes(KEY_BYTES)).decode()}}
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return load_key_ring(path)
    with os.fdopen(descriptor, "wb") as file:
        file.write(orjson.dumps(document, option=orjson.OPT_INDENT_2))
        file.flush()
        os.fsync(file.fileno())
    return load_key_ring(path)
