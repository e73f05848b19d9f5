"""Positional parameters and configuration objects, checked as Agave checks them."""

import base64
import binascii
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import base58
from solders.hash import Hash
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import SanitizeError, VersionedTransaction

from marketplace.localnet.bank import TRANSACTION_BYTES
from marketplace.localnet.rpc.envelope import RpcError, invalid_params
from marketplace.localnet.slots import Commitment

# What Agave's decoder says of bytes that end too early, the commonest thing to be wrong with them.
CUT_SHORT: Final = "io error: failed to fill whole buffer"
_BASE64: Final = re.compile(r"[A-Za-z0-9+/=]\Z")
_BASE58: Final = re.compile(r"[1-9A-HJ-NP-Za-km-z]*\Z")
_U64: Final = 2**64 - 1
# The older names that clients still send; specified: Agave, CommitmentLevel::from_str of 1.x.
_COMMITMENTS: Final = {
    **{each.value: each for each in Commitment},
    "recent": Commitment.PROCESSED,
    "single": Commitment.CONFIRMED,
    "singleGossip": Commitment.CONFIRMED,
    "root": Commitment.FINALIZED,
    "max": Commitment.FINALIZED,
}


class Encoding(StrEnum):
    """In the order in which Agave's message names them."""

    BINARY = "binary"  # a bare base58 string: what getAccountInfo gives when nothing is asked for
    BASE58 = "base58"
    BASE64 = "base64"
    JSON_PARSED = "jsonParsed"
    BASE64_ZSTD = "base64+zstd"


@dataclass(frozen=True, slots=True)
class DataSlice:
    offset: int
    length: int


class Config:
    """The configuration object of a call; a missing one is empty. Fields nobody asks for are ignored, as in Agave."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self._fields = fields

    def raw(self, name: str) -> Any:
        return self._fields.get(name)

    def commitment(self, name: str = "commitment", default: Commitment = Commitment.FINALIZED) -> Commitment:
        """The commitment asked for. Agave takes one that it doesn't know for none at all, and so do we."""
        given = self._fields.get(name)
        return _COMMITMENTS.get(given, default) if isinstance(given, str) else default

    def checked_commitment(self, name: str) -> Commitment:
        """As `commitment`, where Agave insists on one of the three."""
        given = self._fields.get(name)
        if given is None:
            return Commitment.FINALIZED
        if not isinstance(given, str):
            raise wrong_type(given, "string or map")
        if given not in _COMMITMENTS:
            raise unknown_variant(given, [each.value for each in Commitment])
        return _COMMITMENTS[given]

    def boolean(self, name: str) -> bool:
        given = self._fields.get(name)
        if given is None:
            return False
        if not isinstance(given, bool):
            raise wrong_type(given, "a boolean")
        return given

    def integer(self, name: str, kind: str = "u64") -> int | None:
        given = self._fields.get(name)
        return None if given is None else as_u64(given, kind)

    def text(self, name: str) -> str | None:
        given = self._fields.get(name)
        return None if given is None else as_text(given)

    def encoding(self, default: Encoding) -> Encoding:
        """How accounts are to be shown; for getProgramAccounts and the like, too."""
        given = self._fields.get("encoding")
        return default if given is None else Encoding(as_variant(given, list(Encoding)))

    def data_slice(self) -> DataSlice | None:
        given = self._fields.get("dataSlice")
        if given is None:
            return None
        if isinstance(given, list) and len(given) == 2:  # serde reads a struct from a sequence, too
            given = dict(zip(("offset", "length"), given, strict=True))
        if not isinstance(given, dict):
            raise wrong_type(given, "struct UiDataSliceConfig")
        for name in ("offset", "length"):
            if name not in given:
                raise missing_field(name)
        return DataSlice(as_u64(given["offset"], "usize"), as_u64(given["length"], "usize"))

    def object(self, name: str, struct: str) -> "Config | None":
        given = self._fields.get(name)
        return None if given is None else as_config(given, struct)


class Params:
    """The positional parameters of one call."""

    def __init__(self, values: list[Any]) -> None:
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    def need(self, count: int) -> None:
        if len(self._values) < count:
            raise invalid_params(f"`params` should have at least {count} argument(s)")

    def pubkey(self, index: int) -> Pubkey:
        return as_pubkey(self._required(index))

    def signature(self, index: int) -> Signature:
        return as_signature(self._required(index))

    def u64(self, index: int, kind: str = "u64") -> int:
        return as_u64(self._required(index), kind)

    def text(self, index: int) -> str:
        return as_text(self._required(index))

    def config(self, index: int, struct: str = "RpcContextConfig") -> Config:
        """The configuration at `index`, empty where there is none; struct: its name in Agave's messages."""
        given = self._values[index] if index < len(self._values) else None
        return Config({}) if given is None else as_config(given, struct)

    def required_config(self, index: int, struct: str) -> Config:
        return as_config(self._required(index), struct)

    def list_of(self, index: int, most: int | None = None) -> list[Any]:
        given = self._required(index)
        if not isinstance(given, list):
            raise wrong_type(given, "a sequence")
        if most is not None and len(given) > most:
            raise invalid_params(f"Too many inputs provided; max {most}")
        return given

    def optional_list(self, index: int, most: int) -> list[Any]:
        return self.list_of(index, most) if index < len(self._values) and self._values[index] is not None else []

    def optional_raw(self, index: int) -> Any:
        return self._values[index] if index < len(self._values) else None

    def _required(self, index: int) -> Any:
        self.need(index + 1)
        return self._values[index]


def as_pubkey(value: Any) -> Pubkey:
    text = as_text(value)
    if not _BASE58.match(text):
        raise invalid_params("Invalid param: Invalid")
    try:
        return Pubkey.from_string(text)
    except ValueError:
        raise invalid_params("Invalid param: WrongSize") from None


def as_signature(value: Any) -> Signature:
    text = as_text(value)
    if not _BASE58.match(text):
        raise invalid_params("Invalid param: Invalid")
    try:
        return Signature.from_string(text)
    except ValueError:
        raise invalid_params("Invalid param: WrongSize") from None


def as_text(value: Any) -> str:
    if not isinstance(value, str):
        raise wrong_type(value, "a string")
    return value


def as_hash(value: Any) -> Hash:
    """A blockhash; it has a key's form, and its errors lack the first words."""
    text = as_text(value)
    if not _BASE58.match(text):
        raise invalid_params("Invalid")
    try:
        return Hash.from_bytes(bytes(Pubkey.from_string(text)))  # the same 32 bytes in the same alphabet
    except ValueError:
        raise invalid_params("WrongSize") from None


def as_u64(value: Any, kind: str = "u64") -> int:
    """kind: what Agave calls the type in its message."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong_type(value, kind)
    if not 0 <= value <= _U64:
        raise invalid_params(f"Invalid params: invalid value: integer `{value}`, expected {kind}.")
    return value


def as_variant(value: Any, known: list[str]) -> str:
    """One of the words of an enum."""
    if not isinstance(value, str):
        raise wrong_type(value, "string or map")
    if value not in known:
        raise unknown_variant(value, [str(each) for each in known])
    return value


def as_config(value: Any, struct: str) -> Config:
    if not isinstance(value, dict):
        raise wrong_type(value, f"struct {struct}")
    return Config(value)


def as_bytes(text: str, encoding: str) -> bytes:
    """Decode base58 or base64 text. Raises RpcError in Agave's words."""
    if encoding == "base58":
        if not _BASE58.match(text):
            raise invalid_params(f"invalid base58 encoding: {base58_error(text)}")
        return base58.b58decode(text)
    if encoding == "base64":
        try:
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise invalid_params(f"invalid base64 encoding: {base64_error(text)}") from None
    raise invalid_params(f"unsupported encoding: {encoding}. Supported encodings: base58, base64")


def base58_error(text: str) -> str:
    """What Agave's decoder says of a text that isn't base58."""
    index, character = next((at, each) for at, each in enumerate(text) if not _BASE58.match(each))
    if not character.isascii():
        return f"NonAsciiCharacter {{ index: {index} }}"
    return f"InvalidCharacter {{ character: '{character}', index: {index} }}"


def base64_error(text: str) -> str:
    """What Agave's decoder says of a text that isn't base64."""
    for index, byte in enumerate(text.encode()):
        if not _BASE64.match(chr(byte)):
            return f"InvalidByte({index}, {byte})"
    return "InvalidPadding"


def as_transaction(text: str, encoding: str) -> VersionedTransaction:
    """A legacy or v0 transaction. Raises RpcError in Agave's words."""
    most = {"base58": 1683, "base64": 1644}.get(encoding)
    what = "solana_transaction::versioned::VersionedTransaction"
    if most is not None and len(text) > most:
        raise invalid_params(
            f"{encoding} encoded {what} too large: {len(text)} bytes (max: encoded/raw {most}/{TRANSACTION_BYTES})",
        )
    wire = as_bytes(text, encoding)
    if len(wire) > TRANSACTION_BYTES:
        raise invalid_params(f"decoded {what} too large: {len(wire)} bytes (max: {TRANSACTION_BYTES} bytes)")
    try:
        transaction = VersionedTransaction.from_bytes(wire)
    except ValueError:
        raise invalid_params(f"failed to deserialize {what}: {CUT_SHORT}") from None
    if bytes(transaction) != wire:
        raise invalid_params(f"failed to deserialize {what}: trailing or non-canonical bytes")
    try:
        transaction.sanitize()
    except SanitizeError:
        raise invalid_params(
            "invalid transaction: Transaction failed to sanitize accounts offsets correctly",
        ) from None
    return transaction


def wrong_type(value: Any, expected: str) -> RpcError:
    if value is None:
        shown = "null"
    elif isinstance(value, bool):
        shown = f"boolean `{str(value).lower()}`"
    elif isinstance(value, int):
        shown = f"integer `{value}`"
    elif isinstance(value, float):
        shown = f"floating point `{value}`"
    elif isinstance(value, str):
        shown = f'string "{value}"'
    else:
        shown = "sequence" if isinstance(value, list) else "map"
    return invalid_params(f"Invalid params: invalid type: {shown}, expected {expected}.")


def unknown_variant(given: str, known: list[str]) -> RpcError:
    if len(known) == 2:
        listed = " or ".join(f"`{each}`" for each in known)
    else:
        listed = "one of " + ", ".join(f"`{each}`" for each in known)
    return invalid_params(f"Invalid params: unknown variant `{given}`, expected {listed}.")


def missing_field(name: str) -> RpcError:
    return invalid_params(f"Invalid params: missing field `{name}`.")
