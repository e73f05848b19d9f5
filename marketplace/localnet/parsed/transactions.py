"""Transactions as jsonParsed shows them, and as getBlock shows their accounts alone.

Source: Agave, transaction-status; compared in tests/conformance.
"""

from collections.abc import Sequence
from typing import Any, Final

import base58
from solders.message import Message, MessageV0
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from marketplace.localnet.parsed.instructions import instruction_json
from marketplace.localnet.rendering import lookups_json

_UPGRADEABLE_LOADER: Final = Pubkey.from_string("BPFLoaderUpgradeab1e11111111111111111111111")
# Specified: Agave, reserved-account-keys: accounts that no transaction may write, whatever it says.
_RESERVED: Final = frozenset(
    Pubkey.from_string(text)
    for text in (
        "11111111111111111111111111111111",
        "AddressLookupTab1e1111111111111111111111111",
        "BPFLoader1111111111111111111111111111111111",
        "BPFLoader2111111111111111111111111111111111",
        "BPFLoaderUpgradeab1e11111111111111111111111",
        "ComputeBudget111111111111111111111111111111",
        "Config1111111111111111111111111111111111111",
        "Ed25519SigVerify111111111111111111111111111",
        "Feature111111111111111111111111111111111111",
        "KeccakSecp256k11111111111111111111111111111",
        "LoaderV411111111111111111111111111111111111",
        "NativeLoader1111111111111111111111111111111",
        "Secp256r1SigVerify1111111111111111111111111",
        "Stake11111111111111111111111111111111111111",
        "StakeConfig11111111111111111111111111111111",
        "Sysvar1111111111111111111111111111111111111",
        "SysvarC1ock11111111111111111111111111111111",
        "SysvarEpochRewards1111111111111111111111111",
        "SysvarEpochSchedu1e111111111111111111111111",
        "SysvarFees111111111111111111111111111111111",
        "Sysvar1nstructions1111111111111111111111111",
        "SysvarLastRestartS1ot1111111111111111111111",
        "SysvarRecentB1ockHashes11111111111111111111",
        "SysvarRent111111111111111111111111111111111",
        "SysvarRewards111111111111111111111111111111",
        "SysvarS1otHashes111111111111111111111111111",
        "SysvarS1otHistory11111111111111111111111111",
        "SysvarStakeHistory1111111111111111111111111",
        "Vote111111111111111111111111111111111111111",
    )
)


class LoadedKeys:
    """Every account of a stored transaction: its own, and what its lookup tables gave when it ran."""

    def __init__(self, message: Message | MessageV0, loaded: dict[str, list[str]]) -> None:
        self.static = tuple(message.account_keys)
        self.writable = tuple(Pubkey.from_string(text) for text in loaded["writable"])
        self.readonly = tuple(Pubkey.from_string(text) for text in loaded["readonly"])

    @property
    def all(self) -> tuple[Pubkey, ...]:
        return self.static + self.writable + self.readonly


def parsed_transaction_json(transaction: VersionedTransaction, keys: LoadedKeys) -> dict[str, Any]:
    """The `transaction` of getTransaction with encoding jsonParsed."""
    message = transaction.message
    shown: dict[str, Any] = {
        "accountKeys": account_keys_json(message, keys),
        "recentBlockhash": str(message.recent_blockhash),
        "instructions": [
            parsed_instruction_json(each.program_id_index, bytes(each.accounts), bytes(each.data), keys.all, 1)
            for each in message.instructions
        ],
    }
    if isinstance(message, MessageV0):
        shown["addressTableLookups"] = lookups_json(message)
    return {"signatures": [str(each) for each in transaction.signatures], "message": shown}


def parsed_meta_json(meta: dict[str, Any], keys: LoadedKeys) -> dict[str, Any]:
    """The `meta` beside it: what was looked up stands with the account keys, inner instructions are in words."""
    shown = {name: value for name, value in meta.items() if name != "loadedAddresses"}
    if meta["innerInstructions"] is not None:
        shown["innerInstructions"] = [
            {
                "index": group["index"],
                "instructions": [
                    parsed_instruction_json(
                        each["programIdIndex"],
                        bytes(each["accounts"]),
                        base58.b58decode(each["data"]),
                        keys.all,
                        each["stackHeight"],
                    )
                    for each in group["instructions"]
                ],
            }
            for group in meta["innerInstructions"]
        ]
    return shown


def parsed_instruction_json(
    program_index: int,
    accounts: bytes,
    data: bytes,
    keys: Sequence[Pubkey],
    stack_height: int | None,
) -> dict[str, Any]:
    """An instruction whose accounts are places in `keys`."""
    return instruction_json(keys[program_index], [keys[at] for at in accounts], data, stack_height)


def accounts_only_json(transaction: VersionedTransaction, keys: LoadedKeys) -> dict[str, Any]:
    """The `transaction` of getBlock with the detail `accounts`."""
    return {
        "signatures": [str(each) for each in transaction.signatures],
        "accountKeys": account_keys_json(transaction.message, keys),
    }


def account_keys_json(message: Message | MessageV0, keys: LoadedKeys) -> list[dict[str, Any]]:
    header = message.header
    signers, count = header.num_required_signatures, len(keys.static)
    programs = {each.program_id_index for each in message.instructions}
    if _UPGRADEABLE_LOADER in keys.all:
        programs = set()  # a program that is being upgraded is both called and written
    shown = []
    for index, key in enumerate(keys.all):
        if index < signers:
            named = index < signers - header.num_readonly_signed_accounts
        elif index < count:
            named = index < count - header.num_readonly_unsigned_accounts
        else:
            named = index < count + len(keys.writable)
        shown.append(
            {
                "pubkey": str(key),
                "writable": named and key not in _RESERVED and index not in programs,
                "signer": index < signers,
                "source": "transaction" if index < count else "lookupTable",
            }
        )
    return shown
