"""A quote is what the market's quote key signed, and nothing else."""

import pytest
from nacl.signing import SigningKey

from marketplace.protocol.quotes import MalformedQuote, QuotePayload, issue, open_token

SEED = b"q" * 32
KEY = SigningKey(SEED).verify_key.encode()
PAYLOAD = QuotePayload(
    id="quote_1",
    market="m",
    class_id="cpu-small",
    gpu_count=1,
    regions=("eu", "na"),
    priority="normal",
    max_seconds=60,
    price_per_hour=72_000,
    max_total=1_200,
    spec_hash="",
    expires_at_ms=1,
)


def test_a_token_gives_back_what_was_signed():
    assert open_token(issue(PAYLOAD, SEED), KEY) == PAYLOAD


@pytest.mark.parametrize("text", ["", ".", "a.b", "quote_1", "é.é", "A" * 9_000 + ".A"])
def test_what_is_no_token_is_refused(text):
    with pytest.raises(MalformedQuote):
        open_token(text, KEY)


def test_an_altered_or_foreign_token_is_refused():
    token = issue(PAYLOAD, SEED)
    cheaper = issue(PAYLOAD.model_copy(update={"price_per_hour": 1}), SEED)
    with pytest.raises(MalformedQuote):
        open_token(cheaper.split(".")[0] + "." + token.split(".")[1], KEY)
    with pytest.raises(MalformedQuote):
        open_token(issue(PAYLOAD, b"x" * 32), KEY)
