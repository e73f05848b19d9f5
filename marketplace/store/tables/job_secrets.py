"""Other people's secrets: of jobs, and logins at registries; sealed, see `services/stored_secrets.py`."""

from sqlalchemy import BigInteger, LargeBinary, UniqueConstraint
from sqlmodel import Field, SQLModel


class JobSecretRow(SQLModel, table=True):
    """The secrets of one job, together. sealed: a JSON object, by the ring's key key_id."""

    __tablename__ = "job_secrets"

    allocation_id: str = Field(primary_key=True, foreign_key="allocations.id")
    key_id: str
    sealed: bytes = Field(sa_type=LargeBinary)


class RegistryAuthRow(SQLModel, table=True):
    """A login at an image registry. host: host[:port] that it is for. sealed: the password."""

    __tablename__ = "registry_auths"
    __table_args__ = (UniqueConstraint("account_id", "name", name="uq_registry_auths_account_name"),)

    id: str = Field(primary_key=True)
    account_id: str
    name: str
    username: str
    host: str | None = None
    key_id: str
    sealed: bytes = Field(sa_type=LargeBinary)
    created_at_ms: int = Field(sa_type=BigInteger)
