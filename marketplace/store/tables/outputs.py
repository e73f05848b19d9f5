"""What jobs left in /outputs. The bytes are in the object storage."""

from sqlalchemy import BigInteger, LargeBinary
from sqlmodel import Field, SQLModel


class JobOutputRow(SQLModel, table=True):
    """One file of one attempt. object: where its bytes are. content: of a small result, to be shown with the job."""

    __tablename__ = "job_outputs"

    allocation_id: str = Field(primary_key=True)
    attempt: int = Field(primary_key=True)
    path: str = Field(primary_key=True)
    size: int = Field(sa_type=BigInteger)
    sha256: str
    object: str
    content: bytes | None = Field(default=None, sa_type=LargeBinary)
    at_ms: int = Field(sa_type=BigInteger, index=True)


class JobPackageRow(SQLModel, table=True):
    """The archive of a job's outputs and logs, once somebody has asked for it."""

    __tablename__ = "job_packages"

    allocation_id: str = Field(primary_key=True)
    object: str
    size: int = Field(sa_type=BigInteger)
    sha256: str
    at_ms: int = Field(sa_type=BigInteger, index=True)
