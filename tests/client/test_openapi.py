"""Every call of the client is one that the market declares: path, query, body, and what is read of the answer."""

import inspect
import json
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest

from marketplace.client import models
from marketplace.client.account_models import Upload
from marketplace.client.client import JobFilter, ReaverClient
from marketplace.client.model_entries import ModelEntry
from marketplace.client.models import Answer
from marketplace.client.requests import JobRequest
from marketplace.client.terms import AllowanceTerms
from tests.client.test_requests import JOBS

DOCUMENT = json.loads((Path(__file__).parents[2] / "docs" / "openapi.json").read_text())
WHOLE = JobFilter(("queued",), "cpu", "a:b", "c", "gpt2")
TERMS = AllowanceTerms(1, 1, 1, 1, SimpleNamespace(astimezone=lambda _: SimpleNamespace(strftime=lambda _: "t")))  # type: ignore[arg-type]

Called = tuple[str, str, set[str], object, type[Answer] | None]


class Done(Exception):
    """The call was recorded."""


class Reply:
    def __init__(self, record: "Record") -> None:
        self.record = record

    def read(self, model: type[Answer]) -> None:
        self.record.called[-1] = (*self.record.called[-1][:4], model)
        raise Done

    @property
    def body(self) -> None:
        raise Done


class Record:
    """Stands where requests go out, and keeps what would be sent."""

    def __init__(self) -> None:
        self.called: list[Called] = []
        self.transport = SimpleNamespace(text=self._text)

    async def get(self, path: str, params: dict[str, str] | None = None) -> Reply:
        return self._note("GET", path, params, None)

    async def send(self, method: str, path: str, body: object, *, key: str | None = None) -> Reply:
        return self._note(method, path, None, body)

    async def send_bytes(
        self, method: str, path: str, content: bytes, *, params: dict[str, str] | None = None
    ) -> Reply:
        return self._note(method, path, params, None)

    async def _text(self, path: str, *, token: str, params: dict[str, str], accept: str) -> bytes:
        self._note("GET", path, params, None)
        return b""

    async def token(self) -> str:
        return "token"

    async def market(self) -> SimpleNamespace:
        return SimpleNamespace(decimals=6)

    async def pay(
        self, path: str, body: object, check: object, *, method: str = "POST", consent: object = None
    ) -> None:
        self._note(method, path, None, body)
        self.called[-1] = (*self.called[-1][:4], models.PreparedTransaction)

    @contextmanager
    def open_intent(self, route: str, body: object) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(key="key", answered=lambda: None, resumed=False)

    async def transaction(self, signature: str) -> Reply:
        return self._note("GET", f"/v1/transactions/{signature}", None, None).read(models.TransactionState)

    def _note(self, method: str, path: str, params: dict[str, str] | None, body: object) -> Reply:
        self.called.append((method, path, set(params or ()), body, None))
        return Reply(self)


CALLS: dict[str, Callable[[ReaverClient], Awaitable[object]]] = {
    "me": lambda c: c.me(),
    "quote": lambda c: c.quote(JobRequest(image="a", gpu="cpu", secrets={"A": "b"})),
    "get_quote": lambda c: c.get_quote("quote_1"),
    "list_jobs": lambda c: c.list_jobs(WHOLE, limit=1, offset=1),
    "job_history": lambda c: c.job_history("2026-01-01", "2026-01-02", WHOLE, limit=1, offset=1),
    "job_history_csv": lambda c: c.job_history_csv("2026-01-01", "2026-01-02", WHOLE),
    "get_job": lambda c: c.get_job("job_1"),
    "cancel_job": lambda c: c.cancel_job("job_1"),
    "job_log": lambda c: c.job_log("job_1", tail=1, attempt=1),
    "job_metrics": lambda c: c.job_metrics("job_1", since=datetime.now(UTC)),
    "job_events": lambda c: c.job_events("job_1", after="1", limit=1),
    "events": lambda c: c.events(after="1", types=("job.*",), resource="job_1", limit=1),
    "retry_job": lambda c: c.retry_job("job_1", priority="low", timeout_seconds=1, max_price_per_hour="1"),
    "extend_job": lambda c: c.extend_job("job_1", 60),
    "receipt": lambda c: c.receipt("job_1"),
    "list_nodes": lambda c: c.list_nodes(gpu="cpu", region="eu", status="active", sort="price", limit=1, offset=1),
    "list_models": lambda c: c.list_models(limit=1, offset=1),
    "get_model": lambda c: c.get_model("gpt2"),
    "put_model": lambda c: c.put_model("gpt2", ModelEntry(*["a"] * 3, ("a",), 1, 1, 1, ("json",), {})),
    "delete_model": lambda c: c.delete_model("gpt2"),
    "get_node": lambda c: c.get_node("node_1"),
    "usage": lambda c: c.usage("day", "2026-01-01", "2026-01-02", limit=1, offset=1),
    "vault": lambda c: c.vault(),
    "deposit": lambda c: c.deposit(1),
    "withdraw": lambda c: c.withdraw(None),
    "claim_compensation": lambda c: c.claim_compensation(),
    "allowances": lambda c: c.allowances(),
    "grant_allowance": lambda c: c.grant_allowance(TERMS),
    "revoke_allowance": lambda c: c.revoke_allowance(),
    "transaction": lambda c: c.transaction("1"),
    "files.upload": lambda c: c.files.upload(Path(__file__)),
    "files.ensure": lambda c: c.files.ensure(Path(__file__)),
    "files.list_files": lambda c: c.files.list_files(limit=1, offset=1),
    "files.get": lambda c: c.files.get("file_1"),
    "files.uploaded": lambda c: c.files.uploaded("upl_1"),
    "files.abandon": lambda c: c.files.abandon("upl_1"),
    "registries.create": lambda c: c.registries.create("n", username="u", password="p", registry="h"),
    "registries.list_auths": lambda c: c.registries.list_auths(limit=1, offset=1),
    "registries.delete": lambda c: c.registries.delete("reg_1"),
    "escrows.list_escrows": lambda c: c.escrows.list_escrows(state="open", limit=1, offset=1),
    "escrows.get": lambda c: c.escrows.get("1"),
    "figures.gpu_types": lambda c: c.figures.gpu_types(),
    "figures.prices": lambda c: c.figures.prices(gpu="cpu", region="eu", days=1, limit=1, offset=1),
    "figures.placement": lambda c: c.figures.placement("job_1"),
    "figures.earnings": lambda c: c.figures.earnings("node_1", "a", "b", bucket="day", limit=1, offset=1),
    "figures.pool": lambda c: c.figures.pool("node_1"),
    "figures.reputation": lambda c: c.figures.reputation("node_1", limit=1, offset=1),
    "figures.epochs": lambda c: c.figures.epochs(limit=1, offset=1),
    "figures.epoch": lambda c: c.figures.epoch(1),
    "webhooks.default_secret": lambda c: c.webhooks.default_secret(),
    "files.delete": lambda c: c.files.delete("file_1"),
    "outputs.list_outputs": lambda c: c.outputs.list_outputs("job_1", limit=1, offset=1),
    "outputs.fetch": lambda c: c.outputs.fetch("job_1", Path()),
    "webhooks.create": lambda c: c.webhooks.create("https://example.org", events=("*",), description="d"),
    "webhooks.list_webhooks": lambda c: c.webhooks.list_webhooks(limit=1, offset=1),
    "webhooks.get": lambda c: c.webhooks.get("wh_1"),
    "webhooks.update": lambda c: c.webhooks.update("wh_1", url="u", events=("*",), description="d", active=True),
    "webhooks.delete": lambda c: c.webhooks.delete("wh_1"),
    "webhooks.rotate": lambda c: c.webhooks.rotate("wh_1"),
    "webhooks.test": lambda c: c.webhooks.test("wh_1"),
    "webhooks.deliveries": lambda c: c.webhooks.deliveries("wh_1", limit=1, offset=1),
    "webhooks.replay": lambda c: c.webhooks.replay("wh_1", after="1", since="t"),
    "groups.submit": lambda c: c.groups.submit(JobRequest(image="a", gpu="cpu"), count=2, name="n", after=("job_1",)),
    "groups.list_groups": lambda c: c.groups.list_groups(limit=1, offset=1),
    "groups.get": lambda c: c.groups.get("grp_1", limit=1, offset=1),
    "groups.cancel": lambda c: c.groups.cancel("grp_1"),
    "credentials.create": lambda c: c.credentials.create(
        "n", endpoint="https://s3.test", region="r", access_key="a", secret_key="s", default=True
    ),
    "credentials.list_credentials": lambda c: c.credentials.list_credentials(limit=1, offset=1),
    "credentials.get": lambda c: c.credentials.get("cred_1"),
    "credentials.delete": lambda c: c.credentials.delete("cred_1"),
    "keys.create": lambda c: c.keys.create("n", ("jobs",), expires_at="t", per_day="1", total="1"),
    "keys.list_keys": lambda c: c.keys.list_keys(limit=1, offset=1),
    "keys.delete": lambda c: c.keys.delete("key_1"),
    "stake.positions": lambda c: c.stake.positions(),
    "stake.pools": lambda c: c.stake.pools(limit=1, offset=1),
    "stake.history": lambda c: c.stake.history(limit=1, offset=1),
}
ELSEWHERE = {
    # login and identity: tests/client/test_login.py, test_calls.py; streams, loops and payments around what is above
    "login", "logout", "constants", "visit", "units", "submit_job", "wait_for_job", "files.download", "stake.units",
    "escrows.cancel", "stake.distribute", "stake.simulate", "stake.delegate", "stake.claim", "stake.unbond", "stake.withdraw",
}  # fmt: skip
CALLED_ELSEWHERE = {
    ("GET", "/v1/auth/challenge"), ("POST", "/v1/auth/verify"), ("POST", "/v1/auth/refresh"),
    ("POST", "/v1/auth/logout"), ("POST", "/v1/escrows/{address}/cancel"), ("POST", "/v1/stake/delegate"),
    ("POST", "/v1/stake/claim"), ("POST", "/v1/stake/unbond"), ("POST", "/v1/stake/withdraw"),
    ("POST", "/v1/stake/distribute"), ("POST", "/v1/stake/simulate"), ("POST", "/v1/jobs/{job_id}/extend"),
}  # fmt: skip
"""What the calls in ELSEWHERE reach."""
NODES = {
    ("GET", "/v1/nodes/{node_id}/control"), ("POST", "/v1/nodes/{node_id}/heartbeat"),
    ("POST", "/v1/nodes/{node_id}/claim"),
}  # fmt: skip
"""Of a node's own login, as are those below `/allocations/`."""
OPERATORS = {
    ("POST", "/v1/nodes/register"), ("PATCH", "/v1/nodes/{node_id}"), ("POST", "/v1/nodes/{node_id}/drain"),
}  # fmt: skip
"""Of `reaver-node`."""
OTHER_WORDS = {("DELETE", "/v1/jobs/{job_id}")}
"""What a job's cancel does too, for clients of seed 002."""
UNDESCRIBED = {"/v1/quotes/quote_1"}
"""Answers that the document names no form for: the quote as it was given, byte for byte."""
DIRECT: list[Called] = [
    ("POST", "/v1/jobs", set(), job.body() | {"quote_id": "q"}, models.SubmittedJob) for job in JOBS.values()
] + [
    ("GET", "/v1/constants", set(), None, models.Constants),
    ("POST", "/v1/transactions", set(), {"transaction": "t"}, models.SentTransaction),
    ("POST", "/v1/files/uploads", set(), {"name": "n", "size": 1, "sha256": "s"}, Upload),
    ("PUT", "/v1/files/uploads/up_1/parts/1", set(), None, None),
    ("POST", "/v1/files/uploads/up_1/complete", set(), None, None),
    ("GET", "/v1/files/file_1/content", set(), None, None),
    ("GET", "/v1/jobs/job_1/download", {"path"}, None, None),
    ("GET", "/v1/jobs/job_1/logs", {"follow"}, None, None),
    ("GET", "/v1/jobs/job_1/exec", set(), None, None),
    ("GET", "/v1/events", {"after", "types", "resource"}, None, None),
    ("GET", "/v1/jobs/job_1/events", {"after"}, None, None),
]  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
async def test_a_call_is_declared(name: str) -> None:
    called = await recorded(name)
    assert called
    for each in called:
        check(each)


async def recorded(name: str) -> list[Called]:
    record = Record()
    client = ReaverClient("http://127.0.0.1:9")
    for part in parts_of(client).values():
        part._calls = record
        if hasattr(part, "_payments"):
            part._payments = record
    with suppress(Done):
        await CALLS[name](client)
    return record.called


def parts_of(client: ReaverClient) -> dict[str, Any]:
    """What has calls, by how a caller begins."""
    return {"": client} | {f"{n}.": part for n, part in vars(client).items() if not n.startswith("_")}


async def test_every_route_of_a_wallets_has_a_call() -> None:
    called = [each for name in CALLS for each in await recorded(name)] + DIRECT
    reached = {(method, template_of(method, path)) for method, path, *_ in called}
    routes = {
        (method.upper(), path)
        for path, operations in DOCUMENT["paths"].items()
        for method in operations
        if path.startswith("/v1/") and "{node_id}/allocations/" not in path
    }
    assert routes - reached == CALLED_ELSEWHERE | NODES | OPERATORS | OTHER_WORDS


@pytest.mark.parametrize("called", DIRECT, ids=lambda c: f"{c[0]} {c[1]}")
def test_what_is_sent_inside_a_loop_is_declared(called: Called) -> None:
    check(called)


def test_no_call_is_left_out() -> None:
    client = ReaverClient("http://127.0.0.1:9")
    parts = parts_of(client)
    named = {
        prefix + name
        for prefix, part in parts.items()
        for name, member in inspect.getmembers(type(part), inspect.iscoroutinefunction)
        if not name.startswith("_")
    }
    assert named == set(CALLS) | ELSEWHERE


def check(called: Called) -> None:
    method, path, params, body, model = called
    operation = operation_of(method, path)
    declared = {entry["name"] for entry in operation.get("parameters", ()) if entry["in"] == "query"}
    assert params <= declared, f"{path}: {params - declared}"
    if isinstance(body, dict):
        matches(body, operation["requestBody"]["content"]["application/json"]["schema"], path)
    if model is not None:
        good = next(answer for status, answer in operation["responses"].items() if status.startswith("2"))
        schema = good["content"]["application/json"].get("schema")
        assert schema or path in UNDESCRIBED, f"{path} doesn't say what it answers"
        if schema:
            reads(model, schema, path)


def operation_of(method: str, path: str) -> dict[str, Any]:
    return dict(DOCUMENT["paths"][template_of(method, path)][method.lower()])


def template_of(method: str, path: str) -> str:
    for template, operations in sorted(DOCUMENT["paths"].items(), key=lambda entry: entry[0].count("{")):
        if re.fullmatch(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(template)), path) and method.lower() in operations:
            return str(template)
    raise AssertionError(f"{method} {path} is not declared")


def resolved(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """The alternatives of a schema, without references."""
    if "$ref" in schema:
        return resolved(DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    if "anyOf" in schema or "oneOf" in schema:
        return [each for part in schema.get("anyOf", schema.get("oneOf")) for each in resolved(part)]
    return [schema]


def matches(value: object, schema: dict[str, Any], where: str) -> None:
    """Every name in a body is declared, however deep."""
    alternatives = [each for each in resolved(schema) if "properties" in each]
    if not isinstance(value, dict) or not alternatives:
        return
    properties = alternatives[0]["properties"]
    assert value.keys() <= properties.keys(), f"{where}: {value.keys() - properties.keys()}"
    for name, inner in value.items():
        matches(inner, properties[name], f"{where}.{name}")


def reads(model: type[Answer], schema: dict[str, Any], where: str) -> None:
    """Every field that the client reads is declared, and always there where the client can't do without."""
    alternatives = [each for each in resolved(schema) if "properties" in each]
    assert alternatives, f"{where} is no object"
    found = alternatives[0]
    for name, field in model.model_fields.items():
        shown = field.alias or name
        if shown not in found["properties"]:
            assert not field.is_required(), f"{where}: {model.__name__}.{shown} is not declared"
            assert (model.__name__, shown) in SOME_ROUTES, f"{where}: nobody sends {model.__name__}.{shown}"
            continue
        if field.is_required():
            always = shown in found.get("required", ()) or "default" in found["properties"][shown]
            assert always, f"{where}: {model.__name__}.{shown} may be missing"
        for inner in answers_in(field.annotation):
            parts = resolved(found["properties"][shown])
            items = [part.get("items", part) for part in parts if part.get("type") in {"array", "object"}]
            reads(inner, items[0], f"{where}.{shown}")


SOME_ROUTES = {
    ("Webhook", "secret"),
    ("Webhook", "last_delivered_at"),
    ("Webhook", "disabled_reason"),
    ("ApiKey", "key"),
    ("ApiKey", "last_used_at"),
}
"""Fields that only some routes answer: secrets when they are made, times of use when they are read."""


def answers_in(annotation: object) -> list[type[Answer]]:
    if isinstance(annotation, type):
        return [annotation] if issubclass(annotation, Answer) else []
    return [each for part in get_args(annotation) for each in answers_in(part)]
