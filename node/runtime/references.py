"""Image references as renters write them: registry.example:5000/path/name:tag@digest.

Grammar: github.com/distribution/reference, reference.go.
"""

import re
from dataclasses import dataclass
from typing import Self

from node.runtime.errors import ImageFault, ImageUnavailable

MAX_REFERENCE = 512  # api.md section 5.2
_MAX_NAME = 255  # the grammar's own limit

_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]{{1,5}})?"
_REFERENCE = re.compile(
    rf"(?P<name>(?:(?P<host>{_HOST})/)?{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)


@dataclass(frozen=True, slots=True)
class ImageName:
    """A parsed reference. host: None means the engine's default registry (Docker Hub).

    tag: `latest` when neither tag nor digest was written, None when only a digest was.
    """

    name: str
    host: str | None
    tag: str | None
    digest: str | None

    @classmethod
    def parse(cls, reference: str) -> Self:
        """Raises ImageUnavailable (INVALID)."""
        match = _REFERENCE.fullmatch(reference) if len(reference) <= MAX_REFERENCE else None
        if match is None or len(match["name"]) > _MAX_NAME:
            raise ImageUnavailable(
                ImageFault.INVALID, "the image reference is invalid: write [registry/]name[:tag][@sha256:digest]"
            )
        host: str | None = match["host"]
        # As the engine reads it: the first part is a registry only if it looks like one, else a Docker Hub user.
        if host is not None and not ("." in host or ":" in host or host == "localhost"):
            if host != host.lower():
                raise ImageUnavailable(ImageFault.INVALID, "the image reference is invalid: names are lower case")
            host = None
        tag: str | None = match["tag"]
        if tag is None and match["digest"] is None:
            tag = "latest"
        return cls(match["name"], host, tag, match["digest"])

    @property
    def tagged(self) -> str:
        """What to ask a registry for when the digest isn't known."""
        return f"{self.name}@{self.digest}" if self.digest else f"{self.name}:{self.tag}"
