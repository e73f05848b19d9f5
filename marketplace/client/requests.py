"""What a renter asks for: the request as it is sent, and the spec that it stands for on chain.

The spec is built here again, from the request and never from the server's answer, because its hash is what ties
the escrow that the wallet signs to the work that was asked for.
"""

from dataclasses import dataclass, field, replace
from typing import Final, Literal

from marketplace.client.account_models import Model
from marketplace.domain.catalogue import ANY, CLASSES, HardwareClass, find_class, find_place
from marketplace.domain.retries import DEFAULT_ATTEMPTS
from marketplace.protocol.inputs import read_input
from marketplace.protocol.terms import DEFAULT_DISK_GB, JobSpec, RetryTerms

DEFAULT_LIMIT_S: Final = 3600
"""Time limit of a job that names none; api.md section 5.2."""
_MB_PER_GB: Final = 1000


@dataclass(frozen=True, slots=True)
class Requirements:
    """What the machine must have. gpu_count: GPUs, or slots of a CPU class. None is the market's default.

    gpu_types: further classes that will do, those preferred first. min_reputation: 0..1, as text.
    """

    gpu_type: str | None = None
    gpu_types: tuple[str, ...] | None = None
    gpu_count: int | None = None
    disk_gb: int | None = None
    min_vram_gb: int | None = None
    min_ram_gb: int | None = None
    min_vcpu: int | None = None
    min_cuda: str | None = None
    min_reputation: str | None = None

    def body(self) -> dict[str, object]:
        """The JSON object; empty where nothing was asked for."""
        return _given(
            {
                "gpu_type": self.gpu_type,
                "gpu_types": None if self.gpu_types is None else list(self.gpu_types),
                "gpu_count": self.gpu_count,
                "disk_gb": self.disk_gb,
                "min_vram_gb": self.min_vram_gb,
                "min_ram_gb": self.min_ram_gb,
                "min_vcpu": self.min_vcpu,
                "min_cuda": self.min_cuda,
                "min_reputation": None if self.min_reputation is None else float(self.min_reputation),
            }
        )


@dataclass(frozen=True, slots=True)
class Retry:
    """Which ends of an attempt another attempt follows. max_attempts: the first included.

    on: codes of reasons, None for the market's own list. exit_codes: of the work, tried again at the renter's cost.
    extend: whether a later attempt gets the full time again, inside the allowance.
    """

    max_attempts: int | None = None
    on: tuple[str, ...] | None = None
    exit_codes: tuple[int, ...] | None = None
    extend: bool | None = None

    def body(self) -> dict[str, object]:
        """The JSON object."""
        return _given(
            {
                "max_attempts": self.max_attempts,
                "on": None if self.on is None else list(self.on),
                "exit_codes": None if self.exit_codes is None else list(self.exit_codes),
                "extend": self.extend,
            }
        )

    def terms(self) -> RetryTerms:
        """What of it the escrow's hash stands for."""
        attempts = DEFAULT_ATTEMPTS if self.max_attempts is None else self.max_attempts
        return RetryTerms(
            max_attempts=attempts, exit_codes=tuple(sorted(set(self.exit_codes or ()))), extend=self.extend or None
        )


@dataclass(frozen=True, slots=True)
class JobRequest:
    """A container job, under the names of `POST /v1/jobs`. None leaves the market's default.

    image: None only for a price, or where a `model` is named; a job needs one of the two.
    gpu: class or alias, or `any`.
    region, regions: None is anywhere. max_minutes, timeout_seconds: give one; neither is an hour.
    max_price_per_hour, max_price_per_gpu_second: decimal text in whole tokens, give at most one.
    secrets: sent, never kept by the client, and never shown again by the market. shm_gb: decimal text.
    ulimits: bytes for memlock and stack. webhook: URL that hears of this job's events.
    auto_extend_s: seconds that the market may add by itself, inside the allowance.
    input: text, JSON, a `file_…` id or an https URL, as the API takes it. output_format: what a download answers.
    destination: `local` or `s3://bucket/prefix`. credential_id: the stored login for it, None for the default.
    checkpoint_minutes: how often /checkpoint is saved for a later attempt, None for never.
    """

    image: str | None = None
    gpu: str | None = None
    region: str | None = None
    max_minutes: int | None = None
    entrypoint: tuple[str, ...] | None = None
    command: tuple[str, ...] | None = None
    env: dict[str, str] = field(default_factory=dict)
    name: str | None = None
    priority: str | None = None
    max_price_per_hour: str | None = None
    requirements: Requirements = field(default_factory=Requirements)
    regions: tuple[str, ...] | None = None
    timeout_seconds: int | None = None
    workdir: str | None = None
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    registry_auth_id: str | None = None
    max_price_per_gpu_second: str | None = None
    retry: Retry | None = None
    nodes: tuple[str, ...] = ()
    exclude_nodes: tuple[str, ...] = ()
    queue_seconds: int | None = None
    stop_grace_seconds: int | None = None
    network: Literal["egress", "none"] | None = None
    shm_gb: str | None = None
    ulimits: dict[str, int] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    consumer_id: str | None = None
    webhook: str | None = None
    auto_extend_s: int | None = None
    input: object = None
    output_format: Literal["json", "text", "binary", "archive"] | None = None
    destination: str | None = None
    credential_id: str | None = None
    model: str | None = None
    checkpoint_minutes: int | None = None

    def body(self) -> dict[str, object]:
        """The JSON body of `POST /v1/quote` and `POST /v1/jobs`; what was not asked for is left out."""
        return _given(
            {
                "image": self.image if self.model is None else None,
                "model": self.model,
                "gpu": self.gpu,
                "region": self.region,
                "regions": None if self.regions is None else list(self.regions),
                "maxMinutes": self.max_minutes,
                "timeout_seconds": self.timeout_seconds,
                "entrypoint": None if self.entrypoint is None else list(self.entrypoint),
                "command": None if self.command is None else list(self.command),
                "workdir": self.workdir,
                "env": dict(self.env) or None,
                "secrets": dict(self.secrets) or None,
                "registry_auth_id": self.registry_auth_id,
                "name": self.name,
                "labels": dict(self.labels) or None,
                "consumer_id": self.consumer_id,
                "priority": self.priority,
                "max_price_per_hour": self.max_price_per_hour,
                "max_price_per_gpu_second": self.max_price_per_gpu_second,
                "requirements": self.requirements.body() or None,
                "retry": None if self.retry is None else self.retry.body(),
                "nodes": list(self.nodes) or None,
                "exclude_nodes": list(self.exclude_nodes) or None,
                "queue_seconds": self.queue_seconds,
                "stop_grace_seconds": self.stop_grace_seconds,
                "network": self.network,
                "shm_gb": None if self.shm_gb is None else float(self.shm_gb),
                "ulimits": dict(self.ulimits) or None,
                "webhook": self.webhook,
                "input": self.input,
                "output_config": self._output_config() or None,
                "checkpoint": None if self.checkpoint_minutes is None else {"minutes": self.checkpoint_minutes},
                "auto_extend": None if self.auto_extend_s is None else {"up_to_seconds": self.auto_extend_s},
            }
        )

    def _output_config(self) -> dict[str, object]:
        return _given(
            {"destination": self.destination, "credential_id": self.credential_id, "format": self.output_format}
        )

    def completed(self, model: Model) -> "JobRequest":
        """With what the named model supplies, as the market completes it; what the job says itself stands.

        Then the spec can be computed here, and `body` still names the model. Raises ValueError beside an image.
        """
        if self.image is not None:
            raise ValueError("name an image or a model, not both")
        needs = self.requirements
        classless = not (self.gpu or needs.gpu_type or needs.gpu_types)
        timeless = self.max_minutes is None and self.timeout_seconds is None
        vram_gb = max(needs.min_vram_gb or 0, model.min_vram_gb) or needs.min_vram_gb
        return replace(
            self,
            image=model.image,
            command=model.command if self.command is None else self.command,
            gpu=model.default_gpu if classless else self.gpu,
            requirements=replace(needs, min_vram_gb=vram_gb),
            timeout_seconds=model.default_timeout_seconds if timeless else self.timeout_seconds,
        )

    def limit_s(self) -> int:
        """Seconds of billed time, at most."""
        if self.timeout_seconds is not None:
            return self.timeout_seconds
        return DEFAULT_LIMIT_S if self.max_minutes is None else self.max_minutes * 60

    def attempts(self) -> int:
        """Attempts that the escrow may pay for, at most."""
        return DEFAULT_ATTEMPTS if self.retry is None else self.retry.terms().max_attempts

    def gpu_count(self) -> int:
        """GPUs, or slots of a CPU class."""
        return 1 if self.requirements.gpu_count is None else self.requirements.gpu_count

    def spec(self) -> JobSpec:
        """The spec whose hash the escrow carries.

        Raises UnknownName for a class or region outside the catalogue, ValueError without an image or a class, or
        where no class named can meet the requirements.
        """
        if self.image is None:
            raise ValueError(
                "a job needs an image" if self.model is None else "a model's image is the market's to name"
            )
        needs = self.requirements
        tiers = self._tiers()
        class_id = tiers[0][0] if len(tiers) == 1 and len(tiers[0]) == 1 else ANY
        defaults = JobSpec.model_fields
        given = read_input(self.input)
        return JobSpec(
            image=self.image,
            entrypoint=self.entrypoint,
            command=self.command,
            workdir=self.workdir,
            env=dict(self.env),
            class_id=class_id,
            gpu_count=self.gpu_count(),
            regions=self._regions(),
            limit_ms=self.limit_s() * 1000,
            disk_gb=DEFAULT_DISK_GB if needs.disk_gb is None else needs.disk_gb,
            network=defaults["network"].default if self.network is None else self.network,
            stop_grace_s=defaults["stop_grace_s"].default
            if self.stop_grace_seconds is None
            else self.stop_grace_seconds,
            tiers=tiers if class_id == ANY else None,
            min_vram_gb=needs.min_vram_gb,
            min_ram_gb=needs.min_ram_gb,
            min_vcpu=needs.min_vcpu,
            min_cuda=needs.min_cuda,
            min_reputation=None if needs.min_reputation is None else repr(float(needs.min_reputation)),
            retry=None if self.retry is None else self.retry.terms(),
            shm_mb=None if self.shm_gb is None else round(float(self.shm_gb) * _MB_PER_GB),
            ulimits=dict(sorted(self.ulimits.items())) or None,
            secret_names=tuple(sorted(self.secrets)) or None,
            registry_auth_id=self.registry_auth_id,
            input=None if given is None else given.job_input,
            checkpoint_minutes=self.checkpoint_minutes,
        )

    def _tiers(self) -> tuple[tuple[str, ...], ...]:
        """Classes that will do, those preferred first, as the market reads them: the class named, then the others."""
        needs = self.requirements
        given = tuple(name for name in (self.gpu, needs.gpu_type, *(needs.gpu_types or ())) if name)
        if not given:
            raise ValueError("name a class, such as cpu-small")
        if any(name.casefold() == ANY for name in given):
            wanted: list[tuple[HardwareClass, ...]] = [CLASSES]
        else:
            wanted = [(entry,) for entry in dict.fromkeys(find_class(name) for name in given)]
        able = tuple(tier for each in wanted if (tier := tuple(e.id for e in each if self._fits(e))))
        if not able:
            raise ValueError("no class that was named can give what the requirements ask for")
        return able

    def _fits(self, entry: HardwareClass) -> bool:
        needs, count = self.requirements, self.gpu_count()
        return (
            (needs.min_vram_gb or 0) <= entry.vram_gb
            and (needs.min_ram_gb or 0) <= entry.ram_gb * count
            and (needs.min_vcpu or 0) <= entry.vcpu * count
        )

    def _regions(self) -> tuple[str, ...]:
        given = (*((self.region,) if self.region is not None else ()), *(self.regions or ()))
        return tuple(sorted({find_place(name) for name in given if name.casefold() != ANY}))


def _given(fields: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None}
