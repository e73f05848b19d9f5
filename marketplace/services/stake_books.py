"""Stake in the books: which of the chain's events concern it, and what each of them says.

Written by `chain_events` in the event's own unit of work. Amounts are the events'; only the operator's part of a fee
reward is computed here, by the commission in force at that moment, as the program computes it.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from solders.pubkey import Pubkey

from marketplace.chain.addresses import Addresses
from marketplace.chain.answers import LandedTransaction
from marketplace.chain.errors import UnsupportedTransaction
from marketplace.chain.events import (
    BondedEvent,
    CommissionSetEvent,
    DelegatedEvent,
    DistributedEvent,
    EpochClosedEvent,
    EpochEndedEvent,
    NodeClosedEvent,
    NodeRegisteredEvent,
    ProgramEvent,
    RewardsClaimedEvent,
    SettledEvent,
    SlashedEvent,
    TicketWithdrawnEvent,
    UnbondedEvent,
    WeightRegisteredEvent,
)
from marketplace.chain.instructions import RegisterNode
from marketplace.chain.program import AnchorCodec
from marketplace.chain.watcher import ObservedEvent
from marketplace.domain.quantities import Bps, Millis
from marketplace.domain.staking import EpochClock, commission_floor
from marketplace.store.engine import Transaction
from marketplace.store.stake import StakeEvent, StakeKind, StakePool, StakeRows

Commissions = Mapping[str, int]
"""What pools were registered with, by address: an event doesn't say it, the instruction does."""

_BUCKETS: Final = (StakeKind.SLASHED_BOND, StakeKind.SLASHED, StakeKind.SLASHED_UNBONDING)


class StakeBooks:
    """Turns events into rows."""

    def __init__(self, codec: AnchorCodec, epochs: Callable[[], EpochClock]) -> None:
        self._codec = codec
        self._addresses = Addresses(codec.program)
        self._epochs = epochs

    def commissions(self, landed: LandedTransaction) -> Commissions:
        """The commissions in a transaction that registered nodes, read from its instructions."""
        found: dict[str, int] = {}
        for instruction in landed.instructions:
            if instruction.program != self._codec.program:
                continue
            try:
                call = self._codec.read_instruction(instruction.accounts, instruction.data)
            except UnsupportedTransaction:
                continue
            if isinstance(call, RegisterNode):
                found[str(call.accounts.pool)] = call.args.commission_bps
        return found

    def record(self, tx: Transaction, observed: ObservedEvent, seen_at_ms: int, commissions: Commissions) -> None:
        """Write what an event says of stake; nothing where it says nothing. Raises UniqueViolation when known."""
        # A program's clock and a block's time are the same number; a node that tells no time leaves ours.
        at_ms = seen_at_ms if observed.block_time is None else observed.block_time * 1000
        blank = StakeEvent(
            signature=str(observed.signature),
            position=observed.index,
            slot=observed.slot,
            at_ms=at_ms,
            at_epoch=self._epoch_of(at_ms),
            kind=StakeKind.FEES,
        )
        event = self._said(observed.event, blank)
        if event is None:
            return
        rows = StakeRows(tx)
        if event.kind is StakeKind.FEES and event.pool is not None:
            commission = Bps(rows.commission_at(event.pool, at_ms) or 0)
            event = replace(event, commission=commission_floor(event.payment, commission))
        pool = None
        if isinstance(observed.event, NodeRegisteredEvent):
            pool = _pool(observed.event, event, commissions)
        rows.record(event, pool)

    def concerns(self, event: ProgramEvent) -> bool:
        """Whether an event says anything of stake."""
        return isinstance(event, _OURS) and not (isinstance(event, SettledEvent) and not event.stakers)

    def _epoch_of(self, at_ms: int) -> int:
        clock = self._epochs()
        return clock.index_at(Millis(max(at_ms, clock.start)))

    def _said(  # noqa: C901, PLR0911, PLR0912 - one case for each kind of event
        self, event: ProgramEvent, blank: StakeEvent
    ) -> StakeEvent | None:
        match event:
            case NodeRegisteredEvent():
                return replace(
                    blank, kind=StakeKind.REGISTERED, pool=str(event.pool), owner=str(event.operator),
                    stake=event.bond, shares=str(event.shares),
                )  # fmt: skip
            case BondedEvent():
                return replace(
                    blank, kind=StakeKind.BONDED, pool=str(event.pool), owner=str(event.operator),
                    stake=event.amount, shares=str(event.shares),
                )  # fmt: skip
            case DelegatedEvent():
                return replace(
                    blank, kind=StakeKind.DELEGATED, pool=str(event.pool), owner=str(event.owner),
                    stake=event.amount, shares=str(event.shares),
                )  # fmt: skip
            case UnbondedEvent():
                return replace(
                    blank, kind=StakeKind.UNBONDED, pool=str(event.pool), owner=str(event.owner),
                    ticket=str(event.ticket), stake=event.amount, shares=str(event.shares), due_ms=event.unlock_at,
                )  # fmt: skip
            case TicketWithdrawnEvent():
                return replace(
                    blank, kind=StakeKind.WITHDRAWN, pool=str(event.pool), owner=str(event.owner),
                    ticket=str(event.ticket), stake=event.amount, shares=str(event.shares),
                )  # fmt: skip
            case RewardsClaimedEvent():
                return replace(
                    blank, kind=StakeKind.CLAIMED, pool=str(event.pool), owner=str(event.owner),
                    stake=event.emission, payment=event.fees,
                )  # fmt: skip
            case SettledEvent() if event.stakers:
                return replace(blank, kind=StakeKind.FEES, pool=self._pool_of(event.node), payment=event.stakers)
            case DistributedEvent():
                return replace(
                    blank, kind=StakeKind.EMISSION, pool=str(event.pool), epoch=event.epoch,
                    stake=event.amount, commission=event.commission,
                )  # fmt: skip
            case SlashedEvent():
                return replace(
                    blank, kind=_BUCKETS[event.bucket], pool=str(event.pool), stake=event.amount,
                    shares=str(event.burned),
                )  # fmt: skip
            case CommissionSetEvent():
                return replace(
                    blank, kind=StakeKind.COMMISSION, pool=str(event.pool), bps=event.commission_bps,
                    due_ms=event.effective_at,
                )  # fmt: skip
            case WeightRegisteredEvent():
                return replace(
                    blank, kind=StakeKind.WEIGHT, pool=self._pool_of(event.node), epoch=event.epoch, stake=event.weight
                )
            case EpochClosedEvent():
                return replace(
                    blank, kind=StakeKind.EPOCH_CLOSED, epoch=event.epoch, stake=event.emission,
                    shares=str(event.total_weight),
                )  # fmt: skip
            case EpochEndedEvent():
                return replace(blank, kind=StakeKind.EPOCH_ENDED, epoch=event.epoch, stake=event.freed)
            case NodeClosedEvent():
                return replace(
                    blank, kind=StakeKind.CLOSED, pool=str(event.pool), owner=str(event.operator),
                    stake=event.stake_surplus,
                )  # fmt: skip
            case _:
                return None

    def _pool_of(self, node: Pubkey) -> str:
        return str(self._addresses.pool(node))


_OURS: Final = (
    NodeRegisteredEvent, BondedEvent, DelegatedEvent, UnbondedEvent, TicketWithdrawnEvent, RewardsClaimedEvent,
    SettledEvent, DistributedEvent, SlashedEvent, CommissionSetEvent, WeightRegisteredEvent, EpochClosedEvent,
    EpochEndedEvent, NodeClosedEvent,
)  # fmt: skip


def _pool(registered: NodeRegisteredEvent, event: StakeEvent, commissions: Commissions) -> StakePool:
    pool = str(registered.pool)
    return StakePool(
        pool=pool,
        node=str(registered.node),
        node_key=str(registered.node_key),
        operator=str(registered.operator),
        market=str(registered.market),
        commission_bps=commissions.get(pool),
        signature=event.signature,
    )
