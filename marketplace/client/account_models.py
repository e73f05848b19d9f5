"""Answers about what an account has beside its jobs: files, events, webhooks, API keys, costs."""

from pydantic import Field

from marketplace.client.models import Amount, Answer


class StoredFile(Answer):
    """A file that jobs may read."""

    file_id: str
    name: str
    size: int
    sha256: str
    content_type: str
    created_at: str
    expires_at: str


class FileList(Answer):
    """One page of files, newest first."""

    files: tuple[StoredFile, ...]
    total: int
    has_more: bool


class Credential(Answer):
    """A login at a storage service, without its secret."""

    id: str
    name: str
    kind: str
    endpoint: str
    region: str
    access_key: str
    default: bool
    created_at: str


class CredentialList(Answer):
    """One page of logins, oldest first."""

    credentials: tuple[Credential, ...]
    total: int
    has_more: bool


class UploadPart(Answer):
    """A part that the market holds."""

    number: int
    size: int
    sha256: str


class Upload(Answer):
    """A file that is sent by parts."""

    upload_id: str
    name: str
    size: int
    part_min_bytes: int
    part_max_bytes: int
    parts: tuple[UploadPart, ...] = ()
    file_id: str | None = None


class Event(Answer):
    """Something that happened. cursor: where to go on after it."""

    id: str
    cursor: str
    type: str
    timestamp: str
    account: str
    resource: str
    data: dict[str, object]


class EventList(Answer):
    """One page of the feed, oldest first. next: what to give as `after` for the next."""

    events: tuple[Event, ...]
    next: str
    has_more: bool


class EventsEnd(Answer):
    """The end of a job's events: nothing more happens to it. reason: None where it has none."""

    status: str
    reason: str | None = None


class GpuSample(Answer):
    """How busy a job's GPUs were, 0 to 100 on average, and their memory where that was measured."""

    percent: int
    memory_bytes: int | None = None


class UsageSample(Answer):
    """What a job used at one moment. cpu_milli: thousandths of a core since the sample before. gpu: where measured."""

    at: str
    attempt: int
    cpu_ms: int
    cpu_milli: int | None = None
    memory_bytes: int
    received_bytes: int
    sent_bytes: int
    gpu: GpuSample | None = None


class JobMetrics(Answer):
    """What a job used over time, oldest first."""

    job_id: str
    samples: tuple[UsageSample, ...]


class Webhook(Answer):
    """A URL that events are sent to. secret: of a new one only. disabled_reason: why the market stopped sending."""

    id: str
    url: str
    events: tuple[str, ...]
    active: bool
    created_at: str
    description: str = ""
    secret: str | None = Field(default=None, repr=False)
    last_delivered_at: str | None = None
    disabled_reason: str | None = None


class WebhookList(Answer):
    """One page of webhooks."""

    webhooks: tuple[Webhook, ...]
    total: int
    has_more: bool


class WebhookSecret(Answer):
    """A new secret; the one before signs too until `old_secret_until`."""

    secret: str = Field(repr=False)
    old_secret_until: str | None = None


class Delivery(Answer):
    """One event on its way to one webhook."""

    event_id: str | None = None
    cursor: str
    type: str | None = None
    state: str
    attempts: int
    queued_at: str
    next_attempt_at: str | None = None
    last_attempt_at: str | None = None
    last_status: int | None = None
    last_error: str | None = None


class DeliveryList(Answer):
    """One page of deliveries."""

    deliveries: tuple[Delivery, ...]
    total: int
    has_more: bool


class Replay(Answer):
    """How many events are sent again, and up to which cursor."""

    queued: int
    until: str


class SpendLimit(Answer):
    """What a key may spend, below the allowance."""

    per_day: Amount | None = None
    total: Amount | None = None
    spent_today: Amount
    spent: Amount
    currency: str


class ApiKey(Answer):
    """An API key. key: the secret itself, in the answer that made it only."""

    id: str
    name: str
    prefix: str
    scopes: tuple[str, ...]
    created_at: str
    expires_at: str | None = None
    last_used_at: str | None = None
    rate_class: str
    spend_limit: SpendLimit | None = None
    key: str | None = Field(default=None, repr=False)


class ApiKeyList(Answer):
    """One page of keys."""

    api_keys: tuple[ApiKey, ...]
    total: int
    has_more: bool


class UsageEntry(Answer):
    """What one group cost; `paid` is the sum of the rest. group: None for what has none."""

    group: str | None = None
    jobs: int
    gpu_seconds: Amount
    paid: Amount
    operator_received: Amount
    to_stakers: Amount
    market_fee: Amount
    protocol_fee: Amount


class Usage(Answer):
    """One page of groups. sums: over all of them."""

    usage: tuple[UsageEntry, ...]
    total: int
    has_more: bool
    group_by: str
    currency: str
    sums: UsageEntry


class Output(Answer):
    """A file that a job left. path: relative, as the node says."""

    path: str
    size: int
    sha256: str


class OutputList(Answer):
    """One page of what a job left."""

    outputs: tuple[Output, ...]
    total: int
    has_more: bool
    total_bytes: int
    manifest_sha256: str | None = None


class Model(Answer):
    """What a market runs by name. command: None for the image's own."""

    name: str
    image: str
    command: tuple[str, ...] | None = None
    description: str
    default_gpu: str
    min_vram_gb: int
    default_timeout_seconds: int
    estimated_time_seconds: int
    formats: tuple[str, ...] = ()
    input_schema: dict[str, object] = Field(default_factory=dict)


class ModelList(Answer):
    """One page of models."""

    models: tuple[Model, ...]
    total: int
    has_more: bool


class RegistryAuth(Answer):
    """A login at a container registry, without its password. registry: None for whichever an image names."""

    id: str
    name: str
    username: str
    registry: str | None = None
    created_at: str


class RegistryAuthList(Answer):
    """One page of logins."""

    registry_auths: tuple[RegistryAuth, ...]
    total: int
    has_more: bool


class Escrow(Answer):
    """An escrow as it stands on chain. reserve: kept for what may still be owed for an earlier attempt."""

    address: str
    state: str
    opener: str
    market: str
    nonce: int
    gpu: str | None = None
    price_ceiling_per_hour: Amount
    deposit: Amount
    paid: Amount
    reserve: Amount
    currency: str
    max_ms: int
    billed_ms: int
    opened_at: str
    assign_by: str
    stop_at: str | None = None
    attempt: int
    node: str | None = None
    rent_lamports: int
    allocation_id: str | None = None


class EscrowList(Answer):
    """One page of escrows."""

    escrows: tuple[Escrow, ...]
    total: int
    has_more: bool
