"""Patterns that name types of events."""

import pytest

from marketplace.domain.events import EventType, UnknownPattern, matching_types


def test_a_pattern_names_one_type_a_family_or_all():
    assert matching_types(["*"]) == frozenset(EventType)
    assert matching_types(["job.completed"]) == {EventType.JOB_COMPLETED}
    assert matching_types(["vault.*", "job.failed"]) == {
        EventType.VAULT_DEPOSITED, EventType.VAULT_WITHDRAWN, EventType.JOB_FAILED,
    }  # fmt: skip
    assert matching_types([]) == frozenset()


@pytest.mark.parametrize(
    "pattern", ["", "job", "job.", "jobs.*", "job.complete", "*.*", "*.completed", "JOB.*", "job.*.x"]
)
def test_what_names_nothing_is_refused_with_what_may_have_been_meant(pattern):
    with pytest.raises(UnknownPattern) as unknown:
        matching_types(["job.queued", pattern])
    assert pattern != "job.complete" or "job.completed" in unknown.value.suggestions
