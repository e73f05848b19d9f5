"""Under which name an image registry is known: what a login is for, and what an image comes from."""

from typing import Final

DOCKER_HUB: Final = "docker.io"
_HUB_NAMES: Final = frozenset({DOCKER_HUB, "index.docker.io", "registry-1.docker.io"})


def registry_name(host: str | None) -> str:
    """The registry of an image whose name begins with this host[:port]; Docker Hub where it begins with none."""
    text = (host or DOCKER_HUB).lower()
    return DOCKER_HUB if text in _HUB_NAMES else text


def registry_of(reference: str) -> str:
    """The registry of an image, by the first part of its name. The reference is checked elsewhere."""
    first, slash, _ = reference.partition("/")
    is_host = bool(slash) and ("." in first or ":" in first or first == "localhost")
    return registry_name(first if is_host else None)
