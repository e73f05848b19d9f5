"""What every runtime promises (node/runtime/port.py), asked of each."""

import asyncio
import contextlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from node.collecting import read_progress
from node.runtime.errors import AttemptConflict, CapabilityMissing, ContainerVanished, ImageFault, ImageUnavailable
from node.runtime.port import LOG_LINE_BYTES, AttemptKey, ContainerState, DiskLimit, LogLine, LogStream
from tests.node.runtime.stages import Behaviour, Stage, other


async def read(stage: Stage, key: AttemptKey) -> list[LogLine]:
    return [line async for line in stage.runtime.logs(key)]


async def test_a_container_that_ends_well_has_exit_code_0(stage: Stage) -> None:
    spec = await stage.spec(Behaviour.ENDS)
    container = await stage.runtime.start(spec)
    outcome = await stage.runtime.wait(spec.key)
    assert (outcome.exit_code, outcome.oom_killed, outcome.disk_full) == (0, False, False)
    assert container.key == spec.key
    assert container.image_digest == spec.image.digest
    assert container.started_at is not None
    assert container.started_at <= outcome.finished_at <= datetime.now(UTC) + timedelta(seconds=1)


async def test_a_failing_container_keeps_its_exit_code(stage: Stage) -> None:
    spec = await stage.spec(Behaviour.FAILS)
    await stage.runtime.start(spec)
    outcome = await stage.runtime.wait(spec.key)
    assert outcome.exit_code == 7
    found = await stage.runtime.find(spec.key)
    assert found is not None
    assert (found.state, found.outcome) == (ContainerState.EXITED, outcome)


async def test_a_missing_command_ends_with_127_and_is_no_error(stage: Stage) -> None:
    spec = await stage.spec(Behaviour.ABSENT)
    await stage.runtime.start(spec)
    assert (await stage.runtime.wait(spec.key)).exit_code == 127


async def test_starting_twice_finds_the_first(stage: Stage) -> None:
    spec = await stage.spec(Behaviour.RUNS)
    first, second = await asyncio.gather(stage.runtime.start(spec), stage.runtime.start(spec))
    assert first.container_id == second.container_id
    assert len(await stage.runtime.list()) == 1


async def test_an_ended_attempt_is_never_started_again(stage: Stage) -> None:
    spec = await stage.spec(Behaviour.FAILS)
    first = await stage.runtime.start(spec)
    outcome = await stage.runtime.wait(spec.key)
    again = await stage.runtime.start(spec)
    assert (again.container_id, again.state, again.outcome) == (first.container_id, ContainerState.EXITED, outcome)


async def test_another_specification_under_the_same_attempt_is_refused(stage: Stage) -> None:
    spec = await stage.spec(Behaviour.RUNS)
    container = await stage.runtime.start(spec)
    with pytest.raises(AttemptConflict):
        await stage.runtime.start(other(spec))
    found = await stage.runtime.find(spec.key)
    assert found is not None
    assert (found.container_id, found.state) == (container.container_id, ContainerState.RUNNING)


async def test_a_stop_ends_a_polite_container_within_its_grace(stage: Stage) -> None:
    spec = await stage.spec(Behaviour.CHATS)
    await stage.runtime.start(spec)
    await anext(aiter(stage.runtime.logs(spec.key)))  # its handler of TERM is set by then
    assert (await stage.runtime.stop(spec.key, grace_s=60)).exit_code == 143


async def test_a_held_container_stands_still_goes_on_and_is_stopped_politely(stage: Stage) -> None:
    spec = await stage.spec(Behaviour.CHATS)
    await stage.runtime.start(spec)
    await anext(aiter(stage.runtime.logs(spec.key)))
    assert await stage.runtime.pause(spec.key)
    assert await stage.runtime.pause(spec.key), "held already is success"
    found = await stage.again(None).find(spec.key)
    assert found is not None
    assert found.state is ContainerState.RUNNING
    await stage.runtime.resume(spec.key)
    await stage.runtime.resume(spec.key)
    assert await stage.runtime.pause(spec.key)
    # a stop lets it go on first: it hears TERM
    assert (await stage.runtime.stop(spec.key, grace_s=60)).exit_code == 143
    assert not await stage.runtime.pause(spec.key)


async def test_what_a_running_container_uses_is_told_or_declined(stage: Stage) -> None:
    spec = await stage.spec(Behaviour.CHATS)
    await stage.runtime.start(spec)
    await anext(aiter(stage.runtime.logs(spec.key)))
    used = await stage.runtime.measure(spec.key)
    assert used is None or (used.cpu_ms >= 0 and used.memory_bytes > 0)
    assert used is not None or not stage.enforces
    await stage.runtime.stop(spec.key, grace_s=1)
    assert await stage.runtime.measure(spec.key) is None


async def test_a_command_beside_it_is_fed_and_read_and_does_not_end_it(stage: Stage) -> None:
    spec = await stage.spec(Behaviour.CHATS)
    await stage.runtime.start(spec)
    await anext(aiter(stage.runtime.logs(spec.key)))
    try:
        beside = await stage.runtime.beside(spec.key, ("cat",), tty=False)
    except CapabilityMissing:
        assert not stage.enforces
        return
    await beside.write(b"one ")
    await beside.write(b"two")
    await beside.end_input()
    read = b""
    async with asyncio.timeout(20):
        while (piece := await beside.read()) is not None:
            assert piece[0] is LogStream.STDOUT
            read += piece[1]
    assert read == b"one two"
    assert await beside.exit_code() == 0
    await beside.close()
    found = await stage.runtime.find(spec.key)
    assert found is not None
    assert found.state is ContainerState.RUNNING


async def test_beside_nothing_no_command_runs(stage: Stage) -> None:
    spec = await stage.spec(Behaviour.ENDS)
    with pytest.raises((ContainerVanished, CapabilityMissing)):
        await stage.runtime.beside(spec.key, ("cat",), tty=False)


async def test_a_stop_kills_a_stubborn_container_after_its_grace(stage: Stage) -> None:
    spec = await stage.spec(Behaviour.STUBBORN)
    await stage.runtime.start(spec)
    assert (await stage.runtime.stop(spec.key, grace_s=0.3)).exit_code in (137, 143)


async def test_stopping_an_ended_container_answers_its_outcome(stage: Stage) -> None:
    spec = await stage.spec(Behaviour.FAILS)
    await stage.runtime.start(spec)
    outcome = await stage.runtime.wait(spec.key)
    assert await stage.runtime.stop(spec.key, grace_s=5) == outcome


async def test_logs_keep_streams_order_and_the_unfinished_line(stage: Stage) -> None:
    spec = await stage.spec(Behaviour.SPEAKS)
    before = datetime.now(UTC) - timedelta(seconds=1)
    await stage.runtime.start(spec)
    lines = await read(stage, spec.key)
    out = [(line.text, line.complete) for line in lines if line.stream is LogStream.STDOUT]
    assert out[:2] == [(b"one", True), (b"two", True)]
    assert out[2][0] == b"three"
    assert [line.text for line in lines if line.stream is LogStream.STDERR] == [b"oops"]
    assert [line.position.number for line in lines] == [1, 2, 3, 4]
    assert all(line.at_ns >= before.timestamp() * 1e9 for line in lines)


async def test_logs_go_on_behind_any_position_without_gap_or_repetition(stage: Stage) -> None:
    spec = await stage.spec(Behaviour.BURSTS)
    await stage.runtime.start(spec)
    await stage.runtime.wait(spec.key)
    lines = await read(stage, spec.key)
    assert [line.text for line in lines] == [b"line %d" % i for i in range(2000)]
    for start in (1, 2, 999, 1500, 1999, 2000):
        rest = [line async for line in stage.runtime.logs(spec.key, after=lines[start - 1].position)]
        assert rest == lines[start:]


async def test_a_wide_line_arrives_in_pieces_that_make_it_up(stage: Stage) -> None:
    spec = await stage.spec(Behaviour.WIDE)
    await stage.runtime.start(spec)
    lines = await read(stage, spec.key)
    assert b"".join(line.text for line in lines) == b"x" * 40_000
    assert max(len(line.text) for line in lines) <= LOG_LINE_BYTES
    assert [line.complete for line in lines][-1]
    assert not any(line.complete for line in lines[:-1])


async def test_logs_arrive_while_the_container_runs_and_end_with_it(stage: Stage) -> None:
    spec = await stage.spec(Behaviour.CHATS)
    await stage.runtime.start(spec)
    lines = stage.runtime.logs(spec.key)
    assert (await anext(lines)).text == b"hello"
    rest = asyncio.ensure_future(anext(lines, None))
    await stage.runtime.stop(spec.key, grace_s=10)
    assert await asyncio.wait_for(rest, 30) is None


async def test_after_a_restart_of_the_node_containers_are_found_and_waited_for(stage: Stage) -> None:
    running, ended = await stage.spec(Behaviour.CHATS), await stage.spec(Behaviour.FAILS)
    started = await stage.runtime.start(running)
    await anext(aiter(stage.runtime.logs(running.key)))
    await stage.runtime.start(ended)
    await stage.runtime.wait(ended.key)
    await stage.runtime.close()
    again = stage.again(None)
    found = {container.key: container for container in await again.list()}
    assert set(found) == {running.key, ended.key}
    assert found[running.key].state is ContainerState.RUNNING
    assert found[running.key].started_at == started.started_at
    outcome = found[ended.key].outcome
    assert outcome is not None
    assert outcome.exit_code == 7
    assert (await again.start(running)).container_id == started.container_id
    waiting = asyncio.ensure_future(again.wait(running.key))
    await again.stop(running.key, grace_s=10)
    assert (await waiting).exit_code == 143


async def test_giving_up_waiting_leaves_the_container_alone(stage: Stage) -> None:
    spec = await stage.spec(Behaviour.RUNS)
    await stage.runtime.start(spec)
    waiting = asyncio.ensure_future(stage.runtime.wait(spec.key))
    await asyncio.sleep(0)
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting
    found = await stage.runtime.find(spec.key)
    assert found is not None
    assert found.state is ContainerState.RUNNING


async def test_removing_ends_everything_and_may_be_repeated(stage: Stage) -> None:
    spec = await stage.spec(Behaviour.RUNS)
    container = await stage.runtime.start(spec)
    assert container.scratch is not None
    waiting = asyncio.ensure_future(stage.runtime.wait(spec.key))
    await stage.runtime.remove(spec.key)
    await stage.runtime.remove(spec.key)
    assert await stage.runtime.find(spec.key) is None
    assert not container.scratch.exists()
    with contextlib.suppress(ContainerVanished):  # it may have seen the end before it was gone
        assert (await asyncio.wait_for(waiting, 30)).exit_code != 0


async def test_whoever_waits_for_nothing_is_told(stage: Stage) -> None:
    nothing = AttemptKey("alloc_nothing", 1)
    assert await stage.runtime.find(nothing) is None
    with pytest.raises(ContainerVanished):
        await stage.runtime.wait(nothing)
    with pytest.raises(ContainerVanished):
        await stage.runtime.stop(nothing, grace_s=1)
    with pytest.raises(ContainerVanished):
        await read(stage, nothing)


async def test_what_is_staged_is_there_when_the_container_starts(stage: Stage) -> None:
    spec = replace(await stage.spec(Behaviour.READS), input_name="in put.txt")
    staged = await stage.runtime.stage(spec.key, spec.limits)
    assert staged is not None
    inputs = staged.inputs
    (inputs / "in put.txt").write_text("given")
    assert await stage.runtime.stage(spec.key, spec.limits) == staged
    await stage.runtime.start(spec)
    assert (await stage.runtime.wait(spec.key)).exit_code == 0
    container = await stage.runtime.find(spec.key)
    assert container is not None
    assert container.outputs is not None
    assert (container.outputs / "in put.txt").read_text() == "given"
    await stage.runtime.remove(spec.key)
    assert not inputs.exists()


async def test_what_is_staged_goes_though_nothing_was_started(stage: Stage) -> None:
    spec = await stage.spec(Behaviour.READS)
    staged = await stage.runtime.stage(spec.key, spec.limits)
    assert staged is not None
    inputs = staged.inputs
    (inputs / "data").write_text("given")
    await stage.runtime.remove(spec.key)
    assert not inputs.exists()


async def test_a_checkpoint_is_there_from_the_start_and_after_the_end(stage: Stage) -> None:
    spec = replace(await stage.spec(Behaviour.COUNTS), checkpoint=True)
    staged = await stage.runtime.stage(spec.key, spec.limits)
    assert staged is not None
    (staged.checkpoint / "count").write_text("41")
    (staged.checkpoint / "count").chmod(0o666)
    await stage.runtime.start(spec)
    assert (await stage.runtime.wait(spec.key)).exit_code == 0
    container = await stage.runtime.find(spec.key)
    assert container is not None
    assert container.checkpoint == staged.checkpoint
    assert (staged.checkpoint / "count").read_text().strip() == "42"
    await stage.runtime.remove(spec.key)
    assert not staged.checkpoint.exists()


async def test_a_job_says_how_far_it_is(stage: Stage) -> None:
    spec = await stage.spec(Behaviour.REPORTS)
    container = await stage.runtime.start(spec)
    assert container.notes is not None
    async with asyncio.timeout(20):
        while read_progress(container.notes) is None:  # noqa: ASYNC110 - a file that another process writes
            await asyncio.sleep(0.02)
    assert read_progress(container.notes) == 42


async def test_outputs_can_be_read_after_the_end(stage: Stage) -> None:
    spec = await stage.spec(Behaviour.WRITES)
    container = await stage.runtime.start(spec)
    await stage.runtime.wait(spec.key)
    assert container.outputs is not None
    assert (container.outputs / "result.txt").read_text() == "result\n"


async def test_a_sweep_keeps_what_is_wanted_young_or_somebody_elses(stage: Stage) -> None:
    wanted, unwanted = await stage.spec(Behaviour.RUNS), await stage.spec(Behaviour.RUNS)
    for spec in (wanted, unwanted):
        await stage.runtime.start(spec)
    stranger = stage.again("somebody-else")
    theirs = await stage.spec(Behaviour.RUNS)
    await stranger.start(theirs)
    assert (await stage.runtime.sweep(frozenset(), older_than_s=3600)).containers == ()
    swept = await stage.runtime.sweep(frozenset({wanted.key}), older_than_s=0)
    assert swept.containers == (unwanted.key,)
    assert [c.key for c in await stage.runtime.list()] == [wanted.key]
    assert [c.key for c in await stranger.list()] == [theirs.key]
    await stranger.remove(theirs.key)


async def test_an_image_nobody_has_is_the_renters_side(stage: Stage) -> None:
    reference, _ = stage.play(Behaviour.ENDS)
    missing = reference.partition("@")[0] + "-that-is-not-there:1"
    with pytest.raises(ImageUnavailable) as caught:
        await stage.runtime.prepare(missing, max_bytes=1 << 30)
    assert caught.value.fault is ImageFault.NOT_FOUND


@pytest.mark.parametrize(
    "reference", ["", "UPPER/case", "a b", "a" * 513, "name@sha256:12", "-x", "http://x/y", "a:b:c"]
)
async def test_a_reference_that_is_none_is_the_renters_side(stage: Stage, reference: str) -> None:
    with pytest.raises(ImageUnavailable) as caught:
        await stage.runtime.prepare(reference, max_bytes=1 << 30)
    assert caught.value.fault is ImageFault.INVALID


async def test_a_digest_names_one_image_for_all_attempts(stage: Stage) -> None:
    reference, _ = stage.play(Behaviour.ENDS)
    first = await stage.runtime.prepare(reference, max_bytes=1 << 30)
    assert await stage.runtime.prepare(reference, digest=first.digest, max_bytes=1 << 30) == first
    with pytest.raises(ImageUnavailable):
        await stage.runtime.prepare(reference, digest="sha256:" + "0" * 64, max_bytes=1 << 30)


async def test_memory_beyond_the_limit_is_told_apart(stage: Stage) -> None:
    if not stage.enforces:
        assert not (await stage.runtime.capabilities()).isolated  # and so nobody may offer it to strangers
        return
    spec = await stage.spec(Behaviour.HOGS)
    await stage.runtime.start(spec)
    outcome = await stage.runtime.wait(spec.key)
    assert outcome.oom_killed
    assert outcome.exit_code == 137


async def test_disk_beyond_the_limit_is_told_apart(stage: Stage) -> None:
    if not stage.enforces:
        assert (await stage.runtime.capabilities()).scratch_limit is DiskLimit.NONE
        return
    spec = await stage.spec(Behaviour.FILLS)
    await stage.runtime.start(spec)
    outcome = await stage.runtime.wait(spec.key)
    assert outcome.disk_full
    assert outcome.exit_code == 1
