"""Payments, mirrored from the chain's events, and their sums by whatever they are looked at."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import orjson

from marketplace.domain.ids import AccountId
from marketplace.store.engine import Transaction

_DAY_MS: Final = 86_400_000
_HOUR_MS: Final = 3_600_000


@dataclass(frozen=True, slots=True)
class Payment:
    """One payment out of an escrow. billed_ms: of the attempt so far. Amounts of this payment, base units."""

    signature: str
    position: int
    escrow: str
    attempt: int
    node: str
    at_ms: int
    billed_ms: int
    paid: int
    operator: int
    stakers: int
    market: int
    protocol: int


class Grouping(StrEnum):
    """What sums are made of. DAY and HOUR: UTC. KIND: of allocation."""

    DAY = "day"
    HOUR = "hour"
    JOB = "job"
    NODE = "node"
    GPU = "gpu"
    CONSUMER = "consumer"
    KIND = "kind"


_GROUPS: Final = {
    Grouping.DAY: f"s.at_ms - s.at_ms % {_DAY_MS}",
    Grouping.HOUR: f"s.at_ms - s.at_ms % {_HOUR_MS}",
    Grouping.JOB: "s.allocation_id",
    Grouping.NODE: "s.node",
    Grouping.GPU: "s.class_id",
    Grouping.CONSUMER: "s.consumer_id",
    # Every allocation is a job yet.
    Grouping.KIND: "'job'",
}


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums of one group. group: None where that is unknown. gpu_ms: billed milliseconds times GPUs."""

    group: str | int | None
    jobs: int
    gpu_ms: int
    paid: int
    operator: int
    stakers: int
    market: int
    protocol: int


@dataclass(frozen=True, slots=True)
class StakeTaken:
    """Stake that a node's pool lost, base units of the stake token. compensation: the part of it that renters got."""

    slashed: int
    compensation: int


_SUMS: Final = (
    "count(DISTINCT s.escrow), coalesce(sum(s.billed_ms * coalesce(s.gpu_count, 1)), 0), coalesce(sum(s.paid), 0),"
    " coalesce(sum(s.operator), 0), coalesce(sum(s.stakers), 0), coalesce(sum(s.market), 0),"
    " coalesce(sum(s.protocol), 0)"
)
OF_ACCOUNT: Final = "s.account_id = :who AND s.at_ms >= :start AND s.at_ms < :until"
OF_NODE: Final = "s.node = :who AND s.at_ms >= :start AND s.at_ms < :until"


SLASHED: Final = (
    "SELECT coalesce(sum(e.stake), 0) FROM stake_pools p JOIN stake_events e ON e.pool = p.pool"
    " WHERE p.node = :node AND e.kind IN ('slashed_bond', 'slashed', 'slashed_unbonding')"
    " AND e.at_ms >= :start AND e.at_ms < :until"
)
CONTESTS: Final = (
    "SELECT fields FROM chain_events WHERE node = :node AND name = 'ContestClosed'"
    " AND seen_at_ms >= :start AND seen_at_ms < :until"
)


def grouped(grouping: Grouping, whose: str) -> str:
    """The statement of a page of sums, the latest or largest name first."""
    name = _GROUPS[grouping]
    return (
        f"SELECT {name}, {_SUMS} FROM settlements s WHERE {whose} GROUP BY 1"  # noqa: S608 - ours
        " ORDER BY 1 DESC LIMIT :limit OFFSET :offset"
    )


class Settlements:
    """Record and sum."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def record(self, payment: Payment) -> None:
        """Write a payment, with what its allocation says where that is known here."""
        before = self._tx.row(
            "SELECT coalesce(sum(billed_ms), 0) FROM settlements WHERE escrow = :escrow AND attempt = :attempt",
            {"escrow": payment.escrow, "attempt": payment.attempt},
        )
        known = self._tx.row(
            "SELECT a.account_id, a.id, coalesce(nullif(t.class_id, ''), a.class_id), a.gpu_count, a.consumer_id"
            " FROM allocations a LEFT JOIN attempts t ON t.allocation_id = a.id AND t.number = :attempt"
            " WHERE a.escrow = :escrow",
            {"escrow": payment.escrow, "attempt": payment.attempt},
        ) or (None, None, None, None, None)
        self._tx.change(
            "INSERT INTO settlements (signature, position, escrow, attempt, node, at_ms, billed_ms, paid, operator,"
            " stakers, market, protocol, account_id, allocation_id, class_id, gpu_count, consumer_id)"
            " VALUES (:signature, :position, :escrow, :attempt, :node, :at, :billed, :paid, :operator, :stakers,"
            " :market, :protocol, :account, :allocation, :class, :gpus, :consumer)",
            {
                "signature": payment.signature,
                "position": payment.position,
                "escrow": payment.escrow,
                "attempt": payment.attempt,
                "node": payment.node,
                "at": payment.at_ms,
                "billed": max(0, payment.billed_ms - (int(before[0]) if before else 0)),
                "paid": payment.paid,
                "operator": payment.operator,
                "stakers": payment.stakers,
                "market": payment.market,
                "protocol": payment.protocol,
                "account": known[0],
                "allocation": known[1],
                "class": known[2],
                "gpus": known[3],
                "consumer": known[4],
            },
        )

    def of_account(
        self, account_id: AccountId, start_ms: int, until_ms: int, grouping: Grouping, *, limit: int, offset: int
    ) -> tuple[Sequence[Sums], int, Sums]:
        """A page of groups, how many there are, and the sums over all of them."""
        return self._page(OF_ACCOUNT, account_id, start_ms, until_ms, grouping, limit, offset)

    def of_node(
        self, node: str, start_ms: int, until_ms: int, grouping: Grouping, *, limit: int, offset: int
    ) -> tuple[Sequence[Sums], int, Sums]:
        """The same of a node. node: address of its account."""
        return self._page(OF_NODE, node, start_ms, until_ms, grouping, limit, offset)

    def stake_taken(self, node: str, start_ms: int, until_ms: int) -> StakeTaken:
        """What the pool of a node lost. node: address of its account."""
        values = {"node": node, "start": start_ms, "until": until_ms}
        slashed = self._tx.row(SLASHED, values)
        closed = self._tx.rows(CONTESTS, values)
        return StakeTaken(
            slashed=int(slashed[0]) if slashed else 0,
            compensation=sum(int(orjson.loads(fields)["compensation"]) for (fields,) in closed),
        )

    def _page(
        self, whose: str, who: str, start_ms: int, until_ms: int, grouping: Grouping, limit: int, offset: int
    ) -> tuple[Sequence[Sums], int, Sums]:
        values = {"who": who, "start": start_ms, "until": until_ms}
        rows = self._tx.rows(grouped(grouping, whose), values | {"limit": limit, "offset": offset})
        number = self._tx.row(
            f"SELECT count(*) FROM (SELECT {_GROUPS[grouping]} AS g FROM settlements s WHERE {whose} GROUP BY 1) AS n",  # noqa: S608
            values,
        )
        whole = self._tx.row(f"SELECT {_SUMS} FROM settlements s WHERE {whose}", values)  # noqa: S608
        assert whole is not None  # noqa: S101 - an aggregate always has a row
        assert number is not None  # noqa: S101
        return [Sums(row[0], *map(int, row[1:])) for row in rows], int(number[0]), Sums(None, *map(int, whole))
