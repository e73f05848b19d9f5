"""Output on its way to the market."""

import asyncio

from marketplace.protocol.control import MAX_FRAME_BYTES, MAX_LOG_LINES, LogLine
from marketplace.protocol.digests import LogDigest
from node.logs import LogPump
from node.runtime.fake import FakeEngine, FakeOutput, FakeProgram, FakeRuntime
from node.runtime.port import AttemptKey, ContainerSpec, Limits, LogStream

KEY = AttemptKey("alloc_1", 1)


class Market:
    """Takes lines; `stop_after` batches it is silent."""

    def __init__(self, stop_after: int = 1_000_000) -> None:
        self.batches: list[tuple[LogLine, ...]] = []
        self.stop_after = stop_after

    async def send(self, lines: tuple[LogLine, ...]) -> int:
        if len(self.batches) >= self.stop_after:
            await asyncio.Event().wait()
        self.batches.append(lines)
        return lines[-1].seq + 1

    @property
    def lines(self) -> list[LogLine]:
        return [line for batch in self.batches for line in batch]


async def container(*output: FakeOutput) -> FakeRuntime:
    runtime = FakeRuntime(FakeEngine({"talk": FakeProgram(runs_for_s=0.05, output=output)}), "test")
    image = await runtime.prepare("talk", max_bytes=1 << 30)
    await runtime.start(ContainerSpec(KEY, image, Limits(1000, 1 << 20, 1 << 20)))
    await runtime.wait(KEY)
    return runtime


def pump(runtime: FakeRuntime, market: Market, *, limit: int = 1 << 20, next_seq: int = 1) -> LogPump:
    return LogPump(runtime, KEY, limit_bytes=limit, next_seq=next_seq, send=market.send)


async def test_lines_travel_in_full_batches_and_in_order() -> None:
    runtime = await container(FakeOutput(b"".join(b"line %d\n" % n for n in range(1, 1201))))
    market = Market()
    await pump(runtime, market).run()
    assert [len(batch) for batch in market.batches] == [MAX_LOG_LINES, MAX_LOG_LINES, 200]
    assert [line.seq for line in market.lines] == list(range(1, 1201))
    assert market.lines[-1].text == "line 1200"


async def test_a_batch_of_long_lines_fits_a_frame() -> None:
    # A control character takes six bytes in JSON: the worst that a renter can print.
    runtime = await container(FakeOutput((b"\x01" * 16_000 + b"\n") * 40))
    market = Market()
    await pump(runtime, market).run()
    assert len(market.lines) == 40
    assert all(sum(len(line.model_dump_json()) for line in batch) < MAX_FRAME_BYTES for batch in market.batches)


async def test_bytes_that_are_no_text_are_shown_and_digested_as_shown() -> None:
    runtime = await container(FakeOutput(b"ok\n"), FakeOutput(b"\xff\xfe\n", stream=LogStream.STDERR))
    market = Market()
    running = pump(runtime, market)
    await running.run()
    assert [(line.stream, line.text) for line in market.lines] == [(1, "ok"), (2, "\ufffd\ufffd")]
    digest = LogDigest()
    for line in market.lines:
        digest.feed(line.stream, line.text.encode())
    assert running.digest() == digest.value()


async def test_output_beyond_the_cap_is_dropped_and_said_to_be() -> None:
    runtime = await container(FakeOutput(b"0123456789\n" * 100))
    market = Market()
    await pump(runtime, market, limit=55).run()
    assert len(market.lines) == 6
    assert market.lines[-1].stream == 3
    assert "55 bytes" in market.lines[-1].text


async def test_after_a_restart_only_what_the_market_lacks_is_sent_and_the_digest_is_the_same() -> None:
    runtime = await container(FakeOutput(b"".join(b"line %d\n" % n for n in range(1, 11))))
    first, second = Market(), Market()
    whole = pump(runtime, first)
    await whole.run()
    again = pump(runtime, second, next_seq=8)
    await again.run()
    assert [line.seq for line in second.lines] == [8, 9, 10]
    assert again.digest() == whole.digest()


async def test_a_character_that_no_store_holds_is_replaced_before_the_digest() -> None:
    market = Market()
    sending = pump(await container(FakeOutput(b"a\0b\n")), market)
    await sending.run()
    expected = LogDigest()
    expected.feed(1, "a\ufffdb".encode())
    assert ([line.text for line in market.lines], sending.digest()) == (["a\ufffdb"], expected.value())
