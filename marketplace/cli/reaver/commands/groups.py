"""`reaver groups`: many jobs of one body."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from marketplace.cli.reaver.options import DEFAULT_API, ApiUrl, JsonFlag, KeypairFile, refuse_misplaced
from marketplace.cli.reaver.output import Output
from marketplace.cli.reaver.session import Connection, run, with_client

if TYPE_CHECKING:
    from marketplace.client.groups import Group
    from marketplace.client.requests import JobRequest

GroupId = Annotated[str, typer.Argument(metavar="GROUP", help="Its id, such as grp_…", show_default=False)]

app = typer.Typer(
    help="""Look at groups of jobs and cancel them; `reaver run --array` orders one. Alone: the newest ones.

    \b
      reaver run --file job.yaml --array 100
      reaver groups
      reaver groups get GROUP
      reaver groups cancel GROUP
    """,
    invoke_without_command=True,
    rich_markup_mode=None,
)


@app.callback()
def list_groups(
    context: typer.Context,
    limit: Annotated[int | None, typer.Option("--limit", min=1, max=100, help="How many.  [default: 20]")] = None,
    offset: Annotated[int | None, typer.Option("--offset", min=0, help="Leave out the newest n.")] = None,
    api: ApiUrl = DEFAULT_API,
    keypair: KeypairFile = None,
    as_json: JsonFlag = False,
) -> None:
    """List groups, newest first."""
    if context.invoked_subcommand is not None:
        refuse_misplaced(context)
        return
    output = Output(as_json=as_json)
    connection = Connection(api, keypair)
    found = run(output, lambda: with_client(connection, lambda c: c.groups.list_groups(limit=limit, offset=offset)))
    if as_json:
        output.json(found.model_dump(by_alias=True))
        return
    output.table(
        ("group", "name", "status", "jobs", "of them", "created"),
        [(g.id, g.name, g.status, str(g.count), _summary(g.summary), g.created_at) for g in found.groups],
        "no groups yet; `reaver run --array N` orders one",
    )
    if found.has_more:
        output.note(f"{len(found.groups)} of {found.total}; more with --offset {(offset or 0) + len(found.groups)}")


@app.command("get")
def get_group(
    group: GroupId,
    limit: Annotated[int | None, typer.Option("--limit", min=1, max=100, help="How many jobs.  [default: 20]")] = None,
    offset: Annotated[int | None, typer.Option("--offset", min=0, help="Leave out the first n.")] = None,
    api: ApiUrl = DEFAULT_API,
    keypair: KeypairFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Show one group: how its jobs do, what they cost, and why no more of them are opened now.

    \b
      reaver groups get GROUP --limit 100
    """
    output = Output(as_json=as_json)
    connection = Connection(api, keypair)
    found = run(output, lambda: with_client(connection, lambda c: c.groups.get(group, limit=limit, offset=offset)))
    show_group(output, found)


@app.command("cancel")
def cancel_group(
    group: GroupId, api: ApiUrl = DEFAULT_API, keypair: KeypairFile = None, as_json: JsonFlag = False
) -> None:
    """Open no more of its jobs, and cancel those that are. What they used is paid, the rest comes back.

    \b
      reaver groups cancel GROUP
    """
    output = Output(as_json=as_json)
    connection = Connection(api, keypair)
    found = run(output, lambda: with_client(connection, lambda c: c.groups.cancel(group)))
    if as_json:
        output.json(found.model_dump(by_alias=True))
    else:
        output.line(f"Group {found.id} is {found.status}")


def submit_group(
    output: Output,
    connection: Connection,
    request: "JobRequest",
    count: int | None,
    inputs: Path | None,
    after: list[str] | None,
) -> None:
    """Order a group: so many jobs, or one for each line of a file."""
    from dataclasses import replace

    if count is not None and inputs is not None:
        raise typer.BadParameter("give one of --array and --array-inputs", param_hint="--array")
    lines = None if inputs is None else _lines(inputs)
    # The name is the group's; its jobs are told apart by their position.
    job = replace(request, name=None)
    made = run(
        output,
        lambda: with_client(
            connection,
            lambda c: c.groups.submit(job, count=count, inputs=lines, name=request.name, after=tuple(after or ())),
        ),
    )
    show_group(output, made)
    if not output.as_json:
        output.note(f"`reaver groups get {made.id}` shows how it goes; `reaver groups cancel {made.id}` ends it")


def show_group(output: Output, group: "Group") -> None:
    """One group with its jobs."""
    if output.as_json:
        output.json(group.model_dump(by_alias=True))
        return
    blocked = group.blocked
    output.fields(
        f"Group {group.id}",
        [
            ("name", group.name),
            ("status", group.status),
            ("jobs", f"{group.count}: {_summary(group.summary)}"),
            ("after", ", ".join(group.after) or None),
            ("cost", f"{group.cost} {group.currency}"),
            ("locked", f"{group.locked} {group.currency}"),
            ("held up by", None if blocked is None else f"{blocked.error}: {blocked.message}"),
            ("created", group.created_at),
            ("ended", group.ended_at),
        ],
    )
    output.line()
    output.table(
        ("position", "job", "status", "why"),
        [(str(m.position), m.job_id, m.status, m.error) for m in group.jobs],
        "no jobs on this page",
    )


def _summary(words: dict[str, int]) -> str:
    return ", ".join(f"{number} {word}" for word, number in words.items()) or "-"


def _lines(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{file} can't be read as text: {error}", param_hint="--array-inputs") from error
    if not lines:
        raise typer.BadParameter(f"{file} is empty", param_hint="--array-inputs")
    return lines
