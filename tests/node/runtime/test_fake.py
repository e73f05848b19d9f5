"""The scripts of the fake: time is the test's own, and faults come when they are asked for."""

import asyncio
from pathlib import Path

import pytest

from node.runtime.errors import (
    CapabilityMissing,
    ContainerVanished,
    EngineUnavailable,
    PullFailed,
    StartFailed,
)
from node.runtime.fake import FakeEngine, FakeOutput, FakeProgram, FakeRuntime, ManualClock
from node.runtime.port import AttemptKey, ContainerSpec, ContainerState, Network
from tests.node.runtime.stages import LIMITS

KEY = AttemptKey("alloc_fake", 1)


async def made(
    program: FakeProgram, networks: frozenset[Network] = frozenset(Network)
) -> tuple[FakeEngine, ManualClock, FakeRuntime, ContainerSpec]:
    clock = ManualClock()
    engine = FakeEngine({"fake/job": program}, clock=clock, networks=networks)
    runtime = FakeRuntime(engine, "test")
    image = await runtime.prepare("fake/job", max_bytes=10_000_000)
    return engine, clock, runtime, ContainerSpec(KEY, image, LIMITS)


async def settle() -> None:
    """Let everything run that can run without time passing."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_container_runs_as_long_as_the_clock_says() -> None:
    _, clock, runtime, spec = await made(FakeProgram(exit_code=3, runs_for_s=10))
    started = await runtime.start(spec)
    waiting = asyncio.ensure_future(runtime.wait(KEY))
    clock.advance(9.999)
    await settle()
    assert not waiting.done()
    clock.advance(0.002)
    await settle()
    outcome = waiting.result()
    assert started.started_at is not None
    assert outcome.exit_code == 3
    assert (outcome.finished_at - started.started_at).total_seconds() == 10


async def test_output_comes_when_it_is_written() -> None:
    output = (FakeOutput(b"early\n"), FakeOutput(b"late\n", after_s=5), FakeOutput(b"never\n", after_s=50))
    _, clock, runtime, spec = await made(FakeProgram(runs_for_s=10, output=output))
    await runtime.start(spec)
    lines = runtime.logs(KEY)
    assert (await anext(lines)).text == b"early"
    late = asyncio.ensure_future(anext(lines))
    await settle()
    assert not late.done()
    clock.advance(5)
    assert (await late).text == b"late"
    clock.advance(5)
    assert await anext(lines, None) is None


async def test_a_stubborn_container_is_killed_when_its_grace_is_over() -> None:
    _, clock, runtime, spec = await made(FakeProgram(runs_for_s=None, obeys_term=False))
    await runtime.start(spec)
    stopping = asyncio.ensure_future(runtime.stop(KEY, grace_s=30))
    await settle()
    clock.advance(29)
    await settle()
    assert not stopping.done()
    clock.advance(1)
    assert (await stopping).exit_code == 137


@pytest.mark.parametrize("by_itself", [True, False])
async def test_a_silent_death_wakes_whoever_waits(by_itself: bool) -> None:
    engine, clock, runtime, spec = await made(FakeProgram(runs_for_s=10, vanishes=by_itself))
    await runtime.start(spec)
    waiting = asyncio.ensure_future(runtime.wait(KEY))
    await settle()
    if by_itself:
        clock.advance(10)
    else:
        engine.vanish(KEY)
    with pytest.raises(ContainerVanished):
        await waiting
    assert await runtime.find(KEY) is None


async def test_an_engine_that_is_away_answers_nothing() -> None:
    engine, _, runtime, spec = await made(FakeProgram(runs_for_s=None))
    await runtime.start(spec)
    engine.available = False
    for question in (runtime.list(), runtime.find(KEY), runtime.start(spec), runtime.remove(KEY), runtime.wait(KEY)):
        with pytest.raises(EngineUnavailable):
            await question
    engine.available = True
    assert [c.state for c in await runtime.list()] == [ContainerState.RUNNING]


async def test_scripted_errors_are_raised_and_leave_nothing() -> None:
    engine, _, runtime, spec = await made(FakeProgram())
    engine.programs["fake/job"] = FakeProgram(prepare_error=PullFailed("registry is away"))
    with pytest.raises(PullFailed, match="registry is away"):
        await runtime.prepare("fake/job", max_bytes=1)
    engine.programs["fake/job"] = FakeProgram(start_error=StartFailed("no room"))
    with pytest.raises(StartFailed, match="no room"):
        await runtime.start(spec)
    assert await runtime.list() == ()


async def test_a_machine_without_egress_refuses_it() -> None:
    _, _, runtime, spec = await made(FakeProgram(), networks=frozenset({Network.NONE}))
    with pytest.raises(CapabilityMissing):
        await runtime.start(ContainerSpec(KEY, spec.image, LIMITS, network=Network.EGRESS))
    assert (await runtime.capabilities()).networks == {Network.NONE}


async def test_outputs_are_there_only_after_the_end(tmp_path: Path) -> None:
    clock = ManualClock()
    program = FakeProgram(runs_for_s=10, files=(("result.json", b"{}"),))
    runtime = FakeRuntime(FakeEngine({"fake/job": program}, clock=clock, folder=tmp_path), "test")
    image = await runtime.prepare("fake/job", max_bytes=10_000_000)
    container = await runtime.start(ContainerSpec(KEY, image, LIMITS))
    assert container.outputs is not None
    assert list(container.outputs.iterdir()) == []
    clock.advance(10)
    await runtime.wait(KEY)
    assert (container.outputs / "result.json").read_bytes() == b"{}"
