"""`reaver registries`: logins at container registries, for private images."""

from pathlib import Path
from typing import Annotated

import typer

from marketplace.cli.reaver.options import DEFAULT_API, ApiUrl, JsonFlag, KeypairFile, read_hidden, refuse_misplaced
from marketplace.cli.reaver.output import Output
from marketplace.cli.reaver.session import Connection, run, with_client

_PASSWORD = "REGISTRY_PASSWORD"  # noqa: S105 - the name of a variable

app = typer.Typer(
    help="""Keep logins at container registries, for private images. Alone: yours.

    \b
      reaver registries create hub --username me --password-file token.txt
      reaver run --file job.yaml        with `registry_auth_id: reg_…` in it
      reaver registries delete reg_…
    """,
    invoke_without_command=True,
    rich_markup_mode=None,
)


@app.callback()
def list_registries(
    context: typer.Context, api: ApiUrl = DEFAULT_API, keypair: KeypairFile = None, as_json: JsonFlag = False
) -> None:
    """List stored logins."""
    if context.invoked_subcommand is not None:
        refuse_misplaced(context)
        return
    output = Output(as_json=as_json)
    connection = Connection(api, keypair)
    found = run(output, lambda: with_client(connection, lambda c: c.registries.list_auths(limit=100)))
    if as_json:
        output.json(found.model_dump())
        return
    output.table(
        ("login", "name", "user", "registry", "created"),
        [(r.id, r.name, r.username, r.registry or "any", r.created_at) for r in found.registry_auths],
        empty="no stored logins; `reaver registries create` keeps one",
    )


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Your own name for it.", show_default=False)],
    username: Annotated[str, typer.Option("--username", "-u", help="Who you are there.")],
    password_file: Annotated[
        Path | None,
        typer.Option("--password-file", metavar="FILE", help=f"Holds the password; - reads it. Else ${_PASSWORD}."),
    ] = None,
    registry: Annotated[
        str | None,
        typer.Option("--registry", metavar="HOST", help="That it is for, host[:port].  [default: the image's own]"),
    ] = None,
    api: ApiUrl = DEFAULT_API,
    keypair: KeypairFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Keep a login. Its password is sealed at the market, and never shown again; make a token that may only pull.

    \b
      reaver registries create hub --username me --password-file token.txt
      pass show ghcr | reaver registries create ghcr -u me --registry ghcr.io --password-file -
    """
    output = Output(as_json=as_json)
    connection = Connection(api, keypair)
    password = read_hidden(password_file, _PASSWORD, "--password-file")
    made = run(
        output,
        lambda: with_client(
            connection,
            lambda c: c.registries.create(name, username=username, password=password, registry=registry),
        ),
    )
    if as_json:
        output.json(made.model_dump())
        return
    output.line(made.id)
    output.note(f"jobs pull with it: registry_auth_id: {made.id}")


@app.command("delete")
def delete(
    login: Annotated[str, typer.Argument(metavar="ID", help="Such as reg_…", show_default=False)],
    api: ApiUrl = DEFAULT_API,
    keypair: KeypairFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Forget a login; refused while a job that is not over pulls with it.

    \b
      reaver registries delete reg_…
    """
    output = Output(as_json=as_json)
    connection = Connection(api, keypair)
    run(output, lambda: with_client(connection, lambda c: c.registries.delete(login)))
    output.deleted(login)
