"""`/v1/constants`: every number that users depend on, with an ETag and without a login. Source: api.md section 5.8."""

import hashlib

from aiohttp import web

from marketplace.api import dates
from marketplace.api.fields import PAGE_LIMIT, DecimalText, ExactNumber, JsonNumber, MillisInstant, ResponseModel
from marketplace.api.json_bodies import MAX_DEPTH, dump_model
from marketplace.api.native.job_exec import MAX_MESSAGE_BYTES
from marketplace.api.native.job_lists import CSV_ROWS
from marketplace.api.native.job_logs import MAX_TAIL
from marketplace.api.native.jobs import MAX_JOB_BYTES
from marketplace.api.routes import MAX_BODY_BYTES, OPEN, Call, Route
from marketplace.api.server import RateWindows
from marketplace.domain.money import format_amount
from marketplace.domain.pricing import FACTORS, Priority
from marketplace.domain.quantities import Millis
from marketplace.domain.retries import DEFAULT_ATTEMPTS, FIRST_PAUSE_MS, LAST_PAUSE_MS, MAX_EXIT_CODES
from marketplace.domain.retries import MAX_ATTEMPTS as MAX_JOB_ATTEMPTS
from marketplace.domain.timing import MAX_AUTO_STEP_MS, MAX_TOTAL_MS, RESTORE_LIMIT_MS, RESTORE_SILENCE_MS, warnings_of
from marketplace.domain.webhook_retries import MAX_ATTEMPTS
from marketplace.errors import MAX_DETAILS, Starting
from marketplace.protocol.checkpoints import MAX_ENTRIES
from marketplace.protocol.inputs import MAX_INLINE_BYTES
from marketplace.protocol.outputs import MAX_BYTES, MAX_FILES
from marketplace.services import (
    checkpoints,
    execs,
    files,
    groups,
    job_secrets,
    logs,
    model_registry,
    outputs,
    prices,
    usage,
    webhook_deliveries,
)
from marketplace.services.api_keys import MAX_KEYS
from marketplace.services.bucket_credentials import MAX_CREDENTIALS
from marketplace.services.bucket_deliveries import PATIENCE_MS
from marketplace.services.constants import CLAIM_S, MAX_UNACKED_S, QUOTE_S, Constants, ConstantsService
from marketplace.services.feed import MAX_PAGE as MAX_EVENTS_PAGE
from marketplace.services.feed import RETENTION_MS as EVENTS_KEPT_MS
from marketplace.services.files import MAX_FILE_BYTES, MAX_PART_BYTES, MIN_PART_BYTES, QUOTA_BYTES, QUOTA_FILES
from marketplace.services.job_orders import MAX_ENV_BYTES, MAX_REFERENCE, MAX_SECONDS, MAX_STOP_GRACE_S
from marketplace.services.jobs import MAX_LIVE, MAX_UNASSIGNED, QUEUE_MS
from marketplace.services.outputs import INLINE_BYTES
from marketplace.services.scheduler import AGING_MS, STOP_PATIENCE_MS, UPLOAD_LIMIT_MS
from marketplace.services.webhooks import MAX_WEBHOOKS, OLD_SECRET_MS


class ChainConstants(ResponseModel):
    program_id: str
    genesis_hash: str
    payment_mint: str
    stake_mint: str
    decimals: int
    stake_decimals: int
    currency: str
    market: str
    matcher_key: str
    meter_key: str
    quote_key: str


class FeeConstants(ResponseModel):
    market_bps: int
    protocol_bps: int
    node_share_bps: int
    included: bool
    minimum_deposit: DecimalText


class ClassConstants(ResponseModel):
    """bond: stake tokens; null where this deployment has no such class."""

    id: str
    title: str
    aliases: list[str]
    bond: DecimalText | None
    enabled: bool


class TimingConstants(ResponseModel):
    """restore_s: for a checkpoint on its way to the next attempt, beside start_limit_s; restore_silence_s: it may stand
    still for so long.
    """

    heartbeat_s: int
    missed: int
    max_unacked_s: int
    lost_after_s: ExactNumber
    start_limit_s: ExactNumber
    claim_s: int
    claim_limit_s: ExactNumber
    skew_s: ExactNumber
    contest_s: ExactNumber
    reap_grace_s: ExactNumber
    queue_limit_s: ExactNumber
    stop_after_s: ExactNumber
    unbonding_s: ExactNumber
    epoch_s: ExactNumber
    quote_s: int
    pause_s: int
    restore_s: int
    restore_silence_s: int


class RateConstants(ResponseModel):
    """Requests per minute."""

    wallet: int
    client: int
    address: int
    challenge: int
    login: int
    node: int


class LimitConstants(ResponseModel):
    """requests_per_hour: of an API key in class `client`. output_*, log_*: of one attempt. delivery_s: for its outputs.

    group_funding_s: how long a group waits for money or leave. span_days: of history, usage and earnings.
    bucket_patience_s: how long a renter's storage service may be in trouble. checkpoint_files: files, folders, links.
    models: that admins put beside the operator's own. error_details: faults that one answer tells.
    """

    requests_per_minute: RateConstants
    requests_per_hour: int
    api_keys: int
    webhooks: int
    webhook_attempts: int
    events_page: int
    body_bytes: int
    json_depth: int
    page: int
    streams: int
    job_body_bytes: int
    input_text_bytes: int
    input_url_bytes: int
    file_bytes: int
    file_part_min_bytes: int
    file_part_max_bytes: int
    account_file_bytes: int
    account_files: int
    output_bytes: int
    output_files: int
    result_inline_bytes: int
    delivery_s: int
    log_line_bytes: int
    log_attempt_bytes: int
    log_tail: int
    webhook_body_bytes: int
    webhook_answer_s: int
    registry_logins: int
    groups_open: int
    group_members: int
    group_funding_s: int
    span_days: int
    price_days: int
    csv_rows: int
    bucket_patience_s: int
    account_credentials: int
    account_checkpoint_bytes: int
    checkpoint_files: int
    models: int
    model_bytes: int
    error_details: int


class JobConstants(ResponseModel):
    """Bounds of jobs. timeout_s: as submitted; total_s: with all extensions. unassigned: waiting on the market's rent.

    warnings: thresholds of time left.
    exec_per_job, exec_per_node: commands beside jobs at once.
    stop_grace_s: between TERM and KILL. stop_patience_s: how long beyond it a node may take before it counts as lost.
    """

    timeout_s: int
    total_s: int
    auto_extend_step_s: int
    queue_s: int
    attempts: int
    env_bytes: int
    image_reference: int
    live: int
    unassigned: int
    warnings: list[str]
    default_queue_s: int
    default_attempts: int
    retry_first_pause_s: int
    retry_last_pause_s: int
    exit_codes: int
    exec_per_job: int
    exec_per_node: int
    exec_message_bytes: int
    stop_grace_s: int
    stop_patience_s: int


class RetentionConstants(ResponseModel):
    challenge_s: int
    token_s: int
    refresh_token_s: int
    idempotency_s: int
    idempotency_secrets_s: int
    files_s: int
    uploads_s: int
    outputs_s: int
    logs_s: int
    events_s: int
    rotated_webhook_secret_s: int
    metrics_s: int


class PriorityConstants(ResponseModel):
    """Multipliers of the price, as decimal text. step_s: who waited so long goes with the next higher priority."""

    low: DecimalText
    normal: DecimalText
    high: DecimalText
    urgent: DecimalText
    step_s: int


class StakingConstants(ResponseModel):
    """unbonding_s: from unbonding to withdrawal. commission_step_bps: the most by which a commission changes at once.

    dead_shares_per_unit: a pool with more shares for each base unit of stake takes no more.
    """

    unbonding_s: ExactNumber
    commission_delay_s: ExactNumber
    commission_step_bps: int
    dead_shares_per_unit: int
    mint: str
    decimals: int


class EmissionConstants(ResponseModel):
    """Weights of an epoch are registered in the first half of the next one, its emission is fixed in the second, and
    drawn until the epoch after that ends. decay_bps: by how much the schedule falls with each epoch. cap_bps: a pool's
    part, at most this part of the protocol fees that its node brought, at the exposure rate.
    """

    epoch_s: ExactNumber
    epoch_start: MillisInstant
    decay_bps: int
    cap_bps: int


class CompensationConstants(ResponseModel):
    bps: int
    cap_per_epoch_bps: int


class SlashingConstants(ResponseModel):
    overclaim_bps: int
    cap_per_epoch_bps: int
    exposure_rate: int
    exposure_multiple: int


class ReasonConstants(ResponseModel):
    number: int
    code: str
    meaning: str
    renter_pays: str
    node: str


class ConstantsResponse(ResponseModel):
    chain: ChainConstants
    fees: FeeConstants
    classes: list[ClassConstants]
    timing: TimingConstants
    limits: LimitConstants
    jobs: JobConstants
    retention: RetentionConstants
    priority: PriorityConstants
    staking: StakingConstants
    emission: EmissionConstants
    compensation: CompensationConstants
    slashing: SlashingConstants
    reasons: list[ReasonConstants]


def constants_routes(constants: ConstantsService, windows: RateWindows, *, streams: int) -> list[Route]:
    """The one document."""

    async def get_constants(call: Call) -> web.Response:
        body = dump_model(_response(constants.get(), windows, streams))
        tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        headers = {"ETag": tag, "Cache-Control": "public, max-age=0, must-revalidate"}
        known = {entry.strip().removeprefix("W/") for entry in call.http.headers.get("If-None-Match", "").split(",")}
        if tag in known or "*" in known:
            return web.Response(status=304, headers=headers)
        return web.Response(body=body, headers=headers, content_type="application/json")

    return [
        Route(
            "GET",
            "/v1/constants",
            get_constants,
            "Every number that users depend on",
            OPEN,
            errors=(Starting,),
            documents=ConstantsResponse,
        )
    ]


def _response(all_of: Constants, windows: RateWindows, streams: int) -> ConstantsResponse:
    chain = all_of.chain
    return ConstantsResponse(
        chain=ChainConstants.model_validate(chain, from_attributes=True),
        fees=FeeConstants(
            market_bps=all_of.market_bps,
            protocol_bps=all_of.protocol_bps,
            node_share_bps=all_of.node_share_bps,
            included=True,
            minimum_deposit=format_amount(all_of.minimum_deposit, chain.decimals),
        ),
        classes=[
            ClassConstants(
                id=entry.id,
                title=entry.title,
                aliases=list(entry.aliases),
                bond=None if entry.bond is None else format_amount(entry.bond, chain.stake_decimals),
                enabled=entry.enabled,
            )
            for entry in all_of.classes
        ],
        timing=TimingConstants(
            heartbeat_s=all_of.heartbeat_s,
            missed=all_of.missed,
            max_unacked_s=MAX_UNACKED_S,
            lost_after_s=_seconds(all_of.lost_after_ms),
            start_limit_s=_seconds(all_of.ready_limit_ms),
            claim_s=CLAIM_S,
            claim_limit_s=_seconds(all_of.claim_limit_ms),
            skew_s=_seconds(all_of.skew_ms),
            contest_s=_seconds(all_of.contest_ms),
            reap_grace_s=_seconds(all_of.reap_grace_ms),
            queue_limit_s=_seconds(all_of.queue_limit_ms),
            stop_after_s=_seconds(all_of.stop_after_ms),
            unbonding_s=_seconds(all_of.unbonding_ms),
            epoch_s=_seconds(all_of.epoch_ms),
            quote_s=QUOTE_S,
            pause_s=all_of.pause_s,
            restore_s=RESTORE_LIMIT_MS // 1000,
            restore_silence_s=RESTORE_SILENCE_MS // 1000,
        ),
        limits=LimitConstants(
            requests_per_minute=RateConstants(
                wallet=windows.wallet[0].limit,
                client=windows.client[0].limit,
                address=windows.address[0].limit,
                challenge=windows.challenge[0].limit,
                login=windows.login[0].limit,
                node=windows.node[0].limit,
            ),
            requests_per_hour=windows.client[-1].limit,
            api_keys=MAX_KEYS,
            webhooks=MAX_WEBHOOKS,
            webhook_attempts=MAX_ATTEMPTS,
            events_page=MAX_EVENTS_PAGE,
            body_bytes=MAX_BODY_BYTES,
            json_depth=MAX_DEPTH,
            page=PAGE_LIMIT,
            streams=streams,
            job_body_bytes=MAX_JOB_BYTES,
            input_text_bytes=MAX_INLINE_BYTES,
            input_url_bytes=MAX_FILE_BYTES,
            file_bytes=MAX_FILE_BYTES,
            file_part_min_bytes=MIN_PART_BYTES,
            file_part_max_bytes=MAX_PART_BYTES,
            account_file_bytes=QUOTA_BYTES,
            account_files=QUOTA_FILES,
            output_bytes=MAX_BYTES,
            output_files=MAX_FILES,
            result_inline_bytes=INLINE_BYTES,
            delivery_s=UPLOAD_LIMIT_MS // 1000,
            log_line_bytes=logs.MAX_LINE_BYTES,
            log_attempt_bytes=logs.MAX_ATTEMPT_BYTES,
            log_tail=MAX_TAIL,
            webhook_body_bytes=webhook_deliveries.MAX_BODY_BYTES,
            webhook_answer_s=int(webhook_deliveries.ANSWER_S),
            registry_logins=job_secrets.MAX_AUTHS,
            groups_open=groups.MAX_OPEN,
            group_members=groups.MAX_MEMBERS,
            group_funding_s=groups.FUNDING_MS // 1000,
            span_days=dates.MAX_DAYS,
            price_days=prices.MAX_DAYS,
            csv_rows=CSV_ROWS,
            bucket_patience_s=PATIENCE_MS // 1000,
            account_credentials=MAX_CREDENTIALS,
            account_checkpoint_bytes=checkpoints.QUOTA_BYTES,
            checkpoint_files=MAX_ENTRIES,
            models=model_registry.MAX_STORED,
            model_bytes=model_registry.MAX_ENTRY_BYTES,
            error_details=MAX_DETAILS,
        ),
        jobs=JobConstants(
            timeout_s=MAX_SECONDS,
            total_s=MAX_TOTAL_MS // 1000,
            auto_extend_step_s=MAX_AUTO_STEP_MS // 1000,
            queue_s=min(MAX_SECONDS, all_of.queue_limit_ms // 1000),
            attempts=MAX_JOB_ATTEMPTS,
            env_bytes=MAX_ENV_BYTES,
            image_reference=MAX_REFERENCE,
            live=MAX_LIVE,
            unassigned=MAX_UNASSIGNED,
            warnings=[warning.code for warning in warnings_of(Millis(MAX_TOTAL_MS))],
            default_queue_s=min(QUEUE_MS, all_of.queue_limit_ms) // 1000,
            default_attempts=DEFAULT_ATTEMPTS,
            retry_first_pause_s=FIRST_PAUSE_MS // 1000,
            retry_last_pause_s=LAST_PAUSE_MS // 1000,
            exit_codes=MAX_EXIT_CODES,
            exec_per_job=execs.MAX_PER_JOB,
            exec_per_node=execs.MAX_PER_NODE,
            exec_message_bytes=MAX_MESSAGE_BYTES,
            stop_grace_s=MAX_STOP_GRACE_S,
            stop_patience_s=STOP_PATIENCE_MS // 1000,
        ),
        retention=RetentionConstants(
            challenge_s=all_of.challenge_s,
            token_s=all_of.token_s,
            refresh_token_s=all_of.refresh_s,
            idempotency_s=all_of.idempotency_s,
            idempotency_secrets_s=all_of.idempotency_secrets_s,
            files_s=files.RETENTION_MS // 1000,
            uploads_s=files.UPLOAD_MS // 1000,
            outputs_s=outputs.RETENTION_MS // 1000,
            logs_s=logs.RETENTION_MS // 1000,
            events_s=EVENTS_KEPT_MS // 1000,
            rotated_webhook_secret_s=OLD_SECRET_MS // 1000,
            metrics_s=usage.RETENTION_MS // 1000,
        ),
        priority=PriorityConstants(
            **{entry.value: format_amount(FACTORS[entry], 4) for entry in Priority}, step_s=AGING_MS // 1000
        ),
        staking=StakingConstants(
            unbonding_s=_seconds(all_of.unbonding_ms),
            commission_delay_s=_seconds(all_of.commission_delay_ms),
            commission_step_bps=all_of.commission_step_bps,
            dead_shares_per_unit=all_of.dead_shares_per_unit,
            mint=chain.stake_mint,
            decimals=chain.stake_decimals,
        ),
        emission=EmissionConstants(
            epoch_s=_seconds(all_of.epoch_ms),
            epoch_start=Millis(all_of.epoch_start_ms),
            decay_bps=all_of.emission_decay_bps,
            cap_bps=all_of.emission_cap_bps,
        ),
        compensation=CompensationConstants(bps=all_of.compensation_bps, cap_per_epoch_bps=all_of.slash_cap_bps),
        slashing=SlashingConstants(
            overclaim_bps=all_of.slash_overclaim_bps,
            cap_per_epoch_bps=all_of.slash_cap_bps,
            exposure_rate=all_of.exposure_rate,
            exposure_multiple=all_of.exposure_multiple,
        ),
        reasons=[ReasonConstants.model_validate(entry, from_attributes=True) for entry in all_of.reasons],
    )


def _seconds(milliseconds: int) -> JsonNumber:
    return JsonNumber(milliseconds, 3)
