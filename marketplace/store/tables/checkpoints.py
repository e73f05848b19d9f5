"""Checkpoints of jobs. The bytes are in the object storage."""

from sqlalchemy import BigInteger
from sqlmodel import Field, SQLModel


class CheckpointRow(SQLModel, table=True):
    """The latest whole checkpoint of a job. attempt: which wrote it. object: where its bytes are."""

    __tablename__ = "checkpoints"

    allocation_id: str = Field(primary_key=True)
    account_id: str = Field(index=True)
    attempt: int
    object: str
    size: int = Field(sa_type=BigInteger)
    sha256: str
    at_ms: int = Field(sa_type=BigInteger, index=True)
