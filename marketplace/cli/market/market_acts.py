"""`reaver-market admin`, the market's part: hot keys, fee, earnings, and which of its nodes get work."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from marketplace.cli.market.acts import (
    AuthorityOption,
    Nothing,
    Plan,
    YesOption,
    announce,
    authority_key,
    connect,
    perform,
    sending,
    told,
)
from marketplace.cli.market.options import ConfigOption, DataOption, JsonOption, RpcOption
from marketplace.cli.market.session import fail, run, settings_of

if TYPE_CHECKING:
    from solders.keypair import Keypair

    from marketplace.chain.acts import Acting
    from marketplace.chain.transactions import Step
    from marketplace.cli.market.key_rotation import RotationFiles
    from marketplace.settings import Settings

# Chosen: what an old key keeps for fees of what it still has to sign; some 20,000 signatures.
_LEFT_LAMPORTS: Final = 100_000_000
NodeArgument = Annotated[
    str, typer.Argument(metavar="NODE", help="The node's key, or its account's address.", show_default=False)
]


def set_fee(
    fee: Annotated[
        str, typer.Argument(metavar="FEE", help="Basis points or percent: 350 or 3.5%.", show_default=False)
    ],
    authority: AuthorityOption = None,
    yes: YesOption = False,
    config: ConfigOption = None,
    rpc: RpcOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Announce another market fee. It binds attempts assigned after the deployment's delay, never running ones."""
    settings = settings_of(config, rpc, None, data)

    async def plan(chain: "Acting") -> Plan | Nothing:
        from marketplace.chain.parameters import ParameterRefused, parse_parameter, show_length
        from marketplace.domain.quantities import Bps, Millis
        from marketplace.domain.staking import in_force

        bps = parse_parameter("max_market_bps", fee, 0)
        params = (await chain.reader.get_config()).params
        if bps > params.max_market_bps:
            raise ParameterRefused(f"a market's fee is at most {params.max_market_bps}bps here, not {bps}bps")
        key = authority_key(settings, authority)
        market = await chain.reader.get_market(chain.calls.addresses.market(key.pubkey()))
        now = Millis(await chain.stakes.chain_time_ms())
        pending_at = Millis(market.pending_fee_at)
        current = in_force(Bps(market.fee_bps), Bps(market.pending_fee_bps), pending_at, now)
        effects = [f"fee: {current}bps → {bps}bps, {show_length(params.fee_delay)} after this lands"]
        if pending_at > now:
            effects.append(f"replaces the announced {market.pending_fee_bps}bps")
        return Plan("announce a fee", tuple(effects), [chain.calls.set_fee(key.pubkey(), bps)], [key])

    perform(settings, plan, yes=yes, as_json=as_json)


def withdraw_fees(
    to: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="ACCOUNT", help="Payment-token account.  [default: the authority's own, made if absent]"
        ),
    ] = None,
    authority: AuthorityOption = None,
    yes: YesOption = False,
    config: ConfigOption = None,
    rpc: RpcOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Pay out what this market has earned. What is the protocol's stays (see `sweep`)."""
    settings = settings_of(config, rpc, None, data)

    async def plan(chain: "Acting") -> Plan | Nothing:
        from marketplace.chain.addresses import parse_address
        from marketplace.chain.transactions import CreateTokenAccount
        from marketplace.domain.money import format_amount

        key = authority_key(settings, authority)
        deployment = chain.calls.deployment
        market = await chain.reader.get_market(chain.calls.addresses.market(key.pubkey()))
        if not market.market_owed:
            return Nothing("this market has earned nothing that is not paid out")
        destination = parse_address(to) if to is not None else chain.calls.payment_account(key.pubkey())
        held = await chain.reader.find_token_account(destination)
        if to is not None and (held is None or held.mint != deployment.payment_mint):
            fail(f"{destination} is no account of the payment token")
        before = 0 if held is None else held.amount
        steps: list[Step] = [chain.calls.withdraw_fees(key.pubkey(), destination=destination)]
        if held is None:
            steps.insert(0, CreateTokenAccount(key.pubkey(), key.pubkey(), deployment.payment_mint))
        decimals = deployment.payment_decimals
        owed, after = market.market_owed, before + market.market_owed
        effects = (
            f"owed to the market: {format_amount(owed, decimals)} → {format_amount(0, decimals)}",
            f"{destination}: {format_amount(before, decimals)} → {format_amount(after, decimals)}",
        )
        return Plan("withdraw the market's fees", effects, steps, [key])

    perform(settings, plan, yes=yes, as_json=as_json)


def sweep(
    market: Annotated[
        str | None, typer.Option("--market", metavar="ADDRESS", help="Another market's account.  [default: this one's]")
    ] = None,
    keypair: Annotated[
        Path | None,
        typer.Option(
            "--keypair", metavar="FILE", help="Who pays the transaction's fee: anyone.  [default: matcher.json]"
        ),
    ] = None,
    yes: YesOption = False,
    config: ConfigOption = None,
    rpc: RpcOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Move the protocol's part of a market's fees to the protocol's account. Anyone may; it costs one signature."""
    settings = settings_of(config, rpc, None, data)

    async def plan(chain: "Acting") -> Plan | Nothing:
        from marketplace.chain.addresses import parse_address
        from marketplace.chain.keyfiles import load_keypair
        from marketplace.domain.money import format_amount

        key = load_keypair(keypair if keypair is not None else settings.market.keys / "matcher.json")
        address = parse_address(market) if market is not None else _own_market(settings, chain)
        found = await chain.reader.get_market(address)
        if not found.protocol_owed:
            return Nothing(f"market {address} owes the protocol nothing")
        target = (await chain.reader.get_config()).protocol_token
        decimals = chain.calls.deployment.payment_decimals
        effects = (
            f"owed to the protocol: {format_amount(found.protocol_owed, decimals)} → {format_amount(0, decimals)}",
            f"paid to {target}",
        )
        call = chain.calls.sweep_protocol_fees(key.pubkey(), address, target)
        return Plan("sweep the protocol's fees", effects, [call], [key])

    perform(settings, plan, yes=yes, as_json=as_json)


def suspend_node(
    node: NodeArgument,
    authority: AuthorityOption = None,
    yes: YesOption = False,
    config: ConfigOption = None,
    rpc: RpcOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give one of this market's nodes no more work. What runs goes on; its stakers lose nothing by it."""
    _suspend(settings_of(config, rpc, None, data), node, authority, suspended=True, yes=yes, as_json=as_json)


def resume_node(
    node: NodeArgument,
    authority: AuthorityOption = None,
    yes: YesOption = False,
    config: ConfigOption = None,
    rpc: RpcOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Lift a suspension: the node is active again."""
    _suspend(settings_of(config, rpc, None, data), node, authority, suspended=False, yes=yes, as_json=as_json)


def rotate_keys(
    replace_lost: Annotated[
        bool, typer.Option("--replace-lost", help="Rotate although no file here holds the keys that the chain names.")
    ] = False,
    authority: AuthorityOption = None,
    yes: YesOption = False,
    config: ConfigOption = None,
    rpc: RpcOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replace the market's matcher and meter by new keys.

    The new key files are on disk before the chain hears of them; the old ones are kept in `retired/`. SOL of the old
    keys is moved afterwards. Whoever stole the old matcher can open nothing for wallets from then on;
    attempts that run keep their meter. Given again after an interruption, it completes what was begun.
    """
    import asyncio

    settings = settings_of(config, rpc, None, data)

    async def work() -> None:
        from marketplace.cli.market.key_rotation import RotationFiles

        files = RotationFiles(settings.market.keys)
        async with connect(settings) as chain:
            await _rotate(
                chain,
                files,
                authority_key(settings, authority),
                replace_lost=replace_lost,
                yes=yes,
                as_json=as_json,
            )

    run(lambda: asyncio.run(work()))


async def _rotate(
    chain: "Acting",
    files: "RotationFiles",
    key: "Keypair",
    *,
    replace_lost: bool,
    yes: bool,
    as_json: bool,
) -> None:
    from marketplace.cli.market.key_rotation import HOT_KEYS, HotKeys

    address = chain.calls.addresses.market(key.pubkey())
    market = await chain.reader.get_market(address)
    before = HotKeys(market.matcher, market.meter)
    signature: str | None = None
    if replace_lost or not files.interrupted(before):
        matcher, meter = files.prepare()
        after = HotKeys(matcher.pubkey(), meter.pubkey())
        effects = (f"matcher: {before.matcher} → {after.matcher}", f"meter: {before.meter} → {after.meter}")
        announce("rotate the market's keys", effects, yes=yes)
        call = chain.calls.rotate_keys(key.pubkey(), after.matcher, after.meter)
        # Alone in its transaction: who has stolen an old key could empty it, and so fail what else stood here.
        landed = await chain.act("rotate the market's keys", [call], [key], sending)
        signature = str(landed.signature)
    else:
        after = before
    old = {name: files.current(name) for name in HOT_KEYS}
    kept = files.finish(after)
    moved = [await _move_sol(chain, name, old[name], getattr(after, name)) for name in HOT_KEYS]
    facts: dict[str, Any] = {
        "done": "rotate the market's keys",
        "market": str(address),
        "matcher": str(after.matcher),
        "meter": str(after.meter),
        "signature": signature,
        "kept": kept,
        "sol": moved,
        "next": "restart reaver-market serve: a running one still has the old keys",
    }
    first = "Completed an interrupted rotation" if signature is None else f"Confirmed: transaction {signature}"
    text = "\n".join(
        (
            first,
            f"matcher {after.matcher}",
            f"meter   {after.meter}",
            *(f"kept    {path}" for path in kept),
            *moved,
            f"Next: {facts['next']}",
        )
    )
    told(facts, text, as_json=as_json)


async def _move_sol(chain: "Acting", name: str, old: "Keypair | None", new: Any) -> str:
    """Move an old key's SOL to the new one; what became of it, in words. The rotation stands in any case."""
    from marketplace.chain.transactions import TransferLamports
    from marketplace.errors import MarketError

    wanting = f"the new {name} may need SOL: send some to {new}"
    if old is None or old.pubkey() == new:
        return wanting
    try:
        moved = await chain.rpc.get_balance(old.pubkey()) - _LEFT_LAMPORTS
        if moved < _LEFT_LAMPORTS:
            return wanting
        await chain.act(f"move the {name}'s SOL", [TransferLamports(old.pubkey(), new, moved)], [old], sending)
    except MarketError as error:
        return f"the old {name}'s SOL was not moved ({error.message}); {wanting}"
    return f"{moved} lamports of the old {name} moved, {_LEFT_LAMPORTS} stay for what it still signs"


def _suspend(
    settings: "Settings", node: str, authority: Path | None, *, suspended: bool, yes: bool, as_json: bool
) -> None:
    async def plan(chain: "Acting") -> Plan | Nothing:
        from marketplace.chain.accounts import NodeAccount, NodeStatus
        from marketplace.chain.addresses import parse_address

        given = parse_address(node)
        address = chain.calls.addresses.node(given)
        found = await chain.reader.find(NodeAccount, address) or await chain.reader.find(NodeAccount, given)
        if found is None:
            fail(f"{node} is neither a node's key nor a node's account on this chain")
        key = authority_key(settings, authority)
        own = chain.calls.addresses.market(key.pubkey())
        if found.account.market != own:
            fail(f"node {found.account.node_key} belongs to market {found.account.market}, not to {own}")
        status = NodeStatus(found.account.status)
        if (status is NodeStatus.SUSPENDED) == suspended:
            return Nothing(f"the node is {status.name.lower()} already")
        target = NodeStatus.SUSPENDED if suspended else NodeStatus.ACTIVE
        return Plan(
            f"{'suspend' if suspended else 'resume'} node {found.account.node_key}",
            (
                f"status: {status.name.lower()} → {target.name.lower()}",
                f"{found.account.attempts} attempts running or contested go on",
            ),
            [chain.calls.suspend_node(key.pubkey(), found.address, suspended=suspended)],
            [key],
        )

    perform(settings, plan, yes=yes, as_json=as_json)


def _own_market(settings: "Settings", chain: "Acting") -> Any:
    """The account of the market whose keys lie in the settings' folder."""
    return chain.calls.addresses.market(authority_key(settings, None).pubkey())
