"""`reaver credentials`: logins at storage services, for jobs that deliver to a bucket."""

import os
from pathlib import Path
from typing import Annotated

import typer

from marketplace.cli.reaver.options import DEFAULT_API, ApiUrl, JsonFlag, KeypairFile, read_hidden, refuse_misplaced
from marketplace.cli.reaver.output import Output
from marketplace.cli.reaver.session import Connection, run, with_client

_ACCESS, _SECRET = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"  # names of variables

app = typer.Typer(
    help="""Keep logins at S3 services, for jobs that deliver to a bucket of yours. Alone: yours.

    \b
      reaver credentials create results --endpoint https://s3.eu-central-1.amazonaws.com --region eu-central-1
      reaver credentials
      reaver credentials delete cred_…
    """,
    invoke_without_command=True,
    rich_markup_mode=None,
)


@app.callback()
def list_credentials(
    context: typer.Context, api: ApiUrl = DEFAULT_API, keypair: KeypairFile = None, as_json: JsonFlag = False
) -> None:
    """List stored credentials."""
    if context.invoked_subcommand is not None:
        refuse_misplaced(context)
        return
    output = Output(as_json=as_json)
    connection = Connection(api, keypair)
    found = run(output, lambda: with_client(connection, lambda c: c.credentials.list_credentials(limit=100)))
    if as_json:
        output.json(found.model_dump())
        return
    output.table(
        ("credential", "name", "endpoint", "region", "access key", "default"),
        [(c.id, c.name, c.endpoint, c.region, c.access_key, "yes" if c.default else None) for c in found.credentials],
        empty="no stored credentials; `reaver credentials create` keeps one",
    )


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Your own name for it.", show_default=False)],
    endpoint: Annotated[str, typer.Option("--endpoint", metavar="URL", help="The service's URL, without a bucket.")],
    region: Annotated[str, typer.Option("--region", help="As the service names it.")] = "us-east-1",
    access_key: Annotated[
        str | None, typer.Option("--access-key", metavar="KEY", help=f"Who you are there; else ${_ACCESS}.")
    ] = None,
    secret_file: Annotated[
        Path | None,
        typer.Option("--secret-file", metavar="FILE", help=f"Holds the secret key; - reads it. Else ${_SECRET}."),
    ] = None,
    default: Annotated[bool, typer.Option("--default", help="For jobs that name a bucket and no credential.")] = False,
    api: ApiUrl = DEFAULT_API,
    keypair: KeypairFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Keep a login. Its secret key is sealed at the market and never shown again; make one that may only write there.

    \b
      AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=… reaver credentials create results --endpoint https://s3.example.org
      reaver credentials create results --endpoint https://s3.example.org --access-key … --secret-file secret.txt
    """
    output = Output(as_json=as_json)
    connection = Connection(api, keypair)
    access = access_key or os.environ.get(_ACCESS)
    if not access:
        raise typer.BadParameter(f"give --access-key, or set {_ACCESS}", param_hint="--access-key")
    secret = read_hidden(secret_file, _SECRET, "--secret-file")
    made = run(
        output,
        lambda: with_client(
            connection,
            lambda c: c.credentials.create(
                name, endpoint=endpoint, region=region, access_key=access, secret_key=secret, default=default
            ),
        ),
    )
    if as_json:
        output.json(made.model_dump())
        return
    output.line(made.id)
    output.note(f"jobs deliver with it: output_config {{destination: s3://bucket/prefix, credential_id: {made.id}}}")


@app.command("delete")
def delete(
    credential: Annotated[str, typer.Argument(metavar="ID", help="Such as cred_…", show_default=False)],
    api: ApiUrl = DEFAULT_API,
    keypair: KeypairFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Forget a login; refused while a job that is not over delivers with it.

    \b
      reaver credentials delete cred_…
    """
    output = Output(as_json=as_json)
    connection = Connection(api, keypair)
    run(output, lambda: with_client(connection, lambda c: c.credentials.delete(credential)))
    output.deleted(credential)
