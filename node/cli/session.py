"""What every command of `reaver-node` shares: its options, its configuration, and how it ends with an error."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from node.settings import Settings

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="Configuration file.", envvar="REAVER_NODE_CONFIG", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def file_of(config: Path | None) -> Path:
    """The configuration file meant, absolute."""
    from node.settings import DEFAULT_FILE

    return (config or DEFAULT_FILE).absolute()


def settings_of(config: Path | None) -> "tuple[Settings, Path]":
    """The configuration and its file; ends the process with the reason where it can't be used."""
    from node import settings
    from node.errors import ConfigUnusable

    file = file_of(config)
    try:
        return settings.load(file), file
    except ConfigUnusable as error:
        fail(str(error))


def fail(message: str) -> NoReturn:
    """Say why on standard error and end with 1."""
    typer.echo(f"reaver-node: {message}", err=True)
    raise typer.Exit(1)
