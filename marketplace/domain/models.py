"""Named models: what a job runs that names one instead of an image. Source: docs/renter.md, "Models"."""

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from marketplace.domain.catalogue import UnknownName


@dataclass(frozen=True, slots=True)
class Model:
    """What a name stands for, as the operator declared it.

    image: reference that nodes pull. command: None leaves the image's own. default_class: where a job names none.
    formats: of its result, the usual one first. input_schema: JSON text of a JSON Schema of its input.
    """

    name: str
    image: str
    description: str
    default_class: str
    command: tuple[str, ...] | None = None
    min_vram_gb: int = 0
    default_timeout_s: int = 3_600
    estimated_time_s: int = 60
    formats: tuple[str, ...] = ("json",)
    input_schema: str = "{}"


class ModelCatalogue:
    """The models of one market; names are compared without regard to case."""

    def __init__(self, models: Iterable[Model] = ()) -> None:
        self._by_name: dict[str, Model] = {}
        for model in models:
            if self._by_name.setdefault(model.name.casefold(), model) is not model:
                raise ValueError(f"{model.name} is declared twice")

    def __iter__(self) -> Iterator[Model]:
        return iter(sorted(self._by_name.values(), key=lambda model: model.name))

    def get(self, name: str) -> Model:
        """The model of this name. Raises UnknownName with the nearest names."""
        found = self._by_name.get(name.casefold())
        if found is None:
            near = difflib.get_close_matches(name.casefold(), self._by_name, n=3, cutoff=0.5)
            raise UnknownName(name, tuple(self._by_name[key].name for key in near))
        return found
