"""Instructions of the system program in words.

Source: Agave, transaction-status/src/parse_system.rs; compared in tests/conformance.
"""

from collections.abc import Callable
from typing import Any, Final

from marketplace.localnet.parsed.instruction import Accounts, Data, NotParsed, Parsed

_Info = dict[str, Any]


def parse_system(accounts: Accounts, raw: bytes) -> Parsed:
    """Raises NotParsed."""
    data = Data(raw)
    found = _KINDS.get(data.u32())
    if found is None:
        raise NotParsed
    name, needed, read = found
    accounts.need(needed)
    return Parsed(name, read(accounts, data))


def _create_account(accounts: Accounts, data: Data) -> _Info:
    return {
        "source": accounts[0],
        "newAccount": accounts[1],
        "lamports": data.u64(),
        "space": data.u64(),
        "owner": data.address(),
    }


def _assign(accounts: Accounts, data: Data) -> _Info:
    return {"account": accounts[0], "owner": data.address()}


def _transfer(accounts: Accounts, data: Data) -> _Info:
    return {"source": accounts[0], "destination": accounts[1], "lamports": data.u64()}


def _create_account_with_seed(accounts: Accounts, data: Data) -> _Info:
    return {
        "source": accounts[0],
        "newAccount": accounts[1],
        "base": data.address(),
        "seed": data.text(),
        "lamports": data.u64(),
        "space": data.u64(),
        "owner": data.address(),
    }


def _advance_nonce(accounts: Accounts, _: Data) -> _Info:
    return {"nonceAccount": accounts[0], "recentBlockhashesSysvar": accounts[1], "nonceAuthority": accounts[2]}


def _withdraw_from_nonce(accounts: Accounts, data: Data) -> _Info:
    return {
        "nonceAccount": accounts[0],
        "destination": accounts[1],
        "recentBlockhashesSysvar": accounts[2],
        "rentSysvar": accounts[3],
        "nonceAuthority": accounts[4],
        "lamports": data.u64(),
    }


def _initialize_nonce(accounts: Accounts, data: Data) -> _Info:
    return {
        "nonceAccount": accounts[0],
        "recentBlockhashesSysvar": accounts[1],
        "rentSysvar": accounts[2],
        "nonceAuthority": data.address(),
    }


def _authorize_nonce(accounts: Accounts, data: Data) -> _Info:
    return {"nonceAccount": accounts[0], "nonceAuthority": accounts[1], "newAuthorized": data.address()}


def _allocate(accounts: Accounts, data: Data) -> _Info:
    return {"account": accounts[0], "space": data.u64()}


def _allocate_with_seed(accounts: Accounts, data: Data) -> _Info:
    return {
        "account": accounts[0],
        "base": data.address(),
        "seed": data.text(),
        "space": data.u64(),
        "owner": data.address(),
    }


def _assign_with_seed(accounts: Accounts, data: Data) -> _Info:
    return {"account": accounts[0], "base": data.address(), "seed": data.text(), "owner": data.address()}


def _transfer_with_seed(accounts: Accounts, data: Data) -> _Info:
    return {
        "source": accounts[0],
        "sourceBase": accounts[1],
        "destination": accounts[2],
        "lamports": data.u64(),
        "sourceSeed": data.text(),
        "sourceOwner": data.address(),
    }


def _upgrade_nonce(accounts: Accounts, _: Data) -> _Info:
    return {"nonceAccount": accounts[0]}


# Tag → name, accounts it takes at least, reader.
_KINDS: Final[dict[int, tuple[str, int, Callable[[Accounts, Data], _Info]]]] = {
    0: ("createAccount", 2, _create_account),
    1: ("assign", 1, _assign),
    2: ("transfer", 2, _transfer),
    3: ("createAccountWithSeed", 2, _create_account_with_seed),
    4: ("advanceNonce", 3, _advance_nonce),
    5: ("withdrawFromNonce", 5, _withdraw_from_nonce),
    6: ("initializeNonce", 3, _initialize_nonce),
    7: ("authorizeNonce", 2, _authorize_nonce),
    8: ("allocate", 1, _allocate),
    9: ("allocateWithSeed", 2, _allocate_with_seed),
    10: ("assignWithSeed", 2, _assign_with_seed),
    11: ("transferWithSeed", 3, _transfer_with_seed),
    12: ("upgradeNonce", 1, _upgrade_nonce),
}
