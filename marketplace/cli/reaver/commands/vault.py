"""`reaver vault`: the money that jobs are paid from."""

from typing import TYPE_CHECKING, Annotated

import typer

from marketplace.cli.reaver.commands.payments import Agreement, Yes, show_paid
from marketplace.cli.reaver.options import DEFAULT_API, ApiUrl, JsonFlag, KeypairFile, MarketAddress, Program, RpcUrl
from marketplace.cli.reaver.output import Output
from marketplace.cli.reaver.session import Connection, run, with_client

if TYPE_CHECKING:
    from marketplace.client.client import ReaverClient
    from marketplace.client.payments import Paid

app = typer.Typer(
    help="""Deposit and withdraw the money that pays jobs.

    \b
    The vault is an account of the settlement program, owned by your wallet alone.
    The market can lock a part of it for a job that you asked for; it can never take it.
    """,
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("balance")
def balance(api: ApiUrl = DEFAULT_API, keypair: KeypairFile = None, as_json: JsonFlag = False) -> None:
    """Show what is in the vault, and how much of it is locked by jobs."""
    output = Output(as_json=as_json)
    connection = Connection(api, keypair)
    vault = run(output, lambda: with_client(connection, lambda client: client.vault()))
    if as_json:
        output.json(vault.model_dump(by_alias=True))
        return
    output.fields(
        f"Vault of {vault.wallet}",
        [
            ("available", f"{vault.available} {vault.currency}"),
            ("locked", f"{vault.locked} {vault.currency} by {vault.escrows_open} open escrows"),
            ("balance", f"{vault.balance} {vault.currency}"),
            ("in wallet", f"{vault.wallet_balance} {vault.currency}"),
            ("compensation", _owed(vault.compensation_owed)),
            ("vault", vault.vault),
            ("token account", vault.token_account),
        ],
    )


@app.command("deposit")
def deposit(
    amount: Annotated[str, typer.Argument(metavar="AMOUNT", help="In whole tokens, such as 12.5", show_default=False)],
    api: ApiUrl = DEFAULT_API,
    keypair: KeypairFile = None,
    rpc: RpcUrl = None,
    program: Program = None,
    market: MarketAddress = None,
    as_json: JsonFlag = False,
) -> None:
    """Move tokens from your wallet into the vault, which is opened where it doesn't exist yet.

    \b
      reaver vault deposit 20
    """
    output = Output(as_json=as_json)
    connection = Connection(api, keypair, rpc, program, market)
    with output.working("waiting for the chain"):
        paid = run(output, lambda: with_client(connection, lambda c: _deposit(c, amount)))
    show_paid(output, paid)


@app.command("withdraw")
def withdraw(
    amount: Annotated[
        str, typer.Argument(metavar="AMOUNT|all", help="In whole tokens, or all that isn't locked", show_default=False)
    ],
    api: ApiUrl = DEFAULT_API,
    keypair: KeypairFile = None,
    rpc: RpcUrl = None,
    program: Program = None,
    market: MarketAddress = None,
    as_json: JsonFlag = False,
) -> None:
    """Move tokens from the vault back to your wallet. What jobs have locked stays until they end.

    \b
      reaver vault withdraw 5
      reaver vault withdraw all
    """
    output = Output(as_json=as_json)
    connection = Connection(api, keypair, rpc, program, market)
    with output.working("waiting for the chain"):
        paid = run(output, lambda: with_client(connection, lambda c: _withdraw(c, amount)))
    show_paid(output, paid)


@app.command("claim-compensation")
def claim_compensation(
    yes: Yes = False,
    api: ApiUrl = DEFAULT_API,
    keypair: KeypairFile = None,
    rpc: RpcUrl = None,
    program: Program = None,
    market: MarketAddress = None,
    as_json: JsonFlag = False,
) -> None:
    """Pay out what operators owe you for attempts that were lost, in stake tokens.

    \b
    It comes out of the operator's own bond by the program's rule; `reaver vault balance` shows
    how much of it waits. Nobody has to approve anything.

    \b
      reaver vault claim-compensation
    """
    output = Output(as_json=as_json)
    connection = Connection(api, keypair, rpc, program, market)
    with Agreement(output, yes=yes) as agreement:
        paid = run(output, lambda: with_client(connection, lambda client: client.claim_compensation(agreement)))
    show_paid(output, paid)


def _owed(amount: str | None) -> str | None:
    if amount is None or not amount.strip("0."):
        return None
    return f"{amount} stake tokens: reaver vault claim-compensation"


async def _deposit(client: "ReaverClient", amount: str) -> "Paid":
    return await client.deposit(await client.units(amount))


async def _withdraw(client: "ReaverClient", amount: str) -> "Paid":
    return await client.withdraw(None if amount == "all" else await client.units(amount))
