"""Models as an admin gives them to a market: tables of a file, in the words of `GET /v1/models/{name}`."""

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """What is said of a model; None leaves it to the market. The market checks the values."""

    image: str | None = None
    description: str | None = None
    default_gpu: str | None = None
    command: tuple[str, ...] | None = None
    min_vram_gb: int | None = None
    default_timeout_seconds: int | None = None
    estimated_time_seconds: int | None = None
    formats: tuple[str, ...] | None = None
    input_schema: dict[str, Any] | None = None

    def body(self) -> dict[str, object]:
        """As it is sent."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in given.items()
            if value is not None
        }


def read_entries(path: Path) -> dict[str, ModelEntry]:
    """The models of a TOML file, a table each, by name. Raises ValueError, OSError."""
    known = {field.name for field in fields(ModelEntry)}
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not TOML: {error}") from error
    entries = {}
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise ValueError(f"{path}: {name} is no table of a model")  # noqa: TRY004 - the file's fault, not a caller's
        if unknown := sorted(table.keys() - known):
            raise ValueError(f"{path}: [{name}] {unknown[0]} is nothing that is said of a model")
        entries[name] = ModelEntry(**table)
    return entries
