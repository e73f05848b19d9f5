"""What is planted in requests is in no log line: tokens, signatures, keys, bodies, queries."""

import io
import logging

import pytest
import structlog

from marketplace.logs import configure_logs


@pytest.fixture
def log_lines():
    stream = io.StringIO()
    handlers, level = logging.getLogger().handlers, logging.getLogger().level
    configure_logs("json", "debug", stream)
    yield stream.getvalue
    structlog.reset_defaults()
    logging.getLogger().handlers = handlers
    logging.getLogger().setLevel(level)


async def test_nothing_secret_is_logged(log_lines, call, wallet):
    _, challenge, _ = await call("GET", f"/v1/auth/challenge?wallet={wallet.address}&planted=query-secret")
    signature = wallet.sign(challenge["message"])
    _, session, _ = await call("POST", "/v1/auth/verify", json={"wallet": wallet.address, "signature": signature})
    await call("POST", "/v1/auth/verify", json={"wallet": wallet.address, "signature": signature, "x": "body-secret"})
    await call("GET", "/v1/me", token=session["token"], headers={"Idempotency-Key": "planted-key"})
    await call("POST", "/v1/auth/refresh", json={"refresh_token": session["refresh_token"]})
    await call("GET", "/v1/me", token="eyJhbGciOiJub25lIn0.planted.token")
    text = log_lines()
    assert '"path":"/v1/auth/challenge"' in text
    planted = [
        session["token"], session["refresh_token"], signature, challenge["nonce"],
        "query-secret", "body-secret", "planted-key", "planted.token",
    ]  # fmt: skip
    assert [secret for secret in planted if secret in text] == []
