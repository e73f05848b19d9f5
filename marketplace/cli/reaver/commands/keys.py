"""`reaver keys`: credentials for programs."""

from datetime import UTC
from typing import Annotated

import typer

from marketplace.cli.reaver.options import DEFAULT_API, ApiUrl, JsonFlag, KeypairFile, read_moment, refuse_misplaced
from marketplace.cli.reaver.output import Output
from marketplace.cli.reaver.session import Connection, run, with_client

app = typer.Typer(
    help="""Make API keys for programs that have no wallet, with scopes and spending limits. Alone: yours.

    \b
      reaver keys create ci --scopes jobs,files --per-day 5 --total 50
      reaver keys
      reaver keys delete key_…
    """,
    invoke_without_command=True,
    rich_markup_mode=None,
)


@app.callback()
def list_keys(
    context: typer.Context, api: ApiUrl = DEFAULT_API, keypair: KeypairFile = None, as_json: JsonFlag = False
) -> None:
    """List API keys."""
    if context.invoked_subcommand is not None:
        refuse_misplaced(context)
        return
    output = Output(as_json=as_json)
    connection = Connection(api, keypair)
    found = run(output, lambda: with_client(connection, lambda c: c.keys.list_keys(limit=100)))
    if as_json:
        output.json(found.model_dump(by_alias=True, exclude={"api_keys": {"__all__": {"key"}}}))
        return
    output.table(
        ("key", "name", "begins with", "scopes", "spent", "last used", "expires"),
        [
            (
                k.id,
                k.name,
                k.prefix,
                ", ".join(k.scopes),
                None if k.spend_limit is None else f"{k.spend_limit.spent} {k.spend_limit.currency}",
                k.last_used_at,
                k.expires_at,
            )
            for k in found.api_keys
        ],
        "no API keys yet; `reaver keys create --help` shows how to make one",
    )


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is for.", show_default=False)],
    scopes: Annotated[str, typer.Option("--scopes", help="read,jobs,files,webhooks,…")] = "jobs",
    expires: Annotated[
        str | None,
        typer.Option(
            "--expires",
            metavar="WHEN",
            help="12h, 30d, 4w, or a moment such as 2027-01-31T00:00:00Z; else never.",
        ),
    ] = None,
    per_day: Annotated[str | None, typer.Option("--per-day", metavar="AMOUNT", help="Most it may spend a day.")] = None,
    total: Annotated[str | None, typer.Option("--total", metavar="AMOUNT", help="Most it may spend in all.")] = None,
    api: ApiUrl = DEFAULT_API,
    keypair: KeypairFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Make an API key, and print it: it is shown once. It spends inside your allowance, never beyond.

    \b
      reaver keys create ci --scopes jobs,files --expires 30d
      KEY=$(reaver keys create ci --scopes jobs --per-day 5 --total 50)
      curl -H "X-Api-Key: $KEY" $REAVER_API/v1/jobs
    """
    output = Output(as_json=as_json)
    connection = Connection(api, keypair)
    wanted = tuple(word.strip() for word in scopes.split(","))
    until = None
    if expires is not None:
        until = read_moment(expires, "--expires").astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    made = run(
        output,
        lambda: with_client(
            connection, lambda c: c.keys.create(name, wanted, expires_at=until, per_day=per_day, total=total)
        ),
    )
    if as_json:
        output.json(made.model_dump(by_alias=True))
        return
    output.line(made.key or "")
    output.note(f"key {made.id} for {', '.join(made.scopes)}; keep it now, it is not shown again")


@app.command("delete")
def delete(
    key: Annotated[str, typer.Argument(metavar="KEY", help="Its id, such as key_…", show_default=False)],
    api: ApiUrl = DEFAULT_API,
    keypair: KeypairFile = None,
    as_json: JsonFlag = False,
) -> None:
    """End a key; within 5 s nobody gets in with it.

    \b
      reaver keys delete key_…
    """
    output = Output(as_json=as_json)
    connection = Connection(api, keypair)
    run(output, lambda: with_client(connection, lambda c: c.keys.delete(key)))
    output.deleted(key)
