"""The operator's file of models, and what a job that names one of them is completed with."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from marketplace.domain.catalogue import UnknownName, find_class
from marketplace.domain.input_schemas import FaultKind, File, check_schema, faults
from marketplace.domain.models import Model, ModelCatalogue
from marketplace.errors import Detail, DetailCode, Invalid, SettingsError, TooLarge
from marketplace.protocol.inputs import read_input
from marketplace.services.job_orders import MAX_SECONDS, Order, OrderFields, is_reference, read_order

ARCHIVE: Final = "archive"
"""Whatever a model gives can be packed."""
_CODES: Final = {
    FaultKind.MISSING: DetailCode.REQUIRED,
    FaultKind.UNKNOWN: DetailCode.UNKNOWN_FIELD,
    FaultKind.RANGE: DetailCode.OUT_OF_RANGE,
    FaultKind.WRONG: DetailCode.NOT_ALLOWED,
}
MODEL_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"


class ModelEntry(BaseModel):
    """What is said of a model: a table of the file, the body of its PUT; the names are those of its GET."""

    model_config = ConfigDict(extra="forbid", strict=True)

    image: str
    description: str = Field(min_length=1, max_length=1000)
    default_gpu: str
    command: list[str] | None = None
    min_vram_gb: int = Field(default=0, ge=0)
    default_timeout_seconds: int = Field(default=3_600, ge=1, le=MAX_SECONDS)
    estimated_time_seconds: int = Field(default=60, ge=1, le=MAX_SECONDS)
    formats: Annotated[list[Literal["json", "text", "binary", "archive"]], Field(min_length=1)] = ["json"]
    input_schema: dict[str, Any] = Field(default_factory=dict)


class _Name(BaseModel):
    name: Annotated[str, StringConstraints(pattern=MODEL_NAME)]


def load_models(path: Path | None) -> ModelCatalogue:
    """The models of a TOML file, a table each; none without a file. Raises SettingsError with what is wrong where."""
    if path is None:
        return ModelCatalogue()
    try:
        tables = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise SettingsError(f"models: {path} can't be read: {error}") from error
    try:
        return ModelCatalogue([_declared(name, table) for name, table in tables.items()])
    except ValueError as error:
        raise SettingsError(f"models: {path}: {error}") from error


def complete(fields: OrderFields, models: ModelCatalogue, *, input_needed: bool = True) -> OrderFields:
    """The fields with what the named model supplies; what the job says itself stands. Raises Invalid.

    input_needed: False for a quote, which may be asked for before there is an input.
    """
    if fields.model is None:
        return fields
    if fields.image is not None:
        raise Invalid.field("model", DetailCode.CONFLICT, "name an image or a model, not both")
    try:
        model = models.get(fields.model)
    except UnknownName as unknown:
        raise Invalid.field(
            "model", DetailCode.UNKNOWN_MODEL, "is no model we know; GET /v1/models lists them",
            suggestions=unknown.suggestions,
        ) from unknown  # fmt: skip
    offered = (*model.formats, *(() if ARCHIVE in model.formats else (ARCHIVE,)))
    wrong = _input_faults(fields, model, needed=input_needed)
    if fields.output.format not in offered:
        message = f"is nothing that {model.name} gives"
        wrong.insert(0, Detail("output_config.format", DetailCode.NOT_ALLOWED, message, allowed=offered))
    if wrong:
        raise Invalid.of(wrong)
    classless = not (fields.gpu or fields.gpu_type or fields.gpu_types)
    timeless = fields.max_minutes is None and fields.timeout_seconds is None and fields.seconds is None
    return replace(
        fields,
        model=model.name,
        image=model.image,
        command=model.command if fields.command is None else fields.command,
        gpu=model.default_class if classless else fields.gpu,
        min_vram_gb=max(fields.min_vram_gb or 0, model.min_vram_gb) or fields.min_vram_gb,
        timeout_seconds=model.default_timeout_s if timeless else fields.timeout_seconds,
        estimated_seconds=model.estimated_time_s,
    )


def read_whole_order(
    fields: OrderFields, models: ModelCatalogue, *, decimals: int, image_needed: bool = True, input_needed: bool = True
) -> Order:
    """The order that these fields make, completed by their model. Raises Invalid with every wrong field of both."""
    try:
        completed = complete(fields, models, input_needed=input_needed)
    except Invalid as wrong:
        found = list(wrong.details)
        try:
            read_order(fields, decimals=decimals, image_needed=False)
        except TooLarge:
            pass  # said once the rest is right
        except Invalid as more:
            # What is missing may be what the model would have supplied.
            told = {detail.field for detail in found}
            found += [d for d in more.details if d.field not in told and d.code is not DetailCode.REQUIRED]
        raise Invalid.of(found) from wrong
    return read_order(completed, decimals=decimals, image_needed=image_needed)


def _input_faults(fields: OrderFields, model: Model, *, needed: bool) -> list[Detail]:
    """What the model could not take, before anything is paid. What lies in a file only the model sees."""
    schema = json.loads(model.input_schema)
    if not schema or (fields.input is None and not needed):
        return []
    if fields.input is None:
        message = f"is needed by {model.name}; GET /v1/models/{model.name} says what"
        return [Detail("input", DetailCode.REQUIRED, message)]
    try:
        given = read_input(fields.input)
    except (ValueError, TypeError, RecursionError):
        return []  # said with all else that is wrong with the order
    if given is None:
        return []
    value = fields.input
    if given.job_input.kind in {"file", "url"}:
        value = File.GIVEN
    elif given.job_input.kind == "text" and isinstance(value, dict):
        value = value["text"]
    return [Detail(f"input.{each.path}".rstrip("."), _CODES[each.kind], each.message) for each in faults(schema, value)]


def read_model(name: str, entry: ModelEntry) -> Model:
    """The model of this name, checked. Raises Invalid with every wrong field, within the entry."""
    found: list[Detail] = []
    default_class = ""
    try:
        default_class = find_class(entry.default_gpu).id
    except UnknownName as unknown:
        message = f"{unknown.name} is no class (near: {', '.join(unknown.suggestions) or 'none'})"
        found.append(Detail("default_gpu", DetailCode.UNKNOWN_GPU, message, suggestions=unknown.suggestions))
    try:
        check_schema(entry.input_schema)
    except ValueError as error:
        found.append(Detail("input_schema", DetailCode.NOT_ALLOWED, str(error)))
    if not is_reference(entry.image):
        message = f"{entry.image!r} is not an image reference such as docker.io/org/name:tag"
        found.append(Detail("image", DetailCode.NOT_ALLOWED, message))
    if found:
        raise Invalid.of(found)
    return Model(
        name=name,
        image=entry.image,
        description=entry.description,
        default_class=default_class,
        command=None if entry.command is None else tuple(entry.command),
        min_vram_gb=entry.min_vram_gb,
        default_timeout_s=entry.default_timeout_seconds,
        estimated_time_s=entry.estimated_time_seconds,
        formats=tuple(entry.formats),
        input_schema=_json(entry.input_schema),
    )


def _declared(name: str, table: object) -> Model:
    """A model of the file. Raises ValueError with what is wrong where."""
    try:
        _Name.model_validate({"name": name})
        return read_model(name, ModelEntry.model_validate(table))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ValueError(f"[{name}] {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except Invalid as wrong:
        raise ValueError(f"[{name}] {wrong.details[0].field}: {wrong.details[0].message}") from wrong


def _json(schema: Mapping[str, Any]) -> str:
    return json.dumps(schema, separators=(",", ":"))
