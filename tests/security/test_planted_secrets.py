"""Every kind of secret is used as it is meant to be, and as it is not, and then looked for in everything written.

Looked through: the market's log at level debug, all rows of its store, every list and view of the owner, the answers
that were refusals, kept answers, the published document. What a node's process writes: tests/e2e/test_secrets.py.
"""

import asyncio
import io
import json
import logging
import sqlite3

import pytest
import structlog

from marketplace.logs import configure_logs
from tests.api.conftest import Renter, Wallet
from tests.api.scripted_node import ScriptedNode
from tests.api.test_jobs import ALLOWANCE, submit, until

JOB_SECRET, PASSWORD = "planted-value-of-a-job-secret", "planted-registry-password"
STORAGE_SECRET, GROUP_SECRET = "planted-storage-secret-key", "planted-value-of-a-group-secret"
STORAGE = {"kind": "s3", "endpoint": "https://s3.test", "region": "r", "access_key": "a"}
IMAGE = "registry.example:5000/team/private:1"
MARKER = "harmless-marker"
"""Stands in the same requests, rows and lines as the secrets: where it is not, nothing was looked through."""


@pytest.fixture
def log():
    stream = io.StringIO()
    configure_logs("json", "debug", stream)
    return stream


@pytest.fixture
async def node(chain, live_market, live_call):
    scripted = ScriptedNode(await Renter.funded(Wallet(), chain, live_market, live_call))
    await scripted.register()
    await scripted.connect(live_call)
    yield scripted
    await scripted.close()


def rows_of(path) -> dict[str, str]:
    """Every value of every row, as text; bytes as the text that they may hold."""
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            table: "\n".join(
                value.decode("latin-1") if isinstance(value, bytes) else str(value)
                for row in connection.execute(f"SELECT * FROM {table}")
                for value in row
            )
            for table in tables
        }


def found_in(written: dict[str, str], planted: dict[str, str]) -> list[tuple[str, str]]:
    """Where which secret stands."""
    return [(where, name) for where, text in written.items() for name, secret in planted.items() if secret in text]


def ways_to_write(key: bytes) -> dict[str, str]:
    """A private key, as files and people write it."""
    return {"numbers": ", ".join(map(str, key)), "compact": ",".join(map(str, key)), "hex": key.hex()}


async def made(answer):
    status, body, headers = await answer
    assert status in {200, 201, 202}, body
    return body, headers


async def test_no_secret_is_in_a_log_a_row_a_list_a_view_or_an_error(log, node, renter, live_market, live_call):
    marked = {"X-Request-ID": MARKER}
    await renter.deposit("20")
    _, grant, _ = await renter("POST", "/v1/allowance", json=ALLOWANCE)
    await renter.send(grant)

    # a login, renewed; the earlier one is presented again, and so is one that nobody issued
    first = await live_call.login(renter)
    second, _ = await made(live_call("POST", "/v1/auth/refresh", json={"refresh_token": first["refresh_token"]}))
    refusals = [await live_call("POST", "/v1/auth/refresh", json={"refresh_token": first["refresh_token"]})]
    third = await live_call.login(renter)
    refusals += [await live_call("GET", "/v1/me", token=first["token"] + "x", headers=marked)]

    # keys, webhooks, a registry's login, a job with secrets; each call is repeated under its key
    kept = {"Idempotency-Key": MARKER}
    calls = [
        ("/v1/api-keys", {"name": MARKER, "scopes": ["read", "jobs"]}),
        ("/v1/webhooks", {"url": "https://hooks.test/x", "description": MARKER}),
        ("/v1/webhooks/default-secret", {}),
        ("/v1/registry-auth", {"name": MARKER, "username": "robot", "password": PASSWORD, "registry": IMAGE.split("/", maxsplit=1)[0]}),
    ]  # fmt: skip
    calls.append(("/v1/credentials", {**STORAGE, "name": MARKER, "secret_key": STORAGE_SECRET}))
    answers = []
    for path, body in calls:
        answer, _ = await made(renter("POST", path, json=body, headers=kept))
        again, _ = await made(renter("POST", path, json=body, headers=kept))
        assert again == answer
        answers.append(answer)
    key, webhook, default, login, _ = answers
    rotated, _ = await made(renter("POST", f"/v1/webhooks/{webhook['id']}/rotate"))
    await made(live_call("GET", "/v1/me", headers={"X-Api-Key": key["key"]}))
    await made(live_call("GET", "/v1/jobs", token=key["key"]))
    refusals += [await live_call("POST", "/v1/vault/deposit", token=key["key"], json={"amount": "1"})]
    refusals += [await live_call("GET", "/v1/me", token=key["key"] + "x")]
    refusals += [await renter("POST", "/v1/api-keys", json={"name": "n", "scopes": [key["key"]]})]
    for broken in (
        {"secret_key": STORAGE_SECRET + " x"},
        {"secret_key": STORAGE_SECRET, "endpoint": "http://10.0.0.1"},
    ):
        refusals.append(await renter("POST", "/v1/credentials", json={**STORAGE, "name": "n", **broken}))
    member = {"image": IMAGE, "gpu": "cpu-small", "max_price_per_hour": "0.00001", "secrets": {"TOKEN": GROUP_SECRET}}
    await made(renter("POST", "/v1/groups", json={"job": member, "count": 1, "name": MARKER}))
    refusals.append(await renter("POST", "/v1/groups", json={"job": {**member, "gpu": "none"}, "count": 1}))
    fields = {
        "image": IMAGE, "registry_auth_id": login["id"], "secrets": {"TOKEN": JOB_SECRET}, "name": MARKER,
        "env": {"MARK": MARKER},
    }  # fmt: skip
    submitting = asyncio.create_task(submit(renter, **fields))
    attempt = await node.take()
    _, job, _ = await submitting
    assert attempt.spec.secrets == {"TOKEN": JOB_SECRET}
    assert attempt.spec.registry_login.password == PASSWORD
    await attempt.report("exited", reason=7)
    await until(renter, job["id"], "failed")
    for broken in ({"gpu": "nothing"}, {"secrets": {"1 bad name": JOB_SECRET}}, {"registry_auth_id": JOB_SECRET}):
        refusals.append(await submit(renter, f"broken {broken.keys()}".replace(" ", ""), **{**fields, **broken}))
    seed = bytes(renter.key)
    for text in ways_to_write(seed).values():
        refusals.append(await submit(renter, "keypair", image=f"[{text}]"))
    assert {status for status, _, _ in refusals} <= {401, 403, 404, 409, 422}, [r[:2] for r in refusals]

    planted = {
        "storage secret": STORAGE_SECRET, "group secret": GROUP_SECRET, "job secret": JOB_SECRET,
        "registry password": PASSWORD, "API key": key["key"], "webhook": webhook["secret"],
        "account's webhook secret": default["secret"], "rotated webhook secret": rotated["secret"],
        **{f"token {n}": session["token"] for n, session in enumerate((first, second, third))},
        **{f"refresh token {n}": session["refresh_token"] for n, session in enumerate((first, second, third))},
        **{f"wallet's key, {how}": text for how, text in ways_to_write(seed).items()},
    }  # fmt: skip
    for file in (live_market.settings.market.keys).iterdir():
        for name, text in secrets_of(file).items():
            planted[f"{file.name} {name}"] = text
    assert len(planted) > 20

    lists = {route.path for route in live_market.routes if route.method == "GET" and route.access.accounts and "{" not in route.path}  # fmt: skip
    views = {*lists, f"/v1/jobs/{job['id']}", f"/v1/jobs/{job['id']}/events", f"/v1/webhooks/{webhook['id']}"}
    views |= {f"/v1/webhooks/{webhook['id']}/deliveries", f"/v1/jobs/{job['id']}/logs?follow=0", "/openapi.json"}
    written = {
        "log": log.getvalue(),
        **{f"row of {name}": text for name, text in rows_of(live_market.settings.database).items()},
    }
    for path in sorted(views):
        status, body, _ = await renter("GET", path)
        assert status < 500, (path, body)
        written[path] = json.dumps(body, default=str)
    written |= {f"refusal {n}: {status}": json.dumps(body) for n, (status, body, _) in enumerate(refusals)}

    # the places were really looked through
    marks = [where for where, text in written.items() if MARKER in text]
    assert {"log", "row of idempotency_keys", "row of api_keys", "row of webhooks", "/v1/api-keys", "/v1/webhooks"} <= {
        *marks
    }, marks
    assert {f"/v1/jobs/{job['id']}", "/v1/registry-auth"} <= {*marks}
    assert found_in(written, planted) == []

    # and one line, or one row, would have been enough
    structlog.get_logger("test").info("a line too many", note=f"the job has {JOB_SECRET}")
    assert found_in({"log": log.getvalue()}, planted) == [("log", "job secret")]
    assert found_in({"a": webhook["secret"]}, planted) == [("a", "webhook")]


def secrets_of(file) -> dict[str, str]:
    """What a file of the market's keys holds."""
    content = json.loads(file.read_text())
    return ways_to_write(bytes(content[:32])) if isinstance(content, list) else dict(content["keys"])


def test_a_secret_that_is_logged_under_its_name_or_in_its_form_is_cut_out(log):
    """The second line of defence: what is logged in spite of everything."""
    line = structlog.get_logger("test").warning
    secret = "planted" + "x" * 24
    line("said", password=secret, api_key=secret, env={"A": secret}, webhook_secret=secret)
    line("said", note=f"Bearer {secret}", url=f"https://robot:{secret}@host.test/?token={secret}", key=f"rk_{secret}")
    line("said", note=f"whsec_{secret} rt_{secret}", keypair=list(range(64)), text=str(list(range(64))))
    line("said", marker=MARKER)
    logging.getLogger("foreign").warning("Authorization: Bearer %s", secret)
    text = log.getvalue()
    assert text.count("said") == 4
    assert (MARKER in text, "host.test" in text) == (True, True)
    assert (secret in text, "60, 61, 62, 63" in text) == (False, False)
