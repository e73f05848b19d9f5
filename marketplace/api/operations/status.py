"""`/health` (seed 003's body), `/ready`, `/metrics`, `/openapi.json`."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

import orjson
from aiohttp import web

from marketplace.api.fields import QueryModel, ResponseModel, SecondsInstant
from marketplace.api.openapi import build_openapi
from marketplace.api.routes import OPEN, Call, Family, RateClass, Reply, Route
from marketplace.errors import Starting
from marketplace.metrics import Metrics
from marketplace.services.readiness import Readiness

_B = TypeVar("_B", bound=ResponseModel)


class HealthResponse(ResponseModel):
    """Seed 003's body; values of `services` are text. `store` and `chain` are ours."""

    status: Literal["ok", "unavailable"]
    timestamp: SecondsInstant
    services: dict[str, str]


class ReadyResponse(ResponseModel):
    """Seed 003's body, at 200 and 503."""

    ready: bool
    timestamp: SecondsInstant


class OpenApiQuery(QueryModel):
    family: Family | None = None


def status_routes(
    readiness: Readiness, metrics: Metrics, routes: Callable[[], Sequence[Route]], *, version: str, server_url: str
) -> list[Route]:
    """Operations routes. routes: all declared ones, these included."""
    documents: dict[Family | None, bytes] = {}

    async def health(call: Call) -> Reply[HealthResponse]:
        del call
        report = await readiness.report()
        services = {
            "lifecycle": report.lifecycle.value,
            # What can be sold is read from the store: they are well together.
            "inventory": _word(report.parts.get("inventory", report.parts.get("store", False))),
            "ready": "true" if report.well else "false",
            **{name: _word(well) for name, well in report.parts.items() if name != "inventory"},
        }
        body = HealthResponse(status="ok" if report.well else "unavailable", timestamp=report.at, services=services)
        return _reply(body, well=report.well)

    async def ready(call: Call) -> Reply[ReadyResponse]:
        del call
        return _reply(ReadyResponse(ready=readiness.ready, timestamp=readiness.now), well=readiness.ready)

    async def scrape(call: Call) -> web.Response:
        del call
        page, content_type = metrics.exposition()
        return web.Response(body=page, headers={"Content-Type": content_type})

    async def openapi(call: Call, query: OpenApiQuery) -> web.Response:
        del call
        if query.family not in documents:
            document: dict[str, Any] = build_openapi(
                routes(), title="Reaver market", version=version, server_url=server_url, family=query.family
            )
            documents[query.family] = orjson.dumps(document)
        return web.Response(body=documents[query.family], content_type="application/json")

    def operation(path: str, handler: Any, summary: str, **more: Any) -> Route:
        return Route("GET", path, handler, summary, OPEN, rate=RateClass.UNLIMITED, family=Family.OPERATIONS, **more)

    return [
        operation("/health", health, "Is the process alive, and its parts", errors=(Starting,)),
        operation("/ready", ready, "May it be sent work", errors=(Starting,)),
        operation("/metrics", scrape, "Prometheus metrics", produces=("text/plain",)),
        operation("/openapi.json", openapi, "This document"),
    ]


def _word(well: bool) -> str:  # noqa: FBT001 - one value, two words
    return "ok" if well else "unavailable"


def _reply(body: _B, *, well: bool) -> Reply[_B]:
    """503 with Retry-After where it is not well: a probe sees the start-up sweep."""
    return Reply(body) if well else Reply(body, status=503, headers={"Retry-After": "2"})
