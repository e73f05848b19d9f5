"""Values for every record of the IDL, with their bytes known beforehand.

The bytes come first: a value is what `int.from_bytes` reads out of a stretch of them, and no coder has a part in it.
Plain form, as the scripts speak it: numbers of any width as decimal text, keys base58, byte arrays hexadecimal.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

from solders.pubkey import Pubkey

from tests.witness.javascript import IDL

DOCUMENT = json.loads(IDL.read_text())
TYPES = {entry["name"]: entry["type"]["fields"] for entry in DOCUMENT["types"]}
WIDTHS = {"u8": 1, "u16": 2, "u32": 4, "u64": 8, "u128": 16, "i64": 8}
KINDS = ("instructions", "accounts", "events")


@dataclass(frozen=True)
class Case:
    """One record of one kind in one pattern: its value, and its bytes with the discriminator."""

    kind: str
    name: str
    pattern: str
    value: dict[str, Any]
    data: bytes


Source = Callable[[str], Iterator[int]]
"""The next bytes for a value of a type."""


def _counted() -> Source:
    """No byte value comes twice within 256, so a swap, a shift or the other endianness is always seen."""
    counter = ((1 + 197 * place) % 256 for place in count())
    return lambda _kind: counter


def _greatest() -> Source:
    return lambda kind: iter([0xFF] * 7 + [0x7F] if kind == "i64" else [0xFF] * 32)


def _least() -> Source:
    return lambda kind: iter([0] * 7 + [0x80] if kind == "i64" else [0] * 32)


PATTERNS = {"counted": _counted, "greatest": _greatest, "least": _least}


def cases() -> list[Case]:
    return [_case(kind, entry, pattern) for kind in KINDS for entry in DOCUMENT[kind] for pattern in PATTERNS]


def _case(kind: str, entry: dict[str, Any], pattern: str) -> Case:
    fields = entry["args"] if kind == "instructions" else TYPES[entry["name"]]
    value, body = _record(fields, PATTERNS[pattern]())
    return Case(kind, entry["name"], pattern, value, bytes(entry["discriminator"]) + body)


def _record(fields: list[dict[str, Any]], source: Source) -> tuple[dict[str, Any], bytes]:
    value, body = {}, b""
    for field in fields:
        # every layout that exists is version 1, and readers refuse another
        value[field["name"]], data = ("1", b"\1") if field["name"] == "version" else _leaf(field["type"], source)
        body += data
    return value, body


def _leaf(kind: Any, source: Source) -> tuple[Any, bytes]:
    if isinstance(kind, dict) and "defined" in kind:
        return _record(TYPES[kind["defined"]["name"]], source)
    if isinstance(kind, dict):
        inner, number = kind["array"]
        items = [_leaf(inner, source) for _ in range(number)]
        data = b"".join(data for _, data in items)
        return (data.hex() if inner == "u8" else [value for value, _ in items]), data
    if kind == "bool":
        (flag,) = islice(source(kind), 1)
        return bool(flag & 1), bytes([flag & 1])
    if kind == "pubkey":
        data = bytes(islice(source(kind), 32))
        return str(Pubkey.from_bytes(data)), data
    data = bytes(islice(source(kind), WIDTHS[kind]))
    return str(int.from_bytes(data, "little", signed=kind.startswith("i"))), data
