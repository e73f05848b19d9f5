"""`reaver files`: what jobs read."""

from pathlib import Path
from typing import Annotated

import typer

from marketplace.cli.reaver.commands.outputs import sent
from marketplace.cli.reaver.options import DEFAULT_API, ApiUrl, JsonFlag, KeypairFile, refuse_misplaced
from marketplace.cli.reaver.output import Output
from marketplace.cli.reaver.session import Connection, run, with_client

FileId = Annotated[str, typer.Argument(metavar="FILE", help="Id of the file, such as file_…", show_default=False)]

app = typer.Typer(
    help="""Upload files that jobs read, list, fetch and delete them. Alone: the newest ones.

    \b
      reaver files upload data.csv
      reaver files
      reaver files download file_… -o data.csv
      reaver files delete file_…
    """,
    invoke_without_command=True,
    rich_markup_mode=None,
)


@app.callback()
def list_files(
    context: typer.Context,
    limit: Annotated[int | None, typer.Option("--limit", min=1, max=100, help="How many.  [default: 20]")] = None,
    offset: Annotated[int | None, typer.Option("--offset", min=0, help="Leave out the newest n.")] = None,
    api: ApiUrl = DEFAULT_API,
    keypair: KeypairFile = None,
    as_json: JsonFlag = False,
) -> None:
    """List files, newest first."""
    if context.invoked_subcommand is not None:
        refuse_misplaced(context)
        return
    output = Output(as_json=as_json)
    connection = Connection(api, keypair)
    found = run(output, lambda: with_client(connection, lambda c: c.files.list_files(limit=limit, offset=offset)))
    if as_json:
        output.json(found.model_dump(by_alias=True))
        return
    output.table(
        ("file", "name", "bytes", "created", "kept until"),
        [(f.file_id, f.name, str(f.size), f.created_at, f.expires_at) for f in found.files],
        "no files yet; `reaver files upload PATH` sends one",
    )
    if found.has_more:
        output.note(f"{len(found.files)} of {found.total}; more with --offset {(offset or 0) + len(found.files)}")


@app.command("upload")
def upload(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The file to send.", show_default=False)],
    name: Annotated[str | None, typer.Option("--name", help="Its name at the market.  [default: its own]")] = None,
    api: ApiUrl = DEFAULT_API,
    keypair: KeypairFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Send a file, and print its id. Large ones go in parts; the digest is checked at both ends.

    Interrupted? The same command, given again within a day, sends only what is missing.

    \b
      reaver files upload data.csv
      ID=$(reaver files upload model.bin)
    """
    output = Output(as_json=as_json)
    connection = Connection(api, keypair)
    if not path.is_file():
        raise typer.BadParameter(f"{path} is no file", param_hint="PATH")
    file = sent(
        output, path, lambda told: with_client(connection, lambda c: c.files.upload(path, name=name, told=told))
    )
    if as_json:
        output.json(file.model_dump(by_alias=True))
        return
    output.line(file.file_id)
    output.note(f"{file.name}, {file.size} bytes, kept until {file.expires_at}")


@app.command("get")
def get_file(file: FileId, api: ApiUrl = DEFAULT_API, keypair: KeypairFile = None, as_json: JsonFlag = False) -> None:
    """Show one file.

    \b
      reaver files get file_…
    """
    output = Output(as_json=as_json)
    connection = Connection(api, keypair)
    found = run(output, lambda: with_client(connection, lambda c: c.files.get(file)))
    if as_json:
        output.json(found.model_dump(by_alias=True))
        return
    output.fields(
        f"File {found.file_id}",
        [
            ("name", found.name),
            ("bytes", str(found.size)),
            ("sha256", found.sha256),
            ("type", found.content_type),
            ("created", found.created_at),
            ("kept until", found.expires_at),
        ],
    )


@app.command("download")
def download(
    file: FileId,
    to: Annotated[Path | None, typer.Option("--output", "-o", metavar="PATH", help="Where to.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    api: ApiUrl = DEFAULT_API,
    keypair: KeypairFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Fetch a file. It appears only when it is whole and its digest is right.

    \b
      reaver files download file_… -o data.csv
    """
    output = Output(as_json=as_json)
    connection = Connection(api, keypair)
    # The name at the market is the uploader's word, never a path here.
    target = to or Path(file)
    if target.exists() and not force:
        raise typer.BadParameter(f"{target} is there already; --force replaces it", param_hint="--output")
    with output.working(f"fetching {file}"):
        found = run(output, lambda: with_client(connection, lambda c: c.files.download(file, target)))
    if as_json:
        output.json(found.model_dump(by_alias=True) | {"path": str(target)})
    else:
        output.line(f"Wrote {target}, {found.size} bytes")


@app.command("delete")
def delete(file: FileId, api: ApiUrl = DEFAULT_API, keypair: KeypairFile = None, as_json: JsonFlag = False) -> None:
    """Delete a file. Refused while a job that is not over reads it.

    \b
      reaver files delete file_…
    """
    output = Output(as_json=as_json)
    connection = Connection(api, keypair)
    run(output, lambda: with_client(connection, lambda c: c.files.delete(file)))
    if as_json:
        output.json({"file_id": file, "deleted": True})
    else:
        output.line(f"Deleted {file}")
