"""A job's whole way through the daemon, and each of its ends."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from marketplace.domain.reasons import Reason
from marketplace.protocol.control import AttemptState, CommandType
from marketplace.protocol.digests import LogDigest, voucher_digest
from marketplace.protocol.terms import RegistryLogin, RetryTerms
from marketplace.protocol.vouchers import VoucherState
from node.runtime.errors import PullFailed, StartFailed
from node.runtime.fake import FakeProgram, FakeRuntime
from node.runtime.port import AttemptKey, Login, LogLine, LogPosition
from tests.node.conftest import Node
from tests.node.scripted_market import ScriptedMarket, reason, spec


async def test_a_job_is_claimed_run_metered_and_forgotten(node: Node, market: ScriptedMarket) -> None:
    seen = await market.offer(spec("done"))
    await market.until(lambda: seen.exited)
    await node.until_clean()
    assert [r.state for r in seen.reports] == [AttemptState.PULLING, AttemptState.READY, AttemptState.EXITED]
    assert reason(seen) is Reason.COMPLETED
    assert seen.exited is not None
    assert seen.exited.exit_code == 0
    assert seen.exited.image_digest == node.engine.digest("done")
    assert seen.text == ["one", "two", "three"]
    final = seen.final
    assert final is not None
    assert final.state is VoucherState.FINAL
    assert final.reason == Reason.COMPLETED
    assert seen.shown_ms is not None
    assert final.billed_ms <= max(300, seen.shown_ms), "the engine's run time, whatever the daemon took"
    digest = LogDigest()
    for line in seen.lines.values():
        digest.feed(line.stream, line.text.encode())
    assert final.digest == voucher_digest(digest.value())


async def test_vouchers_follow_each_heartbeat_and_never_fall(node: Node, market: ScriptedMarket) -> None:
    seen = await market.offer(spec("busy"))
    await market.until(lambda: len(seen.countersigned) >= 5)
    await market.command(CommandType.STOP, seen, reason=Reason.CANCELLED.value)
    await market.until(lambda: seen.exited)
    await node.until_clean()
    assert reason(seen) is Reason.CANCELLED
    assert seen.refusals == 0
    sequences = [v.sequence for v in seen.vouchers]
    assert sequences == sorted(set(sequences))
    assert len({v.started_at_ms for v in seen.vouchers}) == 1
    assert seen.final is not None
    assert seen.final.state is VoucherState.FINAL


@pytest.mark.parametrize(
    ("image", "expected", "exit_code"),
    [
        ("failing", Reason.APP_ERROR, 3),
        ("missing-command", Reason.APP_ERROR, 127),
        ("hungry", Reason.OOM, 137),
        ("full", Reason.DISK_FULL, 1),
    ],
)
async def test_each_exit_has_its_reason(
    node: Node, market: ScriptedMarket, image: str, expected: Reason, exit_code: int
) -> None:
    seen = await market.offer(spec(image))
    await market.until(lambda: seen.exited)
    await node.until_clean()
    assert reason(seen) is expected
    assert seen.exited is not None
    assert seen.exited.exit_code == exit_code
    assert seen.final is not None
    assert seen.final.reason == expected


async def test_an_unknown_image_costs_nothing(node: Node, market: ScriptedMarket) -> None:
    seen = await market.offer(spec("nobody/knows"))
    await market.until(lambda: seen.exited)
    await node.until_clean()
    assert reason(seen) is Reason.IMAGE_UNAVAILABLE
    assert seen.exited is not None
    assert seen.exited.voucher is None
    assert "unknown" in (seen.exited.detail or "")


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (FakeProgram(prepare_error=PullFailed("registry unreachable")), Reason.PULL_FAILED),
        (FakeProgram(start_error=StartFailed("no cgroup")), Reason.START_TIMEOUT),
    ],
)
async def test_the_nodes_own_failures_are_told_from_the_renters(
    node: Node, market: ScriptedMarket, program: FakeProgram, expected: Reason
) -> None:
    node.engine.programs["broken"] = program
    seen = await market.offer(spec("broken"))
    await market.until(lambda: seen.exited)
    await node.until_clean()
    assert reason(seen) is expected
    assert seen.exited is not None
    assert seen.exited.voucher is None


async def test_the_node_ends_a_job_at_its_limit(node: Node, market: ScriptedMarket) -> None:
    seen = await market.offer(spec("busy", limit_ms=1200))
    await market.until(lambda: seen.exited)
    await node.until_clean()
    assert reason(seen) is Reason.TIMEOUT
    assert seen.final is not None
    assert seen.final.billed_ms == 1200


async def test_a_job_that_ignores_term_is_killed_and_bills_no_more_than_its_limit(
    node: Node, market: ScriptedMarket
) -> None:
    seen = await market.offer(spec("stubborn", limit_ms=1100, stop_grace_s=1))
    await market.until(lambda: seen.exited)
    await node.until_clean()
    assert seen.exited is not None
    assert seen.exited.exit_code == 137
    assert max(v.billed_ms for v in seen.vouchers) == 1100


async def test_a_used_up_deposit_ends_the_job(node: Node, market: ScriptedMarket) -> None:
    # 3,600,000 an hour is 1 unit a millisecond: 1,500 units pay 1.5 s.
    seen = await market.offer(spec("busy"), deposit=1500)
    await market.until(lambda: seen.exited)
    assert reason(seen) is Reason.OUT_OF_FUNDS
    assert max(v.amount for v in seen.vouchers) == 1500


async def test_an_order_may_leave_the_escrow_open_for_the_next_attempt(node: Node, market: ScriptedMarket) -> None:
    seen = await market.offer(spec("busy"))
    await market.until(lambda: seen.countersigned)
    await market.command(CommandType.STOP, seen, reason=Reason.NODE_DRAINED.value, final=False)
    await market.until(lambda: seen.final)
    assert seen.final is not None
    assert seen.final.state is VoucherState.ENDED
    assert seen.final.reason == Reason.NODE_DRAINED


async def test_a_container_that_somebody_removed_bills_only_what_was_signed(node: Node, market: ScriptedMarket) -> None:
    seen = await market.offer(spec("vanishing"))
    await market.until(lambda: seen.exited)
    await node.until_clean()
    assert reason(seen) is Reason.NODE_QUIT
    running = [v for v in seen.vouchers if v.state is VoucherState.RUNNING]
    assert seen.final is not None
    assert seen.final.state is VoucherState.ENDED
    assert seen.final.billed_ms == max((v.billed_ms for v in running), default=0)


async def test_time_after_the_end_is_shown_to_no_meter(
    node: Node, market: ScriptedMarket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the last lines of its log take to be read."""
    read, logs = asyncio.Event(), FakeRuntime.logs

    async def slow(
        runtime: FakeRuntime, key: AttemptKey, *, after: LogPosition | None = None
    ) -> AsyncIterator[LogLine]:
        async for line in logs(runtime, key, after=after):
            yield line
        await read.wait()

    monkeypatch.setattr(FakeRuntime, "logs", slow)
    seen = await market.offer(spec("busy"))
    await market.until(lambda: seen.countersigned)
    (record,) = node.engine.records.values()
    node.end()
    await market.until(lambda: market.beats[-1].allocations[0].voucher is None)
    shown, beats = seen.vouchers[-1].billed_ms, len(market.beats)
    await market.until(lambda: len(market.beats) > beats + 2)
    read.set()
    await market.until(lambda: seen.final)
    await node.until_clean()
    assert record.outcome is not None
    ran = record.outcome.finished_at - record.started_at
    assert seen.final is not None
    assert seen.final.billed_ms == max(shown, int(ran.total_seconds() * 1000))


async def test_nothing_starts_before_the_assignment(node: Node, market: ScriptedMarket) -> None:
    market.assigns = False
    seen = await market.offer(spec("busy"))
    await market.until(lambda: seen.reports)
    beats = len(market.beats)
    await market.until(lambda: len(market.beats) > beats + 3)
    assert node.journal.attempts()[0].started_at_ms is None
    await market.command(CommandType.ASSIGNED, seen)
    await market.until(lambda: seen.countersigned)


async def test_a_job_cancelled_before_its_start_costs_nothing(node: Node, market: ScriptedMarket) -> None:
    market.assigns = False
    seen = await market.offer(spec("busy"))
    await market.until(lambda: seen.reports)
    await market.command(CommandType.STOP, seen, reason=Reason.CANCELLED.value)
    await market.until(lambda: seen.exited)
    await node.until_clean()
    assert seen.exited is not None
    assert seen.exited.voucher is None


async def test_a_claim_that_the_market_does_not_take_is_dropped(node: Node, market: ScriptedMarket) -> None:
    market.claim_error = "already_assigned"
    seen = await market.offer(spec("busy"))
    await market.until(lambda: seen.claim)
    await node.until_clean()
    assert not seen.reports
    assert node.agent.free_slots == 2


@pytest.mark.parametrize(
    ("attempt", "codes", "state"),
    [(1, (3,), VoucherState.ENDED), (2, (3,), VoucherState.FINAL), (1, (4,), VoucherState.FINAL)],
)
async def test_a_listed_exit_code_leaves_the_escrow_open_while_attempts_are_left(
    node: Node, market: ScriptedMarket, attempt: int, codes: tuple[int, ...], state: VoucherState
) -> None:
    job = spec("failing", retry=RetryTerms(max_attempts=2, exit_codes=codes))
    seen = await market.offer(job, attempt=attempt)
    await market.until(lambda: seen.exited)
    await node.until_clean()
    assert seen.final is not None
    assert (reason(seen), seen.final.state) == (Reason.APP_ERROR, state)


async def test_secrets_and_the_login_reach_the_container_and_the_registry_only(
    node: Node, market: ScriptedMarket
) -> None:
    login = RegistryLogin(username="robot", password="planted-password")
    node.engine.programs["private"] = FakeProgram(runs_for_s=None, login=Login("robot", "planted-password"))
    denied = await market.offer(spec("private"), allocation="alloc_denied")
    await market.until(lambda: denied.exited)
    assert reason(denied) is Reason.IMAGE_UNAVAILABLE
    job = spec("private", env={"A": "b"}, secrets={"TOKEN": "planted-secret"}, registry_login=login)
    seen = await market.offer(job)
    await market.until(lambda: seen.countersigned)
    assert [record.spec.env for record in node.engine.records.values()] == [(("A", "b"), ("TOKEN", "planted-secret"))]
    await market.command(CommandType.STOP, seen, reason=Reason.CANCELLED.value)
    await market.until(lambda: seen.exited)


async def test_what_a_job_makes_of_its_gpus_is_told_where_it_is_measured(node: Node, market: ScriptedMarket) -> None:
    node.engine.programs["training"] = FakeProgram(runs_for_s=None, gpu_percent=80, gpu_memory_bytes=3 << 30)
    trained = await market.offer(spec("training"), allocation="alloc_gpu")
    plain = await market.offer(spec("busy"), allocation="alloc_cpu")
    await market.until(lambda: trained.countersigned and plain.countersigned)

    def told(allocation: str) -> list[tuple[int | None, int | None]]:
        beats = (a for beat in market.beats for a in beat.allocations if a.allocation_id == allocation)
        return [(b.used.gpu_percent, b.used.gpu_memory_bytes) for b in beats if b.used is not None]

    await market.until(lambda: told("alloc_gpu") and told("alloc_cpu"))
    assert (told("alloc_gpu")[-1], told("alloc_cpu")[-1]) == ((80, 3 << 30), (None, None))
