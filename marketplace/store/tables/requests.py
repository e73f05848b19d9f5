"""What is remembered about requests: idempotency keys and rate counters."""

from sqlalchemy import BigInteger, LargeBinary
from sqlmodel import Field, SQLModel


class IdempotencyRow(SQLModel, table=True):
    """A key bound to a body. status and body are null until the call succeeded.

    secrets_until_ms: the answer holds secrets, which are replayed as null after this instant.
    """

    __tablename__ = "idempotency_keys"

    subject: str = Field(primary_key=True)
    route: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    body_sha256: bytes = Field(sa_type=LargeBinary)
    bound_at_ms: int = Field(sa_type=BigInteger)
    expires_at_ms: int = Field(sa_type=BigInteger, index=True)
    status: int | None = None
    headers: str | None = None
    body: bytes | None = Field(default=None, sa_type=LargeBinary)
    secrets_until_ms: int | None = Field(default=None, sa_type=BigInteger)


class RateCounterRow(SQLModel, table=True):
    """Requests of one subject in one window. Windows are aligned to the epoch."""

    __tablename__ = "rate_counters"

    subject: str = Field(primary_key=True)
    window_s: int = Field(primary_key=True)
    window_start_s: int = Field(primary_key=True, sa_type=BigInteger)
    requests: int = Field(sa_type=BigInteger)
    window_end_s: int = Field(sa_type=BigInteger, index=True)
