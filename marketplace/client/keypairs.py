"""The wallet's keypair file, as Solana's own tools write it: a JSON array of 64 integers."""

import json
from pathlib import Path
from typing import Final

from nacl.signing import SigningKey
from solders.pubkey import Pubkey

from marketplace.client.errors import KeypairError

DEFAULT_KEYPAIR: Final = Path("~/.config/solana/id.json")
"""Where `solana-keygen new` writes; specified by Solana's tools."""
_KEYPAIR_BYTES: Final = 64
_MAX_FILE_BYTES: Final = 4096


class Keypair:
    """A wallet's signing key; its text form shows the address only."""

    __slots__ = ("_signing", "address")

    def __init__(self, seed: bytes) -> None:
        self._signing = SigningKey(seed)
        self.address = Pubkey.from_bytes(bytes(self._signing.verify_key))

    def __repr__(self) -> str:
        return f"Keypair({self.address})"

    def sign(self, message: bytes) -> bytes:
        """Ed25519 signature, 64 bytes."""
        return self._signing.sign(message).signature


def load_keypair(path: Path) -> Keypair:
    """The keypair in this file. Raises KeypairError, which never quotes the file's content.

    The second half of the file must be the public key of the first: a file put together from two keys would sign
    for a wallet other than the one it shows.
    """
    file = path.expanduser()
    try:
        with file.open("rb") as stream:
            raw = stream.read(_MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise KeypairError(
            f"no keypair at {file}: name one with --keypair or REAVER_KEYPAIR, or create one with `solana-keygen new`"
        ) from None
    except OSError as error:
        raise KeypairError(f"the keypair file {file} can't be read: {error.strerror}") from None
    try:
        numbers = json.loads(raw) if len(raw) <= _MAX_FILE_BYTES else None
    except ValueError:
        numbers = None
    if (
        not isinstance(numbers, list)
        or len(numbers) != _KEYPAIR_BYTES
        or not all(type(n) is int and 0 <= n <= 255 for n in numbers)
    ):
        raise KeypairError(f"{file} is not a Solana keypair file: a JSON array of {_KEYPAIR_BYTES} bytes is expected")
    secret = bytes(numbers)
    keypair = Keypair(secret[:32])
    if bytes(keypair.address) != secret[32:]:
        raise KeypairError(f"the two halves of {file} don't belong together: it is damaged, restore it from your copy")
    return keypair
