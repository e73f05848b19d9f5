"""How the work ended and when: by itself, by an order, or in a way that nobody saw."""

from dataclasses import dataclass

from marketplace.domain.reasons import Reason
from marketplace.domain.retries import RetryPolicy
from node.attempt.work import Work
from node.endings import ending, natural_reason
from node.journal import Ending, Stop
from node.runtime.port import Container, Outcome


@dataclass(frozen=True, slots=True)
class Over:
    """The work is over. container: as looked at after its end; None where it was gone."""

    ending: Ending
    container: Container | None


async def ended_by_itself(work: Work, outcome: Outcome) -> Over:
    """Nobody stopped it. After an exit code that is listed for a retry the escrow stays open."""
    container = await work.look()
    reason = natural_reason(outcome)
    goes_on = _retry(work).leaves_open(work.record.key.attempt, reason, outcome.exit_code)
    at_ms = _finished_ms(work, container, outcome)
    return Over(ending(reason, at_ms, final=not goes_on, detail=outcome.message, outcome=outcome), container)


async def ended_by_order(work: Work, stop: Stop, outcome: Outcome) -> Over:
    """The order's reason counts, and what the container said last."""
    container = await work.look()
    at_ms = _finished_ms(work, container, outcome)
    return Over(ending(stop.reason, at_ms, final=stop.final, detail=stop.detail, outcome=outcome), container)


def ended_unseen(work: Work, reason: Reason, *, final: bool, detail: str | None = None) -> Ending:
    """An end without a known outcome: what was signed last is all that may be billed."""
    at_ms = work.usage.series.at_ms if work.usage.runs else work.now_ms()
    return ending(reason, at_ms, final=final, detail=detail)


def _finished_ms(work: Work, container: Container | None, outcome: Outcome) -> int:
    """Chain time at which the container ended, never later than now.

    By the engine's own times, so that an exit while this daemon was down is billed to its real end.
    """
    series = work.usage.series
    if container is None or container.started_at is None:
        # It never ran (its command can't be executed), or is gone: nothing beyond what was signed.
        return max(series.at_ms, series.started_at_ms)
    ran_ms = int((outcome.finished_at - container.started_at).total_seconds() * 1000)
    return min(work.now_ms(), series.started_at_ms + max(0, ran_ms))


def _retry(work: Work) -> RetryPolicy:
    """What the renter agreed to: after a listed exit code the escrow stays open for another attempt."""
    terms = work.spec.retry
    if terms is None:
        return RetryPolicy()
    return RetryPolicy(terms.max_attempts, exit_codes=frozenset(terms.exit_codes))
