"""What a transaction costs, and which balances rent allows; LiteSVM charges neither priority fees nor rent rules."""

import struct
from typing import Final

from solders.account import Account
from solders.message import Message, MessageV0
from solders.pubkey import Pubkey
from solders.rent import Rent

# Specified: solana.com/docs/core/fees; the precompiles' signatures are charged like the transaction's own.
LAMPORTS_PER_SIGNATURE: Final = 5_000
# Specified: DEFAULT_INSTRUCTION_COMPUTE_UNIT_LIMIT, MAX_COMPUTE_UNIT_LIMIT and, for builtins,
# MAX_BUILTIN_ALLOCATION_COMPUTE_UNIT_LIMIT (SIMD-170).
_UNITS_PER_INSTRUCTION: Final = 200_000
_UNITS_PER_BUILTIN: Final = 3_000
_UNITS_PER_TRANSACTION: Final = 1_400_000
_MICRO: Final = 1_000_000

_COMPUTE_BUDGET: Final = Pubkey.from_string("ComputeBudget111111111111111111111111111111")
_PRECOMPILES: Final = frozenset(
    Pubkey.from_string(text)
    for text in (
        "Ed25519SigVerify111111111111111111111111111",
        "KeccakSecp256k11111111111111111111111111111",
        "Secp256r1SigVerify1111111111111111111111111",
    )
)
_BUILTINS: Final = _PRECOMPILES | {
    Pubkey.from_string(text)
    for text in (
        "11111111111111111111111111111111",
        "ComputeBudget111111111111111111111111111111",
        "Vote111111111111111111111111111111111111111",
        "BPFLoaderUpgradeab1e11111111111111111111111",
        "BPFLoader1111111111111111111111111111111111",
        "BPFLoader2111111111111111111111111111111111",
        "LoaderV411111111111111111111111111111111111",
    )
}


def base_fee(message: Message | MessageV0) -> int:
    """Lamports for the signatures: the transaction's own and those the precompiles check."""
    signatures = message.header.num_required_signatures
    for instruction in message.instructions:
        data = bytes(instruction.data)
        if message.account_keys[instruction.program_id_index] in _PRECOMPILES and data:
            signatures += data[0]
    return signatures * LAMPORTS_PER_SIGNATURE


def compute_price(message: Message | MessageV0) -> int:
    """Micro-lamports per compute unit that the transaction offers; 0 where it says nothing."""
    price = 0
    for data in _budget_instructions(message):
        if data[0] == 3 and len(data) >= 9:
            (price,) = struct.unpack_from("<Q", data, 1)
    return price


def priority_fee(message: Message | MessageV0) -> int:
    """Lamports on top of the base fee: the price times the limit *requested*, rounded up."""
    limit: int | None = None
    for data in _budget_instructions(message):
        if data[0] == 2 and len(data) >= 5:
            (limit,) = struct.unpack_from("<I", data, 1)
    if limit is None:
        limit = sum(
            _UNITS_PER_BUILTIN if message.account_keys[each.program_id_index] in _BUILTINS else _UNITS_PER_INSTRUCTION
            for each in message.instructions
        )
    return -(-compute_price(message) * min(limit, _UNITS_PER_TRANSACTION) // _MICRO)


def rent_allows(rent: Rent, before: Account | None, after: Account | None) -> bool:
    """Whether an account may end a transaction like this.

    It must be empty or rent-exempt; one that paid rent before may go on, at the same size and not richer.
    Source: Agave, svm/src/rent_calculator.rs, `transition_allowed`.
    """
    if after is None or after.lamports == 0 or _is_exempt(rent, after):
        return True
    if before is None or before.lamports == 0 or _is_exempt(rent, before):
        return False
    return len(before.data) == len(after.data) and after.lamports <= before.lamports


def _is_exempt(rent: Rent, account: Account) -> bool:
    return account.lamports >= rent.minimum_balance(len(account.data))


def _budget_instructions(message: Message | MessageV0) -> list[bytes]:
    return [
        bytes(each.data)
        for each in message.instructions
        if message.account_keys[each.program_id_index] == _COMPUTE_BUDGET and each.data
    ]
