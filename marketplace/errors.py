"""Everything the market may raise across a layer. Nothing outside this tree leaves one.

MarketError                  code, message, details, extra; never raised itself
├─ RequestError              the caller can fix it
│    Malformed 400 · Invalid 422 · Unauthenticated 401 · PaymentRequired 402 · Forbidden 403 · NotFound 404
│    MethodNotAllowed 405 · Conflict 409 · Gone 410 · TooLarge 413 · UnsupportedMedia 415 · RateLimited 429
├─ Refused                   a rule says no: QuoteMismatch, NoCapacity, TransactionRejected, …
├─ Unavailable 503           a part this needs does not answer: chain, store, start-up
│    ├─ ChainError           ChainUnavailable (TransactionExpired is a Conflict)
│    └─ StoreError           StoreUnavailable, ObjectsUnavailable, SchemaOutdated
├─ StaleLease                a lease that is no longer ours; 409 `lease_lost` when it reaches a caller
├─ InternalError 500         a fault here
└─ SettingsError             a setting is missing or contradicts another; ends the process before it listens

`Code` is the closed table of api.md section 2.2: many classes may share a code, and a class without one does not
type-check. An exception's docstring is its default message, so docstrings of leaf classes are written for the
person who reads the answer: what happened, what it means for the money, what to do next.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import ClassVar, Final

JsonValue = object
"""A value JSON can carry; renderers check it when they write."""


class Code(Enum):
    """Public code, its HTTP status, and whether repeating the same request can help. Source: api.md section 2.2."""

    INVALID_REQUEST = ("invalid_request", 400, False)
    VALIDATION_ERROR = ("validation_error", 422, False)
    UNAUTHORIZED = ("unauthorized", 401, False)
    TOKEN_EXPIRED = ("token_expired", 401, True)
    INVALID_SIGNATURE = ("invalid_signature", 401, False)
    CHALLENGE_EXPIRED = ("challenge_expired", 401, True)
    INVALID_CREDENTIALS = ("invalid_credentials", 401, False)
    REFRESH_REUSED = ("refresh_reused", 401, False)
    INSUFFICIENT_ESCROW = ("insufficient_escrow", 402, True)
    SIGNATURE_REQUIRED = ("signature_required", 402, True)
    WALLET_REQUIRED = ("wallet_required", 402, True)
    SPEND_LIMIT = ("spend_limit", 402, False)
    FORBIDDEN = ("forbidden", 403, False)
    READ_ONLY = ("read_only", 403, False)
    NOT_FOUND = ("not_found", 404, False)
    METHOD_NOT_ALLOWED = ("method_not_allowed", 405, False)
    CONFLICT = ("conflict", 409, False)
    ALREADY_TERMINAL = ("already_terminal", 409, False)
    ALREADY_EXISTS = ("already_exists", 409, False)
    ALREADY_ASSIGNED = ("already_assigned", 409, False)
    IN_USE = ("in_use", 409, True)
    LOCKED = ("locked", 409, True)
    NOT_READY = ("not_ready", 409, True)
    QUOTE_EXPIRED = ("quote_expired", 409, False)
    EXPOSURE_EXCEEDED = ("exposure_exceeded", 409, True)
    LEASE_LOST = ("lease_lost", 409, False)
    WALLET_ALREADY_LINKED = ("wallet_already_linked", 409, False)
    BOND_REQUIRED = ("bond_required", 409, True)
    TOO_EARLY = ("too_early", 409, True)
    NOTHING_TO_CLAIM = ("nothing_to_claim", 409, True)
    INSUFFICIENT_STAKE = ("insufficient_stake", 409, False)
    POOL_DEAD = ("pool_dead", 409, False)
    STALE_EPOCH = ("stale_epoch", 409, False)
    COMMISSION_STEP = ("commission_step", 422, False)
    TRANSACTION_EXPIRED = ("transaction_expired", 409, True)
    IDEMPOTENCY_IN_PROGRESS = ("idempotency_in_progress", 409, True)
    IDEMPOTENCY_KEY_REUSED = ("idempotency_key_reused", 422, False)
    QUOTE_MISMATCH = ("quote_mismatch", 422, False)
    TRANSACTION_REJECTED = ("transaction_rejected", 422, False)
    UNSUPPORTED_TRANSACTION = ("unsupported_transaction", 422, False)
    VOUCHER_INVALID = ("voucher_invalid", 422, False)
    BENCHMARK_FAILED = ("benchmark_failed", 422, False)
    INSUFFICIENT_DISK = ("insufficient_disk", 422, False)
    HARD_MAX_EXCEEDED = ("hard_max_exceeded", 422, False)
    NOT_RUNNING = ("not_running", 400, True)
    GONE = ("gone", 410, False)
    CURSOR_EXPIRED = ("cursor_expired", 410, False)
    PAYLOAD_TOO_LARGE = ("payload_too_large", 413, False)
    UNSUPPORTED_MEDIA_TYPE = ("unsupported_media_type", 415, False)
    PRECONDITION_FAILED = ("precondition_failed", 412, False)
    RANGE_NOT_SATISFIABLE = ("range_not_satisfiable", 416, False)
    RATE_LIMITED = ("rate_limited", 429, True)
    QUOTA_EXCEEDED = ("quota_exceeded", 429, True)
    QUEUE_FULL = ("queue_full", 429, True)
    INTERNAL_ERROR = ("internal_error", 500, True)
    STARTING = ("starting", 503, True)
    CHAIN_UNAVAILABLE = ("chain_unavailable", 503, True)
    STORE_UNAVAILABLE = ("store_unavailable", 503, True)
    PROVIDER_UNAVAILABLE = ("provider_unavailable", 503, True)
    OVERLOADED = ("overloaded", 503, True)
    STALE_INVENTORY = ("stale_inventory", 503, True)
    NO_CAPACITY = ("no_capacity", 503, True)

    def __init__(self, public: str, status: int, retryable: bool) -> None:  # noqa: FBT001 - a row of the table
        self.public = public
        self.status = status
        self.retryable = retryable


class DetailCode(Enum):
    """What is wrong with one field. Source: api.md section 2.2, row `validation_error`."""

    REQUIRED = "required"
    UNKNOWN_FIELD = "unknown_field"
    OUT_OF_RANGE = "out_of_range"
    NOT_ALLOWED = "not_allowed"
    CONFLICT = "conflict"
    UNKNOWN_GPU = "unknown_gpu"
    UNKNOWN_REGION = "unknown_region"
    UNKNOWN_MODEL = "unknown_model"
    UNSATISFIABLE = "unsatisfiable"
    FILE_MISSING = "file_missing"
    UNSUPPORTED_BY_PROVIDER = "unsupported_by_provider"


@dataclass(frozen=True, slots=True)
class Detail:
    """One wrong field: its dotted path, what is wrong, and what would be accepted where that is a short list."""

    field: str
    code: DetailCode
    message: str
    allowed: tuple[str, ...] = ()
    suggestions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Problem:
    """An error as every family's renderer receives it; the request id is added by the renderer's caller."""

    status: int
    code: str
    message: str
    retryable: bool
    details: tuple[Detail, ...] = ()
    retry_after_s: int | None = None
    extra: Mapping[str, JsonValue] = field(default_factory=dict)


class MarketError(Exception):
    """Base of the tree; never raised itself.

    message: one line for the caller; without one, the class's docstring.
    details: wrong fields. extra: further members of the body, in the order they are to appear.
    retry_after_s: whole seconds ≥ 1 for the Retry-After header; every 429 and 503 has one.
    """

    code: ClassVar[Code]
    default_retry_after_s: ClassVar[int | None] = None

    def __init__(
        self,
        message: str | None = None,
        *,
        details: Sequence[Detail] = (),
        extra: Mapping[str, JsonValue] | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        text = message if message is not None else " ".join((type(self).__doc__ or "").split())
        super().__init__(text)
        self.message = text
        self.details = tuple(details)
        self.extra: Mapping[str, JsonValue] = dict(extra or {})
        self.retry_after_s = retry_after_s if retry_after_s is not None else self.default_retry_after_s

    def problem(self) -> Problem:
        """The error for a renderer."""
        return Problem(
            status=self.code.status,
            code=self.code.public,
            message=self.message,
            retryable=self.code.retryable,
            details=self.details,
            retry_after_s=self.retry_after_s,
            extra=self.extra,
        )


class RequestError(MarketError):
    """The request can't be served as it stands."""

    code = Code.INVALID_REQUEST


class Malformed(RequestError):
    """The request could not be read."""

    code = Code.INVALID_REQUEST


MAX_DETAILS: Final = 32
"""Chosen: more than anybody corrects at once. A body of 1 MiB may hold 50,000 faults, of a hundred bytes each."""


class Invalid(RequestError):
    """A field is missing, unknown or out of range; nothing was created or spent."""

    code = Code.VALIDATION_ERROR

    @classmethod
    def field(
        cls,
        name: str,
        code: DetailCode,
        message: str,
        *,
        allowed: Sequence[str] = (),
        suggestions: Sequence[str] = (),
    ) -> "Invalid":
        """An error about one field."""
        return cls.of((Detail(name, code, message, tuple(allowed), tuple(suggestions)),))

    @classmethod
    def of(cls, details: Sequence[Detail]) -> "Invalid":
        """An error about these, at least one: the first in words, how many more there are, and where the money is.

        It carries the first MAX_DETAILS of them.
        """
        first, more = details[0], len(details) - 1
        text = f"{first.field}: {first.message}" + (f" (and {more} more)" if more else "")
        told = text if "; nothing was " in text else f"{text}; nothing was created or spent"
        return cls(told, details=tuple(details[:MAX_DETAILS]))

    def within(self, part: str) -> "Invalid":
        """The same about fields of a part of the request."""
        return Invalid.of([replace(detail, field=f"{part}.{detail.field}") for detail in self.details])


class Unauthenticated(RequestError):
    """A valid credential is needed: log in and send `Authorization: Bearer <token>`."""

    code = Code.UNAUTHORIZED


class TokenExpired(Unauthenticated):
    """The token is past its time; refresh it or log in again."""

    code = Code.TOKEN_EXPIRED


class InvalidSignature(Unauthenticated):
    """The signature is not this wallet's over the issued text; nothing was used up, sign the text as issued."""

    code = Code.INVALID_SIGNATURE


class ChallengeExpired(Unauthenticated):
    """No challenge is outstanding for this wallet: unknown, used or expired. Ask for a new one."""

    code = Code.CHALLENGE_EXPIRED


class RefreshReused(Unauthenticated):
    """This refresh token was used before; for safety the whole login is ended. Log in again."""

    code = Code.REFRESH_REUSED


class PaymentRequired(RequestError):
    """Money or a signature is missing; nothing was spent."""

    code = Code.INSUFFICIENT_ESCROW


class InsufficientFunds(PaymentRequired):
    """wallet balance below rate × maxMinutes"""  # noqa: RUF002 - seed 000, to the letter

    code = Code.INSUFFICIENT_ESCROW


class SignatureRequired(PaymentRequired):
    """The wallet has to sign: check and sign `transaction`, send it, then repeat this request with the same key."""

    code = Code.SIGNATURE_REQUIRED


class WalletRequired(PaymentRequired):
    """This account has no wallet that could pay."""

    code = Code.WALLET_REQUIRED


class SpendLimitReached(PaymentRequired):
    """This API key's own spending limit is used up; nothing was spent."""

    code = Code.SPEND_LIMIT


class Forbidden(RequestError):
    """This credential doesn't permit that."""

    code = Code.FORBIDDEN


class ReadOnly(Forbidden):
    """It is part of this market and can't be changed here."""

    code = Code.READ_ONLY


class NotFound(RequestError):
    """There is no such thing here."""

    code = Code.NOT_FOUND


class MethodNotAllowed(RequestError):
    """This path does not have that method."""

    code = Code.METHOD_NOT_ALLOWED


class Conflict(RequestError):
    """The thing is not in a state that permits this."""

    code = Code.CONFLICT


class AlreadyTerminal(Conflict):
    """It has ended already; nothing was changed."""

    code = Code.ALREADY_TERMINAL


class AlreadyExists(Conflict):
    """There is one already."""

    code = Code.ALREADY_EXISTS


class UniqueViolation(AlreadyExists):
    """There is one already; nothing was changed."""


class AlreadyAssigned(Conflict):
    """Another node has this allocation; drop it."""

    code = Code.ALREADY_ASSIGNED


class InUse(Conflict):
    """Something still refers to it; `used_by` names it. Nothing was changed."""

    code = Code.IN_USE


class NotReady(Conflict):
    """It is not finished yet; ask again later."""

    code = Code.NOT_READY


class QuoteExpired(Conflict):
    """The quote is past its time; nothing was spent. Ask for a new one."""

    code = Code.QUOTE_EXPIRED


class ExposureExceeded(Conflict):
    """The node's open escrows would pass what its stake covers; it can take more when some have settled."""

    code = Code.EXPOSURE_EXCEEDED


class BondRequired(Conflict):
    """The operator's bond would fall below what its class asks for."""

    code = Code.BOND_REQUIRED


class TooEarly(Conflict):
    """Its time has not come; nothing was changed. `possible_at` says when it has."""

    code = Code.TOO_EARLY


class NothingToClaim(Conflict):
    """Nothing waits to be paid out; nothing was changed."""

    code = Code.NOTHING_TO_CLAIM


class InsufficientStake(Conflict):
    """Less than that is staked there; nothing was changed."""

    code = Code.INSUFFICIENT_STAKE


class PoolDead(Conflict):
    """The pool has lost nearly all its stake and takes no more; what is in it can be unbonded. Nothing was changed."""

    code = Code.POOL_DEAD


class StaleEpoch(Conflict):
    """That epoch is over: nothing of it can be registered or drawn any more. Nothing was changed."""

    code = Code.STALE_EPOCH


class TransactionExpired(Conflict):
    """The transaction can no longer land and nothing was moved; ask for a new one and sign that."""

    code = Code.TRANSACTION_EXPIRED


class IdempotencyInProgress(Conflict):
    """The first request with this Idempotency-Key is still running; repeat this one shortly."""

    code = Code.IDEMPOTENCY_IN_PROGRESS
    default_retry_after_s = 1


class IdempotencyKeyReused(RequestError):
    """This Idempotency-Key belongs to a request with another body; nothing was done. Use a new key."""

    code = Code.IDEMPOTENCY_KEY_REUSED


class Gone(RequestError):
    """It is past its retention and no longer kept."""

    code = Code.GONE


class CursorExpired(Gone):
    """Events before this cursor are no longer kept; continue from `oldest`."""

    code = Code.CURSOR_EXPIRED


class TooLarge(RequestError):
    """The request is larger than this route accepts."""

    code = Code.PAYLOAD_TOO_LARGE


class UnsupportedMedia(RequestError):
    """Send the body as `Content-Type: application/json`."""

    code = Code.UNSUPPORTED_MEDIA_TYPE


class PreconditionFailed(RequestError):
    """What is there now is not what `If-Match` names; nothing was sent."""

    code = Code.PRECONDITION_FAILED


class RangeNotSatisfiable(RequestError):
    """The Range lies outside the object."""

    code = Code.RANGE_NOT_SATISFIABLE


class RateLimited(RequestError):
    """Too many requests; wait until the window resets."""

    code = Code.RATE_LIMITED
    default_retry_after_s = 1


class QuotaExceeded(RateLimited):
    """A quota of this account is used up."""

    code = Code.QUOTA_EXCEEDED


class Refused(MarketError):
    """A rule says no; nothing was spent."""

    code = Code.CONFLICT


class QuoteMismatch(Refused):
    """The request is not what the quote was given for; nothing was spent. Ask for a quote of this request."""

    code = Code.QUOTE_MISMATCH


class NoCapacity(Refused):
    """Nothing that fits is free now, and this request does not queue."""

    code = Code.NO_CAPACITY
    default_retry_after_s = 10


class TransactionRejected(Refused):
    """This transaction was not built here, or was altered, or would fail; it was not sent and nothing moved."""

    code = Code.TRANSACTION_REJECTED


class UnsupportedTransaction(Refused):
    """Only legacy and version 0 transactions are accepted; it was not sent and nothing moved."""

    code = Code.UNSUPPORTED_TRANSACTION


class CommissionStep(Refused):
    """The commission would change by more than one step allows; nothing was changed."""

    code = Code.COMMISSION_STEP


class VoucherInvalid(Refused):
    """The voucher was not countersigned: its signature, order, amount or clock is wrong."""

    code = Code.VOUCHER_INVALID


class Unavailable(MarketError):
    """A part that this needs does not answer; try again."""

    code = Code.OVERLOADED
    default_retry_after_s = 1


class Starting(Unavailable):
    """The market has just started and is taking stock; repeat the request in a moment."""

    code = Code.STARTING
    default_retry_after_s = 2


class ChainError(Unavailable):
    """The chain could not be asked."""

    code = Code.CHAIN_UNAVAILABLE
    default_retry_after_s = 2


class ChainUnavailable(ChainError):
    """The chain does not answer or has not confirmed in time; repeat with the same Idempotency-Key, it pays once."""


class StoreError(Unavailable):
    """The database does not answer; nothing was changed."""

    code = Code.STORE_UNAVAILABLE
    default_retry_after_s = 2


class StoreUnavailable(StoreError):
    """The database does not answer; nothing was changed. Try again."""


class ObjectsUnavailable(StoreError):
    """The storage of files does not answer; nothing was changed. Try again."""


class SchemaOutdated(StoreError):
    """The database's schema is not the one this version needs; run `reaver-market migrate`."""


class StaleLease(MarketError):
    """The lease is no longer yours; drop this work."""

    code = Code.LEASE_LOST


class InternalError(MarketError):
    """internal error"""

    code = Code.INTERNAL_ERROR


class SettingsError(MarketError):
    """A setting is missing or contradicts another; the process did not start."""

    code = Code.INTERNAL_ERROR
