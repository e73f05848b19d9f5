"""Transactions built here for a wallet to sign, and what became of them."""

from sqlalchemy import BigInteger, LargeBinary
from sqlmodel import Field, SQLModel


class BuiltTransactionRow(SQLModel, table=True):
    """message: the exact bytes a wallet signs; only these are relayed. state: built, sent, confirmed, …"""

    __tablename__ = "built_transactions"

    id: str = Field(primary_key=True)
    message_sha256: bytes = Field(sa_type=LargeBinary, unique=True)
    message: bytes = Field(sa_type=LargeBinary)
    account_id: str = Field(index=True)
    wallet: str
    kind: str
    resource: str
    last_valid_block_height: int = Field(sa_type=BigInteger)
    expires_at_ms: int = Field(sa_type=BigInteger)
    built_at_ms: int = Field(sa_type=BigInteger, index=True)
    state: str = Field(index=True)
    signature: str | None = Field(default=None, unique=True)
    signed: bytes | None = Field(default=None, sa_type=LargeBinary)
    sent_at_ms: int | None = Field(default=None, sa_type=BigInteger)
    slot: int | None = Field(default=None, sa_type=BigInteger)
    error: str | None = None
