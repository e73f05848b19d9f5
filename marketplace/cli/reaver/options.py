"""Options that many commands share, and their environment variables."""

import os
import re
import sys
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

API_KEY_FILE: ContextVar[Path | None] = ContextVar("API_KEY_FILE", default=None)
"""The file that `reaver --api-key-file` names: said before the command, and so of no command's own options."""
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_DURATION = re.compile(r"(\d{1,4})([hdw])")
DEFAULT_API = "http://127.0.0.1:8787"
"""The market of a local network; `marketplace.settings` has the same port."""

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
ApiUrl = Annotated[str, typer.Option("--api", envvar="REAVER_API", metavar="URL", help="Address of the market.")]
KeypairFile = Annotated[
    Path | None,
    typer.Option(
        "--keypair",
        envvar="REAVER_KEYPAIR",
        metavar="FILE",
        help="Wallet's keypair file, as solana-keygen writes it.  [default: ~/.config/solana/id.json]",
    ),
]
RpcUrl = Annotated[
    str | None,
    typer.Option(
        "--rpc",
        envvar="REAVER_RPC",
        metavar="URL",
        help="Solana RPC to send signed transactions through, and to check the cluster with. "
        "Without it the market relays them.",
    ),
]
Program = Annotated[
    str | None,
    typer.Option(
        "--program", envvar="REAVER_PROGRAM_ID", metavar="ADDRESS", help="Accept this settlement program only."
    ),
]
MarketAddress = Annotated[
    str | None,
    typer.Option("--market", envvar="REAVER_MARKET", metavar="ADDRESS", help="Accept this market's account only."),
]


def refuse_misplaced(context: typer.Context) -> None:
    """An option before a subcommand would be without effect: `reaver jobs --json get JOB`."""
    for name in context.params:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            shown = "--json" if name == "as_json" else f"--{name.replace('_', '-')}"
            raise typer.BadParameter(f"put it behind `{context.invoked_subcommand}`", param_hint=shown)


def read_moment(text: str, option: str) -> datetime:
    """A moment from now on (12h, 30d, 4w), or one with its zone. Raises typer.BadParameter."""
    match = _DURATION.fullmatch(text)
    if match is not None:
        # Whole seconds: the moment travels as text and is compared with what is signed.
        return datetime.now(UTC).replace(microsecond=0) + int(match[1]) * _UNITS[match[2]]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or moment.microsecond:
        raise typer.BadParameter(f"{text!r} is neither 12h, 30d, 4w nor a moment with Z", param_hint=option)
    return moment


def read_hidden(file: Path | None, variable: str, option: str) -> str:
    """A secret from its file, from standard input (`-`), or else from a variable of the environment.

    Never from the command line, which every process of the machine may read. Raises typer.BadParameter.
    """
    if file is None:
        hidden = os.environ.get(variable, "")
    elif str(file) == "-":
        hidden = sys.stdin.read().strip()
    else:
        try:
            hidden = file.read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            raise typer.BadParameter(f"{file} can't be read: {error}", param_hint=option) from error
    if not hidden:
        raise typer.BadParameter(f"give {option}, or set {variable}", param_hint=option)
    return hidden
