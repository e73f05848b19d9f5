"""What wallets were told of the use of their allowances."""

from sqlalchemy import BigInteger
from sqlmodel import Field, SQLModel


class SpendAlertRow(SQLModel, table=True):
    """noted: rises with each escrow opened under the allowance. seen: up to which the chain was asked.

    told, told_today: the highest threshold told, of the total and of the UTC day `day`.
    last_deposit: of the last escrow.
    """

    __tablename__ = "spend_alerts"

    wallet: str = Field(primary_key=True)
    noted: int = Field(sa_type=BigInteger)
    seen: int = Field(sa_type=BigInteger)
    told: int
    told_today: int
    day: int = Field(sa_type=BigInteger)
    last_deposit: int = Field(sa_type=BigInteger)
