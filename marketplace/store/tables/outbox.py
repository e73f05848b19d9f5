"""Signed transactions of the market's own keys: recorded before the first byte leaves."""

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary
from sqlmodel import Field, SQLModel


class OutboxRow(SQLModel, table=True):
    """sequence: order of insertion. state, failure: see chain/outbox.py; failure is JSON text."""

    __tablename__ = "outbox"
    __table_args__ = (
        Index("ix_outbox_operation", "operation", "sequence"),
        Index("ix_outbox_state", "state"),
        {"sqlite_autoincrement": True},
    )

    # SQLite gives AUTOINCREMENT to INTEGER alone, PostgreSQL needs 64 bits.
    sequence: int | None = Field(
        default=None,
        sa_column=Column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    )
    operation: str
    signature: str = Field(unique=True)
    raw: bytes = Field(sa_type=LargeBinary)
    last_valid_block_height: int = Field(sa_type=BigInteger)
    state: str
    slot: int | None = Field(default=None, sa_type=BigInteger)
    failure: str | None = None
