import ast
import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from solders.instruction import Instruction
from solders.pubkey import Pubkey

from marketplace.chain.accounts import ACCOUNT_TYPES, EscrowAccount, VaultAccount
from marketplace.chain.addresses import (
    Addresses,
    associated_token_address,
    class_id,
    class_name,
    parse_address,
    parse_signature,
)
from marketplace.chain.answers import AccountInfo
from marketplace.chain.errors import AccountMismatch, NotCanonical, UnsupportedTransaction
from marketplace.chain.events import EVENT_TYPES, SettledEvent
from marketplace.chain.instructions import INSTRUCTION_TYPES, ProgramInstruction
from marketplace.chain.program import AnchorCodec, create_mint, create_token_account, mint_tokens, transfer_tokens
from tests.chain import golden_program

PROGRAM = Pubkey.from_string("5qwExNyh26kwngLGHpXEPD4PgoiZWia8neGpQRPJUSyN")
IDL = json.loads((Path(__file__).parents[2] / "programs_idl" / "reaver_market.json").read_text())
IDL_TYPES = {entry["name"]: entry["type"]["fields"] for entry in IDL["types"]}
GOLDEN = json.loads(golden_program.FILE.read_text())


@pytest.fixture(scope="module")
def codec() -> AnchorCodec:
    return AnchorCodec(PROGRAM)


def call(name: str) -> ProgramInstruction:
    kind: Any = INSTRUCTION_TYPES[name]
    keys = {f.name: Pubkey.from_bytes(bytes([n + 1]) * 32) for n, f in enumerate(fields(kind.ACCOUNTS))}
    return kind(accounts=kind.ACCOUNTS(**keys), args=golden_program.sample(kind.ARGS, name))


def info(data: bytes, owner: Pubkey = PROGRAM) -> AccountInfo:
    return AccountInfo(Pubkey.default(), owner, 1, data, executable=False, slot=1)


def test_the_golden_bytes_are_what_their_command_writes() -> None:
    assert golden_program.golden() == GOLDEN


def test_everything_in_the_idl_has_its_dataclass() -> None:
    assert list(INSTRUCTION_TYPES) == [entry["name"] for entry in IDL["instructions"]]
    assert list(ACCOUNT_TYPES) == [entry["name"] for entry in IDL["accounts"]]
    assert list(EVENT_TYPES) == [entry["name"] for entry in IDL["events"]]


@pytest.mark.parametrize("name", INSTRUCTION_TYPES)
def test_an_instructions_fields_are_the_idls(name: str) -> None:
    kind: Any = INSTRUCTION_TYPES[name]
    entry = next(entry for entry in IDL["instructions"] if entry["name"] == name)
    assert [f.name for f in fields(kind.ACCOUNTS)] == [account["name"] for account in entry["accounts"]]
    assert [f.name for f in fields(kind.ARGS)] == [argument["name"] for argument in entry["args"]]


@pytest.mark.parametrize("name", [*ACCOUNT_TYPES, *EVENT_TYPES])
def test_a_records_fields_are_the_idls(name: str) -> None:
    kind: Any = {**ACCOUNT_TYPES, **EVENT_TYPES}[name]
    expected = [entry["name"] for entry in IDL_TYPES[name] if entry["name"] != "reserved"]
    assert [f.name for f in fields(kind)] == expected


@pytest.mark.parametrize("name", INSTRUCTION_TYPES)
def test_an_instruction_is_written_to_its_golden_bytes_and_read_back(codec: AnchorCodec, name: str) -> None:
    made = call(name)
    wire = codec.instruction(made)
    assert bytes(wire.data).hex() == GOLDEN["instructions"][name]
    entry = next(entry for entry in IDL["instructions"] if entry["name"] == name)
    assert [(meta.is_signer, meta.is_writable) for meta in wire.accounts] == [
        (account.get("signer", False), account.get("writable", False)) for account in entry["accounts"]
    ]
    assert codec.read_instruction([meta.pubkey for meta in wire.accounts], bytes(wire.data)) == made


@pytest.mark.parametrize("name", INSTRUCTION_TYPES)
def test_an_instruction_with_a_byte_more_or_less_is_refused(codec: AnchorCodec, name: str) -> None:
    wire = codec.instruction(call(name))
    keys = [meta.pubkey for meta in wire.accounts]
    for data in (bytes(wire.data) + b"\0", bytes(wire.data)[:-1]):
        with pytest.raises(UnsupportedTransaction):
            codec.read_instruction(keys, data)
    with pytest.raises(UnsupportedTransaction, match="accounts"):
        codec.read_instruction([*keys, PROGRAM], bytes(wire.data))


def test_an_absent_optional_account_is_given_as_the_program(codec: AnchorCodec) -> None:
    made = call("cancel_escrow")
    without = replace(made, accounts=replace(made.accounts, allowance=None))
    wire: Instruction = codec.instruction(without)
    assert wire.accounts[5].pubkey == PROGRAM
    assert not wire.accounts[5].is_writable
    assert codec.read_instruction([meta.pubkey for meta in wire.accounts], bytes(wire.data)) == without


@pytest.mark.parametrize("name", ACCOUNT_TYPES)
def test_an_account_is_read_from_its_golden_bytes(codec: AnchorCodec, name: str) -> None:
    kind = ACCOUNT_TYPES[name]
    data = bytes.fromhex(GOLDEN["accounts"][name])
    assert codec.account(kind, info(data)) == golden_program.sample(kind, name)
    assert codec.account_bytes(kind) == len(data)
    assert codec.account_discriminator(kind) == data[:8]
    for wrong in (data + b"\0", data[:-1], data[:8] + b"\2" + data[9:], bytes(8) + data[8:]):
        with pytest.raises(AccountMismatch):
            codec.account(kind, info(wrong))


def test_an_account_of_another_program_or_type_is_refused(codec: AnchorCodec) -> None:
    data = bytes.fromhex(GOLDEN["accounts"]["Vault"])
    with pytest.raises(AccountMismatch, match="belongs to"):
        codec.account(VaultAccount, info(data, owner=Pubkey.default()))
    with pytest.raises(AccountMismatch, match="is no Escrow"):
        codec.account(EscrowAccount, info(data))


@pytest.mark.parametrize("name", EVENT_TYPES)
def test_an_event_is_read_from_its_golden_bytes(codec: AnchorCodec, name: str) -> None:
    data = bytes.fromhex(GOLDEN["events"][name])
    assert codec.event(data) == golden_program.sample(EVENT_TYPES[name], name)
    assert codec.event(data + b"\0") is None
    assert codec.event(data[:-1]) is None


def test_an_event_keeps_its_types(codec: AnchorCodec) -> None:
    event = codec.event(bytes.fromhex(GOLDEN["events"]["Settled"]))
    assert isinstance(event, SettledEvent)
    assert isinstance(event.digest, bytes)
    assert isinstance(event.escrow, Pubkey)
    assert isinstance(event.owed, bool)


def test_every_error_of_the_program_has_its_name(codec: AnchorCodec) -> None:
    assert {e["code"]: e["name"] for e in IDL["errors"]} == {
        e["code"]: codec.error_name(e["code"]) for e in IDL["errors"]
    }
    assert codec.error_name(5999) is None
    assert codec.error_name(IDL["errors"][-1]["code"] + 1) is None
    assert codec.error_message("DepositTooSmall")


def test_token_instructions_are_of_the_classic_token_program() -> None:
    owner, mint, other = (Pubkey.from_bytes(bytes([n]) * 32) for n in (1, 2, 3))
    create = create_token_account(other, owner, mint)
    assert create.data == b"\x01", "idempotent"
    assert create.accounts[1].pubkey == associated_token_address(owner, mint)
    transfer = transfer_tokens(other, mint, owner, owner, 7, 6)
    assert bytes(transfer.data) == bytes([12]) + (7).to_bytes(8, "little") + b"\x06"
    minted = mint_tokens(mint, other, owner, 7, 6)
    assert bytes(minted.data) == bytes([14]) + (7).to_bytes(8, "little") + b"\x06"
    _, initialize = create_mint(owner, mint, other, 6, 100)
    assert bytes(initialize.data) == bytes([0, 6]) + bytes(other) + bytes(33), "no freeze authority"


def test_each_seed_has_its_place() -> None:
    addresses = Addresses(PROGRAM)
    a, b = Pubkey.from_bytes(bytes([1]) * 32), Pubkey.from_bytes(bytes([2]) * 32)
    derived = [
        addresses.config(), addresses.compensation(), addresses.emission(), addresses.market(a),
        addresses.market_fees(a), addresses.hardware_class(class_id("a100")), addresses.node(a), addresses.pool(a),
        addresses.pool_stake(a), addresses.pool_fees(a), addresses.position(a, b), addresses.position(b, a),
        addresses.vault(a), addresses.vault_tokens(a), addresses.allowance(a, b), addresses.allowance(b, a),
        addresses.escrow(a, b, 1), addresses.escrow(a, b, 256), addresses.escrow(b, a, 1),
        addresses.ticket(a, 1), addresses.ticket(a, 256), addresses.ticket(b, 1), addresses.epoch(1), addresses.epoch(256),
    ]  # fmt: skip
    assert len(set(derived)) == len(derived)
    expected, _ = Pubkey.find_program_address([b"escrow", bytes(a), bytes(b), b"\0\1" + bytes(6)], PROGRAM)
    assert addresses.escrow(a, b, 256) == expected


def test_only_canonical_text_is_an_address() -> None:
    text = str(PROGRAM)
    assert parse_address(text) == PROGRAM
    for wrong in ("", text + " ", " " + text, "1" + text, text[:20], text.replace("5", "0", 1), "é" * 32):
        with pytest.raises(NotCanonical):
            parse_address(wrong)
    for wrong in ("", text, "1" * 63):
        with pytest.raises(NotCanonical):
            parse_signature(wrong)
    assert bytes(parse_signature("1" * 64)) == bytes(64)


def test_class_ids_are_ascii_padded_with_zeros() -> None:
    assert class_id("cpu-small") == b"cpu-small" + bytes(7)
    assert class_name(class_id("cpu-small")) == "cpu-small"
    assert class_id("") == bytes(16)
    for wrong in ("seventeen-letters", "grün", "a\0b"):
        with pytest.raises(ValueError, match=r"class name|ascii"):
            class_id(wrong)
    with pytest.raises(ValueError, match="class"):
        class_name(b"a\0b" + bytes(13))


def test_the_chain_libraries_are_imported_in_one_module_only() -> None:
    """Leaving anchorpy (and with it solders 0.26) must stay a change of that module alone."""
    folder = Path(__file__).parents[2] / "marketplace" / "chain"
    for path in folder.glob("*.py"):
        imported = {
            name.split(".")[0]
            for node in ast.walk(ast.parse(path.read_text()))
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }
        foreign = imported & {"anchorpy", "anchorpy_core", "solana", "spl", "construct", "borsh_construct"}
        assert not foreign or path.name == "program.py", f"{path.name} imports {foreign}"
