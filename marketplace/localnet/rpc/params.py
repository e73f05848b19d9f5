"""Positional parameters and configuration objects, checked as Agave checks them."""

import base64
import binascii
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import base58
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import SanitizeError, VersionedTransaction

from marketplace.localnet.bank import TRANSACTION_BYTES
from marketplace.localnet.rpc.envelope import RpcError, invalid_params
from marketplace.localnet.slots import Commitment

_BASE58: Final = re.compile(r"[1-9A-HJ-NP-Za-km-z]*\Z")
_U64: Final = 2**64 - 1
# The older names that clients still send; specified: Agave, CommitmentLevel::from_str of 1.x.
_OLD_COMMITMENTS: Final = {
    "recent": Commitment.PROCESSED,
    "single": Commitment.CONFIRMED,
    "singleGossip": Commitment.CONFIRMED,
    "root": Commitment.FINALIZED,
    "max": Commitment.FINALIZED,
}


class Encoding(StrEnum):
    BINARY = "binary"  # a bare base58 string: what getAccountInfo gives when nothing is asked for
    BASE58 = "base58"
    BASE64 = "base64"
    BASE64_ZSTD = "base64+zstd"
    JSON_PARSED = "jsonParsed"


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
        given = self._fields.get(name)
        if given is None:
            return default
        if not isinstance(given, str):
            raise _wrong_type(given, "a string")
        if given in _OLD_COMMITMENTS:
            return _OLD_COMMITMENTS[given]
        try:
            return Commitment(given)
        except ValueError:
            raise _unknown_variant(given, [each.value for each in Commitment]) from None

    def boolean(self, name: str) -> bool:
        given = self._fields.get(name)
        if given is None:
            return False
        if not isinstance(given, bool):
            raise _wrong_type(given, "a boolean")
        return given

    def integer(self, name: str) -> int | None:
        given = self._fields.get(name)
        return None if given is None else as_u64(given)

    def text(self, name: str) -> str | None:
        given = self._fields.get(name)
        return None if given is None else as_text(given)

    def encoding(self, default: Encoding) -> Encoding:
        given = self.text("encoding")
        if given is None:
            return default
        try:
            return Encoding(given)
        except ValueError:
            raise _unknown_variant(given, [each.value for each in Encoding]) from None

    def data_slice(self) -> DataSlice | None:
        given = self._fields.get("dataSlice")
        if given is None:
            return None
        if not isinstance(given, dict):
            raise _wrong_type(given, "struct UiDataSliceConfig")
        for name in ("offset", "length"):
            if name not in given:
                raise invalid_params(f"Invalid params: missing field `{name}`.")
        return DataSlice(as_u64(given["offset"]), as_u64(given["length"]))

    def object(self, name: str) -> "Config | None":
        given = self._fields.get(name)
        return None if given is None else as_config(given)


class Params:
    """The positional parameters of one call."""

    def __init__(self, values: list[Any]) -> None:
        self._values = values

    def need(self, count: int) -> None:
        if len(self._values) < count:
            raise invalid_params(f"`params` should have at least {count} argument(s)")

    def pubkey(self, index: int) -> Pubkey:
        return as_pubkey(self._required(index))

    def signature(self, index: int) -> Signature:
        return as_signature(self._required(index))

    def u64(self, index: int) -> int:
        return as_u64(self._required(index))

    def text(self, index: int) -> str:
        return as_text(self._required(index))

    def config(self, index: int) -> Config:
        given = self._values[index] if index < len(self._values) else None
        return Config({}) if given is None else as_config(given)

    def required_config(self, index: int) -> Config:
        return as_config(self._required(index))

    def list_of(self, index: int, most: int) -> list[Any]:
        given = self._required(index)
        if not isinstance(given, list):
            raise _wrong_type(given, "a sequence")
        if len(given) > most:
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
        raise _wrong_type(value, "a string")
    return value


def as_u64(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong_type(value, "u64")
    if not 0 <= value <= _U64:
        raise invalid_params(f"Invalid params: invalid value: integer `{value}`, expected u64.")
    return value


def as_config(value: Any) -> Config:
    if not isinstance(value, dict):
        raise _wrong_type(value, "a configuration object")
    return Config(value)


def as_bytes(text: str, encoding: str) -> bytes:
    """Decode base58 or base64 text. Raises RpcError in Agave's words."""
    if encoding == "base58":
        for index, character in enumerate(text):
            if not _BASE58.match(character):
                raise invalid_params(
                    f"invalid base58 encoding: InvalidCharacter {{ character: '{character}', index: {index} }}",
                )
        return base58.b58decode(text)
    if encoding == "base64":
        try:
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise invalid_params(f"invalid base64 encoding: {error}") from None
    raise invalid_params(f"unsupported encoding: {encoding}. Supported encodings: base58, base64")


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
    except ValueError as error:
        raise invalid_params(f"failed to deserialize {what}: {error}") from None
    if bytes(transaction) != wire:
        raise invalid_params(f"failed to deserialize {what}: trailing or non-canonical bytes")
    try:
        transaction.sanitize()
    except SanitizeError:
        raise invalid_params(
            "invalid transaction: Transaction failed to sanitize accounts offsets correctly",
        ) from None
    return transaction


def _wrong_type(value: Any, expected: str) -> RpcError:
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


def _unknown_variant(given: str, known: list[str]) -> RpcError:
    listed = ", ".join(f"`{each}`" for each in known)
    return invalid_params(f"Invalid params: unknown variant `{given}`, expected one of {listed}.")
