"""Webhooks, their secrets, and the queue of what is to be delivered to them."""

from sqlalchemy import BigInteger, Index
from sqlmodel import Field, SQLModel


class WebhookRow(SQLModel, table=True):
    """A URL that wants events. job_id: of one job only, where a job named the URL. patterns: JSON list.

    secret_owner: whose secret signs: its own id, or the account's for a job's. since_cursor: events after it are its.
    """

    __tablename__ = "webhooks"

    id: str = Field(primary_key=True)
    account: str = Field(index=True)
    job_id: str | None = Field(default=None, index=True)
    url: str
    patterns: str
    description: str
    active: bool
    secret_owner: str
    since_cursor: int = Field(sa_type=BigInteger)
    created_at_ms: int = Field(sa_type=BigInteger)
    updated_at_ms: int = Field(sa_type=BigInteger)
    delivered_at_ms: int | None = Field(default=None, sa_type=BigInteger)
    disabled_reason: str | None = None


class WebhookSecretRow(SQLModel, table=True):
    """What signs, sealed. owner: a webhook, or an account for its jobs' webhooks.

    old_…: the one before, which signs too until old_until_ms.
    """

    __tablename__ = "webhook_secrets"

    owner: str = Field(primary_key=True)
    key_id: str
    sealed: bytes
    old_key_id: str | None = None
    old_sealed: bytes | None = None
    old_until_ms: int | None = Field(default=None, sa_type=BigInteger)


class WebhookDeliveryRow(SQLModel, table=True):
    """An event on its way to a webhook. due_at_ms: when it is tried next, or a try's lease ends; None when it is over.

    token: of the try that runs now.
    """

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        Index("ix_webhook_deliveries_due", "due_at_ms", "webhook_id", "cursor"),
        Index("ix_webhook_deliveries_created", "created_at_ms"),
    )

    webhook_id: str = Field(primary_key=True)
    cursor: int = Field(primary_key=True, sa_type=BigInteger)
    state: str
    attempts: int
    due_at_ms: int | None = Field(default=None, sa_type=BigInteger)
    token: str | None = None
    created_at_ms: int = Field(sa_type=BigInteger)
    first_at_ms: int | None = Field(default=None, sa_type=BigInteger)
    last_at_ms: int | None = Field(default=None, sa_type=BigInteger)
    last_status: int | None = None
    last_error: str | None = None
