"""`reaver models`: what a market runs by name."""

from typing import Annotated

import typer

from marketplace.cli.reaver.options import DEFAULT_API, ApiUrl, JsonFlag, KeypairFile, refuse_misplaced
from marketplace.cli.reaver.output import Output
from marketplace.cli.reaver.session import Connection, run, with_client

app = typer.Typer(
    help="""See what a market runs by name. Alone: all of them.

    \b
      reaver models
      reaver models get NAME
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
