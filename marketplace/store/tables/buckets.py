"""Logins at storage services of renters, and what goes there: secrets sealed, see `services/stored_secrets.py`."""

from sqlalchemy import BigInteger, Boolean, LargeBinary, UniqueConstraint
from sqlmodel import Field, SQLModel


class CredentialRow(SQLModel, table=True):
    """A login at a storage service. sealed: the secret key, by the ring's key key_id."""

    __tablename__ = "credentials"
    __table_args__ = (UniqueConstraint("account_id", "name", name="uq_credentials_account_name"),)

    id: str = Field(primary_key=True)
    account_id: str
    name: str
    kind: str
    endpoint: str
    region: str
    access_key: str
    is_default: bool = Field(default=False, sa_type=Boolean)
    key_id: str
    sealed: bytes = Field(sa_type=LargeBinary)
    created_at_ms: int = Field(sa_type=BigInteger)


class BucketDeliveryRow(SQLModel, table=True):
    """Where a job's outputs go, and how far they are. attempt: whose outputs; 0 while there are none."""

    __tablename__ = "bucket_deliveries"

    allocation_id: str = Field(primary_key=True)
    credential_id: str = Field(index=True)
    bucket: str
    prefix: str
    state: str = Field(index=True)
    attempt: int
    files: int
    size: int = Field(sa_type=BigInteger)
    started_at_ms: int | None = Field(default=None, sa_type=BigInteger)
    ended_at_ms: int | None = Field(default=None, sa_type=BigInteger)
    error: str | None = None


class DeliveredFileRow(SQLModel, table=True):
    """One file of a delivery that is under way. upload_id: of an upload in parts that was begun."""

    __tablename__ = "delivered_files"

    allocation_id: str = Field(primary_key=True)
    path: str = Field(primary_key=True)
    upload_id: str | None = None
    delivered_at_ms: int | None = Field(default=None, sa_type=BigInteger)
