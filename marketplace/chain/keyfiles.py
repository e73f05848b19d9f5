"""Keypair files as Solana's own tools write them: a JSON array of 64 bytes, readable by their owner only."""

import json
import os
from pathlib import Path

from solders.keypair import Keypair

from marketplace.errors import SettingsError

_MODE = 0o600
_KEYPAIR_BYTES = 64


def load_keypair(path: Path) -> Keypair:
    """The key in a file. Raises SettingsError when it is missing or is no keypair; never shows its content."""
    try:
        numbers = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise SettingsError(f"keypair file {path} does not exist") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise SettingsError(f"keypair file {path} can't be read") from error
    try:
        raw = bytes(numbers)
        if len(raw) != _KEYPAIR_BYTES:
            raise ValueError("wrong length")  # noqa: TRY301 - one message for everything that isn't a keypair
        return Keypair.from_bytes(raw)
    except (TypeError, ValueError) as error:
        raise SettingsError(f"{path} is no keypair file: a JSON array of {_KEYPAIR_BYTES} bytes") from error


def create_keypair(path: Path) -> Keypair:
    """A new key in a new file. Raises SettingsError where the file exists: no key is ever overwritten."""
    key = Keypair()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE)
    except FileExistsError as error:
        raise SettingsError(f"keypair file {path} exists and is not overwritten") from error
    with os.fdopen(descriptor, "w") as file:
        json.dump(list(bytes(key)), file)
        file.flush()
        os.fsync(file.fileno())
    return key


def ensure_keypair(path: Path) -> Keypair:
    """The key in the file, made now where there is none."""
    return load_keypair(path) if path.exists() else create_keypair(path)
