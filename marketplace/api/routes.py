"""Declared routes: the handler's signature says what goes in and out, and registration checks it.

    async def get_job(call: Call, job_id: JobIdPath) -> JobView: ...
    async def list_jobs(call: Call, query: JobsQuery) -> JobList: ...
    async def submit(call: Call, body: SubmitRequest) -> Reply[SubmitResponse]: ...
    async def follow(call: Call, job_id: JobIdPath, query: LogsQuery) -> StreamResponse: ...

    Route("GET", "/v1/jobs/{job_id}", get_job, access=reading(Scope.JOBS), errors=(NotFound,))

`call` is always there; `query` and `body` are pydantic models; every other parameter is a placeholder of the path,
with its type's validator. The answer is a response model (with the route's status), `Reply` of one (own status and
headers), None (204), or a StreamResponse (SSE, WebSocket, text). aiohttp's routes and /openapi.json come from the
same declarations; nothing is reachable that isn't declared, and nothing declared is open unless it says so.
"""

import inspect
import re
import typing
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, Generic, TypeVar

from aiohttp import web
from pydantic import BaseModel, TypeAdapter

from marketplace.api.fields import NoBody, QueryModel, RequestModel, ResponseModel
from marketplace.domain.ids import AccountId, NodeId
from marketplace.errors import MarketError, Unauthenticated
from marketplace.services.idempotency import KeyInUse
from marketplace.services.principals import AccountPrincipal, NodePrincipal, Principal, Scope

_M = TypeVar("_M", bound=ResponseModel)
_PLACEHOLDER: Final = re.compile(r"\{(\w+)(?::[^{}]+)?\}")
"""`{name}`, or `{name:.+}` for the rest of the path."""
MAX_BODY_BYTES: Final = 1 << 20
"""Specified: api.md section 1.2."""


class Family(Enum):
    """Route families; each has its own error body. Source: api.md section 2.1."""

    NATIVE = "native"
    INSTANCES = "001"
    """Instances and endpoints, after seed 001."""
    OPERATIONS = "operations"


class RateClass(Enum):
    """Who is counted, and how. Source: api.md section 3."""

    PRINCIPAL = "principal"
    """The account or node behind the credential; the client address where there is none."""
    CHALLENGE = "challenge"
    LOGIN = "login"
    UNCOUNTED = "uncounted"
    """Shows the principal's state without adding to it (heartbeats, control channel)."""
    UNLIMITED = "unlimited"
    """No limit and no headers: operations routes."""


@dataclass(frozen=True, slots=True)
class Access:
    """Who may call. No flag set: nobody but through `open_to_all`. scope: what an account's credential needs.

    instead: a scope that will do as well, for who may write something may read it.
    """

    accounts: bool = False
    nodes: bool = False
    everybody: bool = False
    scope: Scope | None = None
    instead: Scope | None = None


OPEN: Final = Access(everybody=True)
"""No authentication."""
NODE: Final = Access(nodes=True)
"""A node's own login; a `{node_id}` in the path must be the caller's own."""
LOGGED_IN: Final = Access(accounts=True)
"""Any login of an account, whatever its scopes."""


def scope(wanted: Scope) -> Access:
    """An account whose credential has this scope."""
    return Access(accounts=True, scope=wanted)


def reading(owner: Scope) -> Access:
    """An account whose credential may read everything, or write what is read here."""
    return Access(accounts=True, scope=Scope.READ, instead=owner)


def reading_or_node(owner: Scope) -> Access:
    """The same, or a node."""
    return Access(accounts=True, nodes=True, scope=Scope.READ, instead=owner)


def scope_or_node(wanted: Scope) -> Access:
    """An account whose credential has this scope, or a node."""
    return Access(accounts=True, nodes=True, scope=wanted)


@dataclass(frozen=True, slots=True)
class Reply(Generic[_M]):
    """An answer with its own status and headers."""

    body: _M
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Call:
    """One request, as a handler sees it.

    client_address: of the socket, or what a trusted proxy says. key: on idempotent routes, for `key.bind(tx)`.
    http: the request itself, for streams and sockets only.
    """

    request_id: str
    client_address: str
    principal: Principal | None
    key: KeyInUse | None
    http: web.Request

    @property
    def caller(self) -> Principal:
        """Whoever calls. Raises Unauthenticated on an open route."""
        if self.principal is None:
            raise Unauthenticated
        return self.principal

    @property
    def account(self) -> AccountPrincipal:
        """The account that calls. Raises Unauthenticated where it is not one."""
        if not isinstance(self.principal, AccountPrincipal):
            raise Unauthenticated
        return self.principal

    @property
    def account_id(self) -> AccountId:
        """Id of the account that calls."""
        return self.account.account_id

    @property
    def node(self) -> NodePrincipal:
        """The node that calls. Raises Unauthenticated where it is not one."""
        if not isinstance(self.principal, NodePrincipal):
            raise Unauthenticated
        return self.principal

    @property
    def node_id(self) -> NodeId:
        """Id of the node that calls."""
        return self.node.node_id

    @property
    def idempotency(self) -> KeyInUse:
        """The key of this call; only on routes declared idempotent."""
        if self.key is None:
            raise TypeError("this route is not declared idempotent")
        return self.key

    @property
    def head(self) -> bool:
        """Whether only headers are wanted: a stream must not begin."""
        return self.http.method == "HEAD"

    @property
    def last_event_id(self) -> str | None:
        """Where a stream resumes."""
        return self.http.headers.get("Last-Event-ID")

    def accepts(self, media_type: str) -> bool:
        """Whether the Accept header names this type (`*/*` doesn't)."""
        return media_type in self.http.headers.get("Accept", "")


Handler = Callable[..., Awaitable[Any]]


class RouteError(TypeError):
    """A declaration contradicts its handler's signature; raised at start."""


@dataclass(frozen=True)
class Route:
    """A declared route.

    status: of a plain model answer. errors: what a caller must expect beside the frame's own (400, 401, 429, 500).
    idempotent: the frame takes an Idempotency-Key. keep_answer: and replays the answer; without it the handler runs
    again under the same key and finds by it what it did (it binds the key itself).
    produces: media types of a streamed answer. takes: media types of a body that the handler reads itself, in pieces;
    a key binds to the query and to the body's announced type and length then.
    secrets: top-level fields that a replay shows for 5 minutes only.
    check: what else is wrong with a body (see `api.body_faults`), asked only beside faults of its form: what is sound
    the handler checks itself. The second argument are names that were left out. Raises Invalid.
    read_once: the body is read by its model alone, as the control channel reads its frames: for the many lines of a
    node, where a name that is given twice misleads nobody.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    access: Access
    status: int = 200
    errors: tuple[type[MarketError], ...] = ()
    idempotent: bool = False
    keep_answer: bool = True
    rate: RateClass = RateClass.PRINCIPAL
    family: Family = Family.NATIVE
    produces: tuple[str, ...] = ("application/json",)
    takes: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    check: Callable[[Any, frozenset[str]], None] | None = None
    read_once: bool = False
    max_body: int = MAX_BODY_BYTES
    documents: type[ResponseModel] | None = None
    body_model: type[RequestModel] | None = field(init=False, default=None)
    query_model: type[QueryModel] | None = field(init=False, default=None)
    response_model: type[ResponseModel] | None = field(init=False, default=None)
    path_parameters: Mapping[str, TypeAdapter[str]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Read the handler's signature. Raises RouteError."""
        hints = typing.get_type_hints(self.handler, include_extras=True)
        parameters = list(inspect.signature(self.handler).parameters)
        answer = hints.pop("return", Any)
        if not parameters or parameters[0] != "call" or hints.get("call") is not Call:
            raise RouteError(f"{self.name}: the first parameter is `call: Call`")
        path_parameters: dict[str, TypeAdapter[str]] = {}
        for name in parameters[1:]:
            if name == "body":
                self._set("body_model", _model(self, hints[name], RequestModel))
            elif name == "query":
                self._set("query_model", _model(self, hints[name], QueryModel))
            else:
                path_parameters[name] = TypeAdapter(hints[name])
        if set(path_parameters) != set(_PLACEHOLDER.findall(self.path)):
            raise RouteError(f"{self.name}: placeholders and parameters differ")
        self._set("path_parameters", path_parameters)
        self._set("response_model", _answer_model(self, answer) or self.documents)
        if self.takes and (self.body_model is not None or self.method == "GET"):
            raise RouteError(f"{self.name}: its body is read by the handler, or it is a model")
        if self.method != "GET" and self.body_model is None and not self.takes:
            self._set("body_model", NoBody)
        self._check()

    def _check(self) -> None:
        """Raise RouteError where declarations contradict each other."""
        if self.method == "GET" and (self.body_model is not None or self.idempotent):
            raise RouteError(f"{self.name}: a GET has no body and no key")
        if self.read_once and (self.idempotent or self.body_model is None or self.access.accounts):
            raise RouteError(f"{self.name}: only a node's body without a key is read once")
        if self.idempotent and not self.access.accounts:
            raise RouteError(f"{self.name}: a key belongs to an account")

    @property
    def name(self) -> str:
        """Method and path: the key's scope, the metric's label."""
        return f"{self.method} {self.path}"

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)


def _model(route: Route, hint: Any, base: type[BaseModel]) -> type[BaseModel]:
    if not (isinstance(hint, type) and issubclass(hint, base)):
        raise RouteError(f"{route.name}: {hint} is not a {base.__name__}")
    return hint


def _answer_model(route: Route, answer: Any) -> type[ResponseModel] | None:
    if answer is None or answer is type(None):
        return None
    if typing.get_origin(answer) is Reply:
        answer = typing.get_args(answer)[0]
    if isinstance(answer, type) and issubclass(answer, ResponseModel):
        return answer
    if isinstance(answer, type) and issubclass(answer, web.StreamResponse):
        return None
    raise RouteError(f"{route.name}: the answer is a ResponseModel, a Reply of one, None or a StreamResponse")
