"""Runs a command of `reaver-market`: its settings, its errors, its answer."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer

if TYPE_CHECKING:
    from marketplace.settings import Settings


def settings_of(
    config: Path | None,
    rpc: str | None,
    ws: str | None,
    data: Path | None,
    *,
    api: dict[str, Any] | None = None,
) -> "Settings":
    """The settings with these flags on top. Ends the process with the reason where they can't be used."""
    from marketplace.errors import SettingsError
    from marketplace.logs import configure_logs
    from marketplace.settings import load_settings

    flags: dict[str, dict[str, Any]] = {
        "chain": {"rpc_url": rpc, "ws_url": ws},
        "market": {"data_dir": data},
        "api": api or {},
    }
    given = {
        section: values
        for section, names in flags.items()
        if (values := {name: value for name, value in names.items() if value is not None})
    }
    try:
        settings = load_settings(config, given)
    except SettingsError as error:
        fail(error.message)
    # Standard output is the answer's; `serve` turns the logs up.
    configure_logs("console", "warning")
    return settings


def run(work: Callable[[], None]) -> None:
    from marketplace.errors import ChainUnavailable, MarketError

    try:
        work()
    except ChainUnavailable as error:
        fail(f"{error.message}. Check --rpc, or [chain] of the settings, and give the same command again")
    except MarketError as error:
        fail(error.message)
    except OSError as error:
        fail(str(error))


def fail(message: str) -> NoReturn:
    from marketplace.redaction import redact

    print(f"reaver-market: {redact(message)}", file=sys.stderr)
    raise typer.Exit(1)


def show(facts: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(facts))
        return
    for name, value in facts.items():
        print(f"{name}: {', '.join(value) if isinstance(value, list) else value}")
