"""Cuts secrets out of text before it reaches a log or an answer. The host of a URL stays: people need it."""

import re
from collections.abc import Mapping
from typing import Final

HIDDEN: Final = "[redacted]"
MAX_ECHO: Final = 128
"""Characters of a caller's own input that a message repeats. Specified: api.md section 2.1."""

_SECRET_NAMES: Final = re.compile(
    r"authorization|cookie|password|passwd|secret|token|api[_-]?key|private|seed|mnemonic|keypair|env$", re.IGNORECASE
)
_PATTERNS: Final = (
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]+"), r"\1 " + HIDDEN),
    (re.compile(r"\beyJ[\w-]+\.[\w-]+\.[\w-]+"), HIDDEN),
    (re.compile(r"\b(?:rt|rk|whsec)_[\w-]{16,}"), HIDDEN),
    (re.compile(r"(?<=://)[^/\s@]+@"), ""),
    (re.compile(r"(?i)([?&](?:api[_-]?key|token|key|secret|password)=)[^&\s\"']+"), r"\1" + HIDDEN),
    (re.compile(r"\[(?:\s*\d{1,3}\s*,){31,}\s*\d{1,3}\s*\]"), HIDDEN),
)


def redact(text: str) -> str:
    """`text` without bearer tokens, JWTs, our own secrets, passwords in URLs and keypairs."""
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def redact_fields(fields: Mapping[str, object]) -> dict[str, object]:
    """The mapping with the values of secret-looking names hidden and every text redacted, to any depth."""
    return {name: HIDDEN if _SECRET_NAMES.search(name) else _redact_value(value) for name, value in fields.items()}


def echo(text: str) -> str:
    """A caller's own input, fit to stand in a message: no control characters, no `<>`, cut at 128 characters."""
    plain = "".join(c if c.isprintable() and c not in "<>" else "?" for c in text[: MAX_ECHO + 1])
    return plain if len(plain) <= MAX_ECHO else plain[: MAX_ECHO - 1] + "…"


def _redact_value(value: object) -> object:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return redact_fields({str(name): item for name, item in value.items()})
    if isinstance(value, (list, tuple)):
        return [_redact_value(item) for item in value]
    return value
