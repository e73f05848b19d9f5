"""The command tree. Nothing here or in what it imports may be heavy: `reaver --help` starts in under 150 ms."""

from pathlib import Path
from typing import Annotated

import typer

from marketplace.cli.reaver.commands.allow import app as allow
from marketplace.cli.reaver.commands.crank import crank
from marketplace.cli.reaver.commands.credentials import app as credentials
from marketplace.cli.reaver.commands.doctor import doctor
from marketplace.cli.reaver.commands.escrows import app as escrows
from marketplace.cli.reaver.commands.events import events
from marketplace.cli.reaver.commands.files import app as files
from marketplace.cli.reaver.commands.groups import app as groups
from marketplace.cli.reaver.commands.history import costs, history
from marketplace.cli.reaver.commands.init import init
from marketplace.cli.reaver.commands.jobs import app as jobs
from marketplace.cli.reaver.commands.keys import app as keys
from marketplace.cli.reaver.commands.login import login, logout, whoami
from marketplace.cli.reaver.commands.models import app as models
from marketplace.cli.reaver.commands.nodes import app as nodes
from marketplace.cli.reaver.commands.prices import gpu_types, prices
from marketplace.cli.reaver.commands.quote import quote
from marketplace.cli.reaver.commands.receipt import app as receipt
from marketplace.cli.reaver.commands.registries import app as registries
from marketplace.cli.reaver.commands.run import run_job
from marketplace.cli.reaver.commands.stake import app as stake
from marketplace.cli.reaver.commands.vault import app as vault
from marketplace.cli.reaver.commands.webhooks import app as webhooks
from marketplace.cli.reaver.exits import EXIT_CODES
from marketplace.cli.reaver.options import API_KEY_FILE

app = typer.Typer(
    help=f"""Rent compute by the second, paid through Solana.

    \b
    Start here:
      reaver doctor                       is everything there? what is next?
      reaver login                        sign in with your wallet
      reaver vault deposit 20             put money where jobs are paid from
      reaver quote --gpu cpu-small        what would it cost?
      reaver run --image alpine --gpu cpu-small --max-minutes 5 --follow -- echo hello
      reaver init                         write a job file, for `reaver run --file job.yaml`
      reaver jobs                         what ran, and what it cost
      reaver receipt verify receipt.json  check a bill without trusting anybody
      reaver stake nodes                  machines to stake on, and what that brought

    \b
    Environment:
      REAVER_API      address of the market (default http://127.0.0.1:8787)
      REAVER_KEYPAIR  wallet's keypair file (default ~/.config/solana/id.json)
      REAVER_API_KEY  an API key instead of the wallet's login; or its file: REAVER_API_KEY_FILE
      REAVER_RPC      Solana RPC to send through instead of the market
      REAVER_PROGRAM_ID, REAVER_MARKET  the only program and market to accept

    reaver decodes every transaction that the market asks it to sign, and signs nothing but what was asked for.

    \b
    {EXIT_CODES}
    """.replace("\n    ", "\n"),
    no_args_is_help=True,
    # Drawing help with rich would double its start-up time.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"reaver {version('reaver-market')}")
        raise typer.Exit


@app.callback()
def _root(
    _version_flag: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            "--api-key-file",
            envvar="REAVER_API_KEY_FILE",
            metavar="FILE",
            help="File of an API key that speaks for the account instead of the wallet.",
        ),
    ] = None,
) -> None:
    API_KEY_FILE.set(api_key_file)


app.command("login")(login)
app.command("logout")(logout)
app.command("whoami")(whoami)
app.command("doctor")(doctor)
app.command("quote")(quote)
app.command("init")(init)
app.command("run")(run_job)
app.add_typer(jobs, name="jobs")
app.add_typer(groups, name="groups")
app.command("history")(history)
app.command("costs")(costs)
app.add_typer(files, name="files")
app.add_typer(models, name="models")
app.add_typer(nodes, name="nodes")
app.add_typer(vault, name="vault")
app.add_typer(allow, name="allow")
app.add_typer(receipt, name="receipt")
app.add_typer(stake, name="stake")
app.command("crank")(crank)
app.command("prices")(prices)
app.command("gpu-types")(gpu_types)
app.add_typer(webhooks, name="webhooks")
app.add_typer(keys, name="keys")
app.add_typer(credentials, name="credentials")
app.add_typer(registries, name="registries")
app.add_typer(escrows, name="escrows")
app.command("events")(events)
