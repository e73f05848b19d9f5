"""Rows of jobs' secrets and of registry logins. What is sealed here is opened in `services` only."""

from dataclasses import dataclass, field

from sqlalchemy import delete, insert, select

from marketplace.domain.ids import AccountId, AllocationId, RegistryAuthId
from marketplace.store.engine import Transaction
from marketplace.store.records import from_row, to_values
from marketplace.store.tables.job_secrets import JobSecretRow, RegistryAuthRow

_SECRETS = JobSecretRow.metadata.tables["job_secrets"]
_AUTHS = RegistryAuthRow.metadata.tables["registry_auths"]


@dataclass(frozen=True, slots=True)
class JobSecret:
    """The secrets of one job, sealed."""

    allocation_id: AllocationId
    key_id: str
    sealed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class RegistryAuth:
    """A login at a registry. host: host[:port], None for whichever an image names. sealed: the password."""

    id: RegistryAuthId
    account_id: AccountId
    name: str
    username: str
    key_id: str
    sealed: bytes = field(repr=False)
    created_at_ms: int
    host: str | None = None


class JobSecrets:
    """Put, find, forget."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def put(self, secret: JobSecret) -> None:
        """Write it, in place of what was there."""
        self._tx.execute(delete(_SECRETS).where(_SECRETS.c.allocation_id == secret.allocation_id))
        self._tx.execute(insert(_SECRETS), to_values(secret))

    def find(self, allocation_id: AllocationId) -> JobSecret | None:
        row = self._tx.execute(select(_SECRETS).where(_SECRETS.c.allocation_id == allocation_id)).mappings().first()
        return None if row is None else from_row(JobSecret, row)

    def forget_before(self, at_ms: int) -> int:
        """Forget those of jobs that ended, or were asked for and never paid, before this; how many that were."""
        return self._tx.change(
            "DELETE FROM job_secrets WHERE allocation_id IN (SELECT s.allocation_id FROM job_secrets s"
            " JOIN allocations a ON a.id = s.allocation_id"
            " WHERE (a.state IN ('released', 'failed') AND coalesce(a.completed_at_ms, a.created_at_ms) < :at)"
            " OR (a.state = 'requested' AND a.created_at_ms < :at))",
            {"at": at_ms},
        )


class RegistryAuths:
    """Create, find, list, delete."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def create(self, auth: RegistryAuth) -> None:
        """Raises UniqueViolation when the account has one of this name."""
        self._tx.execute(insert(_AUTHS), to_values(auth))

    def find(self, auth_id: RegistryAuthId) -> RegistryAuth | None:
        row = self._tx.execute(select(_AUTHS).where(_AUTHS.c.id == auth_id)).mappings().first()
        return None if row is None else from_row(RegistryAuth, row)

    def list_for(self, account_id: AccountId) -> list[RegistryAuth]:
        """All of an account's, oldest first."""
        rows = self._tx.execute(
            select(_AUTHS).where(_AUTHS.c.account_id == account_id).order_by(_AUTHS.c.created_at_ms, _AUTHS.c.id)
        ).mappings()
        return [from_row(RegistryAuth, row) for row in rows]

    def users(self, auth_id: RegistryAuthId) -> list[str]:
        """Allocations that are not over and pull with it."""
        rows = self._tx.rows(
            "SELECT id FROM allocations WHERE registry_auth_id = :auth AND state NOT IN ('released', 'failed')",
            {"auth": auth_id},
        )
        return [str(row[0]) for row in rows]

    def delete(self, auth_id: RegistryAuthId) -> None:
        self._tx.execute(delete(_AUTHS).where(_AUTHS.c.id == auth_id))
