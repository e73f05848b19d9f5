"""Allocations, attempts, open contests."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from sqlalchemy import insert, select

from marketplace.domain.allocations import Allocation, Attempt, AttemptPhase, Opener
from marketplace.domain.catalogue import ANY
from marketplace.domain.ids import AccountId, AllocationId, NodeId
from marketplace.domain.lifecycle import TERMINAL_STATUSES, AllocationState, JobStatus
from marketplace.errors import StaleLease
from marketplace.store.engine import Transaction
from marketplace.store.records import Statements, changed, changed_values, from_row, to_values
from marketplace.store.tables.jobs import ContestRow

_ALLOCATION: Final = Statements(Allocation, "allocations", "status")
_ATTEMPT: Final = Statements(Attempt, "attempts")
_CONTESTS: Final = ContestRow.__table__  # type: ignore[attr-defined]
_Id = TypeVar("_Id", bound=str)
_AT_ONCE: Final = 1_000
"""Ids in one statement; chosen: more than any page, far fewer than the parameters that a database takes."""
_LIVE_STATES: Final = ", ".join(
    f"'{state.value}'" for state in AllocationState if state not in (AllocationState.RELEASED, AllocationState.FAILED)
)
_NOT_OVER: Final = ", ".join(f"'{phase.value}'" for phase in AttemptPhase if phase is not AttemptPhase.ENDED)


@dataclass(frozen=True, slots=True)
class AllocationFilter:
    """What a list of allocations is narrowed to. statuses: None for all; unfunded ones are never listed.

    class_id: of the node that has or had it; of what no node has, each class that would do. `any`: those that asked
    for several. ended_from_ms, ended_until_ms: when they ended, the second exclusive. With either the list is of ended
    ones, by when they ended.
    """

    account_id: AccountId
    statuses: Sequence[JobStatus] | None = None
    class_id: str | None = None
    label: tuple[str, str] | None = None
    consumer_id: str | None = None
    model: str | None = None
    ended_from_ms: int | None = None
    ended_until_ms: int | None = None

    @property
    def history(self) -> bool:
        """Whether the list is of what has ended."""
        return self.ended_from_ms is not None or self.ended_until_ms is not None


class Allocations:
    """Find, list, create, update."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def create(self, allocation: Allocation) -> None:
        """Raises UniqueViolation when the key, the nonce or the escrow is taken."""
        self._tx.change(_ALLOCATION.insert, _values(allocation))
        self._count(allocation.account_id, None, _counted_as(allocation))
        if allocation.labels:
            self._tx.change_many(
                "INSERT INTO job_labels (allocation_id, name, value, account_id)"
                " VALUES (:allocation, :name, :value, :account)",
                [
                    {"allocation": allocation.id, "name": name, "value": value, "account": allocation.account_id}
                    for name, value in allocation.labels
                ],
            )

    def update(self, allocation: Allocation, before: Allocation | None = None) -> Allocation:
        """Write it back and return it with its new version. Raises StaleLease when somebody wrote it meanwhile.

        before: the row as it was read; then only what differs is written.
        """
        following = changed(allocation, version=allocation.version + 1)
        if before is None:
            before = self.find(allocation.id)
            values, statement = _values(following), _ALLOCATION.update
        else:
            # The version tells whether the row is still the one that was read.
            values = changed_values(before, following) | {"status": following.status.value}
            statement = _ALLOCATION.update_of(tuple(values))
        values |= {"allocation_id": allocation.id, "version_read": allocation.version}
        if self._tx.change(f"{statement} WHERE id = :allocation_id AND version = :version_read", values) != 1:
            raise StaleLease(f"allocation {allocation.id} was changed by somebody else")
        if before is not None:
            self._count(allocation.account_id, _counted_as(before), _counted_as(following))
        return following

    def _count(self, account_id: AccountId, before: str | None, after: str | None) -> None:
        """Keep the account's counts: the words of one job, None where it isn't counted."""
        if before == after:
            return
        values: dict[str, Any] = {"account": account_id, "after": after, "before": before}
        texts = [text for text, word in ((":after, 1", after), (":before, -1", before)) if word is not None]
        self._tx.change(
            f"INSERT INTO job_counts (account_id, status, jobs) VALUES {', '.join(f'(:account, {t})' for t in texts)}"  # noqa: S608 - ours
            " ON CONFLICT (account_id, status) DO UPDATE SET jobs = job_counts.jobs + excluded.jobs",
            {name: value for name, value in values.items() if value is not None},
        )

    def find(self, allocation_id: AllocationId) -> Allocation | None:
        return self._one("id = :id", id=allocation_id)

    def find_by_key(self, account_id: AccountId, key: str) -> Allocation | None:
        return self._one("account_id = :account AND key = :key", account=account_id, key=key)

    def find_by_escrow(self, escrow: str) -> Allocation | None:
        return self._one("escrow = :escrow", escrow=escrow)

    def list_unfinished(self) -> list[Allocation]:
        """Everything that is not terminal, oldest first."""
        rows = self._tx.rows(f"{_ALLOCATION.select} WHERE state IN ({_LIVE_STATES}) ORDER BY created_at_ms, id")
        return [_ALLOCATION.read(row) for row in rows]

    def list_naming(self, account_id: AccountId, text: str, limit: int) -> list[AllocationId]:
        """Allocations of an account that are not terminal and whose specification holds this text, oldest first."""
        escaped = re.sub(r"([\\%_])", r"\\\1", text)
        rows = self._tx.rows(
            f"SELECT id FROM allocations WHERE state IN ({_LIVE_STATES}) AND account_id = :account"  # noqa: S608 - ours
            r" AND spec LIKE :pattern ESCAPE '\' ORDER BY created_at_ms, id LIMIT :limit",
            {"account": account_id, "pattern": f"%{escaped}%", "limit": limit},
        )
        return [AllocationId(row[0]) for row in rows]

    def page(self, wanted: AllocationFilter, *, limit: int, offset: int) -> tuple[list[Allocation], int]:
        """One page, the latest first, and how many match in all. Three statements, whatever the page."""
        pages = AllocationPages(wanted)
        values = pages.values | {"limit": limit, "offset": offset, "most": limit + offset}
        total = self._tx.row(pages.count, pages.values)
        ids = [str(row[0]) for row in self._tx.rows(pages.ids, values)]
        found: dict[str, Allocation] = {}
        for some in _in_parts(ids):
            places, values = _places(some)
            rows = self._tx.rows(f"{_ALLOCATION.select} WHERE id IN ({places})", values)
            found |= {read.id: read for read in map(_ALLOCATION.read, rows)}
        return [found[each] for each in ids], int(total[0] or 0) if total else 0

    def list_nonces(self, wallet: str, opener: Opener, above: int) -> set[int]:
        """Nonces of this wallet and opener, higher than `above`, that intents hold here."""
        rows = self._tx.rows(
            "SELECT nonce FROM allocations WHERE wallet = :wallet AND opener = :opener AND nonce > :above",
            {"wallet": wallet, "opener": opener.value, "above": above},
        )
        return {int(row[0]) for row in rows}

    def count_unfinished(self, account_id: AccountId) -> int:
        """Funded allocations of an account that are not terminal."""
        row = self._tx.row(COUNT_UNFINISHED, {"account": account_id})
        return int(row[0] or 0) if row else 0

    def _one(self, condition: str, **parameters: str) -> Allocation | None:
        row = self._tx.row(f"{_ALLOCATION.select} WHERE {condition}", parameters)
        return None if row is None else _ALLOCATION.read(row)


def _in_parts(ids: Sequence[_Id]) -> Iterator[Sequence[_Id]]:
    """Parts of a size that any statement takes."""
    return (ids[start : start + _AT_ONCE] for start in range(0, len(ids), _AT_ONCE))


def _places(ids: Sequence[str]) -> tuple[str, dict[str, str]]:
    """Parameters for a list of ids: their text, and their values."""
    values = {f"id{number}": each for number, each in enumerate(ids)}
    return ", ".join(f":{name}" for name in values), values


def _counted_as(allocation: Allocation) -> str | None:
    """The word under which a job is counted; None for one that was never funded, which no list shows."""
    return None if allocation.funded_at_ms is None else allocation.status.value


def _values(allocation: Allocation) -> dict[str, Any]:
    return to_values(allocation) | {"status": allocation.status.value}


LAST_RUNS: Final = (
    "SELECT t.billed_ms FROM allocations a JOIN attempts t ON t.allocation_id = a.id AND t.number = a.attempt"
    " WHERE a.account_id = :account AND a.image = :image AND a.status = 'completed'"
    " ORDER BY a.created_at_ms DESC LIMIT :limit"
)
_LIVE_WORDS: Final = ", ".join(f"'{word}'" for word in JobStatus if word not in TERMINAL_STATUSES)
_ENDED_WORDS: Final = ", ".join(f"'{word}'" for word in sorted(TERMINAL_STATUSES))
COUNT_UNFINISHED: Final = (
    "SELECT sum(jobs) FROM job_counts WHERE account_id = :account"  # noqa: S608 - ours
    f" AND status IN ({_LIVE_WORDS})"
)


_OF_CLASS: Final = (
    f"(class_id = :class_id OR (class_id = '{ANY}' AND CASE WHEN attempt = 0 THEN tiers LIKE :any_of ELSE"  # noqa: S608 - ours
    " EXISTS (SELECT 1 FROM attempts t WHERE t.allocation_id = allocations.id AND t.number = allocations.attempt"
    " AND t.class_id = :class_id) END))"
)
"""Of which class it is. Classes are words of ours, which mean nothing to LIKE."""


_UNNARROWED: Final = 2
"""Conditions of a list that only words narrow: whose it is, and that it was funded."""


class AllocationPages:
    """The statements of one list. Each status is walked by itself in the index's order, so that a page reads no more
    rows than it and those before it have, however many ended long ago. A list of words alone has its total from the
    account's counts, the history from its index.
    """

    def __init__(self, wanted: AllocationFilter) -> None:
        statuses = None if wanted.statuses is None else list(dict.fromkeys(wanted.statuses))
        self.values: dict[str, Any] = {"account": wanted.account_id}
        conditions = ["account_id = :account", "funded_at_ms IS NOT NULL"]
        if wanted.history:
            conditions += ["completed_at_ms IS NOT NULL", f"status IN ({_ENDED_WORDS})"]
        for column, value in (
            ("consumer_id = :consumer_id", wanted.consumer_id),
            ("model = :model", wanted.model),
            ("completed_at_ms >= :ended_from", wanted.ended_from_ms),
            ("completed_at_ms < :ended_until", wanted.ended_until_ms),
        ):
            if value is not None:
                conditions.append(column)
                self.values[column.rpartition(":")[2]] = value
        if wanted.class_id is not None:
            conditions.append(_OF_CLASS)
            self.values |= {"class_id": wanted.class_id, "any_of": f'%"{wanted.class_id}"%'}
        if wanted.label is not None:
            conditions.append(
                "id IN (SELECT allocation_id FROM job_labels"
                " WHERE account_id = :account AND name = :label AND value = :label_value)"
            )
            self.values |= {"label": wanted.label[0], "label_value": wanted.label[1]}
        at = "completed_at_ms" if wanted.history else "created_at_ms"
        where = " AND ".join(conditions)
        order = f"ORDER BY {at} DESC, id DESC"
        names = [f":status{n}" for n in range(len(statuses or ()))]
        self.values |= {name[1:]: status.value for name, status in zip(names, statuses or (), strict=True)}
        narrowed = where if statuses is None else f"{where} AND status IN ({', '.join(names) or 'NULL'})"
        self.count = f"SELECT count(*) FROM allocations WHERE {narrowed}"  # noqa: S608 - values are parameters
        if len(conditions) == _UNNARROWED:
            of_words = "" if statuses is None else f" AND status IN ({', '.join(names) or 'NULL'})"
            self.count = f"SELECT sum(jobs) FROM job_counts WHERE account_id = :account{of_words}"  # noqa: S608
        plain = f"SELECT id FROM allocations WHERE {narrowed} {order} LIMIT :limit OFFSET :offset"  # noqa: S608
        each = " UNION ALL ".join(
            f"SELECT * FROM (SELECT id, created_at_ms FROM allocations WHERE {where} AND status = {name} {order}"  # noqa: S608
            f" LIMIT :most) AS s{n}"
            for n, name in enumerate(names)
        )
        by_status = f"SELECT id FROM ({each}) AS every {order} LIMIT :limit OFFSET :offset"  # noqa: S608
        self.ids = by_status if len(names) > 1 and not wanted.history else plain


class Attempts:
    """Find, list, create, update."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def create(self, attempt: Attempt) -> None:
        """Raises UniqueViolation when the number is taken."""
        self._tx.change(_ATTEMPT.insert, to_values(attempt))

    def update(self, attempt: Attempt) -> None:
        """Write all of it back."""
        self._tx.change(
            f"{_ATTEMPT.update} WHERE allocation_id = :allocation_id AND number = :number", to_values(attempt)
        )

    def find(self, allocation_id: AllocationId, number: int) -> Attempt | None:
        row = self._tx.row(
            f"{_ATTEMPT.select} WHERE allocation_id = :allocation AND number = :number",
            {"allocation": allocation_id, "number": number},
        )
        return None if row is None else _ATTEMPT.read(row)

    def find_lease(self, allocation_id: AllocationId, number: int) -> tuple[NodeId, str] | None:
        """Which node holds or held an attempt, and its lease's token: asked for each batch of log lines."""
        row = self._tx.row(
            "SELECT node_id, lease_token FROM attempts WHERE allocation_id = :allocation AND number = :number",
            {"allocation": allocation_id, "number": number},
        )
        return None if row is None else (NodeId(row[0]), str(row[1]))

    def list_for(self, allocation_id: AllocationId) -> list[Attempt]:
        """All attempts of an allocation, first to last."""
        rows = self._tx.rows(
            f"{_ATTEMPT.select} WHERE allocation_id = :allocation ORDER BY number", {"allocation": allocation_id}
        )
        return [_ATTEMPT.read(row) for row in rows]

    def list_for_each(self, allocation_ids: Sequence[AllocationId]) -> dict[AllocationId, list[Attempt]]:
        """All attempts of some allocations, first to last: a page's in one statement."""
        found: dict[AllocationId, list[Attempt]] = {allocation_id: [] for allocation_id in allocation_ids}
        for some in _in_parts(allocation_ids):
            places, values = _places(some)
            rows = self._tx.rows(f"{_ATTEMPT.select} WHERE allocation_id IN ({places}) ORDER BY number", values)
            for attempt in map(_ATTEMPT.read, rows):
                found[attempt.allocation_id].append(attempt)
        return found

    def delete(self, allocation_id: AllocationId, number: int) -> None:
        """Forget an attempt that never came to the chain: its number is given again."""
        self._tx.change(
            "DELETE FROM attempts WHERE allocation_id = :allocation AND number = :number",
            {"allocation": allocation_id, "number": number},
        )

    def list_unfinished(self) -> list[Attempt]:
        """Attempts that are not over on chain."""
        rows = self._tx.rows(f"{_ATTEMPT.select} WHERE phase IN ({_NOT_OVER})")
        return [_ATTEMPT.read(row) for row in rows]

    def list_runs(self, account_id: AccountId, image: str, limit: int) -> list[int]:
        """Billed milliseconds of an account's last completed runs of an image."""
        rows = self._tx.rows(LAST_RUNS, {"account": account_id, "image": image, "limit": limit})
        return [int(row[0]) for row in rows]

    def write_vouchers(self, attempts: Iterable[Attempt]) -> None:
        """Write the countersigned voucher of many attempts in one statement: the heartbeats of one tick."""
        self._tx.change_many(
            "UPDATE attempts SET voucher = :voucher, node_signature = :node_signature,"
            " meter_signature = :meter_signature, voucher_sequence = :voucher_sequence, billed_ms = :billed_ms,"
            " amount = :amount, started_chain_ms = :started_chain_ms"
            " WHERE allocation_id = :allocation_id AND number = :number AND voucher_sequence < :voucher_sequence",
            [
                {
                    "voucher": a.voucher,
                    "node_signature": a.node_signature,
                    "meter_signature": a.meter_signature,
                    "voucher_sequence": a.voucher_sequence,
                    "billed_ms": a.billed_ms,
                    "amount": a.amount,
                    "started_chain_ms": a.started_chain_ms,
                    "allocation_id": a.allocation_id,
                    "number": a.number,
                }
                for a in attempts
            ],
        )


@dataclass(frozen=True, slots=True)
class Contest:
    """An ended attempt whose contest window has to be closed. state: open, closed."""

    escrow: str
    attempt: int
    allocation_id: AllocationId
    due_chain_ms: int
    state: str = "open"


class Contests:
    """Find, list, create, close."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def create(self, contest: Contest) -> None:
        """Write it unless it is known."""
        if self._tx.row(
            "SELECT 1 FROM contests WHERE escrow = :escrow AND attempt = :attempt",
            {"escrow": contest.escrow, "attempt": contest.attempt},
        ):
            return
        self._tx.execute(insert(_CONTESTS), to_values(contest))

    def close(self, escrow: str, attempt: int) -> None:
        self._tx.change(
            "UPDATE contests SET state = 'closed' WHERE escrow = :escrow AND attempt = :attempt",
            {"escrow": escrow, "attempt": attempt},
        )

    def list_open(self) -> list[Contest]:
        rows = self._tx.execute(select(_CONTESTS).where(_CONTESTS.c.state == "open")).mappings()
        return [from_row(Contest, row) for row in rows]
