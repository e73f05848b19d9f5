"""What an RPC node answers, checked field by field.

An RPC node is somebody else's computer: an answer of the wrong shape is refused here with the path of the
wrong field, so that no other module meets a missing key or a string in an integer's place.
"""

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self, TypeVar

import base58
from solders.hash import Hash
from solders.pubkey import Pubkey
from solders.signature import Signature

_U64_MAX = 2**64 - 1
_T = TypeVar("_T")


class Commitment(StrEnum):
    """How sure the chain is. Goods move at `confirmed`, books close at `finalized`."""

    PROCESSED = "processed"
    CONFIRMED = "confirmed"
    FINALIZED = "finalized"

    def reaches(self, wanted: "Commitment") -> bool:
        """Whether this commitment is at least `wanted`."""
        order = list(Commitment)
        return order.index(self) >= order.index(wanted)


class MalformedAnswer(ValueError):
    """An answer lacks what the protocol promises. Caught by the RPC client, which asks another endpoint."""


@dataclass(frozen=True, slots=True)
class TransactionFailure:
    """The `err` of a transaction that landed and did nothing but cost its fee, or failed a simulation.

    kind: Solana's name of the error, `InstructionError` for one raised inside an instruction.
    instruction: index of the failing top-level instruction, where one failed.
    custom: the program's own error number, where the program raised one.
    detail: the instruction error's name, where it is one of Solana's own.
    """

    kind: str
    instruction: int | None = None
    custom: int | None = None
    detail: str | None = None

    def __str__(self) -> str:
        if self.instruction is None:
            return self.kind
        what = f"custom error {self.custom}" if self.custom is not None else (self.detail or "error")
        return f"instruction {self.instruction}: {what}"

    @classmethod
    def parse(cls, value: object, where: str = "err") -> Self | None:
        """`None` for success; raises MalformedAnswer for anything that isn't a TransactionError."""
        if value is None:
            return None
        if isinstance(value, str):
            return cls(kind=value)
        fields = mapping(value, where)
        if len(fields) != 1:
            raise MalformedAnswer(f"{where}: a transaction error has one name, not {len(fields)}")
        kind, inner = next(iter(fields.items()))
        if kind != "InstructionError":
            return cls(kind=kind, detail=str(inner)[:200])
        pair = sequence(inner, f"{where}.InstructionError")
        if len(pair) != 2:
            raise MalformedAnswer(f"{where}.InstructionError: expected [index, error]")
        index = unsigned(pair[0], f"{where}.InstructionError[0]")
        if isinstance(pair[1], str):
            return cls(kind=kind, instruction=index, detail=pair[1])
        error = mapping(pair[1], f"{where}.InstructionError[1]")
        if set(error) == {"Custom"}:
            return cls(kind=kind, instruction=index, custom=unsigned(error["Custom"], f"{where}.Custom"))
        return cls(kind=kind, instruction=index, detail=next(iter(error), "error"))


@dataclass(frozen=True, slots=True)
class LatestBlockhash:
    """A blockhash to sign over and the last block height in which it can land."""

    blockhash: Hash
    last_valid_block_height: int
    slot: int


@dataclass(frozen=True, slots=True)
class AccountInfo:
    """An account as it stood in `slot`."""

    address: Pubkey
    owner: Pubkey
    lamports: int
    data: bytes
    executable: bool
    slot: int


@dataclass(frozen=True, slots=True)
class TokenAmount:
    """Base units of a token and the decimals of its mint."""

    amount: int
    decimals: int


@dataclass(frozen=True, slots=True)
class SignatureStatus:
    """Where a transaction stands. `failure` is read by every caller: a failed one is confirmed too."""

    slot: int
    failure: TransactionFailure | None
    commitment: Commitment


@dataclass(frozen=True, slots=True)
class SignatureInfo:
    """One line of an address's history."""

    signature: Signature
    slot: int
    failure: TransactionFailure | None
    block_time: int | None


@dataclass(frozen=True, slots=True)
class Simulation:
    """What a transaction would have done."""

    failure: TransactionFailure | None
    logs: tuple[str, ...]
    units_consumed: int
    slot: int


@dataclass(frozen=True, slots=True)
class LandedInstruction:
    """A top-level instruction of a landed transaction, its indexes already resolved to keys."""

    program: Pubkey
    accounts: tuple[Pubkey, ...]
    data: bytes


@dataclass(frozen=True, slots=True)
class TokenBalanceChange:
    """A token account's balance before and after a transaction, in base units."""

    address: Pubkey
    mint: Pubkey
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class LandedTransaction:
    """A transaction of any version that the chain has recorded, read as JSON."""

    signature: Signature
    slot: int
    block_time: int | None
    failure: TransactionFailure | None
    fee_lamports: int
    signature_count: int
    units_consumed: int | None
    account_keys: tuple[Pubkey, ...]
    instructions: tuple[LandedInstruction, ...]
    lamports_before: tuple[int, ...]
    lamports_after: tuple[int, ...]
    token_changes: tuple[TokenBalanceChange, ...]
    logs: tuple[str, ...]

    def lamports_change(self, address: Pubkey) -> int:
        """What the transaction added to (or took from) `address`, fee included; 0 if it isn't in it."""
        total = 0
        for key, before, after in zip(self.account_keys, self.lamports_before, self.lamports_after, strict=True):
            if key == address:
                total += after - before
        return total


def mapping(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise MalformedAnswer(f"{where}: expected an object")
    return value


def sequence(value: object, where: str) -> Sequence[Any]:
    if not isinstance(value, list):
        raise MalformedAnswer(f"{where}: expected an array")
    return value


def text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise MalformedAnswer(f"{where}: expected a string")
    return value


def boolean(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise MalformedAnswer(f"{where}: expected true or false")
    return value


def unsigned(value: object, where: str) -> int:
    """An unsigned 64-bit integer; a JSON boolean is not one, whatever Python thinks."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _U64_MAX:
        raise MalformedAnswer(f"{where}: expected an unsigned 64-bit integer")
    return value


def optional_integer(value: object, where: str) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise MalformedAnswer(f"{where}: expected an integer or null")
    return value


def field(value: object, name: str, where: str, read: Callable[[object, str], _T]) -> _T:
    """`value[name]`, read by `read`; a missing key is as wrong as a wrong type."""
    fields = mapping(value, where)
    if name not in fields:
        raise MalformedAnswer(f"{where}.{name}: missing")
    return read(fields[name], f"{where}.{name}")


def pubkey(value: object, where: str) -> Pubkey:
    try:
        return Pubkey.from_string(text(value, where))
    except ValueError as error:
        raise MalformedAnswer(f"{where}: not an address") from error


def signature(value: object, where: str) -> Signature:
    try:
        return Signature.from_string(text(value, where))
    except ValueError as error:
        raise MalformedAnswer(f"{where}: not a signature") from error


def blockhash(value: object, where: str) -> Hash:
    try:
        return Hash.from_string(text(value, where))
    except ValueError as error:
        raise MalformedAnswer(f"{where}: not a hash") from error


def base64_data(value: object, where: str) -> bytes:
    """Account data as `[text, "base64"]`."""
    pair = sequence(value, where)
    if len(pair) != 2 or pair[1] != "base64":
        raise MalformedAnswer(f"{where}: expected base64 data")
    try:
        return base64.b64decode(text(pair[0], where), validate=True)
    except binascii.Error as error:
        raise MalformedAnswer(f"{where}: not base64") from error


def context_slot(value: object, where: str) -> int:
    return field(field(value, "context", where, mapping), "slot", f"{where}.context", unsigned)


def contextual(value: object, where: str) -> tuple[int, Any]:
    """The slot and the value of an answer that carries a context."""
    fields = mapping(value, where)
    if "value" not in fields:
        raise MalformedAnswer(f"{where}.value: missing")
    return context_slot(value, where), fields["value"]


def decimal(value: object, where: str) -> int:
    """An unsigned 64-bit integer written as decimal text, as token amounts are."""
    digits = text(value, where)
    if not digits.isascii() or not digits.isdigit() or len(digits) > 20 or int(digits) > _U64_MAX:
        raise MalformedAnswer(f"{where}: expected decimal digits of 64 bits")
    return int(digits)


def token_amount(value: object, where: str) -> TokenAmount:
    return TokenAmount(
        amount=field(value, "amount", where, decimal),
        decimals=field(value, "decimals", where, unsigned),
    )


def account_info(value: object, where: str, address: Pubkey, slot: int) -> AccountInfo:
    return AccountInfo(
        address=address,
        owner=field(value, "owner", where, pubkey),
        lamports=field(value, "lamports", where, unsigned),
        data=field(value, "data", where, base64_data),
        executable=field(value, "executable", where, boolean),
        slot=slot,
    )


def logs(value: object, where: str) -> tuple[str, ...]:
    if value is None:
        return ()
    return tuple(text(line, f"{where}[{i}]") for i, line in enumerate(sequence(value, where)))


def signature_status(value: object, where: str) -> SignatureStatus | None:
    if value is None:
        return None
    name = field(value, "confirmationStatus", where, text)
    try:
        commitment = Commitment(name)
    except ValueError as error:
        raise MalformedAnswer(f"{where}.confirmationStatus: {name!r} is no commitment") from error
    failure_value = field(value, "err", where, _anything)
    return SignatureStatus(
        slot=field(value, "slot", where, unsigned),
        failure=TransactionFailure.parse(failure_value, f"{where}.err"),
        commitment=commitment,
    )


def signature_info(value: object, where: str) -> SignatureInfo:
    return SignatureInfo(
        signature=field(value, "signature", where, signature),
        slot=field(value, "slot", where, unsigned),
        failure=TransactionFailure.parse(field(value, "err", where, _anything), f"{where}.err"),
        block_time=optional_integer(mapping(value, where).get("blockTime"), f"{where}.blockTime"),
    )


def simulation(value: object, where: str) -> Simulation:
    slot, result = contextual(value, where)
    units = mapping(result, f"{where}.value").get("unitsConsumed")
    return Simulation(
        failure=TransactionFailure.parse(field(result, "err", f"{where}.value", _anything)),
        logs=logs(mapping(result, where).get("logs"), f"{where}.value.logs"),
        units_consumed=0 if units is None else unsigned(units, f"{where}.value.unitsConsumed"),
        slot=slot,
    )


def landed_transaction(value: object, where: str, wanted: Signature) -> LandedTransaction | None:
    """A transaction in the `json` encoding, of any version.

    Raises MalformedAnswer when the answer is of another transaction than `wanted`: an RPC node must not be
    able to pass one payment off as another.
    """
    if value is None:
        return None
    meta = field(value, "meta", where, mapping)
    body = field(value, "transaction", where, mapping)
    signatures = [
        signature(item, f"{where}.transaction.signatures")
        for item in field(body, "signatures", f"{where}.transaction", sequence)
    ]
    if not signatures or signatures[0] != wanted:
        raise MalformedAnswer(f"{where}.transaction.signatures: another transaction than the one asked for")
    message = field(body, "message", f"{where}.transaction", mapping)
    keys = _account_keys(message, meta, where)
    before = _lamports(meta, "preBalances", where, len(keys))
    after = _lamports(meta, "postBalances", where, len(keys))
    units = meta.get("computeUnitsConsumed")
    return LandedTransaction(
        signature=wanted,
        slot=field(value, "slot", where, unsigned),
        block_time=optional_integer(mapping(value, where).get("blockTime"), f"{where}.blockTime"),
        failure=TransactionFailure.parse(field(meta, "err", f"{where}.meta", _anything), f"{where}.meta.err"),
        fee_lamports=field(meta, "fee", f"{where}.meta", unsigned),
        signature_count=len(signatures),
        units_consumed=None if units is None else unsigned(units, f"{where}.meta.computeUnitsConsumed"),
        account_keys=keys,
        instructions=_landed_instructions(message, keys, where),
        lamports_before=before,
        lamports_after=after,
        token_changes=_token_changes(meta, keys, where),
        logs=logs(meta.get("logMessages"), f"{where}.meta.logMessages"),
    )


def _anything(value: object, _where: str) -> object:
    return value


def _account_keys(message: Mapping[str, Any], meta: Mapping[str, Any], where: str) -> tuple[Pubkey, ...]:
    """Static keys, then the writable and the read-only ones that address tables loaded, as indexes count."""
    keys = [
        pubkey(item, f"{where}.accountKeys")
        for item in field(message, "accountKeys", f"{where}.transaction.message", sequence)
    ]
    loaded = meta.get("loadedAddresses")
    if loaded is not None:
        for part in ("writable", "readonly"):
            listed = field(loaded, part, f"{where}.meta.loadedAddresses", sequence)
            keys.extend(pubkey(item, f"{where}.meta.loadedAddresses.{part}") for item in listed)
    return tuple(keys)


def _lamports(meta: Mapping[str, Any], name: str, where: str, count: int) -> tuple[int, ...]:
    balances = tuple(unsigned(item, f"{where}.meta.{name}") for item in field(meta, name, f"{where}.meta", sequence))
    if len(balances) != count:
        raise MalformedAnswer(f"{where}.meta.{name}: {len(balances)} balances for {count} accounts")
    return balances


def _landed_instructions(
    message: Mapping[str, Any], keys: tuple[Pubkey, ...], where: str
) -> tuple[LandedInstruction, ...]:
    found = []
    listed = field(message, "instructions", f"{where}.transaction.message", sequence)
    for i, item in enumerate(listed):
        path = f"{where}.transaction.message.instructions[{i}]"
        indexes = [unsigned(index, f"{path}.accounts") for index in field(item, "accounts", path, sequence)]
        program = field(item, "programIdIndex", path, unsigned)
        if any(index >= len(keys) for index in (program, *indexes)):
            raise MalformedAnswer(f"{path}: an index past the end of the account keys")
        found.append(
            LandedInstruction(
                program=keys[program],
                accounts=tuple(keys[index] for index in indexes),
                data=_base58(field(item, "data", path, text), f"{path}.data"),
            )
        )
    return tuple(found)


def _token_changes(meta: Mapping[str, Any], keys: tuple[Pubkey, ...], where: str) -> tuple[TokenBalanceChange, ...]:
    amounts: dict[int, dict[str, int]] = {}
    mints: dict[int, Pubkey] = {}
    for name in ("preTokenBalances", "postTokenBalances"):
        path = f"{where}.meta.{name}"
        for item in sequence(meta.get(name) or [], path):
            index = field(item, "accountIndex", path, unsigned)
            if index >= len(keys):
                raise MalformedAnswer(f"{path}: an index past the end of the account keys")
            amount = field(item, "uiTokenAmount", path, token_amount).amount
            amounts.setdefault(index, {})[name] = amount
            mints[index] = field(item, "mint", path, pubkey)
    return tuple(
        TokenBalanceChange(
            address=keys[index],
            mint=mints[index],
            before=amounts[index].get("preTokenBalances", 0),
            after=amounts[index].get("postTokenBalances", 0),
        )
        for index in sorted(amounts)
    )


def _base58(value: str, where: str) -> bytes:
    try:
        return base58.b58decode(value)
    except ValueError as error:
        raise MalformedAnswer(f"{where}: not base58") from error
