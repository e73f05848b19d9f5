"""`reaver-localnet`: start, status, faucet, reset."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from marketplace.localnet.errors import ConfigInvalid, LocalnetError

if TYPE_CHECKING:
    from marketplace.localnet.config import ChainConfig
    from marketplace.localnet.folder import Running

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="""A Solana chain on this machine: the real SVM (LiteSVM) behind Solana's JSON-RPC and WebSocket.

It keeps everything it has answered, also through kill -9. Its tokens are worth nothing.

\b
Try:   reaver-localnet start            in one terminal
       reaver-localnet status --json    in another: addresses, ports, slot
       reaver-localnet faucet WALLET    SOL, payment and stake tokens
       reaver-localnet reset            a fresh chain""",
)

ConfigOption = Annotated[
    Path,
    typer.Option("--config", help="The TOML file whose \\[chain] section describes the chain.", show_default=True),
]
DataOption = Annotated[
    Path | None,
    typer.Option("--data", help="Folder for keys, journal and ports, instead of `data` in \\[chain]."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object per line, for programs.")]

_DEFAULT_CONFIG = Path("localnet.toml")


def main() -> None:
    """The console script."""
    app()


@app.command()
def start(
    config: ConfigOption = _DEFAULT_CONFIG,
    data: DataOption = None,
    rpc_port: Annotated[int | None, typer.Option("--rpc-port", help="JSON-RPC port; 0 takes a free one.")] = None,
    ws_port: Annotated[
        int | None,
        typer.Option("--ws-port", help="WebSocket port; without it the RPC port + 1, where Solana's clients look."),
    ] = None,
    bind: Annotated[
        str | None,
        typer.Option("--bind", help="Address to listen on. Beyond loopback, everybody who reaches it may mint."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run the chain in the foreground until Ctrl-C or SIGTERM.

    A folder that already holds a chain is continued: same genesis, accounts, history. With --json, a line
    with "ready": true and all addresses is printed as soon as requests are answered.

    \b
    Examples:
      reaver-localnet start
      reaver-localnet start --data /tmp/chain --rpc-port 0 --json
    """  # noqa: D301  # the backspace keeps click from rewrapping the examples
    with _errors(as_json):
        from marketplace.localnet.runner import run

        chosen = _load(config, data)
        changes = {"rpc_port": rpc_port, "ws_port": ws_port, "host": bind}
        chosen = chosen.model_copy(update={name: value for name, value in changes.items() if value is not None})
        run(chosen, lambda running: _show_ready(running, as_json))


@app.command()
def status(config: ConfigOption = _DEFAULT_CONFIG, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Show where the chain listens, its addresses and its slot; exit code 1 when it doesn't run."""
    with _errors(as_json):
        from marketplace.localnet.caller import call
        from marketplace.localnet.folder import DataFolder

        running = DataFolder(_load(config, data).data).running()
        shown: dict[str, Any] = {
            **asdict(running),
            "slot": call(running.rpc, "getSlot", [{"commitment": "processed"}]),
            "finalized_slot": call(running.rpc, "getSlot", [{"commitment": "finalized"}]),
            "transactions": call(running.rpc, "getTransactionCount", []),
        }
        _show(shown, as_json)


@app.command()
def faucet(
    wallet: Annotated[str, typer.Argument(help="Address of the wallet that is given.")],
    sol: Annotated[str | None, typer.Option("--sol", help="SOL, as a decimal number.")] = None,
    payment: Annotated[str | None, typer.Option("--payment", help="Payment tokens, as a decimal number.")] = None,
    stake: Annotated[str | None, typer.Option("--stake", help="Stake tokens, as a decimal number.")] = None,
    config: ConfigOption = _DEFAULT_CONFIG,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a wallet SOL, payment and stake tokens, in one transaction.

    Without amounts it gives those of \\[chain.faucet]; with at least one, only what is named. Token accounts
    are created where they are missing.

    \b
    Examples:
      reaver-localnet faucet 7xKXtg2CW87d97TXJSDpbD5jBkheTqA83TZRuJosgAsU
      reaver-localnet faucet 7xKXtg2CW87d97TXJSDpbD5jBkheTqA83TZRuJosgAsU --sol 1.5 --payment 250
    """  # noqa: D301  # as above
    with _errors(as_json):
        from marketplace.localnet.caller import call
        from marketplace.localnet.folder import DataFolder

        chosen = _load(config, data)
        running = DataFolder(chosen.data).running()
        if sol is None and payment is None and stake is None:
            sol, payment, stake = (
                str(each) for each in (chosen.faucet.sol, chosen.faucet.payment, chosen.faucet.stake)
            )
        amounts = {
            "lamports": _base_units(sol or "0", 9, "--sol"),
            "payment": _base_units(payment or "0", running.payment_decimals, "--payment"),
            "stake": _base_units(stake or "0", running.stake_decimals, "--stake"),
        }
        given = call(running.rpc, "localnetFaucet", [wallet, amounts])
        _show({"wallet": wallet, **amounts, **given}, as_json)


@app.command()
def reset(
    config: ConfigOption = _DEFAULT_CONFIG,
    data: DataOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete the chain: accounts, history, faucet and mint keys. The next start is a new genesis.

    Refused while the chain runs. Program and mint addresses stay the same, since they are constants.
    """
    with _errors(as_json):
        from marketplace.localnet.folder import DataFolder

        path = _load(config, data).data
        if not path.exists():
            _show({"data": str(path), "deleted": []}, as_json)
            return
        with DataFolder(path) as folder:
            if not yes:
                typer.confirm(f"Delete the chain in {path}?", abort=True, err=True)
            _show({"data": str(path), "deleted": folder.reset()}, as_json)


def _load(config: Path, data: Path | None) -> "ChainConfig":
    from marketplace.localnet.config import ChainConfig, load_config

    # Only the default file may be missing; one that was named must be there.
    if config == _DEFAULT_CONFIG and not config.exists():
        loaded = ChainConfig().below(Path.cwd())
    else:
        loaded = load_config(config)
    return loaded.model_copy(update={"data": data.resolve()}) if data is not None else loaded


def _base_units(text: str, decimals: int, option: str) -> int:
    """A decimal number of whole tokens in base units. Raises ConfigInvalid."""
    try:
        amount = Decimal(text).scaleb(decimals)
    except InvalidOperation as error:
        raise ConfigInvalid(f"{option}: {text!r} is no decimal number.") from error
    if not amount.is_finite() or amount < 0 or amount != amount.to_integral_value():
        raise ConfigInvalid(f"{option}: {text} must be at least 0 with at most {decimals} decimals.")
    return int(amount)


def _show_ready(running: "Running", as_json: bool) -> None:
    if as_json:
        print(json.dumps({"ready": True, **asdict(running)}), flush=True)
        return
    print(
        f"reaver-localnet is ready (Ctrl-C stops it, nothing is lost)\n"
        f"  RPC           {running.rpc}\n"
        f"  WebSocket     {running.ws}\n"
        f"  program       {running.program_id}\n"
        f"  payment mint  {running.payment_mint} ({running.payment_decimals} decimals)\n"
        f"  stake mint    {running.stake_mint} ({running.stake_decimals} decimals)\n"
        f"  genesis hash  {running.genesis_hash}\n"
        f"  data          {running.data}\n"
        f"Fund a wallet:  reaver-localnet faucet WALLET",
        flush=True,
    )


def _show(fields: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(fields))
        return
    width = max(len(name) for name in fields)
    for name, value in fields.items():
        shown = ", ".join(value) if isinstance(value, list) else value
        print(f"{name.replace('_', ' '):<{width}}  {shown}")


@contextmanager
def _errors(as_json: bool) -> Iterator[None]:
    """The outer edge: what the localnet can't do becomes one line and exit code 1."""
    try:
        yield
    except LocalnetError as error:
        if as_json:
            print(json.dumps({"error": type(error).__name__, "message": str(error)}))
        else:
            print(f"reaver-localnet: {error}", file=sys.stderr)
        raise typer.Exit(1) from error
