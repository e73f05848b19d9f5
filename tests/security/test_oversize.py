"""Too much, too deep, too long, and characters that no database holds: on every route of the table, refused at once.

On both databases: PostgreSQL refuses a NUL that SQLite takes, and what it refuses must not come out as a fault.
"""

import asyncio
import json
import re
import time
from urllib.parse import urlsplit

import pytest
from yarl import URL

from marketplace.app import Market
from tests.api.conftest import Renter, Wallet, settings_in
from tests.api.serving import ready
from tests.api.test_ownership import belongings
from tests.store.conftest import POSTGRES, cluster, postgres_url

__all__ = ["cluster", "postgres_url"]
UNLIMITED = 10_000_000
QUICK_S = 20
"""Far more than a refusal takes, far less than reading to the end or to a deadline."""
BUFFERED = 16 << 20
"""What kernels and libraries on both sides may hold of a body that nobody reads any more."""
REFUSED = {400, 401, 403, 404, 409, 410, 411, 413, 415, 422}
MOST_ECHOED = 16 << 10
HARD = {
    "nul": b"a\\u0000b",
    "half a pair": b"\\ud800",
    "the other half": b"x\\udc00",
    "raw bytes": b"\xff\xfe",
    "raw nul": b"a\0b",
}
IN_URLS = ("%00", "a%00b", "%ED%A0%80", "%FF", "%C0%80", "%F0%9F%92%A9", "..%2F..%2Fx", "%0d%0aX: y", "a" * 4000)


@pytest.fixture(params=["sqlite", POSTGRES])
def url(request):
    """Of a fresh database; None: a file."""
    return request.getfixturevalue("postgres_url") if request.param == "postgres" else None


@pytest.fixture
async def live_market(url, tmp_path, chain):
    """A market on each database that admits more requests a minute than are made here."""
    settings = settings_in(tmp_path, chain.folder / "keys", chain.rpc)
    names = ("wallet", "address", "challenge", "login", "node", "key_minute", "key_hour")
    known = {name: UNLIMITED for name in names if name in type(settings.limits).model_fields}
    update = {
        "limits": settings.limits.model_copy(update=known),
        "market": settings.market.model_copy(update={"admins": (Wallet(bytes(32)).address,)}),
    }
    if url is not None:
        update["store"] = type(settings.store).model_validate({**settings.store.model_dump(), "url": url})
    market = Market.build(settings.model_copy(update=update))
    await market.start()
    await ready(market)
    yield market
    await market.stop()


@pytest.fixture
async def renter(chain, live_market, live_call):
    return await Renter.funded(Wallet(bytes(32)), chain, live_market, live_call)


def filled(path: str, values: dict[str, str]) -> str:
    """The path with its placeholders filled; one that nobody named gets an x."""
    return re.sub(r"{(\w+)(?::[^}]*)?}", lambda found: values.get(found[1], "x"), path)


def writing(market):
    """Every route that takes a body and that an account may call, or anybody."""
    routes = [r for r in market.routes if r.method != "GET" and (r.access.accounts or r.access.everybody)]
    assert len(routes) > 30
    return routes


def fields_of(schema: dict, definitions: dict, path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """Paths of all fields of a body that hold text or hold something that does; lists by one member."""
    schema = definitions[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    found: set[tuple[str, ...]] = set()
    for name, inner in schema.get("properties", {}).items():
        found |= {(*path, name)} | fields_of(inner, definitions, (*path, name))
    for inner in [*schema.get("anyOf", ()), *schema.get("allOf", ()), *schema.get("oneOf", ())]:
        found |= fields_of(inner, definitions, path)
    return found


def body_fields(route) -> list[tuple[str, ...]]:
    schema = route.body_model.model_json_schema()
    return sorted(fields_of(schema, schema.get("$defs", {})))


def body_with(path: tuple[str, ...], raw: bytes) -> bytes:
    """A body that has this text, as it stands, at this place and nothing else."""
    for name in reversed(path):
        raw = b"{" + json.dumps(name).encode() + b": " + raw + b"}"
    return raw


async def send_raw(base: str, head: str, pieces=(), *, most: int = 0) -> tuple[int, int]:
    """The status that comes back, and how many bytes went out until it did."""
    url = urlsplit(base)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    writer.write(head.encode("latin-1"))
    sent = 0
    answer = asyncio.ensure_future(reader.readline())
    try:
        for piece in pieces:
            if answer.done() or sent > most:
                break
            writer.write(piece)
            sent += len(piece)
            await asyncio.wait(
                {asyncio.ensure_future(writer.drain()), answer}, return_when="FIRST_COMPLETED", timeout=1
            )
            await asyncio.sleep(0)
        async with asyncio.timeout(QUICK_S):
            line = await answer
    except ConnectionError:
        line = b""
    finally:
        answer.cancel()
        writer.close()
    return (int(line.split()[1]) if line else 0), sent


async def test_what_is_too_much_is_refused_on_every_route(renter, live_market, live_call):
    own = await belongings(renter) | {"node_id": "node_1111111111111111111111"}
    for route in writing(live_market):
        path = filled(route.path, own)
        head = (
            f"{route.method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {renter.token}\r\n"
            "Content-Type: application/json\r\n"
        )
        began = time.monotonic()
        # announced, and never sent
        status, _ = await send_raw(live_call.base, f"{head}Content-Length: {10**12}\r\n\r\n", [b"{"], most=1)
        assert status == 413 or (route.takes and status in REFUSED), (route.name, status)
        assert time.monotonic() - began < QUICK_S, route.name
    # sent without a word about how much it will be: no more is read than the limit
    for route in [r for r in writing(live_market) if r.body_model is not None and r.access.accounts][::6]:
        head = (
            f"{route.method} {filled(route.path, own)} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {renter.token}\r\n"
            "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        piece = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        most = route.max_body + BUFFERED
        status, sent = await send_raw(live_call.base, head, (piece for _ in range(100_000)), most=2 * most)
        assert status in {0, 413}, (route.name, status)
        assert sent < most, (route.name, sent)
    # a head that has no end
    for many in ("".join(f"X-{n}: {n}\r\n" for n in range(20_000)), "X-Long: " + "a" * (1 << 20) + "\r\n"):
        status, _ = await send_raw(live_call.base, f"GET /v1/me HTTP/1.1\r\nHost: x\r\n{many}\r\n")
        assert status in {0, 400, 413, 431}
    status, _ = await send_raw(live_call.base, f"GET /v1/jobs?{'a=1&' * 300_000} HTTP/1.1\r\nHost: x\r\n\r\n")
    assert status in {0, 400, 413, 414, 431}
    status, _, _ = await renter("GET", "/v1/jobs?" + "status=queued&" * 500)
    assert status in {200, 400, 422}
    assert (await renter("GET", "/v1/me"))[0] == 200, "and the market serves on"


@pytest.mark.parametrize("url", [None])  # what stands before every route asks no database
async def test_what_is_too_deep_or_too_long_or_no_text_is_refused_by_every_field(renter, live_market, live_call):
    own = await belongings(renter) | {"node_id": "node_1111111111111111111111"}
    asked = 0

    async def refused(route, raw: bytes, among=REFUSED, why=""):
        nonlocal asked
        asked += 1
        headers = {"Content-Type": "application/json"}
        status, body, _ = await renter(route.method, filled(route.path, own), data=raw, headers=headers)
        assert status in among, (route.name, why, raw[:80], status, body)
        assert len(json.dumps(body)) <= MOST_ECHOED, (route.name, why)

    for route in [r for r in writing(live_market) if r.body_model is not None]:
        await refused(route, b'{"a":' + b"[" * 64 + b"]" * 64 + b"}", {400}, "65 levels")
        await refused(route, b'{"a":' * 100_000, {400}, "a hundred thousand levels")
        for path in body_fields(route):
            for why, raw in HARD.items():
                await refused(route, body_with(path, b'"' + raw + b'"'), {400}, why)
            await refused(route, body_with(path, b'"' + b"a" * 900_000 + b'"'), REFUSED, "long")
    # a body that is wrong in more places than anybody reads about is told so, and shortly
    members = b",".join(b'"%d":"x"' % n for n in range(50_000))
    for route in [r for r in writing(live_market) if r.path in {"/v1/quote", "/v1/jobs", "/v1/api-keys"}]:
        for many in (b"9" * 900_000, b"[" + b"1," * 400_000 + b"1]", b"{" + members + b"}"):
            await refused(route, body_with(("spend_limit",), many), REFUSED, "many")
        await refused(route, b"{" + members + b"}", {422}, "members")
        few = b",".join(b'"%d":"x"' % n for n in range(100))
        await refused(route, b"{" + few + b"}", {422}, "members")
    assert asked > 1_000
    assert (await renter("GET", "/v1/me"))[0] == 200


async def test_hard_characters_in_paths_queries_headers_and_forms_are_no_fault(renter, live_market, live_call):
    own = await belongings(renter)
    for route in [r for r in live_market.routes if r.access.accounts or r.access.everybody]:
        endless = route.path.endswith(("/exec", "/events", "/logs"))
        for name in () if endless else re.findall(r"{(\w+)", route.path):
            for text in IN_URLS[:-1]:
                status, body, _ = await send_path(
                    live_call, renter, route.method, filled(route.path, own | {name: text})
                )
                assert status in REFUSED | {200, 405}, (route.name, text, status, body)
        queries = [] if route.query_model is None else list(route.query_model.model_fields)
        for name in queries:
            for text in IN_URLS:
                path = f"{filled(route.path, own)}?{name}={text}&follow=0&limit=1"
                status, body, _ = await send_path(live_call, renter, route.method, path)
                assert status in REFUSED | {200, 201}, (route.name, name, text, status, body)
    for header in ("Idempotency-Key", "Last-Event-ID", "X-Request-ID", "Range", "Accept", "X-Api-Key"):
        for text in ("\xff\xfe", "é" * 300, "a" * 4000, "bytes=0-,1-,2-"):
            status, body, _ = await renter(
                "POST", "/v1/api-keys", headers={header: text}, json={"name": "n", "scopes": ["read"]}
            )
            assert status in REFUSED | {201, 429}, (header, text, status, body)
        for text in ("\x7f", "\0", "a\tb", "\x1b[2J"):
            head = f"GET /v1/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {renter.token}\r\n{header}: {text}\r\n\r\n"
            status, _ = await send_raw(live_call.base, head)
            assert status in REFUSED | {200}, (header, text, status)
    for name in ("a\0b", "\ud800", "x" * 5_000, "..", "a/../../b", "\u202egnp.exe", "\uffff", "💩"):
        raw = name.encode("utf-8", "surrogatepass")
        form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="' + raw + b'"\r\n\r\ndata\r\n--x--\r\n'
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        status, body, _ = await renter("POST", "/v1/files", data=form, headers=headers)
        assert status in REFUSED | {201}, (name, status, body)


async def test_legal_text_of_any_kind_is_kept_as_it_was_given(renter):
    text = "💩 \uffff \u202e right\u2066 to left é"
    status, key, _ = await renter("POST", "/v1/api-keys", json={"name": text[:30], "scopes": ["read"]})
    assert status in {201, 422}, key
    status, made, _ = await renter("POST", "/v1/webhooks", json={"url": "https://hooks.test/x", "description": text})
    assert (status, made["description"]) == (201, text)
    _, found, _ = await renter("GET", f"/v1/webhooks/{made['id']}")
    assert found["description"] == text


async def send_path(call, renter, method: str, path: str):
    """A request whose path goes out as it stands."""
    headers = {"Authorization": f"Bearer {renter.token}"}
    async with call.session.request(method, URL(call.base + path, encoded=True), headers=headers) as response:
        raw = await response.read()
        return response.status, raw[:300], response.headers
