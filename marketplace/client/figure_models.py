"""Answers about what a market publishes: classes, prices, placements, nodes' earnings and records, epochs."""

from decimal import Decimal

from pydantic import Field

from marketplace.client.models import Amount, Answer
from marketplace.client.stake_models import PendingCommission, Rewards


class GpuType(Answer):
    """A hardware class, and what of it is to be had now. price_*: the lowest floor, None while nobody offers it."""

    id: str
    title: str
    aliases: tuple[str, ...]
    gpu: bool
    vram_gb: int
    vcpu: int
    ram_gb: int
    nodes: int
    free: int
    regions: tuple[str, ...]
    price_per_gpu_second: Amount | None = None
    price_per_hour: Amount | None = None
    currency: str


class GpuTypeList(Answer):
    """Every class."""

    gpu_types: tuple[GpuType, ...]
    total: int
    has_more: bool


class PriceDay(Answer):
    """One class in one region on one UTC day. Amounts per hour; None where nothing was offered or agreed."""

    date: str
    gpu: str
    region: str
    floor: Amount | None = None
    clearing_low: Amount | None = None
    clearing_mean: Amount | None = None
    clearing_high: Amount | None = None
    attempts: int
    wait_mean_ms: int | None = None
    wait_longest_ms: int | None = None


class PriceList(Answer):
    """One page of prices, newest day first."""

    prices: tuple[PriceDay, ...]
    total: int
    has_more: bool
    currency: str


class Candidate(Answer):
    """A node that was in the draw."""

    node_id: str
    floor_per_hour: Amount
    reputation: Amount
    image_present: bool
    weight: int
    chosen: bool


class Excluded(Answer):
    """A node that was not in the draw, and why."""

    node_id: str
    because: str


class Exclusion(Answer):
    """How many nodes one constraint kept out."""

    because: str
    nodes: int


class Placement(Answer):
    """Why an attempt went to its node. draw: the number drawn, from which the choice can be made again."""

    attempt: int
    at: str
    node_id: str
    draw: str
    candidates: tuple[Candidate, ...]
    excluded: tuple[Excluded, ...]
    exclusions: tuple[Exclusion, ...]


class Placements(Answer):
    """Of every attempt of a job."""

    job_id: str
    currency: str
    placements: tuple[Placement, ...]


class EarningsRecord(Answer):
    """What one group of jobs brought."""

    group: str | None = None
    gross: Amount
    fees: Amount
    net: Amount
    to_stakers: Amount
    gpu_seconds: Amount
    jobs: int


class Earnings(Answer):
    """What a node earned in a span. compensation_paid, slashed: in stake tokens."""

    node_id: str
    since: str = Field(alias="from")
    to: str
    currency: str
    gross: Amount
    fees: Amount
    net: Amount
    to_stakers: Amount
    compensation_paid: Amount
    slashed: Amount
    stake_currency: str
    gpu_seconds: Amount
    jobs: int
    records: tuple[EarningsRecord, ...]
    total: int
    has_more: bool


class NodePool(Answer):
    """The stake behind one node. Amounts in stake tokens, exposure in payment tokens."""

    node_id: str | None = None
    node: str
    pool: str
    operator: str
    market: str
    status: str
    dead: bool
    stake: Amount
    shares: str
    bond: Amount
    bond_needed: Amount
    commission_bps: int
    pending_commission: PendingCommission | None = None
    positions: int
    unclaimed: Rewards
    exposure: Amount
    exposure_limit: Amount
    free_exposure: Amount
    uptime_factor: Decimal | None = None
    history_complete: bool
    currency: str


class RecordTerms(Answer):
    """Attempts that ended one way, and what they were worth."""

    attempts: int
    amount: Amount


class RecordEvent(Answer):
    """An event on chain that a node's reputation is computed from."""

    transaction: str
    slot: int
    type: str
    escrow: str | None = None
    attempt: int | None = None
    reason_number: int | None = None
    amount: Amount | None = None
    counts: str | None = None


class Reputation(Answer):
    """A node's record, with the formula and the events that anyone can compute it from."""

    node_id: str | None = None
    node: str
    reputation: Decimal
    formula: str
    loss_weight: int
    well: RecordTerms
    lost: RecordTerms
    quit: RecordTerms
    currency: str
    events: tuple[RecordEvent, ...]
    has_more: bool


class Emission(Answer):
    """The running epoch, and what is left for those to come."""

    epoch: int
    begins_at: str
    ends_at: str
    next_to_close: int
    scheduled: Amount
    vault: Amount
    committed: Amount
    distributed: Amount


class Epoch(Answer):
    """One epoch of rewards. Amounts in stake tokens."""

    epoch: int
    begins_at: str
    ends_at: str
    state: str
    registered: int
    total_weight: str
    emission: Amount
    served: Amount
    distributed: Amount
    commission: Amount
    returned: Amount
    closed_at: str | None = None


class EpochList(Answer):
    """One page of epochs, newest first."""

    epochs: tuple[Epoch, ...]
    total: int
    has_more: bool
    current: Emission


class EpochWeight(Answer):
    """A node's part in an epoch. drawn: None until it was distributed."""

    node_id: str | None = None
    pool: str
    weight: Amount
    drawn: Amount | None = None


class EpochDetails(Epoch):
    """One epoch, node by node."""

    weights: tuple[EpochWeight, ...]
