"""Accounts as JSON, and the filters of getProgramAccounts."""

import base64
from dataclasses import dataclass
from typing import Any, Final

import base58
from solders.account import Account
from solders.pubkey import Pubkey

from marketplace.localnet.rpc.envelope import INVALID_REQUEST, RpcError, invalid_params
from marketplace.localnet.rpc.params import DataSlice, Encoding, as_text, as_u64
from marketplace.localnet.tokens import Mint, TokenHolding, parse_holding, parse_mint, ui_amount

# Specified: Agave, account-decoder, MAX_BASE58_BYTES; rpc, MAX_GET_PROGRAM_ACCOUNT_FILTERS and MAX_DATA_SIZE.
_BASE58_BYTES: Final = 128
_MOST_FILTERS: Final = 4
_MEMCMP_BYTES: Final = 128
_MEMCMP_TEXT: Final = 175  # specified there too: 128 bytes in base58
# What Agave shows for every account that pays no rent, and so for all that can exist today.
_RENT_EXEMPT: Final = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Filters:
    """All of them must hold."""

    sizes: tuple[int, ...]
    compares: tuple[tuple[int, bytes], ...]

    def match(self, account: Account) -> bool:
        data = account.data
        return all(len(data) == size for size in self.sizes) and all(
            data[offset : offset + len(wanted)] == wanted for offset, wanted in self.compares
        )


def as_filters(given: Any) -> Filters:
    """The filters of a call; none when it names none. Raises RpcError."""
    if given is None:
        return Filters((), ())
    if not isinstance(given, list):
        raise invalid_params("Invalid params: `filters` must be a sequence.")
    if len(given) > _MOST_FILTERS:
        raise invalid_params(f"Too many filters provided; max {_MOST_FILTERS}")
    sizes: list[int] = []
    compares: list[tuple[int, bytes]] = []
    for each in given:
        if not isinstance(each, dict) or len(each) != 1 or next(iter(each)) not in ("dataSize", "memcmp"):
            raise invalid_params("Invalid params: unknown filter, expected `dataSize` or `memcmp`.")
        if "dataSize" in each:
            sizes.append(as_u64(each["dataSize"]))
        else:
            compares.append(_as_compare(each["memcmp"]))
    return Filters(tuple(sizes), tuple(compares))


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
        "rentEpoch": _RENT_EXEMPT,
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
        parsed = _parsed(account, mint)
        if parsed is not None:
            return {"program": "spl-token", "parsed": parsed, "space": len(account.data)}
    data = bytes(account.data)
    if data_slice is not None:
        data = data[data_slice.offset : data_slice.offset + data_slice.length]
    if encoding in (Encoding.BINARY, Encoding.BASE58):
        if len(data) > _BASE58_BYTES:
            raise RpcError(
                INVALID_REQUEST,
                f"Encoded binary (base 58) data should be less than {_BASE58_BYTES} bytes, please use Base64 encoding.",
            )
        text = base58.b58encode(data).decode()
        return text if encoding is Encoding.BINARY else [text, encoding.value]
    if encoding is Encoding.BASE64_ZSTD:
        raise invalid_params(f"base64+zstd is not offered by reaver-localnet, use base64 (account {address})")
    return [base64.b64encode(data).decode(), Encoding.BASE64.value]


def _parsed(account: Account, mint: Mint | None) -> dict[str, Any] | None:
    """Accounts of the token program in words; Agave shows the raw bytes of every program it doesn't know."""
    itself = parse_mint(account)
    if itself is not None:
        return {"type": "mint", "info": _mint_info(itself)}
    holding = parse_holding(account)
    if holding is not None and mint is not None:
        return {"type": "account", "info": _holding_info(holding, mint)}
    return None


def _mint_info(mint: Mint) -> dict[str, Any]:
    return {
        "mintAuthority": str(mint.authority) if mint.authority is not None else None,
        "supply": str(mint.supply),
        "decimals": mint.decimals,
        "isInitialized": True,
        "freezeAuthority": str(mint.freeze_authority) if mint.freeze_authority is not None else None,
    }


def _holding_info(holding: TokenHolding, mint: Mint) -> dict[str, Any]:
    info: dict[str, Any] = {
        "mint": str(holding.mint),
        "owner": str(holding.owner),
        "tokenAmount": ui_amount(holding.amount, mint.decimals),
        "state": holding.state,
        "isNative": holding.native_reserve is not None,
    }
    if holding.delegate is not None:
        info["delegate"] = str(holding.delegate)
        info["delegatedAmount"] = ui_amount(holding.delegated_amount, mint.decimals)
    if holding.native_reserve is not None:
        info["rentExemptReserve"] = ui_amount(holding.native_reserve, mint.decimals)
    if holding.close_authority is not None:
        info["closeAuthority"] = str(holding.close_authority)
    return info


def _as_compare(given: Any) -> tuple[int, bytes]:
    if not isinstance(given, dict) or "offset" not in given or "bytes" not in given:
        raise invalid_params("Invalid params: memcmp needs `offset` and `bytes`.")
    encoding = as_text(given.get("encoding") or "base58")
    if encoding not in ("base58", "base64"):
        raise invalid_params(f"Invalid params: unknown memcmp encoding `{encoding}`.")
    wanted = given["bytes"]
    if isinstance(wanted, list):
        raise invalid_params("Invalid params: memcmp `bytes` must be text, in base58 or base64.")
    text = as_text(wanted)
    if len(text) > _MEMCMP_TEXT:  # before decoding: base58 takes quadratic time
        raise invalid_params("Invalid param: DataTooLarge")
    try:
        decoded = base58.b58decode(text) if encoding == "base58" else base64.b64decode(text, validate=True)
    except ValueError as error:
        raise invalid_params(f"Invalid param: {encoding} of memcmp can't be decoded: {error}") from None
    if len(decoded) > _MEMCMP_BYTES:
        raise invalid_params("Invalid param: DataTooLarge")
    return as_u64(given["offset"]), decoded
