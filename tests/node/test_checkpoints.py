"""A checkpoint packs what lies in a folder and unpacks to the same; nothing in either leads anywhere else."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from marketplace.domain.reasons import Reason
from marketplace.protocol.checkpoints import Entry, EntryKind, MalformedCheckpoint, closing, header, opening
from marketplace.protocol.control import CommandType
from node import checkpoints, transfers
from node.attempt import checkpointing, restoring
from node.checkpoints import CheckpointChanged, TooMuch, is_empty, pack, unpack
from node.runtime.fake import FakeProgram
from tests.node.conftest import Node
from tests.node.scripted_market import ScriptedMarket, Seen, reason, spec


async def packed(folder: Path) -> bytes:
    return b"".join([piece async for piece in pack(folder)])


async def pieces(data: bytes, size: int = 7) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "from"
    (made / "steps" / "empty").mkdir(parents=True)
    (made / "steps" / "100.bin").write_bytes(bytes(range(256)) * 100)
    (made / "steps" / "100.bin").chmod(0o640)
    (made / "nothing").touch()
    (made / "latest").symlink_to("steps/100.bin")
    (made / "out").symlink_to("/etc/passwd")
    os.mkfifo(made / "pipe")
    (made / "new\nline").write_text("left out")
    return made


async def test_a_folder_comes_out_as_it_went_in(folder: Path, tmp_path: Path) -> None:
    to = tmp_path / "to"
    to.mkdir()
    (to / "before").mkdir()
    (to / "before" / "x").write_text("goes")
    await unpack(pieces(await packed(folder)), to)
    found = sorted(str(path.relative_to(to)) for path in to.rglob("*"))
    assert found == ["latest", "nothing", "out", "steps", "steps/100.bin", "steps/empty"]
    assert (to / "steps" / "100.bin").read_bytes() == (folder / "steps" / "100.bin").read_bytes()
    assert (to / "steps" / "100.bin").stat().st_mode & 0o777 == 0o640
    assert [str((to / name).readlink()) for name in ("latest", "out")] == ["steps/100.bin", "/etc/passwd"]
    assert not is_empty(to)
    assert await packed(to) == await packed(to)
    assert is_empty(tmp_path / "nowhere")


async def test_one_that_breaks_off_is_none(folder: Path, tmp_path: Path) -> None:
    data = await packed(folder)
    for cut in (0, 5, len(data) // 2, len(data) - 1):
        with pytest.raises(MalformedCheckpoint):
            await unpack(pieces(data[:cut], 1000), tmp_path / "from")
    with pytest.raises(MalformedCheckpoint):
        await unpack(pieces(data + b"x", 1000), tmp_path / "from")


def framed(*entries: bytes, count: int | None = None) -> bytes:
    return opening() + b"".join(entries) + closing(len(entries) if count is None else count)


def raw(text: str) -> bytes:
    return len(text.encode()).to_bytes(4, "big") + text.encode()


ODD = '{"kind":"%s","path":"%s","mode":%s,"owner":0,"group":0,"size":%s,"to":"%s"}'


@pytest.mark.parametrize(
    "entries",
    [
        (raw(ODD % ("file", "../up", 0, 0, "")),),
        (raw(ODD % ("file", "/etc/x", 0, 0, "")),),
        (raw(ODD % ("file", "a/../../x", 0, 0, "")),),
        (raw(ODD % ("device", "a", 0, 0, "")),),
        (raw(ODD % ("file", "a", 0o4755, 0, "")),),
        (raw(ODD % ("file", "a", 0, -1, "")),),
        (raw(ODD % ("file", "a", "true", 0, "")),),
        (raw(ODD % ("link", "a", 0, 0, "")),),
        (raw("[]"),),
        (raw("{"),),
        (raw('{"kind":"file"}'),),
        (b"\xff\xff\xff\xff",),
        (header(Entry(EntryKind.FILE, "no/folder")),),
        (header(Entry(EntryKind.FILE, "a")), header(Entry(EntryKind.FILE, "a"))),
        (header(Entry(EntryKind.FILE, "a")), header(Entry(EntryKind.FOLDER, "a/b"))),
        # a link is not written through, wherever it stands
        (header(Entry(EntryKind.LINK, "a", to="..")), header(Entry(EntryKind.FILE, "a/escaped"))),
        (header(Entry(EntryKind.FOLDER, "a")), header(Entry(EntryKind.LINK, "a", to="/"))),
        # nor is one made through another
        (header(Entry(EntryKind.LINK, "a", to="..")), header(Entry(EntryKind.LINK, "a/escaped", to="/"))),
        (header(Entry(EntryKind.LINK, "a/escaped", to="/")), header(Entry(EntryKind.LINK, "a", to=".."))),
    ],
)
async def test_what_would_lead_out_or_is_none_is_refused(entries: tuple[bytes, ...], tmp_path: Path) -> None:
    to = tmp_path / "to"
    to.mkdir()
    with pytest.raises(MalformedCheckpoint):
        await unpack(pieces(framed(*entries)), to)
    with os.scandir(tmp_path) as left:
        assert [each.name for each in left] == ["to"]


async def test_entries_are_counted(tmp_path: Path) -> None:
    with pytest.raises(MalformedCheckpoint):
        await unpack(pieces(framed(count=1)), tmp_path)


async def test_of_more_names_than_may_travel_no_more_are_held(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "MAX_ENTRIES", 5)
    held: list[object] = []
    is_output_path = checkpoints.is_output_path
    monkeypatch.setattr(checkpoints, "is_output_path", lambda path: held.append(path) or is_output_path(path))
    for number in range(50):
        (folder / f"more{number}").touch()
    with pytest.raises(TooMuch):
        await packed(folder)
    assert len(held) <= 6


async def test_a_file_that_changes_meanwhile_makes_it_none(folder: Path) -> None:
    async def meanwhile() -> None:
        async for _ in pack(folder):
            with (folder / "steps" / "100.bin").open("ab") as file:
                file.write(b"more")

    with pytest.raises(CheckpointChanged):
        await meanwhile()


# an attempt's own

LEAP_MS = 40_000


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpointing, "_MINUTE_S", 0.2)
    monkeypatch.setattr(checkpointing, "_PAUSE_S", 0.01)
    monkeypatch.setattr(transfers, "_RETRY_S", 0.01)


async def test_it_is_saved_every_so_often_and_the_next_attempt_goes_on_from_it(
    node: Node, market: ScriptedMarket
) -> None:
    node.engine.programs |= {
        "counting": FakeProgram(runs_for_s=None, counts=True),
        "ending": FakeProgram(runs_for_s=0.1, counts=True),
    }
    seen = await market.offer(spec("counting", checkpoint_minutes=1))
    await market.until(lambda: len(market.checkpoints) >= 2)
    await node.kill()
    # what it wrote since is lost with it; the last one saved is what another goes on from
    await node.start()
    await market.until(lambda: seen.reports)
    following = await market.offer(spec("ending", checkpoint_minutes=1), allocation_id="alloc_next")
    await market.until(lambda: following.exited)
    await market.until(lambda: market.outputs)
    assert market.outputs["result.json"] == b"2"


async def test_it_is_saved_at_an_end_that_is_not_the_last_word(node: Node, market: ScriptedMarket) -> None:
    node.engine.programs |= {
        "failing": FakeProgram(runs_for_s=0.05, counts=True, exit_code=75),
        "done": FakeProgram(runs_for_s=0.05, counts=True),
    }
    seen = await market.offer(spec("failing", checkpoint_minutes=100))
    await market.until(lambda: seen.exited)
    assert len(market.checkpoints) == 1
    done = await market.offer(spec("done", checkpoint_minutes=100), allocation_id="alloc_next")
    await market.until(lambda: done.exited)
    assert len(market.checkpoints) == 1, "nobody goes on from what is completed"
    assert market.outputs["result.json"] == b"2"


async def test_one_that_can_not_be_saved_costs_the_job_nothing(node: Node, market: ScriptedMarket) -> None:
    node.engine.programs["counting"] = FakeProgram(runs_for_s=None, counts=True)
    market.checkpoint_faults = [413, 503, 200]
    seen = await market.offer(spec("counting", checkpoint_minutes=1))
    await market.until(lambda: market.checkpoints)
    assert (market.checkpoint_faults, seen.exited) == ([], None)
    await market.command(CommandType.STOP, seen, reason=Reason.CANCELLED.value)
    await market.until(lambda: seen.exited)
    assert seen.exited is not None
    assert (reason(seen), seen.exited.exit_code) == (Reason.CANCELLED, 143)


async def begin_with(
    market: ScriptedMarket, data: bytes, pace: tuple[int, float] | None, allocation_id: str = "alloc_1"
) -> Seen:
    """An attempt that goes on from a checkpoint, which arrives at this pace."""
    entry = header(Entry(EntryKind.FILE, "a", 0o644, size=len(data)))
    market.checkpoints = [opening() + entry + data + closing(1)]
    market.checkpoint_pace = pace
    return await market.offer(spec("ending", checkpoint_minutes=100), allocation_id=allocation_id)


async def time_passes(node: Node, market: ScriptedMarket) -> None:
    """More than there is to start, less than a silent market is waited for; then it hears the chain's time again."""
    assert market.start_limit_ms < LEAP_MS < market.max_unacked_ms
    node.clock.ahead_ms += LEAP_MS
    leapt_at_ms = market.chain_ms()
    await market.until(lambda: node.chain_heard_ms > leapt_at_ms)


def arriving(node: Node, allocation_id: str) -> bool:
    return any(r.restoring_at_ms for r in node.journal.attempts() if r.key.allocation == allocation_id)


async def test_one_that_arrives_slowly_takes_nothing_of_the_time_to_start(
    node: Node, market: ScriptedMarket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restoring, "RESTORE_SILENCE_MS", 4_000)  # each piece moves it: there are ten half seconds
    node.engine.programs["ending"] = FakeProgram(runs_for_s=0.1)
    seen = await begin_with(market, b"x" * 100, (25, 0.5))
    await market.until(lambda: arriving(node, "alloc_1"))
    await time_passes(node, market)
    await market.until(lambda: seen.exited)
    assert [report.state.value for report in seen.reports][:2] == ["pulling", "ready"]
    assert seen.exited is not None
    assert seen.exited.reason == 1, "it took longer than the start limit, and its time was not billed"
    assert seen.final is not None
    assert seen.final.billed_ms < LEAP_MS


@pytest.mark.parametrize(
    ("limit", "pace", "detail"),
    [
        ("RESTORE_SILENCE_MS", (12, 30), "the checkpoint stopped arriving"),
        ("RESTORE_LIMIT_MS", (2, 0.1), "the checkpoint did not arrive within"),
    ],
)
async def test_one_that_stalls_or_takes_too_long_ends_the_attempt(
    node: Node,
    market: ScriptedMarket,
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
    pace: tuple[int, float],
    detail: str,
) -> None:
    monkeypatch.setattr(restoring, limit, 500)
    node.engine.programs["ending"] = FakeProgram(runs_for_s=0.1)
    seen = await begin_with(market, b"x" * 100, pace)
    await market.until(lambda: seen.exited)
    assert seen.exited is not None
    assert (seen.exited.reason, seen.exited.voucher) == (9, None)
    assert (seen.exited.detail or "").startswith(detail)


async def test_a_daemon_that_dies_while_it_arrives_goes_on_within_the_same_limit(
    node: Node, market: ScriptedMarket, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.engine.programs["ending"] = FakeProgram(runs_for_s=0.1)
    market.checkpoint_goes_on.clear()
    seen = await begin_with(market, b"x" * 100, None)
    await market.until(lambda: arriving(node, "alloc_1"))
    await node.kill()
    await node.start()
    await market.until(lambda: len(market.hellos) >= 2)
    await time_passes(node, market)
    market.checkpoint_goes_on.set()
    await market.until(lambda: seen.exited)
    assert seen.exited is not None
    assert seen.exited.reason == 1
    # and one whose own limit is over by then is ended
    market.checkpoint_goes_on.clear()
    seen = await begin_with(market, b"x" * 100, None, "alloc_next")
    await market.until(lambda: arriving(node, "alloc_next"))
    await node.kill()
    monkeypatch.setattr(restoring, "RESTORE_LIMIT_MS", 1)
    await node.start()
    await market.until(lambda: seen.exited)
    assert (seen.exited.reason, "did not arrive" in (seen.exited.detail or "")) == (9, True)


async def test_what_earlier_jobs_left_lies_in_inputs(node: Node, market: ScriptedMarket) -> None:
    node.engine.programs["looking"] = FakeProgram(runs_for_s=0.1)
    market.artifacts = {"job_1/a.bin": b"a", "grp_1/job_2/sub/b.txt": b"b"}
    seen = await market.offer(spec("looking", after=("job_1", "grp_1")))
    await market.until(lambda: seen.countersigned or seen.exited)
    found = {
        str(path.relative_to(inputs)): path.read_bytes()
        for inputs in (node.folder / "engine").glob("*/inputs")
        for path in inputs.rglob("*")
        if path.is_file()
    }
    assert found in ({}, market.artifacts), "gone with its attempt, or all there"
    assert market.artifact_reads == {"job_1/a.bin": 1, "grp_1/job_2/sub/b.txt": 1}


@pytest.mark.parametrize("path", ["../up", "flat", "job_1/../../x", "/job_1/x"])
async def test_a_market_that_names_a_place_outside_is_not_obeyed(node: Node, market: ScriptedMarket, path: str) -> None:
    node.engine.programs["looking"] = FakeProgram(runs_for_s=0.1)
    market.artifacts = {path: b"a"}
    seen = await market.offer(spec("looking", after=("job_1",)))
    await market.until(lambda: seen.exited)
    assert seen.exited is not None
    assert seen.exited.reason == 14
    assert market.artifact_reads == {}
