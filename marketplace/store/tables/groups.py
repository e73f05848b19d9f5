"""Groups: one job body, many jobs, and what has to be completed before them."""

from sqlalchemy import BigInteger, Index, LargeBinary, UniqueConstraint
from sqlmodel import Field, SQLModel


class JobGroupRow(SQLModel, table=True):
    """One group. job: JSON text of the body that all members share. blocked: JSON text of why no more are opened."""

    __tablename__ = "job_groups"
    __table_args__ = (
        UniqueConstraint("account_id", "create_key", name="uq_job_groups_account_create_key"),
        Index("ix_job_groups_account_created", "account_id", "created_at_ms", "id"),
    )

    id: str = Field(primary_key=True)
    account_id: str
    wallet: str
    key_id: str | None = None
    create_key: str
    body_hash: bytes = Field(sa_type=LargeBinary)
    name: str | None = None
    job: str
    count: int
    created_at_ms: int = Field(sa_type=BigInteger)
    ready_at_ms: int | None = Field(default=None, sa_type=BigInteger)
    cancelled_at_ms: int | None = Field(default=None, sa_type=BigInteger)
    ended_at_ms: int | None = Field(default=None, sa_type=BigInteger)
    over: bool = Field(index=True)
    blocked: str | None = None


class GroupMemberRow(SQLModel, table=True):
    """One member. allocation_id: once it is submitted. state: waiting, submitted, or why it never is.

    input: JSON text of its own input, where the group gave each one.
    """

    __tablename__ = "job_group_members"

    group_id: str = Field(primary_key=True)
    position: int = Field(primary_key=True)
    allocation_id: str | None = None
    state: str
    error: str | None = None
    input: str | None = None


class GroupAfterRow(SQLModel, table=True):
    """A job or group that has to be completed before the members of a group begin."""

    __tablename__ = "job_group_after"

    group_id: str = Field(primary_key=True)
    after: str = Field(primary_key=True)


class GroupSecretRow(SQLModel, table=True):
    """The secrets of a group's jobs while they are opened. sealed: a JSON object, by the ring's key key_id."""

    __tablename__ = "group_secrets"

    group_id: str = Field(primary_key=True)
    key_id: str
    sealed: bytes = Field(sa_type=LargeBinary)
