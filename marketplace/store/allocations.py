"""Allocations, attempts, open contests."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import func, insert, select, update

from marketplace.domain.allocations import Allocation, Attempt, AttemptPhase, Opener
from marketplace.domain.ids import AccountId, AllocationId
from marketplace.domain.lifecycle import AllocationState
from marketplace.errors import StaleLease
from marketplace.store.engine import Transaction
from marketplace.store.records import from_row, plain, to_values
from marketplace.store.tables.jobs import AllocationRow, AttemptRow, ContestRow

_ALLOCATIONS: Final = AllocationRow.__table__  # type: ignore[attr-defined]  # sqlmodel adds it at run time
_ATTEMPTS: Final = AttemptRow.__table__  # type: ignore[attr-defined]
_CONTESTS: Final = ContestRow.__table__  # type: ignore[attr-defined]
_TERMINAL: Final = (AllocationState.RELEASED.value, AllocationState.FAILED.value)


@dataclass(frozen=True, slots=True)
class AllocationFilter:
    """What a list of allocations is narrowed to. states: None for all; unfunded ones are never listed."""

    account_id: AccountId
    states: Sequence[tuple[AllocationState, tuple[int, ...] | None, bool | None]] | None = None
    class_id: str | None = None
    label: tuple[str, str] | None = None
    consumer_id: str | None = None


class Allocations:
    """Find, list, create, update."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def create(self, allocation: Allocation) -> None:
        """Raises UniqueViolation when the key, the nonce or the escrow is taken."""
        self._tx.execute(insert(_ALLOCATIONS), to_values(allocation))

    def update(self, allocation: Allocation) -> Allocation:
        """Write it back and return it with its new version. Raises StaleLease when somebody wrote it meanwhile."""
        following = replace(allocation, version=allocation.version + 1)
        statement = (
            update(_ALLOCATIONS)
            .where(_ALLOCATIONS.c.id == allocation.id, _ALLOCATIONS.c.version == allocation.version)
            .values(**to_values(following))
        )
        if self._tx.execute(statement).rowcount != 1:
            raise StaleLease(f"allocation {allocation.id} was changed by somebody else")
        return following

    def find(self, allocation_id: AllocationId) -> Allocation | None:
        return self._one(_ALLOCATIONS.c.id == allocation_id)

    def find_by_key(self, account_id: AccountId, key: str) -> Allocation | None:
        return self._one((_ALLOCATIONS.c.account_id == account_id) & (_ALLOCATIONS.c.key == key))

    def find_by_escrow(self, escrow: str) -> Allocation | None:
        return self._one(_ALLOCATIONS.c.escrow == escrow)

    def list_unfinished(self) -> list[Allocation]:
        """Everything that is not terminal, oldest first."""
        rows = self._tx.execute(
            select(_ALLOCATIONS)
            .where(_ALLOCATIONS.c.state.not_in(_TERMINAL))
            .order_by(_ALLOCATIONS.c.created_at_ms, _ALLOCATIONS.c.id)
        ).mappings()
        return [from_row(Allocation, row) for row in rows]

    def page(self, wanted: AllocationFilter, *, limit: int, offset: int) -> tuple[list[Allocation], int]:
        """One page, newest first, and how many match in all."""
        condition = self._condition(wanted)
        total = self._tx.execute(select(func.count()).select_from(_ALLOCATIONS).where(condition)).scalar_one()
        rows = self._tx.execute(
            select(_ALLOCATIONS)
            .where(condition)
            .order_by(_ALLOCATIONS.c.created_at_ms.desc(), _ALLOCATIONS.c.id.desc())
            .limit(limit)
            .offset(offset)
        ).mappings()
        return [from_row(Allocation, row) for row in rows], int(total)

    def list_nonces(self, wallet: str, opener: Opener) -> set[int]:
        """Nonces of this wallet and opener that intents hold here."""
        rows = self._tx.rows(
            "SELECT nonce FROM allocations WHERE wallet = :wallet AND opener = :opener",
            {"wallet": wallet, "opener": opener.value},
        )
        return {int(row[0]) for row in rows}

    def count_unfinished(self, account_id: AccountId) -> int:
        """Funded allocations of an account that are not terminal."""
        row = self._tx.row(
            "SELECT count(*) FROM allocations WHERE account_id = :account"
            " AND state NOT IN ('released', 'failed', 'requested')",
            {"account": account_id},
        )
        return int(row[0]) if row else 0

    def _one(self, condition: Any) -> Allocation | None:
        row = self._tx.execute(select(_ALLOCATIONS).where(condition)).mappings().first()
        return None if row is None else from_row(Allocation, row)

    def _condition(self, wanted: AllocationFilter) -> Any:
        condition = (_ALLOCATIONS.c.account_id == wanted.account_id) & (
            (_ALLOCATIONS.c.state != AllocationState.REQUESTED.value) | _ALLOCATIONS.c.funded_at_ms.is_not(None)
        )
        if wanted.class_id is not None:
            condition &= _ALLOCATIONS.c.class_id == wanted.class_id
        if wanted.consumer_id is not None:
            condition &= _ALLOCATIONS.c.consumer_id == wanted.consumer_id
        if wanted.label is not None:
            # A pair's JSON is found in no other place of the list's: within a string its quotes would be escaped.
            condition &= func.replace(_ALLOCATIONS.c.labels, plain(wanted.label), "") != _ALLOCATIONS.c.labels
        if wanted.states is not None:
            any_of: Any = _ALLOCATIONS.c.id.is_(None)
            for state, reasons, cancelling in wanted.states:
                one = _ALLOCATIONS.c.state == state.value
                if reasons is not None:
                    one &= _ALLOCATIONS.c.reason.in_(reasons)
                if cancelling is not None:
                    one &= _ALLOCATIONS.c.cancelling.is_(cancelling)
                any_of |= one
            condition &= any_of
        return condition


class Attempts:
    """Find, list, create, update."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def create(self, attempt: Attempt) -> None:
        """Raises UniqueViolation when the number is taken."""
        self._tx.execute(insert(_ATTEMPTS), to_values(attempt))

    def update(self, attempt: Attempt) -> None:
        """Write all of it back."""
        self._tx.execute(
            update(_ATTEMPTS)
            .where(_ATTEMPTS.c.allocation_id == attempt.allocation_id, _ATTEMPTS.c.number == attempt.number)
            .values(**to_values(attempt))
        )

    def find(self, allocation_id: AllocationId, number: int) -> Attempt | None:
        row = (
            self._tx.execute(
                select(_ATTEMPTS).where(_ATTEMPTS.c.allocation_id == allocation_id, _ATTEMPTS.c.number == number)
            )
            .mappings()
            .first()
        )
        return None if row is None else from_row(Attempt, row)

    def list_for(self, allocation_id: AllocationId) -> list[Attempt]:
        """All attempts of an allocation, first to last."""
        rows = self._tx.execute(
            select(_ATTEMPTS).where(_ATTEMPTS.c.allocation_id == allocation_id).order_by(_ATTEMPTS.c.number)
        ).mappings()
        return [from_row(Attempt, row) for row in rows]

    def delete(self, allocation_id: AllocationId, number: int) -> None:
        """Forget an attempt that never came to the chain: its number is given again."""
        self._tx.change(
            "DELETE FROM attempts WHERE allocation_id = :allocation AND number = :number",
            {"allocation": allocation_id, "number": number},
        )

    def list_unfinished(self) -> list[Attempt]:
        """Attempts that are not over on chain."""
        rows = self._tx.execute(select(_ATTEMPTS).where(_ATTEMPTS.c.phase != AttemptPhase.ENDED.value)).mappings()
        return [from_row(Attempt, row) for row in rows]

    def list_runs(self, account_id: AccountId, image: str, limit: int) -> list[int]:
        """Billed milliseconds of an account's last completed runs of an image."""
        rows = self._tx.rows(
            "SELECT t.billed_ms FROM attempts t JOIN allocations a ON a.id = t.allocation_id AND a.attempt = t.number"
            " WHERE a.account_id = :account AND a.image = :image AND a.state = 'released' AND a.reason = 1"
            " ORDER BY a.created_at_ms DESC LIMIT :limit",
            {"account": account_id, "image": image, "limit": limit},
        )
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
