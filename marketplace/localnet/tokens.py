"""The classic SPL token program's accounts, read for the balances that JSON-RPC reports."""

import struct
from dataclasses import dataclass
from typing import Any, Final

from solders.account import Account
from solders.pubkey import Pubkey

TOKEN_PROGRAM: Final = Pubkey.from_string("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA")
ASSOCIATED_TOKEN_PROGRAM: Final = Pubkey.from_string("ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL")
# Sizes and layouts specified by the token program: mint, then token account.
MINT_BYTES: Final = 82
TOKEN_ACCOUNT_BYTES: Final = 165
_MINT: Final = struct.Struct("<I32sQBBI32s")
_TOKEN_ACCOUNT: Final = struct.Struct("<32s32sQI32sBIQQI32s")
TOKEN_MINT_AT: Final = 0
TOKEN_OWNER_AT: Final = 32
_STATES: Final = ("uninitialized", "initialized", "frozen")


@dataclass(frozen=True, slots=True)
class Mint:
    authority: Pubkey | None
    supply: int
    decimals: int
    freeze_authority: Pubkey | None


@dataclass(frozen=True, slots=True)
class TokenHolding:
    mint: Pubkey
    owner: Pubkey
    amount: int
    delegate: Pubkey | None
    state: str
    native_reserve: int | None
    delegated_amount: int
    close_authority: Pubkey | None


def parse_mint(account: Account | None) -> Mint | None:
    """The mint in this account, or None where there is none."""
    if account is None or account.owner != TOKEN_PROGRAM or len(account.data) != MINT_BYTES:
        return None
    has_authority, authority, supply, decimals, initialized, has_freeze, freeze = _MINT.unpack(account.data)
    if not initialized:
        return None
    return Mint(_optional(has_authority, authority), supply, decimals, _optional(has_freeze, freeze))


def parse_holding(account: Account | None) -> TokenHolding | None:
    """The token account in this account, or None where there is none."""
    if account is None or account.owner != TOKEN_PROGRAM or len(account.data) != TOKEN_ACCOUNT_BYTES:
        return None
    mint, owner, amount, has_delegate, delegate, state, is_native, reserve, delegated, has_close, close = (
        _TOKEN_ACCOUNT.unpack(account.data)
    )
    if state not in (1, 2):
        return None
    return TokenHolding(
        mint=Pubkey.from_bytes(mint),
        owner=Pubkey.from_bytes(owner),
        amount=amount,
        delegate=_optional(has_delegate, delegate),
        state=_STATES[state],
        native_reserve=reserve if is_native else None,
        delegated_amount=delegated,
        close_authority=_optional(has_close, close),
    )


def mint_data(authority: Pubkey, decimals: int) -> bytes:
    """The bytes of a fresh mint without supply and without a freeze authority."""
    return _MINT.pack(1, bytes(authority), 0, decimals, 1, 0, bytes(32))


def associated_address(owner: Pubkey, mint: Pubkey) -> Pubkey:
    """The wallet's associated token account."""
    seeds = [bytes(owner), bytes(TOKEN_PROGRAM), bytes(mint)]
    return Pubkey.find_program_address(seeds, ASSOCIATED_TOKEN_PROGRAM)[0]


def ui_amount(amount: int, decimals: int) -> dict[str, Any]:
    """`amount` as JSON-RPC shows it; the string is exact, the float is what it can be."""
    return {
        "amount": str(amount),
        "decimals": decimals,
        "uiAmount": amount / 10**decimals,
        "uiAmountString": decimal_text(amount, decimals),
    }


def decimal_text(amount: int, decimals: int) -> str:
    """`amount` base units as an exact decimal number without trailing zeros."""
    if decimals == 0:
        return str(amount)
    whole, part = divmod(amount, 10**decimals)
    text = f"{whole}.{part:0{decimals}d}"
    return text.rstrip("0").rstrip(".")


def _optional(present: int, key: bytes) -> Pubkey | None:
    return Pubkey.from_bytes(key) if present else None
