"""Answers and requests of `/v1/stake`. Source: api.md section 5.6.

Amounts are decimal text: `payment` in the payment token (`currency`), everything else in the stake token. Shares are
128-bit numbers as decimal digits. Ratios are rounded down to six places.
"""

from fractions import Fraction
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from marketplace.api.fields import (
    Address,
    AmountText,
    DecimalText,
    ExactNumber,
    JsonNumber,
    MillisInstant,
    Page,
    QueryModel,
    RequestModel,
    ResponseModel,
)
from marketplace.domain.money import format_amount
from marketplace.domain.quantities import Millis
from marketplace.services.stake import MAX_EPOCHS, Units
from marketplace.services.stake_effects import ActedOn, Change, PreparedStake
from marketplace.services.stake_views import (
    EmissionNow,
    HistoryEntry,
    PendingCommission,
    PoolDetails,
    PoolSummary,
    Position,
    Positions,
    Simulated,
    Uptime,
    Weight,
)
from marketplace.store.stake import StakeEpoch, StakeKind

_PLACES = 6
_PER = 1_000
"""Rewards of the past are shown for so many stake tokens."""

NodeRef = Annotated[str, StringConstraints(min_length=1, max_length=64)]
"""A node: its id here, or the address of its account where it is registered elsewhere."""
EpochPath = Annotated[int, Field(ge=0, le=2**53)]


class PositionsQuery(QueryModel):
    """wallet: whose; the caller's own where absent. What the chain shows of a wallet everybody may read."""

    wallet: Address | None = None


class PoolsQuery(Page):
    """epochs: over how many whole epochs past yield is computed."""

    sort: Literal["yield", "stake", "commission", "uptime", "free_exposure"] = "yield"
    epochs: int = Field(default=30, ge=1, le=MAX_EPOCHS)


class DelegateRequest(RequestModel):
    """mint: the token that the caller believes to stake; refused unless it is the stake token's."""

    node_id: NodeRef
    amount: AmountText
    mint: Address | None = None


class ClaimRequest(RequestModel):
    """Exactly one of the two."""

    node_id: NodeRef | None = None
    all: bool = False


class UnbondRequest(RequestModel):
    """amount, shares or all: exactly one of the three. shares: decimal digits."""

    node_id: NodeRef
    amount: AmountText | None = None
    shares: Annotated[str, StringConstraints(max_length=40)] | None = None
    all: bool = False


class WithdrawRequest(RequestModel):
    """Exactly one of the two. ticket_id: address of the ticket's account, as positions show it."""

    ticket_id: NodeRef | None = None
    all: bool = False


class DistributeRequest(RequestModel):
    """Which pool's part of which epoch is drawn; anybody may."""

    node_id: NodeRef
    epoch: int = Field(ge=0, le=2**53)


class SimulateRequest(RequestModel):
    node_id: NodeRef
    amount: AmountText
    epochs: int = Field(default=30, ge=1, le=MAX_EPOCHS)


class CommissionRequest(RequestModel):
    commission_bps: int = Field(ge=0, le=65_535)


class Rewards(ResponseModel):
    payment: DecimalText
    stake: DecimalText


class PendingCommissionView(ResponseModel):
    bps: int
    effective_at: MillisInstant


class TicketResponse(ResponseModel):
    """id: address of the ticket's account. index: its number among the position's. ready: may be withdrawn now."""

    id: str
    index: int
    shares: str
    value_now: DecimalText
    unlock_at: MillisInstant
    ready: bool


class PositionResponse(ResponseModel):
    """stake: what the shares are worth in the pool. value_now: what they would pay, unbonded and withdrawn at today's
    prices. pending: what a claim would pay. uptime_factor: of the node's last epoch with attempts; null without any.
    node_id: null where the node is registered elsewhere. bond: it is the wallet's own node.
    """

    node_id: str | None
    pool: str
    stake: DecimalText
    shares: str
    value_now: DecimalText
    pending: Rewards
    share_of_pool: ExactNumber
    commission_bps: int
    pending_commission: PendingCommissionView | None
    uptime_factor: ExactNumber | None
    tickets: list[TicketResponse]
    node: str
    status: str
    bond: bool


class TotalsResponse(ResponseModel):
    stake: DecimalText
    value_now: DecimalText
    unbonding: DecimalText
    withdrawable: DecimalText
    pending: Rewards


class PositionsResponse(ResponseModel):
    positions: list[PositionResponse]
    totals: TotalsResponse
    wallet: str
    currency: str


class PastYield(ResponseModel):
    """What stakers earned in the last whole epochs, commission taken off: all of them, and each 1,000 stake tokens of
    today's stake.
    """

    epochs: int
    payment: DecimalText
    stake: DecimalText
    payment_per_1000: DecimalText
    stake_per_1000: DecimalText


class PoolResponse(ResponseModel):
    """A pool to choose. free_exposure: what the node may still be entrusted with, in payment tokens."""

    node_id: str
    pool: str
    node: str
    name: str | None
    class_: str = Field(serialization_alias="class")
    region: str
    operator: str
    status: str
    stake: DecimalText
    bond: DecimalText
    commission_bps: int
    reputation: ExactNumber
    uptime: ExactNumber
    exposure: DecimalText
    exposure_limit: DecimalText
    free_exposure: DecimalText
    past_yield: PastYield
    currency: str


class PoolsResponse(ResponseModel):
    pools: list[PoolResponse]
    total: int
    has_more: bool


class UnbondingView(ResponseModel):
    stake: DecimalText
    shares: str


class NodeEpochView(ResponseModel):
    """What the node did in an epoch: amounts of attempts in payment tokens, weight and slashes in stake tokens."""

    epoch: int
    well: DecimalText
    lost: DecimalText
    uptime_factor: ExactNumber | None
    protocol_fees: DecimalText
    weight: DecimalText
    registered: bool
    distributed: bool
    compensated: DecimalText
    slashed: DecimalText


class EpochRewardsView(ResponseModel):
    """Booked in an epoch: to all who had staked, and to the operator as commission."""

    epoch: int
    stakers: Rewards
    commission: Rewards


class NodePoolResponse(ResponseModel):
    """A node's pool as the chain holds it, with its recent epochs.

    epochs: the last three, of the node's account. rewards: of the last thirty, from this market's records;
    history_complete: those begin with the pool's first event. dead: takes no more stake.
    """

    node_id: str | None
    node: str
    pool: str
    operator: str
    market: str
    status: str
    dead: bool
    stake: DecimalText
    shares: str
    bond: DecimalText
    bond_needed: DecimalText
    commission_bps: int
    pending_commission: PendingCommissionView | None
    unbonding: UnbondingView
    positions: int
    unclaimed: Rewards
    exposure: DecimalText
    exposure_limit: DecimalText
    free_exposure: DecimalText
    uptime_factor: ExactNumber | None
    epochs: list[NodeEpochView]
    rewards: list[EpochRewardsView]
    history_complete: bool
    currency: str


class HistoryEntryResponse(ResponseModel):
    """type: registered, bonded, delegated, unbonded, withdrawn, claimed or closed; slashed and slashed_unbonding: what
    all active, or all unbonding, stake of the pool lost. unlock_at: of an unbonding.
    """

    id: str
    at: MillisInstant
    type: str
    node_id: str | None
    pool: str | None
    stake: DecimalText
    payment: DecimalText
    shares: str | None
    ticket_id: str | None
    unlock_at: MillisInstant | None
    transaction: str
    slot: int


class HistoryResponse(ResponseModel):
    history: list[HistoryEntryResponse]
    total: int
    has_more: bool
    currency: str


class EpochResponse(ResponseModel):
    """state: registering, closed (its emission is fixed and being drawn) or ended. closed_at: null before."""

    epoch: int
    begins_at: MillisInstant
    ends_at: MillisInstant
    state: str
    registered: int
    total_weight: str
    emission: DecimalText
    served: int
    distributed: DecimalText
    commission: DecimalText
    returned: DecimalText
    closed_at: MillisInstant | None


class EmissionResponse(ResponseModel):
    """The epoch that runs, and where the schedule stands. committed: what closed epochs may still draw of the vault."""

    epoch: int
    begins_at: MillisInstant
    ends_at: MillisInstant
    next_to_close: int
    scheduled: DecimalText
    vault: DecimalText
    committed: DecimalText
    distributed: DecimalText


class EpochsResponse(ResponseModel):
    epochs: list[EpochResponse]
    total: int
    has_more: bool
    current: EmissionResponse


class WeightResponse(ResponseModel):
    """drawn: commission included; null: nothing yet."""

    node_id: str | None
    pool: str
    weight: DecimalText
    drawn: DecimalText | None


class EpochDetailsResponse(EpochResponse):
    weights: list[WeightResponse]


class ChangeView(ResponseModel):
    before: str
    after: str


class EffectsView(ResponseModel):
    """Before and after; what isn't touched is null. staked: what the position's shares are worth in the pool.
    unbonding: what the tickets concerned are worth. pool_…: of the whole pool.
    """

    wallet_payment: ChangeView | None
    wallet_stake: ChangeView | None
    shares: ChangeView | None
    staked: ChangeView | None
    pending_payment: ChangeView | None
    pending_stake: ChangeView | None
    unbonding: ChangeView | None
    pool_stake: ChangeView | None
    pool_unbonding: ChangeView | None
    commission_bps: ChangeView | None
    unlock_at: MillisInstant | None
    effective_at: MillisInstant | None


class SimulationView(ResponseModel):
    """ok is always true here: a transaction that would fail is answered with its error instead."""

    ok: bool
    units: int
    error: str | None


class ActedOnView(ResponseModel):
    """What the transaction acts on, as the chain names it. ticket_id, index: of the ticket made or withdrawn."""

    node_id: str | None
    node: str
    pool: str
    ticket_id: str | None
    index: int | None
    shares: str | None


class PreparedStakeResponse(ResponseModel):
    """transaction: base64, unsigned and simulated; the bytes are the truth. remaining: what didn't fit into this one:
    ask again when it has landed.
    """

    transaction: str
    expires_at: MillisInstant
    summary: str
    effects: EffectsView
    simulation: SimulationView
    items: list[ActedOnView]
    remaining: list[ActedOnView]
    currency: str


class SimulatedEpoch(ResponseModel):
    epoch: int
    payment: DecimalText
    stake: DecimalText
    value: DecimalText


class SimulatedResponse(ResponseModel):
    """What the stake would have earned, had it been put in when `from_epoch` began: rewards to the unit, and what its
    shares would be worth. epochs: one line for each.
    """

    node_id: str | None
    pool: str
    amount: DecimalText
    from_epoch: int
    to_epoch: int
    shares: str
    earned: Rewards
    value: DecimalText
    epochs: list[SimulatedEpoch]
    currency: str


class StakeShapes:
    """Renders what the services answer."""

    def __init__(self, units: Units) -> None:
        self.units = units

    def positions(self, found: Positions) -> PositionsResponse:
        entries = found.entries
        tickets = [ticket for entry in entries for ticket in entry.tickets]
        return PositionsResponse(
            positions=[self._position(entry) for entry in entries],
            totals=TotalsResponse(
                stake=self._stake(sum(entry.stake for entry in entries)),
                value_now=self._stake(sum(entry.value_now for entry in entries)),
                unbonding=self._stake(sum(ticket.value_now for ticket in tickets)),
                withdrawable=self._stake(sum(ticket.value_now for ticket in tickets if ticket.ready)),
                pending=self._rewards(
                    sum(entry.pending_payment for entry in entries), sum(entry.pending_stake for entry in entries)
                ),
            ),
            wallet=found.wallet,
            currency=self.units.currency,
        )

    def pool(self, pool: PoolSummary) -> PoolResponse:
        thousand = _PER * 10**self.units.stake
        return PoolResponse(
            node_id=pool.node_id,
            pool=pool.pool,
            node=pool.node,
            name=pool.name,
            class_=pool.class_id,
            region=pool.region,
            operator=pool.operator,
            status=pool.status,
            stake=self._stake(pool.stake),
            bond=self._stake(pool.bond),
            commission_bps=pool.commission_bps,
            reputation=_ratio(pool.reputation),
            uptime=_ratio(pool.uptime),
            exposure=self._payment(pool.exposure),
            exposure_limit=self._payment(pool.exposure_limit),
            free_exposure=self._payment(pool.free_exposure),
            past_yield=PastYield(
                epochs=pool.epochs,
                payment=self._payment(pool.payment),
                stake=self._stake(pool.emission),
                payment_per_1000=self._payment(pool.per_stake(pool.payment, thousand)),
                stake_per_1000=self._stake(pool.per_stake(pool.emission, thousand)),
            ),
            currency=self.units.currency,
        )

    def node_pool(self, pool: PoolDetails) -> NodePoolResponse:
        return NodePoolResponse(
            node_id=pool.node_id,
            node=pool.node,
            pool=pool.pool,
            operator=pool.operator,
            market=pool.market,
            status=pool.status,
            dead=pool.dead,
            stake=self._stake(pool.stake),
            shares=str(pool.shares),
            bond=self._stake(pool.bond),
            bond_needed=self._stake(pool.bond_needed),
            commission_bps=pool.commission_bps,
            pending_commission=_pending(pool.pending_commission),
            unbonding=UnbondingView(stake=self._stake(pool.unbonding_stake), shares=str(pool.unbonding_shares)),
            positions=pool.positions,
            unclaimed=self._rewards(pool.unclaimed_payment, pool.unclaimed_stake),
            exposure=self._payment(pool.exposure),
            exposure_limit=self._payment(pool.exposure_limit),
            free_exposure=self._payment(max(0, pool.exposure_limit - pool.exposure)),
            uptime_factor=_uptime(pool.uptime_factor),
            epochs=[
                NodeEpochView(
                    epoch=entry.epoch,
                    well=self._payment(entry.well),
                    lost=self._payment(entry.lost),
                    uptime_factor=_uptime(Uptime(entry.epoch, entry.well, entry.lost)),
                    protocol_fees=self._payment(entry.protocol_fees),
                    weight=self._stake(entry.weight),
                    registered=entry.registered,
                    distributed=entry.distributed,
                    compensated=self._stake(entry.compensated),
                    slashed=self._stake(entry.slashed),
                )
                for entry in pool.epochs
            ],
            rewards=[
                EpochRewardsView(
                    epoch=entry.epoch,
                    stakers=self._rewards(entry.payment, entry.stake),
                    commission=self._rewards(entry.payment_commission, entry.stake_commission),
                )
                for entry in pool.rewards
            ],
            history_complete=pool.history_complete,
            currency=self.units.currency,
        )

    def history_entry(self, entry: HistoryEntry, node_id: str | None) -> HistoryEntryResponse:
        event = entry.event
        unbonding = event.kind is StakeKind.UNBONDED
        return HistoryEntryResponse(
            id=f"{event.signature}-{event.position}",
            at=Millis(event.at_ms),
            type=event.kind.value,
            node_id=node_id,
            pool=event.pool,
            stake=self._stake(event.stake),
            payment=self._payment(event.payment),
            shares=None if event.shares == "0" else event.shares,
            ticket_id=event.ticket,
            unlock_at=Millis(event.due_ms) if unbonding and event.due_ms is not None else None,
            transaction=event.signature,
            slot=event.slot,
        )

    def epoch(self, epoch: StakeEpoch, begins_at: Millis, ends_at: Millis) -> EpochResponse:
        return EpochResponse(
            epoch=epoch.epoch,
            begins_at=begins_at,
            ends_at=ends_at,
            state="ended" if epoch.ended else "closed" if epoch.closed else "registering",
            registered=epoch.registered,
            total_weight=self._stake(int(epoch.total_weight)),
            emission=self._stake(epoch.emission),
            served=epoch.served,
            distributed=self._stake(epoch.distributed),
            commission=self._stake(epoch.commission),
            returned=self._stake(epoch.freed),
            closed_at=None if epoch.closed_at_ms is None else Millis(epoch.closed_at_ms),
        )

    def emission(self, now: EmissionNow) -> EmissionResponse:
        return EmissionResponse(
            epoch=now.epoch,
            begins_at=now.begins_at,
            ends_at=now.ends_at,
            next_to_close=now.next_to_close,
            scheduled=self._stake(now.scheduled),
            vault=self._stake(now.vault),
            committed=self._stake(now.committed),
            distributed=self._stake(now.distributed),
        )

    def weight(self, weight: Weight, node_id: str | None) -> WeightResponse:
        return WeightResponse(
            node_id=node_id,
            pool=weight.pool,
            weight=self._stake(weight.weight),
            drawn=None if weight.drawn is None else self._stake(weight.drawn),
        )

    def prepared(self, found: PreparedStake) -> PreparedStakeResponse:
        effects = found.effects
        return PreparedStakeResponse(
            transaction=found.prepared.transaction,
            expires_at=found.prepared.expires_at,
            summary=found.prepared.summary,
            effects=EffectsView(
                wallet_payment=self._change(effects.wallet_payment, self.units.payment),
                wallet_stake=self._change(effects.wallet_stake, self.units.stake),
                shares=self._change(effects.shares, 0),
                staked=self._change(effects.staked, self.units.stake),
                pending_payment=self._change(effects.pending_payment, self.units.payment),
                pending_stake=self._change(effects.pending_stake, self.units.stake),
                unbonding=self._change(effects.unbonding, self.units.stake),
                pool_stake=self._change(effects.pool_stake, self.units.stake),
                pool_unbonding=self._change(effects.pool_unbonding, self.units.stake),
                commission_bps=self._change(effects.commission_bps, 0),
                unlock_at=None if effects.unlock_at is None else Millis(effects.unlock_at),
                effective_at=None if effects.effective_at is None else Millis(effects.effective_at),
            ),
            simulation=SimulationView(ok=True, units=found.prepared.units, error=None),
            items=[_acted_on(item) for item in found.items],
            remaining=[_acted_on(item) for item in found.remaining],
            currency=self.units.currency,
        )

    def simulated(self, found: Simulated) -> SimulatedResponse:
        lived = found.lived
        return SimulatedResponse(
            node_id=found.node_id,
            pool=found.pool,
            amount=self._stake(found.amount),
            from_epoch=found.first,
            to_epoch=found.last,
            shares=str(lived.shares),
            earned=self._rewards(lived.payment, lived.stake),
            value=self._stake(lived.value),
            epochs=[
                SimulatedEpoch(
                    epoch=entry.epoch,
                    payment=self._payment(entry.payment),
                    stake=self._stake(entry.stake),
                    value=self._stake(entry.value),
                )
                for entry in lived.epochs
            ],
            currency=self.units.currency,
        )

    def _position(self, entry: Position) -> PositionResponse:
        return PositionResponse(
            node_id=entry.node_id,
            pool=entry.pool,
            stake=self._stake(entry.stake),
            shares=str(entry.shares),
            value_now=self._stake(entry.value_now),
            pending=self._rewards(entry.pending_payment, entry.pending_stake),
            share_of_pool=_ratio(entry.share_of_pool),
            commission_bps=entry.commission_bps,
            pending_commission=_pending(entry.pending_commission),
            uptime_factor=_uptime(entry.uptime_factor),
            tickets=[
                TicketResponse(
                    id=ticket.id,
                    index=ticket.index,
                    shares=str(ticket.shares),
                    value_now=self._stake(ticket.value_now),
                    unlock_at=ticket.unlock_at,
                    ready=ticket.ready,
                )
                for ticket in entry.tickets
            ],
            node=entry.node,
            status=entry.status,
            bond=entry.bond,
        )

    def _rewards(self, payment: int, stake: int) -> Rewards:
        return Rewards(payment=self._payment(payment), stake=self._stake(stake))

    def _stake(self, units: int) -> str:
        return format_amount(units, self.units.stake)

    def _payment(self, units: int) -> str:
        return format_amount(units, self.units.payment)

    def _change(self, change: Change | None, decimals: int) -> ChangeView | None:
        if change is None:
            return None
        return ChangeView(before=format_amount(change.before, decimals), after=format_amount(change.after, decimals))


def _acted_on(item: ActedOn) -> ActedOnView:
    return ActedOnView(
        node_id=item.node_id,
        node=item.node,
        pool=item.pool,
        ticket_id=item.ticket,
        index=item.index,
        shares=item.shares,
    )


def _pending(pending: PendingCommission | None) -> PendingCommissionView | None:
    return None if pending is None else PendingCommissionView(bps=pending.bps, effective_at=pending.effective_at)


def _uptime(uptime: Uptime | None) -> JsonNumber | None:
    return None if uptime is None or not uptime.well + uptime.lost else _ratio(uptime.factor)


def _ratio(value: Fraction) -> JsonNumber:
    return JsonNumber(int(value * 10**_PLACES), _PLACES)
