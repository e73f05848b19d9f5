"""API keys, what each has spent, and what it holds for work that is not settled yet."""

from sqlalchemy import BigInteger, Index, LargeBinary, UniqueConstraint
from sqlmodel import Field, SQLModel


class ApiKeyRow(SQLModel, table=True):
    """A key by its SHA-256. create_key: the Idempotency-Key of its making. spent: settled, and held for open work."""

    __tablename__ = "api_keys"
    __table_args__ = (
        UniqueConstraint("account_id", "create_key", name="uq_api_keys_account_create_key"),
        Index("ix_api_keys_account_created", "account_id", "created_at_ms", "id"),
    )

    id: str = Field(primary_key=True)
    account_id: str
    create_key: str
    key_hash: bytes = Field(unique=True, sa_type=LargeBinary)
    prefix: str
    name: str
    scopes: str
    rate_class: str
    per_day: int | None = Field(default=None, sa_type=BigInteger)
    total: int | None = Field(default=None, sa_type=BigInteger)
    spent: int = Field(sa_type=BigInteger)
    created_at_ms: int = Field(sa_type=BigInteger)
    expires_at_ms: int | None = Field(default=None, sa_type=BigInteger)
    last_used_at_ms: int | None = Field(default=None, sa_type=BigInteger)


class KeyDayRow(SQLModel, table=True):
    """What a key spent of one UTC day's limit. day: days since the epoch."""

    __tablename__ = "api_key_days"

    key_id: str = Field(primary_key=True)
    day: int = Field(primary_key=True)
    spent: int = Field(sa_type=BigInteger)


class KeyHoldRow(SQLModel, table=True):
    """What an allocation that is not settled holds of a key's limits: its deposit, on the day of its opening."""

    __tablename__ = "api_key_holds"

    allocation_id: str = Field(primary_key=True)
    key_id: str = Field(primary_key=True)
    day: int = Field(primary_key=True)
    held: int = Field(sa_type=BigInteger)
