"""Spans: inclusive UTC dates, their edges, leap days, and what is refused."""

import pytest
from pydantic import ValidationError

from marketplace.api.dates import DAY_MS, SpanQuery, span_of
from marketplace.domain.quantities import Millis
from marketplace.errors import Invalid

NOON = Millis(1_770_976_800_000)
"""2026-02-13T10:00:00Z."""
TODAY = NOON - NOON % DAY_MS


def span(now=NOON, **names):
    found = span_of(SpanQuery.model_validate({"from" if k == "from_" else k: v for k, v in names.items()}), now)
    return found.start, found.until


def test_both_days_are_inside():
    start, until = span(from_="2026-01-01", to="2026-01-31")
    assert until - start == 31 * DAY_MS
    assert span(from_="2026-02-13", to="2026-02-13") == (TODAY, TODAY + DAY_MS)
    assert span(from_="2024-02-29", to="2024-03-01")[1] - span(from_="2024-02-29", to="2024-03-01")[0] == 2 * DAY_MS


def test_the_default_is_thirty_days_with_today():
    assert span() == (TODAY - 29 * DAY_MS, TODAY + DAY_MS)
    assert span(to="2026-02-13") == span()


def test_an_instant_stands_where_a_date_does():
    assert span(from_="2026-02-13T10:00:00Z", to="2026-02-13T10:00:00.001Z") == (NOON, NOON + 2)


@pytest.mark.parametrize("text", ["", "2026-1-1", "2026-02-30", "20260101", "2026-W01-1", "yesterday", "2026-01-01T10"])
def test_what_is_no_date(text):
    with pytest.raises(ValidationError):
        SpanQuery.model_validate({"from": text})


def test_a_span_has_a_direction_and_a_most():
    with pytest.raises(Invalid):
        span(from_="2026-02-01", to="2026-01-31")
    assert span(from_="2025-01-01", to="2026-01-01")
    with pytest.raises(Invalid):
        span(from_="2025-01-01", to="2026-01-02")
    with pytest.raises(ValidationError):
        SpanQuery.model_validate({"to": "1969-12-31"})
