"""Options that many commands of `reaver-market` share."""

from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="Settings file (default: localnet.toml where it exists).")
]
RpcOption = Annotated[str | None, typer.Option("--rpc", help="URL of the chain's JSON-RPC endpoint.")]
WsOption = Annotated[str | None, typer.Option("--ws", help="URL of the chain's subscription endpoint.")]
DataOption = Annotated[Path | None, typer.Option("--data", help="Folder of database, keys and key ring.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
