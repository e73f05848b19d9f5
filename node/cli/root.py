"""The commands of `reaver-node`, those of stake apart (node/cli/staking.py).

Heavy modules (chain, HTTP, engine) are imported inside the commands that need them, so that `--help` is quick.
"""

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from node.cli.session import ConfigOption, JsonOption, fail, file_of, settings_of
from node.cli.staking import RpcOption, drain_on_chain
from node.cli.staking import register as register_staking
from node.cli.trial import register as register_trial

if TYPE_CHECKING:
    from node.hardware import Fit
    from node.journal import Attempt
    from node.registration import Bond
    from node.settings import Settings
    from node.setup import Finding

app = typer.Typer(
    name="reaver-node",
    help="Earn by the second: run a node of a Reaver market.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.callback()
def _every_command() -> None:
    # Standard output is the command's answer; whatever the modules log goes beside it.
    _log_to_stderr(as_json=False)


@app.command()
def init(
    config: ConfigOption = None,
    market: Annotated[str, typer.Option(help="The market's URL.")] = "http://127.0.0.1:8787",
    rpc: Annotated[str, typer.Option(help="RPC of the chain, to check the market's word.")] = "",
    region: Annotated[str, typer.Option(help="Where this machine stands: eu, na, …, or a country such as de.")] = "eu",
    class_id: Annotated[str, typer.Option("--class", help="Hardware class to offer.")] = "cpu-small",
    slots: Annotated[int, typer.Option(help="How many of it at once; 0: as many as fit.", min=0)] = 0,
    runtime: Annotated[str, typer.Option(help="docker, or process (development only).")] = "docker",
    check_image: Annotated[str, typer.Option(help="Image for the test container.")] = "busybox:latest",
    private_registry: Annotated[
        list[str] | None, typer.Option(help="HOST:PORT that may be pulled from though it isn't public; repeatable.")
    ] = None,
    deployment: Annotated[
        str, typer.Option(help="Label of its containers; a second node on one machine needs another.")
    ] = "reaver-node",
    as_json: JsonOption = False,
) -> None:
    """Create keys and configuration, and check that this machine can run containers."""
    from marketplace.domain.catalogue import UnknownName, find_class
    from node import settings, setup
    from node.errors import ConfigUnusable
    from node.hardware import fit, measure

    file = file_of(config)
    try:
        kind = settings.RuntimeKind(runtime)
        entry = find_class(class_id)
    except (ValueError, UnknownName) as error:
        fail(f"unknown value: {error}")
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fitting = fit(measure(file.parent), entry)
    findings = setup.create_keys(file.parent)
    text = settings.template(
        market_url=market,
        rpc_url=rpc,
        region=region,
        class_id=entry.id,
        slots=slots or max(1, fitting.slots),
        kind=kind,
        deployment=deployment,
        private_registries=private_registry or [],
    )
    findings.append(setup.create_config(file, text))
    try:
        loaded = settings.load(file)
        findings.append(_capacity(loaded, fitting))
        findings.append(asyncio.run(setup.pin_market(file)))
        findings.extend(asyncio.run(setup.check_engine(settings.load(file), check_image)))
    except ConfigUnusable as error:
        fail(str(error))
    _print_findings(findings, as_json=as_json)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)
    if not as_json:
        operator = loaded.path(loaded.keys.operator)
        typer.echo(f"\nNext: give the operator key SOL for fees and stake tokens for the bond ({operator}),")
        typer.echo("then run `reaver-node register`.")


@app.command()
def register(
    config: ConfigOption = None,
    bond: Annotated[
        str | None,
        typer.Option(
            metavar="AMOUNT",
            help="Stake tokens to bond, at least the class's bond. A lost attempt is compensated out of it, and a node "
            "below the class's bond takes no work.",
            show_default="the class's bond plus 10 %",
        ),
    ] = None,
    max_bond: Annotated[
        str | None, typer.Option(help="Agree to a bond of up to so many stake tokens without being asked.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Bond stake on chain and register this node with the market."""
    from node.errors import MarketRefused, NodeError

    settings, file = settings_of(config)
    try:
        registered, bonded = asyncio.run(_register(settings, file, bond, max_bond, quiet=as_json))
    except TimeoutError:
        fail("the registration was sent but did not land in time; run the command again")
    except MarketRefused as error:
        fail(f"the market refused: {error}")
    except NodeError as error:
        fail(str(error))
    if as_json:
        typer.echo(json.dumps(registered))
        return
    typer.echo(f"registered as {registered['id']} ({registered['status']})")
    if bonded is not None:
        typer.echo(f"bonded {bonded}, transaction {registered['transaction']}")
    typer.echo("Next: `reaver-node start`.")


@app.command()
def start(
    config: ConfigOption = None,
    drain_on_stop: Annotated[
        bool, typer.Option("--drain-on-stop", help="On SIGTERM finish running work first.")
    ] = False,
    log_format: Annotated[str, typer.Option(help="console or json.")] = "console",
) -> None:
    """Serve: claim, run, meter, get paid. SIGTERM leaves containers running for the next start."""
    from node.daemon import serve
    from node.errors import NodeError
    from node.runtime.errors import EngineError

    settings, _ = settings_of(config)
    _log_to_stderr(as_json=log_format == "json")
    try:
        asyncio.run(serve(settings, drain_on_stop=drain_on_stop, announce=_say))
    except (NodeError, EngineError) as error:
        fail(str(error))


@app.command()
def status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """What this node runs, what it has earned on paper, and what the market says of it."""
    from node.errors import NodeError

    settings, _ = settings_of(config)
    try:
        report = asyncio.run(_status(settings))
    except NodeError as error:
        fail(str(error))
    if as_json:
        typer.echo(json.dumps(report))
        return
    typer.echo(f"node     {settings.node.id or '(not registered)'}  key {report['key']}")
    typer.echo(
        f"daemon   {'running' if report['running'] else 'not running'}{', draining' if report['draining'] else ''}"
    )
    market = report["market"]
    shown = market.get("error") or f"{market.get('status', '?')}, reputation {market.get('reputation', '?')}"
    typer.echo(f"market   {settings.market.url}: {shown}")
    if "bond" in market:
        missing = str(market.get("bond_missing") or "0")
        lacks = f", {missing} missing: it takes no work until they are bonded" if missing.strip("0.") else ""
        typer.echo(f"bond     {market['bond']} stake tokens{lacks}")
    for attempt in report["attempts"]:
        typer.echo(
            f"attempt  {attempt['allocation_id']}#{attempt['attempt']}  {attempt['step']}  "
            f"billed {attempt['billed_ms'] / 1000:.1f} s = {attempt['amount']} base units, "
            f"countersigned {attempt['countersigned']}"
        )


@app.command()
def drain(
    resume: Annotated[bool, typer.Option("--resume", help="Take work again.")] = False,
    rpc: RpcOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take no new work; running work goes on to its end. Never punished.

    Holds on this machine at once; the market is told, and the chain, where the operator's key signs it.
    """
    _set_draining(config, rpc, on=not resume, as_json=as_json)


@app.command()
def undrain(rpc: RpcOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Take work again; the same as `drain --resume`."""
    _set_draining(config, rpc, on=False, as_json=as_json)


def _capacity(loaded: "Settings", fitting: "Fit") -> "Finding":
    from node.setup import Finding

    text = f"{loaded.node.slots} x {loaded.node.class_id} offered, {fitting.slots} fit"
    if loaded.node.slots <= fitting.slots:
        return Finding("capacity", text)
    return Finding("capacity", text, fix=fitting.because or "lower node.slots: the market counts only what fits")


async def _register(
    settings: "Settings", file: Path, wanted: str | None, max_bond: str | None, *, quiet: bool
) -> "tuple[dict[str, Any], Bond | None]":
    from marketplace.domain.money import MalformedAmount, parse_amount
    from node import settings as files
    from node.errors import ConfigUnusable
    from node.hardware import measure
    from node.keys import KeyUnusable, load
    from node.market import MarketHttp
    from node.registration import default_bond, deployment_of, register
    from node.setup import pin_market

    pinned = await pin_market(file)
    if not pinned.ok:
        raise ConfigUnusable(f"{pinned.text}; {pinned.fix}")
    settings = files.load(file)
    try:
        operator, node = (load(settings.path(path)) for path in (settings.keys.operator, settings.keys.node))
    except KeyUnusable as error:
        raise ConfigUnusable(str(error)) from error
    agreed: list[Bond] = []

    def consent(bond: "Bond") -> bool:
        try:
            limit = parse_amount(max_bond, bond.decimals) if max_bond is not None else None
        except (MalformedAmount, ArithmeticError) as error:
            raise ConfigUnusable(f"--max-bond {max_bond} is not an amount") from error
        if limit is not None:
            yes = bond.units <= limit
        elif quiet or not sys.stdin.isatty():
            raise ConfigUnusable(f"registering locks {bond}; agree with --max-bond")
        else:
            yes = typer.confirm(f"Registering locks {bond}. Sign?")
        if yes:
            agreed.append(bond)
        return yes

    async with MarketHttp(settings.market.url, operator, "login") as http:
        constants = await http.constants()
        deployment = deployment_of(constants["chain"])
        try:
            units = (
                parse_amount(wanted, deployment.stake_decimals)
                if wanted is not None
                else default_bond(constants, settings.node.class_id, deployment.stake_decimals)
            )
        except (MalformedAmount, ArithmeticError) as error:
            raise ConfigUnusable(f"--bond {wanted} is not an amount") from error
        registered = await register(
            http,
            settings,
            deployment=deployment,
            operator=operator,
            node=node,
            hardware=measure(file.parent).message(),
            bond=units,
            consent=consent,
        )
    files.update(file, {"node": {"id": registered.node_id}})
    shown = {"id": registered.node_id, "status": registered.status, "transaction": registered.transaction}
    return shown, agreed[-1] if agreed else None


async def _status(settings: "Settings") -> dict[str, Any]:
    from node.errors import ConfigUnusable, NodeError
    from node.journal import JournalUnusable, JournalView, read_only
    from node.keys import KeyUnusable, load
    from node.market import MarketHttp

    try:
        key = load(settings.path(settings.keys.node))
    except KeyUnusable as error:
        raise ConfigUnusable(str(error)) from error
    try:
        view = read_only(settings.journal)
    except JournalUnusable:
        view = JournalView((), in_use=False)
    market: dict[str, Any] = {"error": "not registered"}
    if settings.node.id:
        try:
            async with MarketHttp(settings.market.url, key, "node") as http:
                market = await http.get(f"/v1/nodes/{settings.node.id}")
        except NodeError as error:
            market = {"error": str(error)}
    return {
        "id": settings.node.id,
        "key": key.address,
        "running": view.in_use,
        "draining": settings.drain_flag.exists(),
        "attempts": [_shown(attempt) for attempt in view.attempts],
        "market": market,
    }


def _shown(attempt: "Attempt") -> dict[str, Any]:
    from marketplace.protocol.vouchers import VoucherMessage

    voucher = VoucherMessage.from_fields(attempt.voucher.fields) if attempt.voucher else None
    accepted = attempt.accepted.message if attempt.accepted else None
    return {
        "allocation_id": attempt.key.allocation,
        "attempt": attempt.key.attempt,
        "step": attempt.step.name.lower(),
        "billed_ms": voucher.billed_ms if voucher else 0,
        "amount": voucher.amount if voucher else 0,
        "countersigned": accepted.amount if accepted else 0,
        "reason": attempt.ending.reason.code if attempt.ending else None,
    }


def _set_draining(config: Path | None, rpc: str | None, *, on: bool, as_json: bool) -> None:
    """The local flag holds at once and alone; market and chain are told so that nobody asks in vain."""
    settings, _ = settings_of(config)
    settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    if on:
        settings.drain_flag.touch()
    else:
        settings.drain_flag.unlink(missing_ok=True)
    told = asyncio.run(_tell_market(settings, on=on))
    chain = drain_on_chain(config, rpc, draining=on)
    if as_json:
        typer.echo(json.dumps({"draining": on, "market": told or "told", "chain": chain or "told"}))
        return
    typer.echo("draining: no new work is taken, running work goes on" if on else "taking work again")
    if told:
        typer.echo(f"the market was not told ({told}); the daemon tells it with its next heartbeat", err=True)
    if chain:
        typer.echo(f"the chain was not told ({chain}); that stops nothing here", err=True)


async def _tell_market(settings: "Settings", *, on: bool) -> str | None:
    """Why the market could not be told, None when it was."""
    from node.errors import NodeError
    from node.keys import KeyUnusable, load
    from node.market import MarketHttp

    if not settings.node.id:
        return "not registered"
    # The node may say it of itself, the operator of any of his nodes; a market may take only the operator's word.
    credentials: tuple[tuple[Path, Literal["login", "node"]], ...] = (
        (settings.keys.node, "node"),
        (settings.keys.operator, "login"),
    )
    problem: str | None = None
    for file, purpose in credentials:
        try:
            async with MarketHttp(settings.market.url, load(settings.path(file)), purpose) as http:
                await http.post(f"/v1/nodes/{settings.node.id}/drain", {"drain": on})
        except (NodeError, KeyUnusable) as error:
            problem = problem or str(error)
        else:
            return None
    return problem


def _print_findings(findings: "list[Finding]", *, as_json: bool) -> None:
    if as_json:
        shown = [{"subject": f.subject, "ok": f.ok, "text": f.text, "fix": f.fix or None} for f in findings]
        typer.echo(json.dumps({"ok": all(f.ok for f in findings), "findings": shown}))
        return
    for finding in findings:
        typer.echo(f"{'ok ' if finding.ok else 'FIX'}  {finding.subject:<14} {finding.text}")
        if not finding.ok:
            typer.echo(f"     {'':<14} -> {finding.fix}")


def _say(line: str) -> None:
    typer.echo(line)
    sys.stdout.flush()


def _log_to_stderr(*, as_json: bool) -> None:
    import structlog

    renderer: Callable[..., Any] = (
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


register_staking(app)
register_trial(app)
