"""The job body of `POST /v1/jobs` and `POST /v1/quote`. Source: api.md section 5.2.

Fields of that section which this version doesn't serve yet are known by name and refused as such: nothing is
accepted without effect, and a caller learns that it asked for something real.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from marketplace.api.fields import AmountText, RequestModel, field_error
from marketplace.domain.retries import DEFAULT_ATTEMPTS, MAX_ATTEMPTS
from marketplace.domain.timing import MAX_TOTAL_MS
from marketplace.errors import Detail, DetailCode, Invalid
from marketplace.services.job_orders import MAX_STOP_GRACE_S, OrderFields, OutputFields, RetryFields

NOT_YET: Final = frozenset({"kind"})

Words = Annotated[list[Annotated[str, StringConstraints(max_length=32_768)]], Field(max_length=1024)]
Label = Annotated[str, StringConstraints(min_length=1, max_length=64)]
ClassName = Annotated[str, StringConstraints(max_length=64)]


def _labels(labels: dict[str, str]) -> dict[str, str]:
    if len(labels) > 16:
        raise field_error(DetailCode.OUT_OF_RANGE, "at most 16 labels")
    if any(":" in name for name in labels):
        raise field_error(DetailCode.NOT_ALLOWED, "holds a name with a colon; lists are narrowed by name:value")
    return labels


class Requirements(RequestModel):
    """What the machine must have; per GPU, per job, or of the node: docs/renter.md says which."""

    gpu_type: ClassName | None = None
    gpu_types: Annotated[list[ClassName], Field(min_length=1, max_length=16)] | None = None
    gpu_count: int = Field(default=1, ge=1, le=8)
    disk_gb: int | None = Field(default=None, ge=1, le=2000)
    min_vram_gb: int | None = Field(default=None, ge=0, le=1_000_000)
    min_ram_gb: int | None = Field(default=None, ge=0, le=1_000_000)
    min_vcpu: int | None = Field(default=None, ge=0, le=1_000_000)
    min_cuda: Annotated[str, StringConstraints(max_length=16)] | None = None
    min_reputation: float | None = Field(default=None, ge=0, le=1)


class Retry(RequestModel):
    """Which ends of an attempt another attempt follows."""

    max_attempts: int = Field(default=DEFAULT_ATTEMPTS, ge=1, le=MAX_ATTEMPTS)
    on: Annotated[list[Annotated[str, StringConstraints(max_length=32)]], Field(max_length=32)] | None = None
    exit_codes: list[Annotated[int, Field(ge=1, le=255)]] = Field(default_factory=list, max_length=255)
    extend: bool = False

    def fields(self) -> RetryFields:
        """As the service takes it."""
        return RetryFields(
            self.max_attempts, None if self.on is None else tuple(self.on), tuple(self.exit_codes), self.extend
        )


class AutoExtend(RequestModel):
    """up_to_seconds: how much time the market may add by itself, in all, beyond the time limit."""

    up_to_seconds: int = Field(ge=1, le=MAX_TOTAL_MS // 1000)


class CheckpointRequest(RequestModel):
    """minutes: how often /checkpoint is saved."""

    minutes: int = Field(ge=1, le=1440)


class OutputConfig(RequestModel):
    """What becomes of the result. destination: `local`, or `s3://bucket/prefix` by a stored credential."""

    destination: Annotated[str, StringConstraints(min_length=1, max_length=512)] = "local"
    credential_id: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None
    format: Literal["json", "text", "binary", "archive"] = "json"

    def fields(self) -> OutputFields:
        """As the service takes it."""
        return OutputFields(self.destination, self.format, self.credential_id)


class JobRequest(RequestModel):
    """A container job."""

    image: str | None = Field(default=None, min_length=1, max_length=1024)
    model: Annotated[str, StringConstraints(min_length=1, max_length=128)] | None = None
    gpu: ClassName | None = None
    requirements: Requirements = Field(default_factory=Requirements)
    region: str | None = Field(default=None, max_length=64)
    regions: list[Annotated[str, StringConstraints(max_length=64)]] | None = Field(default=None, max_length=32)
    max_minutes: int | None = Field(default=None, alias="maxMinutes")
    timeout_seconds: int | None = None
    priority: str = Field(default="normal", max_length=16)
    entrypoint: Words | None = None
    command: Words | None = None
    workdir: str | None = Field(default=None, max_length=4096)
    env: dict[str, str] = Field(default_factory=dict, max_length=1024)
    quote: str | None = Field(default=None, max_length=8192)
    quote_id: str | None = Field(default=None, max_length=64)
    max_price_per_gpu_second: AmountText | None = None
    max_price_per_hour: AmountText | None = None
    nodes: list[str] = Field(default_factory=list, max_length=100)
    exclude_nodes: list[str] = Field(default_factory=list, max_length=100)
    queue_seconds: int | None = Field(default=None, ge=0, le=86_400)
    stop_grace_seconds: int = Field(default=10, ge=0, le=MAX_STOP_GRACE_S)
    network: Literal["egress", "none"] = "egress"
    name: Label | None = None
    labels: Annotated[dict[Label, Label], AfterValidator(_labels)] = Field(default_factory=dict)
    auto_extend: AutoExtend | None = None
    retry: Retry | None = None
    input: Any = None
    output_config: OutputConfig = Field(default_factory=OutputConfig)
    checkpoint: CheckpointRequest | None = None
    secrets: dict[str, str] = Field(default_factory=dict, max_length=1024, repr=False)
    registry_auth_id: str | None = Field(default=None, max_length=64)
    shm_gb: float | None = Field(default=None, gt=0, le=1_000_000)
    ulimits: dict[str, int] = Field(default_factory=dict, max_length=16)
    consumer_id: Annotated[str, StringConstraints(min_length=1, max_length=128)] | None = None
    webhook: Annotated[str, StringConstraints(min_length=1, max_length=2048)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _refuse_what_is_not_there_yet(cls, value: Any) -> Any:
        return _refuse(value, NOT_YET, "")

    @model_validator(mode="after")
    def _one_quote(self) -> Self:
        if self.quote is not None and self.quote_id is not None and self.quote != self.quote_id:
            raise Invalid.field("quote", DetailCode.CONFLICT, "give one of quote and quote_id")
        return self

    def fields(self, *, seconds: int | None = None) -> OrderFields:
        """The fields as the service takes them."""
        return OrderFields(
            image=self.image,
            model=self.model,
            gpu=self.gpu,
            gpu_type=self.requirements.gpu_type,
            gpu_count=self.requirements.gpu_count,
            disk_gb=self.requirements.disk_gb,
            region=self.region,
            regions=None if self.regions is None else tuple(self.regions),
            max_minutes=self.max_minutes,
            timeout_seconds=self.timeout_seconds,
            seconds=seconds,
            entrypoint=None if self.entrypoint is None else tuple(self.entrypoint),
            command=None if self.command is None else tuple(self.command),
            workdir=self.workdir,
            env=self.env,
            priority=self.priority,
            max_price_per_gpu_second=self.max_price_per_gpu_second,
            max_price_per_hour=self.max_price_per_hour,
            quote=self.quote or self.quote_id,
            nodes=tuple(self.nodes),
            exclude_nodes=tuple(self.exclude_nodes),
            queue_seconds=self.queue_seconds,
            stop_grace_seconds=self.stop_grace_seconds,
            network=self.network,
            name=self.name,
            labels=self.labels,
            gpu_types=None if self.requirements.gpu_types is None else tuple(self.requirements.gpu_types),
            min_vram_gb=self.requirements.min_vram_gb,
            min_ram_gb=self.requirements.min_ram_gb,
            min_vcpu=self.requirements.min_vcpu,
            min_cuda=self.requirements.min_cuda,
            # repr is the shortest text of the number, so what was written is what is meant.
            min_reputation=None if self.requirements.min_reputation is None else repr(self.requirements.min_reputation),
            auto_extend_seconds=0 if self.auto_extend is None else self.auto_extend.up_to_seconds,
            input=self.input,
            output=self.output_config.fields(),
            checkpoint_minutes=None if self.checkpoint is None else self.checkpoint.minutes,
            retry=None if self.retry is None else self.retry.fields(),
            secrets=self.secrets,
            registry_auth_id=self.registry_auth_id,
            shm_mb=None if self.shm_gb is None else round(self.shm_gb * 1000),
            ulimits=self.ulimits,
            consumer_id=self.consumer_id,
            webhook=self.webhook,
        )


class QuoteRequest(JobRequest):
    """A job body, image optional, and `seconds` for the time."""

    seconds: int | None = None


@contextmanager
def telling_of_the_rest(left_out: frozenset[str]) -> Iterator[None]:
    """While inside, what is wrong only beside a class or a count that was left out is not told.

    left_out: dotted names. Raises Invalid with what remains of one.
    """
    try:
        yield
    except Invalid as wrong:
        if not any(name.startswith(("gpu", "requirements")) for name in left_out):
            raise
        rest = [detail for detail in wrong.details if not detail.field.startswith(("shm_gb", "ulimits"))]
        if rest:
            raise Invalid.of(rest) from wrong


def _refuse(value: Any, names: frozenset[str], prefix: str) -> Any:
    """Raise Invalid for fields of the published API that this version doesn't serve."""
    if isinstance(value, dict):
        asked = [name for name in value if name in names]
        if asked:
            raise Invalid.of([Detail(prefix + name, DetailCode.NOT_ALLOWED, "not available yet") for name in asked])
    return value
