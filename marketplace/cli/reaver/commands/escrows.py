"""`reaver escrows`: what is locked for jobs, and getting it back from one that nobody works for."""

from typing import Annotated

import typer

from marketplace.cli.reaver.commands.payments import Agreement, Yes, show_paid
from marketplace.cli.reaver.options import (
    DEFAULT_API,
    ApiUrl,
    JsonFlag,
    KeypairFile,
    MarketAddress,
    Program,
    RpcUrl,
    refuse_misplaced,
)
from marketplace.cli.reaver.output import Output
from marketplace.cli.reaver.session import Connection, run, with_client

app = typer.Typer(
    help="""List what is locked for jobs, and take back what nobody works for. Alone: your open escrows.

    \b
      reaver escrows
      reaver escrows cancel ADDRESS
    """,
    invoke_without_command=True,
    rich_markup_mode=None,
)


@app.callback()
def list_escrows(
    context: typer.Context,
    state: Annotated[str | None, typer.Option("--state", help="Only these.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, max=100, help="How many.  [default: 20]")] = None,
    offset: Annotated[int | None, typer.Option("--offset", min=0, help="Leave out the first n.")] = None,
    api: ApiUrl = DEFAULT_API,
    keypair: KeypairFile = None,
    as_json: JsonFlag = False,
) -> None:
    """List escrows that are open on chain."""
    if context.invoked_subcommand is not None:
        refuse_misplaced(context)
        return
    output = Output(as_json=as_json)
    connection = Connection(api, keypair)
    found = run(
        output,
        lambda: with_client(connection, lambda c: c.escrows.list_escrows(state=state, limit=limit, offset=offset)),
    )
    if as_json:
        output.json(found.model_dump(by_alias=True))
        return
    output.table(
        ("escrow", "state", "deposit", "paid", "currency", "node", "opened", "job"),
        [
            (e.address, e.state, e.deposit, e.paid, e.currency, e.node, e.opened_at, e.allocation_id)
            for e in found.escrows
        ],
        "nothing is locked",
    )
    if found.has_more:
        output.note(f"{len(found.escrows)} of {found.total}; more with --offset {(offset or 0) + len(found.escrows)}")


@app.command("cancel")
def cancel(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="The escrow's address.", show_default=False)],
    yes: Yes = False,
    api: ApiUrl = DEFAULT_API,
    keypair: KeypairFile = None,
    rpc: RpcUrl = None,
    program: Program = None,
    market: MarketAddress = None,
    as_json: JsonFlag = False,
) -> None:
    """Close an escrow that no node is assigned to, with your own signature; all of it is free in your vault again.

    \b
    `reaver jobs cancel` is the usual way. This one needs nobody's consent: the program lets a
    wallet close what nobody works for, also where the market has forgotten it.

    \b
      reaver escrows cancel ADDRESS
    """
    output = Output(as_json=as_json)
    connection = Connection(api, keypair, rpc, program, market)
    with Agreement(output, yes=yes) as agreement:
        paid = run(output, lambda: with_client(connection, lambda c: c.escrows.cancel(address, agreement)))
    show_paid(output, paid)
