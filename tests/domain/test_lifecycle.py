from pathlib import Path

import pytest

from marketplace.domain.lifecycle import (
    TERMINAL_STATUSES,
    TRANSITIONS,
    AllocationState,
    JobStatus,
    final_status,
    job_status,
    may_follow,
)
from marketplace.domain.reasons import MEANINGS, Reason, reasons_table

ROOT = Path(__file__).parents[2]


def test_every_state_can_reach_an_end():
    ends = {AllocationState.RELEASED, AllocationState.FAILED}
    for state in AllocationState:
        seen, front = {state}, [state]
        while front:
            for following in TRANSITIONS[front.pop()]:
                if following not in seen:
                    seen.add(following)
                    front.append(following)
        assert seen & ends


def test_nothing_follows_an_end():
    for end in (AllocationState.RELEASED, AllocationState.FAILED):
        assert not any(may_follow(end, state) for state in AllocationState)


@pytest.mark.parametrize("reason", [r for r in Reason if r is not Reason.RUNNING])
def test_every_reason_ends_a_job_in_a_terminal_word_and_says_who_pays(reason):
    assert final_status(reason) in TERMINAL_STATUSES
    assert MEANINGS[reason].renter_pays
    assert reason.code == reason.name.lower()


def test_the_page_of_reasons_is_what_the_code_says():
    """Written anew by scripts/generate-reasons."""
    assert (ROOT / "docs/reasons.md").read_text().endswith("\n\n" + reasons_table())


def test_a_job_that_is_being_ended_says_so_until_it_has():
    assert job_status(AllocationState.ACTIVE, Reason.RUNNING, cancelling=True) is JobStatus.CANCELLING
    assert job_status(AllocationState.RELEASED, Reason.CANCELLED, cancelling=True) is JobStatus.CANCELLED


def test_a_requeued_job_is_queued_again():
    assert may_follow(AllocationState.ACTIVE, AllocationState.RESERVING)
    assert job_status(AllocationState.RESERVING, Reason.RUNNING, cancelling=False) is JobStatus.QUEUED
