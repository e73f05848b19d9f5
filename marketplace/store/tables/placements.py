"""Why each attempt went to its node."""

from sqlalchemy import BigInteger
from sqlmodel import Field, SQLModel


class PlacementRow(SQLModel, table=True):
    """One choice of a node. reasons: JSON text of candidates, exclusions, counts and the draw."""

    __tablename__ = "placements"

    allocation_id: str = Field(primary_key=True)
    attempt: int = Field(primary_key=True)
    node_id: str
    at_ms: int = Field(sa_type=BigInteger)
    reasons: str
