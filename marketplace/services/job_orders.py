"""What a renter asks for, checked and completed: from a request's fields to the spec that is hashed."""

import re
from dataclasses import dataclass, field
from typing import Final, Literal

from marketplace.domain.catalogue import REGIONS, UnknownName, find_class, find_region
from marketplace.domain.ids import NodeId
from marketplace.domain.money import (
    AmountOverflow,
    MalformedAmount,
    deposit_for,
    hourly_from_gpu_second,
    parse_amount,
)
from marketplace.domain.pricing import Priority
from marketplace.domain.quantities import Millis, Tokens
from marketplace.errors import Detail, DetailCode, Invalid
from marketplace.protocol.terms import DEFAULT_DISK_GB, JobSpec, canonical_json

DEFAULT_SECONDS: Final = 3_600
MAX_SECONDS: Final = 86_400
MAX_ATTEMPTS: Final = 3
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
_ENV_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class OrderFields:
    """The fields of a job body that this market takes, as given; None where left out."""

    image: str | None = None
    gpu: str | None = None
    gpu_type: str | None = None
    gpu_count: int = 1
    disk_gb: int | None = None
    region: str | None = None
    regions: tuple[str, ...] | None = None
    max_minutes: int | None = None
    timeout_seconds: int | None = None
    seconds: int | None = None
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
    queue_seconds: int = 3_600
    stop_grace_seconds: int = 10
    network: Literal["egress", "none"] = "egress"
    name: str | None = None
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Order:
    """A checked request.

    max_price_per_hour: the renter's own ceiling, for the whole allocation, None for none.
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
    queue_ms: Millis
    name: str | None
    labels: tuple[tuple[str, str], ...]
    submitted: str
    named: frozenset[str]

    @property
    def limit(self) -> Millis:
        """Most billed time, over all attempts."""
        return Millis(self.max_seconds * 1000)


def read_order(fields: OrderFields, *, decimals: int, image_needed: bool) -> Order:
    """Check everything, before any row exists. Raises Invalid with every wrong field."""
    found = _Findings()
    class_id = _class(fields, found)
    regions = _regions(fields, found)
    seconds = _seconds(fields, found)
    price = _price(fields, seconds, decimals, found)
    if fields.image is None:
        if image_needed:
            found.add("image", DetailCode.REQUIRED, "name the image to run")
    elif not _is_reference(fields.image):
        found.add("image", DetailCode.NOT_ALLOWED, "is not an image reference such as docker.io/org/name:tag")
    if fields.workdir is not None and not fields.workdir.startswith("/"):
        found.add("workdir", DetailCode.NOT_ALLOWED, "must be an absolute path, such as /work")
    _check_env(fields.env, found)
    try:
        priority = Priority(fields.priority)
    except ValueError:
        priority = Priority.NORMAL
        found.add("priority", DetailCode.NOT_ALLOWED, "is none of the priorities", allowed=tuple(Priority))
    for name, text in (("nodes", fields.nodes), ("exclude_nodes", fields.exclude_nodes)):
        if any(not node.startswith("node_") for node in text):
            found.add(name, DetailCode.NOT_ALLOWED, "holds something that is no node id")
    if fields.quote is not None and price is not None:
        found.add("quote", DetailCode.CONFLICT, "a quote fixes the price; give it or a max_price, not both")
    found.raise_any()
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
        limit_ms=seconds * 1000,
        network=fields.network,
        stop_grace_s=fields.stop_grace_seconds,
    )
    return Order(
        spec=spec,
        has_image=fields.image is not None,
        regions=regions,
        priority=priority,
        max_seconds=seconds,
        max_price_per_hour=price,
        quote=fields.quote,
        only_nodes=tuple(NodeId(node) for node in fields.nodes),
        exclude_nodes=tuple(NodeId(node) for node in fields.exclude_nodes),
        queue_ms=Millis(fields.queue_seconds * 1000),
        name=fields.name,
        labels=tuple(sorted(fields.labels.items())),
        submitted=canonical_json({"gpu": fields.gpu, "gpu_type": fields.gpu_type, "region": fields.region}).decode(),
        named=_named(fields),
    )


def _named(fields: OrderFields) -> frozenset[str]:
    given = {
        "gpu": fields.gpu,
        "requirements.gpu_type": fields.gpu_type,
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
            first = self._details[0]
            raise Invalid(f"{first.field}: {first.message}", details=self._details)


def _is_reference(text: str) -> bool:
    """Whether every engine reads this as an image's name: what none can pull opens no escrow."""
    match = _IMAGE.fullmatch(text) if len(text) <= MAX_REFERENCE else None
    if match is None or len(match["name"]) > _MAX_NAME:
        return False
    host, port = match["host"], match["port"]
    if port is not None:
        return 0 < int(port) <= _MAX_PORT
    # Without a dot or a port the first part is a user of the default registry, in lower case as all names are.
    return host is None or "." in host or host == host.lower()


def _class(fields: OrderFields, found: _Findings) -> str:
    given = [(name, text) for name, text in (("gpu", fields.gpu), ("requirements.gpu_type", fields.gpu_type)) if text]
    if not given:
        found.add("gpu", DetailCode.REQUIRED, "name a class such as cpu-small; GET /v1/constants lists them")
        return ""
    classes: list[str] = []
    for name, text in given:
        try:
            classes.append(find_class(text).id)
        except UnknownName as unknown:
            found.add(name, DetailCode.UNKNOWN_GPU, "is no class we know", suggestions=unknown.suggestions)
    if len(set(classes)) > 1:
        found.add("gpu", DetailCode.CONFLICT, "gpu and requirements.gpu_type name different classes")
    return classes[0] if classes else ""


def _regions(fields: OrderFields, found: _Findings) -> tuple[str, ...]:
    names = [("region", fields.region)] if fields.region is not None else []
    names += [("regions", name) for name in fields.regions or ()]
    codes: list[str] = []
    for where, name in names:
        if name.casefold() == "any":
            continue
        try:
            codes.append(find_region(name))
        except UnknownName as unknown:
            found.add(
                where, DetailCode.UNKNOWN_REGION, "is no region we know",
                allowed=tuple(REGIONS), suggestions=unknown.suggestions,
            )  # fmt: skip
    return tuple(sorted(set(codes)))


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


def _check_env(env: dict[str, str], found: _Findings) -> None:
    for name in env:
        if not _ENV_NAME.fullmatch(name):
            found.add("env", DetailCode.NOT_ALLOWED, "holds a name that is not [A-Za-z_][A-Za-z0-9_]*")
            break
        if name.startswith(RESERVED_ENV):
            found.add("env", DetailCode.NOT_ALLOWED, f"names beginning with {RESERVED_ENV} are ours")
            break
    if sum(len(name.encode()) + len(value.encode()) for name, value in env.items()) > MAX_ENV_BYTES:
        found.add("env", DetailCode.OUT_OF_RANGE, "takes more than 64 KiB")
