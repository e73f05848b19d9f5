"""Accounts, the wallets that belong to them, login challenges, logins and their refresh tokens."""

from sqlalchemy import BigInteger, Index, LargeBinary
from sqlmodel import Field, SQLModel


class AccountRow(SQLModel, table=True):
    """A principal; wallets and other credentials point to it."""

    __tablename__ = "accounts"

    id: str = Field(primary_key=True)
    created_at_ms: int = Field(sa_type=BigInteger)


class WalletRow(SQLModel, table=True):
    """A wallet that logs in to an account. Exactly one of an account's wallets is primary: its vault pays."""

    __tablename__ = "wallets"

    address: str = Field(primary_key=True)
    account_id: str = Field(foreign_key="accounts.id", index=True)
    is_primary: bool
    linked_at_ms: int = Field(sa_type=BigInteger)


class ChallengeRow(SQLModel, table=True):
    """An outstanding login challenge. The text is kept as issued: it is what a signature is checked over."""

    __tablename__ = "challenges"
    __table_args__ = (Index("ix_challenges_wallet_issued", "wallet", "issued_at_ms"),)

    nonce: str = Field(primary_key=True)
    wallet: str
    purpose: str
    client_address: str
    message: str
    issued_at_ms: int = Field(sa_type=BigInteger)
    expires_at_ms: int = Field(sa_type=BigInteger, index=True)


class LoginRow(SQLModel, table=True):
    """A login and all tokens descended from it (`sid`). subject: the account or node it speaks for."""

    __tablename__ = "logins"

    id: str = Field(primary_key=True)
    subject: str = Field(index=True)
    wallet: str
    scope: str
    created_at_ms: int = Field(sa_type=BigInteger)
    expires_at_ms: int = Field(sa_type=BigInteger, index=True)
    revoked_at_ms: int | None = Field(default=None, sa_type=BigInteger)


class RefreshTokenRow(SQLModel, table=True):
    """A refresh token by its SHA-256. A used one is kept until it expires, so that its reuse is noticed."""

    __tablename__ = "refresh_tokens"

    token_hash: bytes = Field(primary_key=True, sa_type=LargeBinary)
    login_id: str = Field(foreign_key="logins.id", index=True)
    issued_at_ms: int = Field(sa_type=BigInteger)
    expires_at_ms: int = Field(sa_type=BigInteger, index=True)
    used_at_ms: int | None = Field(default=None, sa_type=BigInteger)
    retry_key_hash: bytes | None = Field(default=None, sa_type=LargeBinary)
