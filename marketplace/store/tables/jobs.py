"""Allocations, their attempts, their log lines, open contests, and quotes."""

from typing import Final

from sqlalchemy import BigInteger, Index, LargeBinary, UniqueConstraint, false
from sqlmodel import Field, SQLModel

from marketplace.store.tables.partial import partial

_RETRIED = "[8,9,10,18,19,20,21]"
"""Reasons that rows of before `retry` were retried for."""


_FUNDED: Final = partial("funded_at_ms IS NOT NULL")
_RUNS: Final = partial("status = 'completed'")
_COMPLETED: Final = partial("completed_at_ms IS NOT NULL AND funded_at_ms IS NOT NULL")


class AllocationRow(SQLModel, table=True):
    """One renter's use of capacity; columns mirror `domain.allocations.Allocation`. Lists are JSON text.

    status: the word that is shown, kept so that lists are read from an index.
    """

    __tablename__ = "allocations"
    __table_args__ = (
        UniqueConstraint("account_id", "key", name="uq_allocations_account_key"),
        UniqueConstraint("wallet", "opener", "nonce", name="uq_allocations_wallet_opener_nonce"),
        Index("ix_allocations_listed", "account_id", "created_at_ms", "id", **_FUNDED),
        Index("ix_allocations_status", "account_id", "status", "created_at_ms", "id", **_FUNDED),
        Index("ix_allocations_runs", "account_id", "image", "created_at_ms", **_RUNS),
        Index("ix_allocations_ended", "account_id", "completed_at_ms", "id", "status", "funded_at_ms", **_COMPLETED),
    )

    id: str = Field(primary_key=True)
    account_id: str
    wallet: str
    key: str
    body_hash: bytes = Field(sa_type=LargeBinary)
    opener: str
    nonce: int = Field(sa_type=BigInteger)
    escrow: str = Field(unique=True)
    terms_hash: bytes = Field(sa_type=LargeBinary)
    spec: str
    submitted: str
    class_id: str
    regions: str
    gpu_count: int
    image: str
    egress: bool
    disk_gb: int
    priority: str
    ceiling_per_hour: int = Field(sa_type=BigInteger)
    deposit: int = Field(sa_type=BigInteger)
    max_ms: int = Field(sa_type=BigInteger)
    max_attempts: int
    stop_grace_ms: int = Field(sa_type=BigInteger)
    queue_ms: int = Field(sa_type=BigInteger)
    queue_until_ms: int = Field(sa_type=BigInteger)
    created_at_ms: int = Field(sa_type=BigInteger)
    state: str = Field(index=True)
    reason: int
    cancelling: bool
    cancelling_at_ms: int | None = Field(default=None, sa_type=BigInteger)
    attempt: int
    image_digest: str | None = None
    only_nodes: str
    excluded: str
    quote_id: str | None = None
    name: str | None = None
    labels: str
    progress: int
    funded_at_ms: int | None = Field(default=None, sa_type=BigInteger)
    open_signature: str | None = None
    completed_at_ms: int | None = Field(default=None, sa_type=BigInteger)
    error: str | None = None
    opening: bool
    status: str
    uploading: bool
    version: int = Field(sa_type=BigInteger)
    tiers: str = Field(default="[]", sa_column_kwargs={"server_default": "[]"})
    min_cuda: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    min_reputation_millionths: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    retry_on: str = Field(default=_RETRIED, sa_column_kwargs={"server_default": _RETRIED})
    retry_exit_codes: str = Field(default="[]", sa_column_kwargs={"server_default": "[]"})
    retry_at_ms: int | None = Field(default=None, sa_type=BigInteger)
    retry_extend: bool = Field(default=False, sa_column_kwargs={"server_default": false()})
    retry_of: str | None = None
    consumer_id: str | None = None
    model: str | None = None
    registry_auth_id: str | None = Field(default=None, index=True)
    auto_extend_ms: int = Field(default=0, sa_type=BigInteger, sa_column_kwargs={"server_default": "0"})
    auto_extended_ms: int = Field(default=0, sa_type=BigInteger, sa_column_kwargs={"server_default": "0"})
    warned: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    expected_ms: int | None = Field(default=None, sa_type=BigInteger)
    stop_at_chain_ms: int | None = Field(default=None, sa_type=BigInteger)


class JobCountRow(SQLModel, table=True):
    """How many funded jobs of an account have a word: kept with each change, so that no total is counted again."""

    __tablename__ = "job_counts"

    account_id: str = Field(primary_key=True)
    status: str = Field(primary_key=True)
    jobs: int = Field(sa_type=BigInteger)


class JobLabelRow(SQLModel, table=True):
    """One label of a job, for the lists that it narrows."""

    __tablename__ = "job_labels"
    __table_args__ = (Index("ix_job_labels_value", "account_id", "name", "value", "allocation_id"),)

    allocation_id: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    value: str
    account_id: str


class AttemptRow(SQLModel, table=True):
    """One node's turn; columns mirror `domain.allocations.Attempt`."""

    __tablename__ = "attempts"
    __table_args__ = (Index("ix_attempts_node_phase", "node_id", "phase"), Index("ix_attempts_phase", "phase"))

    allocation_id: str = Field(primary_key=True, foreign_key="allocations.id")
    number: int = Field(primary_key=True)
    node_id: str
    node_key: str
    node_address: str
    lease_token: str
    phase: str
    price_per_hour: int = Field(sa_type=BigInteger)
    fee_bps: int
    protocol_bps: int
    max_ms: int = Field(sa_type=BigInteger)
    deposit: int = Field(sa_type=BigInteger)
    slots: int
    claim_at_chain_ms: int = Field(sa_type=BigInteger)
    claim_signature: bytes = Field(sa_type=LargeBinary)
    claimed_at_ms: int = Field(sa_type=BigInteger)
    assigned_at_ms: int | None = Field(default=None, sa_type=BigInteger)
    assigned_chain_ms: int | None = Field(default=None, sa_type=BigInteger)
    meter_at_ms: int | None = Field(default=None, sa_type=BigInteger)
    started_chain_ms: int | None = Field(default=None, sa_type=BigInteger)
    exited_at_ms: int | None = Field(default=None, sa_type=BigInteger)
    ended_at_ms: int | None = Field(default=None, sa_type=BigInteger)
    reason: int
    exit_code: int | None = None
    detail: str | None = None
    report_sequence: int = Field(sa_type=BigInteger)
    voucher: bytes | None = Field(default=None, sa_type=LargeBinary)
    node_signature: bytes | None = Field(default=None, sa_type=LargeBinary)
    meter_signature: bytes | None = Field(default=None, sa_type=LargeBinary)
    voucher_sequence: int = Field(sa_type=BigInteger)
    billed_ms: int = Field(sa_type=BigInteger)
    amount: int = Field(sa_type=BigInteger)
    paid: int = Field(sa_type=BigInteger)
    operator_received: int = Field(sa_type=BigInteger)
    settled_chain_ms: int | None = Field(default=None, sa_type=BigInteger)
    uploading_at_ms: int | None = Field(default=None, sa_type=BigInteger)
    meter_key: str | None = None
    class_id: str = Field(default="", sa_column_kwargs={"server_default": ""})
    extended_ms: int = Field(default=0, sa_type=BigInteger, sa_column_kwargs={"server_default": "0"})
    extended_deposit: int = Field(default=0, sa_type=BigInteger, sa_column_kwargs={"server_default": "0"})
    extended_at_ms: int | None = Field(default=None, sa_type=BigInteger)
    paused_at_ms: int | None = Field(default=None, sa_type=BigInteger)
    paused_ms: int = Field(default=0, sa_type=BigInteger, sa_column_kwargs={"server_default": "0"})


class LogChunkRow(SQLModel, table=True):
    """Lines first_seq..last_seq of one attempt, newline-delimited JSON in one blob.

    size_before: bytes of the attempt's earlier chunks; null in rows of before it was kept.
    """

    __tablename__ = "log_chunks"

    allocation_id: str = Field(primary_key=True)
    attempt: int = Field(primary_key=True)
    first_seq: int = Field(primary_key=True, sa_type=BigInteger)
    last_seq: int = Field(sa_type=BigInteger)
    size_bytes: int = Field(sa_type=BigInteger)
    size_before: int | None = Field(default=None, sa_type=BigInteger)
    lines: bytes = Field(sa_type=LargeBinary)
    at_ms: int = Field(sa_type=BigInteger, index=True)


class ContestRow(SQLModel, table=True):
    """An ended attempt whose contest window has to be closed. due_chain_ms: when the chain allows it."""

    __tablename__ = "contests"

    escrow: str = Field(primary_key=True)
    attempt: int = Field(primary_key=True)
    allocation_id: str = Field(index=True)
    due_chain_ms: int = Field(sa_type=BigInteger)
    state: str = Field(index=True)


class QuoteRow(SQLModel, table=True):
    """A quote as it was answered. body: JSON of the answer."""

    __tablename__ = "quotes"

    id: str = Field(primary_key=True)
    account_id: str
    token: str
    body: str
    expires_at_ms: int = Field(sa_type=BigInteger, index=True)


class LeaseRow(SQLModel, table=True):
    """A worker's expiring hold on a duty. A write back names the token; another token means the hold is lost."""

    __tablename__ = "leases"

    kind: str = Field(primary_key=True)
    owner: str
    token: str
    expires_at_ms: int = Field(sa_type=BigInteger)
