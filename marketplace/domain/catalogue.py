"""What can be asked for: hardware classes with their aliases, and places.

Names are compared without case, spaces, hyphens and vendor words; an unknown name is answered with suggestions.
"""

import difflib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class HardwareClass:
    """A published category of hardware.

    vcpu, ram_gb: the least one slot of a CPU class has; for GPU classes the least beside one GPU.
    vram_gb: memory of one GPU, 0 for CPU classes.
    """

    id: str
    title: str
    gpu: bool
    vcpu: int
    ram_gb: int
    vram_gb: int
    aliases: tuple[str, ...] = ()


CLASSES: Final = (
    HardwareClass("cpu-small", "CPU, 1 vCPU, 2 GB", gpu=False, vcpu=1, ram_gb=2, vram_gb=0, aliases=("cpu",)),
    HardwareClass("rtx3090", "RTX 3090", gpu=True, vcpu=4, ram_gb=16, vram_gb=24, aliases=("3090",)),
    HardwareClass("rtx4090", "RTX 4090", gpu=True, vcpu=4, ram_gb=16, vram_gb=24, aliases=("4090",)),
    HardwareClass("v100", "V100", gpu=True, vcpu=4, ram_gb=16, vram_gb=16, aliases=("teslav100",)),
    HardwareClass("a100", "A100", gpu=True, vcpu=8, ram_gb=32, vram_gb=80, aliases=("a100-80gb", "a100-sxm4")),
    HardwareClass("h100", "H100", gpu=True, vcpu=8, ram_gb=32, vram_gb=80, aliases=("h100-sxm", "h100-pcie")),
)
"""Specified in api.md section 1.2; the memory of each GPU is its vendor's figure."""

REGIONS: Final[dict[str, frozenset[str]]] = {
    "eu": frozenset({"de", "fr", "nl", "pl", "se", "fi", "es", "it", "gb", "ie"}),
    "na": frozenset({"us", "ca", "mx"}),
    "sa": frozenset({"br", "cl", "ar"}),
    "as": frozenset({"jp", "kr", "sg", "in", "tw"}),
    "oc": frozenset({"au", "nz"}),
    "af": frozenset({"za"}),
}
"""Region codes and the countries in them. No country has the code of a region."""
_REGION_OF: Final = {country: region for region, countries in REGIONS.items() for country in countries}

ANY: Final = "any"
_VENDOR_WORDS: Final = ("nvidia", "geforce", "tesla")
CLASS_ID_BYTES: Final = 16
"""Width of a class id on chain (program.md section 2)."""


_CUDA_DIGITS: Final = 2
"""Of each part; NVIDIA's versions have at most so many."""


class UnknownName(ValueError):
    """The catalogue has no such class or region.

    suggestions: the nearest known names, best first, possibly none.
    """

    def __init__(self, name: str, suggestions: tuple[str, ...]) -> None:
        super().__init__(name)
        self.name = name
        self.suggestions = suggestions


def _plain(name: str) -> str:
    text = name.casefold().replace(" ", "").replace("-", "").replace("_", "")
    for word in _VENDOR_WORDS:
        text = text.replace(word, "")
    return text


_BY_ID: Final = {entry.id: entry for entry in CLASSES}
_BY_NAME: Final = {_plain(name): entry for entry in CLASSES for name in (entry.id, *entry.aliases)}


def find_class(name: str) -> HardwareClass:
    """The class with this name or alias. Raises UnknownName with suggestions."""
    entry = _BY_ID.get(name) or _BY_NAME.get(_plain(name))
    if entry is None:
        near = difflib.get_close_matches(_plain(name), _BY_NAME, n=3, cutoff=0.4)
        raise UnknownName(name, tuple(dict.fromkeys(_BY_NAME[n].id for n in near)) or tuple(c.id for c in CLASSES))
    return entry


def cuda_version(text: str) -> int:
    """`major.minor`, such as 12.4, as 100 x major + minor. Raises ValueError."""
    major, dot, minor = text.partition(".")
    if not (major.isascii() and major.isdecimal() and (minor.isascii() and minor.isdecimal() if dot else not minor)):
        raise ValueError(text)
    if len(major) > _CUDA_DIGITS or len(minor) > _CUDA_DIGITS:
        raise ValueError(text)
    return int(major) * 100 + int(minor or "0")


def find_place(name: str) -> str:
    """Canonical code of a region or of a country. Raises UnknownName with suggestions."""
    text = name.casefold().strip()
    if text in REGIONS or text in _REGION_OF:
        return text
    near = difflib.get_close_matches(text, REGIONS, n=3, cutoff=0.3)
    raise UnknownName(name, tuple(near) or tuple(REGIONS))


def region_of(place: str) -> str:
    """The region that a place lies in; a region lies in itself."""
    return _REGION_OF.get(place, place)


def lies_in(place: str, wanted: Collection[str]) -> bool:
    """Whether a place is in one of these. A node that names only its region is in no country.

    place, wanted: canonical codes, as `find_place` gives them.
    """
    return place in wanted or region_of(place) in wanted


def class_bytes(class_id: str) -> bytes:
    """The id as the chain stores it: ASCII, padded with zeros to 16 bytes; zeros alone for `any`."""
    if class_id == ANY:
        return bytes(CLASS_ID_BYTES)
    raw = class_id.encode("ascii")
    if not raw or len(raw) > CLASS_ID_BYTES:
        raise UnknownName(class_id, ())
    return raw.ljust(CLASS_ID_BYTES, b"\0")
