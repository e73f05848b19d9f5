"""Registered nodes and when they were away."""

from sqlalchemy import BigInteger, LargeBinary
from sqlmodel import Field, SQLModel


class NodeRow(SQLModel, table=True):
    """A machine with its own key; columns mirror `domain.nodes.Node`. hardware, capabilities: JSON, as measured."""

    __tablename__ = "nodes"

    id: str = Field(primary_key=True)
    node_key: str = Field(unique=True)
    address: str = Field(unique=True)
    operator: str = Field(index=True)
    account_id: str
    name: str | None = None
    class_id: str = Field(index=True)
    region: str
    data_center: str | None = None
    floor_per_hour: int = Field(sa_type=BigInteger)
    low_floor_per_hour: int | None = Field(default=None, sa_type=BigInteger)
    status: str = Field(index=True)
    declared: str
    joined_at_ms: int = Field(sa_type=BigInteger)
    last_seen_at_ms: int | None = Field(default=None, sa_type=BigInteger)
    slots: int
    hardware: str | None = None
    capabilities: str | None = None
    version: str | None = None
    register_key: str
    body_hash: bytes = Field(sa_type=LargeBinary)


class NodeOutageRow(SQLModel, table=True):
    """A time in which an active node was not heard of. ended_at_ms: null while it lasts."""

    __tablename__ = "node_outages"

    node_id: str = Field(primary_key=True)
    started_at_ms: int = Field(primary_key=True, sa_type=BigInteger)
    ended_at_ms: int | None = Field(default=None, sa_type=BigInteger)
