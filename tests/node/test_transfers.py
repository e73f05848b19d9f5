"""What a job reads and what it leaves, over a real connection: each fault costs a try, none costs a byte."""

import hashlib
import time
from pathlib import Path
from typing import BinaryIO

import pytest

from marketplace.domain.reasons import Reason
from marketplace.protocol.control import AttemptState, CommandType
from marketplace.protocol.digests import LogDigest, voucher_digest
from marketplace.protocol.outputs import OutputFile, is_output_path, manifest_digest
from marketplace.protocol.terms import JobInput
from marketplace.protocol.vouchers import VoucherState
from node import transfers
from node.collecting import open_file
from node.runtime.fake import FakeProgram
from node.transfers import url_name
from tests.node.conftest import Node
from tests.node.scripted_market import ScriptedMarket, reason, spec

# On busy cores the meter may be on a fifth of a second after the start: what has ended by then is billed nothing.
LEAVING = FakeProgram(runs_for_s=0.8, files=(("result.json", b'{"a":1}'), ("sub/model.bin", b"m" * 5000)))
READING = FakeProgram(runs_for_s=0.1, copies_input=True)


@pytest.fixture(autouse=True)
def programs(node: Node) -> None:
    node.engine.programs |= {"leaving": LEAVING, "reading": READING}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers, "_RETRY_S", 0.01)


def manifest(market: ScriptedMarket) -> bytes:
    return manifest_digest(
        OutputFile(path, len(data), hashlib.sha256(data).hexdigest()) for path, data in market.outputs.items()
    )


async def test_outputs_are_delivered_before_the_last_voucher_and_their_time_is_free(
    node: Node, market: ScriptedMarket
) -> None:
    market.put_faults = [503, 0, 0]
    seen = await market.offer(spec("leaving"))
    await market.until(lambda: seen.exited)
    await node.until_clean()
    assert market.outputs == dict(LEAVING.files)
    states = [r.state for r in seen.reports]
    assert states == [AttemptState.PULLING, AttemptState.READY, AttemptState.UPLOADING, AttemptState.EXITED]
    assert reason(seen) is Reason.COMPLETED
    final = seen.final
    assert final is not None
    assert seen.shown_ms is not None
    assert 0 < final.billed_ms <= max(800, seen.shown_ms), "nothing of the delivery is billed"
    assert final.digest == voucher_digest(LogDigest().value(), manifest(market))


async def test_a_daemon_that_dies_while_delivering_goes_on_and_sends_nothing_twice(
    node: Node, market: ScriptedMarket
) -> None:
    market.put_faults = [200, -1]
    seen = await market.offer(spec("leaving"))
    await market.until(lambda: market.puts.total() == 2)
    await market.until(lambda: len(market.outputs) == 1)
    (first,) = market.outputs
    await node.restart()
    await market.until(lambda: seen.exited)
    await node.until_clean()
    assert market.outputs == dict(LEAVING.files)
    assert market.puts[first] == 1
    assert reason(seen) is Reason.COMPLETED
    assert seen.final is not None
    assert seen.final.digest == voucher_digest(LogDigest().value(), manifest(market))
    assert seen.shown_ms is not None
    assert 0 < seen.final.billed_ms <= max(800, seen.shown_ms)
    assert [r.state for r in seen.reports].count(AttemptState.UPLOADING) == 1


async def test_a_market_that_restarts_meanwhile_gets_the_rest(node: Node, market: ScriptedMarket) -> None:
    market.put_faults = [-1, -1]
    seen = await market.offer(spec("leaving"))
    await market.until(lambda: market.puts.total() == 2)
    await market.stop()
    await market.start()
    await market.until(lambda: seen.exited)
    assert market.outputs == dict(LEAVING.files)
    assert reason(seen) is Reason.COMPLETED


@pytest.mark.parametrize(
    ("status", "expected", "state"),
    [
        (413, Reason.OUTPUT_TOO_LARGE, VoucherState.FINAL),
        (422, Reason.OUTPUT_DELIVERY_FAILED, VoucherState.FINAL),
        (409, Reason.NODE_QUIT, VoucherState.ENDED),
    ],
)
async def test_what_the_market_does_not_take_has_its_reason_and_the_work_is_paid(
    node: Node, market: ScriptedMarket, status: int, expected: Reason, state: VoucherState
) -> None:
    market.put_faults = [status] * 10
    seen = await market.offer(spec("leaving"))
    await market.until(lambda: seen.exited)
    assert reason(seen) is expected
    assert seen.final is not None
    assert (seen.final.state, seen.final.billed_ms > 0) == (state, True)


async def test_a_file_that_is_opened_while_another_is_refused_is_closed(
    node: Node, market: ScriptedMarket, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[BinaryIO] = []

    def slow_with_the_second(folder: Path, path: str) -> BinaryIO:
        if path == LEAVING.files[1][0]:
            time.sleep(0.5)
        opened.append(open_file(folder, path))
        return opened[-1]

    monkeypatch.setattr(transfers, "open_file", slow_with_the_second)
    market.put_faults = [413] * 10
    seen = await market.offer(spec("leaving"))
    await market.until(lambda: seen.exited)
    await market.until(lambda: len(opened) == 2)
    assert all(file.closed for file in opened)


async def test_the_end_is_reported_when_the_market_has_delivered_what_was_left(
    node: Node, market: ScriptedMarket
) -> None:
    market.hand_overs = ["delivering", "delivering", "delivered"]
    seen = await market.offer(spec("leaving"))
    await market.until(lambda: seen.exited)
    assert len(market.posts["outputs"]) == 3
    assert market.posts["outputs"][0] == dict(LEAVING.files), "everything was sent before"
    assert reason(seen) is Reason.COMPLETED


@pytest.mark.parametrize(
    ("answer", "expected", "state"),
    [
        ("failed", Reason.OUTPUT_DELIVERY_FAILED, VoucherState.FINAL),
        ("lease_lost", Reason.NODE_QUIT, VoucherState.ENDED),
    ],
)
async def test_what_can_not_be_delivered_has_its_reason_and_its_manifest_all_the_same(
    node: Node, market: ScriptedMarket, answer: str, expected: Reason, state: VoucherState
) -> None:
    market.hand_overs = ["delivering", answer]
    seen = await market.offer(spec("leaving"))
    await market.until(lambda: seen.exited)
    assert reason(seen) is expected
    assert seen.final is not None
    assert (seen.final.state, seen.final.billed_ms > 0) == (state, True)
    assert seen.final.digest == voucher_digest(LogDigest().value(), manifest(market))
    if answer == "failed":
        assert seen.exited is not None
        assert seen.exited.detail == "the bucket is gone"


async def test_a_market_that_has_not_the_report_of_the_start_yet_is_asked_again(
    node: Node, market: ScriptedMarket
) -> None:
    market.hand_overs = ["not_ready", "delivered"]
    seen = await market.offer(spec("leaving"))
    await market.until(lambda: seen.exited)
    assert reason(seen) is Reason.COMPLETED
    assert len(market.posts["outputs"]) == 2


async def test_an_order_to_end_ends_a_delivery_too(node: Node, market: ScriptedMarket) -> None:
    market.hand_overs = ["delivering"]
    seen = await market.offer(spec("leaving"))
    await market.until(lambda: market.posts["outputs"])
    await market.command(CommandType.STOP, seen, reason=Reason.OUTPUT_DELIVERY_FAILED.value)
    await market.until(lambda: seen.exited)
    assert reason(seen) is Reason.OUTPUT_DELIVERY_FAILED


async def test_too_many_files_are_not_sent(node: Node, market: ScriptedMarket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers, "MAX_FILES", 1)
    seen = await market.offer(spec("leaving"))
    await market.until(lambda: seen.exited)
    assert (reason(seen), market.outputs) == (Reason.OUTPUT_TOO_LARGE, {})


async def test_a_cancelled_job_keeps_what_it_wrote(node: Node, market: ScriptedMarket) -> None:
    node.engine.programs["cancelled"] = FakeProgram(runs_for_s=None, copies_input=True)
    seen = await market.offer(spec("cancelled"))
    await market.until(lambda: seen.countersigned)
    (folder,) = (node.folder / "engine").glob("*/outputs")
    (folder / "partial.txt").write_text("half")
    for _ in range(2):
        await market.command(CommandType.STOP, seen, reason=Reason.CANCELLED.value)
    await market.until(lambda: seen.exited)
    assert (reason(seen), market.outputs) == (Reason.CANCELLED, {"partial.txt": b"half"})


async def test_an_order_ends_a_delivery(node: Node, market: ScriptedMarket) -> None:
    market.put_faults = [-1, -1]
    seen = await market.offer(spec("leaving"))
    await market.until(lambda: market.puts.total() == 2)
    await market.command(CommandType.STOP, seen, reason=Reason.CANCELLED.value)
    await market.until(lambda: seen.exited)
    assert reason(seen) is Reason.CANCELLED
    assert seen.final is not None
    assert seen.shown_ms is not None
    assert (seen.final.state, 0 < seen.final.billed_ms <= max(800, seen.shown_ms)) == (VoucherState.FINAL, True)


async def test_an_input_is_there_when_the_work_begins(node: Node, market: ScriptedMarket) -> None:
    market.input, market.input_faults = b"x" * 300_000, 2
    seen = await market.offer(spec("reading", input=JobInput(kind="file", file_id="file_1")))
    await market.until(lambda: seen.exited)
    assert reason(seen) is Reason.COMPLETED
    assert market.outputs == {"given data.bin": market.input}


async def test_an_input_by_url_is_fetched_by_the_node(node: Node, market: ScriptedMarket) -> None:
    market.input = b"from elsewhere"
    seen = await market.offer(spec("reading", input=JobInput(kind="url", url=f"{market.url}/elsewhere/a%20b.csv?s=1")))
    await market.until(lambda: seen.exited)
    assert market.outputs == {"a b.csv": b"from elsewhere"}


@pytest.mark.parametrize(
    "wanted",
    [
        JobInput(kind="file", file_id="file_1"),
        JobInput(kind="url", url="http://127.0.0.1:9/nobody"),
        JobInput(kind="url", url="https://10.0.0.1/private"),
        JobInput(kind="url", url="https://[::ffff:169.254.169.254]/latest/meta-data"),
        JobInput(kind="url", url="ftp://example.com/x"),
        JobInput(kind="url", url="https://a..b/x"),
    ],
)
async def test_an_input_that_cannot_be_had_costs_nothing(node: Node, market: ScriptedMarket, wanted: JobInput) -> None:
    seen = await market.offer(spec("reading", input=wanted))
    await market.until(lambda: seen.exited)
    await node.until_clean()
    assert reason(seen) is Reason.INPUT_UNAVAILABLE
    assert seen.exited is not None
    assert seen.exited.voucher is None
    assert list((node.folder / "engine").iterdir()) == []


async def test_a_renter_s_slow_host_is_not_the_node_s_fault(node: Node, market: ScriptedMarket) -> None:
    # most of it is spent at the host, also on a machine that stands still before that
    market.input, market.start_limit_ms = b"drop by drop", 4_000
    seen = await market.offer(spec("reading", input=JobInput(kind="url", url=f"{market.url}/elsewhere/slow")))
    await market.until(lambda: seen.exited)
    assert reason(seen) is Reason.INPUT_UNAVAILABLE
    await node.until_clean()


async def test_a_signed_url_is_in_no_log_and_no_report(
    node: Node, market: ScriptedMarket, capfd: pytest.CaptureFixture[str]
) -> None:
    market.input = b"x"
    for name in ("loop", "gone"):
        url = f"{market.url if name == 'loop' else 'http://127.0.0.1:9'}/elsewhere/{name}?signature=planted"
        seen = await market.offer(spec("reading", input=JobInput(kind="url", url=url)), allocation=f"alloc_{name}")
        await market.until(lambda seen=seen: seen.exited)
        assert reason(seen) is Reason.INPUT_UNAVAILABLE
        assert seen.exited is not None
        assert "planted" not in (seen.exited.detail or "")
    assert seen.exited.detail == "the input's host can't be reached"
    assert "planted" not in "".join(capfd.readouterr())


async def test_an_input_in_a_market_s_name_cannot_leave_its_folder(node: Node, market: ScriptedMarket) -> None:
    market.input = b"x"
    seen = await market.offer(spec("reading", input=JobInput(kind="text", name="../../escaped")))
    await market.until(lambda: seen.exited)
    assert reason(seen) is Reason.INPUT_UNAVAILABLE
    assert not (node.folder / "escaped").exists()


async def test_progress_travels_with_the_heartbeat(node: Node, market: ScriptedMarket) -> None:
    node.engine.programs["saying"] = FakeProgram(runs_for_s=None, progress="37")
    await market.offer(spec("saying"))
    await market.until(lambda: any(a.progress == 37 for beat in market.beats for a in beat.allocations))


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://a.example/x/data.csv?sig=1", "data.csv"),
        ("https://a.example/", "input"),
        ("https://a.example", "input"),
        ("https://a.example/x/..", "input"),
        ("https://a.example/%2e%2e%2fetc", "etc"),
        ("https://a.example/a%0ab", "input"),
    ],
)
def test_a_url_s_last_part_names_the_file_where_it_can(url: str, name: str) -> None:
    assert url_name(url) == name


@pytest.mark.parametrize(
    ("path", "taken"),
    [
        ("a", True), ("a/b c/ü.txt", True), (".hidden", True), ("a" * 255, True), ("a" * 256, False), ("", False),
        ("/a", False), ("a/", False), ("a//b", False), ("../a", False), ("a/../b", False), (".", False), ("a\\b", False),
        ("a\nb", False), ("a\0", False), ("\ud800", False), ("/".join("d" * 33), False), ("x/" * 600 + "y", False),
    ],
)  # fmt: skip
def test_paths_that_travel(path: str, taken: bool) -> None:
    assert is_output_path(path) is taken
