"""An administrative act: its effect is said, agreed to on a terminal, landed, and told with its signature."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from marketplace.cli.market.session import run

if TYPE_CHECKING:
    from solders.keypair import Keypair

    from marketplace.chain.acts import Acting
    from marketplace.chain.transactions import Step
    from marketplace.settings import Settings

YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]
AdminOption = Annotated[
    Path | None,
    typer.Option(
        "--admin",
        metavar="FILE",
        help="Keypair file of the deployment's admin; read for this act only. Not needed on a localnet.",
    ),
]
AuthorityOption = Annotated[
    Path | None,
    typer.Option(
        "--authority",
        metavar="FILE",
        help="Keypair file of the market's authority, the cold key; read for this act only.  "
        "[default: authority.json beside the market's keys]",
    ),
]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is about to be done.

    effects: a line each, before → after. signers: the first pays. next_step: what comes after it, in words.
    """

    what: str
    effects: tuple[str, ...]
    steps: "Sequence[Step]"
    signers: "Sequence[Keypair]"
    next_step: str = ""


@dataclass(frozen=True, slots=True)
class Nothing:
    """There is nothing to do, and why."""

    because: str


def look(settings: "Settings", read: "Callable[[Acting], Awaitable[dict[str, Any]]]") -> dict[str, Any]:
    """What `read` finds on chain; ends the process with the reason where it can't be read."""
    found: dict[str, Any] = {}

    def work() -> None:
        async def connected() -> None:
            async with connect(settings) as chain:
                found.update(await read(chain))

        asyncio.run(connected())

    run(work)
    return found


def perform(
    settings: "Settings", plan: "Callable[[Acting], Awaitable[Plan | Nothing]]", *, yes: bool, as_json: bool
) -> None:
    """Plan by what the chain says, ask, land, tell."""

    def work() -> None:
        async def connected() -> None:
            async with connect(settings) as chain:
                made = await plan(chain)
                if isinstance(made, Nothing):
                    told({"done": None, "because": made.because}, made.because, as_json=as_json)
                    return
                announce(made.what, made.effects, yes=yes)
                landed = await chain.act(made.what, made.steps, made.signers, sending)
                facts = {
                    "done": made.what,
                    "effects": list(made.effects),
                    "signature": str(landed.signature),
                    "fee_lamports": landed.fee_lamports,
                    "next": made.next_step or None,
                }
                lines = f"Confirmed: {made.what}\nTransaction {landed.signature}"
                told(facts, lines + (f"\nNext: {made.next_step}" if made.next_step else ""), as_json=as_json)

        asyncio.run(connected())

    run(work)


def connect(settings: "Settings") -> "Any":
    """The settings' chain and deployment, as an async context manager of Acting."""
    from marketplace.chain.acts import acting
    from marketplace.chain.addresses import parse_address

    program = parse_address(settings.chain.program_id)
    return acting(settings.chain.rpc, program, request_timeout_s=settings.chain.request_timeout_s)


def announce(what: str, effects: Sequence[str], *, yes: bool) -> None:
    """Say the effects; on a terminal ask for leave. Ends the process with 1 where the answer is no."""
    print(what, file=sys.stderr)
    for line in effects:
        print(f"  {line}", file=sys.stderr)
    if not yes and sys.stdin.isatty() and not typer.confirm("Sign and send?", err=True):
        print("reaver-market: not agreed to; nothing was signed", file=sys.stderr)
        raise typer.Exit(1)


def sending(what: str, signature: object) -> None:
    """Told before the bytes go out: whoever is cut off knows what to look for."""
    print(f"sending {what}: {signature}", file=sys.stderr)


def told(facts: Mapping[str, Any], text: str, *, as_json: bool) -> None:
    """The answer on standard output."""
    print(json.dumps(facts) if as_json else text)


def authority_key(settings: "Settings", file: Path | None) -> "Keypair":
    """The market's cold key. Raises SettingsError where its file is missing."""
    from marketplace.chain.keyfiles import load_keypair

    return load_keypair(file if file is not None else settings.market.keys / "authority.json")


def admin_signers(settings: "Settings", file: Path | None) -> "tuple[Keypair, tuple[Keypair, ...]]":
    """The admin's key, and who signs (the payer first).

    On a local chain the published key administers; it has no SOL, so the market's authority pays, as in `init`.
    Raises SettingsError where no key is named.
    """
    from marketplace.chain.bootstrap import local_admin
    from marketplace.chain.keyfiles import load_keypair
    from marketplace.errors import SettingsError

    if file is not None:
        admin = load_keypair(file)
        return admin, (admin,)
    if not settings.market.local:
        raise SettingsError("name the admin's keypair file with --admin")
    admin, payer = local_admin(), load_keypair(settings.market.keys / "authority.json")
    return admin, (payer, admin)
