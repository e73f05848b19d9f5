"""Models that admins gave to the market while it runs."""

from sqlalchemy import BigInteger
from sqlmodel import Field, SQLModel


class ModelRow(SQLModel, table=True):
    """One model. folded: its name without regard to case. entry: JSON text, as given. wallet: whose act it was."""

    __tablename__ = "models"

    folded: str = Field(primary_key=True)
    name: str
    entry: str
    wallet: str
    changed_at_ms: int = Field(sa_type=BigInteger)
