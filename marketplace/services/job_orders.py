"""What a renter asks for, checked and completed: from a request's fields to the spec that is hashed."""

import json
import math
import re
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Final, Literal

from marketplace.domain.allocations import Allocation
from marketplace.domain.buckets import BucketPlace, MalformedPlace, parse_place
from marketplace.domain.catalogue import (
    ANY,
    CLASSES,
    REGIONS,
    HardwareClass,
    UnknownName,
    cuda_version,
    find_class,
    find_place,
)
from marketplace.domain.ids import JobId, NodeId
from marketplace.domain.money import (
    AmountOverflow,
    MalformedAmount,
    deposit_for,
    hourly_from_gpu_second,
    parse_amount,
)
from marketplace.domain.pricing import Priority
from marketplace.domain.quantities import GB, Millis, Tokens
from marketplace.domain.reasons import Reason
from marketplace.domain.retries import MAX_EXIT_CODES, RETRIED, RetryPolicy
from marketplace.errors import Detail, DetailCode, Invalid, TooLarge
from marketplace.protocol.inputs import MAX_INLINE_BYTES, ReadInput, read_input
from marketplace.protocol.terms import DEFAULT_DISK_GB, JobSpec, RetryTerms, canonical_json

_NO_TIME: Final = Millis(0)
LOCAL: Final = "local"
"""Where outputs are delivered: nowhere else than here."""
DEFAULT_SECONDS: Final = 3_600
MAX_SECONDS: Final = 86_400
MAX_STOP_GRACE_S: Final = 300
MAX_ENV_BYTES: Final = 64 << 10
RESERVED_ENV: Final = "REAVER_"
"""Specified: api.md section 5.2."""

MAX_REFERENCE: Final = 512
"""Specified: api.md section 5.2."""
_MAX_NAME: Final = 255
_MAX_PORT: Final = 65_535
_COMPONENT: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_LABEL: Final = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOST: Final = rf"{_LABEL}(?:\.{_LABEL})*"
_IMAGE: Final = re.compile(
    rf"(?P<name>(?:(?P<host>{_HOST})(?::(?P<port>[0-9]{{1,5}}))?/)?{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
)
"""A reference as the distribution specification writes it: [host[:port]/]path[:tag][@digest]."""
MIN_OPEN_FILES: Final = 64
MAX_OPEN_FILES: Final = 1 << 20
MIN_STACK_BYTES: Final = 64 << 10
"""Chosen: below these no program starts; above a million descriptors no kernel goes by itself."""
_MILLION: Final = 1_000_000
_ENV_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class RetryFields:
    """`retry` of a job body. on: codes of reasons. None where left out."""

    max_attempts: int
    on: tuple[str, ...] | None = None
    exit_codes: tuple[int, ...] = ()
    extend: bool = False


@dataclass(frozen=True, slots=True)
class OutputFields:
    """`output_config` of a job body."""

    destination: str = "local"
    format: str = "json"
    credential_id: str | None = None

    @property
    def place(self) -> BucketPlace | None:
        """The bucket that it names, None for none. Raises MalformedPlace."""
        return None if self.destination == LOCAL else parse_place(self.destination)

    def kept(self) -> dict[str, str]:
        """What of it is kept with the job."""
        named = {} if self.credential_id is None else {"credential_id": self.credential_id}
        return {"destination": self.destination, "format": self.format} | named


@dataclass(frozen=True, slots=True)
class OrderFields:
    """The fields of a job body that this market takes, as given; None where left out."""

    image: str | None = None
    model: str | None = None
    gpu: str | None = None
    gpu_type: str | None = None
    gpu_count: int = 1
    disk_gb: int | None = None
    region: str | None = None
    regions: tuple[str, ...] | None = None
    max_minutes: int | None = None
    timeout_seconds: int | None = None
    seconds: int | None = None
    estimated_seconds: int | None = None
    entrypoint: tuple[str, ...] | None = None
    command: tuple[str, ...] | None = None
    workdir: str | None = None
    env: dict[str, str] = field(default_factory=dict)
    priority: str = "normal"
    max_price_per_gpu_second: str | None = None
    max_price_per_hour: str | None = None
    quote: str | None = None
    nodes: tuple[str, ...] = ()
    exclude_nodes: tuple[str, ...] = ()
    queue_seconds: int | None = None
    stop_grace_seconds: int = 10
    network: Literal["egress", "none"] = "egress"
    name: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    gpu_types: tuple[str, ...] | None = None
    min_vram_gb: int | None = None
    min_ram_gb: int | None = None
    min_vcpu: int | None = None
    min_cuda: str | None = None
    min_reputation: str | None = None
    auto_extend_seconds: int = 0
    retry: RetryFields | None = None
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    registry_auth_id: str | None = None
    webhook: str | None = None
    shm_mb: int | None = None
    ulimits: dict[str, int] = field(default_factory=dict)
    consumer_id: str | None = None
    input: object = None
    output: OutputFields = field(default_factory=OutputFields)
    checkpoint_minutes: int | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """A checked request.

    tiers: classes that will do, those preferred first. secrets: by name, nowhere else in the order.
    retry_of: the job that this one repeats. auto_extend_ms: how much the market may add by itself.
    input_content: bytes of a text or JSON input, which the spec only names.
    max_price_per_hour: the renter's own ceiling, for the whole allocation, None for none. queue_ms: None for the usual.
    named: fields of the request that were given, where one thing has several names.
    """

    spec: JobSpec
    has_image: bool
    regions: tuple[str, ...]
    priority: Priority
    max_seconds: int
    max_price_per_hour: Tokens | None
    quote: str | None
    only_nodes: tuple[NodeId, ...]
    exclude_nodes: tuple[NodeId, ...]
    queue_ms: Millis | None
    name: str | None
    labels: tuple[tuple[str, str], ...]
    submitted: str
    named: frozenset[str]
    tiers: tuple[tuple[str, ...], ...]
    min_cuda: int = 0
    min_reputation_millionths: int = 0
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    consumer_id: str | None = None
    retry_of: JobId | None = None
    model: str | None = None
    estimated_ms: Millis | None = None
    webhook: str | None = None
    auto_extend_ms: Millis = _NO_TIME
    input_content: bytes | None = field(default=None, repr=False)
    output: OutputFields = field(default_factory=OutputFields)

    def with_env(self, more: dict[str, str]) -> "Order":
        """The same with these variables of ours beside the renter's."""
        return replace(self, spec=self.spec.model_copy(update={"env": {**self.spec.env, **more}}))

    @property
    def limit(self) -> Millis:
        """Most billed time, over all attempts."""
        return Millis(self.max_seconds * 1000)


@dataclass(frozen=True, slots=True)
class Changes:
    """What a job that is repeated may do otherwise, as given; None where left out."""

    priority: str | None = None
    timeout_seconds: int | None = None
    max_price_per_gpu_second: str | None = None
    max_price_per_hour: str | None = None


def repeat_order(
    allocation: Allocation, attempted: Collection[NodeId], secrets: dict[str, str], changes: Changes, *, decimals: int
) -> Order:
    """The order of an ended job once more, at the price of now. Raises Invalid with every wrong field.

    attempted: nodes that its attempts ran on; they are asked again, those that the renter barred are not.
    """
    found = _Findings()
    spec = JobSpec.model_validate_json(allocation.spec)
    fields = OrderFields(
        gpu_count=spec.gpu_count,
        # what it was submitted with: extensions of the first one are its own
        timeout_seconds=spec.limit_ms // 1000 if changes.timeout_seconds is None else changes.timeout_seconds,
        max_price_per_gpu_second=changes.max_price_per_gpu_second,
        max_price_per_hour=changes.max_price_per_hour,
    )
    seconds = _seconds(fields, found)
    price = _price(fields, seconds, decimals, found)
    priority = _priority(allocation.priority.value if changes.priority is None else changes.priority, found)
    found.raise_any()
    return Order(
        spec=spec.model_copy(update={"limit_ms": seconds * 1000}),
        has_image=True,
        regions=allocation.regions,
        priority=priority,
        max_seconds=seconds,
        max_price_per_hour=price,
        quote=None,
        only_nodes=allocation.only_nodes,
        exclude_nodes=tuple(node for node in allocation.excluded if node not in attempted),
        queue_ms=allocation.queue_ms,
        name=allocation.name,
        labels=allocation.labels,
        submitted=allocation.submitted,
        named=frozenset(),
        tiers=allocation.classes,
        min_cuda=allocation.min_cuda,
        min_reputation_millionths=allocation.min_reputation_millionths,
        retry=allocation.retry,
        secrets=secrets,
        consumer_id=allocation.consumer_id,
        model=allocation.model,
        auto_extend_ms=allocation.auto_extend_ms,
        retry_of=allocation.job_id,
        output=output_of(allocation.submitted),
    )


def read_order(fields: OrderFields, *, decimals: int, image_needed: bool) -> Order:
    """Check everything, before any row exists. Raises Invalid with every wrong field, TooLarge."""
    found = _Findings()
    tiers = _tiers(fields, found)
    class_id = tiers[0][0] if len(tiers) == 1 and len(tiers[0]) == 1 else ANY
    cuda, reputation = _cuda(fields, found), _reputation(fields, found)
    retry = _retry(fields.retry, found)
    regions = _regions(fields, found)
    seconds = _seconds(fields, found)
    price = _price(fields, seconds, decimals, found)
    if fields.image is None:
        if image_needed:
            found.add("image", DetailCode.REQUIRED, "name the image or the model to run")
    elif not is_reference(fields.image):
        found.add("image", DetailCode.NOT_ALLOWED, "is not an image reference such as docker.io/org/name:tag")
    if fields.workdir is not None and not fields.workdir.startswith("/"):
        found.add("workdir", DetailCode.NOT_ALLOWED, "must be an absolute path, such as /work")
    given = _input(fields, found)
    _check_output(fields.output, found)
    _check_env(fields, found)
    _check_sandbox(fields, tiers, found)
    priority = _priority(fields.priority, found)
    for name, text in (("nodes", fields.nodes), ("exclude_nodes", fields.exclude_nodes)):
        if any(not node.startswith("node_") for node in text):
            found.add(name, DetailCode.NOT_ALLOWED, "holds something that is no node id")
    if fields.quote is not None and price is not None:
        found.add("quote", DetailCode.CONFLICT, "a quote fixes the price; give it or a max_price, not both")
    found.raise_any()
    _require_sizes(fields, given)
    spec = JobSpec(
        image=fields.image or "",
        entrypoint=fields.entrypoint,
        command=fields.command,
        workdir=fields.workdir,
        env=fields.env,
        class_id=class_id,
        gpu_count=fields.gpu_count,
        regions=regions,
        disk_gb=fields.disk_gb if fields.disk_gb is not None else DEFAULT_DISK_GB,
        input=None if given is None else given.job_input,
        limit_ms=seconds * 1000,
        network=fields.network,
        stop_grace_s=fields.stop_grace_seconds,
        tiers=tiers if class_id == ANY else None,
        min_vram_gb=fields.min_vram_gb,
        min_ram_gb=fields.min_ram_gb,
        min_vcpu=fields.min_vcpu,
        min_cuda=fields.min_cuda,
        min_reputation=fields.min_reputation,
        retry=_retry_terms(fields.retry, retry),
        shm_mb=fields.shm_mb,
        ulimits=dict(sorted(fields.ulimits.items())) or None,
        secret_names=tuple(sorted(fields.secrets)) or None,
        registry_auth_id=fields.registry_auth_id,
        checkpoint_minutes=fields.checkpoint_minutes,
    )
    return Order(
        spec=spec,
        has_image=fields.image is not None,
        model=fields.model,
        estimated_ms=None if fields.estimated_seconds is None else Millis(fields.estimated_seconds * 1000),
        regions=regions,
        priority=priority,
        max_seconds=seconds,
        max_price_per_hour=price,
        quote=fields.quote,
        only_nodes=tuple(NodeId(node) for node in fields.nodes),
        exclude_nodes=tuple(NodeId(node) for node in fields.exclude_nodes),
        queue_ms=None if fields.queue_seconds is None else Millis(fields.queue_seconds * 1000),
        name=fields.name,
        labels=tuple(sorted(fields.labels.items())),
        submitted=canonical_json(
            {
                "gpu": fields.gpu,
                "gpu_type": fields.gpu_type,
                "region": fields.region,
                "output": fields.output.kept(),
            }
        ).decode(),
        input_content=None if given is None else given.content,
        named=_named(fields),
        tiers=tiers,
        min_cuda=cuda,
        min_reputation_millionths=reputation,
        retry=retry,
        secrets=dict(fields.secrets),
        consumer_id=fields.consumer_id,
        webhook=fields.webhook,
        auto_extend_ms=Millis(fields.auto_extend_seconds * 1000),
        output=fields.output,
    )


def output_of(submitted: str) -> OutputFields:
    """`output_config` of a job, by what is kept of its request."""
    return OutputFields(**json.loads(submitted).get("output", {}))


def _input(fields: OrderFields, found: "_Findings") -> ReadInput | None:
    try:
        given = read_input(fields.input)
    except (ValueError, TypeError, RecursionError):
        found.add("input", DetailCode.NOT_ALLOWED, "is not text or JSON")
        return None
    return given


def _require_sizes(fields: OrderFields, given: ReadInput | None) -> None:
    """Raises TooLarge for what would fit the body but not a job."""
    if given is not None and given.content is not None and len(given.content) > MAX_INLINE_BYTES:
        raise TooLarge(
            "input takes more than 1 MiB; nothing was created, upload it (POST /v1/files) and name its file_id",
            extra={"limit_bytes": MAX_INLINE_BYTES},
        )
    both = (*fields.env.items(), *fields.secrets.items())
    if sum(len(name.encode()) + len(value.encode()) for name, value in both) > MAX_ENV_BYTES:
        raise TooLarge(
            "env and secrets take more than 64 KiB together; nothing was created, send what is large as input",
            extra={"limit_bytes": MAX_ENV_BYTES},
        )


def _check_output(output: OutputFields, found: "_Findings") -> None:
    try:
        place = output.place
    except MalformedPlace as error:
        found.add("output_config.destination", DetailCode.NOT_ALLOWED, str(error))
        return
    if place is None and output.credential_id is not None:
        found.add("output_config.credential_id", DetailCode.CONFLICT, "is for a bucket, and the destination is local")


def _named(fields: OrderFields) -> frozenset[str]:
    given = {
        "gpu": fields.gpu,
        "requirements.gpu_type": fields.gpu_type,
        "requirements.gpu_types": fields.gpu_types,
        "maxMinutes": fields.max_minutes,
        "timeout_seconds": fields.timeout_seconds,
        "seconds": fields.seconds,
        "max_price_per_gpu_second": fields.max_price_per_gpu_second,
        "max_price_per_hour": fields.max_price_per_hour,
    }
    return frozenset(name for name, value in given.items() if value is not None)


class _Findings:
    """Everything that is wrong, collected, so that a caller mends it in one go."""

    def __init__(self) -> None:
        self._details: list[Detail] = []

    def add(
        self,
        name: str,
        code: DetailCode,
        message: str,
        *,
        allowed: tuple[str, ...] = (),
        suggestions: tuple[str, ...] = (),
    ) -> None:
        self._details.append(Detail(name, code, message, allowed, suggestions))

    def raise_any(self) -> None:
        if self._details:
            raise Invalid.of(self._details)


def is_reference(text: str) -> bool:
    """Whether every engine reads this as an image's name: what none can pull opens no escrow."""
    match = _IMAGE.fullmatch(text) if len(text) <= MAX_REFERENCE else None
    if match is None or len(match["name"]) > _MAX_NAME:
        return False
    host, port = match["host"], match["port"]
    if port is not None:
        return 0 < int(port) <= _MAX_PORT
    # Without a dot or a port the first part is a user of the default registry, in lower case as all names are.
    return host is None or "." in host or host == host.lower()


def _tiers(fields: OrderFields, found: _Findings) -> tuple[tuple[str, ...], ...]:
    """Classes that will do, those preferred first: the one that is named, then the fallbacks; all of them for `any`."""
    given = [(name, text) for name, text in (("gpu", fields.gpu), ("requirements.gpu_type", fields.gpu_type)) if text]
    fallbacks = [("requirements.gpu_types", text) for text in fields.gpu_types or ()]
    if not given and not fallbacks:
        found.add("gpu", DetailCode.REQUIRED, "name a class such as cpu-small; GET /v1/constants lists them")
        return ((CLASSES[0].id,),)
    if any(text.casefold() == ANY for _, text in (*given, *fallbacks)):
        if fallbacks or not all(text.casefold() == ANY for _, text in given):
            found.add("gpu", DetailCode.CONFLICT, "any stands alone: name it, or name classes")
        wanted: list[tuple[HardwareClass, ...]] = [CLASSES]
    else:
        named = [entry for name, text in given if (entry := _class(name, text, found)) is not None]
        if len({entry.id for entry in named}) > 1:
            found.add("gpu", DetailCode.CONFLICT, "gpu and requirements.gpu_type name different classes")
        listed = [entry for name, text in fallbacks if (entry := _class(name, text, found)) is not None]
        wanted = [(entry,) for entry in dict.fromkeys((*named, *listed))]
    if not wanted:
        return ((CLASSES[0].id,),)
    able = [tier for each in wanted if (tier := tuple(e.id for e in each if not _short(e, fields)))]
    if not able:
        _refuse_unsatisfiable(fields, [entry for tier in wanted for entry in tier], found)
        return ((CLASSES[0].id,),)
    return tuple(able)


def _class(name: str, text: str, found: _Findings) -> HardwareClass | None:
    try:
        return find_class(text)
    except UnknownName as unknown:
        found.add(name, DetailCode.UNKNOWN_GPU, "is no class we know", suggestions=unknown.suggestions)
        return None


def _short(entry: HardwareClass, fields: OrderFields) -> list[str]:
    """Requirements that a class can't meet: what a job of so many GPUs or slots gets follows from its class."""
    has = {
        "min_vram_gb": (fields.min_vram_gb, entry.vram_gb),
        "min_ram_gb": (fields.min_ram_gb, entry.ram_gb * fields.gpu_count),
        "min_vcpu": (fields.min_vcpu, entry.vcpu * fields.gpu_count),
    }
    return [name for name, (wanted, gets) in has.items() if wanted is not None and wanted > gets]


def _refuse_unsatisfiable(fields: OrderFields, wanted: list[HardwareClass], found: _Findings) -> None:
    able = tuple(entry.id for entry in CLASSES if not _short(entry, fields))
    short = [set(_short(entry, fields)) for entry in wanted]
    names = set.intersection(*short) or set.union(*short)
    what = wanted[0].id if len(wanted) == 1 else "these classes"
    for name in sorted(names):
        found.add(
            f"requirements.{name}", DetailCode.UNSATISFIABLE,
            f"is more than {what} can give to {fields.gpu_count} of them; change gpu_count or the class",
            suggestions=able,
        )  # fmt: skip


def _cuda(fields: OrderFields, found: _Findings) -> int:
    try:
        return 0 if fields.min_cuda is None else cuda_version(fields.min_cuda)
    except ValueError:
        found.add("requirements.min_cuda", DetailCode.NOT_ALLOWED, "must be a version as text, such as 12.4")
        return 0


def _reputation(fields: OrderFields, found: _Findings) -> int:
    """In millionths, rounded up: who falls short by less is still short."""
    if fields.min_reputation is None:
        return 0
    millionths = math.ceil(Fraction(fields.min_reputation) * _MILLION)
    if millionths > _MILLION:
        found.add("requirements.min_reputation", DetailCode.OUT_OF_RANGE, "must lie between 0 and 1")
    return min(millionths, _MILLION)


def _retry(fields: RetryFields | None, found: _Findings) -> RetryPolicy:
    if fields is None:
        return RetryPolicy()
    codes = {reason.code: reason for reason in sorted(RETRIED)}
    for code in fields.on or ():
        if code not in codes:
            found.add("retry.on", DetailCode.NOT_ALLOWED, "is no end that is retried", allowed=tuple(codes))
            break
    if len(set(fields.exit_codes)) > MAX_EXIT_CODES:
        found.add("retry.exit_codes", DetailCode.OUT_OF_RANGE, f"holds at most {MAX_EXIT_CODES}")
    on: frozenset[Reason] = RETRIED
    if fields.on is not None:
        on = frozenset(codes[code] for code in fields.on if code in codes)
    return RetryPolicy(fields.max_attempts, on, frozenset(fields.exit_codes), fields.extend)


def _retry_terms(fields: RetryFields | None, policy: RetryPolicy) -> RetryTerms | None:
    """What of it the node has to know, and the hash to stand for; None where nothing was asked for."""
    if fields is None:
        return None
    return RetryTerms(
        max_attempts=policy.max_attempts,
        exit_codes=tuple(sorted(policy.exit_codes)),
        extend=True if policy.extend else None,
    )


def _regions(fields: OrderFields, found: _Findings) -> tuple[str, ...]:
    names = [("region", fields.region)] if fields.region is not None else []
    names += [("regions", name) for name in fields.regions or ()]
    codes: list[str] = []
    for where, name in names:
        if name.casefold() == "any":
            continue
        try:
            codes.append(find_place(name))
        except UnknownName as unknown:
            found.add(
                where, DetailCode.UNKNOWN_REGION, "is no place we know",
                allowed=tuple(REGIONS), suggestions=unknown.suggestions,
            )  # fmt: skip
    return tuple(sorted(set(codes)))


def _priority(text: str, found: _Findings) -> Priority:
    try:
        return Priority(text)
    except ValueError:
        found.add("priority", DetailCode.NOT_ALLOWED, "is none of the priorities", allowed=tuple(Priority))
        return Priority.NORMAL


def _seconds(fields: OrderFields, found: _Findings) -> int:
    given = {
        name: value
        for name, value in (
            ("maxMinutes", fields.max_minutes * 60 if fields.max_minutes is not None else None),
            ("timeout_seconds", fields.timeout_seconds),
            ("seconds", fields.seconds),
        )
        if value is not None
    }
    for name, value in given.items():
        if not 1 <= value <= MAX_SECONDS:
            most = MAX_SECONDS // 60 if name == "maxMinutes" else MAX_SECONDS
            found.add(name, DetailCode.OUT_OF_RANGE, f"must lie between 1 and {most}")
    if len(set(given.values())) > 1:
        found.add(next(iter(given)), DetailCode.CONFLICT, f"{' and '.join(given)} name different times")
    return next(iter(given.values()), DEFAULT_SECONDS)


def _price(fields: OrderFields, seconds: int, decimals: int, found: _Findings) -> Tokens | None:
    second, hour = fields.max_price_per_gpu_second, fields.max_price_per_hour
    if second is not None and hour is not None:
        found.add("max_price_per_hour", DetailCode.CONFLICT, "give one of the two max_price fields")
        return None
    name, text = ("max_price_per_gpu_second", second) if second is not None else ("max_price_per_hour", hour)
    if text is None:
        return None
    try:
        if second is not None:
            price = hourly_from_gpu_second(second, fields.gpu_count, decimals, ceiling=True)
        else:
            # A ceiling of more places than the token has is rounded down: it is never exceeded.
            whole, _, part = text.partition(".")
            price = parse_amount(f"{whole}.{part[:decimals]}" if part else whole, decimals)
    except (MalformedAmount, AmountOverflow, ArithmeticError, ValueError):
        found.add(name, DetailCode.NOT_ALLOWED, 'must be a decimal amount as text, such as "0.05"')
        return None
    if price <= 0:
        found.add(name, DetailCode.OUT_OF_RANGE, "must be above zero")
        return None
    try:
        deposit_for(price, Millis(min(max(seconds, 1), MAX_SECONDS) * 1000))
    except AmountOverflow:
        found.add(name, DetailCode.OUT_OF_RANGE, "times the job's time is more than the chain can hold")
        return None
    return price


def _check_env(fields: OrderFields, found: _Findings) -> None:
    for where, names in (("env", fields.env), ("secrets", fields.secrets)):
        for name in names:
            if not _ENV_NAME.fullmatch(name):
                found.add(where, DetailCode.NOT_ALLOWED, "holds a name that is not [A-Za-z_][A-Za-z0-9_]*")
                break
            if name.startswith(RESERVED_ENV):
                found.add(where, DetailCode.NOT_ALLOWED, f"names beginning with {RESERVED_ENV} are ours")
                break
        if any("\0" in value for value in names.values()):
            found.add(where, DetailCode.NOT_ALLOWED, "holds a value with a zero byte")
    if fields.env.keys() & fields.secrets.keys():
        found.add("secrets", DetailCode.CONFLICT, "names a variable that env names too")


def _check_sandbox(fields: OrderFields, tiers: tuple[tuple[str, ...], ...], found: _Findings) -> None:
    """Shared memory, locked memory and stack come out of the job's own memory."""
    if fields.shm_mb is None and not fields.ulimits:
        return
    ram_gb = min(find_class(class_id).ram_gb for tier in tiers for class_id in tier) * fields.gpu_count
    if fields.shm_mb is not None and not 1 <= fields.shm_mb <= ram_gb * 1000:
        found.add("shm_gb", DetailCode.OUT_OF_RANGE, f"must lie between 0.001 and the job's memory, {ram_gb}")
    bounds = {
        "nofile": (MIN_OPEN_FILES, MAX_OPEN_FILES),
        "memlock": (0, ram_gb * GB),
        "stack": (MIN_STACK_BYTES, ram_gb * GB),
    }
    for name, value in fields.ulimits.items():
        least, most = bounds.get(name, (0, 0))
        if name not in bounds:
            found.add("ulimits", DetailCode.NOT_ALLOWED, "names a limit that jobs don't have", allowed=tuple(bounds))
        elif not least <= value <= most:
            found.add(f"ulimits.{name}", DetailCode.OUT_OF_RANGE, f"must lie between {least} and {most}")
