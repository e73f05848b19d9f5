"""No secret passes, and the host stays."""

import pytest

from marketplace.redaction import echo, redact, redact_fields

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"
KEYPAIR = str(list(range(64)))


@pytest.mark.parametrize(
    ("text", "secret", "kept"),
    [
        (f"Authorization: Bearer {JWT} refused", JWT, "refused"),
        (f"token {JWT}", JWT, "token"),
        ("rt_0123456789abcdefXYZ used", "0123456789abcdefXYZ", "used"),
        ("https://user:pass@rpc.example.test/path", "pass", "rpc.example.test"),
        ("https://rpc.example.test/?api-key=12345 down", "12345", "rpc.example.test"),
        (f"key {KEYPAIR} end", "13, 14, 15", "end"),
    ],
)
def test_secrets_are_cut_out(text, secret, kept):
    assert secret not in redact(text)
    assert kept in redact(text)


def test_fields_with_secret_names_are_hidden_to_any_depth():
    fields = {
        "refresh_token": "x",
        "body": {"password": "y", "list": [{"Authorization": "z"}, f"Bearer {JWT}"]},
        "n": 1,
    }
    assert redact_fields(fields) == {
        "refresh_token": "[redacted]",
        "body": {"password": "[redacted]", "list": [{"Authorization": "[redacted]"}, "Bearer [redacted]"]},
        "n": 1,
    }


def test_input_is_echoed_harmlessly():
    assert echo("<script>\x07\u202e") == "?script???"
    assert len(echo("x" * 1000)) == 128
