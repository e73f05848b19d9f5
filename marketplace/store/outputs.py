"""Rows of what jobs left, and of the packages made of it."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import insert

from marketplace.domain.ids import AllocationId, GroupId
from marketplace.store.engine import Transaction
from marketplace.store.records import to_values
from marketplace.store.tables.outputs import JobOutputRow, JobPackageRow

_OUTPUTS: Final = JobOutputRow.metadata.tables["job_outputs"]
_PACKAGES: Final = JobPackageRow.metadata.tables["job_packages"]
_COLUMNS: Final = "allocation_id, attempt, path, size, sha256, object, at_ms"


@dataclass(frozen=True, slots=True)
class StoredOutput:
    """One file. sha256: hex digits. object: where its bytes are. content: the bytes of a small result, else None."""

    allocation_id: AllocationId
    attempt: int
    path: str
    size: int
    sha256: str
    object: str
    at_ms: int
    content: bytes | None = None


@dataclass(frozen=True, slots=True)
class Package:
    """The archive of a job."""

    allocation_id: AllocationId
    object: str
    size: int
    sha256: str
    at_ms: int


class Outputs:
    """Put, find, list, forget."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def put(self, output: StoredOutput) -> str | None:
        """Write a file in place of an earlier one; that one's object, which is now nobody's."""
        name = {"allocation": output.allocation_id, "attempt": output.attempt, "path": output.path}
        where = "WHERE allocation_id = :allocation AND attempt = :attempt AND path = :path"
        before = self._tx.row(f"SELECT object FROM job_outputs {where}", name)  # noqa: S608 - our own text
        self._tx.change(f"DELETE FROM job_outputs {where}", name)  # noqa: S608 - our own text
        self._tx.execute(insert(_OUTPUTS), to_values(output))
        return None if before is None else str(before[0])

    def usage(self, allocation_id: AllocationId, attempt: int, but: str) -> tuple[int, int]:
        """How many files an attempt has, and their bytes, but for one path."""
        row = self._tx.row(
            "SELECT count(*), COALESCE(sum(size), 0) FROM job_outputs"
            " WHERE allocation_id = :allocation AND attempt = :attempt AND path <> :path",
            {"allocation": allocation_id, "attempt": attempt, "path": but},
        )
        return (int(row[0]), int(row[1])) if row else (0, 0)

    def find(self, allocation_id: AllocationId, attempt: int, path: str) -> StoredOutput | None:
        """With its content, where that is kept."""
        row = self._tx.row(
            f"SELECT {_COLUMNS}, content FROM job_outputs"  # noqa: S608 - our own text
            " WHERE allocation_id = :allocation AND attempt = :attempt AND path = :path",
            {"allocation": allocation_id, "attempt": attempt, "path": path},
        )
        return None if row is None else StoredOutput(*row)

    def list_for(self, allocation_id: AllocationId, attempt: int) -> list[StoredOutput]:
        """Files of one attempt, by path, without their content."""
        rows = self._tx.rows(
            f"SELECT {_COLUMNS} FROM job_outputs"  # noqa: S608 - our own text
            " WHERE allocation_id = :allocation AND attempt = :attempt ORDER BY path",
            {"allocation": allocation_id, "attempt": attempt},
        )
        return [StoredOutput(*row) for row in rows]

    def list_of_group(self, group_id: GroupId, limit: int) -> list[StoredOutput]:
        """Files of a group's jobs, each of its last attempt, by position and path; at most so many."""
        columns = ", ".join(f"o.{name}" for name in _COLUMNS.split(", "))
        rows = self._tx.rows(
            f"SELECT {columns} FROM job_group_members m JOIN allocations a ON a.id = m.allocation_id"  # noqa: S608 - our own text
            " JOIN job_outputs o ON o.allocation_id = a.id AND o.attempt = a.attempt"
            " WHERE m.group_id = :group ORDER BY m.position, o.path LIMIT :limit",
            {"group": group_id, "limit": limit},
        )
        return [StoredOutput(*row) for row in rows]

    def list_past(self, before_ms: int, limit: int) -> list[StoredOutput]:
        """Files of jobs that ended before an instant."""
        rows = self._tx.rows(
            f"SELECT {_COLUMNS} FROM job_outputs WHERE at_ms < :before"  # noqa: S608 - our own text
            " AND allocation_id IN (SELECT id FROM allocations WHERE completed_at_ms < :before)"
            " ORDER BY at_ms LIMIT :limit",
            {"before": before_ms, "limit": limit},
        )
        return [StoredOutput(*row) for row in rows]

    def delete(self, output: StoredOutput) -> None:
        self._tx.change(
            "DELETE FROM job_outputs WHERE allocation_id = :allocation AND attempt = :attempt AND path = :path",
            {"allocation": output.allocation_id, "attempt": output.attempt, "path": output.path},
        )

    def names_object(self, key: str, allocation_id: AllocationId) -> bool:
        """Whether a row of this allocation names the object."""
        named = self._tx.row(
            "SELECT 1 FROM job_outputs WHERE allocation_id = :allocation AND object = :object",
            {"allocation": allocation_id, "object": key},
        )
        return named is not None


class Packages:
    """Create, find, forget."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def create(self, package: Package) -> None:
        """Raises UniqueViolation when there is one already."""
        self._tx.execute(insert(_PACKAGES), to_values(package))

    def find(self, allocation_id: AllocationId) -> Package | None:
        row = self._tx.row(
            "SELECT allocation_id, object, size, sha256, at_ms FROM job_packages WHERE allocation_id = :allocation",
            {"allocation": allocation_id},
        )
        return None if row is None else Package(*row)

    def list_past(self, before_ms: int, limit: int) -> list[Package]:
        """Packages made before an instant: what they were made of may be past its time."""
        rows = self._tx.rows(
            "SELECT allocation_id, object, size, sha256, at_ms FROM job_packages WHERE at_ms < :before"
            " ORDER BY at_ms LIMIT :limit",
            {"before": before_ms, "limit": limit},
        )
        return [Package(*row) for row in rows]

    def delete(self, allocation_id: AllocationId) -> None:
        self._tx.change("DELETE FROM job_packages WHERE allocation_id = :allocation", {"allocation": allocation_id})
