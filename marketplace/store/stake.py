"""Stake as its events describe it: recorded once, summed by epoch, undone where a fork was dropped.

Sums are of additions only, so the order in which events are learned of doesn't matter, and an event is undone by
subtracting it. 128-bit numbers are kept as decimal text.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from sqlalchemy import insert, select, update

from marketplace.store.engine import Transaction
from marketplace.store.records import from_row, to_values
from marketplace.store.tables.stake import PoolEpochRow, StakeEpochRow, StakeEventRow, StakePoolRow

_EVENTS: Final = StakeEventRow.__table__  # type: ignore[attr-defined]  # sqlmodel adds it at run time
_POOLS: Final = StakePoolRow.__table__  # type: ignore[attr-defined]
_POOL_EPOCHS: Final = PoolEpochRow.__table__  # type: ignore[attr-defined]
_EPOCHS: Final = StakeEpochRow.__table__  # type: ignore[attr-defined]


class StakeKind(StrEnum):
    """What a stake event says."""

    REGISTERED = "registered"
    BONDED = "bonded"
    DELEGATED = "delegated"
    UNBONDED = "unbonded"
    WITHDRAWN = "withdrawn"
    CLAIMED = "claimed"
    FEES = "fees"
    EMISSION = "emission"
    SLASHED_BOND = "slashed_bond"
    SLASHED = "slashed"
    SLASHED_UNBONDING = "slashed_unbonding"
    COMMISSION = "commission"
    WEIGHT = "weight"
    EPOCH_CLOSED = "epoch_closed"
    EPOCH_ENDED = "epoch_ended"
    CLOSED = "closed"


_HISTORY: Final = (
    "SELECT signature, position, slot FROM stake_events WHERE owner = :owner UNION ALL"
    " SELECT e.signature, e.position, e.slot FROM stake_holders h JOIN stake_events e"
    " ON e.pool = h.pool AND e.kind IN ('slashed', 'slashed_unbonding') AND e.slot >= h.since_slot"
    " WHERE h.owner = :owner"
)
"""What concerns a wallet: its own acts, and what all stake of its pools lost."""
_STAKE_IN: Final = frozenset({StakeKind.REGISTERED, StakeKind.BONDED, StakeKind.DELEGATED})
_STAKE_OUT: Final = frozenset({StakeKind.UNBONDED, StakeKind.SLASHED_BOND, StakeKind.SLASHED})
_OF_EPOCH: Final = frozenset({StakeKind.WEIGHT, StakeKind.EPOCH_CLOSED, StakeKind.EMISSION, StakeKind.EPOCH_ENDED})


@dataclass(frozen=True, slots=True)
class StakeEvent:
    """One event. stake, payment: what moved, base units. commission: the operator's part, in the reward's own token.

    at_epoch: in which it happened; epoch: which it speaks of. shares: active shares that came or left; of an
    epoch_closed event the total weight. ticket: address of an unbonding. due_ms: when it unlocks, or a commission
    takes effect.
    """

    signature: str
    position: int
    slot: int
    at_ms: int
    at_epoch: int
    kind: StakeKind
    pool: str | None = None
    owner: str | None = None
    ticket: str | None = None
    epoch: int | None = None
    stake: int = 0
    payment: int = 0
    commission: int = 0
    shares: str = "0"
    bps: int | None = None
    due_ms: int | None = None


@dataclass(frozen=True, slots=True)
class StakePool:
    """A pool and its node (address of the Node account). commission_bps: at registration, None where unreadable."""

    pool: str
    node: str
    node_key: str
    operator: str
    market: str
    commission_bps: int | None
    signature: str


@dataclass(frozen=True, slots=True)
class PoolEpoch:
    """One pool's epoch. fees, emission: booked in it, commission included. changes: of active stake and shares."""

    pool: str
    epoch: int
    fees: int = 0
    fees_commission: int = 0
    emission: int = 0
    emission_commission: int = 0
    stake_change: int = 0
    shares_change: str = "0"


@dataclass(frozen=True, slots=True)
class StakeEpoch:
    """An epoch of the emission. emission: fixed when it was closed. ended: nothing of it can be drawn any more."""

    epoch: int
    registered: int = 0
    total_weight: str = "0"
    closed: bool = False
    emission: int = 0
    closed_at_ms: int | None = None
    served: int = 0
    distributed: int = 0
    commission: int = 0
    ended: bool = False
    freed: int = 0


@dataclass(frozen=True, slots=True)
class PoolRewards:
    """Rewards of one pool over several epochs, without the operator's commission."""

    fees: int
    emission: int


class StakeRows:
    """Record, undo, read."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def record(self, event: StakeEvent, pool: StakePool | None = None) -> None:
        """Write an event and add it to its sums. pool: with a registration. Raises UniqueViolation when known."""
        self._tx.execute(insert(_EVENTS), to_values(event))
        if pool is not None:
            self._put_pool(pool)
        if event.owner is not None and event.pool is not None and event.kind in _STAKE_IN:
            self._tx.change(
                "INSERT INTO stake_holders (owner, pool, since_slot) VALUES (:owner, :pool, :slot)"
                " ON CONFLICT (owner, pool) DO UPDATE SET since_slot ="
                " CASE WHEN stake_holders.since_slot < :slot THEN stake_holders.since_slot ELSE :slot END",
                {"owner": event.owner, "pool": event.pool, "slot": event.slot},
            )
        self._add(event, 1)

    def undo(self, signatures: Sequence[str]) -> None:
        """Forget the events of dropped transactions, and what they added."""
        for signature in signatures:
            rows = self._tx.execute(select(_EVENTS).where(_EVENTS.c.signature == signature)).mappings().all()
            for row in rows:
                self._add(from_row(StakeEvent, row), -1)
            for table in ("stake_events", "stake_pools"):
                self._tx.change(
                    f"DELETE FROM {table} WHERE signature = :signature",  # noqa: S608 - names of ours
                    {"signature": signature},
                )

    def has_event(self, signature: str, position: int) -> bool:
        return (
            self._tx.row(
                "SELECT 1 FROM stake_events WHERE signature = :signature AND position = :position",
                {"signature": signature, "position": position},
            )
            is not None
        )

    # pools and holders

    def find_pool(self, pool: str) -> StakePool | None:
        row = self._tx.execute(select(_POOLS).where(_POOLS.c.pool == pool)).mappings().first()
        return None if row is None else from_row(StakePool, row)

    def list_pools_of(self, owner: str) -> list[str]:
        """Pools in which the wallet has, or had, a position; in a stable order."""
        rows = self._tx.rows("SELECT pool FROM stake_holders WHERE owner = :owner ORDER BY pool", {"owner": owner})
        return [row[0] for row in rows]

    # events

    def list_history(self, owner: str, limit: int, offset: int) -> list[StakeEvent]:
        """The wallet's own events, and slashes of the pools it has held stake in since; the newest first."""
        rows = self._tx.rows(
            f"SELECT signature, position FROM ({_HISTORY}) AS history"  # noqa: S608 - a text of ours
            " ORDER BY slot DESC, position DESC, signature DESC LIMIT :limit OFFSET :offset",
            {"owner": owner, "limit": limit, "offset": offset},
        )
        found = (
            self._tx.execute(select(_EVENTS).where(_EVENTS.c.signature == signature, _EVENTS.c.position == position))
            .mappings()
            .first()
            for signature, position in rows
        )
        return [from_row(StakeEvent, row) for row in found if row is not None]

    def count_history(self, owner: str) -> int:
        row = self._tx.row(f"SELECT count(*) FROM ({_HISTORY}) AS history", {"owner": owner})  # noqa: S608 - a text of ours
        return int(row[0]) if row is not None else 0

    def list_pool_events(self, pool: str, first_epoch: int, last_epoch: int) -> list[StakeEvent]:
        """What happened to a pool in these epochs (both included), in the order of the chain."""
        rows = self._tx.execute(
            select(_EVENTS)
            .where(_EVENTS.c.pool == pool, _EVENTS.c.at_epoch >= first_epoch, _EVENTS.c.at_epoch <= last_epoch)
            .order_by(_EVENTS.c.slot, _EVENTS.c.at_ms, _EVENTS.c.signature, _EVENTS.c.position)
        ).mappings()
        return [from_row(StakeEvent, row) for row in rows]

    def commission_at(self, pool: str, at_ms: int) -> int | None:
        """The pool's commission in force at a moment, None where its registration isn't known.

        An announcement takes effect at its time unless another has replaced it before.
        """
        known = self.find_pool(pool)
        if known is None or known.commission_bps is None:
            return None
        rows = self._tx.rows(
            "SELECT at_ms, bps, due_ms FROM stake_events WHERE pool = :pool AND kind = 'commission' AND at_ms <= :at"
            " ORDER BY slot, position",
            {"pool": pool, "at": at_ms},
        )
        current = known.commission_bps
        for index, (_, bps, due_ms) in enumerate(rows):
            until = rows[index + 1][0] if index + 1 < len(rows) else at_ms
            if due_ms <= until:
                current = bps
        return current

    # sums

    def list_pool_epochs(self, pool: str, first_epoch: int, last_epoch: int) -> list[PoolEpoch]:
        """Epochs in which something happened to the pool, both ends included, the oldest first."""
        rows = self._tx.execute(
            select(_POOL_EPOCHS)
            .where(_POOL_EPOCHS.c.pool == pool, _POOL_EPOCHS.c.epoch >= first_epoch, _POOL_EPOCHS.c.epoch <= last_epoch)
            .order_by(_POOL_EPOCHS.c.epoch)
        ).mappings()
        return [from_row(PoolEpoch, row) for row in rows]

    def stake_before(self, pool: str, epoch: int) -> tuple[int, int]:
        """Active stake and shares of a pool when an epoch began, from all recorded before."""
        rows = self._tx.rows(
            "SELECT stake_change, shares_change FROM pool_epochs WHERE pool = :pool AND epoch < :epoch",
            {"pool": pool, "epoch": epoch},
        )
        return sum(row[0] for row in rows), sum(int(row[1]) for row in rows)

    def rewards_by_pool(self, first_epoch: int, last_epoch: int) -> dict[str, PoolRewards]:
        """Of every pool that earned anything in these epochs, both included."""
        rows = self._tx.rows(
            "SELECT pool, sum(fees - fees_commission), sum(emission - emission_commission) FROM pool_epochs"
            " WHERE epoch >= :first AND epoch <= :last GROUP BY pool",
            {"first": first_epoch, "last": last_epoch},
        )
        return {row[0]: PoolRewards(int(row[1]), int(row[2])) for row in rows}

    def find_epoch(self, epoch: int) -> StakeEpoch | None:
        row = self._tx.execute(select(_EPOCHS).where(_EPOCHS.c.epoch == epoch)).mappings().first()
        return None if row is None else from_row(StakeEpoch, row)

    def list_epochs(self, limit: int, offset: int) -> list[StakeEpoch]:
        """Epochs that anything was said of, the newest first."""
        rows = self._tx.execute(select(_EPOCHS).order_by(_EPOCHS.c.epoch.desc()).limit(limit).offset(offset)).mappings()
        return [from_row(StakeEpoch, row) for row in rows]

    def count_epochs(self) -> int:
        row = self._tx.row("SELECT count(*) FROM stake_epochs")
        return int(row[0]) if row is not None else 0

    def list_weights(self, first_epoch: int, last_epoch: int) -> list[StakeEvent]:
        """Registered weights and drawn parts of these epochs, both included: of every node that took part."""
        rows = self._tx.execute(
            select(_EVENTS)
            .where(
                _EVENTS.c.epoch >= first_epoch,
                _EVENTS.c.epoch <= last_epoch,
                _EVENTS.c.kind.in_([StakeKind.WEIGHT.value, StakeKind.EMISSION.value]),
            )
            .order_by(_EVENTS.c.epoch.desc(), _EVENTS.c.pool)
        ).mappings()
        return [from_row(StakeEvent, row) for row in rows]

    def _put_pool(self, pool: StakePool) -> None:
        changed = self._tx.execute(update(_POOLS).where(_POOLS.c.pool == pool.pool).values(**to_values(pool))).rowcount
        if not changed:
            self._tx.execute(insert(_POOLS), to_values(pool))

    def _add(self, event: StakeEvent, sign: int) -> None:
        if event.pool is not None and event.kind in _STAKE_IN | _STAKE_OUT | {StakeKind.FEES, StakeKind.EMISSION}:
            self._add_to_pool(event, event.pool, sign)
        if event.epoch is not None and event.kind in _OF_EPOCH:
            self._add_to_epoch(event, event.epoch, sign)

    def _add_to_pool(self, event: StakeEvent, pool: str, sign: int) -> None:
        found = self.list_pool_epochs(pool, event.at_epoch, event.at_epoch)
        before = found[0] if found else PoolEpoch(pool, event.at_epoch)
        after = _pool_sums(before, event, sign)
        if found:
            where = (_POOL_EPOCHS.c.pool == pool) & (_POOL_EPOCHS.c.epoch == event.at_epoch)
            self._tx.execute(update(_POOL_EPOCHS).where(where).values(**to_values(after)))
        else:
            self._tx.execute(insert(_POOL_EPOCHS), to_values(after))

    def _add_to_epoch(self, event: StakeEvent, epoch: int, sign: int) -> None:
        found = self.find_epoch(epoch)
        after = _epoch_sums(found or StakeEpoch(epoch), event, sign)
        if after == StakeEpoch(epoch):
            self._tx.change("DELETE FROM stake_epochs WHERE epoch = :epoch", {"epoch": epoch})
        elif found is None:
            self._tx.execute(insert(_EPOCHS), to_values(after))
        else:
            self._tx.execute(update(_EPOCHS).where(_EPOCHS.c.epoch == epoch).values(**to_values(after)))


def _pool_sums(before: PoolEpoch, event: StakeEvent, sign: int) -> PoolEpoch:
    if event.kind is StakeKind.FEES:
        return replace(
            before,
            fees=before.fees + sign * event.payment,
            fees_commission=before.fees_commission + sign * event.commission,
        )
    if event.kind is StakeKind.EMISSION:
        return replace(
            before,
            emission=before.emission + sign * event.stake,
            emission_commission=before.emission_commission + sign * event.commission,
        )
    way = sign if event.kind in _STAKE_IN else -sign
    return replace(
        before,
        stake_change=before.stake_change + way * event.stake,
        shares_change=str(int(before.shares_change) + way * int(event.shares)),
    )


def _epoch_sums(before: StakeEpoch, event: StakeEvent, sign: int) -> StakeEpoch:
    match event.kind:
        case StakeKind.WEIGHT:
            return replace(
                before,
                registered=before.registered + sign,
                total_weight=str(int(before.total_weight) + sign * event.stake),
            )
        case StakeKind.EPOCH_CLOSED:
            return replace(
                before,
                closed=sign > 0,
                emission=event.stake if sign > 0 else 0,
                closed_at_ms=event.at_ms if sign > 0 else None,
            )
        case StakeKind.EMISSION:
            return replace(
                before,
                served=before.served + sign,
                distributed=before.distributed + sign * event.stake,
                commission=before.commission + sign * event.commission,
            )
        case _:
            return replace(before, ended=sign > 0, freed=event.stake if sign > 0 else 0)
