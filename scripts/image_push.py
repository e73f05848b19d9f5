"""Pushes images, layer by layer, over a registry's own HTTP API. Needs Python alone.

Speaks plain HTTP to this machine and HTTPS to others, and knows no login: an image for a registry that asks for one is
written as an archive instead (scripts/models) and pushed with the tools of that registry.
"""

import gzip
import hashlib
import http.client
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""What a machine's kernel says, as images name it."""
LOOPBACK = {"127.0.0.1", "localhost", "::1"}
SILENT_S = 120
"""Chosen: a registry that writes a large layer to a slow disk answers late."""


@dataclass(frozen=True)
class Layer:
    """A compressed tar. packed: the bytes, or the file that holds them. diff_id: digest of what is compressed."""

    packed: bytes | Path
    digest: str
    size: int
    diff_id: str

    @classmethod
    def of(cls, tar: bytes) -> "Layer":
        packed = gzip.compress(tar, 9, mtime=0)
        return cls(packed, digest_of(packed), len(packed), digest_of(tar))


@dataclass(frozen=True)
class Image:
    """What is pushed: layers, the configuration and the manifest that names them; all of them bytes with digests."""

    layers: tuple[Layer, ...]
    config: bytes
    manifest: bytes

    @classmethod
    def of(cls, layers: list[Layer], architecture: str, settings: dict[str, object], made_by: str) -> "Image":
        config = encode(
            {
                "architecture": architecture,
                "os": "linux",
                "config": settings,
                "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
                "history": [{"created_by": made_by} for _ in layers],
            }
        )
        manifest = encode(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": {"mediaType": CONFIG, "size": len(config), "digest": digest_of(config)},
                "layers": [{"mediaType": LAYER, "size": layer.size, "digest": layer.digest} for layer in layers],
            }
        )
        return cls(tuple(layers), config, manifest)


class Registry:
    """One registry, HOST:PORT. Ends the program with the registry's words when it refuses."""

    def __init__(self, address: str) -> None:
        self.address = address
        host = urlsplit(f"//{address}").hostname or ""
        plain = host in LOOPBACK
        self._link = (http.client.HTTPConnection if plain else http.client.HTTPSConnection)(address, timeout=SILENT_S)

    def has(self, repository: str, image: Image) -> bool:
        """Whether the very same image is there."""
        self._link.request(
            "HEAD", f"/v2/{repository}/manifests/{digest_of(image.manifest)}", headers={"Accept": MANIFEST}
        )
        head = self._link.getresponse()
        head.read()
        return head.status == http.client.OK

    def push(self, repository: str, image: Image, tag: str = "1") -> str:
        """Push what is missing. Returns name@digest."""
        self._push_blob(repository, image.config, digest_of(image.config), len(image.config))
        for layer in image.layers:
            self._push_blob(repository, layer.packed, layer.digest, layer.size)
        self._answer("PUT", f"/v2/{repository}/manifests/{tag}", image.manifest, MANIFEST, expected=201)
        return self.name(repository, image)

    def name(self, repository: str, image: Image) -> str:
        return f"{self.address}/{repository}@{digest_of(image.manifest)}"

    def close(self) -> None:
        self._link.close()

    def _push_blob(self, repository: str, blob: bytes | Path, digest: str, size: int) -> None:
        self._link.request("HEAD", f"/v2/{repository}/blobs/{digest}")
        head = self._link.getresponse()
        head.read()
        if head.status == http.client.OK:
            return
        binary = "application/octet-stream"
        where = self._answer("POST", f"/v2/{repository}/blobs/uploads/", b"", binary, expected=202)
        url = urlsplit(where)
        path = f"{url.path}?{f'{url.query}&digest={digest}'.lstrip('&')}"
        self._answer("PUT", path, blob, binary, expected=201, size=size)

    def _answer(
        self, method: str, path: str, body: bytes | Path, kind: str, *, expected: int, size: int | None = None
    ) -> str:
        """Returns the Location header."""
        headers = {"Content-Type": kind, "Content-Length": str(len(body) if isinstance(body, bytes) else size)}
        if isinstance(body, bytes):
            self._link.request(method, path, body, headers)
        else:
            with body.open("rb") as file:
                self._link.request(method, path, file, headers)
        response = self._link.getresponse()
        text = response.read()
        if response.status != expected:
            sys.exit(f"[images] {method} {path}: {response.status} {text.decode(errors='replace')}")
        return response.getheader("Location") or ""


def encode(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()
