"""`reaver allow`: what a market may spend for you without asking each time."""

from typing import TYPE_CHECKING, Annotated

import typer

from marketplace.cli.reaver.commands.payments import show_paid
from marketplace.cli.reaver.options import (
    DEFAULT_API,
    ApiUrl,
    JsonFlag,
    KeypairFile,
    MarketAddress,
    Program,
    RpcUrl,
    read_moment,
)
from marketplace.cli.reaver.output import Output
from marketplace.cli.reaver.session import Connection, run, with_client

if TYPE_CHECKING:
    from marketplace.client.client import ReaverClient
    from marketplace.client.payments import Paid

app = typer.Typer(
    help="""Set what the market may spend for you.

    \b
    The caps are enforced on chain. With an allowance `reaver run` needs no signature of
    yours. A stolen login, or a market gone bad, can never spend beyond the caps;
    revoking ends it at once.
    """,
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("grant")
def grant(
    per_job: Annotated[str, typer.Option("--per-job", metavar="AMOUNT", help="Most that one job may lock.")],
    per_day: Annotated[str, typer.Option("--per-day", metavar="AMOUNT", help="Most in one UTC day.")],
    total: Annotated[str, typer.Option("--total", metavar="AMOUNT", help="Most in all.")],
    max_price_per_hour: Annotated[
        str, typer.Option("--max-price-per-hour", metavar="AMOUNT", help="Highest price of one job per hour.")
    ],
    expires: Annotated[
        str, typer.Option("--expires", metavar="WHEN", help="12h, 30d, 4w, or a moment such as 2027-01-31T00:00:00Z.")
    ] = "30d",
    api: ApiUrl = DEFAULT_API,
    keypair: KeypairFile = None,
    rpc: RpcUrl = None,
    program: Program = None,
    market: MarketAddress = None,
    as_json: JsonFlag = False,
) -> None:
    """Grant an allowance to this market, or replace it (what was used stays counted).

    \b
      reaver allow grant --per-job 5 --per-day 20 --total 100 --max-price-per-hour 3 --expires 30d
    """
    output = Output(as_json=as_json)
    connection = Connection(api, keypair, rpc, program, market)
    expires_at = read_moment(expires, "--expires")

    async def work(client: "ReaverClient") -> "Paid":
        from marketplace.client.terms import AllowanceTerms

        terms = AllowanceTerms(
            per_job=await client.units(per_job),
            per_day=await client.units(per_day),
            total=await client.units(total),
            max_price_per_hour=await client.units(max_price_per_hour),
            expires_at=expires_at,
        )
        return await client.grant_allowance(terms)

    with output.working("waiting for the chain"):
        paid = run(output, lambda: with_client(connection, work))
    show_paid(output, paid)


@app.command("revoke")
def revoke(
    api: ApiUrl = DEFAULT_API,
    keypair: KeypairFile = None,
    rpc: RpcUrl = None,
    program: Program = None,
    market: MarketAddress = None,
    as_json: JsonFlag = False,
) -> None:
    """Take the allowance back. Effective as soon as the chain confirms it; running jobs go on."""
    output = Output(as_json=as_json)
    connection = Connection(api, keypair, rpc, program, market)
    with output.working("waiting for the chain"):
        paid = run(output, lambda: with_client(connection, lambda client: client.revoke_allowance()))
    show_paid(output, paid)


@app.command("show")
def show(api: ApiUrl = DEFAULT_API, keypair: KeypairFile = None, as_json: JsonFlag = False) -> None:
    """Show the allowances of your wallet, and how much of each is used."""
    output = Output(as_json=as_json)
    connection = Connection(api, keypair)
    found = run(output, lambda: with_client(connection, lambda client: client.allowances()))
    if as_json:
        output.json(found.model_dump(by_alias=True))
        return
    output.table(
        ("market", "state", "a job", "a day", "used today", "in all", "used", "price an hour", "expires"),
        [
            (
                a.market,
                a.state,
                a.per_job,
                a.per_day,
                a.used_today,
                a.total,
                a.used_total,
                a.max_price_per_hour,
                a.expires_at,
            )
            for a in found.allowances
        ],
        "no allowance; each job asks for your signature. `reaver allow grant --help`",
    )
