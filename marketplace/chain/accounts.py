"""The program's accounts as the chain holds them. Source: programs/reaver_market/src/state.

Amounts are base units, prices base units per hour, lengths and instants milliseconds (instants since the Unix
epoch, by the chain's clock), shares and accumulators 128-bit numbers. A test compares every field with the
IDL; the reserved tail is left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from types import MappingProxyType
from typing import Final

from solders.pubkey import Pubkey


class EscrowState(IntEnum):
    """`EscrowAccount.state`."""

    OPEN = 0
    ASSIGNED = 1
    CLOSING = 2


class NodeStatus(IntEnum):
    """`NodeAccount.status`."""

    ACTIVE = 0
    DRAINING = 1
    SUSPENDED = 2
    RETIRED = 3


class EpochState(IntEnum):
    """`EpochAccount.state`."""

    REGISTERING = 0
    CLOSED = 1


class Pause(IntFlag):
    """`ConfigAccount.paused`: which ways in are closed. No bit closes a way out."""

    OPEN = 1
    EXTEND = 2
    ASSIGN = 4
    REGISTER = 8
    DELEGATE = 16
    BOND = 32
    GRANT = 64


@dataclass(frozen=True, slots=True)
class Params:
    """The numbers that the admin may change, within bounds."""

    exposure_rate: int
    """Payment base units that 1,000,000 stake base units stand for."""
    exposure_multiple: int
    """How many times its stake a node may hold in escrows."""
    protocol_bps: int
    """The protocol's part of every payment."""
    max_market_bps: int
    """The highest fee of its own that a market may take."""
    node_share_bps: int
    """The stakers' part of the market's fee."""
    compensation_bps: int
    """A lost attempt's compensation, as a part of what was paid for it."""
    overclaim_bps: int
    """An over-claim's slash, of each bucket."""
    slash_cap_bps: int
    """The most that an epoch may take, of the bond and of each bucket."""
    decay_bps: int
    """By how much the emission's schedule falls per epoch."""
    emission_cap_bps: int
    """A pool's emission, at most this part of its protocol fees."""
    commission_step_bps: int
    """The largest step of a commission."""
    lost_after: int
    """Silence after which a node counts as lost."""
    ready_limit: int
    """Free time from assignment to ready."""
    claim_limit: int
    """How long a node's claim is good."""
    skew: int
    """By how much clocks may differ."""
    contest: int
    """How long a one-sided end can be contested."""
    reap_grace: int
    """How long after its last moment an assigned escrow may be reaped."""
    queue_limit: int
    """How long an open escrow waits for an assignment."""
    stop_after: int
    """How long a cancelled attempt may still bill."""
    unbonding: int
    """From unbonding to withdrawal."""
    commission_delay: int
    """From announcing a commission to its effect."""
    fee_delay: int
    """From announcing a market's fee to its effect."""
    minimum_deposit: int
    """The smallest deposit of an escrow."""


@dataclass(frozen=True, slots=True)
class EpochSlot:
    """What a node did in one epoch."""

    epoch: int
    well: int
    """Meter-countersigned amounts of attempts that ended well."""
    lost: int
    """The same of attempts that were lost."""
    protocol_fees: int
    """Protocol fees of both."""
    compensated: int
    """Compensations taken from the operator's bond."""
    slashed_active: int
    """Over-claim slashes of the active bucket."""
    slashed_unbonding: int
    """Over-claim slashes of the unbonding bucket."""
    weight: int
    """The weight that was registered for the epoch's emission."""
    registered: bool
    distributed: bool


@dataclass(frozen=True, slots=True)
class NonceWindow:
    """Used nonces: the highest, and a bit for each of the 1,024 numbers that end with it."""

    highest: int
    used: bytes
    """The bit of nonce n is bit n mod 8 of byte n mod 1,024 div 8."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """The running attempt, or the last one when none runs."""

    number: int
    """From 1; 0: there was none yet."""
    node: Pubkey
    price: int
    """The agreed price per hour."""
    meter: Pubkey
    """The market's meter when the attempt was assigned."""
    protocol_bps: int
    fee_bps: int
    """All fees: the protocol's and the market's."""
    assigned_at: int
    started_at: int
    """When the meter went on, fixed by the first accepted voucher; 0: none yet."""
    sequence: int
    last_at: int
    """The last settled voucher's time; the assignment's before any."""
    metered_at: int
    """The last settled meter-countersigned voucher's time; the assignment's before any."""
    billed: int
    amount: int
    """Paid so far."""
    metered_amount: int
    """Of it, what the meter countersigned."""
    exposure: int
    """What the attempt may still be paid."""


@dataclass(frozen=True, slots=True)
class Contest:
    """An attempt that one side ended, while it can be contested."""

    attempt: Attempt
    """The attempt as it ended (number 0: no contest is open); its exposure is the reserve, what may still be paid."""
    released_at: int
    """When the attempt was ended."""
    reason: int
    """Why it ended."""
    by_quit: bool
    """Ended by the node itself."""
    can_be_loss: bool
    """Whether it can be a loss at all."""
    loss: bool
    """Whether it is one, by the latest meter-countersigned voucher."""
    compensation: int
    """The compensation noted, in stake units."""


@dataclass(frozen=True, slots=True)
class ConfigAccount:
    """The deployment: who administers it, its mints, its numbers."""

    version: int
    bump: int
    admin: Pubkey
    pending_admin: Pubkey
    """Who may accept the administration; zero: nobody."""
    genesis_hash: bytes
    """The cluster's genesis hash: no sysvar gives it, and every signed message names it."""
    payment_mint: Pubkey
    stake_mint: Pubkey
    protocol_token: Pubkey
    """Where the protocol's fees are swept to."""
    compensation_vault: Pubkey
    emission_vault: Pubkey
    paused: int
    params: Params
    epoch_length: int
    """Length of an epoch; never changes."""
    epoch_start: int
    """When epoch 0 began."""
    next_epoch: int
    """The next epoch to be closed."""
    scheduled_emission: int
    """What the schedule gives that epoch."""
    committed_emission: int
    """What closed epochs may still draw from the emission vault."""
    distributed_emission: int
    """What was ever distributed."""


@dataclass(frozen=True, slots=True)
class MarketAccount:
    """A market: its keys, its fee, what it has earned and what of it is the protocol's."""

    version: int
    bump: int
    authority: Pubkey
    """The cold key that rotates the others."""
    matcher: Pubkey
    """Opens under allowances, and assigns."""
    meter: Pubkey
    """Countersigns vouchers, and releases."""
    fee_bps: int
    """The market's own fee, beside the protocol's."""
    pending_fee_bps: int
    pending_fee_at: int
    """When the pending fee takes effect; zero: none is pending."""
    fee_vault: Pubkey
    fee_vault_bump: int
    market_owed: int
    """In the fee vault, the market's."""
    protocol_owed: int
    """In the fee vault, the protocol's."""


@dataclass(frozen=True, slots=True)
class ClassAccount:
    """A class of machines and the bond it asks for."""

    version: int
    bump: int
    class_id: bytes
    minimum_bond: int
    enabled: bool


@dataclass(frozen=True, slots=True)
class NodeAccount:
    """A machine and its record."""

    version: int
    bump: int
    operator: Pubkey
    node_key: Pubkey
    """Signs claims and vouchers."""
    market: Pubkey
    class_id: bytes
    pool: Pubkey
    payout: Pubkey
    """The operator's payment token account."""
    status: int
    owed: int
    """In the pool's fee vault, the operator's: what the payout account couldn't take."""
    attempts: int
    """Running or contested."""
    exposure: int
    """What running attempts and contest reserves may still cost, in payment units."""
    held: int
    """Noted compensations, in stake units."""
    attempts_well: int
    attempts_lost: int
    attempts_quit: int
    amount_well: int
    amount_lost: int
    amount_quit: int
    epochs: tuple[EpochSlot, ...]
    """The last three epochs, at epoch mod 3."""


@dataclass(frozen=True, slots=True)
class PoolAccount:
    """The stake behind a node, and what it has earned."""

    version: int
    bump: int
    node: Pubkey
    stake_vault: Pubkey
    """Token account of the stake."""
    fee_vault: Pubkey
    """Token account of fee rewards and of what the operator is owed."""
    stake_vault_bump: int
    fee_vault_bump: int
    active_stake: int
    active_shares: int
    bond_shares: int
    """The operator's own part of the active shares."""
    unbonding_stake: int
    unbonding_shares: int
    positions: int
    """Positions that exist, the operator's among them."""
    fees: int
    """Fee rewards per share."""
    fees_remainder: int
    emission: int
    """Emission per share."""
    emission_remainder: int
    fees_unclaimed: int
    """Fee rewards that nobody has claimed yet, commission included."""
    emission_unclaimed: int
    """Emission that nobody has claimed yet, commission included."""
    commission_fees: int
    """The operator's commission on fee rewards, until his position takes it."""
    commission_emission: int
    """The operator's commission on emission, until his position takes it."""
    commission_bps: int
    pending_commission_bps: int
    pending_commission_at: int
    """When the pending commission takes effect; zero: none is pending."""
    distributed_until: int
    """The last epoch whose emission arrived, plus one."""


@dataclass(frozen=True, slots=True)
class PositionAccount:
    """One owner's shares of a pool."""

    version: int
    bump: int
    pool: Pubkey
    owner: Pubkey
    shares: int
    fees_paid: int
    """The pool's fee accumulator when the position was last settled."""
    emission_paid: int
    """The same for emission."""
    fees_earned: int
    emission_earned: int
    next_ticket: int
    """The index of the next ticket."""
    tickets: int
    """Tickets not yet withdrawn."""
    is_operator: bool
    """Made at registration: its shares are the bond."""
    rent_payer: Pubkey


@dataclass(frozen=True, slots=True)
class TicketAccount:
    """Shares on their way out of a pool."""

    version: int
    bump: int
    position: Pubkey
    pool: Pubkey
    owner: Pubkey
    index: int
    shares: int
    """Shares of the unbonding bucket."""
    unlock_at: int
    rent_payer: Pubkey


@dataclass(frozen=True, slots=True)
class VaultAccount:
    """A wallet's money."""

    version: int
    bump: int
    wallet: Pubkey
    token_account: Pubkey
    """Its token account, in the payment mint."""
    token_account_bump: int
    locked: int
    """What escrows hold of it."""
    compensation_owed: int
    """Compensations to be claimed, in stake tokens."""
    nonces: NonceWindow
    """Nonces of escrows that the wallet opens itself."""


@dataclass(frozen=True, slots=True)
class AllowanceAccount:
    """What one market may spend for one wallet. Never closed: revoking zeroes the caps."""

    version: int
    bump: int
    wallet: Pubkey
    market: Pubkey
    escrow_cap: int
    """The most that one escrow may lock, extensions included."""
    day_cap: int
    """The most that escrows of one UTC day may lock."""
    day: int
    """The day that `day_used` speaks of."""
    day_used: int
    total_cap: int
    """The most that all escrows may lock and spend."""
    total_used: int
    max_price: int
    """The highest price per hour."""
    expires_at: int
    nonces: NonceWindow
    """Nonces of escrows that the market opens."""


@dataclass(frozen=True, slots=True)
class EscrowAccount:
    """A deposit, its terms, and the attempts to earn it."""

    version: int
    bump: int
    wallet: Pubkey
    opener: Pubkey
    """The wallet, or the market that opened under its allowance."""
    market: Pubkey
    nonce: int
    class_id: bytes
    """The class asked for; zero: any."""
    terms_hash: bytes
    """sha256(spec hash, sha256(idempotency key))."""
    ceiling_price: int
    state: int
    deposit: int
    paid: int
    max_time: int
    """The longest time that may be billed, over all attempts."""
    ended_time: int
    """Billed by attempts that have ended."""
    attempts_allowed: int
    opened_at: int
    assign_by: int
    stop_at: int
    """After a cancellation: billing stops here; 0: not cancelled."""
    day_opened: int
    """The UTC day on which it was opened."""
    rent_payer: Pubkey
    attempt: Attempt
    contest: Contest


@dataclass(frozen=True, slots=True)
class EpochAccount:
    """One epoch's emission."""

    version: int
    bump: int
    index: int
    state: int
    emission: int
    distributed: int
    """What of it has been distributed."""
    total_weight: int
    registered: int
    """Nodes that registered a weight."""
    served: int
    """Nodes that drew their part."""
    rent_payer: Pubkey


ACCOUNT_TYPES: Final[Mapping[str, type[object]]] = MappingProxyType(
    {
        "Config": ConfigAccount,
        "Market": MarketAccount,
        "Class": ClassAccount,
        "Node": NodeAccount,
        "Pool": PoolAccount,
        "Position": PositionAccount,
        "Ticket": TicketAccount,
        "Vault": VaultAccount,
        "Allowance": AllowanceAccount,
        "Escrow": EscrowAccount,
        "Epoch": EpochAccount,
    }
)
