"""Rows of logins at storage services, and of deliveries to buckets there. Secrets are opened in `services` only."""

from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import insert

from marketplace.domain.buckets import BucketPlace, DeliveryState
from marketplace.domain.ids import AccountId, AllocationId, CredentialId
from marketplace.store.engine import Transaction
from marketplace.store.records import Statements, to_values
from marketplace.store.tables.buckets import BucketDeliveryRow, CredentialRow

_CREDENTIALS: Final = CredentialRow.metadata.tables["credentials"]
_DELIVERIES: Final = BucketDeliveryRow.metadata.tables["bucket_deliveries"]


@dataclass(frozen=True, slots=True)
class Credential:
    """A login at a storage service. endpoint: its URL. sealed: the secret key. is_default: where none is named."""

    id: CredentialId
    account_id: AccountId
    name: str
    kind: str
    endpoint: str
    region: str
    access_key: str
    is_default: bool
    key_id: str
    sealed: bytes = field(repr=False)
    created_at_ms: int


@dataclass(frozen=True, slots=True)
class BucketDelivery:
    """Where a job's outputs go, and how far they are.

    attempt: whose outputs, 0 while there are none. files, size: what was there to deliver. error: why it failed, in
    words for the renter.
    """

    allocation_id: AllocationId
    credential_id: CredentialId
    bucket: str
    prefix: str
    state: DeliveryState = DeliveryState.WAITING
    attempt: int = 0
    files: int = 0
    size: int = 0
    started_at_ms: int | None = None
    ended_at_ms: int | None = None
    error: str | None = None

    @property
    def place(self) -> BucketPlace:
        """Bucket and prefix."""
        return BucketPlace(self.bucket, self.prefix)


_CREDENTIAL: Final = Statements(Credential, "credentials")
_DELIVERY: Final = Statements(BucketDelivery, "bucket_deliveries")


class Credentials:
    """Create, find, list, delete."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def create(self, credential: Credential) -> None:
        """The newest default is the only one. Raises UniqueViolation when the account has one of this name."""
        if credential.is_default:
            self._tx.change(
                "UPDATE credentials SET is_default = :no WHERE account_id = :account AND is_default = :yes",
                {"no": False, "yes": True, "account": credential.account_id},
            )
        self._tx.execute(insert(_CREDENTIALS), to_values(credential))

    def find(self, credential_id: CredentialId) -> Credential | None:
        row = self._tx.row(f"{_CREDENTIAL.select} WHERE id = :id", {"id": credential_id})
        return None if row is None else _CREDENTIAL.read(row)

    def list_for(self, account_id: AccountId) -> list[Credential]:
        """All of an account's, oldest first."""
        rows = self._tx.rows(
            f"{_CREDENTIAL.select} WHERE account_id = :account ORDER BY created_at_ms, id", {"account": account_id}
        )
        return [_CREDENTIAL.read(row) for row in rows]

    def users(self, credential_id: CredentialId) -> list[AllocationId]:
        """Allocations that are not over and deliver with it."""
        rows = self._tx.rows(
            "SELECT d.allocation_id FROM bucket_deliveries d JOIN allocations a ON a.id = d.allocation_id"
            " WHERE d.credential_id = :credential AND a.state NOT IN ('released', 'failed') ORDER BY d.allocation_id",
            {"credential": credential_id},
        )
        return [AllocationId(row[0]) for row in rows]

    def delete(self, credential_id: CredentialId) -> None:
        self._tx.change("DELETE FROM credentials WHERE id = :id", {"id": credential_id})


class BucketDeliveries:
    """Plan, find, note how far they are."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def create(self, delivery: BucketDelivery) -> None:
        """Raises UniqueViolation when the job has one."""
        self._tx.execute(insert(_DELIVERIES), to_values(delivery))

    def find(self, allocation_id: AllocationId) -> BucketDelivery | None:
        row = self._tx.row(f"{_DELIVERY.select} WHERE allocation_id = :id", {"id": allocation_id})
        return None if row is None else _DELIVERY.read(row)

    def update(self, delivery: BucketDelivery) -> None:
        self._tx.change(f"{_DELIVERY.update} WHERE allocation_id = :allocation_id", to_values(delivery))

    def list_begun(self) -> list[BucketDelivery]:
        """Those under way, the oldest first."""
        rows = self._tx.rows(f"{_DELIVERY.select} WHERE state = 'delivering' ORDER BY started_at_ms, allocation_id", {})
        return [_DELIVERY.read(row) for row in rows]

    def accounts_of_begun(self) -> dict[AllocationId, AccountId]:
        """Whose those under way are."""
        rows = self._tx.rows(
            "SELECT d.allocation_id, a.account_id FROM bucket_deliveries d JOIN allocations a ON a.id = d.allocation_id"
            " WHERE d.state = 'delivering'",
            {},
        )
        return {AllocationId(row[0]): AccountId(row[1]) for row in rows}

    # files

    def delivered(self, allocation_id: AllocationId) -> set[str]:
        """Paths that are there."""
        rows = self._tx.rows(
            "SELECT path FROM delivered_files WHERE allocation_id = :id AND delivered_at_ms IS NOT NULL",
            {"id": allocation_id},
        )
        return {str(row[0]) for row in rows}

    def upload_of(self, allocation_id: AllocationId, path: str) -> str | None:
        """The upload in parts that was begun for a file and is not over."""
        row = self._tx.row(
            "SELECT upload_id FROM delivered_files WHERE allocation_id = :id AND path = :path",
            {"id": allocation_id, "path": path},
        )
        return None if row is None or row[0] is None else str(row[0])

    def put_file(
        self, allocation_id: AllocationId, path: str, *, upload_id: str | None = None, at_ms: int | None = None
    ) -> None:
        """Note a file's upload in parts, or that it is there."""
        name = {"id": allocation_id, "path": path}
        self._tx.change("DELETE FROM delivered_files WHERE allocation_id = :id AND path = :path", name)
        self._tx.change(
            "INSERT INTO delivered_files (allocation_id, path, upload_id, delivered_at_ms)"
            " VALUES (:id, :path, :upload, :at)",
            name | {"upload": upload_id, "at": at_ms},
        )

    def forget_files(self, allocation_id: AllocationId) -> None:
        """Of a delivery that is over, or begins anew with another attempt's files."""
        self._tx.change("DELETE FROM delivered_files WHERE allocation_id = :id", {"id": allocation_id})
