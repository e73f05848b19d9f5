"""`reaver-market admin status`: the deployment and this market as the chain has them."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from marketplace.cli.market.acts import look
from marketplace.cli.market.options import ConfigOption, DataOption, JsonOption, RpcOption
from marketplace.cli.market.session import settings_of

if TYPE_CHECKING:
    from marketplace.chain.acts import Acting
    from marketplace.settings import Settings


def status(
    market: Annotated[
        str | None,
        typer.Option(
            "--market", metavar="ADDRESS", help="A market's account.  [default: that of the keys here, where there are]"
        ),
    ] = None,
    config: ConfigOption = None,
    rpc: RpcOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show administrator, pauses, epochs and classes; this market's keys, fee, pending change and what is owed."""
    settings = settings_of(config, rpc, None, data)

    async def read(chain: "Acting") -> dict[str, Any]:
        now = await chain.stakes.chain_time_ms()
        found = await _deployment(chain, now)
        address = _market_address(settings, chain, market)
        if address is not None:
            found["market"] = await _market(settings, chain, address, now)
        return found

    found = look(settings, read)
    if as_json:
        print(json.dumps(found))
        return
    for title, section in found.items():
        print(title)
        for name, value in section.items():
            for line in _lines(name, value):
                print(f"  {line}")


async def _deployment(chain: "Acting", now: int) -> dict[str, Any]:
    from marketplace.chain.accounts import ClassAccount
    from marketplace.chain.addresses import NULL_ADDRESS, class_name
    from marketplace.chain.parameters import paused_names, show_length
    from marketplace.domain.money import format_amount

    config = await chain.reader.get_config()
    deployment = chain.calls.deployment
    stake = deployment.stake_decimals
    vault = await chain.reader.find_token_account(config.emission_vault)
    classes = await chain.reader.list_accounts(ClassAccount, [])
    return {
        "deployment": {
            "program": str(deployment.program),
            "admin": str(config.admin),
            "proposed_admin": None if config.pending_admin == NULL_ADDRESS else str(config.pending_admin),
            "paused": list(paused_names(config.paused)),
            "payment_mint": str(deployment.payment_mint),
            "stake_mint": str(deployment.stake_mint),
            "protocol_account": str(config.protocol_token),
        },
        "epochs": {
            "now": (now - config.epoch_start) // config.epoch_length,
            "next_to_close": config.next_epoch,
            "length": show_length(config.epoch_length),
            "scheduled_emission": format_amount(config.scheduled_emission, stake),
            "committed_emission": format_amount(config.committed_emission, stake),
            "distributed_emission": format_amount(config.distributed_emission, stake),
            "emission_vault": str(config.emission_vault),
            "emission_vault_holds": None if vault is None else format_amount(vault.amount, stake),
        },
        "classes": {
            class_name(entry.account.class_id): {
                "bond": format_amount(entry.account.minimum_bond, stake),
                "enabled": entry.account.enabled,
            }
            for entry in sorted(classes, key=lambda entry: entry.account.class_id)
        },
    }


async def _market(settings: "Settings", chain: "Acting", address: Any, now: int) -> dict[str, Any]:
    from marketplace.chain.accounts import NodeStatus
    from marketplace.domain.instants import instant_text
    from marketplace.domain.money import format_amount

    market = await chain.reader.get_market(address)
    decimals = chain.calls.deployment.payment_decimals
    pending = market.pending_fee_at
    # The chain takes an announced fee over at its next use of the account: until then the old number stands there.
    due = bool(pending) and pending <= now
    vault = await chain.reader.find_token_account(market.fee_vault)
    nodes = await chain.reader.list_nodes_of_market(address)
    keys: dict[str, Any] = {}
    for name in ("authority", "matcher", "meter"):
        key = getattr(market, name)
        keys[name] = {
            "address": str(key),
            "lamports": await chain.rpc.get_balance(key),
            "file_here": _file_holds(settings, name, key),
        }
    return {
        "address": str(address),
        **keys,
        "fee_bps": market.pending_fee_bps if due else market.fee_bps,
        "pending_fee": None
        if not pending or due
        else {"bps": market.pending_fee_bps, "effective_at": instant_text(pending)},
        "fee_vault": str(market.fee_vault),
        "fee_vault_holds": None if vault is None else format_amount(vault.amount, decimals),
        "owed_to_market": format_amount(market.market_owed, decimals),
        "owed_to_protocol": format_amount(market.protocol_owed, decimals),
        "nodes": {
            str(node.account.node_key): {
                "status": NodeStatus(node.account.status).name.lower(),
                "attempts": node.account.attempts,
                "operator": str(node.account.operator),
            }
            for node in sorted(nodes, key=lambda node: str(node.account.node_key))
        },
    }


def _market_address(settings: "Settings", chain: "Acting", given: str | None) -> Any:
    from marketplace.chain.addresses import parse_address
    from marketplace.chain.keyfiles import load_keypair

    if given is not None:
        return parse_address(given)
    file = settings.market.keys / "authority.json"
    return chain.calls.addresses.market(load_keypair(file).pubkey()) if file.exists() else None


def _file_holds(settings: "Settings", name: str, key: Any) -> bool:
    from marketplace.chain.keyfiles import load_keypair

    path = settings.market.keys / f"{name}.json"
    return path.exists() and load_keypair(path).pubkey() == key


def _lines(name: str, value: Any) -> list[str]:
    label = name.replace("_", " ")
    if isinstance(value, dict):
        nested = [line for inner, entry in value.items() for line in _lines(inner, entry)]
        return [f"{label}:", *(f"  {line}" for line in nested)] if nested else [f"{label}: none"]
    if isinstance(value, list):
        return [f"{label}: {', '.join(str(entry) for entry in value) or 'nothing'}"]
    if value is None:
        return [f"{label}: none"]
    return [f"{label}: {('yes' if value else 'no') if isinstance(value, bool) else value}"]
