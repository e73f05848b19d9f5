"""Strict JSON in, exact JSON out. Source: api.md section 1.2, rows "bodies" and "money"."""

import hashlib
import json
import math
import re
from typing import Any, Final

import orjson
from pydantic import BaseModel

from marketplace.domain.money import format_amount
from marketplace.errors import Malformed

MAX_DEPTH: Final = 64
_CANONICAL: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
_NUL: Final = rb"\u0000"
_NUL_ESCAPE: Final = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")
"""After an even number of backslashes it is the character, else those six characters themselves."""
_STRUCTURE: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]')


def parse_json(raw: bytes) -> Any:
    """The value of a JSON text in UTF-8.

    Refused with Malformed: anything that isn't JSON, duplicate keys, NaN and Infinity (also as `1e999`), more than
    64 levels, and strings no database and no other parser can hold (lone surrogates, NUL).
    """
    _check_depth(raw)
    try:
        text = raw.decode("utf-8")
        value = json.loads(
            text, object_pairs_hook=_without_duplicates, parse_constant=_no_constant, parse_float=_finite_float
        )
    except UnicodeDecodeError as error:
        raise Malformed("the body is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise Malformed(f"the body is not JSON: {error}") from error
    except (ValueError, RecursionError) as error:
        # An integer of thousands of digits: the interpreter's own words are of no use to a caller.
        raise Malformed("the body holds a number out of range") from error
    if "\\u" in text:
        _check_strings(value)
    return value


def without_nul(raw: bytes) -> bytes:
    r"""A JSON text in which each NUL, which can only stand there as `\u0000`, is U+FFFD instead.

    For what nodes send: programs and engines wrote the text in it, and it is no node's fault what they write. Callers
    of other routes wrote theirs themselves, and are refused (`parse_json`).
    """
    return raw if _NUL not in raw else _NUL_ESCAPE.sub(rb"\1\\ufffd", raw)


def canonical_hash(value: Any) -> bytes:
    """SHA-256 of the canonical JSON of a parsed value: sorted keys, no spaces."""
    return hashlib.sha256(_CANONICAL.encode(value).encode()).digest()


def dump_model(model: BaseModel) -> bytes:
    """The answer's bytes; exact numbers stay exact (`JsonNumber`)."""
    return orjson.dumps(model.model_dump(by_alias=True))


def number_text(units: int, decimals: int) -> str:
    """Decimal text of a JSON number, from integers only: 50000 at 6 is `0.05`."""
    text = format_amount(units, decimals)
    return text.rstrip("0").rstrip(".") if "." in text else text


def json_number(units: int, decimals: int) -> orjson.Fragment:
    """An amount as a JSON number, written digit by digit: no binary float on the way."""
    return orjson.Fragment(number_text(units, decimals))


def _check_depth(raw: bytes) -> None:
    if raw.count(b"[") + raw.count(b"{") <= MAX_DEPTH:
        return
    depth = 0
    for token in _STRUCTURE.finditer(raw):
        first = token.group()[0:1]
        if first in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise Malformed(f"the body is nested deeper than {MAX_DEPTH} levels")
        elif first in b"]}":
            depth -= 1


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise Malformed(f"the body names {name[:64]!a} twice")
            seen.add(name)
    return members


def _no_constant(name: str) -> Any:
    raise Malformed(f"the body holds {name}, which is not JSON")


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise Malformed("the body holds a number out of range")
    return value


def _check_strings(value: Any) -> None:
    if isinstance(value, str):
        if "\0" in value or not _encodes(value):
            raise Malformed("the body holds a NUL character or half a surrogate pair")
    elif isinstance(value, dict):
        for name, item in value.items():
            _check_strings(name)
            _check_strings(item)
    elif isinstance(value, list):
        for item in value:
            _check_strings(item)


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
