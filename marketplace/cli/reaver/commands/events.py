"""`reaver events`: what happened to anything of the account, and what happens."""

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Annotated

import typer

from marketplace.cli.reaver.options import DEFAULT_API, ApiUrl, JsonFlag, KeypairFile
from marketplace.cli.reaver.output import Output
from marketplace.cli.reaver.session import Connection, run, with_client

if TYPE_CHECKING:
    from marketplace.client.account_models import Event, EventList, EventsEnd
    from marketplace.client.client import ReaverClient
    from marketplace.client.streams import FollowState

After = Annotated[
    str | None, typer.Option("--after", metavar="CURSOR", help="Only what came after this.", show_default=False)
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, max=1000, help="How many.  [default: 100]")]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Print what happens, as it happens, until Ctrl-C.")]


def events(
    types: Annotated[
        str | None, typer.Option("--types", metavar="NAMES", help="Names and patterns: job.*,escrow.settled")
    ] = None,
    resource: Annotated[
        str | None, typer.Option("--resource", metavar="ID", help="Only of this job, escrow, node, …")
    ] = None,
    after: After = None,
    limit: Limit = None,
    follow: Follow = False,
    api: ApiUrl = DEFAULT_API,
    keypair: KeypairFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what happened to your jobs, escrows and money, oldest first; kept for 30 days.

    \b
    With --follow, a broken connection and a restart of the market lose and repeat nothing;
    Ctrl-C says with which cursor to go on. With --json it is one object a line then.

    \b
      reaver events --types 'job.*' --limit 20
      reaver events --follow --resource job_…
      reaver events --follow --after 1250 --json | jq .type
    """
    output = Output(as_json=as_json)
    connection = Connection(api, keypair)
    wanted = tuple(word.strip() for word in types.split(",")) if types else ()
    if follow:
        refuse_limit(limit)
        follow_feed(
            output,
            connection,
            lambda client, state: client.follow_events(after=after, types=wanted, resource=resource, state=state),
        )
        return
    found = run(
        output,
        lambda: with_client(connection, lambda c: c.events(after=after, types=wanted, resource=resource, limit=limit)),
    )
    show_events(output, found)


def refuse_limit(limit: int | None) -> None:
    """Raise typer.BadParameter: what is followed has no pages."""
    if limit is not None:
        raise typer.BadParameter("goes without --follow", param_hint="--limit")


def show_events(output: Output, found: "EventList") -> None:
    """A page of events."""
    if output.as_json:
        output.json(found.model_dump(by_alias=True))
        return
    output.table(
        ("cursor", "at", "type", "about", "reason"),
        [(e.cursor, e.timestamp, e.type, e.resource, _said(e.data)) for e in found.events],
        "nothing happened since",
    )
    if found.has_more:
        output.note(f"more with --after {found.next}")


def follow_feed(
    output: Output,
    connection: Connection,
    start: "Callable[[ReaverClient, FollowState], AsyncIterator[Event | EventsEnd]]",
) -> None:
    """Print events as they come, a line each, until the last one or Ctrl-C."""
    from marketplace.client.streams import FollowState

    state = FollowState()

    async def work(client: "ReaverClient") -> None:
        async for item in start(client, state):
            _show(output, item)

    try:
        run(output, lambda: with_client(connection, work))
    except KeyboardInterrupt:
        if state.last_event_id is not None:
            output.note(f"go on with --after {state.last_event_id}")
    except BrokenPipeError:  # such as of `| head`
        return


def _show(output: Output, item: "Event | EventsEnd") -> None:
    from marketplace.client.account_models import Event

    if output.as_json:
        output.json_line(item.model_dump(by_alias=True))
    elif isinstance(item, Event):
        reason = _said(item.data)
        output.line("  ".join(part for part in (item.cursor, item.timestamp, item.type, item.resource, reason) if part))
    else:
        output.note(f"the job is {item.status}" + ("" if item.reason is None else f": {item.reason}"))


def _said(data: dict[str, object]) -> str | None:
    reason = data.get("reason")
    return reason if isinstance(reason, str) else None
