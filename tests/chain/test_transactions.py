import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.compute_budget import request_heap_frame, set_compute_unit_limit, set_compute_unit_price
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import MessageV0, to_bytes_versioned
from solders.pubkey import Pubkey
from solders.system_program import AssignParams, assign
from solders.transaction import VersionedTransaction

from marketplace.chain.addresses import ASSOCIATED_TOKEN_PROGRAM, TOKEN_2022_PROGRAM
from marketplace.chain.answers import LatestBlockhash, Simulation, TransactionFailure
from marketplace.chain.builders import CallBuilder, Deployment
from marketplace.chain.ed25519 import SignatureCheck, read_instruction, verify_instruction
from marketplace.chain.errors import TransactionFailed, UnsupportedTransaction
from marketplace.chain.program import AnchorCodec, create_token_account, transfer_tokens
from marketplace.chain.transactions import (
    MAX_COMPUTE_UNITS,
    Assembler,
    CreateTokenAccount,
    FeePolicy,
    MessageFormat,
    TransferLamports,
    countersign,
    fee_lamports,
    inspect,
)

PROGRAM = Pubkey.from_string("5qwExNyh26kwngLGHpXEPD4PgoiZWia8neGpQRPJUSyN")
CODEC = AnchorCodec(PROGRAM)
WALLET, OTHER = Keypair.from_seed(bytes([1]) * 32), Keypair.from_seed(bytes([2]) * 32)
MINT = Pubkey.from_bytes(bytes([9]) * 32)
CALLS = CallBuilder(Deployment(PROGRAM, bytes(32), MINT, Pubkey.from_bytes(bytes([8]) * 32), 6, 6))
KEY = WALLET.pubkey()


@dataclass
class Node:
    """An RPC node that says what it is told to, and keeps what it was asked."""

    used: int = 10_000
    fees: tuple[int, ...] = ()
    failure: TransactionFailure | None = None
    simulated: list[bytes] = field(default_factory=list)
    asked: list[Pubkey] = field(default_factory=list)

    async def get_latest_blockhash(self) -> LatestBlockhash:
        return LatestBlockhash(Hash.default(), 150, 1)

    async def get_recent_prioritization_fees(self, accounts: Sequence[Pubkey]) -> tuple[int, ...]:
        self.asked = list(accounts)
        return self.fees

    async def simulate_transaction(self, transaction: bytes, *, replace_blockhash: bool = False) -> Simulation:
        assert replace_blockhash
        self.simulated.append(transaction)
        return Simulation(self.failure, ("log",), self.used, 1)


def text(*instructions: Instruction, payer: Pubkey = KEY) -> str:
    message = MessageV0.try_compile(payer, list(instructions), [], Hash.default())
    return base64.b64encode(bytes(VersionedTransaction(message, [WALLET]))).decode()


async def test_the_limit_is_a_tenth_above_the_use_and_the_price_is_capped() -> None:
    node = Node(used=10_001, fees=(1, 2, 3, 10**9))
    unsigned = await Assembler(node, CODEC, FeePolicy(max_price=777)).assemble([CALLS.open_vault(KEY, KEY)], KEY)
    read = inspect(unsigned.base64(), CODEC)
    assert read.compute_limit == 11_002
    assert read.compute_price == 777
    assert read.fee_lamports == unsigned.fee_lamports == 5_000 + 9
    assert KEY in node.asked
    assert CALLS.addresses.config() not in node.asked, "only what is written"
    assert inspect(base64.b64encode(node.simulated[0]).decode(), CODEC).compute_limit == MAX_COMPUTE_UNITS


def test_the_priority_fee_bills_the_limit_rounded_up() -> None:
    assert fee_lamports(2, 11_002, 777) == 10_000 + 9
    assert fee_lamports(1, 0, 777) == 5_000
    assert FeePolicy().price(()) == 0
    assert FeePolicy(max_price=50).price([0, 0, 0, 40]) == 40


async def test_where_nobody_pays_for_priority_neither_do_we() -> None:
    unsigned = await Assembler(Node(), CODEC).assemble([CALLS.revoke_allowance(KEY, MINT)], KEY)
    assert inspect(unsigned.base64(), CODEC).compute_price == 0


async def test_a_failed_simulation_is_named_and_nothing_is_signed() -> None:
    number = next(n for n in range(6000, 6200) if CODEC.error_name(n) == "DepositTooSmall")
    node = Node(failure=TransactionFailure("InstructionError", 0, number))
    with pytest.raises(TransactionFailed) as caught:
        await Assembler(node, CODEC).assemble([CALLS.open_vault(KEY, KEY)], KEY)
    assert caught.value.error_name == "DepositTooSmall"
    assert caught.value.logs == ("log",)


@pytest.mark.parametrize("message_format", MessageFormat)
async def test_what_is_put_together_is_read_back_the_same(message_format: MessageFormat) -> None:
    check = SignatureCheck(OTHER.pubkey(), b"m" * 48, OTHER.sign_message(b"m" * 48))
    steps = [
        check,
        CreateTokenAccount(KEY, KEY, MINT),
        CALLS.open_vault(OTHER.pubkey(), KEY),
        CALLS.deposit(KEY, KEY, 5),
        TransferLamports(KEY, OTHER.pubkey(), 7),
    ]
    unsigned = await Assembler(Node(), CODEC).assemble(steps, KEY, message_format=message_format)
    read = inspect(unsigned.base64(), CODEC)
    assert list(read.steps) == steps
    assert read.payer == KEY
    assert set(read.signers) == {KEY, OTHER.pubkey()}
    assert read.signed_by == ()
    assert read.message_bytes == unsigned.message_bytes
    assert read.fee_lamports == unsigned.fee_lamports == 3 * 5_000


async def test_a_wallets_signature_is_added_to_the_ones_that_are_there() -> None:
    unsigned = await Assembler(Node(), CODEC).assemble([CALLS.open_vault(OTHER.pubkey(), KEY)], OTHER.pubkey())
    half = inspect(unsigned.base64([OTHER]), CODEC)
    assert half.signed_by == (OTHER.pubkey(),)
    assert not half.fully_signed
    whole = countersign(half, [WALLET])
    read = inspect(base64.b64encode(whole).decode(), CODEC)
    assert read.fully_signed
    assert read.message_bytes == unsigned.message_bytes
    assert unsigned.sign([WALLET, OTHER]).raw == whole
    with pytest.raises(ValueError, match="missing"):
        unsigned.sign([OTHER])
    with pytest.raises(ValueError, match="nothing to sign"):
        countersign(half, [Keypair()])


async def test_a_transaction_longer_than_a_packet_is_refused() -> None:
    steps = [CALLS.deposit(KEY, Pubkey.new_unique(), 1) for _ in range(20)]
    with pytest.raises(ValueError, match="1232 fit"):
        await Assembler(Node(), CODEC).assemble(steps, KEY)


def foreign_account() -> Instruction:
    """An associated token instruction whose address belongs to somebody else."""
    honest = create_token_account(KEY, KEY, MINT)
    metas = list(honest.accounts)
    metas[1] = AccountMeta(OTHER.pubkey(), is_signer=False, is_writable=True)
    return Instruction(ASSOCIATED_TOKEN_PROGRAM, bytes(honest.data), metas)


def token_2022() -> Instruction:
    honest = create_token_account(KEY, KEY, MINT)
    metas = [*list(honest.accounts)[:5], AccountMeta(TOKEN_2022_PROGRAM, is_signer=False, is_writable=False)]
    return Instruction(ASSOCIATED_TOKEN_PROGRAM, bytes(honest.data), metas)


@pytest.mark.parametrize(
    ("instruction", "word"),
    [
        (Instruction(OTHER.pubkey(), b"x", []), "program"),
        (transfer_tokens(KEY, MINT, OTHER.pubkey(), KEY, 1, 6), "program"),
        (assign(AssignParams(pubkey=KEY, owner=OTHER.pubkey())), "system instruction"),
        (request_heap_frame(65_536), "compute budget"),
        (foreign_account(), "associated one"),
        (token_2022(), "token program"),
        (Instruction(ASSOCIATED_TOKEN_PROGRAM, b"\x02", []), "create_idempotent"),
        (Instruction(PROGRAM, b"whatever", []), "doesn't know"),
        (Instruction(PROGRAM, b"", []), "doesn't know"),
    ],
)
def test_a_foreign_instruction_is_refused_by_name(instruction: Instruction, word: str) -> None:
    with pytest.raises(UnsupportedTransaction, match=word):
        inspect(text(CODEC.instruction(CALLS.revoke_allowance(KEY, MINT)), instruction), CODEC)


def test_address_tables_hide_accounts_and_are_refused() -> None:
    hidden = Pubkey.new_unique()
    table = AddressLookupTableAccount(Pubkey.new_unique(), [hidden])
    wire = CODEC.instruction(CALLS.revoke_allowance(KEY, hidden))
    metas = [*wire.accounts, AccountMeta(hidden, is_signer=False, is_writable=True)]
    message = MessageV0.try_compile(KEY, [Instruction(PROGRAM, bytes(wire.data), metas)], [table], Hash.default())
    raw = bytes(VersionedTransaction(message, [WALLET]))
    with pytest.raises(UnsupportedTransaction, match="lookup tables"):
        inspect(base64.b64encode(raw).decode(), CODEC)


@pytest.mark.parametrize("twice", [set_compute_unit_limit, set_compute_unit_price])
def test_a_compute_budget_that_is_set_twice_is_refused(twice: Callable[[int], Instruction]) -> None:
    """The cheap one first, the dear one behind it: the cluster would refuse it, and so do we."""
    call = CODEC.instruction(CALLS.revoke_allowance(KEY, MINT))
    assert inspect(text(call, twice(1_000)), CODEC).calls
    with pytest.raises(UnsupportedTransaction, match="set twice"):
        inspect(text(call, twice(1_000), twice(10)), CODEC)


def test_an_account_that_is_named_twice_is_refused() -> None:
    message = MessageV0.try_compile(KEY, [CODEC.instruction(CALLS.revoke_allowance(KEY, MINT))], [], Hash.default())
    keys = list(message.account_keys)
    doubled = MessageV0(message.header, [*keys[:-1], keys[0]], Hash.default(), message.instructions, [])
    raw = bytes(VersionedTransaction.populate(doubled, [WALLET.sign_message(to_bytes_versioned(doubled))]))
    with pytest.raises(UnsupportedTransaction, match="twice"):
        inspect(base64.b64encode(raw).decode(), CODEC)


def test_the_fee_payer_in_the_place_of_an_account_shows_in_what_is_read() -> None:
    honest = inspect(text(CODEC.instruction(CALLS.withdraw(KEY, 5))), CODEC)
    wire = CODEC.instruction(CALLS.withdraw(KEY, 5))
    metas = list(wire.accounts)
    metas[3] = AccountMeta(KEY, is_signer=False, is_writable=True)
    read = inspect(text(Instruction(PROGRAM, bytes(wire.data), metas)), CODEC)
    assert read.payer == honest.payer
    assert read.calls != honest.calls
    more = Instruction(PROGRAM, bytes(wire.data), [*wire.accounts, AccountMeta(KEY, is_signer=True, is_writable=True)])
    with pytest.raises(UnsupportedTransaction, match="accounts"):
        inspect(text(more), CODEC)


@pytest.mark.parametrize(
    ("raw", "word"),
    [
        (b"\x81" + bytes(200), "version 1"),
        (b"", "no legacy"),
        (bytes(38), "signatures"),
        (bytes(1_300), "1232 fit"),
    ],
)
def test_bytes_that_are_no_transaction_are_refused(raw: bytes, word: str) -> None:
    with pytest.raises(UnsupportedTransaction, match=word):
        inspect(base64.b64encode(raw).decode(), CODEC)


def test_bytes_behind_a_transaction_are_refused() -> None:
    raw = base64.b64decode(text(CODEC.instruction(CALLS.revoke_allowance(KEY, MINT))))
    with pytest.raises(UnsupportedTransaction):
        inspect(base64.b64encode(raw + b"\0").decode(), CODEC)
    with pytest.raises(UnsupportedTransaction, match="base64"):
        inspect("not base64!", CODEC)


def test_a_bad_signature_is_no_signature() -> None:
    raw = bytearray(base64.b64decode(text(CODEC.instruction(CALLS.revoke_allowance(KEY, MINT)))))
    raw[10] ^= 1
    assert inspect(base64.b64encode(bytes(raw)).decode(), CODEC).signed_by == ()


@given(st.integers(0, 300), st.integers(0, 7))
def test_no_changed_bit_passes_for_the_same_transaction(position: int, bit: int) -> None:
    """Whatever a server flips is either refused or shows in what is compared."""
    honest = text(CODEC.instruction(CALLS.deposit(KEY, KEY, 5)))
    raw = bytearray(base64.b64decode(honest))
    position %= len(raw)
    raw[position] ^= 1 << bit
    read = inspect(honest, CODEC)
    try:
        other = inspect(base64.b64encode(bytes(raw)).decode(), CODEC)
    except UnsupportedTransaction:
        return
    assert other != read
    assert other.signed_by != read.signed_by


def test_an_ed25519_check_points_only_into_itself() -> None:
    check = SignatureCheck(KEY, b"m" * 48, WALLET.sign_message(b"m" * 48))
    data = bytes(verify_instruction(check).data)
    assert data[:16] == bytes.fromhex("01003000ffff1000ffff70003000ffff")
    assert len(data) == 16 + 32 + 64 + 48
    assert read_instruction(data) == check
    for wrong in (data[:-1], data + b"\0", b"\2" + data[1:], data[:4] + b"\0\0" + data[6:], data[:20], b""):
        with pytest.raises(UnsupportedTransaction):
            read_instruction(wrong)
