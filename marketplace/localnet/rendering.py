"""Transactions and runs as the JSON that Agave prints: for the journal, getTransaction and simulateTransaction."""

import base64
from typing import Any

import base58
from solders.account import Account
from solders.instruction import CompiledInstruction
from solders.message import Message, MessageV0
from solders.transaction import VersionedTransaction
from solders.transaction_metadata import InnerInstruction, TransactionMetadata

from marketplace.localnet.outcome import ErrorJson
from marketplace.localnet.parsed.instructions import MEMO_PROGRAMS, instruction_json
from marketplace.localnet.records import Execution, TokenBalance
from marketplace.localnet.tokens import TOKEN_PROGRAM, ui_amount


def version_of(message: Message | MessageV0) -> str:
    """As stored: "legacy" or "0"."""
    return "legacy" if isinstance(message, Message) else "0"


def memo_of(message: Message | MessageV0) -> str | None:
    """The memos of a transaction, each with its length, as getSignaturesForAddress shows them."""
    memos = [
        f"[{len(bytes(each.data))}] {_readable(bytes(each.data))}"
        for each in message.instructions
        if message.account_keys[each.program_id_index] in MEMO_PROGRAMS
    ]
    return "; ".join(memos) or None


def _readable(memo: bytes) -> str:
    try:
        return memo.decode()
    except UnicodeDecodeError:
        return "(unparseable)"


def status_json(error: ErrorJson | None) -> dict[str, Any]:
    return {"Ok": None} if error is None else {"Err": error}


def meta_json(run: Execution) -> dict[str, Any]:
    """The `meta` of getTransaction."""
    metadata = run.metadata
    meta: dict[str, Any] = {
        "err": run.error,
        "status": status_json(run.error),
        "fee": run.fee,
        **_stored(balances_json(run)),
        "innerInstructions": None if metadata is None else _inner_compiled(metadata),
        "logMessages": None if metadata is None else metadata.logs(),
        "rewards": [],
        "loadedAddresses": loaded_json(run),
        "computeUnitsConsumed": 0 if metadata is None else metadata.compute_units_consumed(),
    }
    returned = return_data_json(metadata)
    if returned is not None:
        meta["returnData"] = returned
    return meta


def _stored(balances: dict[str, Any]) -> dict[str, Any]:
    """As they come back from Agave's store, which can't tell a zero from nothing."""
    for balance in (*balances["preTokenBalances"], *balances["postTokenBalances"]):
        balance["uiTokenAmount"]["uiAmount"] = balance["uiTokenAmount"]["uiAmount"] or None
    return balances


def balances_json(run: Execution) -> dict[str, Any]:
    return {
        "preBalances": [_lamports(account) for account in run.accounts_before],
        "postBalances": [_lamports(account) for account in run.accounts_after],
        "preTokenBalances": [_token_balance(balance) for balance in run.tokens_before],
        "postTokenBalances": [_token_balance(balance) for balance in run.tokens_after],
    }


def loaded_json(run: Execution) -> dict[str, list[str]]:
    return {
        "writable": [str(address) for address in run.keys.loaded_writable],
        "readonly": [str(address) for address in run.keys.loaded_readonly],
    }


def return_data_json(metadata: TransactionMetadata | None) -> dict[str, Any] | None:
    if metadata is None:
        return None
    # The type stub names this method transaction_return_data; the class itself has return_data.
    returned = metadata.return_data()  # type: ignore[attr-defined]
    data = bytes(returned.data)
    if not data:
        return None
    return {"programId": str(returned.program_id), "data": [base64.b64encode(data).decode(), "base64"]}


def inner_parsed_json(run: Execution) -> list[dict[str, Any]]:
    """Inner instructions as simulateTransaction shows them."""
    if run.metadata is None:
        return []
    keys = run.keys.all
    return [
        {
            "index": index,
            "instructions": [
                instruction_json(
                    keys[each.instruction().program_id_index],
                    [keys[at] for at in bytes(each.instruction().accounts)],
                    bytes(each.instruction().data),
                    each.stack_height(),  # type: ignore[attr-defined]  # missing in the stub
                )
                for each in group
            ],
        }
        for index, group in enumerate(run.metadata.inner_instructions())
        if group
    ]


def transaction_json(transaction: VersionedTransaction) -> dict[str, Any]:
    """The `transaction` of getTransaction with encoding json."""
    message = transaction.message
    header = message.header
    shown: dict[str, Any] = {
        "header": {
            "numRequiredSignatures": header.num_required_signatures,
            "numReadonlySignedAccounts": header.num_readonly_signed_accounts,
            "numReadonlyUnsignedAccounts": header.num_readonly_unsigned_accounts,
        },
        "accountKeys": [str(key) for key in message.account_keys],
        "recentBlockhash": str(message.recent_blockhash),
        "instructions": [_compiled(each, 1) for each in message.instructions],
    }
    if isinstance(message, MessageV0):
        shown["addressTableLookups"] = lookups_json(message)
    return {"signatures": [str(signature) for signature in transaction.signatures], "message": shown}


def lookups_json(message: MessageV0) -> list[dict[str, Any]]:
    return [
        {
            "accountKey": str(lookup.account_key),
            "writableIndexes": list(bytes(lookup.writable_indexes)),
            "readonlyIndexes": list(bytes(lookup.readonly_indexes)),
        }
        for lookup in message.address_table_lookups
    ]


def _inner_compiled(metadata: TransactionMetadata) -> list[dict[str, Any]]:
    return [
        {"index": index, "instructions": [_compiled_inner(each) for each in group]}
        for index, group in enumerate(metadata.inner_instructions())
        if group
    ]


def _compiled_inner(inner: InnerInstruction) -> dict[str, Any]:
    return _compiled(inner.instruction(), inner.stack_height())  # type: ignore[attr-defined]  # missing in the stub


def _compiled(instruction: CompiledInstruction, stack_height: int) -> dict[str, Any]:
    return {
        "programIdIndex": instruction.program_id_index,
        "accounts": list(bytes(instruction.accounts)),
        "data": base58.b58encode(bytes(instruction.data)).decode(),
        "stackHeight": stack_height,
    }


def _token_balance(balance: TokenBalance) -> dict[str, Any]:
    return {
        "accountIndex": balance.index,
        "mint": str(balance.holding.mint),
        "owner": str(balance.holding.owner),
        "programId": str(TOKEN_PROGRAM),
        "uiTokenAmount": ui_amount(balance.holding.amount, balance.decimals),
    }


def _lamports(account: Account | None) -> int:
    return account.lamports if account is not None else 0
