"""The program's events, in the past tense. Source: programs/reaver_market/src/events.rs.

Amounts are base units, prices base units per hour, lengths and instants milliseconds. A test compares every
field with the IDL. How they are found in a log: `logs`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from solders.pubkey import Pubkey

from marketplace.chain.accounts import Params


class ProgramEvent:
    """Base of all events of the program."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class MarketRegisteredEvent(ProgramEvent):
    """A market exists."""

    market: Pubkey
    authority: Pubkey
    matcher: Pubkey
    meter: Pubkey
    fee_bps: int
    fee_vault: Pubkey


@dataclass(frozen=True, slots=True)
class KeysRotatedEvent(ProgramEvent):
    """A market has new keys for what it does from now on."""

    market: Pubkey
    matcher: Pubkey
    meter: Pubkey


@dataclass(frozen=True, slots=True)
class FeeSetEvent(ProgramEvent):
    """A market announced another fee."""

    market: Pubkey
    fee_bps: int
    effective_at: int


@dataclass(frozen=True, slots=True)
class FeesWithdrawnEvent(ProgramEvent):
    """A market took what it earned."""

    market: Pubkey
    authority: Pubkey
    destination: Pubkey
    amount: int


@dataclass(frozen=True, slots=True)
class ProtocolFeesSweptEvent(ProgramEvent):
    """The protocol took its part of a market's fees."""

    market: Pubkey
    destination: Pubkey
    amount: int


@dataclass(frozen=True, slots=True)
class ClassSetEvent(ProgramEvent):
    """A class was made or changed."""

    class_account: Pubkey
    class_id: bytes
    minimum_bond: int
    enabled: bool


@dataclass(frozen=True, slots=True)
class NodeRegisteredEvent(ProgramEvent):
    """A node exists, with its pool and bond."""

    node: Pubkey
    operator: Pubkey
    node_key: Pubkey
    market: Pubkey
    class_id: bytes
    pool: Pubkey
    payout: Pubkey
    bond: int
    shares: int


@dataclass(frozen=True, slots=True)
class NodeUpdatedEvent(ProgramEvent):
    """A node's market, class, payout account or status changed."""

    node: Pubkey
    market: Pubkey
    class_id: bytes
    payout: Pubkey
    status: int


@dataclass(frozen=True, slots=True)
class VaultOpenedEvent(ProgramEvent):
    """A wallet has a vault."""

    vault: Pubkey
    wallet: Pubkey
    token_account: Pubkey


@dataclass(frozen=True, slots=True)
class DepositedEvent(ProgramEvent):
    """Tokens came into a vault."""

    vault: Pubkey
    wallet: Pubkey
    depositor: Pubkey
    amount: int


@dataclass(frozen=True, slots=True)
class WithdrawnEvent(ProgramEvent):
    """Free tokens left a vault."""

    vault: Pubkey
    wallet: Pubkey
    destination: Pubkey
    amount: int


@dataclass(frozen=True, slots=True)
class AllowanceGrantedEvent(ProgramEvent):
    """A wallet allows a market to spend."""

    allowance: Pubkey
    wallet: Pubkey
    market: Pubkey
    escrow_cap: int
    day_cap: int
    total_cap: int
    max_price: int
    expires_at: int


@dataclass(frozen=True, slots=True)
class AllowanceRevokedEvent(ProgramEvent):
    """And no longer."""

    allowance: Pubkey
    wallet: Pubkey
    market: Pubkey


@dataclass(frozen=True, slots=True)
class EscrowOpenedEvent(ProgramEvent):
    """A deposit is locked under terms."""

    escrow: Pubkey
    wallet: Pubkey
    opener: Pubkey
    market: Pubkey
    nonce: int
    class_id: bytes
    terms_hash: bytes
    deposit: int
    ceiling_price: int
    max_time: int
    attempts_allowed: int
    assign_by: int


@dataclass(frozen=True, slots=True)
class EscrowExtendedEvent(ProgramEvent):
    """A deposit or its time grew."""

    escrow: Pubkey
    added_deposit: int
    added_time: int
    deposit: int
    max_time: int


@dataclass(frozen=True, slots=True)
class EscrowStoppingEvent(ProgramEvent):
    """A running escrow was cancelled: nothing after this moment is billed."""

    escrow: Pubkey
    stop_at: int


@dataclass(frozen=True, slots=True)
class AssignedEvent(ProgramEvent):
    """An attempt began."""

    escrow: Pubkey
    attempt: int
    node: Pubkey
    price: int
    fee_bps: int
    protocol_bps: int
    meter: Pubkey
    exposure: int
    assigned_at: int


@dataclass(frozen=True, slots=True)
class SettledEvent(ProgramEvent):
    """Money was paid: `amount` and `billed` are the attempt's, the other amounts this payment's."""

    escrow: Pubkey
    attempt: int
    node: Pubkey
    countersigner: Pubkey
    sequence: int
    state: int
    reason: int
    billed: int
    amount: int
    paid: int
    operator: int
    stakers: int
    market: int
    protocol: int
    owed: bool
    refunded: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class ReleasedEvent(ProgramEvent):
    """One side ended an attempt."""

    escrow: Pubkey
    attempt: int
    node: Pubkey
    by: Pubkey
    reason: int
    loss: bool
    reserve: int
    compensation: int
    released_at: int


@dataclass(frozen=True, slots=True)
class ContestedEvent(ProgramEvent):
    """A later voucher of a contested attempt was shown."""

    escrow: Pubkey
    attempt: int
    node: Pubkey
    metered_at: int
    loss: bool
    reserve: int
    compensation: int


@dataclass(frozen=True, slots=True)
class ContestClosedEvent(ProgramEvent):
    """A contest is over, and what was lost is compensated."""

    escrow: Pubkey
    attempt: int
    node: Pubkey
    loss: bool
    released: int
    refunded: bool
    compensation: int
    burned: int


@dataclass(frozen=True, slots=True)
class EscrowClosedEvent(ProgramEvent):
    """An escrow is gone, or only waits for its contest."""

    escrow: Pubkey
    wallet: Pubkey
    reason: int
    paid: int
    refunded: int
    contested: bool


@dataclass(frozen=True, slots=True)
class OverclaimProvedEvent(ProgramEvent):
    """A node's over-claim was proved."""

    escrow: Pubkey
    attempt: int
    node: Pubkey
    at: int
    billed: int


@dataclass(frozen=True, slots=True)
class DelegatedEvent(ProgramEvent):
    """Stake came into a pool."""

    pool: Pubkey
    position: Pubkey
    owner: Pubkey
    amount: int
    shares: int


@dataclass(frozen=True, slots=True)
class UnbondedEvent(ProgramEvent):
    """Shares left for the unbonding bucket."""

    pool: Pubkey
    position: Pubkey
    owner: Pubkey
    ticket: Pubkey
    index: int
    shares: int
    amount: int
    unlock_at: int


@dataclass(frozen=True, slots=True)
class TicketWithdrawnEvent(ProgramEvent):
    """An unbonded stake was paid out."""

    pool: Pubkey
    ticket: Pubkey
    owner: Pubkey
    shares: int
    amount: int


@dataclass(frozen=True, slots=True)
class RewardsClaimedEvent(ProgramEvent):
    """Rewards were paid out."""

    pool: Pubkey
    position: Pubkey
    owner: Pubkey
    fees: int
    emission: int


@dataclass(frozen=True, slots=True)
class BondedEvent(ProgramEvent):
    """An operator's own stake grew."""

    node: Pubkey
    pool: Pubkey
    operator: Pubkey
    amount: int
    shares: int


@dataclass(frozen=True, slots=True)
class SlashedEvent(ProgramEvent):
    """Stake was taken: of the bond (bucket 0), the active (1) or the unbonding bucket (2)."""

    node: Pubkey
    pool: Pubkey
    bucket: int
    reason: int
    amount: int
    burned: int


@dataclass(frozen=True, slots=True)
class CommissionSetEvent(ProgramEvent):
    """A commission will change."""

    pool: Pubkey
    commission_bps: int
    effective_at: int


@dataclass(frozen=True, slots=True)
class WeightRegisteredEvent(ProgramEvent):
    """A node's weight counts for an epoch."""

    node: Pubkey
    epoch: int
    weight: int
    total_weight: int


@dataclass(frozen=True, slots=True)
class EpochClosedEvent(ProgramEvent):
    """An epoch's emission is fixed."""

    epoch: int
    emission: int
    total_weight: int


@dataclass(frozen=True, slots=True)
class DistributedEvent(ProgramEvent):
    """A pool drew its part of an epoch's emission."""

    pool: Pubkey
    epoch: int
    amount: int
    commission: int


@dataclass(frozen=True, slots=True)
class EpochEndedEvent(ProgramEvent):
    """An epoch's account is gone: what it did not draw is free again."""

    epoch: int
    distributed: int
    freed: int


@dataclass(frozen=True, slots=True)
class NodeClosedEvent(ProgramEvent):
    """A node and its pool are gone: what rounding left went to the emission and the market."""

    node: Pubkey
    operator: Pubkey
    pool: Pubkey
    stake_surplus: int
    fee_surplus: int


@dataclass(frozen=True, slots=True)
class OwedWithdrawnEvent(ProgramEvent):
    """An operator took what was owed."""

    node: Pubkey
    operator: Pubkey
    destination: Pubkey
    amount: int


@dataclass(frozen=True, slots=True)
class CompensationClaimedEvent(ProgramEvent):
    """A renter took compensations."""

    vault: Pubkey
    wallet: Pubkey
    destination: Pubkey
    amount: int


@dataclass(frozen=True, slots=True)
class ParamsSetEvent(ProgramEvent):
    """The numbers of the deployment were set."""

    params: Params


@dataclass(frozen=True, slots=True)
class PauseSetEvent(ProgramEvent):
    """Ways in were closed or opened."""

    paused: int


@dataclass(frozen=True, slots=True)
class AdminProposedEvent(ProgramEvent):
    """Somebody else may take over the administration; zero: nobody."""

    admin: Pubkey
    candidate: Pubkey


@dataclass(frozen=True, slots=True)
class AdminChangedEvent(ProgramEvent):
    """Somebody else administers."""

    previous: Pubkey
    admin: Pubkey


EVENT_TYPES: Final[Mapping[str, type[ProgramEvent]]] = MappingProxyType(
    {
        "MarketRegistered": MarketRegisteredEvent,
        "KeysRotated": KeysRotatedEvent,
        "FeeSet": FeeSetEvent,
        "FeesWithdrawn": FeesWithdrawnEvent,
        "ProtocolFeesSwept": ProtocolFeesSweptEvent,
        "ClassSet": ClassSetEvent,
        "NodeRegistered": NodeRegisteredEvent,
        "NodeUpdated": NodeUpdatedEvent,
        "VaultOpened": VaultOpenedEvent,
        "Deposited": DepositedEvent,
        "Withdrawn": WithdrawnEvent,
        "AllowanceGranted": AllowanceGrantedEvent,
        "AllowanceRevoked": AllowanceRevokedEvent,
        "EscrowOpened": EscrowOpenedEvent,
        "EscrowExtended": EscrowExtendedEvent,
        "EscrowStopping": EscrowStoppingEvent,
        "Assigned": AssignedEvent,
        "Settled": SettledEvent,
        "Released": ReleasedEvent,
        "Contested": ContestedEvent,
        "ContestClosed": ContestClosedEvent,
        "EscrowClosed": EscrowClosedEvent,
        "OverclaimProved": OverclaimProvedEvent,
        "Delegated": DelegatedEvent,
        "Unbonded": UnbondedEvent,
        "TicketWithdrawn": TicketWithdrawnEvent,
        "RewardsClaimed": RewardsClaimedEvent,
        "Bonded": BondedEvent,
        "Slashed": SlashedEvent,
        "CommissionSet": CommissionSetEvent,
        "WeightRegistered": WeightRegisteredEvent,
        "EpochClosed": EpochClosedEvent,
        "Distributed": DistributedEvent,
        "EpochEnded": EpochEndedEvent,
        "NodeClosed": NodeClosedEvent,
        "OwedWithdrawn": OwedWithdrawnEvent,
        "CompensationClaimed": CompensationClaimedEvent,
        "ParamsSet": ParamsSetEvent,
        "PauseSet": PauseSetEvent,
        "AdminProposed": AdminProposedEvent,
        "AdminChanged": AdminChangedEvent,
    }
)
