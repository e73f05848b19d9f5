"""Files into a job and out of it: `--upload`, `--download` and `reaver jobs download`."""

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from marketplace.cli.reaver.output import Output
from marketplace.cli.reaver.session import Connection, run, with_client

if TYPE_CHECKING:
    from marketplace.client.account_models import StoredFile
    from marketplace.client.requests import JobRequest


def uploaded(output: Output, connection: Connection, request: "JobRequest", file: Path) -> "JobRequest":
    """The request with the file as its input, sent where the market doesn't have it already."""
    from dataclasses import replace

    given_input(request, file)
    known = sent(output, file, lambda told: with_client(connection, lambda c: c.files.ensure(file, told=told)))
    output.note(f"input: {known.name}, {known.size} bytes, {known.file_id}")
    return replace(request, input=known.file_id)


def sent(
    output: Output, file: Path, send: "Callable[[Callable[[int, int], None]], Coroutine[Any, Any, StoredFile]]"
) -> "StoredFile":
    """The file at the market, with a bar while it goes there. Ctrl-C keeps what the market has of it."""
    from marketplace.cli.reaver.exits import Exit

    try:
        with output.progress(f"sending {file.name}") as told:
            return run(output, lambda: send(told))
    except KeyboardInterrupt:
        output.note("interrupted; the same command, given again within a day, sends only what is missing")
        raise typer.Exit(int(Exit.INTERRUPTED)) from None


def given_input(request: "JobRequest", file: Path | None) -> None:
    """Raise typer.BadParameter where the file can't be the request's input."""
    if file is None:
        return
    if request.input is not None:
        raise typer.BadParameter("an input is named already", param_hint="--upload")
    if not file.is_file():
        raise typer.BadParameter(f"{file} is no file", param_hint="--upload")


def free_folder(folder: Path) -> None:
    """Raise typer.BadParameter where outputs could replace something that is there."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise typer.BadParameter(f"{folder} is there already and not an empty folder", param_hint="--download")


def fetch(output: Output, connection: Connection, job_id: str, folder: Path) -> int:
    """Fetch what the job left into the folder; how many files."""
    folder.mkdir(parents=True, exist_ok=True)
    with output.working("fetching what the job left"):
        found = run(output, lambda: with_client(connection, lambda client: client.outputs.fetch(job_id, folder)))
    output.note(f"{len(found)} files, {sum(one.size for one in found)} bytes in {folder}")
    return len(found)
