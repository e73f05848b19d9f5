"""What is shown of stake. Amounts in base units: payment of the payment token, everything else of the stake token."""

from dataclasses import dataclass
from fractions import Fraction

from marketplace.domain.ids import NodeId
from marketplace.domain.quantities import Bps, Millis, Shares, Stake, Tokens
from marketplace.services.stake_yields import Replay
from marketplace.store.stake import StakeEpoch, StakeEvent


@dataclass(frozen=True, slots=True)
class PendingCommission:
    """An announced commission, and from when on it is taken."""

    bps: Bps
    effective_at: Millis


@dataclass(frozen=True, slots=True)
class Uptime:
    """A node's attempts of one epoch, in payment units. factor: what its weight is multiplied by."""

    epoch: int
    well: int
    lost: int

    @property
    def factor(self) -> Fraction:
        return Fraction(self.well, self.well + self.lost)


@dataclass(frozen=True, slots=True)
class TicketView:
    """An unbonding. id: address of the Ticket account. value_now: at today's price of the bucket."""

    id: str
    index: int
    shares: int
    value_now: Stake
    unlock_at: Millis
    ready: bool


@dataclass(frozen=True, slots=True)
class Position:
    """A wallet's part of one pool. value_now: what it would pay, unbonded and withdrawn at today's prices."""

    node_id: NodeId | None
    node: str
    pool: str
    bond: bool
    stake: Stake
    shares: Shares
    value_now: Stake
    pending_payment: Tokens
    pending_stake: Stake
    pool_shares: Shares
    commission_bps: Bps
    pending_commission: PendingCommission | None
    uptime_factor: Uptime | None
    status: str
    tickets: tuple[TicketView, ...]

    @property
    def share_of_pool(self) -> Fraction:
        """0..1."""
        return Fraction(self.shares, self.pool_shares) if self.pool_shares else Fraction(0)


@dataclass(frozen=True, slots=True)
class Positions:
    """All of a wallet's."""

    wallet: str
    entries: tuple[Position, ...]


@dataclass(frozen=True, slots=True)
class PoolSummary:
    """A pool to choose. payment, emission: earned by its stakers in the last `epochs` whole epochs, commission off."""

    node_id: NodeId
    node: str
    pool: str
    name: str | None
    class_id: str
    region: str
    operator: str
    status: str
    stake: Stake
    bond: Stake
    commission_bps: Bps
    reputation: Fraction
    uptime: Fraction
    exposure: Tokens
    exposure_limit: Tokens
    epochs: int
    payment: Tokens
    emission: Stake

    @property
    def free_exposure(self) -> Tokens:
        """What the node may still be entrusted with."""
        return Tokens(max(0, self.exposure_limit - self.exposure))

    def per_stake(self, earned: int, unit: int) -> int:
        """What so much stake would have earned of it at today's stake, rounded down."""
        return earned * unit // self.stake if self.stake else 0


@dataclass(frozen=True, slots=True)
class NodeEpoch:
    """What a node did in one epoch, as its account holds it (the last three)."""

    epoch: int
    well: Tokens
    lost: Tokens
    protocol_fees: Tokens
    compensated: Stake
    slashed: Stake
    weight: Stake
    registered: bool
    distributed: bool


@dataclass(frozen=True, slots=True)
class PoolEpochRewards:
    """What was booked to a pool in one epoch: to its stakers, and to the operator as commission."""

    epoch: int
    payment: Tokens
    stake: Stake
    payment_commission: Tokens
    stake_commission: Stake


@dataclass(frozen=True, slots=True)
class PoolDetails:
    """A pool as the chain holds it. history_complete: the books know it from its first event on."""

    node_id: NodeId | None
    node: str
    pool: str
    operator: str
    market: str
    status: str
    dead: bool
    stake: Stake
    shares: Shares
    bond: Stake
    bond_needed: Stake
    commission_bps: Bps
    pending_commission: PendingCommission | None
    unbonding_stake: Stake
    unbonding_shares: Shares
    positions: int
    unclaimed_payment: Tokens
    unclaimed_stake: Stake
    exposure: Tokens
    exposure_limit: Tokens
    uptime_factor: Uptime | None
    epochs: tuple[NodeEpoch, ...]
    rewards: tuple[PoolEpochRewards, ...]
    history_complete: bool


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One of the wallet's events. node: address of the Node account, where its registration is known."""

    event: StakeEvent
    node: str | None


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """Some of them; total: how many there are."""

    entries: tuple[HistoryEntry, ...]
    total: int


@dataclass(frozen=True, slots=True)
class EmissionNow:
    """Where the schedule stands. committed: of the vault, what closed epochs may still draw."""

    epoch: int
    begins_at: Millis
    ends_at: Millis
    next_to_close: int
    scheduled: Stake
    vault: Stake
    committed: Stake
    distributed: Stake


@dataclass(frozen=True, slots=True)
class EpochsPage:
    """Some epochs that anything was said of; total: how many there are."""

    now: EmissionNow
    epochs: tuple[StakeEpoch, ...]
    total: int


@dataclass(frozen=True, slots=True)
class Weight:
    """A pool's weight in an epoch. drawn: what it drew, commission included; None: nothing yet."""

    pool: str
    node: str | None
    weight: Stake
    drawn: Stake | None


@dataclass(frozen=True, slots=True)
class EpochDetails:
    """One epoch with everybody who took part, the heaviest first."""

    epoch: StakeEpoch
    weights: tuple[Weight, ...]


@dataclass(frozen=True, slots=True)
class Simulated:
    """What a stake would have earned from the beginning of `first` to the end of `last`."""

    node_id: NodeId | None
    node: str
    pool: str
    amount: Stake
    first: int
    last: int
    lived: Replay
