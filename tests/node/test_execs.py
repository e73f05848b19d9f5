"""Commands beside a job, over the control channel."""

from marketplace.domain.reasons import Reason
from marketplace.protocol.control import (
    AttemptState,
    CommandType,
    ExecControl,
    ExecData,
    ExecEnd,
    ExecOpen,
    FrameType,
)
from node.execs import MAX_AT_ONCE
from tests.node.conftest import Node
from tests.node.scripted_market import ScriptedMarket, Seen, spec


async def running(market: ScriptedMarket) -> Seen:
    seen = await market.offer(spec("busy"))
    await market.until(lambda: AttemptState.READY in [r.state for r in seen.reports])
    return seen


async def opened(market: ScriptedMarket, seen: Seen, exec_id: str, *cmd: str, tty: bool = False) -> None:
    key = seen.request
    order = ExecOpen(
        exec_id=exec_id, allocation_id=key.allocation_id, attempt=key.attempt, cmd=cmd, tty=tty, rows=50, cols=132
    )
    await market.ask(FrameType.EXEC, order)


def output(market: ScriptedMarket, exec_id: str) -> bytes:
    return b"".join(e.data for e in market.execs if isinstance(e, ExecData) and e.exec_id == exec_id)


async def test_input_comes_back_as_output_until_its_end_and_the_job_goes_on(node: Node, market: ScriptedMarket) -> None:
    seen = await running(market)
    await opened(market, seen, "exec_1", "cat")
    await market.push(FrameType.EXEC_DATA, ExecData(exec_id="exec_1", stream=0, data=b"hello"))
    await market.until(lambda: output(market, "exec_1") == b"hello")
    await market.push(FrameType.EXEC_DATA, ExecData(exec_id="exec_1", stream=0, data=b"", end=True))
    await market.until(lambda: any(isinstance(e, ExecEnd) for e in market.execs))
    assert seen.exited is None
    await market.command(CommandType.STOP, seen, reason=Reason.CANCELLED.value)
    await market.until(lambda: seen.exited)
    await node.until_clean()


async def test_long_output_comes_in_pieces_and_the_terminal_has_its_size(node: Node, market: ScriptedMarket) -> None:
    seen = await running(market)
    await opened(market, seen, "exec_1", "x" * 70_000)
    await market.until(lambda: any(isinstance(e, ExecEnd) for e in market.execs))
    assert [len(e.data) for e in market.execs if isinstance(e, ExecData)] == [32_768, 32_768, 4_464]
    await opened(market, seen, "exec_2", "cat", tty=True)
    await market.push(FrameType.EXEC_CONTROL, ExecControl(exec_id="exec_2", rows=10, cols=20))
    await market.until(lambda: output(market, "exec_2") == b"[50x132][10x20]")


async def test_no_more_than_its_number_at_once_and_none_beside_no_job(node: Node, market: ScriptedMarket) -> None:
    seen = await running(market)
    for number in range(MAX_AT_ONCE):
        await opened(market, seen, f"exec_{number}", "cat")
    assert not market.errors
    await opened(market, seen, "exec_more", "cat")
    assert [e.code for e in market.errors] == ["conflict"]
    await market.ask(FrameType.EXEC_CONTROL, ExecControl(exec_id="exec_0", close=True))
    await opened(market, seen, "exec_again", "cat")
    assert len(market.errors) == 1
    await market.command(CommandType.STOP, seen, reason=Reason.CANCELLED.value)
    await market.until(lambda: seen.exited)
    await opened(market, seen, "exec_late", "cat")
    assert market.errors[-1].message == "the job does not run here"


async def test_commands_end_with_the_connection(node: Node, market: ScriptedMarket) -> None:
    seen = await running(market)
    await opened(market, seen, "exec_1", "cat")
    await market.disconnect()
    await market.until(lambda: len(market.hellos) >= 2)
    await market.ask(FrameType.EXEC_DATA, ExecData(exec_id="exec_1", stream=0, data=b"hello"))
    assert market.errors[-1].message == "the command has ended"
    assert seen.exited is None
