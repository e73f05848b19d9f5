"""What the chain said: its events, the escrows they describe, and the ledger they make."""

from sqlalchemy import BigInteger, Index, LargeBinary
from sqlmodel import Field, SQLModel


class ChainEventRow(SQLModel, table=True):
    """One event of the program, once. position: its place in its transaction. node: address of the Node account."""

    __tablename__ = "chain_events"
    __table_args__ = (
        Index("ix_chain_events_escrow", "escrow", "slot", "position"),
        Index("ix_chain_events_node", "node", "name", "slot"),
    )

    signature: str = Field(primary_key=True)
    position: int = Field(primary_key=True)
    slot: int = Field(sa_type=BigInteger)
    seen_at_ms: int = Field(sa_type=BigInteger)
    name: str
    escrow: str | None = None
    attempt: int | None = None
    fields: str
    finalized: bool
    node: str | None = None


class ChainEscrowRow(SQLModel, table=True):
    """An escrow as its events describe it, whether or not its intent is known here."""

    __tablename__ = "chain_escrows"
    __table_args__ = (Index("ix_chain_escrows_wallet_terms", "wallet", "terms_hash"),)

    escrow: str = Field(primary_key=True)
    wallet: str
    opener: str
    nonce: int = Field(sa_type=BigInteger)
    terms_hash: bytes = Field(sa_type=LargeBinary)
    deposit: int = Field(sa_type=BigInteger)
    state: str
    attempt: int
    paid: int = Field(sa_type=BigInteger)
    refunded: int = Field(sa_type=BigInteger)
    operator: int = Field(sa_type=BigInteger)
    stakers: int = Field(sa_type=BigInteger)
    market: int = Field(sa_type=BigInteger)
    protocol: int = Field(sa_type=BigInteger)
    compensation: int = Field(sa_type=BigInteger)
    opened_signature: str
    closed_at_ms: int | None = Field(default=None, sa_type=BigInteger)


class LedgerRow(SQLModel, table=True):
    """One side of a movement of payment tokens. All rows of an escrow, and of each event, sum to zero."""

    __tablename__ = "ledger"
    __table_args__ = (Index("ix_ledger_escrow", "escrow"), Index("ix_ledger_account", "account"))

    signature: str = Field(primary_key=True)
    position: int = Field(primary_key=True)
    account: str = Field(primary_key=True)
    escrow: str
    amount: int = Field(sa_type=BigInteger)


class EscrowTransactionRow(SQLModel, table=True):
    """A transaction that touched an escrow, with its cost. by: who paid the fee."""

    __tablename__ = "escrow_transactions"

    escrow: str = Field(primary_key=True)
    signature: str = Field(primary_key=True)
    slot: int = Field(sa_type=BigInteger)
    purpose: str
    signatures: int
    fee_lamports: int = Field(sa_type=BigInteger)
    fee_payer: str


class ChainCursorRow(SQLModel, table=True):
    """How far a watcher has read. cursor: JSON text of chain/watcher.py's WatchCursor."""

    __tablename__ = "chain_cursors"

    name: str = Field(primary_key=True)
    cursor: str
    slot: int = Field(sa_type=BigInteger)
