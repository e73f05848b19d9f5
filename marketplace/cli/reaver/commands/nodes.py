"""`reaver nodes`: machines on offer."""

from typing import Annotated

import typer

from marketplace.cli.reaver.commands.views import show_node, show_nodes
from marketplace.cli.reaver.options import DEFAULT_API, ApiUrl, JsonFlag, KeypairFile, refuse_misplaced
from marketplace.cli.reaver.output import Output
from marketplace.cli.reaver.session import Connection, run, with_client

app = typer.Typer(
    help="""Browse machines by class and region. Alone: those with room now.

    \b
      reaver nodes
      reaver nodes list --gpu h100 --region na --sort price
      reaver nodes get NODE
    """,
    invoke_without_command=True,
    rich_markup_mode=None,
)

Gpu = Annotated[str | None, typer.Option("--gpu", "--class", metavar="CLASS", help="Only this hardware class.")]
Region = Annotated[str | None, typer.Option("--region", metavar="PLACE", help="Only this place.")]
Status = Annotated[str | None, typer.Option("--status", help="active, draining, …; without it: active with room.")]
Sort = Annotated[str | None, typer.Option("--sort", help="price, reputation or uptime.")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, max=100, help="How many.  [default: 20]")]
Offset = Annotated[int | None, typer.Option("--offset", min=0, help="Leave out the first n.")]


@app.callback()
def _alone(
    context: typer.Context, api: ApiUrl = DEFAULT_API, keypair: KeypairFile = None, as_json: JsonFlag = False
) -> None:
    if context.invoked_subcommand is not None:
        refuse_misplaced(context)
        return
    list_nodes(api=api, keypair=keypair, as_json=as_json)


@app.command("list")
def list_nodes(
    gpu: Gpu = None,
    region: Region = None,
    status: Status = None,
    sort: Sort = None,
    limit: Limit = None,
    offset: Offset = None,
    api: ApiUrl = DEFAULT_API,
    keypair: KeypairFile = None,
    as_json: JsonFlag = False,
) -> None:
    """List machines."""
    output = Output(as_json=as_json)
    connection = Connection(api, keypair)
    found = run(
        output,
        lambda: with_client(
            connection,
            lambda c: c.list_nodes(gpu=gpu, region=region, status=status, sort=sort, limit=limit, offset=offset),
        ),
    )
    if as_json:
        output.json(found.model_dump(by_alias=True))
        return
    show_nodes(output, found.nodes)
    if found.has_more:
        output.note(f"{len(found.nodes)} of {found.total}; more with --offset {(offset or 0) + len(found.nodes)}")


@app.command("get")
def get_node(
    node: Annotated[str, typer.Argument(metavar="NODE", help="Id of the node, such as node_…", show_default=False)],
    api: ApiUrl = DEFAULT_API,
    keypair: KeypairFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Show one machine."""
    output = Output(as_json=as_json)
    connection = Connection(api, keypair)
    found = run(output, lambda: with_client(connection, lambda client: client.get_node(node)))
    if as_json:
        output.json(found.model_dump(by_alias=True))
    else:
        show_node(output, found)
