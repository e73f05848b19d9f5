"""Answers of the API as frozen models. Amounts are decimal text or integers of base units, never floats.

Fields that the API adds later are kept as they came; a missing or misshapen one of those below is a
MalformedAnswer.
"""

from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _amount(value: object) -> object:
    """Amounts travel as decimal text; a JSON number was read as Decimal or int, exactly."""
    if isinstance(value, bool | float):
        raise ValueError("an amount is decimal text")  # noqa: TRY004 - pydantic turns ValueError into its own
    if isinstance(value, int | Decimal):
        return format(Decimal(value), "f")
    return value


Amount = Annotated[str, BeforeValidator(_amount), Field(pattern=r"^-?\d+(\.\d+)?$")]
"""Decimal text in whole tokens, such as "0.050000"."""


class Answer(BaseModel):
    """Base of all answers."""

    model_config = ConfigDict(frozen=True, extra="allow")


class SignInFields(Answer):
    """Fields of a login text, under the names of Sign-In-With-Solana."""

    domain: str
    address: str
    statement: str
    uri: str
    version: str
    chain_id: str = Field(alias="chainId")
    nonce: str
    issued_at: str = Field(alias="issuedAt")
    expiration_time: str = Field(alias="expirationTime")


class Challenge(Answer):
    """The market's login challenge: nothing of it is signed before `login.py` has rebuilt it."""

    wallet: str
    message: str
    nonce: str
    expires_at: str
    input: SignInFields


class TokenAnswer(Answer):
    """A login's tokens; times to live in seconds."""

    token: str = Field(repr=False)
    expires_in: int = Field(alias="expiresIn", ge=1)
    refresh_token: str = Field(repr=False)
    refresh_expires_in: int = Field(ge=1)


class Account(Answer):
    """Who the credential belongs to."""

    id: str
    wallet: str | None = None
    wallets: tuple[str | dict[str, object], ...] = ()
    scopes: tuple[str, ...] = ()


class ChainConstants(Answer):
    """Where the market's money lives."""

    program_id: str
    genesis_hash: str
    payment_mint: str
    stake_mint: str
    decimals: int
    stake_decimals: int | None = None
    market: str
    quote_key: str | None = None
    meter_key: str | None = None
    matcher_key: str | None = None


class Constants(Answer):
    """The part of `/v1/constants` that a renter's client acts on."""

    chain: ChainConstants


class Because(Answer):
    """One reason why no node takes a request now."""

    constraint: str
    wanted: object = None
    best: object = None
    nodes_excluded: int = 0


class Nearest(Answer):
    """The smallest change that would match."""

    change: dict[str, object]
    nodes_then: int = 0
    price_per_hour: Amount | None = None


class SampleNode(Answer):
    """A node able to take the work now."""

    node_id: str
    region: str | None = None
    reputation: Decimal | None = None
    image_present: bool | None = None


class QuoteFees(Answer):
    """Fees inside the price, in basis points."""

    market_bps: int
    protocol_bps: int
    node_share_bps: int


class ChainCosts(Answer):
    """What the chain itself takes for one run, in lamports."""

    signatures: int
    lamports_fees: int
    lamports_rent_refundable: int
    paid_by: str


class Quote(Answer):
    """A firm, expiring price. price_per_hour_units: base units of the payment token, for the whole allocation.

    Price, totals and the signed `quote` are None where the class was never offered and no ceiling was named.
    """

    id: str
    quote: str | None = None
    estimated_cost: Amount | None = None
    estimated_time_seconds: int
    expected_cost: Amount | None = None
    max_total: Amount | None = None
    price_per_gpu_second: Amount | None = None
    price_per_hour: Amount | None = None
    price_per_hour_units: int | None = Field(default=None, ge=0)
    currency: str
    fees: QuoteFees | None = None
    chain_costs: ChainCosts | None = None
    class_: str = Field(alias="class")
    gpu_count: int = 1
    regions: tuple[str, ...] = ()
    max_seconds: int
    priority: str = "normal"
    spec_hash: str
    nodes_now: int = 0
    sample: tuple[SampleNode, ...] = ()
    expires_at: str
    match: bool
    because: tuple[Because, ...] = ()
    nearest: Nearest | None = None


class SubmittedJob(Answer):
    """A job that exists and is paid for."""

    id: str
    status: str
    job_id: str
    estimated_cost: Amount | None = None
    currency: str
    max_cost: Amount | None = None
    quote_id: str | None = None
    escrow: str | None = None
    transaction: str | None = None
    created_at: str


class JobAttempt(Answer):
    """One node's turn at a job."""

    number: int
    node_id: str | None = None
    assigned_at: str | None = None
    ready_at: str | None = None
    ended_at: str | None = None
    end_reason: str | None = None
    billed_ms: int = 0
    paid: Amount | None = None
    exit_code: int | None = None


class SettlementFees(Answer):
    """Who received which part of the fees."""

    market: Amount
    protocol: Amount
    stakers: Amount


class Compensation(Answer):
    """What a lost attempt brought the renter, in the stake token."""

    amount: Amount
    currency: str


class Settlement(Answer):
    """What was paid, and what came back."""

    escrow: str | None = None
    state: str | None = None
    deposit: Amount | None = None
    price_per_hour: Amount | None = None
    billed_ms: int = 0
    paid: Amount | None = None
    operator_received: Amount | None = None
    fees: SettlementFees | None = None
    refunded: Amount | None = None
    compensation: Compensation | None = None
    transactions: tuple[str | dict[str, object], ...] = ()
    signatures: int | None = None
    rent_left_lamports: int | None = None
    settled_at: str | None = None


class QueuePlace(Answer):
    """Where a waiting job stands, and why it waits."""

    position: int | None = None
    waiting_since: str | None = None
    until: str | None = None
    because: tuple[Because, ...] = ()


class JobError(Answer):
    """What went wrong with a job, in words."""

    code: str
    message: str


TERMINAL_STATUSES = frozenset({"completed", "failed", "cancelled", "timed_out", "expired"})
"""Words of a job that is over; api.md section 9."""


class WhoPays(Answer):
    """Who pays what for a job that ended as it did."""

    renter: str
    node: str


class BucketDelivery(Answer):
    """How a job's outputs come into its renter's bucket. error: why they don't."""

    state: str
    credential_id: str
    files: int
    bytes: int
    error: str | None = None


class SavedCheckpoint(Answer):
    """How often a job's state is saved, and when it last was."""

    minutes: int
    saved_at: str | None = None
    attempt: int | None = None
    bytes: int | None = None


class Job(Answer):
    """A job as its renter sees it."""

    job_id: str
    id: str
    status: str
    progress: int = 0
    node_id: str | None = None
    created_at: str
    started_at: str | None = None
    completed_at: str | None = None
    result: object = None
    cost: Amount | None = None
    currency: str
    reason: str | None = None
    reason_text: str | None = None
    who_pays: WhoPays | None = None
    exit_code: int | None = None
    error: JobError | None = None
    queue: QueuePlace | None = None
    attempts: tuple[JobAttempt, ...] = ()
    settlement: Settlement | None = None
    image: str | None = None
    image_digest: str | None = None
    gpu: str | None = None
    gpu_count: int | None = None
    region: str | tuple[str, ...] | None = None
    name: str | None = None
    maxMinutes: int | None = None  # noqa: N815 - seed 000's own name
    timeout_seconds: int | None = None
    limit_at: str | None = None
    paused_at: str | None = None
    extends_at: str | None = None
    output_config: dict[str, object] | None = None
    delivery: BucketDelivery | None = None
    checkpoint: SavedCheckpoint | None = None

    @property
    def terminal(self) -> bool:
        """Whether the job is over."""
        return self.status in TERMINAL_STATUSES


class JobRow(Answer):
    """A job in a list."""

    id: str
    status: str
    image: str | None = None
    node_id: str | None = None
    cost: Amount | None = None
    created_at: str
    completed_at: str | None = None
    reason: str | None = None
    gpu: str | None = None
    name: str | None = None
    currency: str | None = None


class JobList(Answer):
    """One page of jobs, newest first."""

    jobs: tuple[JobRow, ...]
    total: int
    has_more: bool


class LogLine(Answer):
    """One line that a container wrote; `seq` is where a stream is resumed."""

    seq: int
    stream: str = "stdout"
    line: str
    ts: str | int | None = None
    attempt: int | None = None


class LogEnd(Answer):
    """The last event of a followed stream."""

    status: str
    reason: str | None = None


class Node(Answer):
    """A machine on offer."""

    id: str
    class_: str = Field(alias="class")
    region: str | None = None
    country: str | None = None
    reputation: Decimal | None = None
    uptime: Decimal | None = None
    name: str | None = None
    status: str
    available: bool | None = None
    gpu_count: int | None = None
    free_gpus: int | None = None
    vcpu: int | Decimal | None = None
    ram_gb: int | Decimal | None = None
    price_floor_per_gpu_second: Amount | None = None
    price_floor_per_hour: Amount | None = None
    operator: str | None = None
    node_key: str | None = None
    address: str | None = None
    bond: Amount | None = None
    bond_missing: Amount | None = None
    stake: Amount | None = None
    exposure: Amount | None = None
    last_seen_at: str | None = None


class NodeList(Answer):
    """One page of nodes."""

    nodes: tuple[Node, ...]
    total: int
    has_more: bool


class Vault(Answer):
    """The wallet's money in the program."""

    wallet: str
    vault: str
    token_account: str
    mint: str
    currency: str
    decimals: int
    balance: Amount
    locked: Amount
    available: Amount
    wallet_balance: Amount
    escrows_open: int = 0
    runway_seconds: int | None = None
    compensation_owed: Amount | None = None


class Allowance(Answer):
    """Leave for one market to open escrows for the wallet."""

    address: str
    market: str
    matcher: str | None = None
    per_job: Amount
    per_day: Amount
    used_today: Amount | None = None
    day_resets_at: str | None = None
    total: Amount
    used_total: Amount | None = None
    max_price_per_hour: Amount
    expires_at: str | None = None
    state: str


class AllowanceList(Answer):
    """The wallet's allowances."""

    allowances: tuple[Allowance, ...]


class PreparedTransaction(Answer):
    """A transaction that the market built; nothing of it is believed before it was decoded."""

    transaction: str
    expires_at: str | None = None
    summary: str | None = None


class SentTransaction(Answer):
    """A transaction taken for sending."""

    signature: str
    state: str


class TransactionState(Answer):
    """How far a sent transaction is."""

    state: str
    slot: int | None = None
    error: object = None
