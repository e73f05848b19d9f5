"""Accounts as jsonParsed shows them. Those of programs that Agave has no parser for are shown as bytes.

Source: Agave, account-decoder; compared in tests/conformance.
"""

import struct
from typing import Any, Final

from solders.account import Account
from solders.pubkey import Pubkey

from marketplace.localnet.parsed.instructions import LOOKUP_TABLE_PROGRAM
from marketplace.localnet.tokens import Mint, TokenHolding, parse_holding, parse_mint, ui_amount

_SYSVARS: Final = Pubkey.from_string("Sysvar1111111111111111111111111111111111111")
_CLOCK: Final = Pubkey.from_string("SysvarC1ock11111111111111111111111111111111")
_RENT: Final = Pubkey.from_string("SysvarRent111111111111111111111111111111111")
_CLOCK_LAYOUT: Final = struct.Struct("<QqQQq")
_RENT_LAYOUT: Final = struct.Struct("<QdB")
# Specified: the lookup table program's state, a tag, then LookupTableMeta, in 56 bytes.
_TABLE_LAYOUT: Final = struct.Struct("<IQQBB32s")
_TABLE_BYTES: Final = 56
_IS_TABLE: Final = 1


def account_data_json(address: Pubkey, account: Account, mint: Mint | None) -> dict[str, Any] | None:
    """The parsed `data` of an account, or None where it is shown as bytes; `mint` is the one of a token account."""
    found = _of_token_program(account, mint) or _of_lookup_tables(account) or _of_sysvars(address, account)
    if found is None:
        return None
    program, parsed = found
    return {"program": program, "parsed": parsed, "space": len(account.data)}


def _of_token_program(account: Account, mint: Mint | None) -> tuple[str, dict[str, Any]] | None:
    itself = parse_mint(account)
    if itself is not None:
        return "spl-token", {"type": "mint", "info": _mint_info(itself)}
    holding = parse_holding(account)
    if holding is not None and mint is not None:
        return "spl-token", {"type": "account", "info": _holding_info(holding, mint)}
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


def _of_lookup_tables(account: Account) -> tuple[str, dict[str, Any]] | None:
    data = account.data
    if account.owner != LOOKUP_TABLE_PROGRAM or len(data) < _TABLE_BYTES or (len(data) - _TABLE_BYTES) % 32:
        return None
    tag, deactivated, extended, start, has_authority, authority = _TABLE_LAYOUT.unpack_from(data)
    if tag != _IS_TABLE:
        return None
    listed = range(_TABLE_BYTES, len(data), 32)
    info: dict[str, Any] = {
        "addresses": [str(Pubkey.from_bytes(data[at : at + 32])) for at in listed],
        "deactivationSlot": str(deactivated),
        "lastExtendedSlot": str(extended),
        "lastExtendedSlotStartIndex": start,
    }
    if has_authority:
        info["authority"] = str(Pubkey.from_bytes(authority))
    return "address-lookup-table", {"type": "lookupTable", "info": info}


def _of_sysvars(address: Pubkey, account: Account) -> tuple[str, dict[str, Any]] | None:
    if account.owner != _SYSVARS:
        return None
    if address == _CLOCK and len(account.data) == _CLOCK_LAYOUT.size:
        names = ("slot", "epochStartTimestamp", "epoch", "leaderScheduleEpoch", "unixTimestamp")
        return "sysvar", {"type": "clock", "info": dict(zip(names, _CLOCK_LAYOUT.unpack(account.data), strict=True))}
    if address == _RENT and len(account.data) == _RENT_LAYOUT.size:
        per_year, threshold, burned = _RENT_LAYOUT.unpack(account.data)
        info = {"lamportsPerByteYear": str(per_year), "exemptionThreshold": threshold, "burnPercent": burned}
        return "sysvar", {"type": "rent", "info": info}
    return None
