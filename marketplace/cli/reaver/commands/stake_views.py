"""How stake is shown: tables for people, objects for programs, and an act's effect in words."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from marketplace.cli.reaver.output import Output

if TYPE_CHECKING:
    from marketplace.client.models import PreparedTransaction
    from marketplace.client.payments import Paid
    from marketplace.client.stake_models import Pools, Positions, PreparedStake, SimulatedStake, StakeHistory

_STAKE = "stake tokens"


def effect_lines(offered: "PreparedTransaction") -> list[str]:
    """What the market expects to change, before → after; empty for an act that says nothing of it."""
    from marketplace.client.stake_models import PreparedStake

    if not isinstance(offered, PreparedStake):
        return []
    effects = offered.effects
    named = (
        ("wallet", effects.wallet_payment, offered.currency),
        ("wallet", effects.wallet_stake, _STAKE),
        ("staked", effects.staked, _STAKE),
        ("waiting to be claimed", effects.pending_payment, offered.currency),
        ("waiting to be claimed", effects.pending_stake, _STAKE),
        ("on its way out", effects.unbonding, _STAKE),
        ("the whole pool", effects.pool_stake, _STAKE),
    )
    lines = [
        f"{name}: {change.before} → {change.after} {unit}"
        for name, change, unit in named
        if change is not None and change.before != change.after
    ]
    if effects.unlock_at is not None:
        lines.append(f"can be withdrawn from about {effects.unlock_at} on")
    return lines


def show_acts(output: Output, paid: "Sequence[Paid]") -> None:
    """What was signed, that the chain has it, and what comes next."""
    from marketplace.client.stake_models import PreparedStake

    offers = [entry.offered for entry in paid if isinstance(entry.offered, PreparedStake)]
    following = _next_step(offers)
    if output.as_json:
        output.json(
            {
                "signature": paid[-1].signature,
                "transactions": [
                    {
                        "signature": entry.signature,
                        "summary": entry.summary,
                        "resumed": entry.resumed,
                        "effects": entry.offered.effects.model_dump(exclude_none=True)
                        if isinstance(entry.offered, PreparedStake)
                        else None,
                        "items": [item.model_dump(exclude_none=True) for item in entry.offered.items]
                        if isinstance(entry.offered, PreparedStake)
                        else [],
                    }
                    for entry in paid
                ],
                "next": following,
            }
        )
        return
    for entry in paid:
        if entry.resumed:
            output.note("an earlier run of this command was completed; nothing was done twice")
        output.line(f"Confirmed: {entry.summary}")
        output.line(f"Transaction {entry.signature}")
    if following is not None:
        output.line(f"Next: {following}")


def show_pools(output: Output, found: "Pools", offset: int) -> None:
    """Nodes to stake on."""
    if output.as_json:
        output.json(found.model_dump(by_alias=True))
        return
    epochs = found.pools[0].past_yield.epochs if found.pools else 0
    if found.pools:
        output.note(f"yield: of 1,000 stake tokens in the last {epochs} epochs; it promises nothing")
    output.table(
        ("node", "yield", "in stake", "uptime", "commission", "stake", "free exposure", "reputation", "status"),
        [
            (
                pool.node_id,
                f"{pool.past_yield.payment_per_1000} {pool.currency}",
                pool.past_yield.stake_per_1000,
                _percent(pool.uptime),
                _commission(pool.commission_bps),
                pool.stake,
                f"{pool.free_exposure} {pool.currency}",
                str(pool.reputation),
                pool.status,
            )
            for pool in found.pools
        ],
        "no nodes to stake on yet",
    )
    if found.has_more:
        output.note(f"{len(found.pools)} of {found.total}; more with --offset {offset + len(found.pools)}")


def show_positions(output: Output, found: "Positions") -> None:
    """A wallet's stake."""
    if output.as_json:
        output.json(found.model_dump(by_alias=True))
        return
    output.table(
        ("node", "staked", "worth now", "to claim", "in stake", "of pool", "commission", "uptime", "status"),
        [
            (
                position.name,
                position.stake,
                position.value_now,
                f"{position.pending.payment} {found.currency}",
                position.pending.stake,
                _percent(position.share_of_pool),
                _commission(position.commission_bps)
                + (
                    f" → {_commission(position.pending_commission.bps)} at {position.pending_commission.effective_at}"
                    if position.pending_commission is not None
                    else ""
                ),
                None if position.uptime_factor is None else _percent(position.uptime_factor),
                f"{position.status}, own bond" if position.bond else position.status,
            )
            for position in found.positions
        ],
        "nothing staked; `reaver stake nodes` shows where it could be",
    )
    tickets = [(position.name, ticket) for position in found.positions for ticket in position.tickets]
    if tickets:
        output.line()
        output.table(
            ("ticket", "node", "worth now", "unlocks", "state"),
            [
                (ticket.id, name, ticket.value_now, ticket.unlock_at, "ready" if ticket.ready else "locked")
                for name, ticket in tickets
            ],
            "",
        )
    if found.positions:
        totals = found.totals
        output.line()
        output.fields(
            "",
            [
                ("staked", f"{totals.stake} {_STAKE}"),
                ("to claim", f"{totals.pending.payment} {found.currency}, {totals.pending.stake} {_STAKE}"),
                ("unbonding", f"{totals.unbonding} {_STAKE}, {totals.withdrawable} of it can be withdrawn"),
            ],
        )


def show_history(output: Output, found: "StakeHistory", offset: int) -> None:
    """A wallet's acts and rewards."""
    if output.as_json:
        output.json(found.model_dump(by_alias=True))
        return
    output.table(
        ("at", "what", "node", "stake", found.currency, "transaction"),
        [
            (
                event.at,
                event.type,
                event.node_id or event.pool,
                event.stake,
                event.payment,
                event.transaction,
            )
            for event in found.history
        ],
        "nothing happened yet",
    )
    if found.has_more:
        output.note(f"{len(found.history)} of {found.total}; more with --offset {offset + len(found.history)}")


def show_simulation(output: Output, found: "SimulatedStake") -> None:
    """What a stake would have earned."""
    if output.as_json:
        output.json(found.model_dump(by_alias=True))
        return
    output.fields(
        f"{found.amount} {_STAKE} on {found.node_id or found.pool}, epochs {found.from_epoch} to {found.to_epoch}",
        [
            ("earned", f"{found.earned.payment} {found.currency} and {found.earned.stake} {_STAKE}"),
            ("the stake itself", f"{found.amount} → {found.value} {_STAKE}"),
        ],
    )
    output.table(
        ("epoch", found.currency, "stake", "the stake's worth"),
        [(str(epoch.epoch), epoch.payment, epoch.stake, epoch.value) for epoch in found.epochs],
        "no whole epoch has passed yet",
    )


def _next_step(offers: "Sequence[PreparedStake]") -> str | None:
    if not offers:
        return None
    effects = offers[-1].effects
    if effects.unlock_at is not None:
        ticket = offers[-1].items[0].ticket_id
        return f"from about {effects.unlock_at} on: reaver stake withdraw" + (f" --ticket {ticket}" if ticket else "")
    if effects.wallet_stake is not None and effects.staked is not None:
        return "reaver stake positions shows what it earns"
    return None


def _commission(bps: int) -> str:
    return f"{bps // 100}.{bps % 100:02d} %"


def _percent(part: object) -> str:
    from decimal import Decimal

    return f"{(Decimal(str(part)) * 100).quantize(Decimal('0.01'))} %"
