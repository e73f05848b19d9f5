"""What capacity cost, and how long it was waited for, by day."""

from sqlalchemy import BigInteger
from sqlmodel import Field, SQLModel


class PriceDayRow(SQLModel, table=True):
    """One UTC day of one class in one region. Prices per hour of one GPU, base units. day: days since the epoch."""

    __tablename__ = "price_days"

    day: int = Field(primary_key=True)
    class_id: str = Field(primary_key=True)
    region: str = Field(primary_key=True)
    floor: int | None = Field(default=None, sa_type=BigInteger)
    lowest: int | None = Field(default=None, sa_type=BigInteger)
    highest: int | None = Field(default=None, sa_type=BigInteger)
    price_sum: int = Field(sa_type=BigInteger)
    choices: int
    wait_sum_ms: int = Field(sa_type=BigInteger)
    longest_wait_ms: int = Field(sa_type=BigInteger)
