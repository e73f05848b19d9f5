"""`reaver-node`'s commands about the operator's own stake, straight on chain: no market has to answer."""

import asyncio
import json
import re
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from node.cli.session import ConfigOption, JsonOption, fail, settings_of

if TYPE_CHECKING:
    from marketplace.chain.acts import Act
    from node.staking.acts import OperatorStake, Planned
    from node.staking.standing import Standing

RpcOption = Annotated[
    str | None,
    typer.Option("--rpc", metavar="URL", help="RPC of the chain.", show_default="chain.rpc_url"),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]
_AFTER_SILENCE: Final = (
    "Check --rpc, or chain.rpc_url of the configuration, and give the same command again; after a line that says "
    "`sending`, see first whether that came through (`reaver-node status`)"
)
_PART: Final = re.compile(r"(\d{1,5})")


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command("bond")(bond)
    app.command("unbond")(unbond)
    app.command("withdraw")(withdraw)
    app.command("claim")(claim)
    app.command("commission")(commission)
    app.command("retire")(retire)


def bond(
    amount: Annotated[str, typer.Option("--amount", metavar="AMOUNT", help="In whole stake tokens, such as 25.")],
    yes: YesOption = False,
    rpc: RpcOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add stake tokens of the operator's wallet to the node's bond.

    A node below its class's bond takes no work: compensations for lost attempts come out of it.

      reaver-node bond --amount 25
    """

    async def plan(stake: "OperatorStake", now: "Standing") -> "Planned":
        return stake.bond(now, _units(amount, stake.stake_decimals))

    _perform(config, rpc, plan, yes=yes, as_json=as_json)


def unbond(
    amount: Annotated[
        str | None, typer.Option("--amount", metavar="AMOUNT", help="In whole stake tokens.", show_default=False)
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="The whole bond.")] = False,
    yes: YesOption = False,
    rpc: RpcOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a part of the bond out. It waits the unbonding time as a ticket, slashable until withdrawn.

    reaver-node unbond --amount 5
    """
    if (amount is None) != everything:
        fail("say how much: --amount AMOUNT or --all")

    async def plan(stake: "OperatorStake", now: "Standing") -> "Planned":
        return stake.unbond(now, None if amount is None else _units(amount, stake.stake_decimals))

    _perform(config, rpc, plan, yes=yes, as_json=as_json)


def commission(
    bps: Annotated[
        str, typer.Option("--bps", metavar="N", help="Basis points: 1000 is 10 % of what the pool's stakers earn.")
    ],
    yes: YesOption = False,
    rpc: RpcOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Announce another commission. It takes effect after the deployment's delay, so that delegators can leave first.

    reaver-node commission --bps 1200
    """
    wanted = _PART.fullmatch(bps)
    if wanted is None:
        fail(f"--bps {bps} is not a whole number of basis points, such as 1200")

    async def plan(stake: "OperatorStake", now: "Standing") -> "Planned":
        return stake.commission(now, int(wanted[1]))

    _perform(config, rpc, plan, yes=yes, as_json=as_json)


def claim(
    yes: YesOption = False, rpc: RpcOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Pay out what the bond has earned, and the commission."""

    async def plan(stake: "OperatorStake", now: "Standing") -> "Planned":
        return stake.claim(now)

    _perform(config, rpc, plan, yes=yes, as_json=as_json)


def withdraw(
    yes: YesOption = False, rpc: RpcOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Pay out the parts of the bond whose unbonding time is over."""

    async def work(stake: "OperatorStake") -> None:
        from marketplace.domain.instants import instant_text
        from node.staking.acts import StakingRefused

        now = await stake.get()
        ready = now.ready_tickets()
        if not ready:
            first = min((ticket.account.unlock_at for ticket in now.tickets), default=None)
            raise StakingRefused(
                "nothing is on its way out of the bond"
                if first is None
                else f"too early: the first of {len(now.tickets)} tickets unlocks at {instant_text(first)}"
            )
        plans = [stake.withdraw(now, ticket) for ticket in ready]
        value = sum(now.ticket_value(ticket.account) for ticket in ready)
        _agree(f"withdraw {stake.stake(value)} stake tokens", [plan.what for plan in plans], yes=yes)
        landed = [await stake.act(plan, _sending) for plan in plans]
        _tell(
            {"done": "withdraw", "amount": stake.stake(value), "signatures": [str(act.signature) for act in landed]},
            f"Confirmed: withdrew {stake.stake(value)} stake tokens\n"
            + "\n".join(f"Transaction {act.signature}" for act in landed),
            as_json=as_json,
        )

    _on_chain(config, rpc, work)


def retire(
    yes: YesOption = False, rpc: RpcOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Retire the node for good, and take out what is the operator's.

    Run it again whenever something it waited for has happened: each run goes as far as it can, says what is left,
    and the last one closes the node's accounts and brings their rent back.
    """

    async def work(stake: "OperatorStake") -> None:
        from node.staking.retirement import Outcome, intention
        from node.staking.retirement import retire as go_on

        _agree("retire the node", intention(stake, await stake.get()), yes=yes)

        def done(planned: "Planned", act: "Act") -> None:
            typer.echo(f"confirmed {planned.what}: {act.signature}", err=True)

        result = await go_on(stake, sending=_sending, done=done)
        facts = {
            "status": result.outcome.value,
            "done": [{"what": act.what, "signature": str(act.signature)} for act in result.acts],
            "left": list(result.left),
        }
        if result.outcome is Outcome.CLOSED:
            text = "The node is closed: its accounts are gone and their rent came back."
        else:
            text = "\n".join(
                ("The node is retired. Left before it can close:", *(f"  {line}" for line in result.left),
                 "Then run `reaver-node retire` again.")
            )  # fmt: skip
        _tell(facts, text, as_json=as_json)

    _on_chain(config, rpc, work)


def drain_on_chain(config: "ConfigOption", rpc: str | None, *, draining: bool) -> str | None:
    """Say it on chain too: why that could not be, None when the chain says so now."""
    from node.errors import NodeError

    settings, _ = settings_of(config)
    if not (rpc or settings.chain.rpc_url):
        return "no RPC endpoint is configured (chain.rpc_url)"
    if not settings.market.program_id:
        return "not registered"

    async def work() -> None:
        from node.staking.acts import operator_stake

        async with operator_stake(settings, rpc) as stake:
            planned = stake.drain(await stake.get(), draining=draining)
            if planned is not None:
                await stake.act(planned, _sending)

    from marketplace.errors import MarketError

    try:
        asyncio.run(work())
    except NodeError as error:
        return str(error)
    except MarketError as error:
        return error.message
    return None


def _perform(
    config: Any,
    rpc: str | None,
    plan: "Callable[[OperatorStake, Standing], Awaitable[Planned]]",
    *,
    yes: bool,
    as_json: bool,
) -> None:
    """Plan by what the chain says, ask, land, tell."""

    async def work(stake: "OperatorStake") -> None:
        planned = await plan(stake, await stake.get())
        _agree(planned.what, planned.effects, yes=yes)
        landed = await stake.act(planned, _sending)
        facts = {
            "done": planned.what,
            "effects": list(planned.effects),
            "signature": str(landed.signature),
            "fee_lamports": landed.fee_lamports,
            "next": planned.next_step or None,
        }
        text = f"Confirmed: {planned.what}\nTransaction {landed.signature}"
        _tell(facts, text + (f"\nNext: {planned.next_step}" if planned.next_step else ""), as_json=as_json)

    _on_chain(config, rpc, work)


def _on_chain(config: Any, rpc: str | None, work: "Callable[[OperatorStake], Awaitable[None]]") -> None:
    """Do it with the operator's key on the pinned chain; every error ends the process with its words."""
    from marketplace.errors import ChainUnavailable, MarketError
    from node.errors import NodeError
    from node.staking.acts import operator_stake

    settings, _ = settings_of(config)

    async def connected() -> None:
        async with operator_stake(settings, rpc) as stake:
            await work(stake)

    try:
        asyncio.run(connected())
    except NodeError as error:
        fail(str(error))
    except ChainUnavailable as error:
        fail(f"{error.message}. {_AFTER_SILENCE}")
    except MarketError as error:
        fail(error.message)


def _agree(what: str, effects: Sequence[str], *, yes: bool) -> None:
    typer.echo(what, err=True)
    for line in effects:
        typer.echo(f"  {line}", err=True)
    if not yes and sys.stdin.isatty() and not typer.confirm("Sign and send?", err=True):
        fail("not agreed to; nothing was signed")


def _sending(what: str, signature: object) -> None:
    """Told before the bytes go out: whoever is cut off knows what to look for."""
    typer.echo(f"sending {what}: {signature}", err=True)


def _tell(facts: dict[str, Any], text: str, *, as_json: bool) -> None:
    typer.echo(json.dumps(facts) if as_json else text)


def _units(text: str, decimals: int) -> int:
    from marketplace.domain.money import AmountOverflow, MalformedAmount, parse_amount

    try:
        return parse_amount(text, decimals)
    except (MalformedAmount, AmountOverflow):
        fail(f"--amount {text} is not an amount: digits with at most {decimals} places, such as 12.5")
