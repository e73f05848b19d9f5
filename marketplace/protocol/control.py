"""Messages between a market and a node, in one WebSocket that the node holds (subprotocol `reaver.node.v1`).

Every frame is JSON text `{type, id, re?, body}` of at most 1 MiB. `id` is the sender's, `re` names the frame that
is answered. What is not answered is sent again after a reconnect; the receiver deduplicates by
(allocation, attempt, sequence). The same bodies travel by POST (api.md section 5.5).

    node                                         market
    hello                               ->
                                        <-       hello          (settings to obey)
    heartbeat                           ->
                                        <-       ack            (HeartbeatAck: countersignatures, refusals, commands)
                                        <-       claim_request
    claim | refuse                      ->
                                        <-       ack            (ClaimAck: lease)  or  error
                                        <-       command        (assigned: the chain confirmed, the meter may start)
    state (pulling, ready, …, exited)   ->
                                        <-       ack            (StateAck: countersignature)  or  error
    logs                                ->
                                        <-       ack            (LogsAck)
                                        <-       command        (stop, settled, drain)
    ack                                 ->
"""

import base64
from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, WithJsonSchema

SUBPROTOCOL: Final = "reaver.node.v1"
MAX_FRAME_BYTES: Final = 1 << 20
MAX_EXEC_BYTES: Final = 32 << 10
"""Of one `exec_data` frame."""
MAX_LOG_LINES: Final = 500
"""Lines of one `logs` frame; with lines of at most 16 KiB the node also keeps frames under MAX_FRAME_BYTES."""


def _decode(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise ValueError("base64 text expected")  # noqa: TRY004 pydantic turns ValueError into a validation error
    return base64.b64decode(value, validate=True)


Base64Bytes = Annotated[
    bytes,
    PlainValidator(_decode),
    PlainSerializer(lambda raw: base64.b64encode(raw).decode(), return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "contentEncoding": "base64"}),
]
"""Bytes that travel as standard base64 text."""


class Message(BaseModel):
    """Base of all bodies: strict, frozen, and closed to unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class FrameType(StrEnum):
    """Kinds of frames."""

    HELLO = "hello"
    HEARTBEAT = "heartbeat"
    CLAIM_REQUEST = "claim_request"
    CLAIM = "claim"
    REFUSE = "refuse"
    STATE = "state"
    LOGS = "logs"
    COMMAND = "command"
    EXEC = "exec"
    EXEC_DATA = "exec_data"
    EXEC_CONTROL = "exec_control"
    EXEC_END = "exec_end"
    ACK = "ack"
    ERROR = "error"


class Frame(Message):
    """The envelope. `body` is parsed by the receiver with the model that `type` (and `re`) names."""

    type: FrameType = Field(strict=False)
    id: str = Field(min_length=1, max_length=64)
    re: str | None = Field(default=None, max_length=64)
    body: dict[str, object]


class AttemptState(StrEnum):
    """How far a node is with one attempt."""

    CLAIMED = "claimed"
    PULLING = "pulling"
    READY = "ready"
    """The container runs: the meter is on."""
    RUNNING = "running"
    """Reported after a pause: the meter goes on."""
    PAUSED = "paused"
    """Held at its time limit, unbilled: more time resumes it."""
    UPLOADING = "uploading"
    """The work is over and its time is settled; what it left in /outputs is on its way."""
    EXITED = "exited"
    """Over, for the reason in the report; the last voucher, if it ever was ready, is attached."""


class Hardware(Message):
    """What the node measured of its machine. cuda_version: the highest that its driver serves, `major.minor`."""

    vcpu: int = Field(ge=1)
    ram_bytes: int = Field(ge=1)
    disk_bytes: int = Field(ge=0)
    gpus: tuple[str, ...] = Field(default=(), strict=False)
    cuda_version: str | None = Field(default=None, max_length=16)


class Capabilities(Message):
    """What the node's runtime can do; the scheduler sends nothing else.

    runtime: docker, podman, process or fake. egress: it can fence a job off its private networks.
    pause: it can hold a job at its limit. exec: it can run a command beside a job.
    """

    runtime: str
    egress: bool
    disk_limit: bool
    max_disk_gb: int = Field(ge=0)
    pause: bool = False
    exec: bool = False


class Hello(Message):
    """First frame of the node after each connect.

    holding: attempts that it runs or has not been told to forget.
    spec_version: newest form of a job that it can read (`terms.SPEC_VERSION`); nodes of before that was told know 1.
    """

    version: str
    hardware: Hardware
    capabilities: Capabilities
    slots: int = Field(ge=1)
    free_slots: int = Field(ge=0)
    images: tuple[str, ...] = Field(default=(), strict=False)
    draining: bool = False
    spec_version: int = Field(default=1, ge=1)
    holding: tuple["Holding", ...] = Field(default=(), strict=False)


class Holding(Message):
    """One attempt that the node knows of."""

    allocation_id: str
    attempt: int = Field(ge=1)
    state: AttemptState = Field(strict=False)


class Welcome(Message):
    """The market's answer to `hello`: what the node obeys while connected.

    pause_ms: how long a job is held at its limit for more time.
    forget: attempts of `holding` that the market knows as over; the node stops and removes them.
    market, meter_key, program_id, genesis_hash: base58.
    """

    server_time_ms: int
    heartbeat_ms: int = Field(ge=100)
    max_unacked_ms: int = Field(ge=0)
    start_limit_ms: int = Field(ge=0)
    pause_ms: int = Field(default=0, ge=0)
    market: str
    meter_key: str
    program_id: str
    genesis_hash: str
    forget: tuple[Holding, ...] = Field(default=(), strict=False)


class SignedVoucher(Message):
    """A voucher (`VoucherMessage.fields()`) with the node's signature over its signing bytes."""

    fields: Base64Bytes
    signature: Base64Bytes


class AllocationBeat(Message):
    """State of one attempt in a heartbeat.

    voucher: latest cumulative one, None before ready. extended_ms: added time that the node knows of.
    used: what it has used since its start, where that was measured.
    """

    allocation_id: str
    attempt: int = Field(ge=1)
    lease_token: str
    state: AttemptState = Field(strict=False)
    progress: int | None = Field(default=None, ge=0, le=100)
    voucher: SignedVoucher | None = None
    extended_ms: int = Field(default=0, ge=0)
    used: "Used | None" = None


class Used(Message):
    """What a container has used. cpu_ms, received_bytes, sent_bytes: since its start; memory_bytes: now.

    gpu_percent: how busy its GPUs are now, 0 to 100 on average; gpu_memory_bytes: of all of them. None: not measured.
    """

    cpu_ms: int = Field(ge=0, lt=1 << 62)
    memory_bytes: int = Field(ge=0, lt=1 << 62)
    received_bytes: int = Field(ge=0, lt=1 << 62)
    sent_bytes: int = Field(ge=0, lt=1 << 62)
    gpu_percent: int | None = Field(default=None, ge=0, le=100)
    gpu_memory_bytes: int | None = Field(default=None, ge=0, lt=1 << 62)


class Heartbeat(Message):
    """Sent each `heartbeat_ms`, and at once when something changed that money depends on."""

    sequence: int = Field(ge=0)
    free_slots: int = Field(ge=0)
    images: tuple[str, ...] = Field(default=(), strict=False)
    load: float = Field(default=0.0, ge=0)
    draining: bool = False
    allocations: tuple[AllocationBeat, ...] = Field(default=(), strict=False)


class Countersignature(Message):
    """The meter's signature over a voucher's signing bytes."""

    allocation_id: str
    attempt: int
    sequence: int
    signature: Base64Bytes


class Refusal(Message):
    """Why the meter does not countersign: the node goes on and may show a later voucher."""

    allocation_id: str
    attempt: int
    sequence: int
    code: str


class CommandType(StrEnum):
    """What a market may ask of a node."""

    ASSIGNED = "assigned"
    """The chain confirmed the assignment: the work may start (pulling may have begun before)."""
    STOP = "stop"
    """End the attempt with the given reason: TERM, grace, KILL, then the last voucher."""
    EXTEND = "extend"
    """The escrow has more time and deposit: so much was added since the claim, in all."""
    SETTLED = "settled"
    """The attempt's money is settled: the node forgets it."""
    DRAIN = "drain"
    """Take no more work."""
    RESUME = "resume"
    """Take work again."""


class Command(Message):
    """One command, acknowledged by an `ack` frame with an empty body, or carried by a HeartbeatAck.

    id: dedupes a command that is sent again. reason: number, for `stop`. transaction: for `assigned`, `settled`.
    final: for `stop`: whether the last voucher is `final` (the escrow closes) or `ended`.
    extended_ms, extended_deposit: for `extend`.
    """

    id: str
    type: CommandType = Field(strict=False)
    allocation_id: str | None = None
    attempt: int | None = None
    reason: int = 0
    grace_ms: int = Field(default=10_000, ge=0)
    final: bool = True
    transaction: str | None = None
    extended_ms: int = Field(default=0, ge=0)
    extended_deposit: int = Field(default=0, ge=0)


class HeartbeatAck(Message):
    """Answer to a heartbeat. next_ms: when the next one is due.

    chain_time_ms: the chain's clock as the meter has it, against which it holds vouchers; None where it isn't said.
    """

    server_time_ms: int
    next_ms: int
    chain_time_ms: int | None = None
    countersigned: tuple[Countersignature, ...] = Field(default=(), strict=False)
    refused: tuple[Refusal, ...] = Field(default=(), strict=False)
    commands: tuple[Command, ...] = Field(default=(), strict=False)


class ClaimRequest(Message):
    """An allocation offered to one node. Addresses and hashes are raw 32 bytes in base64.

    price_per_hour: agreed price if it claims. max_ms, deposit: what is left of the escrow for this attempt.
    chain_time_ms: the market's view of chain time now, for the claim's `at_ms`.
    sealed_spec: JobSpec as JSON, sealed to the node's key. answer_by_ms: milliseconds left to answer.
    """

    allocation_id: str
    attempt: int = Field(ge=1)
    kind: Literal["job"] = "job"
    escrow: Base64Bytes
    wallet: Base64Bytes
    market: Base64Bytes
    node: Base64Bytes
    class_id: str
    price_per_hour: int = Field(ge=0)
    max_ms: int = Field(ge=1)
    deposit: int = Field(ge=0)
    terms_hash: Base64Bytes
    fee_bps: int = Field(ge=0, le=10_000)
    chain_time_ms: int
    sealed_spec: Base64Bytes
    answer_by_ms: int


class Claim(Message):
    """The node's consent: its signature over the ClaimMessage that the request describes, with its own `at_ms`."""

    allocation_id: str
    attempt: int
    at_ms: int
    signature: Base64Bytes


class Refuse(Message):
    """The node does not take it; another one is asked."""

    allocation_id: str
    attempt: int
    code: str


class ClaimAck(Message):
    """The claim is taken. lease_token: names the holder in every later report of the attempt."""

    lease_token: str


class StateReport(Message):
    """A change of an attempt's state.

    sequence: rises with each report of the attempt. reason: number, when exited.
    started_at_ms: with `ready`, chain time of the meter's start. image_digest: `sha256:…` once resolved.
    detail: one line for the renter, such as the engine's own message.
    """

    allocation_id: str
    attempt: int = Field(ge=1)
    lease_token: str
    sequence: int = Field(ge=1)
    state: AttemptState = Field(strict=False)
    reason: int = 0
    exit_code: int | None = None
    started_at_ms: int | None = None
    image_digest: str | None = None
    detail: str | None = Field(default=None, max_length=2000)
    voucher: SignedVoucher | None = None


class StateAck(Message):
    """Taken. countersignature: over the report's voucher, None when it carried none."""

    countersignature: Countersignature | None = None


class ExecOpen(Message):
    """Run a command beside the job, in its container. Market to node; acknowledged once it runs, or an error."""

    exec_id: str = Field(min_length=1, max_length=64)
    allocation_id: str
    attempt: int = Field(ge=1)
    cmd: tuple[str, ...] = Field(strict=False, min_length=1, max_length=256)
    tty: bool = False
    rows: int = Field(default=24, ge=1, le=1000)
    cols: int = Field(default=80, ge=1, le=1000)


class ExecData(Message):
    """What goes in (stream 0) or comes out (1, 2) of such a command. end: nothing more comes of the stream.

    Acknowledged when it was passed on: the sender holds the next one back until then.
    """

    exec_id: str = Field(min_length=1, max_length=64)
    stream: int = Field(ge=0, le=2)
    data: Base64Bytes
    end: bool = False


class ExecControl(Message):
    """Market to node: the terminal has another size, or nobody listens any more."""

    exec_id: str = Field(min_length=1, max_length=64)
    rows: int | None = Field(default=None, ge=1, le=1000)
    cols: int | None = Field(default=None, ge=1, le=1000)
    close: bool = False


class ExecEnd(Message):
    """Node to market: the command has ended. exit_code: None where it can't be told."""

    exec_id: str = Field(min_length=1, max_length=64)
    exit_code: int | None = None


class LogLine(Message):
    """One line without its end. seq: from 1 in each attempt, without gaps. stream: 1 stdout, 2 stderr, 3 the node."""

    seq: int = Field(ge=1)
    at_ms: int
    stream: int = Field(ge=1, le=3)
    text: str


class Logs(Message):
    """Lines of one attempt, in order. The market keeps what it has not seen and answers where it stands."""

    allocation_id: str
    attempt: int = Field(ge=1)
    lease_token: str
    lines: tuple[LogLine, ...] = Field(strict=False, max_length=MAX_LOG_LINES)


class LogsAck(Message):
    """next_seq: the first line that the market does not have."""

    next_seq: int


class ErrorBody(Message):
    """A frame was refused. code: of api.md section 2.2, such as `lease_lost`, `already_assigned`, `voucher_invalid`."""

    code: str
    message: str
