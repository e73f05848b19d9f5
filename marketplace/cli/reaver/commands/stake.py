"""`reaver stake`: put stake on nodes, take it and what it earned back."""

from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from marketplace.cli.reaver.commands.payments import Agreement, Yes
from marketplace.cli.reaver.commands.stake_views import (
    show_acts,
    show_history,
    show_pools,
    show_positions,
    show_simulation,
)
from marketplace.cli.reaver.options import DEFAULT_API, ApiUrl, JsonFlag, KeypairFile, MarketAddress, Program, RpcUrl
from marketplace.cli.reaver.output import Output
from marketplace.cli.reaver.session import Connection, run, with_client

if TYPE_CHECKING:
    from marketplace.client.client import ReaverClient
    from marketplace.client.payments import Consent, Paid
    from marketplace.client.stake_models import SimulatedStake

app = typer.Typer(
    help="""Delegate stake to nodes, claim what it earns, unbond it.

    \b
    Stake backs a node's work and earns with it: a part of the market's fee of each job, and of
    each epoch's emission. It can be slashed when its node over-claims, and it leaves only
    after the unbonding time. It stays yours: no market can move it.

    \b
      reaver stake nodes                              who to stake on
      reaver stake simulate --node NODE --amount 100  what that would have brought
      reaver stake delegate --node NODE --amount 100
      reaver stake positions                          what you have, earned, and when it unlocks
      reaver stake claim --all
      reaver stake unbond --node NODE --all
      reaver stake withdraw                           after the unbonding time
    """,
    no_args_is_help=True,
    rich_markup_mode=None,
)


class PoolSort(StrEnum):
    """How nodes are sorted."""

    YIELD = "yield"
    UPTIME = "uptime"
    COMMISSION = "commission"
    STAKE = "stake"
    FREE_EXPOSURE = "free_exposure"


NodeName = Annotated[
    str, typer.Option("--node", metavar="NODE", help="Its id (node_…), or the address of its account.")
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, max=100, help="How many.  [default: 20]")]
Offset = Annotated[int | None, typer.Option("--offset", min=0, help="Leave out the first n.")]
Epochs = Annotated[int, typer.Option("--epochs", min=1, max=100, help="Over how many past epochs.")]


@app.command("nodes")
def nodes(
    sort: Annotated[PoolSort, typer.Option("--sort", help="By what.")] = PoolSort.YIELD,
    epochs: Epochs = 30,
    limit: Limit = None,
    offset: Offset = None,
    api: ApiUrl = DEFAULT_API,
    keypair: KeypairFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Show nodes to stake on: past yield, uptime, commission, free exposure.

    \b
    Yield is what 1,000 stake tokens of today's stake earned in the last whole epochs, commission
    taken off; it promises nothing. Free exposure is what the node may still be entrusted with:
    a node without any gets no more work until somebody stakes on it.

    \b
      reaver stake nodes --sort uptime
    """
    output = Output(as_json=as_json)
    found = run(
        output,
        lambda: with_client(
            Connection(api, keypair),
            lambda c: c.stake.pools(sort=sort.value, epochs=epochs, limit=limit, offset=offset),
        ),
    )
    show_pools(output, found, offset or 0)


@app.command("positions")
def positions(api: ApiUrl = DEFAULT_API, keypair: KeypairFile = None, as_json: JsonFlag = False) -> None:
    """Show what you have staked, what it earned and would pay now, and when tickets unlock.

    \b
      reaver stake positions
    """
    output = Output(as_json=as_json)
    show_positions(output, run(output, lambda: with_client(Connection(api, keypair), lambda c: c.stake.positions())))


@app.command("history")
def history(
    limit: Limit = None,
    offset: Offset = None,
    api: ApiUrl = DEFAULT_API,
    keypair: KeypairFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what you did with your stake and what it paid, newest first.

    \b
      reaver stake history --limit 50
    """
    output = Output(as_json=as_json)
    found = run(
        output,
        lambda: with_client(Connection(api, keypair), lambda c: c.stake.history(limit=limit, offset=offset)),
    )
    show_history(output, found, offset or 0)


@app.command("simulate")
def simulate(
    node: NodeName,
    amount: Annotated[str, typer.Option("--amount", metavar="AMOUNT", help="In whole stake tokens.")],
    epochs: Epochs = 30,
    api: ApiUrl = DEFAULT_API,
    keypair: KeypairFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what a stake would have earned on a node in the last epochs. Nothing is staked.

    \b
      reaver stake simulate --node NODE --amount 100 --epochs 10
    """
    output = Output(as_json=as_json)

    async def work(client: "ReaverClient") -> "SimulatedStake":
        return await client.stake.simulate(node, await client.stake.units(amount), epochs)

    show_simulation(output, run(output, lambda: with_client(Connection(api, keypair), work)))


@app.command("delegate")
def delegate(
    node: NodeName,
    amount: Annotated[str, typer.Option("--amount", metavar="AMOUNT", help="In whole stake tokens, such as 100.")],
    yes: Yes = False,
    api: ApiUrl = DEFAULT_API,
    keypair: KeypairFile = None,
    rpc: RpcUrl = None,
    program: Program = None,
    market: MarketAddress = None,
    as_json: JsonFlag = False,
) -> None:
    """Stake on a node.

    \b
      reaver stake delegate --node NODE --amount 100
    """

    async def work(client: "ReaverClient", consent: "Consent") -> "list[Paid]":
        return [await client.stake.delegate(node, await client.stake.units(amount), consent)]

    _act(Connection(api, keypair, rpc, program, market), work, yes=yes, as_json=as_json)


@app.command("claim")
def claim(
    node: Annotated[
        str | None, typer.Option("--node", metavar="NODE", help="Only what this node's stake earned.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Of all nodes; the same without --node.")] = False,
    yes: Yes = False,
    api: ApiUrl = DEFAULT_API,
    keypair: KeypairFile = None,
    rpc: RpcUrl = None,
    program: Program = None,
    market: MarketAddress = None,
    as_json: JsonFlag = False,
) -> None:
    """Pay out what your stake has earned, to your wallet. The stake stays.

    \b
      reaver stake claim --all
      reaver stake claim --node NODE
    """
    if node is not None and everything:
        raise typer.BadParameter("give one of --node and --all", param_hint="--all")

    async def work(client: "ReaverClient", consent: "Consent") -> "list[Paid]":
        return await _until_nothing_is_left(lambda: client.stake.claim(node, consent))

    _act(Connection(api, keypair, rpc, program, market), work, yes=yes, as_json=as_json)


@app.command("unbond")
def unbond(
    node: NodeName,
    amount: Annotated[str | None, typer.Option("--amount", metavar="AMOUNT", help="In whole stake tokens.")] = None,
    shares: Annotated[
        str | None, typer.Option("--shares", metavar="N", help="Shares of the pool, as positions --json shows them.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of it.")] = False,
    yes: Yes = False,
    api: ApiUrl = DEFAULT_API,
    keypair: KeypairFile = None,
    rpc: RpcUrl = None,
    program: Program = None,
    market: MarketAddress = None,
    as_json: JsonFlag = False,
) -> None:
    """Take stake out of a node. It waits the unbonding time as a ticket; until then it can still be slashed.

    \b
      reaver stake unbond --node NODE --amount 40
      reaver stake unbond --node NODE --all
    """
    if [amount is not None, shares is not None, everything].count(True) != 1:
        raise typer.BadParameter("give one of --amount, --shares and --all", param_hint="--amount")
    if shares is not None and not (shares.isascii() and shares.isdecimal()):
        raise typer.BadParameter(f"{shares!r} is not a whole number", param_hint="--shares")

    async def work(client: "ReaverClient", consent: "Consent") -> "list[Paid]":
        units = None if amount is None else await client.stake.units(amount)
        wanted = None if shares is None else int(shares)
        return [await client.stake.unbond(node, amount=units, shares=wanted, consent=consent)]

    _act(Connection(api, keypair, rpc, program, market), work, yes=yes, as_json=as_json)


@app.command("withdraw")
def withdraw(
    ticket: Annotated[
        str | None, typer.Option("--ticket", metavar="TICKET", help="One ticket, as positions shows its id.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that are ripe; the same without --ticket.")] = False,
    yes: Yes = False,
    api: ApiUrl = DEFAULT_API,
    keypair: KeypairFile = None,
    rpc: RpcUrl = None,
    program: Program = None,
    market: MarketAddress = None,
    as_json: JsonFlag = False,
) -> None:
    """Pay out stake whose unbonding time is over.

    \b
      reaver stake withdraw
      reaver stake withdraw --ticket TICKET
    """
    if ticket is not None and everything:
        raise typer.BadParameter("give one of --ticket and --all", param_hint="--all")

    async def work(client: "ReaverClient", consent: "Consent") -> "list[Paid]":
        return await _until_nothing_is_left(lambda: client.stake.withdraw(ticket, consent))

    _act(Connection(api, keypair, rpc, program, market), work, yes=yes, as_json=as_json)


def _act(
    connection: Connection,
    work: "Callable[[ReaverClient, Consent], Awaitable[list[Paid]]]",
    *,
    yes: bool,
    as_json: bool,
) -> None:
    """Prepare, check, ask, sign, wait, tell."""
    output = Output(as_json=as_json)
    with Agreement(output, yes=yes) as agreement:
        paid = run(output, lambda: with_client(connection, lambda client: work(client, agreement)))
    show_acts(output, paid)


async def _until_nothing_is_left(act: "Callable[[], Awaitable[Paid]]") -> "list[Paid]":
    """What doesn't fit into one transaction goes into the next: each is checked and shown on its own."""
    from marketplace.client.stake_models import PreparedStake

    paid = [await act()]
    while isinstance(offered := paid[-1].offered, PreparedStake) and offered.remaining:
        paid.append(await act())
    return paid
