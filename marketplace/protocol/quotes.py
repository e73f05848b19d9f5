"""The quote as a token: what the market signs, and how anybody checks it. Source: api.md section 5.1.

A token is base64url(payload) + "." + base64url(signature), both without padding; the payload is canonical JSON.
What is signed is domain + payload, so that no other message of the quote key can be taken for a quote.
"""

import base64
import binascii
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from marketplace.protocol.signatures import sign, verify
from marketplace.protocol.terms import canonical_json

DOMAIN: Final = b"reaver:quote:v01"
MAX_TOKEN_CHARACTERS: Final = 8192
"""Chosen: a payload has under 1 KB; what is longer is not decoded at all."""


class MalformedQuote(ValueError):
    """The text is not a quote signed by this key."""


class QuotePayload(BaseModel):
    """What the price holds for.

    price_per_hour, max_total: base units of the payment token; the price is the ceiling an escrow stores.
    spec_hash: hex of the hash of what was quoted, without command and environment where no image was named.
    expires_at_ms: milliseconds since the Unix epoch.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    id: str
    market: str
    class_id: str
    gpu_count: int = Field(ge=1)
    regions: tuple[str, ...] = Field(strict=False)
    priority: str
    max_seconds: int = Field(ge=1)
    price_per_hour: int = Field(ge=0)
    max_total: int = Field(ge=0)
    spec_hash: str
    expires_at_ms: int


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def issue(payload: QuotePayload, seed: bytes) -> str:
    """The signed token. seed: 32 bytes of the market's quote key."""
    raw = canonical_json(payload.model_dump(mode="json"))
    return f"{_encode(raw)}.{_encode(sign(seed, DOMAIN + raw))}"


def open_token(token: str, key: bytes) -> QuotePayload:
    """The payload of a token signed by `key` (32 bytes). Says nothing of its expiry. Raises MalformedQuote."""
    head, dot, tail = token.partition(".")
    if not dot or len(token) > MAX_TOKEN_CHARACTERS:
        raise MalformedQuote("a quote has two parts joined by a dot")
    try:
        raw, signature = _decode(head), _decode(tail)
    except (binascii.Error, ValueError) as error:
        raise MalformedQuote("a quote is base64url text") from error
    if not verify(key, DOMAIN + raw, signature):
        raise MalformedQuote("the quote was not signed by this market's quote key")
    try:
        return QuotePayload.model_validate_json(raw)
    except ValidationError as error:
        raise MalformedQuote("the quote's payload is not of this version") from error
