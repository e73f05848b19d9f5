"""Groups of jobs, their members, and what they follow."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import insert, select, update

from marketplace.domain.groups import Group, Member, MemberState
from marketplace.domain.ids import AccountId, AllocationId, GroupId
from marketplace.store.engine import Transaction
from marketplace.store.records import from_row, to_values
from marketplace.store.tables.groups import JobGroupRow

_GROUPS: Final = JobGroupRow.__table__  # type: ignore[attr-defined]  # sqlmodel adds it at run time
_WORD: Final = "coalesce(a.status, m.state)"
_MEMBERS: Final = "FROM job_group_members m LEFT JOIN allocations a ON a.id = m.allocation_id WHERE m.group_id = :group"
SUMMARY: Final = f"SELECT {_WORD}, count(*) {_MEMBERS} GROUP BY 1"
MEMBERS: Final = (
    f"SELECT m.position, m.allocation_id, {_WORD}, m.error {_MEMBERS} ORDER BY m.position LIMIT :limit OFFSET :offset"
)
DUE: Final = (
    "SELECT g.id FROM job_groups g WHERE g.over = FALSE AND (g.cancelled_at_ms IS NOT NULL OR g.ready_at_ms IS NULL"
    " OR g.blocked IS NOT NULL"
    " OR EXISTS (SELECT 1 FROM job_group_members m WHERE m.group_id = g.id AND m.state = 'waiting')"
    " OR NOT EXISTS (SELECT 1 FROM job_group_members m JOIN allocations a ON a.id = m.allocation_id"
    " WHERE m.group_id = g.id AND a.state NOT IN ('released', 'failed')))"
)


class Groups:
    """Create, find, list, change."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def create(self, group: Group, inputs: Sequence[str], after: Sequence[str]) -> None:
        """With all its members, waiting. inputs: JSON text of each, or none at all.

        Raises UniqueViolation when this key of a call made one already.
        """
        self._tx.execute(insert(_GROUPS), to_values(group))
        self._tx.change_many(
            "INSERT INTO job_group_members (group_id, position, state, input)"
            " VALUES (:group, :position, 'waiting', :input)",
            [
                {"group": group.id, "position": position, "input": inputs[position] if inputs else None}
                for position in range(group.count)
            ],
        )
        if after:
            self._tx.change_many(
                "INSERT INTO job_group_after (group_id, after) VALUES (:group, :after)",
                [{"group": group.id, "after": each} for each in after],
            )

    def find(self, group_id: GroupId) -> Group | None:
        return self._one(_GROUPS.c.id == group_id)

    def find_by_create_key(self, account_id: AccountId, create_key: str) -> Group | None:
        return self._one((_GROUPS.c.account_id == account_id) & (_GROUPS.c.create_key == create_key))

    def page(self, account_id: AccountId, *, limit: int, offset: int) -> tuple[list[Group], int]:
        """Newest first, and how many there are."""
        rows = self._tx.execute(
            select(_GROUPS)
            .where(_GROUPS.c.account_id == account_id)
            .order_by(_GROUPS.c.created_at_ms.desc(), _GROUPS.c.id.desc())
            .limit(limit)
            .offset(offset)
        ).mappings()
        total = self._tx.row("SELECT count(*) FROM job_groups WHERE account_id = :account", {"account": account_id})
        return [from_row(Group, row) for row in rows], int(total[0]) if total else 0

    def list_due(self) -> list[Group]:
        """Groups that are not over and of which something may be to be done, oldest first.

        Nothing is where all members are submitted, and one of them is live: however many such groups there are, who
        drives groups doesn't look at each of them with every change of a job.
        """
        due = [str(row[0]) for row in self._tx.rows(DUE)]
        if not due:
            return []
        rows = self._tx.execute(
            select(_GROUPS).where(_GROUPS.c.id.in_(due)).order_by(_GROUPS.c.created_at_ms, _GROUPS.c.id)
        ).mappings()
        return [from_row(Group, row) for row in rows]

    def count_open(self, account_id: AccountId) -> int:
        row = self._tx.row(
            "SELECT count(*) FROM job_groups WHERE over = FALSE AND account_id = :account", {"account": account_id}
        )
        return int(row[0]) if row else 0

    def update(self, group: Group) -> None:
        """Write all of it back."""
        self._tx.execute(update(_GROUPS).where(_GROUPS.c.id == group.id).values(**to_values(group)))

    def note_cancelled(self, group_id: GroupId, now_ms: int) -> None:
        """Somebody asked for its end; the first time counts."""
        self._tx.change(
            "UPDATE job_groups SET cancelled_at_ms = :now WHERE id = :group AND cancelled_at_ms IS NULL",
            {"group": group_id, "now": now_ms},
        )

    def after(self, group_id: GroupId) -> list[str]:
        """What it follows."""
        rows = self._tx.rows(
            "SELECT after FROM job_group_after WHERE group_id = :group ORDER BY after", {"group": group_id}
        )
        return [str(row[0]) for row in rows]

    def summary(self, group_id: GroupId) -> dict[str, int]:
        """How many members show which word."""
        return {str(word): int(number) for word, number in self._tx.rows(SUMMARY, {"group": group_id})}

    def members(self, group_id: GroupId, *, limit: int, offset: int) -> list[Member]:
        """A page of members, in order."""
        rows = self._tx.rows(MEMBERS, {"group": group_id, "limit": limit, "offset": offset})
        return [Member(int(row[0]), None if row[1] is None else AllocationId(row[1]), row[2], row[3]) for row in rows]

    def waiting(self, group_id: GroupId, limit: int) -> list[tuple[int, str | None]]:
        """The first members that wait, each with the JSON text of its own input."""
        rows = self._tx.rows(
            "SELECT position, input FROM job_group_members WHERE group_id = :group AND state = 'waiting'"
            " ORDER BY position LIMIT :limit",
            {"group": group_id, "limit": limit},
        )
        return [(int(row[0]), row[1]) for row in rows]

    def live(self, group_id: GroupId) -> list[AllocationId]:
        """Allocations of members that are not over."""
        rows = self._tx.rows(
            "SELECT a.id FROM job_group_members m JOIN allocations a ON a.id = m.allocation_id"
            " WHERE m.group_id = :group AND a.state NOT IN ('released', 'failed')",
            {"group": group_id},
        )
        return [AllocationId(row[0]) for row in rows]

    def submitted(self, group_id: GroupId, position: int, allocation_id: AllocationId) -> None:
        self._member(group_id, position, MemberState.SUBMITTED, allocation=allocation_id)

    def refused(self, group_id: GroupId, position: int, error: str) -> None:
        self._member(group_id, position, MemberState.REFUSED, error=error)

    def completed(self, group_id: GroupId) -> tuple[int, int | None]:
        """How many of its jobs are completed, and when the first of them was."""
        row = self._tx.row(
            "SELECT count(*), min(a.completed_at_ms) FROM job_group_members m"
            " JOIN allocations a ON a.id = m.allocation_id WHERE m.group_id = :group AND a.status = 'completed'",
            {"group": group_id},
        )
        return (0, None) if row is None else (int(row[0]), row[1])

    def has_job(self, group_id: GroupId, allocation_id: AllocationId) -> bool:
        """Whether the job is one of its members."""
        row = self._tx.row(
            "SELECT 1 FROM job_group_members WHERE group_id = :group AND allocation_id = :allocation",
            {"group": group_id, "allocation": allocation_id},
        )
        return row is not None

    def put_secrets(self, group_id: GroupId, key_id: str, sealed: bytes) -> None:
        """Keep them until the group is over."""
        self._tx.change(
            "INSERT INTO group_secrets (group_id, key_id, sealed) VALUES (:group, :key, :sealed)",
            {"group": group_id, "key": key_id, "sealed": sealed},
        )

    def secrets(self, group_id: GroupId) -> tuple[str, bytes] | None:
        """Key id and sealed bytes."""
        row = self._tx.row("SELECT key_id, sealed FROM group_secrets WHERE group_id = :group", {"group": group_id})
        return None if row is None else (str(row[0]), bytes(row[1]))

    def forget_secrets(self, group_id: GroupId) -> None:
        self._tx.change("DELETE FROM group_secrets WHERE group_id = :group", {"group": group_id})

    def end_waiting(self, group_id: GroupId, state: MemberState, error: str | None = None) -> None:
        """Members that wait do so no longer. error: why, where the state's own word doesn't say it."""
        self._tx.change(
            "UPDATE job_group_members SET state = :state, error = :error WHERE group_id = :group AND state = 'waiting'",
            {"group": group_id, "state": state.value, "error": error},
        )

    def money(self, group_id: GroupId) -> tuple[int, int]:
        """What its jobs cost so far, and what is locked for them; base units."""
        cost = self._tx.row(
            "SELECT coalesce(sum(CASE WHEN t.paid > t.amount THEN t.paid ELSE t.amount END), 0)"
            " FROM job_group_members m JOIN attempts t ON t.allocation_id = m.allocation_id WHERE m.group_id = :group",
            {"group": group_id},
        )
        locked = self._tx.row(
            "SELECT coalesce(sum(e.deposit - e.paid - e.refunded), 0) FROM job_group_members m"
            " JOIN allocations a ON a.id = m.allocation_id JOIN chain_escrows e ON e.escrow = a.escrow"
            " WHERE m.group_id = :group",
            {"group": group_id},
        )
        return int(cost[0]) if cost else 0, int(locked[0]) if locked else 0

    def _member(
        self,
        group_id: GroupId,
        position: int,
        state: MemberState,
        *,
        allocation: AllocationId | None = None,
        error: str | None = None,
    ) -> None:
        self._tx.change(
            "UPDATE job_group_members SET state = :state, allocation_id = :allocation, error = :error"
            " WHERE group_id = :group AND position = :position",
            {"group": group_id, "position": position, "state": state, "allocation": allocation, "error": error},
        )

    def _one(self, condition: Any) -> Group | None:
        row = self._tx.execute(select(_GROUPS).where(condition)).mappings().first()
        return None if row is None else from_row(Group, row)
