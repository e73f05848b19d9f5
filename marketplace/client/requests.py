"""What a renter asks for: the request as it is sent, and the spec that it stands for on chain.

The spec is built here again, from the request and never from the server's answer, because its hash is what ties
the escrow that the wallet signs to the work that was asked for.
"""

from dataclasses import dataclass, field
from typing import Final

from marketplace.domain.catalogue import ANY, find_class, find_region
from marketplace.protocol.terms import DEFAULT_DISK_GB, JobSpec

DEFAULT_LIMIT_S: Final = 3600
"""Time limit of a job that names none; api.md section 5.2."""


@dataclass(frozen=True, slots=True)
class JobRequest:
    """A container job.

    image: None only for a price; a job needs one. gpu: class or alias.
    region: None is anywhere. max_minutes: None is an hour. disk_gb: of the job itself; None is the market's default.
    max_price_per_hour: decimal text in whole tokens, the most that the whole job may cost per hour.
    """

    image: str | None
    gpu: str
    region: str | None = None
    max_minutes: int | None = None
    entrypoint: tuple[str, ...] | None = None
    command: tuple[str, ...] | None = None
    env: dict[str, str] = field(default_factory=dict)
    name: str | None = None
    priority: str | None = None
    max_price_per_hour: str | None = None
    disk_gb: int | None = None

    def body(self) -> dict[str, object]:
        """The JSON body of `POST /v1/quote` and `POST /v1/jobs`; what was not asked for is left out."""
        optional: dict[str, object] = {
            "image": self.image,
            "gpu": self.gpu,
            "region": self.region,
            "maxMinutes": self.max_minutes,
            "entrypoint": None if self.entrypoint is None else list(self.entrypoint),
            "command": None if self.command is None else list(self.command),
            "env": dict(self.env) or None,
            "name": self.name,
            "priority": self.priority,
            "max_price_per_hour": self.max_price_per_hour,
            "requirements": None if self.disk_gb is None else {"disk_gb": self.disk_gb},
        }
        return {name: value for name, value in optional.items() if value is not None}

    def limit_s(self) -> int:
        """Seconds of billed time, at most."""
        return DEFAULT_LIMIT_S if self.max_minutes is None else self.max_minutes * 60

    def spec(self) -> JobSpec:
        """The spec whose hash the escrow carries.

        Raises UnknownName for a class or region outside the catalogue, ValueError without an image.
        """
        if self.image is None:
            raise ValueError("a job needs an image")
        return JobSpec(
            image=self.image,
            entrypoint=self.entrypoint,
            command=self.command,
            env=dict(self.env),
            class_id=find_class(self.gpu).id,
            regions=() if self.region is None or self.region.casefold() == ANY else (find_region(self.region),),
            limit_ms=self.limit_s() * 1000,
            disk_gb=DEFAULT_DISK_GB if self.disk_gb is None else self.disk_gb,
        )
