"""The feed: one row per transition, written in the transition's own transaction."""

from sqlalchemy import BigInteger, Column, Index, Integer
from sqlmodel import Field, SQLModel


class EventRow(SQLModel, table=True):
    """cursor: position in the feed. account: whose event it is. resource: id of what it is about."""

    __tablename__ = "events"
    __table_args__ = (
        Index("ix_events_account_cursor", "account", "cursor"),
        Index("ix_events_resource_cursor", "resource", "cursor"),
        {"sqlite_autoincrement": True},
    )

    # SQLite gives AUTOINCREMENT to INTEGER alone, PostgreSQL needs 64 bits.
    cursor: int | None = Field(
        default=None,
        sa_column=Column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    )
    id: str = Field(unique=True)
    account: str
    type: str
    resource: str
    data: str
    at_ms: int = Field(sa_type=BigInteger, index=True)


class FeedMarkRow(SQLModel, table=True):
    """A position in the feed that somebody keeps: what was deleted for its age, what webhooks have been given."""

    __tablename__ = "feed_marks"

    name: str = Field(primary_key=True)
    cursor: int = Field(sa_type=BigInteger)
