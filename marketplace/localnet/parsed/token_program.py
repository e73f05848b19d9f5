"""Instructions of the classic token program in words.

Source: Agave, transaction-status/src/parse_token.rs; compared in tests/conformance.
"""

from collections.abc import Callable
from typing import Any, Final

from marketplace.localnet.parsed.instruction import Accounts, Data, NotParsed, Parsed
from marketplace.localnet.tokens import ui_amount

_Info = dict[str, Any]
# Token-2022's kinds follow those of the classic program; Agave has one parser for both.
_AUTHORITIES: Final = (
    "mintTokens",
    "freezeAccount",
    "accountOwner",
    "closeAccount",
    "transferFeeConfig",
    "withheldWithdraw",
    "closeMint",
    "interestRate",
    "permanentDelegate",
    "confidentialTransferMint",
    "transferHookProgramId",
    "confidentialTransferFeeConfig",
    "metadataPointer",
    "groupPointer",
    "groupMemberPointer",
    "scaledUiAmount",
    "pause",
)
_OF_ACCOUNTS: Final = ("accountOwner", "closeAccount")
# Those of Token-2022's extensions that the associated token program asks the classic program about.
_EXTENSIONS: Final = {7: "immutableOwner"}


def parse_token(accounts: Accounts, raw: bytes) -> Parsed:
    """Raises NotParsed."""
    data = Data(raw)
    found = _KINDS.get(data.u8())
    if found is None:
        raise NotParsed
    name, needed, read = found
    accounts.need(needed)
    return Parsed(name, read(accounts, data))


def _signed(info: _Info, accounts: Accounts, at: int, field: str) -> _Info:
    """Who signed: one owner, or a multisig and its signers, who follow it."""
    if len(accounts) > at + 1:
        return {
            **info,
            f"multisig{field[0].upper()}{field[1:]}": accounts[at],
            "signers": accounts.since(at + 1),
        }
    return {**info, field: accounts[at]}


def _freeze_authority(data: Data) -> _Info:
    return {"freezeAuthority": data.address()} if data.u8() else {}


def _initialize_mint(accounts: Accounts, data: Data) -> _Info:
    return {
        "mint": accounts[0],
        "decimals": data.u8(),
        "mintAuthority": data.address(),
        "rentSysvar": accounts[1],
        **_freeze_authority(data),
    }


def _initialize_mint_2(accounts: Accounts, data: Data) -> _Info:
    return {
        "mint": accounts[0],
        "decimals": data.u8(),
        "mintAuthority": data.address(),
        **_freeze_authority(data),
    }


def _initialize_account(accounts: Accounts, _: Data) -> _Info:
    return {"account": accounts[0], "mint": accounts[1], "owner": accounts[2], "rentSysvar": accounts[3]}


def _initialize_account_2(accounts: Accounts, data: Data) -> _Info:
    return {"account": accounts[0], "mint": accounts[1], "owner": data.address(), "rentSysvar": accounts[2]}


def _initialize_account_3(accounts: Accounts, data: Data) -> _Info:
    return {"account": accounts[0], "mint": accounts[1], "owner": data.address()}


def _initialize_multisig(accounts: Accounts, data: Data) -> _Info:
    return {"multisig": accounts[0], "rentSysvar": accounts[1], "signers": accounts.since(2), "m": data.u8()}


def _initialize_multisig_2(accounts: Accounts, data: Data) -> _Info:
    return {"multisig": accounts[0], "signers": accounts.since(1), "m": data.u8()}


def _transfer(accounts: Accounts, data: Data) -> _Info:
    info = {"source": accounts[0], "destination": accounts[1], "amount": str(data.u64())}
    return _signed(info, accounts, 2, "authority")


def _approve(accounts: Accounts, data: Data) -> _Info:
    info = {"source": accounts[0], "delegate": accounts[1], "amount": str(data.u64())}
    return _signed(info, accounts, 2, "owner")


def _revoke(accounts: Accounts, _: Data) -> _Info:
    return _signed({"source": accounts[0]}, accounts, 1, "owner")


def _set_authority(accounts: Accounts, data: Data) -> _Info:
    kind = data.u8()
    if kind >= len(_AUTHORITIES):
        raise NotParsed
    owned = "account" if _AUTHORITIES[kind] in _OF_ACCOUNTS else "mint"
    new = data.address() if data.u8() else None
    info = {owned: accounts[0], "authorityType": _AUTHORITIES[kind], "newAuthority": new}
    return _signed(info, accounts, 1, "authority")


def _mint_to(accounts: Accounts, data: Data) -> _Info:
    info = {"mint": accounts[0], "account": accounts[1], "amount": str(data.u64())}
    return _signed(info, accounts, 2, "mintAuthority")


def _burn(accounts: Accounts, data: Data) -> _Info:
    info = {"account": accounts[0], "mint": accounts[1], "amount": str(data.u64())}
    return _signed(info, accounts, 2, "authority")


def _close_account(accounts: Accounts, _: Data) -> _Info:
    return _signed({"account": accounts[0], "destination": accounts[1]}, accounts, 2, "owner")


def _freeze(accounts: Accounts, _: Data) -> _Info:
    return _signed({"account": accounts[0], "mint": accounts[1]}, accounts, 2, "freezeAuthority")


def _amount(data: Data) -> _Info:
    amount = data.u64()
    return ui_amount(amount, data.u8())


def _transfer_checked(accounts: Accounts, data: Data) -> _Info:
    info = {
        "source": accounts[0],
        "mint": accounts[1],
        "destination": accounts[2],
        "tokenAmount": _amount(data),
    }
    return _signed(info, accounts, 3, "authority")


def _approve_checked(accounts: Accounts, data: Data) -> _Info:
    info = {"source": accounts[0], "mint": accounts[1], "delegate": accounts[2], "tokenAmount": _amount(data)}
    return _signed(info, accounts, 3, "owner")


def _mint_to_checked(accounts: Accounts, data: Data) -> _Info:
    info = {"mint": accounts[0], "account": accounts[1], "tokenAmount": _amount(data)}
    return _signed(info, accounts, 2, "mintAuthority")


def _burn_checked(accounts: Accounts, data: Data) -> _Info:
    info = {"account": accounts[0], "mint": accounts[1], "tokenAmount": _amount(data)}
    return _signed(info, accounts, 2, "authority")


def _sync_native(accounts: Accounts, _: Data) -> _Info:
    return {"account": accounts[0]}


def _account_data_size(accounts: Accounts, data: Data) -> _Info:
    info: _Info = {"mint": accounts[0]}
    rest = data.rest()
    if rest:
        numbers = [int.from_bytes(rest[at : at + 2], "little") for at in range(0, len(rest), 2)]
        if len(rest) % 2 or not set(numbers) <= _EXTENSIONS.keys():
            raise NotParsed
        info["extensionTypes"] = [_EXTENSIONS[number] for number in numbers]
    return info


def _immutable_owner(accounts: Accounts, _: Data) -> _Info:
    return {"account": accounts[0]}


def _amount_to_ui(accounts: Accounts, data: Data) -> _Info:
    return {"mint": accounts[0], "amount": str(data.u64())}


def _ui_to_amount(accounts: Accounts, data: Data) -> _Info:
    try:
        return {"mint": accounts[0], "uiAmount": data.rest().decode()}
    except UnicodeDecodeError:
        raise NotParsed from None


# Tag → name, accounts it takes at least, reader.
_KINDS: Final[dict[int, tuple[str, int, Callable[[Accounts, Data], _Info]]]] = {
    0: ("initializeMint", 2, _initialize_mint),
    1: ("initializeAccount", 4, _initialize_account),
    2: ("initializeMultisig", 3, _initialize_multisig),
    3: ("transfer", 3, _transfer),
    4: ("approve", 3, _approve),
    5: ("revoke", 2, _revoke),
    6: ("setAuthority", 2, _set_authority),
    7: ("mintTo", 3, _mint_to),
    8: ("burn", 3, _burn),
    9: ("closeAccount", 3, _close_account),
    10: ("freezeAccount", 3, _freeze),
    11: ("thawAccount", 3, _freeze),
    12: ("transferChecked", 4, _transfer_checked),
    13: ("approveChecked", 4, _approve_checked),
    14: ("mintToChecked", 3, _mint_to_checked),
    15: ("burnChecked", 3, _burn_checked),
    16: ("initializeAccount2", 3, _initialize_account_2),
    17: ("syncNative", 1, _sync_native),
    18: ("initializeAccount3", 2, _initialize_account_3),
    19: ("initializeMultisig2", 2, _initialize_multisig_2),
    20: ("initializeMint2", 1, _initialize_mint_2),
    21: ("getAccountDataSize", 1, _account_data_size),
    22: ("initializeImmutableOwner", 1, _immutable_owner),
    23: ("amountToUiAmount", 1, _amount_to_ui),
    24: ("uiAmountToAmount", 1, _ui_to_amount),
}
