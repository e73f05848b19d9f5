"""The frame every route goes through: errors, limits, keys, bodies, streams. Routes of the test's own, real server."""

import asyncio
import contextlib
import io
import json
import re
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientError, ClientSession, web

from marketplace.api.fields import AmountText, ExactNumber, JsonNumber, QueryModel, RequestModel, ResponseModel
from marketplace.api.problems import render
from marketplace.api.routes import NODE, OPEN, Access, Call, Family, RateClass, Reply, Route, RouteError, scope
from marketplace.api.streams import ServerEvent
from marketplace.app import Market
from marketplace.chain.errors import RpcError, RpcUnavailable
from marketplace.errors import Code, InsufficientFunds, InternalError, NoCapacity, NotFound
from marketplace.services.principals import Scope
from marketplace.services.readiness import Lifecycle
from tests.api.conftest import Caller, Wallet


class MakeRequest(RequestModel):
    count: int
    amount: AmountText | None = None


class MadeResponse(ResponseModel):
    number: int
    price: ExactNumber
    secret: str | None = None


class FailQuery(QueryModel):
    code: str


class Probe:
    """Handlers that note what they are called with."""

    def __init__(self) -> None:
        self.made = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.entered = asyncio.Event()
        self.fail_next = False
        self.events: asyncio.Queue[ServerEvent | None] = asyncio.Queue()

    async def make(self, call: Call, body: MakeRequest) -> Reply[MadeResponse]:
        self.entered.set()
        await self.gate.wait()
        if self.fail_next:
            self.fail_next = False
            raise NoCapacity
        self.made += body.count
        answer = MadeResponse(number=self.made, price=JsonNumber(50_000, 6), secret="s3cret")
        return Reply(answer, status=201, headers={"Location": f"/v1/made/{self.made}"})

    async def fail(self, call: Call, query: FailQuery) -> MadeResponse:
        if query.code == "fault":
            raise RuntimeError("password=hunter2 in a driver's message")
        if query.code == "rpc":
            raise RpcUnavailable("getSlot: no usable answer from the chain (our-node.internal:8899: refused)")
        if query.code == "rpc_error":
            raise RpcError("getSlot", -32005, "our-node.internal is behind")
        for kind in (InsufficientFunds, NoCapacity, NotFound, InternalError):
            if kind.code.public == query.code:
                raise kind
        raise web.HTTPException

    async def empty(self, call: Call) -> None:
        return None

    async def node_only(self, call: Call, node_id: str) -> None:
        return None

    async def follow(self, call: Call) -> web.StreamResponse:
        return await self.market.streams.serve(call, self._events())

    async def _events(self) -> AsyncIterator[ServerEvent]:
        while (event := await self.events.get()) is not None:
            yield event

    def routes(self) -> list[Route]:
        return [
            Route(
                "POST",
                "/v1/make",
                self.make,
                "make",
                scope(Scope.JOBS),
                status=201,
                idempotent=True,
                secrets=("secret",),
            ),
            Route("GET", "/v1/fail", self.fail, "fail", OPEN),
            Route("POST", "/v1/empty", self.empty, "empty", OPEN),
            Route("POST", "/v1/nodes/{node_id}/only", self.node_only, "node", NODE),
            Route("GET", "/v1/admin", self.empty, "admin", scope(Scope.ADMIN)),
            Route("GET", "/v1/follow", self.follow, "follow", scope(Scope.READ), produces=("text/event-stream",)),
        ]


@pytest.fixture
async def probe(settings, clock):
    probe = Probe()
    market = Market.build(settings, clock=clock)
    market.streams._keep_alive_s = 0.05
    probe.market = market
    market.routes += probe.routes()
    await market.start()
    market.readiness.lifecycle = Lifecycle.RUNNING
    yield probe
    await market.stop()


@pytest.fixture
async def call(probe):
    async with ClientSession() as session:
        yield Caller(session, f"http://127.0.0.1:{probe.market.port}")


@pytest.fixture
async def token(call, wallet):
    return (await call.login(wallet))["token"]


async def post(call, token, body=None, **more):
    data = io.BytesIO(body) if isinstance(body, bytes) else body
    return await call("POST", "/v1/make", token=token, data=data, **more)


JSON = {"Content-Type": "application/json"}


async def test_seed_000s_error_shape(call):
    status, body, headers = await call("GET", "/v1/fail?code=insufficient_escrow")
    assert status == 402
    assert list(body.items())[:3] == [
        ("error", "insufficient_escrow"),
        ("message", "wallet balance below rate × maxMinutes"),  # noqa: RUF001 - seed 000
        ("status", 402),
    ]
    assert body["request_id"] == headers["X-Request-ID"]
    assert body["retryable"] is True


async def test_the_code_table_has_one_status_for_each_code():
    assert len({code.public for code in Code}) == len(Code)
    assert {code.status for code in Code} <= {
        400,
        401,
        402,
        403,
        404,
        405,
        409,
        410,
        412,
        413,
        415,
        416,
        422,
        429,
        500,
        503,
    }


async def test_a_503_says_when_to_come_back(call):
    status, body, headers = await call("GET", "/v1/fail?code=no_capacity")
    assert (status, body["error"]) == (503, "no_capacity")
    assert int(headers["Retry-After"]) >= 1


def test_no_capacity_is_a_conflict_in_the_family_of_seed_001_and_there_alone():
    answers = {family: render(NoCapacity().problem(), family, "r") for family in Family}
    assert {family: answer.status for family, answer in answers.items()} == {
        Family.NATIVE: 503, Family.INSTANCES: 409, Family.OPERATIONS: 503,
    }  # fmt: skip
    told = json.loads(answers[Family.INSTANCES].body)["error"]
    assert (told["code"], told["type"], told["reason"]) == (409, "conflict", "no_capacity")


@pytest.mark.parametrize("code", ["rpc", "rpc_error"])
async def test_a_silent_chain_is_told_without_its_endpoints(call, capsys, code):
    status, body, headers = await call("GET", f"/v1/fail?code={code}")
    assert (status, body["error"], headers["Retry-After"]) == (503, "chain_unavailable", "2")
    assert "our-node" not in str(body)
    assert "The chain does not answer" in body["message"]
    logged = next(line for line in capsys.readouterr().out.splitlines() if "our-node.internal" in line)
    assert body["request_id"] in logged


async def test_a_fault_says_nothing_of_its_cause(call):
    status, body, _ = await call("GET", "/v1/fail?code=fault")
    assert (status, body["error"], body["message"]) == (500, "internal_error", "internal error")
    assert "hunter2" not in json.dumps(body)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "not_found"),
        ("GET", "/v1/nowhere", 404, "not_found"),
        ("GET", "/v1/make/", 404, "not_found"),
        ("GET", "/blog/post", 404, "not_found"),
        ("PATCH", "/v1/fail", 405, "method_not_allowed"),
        ("POST", "/v1/fail", 405, "method_not_allowed"),
    ],
)
async def test_the_frameworks_own_refusals_have_our_shape(call, method, path, status, code):
    got, body, headers = await call(method, path)
    assert (got, body["error"], body["status"]) == (status, code, status)
    assert headers["X-RateLimit-Limit"] == "60"
    if status == 405:
        assert headers["Allow"] == "GET, HEAD"


async def test_operations_routes_have_seed_003s_shape_and_no_limits(call):
    status, body, headers = await call("POST", "/health")
    assert (status, list(body)[:2], body["error_type"]) == (405, ["error", "request_id"], "method_not_allowed")
    assert not [name for name in headers if name.startswith("X-RateLimit")]


async def test_starting_is_observable(call, probe, token):
    probe.market.readiness.lifecycle = Lifecycle.STOPPED
    status, body, headers = await post(call, token, b'{"count": 1}', headers=JSON)
    assert (status, body["error"], "Retry-After" in headers) == (503, "starting", True)
    status, body, headers = await call("GET", "/health")
    assert (status, body["status"], body["services"]["lifecycle"], body["services"]["ready"]) == (
        503,
        "unavailable",
        "stopped",
        "false",
    )
    assert body["services"]["chain"] == "unavailable"
    assert "Retry-After" in headers
    status, body, _ = await call("GET", "/ready")
    assert (status, body) == (503, {"ready": False, "timestamp": "2026-02-13T10:00:00Z"})
    status, body, headers = await call("GET", "/v1/constants")
    assert (status, body["error"]) == (503, "starting")
    assert "Retry-After" in headers


async def test_request_ids_are_taken_over_or_made(call):
    _, _, headers = await call("GET", "/health", headers={"X-Request-ID": "my-id_1.2"})
    assert headers["X-Request-ID"] == "my-id_1.2"
    for bad in ("has space", "x" * 129, "ünicode", "a;b"):
        _, _, headers = await call("GET", "/health", headers={"X-Request-ID": bad})
        assert headers["X-Request-ID"] != bad
        assert len(headers["X-Request-ID"]) == 36


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "invalid_request"),
        (b"[]", 400, "invalid_request"),
        (b'"text"', 400, "invalid_request"),
        (b'{"count": 1, "count": 2}', 400, "invalid_request"),
        (b'{"count": NaN}', 400, "invalid_request"),
        (b'{"count": Infinity}', 400, "invalid_request"),
        (b'{"count": 1e999}', 400, "invalid_request"),
        (b'{"count": 1, "x": "\\ud800"}', 400, "invalid_request"),
        (b'{"count": 1, "x": "\\u0000"}', 400, "invalid_request"),
        (b'{"count": "\xff"}', 400, "invalid_request"),
        (b'{"count": ' + b"[" * 65 + b"]" * 65 + b"}", 400, "invalid_request"),
        (b'{"count": ' + b"9" * 5000 + b"}", 400, "invalid_request"),
        (b"{}", 422, "validation_error"),
        (b'{"count": true}', 422, "validation_error"),
        (b'{"count": "1"}', 422, "validation_error"),
        (b'{"count": 1.5}', 422, "validation_error"),
        (b'{"count": 1, "surprise": 2}', 422, "validation_error"),
        (b'{"count": 1, "amount": 5}', 422, "validation_error"),
        (b" " * (1 << 20) + b"{}", 413, "payload_too_large"),
    ],
)
async def test_bodies_are_strict(call, token, probe, body, status, code):
    got, answer, headers = await post(call, token, body, headers=JSON)
    assert (got, answer["error"]) == (status, code)
    assert probe.made == 0
    assert "X-RateLimit-Remaining" in headers
    assert "sys." not in answer["message"]
    if code == "validation_error":
        assert {"field", "code", "message"} <= set(answer["details"][0])


async def test_details_name_the_field_and_what_is_wrong(call, token):
    _, answer, _ = await post(call, token, b'{"<b>\\u0007x": 1}', headers=JSON)
    details = {entry["field"]: entry["code"] for entry in answer["details"]}
    assert details == {"count": "required", "?b??x": "unknown_field"}


async def test_a_chunked_body_is_bounded_too(call, token):
    async def forever():
        for _ in range(40):
            yield b" " * 65536

    status, answer, _ = await post(call, token, forever(), headers=JSON)
    assert (status, answer["error"], answer["limit_bytes"]) == (413, "payload_too_large", 1 << 20)


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1", ""]
)
async def test_another_content_type_is_refused(call, token, kind):
    status, answer, _ = await post(call, token, b'{"count": 1}', headers={"Content-Type": kind})
    assert (status, answer["error"]) == (415, "unsupported_media_type")


async def test_a_post_without_content_takes_none(call):
    assert (await call("POST", "/v1/empty"))[0] == 204
    assert (await call("POST", "/v1/empty", headers=JSON))[0] == 204
    assert (await call("POST", "/v1/empty", json={}))[0] == 204
    assert (await call("POST", "/v1/empty", json={"x": 1}))[0] == 422


async def test_numbers_are_exact_and_the_location_is_given(call, token):
    async with call.session.post(
        call.base + "/v1/make", data=b'{"count": 1}', headers=JSON | {"Authorization": f"Bearer {token}"}
    ) as response:
        assert response.status == 201
        assert response.headers["Location"] == "/v1/made/1"
        assert await response.text() == '{"number":1,"price":0.05,"secret":"s3cret"}'


async def test_the_same_key_and_body_are_answered_once(call, token, probe):
    headers = JSON | {"Idempotency-Key": "k-1"}
    first = await post(call, token, b'{"count": 1, "amount": null}', headers=headers)
    again = await post(call, token, b'{ "amount":null, "count":1 }', headers=headers)
    assert (again[0], again[1]) == (first[0], first[1])
    assert again[2]["Idempotent-Replayed"] == "true"
    assert again[2]["Location"] == first[2]["Location"]
    assert "Idempotent-Replayed" not in first[2]
    assert probe.made == 1
    status, answer, _ = await post(call, token, b'{"count": 2}', headers=headers)
    assert (status, answer["error"]) == (422, "idempotency_key_reused")


async def test_secrets_in_a_replay_fade_after_5_minutes_and_the_answer_after_a_day(call, wallet, token, probe, clock):
    headers = JSON | {"Idempotency-Key": "k-1"}
    await post(call, token, b'{"count": 1}', headers=headers)
    clock.advance(299_999)
    assert (await post(call, token, b'{"count": 1}', headers=headers))[1]["secret"] == "s3cret"
    clock.advance(1)
    assert (await post(call, token, b'{"count": 1}', headers=headers))[1] == {
        "number": 1,
        "price": 0.05,
        "secret": None,
    }
    clock.advance(86_400_000 - 300_000)
    token = (await call.login(wallet))["token"]
    assert (await post(call, token, b'{"count": 5}', headers=headers))[1]["number"] == 6


async def test_a_key_stays_free_after_an_error(call, token, probe):
    headers = JSON | {"Idempotency-Key": "k-1"}
    probe.fail_next = True
    status, _, got = await post(call, token, b'{"count": 1}', headers=headers)
    assert (status, got["Idempotency-Key"]) == (503, "k-1")
    assert (await post(call, token, b'{"count": 2}', headers=headers))[0] == 201


async def test_a_second_call_under_a_running_key_waits_its_turn(call, token, probe):
    probe.gate.clear()
    headers = JSON | {"Idempotency-Key": "k-1"}
    running = asyncio.create_task(post(call, token, b'{"count": 1}', headers=headers))
    await asyncio.wait_for(probe.entered.wait(), 60)
    status, answer, got = await post(call, token, b'{"count": 1}', headers=headers)
    assert (status, answer["error"], got["Retry-After"]) == (409, "idempotency_in_progress", "1")
    probe.gate.set()
    assert (await running)[0] == 201
    assert (await post(call, token, b'{"count": 1}', headers=headers))[2]["Idempotent-Replayed"] == "true"


async def test_a_caller_who_hangs_up_has_still_made_it(call, token, probe, clock):
    probe.gate.clear()
    headers = JSON | {"Idempotency-Key": "k-1"}
    running = asyncio.create_task(post(call, token, b'{"count": 1}', headers=headers))
    await asyncio.wait_for(probe.entered.wait(), 60)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    probe.gate.set()
    async with asyncio.timeout(60):
        while (await post(call, token, b'{"count": 1}', headers=headers))[0] != 201:
            await asyncio.sleep(0.05)
            clock.advance(1_000)  # a wallet may ask 120 times a minute, and nobody says how often this one has to
    assert probe.made == 1


async def test_keys_of_two_accounts_are_two_keys(call, token, probe):
    other = (await call.login(Wallet()))["token"]
    headers = JSON | {"Idempotency-Key": "k-1"}
    assert (await post(call, token, b'{"count": 1}', headers=headers))[1]["number"] == 1
    assert (await post(call, other, b'{"count": 1}', headers=headers))[1]["number"] == 2


async def test_a_missing_key_is_made_and_bad_ones_are_refused(call, token):
    _, _, headers = await post(call, token, b'{"count": 1}', headers=JSON)
    assert len(headers["Idempotency-Key"]) == 36
    for bad in ("", "has space", "x" * 256, "ünicode"):
        status, answer, _ = await post(call, token, b'{"count": 1}', headers=JSON | {"Idempotency-Key": bad})
        assert (status, answer["error"]) == (400, "invalid_request")


async def test_a_scope_that_is_missing_is_named(call, token):
    status, answer, _ = await call("GET", "/v1/admin", token=token)
    assert (status, answer["error"], answer["required_scope"]) == (403, "forbidden", "admin")


async def test_a_wallet_is_no_node(call, token):
    assert (await call("POST", "/v1/nodes/node_x/only", token=token))[0] == 403


async def test_120_requests_a_minute_for_a_wallet_then_429(call, token, clock):
    clock.advance(60_000)
    remaining = []
    for _ in range(120):
        status, _, headers = await call("GET", "/v1/me", token=token)
        assert (status, headers["X-RateLimit-Limit"]) == (200, "120")
        remaining.append(int(headers["X-RateLimit-Remaining"]))
    assert remaining == list(range(119, -1, -1))
    status, answer, headers = await call("GET", "/v1/me", token=token)
    assert (status, answer["error"], answer["status"]) == (429, "rate_limited", 429)
    now_s = clock.now() // 1000
    assert int(headers["X-RateLimit-Reset"]) == now_s - now_s % 60 + 60
    assert int(headers["Retry-After"]) == int(headers["X-RateLimit-Reset"]) - now_s
    assert headers["X-RateLimit-Remaining"] == "0"
    clock.advance(60_000)
    assert (await call("GET", "/v1/me", token=token))[0] == 200


async def test_failed_logins_count_against_the_address(call):
    for _ in range(60):
        assert (await call("GET", "/v1/me", token="nonsense"))[0] == 401
    status, answer, _ = await call("GET", "/v1/me", token="nonsense")
    assert (status, answer["error"]) == (429, "rate_limited")


async def test_login_routes_have_windows_of_their_own(call, wallet):
    for _ in range(20):
        status, _, headers = await call("GET", f"/v1/auth/challenge?wallet={wallet.address}")
        assert (status, headers["X-RateLimit-Limit"]) == (200, "20")
    assert (await call("GET", f"/v1/auth/challenge?wallet={wallet.address}"))[0] == 429
    status, _, headers = await call("POST", "/v1/auth/refresh", json={"refresh_token": "rt_x"})
    assert (status, headers["X-RateLimit-Limit"], headers["X-RateLimit-Remaining"]) == (401, "10", "9")


async def test_counters_survive_a_restart(settings, clock, wallet):
    async def hit():
        market = Market.build(settings, clock=clock)
        await market.start()
        async with ClientSession() as session:
            _, _, headers = await Caller(session, f"http://127.0.0.1:{market.port}")("GET", "/v1/nowhere")
        await market.stop()
        return int(headers["X-RateLimit-Remaining"])

    assert [await hit(), await hit(), await hit()] == [59, 58, 57]


async def test_head_is_answered_wherever_get_is(call, token):
    status, body, headers = await call("HEAD", "/v1/me", token=token)
    assert (status, body, headers["Content-Type"]) == (200, b"", "application/json")
    status, body, headers = await call("HEAD", "/v1/follow", token=token)
    assert (status, body, headers["Content-Type"]) == (200, b"", "text/event-stream; charset=utf-8")
    assert (await call("HEAD", "/v1/follow"))[0] == 401


async def test_a_stream_has_ids_keep_alives_limits_and_an_end(call, token, probe):
    probe.events.put_nowait(ServerEvent("1", "log", {"line": "a"}))
    headers = {"Authorization": f"Bearer {token}"}
    async with asyncio.timeout(60), call.session.get(call.base + "/v1/follow", headers=headers) as response:
        assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert response.headers["X-RateLimit-Limit"] == "120"
        assert "X-Request-ID" in response.headers
        assert await response.content.readuntil(b"\n\n") == b'id: 1\nevent: log\ndata: {"line":"a"}\n\n'
        assert await response.content.readuntil(b"\n\n") == b": keep-alive\n\n"
        probe.events.put_nowait(ServerEvent("2", "end", "two\nlines"))
        probe.events.put_nowait(None)
        rest = (await response.read()).replace(b": keep-alive\n\n", b"")
        assert rest == b"id: 2\nevent: end\ndata: two\ndata: lines\n\n"


async def test_at_most_20_streams_are_open_for_one_principal(call, token, probe):
    # who left is noticed without anything being written to him
    probe.market.streams._keep_alive_s = 3600
    headers = {"Authorization": f"Bearer {token}"}
    opened = []
    try:
        for _ in range(20):
            opened.append(await call.session.get(call.base + "/v1/follow", headers=headers))  # noqa: PERF401 - closed even when one fails
        status, answer, got = await call("GET", "/v1/follow", token=token)
        assert (status, answer["error"], answer["limit"]) == (429, "quota_exceeded", 20)
        assert "Retry-After" in got
    finally:
        for response in opened:
            response.close()
    async with asyncio.timeout(60):
        while True:
            async with call.session.get(call.base + "/v1/follow", headers=headers) as again:
                if again.status == 200:
                    return
            await asyncio.sleep(0.2)


async def test_declarations_are_checked(probe):
    async def wrong_first(request: Call) -> None: ...

    async def stray(call: Call, job_id: str) -> None: ...

    async def bare(call: Call) -> dict[str, str]: ...

    async def fine(call: Call) -> None: ...

    for handler, path in ((wrong_first, "/v1/x"), (stray, "/v1/x"), (fine, "/v1/{job_id}"), (bare, "/v1/x")):
        with pytest.raises(RouteError):
            Route("GET", path, handler, "x", OPEN)
    with pytest.raises(RouteError):
        Route("POST", "/v1/x", fine, "x", OPEN, idempotent=True)


async def test_nothing_is_open_that_does_not_say_so(probe):
    open_paths = {route.path for route in Market.build(probe.market.settings).routes if route.access.everybody}
    assert open_paths == {
        "/v1/auth/challenge", "/v1/auth/verify", "/v1/auth/refresh", "/v1/constants",
        "/health", "/ready", "/metrics", "/openapi.json",
    }  # fmt: skip
    assert Access() == Access(accounts=False, nodes=False, everybody=False, scope=None)
    unlimited = {route.path for route in probe.market.routes if route.rate is RateClass.UNLIMITED}
    assert unlimited == {"/health", "/ready", "/metrics", "/openapi.json"}


async def test_every_route_that_is_not_open_wants_a_credential(call, probe, clock):
    for route in probe.market.routes:
        if route.access.everybody:
            continue
        path = route.path.replace("{node_id}", "node_x").replace("{address}", "1" * 32).replace("{signature}", "1" * 64)
        path = path.replace("{", "").replace("}", "")
        clock.advance(60_000)  # another minute: nobody asks too often
        status, answer, headers = await call(route.method, path)
        code = answer["error"] if isinstance(answer["error"], str) else answer["error"]["reason"]
        assert (status, code, headers["WWW-Authenticate"]) == (401, "unauthorized", "Bearer"), route.name


async def test_openapi_describes_every_route(call, probe):
    status, document, _ = await call("GET", "/openapi.json")
    assert (status, document["openapi"]) == (200, "3.1.0")
    described = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    # a pattern of a path's parameter is the router's own business
    served = {(route.method, re.sub(r"{(\w+):[^}]*}", r"{\1}", route.path)) for route in probe.market.routes}
    assert described == served
    make = document["paths"]["/v1/make"]["post"]
    assert set(make["responses"]) >= {"201", "400", "401", "403", "409", "413", "415", "422", "429", "500"}
    assert document["components"]["schemas"]["MadeResponse"]["properties"]["price"] == {
        "type": "number",
        "title": "Price",
    }
    references = {text for text in json.dumps(document).split('"') if text.startswith("#/")}
    for reference in references:
        _, _, kind, name = reference.split("/")
        assert name in document["components"][kind], reference
    _, operations, _ = await call("GET", "/openapi.json?family=operations")
    assert set(operations["paths"]) == {"/health", "/ready", "/metrics", "/openapi.json"}
    assert (await call("GET", "/openapi.json?family=unknown"))[0] == 400


async def test_metrics_are_counted(call):
    await call("GET", "/v1/nowhere")
    status, page, headers = await call("GET", "/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain")
    assert b'reaver_http_requests_total{route="unknown",status="404"} 1.0' in page


async def test_forwarded_addresses_are_believed_from_configured_proxies_only(settings, clock):
    async def remaining(trusted, forwarded):
        api = settings.api.model_copy(update={"trusted_proxies": trusted})
        market = Market.build(settings.model_copy(update={"api": api}), clock=clock)
        await market.start()
        async with ClientSession() as session:
            call = Caller(session, f"http://127.0.0.1:{market.port}")
            got = [(await call("GET", "/v1/nowhere", headers={"X-Forwarded-For": hop}))[2] for hop in forwarded]
        await market.stop()
        clock.advance(60_000)
        return [int(headers["X-RateLimit-Remaining"]) for headers in got]

    assert await remaining((), ["9.9.9.1", "9.9.9.2"]) == [59, 58]
    assert await remaining(("127.0.0.1",), ["9.9.9.1", "9.9.9.2", "1.1.1.1, 9.9.9.2"]) == [59, 59, 58]
    # IPv6 counts by /64, and a mapped address is the IPv4 one.
    assert await remaining(("127.0.0.1",), ["2001:db8::1", "2001:db8::2", "::ffff:9.9.9.1", "9.9.9.1"]) == [
        59,
        58,
        59,
        58,
    ]


async def test_stopping_ends_streams(call, token, probe):
    headers = {"Authorization": f"Bearer {token}"}
    async with asyncio.timeout(60), call.session.get(call.base + "/v1/follow", headers=headers) as response:
        await response.content.readuntil(b"\n\n")
        stopping = asyncio.create_task(probe.market.stop())
        with contextlib.suppress(ClientError):
            await response.read()
        await stopping
