"""Our signatures, checked by somebody else's implementation of the rules."""

import datetime as dt
import json
import secrets

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from marketplace.protocol.webhook_signatures import SECRET_BYTES, secret_bytes, secret_text, signature_header

BODY = json.dumps({"type": "job.completed", "text": "ä"}).encode()


def headers(keys, body=BODY, at=None):
    at = at or int(dt.datetime.now(dt.UTC).timestamp())
    return {
        "webhook-id": "evt_1",
        "webhook-timestamp": str(at),
        "webhook-signature": signature_header(keys, "evt_1", at, body),
    }


def test_a_receiver_verifies_with_any_library_of_the_standard():
    key = secrets.token_bytes(SECRET_BYTES)
    assert secret_bytes(secret_text(key)) == key
    assert Webhook(secret_text(key)).verify(BODY, headers([key])) == json.loads(BODY)


def test_while_a_secret_is_rotated_the_old_and_the_new_one_verify():
    old, new, other = (secrets.token_bytes(SECRET_BYTES) for _ in range(3))
    for key in (old, new):
        Webhook(secret_text(key)).verify(BODY, headers([new, old]))
    with pytest.raises(WebhookVerificationError):
        Webhook(secret_text(other)).verify(BODY, headers([new, old]))


@pytest.mark.parametrize("change", ["body", "id", "time"])
def test_an_altered_delivery_is_refused(change):
    key = secrets.token_bytes(SECRET_BYTES)
    given = headers([key])
    if change == "id":
        given["webhook-id"] = "evt_2"
    if change == "time":
        given["webhook-timestamp"] = str(int(given["webhook-timestamp"]) + 1)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret_text(key)).verify(BODY + b" " if change == "body" else BODY, given)


def test_text_that_is_no_secret_is_refused():
    with pytest.raises(ValueError, match="not a webhook secret"):
        secret_bytes("whsec_*")
