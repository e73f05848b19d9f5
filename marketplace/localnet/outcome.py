"""Transaction errors as Agave prints them: the JSON form for clients and the sentence for messages."""

import re
from typing import Any, Final

import orjson
from solders.transaction_status import (
    TransactionErrorDuplicateInstruction,
    TransactionErrorFieldless,
    TransactionErrorInstructionError,
    TransactionErrorInsufficientFundsForRent,
    TransactionErrorProgramExecutionTemporarilyRestricted,
    TransactionErrorType,
)

# What JSON-RPC carries: the driver's and the wire's type is JSON itself.
ErrorJson = str | dict[str, Any]

# A transaction that fails with one of these was still included and paid its fee; with any other it never was.
_LANDED: Final = frozenset(
    {
        "InstructionError",
        "InsufficientFundsForRent",
        "ProgramAccountNotFound",
        "InvalidProgramForExecution",
        "MaxLoadedAccountsDataSizeExceeded",
        "UnbalancedTransaction",
    },
)

# Agave's `impl Display for TransactionError`; those that can't come up here print their name.
_SENTENCES: Final = {
    "AccountInUse": "Account in use",
    "AccountLoadedTwice": "Account loaded twice",
    "AccountNotFound": "Attempt to debit an account but found no record of a prior credit.",
    "ProgramAccountNotFound": "Attempt to load a program that does not exist",
    "InsufficientFundsForFee": "Insufficient funds for fee",
    "InvalidAccountForFee": "This account may not be used to pay transaction fees",
    "AlreadyProcessed": "This transaction has already been processed",
    "BlockhashNotFound": "Blockhash not found",
    "CallChainTooDeep": "Loader call chain is too deep",
    "MissingSignatureForFee": "Transaction requires a fee but has no signature present",
    "InvalidAccountIndex": "Transaction contains an invalid account reference",
    "SignatureFailure": "Transaction did not pass signature verification",
    "InvalidProgramForExecution": "This program may not be used for executing instructions",
    "SanitizeFailure": "Transaction failed to sanitize accounts offsets correctly",
    "TooManyAccountLocks": "Transaction locked too many accounts",
    "AddressLookupTableNotFound": "Transaction loads an address table account that doesn't exist",
    "InvalidAddressLookupTableOwner": "Transaction loads an address table account with an invalid owner",
    "InvalidAddressLookupTableData": "Transaction loads an address table account with invalid data",
    "InvalidAddressLookupTableIndex": "Transaction address table lookup uses an invalid index",
    "InvalidWritableAccount": "Transaction loads a writable account that cannot be written",
    "InvalidRentPayingAccount": "Transaction leaves an account with a lower balance than rent-exempt minimum",
    "UnsupportedVersion": "Transaction version is unsupported",
    "MaxLoadedAccountsDataSizeExceeded": "Transaction exceeded max loaded accounts data size cap",
    "InvalidLoadedAccountsDataSizeLimit": "LoadedAccountsDataSizeLimit set for transaction must be greater than 0.",
    "UnbalancedTransaction": "Sum of account balances before and after transaction do not match",
}

# Agave's `impl Display for InstructionError`, where it isn't the name in lower-case words.
_INSTRUCTION_SENTENCES: Final = {
    "GenericError": "generic instruction error",
    "InvalidArgument": "invalid program argument",
    "InvalidInstructionData": "invalid instruction data",
    "InvalidAccountData": "invalid account data for instruction",
    "AccountDataTooSmall": "account data too small for instruction",
    "InsufficientFunds": "insufficient funds for instruction",
    "IncorrectProgramId": "incorrect program id for instruction",
    "MissingRequiredSignature": "missing required signature for instruction",
    "AccountAlreadyInitialized": "instruction requires an uninitialized account",
    "UninitializedAccount": "instruction requires an initialized account",
    "UnbalancedInstruction": "sum of account balances before and after instruction do not match",
    "ModifiedProgramId": "instruction illegally modified the program id of an account",
    "ExternalAccountLamportSpend": "instruction spent from the balance of an account it does not own",
    "ExternalAccountDataModified": "instruction modified data of an account it does not own",
    "ReadonlyLamportChange": "instruction changed the balance of a read-only account",
    "ReadonlyDataModified": "instruction modified data of a read-only account",
    "DuplicateAccountIndex": "instruction contains duplicate accounts",
    "ExecutableModified": "instruction changed executable bit of an account",
    "RentEpochModified": "instruction modified rent epoch of an account",
    "NotEnoughAccountKeys": "insufficient account keys for instruction",
    "AccountDataSizeChanged": "program other than the account's owner changed the size of the account data",
    "AccountNotExecutable": "instruction expected an executable account",
    "AccountBorrowFailed": "instruction tries to borrow reference for an account which is already borrowed",
    "MissingAccount": "An account required by the instruction is missing",
    "CallDepth": "Cross-program invocation call depth too deep",
    "ReentrancyNotAllowed": "Cross-program invocation reentrancy not allowed for this instruction",
    "MaxSeedLengthExceeded": "Length of the seed is too long for address generation",
    "InvalidSeeds": "Provided seeds do not result in a valid address",
    "InvalidRealloc": "Failed to reallocate account data",
    "ComputationalBudgetExceeded": "Computational budget exceeded",
    "PrivilegeEscalation": "Cross-program invocation with unauthorized signer or writable account",
    "ProgramEnvironmentSetupFailure": "Failed to create program execution environment",
    "ProgramFailedToComplete": "Program failed to complete",
    "ProgramFailedToCompile": "Program failed to compile",
    "Immutable": "Account is immutable",
    "IncorrectAuthority": "Incorrect authority provided",
    "AccountNotRentExempt": "An account does not have enough lamports to be rent-exempt",
    "InvalidAccountOwner": "Invalid account owner",
    "ArithmeticOverflow": "Program arithmetic overflowed",
    "UnsupportedSysvar": "Unsupported sysvar",
    "IllegalOwner": "Provided owner is not allowed",
    "UnsupportedProgramId": "Unsupported program id",
}


def error_json(error: TransactionErrorType) -> ErrorJson:
    """The error as Agave's JSON, e.g. `{"InstructionError": [0, {"Custom": 6001}]}`."""
    if isinstance(error, TransactionErrorInstructionError):
        return {"InstructionError": orjson.loads(error.to_json())}
    if isinstance(error, TransactionErrorInsufficientFundsForRent):
        return {"InsufficientFundsForRent": {"account_index": error.account_index}}
    if isinstance(error, TransactionErrorProgramExecutionTemporarilyRestricted):
        return {"ProgramExecutionTemporarilyRestricted": {"account_index": error.account_index}}
    if isinstance(error, TransactionErrorDuplicateInstruction):
        return {"DuplicateInstruction": error.index}
    return fieldless_name(error)


def fieldless_name(error: TransactionErrorFieldless) -> str:
    return str(error).rpartition(".")[2]


def lands(error: ErrorJson) -> bool:
    """Whether a transaction with this error is included in a block, and so pays its fee."""
    return (error if isinstance(error, str) else next(iter(error))) in _LANDED


def error_sentence(error: ErrorJson) -> str:
    """The error in Agave's words, as in "Transaction simulation failed: …"."""
    if isinstance(error, str):
        return _SENTENCES.get(error, error)
    name, detail = next(iter(error.items()))
    if name == "InstructionError":
        index, reason = detail
        return f"Error processing Instruction {index}: {_instruction_sentence(reason)}"
    if name == "InsufficientFundsForRent":
        return f"Transaction results in an account ({detail['account_index']}) with insufficient funds for rent"
    if name == "DuplicateInstruction":
        return f"Transaction contains a duplicate instruction ({detail}) that is not allowed"
    return f"{name} {orjson.dumps(detail).decode()}"


def _instruction_sentence(reason: ErrorJson) -> str:
    if isinstance(reason, dict):
        name, detail = next(iter(reason.items()))
        if name == "Custom":
            return f"custom program error: {detail:#x}"
        return f"Failed to serialize or deserialize account data: {detail}"
    in_words = re.sub(r"(?<!^)(?=[A-Z])", " ", reason).lower()
    return _INSTRUCTION_SENTENCES.get(reason, in_words)
