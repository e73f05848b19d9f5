"""What a renter asks to run, its canonical form, and the hash that stands for it on chain.

spec hash  = sha256(canonical JSON of the spec)
terms hash = sha256(spec hash + sha256(idempotency key)); program.md section 2
The spec itself stays private: chain and strangers see the hash only.
"""

import hashlib
import json
from collections.abc import Iterable
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

DEFAULT_DISK_GB: Final = 2
"""Chosen, where the design says 20: a node may offer only a part of what is free, so a small machine with some 10 GB
free could take no job at all; who needs more says so."""


_CANONICAL: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


FIELDS: Final[dict[int, frozenset[str]]] = {
    1: frozenset(
        {
            "kind", "image", "image_digest", "entrypoint", "command", "workdir", "env", "class_id", "gpu_count",
            "regions", "disk_gb", "limit_ms", "network", "stop_grace_s",
        }
    ),
    2: frozenset(
        {
            "tiers", "min_vram_gb", "min_ram_gb", "min_vcpu", "min_cuda", "min_reputation", "retry", "shm_mb",
            "ulimits", "secret_names", "registry_auth_id", "secrets", "registry_login", "input",
            "checkpoint_minutes", "after",
        }
    ),
}  # fmt: skip
"""Fields of a JobSpec by the version that brought them. A node refuses a field that it doesn't know, so it is offered
only what its version covers: a new field, or a new member or value of an old one, is a new version. Every field of
version 2 is None where it isn't asked for, and then isn't sent."""
SPEC_VERSION: Final = max(FIELDS)
"""The newest that this code knows. A node that tells none knows 1."""
_SINCE: Final = {name: version for version, names in FIELDS.items() for name in names}


def version_of(asked: Iterable[str]) -> int:
    """The lowest version that knows all of these fields."""
    return max((_SINCE[name] for name in asked), default=1)


class JobInput(BaseModel):
    """What lies in /inputs when the job starts: exactly one file.

    text, json: kept by the market, known by its digest. file: an upload, which never changes. url: asked by the node.
    name: of the file in /inputs; None leaves it to the upload's own, or to the URL's last part.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: Literal["text", "json", "file", "url"]
    name: str | None = None
    size: int | None = None
    sha256: str | None = None
    file_id: str | None = None
    url: str | None = None


class RegistryLogin(BaseModel):
    """How a private image is pulled. registry: host[:port] that it is for, None for whichever the image names."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    username: str
    password: str = Field(repr=False)
    registry: str | None = None


class RetryTerms(BaseModel):
    """When the work's own end leaves the escrow open for another attempt: the last voucher is then not final."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    max_attempts: int
    exit_codes: tuple[int, ...] = Field(default=(), strict=False)
    extend: bool | None = None


class JobSpec(BaseModel):
    """A container job as a node runs it; what the renter left out is filled in before it is hashed.

    Fields that came later are None where they weren't asked for, and then no part of the hash: a client and a market
    of different versions agree on what both know.

    image: reference as submitted. image_digest: `sha256:…`, None until the first attempt resolved it
    (it is not part of the hash).
    command, entrypoint, workdir: None leaves the image's own.
    limit_ms: most billed time, over all attempts.
    class_id: the one class that was asked for, `any` where `tiers` names several; a node is sent its own class.
    input: None for none.
    gpu_count: GPUs, or slots of a CPU class.
    tiers: classes that will do, those preferred first. min_cuda: `major.minor`. min_reputation: decimal text 0..1.
    shm_mb: of the container's memory (10^6 bytes). ulimits: bytes for memlock and stack.
    checkpoint_minutes: how often /checkpoint is saved. after: jobs and groups whose outputs lie in /inputs.
    secret_names: names in `secrets`, which is no part of the hash and is kept sealed; nor is `registry_login`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: Literal["job"] = "job"
    image: str
    image_digest: str | None = None
    entrypoint: tuple[str, ...] | None = Field(default=None, strict=False)
    command: tuple[str, ...] | None = Field(default=None, strict=False)
    workdir: str | None = None
    env: dict[str, str] = Field(default_factory=dict)
    class_id: str
    gpu_count: int = 1
    regions: tuple[str, ...] = Field(default=(), strict=False)
    disk_gb: int = DEFAULT_DISK_GB
    limit_ms: int
    network: Literal["egress", "none"] = "egress"
    stop_grace_s: int = 10
    tiers: tuple[tuple[str, ...], ...] | None = Field(default=None, strict=False)
    min_vram_gb: int | None = None
    min_ram_gb: int | None = None
    min_vcpu: int | None = None
    min_cuda: str | None = None
    min_reputation: str | None = None
    retry: RetryTerms | None = None
    shm_mb: int | None = None
    ulimits: dict[str, int] | None = None
    secret_names: tuple[str, ...] | None = Field(default=None, strict=False)
    registry_auth_id: str | None = None
    secrets: dict[str, str] | None = Field(default=None, repr=False)
    registry_login: RegistryLogin | None = None
    input: JobInput | None = None
    checkpoint_minutes: int | None = None
    after: tuple[str, ...] | None = Field(default=None, strict=False)

    @property
    def version(self) -> int:
        """The lowest version of a node that knows every field that is asked for."""
        return version_of(name for name, value in self if value is not None)

    def spec_hash(self) -> bytes:
        """sha256 over the canonical JSON: sorted keys, no spaces, UTF-8, without what is not asked for, the digest,
        and what the market keeps apart.
        """
        apart = {"image_digest", "secrets", "registry_login"}
        return hashlib.sha256(canonical_json(self.model_dump(mode="json", exclude=apart, exclude_none=True))).digest()


def canonical_json(value: object) -> bytes:
    """Sorted keys, no spaces, UTF-8, no NaN: the form in which bodies and specs are hashed and signed."""
    return _CANONICAL.encode(value).encode()


def terms_hash(spec_hash: bytes, idempotency_key: str) -> bytes:
    """32 bytes stored in the escrow."""
    return hashlib.sha256(spec_hash + hashlib.sha256(idempotency_key.encode()).digest()).digest()
