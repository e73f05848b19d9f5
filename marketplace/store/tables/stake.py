"""What the chain said of stake: events in typed columns, and the sums that lists are read from."""

from sqlalchemy import BigInteger, Index
from sqlmodel import Field, SQLModel


class StakeEventRow(SQLModel, table=True):
    """One event that concerns stake, once. at_epoch: in which it happened. epoch: which it speaks of."""

    __tablename__ = "stake_events"
    __table_args__ = (
        Index("ix_stake_events_owner", "owner", "slot", "position"),
        Index("ix_stake_events_pool", "pool", "at_epoch"),
        Index("ix_stake_events_pool_kind", "pool", "kind", "slot"),
        Index("ix_stake_events_epoch", "epoch", "kind"),
    )

    signature: str = Field(primary_key=True)
    position: int = Field(primary_key=True)
    slot: int = Field(sa_type=BigInteger)
    at_ms: int = Field(sa_type=BigInteger)
    at_epoch: int = Field(sa_type=BigInteger)
    kind: str
    pool: str | None = None
    owner: str | None = None
    ticket: str | None = None
    epoch: int | None = Field(default=None, sa_type=BigInteger)
    stake: int = Field(sa_type=BigInteger)
    payment: int = Field(sa_type=BigInteger)
    commission: int = Field(sa_type=BigInteger)
    shares: str
    bps: int | None = None
    due_ms: int | None = Field(default=None, sa_type=BigInteger)


class StakePoolRow(SQLModel, table=True):
    """A pool and its node, from the node's registration. commission_bps: what it was registered with."""

    __tablename__ = "stake_pools"

    pool: str = Field(primary_key=True)
    node: str = Field(index=True)
    node_key: str
    operator: str
    market: str
    commission_bps: int | None = None
    signature: str = Field(index=True)


class StakeHolderRow(SQLModel, table=True):
    """That a wallet has, or had, a position in a pool: where to look for its positions. since_slot: from when on."""

    __tablename__ = "stake_holders"

    owner: str = Field(primary_key=True)
    pool: str = Field(primary_key=True, index=True)
    since_slot: int = Field(sa_type=BigInteger)


class PoolEpochRow(SQLModel, table=True):
    """What happened to a pool in one epoch, summed: rewards booked, and changes of active stake and shares."""

    __tablename__ = "pool_epochs"
    __table_args__ = (Index("ix_pool_epochs_epoch", "epoch", "pool"),)

    pool: str = Field(primary_key=True)
    epoch: int = Field(primary_key=True, sa_type=BigInteger)
    fees: int = Field(sa_type=BigInteger)
    fees_commission: int = Field(sa_type=BigInteger)
    emission: int = Field(sa_type=BigInteger)
    emission_commission: int = Field(sa_type=BigInteger)
    stake_change: int = Field(sa_type=BigInteger)
    shares_change: str


class StakeEpochRow(SQLModel, table=True):
    """One epoch of the emission, summed from its events."""

    __tablename__ = "stake_epochs"

    epoch: int = Field(primary_key=True, sa_type=BigInteger)
    registered: int
    total_weight: str
    closed: bool
    emission: int = Field(sa_type=BigInteger)
    closed_at_ms: int | None = Field(default=None, sa_type=BigInteger)
    served: int
    distributed: int = Field(sa_type=BigInteger)
    commission: int = Field(sa_type=BigInteger)
    ended: bool
    freed: int = Field(sa_type=BigInteger)
