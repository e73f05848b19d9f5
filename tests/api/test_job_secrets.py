"""Secrets of jobs and registry logins: they reach the node that claims, sealed, and nobody else."""

import asyncio
import io
import json
import logging
import sqlite3

import pytest
import structlog

from marketplace.logs import configure_logs
from marketplace.services.job_secrets import RETENTION_MS
from marketplace.services.stored_secrets import Unreadable
from tests.api.conftest import Renter, Wallet
from tests.api.scripted_node import ScriptedNode
from tests.api.test_jobs import ALLOWANCE, submit, until

SECRET, PASSWORD = "planted-secret-value", "planted-registry-password"
LOGIN = {"name": "ours", "username": "robot", "password": PASSWORD, "registry": "registry.example:5000"}
IMAGE = "registry.example:5000/team/private:1"


@pytest.fixture
def log_lines():
    stream = io.StringIO()
    handlers, level = logging.getLogger().handlers, logging.getLogger().level
    configure_logs("json", "debug", stream)
    yield stream.getvalue
    structlog.reset_defaults()
    logging.getLogger().handlers = handlers
    logging.getLogger().setLevel(level)


@pytest.fixture
async def node(chain, live_market, live_call):
    scripted = ScriptedNode(await Renter.funded(Wallet(), chain, live_market, live_call))
    await scripted.register()
    await scripted.connect(live_call)
    yield scripted
    await scripted.close()


@pytest.fixture
async def allowed(renter):
    await renter.deposit("20")
    _, prepared, _ = await renter("POST", "/v1/allowance", json=ALLOWANCE)
    await renter.send(prepared)
    return renter


def everything_stored(path):
    """Every value of every row, as text."""
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {table: str(connection.execute(f"SELECT * FROM {table}").fetchall()) for table in tables}


async def test_what_is_secret_reaches_the_node_and_nothing_else(log_lines, allowed, node, live_market):
    status, login, _ = await allowed("POST", "/v1/registry-auth", json=LOGIN)
    assert (status, list(login)) == (201, ["id", "name", "username", "registry", "created_at"])
    fields = {"secrets": {"TOKEN": SECRET}, "env": {"A": "b"}, "image": IMAGE, "registry_auth_id": login["id"]}
    submitting = asyncio.create_task(submit(allowed, **fields))
    attempt = await node.take()
    _, answer, _ = await submitting
    spec = attempt.spec
    assert (spec.env, spec.secrets, spec.secret_names) == ({"A": "b"}, {"TOKEN": SECRET}, ("TOKEN",))
    assert spec.registry_login.model_dump() == {
        "username": "robot", "password": PASSWORD, "registry": "registry.example:5000",
    }  # fmt: skip
    job = await until(allowed, answer["id"], "assigned")
    assert (job["env"], job["secret_names"], job["registry_auth_id"]) == ({"A": "b"}, ["TOKEN"], login["id"])
    status, refused, _ = await allowed("DELETE", f"/v1/registry-auth/{login['id']}")
    assert (status, refused["error"], refused["used_by"]) == (409, "in_use", [answer["id"]])
    await attempt.report("exited", reason=7)
    job = await until(allowed, answer["id"], "failed")
    _, events, _ = await allowed("GET", "/v1/events")
    written = everything_stored(live_market.settings.database)
    assert "job_secrets" in written
    shown = {"log": log_lines(), "job": json.dumps(job), "events": json.dumps(events), **written}
    assert [(where, s) for where, text in shown.items() for s in (SECRET, PASSWORD) if s in text] == []
    assert (await allowed("DELETE", f"/v1/registry-auth/{login['id']}"))[0] == 204
    assert (await allowed("GET", "/v1/registry-auth"))[1]["total"] == 0


async def test_secrets_are_forgotten_a_week_after_the_end(allowed, live_market):
    status, answer, _ = await submit(allowed, secrets={"TOKEN": SECRET}, max_price_per_hour="0.1")
    assert status == 201, answer
    secrets, allocation_id = live_market.jobs.secrets, answer["id"].replace("job_", "alloc_")
    secrets._clock = Later(secrets._clock)
    await secrets.forget_old()
    assert await secrets.get(allocation_id) == {"TOKEN": SECRET}
    await allowed("POST", f"/v1/jobs/{answer['id']}/cancel")
    await until(allowed, answer["id"], "cancelled")
    await secrets.forget_old()
    with pytest.raises(Unreadable):
        await secrets.get(allocation_id)


class Later:
    """A clock that is a week and a second ahead."""

    def __init__(self, clock):
        self.clock = clock

    def now(self):
        return self.clock.now() + RETENTION_MS + 1000


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"registry_auth_id": "reg_1111111111111111111111"}, "registry_auth_id"),
        ({"secrets": {"REAVER_X": "1"}}, "secrets"),
    ],
)
async def test_what_is_not_the_callers_is_refused(live_call, fields, field):
    token = (await live_call.login(Wallet()))["token"]
    body = {"image": IMAGE, "gpu": "cpu-small", "max_price_per_hour": "1", **fields}
    status, answer, _ = await live_call("POST", "/v1/jobs", token=token, json=body)
    assert (status, answer["details"][0]["field"]) == (422, field)


async def test_a_login_is_for_its_registry(live_call):
    token = (await live_call.login(Wallet()))["token"]
    _, login, _ = await live_call("POST", "/v1/registry-auth", token=token, json=LOGIN)
    body = {
        "image": "docker.io/team/x", "gpu": "cpu-small", "max_price_per_hour": "1", "registry_auth_id": login["id"],
    }  # fmt: skip
    status, answer, _ = await live_call("POST", "/v1/jobs", token=token, json=body)
    assert (status, answer["details"][0]["code"]) == (422, "conflict")


async def test_seed_001_has_logins_in_its_own_shapes(live_call):
    token = (await live_call.login(Wallet()))["token"]
    status, made, _ = await live_call("POST", "/registry-auth", token=token, json=LOGIN)
    assert (status, list(made)) == (201, ["id", "name"])
    status, listed, headers = await live_call("GET", "/registry-auth", token=token)
    assert (status, headers["X-Total-Count"]) == (200, "1")
    assert [list(auth) for auth in listed] == [["id", "name", "username", "createdAt"]]
    assert (await live_call("GET", "/v1/registry-auth", token=token))[1]["registry_auths"][0]["id"] == made["id"]
    status, answer, _ = await live_call("POST", "/registry-auth", token=token, json=LOGIN)
    assert status == 409
    assert list(answer["error"])[:3] == ["code", "type", "message"]
    assert (answer["error"]["code"], answer["error"]["type"], answer["error"]["reason"]) == (
        409, "conflict", "already_exists",
    )  # fmt: skip
    status, answer, _ = await live_call("POST", "/registry-auth", token=token, json={**LOGIN, "name": ""})
    assert (status, answer["error"]["type"], answer["error"]["reason"]) == (400, "bad_request", "validation_error")
    assert (await live_call("DELETE", f"/registry-auth/{made['id']}", token=token))[0] == 204
    assert (await live_call("DELETE", f"/registry-auth/{made['id']}", token=token))[0] == 404
    assert (await live_call("GET", "/registry-auth"))[1]["error"]["type"] == "unauthorized"
