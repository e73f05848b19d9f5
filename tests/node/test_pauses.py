"""A job at its limit: held, unbilled, until there is more time or the wait is over."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from marketplace.domain.quantities import Millis, Tokens
from marketplace.domain.reasons import Reason
from marketplace.protocol.control import AttemptState, CommandType
from node.metering import Bounds, Series
from tests.node.conftest import IDENTITY, Node
from tests.node.scripted_market import ScriptedMarket, Seen, reason, spec

LIMIT_MS = 400
START = 1_700_000_000_000


def states(seen: Seen) -> list[AttemptState]:
    return [report.state for report in seen.reports]


async def held(market: ScriptedMarket) -> Seen:
    """A job that stands at its limit."""
    market.pause_ms = 30_000
    seen = await market.offer(spec("busy", limit_ms=LIMIT_MS))
    await market.until(lambda: AttemptState.PAUSED in states(seen))
    return seen


async def test_more_time_resumes_it_and_the_pause_is_not_billed(node: Node, market: ScriptedMarket) -> None:
    seen = await held(market)
    (record,) = node.engine.records.values()
    beats = len(market.beats)
    await market.until(lambda: len(market.beats) > beats + 4)
    assert record.paused_at is not None
    assert {v.billed_ms for v in seen.countersigned[-2:]} == {LIMIT_MS}
    await market.command(CommandType.EXTEND, seen, extended_ms=60_000, extended_deposit=60_000_000)
    await market.until(lambda: AttemptState.RUNNING in states(seen))
    assert record.paused_at is None
    known = lambda: market.beats[-1].allocations and market.beats[-1].allocations[0].extended_ms == 60_000  # noqa: E731
    await market.until(lambda: known() and seen.countersigned[-1].billed_ms > LIMIT_MS)
    await market.command(CommandType.STOP, seen, reason=Reason.CANCELLED.value)
    await market.until(lambda: seen.exited)
    await node.until_clean()
    assert seen.final is not None
    assert record.outcome is not None
    held_ms = record.paused_for.total_seconds() * 1000
    ran_ms = (record.outcome.finished_at - record.started_at).total_seconds() * 1000 - held_ms
    # what it ran between its limit and its standing still is nobody's
    assert LIMIT_MS < seen.final.billed_ms <= ran_ms + 1
    assert seen.refusals == 0


async def test_without_more_time_it_ends_for_its_time_and_its_limit_is_billed(
    node: Node, market: ScriptedMarket
) -> None:
    market.pause_ms = 300
    seen = await market.offer(spec("busy", limit_ms=LIMIT_MS))
    await market.until(lambda: seen.exited)
    await node.until_clean()
    assert (reason(seen), seen.final and seen.final.billed_ms) == (Reason.TIMEOUT, LIMIT_MS)
    assert states(seen) == [
        AttemptState.PULLING, AttemptState.READY, AttemptState.PAUSED, AttemptState.EXITED
    ]  # fmt: skip


async def test_where_nothing_can_be_held_it_ends_at_once(node: Node, market: ScriptedMarket) -> None:
    node.engine.can_pause = False
    market.pause_ms = 30_000
    seen = await market.offer(spec("busy", limit_ms=LIMIT_MS))
    await market.until(lambda: seen.exited)
    await node.until_clean()
    assert (reason(seen), seen.final and seen.final.billed_ms) == (Reason.TIMEOUT, LIMIT_MS)


async def test_more_time_before_the_limit_moves_it(node: Node, market: ScriptedMarket) -> None:
    market.pause_ms = 200
    seen = await market.offer(spec("busy", limit_ms=2_500))
    await market.until(lambda: AttemptState.READY in states(seen))
    for _ in range(2):  # the same word twice adds it once
        await market.command(CommandType.EXTEND, seen, extended_ms=500, extended_deposit=500_000)
    await market.until(lambda: seen.exited)
    await node.until_clean()
    assert (reason(seen), seen.final and seen.final.billed_ms) == (Reason.TIMEOUT, 3_000)


async def test_a_cancelled_job_that_is_held_ends_as_cancelled(node: Node, market: ScriptedMarket) -> None:
    seen = await held(market)
    await market.command(CommandType.STOP, seen, reason=Reason.CANCELLED.value)
    await market.until(lambda: seen.exited)
    await node.until_clean()
    assert (reason(seen), seen.final and seen.final.billed_ms) == (Reason.CANCELLED, LIMIT_MS)


async def test_a_daemon_that_comes_back_finds_it_held_and_goes_on(node: Node, market: ScriptedMarket) -> None:
    seen = await held(market)
    await node.kill()
    (record,) = node.engine.records.values()
    assert record.paused_at is not None
    await node.start()
    await market.until(lambda: len(market.hellos) >= 2)
    await market.command(CommandType.EXTEND, seen, extended_ms=60_000, extended_deposit=60_000_000)
    await market.until(lambda: AttemptState.RUNNING in states(seen))
    await market.until(lambda: seen.countersigned[-1].billed_ms > LIMIT_MS)
    assert states(seen).count(AttemptState.PAUSED) == 1
    await market.command(CommandType.STOP, seen, reason=Reason.CANCELLED.value)
    await market.until(lambda: seen.exited)
    await node.until_clean()
    assert seen.refusals == 0


@given(st.lists(st.tuples(st.integers(0, 5_000), st.integers(0, 5_000)), min_size=1, max_size=20))
def test_what_is_held_is_never_billed_and_nothing_else_is_lost(turns: list[tuple[int, int]]) -> None:
    """turns: milliseconds run, then milliseconds held."""
    current = Series(
        IDENTITY, b"\x05" * 32, b"\x06" * 32, 1, Bounds(Tokens(3_600_000), Millis(10**9), Tokens(10**12)), START
    )
    now, ran = START, 0
    for run, hold in turns:
        now, ran = now + run, ran + run
        voucher, current = current.next(now, bytes(32))
        assert voucher.billed_ms == ran
        current = current.pause(now)
        now += hold
        voucher, current = current.next(now, bytes(32))
        assert voucher.billed_ms == ran
        current = replace(current.resume(now))
    assert current.next(now, bytes(32))[0].billed_ms == ran
