"""Options that describe work, shared by `quote` and `run`; a job file says the same, and options go before it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from marketplace.client.requests import JobRequest

JobFile = Annotated[
    Path | None,
    typer.Option(
        "--file", "-F", metavar="FILE", help="Job file (`reaver init` writes one; - reads standard input). Options win."
    ),
]
ModelName = Annotated[
    str | None, typer.Option("--model", metavar="NAME", help="A model of the market's instead of an image.")
]
InputText = Annotated[
    str | None,
    typer.Option("--input", metavar="TEXT", help="What lies in /inputs: a text, a file's id, or an https URL."),
]
Gpu = Annotated[
    str | None,
    typer.Option("--gpu", "--class", metavar="CLASS", help="Hardware class: cpu-small, rtx4090, a100, h100, …, any"),
]
GpuCount = Annotated[
    int | None, typer.Option("--gpu-count", min=1, max=8, help="GPUs, or slots of a CPU class.  [default: 1]")
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
Secrets = Annotated[
    list[str] | None,
    typer.Option("--secret", metavar="NAME", help="Variable of your environment that is passed on, never shown."),
]
Labels = Annotated[
    list[str] | None, typer.Option("--label", metavar="K=V", help="Label to find and sum jobs by; may be repeated.")
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

NetworkName = Annotated[
    Literal["egress", "none"] | None,
    typer.Option("--network", help="none cuts the job off.  [default: egress]", show_default=False),
]
DiskGb = Annotated[
    int | None,
    typer.Option("--disk-gb", min=1, max=2000, help="Room for the job's own files.  [default: 2]", show_default=False),
]


def job_request(
    *,
    file: Path | None = None,
    image: str | None = None,
    gpu: str | None = None,
    gpu_count: int | None = None,
    region: str | None = None,
    max_minutes: int | None = None,
    environment: list[str] | None = None,
    secrets: list[str] | None = None,
    labels: list[str] | None = None,
    name: str | None = None,
    priority: str | None = None,
    max_price_per_hour: str | None = None,
    disk_gb: int | None = None,
    entrypoint: str | None = None,
    command: list[str] | None = None,
    model: str | None = None,
    given_input: str | None = None,
    network: Literal["egress", "none"] | None = None,
) -> "JobRequest":
    """The request that a job file and the options describe; options replace what the file says.

    Variables and labels are added to the file's. Raises typer.BadParameter, BadJobFile.
    """
    import shlex
    from dataclasses import replace

    from marketplace.client.requests import JobRequest

    base = JobRequest() if file is None else _read(file)
    given: dict[str, Any] = {
        "gpu": gpu,
        "network": network,
        "name": name,
        "priority": priority,
        "entrypoint": None if entrypoint is None else tuple(shlex.split(entrypoint)),
        "command": tuple(command) if command else None,
    }
    if region is not None:
        base = replace(base, region=region, regions=None)
    changed = replace(
        base,
        env=base.env | _pairs(environment, "--env"),
        secrets=base.secrets | _secrets(secrets),
        labels=base.labels | _pairs(labels, "--label"),
        requirements=replace(
            base.requirements,
            gpu_count=base.requirements.gpu_count if gpu_count is None else gpu_count,
            disk_gb=base.requirements.disk_gb if disk_gb is None else disk_gb,
            # --gpu names the class, whatever the file prefers.
            gpu_type=base.requirements.gpu_type if gpu is None else None,
            gpu_types=base.requirements.gpu_types if gpu is None else None,
        ),
    )
    if image is not None and model is not None:
        raise typer.BadParameter("name an image or a model, not both", param_hint="--model")
    if image is not None or model is not None:
        changed = replace(changed, image=image, model=model)
    if given_input is not None:
        changed = replace(changed, input=given_input)
    if max_minutes is not None:
        changed = replace(changed, max_minutes=max_minutes, timeout_seconds=None)
    if max_price_per_hour is not None:
        changed = replace(changed, max_price_per_hour=max_price_per_hour, max_price_per_gpu_second=None)
    changed = replace(changed, **{field: value for field, value in given.items() if value is not None})
    needs = changed.requirements
    if changed.model is None and changed.gpu is None and needs.gpu_type is None and not needs.gpu_types:
        raise typer.BadParameter("name a class, such as --gpu cpu-small, or a job file with `gpu`", param_hint="--gpu")
    return changed


def needs_image(request: "JobRequest") -> None:
    """Raise typer.BadParameter where nothing says what to run."""
    if request.image is None and request.model is None:
        raise typer.BadParameter(
            "name an image (or a model, --model), or a job file with `image` or `model`", param_hint="--image"
        )
    if request.image is not None and request.model is not None:
        raise typer.BadParameter("the job file names an image and a model; keep one", param_hint="--file")


def label_filter(text: str | None) -> str | None:
    """K=V as the API's filter writes it, `K:V`. Raises typer.BadParameter."""
    if text is None:
        return None
    return ":".join(next(iter(_pairs([text], "--label").items())))


def _read(file: Path) -> "JobRequest":
    import os
    import sys

    from marketplace.client.jobfiles import read_job_file

    try:
        piped = str(file) == "-"
        text = sys.stdin.read() if piped else file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"{file} is not UTF-8 text", param_hint="--file") from error
    except OSError as error:
        hint = "; `reaver init` writes one" if isinstance(error, FileNotFoundError) else ""
        raise typer.BadParameter(f"{file} can't be read: {error.strerror}{hint}", param_hint="--file") from error
    name, folder = ("standard input", Path()) if piped else (str(file), file.parent)
    return read_job_file(text, file=name, environment=os.environ, folder=folder)


def _pairs(entries: list[str] | None, option: str) -> dict[str, str]:
    pairs = {}
    for entry in entries or []:
        key, equals, value = entry.partition("=")
        if not equals or not key:
            raise typer.BadParameter(f"{entry!r} is not K=V", param_hint=option)
        pairs[key] = value
    return pairs


def _secrets(names: list[str] | None) -> dict[str, str]:
    import os

    found = {}
    for name in names or []:
        if "=" in name:
            # It would stand in the shell's history, and in the list of processes.
            raise typer.BadParameter(
                f"give the name alone, and its value in the environment: {name.partition('=')[0]}=… reaver run …",
                param_hint="--secret",
            )
        if name not in os.environ:
            raise typer.BadParameter(f"the environment variable {name} is not set", param_hint="--secret")
        found[name] = os.environ[name]
    return found
