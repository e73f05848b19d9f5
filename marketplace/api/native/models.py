"""`GET /v1/models`, `GET /v1/models/{name}`. Source: api.md section 5.4."""

import json
from typing import Any

from marketplace.api.fields import Page, ResponseModel
from marketplace.api.routes import Call, Route, reading
from marketplace.domain.catalogue import UnknownName
from marketplace.domain.models import Model, ModelCatalogue
from marketplace.errors import Invalid, NotFound
from marketplace.services.principals import Scope


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


def model_routes(models: ModelCatalogue) -> list[Route]:
    """List and read; the entries are the operator's."""

    async def list_models(call: Call, query: Page) -> ModelList:
        del call
        every = list(models)
        shown = every[query.offset : query.offset + query.limit]
        return ModelList(
            models=[_view(model) for model in shown],
            total=len(every),
            has_more=query.offset + len(shown) < len(every),
        )

    async def get_model(call: Call, name: str) -> ModelView:
        del call
        try:
            return _view(models.get(name))
        except UnknownName as error:
            raise NotFound from error

    access = reading(Scope.JOBS)
    return [
        Route("GET", "/v1/models", list_models, "Models that a job may name", access, errors=(Invalid,)),
        Route("GET", "/v1/models/{name}", get_model, "A model", access, errors=(NotFound,)),
    ]


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
