"""Transactions built here for a wallet to sign, and what became of them."""

from sqlalchemy import BigInteger, Index, LargeBinary
from sqlmodel import Field, SQLModel


class BuiltTransactionRow(SQLModel, table=True):
    """message: the exact bytes a wallet signs; only these are relayed. operation: the request that asked for it.

    answer: what that request was answered, repeated while these bytes may land. signature: once it was relayed;
    where it stands then is the outbox's to say.
    """

    __tablename__ = "built_transactions"
    __table_args__ = (Index("ix_built_transactions_operation", "account_id", "operation", "built_at_ms"),)

    id: str = Field(primary_key=True)
    account_id: str
    operation: str
    wallet: str
    kind: str
    message_sha256: bytes = Field(sa_type=LargeBinary, unique=True)
    answer: str
    last_valid_block_height: int = Field(sa_type=BigInteger)
    built_at_ms: int = Field(sa_type=BigInteger, index=True)
    signature: str | None = Field(default=None, unique=True)
