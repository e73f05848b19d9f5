"""What a prepared transaction about stake does, in numbers.

Kept as JSON text beside its bytes, so that a repeated request says the same; 128-bit numbers are decimal text in it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from marketplace.services.transactions import Prepared


@dataclass(frozen=True, slots=True)
class Change:
    """A number before and after."""

    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Effects:
    """Base units; None: not touched. staked: what the position's shares are worth. unbonding: what its tickets are.

    unlock_at, effective_at: when the stake can be withdrawn, when the commission is taken (chain time, milliseconds).
    """

    wallet_payment: Change | None = None
    wallet_stake: Change | None = None
    shares: Change | None = None
    staked: Change | None = None
    pending_payment: Change | None = None
    pending_stake: Change | None = None
    unbonding: Change | None = None
    pool_stake: Change | None = None
    pool_unbonding: Change | None = None
    commission_bps: Change | None = None
    unlock_at: int | None = None
    effective_at: int | None = None


@dataclass(frozen=True, slots=True)
class ActedOn:
    """One thing that the transaction acts on, as the chain names it: enough to rebuild its call.

    node_id: None where the node isn't registered here. index: the ticket's number among its position's.
    """

    node_id: str | None
    node: str
    pool: str
    ticket: str | None = None
    index: int | None = None
    shares: str | None = None


@dataclass(frozen=True, slots=True)
class PreparedStake:
    """remaining: what didn't fit into this transaction, for the next one."""

    prepared: Prepared
    effects: Effects
    items: tuple[ActedOn, ...]
    remaining: tuple[ActedOn, ...]

    @classmethod
    def read(cls, prepared: Prepared) -> "PreparedStake":
        """As `details_text` wrote it."""
        kept: Mapping[str, Any] = json.loads(prepared.details)
        effects = {name: _effect(value) for name, value in kept["effects"].items()}
        return cls(
            prepared=prepared,
            effects=Effects(**effects),
            items=tuple(ActedOn(**item) for item in kept["items"]),
            remaining=tuple(ActedOn(**item) for item in kept["remaining"]),
        )


def details_text(effects: Effects, items: tuple[ActedOn, ...], remaining: tuple[ActedOn, ...] = ()) -> str:
    """For `TransactionService.prepare`."""
    return json.dumps(
        {
            "effects": {
                f.name: _kept(value) for f in fields(effects) if (value := getattr(effects, f.name)) is not None
            },
            "items": [_plain(item) for item in items],
            "remaining": [_plain(item) for item in remaining],
        }
    )


def _plain(item: ActedOn) -> dict[str, str | int | None]:
    return {f.name: getattr(item, f.name) for f in fields(item)}


def _kept(value: Change | int) -> list[str] | int:
    return [str(value.before), str(value.after)] if isinstance(value, Change) else value


def _effect(value: list[str] | int) -> Any:
    return value if isinstance(value, int) else Change(int(value[0]), int(value[1]))
