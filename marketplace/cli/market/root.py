"""`reaver-market`: set a market up, serve it, look at it. Heavy modules are imported by the command that needs them."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from marketplace.cli.market.admin import app as admin
from marketplace.cli.market.options import ConfigOption, DataOption, JsonOption, RpcOption, WsOption
from marketplace.cli.market.session import run, settings_of, show

app = typer.Typer(
    name="reaver-market",
    help="Run a compute market: API, scheduler and settlement.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(admin, name="admin")


@app.command()
def serve(
    config: ConfigOption = None,
    rpc: RpcOption = None,
    ws: WsOption = None,
    data: DataOption = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0: any free one.")] = None,
    base_url: Annotated[str | None, typer.Option(help="The address that users type.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Serve until SIGINT or SIGTERM. Prints one line once it listens; logs go to standard error."""
    import uvloop

    from marketplace.app import Market, run_market
    from marketplace.logs import configure_logs

    def announce(market: Market) -> None:
        url = f"http://{settings.api.host}:{market.port}"
        facts = {
            "api": url,
            "public_url": market.settings.api.public_url,
            "rpc": settings.chain.rpc,
            "port": market.port,
        }
        print(json.dumps(facts) if as_json else f"listening on {url}, chain at {settings.chain.rpc}", flush=True)

    def work() -> None:
        configure_logs(settings.log.format, settings.log.level)
        uvloop.run(run_market(settings, announce))

    settings = settings_of(config, rpc, ws, data, api={"host": host, "port": port, "base_url": base_url})
    run(work)


@app.command()
def init(
    config: ConfigOption = None,
    rpc: RpcOption = None,
    data: DataOption = None,
    admin_file: Annotated[
        Path | None,
        typer.Option("--admin", help="Keypair file of the program's upgrade authority; not needed on a localnet."),
    ] = None,
    create_mints: Annotated[
        bool, typer.Option("--create-mints", help="Make new mints instead of using those of the settings.")
    ] = False,
    first_emission: Annotated[
        int | None,
        typer.Option(
            "--first-emission",
            metavar="TOKENS",
            min=0,
            help="Whole stake tokens that the first epoch may give to stakers; decays from there, and can't be set "
            "again. Only when the program is initialized by this command.  [default: 100 on a localnet, else 0]",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Set keys, program, classes and market up on the chain; only adds what is missing, so repeat it as you like."""
    import asyncio

    from marketplace.chain.addresses import parse_address
    from marketplace.chain.bootstrap import MarketDeployment, MarketPlan, initialize_market
    from marketplace.chain.constants import DEFAULT, LOCALNET
    from marketplace.chain.keyfiles import load_keypair
    from marketplace.chain.rpc import RpcClient
    from marketplace.services.clock import SystemRandom
    from marketplace.services.key_ring import create_key_ring
    from marketplace.services.stored_secrets import RING_FILE

    async def initialize() -> MarketDeployment:
        plan = MarketPlan(
            program=parse_address(settings.chain.program_id),
            keys_dir=settings.market.keys,
            profile=LOCALNET if settings.market.local else DEFAULT,
            local=settings.market.local,
            payment_mint=None if create_mints else parse_address(settings.chain.payment_mint),
            stake_mint=None if create_mints else parse_address(settings.chain.stake_mint),
            create_mints=create_mints,
            admin=load_keypair(admin_file) if admin_file is not None else None,
            market_fee_bps=settings.market.fee_bps,
            first_emission=first_emission,
        )
        async with RpcClient([settings.chain.rpc], timeout_s=settings.chain.request_timeout_s) as client:
            return await initialize_market(client, plan, progress=lambda line: print(line, file=sys.stderr))

    def work() -> None:
        create_key_ring(settings.market.keys / "tokens.json", SystemRandom())
        create_key_ring(settings.market.keys / RING_FILE, SystemRandom())
        made = asyncio.run(initialize())
        facts = {
            "market": str(made.market),
            "program_id": str(made.deployment.program),
            "payment_mint": str(made.deployment.payment_mint),
            "stake_mint": str(made.deployment.stake_mint),
            "authority": str(made.authority),
            "matcher": str(made.matcher),
            "meter": str(made.meter),
            "quote": str(made.quote),
            "keys": str(settings.market.keys),
            "done": list(made.done),
        }
        show(facts, as_json=as_json)

    settings = settings_of(config, rpc, None, data)
    run(work)


@app.command()
def migrate(config: ConfigOption = None, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Bring the database's schema up to date. `serve` does so by itself; no market may be running."""
    from marketplace.store.engine import Store, name_of
    from marketplace.store.schema import newest_revision

    async def open_once() -> None:
        store = Store(settings.database)
        await store.open()
        await store.close()

    def work() -> None:
        asyncio.run(open_once())
        show({"database": name_of(settings.database), "revision": newest_revision()}, as_json=as_json)

    settings = settings_of(config, None, None, data)
    run(work)


@app.command("config")
def show_config(config: ConfigOption = None, rpc: RpcOption = None, data: DataOption = None) -> None:
    """Print the settings as they take effect (file < environment < flags), secrets hidden."""
    from marketplace.settings import dump_settings

    print(json.dumps(dump_settings(settings_of(config, rpc, None, data)), indent=2, default=str))


@app.command()
def doctor(
    config: ConfigOption = None, rpc: RpcOption = None, data: DataOption = None, as_json: JsonOption = False
) -> None:
    """Check keys, chain and market; exit 1 and say what to do where something is missing."""
    import asyncio

    from marketplace.app import Market
    from marketplace.errors import MarketError

    async def look() -> dict[str, Any]:
        market = Market.build(settings)
        findings: dict[str, Any] = {"keys": "ok"}
        try:
            facts = await market.link.connect()
            findings["chain"] = "ok"
            findings["market"] = str(facts.market)
            for name, key in (("matcher", market.keys.matcher), ("meter", market.keys.meter)):
                findings[f"{name}_lamports"] = await market.rpc.get_balance(key.pubkey())
        except MarketError as error:
            findings["chain"] = error.message
        finally:
            await market.rpc.close()
        return findings

    def work() -> None:
        findings = asyncio.run(look())
        show(findings, as_json=as_json)
        if findings["chain"] != "ok":
            raise typer.Exit(1)

    settings = settings_of(config, rpc, None, data)
    run(work)
