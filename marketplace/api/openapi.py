"""The OpenAPI 3.1 document, from the same declarations that serve the requests."""

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from marketplace.api.fields import NoBody
from marketplace.api.problems import status_in
from marketplace.api.routes import Family, RateClass, Route
from marketplace.errors import (
    Code,
    DetailCode,
    Forbidden,
    IdempotencyInProgress,
    IdempotencyKeyReused,
    InternalError,
    Invalid,
    Malformed,
    MarketError,
    NotFound,
    RateLimited,
    Starting,
    TokenExpired,
    TooLarge,
    Unauthenticated,
    UnsupportedMedia,
)

_REF: Final = "#/components/schemas/{model}"
_DESCRIPTION: Final = (
    "HEAD is answered wherever GET is, with the same headers. Errors are a closed table of codes: the body's `error` "
    "(`error_type` of operations routes) is for programs, the rest for people."
)
_DETAILS: Final = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["field", "code", "message"],
        "properties": {
            "field": {"type": "string"},
            "code": {"type": "string", "enum": [code.value for code in DetailCode]},
            "message": {"type": "string"},
            "allowed": {"type": "array", "items": {"type": "string"}},
            "suggestions": {"type": "array", "items": {"type": "string"}},
        },
    },
}
_PROBLEMS: Final = {
    Family.NATIVE: "Problem",
    Family.INSTANCES: "InstancesProblem",
    Family.OPERATIONS: "OperationsProblem",
}
"""Each family's schema of an error."""
_RATE_HEADERS: Final = {
    name: {"schema": {"type": "integer"}, "description": text}
    for name, text in (
        ("X-RateLimit-Limit", "Requests the tightest window admits."),
        ("X-RateLimit-Remaining", "Requests left in it."),
        ("X-RateLimit-Reset", "Unix seconds at which it ends."),
    )
}


def build_openapi(
    routes: Sequence[Route], *, title: str, version: str, server_url: str, family: Family | None = None
) -> dict[str, Any]:
    """The document for all routes, or for one family's."""
    chosen = [route for route in routes if family is None or route.family is family]
    models = _models(chosen)
    schema_of, definitions = models_json_schema(models, ref_template=_REF)
    schemas: dict[str, Any] = dict(definitions.get("$defs", {}))
    schemas["Problem"] = _native_problem()
    schemas["InstancesProblem"] = _instances_problem()
    schemas["OperationsProblem"] = _operations_problem()
    paths: dict[str, Any] = {}
    problems: dict[str, Any] = {}
    for route in chosen:
        operation = _operation(route, {key: schema_of[key] for key in models}, problems)
        paths.setdefault(_plain_path(route.path), {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version, "description": _DESCRIPTION},
        "servers": [{"url": server_url}],
        "tags": [{"name": name} for name in sorted({_subject(route) for route in chosen})],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": problems,
            "headers": _RATE_HEADERS,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


_Keyed = tuple[type[BaseModel], Literal["validation", "serialization"]]


def _models(routes: Sequence[Route]) -> list[_Keyed]:
    models: dict[_Keyed, None] = {}
    for route in routes:
        if route.body_model is not None and route.body_model is not NoBody:
            models[(route.body_model, "validation")] = None
        if route.response_model is not None:
            models[(route.response_model, "serialization")] = None
    return list(models)


def _plain_path(path: str) -> str:
    """`{name:.+}` is `{name}` to readers: OpenAPI knows no expressions in a path."""
    return re.sub(r"\{(\w+):[^{}]+\}", r"{\1}", path)


def _subject(route: Route) -> str:
    """What the route is about, for readers: the first word of its path after the version."""
    words = [word for word in route.path.split("/") if word and word not in {"v1", "v2"}]
    return "operations" if route.family is Family.OPERATIONS else words[0]


def _operation(route: Route, schema_of: Mapping[_Keyed, Any], problems: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.method.lower() + re.sub(r"[{}]", "", _plain_path(route.path)).replace("/", "_"),
        "summary": route.summary,
        "tags": [_subject(route)],
        "x-family": route.family.value,
        "parameters": _parameters(route),
        "responses": _responses(route, schema_of, problems),
    }
    if route.access.everybody:
        operation["security"] = []
    else:
        operation["security"] = [{"bearer": []}]
        if route.access.scope is not None:
            operation["x-scope"] = str(route.access.scope)
    if route.takes:
        schema = {"type": "string", "format": "binary"}
        operation["requestBody"] = {"required": True, "content": {kind: {"schema": schema} for kind in route.takes}}
    if route.body_model is not None and route.body_model is not NoBody:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema_of[(route.body_model, "validation")]}},
        }
    return operation


def _parameters(route: Route) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": adapter.json_schema()}
        for name, adapter in route.path_parameters.items()
    ]
    if route.query_model is not None:
        schema = route.query_model.model_json_schema()
        required = set(schema.get("required", ()))
        parameters += [
            {"name": name, "in": "query", "required": name in required, "schema": _inline(entry, schema)}
            for name, entry in schema.get("properties", {}).items()
        ]
    if route.idempotent:
        parameters.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[\x21-\x7e]+$"},
            }
        )
    return parameters


def _inline(entry: Any, schema: Mapping[str, Any]) -> Any:
    """A parameter's schema with its references replaced: parameters stand alone."""
    if isinstance(entry, dict):
        if "$ref" in entry:
            return _inline(schema["$defs"][entry["$ref"].rpartition("/")[2]], schema)
        return {name: _inline(value, schema) for name, value in entry.items()}
    if isinstance(entry, list):
        return [_inline(value, schema) for value in entry]
    return entry


def _responses(route: Route, schema_of: Mapping[_Keyed, Any], problems: dict[str, Any]) -> dict[str, Any]:
    """Answers by status. problems: takes the errors, which many routes share."""
    limited = route.rate is not RateClass.UNLIMITED
    headers = {name: {"$ref": f"#/components/headers/{name}"} for name in _RATE_HEADERS} if limited else {}
    answer: dict[str, Any] = {"description": HTTPStatus(route.status).phrase, "headers": headers}
    if route.response_model is not None:
        answer["content"] = {"application/json": {"schema": schema_of[(route.response_model, "serialization")]}}
    elif route.status != HTTPStatus.NO_CONTENT:
        answer["content"] = {media: {} for media in route.produces}
    responses: dict[str, Any] = {str(route.status): answer}
    problem = _PROBLEMS[route.family]
    by_status: dict[int, list[str]] = {}
    for code in _codes(route):
        by_status.setdefault(status_in(route.family, code.public, code.status), []).append(code.public)
    for status, codes in sorted(by_status.items()):
        name = ".".join((problem, str(status), *codes))
        problems[name] = {
            "description": f"{HTTPStatus(status).phrase}: {', '.join(codes)}",
            "headers": headers,
            "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{problem}"}}},
        }
        responses[str(status)] = {"$ref": f"#/components/responses/{name}"}
    return responses


def _codes(route: Route) -> list[Code]:
    """Codes of the route's own errors and of those the frame adds, without repetition."""
    errors: list[type[MarketError]] = [*route.errors, InternalError, Malformed]
    if not route.access.everybody:
        errors += [Unauthenticated, TokenExpired, Forbidden]
    if route.rate is not RateClass.UNLIMITED:
        errors.append(RateLimited)
    if route.path_parameters:
        errors.append(NotFound)
    if route.body_model is not None:
        errors += [TooLarge, UnsupportedMedia]
    if route.body_model is not None or route.query_model is not None or route.path_parameters:
        errors.append(Invalid)
    if route.idempotent:
        errors += [IdempotencyInProgress, IdempotencyKeyReused, Starting]
    return list(dict.fromkeys(error.code for error in errors))


def _native_problem() -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["error", "message", "status", "request_id", "retryable"],
        "properties": {
            "error": {"type": "string", "enum": [code.public for code in Code]},
            "message": {"type": "string"},
            "status": {"type": "integer"},
            "request_id": {"type": "string"},
            "retryable": {"type": "boolean"},
            "details": _DETAILS,
        },
        "additionalProperties": True,
    }


def _instances_problem() -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["code", "type", "message", "reason", "request_id"],
                "properties": {
                    "code": {"type": "integer"},
                    "type": {"type": "string"},
                    "message": {"type": "string"},
                    "reason": {"type": "string", "enum": [code.public for code in Code]},
                    "request_id": {"type": "string"},
                    "details": _DETAILS,
                },
                "additionalProperties": True,
            }
        },
    }


def _operations_problem() -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["error", "request_id", "error_type", "retry_suggested"],
        "properties": {
            "error": {"type": "string"},
            "request_id": {"type": "string"},
            "error_type": {"type": "string", "enum": [code.public for code in Code]},
            "retry_suggested": {"type": "boolean"},
        },
        "additionalProperties": True,
    }
