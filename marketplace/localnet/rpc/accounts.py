"""Accounts as JSON, and the filters of getProgramAccounts."""

import base64
from dataclasses import dataclass
from typing import Any, Final

import base58
import zstandard
from solders.account import Account
from solders.pubkey import Pubkey

from marketplace.localnet.parsed.accounts import account_data_json
from marketplace.localnet.rpc.envelope import INVALID_REQUEST, RpcError, invalid_params
from marketplace.localnet.rpc.params import (
    DataSlice,
    Encoding,
    as_text,
    as_u64,
    as_variant,
    base58_error,
    base64_error,
    missing_field,
    wrong_type,
)
from marketplace.localnet.tokens import TOKEN_ACCOUNT_BYTES, TOKEN_MINT_AT, TOKEN_OWNER_AT, Mint, parse_holding

# Specified: Agave, account-decoder, MAX_BASE58_BYTES; rpc, MAX_GET_PROGRAM_ACCOUNT_FILTERS and MAX_DATA_SIZE.
_BASE58_BYTES: Final = 128
_TOO_LARGE: Final = "error: data too large for bs58 encoding"
_MOST_FILTERS: Final = 4
_MEMCMP_BYTES: Final = 128
_MEMCMP_TEXT: Final = 175  # specified there too: 128 bytes in base58
_KEY_BYTES: Final = 32
# What Agave shows for every account that pays no rent, and so for all that can exist today.
_RENT_EXEMPT: Final = 2**64 - 1
# Owners of what the runtime itself makes: it pays no rent and never was looked at.
_OF_THE_RUNTIME: Final = frozenset(
    Pubkey.from_string(text)
    for text in ("NativeLoader1111111111111111111111111111111", "Sysvar1111111111111111111111111111111111111")
)


@dataclass(frozen=True, slots=True)
class Filters:
    """All of them must hold."""

    sizes: tuple[int, ...]
    compares: tuple[tuple[int, bytes], ...]
    tokens_only: bool

    def match(self, account: Account) -> bool:
        data = account.data
        if self.tokens_only and parse_holding(account) is None:
            return False
        return all(len(data) == size for size in self.sizes) and all(
            data[offset : offset + len(wanted)] == wanted for offset, wanted in self.compares
        )

    def check_token_keys(self) -> None:
        """Agave looks token accounts up by owner, else by mint, and wants whole keys there. Raises RpcError."""
        owners = self._key_lengths("owner", TOKEN_OWNER_AT)
        if not (owners and (self.tokens_only or TOKEN_ACCOUNT_BYTES in self.sizes)):
            self._key_lengths("mint", TOKEN_MINT_AT)

    def _key_lengths(self, name: str, at: int) -> list[int]:
        lengths = [len(wanted) for offset, wanted in self.compares if offset == at]
        for length in lengths:
            if length != _KEY_BYTES:
                raise invalid_params(
                    f"Incorrect byte length {length} for SPL token {name} filter, expected {_KEY_BYTES}",
                )
        return lengths


def as_filters(given: Any) -> Filters:
    """The filters of a call; none when it names none. Raises RpcError."""
    if given is None:
        return Filters((), (), False)
    if not isinstance(given, list):
        raise wrong_type(given, "a sequence")
    if len(given) > _MOST_FILTERS:
        raise invalid_params(f"Too many filters provided; max {_MOST_FILTERS}")
    sizes: list[int] = []
    compares: list[tuple[int, bytes]] = []
    tokens_only = False
    for each in given:
        name, value = single_entry(each)
        as_variant(name, ["dataSize", "memcmp", "tokenAccountState"])
        if name == "dataSize":
            sizes.append(as_u64(value))
        elif name == "memcmp":
            compares.append(_as_compare(value))
        else:
            tokens_only = True
    return Filters(tuple(sizes), tuple(compares), tokens_only)


def single_entry(given: Any) -> tuple[str, Any]:
    """Name and value of an object with one field, which is how an enum with values is written; or a bare name."""
    if isinstance(given, str):
        return given, None
    if not isinstance(given, dict):
        raise wrong_type(given, "string or map")
    if len(given) != 1:
        raise invalid_params("Invalid params: invalid value: map, expected map with a single key.")
    return next(iter(given.items()))


def require_encodable(account: Account, encoding: Encoding, data_slice: DataSlice | None) -> None:
    """Raises RpcError for data that is too large for base58; subscribers are told so in the data's place instead."""
    if encoding not in (Encoding.BINARY, Encoding.BASE58):
        return
    size = len(account.data)
    if data_slice is not None:
        size = min(data_slice.length, max(0, size - data_slice.offset))
    if size > _BASE58_BYTES:
        raise RpcError(
            INVALID_REQUEST,
            f"Encoded binary (base 58) data should be less than {_BASE58_BYTES} bytes, please use Base64 encoding.",
        )


def account_json(
    address: Pubkey,
    account: Account,
    encoding: Encoding,
    data_slice: DataSlice | None,
    mint: Mint | None,
) -> dict[str, Any]:
    """An account as getAccountInfo shows it; `mint` is needed to show a token account parsed."""
    return {
        "lamports": account.lamports,
        "data": _data_json(address, account, encoding, data_slice, mint),
        "owner": str(account.owner),
        "executable": account.executable,
        "rentEpoch": 0 if account.owner in _OF_THE_RUNTIME else _RENT_EXEMPT,
        "space": len(account.data),
    }


def _data_json(
    address: Pubkey,
    account: Account,
    encoding: Encoding,
    data_slice: DataSlice | None,
    mint: Mint | None,
) -> Any:
    if encoding is Encoding.JSON_PARSED:
        parsed = account_data_json(address, account, mint)
        if parsed is not None:
            return parsed
    data = bytes(account.data)
    if data_slice is not None:
        data = data[data_slice.offset : data_slice.offset + data_slice.length]
    if encoding in (Encoding.BINARY, Encoding.BASE58):
        text = _TOO_LARGE if len(data) > _BASE58_BYTES else base58.b58encode(data).decode()
        return text if encoding is Encoding.BINARY else [text, encoding.value]
    if encoding is Encoding.BASE64_ZSTD:
        return [base64.b64encode(_compressed(data)).decode(), encoding.value]
    return [base64.b64encode(data).decode(), Encoding.BASE64.value]


def _compressed(data: bytes) -> bytes:
    """One frame without its content's size, as Agave's streaming encoder writes it at level 0."""
    if not data:
        return zstandard.ZstdCompressor().compress(data)
    encoder = zstandard.ZstdCompressor(level=0, write_content_size=False).compressobj()
    return encoder.compress(data) + encoder.flush()


def _as_compare(given: Any) -> tuple[int, bytes]:
    if not isinstance(given, dict):
        raise wrong_type(given, "struct Memcmp")
    for name in ("offset", "bytes"):
        if name not in given:
            raise missing_field(name)
    offset, wanted = as_u64(given["offset"], "usize"), given["bytes"]
    encoding = given.get("encoding")
    if encoding is not None:
        as_variant(encoding, ["base58", "base64", "bytes"])
    if isinstance(wanted, list):
        decoded = bytes(_as_byte(each) for each in wanted)
    else:
        decoded = _decoded(as_text(wanted), encoding or "base58")
    if len(decoded) > _MEMCMP_BYTES:
        raise invalid_params("Invalid param: DataTooLarge")
    return offset, decoded


def _as_byte(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong_type(value, "u8")
    if not 0 <= value <= 255:
        raise invalid_params(f"Invalid params: invalid value: integer `{value}`, expected u8.")
    return value


def _decoded(text: str, encoding: str) -> bytes:
    if len(text) > _MEMCMP_TEXT:  # before decoding: base58 takes quadratic time
        raise invalid_params("Invalid param: DataTooLarge")
    if encoding == "base64":
        try:
            return base64.b64decode(text, validate=True)
        except ValueError:
            raise invalid_params(f"Invalid param: Base64DecodeError({base64_error(text)})") from None
    try:
        return base58.b58decode(text)
    except ValueError:
        raise invalid_params(f"Invalid param: Base58DecodeError({base58_error(text)})") from None
