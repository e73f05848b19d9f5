"""Spans of time in queries: `from` and `to` as UTC dates, both inclusive, or as instants.

Source: api.md section 1.2, row "time".
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Final

from pydantic import Field, PlainValidator, WithJsonSchema

from marketplace.api.fields import QueryModel, field_error, instant_of
from marketplace.domain.quantities import Millis
from marketplace.errors import DetailCode, Invalid

DAY_MS: Final = 86_400_000
DEFAULT_DAYS: Final = 30
MAX_DAYS: Final = 366
"""Specified: api.md section 5.3, history."""
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Moment:
    """A day, or an instant. length_ms: of what it names: a day, or a millisecond."""

    start: Millis
    length_ms: int


@dataclass(frozen=True, slots=True)
class Span:
    """Milliseconds since the epoch; until is exclusive."""

    start: Millis
    until: Millis


def _moment(value: object) -> Moment:
    text = value if isinstance(value, str) else ""
    if "T" in text:
        return _not_before_1970(Moment(instant_of(text), 1))
    try:
        day = date.fromisoformat(text) if _DATE.fullmatch(text) else None
    except ValueError:
        day = None
    if day is None:
        raise field_error(DetailCode.NOT_ALLOWED, "must be a date such as 2026-01-31, or an RFC 3339 instant")
    start = (datetime(day.year, day.month, day.day, tzinfo=UTC) - _EPOCH) // timedelta(milliseconds=1)
    return _not_before_1970(Moment(Millis(start), DAY_MS))


def _not_before_1970(moment: Moment) -> Moment:
    if moment.start < 0:
        raise field_error(DetailCode.OUT_OF_RANGE, "must not lie before 1970")
    return moment


DateText = Annotated[Moment, PlainValidator(_moment), WithJsonSchema({"type": "string"})]
"""A UTC date or an instant in a query."""


class SpanQuery(QueryModel):
    """`from` and `to`, both inclusive."""

    from_: DateText | None = Field(default=None, alias="from")
    to: DateText | None = None


def span_of(query: SpanQuery, now: Millis, *, max_days: int = MAX_DAYS) -> Span:
    """The span that is meant: by default the last 30 days, today included. Raises Invalid."""
    until = query.to.start + query.to.length_ms if query.to is not None else now - now % DAY_MS + DAY_MS
    start = query.from_.start if query.from_ is not None else until - DEFAULT_DAYS * DAY_MS
    if start >= until:
        raise Invalid.field("from", DetailCode.OUT_OF_RANGE, "must not lie after `to`")
    if until - start > max_days * DAY_MS:
        raise Invalid.field("from", DetailCode.OUT_OF_RANGE, f"lies more than {max_days} days before the end of `to`")
    return Span(Millis(max(0, start)), Millis(until))
