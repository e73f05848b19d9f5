"""Answers of `/v1/stake` as frozen models. Amounts are decimal text; shares are whole numbers of up to 128 bits."""

from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer

from marketplace.client.models import Amount, Answer, PreparedTransaction


def _shares(value: object) -> object:
    """Shares travel as digits: no JSON reader loses one of 39 of them."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 39:
        return int(value)
    raise ValueError("shares are decimal digits")


ShareCount = Annotated[int, BeforeValidator(_shares), PlainSerializer(str, return_type=str)]
"""Counted with as a number, passed on as digits again."""


class Rewards(Answer):
    """What stake earned: payment tokens and stake tokens."""

    payment: Amount
    stake: Amount


class PendingCommission(Answer):
    """An announced commission."""

    bps: int
    effective_at: str


class Ticket(Answer):
    """Stake on its way out of a pool. id: address of the ticket's account."""

    id: str
    index: int
    shares: ShareCount
    value_now: Amount
    unlock_at: str
    ready: bool


class Position(Answer):
    """A wallet's part of one pool. node: address of the Node account; node_id: None where it is another market's."""

    node_id: str | None = None
    node: str
    pool: str
    stake: Amount
    shares: ShareCount
    value_now: Amount
    pending: Rewards
    share_of_pool: Decimal
    commission_bps: int
    pending_commission: PendingCommission | None = None
    uptime_factor: Decimal | None = None
    tickets: tuple[Ticket, ...] = ()
    status: str
    bond: bool = False

    @property
    def name(self) -> str:
        """How the node is named to people: its id, else its account."""
        return self.node_id or self.node


class StakeTotals(Answer):
    """Over all positions."""

    stake: Amount
    value_now: Amount
    unbonding: Amount
    withdrawable: Amount
    pending: Rewards


class Positions(Answer):
    """All of a wallet's stake."""

    positions: tuple[Position, ...]
    totals: StakeTotals
    wallet: str
    currency: str


class PastYield(Answer):
    """What a pool's stakers earned in the last whole epochs, commission taken off."""

    epochs: int
    payment: Amount
    stake: Amount
    payment_per_1000: Amount
    stake_per_1000: Amount


class Pool(Answer):
    """A node to stake on. free_exposure: what it may still be entrusted with, in payment tokens."""

    node_id: str
    pool: str
    node: str
    name: str | None = None
    region: str | None = None
    status: str
    stake: Amount
    bond: Amount
    commission_bps: int
    reputation: Decimal
    uptime: Decimal
    free_exposure: Amount
    past_yield: PastYield
    currency: str


class Pools(Answer):
    """One page of pools."""

    pools: tuple[Pool, ...]
    total: int
    has_more: bool


class StakeEvent(Answer):
    """One act or reward of the wallet's stake."""

    id: str
    at: str
    type: str
    node_id: str | None = None
    pool: str | None = None
    stake: Amount
    payment: Amount
    shares: ShareCount | None = None
    ticket_id: str | None = None
    unlock_at: str | None = None
    transaction: str


class StakeHistory(Answer):
    """One page of them, newest first."""

    history: tuple[StakeEvent, ...]
    total: int
    has_more: bool
    currency: str


class SimulatedEpoch(Answer):
    """One epoch of a simulation. value: of the shares at its end."""

    epoch: int
    payment: Amount
    stake: Amount
    value: Amount


class SimulatedStake(Answer):
    """What a stake would have earned, had it been put in when `from_epoch` began."""

    node_id: str | None = None
    pool: str
    amount: Amount
    from_epoch: int
    to_epoch: int
    earned: Rewards
    value: Amount
    epochs: tuple[SimulatedEpoch, ...]
    currency: str


class Change(Answer):
    """A number before and after, as the market expects it."""

    before: str
    after: str


class StakeEffects(Answer):
    """What an act changes, in the market's words; what it doesn't touch is None."""

    wallet_payment: Change | None = None
    wallet_stake: Change | None = None
    shares: Change | None = None
    staked: Change | None = None
    pending_payment: Change | None = None
    pending_stake: Change | None = None
    unbonding: Change | None = None
    pool_stake: Change | None = None
    unlock_at: str | None = None


class ActedOn(Answer):
    """One thing that a prepared transaction acts on."""

    node_id: str | None = None
    node: str
    pool: str
    ticket_id: str | None = None
    index: int | None = None
    shares: ShareCount | None = None


class PreparedStake(PreparedTransaction):
    """A transaction about stake. remaining: what did not fit into it."""

    effects: StakeEffects
    items: tuple[ActedOn, ...]
    remaining: tuple[ActedOn, ...] = ()
    currency: str
