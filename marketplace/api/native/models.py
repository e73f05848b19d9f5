"""`/v1/models`: read by everybody, put and deleted by admins. Source: api.md section 5.4."""

import json
from typing import Annotated, Any

from pydantic import StringConstraints

from marketplace.api.fields import Page, RequestModel, ResponseModel
from marketplace.api.routes import Call, Reply, Route, reading, scope
from marketplace.domain.catalogue import UnknownName
from marketplace.domain.models import Model
from marketplace.errors import Invalid, NotFound, QuotaExceeded, ReadOnly, TooLarge
from marketplace.redaction import echo
from marketplace.services.model_registry import ModelRegistry
from marketplace.services.models import MODEL_NAME, ModelEntry
from marketplace.services.principals import Scope

ModelName = Annotated[str, StringConstraints(pattern=MODEL_NAME)]


class ModelRequest(RequestModel, ModelEntry):
    """A model as a table of the operator's file says it."""


class ModelView(ResponseModel):
    """command: what a job of it runs unless it says otherwise, null for the image's own. With image, class, time and
    least VRAM it makes the specification that the escrow's hash stands for, so that a client can compute that itself.
    """

    name: str
    image: str
    command: list[str] | None
    description: str
    default_gpu: str
    min_vram_gb: int
    default_timeout_seconds: int
    estimated_time_seconds: int
    formats: list[str]
    input_schema: dict[str, Any]


class ModelList(ResponseModel):
    models: list[ModelView]
    total: int
    has_more: bool


def model_routes(models: ModelRegistry) -> list[Route]:
    """List, read, put, delete."""

    async def list_models(call: Call, query: Page) -> ModelList:
        del call
        every = list(models.catalogue)
        shown = every[query.offset : query.offset + query.limit]
        return ModelList(
            models=[_view(model) for model in shown],
            total=len(every),
            has_more=query.offset + len(shown) < len(every),
        )

    async def get_model(call: Call, name: str) -> ModelView:
        del call
        try:
            return _view(models.catalogue.get(name))
        except UnknownName as error:
            raise NotFound(
                f"there is no model {echo(name)}; GET /v1/models lists what there is", extra={"resource": "model"}
            ) from error

    async def put_model(call: Call, name: ModelName, body: ModelRequest) -> Reply[ModelView]:
        model, new = await models.put(call.account, name, body)
        return Reply(_view(model), status=201 if new else 200, headers={"Location": f"/v1/models/{name}"})

    async def delete_model(call: Call, name: ModelName) -> None:
        await models.delete(call.account, name)

    access, admin = reading(Scope.JOBS), scope(Scope.ADMIN)
    return [
        Route("GET", "/v1/models", list_models, "Models that a job may name", access, errors=(Invalid,)),
        Route("GET", "/v1/models/{name}", get_model, "A model", access, errors=(NotFound,)),
        Route(
            "PUT", "/v1/models/{name}", put_model, "Let jobs name a model, or another one by this name", admin,
            errors=(Invalid, ReadOnly, TooLarge, QuotaExceeded),
        ),
        Route(
            "DELETE", "/v1/models/{name}", delete_model, "Let no job name it any more; those that did go on", admin,
            status=204, errors=(NotFound, ReadOnly),
        ),
    ]  # fmt: skip


def _view(model: Model) -> ModelView:
    return ModelView(
        name=model.name,
        image=model.image,
        command=None if model.command is None else list(model.command),
        description=model.description,
        default_gpu=model.default_class,
        min_vram_gb=model.min_vram_gb,
        default_timeout_seconds=model.default_timeout_s,
        estimated_time_seconds=model.estimated_time_s,
        formats=list(model.formats),
        input_schema=json.loads(model.input_schema),
    )
