"""From declared routes to an aiohttp application: one middleware, in which every request takes the same way.

    request id → credential → rate limit → scope → path, query, body → idempotency key → handler → body → headers

An error anywhere on the way becomes the family's published body; so do aiohttp's own refusals. Headers that every
answer carries are set when it is prepared, so that streams and sockets have them too.
"""

import asyncio
import ipaddress
import re
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from http import HTTPStatus
from typing import Any, Final, Protocol

import orjson
import structlog
from aiohttp import web
from pydantic import ValidationError

from marketplace.api.body_faults import all_faults
from marketplace.api.fields import NoBody, RequestModel
from marketplace.api.json_bodies import canonical_hash, dump_model, parse_json, without_nul
from marketplace.api.missing import Sought, is_bare, sought_by
from marketplace.api.problems import family_of, framework_error, invalid, invalid_path, problem_of, render
from marketplace.api.routes import Call, Family, RateClass, Reply, Route
from marketplace.errors import (
    Code,
    Forbidden,
    InternalError,
    Invalid,
    Malformed,
    MarketError,
    NotFound,
    Starting,
    TooLarge,
    Unauthenticated,
    UnsupportedMedia,
)
from marketplace.metrics import Metrics
from marketplace.services.api_keys import is_api_key
from marketplace.services.clock import Clock
from marketplace.services.idempotency import Idempotency, KeyInUse, check_key
from marketplace.services.principals import AccountPrincipal, KeyRate, NodePrincipal, Principal
from marketplace.services.rate_limits import RateLimitReached, RateLimits, RateState, Window
from marketplace.store.idempotency import KeyScope, StoredAnswer

_log = structlog.get_logger(__name__)

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")
_BODY_DEADLINE_S: Final = 30.0
"""How long a body may take to arrive; chosen: 1 MiB at 35 kB/s."""


class Authenticator(Protocol):
    """Turns a bearer token into a principal."""

    async def authenticate(self, token: str) -> Principal:
        """Raises Unauthenticated, TokenExpired."""
        ...


@dataclass(frozen=True, slots=True)
class RateWindows:
    """Windows of each rate class."""

    wallet: tuple[Window, ...]
    client: tuple[Window, ...]
    address: tuple[Window, ...]
    challenge: tuple[Window, ...]
    login: tuple[Window, ...]
    node: tuple[Window, ...]


@dataclass(slots=True)
class Exchange:
    """What the frame knows of a request on its way."""

    request_id: str
    family: Family
    started_ms: int
    client_address: str
    label: str = "unknown"
    rate: RateState | None = None
    principal: Principal | None = None
    sought: Sought | None = None


@dataclass(frozen=True)
class Frame:
    """What serving needs, from the composition root. ready: whether the start-up sweep is over."""

    routes: Sequence[Route]
    authenticator: Authenticator
    rate_limits: RateLimits
    rate_windows: RateWindows
    idempotency: Idempotency
    clock: Clock
    metrics: Metrics
    ready: Callable[[], bool]
    trusted_proxies: frozenset[str] = field(default_factory=frozenset)


EXCHANGE: Final = web.RequestKey("exchange", Exchange)


def build_application(frame: Frame) -> web.Application:
    """The application with every declared route."""
    server = _Server(frame)
    application = web.Application(
        middlewares=[server.middleware], client_max_size=max(route.max_body for route in frame.routes) + 1
    )
    application.on_response_prepare.append(server.add_headers)
    for route in frame.routes:
        server.add(application, route)
    return application


class _Server:
    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._routes: dict[Any, Route] = {}
        # Labels are routes that are declared and statuses; looking them up costs more than counting.
        self._requests = cache(lambda label, status: frame.metrics.requests.labels(label, str(status)))
        self._latency = cache(frame.metrics.latency.labels)
        names: set[str] = set()
        for route in frame.routes:
            if route.name in names:
                raise TypeError(f"{route.name} is declared twice")
            names.add(route.name)

    def add(self, application: web.Application, route: Route) -> None:
        """Register a route; HEAD wherever GET."""

        async def endpoint(request: web.Request) -> web.StreamResponse:
            return await self._serve(route, request)

        self._routes[endpoint] = route
        if route.method == "GET":
            application.router.add_get(route.path, endpoint, allow_head=True)
        else:
            application.router.add_route(route.method, route.path, endpoint)

    @web.middleware
    async def middleware(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Outermost: nothing leaves but an answer in its family's shape."""
        exchange = self._begin(request)
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=exchange.request_id)
        try:
            if request.match_info.http_exception is not None:
                await self._count_unknown(request, exchange)
            response = await handler(request)
        except web.HTTPException as error:
            response = self._refuse(exchange, framework_error(error))
        except MarketError as error:
            response = self._refuse(exchange, error)
        except (ConnectionResetError, asyncio.CancelledError):
            raise
        except Exception:  # noqa: BLE001 - the outer edge: one request's fault must not end another's
            _log.exception("request.fault", action="answered 500", route=exchange.label)
            response = self._refuse(exchange, InternalError())
        self._end(request, exchange, response)
        return response

    async def add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        """Signal of aiohttp just before an answer's headers are written, streams and sockets included."""
        exchange = request.get(EXCHANGE)
        if exchange is None:
            return
        response.headers["X-Request-ID"] = exchange.request_id
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Server"] = "reaver"
        response.headers.setdefault("Cache-Control", "no-store")
        if exchange.rate is not None:
            response.headers["X-RateLimit-Limit"] = str(exchange.rate.limit)
            response.headers["X-RateLimit-Remaining"] = str(exchange.rate.remaining)
            response.headers["X-RateLimit-Reset"] = str(exchange.rate.reset_s)

    # The way of one request, in order.

    def _begin(self, request: web.Request) -> Exchange:
        given = request.headers.get("X-Request-ID", "")
        exchange = Exchange(
            request_id=given if _REQUEST_ID.fullmatch(given) else str(uuid.uuid4()),
            family=family_of(request.path),
            started_ms=self._frame.clock.monotonic_ms(),
            client_address=self._client_address(request),
        )
        route = self._routes.get(request.match_info.handler)
        if route is not None:
            exchange.label = route.name
            exchange.family = route.family
        request[EXCHANGE] = exchange
        return exchange

    async def _serve(self, route: Route, request: web.Request) -> web.StreamResponse:
        exchange = request[EXCHANGE]
        principal = await self._admit(route, request, exchange)
        exchange.sought = sought_by(request.match_info)
        arguments = self._path_arguments(route, request)
        # What any account may read of a node, a node may too; to act, its key is good for its own node only, and
        # another one is, to it, not there.
        readable = route.method == "GET" and route.access.accounts
        if isinstance(principal, NodePrincipal) and not readable:
            own = principal.node_id
            if arguments.get("node_id", own) != own:
                raise NotFound
        if route.query_model is not None:
            try:
                arguments["query"] = route.query_model.model_validate(_query(request))
            except ValidationError as error:
                raise invalid(error) from error
        body_hash = b""
        if route.takes:
            body_hash = _announced(request)
        if route.body_model is not None:
            model, body_hash = await _take_body(route, route.body_model, request)
            if route.body_model is not NoBody:
                arguments["body"] = model
        if route.idempotent:
            return await self._serve_once(route, request, arguments, body_hash)
        call = Call(exchange.request_id, exchange.client_address, principal, None, request)
        return _response(route, await route.handler(call, **arguments))

    async def _admit(self, route: Route, request: web.Request, exchange: Exchange) -> Principal | None:
        """Who calls, counted and permitted. Raises Unauthenticated, RateLimited, Forbidden."""
        if route.rate is RateClass.UNLIMITED:
            return None
        if route.access.everybody:
            windows = self._frame.rate_windows
            if route.rate is RateClass.CHALLENGE:
                self._count(exchange, f"{route.name}:{exchange.client_address}", windows.challenge)
            elif route.rate is RateClass.LOGIN:
                self._count(exchange, f"{route.name}:{exchange.client_address}", windows.login)
            else:
                self._count(exchange, f"address:{exchange.client_address}", windows.address)
            return None
        try:
            principal = await self._frame.authenticator.authenticate(_credential(request))
        except Unauthenticated:
            self._count(exchange, f"address:{exchange.client_address}", self._frame.rate_windows.address)
            raise
        exchange.principal = principal
        structlog.contextvars.bind_contextvars(principal=principal.subject)
        self._count_principal(exchange, principal, counted=route.rate is not RateClass.UNCOUNTED)
        if isinstance(principal, NodePrincipal):
            if not route.access.nodes:
                raise Forbidden("a node's login is good for its own node's routes only")
        else:
            if not route.access.accounts:
                raise Forbidden("this route takes a node's own login")
            if route.access.scope is not None:
                principal.require(route.access.scope, route.access.instead)
        return principal

    def _path_arguments(self, route: Route, request: web.Request) -> dict[str, Any]:
        arguments: dict[str, Any] = {}
        for name, adapter in route.path_parameters.items():
            try:
                arguments[name] = adapter.validate_python(request.match_info[name])
            except ValidationError as error:
                raise invalid_path(name, error) from error
        return arguments

    async def _serve_once(
        self, route: Route, request: web.Request, arguments: Mapping[str, Any], body_hash: bytes
    ) -> web.StreamResponse:
        """Serve a call that creates or spends: replay its answer, or run it under its key."""
        if not self._frame.ready():
            raise Starting
        exchange = request[EXCHANGE]
        principal = exchange.principal
        if not isinstance(principal, AccountPrincipal):
            raise Unauthenticated
        given = request.headers.getall("Idempotency-Key", [])
        if len(given) > 1:
            raise Malformed("more than one Idempotency-Key was sent")
        text = check_key(given[0]) if given else str(uuid.uuid4())
        # Two paths of one declared route are two things: the key is bound to the path as it was called.
        scope = KeyScope(principal.account_id, f"{route.method} {request.path}", text)
        begun = await self._frame.idempotency.begin(scope, body_hash, given=bool(given))
        if isinstance(begun, StoredAnswer):
            return self._replay(route, begun, text)
        try:
            call = Call(exchange.request_id, exchange.client_address, principal, begun, request)
            response = await asyncio.shield(self._run_once(route, call, arguments, begun))
        except MarketError as error:
            return self._refuse(exchange, error, {"Idempotency-Key": text})
        response.headers["Idempotency-Key"] = text
        return response

    async def _run_once(
        self, route: Route, call: Call, arguments: Mapping[str, Any], key: KeyInUse
    ) -> web.StreamResponse:
        """The handler and the keeping of its answer, as one piece: a caller who hangs up changes nothing."""
        try:
            response = _response(route, await route.handler(call, **arguments))
            succeeded = response.status < HTTPStatus.MULTIPLE_CHOICES
            if route.keep_answer and succeeded and isinstance(response, web.Response):
                kept = {name: response.headers[name] for name in ("Location",) if name in response.headers}
                body = response.body if isinstance(response.body, bytes) else b""
                await self._frame.idempotency.succeed(key, response.status, kept, body, has_secrets=bool(route.secrets))
            return response
        finally:
            self._frame.idempotency.end(key)

    def _replay(self, route: Route, answer: StoredAnswer, key: str) -> web.Response:
        body = answer.body
        if self._frame.idempotency.secrets_expired(answer):
            members = orjson.loads(body)
            body = orjson.dumps({name: None if name in route.secrets else value for name, value in members.items()})
        headers = {**answer.headers, "Idempotent-Replayed": "true", "Idempotency-Key": key}
        return web.Response(status=answer.status, headers=headers, body=body, content_type="application/json")

    # Counting.

    async def _count_unknown(self, request: web.Request, exchange: Exchange) -> None:
        """A request for no route counts as its caller's, or as its address's."""
        if exchange.family is Family.OPERATIONS:
            return
        try:
            principal = await self._frame.authenticator.authenticate(_credential(request))
        except Unauthenticated:
            self._count(exchange, f"address:{exchange.client_address}", self._frame.rate_windows.address)
        else:
            self._count_principal(exchange, principal, counted=True)

    def _count_principal(self, exchange: Exchange, principal: Principal, *, counted: bool) -> None:
        windows = self._frame.rate_windows
        if isinstance(principal, NodePrincipal):
            chosen = windows.node
        else:
            chosen = windows.client if principal.key_rate is KeyRate.CLIENT else windows.wallet
        if counted:
            self._count(exchange, principal.subject, chosen)
        else:
            exchange.rate = self._frame.rate_limits.look(principal.subject, chosen)

    def _count(self, exchange: Exchange, subject: str, windows: tuple[Window, ...]) -> None:
        try:
            exchange.rate = self._frame.rate_limits.hit(subject, windows)
        except RateLimitReached as error:
            exchange.rate = error.state
            raise

    # Ends.

    def _refuse(self, exchange: Exchange, error: MarketError, headers: Mapping[str, str] | None = None) -> web.Response:
        if exchange.sought is not None and is_bare(error):
            # The same words whether nobody or somebody else has it.
            error = exchange.sought.not_found()
        if error.code is Code.INTERNAL_ERROR:
            self._frame.metrics.faults.labels(exchange.label).inc()
            if type(error) is not InternalError:
                _log.error("request.fault", action="answered 500", cause=repr(error), route=exchange.label)
        problem = problem_of(error)
        if error.code is Code.CHAIN_UNAVAILABLE and problem.message != error.message:
            _log.warning("request.chain_unavailable", action="answered 503", cause=error.message, route=exchange.label)
        response = render(problem, exchange.family, exchange.request_id)
        response.headers.update(headers or {})
        return response

    def _end(self, request: web.Request, exchange: Exchange, response: web.StreamResponse) -> None:
        elapsed_ms = self._frame.clock.monotonic_ms() - exchange.started_ms
        self._requests(exchange.label, response.status).inc()
        if isinstance(response, web.Response):
            self._latency(exchange.label).observe(elapsed_ms / 1000)
        level = _log.warning if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR else _log.info
        if exchange.family is Family.OPERATIONS:
            level = _log.debug
        # The path without its query: a query may hold what nobody wants in a log.
        level("request", method=request.method, path=request.path[:256], status=response.status, elapsed_ms=elapsed_ms)

    def _client_address(self, request: web.Request) -> str:
        """The peer's address, or the nearest untrusted one that trusted proxies report; IPv6 as its /64."""
        address = request.remote or "unknown"
        proxies = self._frame.trusted_proxies
        if address in proxies:
            hops = [hop.strip() for hop in request.headers.get("X-Forwarded-For", "").split(",") if hop.strip()]
            address = next((hop for hop in reversed(hops) if hop not in proxies), address)
        return _counted_address(address)


@lru_cache(maxsize=4096)
def _counted_address(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((int(parsed), 64), strict=False))
    return str(parsed)


def _credential(request: web.Request) -> str:
    """The one credential of a request; it may stand in both headers. Raises Unauthenticated."""
    found: set[str] = set()
    for given in request.headers.getall("Authorization", []):
        scheme, _, token = given.partition(" ")
        if scheme.lower() != "bearer" or not token or token != token.strip():
            raise Unauthenticated("send `Authorization: Bearer <token or API key>`")
        found.add(token)
    for given in request.headers.getall("X-Api-Key", []):
        if not is_api_key(given):
            raise Unauthenticated("X-Api-Key takes an API key, which begins with rk_")
        found.add(given)
    if len(found) != 1:
        raise Unauthenticated("two different credentials were sent; send one" if found else None)
    return found.pop()


def _announced(request: web.Request) -> bytes:
    """What a key binds to where the body is read in pieces: the query, and what the headers say of the body."""
    kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    described = {"query": sorted(request.query.items()), "type": kind, "length": request.content_length}
    return canonical_hash(described)


def _query(request: web.Request) -> dict[str, Any]:
    """Query parameters: repeated ones as a list, so that only a field that takes several accepts them."""
    values: dict[str, Any] = {}
    for name in request.query:
        every = request.query.getall(name)
        if any("\0" in text for text in every):
            raise Malformed("the query holds a NUL character")
        values[name] = every if len(every) > 1 else every[0]
    return values


async def _take_body(route: Route, body_model: type[RequestModel], request: web.Request) -> tuple[RequestModel, bytes]:
    """The body, checked, and what a key binds to."""
    raw = await _read_body(request, route.max_body)
    body_hash = b""
    value: dict[str, Any] = {}
    if route.read_once:
        _require_json(request)
        raw = without_nul(raw)
    else:
        value = _parse_body(request, raw)
        body_hash = canonical_hash(value) if route.idempotent else b""
    try:
        # From the bytes, so that strict mode reads JSON's rules for enums and tuples.
        return body_model.model_validate_json(raw or b"{}"), body_hash
    except (ValidationError, Invalid) as error:
        raise all_faults(error, value, body_model, route.check) from error


async def _read_body(request: web.Request, limit: int) -> bytes:
    too_large = TooLarge(f"the body is larger than {limit} bytes", extra={"limit_bytes": limit})
    if request.content_length is not None and request.content_length > limit:
        raise too_large
    chunks: list[bytes] = []
    size = 0
    try:
        if request.content.is_eof():
            # It came with the head, as small bodies do: nothing is waited for.
            raw = request.content.read_nowait()
            if len(raw) > limit:
                raise too_large
            return raw
        async with asyncio.timeout(_BODY_DEADLINE_S):
            async for chunk in request.content.iter_any():
                size += len(chunk)
                if size > limit:
                    raise too_large
                chunks.append(chunk)
    except TimeoutError as error:
        raise Malformed("the body did not arrive in time") from error
    except (web.RequestPayloadError, ValueError) as error:
        raise Malformed("the body could not be read") from error
    return b"".join(chunks)


def _parse_body(request: web.Request, raw: bytes) -> dict[str, Any]:
    if not raw:
        return {}
    _require_json(request)
    value = parse_json(raw)
    if not isinstance(value, dict):
        raise Malformed("the body must be a JSON object")
    return value


def _require_json(request: web.Request) -> None:
    if request.content_type != "application/json" or (request.charset or "utf-8").lower() not in {"utf-8", "utf8"}:
        raise UnsupportedMedia


def _response(route: Route, answer: Any) -> web.StreamResponse:
    if isinstance(answer, web.StreamResponse):
        return answer
    if answer is None:
        return web.Response(status=HTTPStatus.NO_CONTENT)
    status, headers = route.status, {}
    if isinstance(answer, Reply):
        status, headers, answer = answer.status, dict(answer.headers), answer.body
    return web.Response(status=status, headers=headers, body=dump_model(answer), content_type="application/json")
