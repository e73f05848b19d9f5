"""Admins over HTTP: who is one is for the settings to say, and what one may do is to name models."""

from contextlib import asynccontextmanager

import jwt
import pytest
from aiohttp import ClientSession

from marketplace.app import Market
from marketplace.domain.events import EventType
from marketplace.services.readiness import Lifecycle
from marketplace.settings import MarketSettings
from tests.api.conftest import Caller, Wallet

FILE = '[shipped]\nimage = "registry.test/models/shipped:1"\ndescription = "In the file."\ndefault_gpu = "cpu-small"\n'
ENTRY = {
    "image": "registry.test/models/tiny:1",
    "command": ["runner"],
    "description": "Text goes on.",
    "default_gpu": "cpu",
    "default_timeout_seconds": 120,
    "estimated_time_seconds": 9,
    "formats": ["json", "text"],
    "input_schema": {"type": "string", "maxLength": 5},
}


@pytest.fixture
def admin():
    return Wallet()


@pytest.fixture
def running(settings, clock, tmp_path, admin):
    """A market over the same database each time: `async with running(admins) as call`."""
    file = tmp_path / "models.toml"

    @asynccontextmanager
    async def run(*admins, text=FILE):
        file.write_text(text)
        changes = {
            "market": settings.market.model_copy(update={"admins": tuple(wallet.address for wallet in admins)}),
            "models": settings.models.model_copy(update={"file": file}),
        }
        market = Market.build(settings.model_copy(update=changes), clock=clock)
        await market.start()
        market.readiness.lifecycle = Lifecycle.RUNNING  # keys are made without a chain too
        try:
            async with ClientSession() as session:
                yield Caller(session, f"http://127.0.0.1:{market.port}")
        finally:
            await market.stop()

    return run


async def put(call, token, name="tiny", **changes):
    return await call("PUT", f"/v1/models/{name}", token=token, json=ENTRY | changes)


def scopes_of(token):
    return jwt.decode(token, options={"verify_signature": False})["scope"].split()


@pytest.mark.parametrize("name", ["", "11111", "O" * 44])
def test_what_is_no_wallet_stops_the_start(name):
    with pytest.raises(ValueError, match="admins"):
        MarketSettings(admins=(name,))


async def test_a_wallet_is_an_admin_while_the_settings_name_it(running, admin):
    async with running() as call:
        before = await call.login(admin)
        assert "admin" not in scopes_of(before["token"])
    async with running(admin) as call:
        # named: a token of before has not got it, the next one has, and so has a login
        status, answer, _ = await put(call, before["token"])
        assert (status, answer["error"], answer["required_scope"]) == (403, "forbidden", "admin")
        _, refreshed, _ = await call("POST", "/v1/auth/refresh", json={"refresh_token": before["refresh_token"]})
        session = await call.login(admin)
        for token in (refreshed["token"], session["token"]):
            assert "admin" in scopes_of(token)
            assert "admin" in (await call("GET", "/v1/me", token=token))[1]["scopes"]
        assert (await put(call, refreshed["token"]))[0] == 201
        _, key, _ = await call("POST", "/v1/api-keys", token=session["token"], json={"name": "k", "scopes": ["admin"]})
        assert (await put(call, key["key"]))[0] == 200
        # nobody else is, nor does a key of his carry it
        other = (await call.login(Wallet()))["token"]
        assert (await put(call, other))[0] == 403
        assert (await call("DELETE", "/v1/models/tiny", token=other))[0] == 403
        status, answer, _ = await call("POST", "/v1/api-keys", token=other, json={"name": "k", "scopes": ["admin"]})
        assert (status, answer["required_scope"]) == (403, "admin")
    async with running(Wallet()) as call:
        # named no more: what was given out is worth nothing at once, the rest of it goes on
        for token in (session["token"], key["key"]):
            status, answer, _ = await put(call, token)
            assert (status, answer["required_scope"]) == (403, "admin")
        assert "admin" not in (await call("GET", "/v1/me", token=session["token"]))[1]["scopes"]
        _, refreshed, _ = await call("POST", "/v1/auth/refresh", json={"refresh_token": session["refresh_token"]})
        assert "admin" not in scopes_of(refreshed["token"])
        assert (await call("GET", "/v1/models/tiny", token=refreshed["token"]))[0] == 200


async def test_a_model_is_put_replaced_kept_and_deleted(running, admin):
    async with running(admin) as call:
        token = (await call.login(admin))["token"]
        status, made, headers = await put(call, token)
        assert (status, headers["Location"]) == (201, "/v1/models/tiny")
        assert made == ENTRY | {"name": "tiny", "default_gpu": "cpu-small", "min_vram_gb": 0}
        status, made, _ = await put(call, token, "Tiny", image="registry.test/models/tiny:2")
        assert (status, made["name"], made["image"]) == (200, "Tiny", "registry.test/models/tiny:2")
        reader = (await call.login(Wallet()))["token"]
        _, listed, _ = await call("GET", "/v1/models", token=reader)
        assert [model["name"] for model in listed["models"]] == ["Tiny", "shipped"]
    async with running(admin) as call:
        assert (await call("GET", "/v1/models/tiny", token=reader))[1] == made
        assert (await call("DELETE", "/v1/models/TINY", token=token))[0] == 204
        for method in ("GET", "DELETE"):
            status, answer, _ = await call(method, "/v1/models/tiny", token=token)
            assert (status, answer["error"]) == (404, "not_found")
            assert "GET /v1/models lists" in answer["message"]
        # both acts stand in the feed of who did them
        _, page, _ = await call("GET", "/v1/events?types=model.*", token=token)
        told = [(event["type"], event["resource"], event["data"]["wallet"]) for event in page["events"]]
        puts = [EventType.MODEL_PUT] * 2
        assert told == [
            (kind, name, admin.address)
            for kind, name in zip([*puts, EventType.MODEL_DELETED], ["tiny", "Tiny", "TINY"], strict=True)
        ]
        assert (await call("GET", "/v1/events?types=model.*", token=reader))[1]["events"] == []
    async with running(admin) as call:
        assert (await call("GET", "/v1/models/tiny", token=token))[0] == 404


async def test_the_file_wins(running, admin):
    async with running(admin) as call:
        token = (await call.login(admin))["token"]
        for name in ("shipped", "SHIPPED"):
            status, answer, _ = await put(call, token, name)
            assert (status, answer["error"]) == (403, "read_only")
            assert (await call("DELETE", f"/v1/models/{name}", token=token))[1]["error"] == "read_only"
        assert (await put(call, token))[0] == 201
    later = FILE.replace("[shipped]", "[TINY]").replace("In the file.", "The file's now.")
    async with running(admin, text=later) as call:
        _, shown, _ = await call("GET", "/v1/models/tiny", token=token)
        assert (shown["name"], shown["description"]) == ("TINY", "The file's now.")
        assert (await call("GET", "/v1/models", token=token))[1]["total"] == 1
        assert (await put(call, token))[1]["error"] == "read_only"
    async with running(admin) as call:
        assert (await call("GET", "/v1/models/tiny", token=token))[1]["image"] == ENTRY["image"], "it was only hidden"


WRONG = [
    ({"image": "no such image"}, "image", "not_allowed"),
    ({"default_gpu": "cpu-smal"}, "default_gpu", "unknown_gpu"),
    ({"formats": ["xml"]}, "formats.0", "not_allowed"),
    ({"formats": []}, "formats", "out_of_range"),
    ({"default_timeout_seconds": 86_401}, "default_timeout_seconds", "out_of_range"),
    ({"min_vram_gb": "8"}, "min_vram_gb", "not_allowed"),
    ({"description": ""}, "description", "out_of_range"),
    ({"input_schema": {"type": "string", "pattern": "a"}}, "input_schema", "not_allowed"),
    ({"size": 1}, "size", "unknown_field"),
]


async def test_what_is_no_model_is_refused_field_by_field(running, admin):
    async with running(admin) as call:
        token = (await call.login(admin))["token"]
        for changes, field, code in WRONG:
            status, answer, _ = await put(call, token, **changes)
            assert (status, answer["error"]) == (422, "validation_error"), answer
            assert (field, code) in [(detail["field"], detail["code"]) for detail in answer["details"]], answer
        status, answer, _ = await put(call, token, image="no such image", default_gpu="cpu-smal")
        assert {detail["field"] for detail in answer["details"]} == {"image", "default_gpu"}
        assert (await put(call, token, "a b"))[0] == 422
        long = {"type": "string", "description": "x" * 70_000}
        assert (await put(call, token, input_schema=long))[1]["error"] == "payload_too_large"
        assert (await call("GET", "/v1/models", token=token))[1]["total"] == 1
