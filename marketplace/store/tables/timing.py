"""Extensions of allocations, and what running work used."""

from sqlalchemy import BigInteger, Index, LargeBinary
from sqlmodel import Field, SQLModel


class ExtensionRow(SQLModel, table=True):
    """Time and deposit to be added to an escrow; columns mirror `store.extensions.Extension`."""

    __tablename__ = "extensions"
    __table_args__ = (Index("ix_extensions_key", "allocation_id", "key"),)

    allocation_id: str = Field(primary_key=True, foreign_key="allocations.id")
    number: int = Field(primary_key=True)
    key: str | None = None
    body_hash: bytes = Field(sa_type=LargeBinary)
    automatic: bool
    from_ms: int = Field(sa_type=BigInteger)
    added_ms: int = Field(sa_type=BigInteger)
    added_deposit: int = Field(sa_type=BigInteger)
    state: str
    created_at_ms: int = Field(sa_type=BigInteger)


class UsageSampleRow(SQLModel, table=True):
    """What one attempt had used at a moment; columns mirror `store.usage.UsageSample`."""

    __tablename__ = "usage_samples"
    __table_args__ = (Index("ix_usage_samples_at_ms", "at_ms"),)

    allocation_id: str = Field(primary_key=True)
    attempt: int = Field(primary_key=True)
    at_ms: int = Field(primary_key=True, sa_type=BigInteger)
    cpu_ms: int = Field(sa_type=BigInteger)
    memory_bytes: int = Field(sa_type=BigInteger)
    received_bytes: int = Field(sa_type=BigInteger)
    sent_bytes: int = Field(sa_type=BigInteger)
    gpu_percent: int | None = None
    gpu_memory_bytes: int | None = Field(default=None, sa_type=BigInteger)
