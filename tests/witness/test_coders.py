"""Every instruction's arguments, every account and every event: the same bytes by six hands.

The hands: @coral-xyz/anchor's coder, codama's codecs (both JavaScript), anchorpy under our own dataclasses, `struct` by
hand-written layouts (tests/chain/wire_layouts.py), the bytes the values were cut from, and the golden file whose
lengths, discriminators and offsets the Rust tests check (programs/reaver_market/tests/golden.rs).
"""

import json
import struct
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from construct import Container, ListContainer
from solders.pubkey import Pubkey

from marketplace.chain.accounts import ACCOUNT_TYPES
from marketplace.chain.events import EVENT_TYPES
from marketplace.chain.instructions import INSTRUCTION_TYPES
from marketplace.chain.program import AnchorCodec
from tests.chain import golden_program, wire_layouts
from tests.witness import values
from tests.witness.javascript import run
from tests.witness.plain import plain
from tests.witness.values import Case

pytestmark = [pytest.mark.witness, pytest.mark.xdist_group("witness-coders")]

PROGRAM = Pubkey.from_string(values.DOCUMENT["address"])
CODEC = AnchorCodec(PROGRAM)
RECORDS: dict[str, dict[str, Any]] = {
    "instructions": {name: kind.ARGS for name, kind in INSTRUCTION_TYPES.items()},
    "accounts": dict(ACCOUNT_TYPES),
    "events": dict(EVENT_TYPES),
}
LAYOUTS = {
    "instructions": wire_layouts.INSTRUCTIONS,
    "accounts": wire_layouts.ACCOUNTS,
    "events": wire_layouts.EVENTS,
}
NAMED = [(kind, entry["name"]) for kind in values.KINDS for entry in values.DOCUMENT[kind]]


def golden_cases() -> list[Case]:
    """The golden file's samples; what is reserved is zero in them."""
    golden = json.loads(golden_program.FILE.read_text())
    cases = []
    for kind, name in NAMED:
        value = plain(golden_program.sample(RECORDS[kind][name], name))
        data = bytes.fromhex(golden[kind][name])
        if kind == "accounts":
            value["reserved"] = bytes(golden_program.reserved_tail(LAYOUTS[kind][name])).hex()
        cases.append(Case(kind, name, "golden", value, data))
    return cases


def typed(kind: Any, value: Any) -> Any:
    """The plain form as one of our dataclasses."""
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        assert set(value) - {"reserved"} == set(hints)
        return kind(**{name: typed(hint, value[name]) for name, hint in hints.items()})
    if get_origin(kind) is tuple:
        return tuple(typed(get_args(kind)[0], item) for item in value)
    if kind is Pubkey:
        return Pubkey.from_string(value)
    return bytes.fromhex(value) if kind is bytes else kind(value)


CASES = [*values.cases(), *golden_cases()]


@pytest.fixture(scope="module")
def answers() -> dict[tuple[str, str], list[tuple[Case, dict[str, Any]]]]:
    """What the JavaScript coders make of all cases, by kind and name."""
    given = [{"kind": c.kind, "name": c.name, "value": c.value, "bytes": c.data.hex()} for c in CASES]
    found: dict[tuple[str, str], list[tuple[Case, dict[str, Any]]]] = {}
    for case, answer in zip(CASES, run("coders.mjs", {"idl": values.DOCUMENT, "cases": given}), strict=True):
        found.setdefault((case.kind, case.name), []).append((case, answer))
    return found


@pytest.mark.parametrize(("kind", "name"), NAMED)
@pytest.mark.parametrize("coder", ["anchor", "codama"])
def test_javascript_writes_and_reads_the_same_bytes(answers, coder: str, kind: str, name: str) -> None:
    seen = answers[kind, name]
    assert {case.pattern for case, _ in seen} == {*values.PATTERNS, "golden"}
    for case, answer in seen:
        assert answer[coder]["bytes"] == case.data.hex(), case.pattern
        assert answer[coder]["value"] == case.value, case.pattern


@pytest.mark.parametrize(("kind", "name"), NAMED)
def test_struct_reads_the_same_values(kind: str, name: str) -> None:
    layout = LAYOUTS[kind][name]
    for case in (case for case in CASES if (case.kind, case.name) == (kind, name)):
        found = struct.unpack("<" + layout.replace(" ", ""), case.data[8:])
        wanted = list(leaves(case.value))
        assert len(found) == len(wanted)
        for item, text in zip(found, wanted, strict=True):
            assert in_form_of(text, item) == text, case.pattern


def leaves(value: Any) -> Any:
    """The values of a plain form in order."""
    if isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from leaves(item)
    else:
        yield value


def in_form_of(text: Any, item: Any) -> Any:
    """What `struct` gave, as the plain form would have it: a stretch of bytes may be a key, a hash or a 128-bit number."""
    if not isinstance(item, bytes):
        return item if isinstance(item, bool) else str(item)
    readings = {item.hex(), str(int.from_bytes(item, "little"))} | ({str(Pubkey(item))} if len(item) == 32 else set())
    return text if text in readings else item.hex()


@pytest.mark.parametrize(("kind", "name"), NAMED)
def test_anchorpy_and_our_dataclasses_write_and_read_the_same_bytes(kind: str, name: str) -> None:
    record = RECORDS[kind][name]
    for case in (case for case in CASES if (case.kind, case.name) == (kind, name)):
        value = typed(record, case.value)
        if kind == "instructions":
            call_type: Any = INSTRUCTION_TYPES[name]
            keys = {f.name: Pubkey(bytes([n + 1]) * 32) for n, f in enumerate(fields(call_type.ACCOUNTS))}
            call = call_type(accounts=call_type.ACCOUNTS(**keys), args=value)
            wire = CODEC.instruction(call)
            assert bytes(wire.data) == case.data, case.pattern
            assert CODEC.read_instruction([meta.pubkey for meta in wire.accounts], case.data) == call
        elif kind == "accounts":
            assert CODEC.account_data(record, case.data) == value, case.pattern
            assert anchorpy_writes(CODEC._coders.accounts._accounts_layout[name], name, case.value) == case.data[8:]
        else:
            assert CODEC.event(case.data) == value, case.pattern
            assert anchorpy_writes(CODEC._coders.events.layouts[name], name, case.value) == case.data[8:]


def anchorpy_writes(layout: Any, name: str, value: dict[str, Any]) -> bytes:
    """anchorpy has no writer of accounts and events for users, but the layouts it reads by write as well."""
    return layout.build(container({"defined": {"name": name}}, value))


def container(kind: Any, value: Any) -> Any:
    """A value of an IDL type as anchorpy's layouts take it."""
    if isinstance(kind, dict) and "defined" in kind:
        types = {field["name"]: field["type"] for field in values.TYPES[kind["defined"]["name"]]}
        return Container({name: container(types[name], item) for name, item in value.items()})
    if isinstance(kind, dict):
        items = bytes.fromhex(value) if kind["array"][0] == "u8" else [container(kind["array"][0], v) for v in value]
        return ListContainer(items)
    if kind == "pubkey":
        return Pubkey.from_string(value)
    return value if kind == "bool" else int(value)


@pytest.mark.parametrize("name", RECORDS["accounts"])
def test_an_accounts_size_is_the_same_to_all(name: str) -> None:
    (size,) = {len(case.data) for case in CASES if (case.kind, case.name) == ("accounts", name)}
    assert CODEC.account_bytes(ACCOUNT_TYPES[name]) == size
    assert struct.calcsize("<" + wire_layouts.ACCOUNTS[name].replace(" ", "")) + 8 == size


def test_javascript_signs_the_same_messages() -> None:
    """Claims and vouchers, written from the documents; Rust and Python read the same vectors."""
    vectors = json.loads((golden_program.FILE.parent / "messages.json").read_text())
    given = {kind: [vector["fields"] for vector in listed] for kind, listed in vectors.items()}
    assert run("messages.mjs", given) == {
        kind: [vector["signed"] for vector in listed] for kind, listed in vectors.items()
    }
