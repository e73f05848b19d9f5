"""What a job looks like to its renter. Source: api.md section 5.3, "Job view"."""

from collections.abc import Callable, Sequence
from typing import Any

from pydantic import Field

from marketplace.api.fields import (
    DecimalText,
    ExactNumber,
    JsonNumber,
    MillisInstant,
    ResponseModel,
    SecondsInstant,
)
from marketplace.api.native.quotes import BecauseView, because_view
from marketplace.domain.allocations import Allocation, Attempt, AttemptPhase
from marketplace.domain.lifecycle import JobStatus
from marketplace.domain.money import deposit_for, format_amount, per_gpu_second
from marketplace.domain.quantities import Millis
from marketplace.domain.reasons import MEANINGS, Reason
from marketplace.domain.timing import extension_lead_ms
from marketplace.protocol.terms import JobSpec
from marketplace.services.job_orders import output_of
from marketplace.services.jobs import JobDetails, JobService, cost_of


class SubmitView(ResponseModel):
    id: str
    status: str
    job_id: str
    estimated_cost: ExactNumber
    estimated_time_seconds: int
    currency: str
    max_cost: DecimalText
    quote_id: str | None
    escrow: str
    transaction: str | None
    created_at: SecondsInstant


class ErrorView(ResponseModel):
    code: str
    message: str


class QueueView(ResponseModel):
    position: int
    waiting_since: MillisInstant
    because: list[BecauseView]
    retry_at: MillisInstant | None
    until: MillisInstant


class AttemptView(ResponseModel):
    number: int
    node_id: str
    claimed_at: MillisInstant
    assigned_at: MillisInstant | None
    ready_at: MillisInstant | None
    exited_at: MillisInstant | None
    ended_at: MillisInstant | None
    end_reason: str | None
    billed_ms: int
    paid: DecimalText
    exit_code: int | None
    detail: str | None


class FeesPaid(ResponseModel):
    market: DecimalText
    protocol: DecimalText
    stakers: DecimalText


class Compensation(ResponseModel):
    amount: DecimalText
    currency: str


class TransactionView(ResponseModel):
    signature: str
    slot: int
    kind: str
    signatures: int
    fee_lamports: int
    fee_payer: str


class SettlementView(ResponseModel):
    escrow: str
    state: str
    deposit: DecimalText
    price_per_hour: DecimalText | None
    price_per_gpu_second: DecimalText | None
    billed_ms: int
    paid: DecimalText
    operator_received: DecimalText
    fees: FeesPaid
    refunded: DecimalText
    compensation: Compensation
    transactions: list[TransactionView]
    signatures: int
    rent_left_lamports: int
    settled_at: MillisInstant | None


class DeliveryView(ResponseModel):
    """How the outputs come into the renter's bucket. files, bytes: of the attempt. error: why they don't."""

    state: str
    credential_id: str
    files: int
    bytes: int
    started_at: MillisInstant | None
    ended_at: MillisInstant | None
    error: str | None


class CheckpointView(ResponseModel):
    """minutes: how often it is saved. The rest is of the latest one, null before there is one."""

    minutes: int
    saved_at: MillisInstant | None
    attempt: int | None
    bytes: int | None


class WhoPays(ResponseModel):
    """The row of the reason in docs/reasons.md."""

    renter: str
    node: str


class RequirementsView(ResponseModel):
    """As submitted, resolved; what was not asked for is null."""

    gpu_type: str
    gpu_count: int
    disk_gb: int
    gpu_types: list[str] | None
    min_vram_gb: int | None
    min_ram_gb: int | None
    min_vcpu: int | None
    min_cuda: str | None
    min_reputation: float | None


class AutoExtendView(ResponseModel):
    """up_to_seconds: as submitted. used_seconds: what was added of it."""

    up_to_seconds: int
    used_seconds: int


class RetryView(ResponseModel):
    """extend: whether a later attempt gets the full time again."""

    max_attempts: int
    on: list[str]
    exit_codes: list[int]
    extend: bool


class JobView(ResponseModel):
    job_id: str
    status: str
    progress: int
    miner_id: str | None
    created_at: SecondsInstant
    started_at: MillisInstant | None
    completed_at: MillisInstant | None
    result: Any = None
    id: str
    node_id: str | None
    cost: DecimalText
    currency: str
    reason: str | None
    reason_text: str | None
    exit_code: int | None
    error: ErrorView | None
    queue: QueueView | None
    attempts: list[AttemptView]
    settlement: SettlementView
    image: str
    image_digest: str | None
    model: str | None
    gpu: str
    gpu_count: int
    region: list[str]
    priority: str
    requirements: RequirementsView
    output_config: dict[str, object]
    delivery: DeliveryView | None
    checkpoint: CheckpointView | None
    timeout_seconds: int
    max_minutes: int | None = Field(serialization_alias="maxMinutes")
    env: dict[str, str]
    secret_names: list[str]
    name: str | None
    labels: dict[str, str]
    consumer_id: str | None
    runtime: str | None
    assigned_at: MillisInstant | None
    estimated_cost: ExactNumber
    estimated_time_seconds: int
    extends_at: MillisInstant | None
    retry_of: str | None
    retry: RetryView
    shm_gb: float | None
    ulimits: dict[str, int]
    registry_auth_id: str | None
    auto_extend: AutoExtendView | None
    limit_at: MillisInstant | None
    paused_at: MillisInstant | None
    who_pays: WhoPays | None
    entrypoint: list[str] | None
    command: list[str] | None
    workdir: str | None
    network: str
    queue_seconds: int
    stop_grace_seconds: int


class JobEntry(ResponseModel):
    job_id: str
    status: str
    model: str | None
    id: str
    image: str
    node_id: str | None
    cost: DecimalText
    created_at: SecondsInstant
    completed_at: MillisInstant | None
    reason: str | None
    gpu: str
    name: str | None
    currency: str


class JobList(ResponseModel):
    jobs: list[JobEntry]
    total: int
    has_more: bool


class JobViews:
    """Builds the views. runtime_of: what a node runs work with, by its id."""

    def __init__(self, jobs: JobService, runtime_of: Callable[[str], str | None]) -> None:
        self._jobs = jobs
        self._runtime_of = runtime_of

    def amount(self, units: int) -> str:
        """Base units of the payment token as decimal text."""
        return format_amount(units, self._jobs.decimals)

    def attempt(self, attempt: Attempt) -> AttemptView:
        """One attempt."""
        ended = attempt.reason is not Reason.RUNNING
        return AttemptView(
            number=attempt.number,
            node_id=attempt.node_id,
            claimed_at=Millis(attempt.claimed_at_ms),
            assigned_at=_at(attempt.assigned_at_ms),
            ready_at=_at(attempt.meter_at_ms),
            exited_at=_at(attempt.exited_at_ms),
            ended_at=_at(attempt.ended_at_ms),
            end_reason=attempt.reason.code if ended else None,
            billed_ms=attempt.billed_ms,
            paid=self.amount(attempt.paid),
            exit_code=attempt.exit_code,
            detail=attempt.detail,
        )

    def settlement(self, details: JobDetails) -> SettlementView:
        """The money, as the books have it."""
        allocation, escrow, latest = details.allocation, details.escrow, details.latest
        price = latest.price_per_hour if latest is not None else None
        fees = (escrow.market, escrow.protocol, escrow.stakers) if escrow is not None else (0, 0, 0)
        closed = escrow is not None and escrow.state == "closed"
        return SettlementView(
            escrow=allocation.escrow,
            state="absent" if escrow is None else escrow.state,
            deposit=self.amount(allocation.deposit),
            price_per_hour=None if price is None else self.amount(price),
            price_per_gpu_second=(
                None if price is None else per_gpu_second(price, allocation.gpu_count, self._jobs.decimals)
            ),
            billed_ms=sum(a.billed_ms for a in details.attempts),
            paid=self.amount(escrow.paid if escrow else 0),
            operator_received=self.amount(escrow.operator if escrow else 0),
            fees=FeesPaid(market=self.amount(fees[0]), protocol=self.amount(fees[1]), stakers=self.amount(fees[2])),
            refunded=self.amount(escrow.refunded if escrow else 0),
            compensation=Compensation(
                amount=format_amount(escrow.compensation if escrow else 0, self._jobs.stake_decimals),
                currency="STAKE",
            ),
            transactions=[
                TransactionView(
                    signature=t.signature,
                    slot=t.slot,
                    kind=t.purpose,
                    signatures=t.signatures,
                    fee_lamports=t.fee_lamports,
                    fee_payer=t.fee_payer,
                )
                for t in details.transactions
            ],
            signatures=sum(t.signatures for t in details.transactions),
            rent_left_lamports=0 if escrow is None or closed else self._jobs.escrow_rent,
            settled_at=_at(escrow.closed_at_ms) if escrow is not None else None,
        )

    def job(self, details: JobDetails) -> JobView:
        """The whole job."""
        allocation, latest = details.allocation, details.latest
        spec = JobSpec.model_validate_json(allocation.spec)
        output = output_of(allocation.submitted)
        reason = allocation.reason if allocation.reason is not Reason.RUNNING else None
        node_id = latest.node_id if latest is not None else None
        minutes, rest = divmod(allocation.max_ms, 60_000)
        started = next((a.meter_at_ms for a in details.attempts if a.meter_at_ms is not None), None)
        failed = allocation.terminal and allocation.status not in (JobStatus.COMPLETED, JobStatus.CANCELLED)
        return JobView(
            job_id=allocation.job_id,
            status=allocation.status.value,
            progress=allocation.progress,
            miner_id=node_id,
            created_at=Millis(allocation.created_at_ms),
            started_at=_at(started),
            completed_at=_at(allocation.completed_at_ms if allocation.terminal else None),
            result=details.result,
            id=allocation.job_id,
            node_id=node_id,
            cost=self.amount(details.cost),
            currency=self._jobs.currency,
            reason=None if reason is None else reason.code,
            reason_text=None if reason is None else MEANINGS[reason].text,
            exit_code=latest.exit_code if latest is not None else None,
            error=(
                ErrorView(code=reason.code, message=allocation.error or MEANINGS[reason].text)
                if failed and reason is not None
                else None
            ),
            queue=_queue(details, self._jobs.decimals),
            attempts=[self.attempt(a) for a in details.attempts],
            settlement=self.settlement(details),
            image=allocation.image,
            model=allocation.model,
            image_digest=allocation.image_digest,
            gpu=_class(allocation, latest),
            gpu_count=allocation.gpu_count,
            region=list(allocation.regions),
            priority=allocation.priority.value,
            requirements=_requirements(allocation, spec),
            output_config=dict(output.kept()),
            delivery=_delivery(details),
            checkpoint=_checkpoint(details, spec),
            timeout_seconds=allocation.max_ms // 1000,
            max_minutes=None if rest else minutes,
            env=spec.env,
            secret_names=list(spec.secret_names or ()),
            name=allocation.name,
            labels=dict(allocation.labels),
            consumer_id=allocation.consumer_id,
            runtime=None if node_id is None else self._runtime_of(node_id),
            assigned_at=_at(latest.assigned_at_ms if latest is not None else None),
            estimated_cost=JsonNumber(deposit_for(allocation.ceiling_per_hour, allocation.max_ms), self._jobs.decimals),
            estimated_time_seconds=_expected_s(allocation),
            retry_of=allocation.retry_of,
            retry=RetryView(
                max_attempts=allocation.max_attempts,
                on=[Reason(number).code for number in allocation.retry_on],
                exit_codes=list(allocation.retry_exit_codes),
                extend=allocation.retry_extend,
            ),
            shm_gb=None if spec.shm_mb is None else spec.shm_mb / 1000,
            ulimits=spec.ulimits or {},
            registry_auth_id=allocation.registry_auth_id,
            auto_extend=(
                AutoExtendView(
                    up_to_seconds=allocation.auto_extend_ms // 1000, used_seconds=allocation.auto_extended_ms // 1000
                )
                if allocation.auto_extend_ms
                else None
            ),
            extends_at=_extends_at(allocation, latest),
            limit_at=_limit_at(latest),
            paused_at=_at(latest.paused_at_ms if latest is not None and latest.live and latest.held else None),
            who_pays=None if reason is None else _who_pays(reason),
            entrypoint=None if spec.entrypoint is None else list(spec.entrypoint),
            command=None if spec.command is None else list(spec.command),
            workdir=spec.workdir,
            network=spec.network,
            queue_seconds=allocation.queue_ms // 1000,
            stop_grace_seconds=allocation.stop_grace_ms // 1000,
        )

    def submitted(self, allocation: Allocation) -> SubmitView:
        """The answer to a submit."""
        cost = deposit_for(allocation.ceiling_per_hour, allocation.max_ms)
        return SubmitView(
            id=allocation.job_id,
            status=allocation.status.value,
            job_id=allocation.job_id,
            estimated_cost=JsonNumber(cost, self._jobs.decimals),
            estimated_time_seconds=_expected_s(allocation),
            currency=self._jobs.currency,
            max_cost=self.amount(allocation.deposit),
            quote_id=allocation.quote_id,
            escrow=allocation.escrow,
            transaction=allocation.open_signature,
            created_at=Millis(allocation.created_at_ms),
        )

    def entry(self, allocation: Allocation, attempts: Sequence[Attempt]) -> JobEntry:
        """A line of the list. attempts: in order."""
        return JobEntry(
            job_id=allocation.job_id,
            status=allocation.status.value,
            id=allocation.job_id,
            image=allocation.image,
            model=allocation.model,
            node_id=attempts[-1].node_id if attempts else None,
            cost=self.amount(cost_of(attempts)),
            created_at=Millis(allocation.created_at_ms),
            completed_at=_at(allocation.completed_at_ms if allocation.terminal else None),
            reason=None if allocation.reason is Reason.RUNNING else allocation.reason.code,
            gpu=_class(allocation, attempts[-1] if attempts else None),
            name=allocation.name,
            currency=self._jobs.currency,
        )


def _expected_s(allocation: Allocation) -> int:
    """How long it was expected to run when it was submitted, in whole seconds as a quote has it."""
    expected = allocation.max_ms if allocation.expected_ms is None else allocation.expected_ms
    return -(-expected // 1000)


def _class(allocation: Allocation, latest: Attempt | None) -> str:
    """Of the node that has or had it, before that what was asked for."""
    return (latest.class_id if latest is not None else "") or allocation.class_id


def _at(at_ms: int | None) -> Millis | None:
    return None if at_ms is None else Millis(at_ms)


def _delivery(details: JobDetails) -> DeliveryView | None:
    delivery = details.delivery
    if delivery is None:
        return None
    return DeliveryView(
        state=delivery.state.value,
        credential_id=delivery.credential_id,
        files=delivery.files,
        bytes=delivery.size,
        started_at=_at(delivery.started_at_ms),
        ended_at=_at(delivery.ended_at_ms),
        error=delivery.error,
    )


def _checkpoint(details: JobDetails, spec: JobSpec) -> CheckpointView | None:
    if spec.checkpoint_minutes is None:
        return None
    latest = details.checkpoint
    return CheckpointView(
        minutes=spec.checkpoint_minutes,
        saved_at=None if latest is None else Millis(latest.at_ms),
        attempt=None if latest is None else latest.attempt,
        bytes=None if latest is None else latest.size,
    )


def _who_pays(reason: Reason) -> WhoPays:
    return WhoPays(renter=MEANINGS[reason].renter_pays, node=MEANINGS[reason].node)


def _requirements(allocation: Allocation, spec: JobSpec) -> RequirementsView:
    return RequirementsView(
        gpu_type=allocation.class_id,
        gpu_count=allocation.gpu_count,
        disk_gb=spec.disk_gb,
        gpu_types=None if not allocation.tiers else [class_id for tier in allocation.tiers for class_id in tier],
        min_vram_gb=spec.min_vram_gb,
        min_ram_gb=spec.min_ram_gb,
        min_vcpu=spec.min_vcpu,
        min_cuda=spec.min_cuda,
        min_reputation=None if spec.min_reputation is None else float(spec.min_reputation),
    )


def _limit_at(attempt: Attempt | None) -> Millis | None:
    """When running work reaches its limit; None while it is held there."""
    if attempt is None or attempt.phase is not AttemptPhase.READY or attempt.meter_at_ms is None or attempt.held:
        return None
    return Millis(attempt.meter_at_ms + attempt.limit_ms + attempt.unbilled_ms(attempt.meter_at_ms))


def _extends_at(allocation: Allocation, attempt: Attempt | None) -> Millis | None:
    limit_at = _limit_at(attempt)
    if attempt is None or limit_at is None or allocation.auto_extended_ms >= allocation.auto_extend_ms:
        return None
    return Millis(limit_at - extension_lead_ms(attempt.limit_ms))


def _queue(details: JobDetails, decimals: int) -> QueueView | None:
    allocation = details.allocation
    if details.queue_position is None:
        return None
    return QueueView(
        position=details.queue_position,
        waiting_since=Millis(allocation.waiting_since_ms),
        because=[because_view(b, decimals) for b in details.because],
        retry_at=_at(allocation.retry_at_ms),
        until=Millis(allocation.queue_until_ms),
    )
