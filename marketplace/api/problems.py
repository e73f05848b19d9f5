"""Errors as each family writes them. Source: api.md section 2.1. Secrets are cut out here, for every family."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Any, Final

import orjson
from aiohttp import web
from pydantic import ValidationError

from marketplace.api.fields import NO_SUCH_ID
from marketplace.api.routes import Family
from marketplace.errors import (
    Code,
    Detail,
    DetailCode,
    InternalError,
    Invalid,
    Malformed,
    MarketError,
    MethodNotAllowed,
    NotFound,
    Problem,
    TooLarge,
    UnsupportedMedia,
)
from marketplace.redaction import echo, redact

MAX_FINDINGS: Final = 1_000
"""Chosen: to list 50,000 takes 0.2 to 0.35 s on one core, in which nobody else is served."""
_DETAIL_CODES: Final = {code.value: code for code in DetailCode}
_RANGE_ERRORS: Final = frozenset(
    {
        "greater_than",
        "greater_than_equal",
        "less_than",
        "less_than_equal",
        "multiple_of",
        "string_too_short",
        "string_too_long",
        "too_short",
        "too_long",
        "bytes_too_long",
    }
)
_OUR_WORDS: Final = re.compile(r"^(?:Input|String|List|Dictionary|Set|Tuple|Value) should ")
"""How pydantic begins: the field stands before it in our messages."""
_INSTANCES_PATHS: Final = frozenset(
    {"auth", "me", "instances", "endpoints", "volumes", "templates", "registry-auth", "billing", "v2"}
)
_INSTANCES_TYPES: Final = {
    400: "bad_request",
    401: "unauthorized",
    402: "payment_required",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    410: "gone",
    413: "payload_too_large",
    415: "unsupported_media_type",
    429: "rate_limited",
    503: "unavailable",
}
"""First parts of paths, and types of errors, of the family of seed 001. Specified: api.md sections 1.1 and 2.1."""
_OPERATIONS_PATHS: Final = frozenset({"/health", "/ready", "/metrics", "/openapi.json"})


def family_of(path: str) -> Family:
    """Which family's error shape a path has, declared or not."""
    if path in _OPERATIONS_PATHS:
        return Family.OPERATIONS
    return Family.INSTANCES if path.split("/", 2)[1] in _INSTANCES_PATHS else Family.NATIVE


def status_in(family: Family, code: str, status: int) -> int:
    """The status that a family answers where the table of codes says `status`."""
    if family is not Family.NATIVE and status == HTTPStatus.UNPROCESSABLE_ENTITY:
        # Seed 001 lists no 422, seed 003 says 400 for invalid parameters.
        return HTTPStatus.BAD_REQUEST
    if family is Family.INSTANCES and code == Code.NO_CAPACITY.public:
        # Seed 001: its state conflicts with the request.
        return HTTPStatus.CONFLICT
    return status


def render(problem: Problem, family: Family, request_id: str) -> web.Response:
    """The published error body with its headers."""
    problem = replace(problem, status=status_in(family, problem.code, problem.status))
    headers = {}
    if problem.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, problem.retry_after_s))
    if problem.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if problem.status == HTTPStatus.METHOD_NOT_ALLOWED and "allowed" in problem.extra:
        headers["Allow"] = ", ".join(str(method) for method in _items(problem.extra["allowed"]))
    if problem.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and "size" in problem.extra:
        headers["Content-Range"] = f"bytes */{problem.extra['size']}"
    body = _BODIES[family](problem, request_id)
    return web.Response(
        status=problem.status, headers=headers, body=orjson.dumps(body), content_type="application/json"
    )


def problem_of(error: MarketError) -> Problem:
    """The error for a renderer. A fault of ours says nothing of its cause: that is in the log."""
    return InternalError().problem() if error.code is Code.INTERNAL_ERROR else error.problem()


def framework_error(error: web.HTTPException) -> MarketError:
    """Aiohttp's own refusals as ours."""
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = sorted(error.allowed_methods)
        return MethodNotAllowed(f"this path takes {', '.join(allowed)}", extra={"allowed": allowed})
    if isinstance(error, web.HTTPNotFound):
        return NotFound("there is no such route; GET /openapi.json lists those there are")
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return TooLarge()
    if isinstance(error, web.HTTPUnsupportedMediaType):
        return UnsupportedMedia()
    if HTTPStatus.BAD_REQUEST <= error.status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return Malformed()
    return InternalError()


def invalid_path(name: str, error: ValidationError) -> MarketError:
    """A path parameter of the wrong form: an id that can't exist is not found, anything else is invalid."""
    if any(item["type"] == NO_SUCH_ID for item in error.errors(include_url=False)):
        return NotFound()
    return invalid(error, within=name)


def invalid(error: ValidationError, *, within: str = "body") -> Invalid:
    """Pydantic's findings as details: each names its field and what is wrong. Beyond MAX_FINDINGS they are counted.

    within: the name of what was validated, for a finding about the whole of it.
    """
    return Invalid.of(findings(error, within=within))


def findings(error: ValidationError, *, within: str = "body") -> tuple[Detail, ...]:
    """The same, all of them."""
    if error.error_count() > MAX_FINDINGS:
        message = f"has {error.error_count()} faults: too many to be told"
        return (Detail(within, DetailCode.NOT_ALLOWED, message),)
    return tuple(_detail(item, within) for item in error.errors(include_url=False, include_input=False))


def _detail(item: Mapping[str, Any], within: str) -> Detail:
    kind = str(item["type"])
    name = echo(".".join(str(part) for part in item["loc"])) or within
    context = item.get("ctx") or {}
    message = echo(_OUR_WORDS.sub("must ", str(item["msg"])))
    allowed = tuple(str(value) for value in context.get("allowed", ()))
    if kind in _DETAIL_CODES:
        code = _DETAIL_CODES[kind]
    elif kind == "missing":
        code, message = DetailCode.REQUIRED, "is required"
    elif kind == "extra_forbidden":
        code, message = DetailCode.UNKNOWN_FIELD, "is not a field of this request"
    elif kind in _RANGE_ERRORS:
        code = DetailCode.OUT_OF_RANGE
    else:
        code = DetailCode.NOT_ALLOWED
        if kind in {"enum", "literal_error"}:
            allowed = tuple(
                word.strip(" '") for word in str(context.get("expected", "")).replace(" or ", ",").split(",")
            )
            message = "is none of the words" if len(allowed) > 1 else message
    return Detail(name, code, message, allowed, tuple(str(value) for value in context.get("suggestions", ())))


def _native(problem: Problem, request_id: str) -> dict[str, object]:
    return {
        "error": problem.code,
        "message": _line(problem.message),
        "status": problem.status,
        "request_id": request_id,
        "retryable": problem.retryable,
        **({"details": [_plain_detail(detail) for detail in problem.details]} if problem.details else {}),
        **problem.extra,
    }


def _instances(problem: Problem, request_id: str) -> dict[str, object]:
    return {
        "error": {
            "code": problem.status,
            "type": _INSTANCES_TYPES.get(problem.status, "internal_error"),
            "message": _line(problem.message),
            "reason": problem.code,
            "request_id": request_id,
            **({"details": [_plain_detail(detail) for detail in problem.details]} if problem.details else {}),
            **problem.extra,
        }
    }


def _operations(problem: Problem, request_id: str) -> dict[str, object]:
    return {
        "error": _line(problem.message),
        "request_id": request_id,
        "error_type": problem.code,
        "retry_suggested": problem.retryable,
        **problem.extra,
    }


_BODIES: Final[Mapping[Family, Callable[[Problem, str], dict[str, object]]]] = {
    Family.NATIVE: _native,
    Family.INSTANCES: _instances,
    Family.OPERATIONS: _operations,
}


def _plain_detail(detail: Detail) -> dict[str, object]:
    plain: dict[str, object] = {
        "field": detail.field,
        "code": detail.code.value,
        "message": _line(detail.message),
    }
    if detail.allowed:
        plain["allowed"] = list(detail.allowed)
    if detail.suggestions:
        plain["suggestions"] = list(detail.suggestions)
    return plain


def _line(text: str) -> str:
    return redact(" ".join(text.split()))


def _items(value: object) -> list[object]:
    return list(value) if isinstance(value, (list, tuple)) else []
