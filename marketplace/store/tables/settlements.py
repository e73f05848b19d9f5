"""What was paid, in typed columns: the ledger that usage and earnings are summed from."""

from sqlalchemy import BigInteger, Index
from sqlmodel import Field, SQLModel


class SettlementRow(SQLModel, table=True):
    """One payment out of an escrow. billed_ms: of this payment. node: address of the Node account.

    account_id and what follows from the allocation: null where this store knows of no such submission.
    """

    __tablename__ = "settlements"
    __table_args__ = (
        Index("ix_settlements_account", "account_id", "at_ms"),
        Index("ix_settlements_node", "node", "at_ms"),
        Index("ix_settlements_attempt", "escrow", "attempt"),
    )

    signature: str = Field(primary_key=True)
    position: int = Field(primary_key=True)
    escrow: str
    attempt: int
    node: str
    at_ms: int = Field(sa_type=BigInteger)
    billed_ms: int = Field(sa_type=BigInteger)
    paid: int = Field(sa_type=BigInteger)
    operator: int = Field(sa_type=BigInteger)
    stakers: int = Field(sa_type=BigInteger)
    market: int = Field(sa_type=BigInteger)
    protocol: int = Field(sa_type=BigInteger)
    account_id: str | None = None
    allocation_id: str | None = None
    class_id: str | None = None
    gpu_count: int | None = None
    consumer_id: str | None = None
