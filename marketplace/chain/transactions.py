"""Transactions: put together, signed in part or in whole, and read back when somebody hands us one.

Reading is closed: a transaction is decoded into the steps named here, whole, or refused by name. A client
signs only what it has read back and compared with its own request; a server relays only messages that it has
built itself, byte for byte.
"""

import asyncio
import base64
import binascii
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from solders.compute_budget import set_compute_unit_limit, set_compute_unit_price
from solders.hash import Hash
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.message import Message, MessageV0, to_bytes_versioned
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction

from marketplace.chain.addresses import (
    ASSOCIATED_TOKEN_PROGRAM,
    COMPUTE_BUDGET_PROGRAM,
    ED25519_PROGRAM,
    SYSTEM_PROGRAM,
    TOKEN_PROGRAM,
    associated_token_address,
)
from marketplace.chain.answers import LatestBlockhash, Simulation
from marketplace.chain.ed25519 import SignatureCheck, read_instruction, verify_instruction
from marketplace.chain.errors import TransactionFailed, UnsupportedTransaction
from marketplace.chain.instructions import ProgramInstruction
from marketplace.chain.program import AnchorCodec, create_token_account

# Specified: a packet; what is longer can't be sent. (v1's 4,096 bytes can't be built with this stack.)
MAX_TRANSACTION_BYTES: Final = 1_232
# Specified: the most compute a transaction may ask for, and what each signature costs.
MAX_COMPUTE_UNITS: Final = 1_400_000
LAMPORTS_PER_SIGNATURE: Final = 5_000
_MICRO: Final = 1_000_000
# Chosen: more instructions of ours than that never fit a packet; each has accounts of its own.
_AT_MOST: Final = 24
# Specified (SIMD-0385): a v1 transaction starts with this byte; as a legacy one it would promise 129 signatures.
_V1_MARKER: Final = 0x81
# Specified: instruction numbers of the foreign programs that we read.
_BUDGET_LIMIT: Final = 2
_BUDGET_PRICE: Final = 3
_SYSTEM_TRANSFER: Final = 2
_CREATE_IDEMPOTENT: Final = b"\x01"


@dataclass(frozen=True, slots=True)
class CreateTokenAccount:
    """Create the owner's associated token account where it is missing; `payer` pays its rent."""

    payer: Pubkey
    owner: Pubkey
    mint: Pubkey


@dataclass(frozen=True, slots=True)
class TransferLamports:
    """A plain transfer of SOL."""

    source: Pubkey
    destination: Pubkey
    lamports: int


@dataclass(frozen=True, slots=True)
class ComputeUnitLimit:
    units: int


@dataclass(frozen=True, slots=True)
class ComputeUnitPrice:
    micro_lamports: int


Step = ProgramInstruction | SignatureCheck | CreateTokenAccount | TransferLamports
"""What a transaction of ours may hold, beside its compute budget."""


class MessageFormat(Enum):
    """What a message is encoded as. Wallets take both; legacy is for those that only know that."""

    LEGACY = "legacy"
    V0 = "v0"


@dataclass(frozen=True, slots=True)
class FeePolicy:
    """What we pay for priority. max_price: micro-lamports per compute unit, whatever the market asks.

    The fee bills the limit that is asked for, so the limit is the simulation's use and a tenth.
    """

    max_price: int = 50_000
    margin_percent: int = 110

    def price(self, recent: Sequence[int]) -> int:
        """The price that three of four recent blocks would have taken, capped; 0 where nobody pays."""
        ranked = sorted(recent)
        return min(ranked[len(ranked) * 3 // 4], self.max_price) if ranked else 0

    def limit(self, used: int) -> int:
        return min(-(-used * self.margin_percent // 100), MAX_COMPUTE_UNITS)


@dataclass(frozen=True, slots=True)
class SignedTransaction:
    """Bytes that everybody has signed, and until when they can land."""

    raw: bytes
    signature: Signature
    last_valid_block_height: int


@dataclass(frozen=True, slots=True)
class UnsignedTransaction:
    """A message and what is known about it. fee_lamports: base and priority fee together. units: as simulated."""

    message: Message | MessageV0
    last_valid_block_height: int
    fee_lamports: int
    units: int = 0

    @property
    def message_bytes(self) -> bytes:
        """What is signed; compared byte for byte when the transaction comes back."""
        return to_bytes_versioned(self.message)

    @property
    def signers(self) -> tuple[Pubkey, ...]:
        """Everybody who has to sign, the fee payer first."""
        return tuple(self.message.account_keys[: self.message.header.num_required_signatures])

    def sign(self, keys: Iterable[Keypair]) -> SignedTransaction:
        """Sign whole. Raises ValueError while a signature is missing."""
        raw = self.partially_signed(keys)
        transaction = VersionedTransaction.from_bytes(raw)
        if not all(transaction.verify_with_results()):
            raise ValueError("a signature is missing")
        return SignedTransaction(raw, transaction.signatures[0], self.last_valid_block_height)

    def partially_signed(self, keys: Iterable[Keypair] = ()) -> bytes:
        """The transaction with these signatures and zeros for the others, as wallets take it.

        Raises ValueError for a key that the message doesn't ask for.
        """
        signatures = [Signature.default()] * len(self.signers)
        for key in keys:
            if key.pubkey() not in self.signers:
                raise ValueError(f"{key.pubkey()} has nothing to sign in this transaction")
            signatures[self.signers.index(key.pubkey())] = key.sign_message(self.message_bytes)
        return bytes(VersionedTransaction.populate(self.message, signatures))

    def base64(self, keys: Iterable[Keypair] = ()) -> str:
        """`partially_signed` as the API hands it out."""
        return base64.b64encode(self.partially_signed(keys)).decode()


@dataclass(frozen=True, slots=True)
class InspectedTransaction:
    """A foreign transaction, read whole: there is nothing in it but this.

    signed_by: those of `signers` whose signature is there and good.
    """

    payer: Pubkey
    signers: tuple[Pubkey, ...]
    signed_by: tuple[Pubkey, ...]
    steps: tuple[Step, ...]
    compute_limit: int | None
    compute_price: int
    blockhash: Hash
    message_bytes: bytes
    raw: bytes

    @property
    def calls(self) -> tuple[ProgramInstruction, ...]:
        """The instructions of our program, in order."""
        return tuple(step for step in self.steps if isinstance(step, ProgramInstruction))

    @property
    def fully_signed(self) -> bool:
        return self.signed_by == self.signers

    @property
    def signature(self) -> Signature:
        """The transaction's id, once its payer has signed."""
        return VersionedTransaction.from_bytes(self.raw).signatures[0]

    @property
    def fee_lamports(self) -> int:
        """The most that it costs its payer in fees."""
        checks = sum(isinstance(step, SignatureCheck) for step in self.steps)
        # Specified: without a limit of its own each instruction may use 200,000 units.
        limit = self.compute_limit
        if limit is None:
            limit = min(200_000 * len(self.steps), MAX_COMPUTE_UNITS)
        return fee_lamports(len(self.signers) + checks, limit, self.compute_price)


class AssemblyRpc(Protocol):
    """What assembling needs of the chain; `RpcClient` has it."""

    async def get_latest_blockhash(self) -> LatestBlockhash: ...

    async def get_recent_prioritization_fees(self, accounts: Sequence[Pubkey]) -> tuple[int, ...]: ...

    async def simulate_transaction(self, transaction: bytes, *, replace_blockhash: bool = False) -> Simulation: ...


class Assembler:
    """Puts transactions together: simulated, with the compute they need, at a bounded price."""

    def __init__(self, rpc: AssemblyRpc, codec: AnchorCodec, fees: FeePolicy | None = None) -> None:
        self._rpc = rpc
        self._codec = codec
        self._fees = fees or FeePolicy()

    async def assemble(
        self,
        steps: Sequence[Step | Instruction],
        payer: Pubkey,
        *,
        message_format: MessageFormat = MessageFormat.V0,
        known_units: int | None = None,
    ) -> UnsignedTransaction:
        """A message ready to be signed.

        The compute budget comes last, so that the steps keep the indexes that approvals name.
        known_units: spares the simulation where the use is known (and the failure is acceptable).
        Raises TransactionFailed when the simulation fails, ValueError when it doesn't fit a packet.
        """
        wire = [self.wire(step) for step in steps]
        latest, recent = await asyncio.gather(
            self._rpc.get_latest_blockhash(), self._rpc.get_recent_prioritization_fees(_writable(wire, payer))
        )
        price = self._fees.price(recent)

        def message(units: int) -> Message | MessageV0:
            budget = [set_compute_unit_limit(units)]
            if price:
                budget.append(set_compute_unit_price(price))
            everything = [*wire, *budget]
            if message_format is MessageFormat.LEGACY:
                return Message.new_with_blockhash(everything, payer, latest.blockhash)
            return MessageV0.try_compile(payer, everything, [], latest.blockhash)

        units = known_units if known_units is not None else await self._simulated(message(MAX_COMPUTE_UNITS))
        limit = self._fees.limit(units)
        checks = sum(instruction.program_id == ED25519_PROGRAM for instruction in wire)
        final = message(limit)
        signers = final.header.num_required_signatures
        unsigned = UnsignedTransaction(
            final, latest.last_valid_block_height, fee_lamports(signers + checks, limit, price), units
        )
        size = len(unsigned.partially_signed())
        if size > MAX_TRANSACTION_BYTES:
            raise ValueError(f"a transaction of {size} bytes, {MAX_TRANSACTION_BYTES} fit")
        return unsigned

    def how_many_fit(self, first: Sequence[Step], more: Sequence[Step], payer: Pubkey) -> int:
        """How many of `more`, in order, go with `first` into one transaction, its compute budget included."""
        budget = [set_compute_unit_limit(MAX_COMPUTE_UNITS), set_compute_unit_price(self._fees.max_price)]
        begin = [self.wire(step) for step in first]
        for count in range(min(len(more), _AT_MOST), 0, -1):
            wire = [*begin, *(self.wire(step) for step in more[:count]), *budget]
            try:
                message = MessageV0.try_compile(payer, wire, [], Hash.default())
            except ValueError:
                # More accounts than a message can number.
                continue
            unsigned = UnsignedTransaction(message, 0, 0)
            if len(unsigned.partially_signed()) <= MAX_TRANSACTION_BYTES:
                return count
        return 0

    def wire(self, step: Step | Instruction) -> Instruction:
        """The wire form of a step."""
        match step:
            case ProgramInstruction():
                return self._codec.instruction(step)
            case SignatureCheck():
                return verify_instruction(step)
            case CreateTokenAccount():
                return create_token_account(step.payer, step.owner, step.mint)
            case TransferLamports():
                return transfer(
                    TransferParams(from_pubkey=step.source, to_pubkey=step.destination, lamports=step.lamports)
                )
            case Instruction():
                return step

    async def _simulated(self, message: Message | MessageV0) -> int:
        blank = [Signature.default()] * message.header.num_required_signatures
        raw = bytes(VersionedTransaction.populate(message, blank))
        result = await self._rpc.simulate_transaction(raw, replace_blockhash=True)
        if result.failure is not None:
            number = result.failure.custom
            name = self._codec.error_name(number) if number is not None else None
            raise TransactionFailed(result.failure, result.logs, name)
        return result.units_consumed


def fee_lamports(signatures: int, limit: int, price: int) -> int:
    """Base fee (precompile signatures included) and priority fee, which bills the limit asked for."""
    return signatures * LAMPORTS_PER_SIGNATURE + -(-limit * price // _MICRO)


def decode_base64(text: str) -> bytes:
    """A transaction's bytes. Raises UnsupportedTransaction for anything that can't be one."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise UnsupportedTransaction("the transaction is not base64; it was not sent") from error
    if raw[:1] == bytes([_V1_MARKER]):
        raise UnsupportedTransaction("a version 1 transaction; only legacy and version 0 are accepted, it was not sent")
    if len(raw) > MAX_TRANSACTION_BYTES:
        raise UnsupportedTransaction(f"a transaction of {len(raw)} bytes, {MAX_TRANSACTION_BYTES} fit")
    return raw


def inspect(text: str, codec: AnchorCodec) -> InspectedTransaction:
    """Read a base64 transaction (unsigned, signed in part or in whole) into the steps known here.

    Raises UnsupportedTransaction, naming what it is, for everything else: another version, address tables,
    a foreign program, an unknown instruction of a known one, bytes behind the arguments, an account named
    twice, a compute budget set twice.
    """
    raw = decode_base64(text)
    transaction = _parse(raw)
    message = transaction.message
    keys = message.account_keys
    signers = tuple(keys[: message.header.num_required_signatures])
    message_bytes = to_bytes_versioned(message)
    steps: list[Step] = []
    limit: int | None = None
    price: int | None = None
    for compiled in message.instructions:
        program = keys[compiled.program_id_index]
        accounts = [keys[index] for index in compiled.accounts]
        data = bytes(compiled.data)
        if program == COMPUTE_BUDGET_PROGRAM:
            match _budget(data):
                case ComputeUnitLimit(units) if limit is None:
                    limit = units
                case ComputeUnitPrice(micro_lamports) if price is None:
                    price = micro_lamports
                case _:
                    raise UnsupportedTransaction("a compute budget that is set twice")
        else:
            steps.append(_read_step(program, accounts, data, codec))
    return InspectedTransaction(
        payer=keys[0],
        signers=signers,
        signed_by=tuple(
            key
            for key, signature in zip(signers, transaction.signatures, strict=True)
            if signature.verify(key, message_bytes)
        ),
        steps=tuple(steps),
        compute_limit=limit,
        compute_price=price or 0,
        blockhash=message.recent_blockhash,
        message_bytes=message_bytes,
        raw=raw,
    )


def _parse(raw: bytes) -> VersionedTransaction:
    """The bytes as a transaction whose every index points at something visible. Raises UnsupportedTransaction."""
    try:
        transaction = VersionedTransaction.from_bytes(raw)
    except ValueError as error:
        raise UnsupportedTransaction("bytes that are no legacy or version 0 transaction") from error
    message = transaction.message
    if bytes(transaction) != raw:
        raise UnsupportedTransaction("a transaction with bytes behind its end")
    if isinstance(message, MessageV0) and message.address_table_lookups:
        raise UnsupportedTransaction("a transaction with address lookup tables: its accounts can't be seen")
    keys, signers = len(message.account_keys), message.header.num_required_signatures
    if not 0 < signers <= keys or len(transaction.signatures) != signers:
        raise UnsupportedTransaction("a transaction with another number of signatures than signers")
    if len(set(message.account_keys)) != keys:
        raise UnsupportedTransaction("a transaction that names an account twice")
    for compiled in message.instructions:
        if any(index >= keys for index in (compiled.program_id_index, *compiled.accounts)):
            raise UnsupportedTransaction("an instruction that names accounts past the end of the message")
    return transaction


def countersign(inspected: InspectedTransaction, keys: Iterable[Keypair]) -> bytes:
    """The inspected transaction with these signatures added to those it has.

    Raises ValueError for a key that it doesn't ask for. Comparing it with what was wanted is the caller's
    part, and comes first.
    """
    transaction = VersionedTransaction.from_bytes(inspected.raw)
    signatures = list(transaction.signatures)
    for key in keys:
        if key.pubkey() not in inspected.signers:
            raise ValueError(f"{key.pubkey()} has nothing to sign in this transaction")
        signatures[inspected.signers.index(key.pubkey())] = key.sign_message(inspected.message_bytes)
    return bytes(VersionedTransaction.populate(transaction.message, signatures))


def _read_step(program: Pubkey, accounts: list[Pubkey], data: bytes, codec: AnchorCodec) -> Step:
    if program == codec.program:
        return codec.read_instruction(accounts, data)
    if program == ED25519_PROGRAM:
        return read_instruction(data)
    if program == ASSOCIATED_TOKEN_PROGRAM:
        return _token_account(accounts, data)
    if program == SYSTEM_PROGRAM:
        return _system(accounts, data)
    raise UnsupportedTransaction(f"an instruction of the program {program}, which is not used here")


def _budget(data: bytes) -> ComputeUnitLimit | ComputeUnitPrice:
    if len(data) == 5 and data[0] == _BUDGET_LIMIT:
        return ComputeUnitLimit(struct.unpack_from("<I", data, 1)[0])
    if len(data) == 9 and data[0] == _BUDGET_PRICE:
        return ComputeUnitPrice(struct.unpack_from("<Q", data, 1)[0])
    raise UnsupportedTransaction("a compute budget instruction other than limit and price")


def _token_account(accounts: list[Pubkey], data: bytes) -> CreateTokenAccount:
    if data != _CREATE_IDEMPOTENT or len(accounts) != 6:
        raise UnsupportedTransaction("an associated token instruction other than create_idempotent")
    payer, address, owner, mint, system, token = accounts
    if system != SYSTEM_PROGRAM or token != TOKEN_PROGRAM:
        raise UnsupportedTransaction("a token account of another token program")
    if address != associated_token_address(owner, mint):
        raise UnsupportedTransaction("a token account that is not its owner's associated one")
    return CreateTokenAccount(payer, owner, mint)


def _system(accounts: list[Pubkey], data: bytes) -> TransferLamports:
    if len(data) != 12 or len(accounts) != 2 or struct.unpack_from("<I", data)[0] != _SYSTEM_TRANSFER:
        raise UnsupportedTransaction("a system instruction other than a transfer")
    return TransferLamports(accounts[0], accounts[1], struct.unpack_from("<Q", data, 4)[0])


def _writable(wire: Sequence[Instruction], payer: Pubkey) -> list[Pubkey]:
    """The accounts we write, whose recent priority fees are asked for."""
    keys = dict.fromkeys([payer])
    for instruction in wire:
        keys.update(dict.fromkeys(meta.pubkey for meta in instruction.accounts if meta.is_writable))
    return list(keys)
