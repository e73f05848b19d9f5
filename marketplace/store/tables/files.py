"""Uploaded files, and uploads by parts that are not files yet. The bytes are in the object storage."""

from sqlalchemy import BigInteger, Index
from sqlmodel import Field, SQLModel


class FileRow(SQLModel, table=True):
    """An uploaded file. stored: its bytes are still kept; without them the row only says that it was there."""

    __tablename__ = "files"
    __table_args__ = (Index("ix_files_account_created", "account_id", "created_at_ms", "id"),)

    id: str = Field(primary_key=True)
    account_id: str
    name: str
    size: int = Field(sa_type=BigInteger)
    sha256: str
    content_type: str
    created_at_ms: int = Field(sa_type=BigInteger)
    expires_at_ms: int = Field(sa_type=BigInteger, index=True)
    stored: bool


class UploadRow(SQLModel, table=True):
    """An upload by parts. file_id: what it becomes; done: it has."""

    __tablename__ = "uploads"
    __table_args__ = (Index("ix_uploads_account", "account_id"),)

    id: str = Field(primary_key=True)
    account_id: str
    file_id: str
    name: str
    size: int = Field(sa_type=BigInteger)
    sha256: str | None = None
    content_type: str
    created_at_ms: int = Field(sa_type=BigInteger)
    expires_at_ms: int = Field(sa_type=BigInteger, index=True)
    done: bool


class UploadPartRow(SQLModel, table=True):
    """A part that is held. object: its key, new with each time the part was sent."""

    __tablename__ = "upload_parts"

    upload_id: str = Field(primary_key=True)
    number: int = Field(primary_key=True)
    size: int = Field(sa_type=BigInteger)
    sha256: str
    object: str
