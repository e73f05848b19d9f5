"""Lost answers, lost connections, a silent market, a daemon that dies: what must still come out right."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import base58
import pytest

from marketplace.domain.reasons import Reason
from marketplace.protocol.control import AttemptState, CommandType, FrameType, Holding
from marketplace.protocol.vouchers import VoucherMessage, VoucherState
from node.chain import Assignment, ChainSilent, Standing, Windows
from node.journal import Accepted, Attempt, Journal, JournalUnusable, read_only
from node.keys import generate
from node.runtime.fake import FakeRuntime
from node.runtime.port import AttemptKey
from tests.node.conftest import Node
from tests.node.scripted_market import SKEW_MS, ScriptedMarket, now_ms, reason, spec


@pytest.mark.parametrize("kind", [FrameType.CLAIM, FrameType.STATE, FrameType.LOGS, FrameType.HEARTBEAT])
async def test_a_lost_answer_is_asked_for_again(node: Node, market: ScriptedMarket, kind: FrameType) -> None:
    market.drop_answers[kind] = 2
    seen = await market.offer(spec("done"))
    await market.until(lambda: seen.exited)
    await node.until_clean()
    assert seen.text == ["one", "two", "three"]
    assert seen.final is not None


async def test_what_was_not_answered_is_sent_again_after_a_reconnect(node: Node, market: ScriptedMarket) -> None:
    market.drop_answers[FrameType.STATE] = 1
    seen = await market.offer(spec("done"))
    await market.until(lambda: market.frames[FrameType.STATE] >= 1)
    await market.disconnect()
    await market.until(lambda: seen.exited)
    await node.until_clean()
    assert len(market.hellos) >= 2
    assert [r.state for r in seen.reports][-1] is AttemptState.EXITED


async def test_a_deploy_of_the_market_touches_no_running_work(node: Node, market: ScriptedMarket) -> None:
    seen = await market.offer(spec("busy"))
    await market.until(lambda: len(seen.countersigned) >= 2)
    await market.stop()
    before = node.engine.available and len(await FakeRuntime(node.engine, "test").list())
    await market.start()
    count = len(seen.countersigned)
    await market.until(lambda: len(seen.countersigned) >= count + 2)
    assert before == 1
    assert market.hellos[-1].holding == (Holding(allocation_id="alloc_1", attempt=1, state=AttemptState.RUNNING),)
    await market.command(CommandType.STOP, seen, reason=Reason.CANCELLED.value)
    await node.until_clean()


async def test_a_fault_of_our_own_ends_the_attempt_and_leaves_no_container(
    node: Node, market: ScriptedMarket, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def wait(_runtime: FakeRuntime, _key: AttemptKey) -> None:
        await asyncio.sleep(0.5)
        raise ValueError("nobody foresaw this")

    monkeypatch.setattr(FakeRuntime, "wait", wait)
    seen = await market.offer(spec("busy"))
    await market.until(lambda: seen.exited)
    await node.until_clean()
    last = seen.reports[-1]
    assert (last.reason, last.detail) == (Reason.NODE_QUIT.value, "a fault of the node: ValueError")
    assert last.voucher is not None
    assert VoucherMessage.from_fields(last.voucher.fields).state is VoucherState.ENDED


async def test_a_claim_request_that_is_sent_again_is_claimed_once(node: Node, market: ScriptedMarket) -> None:
    job = spec("busy")
    seen = await market.offer(job)
    await market.until(lambda: seen.countersigned)
    claims = market.frames[FrameType.CLAIM]
    await market.push(FrameType.CLAIM_REQUEST, seen.request)
    beats = len(market.beats)
    await market.until(lambda: len(market.beats) > beats + 2)
    assert len(await FakeRuntime(node.engine, "test").list()) == 1
    assert market.frames[FrameType.CLAIM] == claims


async def test_a_command_may_come_twice(node: Node, market: ScriptedMarket) -> None:
    seen = await market.offer(spec("busy"))
    await market.until(lambda: seen.countersigned)
    for _ in range(2):
        await market.command(CommandType.STOP, seen, id="the same", reason=Reason.CANCELLED.value)
    await market.until(lambda: seen.exited)
    await node.until_clean()
    assert len([r for r in seen.reports if r.state is AttemptState.EXITED]) == 1


async def test_time_that_the_meter_did_not_see_is_given_up(node: Node, market: ScriptedMarket) -> None:
    # `ready` is lost several times on its way: the market's clock of the attempt begins seconds after the node's.
    market.unseen_ms = 1_000
    seen = await market.offer(spec("busy"))
    await market.until(lambda: any(r.state is AttemptState.PULLING for r in seen.reports))
    market.drop_answers[FrameType.STATE] = 4
    await market.until(lambda: seen.ready_at_ms, timeout_s=60)
    await market.until(lambda: len(seen.countersigned) >= 2, timeout_s=60)
    assert seen.refusals >= 1
    await market.command(CommandType.STOP, seen, reason=Reason.CANCELLED.value)
    await market.until(lambda: seen.final)
    await node.until_clean()


async def test_a_refused_last_voucher_is_followed_by_one_that_bills_what_was_signed(
    node: Node, market: ScriptedMarket
) -> None:
    seen = await market.offer(spec("busy"))
    await market.until(lambda: len(seen.countersigned) >= 2)
    billed = seen.countersigned[-1].billed_ms
    market.refuse_vouchers = 1_000_000
    await market.command(CommandType.STOP, seen, reason=Reason.CANCELLED.value)
    await market.until(lambda: seen.exited)
    market.refuse_vouchers = 0
    await market.until(lambda: seen.final)
    await node.until_clean()
    assert seen.final is not None
    assert seen.final.state is VoucherState.FINAL
    assert seen.final.billed_ms >= billed


async def test_a_chain_clock_that_falls_behind_delays_vouchers_and_costs_no_time(
    node: Node, market: ScriptedMarket
) -> None:
    seen = await market.offer(spec("busy"))
    await market.until(lambda: len(seen.countersigned) >= 2)
    market.chain_lag_ms = 60_000
    await market.until(lambda: seen.refusals >= 3)
    count, refused_at = len(seen.countersigned), seen.vouchers[-1].billed_ms
    market.chain_lag_ms = 0
    await market.until(lambda: len(seen.countersigned) > count and seen.countersigned[-1].billed_ms > refused_at)
    last = seen.countersigned[-1]
    assert last.billed_ms == last.at_ms - last.started_at_ms
    await market.command(CommandType.STOP, seen, reason=Reason.CANCELLED.value)
    await market.until(lambda: seen.final)
    await node.until_clean()


async def test_an_attempt_that_starts_while_the_chain_lags_keeps_to_the_chain_s_clock(
    node: Node, market: ScriptedMarket
) -> None:
    market.chain_lag_ms = 10_000
    await market.until(lambda: 0 < node.chain_heard_ms <= market.chain_ms())
    seen = await market.offer(spec("busy"))
    await market.until(lambda: len(seen.countersigned) >= 3)
    assert seen.refusals == 0
    assert all(v.started_at_ms <= v.at_ms <= market.chain_ms() + SKEW_MS for v in seen.countersigned)
    market.chain_lag_ms = 0
    count = len(seen.countersigned)
    await market.until(lambda: len(seen.countersigned) >= count + 2)
    # the chain's leap forward is nobody's usage
    assert seen.countersigned[-1].at_ms < market.chain_ms() - 5_000
    await market.command(CommandType.STOP, seen, reason=Reason.CANCELLED.value)
    await market.until(lambda: seen.final)
    await node.until_clean()


async def test_a_last_voucher_waits_for_the_chain_s_clock_and_is_paid_in_full(
    node: Node, market: ScriptedMarket
) -> None:
    seen = await market.offer(spec("busy"))
    await market.until(lambda: len(seen.countersigned) >= 2)
    market.chain_lag_ms = 60_000
    await market.command(CommandType.STOP, seen, reason=Reason.CANCELLED.value)
    await market.until(lambda: seen.exited)
    assert seen.final is None
    market.chain_lag_ms = 0
    await market.until(lambda: seen.final)
    await node.until_clean()
    assert seen.exited is not None
    assert seen.exited.voucher is not None
    assert seen.final.fields() == seen.exited.voucher.fields


async def test_an_attempt_whose_last_vouchers_are_all_refused_still_comes_to_an_end(
    node: Node, market: ScriptedMarket
) -> None:
    market.waits_for_chain = False
    seen = await market.offer(spec("busy"))
    await market.until(lambda: len(seen.countersigned) >= 2)
    market.chain_lag_ms = 600_000
    await market.command(CommandType.STOP, seen, reason=Reason.CANCELLED.value)
    await node.until_clean()
    last = [r for r in seen.reports if r.state is AttemptState.EXITED]
    assert [r.voucher is None for r in last] == [False, False, True]
    assert {r.reason for r in last} == {Reason.CANCELLED.value}
    less = VoucherMessage.from_fields(last[1].voucher.fields) if last[1].voucher else None
    assert less is not None
    assert (less.billed_ms, less.at_ms) == (seen.countersigned[-1].billed_ms, seen.countersigned[-1].at_ms)


async def test_a_market_that_knows_an_attempt_as_over_has_it_removed(node: Node, market: ScriptedMarket) -> None:
    seen = await market.offer(spec("busy"))
    await market.until(lambda: seen.countersigned)
    market.forget = (Holding(allocation_id="alloc_1", attempt=1, state=AttemptState.RUNNING),)
    await market.disconnect()
    await node.until_clean()


async def test_a_market_that_lost_its_store_does_not_cost_the_node_its_pay(
    market: ScriptedMarket, make_node: Callable[[], Node]
) -> None:
    """It knows nothing of the attempt, says so in every way it has, and the escrow is still ours on chain."""
    chain = ScriptedChain(meter=market.meter.public, now_ms=now_ms)
    node = make_node()
    node.chain = chain
    node.limits = replace(node.limits, windows=await chain.windows())
    await node.start()
    seen = await market.offer(spec("busy"))
    await market.until(lambda: seen.countersigned)
    paid_to = seen.countersigned[-1].sequence
    market.forget = (Holding(allocation_id="alloc_1", attempt=1, state=AttemptState.RUNNING),)
    await market.disconnect()
    await market.until(lambda: len(market.hellos) >= 2)
    await market.command(CommandType.SETTLED, seen)
    await node.until_clean()
    assert [a is not None and a.message.sequence >= paid_to for a in (*chain.settled, *chain.quits)] == [True]


async def test_a_market_that_is_another_one_is_not_obeyed(
    market: ScriptedMarket, make_node: Callable[[], Node]
) -> None:
    market.program_id = base58.b58encode(b"\x09" * 32).decode()
    node = make_node()
    await node.start()
    await market.until(lambda: len(market.hellos) >= 2)
    assert not market.beats


# --- the daemon dies ---------------------------------------------------------------------------------------------


async def test_a_restarted_daemon_goes_on_with_the_same_container_and_series(
    node: Node, market: ScriptedMarket
) -> None:
    seen = await market.offer(spec("talking"))
    await market.until(lambda: len(seen.countersigned) >= 3 and len(seen.lines) >= 4)
    container = (await FakeRuntime(node.engine, "test").list())[0].container_id
    before = seen.countersigned[-1]
    await node.restart()
    count = len(seen.countersigned)
    await market.until(lambda: len(seen.countersigned) >= count + 3)
    after = seen.countersigned[-1]
    assert (await FakeRuntime(node.engine, "test").list())[0].container_id == container
    assert after.started_at_ms == before.started_at_ms
    assert after.sequence > before.sequence
    assert after.billed_ms > before.billed_ms
    assert seen.refusals == 0
    await market.command(CommandType.STOP, seen, reason=Reason.CANCELLED.value)
    await market.until(lambda: seen.final)
    await node.until_clean()
    assert seen.text == [f"line {n}" for n in range(1, len(seen.text) + 1)]


async def test_an_exit_while_the_daemon_was_down_is_billed_to_its_real_end(node: Node, market: ScriptedMarket) -> None:
    seen = await market.offer(spec("busy"))
    await market.until(lambda: seen.countersigned)
    await node.kill()
    await asyncio.sleep(0.1)
    node.end()
    (container,) = await FakeRuntime(node.engine, "test").list()
    await asyncio.sleep(0.5)
    await node.start()
    await market.until(lambda: seen.exited)
    await node.until_clean()
    assert reason(seen) is Reason.COMPLETED
    assert seen.final is not None
    assert container.started_at is not None
    assert container.outcome is not None
    ran = container.outcome.finished_at - container.started_at
    assert seen.final.billed_ms == int(ran.total_seconds() * 1000), "and not the half second that nobody saw"


async def test_a_container_without_a_journal_row_is_swept(
    market: ScriptedMarket, make_node: Callable[[], Node]
) -> None:
    node = make_node()
    await node.start()
    seen = await market.offer(spec("busy"))
    await market.until(lambda: seen.countersigned)
    await node.kill()
    journal = Journal(node.journal_path)
    journal.forget(AttemptKey("alloc_1", 1))
    journal.close()
    await node.start()
    await node.until_clean()


async def test_a_daemon_that_died_before_its_claim_was_answered_asks_again(node: Node, market: ScriptedMarket) -> None:
    market.drop_answers[FrameType.CLAIM] = 1
    seen = await market.offer(spec("done"))
    await market.until(lambda: market.frames[FrameType.CLAIM] >= 1)
    await node.restart()
    await market.until(lambda: seen.exited)
    await node.until_clean()
    assert reason(seen) is Reason.COMPLETED


async def test_a_daemon_that_died_after_the_end_delivers_report_and_logs(node: Node, market: ScriptedMarket) -> None:
    market.drop_answers[FrameType.LOGS] = 1_000_000
    seen = await market.offer(spec("done"))
    await market.until(lambda: seen.exited)
    market.settles = False
    await node.kill()
    market.drop_answers.clear()
    await node.start()
    await market.until(lambda: len(seen.lines) == 3)
    await market.until(lambda: node.engine and seen.final)
    await market.command(CommandType.SETTLED, seen)
    await node.until_clean()


async def test_two_daemons_never_share_a_journal(node: Node) -> None:
    with pytest.raises(JournalUnusable, match="in use"):
        Journal(node.journal_path)
    assert read_only(node.journal_path).in_use


# --- the market is silent ----------------------------------------------------------------------------------------


@dataclass
class ScriptedChain:
    """The node's own view of the chain, as a test says it."""

    standing: Standing = Standing.ASSIGNED
    silent: bool = False
    price: int = 3_600_000
    meter: bytes = b""
    deposit: int = 0
    settled: list[Accepted] = field(default_factory=list)
    quits: list[Accepted | None] = field(default_factory=list)
    now_ms: Callable[[], int] = lambda: 0

    async def windows(self) -> Windows:
        return Windows(claim_limit_ms=30_000, skew_ms=2_000, lost_after_ms=100)

    async def time_ms(self) -> int:
        if self.silent:
            raise ChainSilent
        return self.now_ms()

    async def look(self, attempt: Attempt) -> Assignment:
        if self.silent:
            raise ChainSilent
        return Assignment(self.standing, self.price, self.meter, deposit=self.deposit)

    async def settle(self, attempt: Attempt, accepted: Accepted) -> str:
        self.settled.append(accepted)
        self.standing = Standing.OVER
        return "settled"

    async def quit(self, attempt: Attempt, accepted: Accepted | None) -> str:
        self.quits.append(accepted)
        self.standing = Standing.OVER
        return "quit"


@pytest.fixture
async def chained(market: ScriptedMarket, make_node: Callable[[], Node]) -> tuple[Node, ScriptedChain]:
    chain = ScriptedChain(meter=market.meter.public, now_ms=now_ms)
    node = make_node()
    node.chain = chain
    node.limits = replace(node.limits, windows=await chain.windows())
    await node.start()
    return node, chain


async def test_an_escrow_that_is_still_ours_keeps_the_work_alive_through_silence(
    chained: tuple[Node, ScriptedChain], market: ScriptedMarket
) -> None:
    node, _ = chained
    seen = await market.offer(spec("busy"))
    await market.until(lambda: seen.countersigned)
    market.silent = True
    frames = market.frames[FrameType.HEARTBEAT]
    await market.until(lambda: market.frames[FrameType.HEARTBEAT] >= frames + 2)
    await asyncio.sleep(1.0)
    market.silent = False
    count = len(seen.countersigned)
    await market.until(lambda: len(seen.countersigned) > count + 1)
    assert len(await FakeRuntime(node.engine, "test").list()) == 1
    assert seen.exited is None


async def test_an_escrow_that_went_to_another_node_stops_the_work(
    chained: tuple[Node, ScriptedChain], market: ScriptedMarket
) -> None:
    node, chain = chained
    seen = await market.offer(spec("busy"))
    await market.until(lambda: seen.countersigned)
    market.silent = True
    chain.standing = Standing.OVER
    await node.until_clean()


async def test_a_silent_market_and_a_silent_chain_stop_the_work(
    chained: tuple[Node, ScriptedChain], market: ScriptedMarket
) -> None:
    node, chain = chained
    seen = await market.offer(spec("busy"))
    await market.until(lambda: seen.countersigned)
    market.silent = True
    chain.silent = True
    runtime = FakeRuntime(node.engine, "test")
    async with asyncio.timeout(30):
        while any(c.outcome is None for c in await runtime.list()):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    chain.silent = False
    await node.until_clean()
    assert [a and a.message.sequence for a in chain.quits] == [seen.countersigned[-1].sequence]


async def test_a_market_gone_after_the_last_countersignature_is_settled_without(
    chained: tuple[Node, ScriptedChain], market: ScriptedMarket
) -> None:
    node, chain = chained
    market.settles = False
    seen = await market.offer(spec("done"))
    await market.until(lambda: seen.final)
    await market.stop()
    await node.until_clean()
    assert [a.message for a in chain.settled] == [seen.final]
    assert not chain.quits


async def test_work_unacknowledged_too_long_is_stopped_and_quit_with_the_best_voucher(
    chained: tuple[Node, ScriptedChain], market: ScriptedMarket
) -> None:
    node, chain = chained
    seen = await market.offer(spec("busy"))
    await market.until(lambda: seen.countersigned)
    market.max_unacked_ms = (
        600  # told with the next welcome; from then on a machine that stands still so long is silent
    )
    await market.disconnect()
    await market.until(lambda: len(market.hellos) >= 2)
    await market.stop()
    await node.until_clean()
    assert [a and a.message.sequence for a in chain.quits] == [seen.countersigned[-1].sequence]


async def test_finished_work_waits_for_the_market_instead_of_giving_up_its_pay(
    chained: tuple[Node, ScriptedChain], market: ScriptedMarket
) -> None:
    node, chain = chained
    seen = await market.offer(spec("busy"))
    await market.until(lambda: seen.countersigned)
    market.silent = True
    node.end()
    async with asyncio.timeout(30):
        while node.journal.attempts()[0].ending is None:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    # Ten intervals, and many times lost_after: enough for a node without patience to quit.
    frames = market.frames[FrameType.STATE]
    await market.until(lambda: market.frames[FrameType.STATE] >= frames + 3)
    assert not chain.quits
    market.silent = False
    await market.until(lambda: seen.final)
    await node.until_clean()
    assert reason(seen) is Reason.COMPLETED


async def test_the_market_can_not_start_work_that_the_chain_does_not_know(
    chained: tuple[Node, ScriptedChain], market: ScriptedMarket
) -> None:
    node, chain = chained
    chain.standing = Standing.WAITING
    seen = await market.offer(spec("busy"))
    await market.until(lambda: seen.reports)
    beats = len(market.beats)
    await market.until(lambda: len(market.beats) > beats + 5)
    assert not await FakeRuntime(node.engine, "test").list()
    chain.standing = Standing.ASSIGNED
    await market.until(lambda: seen.countersigned)


async def test_an_assignment_at_another_price_is_not_worked_for(
    chained: tuple[Node, ScriptedChain], market: ScriptedMarket
) -> None:
    node, chain = chained
    chain.price = 1
    seen = await market.offer(spec("busy"))
    await market.until(lambda: seen.exited)
    await node.until_clean()
    assert reason(seen) is Reason.NODE_QUIT
    assert seen.exited is not None
    assert seen.exited.voucher is None


async def test_a_countersignature_of_a_stranger_is_no_money(node: Node, market: ScriptedMarket) -> None:
    seen = await market.offer(spec("busy"))
    await market.until(lambda: len(seen.countersigned) >= 2)
    meter, market.meter = market.meter, generate()
    real = node.journal.attempts()[0].accepted
    count, last = len(seen.countersigned), seen.countersigned[-1].sequence
    await market.until(lambda: len(seen.countersigned) >= count + 3)
    kept = node.journal.attempts()[0].accepted
    market.meter = meter
    assert real is not None
    assert kept is not None
    assert kept.message.sequence <= last
