"""`reaver models`: what a market runs by name."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from marketplace.cli.reaver.options import DEFAULT_API, ApiUrl, JsonFlag, KeypairFile, refuse_misplaced
from marketplace.cli.reaver.output import Output
from marketplace.cli.reaver.session import Connection, described, run, with_client

if TYPE_CHECKING:
    from marketplace.client.account_models import Model
    from marketplace.client.client import ReaverClient
    from marketplace.client.model_entries import ModelEntry

app = typer.Typer(
    help="""See what a market runs by name. Alone: all of them.

    \b
      reaver models
      reaver models get NAME
      reaver models put FILE [NAME …]     the market's admins
      reaver models delete NAME           the market's admins
    """,
    invoke_without_command=True,
    rich_markup_mode=None,
)


@app.callback()
def list_models(
    context: typer.Context, api: ApiUrl = DEFAULT_API, keypair: KeypairFile = None, as_json: JsonFlag = False
) -> None:
    """List models."""
    if context.invoked_subcommand is not None:
        refuse_misplaced(context)
        return
    output = Output(as_json=as_json)
    connection = Connection(api, keypair)
    found = run(output, lambda: with_client(connection, lambda c: c.list_models(limit=100)))
    if as_json:
        output.json(found.model_dump(by_alias=True))
        return
    output.table(
        ("model", "class", "about"),
        [(model.name, model.default_gpu, model.description) for model in found.models],
        "this market names no models; jobs run any image: reaver run --help",
    )


@app.command("get")
def get_model(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the model.", show_default=False)],
    api: ApiUrl = DEFAULT_API,
    keypair: KeypairFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Show one model: its image, class and times.

    \b
      reaver models get gpt2
    """
    output = Output(as_json=as_json)
    connection = Connection(api, keypair)
    found = run(output, lambda: with_client(connection, lambda c: c.get_model(name)))
    if as_json:
        output.json(found.model_dump(by_alias=True))
        return
    takes = found.input_schema.get("description")
    output.fields(
        f"Model {found.name}",
        [
            ("about", found.description),
            ("image", found.image),
            ("class", found.default_gpu),
            ("least VRAM", f"{found.min_vram_gb} GB"),
            ("time", f"{found.estimated_time_seconds} s expected, {found.default_timeout_seconds} s at most"),
            ("input", None if takes is None else str(takes)),
            ("results", ", ".join(found.formats) or None),
        ],
    )


@app.command("put")
def put_models(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="TOML, a table for each model.", show_default=False)],
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Only these of the file.", show_default=False)
    ] = None,
    api: ApiUrl = DEFAULT_API,
    keypair: KeypairFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Let jobs name the models of a file, in place of those of the same name. For admins of the market.

    \b
      reaver models put models.toml
      reaver models put models.toml gpt2
    """
    output = Output(as_json=as_json)
    connection = Connection(api, keypair)
    entries = described(output, lambda: _entries(file, names or []))

    async def work(client: "ReaverClient") -> "list[Model]":
        return [await client.put_model(name, entry) for name, entry in entries.items()]

    made = run(output, lambda: with_client(connection, work))
    if as_json:
        output.json({"models": [model.model_dump(by_alias=True) for model in made]})
        return
    for model in made:
        output.line(f"{model.name} is {model.image}")


@app.command("delete")
def delete_model(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the model.", show_default=False)],
    api: ApiUrl = DEFAULT_API,
    keypair: KeypairFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Let no job name a model any more; jobs that did go on. For admins of the market.

    \b
      reaver models delete gpt2
    """
    output = Output(as_json=as_json)
    connection = Connection(api, keypair)
    run(output, lambda: with_client(connection, lambda c: c.delete_model(name)))
    output.deleted(name)


def _entries(file: Path, names: list[str]) -> "dict[str, ModelEntry]":
    from marketplace.client.model_entries import read_entries

    found = read_entries(file)
    if missing := [name for name in names if name not in found]:
        raise ValueError(f"{file} has no table {missing[0]}; it has {', '.join(found) or 'none'}")
    if not found:
        raise ValueError(f"{file} has no table of a model")
    return {name: found[name] for name in names} if names else found
