"""Types of fields, and the bases of request, query and response models.

Requests are strict and closed: `false` is no integer, an unknown field is refused by name. Queries are lax (text
becomes numbers) and ignore names they don't know. Responses keep the order of their fields.
"""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, WithJsonSchema
from pydantic.functional_serializers import PlainSerializer
from pydantic_core import PydanticCustomError

from marketplace.api.json_bodies import json_number
from marketplace.domain.ids import is_id
from marketplace.domain.instants import instant_text
from marketplace.domain.quantities import Millis
from marketplace.errors import DetailCode
from marketplace.protocol.addresses import MalformedBase58, address_bytes, signature_bytes

PAGE_LIMIT: Final = 100
"""A larger `limit` is served as this. Specified: api.md section 1.2."""


def field_error(code: DetailCode, message: str, **context: Any) -> PydanticCustomError:
    """What a validator raises to name its own detail code; context may hold `allowed` and `suggestions`."""
    return PydanticCustomError(code.value, "{text}", {"text": message, **context})


class RequestModel(BaseModel):
    """A request body."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, populate_by_name=True)


class QueryModel(BaseModel):
    """Query parameters."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)


class ResponseModel(BaseModel):
    """An answer."""

    model_config = ConfigDict(frozen=True, populate_by_name=True, arbitrary_types_allowed=True)


class Page(QueryModel):
    """`limit` and `offset` of every list."""

    limit: Annotated[int, Field(ge=1), AfterValidator(lambda limit: min(limit, PAGE_LIMIT))] = 20
    offset: Annotated[int, Field(ge=0, le=2**53)] = 0


def _comma_list(value: object) -> object:
    """`?status=a,b&status=c` is [a, b, c]. An empty word stays, to be refused as an unknown one is."""
    if isinstance(value, str):
        value = [value]
    if isinstance(value, list):
        return [part.strip() for text in value for part in str(text).split(",")]
    return value


CommaList = BeforeValidator(_comma_list)
"""Marks a query field that may be repeated or a comma list."""

Flag = Annotated[bool, WithJsonSchema({"type": "integer", "enum": [0, 1]})]
"""A query flag: 0 or 1 (true and false are understood)."""


def _address(text: str) -> str:
    try:
        address_bytes(text)
    except MalformedBase58 as error:
        raise field_error(DetailCode.NOT_ALLOWED, "must be the canonical base58 of 32 bytes") from error
    return text


def _signature(text: str) -> str:
    try:
        signature_bytes(text)
    except MalformedBase58 as error:
        raise field_error(DetailCode.NOT_ALLOWED, "must be the canonical base58 of 64 bytes") from error
    return text


Address = Annotated[str, AfterValidator(_address), WithJsonSchema({"type": "string", "minLength": 32, "maxLength": 44})]
"""A Solana address: canonical base58 of 32 bytes."""
SignatureText = Annotated[
    str, AfterValidator(_signature), WithJsonSchema({"type": "string", "minLength": 64, "maxLength": 88})
]
"""An Ed25519 signature: canonical base58 of 64 bytes."""

NO_SUCH_ID: Final = "no_such_id"
"""Error type of a path id with the wrong form: answered 404, as an unknown id is."""


def path_id(prefix: str) -> AfterValidator:
    """Validator of a path id: what doesn't even look like one is unknown."""

    def check(text: str) -> str:
        if not is_id(prefix, text):
            raise PydanticCustomError(NO_SUCH_ID, "no such id")
        return text

    return AfterValidator(check)


JobIdPath = Annotated[str, path_id("job"), WithJsonSchema({"type": "string", "pattern": "^job_"})]
NodeIdPath = Annotated[str, path_id("node"), WithJsonSchema({"type": "string", "pattern": "^node_"})]
WebhookIdPath = Annotated[str, path_id("wh"), WithJsonSchema({"type": "string", "pattern": "^wh_"})]
QuoteIdPath = Annotated[str, path_id("quote"), WithJsonSchema({"type": "string", "pattern": "^quote_"})]
RegistryAuthIdPath = Annotated[str, path_id("reg"), WithJsonSchema({"type": "string", "pattern": "^reg_"})]
FileIdPath = Annotated[str, path_id("file"), WithJsonSchema({"type": "string", "pattern": "^file_"})]
UploadIdPath = Annotated[str, path_id("upl"), WithJsonSchema({"type": "string", "pattern": "^upl_"})]
GroupIdPath = Annotated[str, path_id("grp"), WithJsonSchema({"type": "string", "pattern": "^grp_"})]
CredentialIdPath = Annotated[str, path_id("cred"), WithJsonSchema({"type": "string", "pattern": "^cred_"})]
KeyIdPath = Annotated[str, path_id("key"), WithJsonSchema({"type": "string", "pattern": "^key_"})]
AllocationIdPath = Annotated[str, path_id("alloc"), WithJsonSchema({"type": "string", "pattern": "^alloc_"})]


class JsonNumber:
    """An exact decimal that is written as a JSON number: `JsonNumber(50000, 6)` is 0.05."""

    __slots__ = ("decimals", "units")

    def __init__(self, units: int, decimals: int) -> None:
        self.units = units
        self.decimals = decimals

    def fragment(self) -> orjson.Fragment:
        """For the writer."""
        return json_number(self.units, self.decimals)


ExactNumber = Annotated[
    JsonNumber,
    PlainSerializer(JsonNumber.fragment, return_type=Any),
    WithJsonSchema({"type": "number"}),
]
"""A response field whose seed shows a JSON number; never a float inside."""

DecimalText = Annotated[str, WithJsonSchema({"type": "string", "pattern": r"^-?\d+(\.\d+)?$"})]
"""An amount as decimal text; written by domain.money.format_amount."""


def seconds_text(at: Millis) -> str:
    """RFC 3339 in UTC with seconds, such as 2026-02-13T10:00:00Z (rounded down)."""
    return datetime.fromtimestamp(at // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def millis_text(at: Millis) -> str:
    """RFC 3339 in UTC with milliseconds, such as 2026-02-13T10:00:00.250Z."""
    return instant_text(at)


_DATE_TIME: Final = WithJsonSchema({"type": "string", "format": "date-time"})
SecondsInstant = Annotated[Millis, PlainSerializer(seconds_text, return_type=str), _DATE_TIME]
"""An instant shown with seconds, where a seed does so."""
MillisInstant = Annotated[Millis, PlainSerializer(millis_text, return_type=str), _DATE_TIME]
"""An instant shown with milliseconds, everywhere else."""


def instant_of(value: object) -> Millis:
    """RFC 3339 with an offset, as milliseconds since the epoch."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) and len(value) <= _MAX_INSTANT else None
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or "T" not in str(value):
        raise field_error(DetailCode.NOT_ALLOWED, "must be an RFC 3339 instant, such as 2026-02-13T10:00:00Z")
    return Millis((moment - _EPOCH) // timedelta(milliseconds=1))


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_INSTANT: Final = 40
InstantText = Annotated[Millis, PlainValidator(instant_of), _DATE_TIME]
"""An instant in a request."""


def _amount_text(text: str) -> str:
    if not 0 < len(text) <= 40 or not text.isascii() or not text.replace(".", "", 1).isdecimal():
        raise field_error(DetailCode.NOT_ALLOWED, 'must be a decimal amount as text, such as "0.05"')
    return text


AmountText = Annotated[
    str, AfterValidator(_amount_text), WithJsonSchema({"type": "string", "pattern": r"^\d+(\.\d+)?$"})
]
"""An amount in a request: decimal text; the service converts it with the token's decimals."""

All = Literal["all"]
"""The word `all` where an amount may stand."""


class NoBody(RequestModel):
    """A POST without content: an empty body or `{}`."""
