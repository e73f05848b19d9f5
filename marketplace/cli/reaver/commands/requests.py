"""Options that describe work, shared by `quote` and `run`."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from marketplace.client.requests import JobRequest

Gpu = Annotated[
    str,
    typer.Option("--gpu", "--class", metavar="CLASS", help="Hardware class: cpu-small, rtx4090, a100, h100, …"),
]
Region = Annotated[
    str | None, typer.Option("--region", metavar="PLACE", help="eu, na, …, or a country.  [default: any]")
]
MaxMinutes = Annotated[
    int | None,
    typer.Option("--max-minutes", min=1, max=1440, help="Longest billed time.  [default: 60]", show_default=False),
]
Environment = Annotated[
    list[str] | None, typer.Option("--env", "-e", metavar="K=V", help="Environment variable; may be repeated.")
]
Name = Annotated[str | None, typer.Option("--name", help="Your own name for the job.")]
JobPriority = Annotated[
    str | None,
    typer.Option("--priority", metavar="LEVEL", help="low, normal, high (1.5 x the price), urgent (2 x)."),
]
MaxPrice = Annotated[
    str | None,
    typer.Option("--max-price-per-hour", metavar="AMOUNT", help="Highest price of the whole job per hour, in tokens."),
]

DiskGb = Annotated[
    int | None,
    typer.Option("--disk-gb", min=1, max=2000, help="Room for the job's own files.  [default: 2]", show_default=False),
]


def job_request(
    *,
    image: str | None,
    gpu: str,
    region: str | None,
    max_minutes: int | None,
    environment: list[str] | None,
    name: str | None,
    priority: str | None,
    max_price_per_hour: str | None,
    disk_gb: int | None,
    entrypoint: str | None,
    command: list[str] | None,
) -> "JobRequest":
    """The request that the options describe. Raises typer.BadParameter."""
    import shlex

    from marketplace.client.requests import JobRequest

    variables = {}
    for entry in environment or []:
        key, equals, value = entry.partition("=")
        if not equals or not key:
            raise typer.BadParameter(f"{entry!r} is not K=V", param_hint="--env")
        variables[key] = value
    return JobRequest(
        image=image,
        gpu=gpu,
        region=region,
        max_minutes=max_minutes,
        entrypoint=None if entrypoint is None else tuple(shlex.split(entrypoint)),
        command=tuple(command) if command else None,
        env=variables,
        name=name,
        priority=priority,
        max_price_per_hour=max_price_per_hour,
        disk_gb=disk_gb,
    )
