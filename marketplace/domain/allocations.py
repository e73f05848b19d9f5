"""One renter's use of capacity, and the attempts it takes: what the market remembers of them.

Instants are milliseconds. `…_at_ms` without another word is the market's own clock; names with `chain` are chain
time. Addresses are base58 text, signatures and vouchers raw bytes.
"""

from dataclasses import dataclass
from enum import StrEnum

from marketplace.domain.ids import AccountId, AllocationId, JobId, NodeId, RegistryAuthId
from marketplace.domain.lifecycle import AllocationState, JobStatus, job_status
from marketplace.domain.pricing import Priority
from marketplace.domain.quantities import Millis, Tokens
from marketplace.domain.reasons import Reason
from marketplace.domain.retries import RETRIED, RetryPolicy

_JOB = "job_"
_ALLOCATION = "alloc_"
_NO_TIME = Millis(0)
_NOTHING = Tokens(0)


class Opener(StrEnum):
    """Whose signature opens the escrow."""

    MARKET = "market"
    """The market's matcher, under the wallet's allowance."""
    WALLET = "wallet"
    """The wallet itself: the answer was 402 with the transaction to sign."""


class AttemptPhase(StrEnum):
    """How far one attempt is."""

    CLAIMED = "claimed"
    """The node consented; its assignment is not confirmed on chain yet."""
    ASSIGNED = "assigned"
    PULLING = "pulling"
    READY = "ready"
    """The meter runs."""
    UPLOADING = "uploading"
    """The work is over and so is its time; the node delivers what it left."""
    EXITED = "exited"
    """The node reported the end; its money is not settled yet."""
    LOST = "lost"
    """The market ends it without the node; the release is not confirmed yet."""
    ENDED = "ended"
    """Over on chain as well (a contest of it may still be open)."""


LIVE_PHASES = frozenset(
    {AttemptPhase.CLAIMED, AttemptPhase.ASSIGNED, AttemptPhase.PULLING, AttemptPhase.READY, AttemptPhase.UPLOADING}
)
"""Phases in which the node holds the attempt's lease."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One node's turn at an allocation.

    claim_at_chain_ms, claim_signature: the node's signed consent.
    node_address: the Node account. price_per_hour: agreed. fee_bps: all fees, fixed by the claim.
    max_ms, deposit: what was left of the escrow when the node claimed.
    meter_key: who countersigns it, as the chain fixed it at the assignment; None before that.
    meter_at_ms: when the market received `ready` (its own clock): the meter bills nothing before it.
    voucher, node_signature, meter_signature: the latest countersigned voucher.
    settled_*: what the chain's events say was settled of this attempt.
    uploading_at_ms: when the delivery of its outputs began.
    report_sequence: highest state report taken. class_id: of the node; "" in rows of before it was kept.
    report_sequence: highest state report taken.
    extended_ms, extended_deposit: what extensions added beside max_ms and deposit. extended_at_ms: when, the last time.
    paused_at_ms: when we heard that it was paused, while it is. paused_ms: time since ready of which nothing is billed.
    """

    allocation_id: AllocationId
    number: int
    node_id: NodeId
    node_key: str
    node_address: str
    lease_token: str
    phase: AttemptPhase
    price_per_hour: Tokens
    fee_bps: int
    protocol_bps: int
    max_ms: Millis
    deposit: Tokens
    slots: int
    claim_at_chain_ms: int
    claim_signature: bytes
    claimed_at_ms: int
    assigned_at_ms: int | None = None
    assigned_chain_ms: int | None = None
    meter_at_ms: int | None = None
    started_chain_ms: int | None = None
    exited_at_ms: int | None = None
    ended_at_ms: int | None = None
    reason: Reason = Reason.RUNNING
    exit_code: int | None = None
    detail: str | None = None
    report_sequence: int = 0
    voucher: bytes | None = None
    node_signature: bytes | None = None
    meter_signature: bytes | None = None
    voucher_sequence: int = 0
    billed_ms: Millis = _NO_TIME
    amount: Tokens = _NOTHING
    paid: Tokens = _NOTHING
    operator_received: Tokens = _NOTHING
    settled_chain_ms: int | None = None
    uploading_at_ms: int | None = None
    meter_key: str | None = None
    class_id: str = ""
    extended_ms: Millis = _NO_TIME
    extended_deposit: Tokens = _NOTHING
    extended_at_ms: int | None = None
    paused_at_ms: int | None = None
    paused_ms: Millis = _NO_TIME

    @property
    def limit_ms(self) -> Millis:
        """Most billed time, extensions included."""
        return Millis(self.max_ms + self.extended_ms)

    @property
    def limit_amount(self) -> Tokens:
        """Most that it may be paid, extensions included."""
        return Tokens(self.deposit + self.extended_deposit)

    @property
    def held(self) -> bool:
        """Whether it is paused and nothing was added since."""
        return self.paused_at_ms is not None and (
            self.extended_at_ms is None or self.extended_at_ms < self.paused_at_ms
        )

    def unbilled_ms(self, now_ms: int) -> Millis:
        """Time since ready during which it was paused, by our own clock: from when we heard of the pause to when time
        was added. So it is never more than the pause, and what the node takes to hear of either is no dispute.
        """
        if self.paused_at_ms is None:
            return self.paused_ms
        until = now_ms if self.held else self.extended_at_ms or now_ms
        return Millis(self.paused_ms + max(0, until - self.paused_at_ms))

    def left_ms(self, now_ms: int) -> int:
        """Time left by our own clock; never below zero. All of it before it is ready."""
        if self.meter_at_ms is None:
            return self.limit_ms
        return max(0, self.limit_ms - (now_ms - self.meter_at_ms - self.unbilled_ms(now_ms)))

    @property
    def live(self) -> bool:
        """Whether the node holds the lease: its reports are taken, its capacity is used."""
        return self.phase in LIVE_PHASES


@dataclass(frozen=True, slots=True)
class Allocation:
    """One renter's use of capacity, whatever its face; here a job.

    key, body_hash: the Idempotency-Key and the body it is bound to.
    opener, nonce, escrow: which escrow pays; the address follows from wallet, opener and nonce.
    spec: canonical JSON of the JobSpec, with `secrets` nowhere in it. submitted: canonical JSON of the request.
    attempt: number of the latest attempt, 0 before the first. excluded: nodes that failed it or that the renter barred.
    queue_ms: longest wait for a node, each time. queue_until_ms: when the present one ends with queue_expired.
    uploading: the work is over, what it left is on its way.
    opening: the market may open the escrow itself: from the intent until it landed or was refused.
    class_id: the one class that was asked for, or `any` where `tiers` names several.
    retry_on, retry_exit_codes: ends that another attempt follows. retry_at_ms: it begins no earlier.
    auto_extend_ms: how much time the market may add by itself, in all. auto_extended_ms: how much of it it has added.
    warned: bits of the warnings of little time left that were given (`domain.timing`).
    expected_ms: how long it was expected to run when it was submitted; None in rows of before that was kept.
    stop_at_chain_ms: the wallet cancelled its running escrow on chain: nothing after this chain time is billed.
    version: rises with each write; a write names the version it read.
    """

    id: AllocationId
    account_id: AccountId
    wallet: str
    key: str
    body_hash: bytes
    opener: Opener
    nonce: int
    escrow: str
    terms_hash: bytes
    spec: str
    submitted: str
    class_id: str
    regions: tuple[str, ...]
    gpu_count: int
    image: str
    egress: bool
    disk_gb: int
    priority: Priority
    ceiling_per_hour: Tokens
    deposit: Tokens
    max_ms: Millis
    max_attempts: int
    stop_grace_ms: Millis
    queue_ms: Millis
    queue_until_ms: int
    created_at_ms: int
    state: AllocationState = AllocationState.REQUESTED
    reason: Reason = Reason.RUNNING
    cancelling: bool = False
    cancelling_at_ms: int | None = None
    attempt: int = 0
    image_digest: str | None = None
    only_nodes: tuple[NodeId, ...] = ()
    excluded: tuple[NodeId, ...] = ()
    quote_id: str | None = None
    name: str | None = None
    labels: tuple[tuple[str, str], ...] = ()
    progress: int = 0
    funded_at_ms: int | None = None
    open_signature: str | None = None
    completed_at_ms: int | None = None
    error: str | None = None
    opening: bool = False
    uploading: bool = False
    version: int = 0
    auto_extend_ms: Millis = _NO_TIME
    auto_extended_ms: Millis = _NO_TIME
    warned: int = 0
    tiers: tuple[tuple[str, ...], ...] = ()
    min_cuda: int = 0
    min_reputation_millionths: int = 0
    retry_on: tuple[int, ...] = tuple(sorted(RETRIED))
    retry_exit_codes: tuple[int, ...] = ()
    retry_at_ms: int | None = None
    retry_extend: bool = False
    retry_of: JobId | None = None
    consumer_id: str | None = None
    model: str | None = None
    registry_auth_id: RegistryAuthId | None = None
    expected_ms: Millis | None = None
    stop_at_chain_ms: int | None = None

    @property
    def classes(self) -> tuple[tuple[str, ...], ...]:
        """Hardware classes that will do, those preferred first."""
        return self.tiers or ((self.class_id,),)

    @property
    def retry(self) -> RetryPolicy:
        """Which ends another attempt follows."""
        return RetryPolicy(
            self.max_attempts,
            frozenset(map(Reason, self.retry_on)),
            frozenset(self.retry_exit_codes),
            self.retry_extend,
        )

    @property
    def waiting_since_ms(self) -> int:
        """When its present wait for a node began, or its last one."""
        return self.queue_until_ms - self.queue_ms

    @property
    def job_id(self) -> JobId:
        """The same 22 characters under the prefix of a job."""
        return job_of(self.id)

    @property
    def status(self) -> JobStatus:
        """The word shown for it."""
        return job_status(self.state, self.reason, cancelling=self.cancelling, uploading=self.uploading)

    @property
    def terminal(self) -> bool:
        """Whether nothing of it can change any more but its books."""
        return self.state in (AllocationState.RELEASED, AllocationState.FAILED)


def job_of(allocation_id: AllocationId) -> JobId:
    """The job's id behind which an allocation stands."""
    return JobId(_JOB + allocation_id.removeprefix(_ALLOCATION))


def allocation_of(job_id: JobId) -> AllocationId:
    """The allocation behind a job's id."""
    return AllocationId(_ALLOCATION + job_id.removeprefix(_JOB))
