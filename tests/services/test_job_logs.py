"""How long a log is kept."""

from dataclasses import replace

import pytest

from marketplace.domain.lifecycle import AllocationState
from marketplace.errors import Gone
from marketplace.services.clock import ManualClock
from marketplace.services.logs import RETENTION_MS, JobLogs
from tests.store.test_job_rows import FULL


def test_a_log_is_gone_7_days_after_its_job_s_end_and_said_so():
    clock = ManualClock()
    logs = JobLogs(None, None, clock)
    ended = replace(FULL, state=AllocationState.RELEASED, completed_at_ms=clock.now())
    clock.advance(RETENTION_MS)
    logs.require_kept(ended)
    clock.advance(1)
    with pytest.raises(Gone, match="7 days"):
        logs.require_kept(ended)
    logs.require_kept(replace(ended, state=AllocationState.ACTIVE))
