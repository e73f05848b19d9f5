"""The chain as the services see it: what they ask of it, and the acts they have it perform.

`marketplace.services.chain_acts` is the real one, over `marketplace.chain`. Addresses are base58 text, hashes raw
bytes, amounts base units, instants milliseconds of chain time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from marketplace.chain.transactions import Step
from marketplace.domain.allocations import Opener
from marketplace.domain.nonces import NonceWindow
from marketplace.domain.quantities import Bps, Lamports, Millis, Stake, Tokens
from marketplace.domain.reasons import Reason
from marketplace.domain.reputation import Record
from marketplace.protocol.claims import ClaimMessage
from marketplace.protocol.vouchers import VoucherMessage


class ActRefused(Exception):
    """The program refused the transaction; nothing moved. Caught by the drivers that asked for the act.

    name: the program's own name of the error, such as `DepositTooSmall`, None where it was not ours.
    """

    def __init__(self, message: str, name: str | None = None, number: int | None = None) -> None:
        super().__init__(message)
        self.name = name
        self.number = number


class ActPending(Exception):
    """Sent, and neither confirmed nor provably gone yet. Caught by the drivers, which ask again."""


@dataclass(frozen=True, slots=True)
class Landed:
    """A transaction of ours at `confirmed`."""

    signature: str
    slot: int


@dataclass(frozen=True, slots=True)
class MarketTerms:
    """What the chain says of this deployment and market; read at start, and again when the market asks.

    fee_bps: all fees, market's and protocol's together.
    """

    program_id: bytes
    genesis_hash: bytes
    market: str
    matcher_key: str
    meter_key: str
    payment_mint: str
    stake_mint: str
    decimals: int
    stake_decimals: int
    fee_bps: Bps
    protocol_bps: Bps
    node_share_bps: Bps
    lost_after: Millis
    ready_limit: Millis
    claim_limit: Millis
    skew: Millis
    contest_window: Millis
    reap_grace: Millis
    queue_limit: Millis
    minimum_deposit: Tokens
    compensation_bps: Bps
    escrow_rent: Lamports


@dataclass(frozen=True, slots=True)
class VaultView:
    """A wallet's vault. free: token balance less what is locked."""

    address: str
    balance: Tokens
    locked: Tokens
    nonces: NonceWindow

    @property
    def free(self) -> Tokens:
        """What an escrow may lock, or the wallet withdraw."""
        return Tokens(max(0, self.balance - self.locked))


@dataclass(frozen=True, slots=True)
class AllowanceView:
    """What one wallet lets this market spend. used_today: already rolled over to the UTC day of the reading."""

    address: str
    per_escrow: Tokens
    per_day: Tokens
    used_today: Tokens
    total: Tokens
    used_total: Tokens
    max_price_per_hour: Tokens
    expires_at: Millis
    nonces: NonceWindow


@dataclass(frozen=True, slots=True)
class AttemptView:
    """The running attempt of an escrow, or its last one. node: address of the Node account."""

    number: int
    node: str
    price_per_hour: Tokens
    meter: str
    assigned_at: Millis
    last_at: Millis
    billed: Millis
    amount: Tokens


@dataclass(frozen=True, slots=True)
class EscrowView:
    """An escrow account. state: open, assigned, closing. contested_attempt: 0 when no contest is open."""

    address: str
    wallet: str
    opener: Opener
    nonce: int
    terms_hash: bytes
    state: str
    deposit: Tokens
    paid: Tokens
    reserve: Tokens
    max_time: Millis
    ended_time: Millis
    assign_by: Millis
    stop_at: Millis
    attempt: AttemptView
    contested_attempt: int
    released_at: Millis
    lamports: Lamports

    @property
    def deposit_left(self) -> Tokens:
        """What the next attempt may use."""
        return Tokens(self.deposit - self.paid - self.reserve)

    @property
    def time_left(self) -> Millis:
        """Billable time that no ended attempt has used."""
        return Millis(self.max_time - self.ended_time)


BOND_ROUNDING: Final = 2
"""Base units by which a bond's value, computed from shares, may lie below what the program computes."""


@dataclass(frozen=True, slots=True)
class NodeView:
    """A Node account with its pool. status: active, draining, suspended, retired.

    bond_needed: the class's bond and what is held of it for noted compensations; below it nothing is assigned.
    """

    address: str
    node_key: str
    operator: str
    market: str
    class_id: str
    status: str
    record: Record
    bond: Stake
    bond_needed: Stake
    stake: Stake
    exposure: Tokens
    exposure_limit: Tokens
    commission_bps: Bps
    attempts: int

    @property
    def bond_missing(self) -> Stake:
        """What the operator has to add before the node is assigned anything."""
        missing = self.bond_needed - self.bond
        return Stake(missing if missing > BOND_ROUNDING else 0)


@dataclass(frozen=True, slots=True)
class OpenEscrow:
    """Lock a deposit under the wallet's allowance; signed by the matcher."""

    escrow: str
    wallet: str
    nonce: int
    class_id: str
    terms_hash: bytes
    ceiling_per_hour: Tokens
    deposit: Tokens
    max_time: Millis
    attempts: int


@dataclass(frozen=True, slots=True)
class Assign:
    """Start an attempt on the node whose signed claim this is; signed by the matcher."""

    escrow: str
    wallet: str
    opener: Opener
    node_key: str
    claim: ClaimMessage
    signature: bytes


@dataclass(frozen=True, slots=True)
class Settle:
    """Pay what a voucher says; sent by the market's meter of the moment, the signatures of both sides beside it.

    meter_key: the attempt's. Where it is the sender's, that one's signature of the transaction says the same.
    """

    escrow: str
    wallet: str
    opener: Opener
    node_key: str
    voucher: VoucherMessage
    node_signature: bytes
    meter_key: str | None = None
    meter_signature: bytes | None = None


@dataclass(frozen=True, slots=True)
class ReleaseLost:
    """End an attempt whose node is silent; signed by the meter, with the last countersigned voucher or none.

    meter_key, meter_signature: as in `Settle`.
    """

    escrow: str
    wallet: str
    opener: Opener
    node_key: str
    reason: Reason
    voucher: VoucherMessage | None
    node_signature: bytes | None
    meter_key: str | None = None
    meter_signature: bytes | None = None


@dataclass(frozen=True, slots=True)
class ReleaseUnstarted:
    """End an attempt of which nothing is settled, for a reason 7..10; signed by the matcher. Never a loss."""

    escrow: str
    wallet: str
    opener: Opener
    node_key: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class CancelEscrow:
    """Close an open escrow; signed by the matcher."""

    escrow: str
    wallet: str
    opener: Opener


@dataclass(frozen=True, slots=True)
class CloseContest:
    """End a contest after its window; anyone may, the meter pays."""

    escrow: str
    wallet: str
    opener: Opener
    node_key: str


@dataclass(frozen=True, slots=True)
class Extend:
    """Add deposit and time to an escrow under the wallet's allowance; signed by the matcher.

    node_key: of the running attempt, None while none runs.
    """

    escrow: str
    wallet: str
    opener: Opener
    node_key: str | None
    added_deposit: Tokens
    added_time: Millis


Act = OpenEscrow | Extend | Assign | Settle | ReleaseLost | ReleaseUnstarted | CancelEscrow | CloseContest


@dataclass(frozen=True, slots=True)
class FundsView:
    """What a wallet has and lets this market spend, as of one moment. wallet_balance: in its own token account."""

    vault: VaultView | None
    allowance: AllowanceView | None
    wallet_balance: Tokens


class ChainPort(Protocol):
    """What the services need of the chain. Every method that asks it raises ChainUnavailable."""

    @property
    def terms(self) -> MarketTerms:
        """As read at start."""
        ...

    def now(self) -> Millis:
        """Chain time, carried on by the monotonic clock since the last look at the Clock sysvar."""
        ...

    def escrow_address(self, wallet: str, opener: Opener, nonce: int) -> str: ...

    def node_address(self, node_key: str) -> str: ...

    async def find_funds(self, wallet: str) -> FundsView:
        """Vault, allowance and own tokens of a wallet, in one call."""
        ...

    async def find_allowance(self, wallet: str) -> AllowanceView | None: ...

    async def find_escrow(self, escrow: str) -> EscrowView | None: ...

    async def find_node(self, node_key: str) -> NodeView | None: ...

    async def list_nodes(self) -> list[NodeView]:
        """The nodes of this market."""
        ...

    async def perform(self, operation: str, acts: Sequence[Act], *, timeout_ms: int = 20_000) -> Landed:
        """Have the acts land in one transaction, once.

        operation: names what is done; the same name again finds the transaction that was sent before, whatever
        process sent it, and goes on with it. Only when that failed or can't land any more a new one is signed.
        Raises ActRefused, ActPending when it isn't confirmed in time, ChainUnavailable.
        """
        ...

    async def under_way(self, operation: str) -> bool:
        """Whether a transaction of this operation was sent that landed or still may; asks the outbox."""
        ...

    def open_steps(self, act: OpenEscrow, *, deposit_gap: Tokens, open_vault: bool) -> Sequence[Step]:
        """[open_vault] + [deposit of the gap] + open_escrow, to be signed by the wallet."""
        ...

    async def extend_steps(self, act: Extend, *, deposit_gap: Tokens) -> Sequence[Step]:
        """[deposit of the gap] + extend_escrow, to be signed by the wallet that opened the escrow."""
        ...

    def register_steps(self, operator: str, node_key: str, class_id: str, bond: Stake) -> Sequence[Step]:
        """register_node with its bond, to be signed by operator and node."""
        ...

    async def class_bond(self, class_id: str) -> Stake | None:
        """The least bond of a class, None where the deployment hasn't it or has it disabled."""
        ...

    async def expired(self, last_valid_block_height: int) -> bool:
        """Whether a transaction with this height can provably not land any more."""
        ...
