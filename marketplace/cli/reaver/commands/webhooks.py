"""`reaver webhooks`: events sent to a URL of yours."""

from typing import TYPE_CHECKING, Annotated

import typer

from marketplace.cli.reaver.options import DEFAULT_API, ApiUrl, JsonFlag, KeypairFile, refuse_misplaced
from marketplace.cli.reaver.output import Output
from marketplace.cli.reaver.session import Connection, run, with_client

if TYPE_CHECKING:
    from marketplace.client.account_models import Delivery, Webhook

WebhookId = Annotated[str, typer.Argument(metavar="WEBHOOK", help="Its id, such as wh_…", show_default=False)]

app = typer.Typer(
    help="""Have events sent to a URL, signed as Standard Webhooks are. Alone: yours.

    \b
      reaver webhooks add https://example.org/hook --events 'job.*'
      reaver webhooks test wh_…
      reaver webhooks deliveries wh_…
      reaver webhooks replay wh_… --after CURSOR
    """,
    invoke_without_command=True,
    rich_markup_mode=None,
)


@app.callback()
def list_webhooks(
    context: typer.Context, api: ApiUrl = DEFAULT_API, keypair: KeypairFile = None, as_json: JsonFlag = False
) -> None:
    """List webhooks."""
    if context.invoked_subcommand is not None:
        refuse_misplaced(context)
        return
    output = Output(as_json=as_json)
    connection = Connection(api, keypair)
    found = run(output, lambda: with_client(connection, lambda c: c.webhooks.list_webhooks(limit=100)))
    if as_json:
        output.json(found.model_dump(by_alias=True))
        return
    output.table(
        ("webhook", "state", "events", "url", "last delivered"),
        [(w.id, _state(w), ", ".join(w.events), w.url, w.last_delivered_at) for w in found.webhooks],
        "no webhooks yet; `reaver webhooks add URL` makes one",
    )


@app.command("add")
def add(
    url: Annotated[str, typer.Argument(metavar="URL", help="https address that takes POST.", show_default=False)],
    events: Annotated[str, typer.Option("--events", help="Types and patterns: job.completed,job.failed,…")] = "*",
    description: Annotated[str, typer.Option("--description", help="A line for yourself.")] = "",
    api: ApiUrl = DEFAULT_API,
    keypair: KeypairFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a webhook, and print its secret: it is shown once, and checks the signature of what you receive.

    \b
      reaver webhooks add https://example.org/hook
      reaver webhooks add https://example.org/hook --events 'job.*,allowance.*'
    """
    output = Output(as_json=as_json)
    connection = Connection(api, keypair)
    wanted = tuple(word.strip() for word in events.split(","))
    made = run(
        output,
        lambda: with_client(connection, lambda c: c.webhooks.create(url, events=wanted, description=description)),
    )
    if as_json:
        output.json(made.model_dump(by_alias=True))
        return
    output.fields(
        f"Webhook {made.id}", [("url", made.url), ("events", ", ".join(made.events)), ("secret", made.secret)]
    )
    output.note(f"keep the secret now, it is not shown again; `reaver webhooks test {made.id}` sends something")


@app.command("pause")
def pause(hook: WebhookId, api: ApiUrl = DEFAULT_API, keypair: KeypairFile = None, as_json: JsonFlag = False) -> None:
    """Send nothing for now.

    \b
      reaver webhooks pause wh_…
    """
    _switch(hook, api, keypair, active=False, as_json=as_json)


@app.command("resume")
def resume(hook: WebhookId, api: ApiUrl = DEFAULT_API, keypair: KeypairFile = None, as_json: JsonFlag = False) -> None:
    """Send again, also after the market had given up. What was missed: `reaver webhooks replay`.

    \b
      reaver webhooks resume wh_…
    """
    _switch(hook, api, keypair, active=True, as_json=as_json)


@app.command("rotate")
def rotate(hook: WebhookId, api: ApiUrl = DEFAULT_API, keypair: KeypairFile = None, as_json: JsonFlag = False) -> None:
    """Make a new secret. For a day the old one signs too, so that no event fails meanwhile.

    \b
      reaver webhooks rotate wh_…
    """
    output = Output(as_json=as_json)
    connection = Connection(api, keypair)
    made = run(output, lambda: with_client(connection, lambda c: c.webhooks.rotate(hook)))
    if as_json:
        output.json(made.model_dump(by_alias=True))
        return
    output.line(made.secret)
    if made.old_secret_until is not None:
        output.note(f"the old secret signs too until {made.old_secret_until}")


@app.command("test")
def send_test(
    hook: WebhookId, api: ApiUrl = DEFAULT_API, keypair: KeypairFile = None, as_json: JsonFlag = False
) -> None:
    """Send an event that says only that it is a test.

    \b
      reaver webhooks test wh_… && reaver webhooks deliveries wh_…
    """
    output = Output(as_json=as_json)
    connection = Connection(api, keypair)
    sent = run(output, lambda: with_client(connection, lambda c: c.webhooks.test(hook)))
    if as_json:
        output.json(sent.model_dump(by_alias=True))
        return
    output.line(f"On its way: {sent.event_id}")
    output.note(f"`reaver webhooks deliveries {hook}` shows what became of it")


@app.command("deliveries")
def deliveries(
    hook: WebhookId,
    limit: Annotated[int | None, typer.Option("--limit", min=1, max=100, help="How many.  [default: 20]")] = None,
    api: ApiUrl = DEFAULT_API,
    keypair: KeypairFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what was sent, what waits, and why.

    \b
      reaver webhooks deliveries wh_… --limit 5
    """
    output = Output(as_json=as_json)
    connection = Connection(api, keypair)
    found = run(output, lambda: with_client(connection, lambda c: c.webhooks.deliveries(hook, limit=limit)))
    if as_json:
        output.json(found.model_dump(by_alias=True))
        return
    output.table(
        ("cursor", "type", "state", "tries", "answer", "next try"),
        [(d.cursor, d.type, d.state, str(d.attempts), _answer(d), d.next_attempt_at) for d in found.deliveries],
        f"nothing was sent there yet; `reaver webhooks test {hook}` sends something",
    )


@app.command("replay")
def replay(
    hook: WebhookId,
    after: Annotated[str | None, typer.Option("--after", metavar="CURSOR", help="What came after this.")] = None,
    since: Annotated[str | None, typer.Option("--from", metavar="TIME", help="Or since then (RFC 3339).")] = None,
    api: ApiUrl = DEFAULT_API,
    keypair: KeypairFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Send again what was missed; events are kept for 30 days.

    \b
      reaver webhooks replay wh_… --after 1250
      reaver webhooks replay wh_… --from 2026-02-13T00:00:00Z
    """
    if (after is None) == (since is None):
        raise typer.BadParameter("give one of --after and --from", param_hint="--after")
    output = Output(as_json=as_json)
    connection = Connection(api, keypair)
    found = run(output, lambda: with_client(connection, lambda c: c.webhooks.replay(hook, after=after, since=since)))
    if as_json:
        output.json(found.model_dump(by_alias=True))
    else:
        output.line(f"{found.queued} events up to cursor {found.until} are sent again")


@app.command("delete")
def delete(hook: WebhookId, api: ApiUrl = DEFAULT_API, keypair: KeypairFile = None, as_json: JsonFlag = False) -> None:
    """Delete a webhook.

    \b
      reaver webhooks delete wh_…
    """
    output = Output(as_json=as_json)
    connection = Connection(api, keypair)
    run(output, lambda: with_client(connection, lambda c: c.webhooks.delete(hook)))
    output.deleted(hook)


def _switch(hook: str, api: str, keypair: KeypairFile, *, active: bool, as_json: bool) -> None:
    output = Output(as_json=as_json)
    connection = Connection(api, keypair)
    found = run(output, lambda: with_client(connection, lambda c: c.webhooks.update(hook, active=active)))
    if as_json:
        output.json(found.model_dump(by_alias=True))
    else:
        output.line(f"Webhook {found.id} is {_state(found)}")


def _state(webhook: "Webhook") -> str:
    if webhook.active:
        return "active"
    return f"stopped: {webhook.disabled_reason}" if webhook.disabled_reason else "paused"


def _answer(delivery: "Delivery") -> str | None:
    return delivery.last_error if delivery.last_status is None else str(delivery.last_status)
