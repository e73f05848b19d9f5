"""`reaver-market admin`: the deployment's numbers, pauses, classes and administrator; a market's keys and fees."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from marketplace.cli.market.acts import AdminOption, Nothing, Plan, YesOption, admin_signers, look, perform
from marketplace.cli.market.market_acts import (
    resume_node,
    rotate_keys,
    set_fee,
    suspend_node,
    sweep,
    withdraw_fees,
)
from marketplace.cli.market.options import ConfigOption, DataOption, JsonOption, RpcOption
from marketplace.cli.market.session import fail, settings_of
from marketplace.cli.market.status import status

if TYPE_CHECKING:
    from pathlib import Path

    from marketplace.chain.acts import Acting
    from marketplace.settings import Settings

app = typer.Typer(
    help="""Administer the deployment, and this market's keys and fees, straight on chain.

    \b
    Needs no running market. Looking needs no key at all; each act reads the cold key's file
    that it needs and nothing else. On a terminal each act asks first (--yes doesn't).

    \b
      reaver-market admin status
      reaver-market admin params set unbonding=7d protocol_bps=1.5% --admin cold.json
      reaver-market admin pause delegate bond --admin cold.json
      reaver-market admin set-fee 3% --authority authority.json
    """,
    no_args_is_help=True,
    rich_markup_mode=None,
)
params = typer.Typer(help="The deployment's numbers.", no_args_is_help=True, rich_markup_mode=None)
classes = typer.Typer(
    help="Classes of machines, and the bond each asks for.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(params, name="params")
app.add_typer(classes, name="class")
app.command("status")(status)
app.command("rotate-keys")(rotate_keys)
app.command("set-fee")(set_fee)
app.command("withdraw-fees")(withdraw_fees)
app.command("sweep")(sweep)
app.command("suspend-node")(suspend_node)
app.command("resume-node")(resume_node)


@params.command("show")
def show_params(
    config: ConfigOption = None, rpc: RpcOption = None, data: DataOption = None, as_json: JsonOption = False
) -> None:
    """Show every number, and the bounds that the program holds it to."""
    import json

    async def read(chain: "Acting") -> dict[str, Any]:
        from marketplace.chain.parameters import BOUNDS, show_parameter

        found = (await chain.reader.get_config()).params
        decimals = chain.calls.deployment.payment_decimals
        return {
            name: {
                "value": show_parameter(name, getattr(found, name), decimals),
                "units": getattr(found, name),
                "least": show_parameter(name, bound.least, decimals),
                "most": show_parameter(name, bound.most, decimals),
            }
            for name, bound in BOUNDS.items()
        }

    found = look(settings_of(config, rpc, None, data), read)
    if as_json:
        print(json.dumps(found))
        return
    width = max(len(name) for name in found)
    for name, entry in found.items():
        print(f"{name.ljust(width)}  {entry['value']:<14}  {entry['least']} to {entry['most']}")


@params.command("set")
def set_params(
    assignments: Annotated[
        list[str],
        typer.Argument(metavar="NAME=VALUE...", help="Such as unbonding=14d protocol_bps=1%", show_default=False),
    ],
    admin: AdminOption = None,
    yes: YesOption = False,
    config: ConfigOption = None,
    rpc: RpcOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Set some of the numbers; the others stay. Takes effect at once, never for fees fixed in a running attempt.

    \b
      reaver-market admin params set contest=2h minimum_deposit=0.002
    """
    given: dict[str, str] = {}
    for text in assignments:
        name, found, value = text.partition("=")
        if not found or not value:
            fail(f"{text!r} is not NAME=VALUE")
        if name in given:
            fail(f"{name} is given twice")
        given[name] = value
    settings = settings_of(config, rpc, None, data)

    async def plan(chain: "Acting") -> Plan | Nothing:
        from marketplace.chain.parameters import changed_params, show_parameter

        now = await chain.reader.get_config()
        decimals = chain.calls.deployment.payment_decimals
        after = changed_params(now.params, given, payment_decimals=decimals, epoch_length=now.epoch_length)
        effects = tuple(
            f"{name}: {show_parameter(name, getattr(now.params, name), decimals)} → "
            f"{show_parameter(name, getattr(after, name), decimals)}"
            for name in given
            if getattr(after, name) != getattr(now.params, name)
        )
        if not effects:
            return Nothing("every number is already as asked for")
        key, signers = _admin_of(settings, admin, str(now.admin))
        return Plan("set parameters", effects, [chain.calls.set_params(key.pubkey(), after)], signers)

    perform(settings, plan, yes=yes, as_json=as_json)


@app.command("pause")
def pause(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME...", help="open extend assign register delegate bond grant, or all", show_default=False
        ),
    ],
    admin: AdminOption = None,
    yes: YesOption = False,
    config: ConfigOption = None,
    rpc: RpcOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Close ways in. No pause closes a way out: settling, cancelling, withdrawing, unbonding and claiming go on."""
    _set_pause(settings_of(config, rpc, None, data), names, admin, closing=True, yes=yes, as_json=as_json)


@app.command("unpause")
def unpause(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME...", help="open extend assign register delegate bond grant, or all", show_default=False
        ),
    ],
    admin: AdminOption = None,
    yes: YesOption = False,
    config: ConfigOption = None,
    rpc: RpcOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Open ways in again."""
    _set_pause(settings_of(config, rpc, None, data), names, admin, closing=False, yes=yes, as_json=as_json)


@app.command("propose-admin")
def propose_admin(
    address: Annotated[
        str | None, typer.Argument(metavar="[ADDRESS]", help="Who may take over.", show_default=False)
    ] = None,
    withdraw: Annotated[bool, typer.Option("--withdraw", help="Take the proposal back.")] = False,
    admin: AdminOption = None,
    yes: YesOption = False,
    config: ConfigOption = None,
    rpc: RpcOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Name who may take over the administration. Nothing changes before they accept with their own key."""
    if (address is None) != withdraw:
        fail("name the candidate's address, or give --withdraw")
    settings = settings_of(config, rpc, None, data)

    async def plan(chain: "Acting") -> Plan | Nothing:
        from marketplace.chain.addresses import NULL_ADDRESS, parse_address

        now = await chain.reader.get_config()
        candidate = NULL_ADDRESS if address is None else parse_address(address)
        if candidate == now.pending_admin:
            return Nothing("that is proposed already" if address else "nobody is proposed")
        key, signers = _admin_of(settings, admin, str(now.admin))
        before, after = (str(who) if who != NULL_ADDRESS else "nobody" for who in (now.pending_admin, candidate))
        return Plan(
            "propose an admin",
            (f"admin: {now.admin} (stays until the other accepts)", f"proposed: {before} → {after}"),
            [chain.calls.propose_admin(key.pubkey(), candidate)],
            signers,
            next_step="" if address is None else "reaver-market admin accept-admin --admin THEIR-KEY-FILE",
        )

    perform(settings, plan, yes=yes, as_json=as_json)


@app.command("accept-admin")
def accept_admin(
    admin: AdminOption = None,
    yes: YesOption = False,
    config: ConfigOption = None,
    rpc: RpcOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take over the administration, with the proposed key. The former admin can do nothing afterwards."""
    settings = settings_of(config, rpc, None, data)
    if admin is None:
        fail("name the proposed admin's keypair file with --admin")

    async def plan(chain: "Acting") -> Plan | Nothing:
        now = await chain.reader.get_config()
        key, signers = admin_signers(settings, admin)
        if now.admin == key.pubkey():
            return Nothing(f"{key.pubkey()} is the admin already")
        _require_holder("proposed admin", str(now.pending_admin), str(key.pubkey()))
        return Plan(
            "accept the administration",
            (f"admin: {now.admin} → {key.pubkey()}",),
            [chain.calls.accept_admin(key.pubkey())],
            signers,
        )

    perform(settings, plan, yes=yes, as_json=as_json)


@classes.command("set")
def set_class(
    name: Annotated[str, typer.Argument(metavar="CLASS", help="Its id, such as cpu-small.", show_default=False)],
    bond: Annotated[
        str | None, typer.Option("--bond", metavar="AMOUNT", help="Minimum bond, in whole stake tokens.")
    ] = None,
    enabled: Annotated[
        bool | None, typer.Option("--enable/--disable", help="Whether new nodes may join it and nodes get work in it.")
    ] = None,
    admin: AdminOption = None,
    yes: YesOption = False,
    config: ConfigOption = None,
    rpc: RpcOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a class, or change its bond and whether it is enabled. A higher bond binds nodes that exist, too.

    \b
      reaver-market admin class set l40s --bond 1500
      reaver-market admin class set l40s --disable
    """
    settings = settings_of(config, rpc, None, data)

    async def plan(chain: "Acting") -> Plan | Nothing:
        from marketplace.chain.addresses import class_id
        from marketplace.domain.money import format_amount

        decimals = chain.calls.deployment.stake_decimals
        try:
            identifier = class_id(name)
        except ValueError as error:
            fail(f"{name!r} can't be a class's id: {error}")
        before = await chain.reader.find_class(identifier)
        if before is None and bond is None:
            fail(f"there is no class {name}; make it with --bond")
        units = _stake_units(bond, decimals) if bond is not None else (before.minimum_bond if before is not None else 0)
        on = enabled if enabled is not None else (before.enabled if before is not None else True)
        if before is not None and (before.minimum_bond, before.enabled) == (units, on):
            return Nothing(f"class {name} is already like that")
        now = await chain.reader.get_config()
        key, signers = _admin_of(settings, admin, str(now.admin))

        def words(amount: int, active: bool) -> str:
            return f"a bond of {format_amount(amount, decimals)} stake tokens, {'enabled' if active else 'disabled'}"

        was = "none" if before is None else words(before.minimum_bond, before.enabled)
        call = chain.calls.set_class(signers[0].pubkey(), key.pubkey(), identifier, units, enabled=on)
        return Plan(f"set class {name}", (f"{name}: {was} → {words(units, on)}",), [call], signers)

    perform(settings, plan, yes=yes, as_json=as_json)


def _set_pause(
    settings: "Settings", names: list[str], admin: "Path | None", *, closing: bool, yes: bool, as_json: bool
) -> None:
    async def plan(chain: "Acting") -> Plan | Nothing:
        from marketplace.chain.parameters import pause_bits, paused_names

        bits = pause_bits(tuple(names))
        now = await chain.reader.get_config()
        after = now.paused | bits if closing else now.paused & ~bits
        if after == now.paused:
            return Nothing(f"{'closed' if closing else 'open'} already: {', '.join(names)}")
        key, signers = _admin_of(settings, admin, str(now.admin))
        before_text, after_text = (", ".join(paused_names(value)) or "nothing" for value in (now.paused, after))
        return Plan(
            "pause" if closing else "unpause",
            (f"paused: {before_text} → {after_text}",),
            [chain.calls.set_pause(key.pubkey(), after)],
            signers,
        )

    perform(settings, plan, yes=yes, as_json=as_json)


def _admin_of(settings: "Settings", file: "Path | None", holder: str) -> Any:
    key, signers = admin_signers(settings, file)
    _require_holder("admin", holder, str(key.pubkey()))
    return key, signers


def _require_holder(office: str, holder: str, given: str) -> None:
    if holder != given:
        fail(f"the deployment's {office} is {holder}; the given key is {given}")


def _stake_units(text: str, decimals: int) -> int:
    from marketplace.domain.money import AmountOverflow, MalformedAmount, parse_amount

    try:
        return parse_amount(text, decimals)
    except (MalformedAmount, AmountOverflow):
        fail(f"--bond {text} is not an amount: digits with at most {decimals} places")
