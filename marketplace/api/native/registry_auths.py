"""Logins at image registries: `/v1/registry-auth`, and `/registry-auth` as seed 001 has it. Source: api.md section 6.6.

A password goes in and never comes out: it reaches a node sealed to its key, for the pull.
"""

from typing import Annotated, Any, Final

import orjson
from aiohttp import web
from pydantic import Field, StringConstraints

from marketplace.api.fields import MillisInstant, Page, RegistryAuthIdPath, RequestModel, ResponseModel, millis_text
from marketplace.api.routes import Call, Family, Reply, Route, reading, scope
from marketplace.domain.ids import RegistryAuthId
from marketplace.domain.quantities import Millis
from marketplace.errors import AlreadyExists, InUse, Invalid, NotFound, QuotaExceeded
from marketplace.services.job_secrets import SecretService
from marketplace.services.principals import Scope
from marketplace.store.job_secrets import RegistryAuth

_HOST: Final = r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?(:[0-9]{1,5})?$"


class RegistryAuthRequest(RequestModel):
    """registry: host[:port] that it is for; any that an image names, where it is left out."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    username: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    password: Annotated[str, StringConstraints(min_length=1, max_length=8192)] = Field(repr=False)
    registry: Annotated[str, StringConstraints(pattern=_HOST)] | None = None


class RegistryAuthView(ResponseModel):
    id: str
    name: str
    username: str
    registry: str | None
    created_at: MillisInstant


class RegistryAuthList(ResponseModel):
    registry_auths: list[RegistryAuthView]
    total: int
    has_more: bool


class CreatedAuth(ResponseModel):
    """As seed 001 answers."""

    id: str
    name: str


def registry_auth_routes(secrets: SecretService) -> list[Route]:
    """Make, list, delete; in both families."""

    async def create(call: Call, body: RegistryAuthRequest) -> Reply[RegistryAuthView]:
        return Reply(_view(await _create(secrets, call, body)), status=201)

    async def list_auths(call: Call, query: Page) -> RegistryAuthList:
        found = await secrets.list_auths(call.account_id)
        shown = found[query.offset : query.offset + query.limit]
        return RegistryAuthList(
            registry_auths=[_view(auth) for auth in shown],
            total=len(found),
            has_more=query.offset + len(shown) < len(found),
        )

    async def delete(call: Call, registry_auth_id: RegistryAuthIdPath) -> None:
        await secrets.delete_auth(call.account_id, RegistryAuthId(registry_auth_id))

    async def create_001(call: Call, body: RegistryAuthRequest) -> Reply[CreatedAuth]:
        auth = await _create(secrets, call, body)
        return Reply(CreatedAuth(id=auth.id, name=auth.name), status=201)

    async def list_001(call: Call) -> web.Response:
        found = await secrets.list_auths(call.account_id)
        return web.Response(
            body=orjson.dumps([_plain(auth) for auth in found]),
            content_type="application/json",
            headers={"X-Total-Count": str(len(found))},
        )

    async def delete_001(call: Call, auth_id: RegistryAuthIdPath) -> None:
        await secrets.delete_auth(call.account_id, RegistryAuthId(auth_id))

    creating = (Invalid, AlreadyExists, QuotaExceeded)
    deleting = (NotFound, InUse)
    may, read, instances = scope(Scope.COMPUTE), reading(Scope.COMPUTE), Family.INSTANCES
    return [
        Route(
            "POST", "/v1/registry-auth", create, "Keep a login at an image registry", may,
            status=201, idempotent=True, errors=creating,
        ),
        Route("GET", "/v1/registry-auth", list_auths, "Logins at image registries", read, errors=(Invalid,)),
        Route(
            "DELETE", "/v1/registry-auth/{registry_auth_id}", delete, "Forget a login", may, status=204,
            errors=deleting,
        ),
        Route(
            "POST", "/registry-auth", create_001, "Keep a login at an image registry", may,
            status=201, idempotent=True, errors=creating, family=instances,
        ),
        Route("GET", "/registry-auth", list_001, "Logins at image registries", read, family=instances),
        Route(
            "DELETE", "/registry-auth/{auth_id}", delete_001, "Forget a login", may, status=204,
            errors=deleting, family=instances,
        ),
    ]  # fmt: skip


async def _create(secrets: SecretService, call: Call, body: RegistryAuthRequest) -> RegistryAuth:
    return await secrets.create_auth(call.account_id, body.name, body.username, body.password, body.registry)


def _view(auth: RegistryAuth) -> RegistryAuthView:
    return RegistryAuthView(
        id=auth.id,
        name=auth.name,
        username=auth.username,
        registry=auth.host,
        created_at=Millis(auth.created_at_ms),
    )


def _plain(auth: RegistryAuth) -> dict[str, Any]:
    return {
        "id": auth.id,
        "name": auth.name,
        "username": auth.username,
        "createdAt": millis_text(Millis(auth.created_at_ms)),
    }
