"""Golden bytes of every instruction, account and event: `python -m tests.chain.golden_program` rewrites them.

The values are a function of each field's name, so that swapped fields of one size are noticed. The bytes are
made by `struct` from tests/chain/wire_layouts.py, never by the coders that they are held against.
"""

import hashlib
import json
import re
import struct
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from solders.pubkey import Pubkey

from marketplace.chain.accounts import ACCOUNT_TYPES
from marketplace.chain.events import EVENT_TYPES
from marketplace.chain.instructions import INSTRUCTION_TYPES
from tests.chain import wire_layouts

FILE = Path(__file__).parents[1] / "golden" / "program_bytes.json"
# Widths of byte fields that are no hash; fields that must hold a certain value.
BYTES = {"class_id": 16, "id": 16, "used": 128}
FIXED = {"version": 1}
# Arrays of records and the number of their elements.
ARRAYS = {"epochs": 3}
SIZES = {"B": 1, "?": 1, "H": 2, "I": 4, "Q": 8, "q": 8}


def sample(kind: Any, path: str = "") -> Any:
    """A value of a dataclass whose every field depends on its path."""
    if is_dataclass(kind):
        types = get_type_hints(kind)
        return kind(**{f.name: sample(types[f.name], f"{path}.{f.name}") for f in fields(kind)})
    name = path.rsplit(".", 1)[-1]
    seed = hashlib.sha256(path.encode()).digest()
    if get_origin(kind) is tuple:
        (inner, _) = get_args(kind)
        return tuple(sample(inner, f"{path}[{i}]") for i in range(ARRAYS[name]))
    if kind is Pubkey:
        return Pubkey.from_bytes(seed)
    if kind is bytes:
        return (seed * 4)[: BYTES.get(name, 32)]
    if kind is bool:
        return seed[0] % 2 == 1
    return FIXED.get(name, seed[0])


def by_struct(discriminator: str, layout: str, value: Any, reserved: int = 0) -> bytes:
    """The value's wire form by `struct` alone."""
    flat = [*_flat(value), *([bytes(reserved)] if reserved else [])]
    parts = layout.split()
    assert len(parts) == len(flat), f"{discriminator}: {len(parts)} fields in the layout, {len(flat)} in the class"
    body = b"".join(struct.pack("<" + part, _packable(part, item)) for part, item in zip(parts, flat, strict=True))
    return hashlib.sha256(discriminator.encode()).digest()[:8] + body


def reserved_tail(layout: str) -> int:
    """Bytes of an account's reserved tail."""
    match = re.fullmatch(r"(\d+)s", layout.rsplit(maxsplit=1)[-1])
    assert match is not None
    return int(match[1])


def golden() -> dict[str, dict[str, str]]:
    return {
        "instructions": {
            name: by_struct(f"global:{name}", wire_layouts.INSTRUCTIONS[name], sample(kind.ARGS, name)).hex()
            for name, kind in INSTRUCTION_TYPES.items()
        },
        "accounts": {
            name: by_struct(f"account:{name}", layout, sample(kind, name), reserved_tail(layout)).hex()
            for name, kind in ACCOUNT_TYPES.items()
            for layout in [wire_layouts.ACCOUNTS[name]]
        },
        "events": {
            name: by_struct(f"event:{name}", wire_layouts.EVENTS[name], sample(kind, name)).hex()
            for name, kind in EVENT_TYPES.items()
        },
    }


def _flat(value: Any) -> list[Any]:
    if is_dataclass(value):
        return [leaf for f in fields(value) for leaf in _flat(getattr(value, f.name))]
    if isinstance(value, tuple):
        return [leaf for item in value for leaf in _flat(item)]
    return [value]


def _packable(part: str, item: Any) -> Any:
    if part.endswith("s"):
        width = int(part[:-1])
        return item.to_bytes(width, "little") if isinstance(item, int) else bytes(item)
    return item


if __name__ == "__main__":
    FILE.write_text(json.dumps(golden(), indent=1) + "\n")
