"""The real daemon as a process, killed with SIGKILL at every point that hurts, and started again.

The work is real as well: processes of the development runtime, which outlive the daemon.
"""

import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from marketplace.domain.reasons import Reason
from marketplace.protocol.control import CommandType
from marketplace.protocol.terms import JobSpec
from node.settings import RuntimeKind
from tests.node.daemon_process import Daemon, daemon_on
from tests.node.scripted_market import Seen, reason, spec

SCRIPT = (
    'echo started >>"$MARK"; date +%s%N >>"$MARK.ns"; echo hello; sleep 1; '
    'until [ -z "$WAITS" -o -e "$MARK.go" ]; do sleep 0.05; done; echo bye; date +%s%N >>"$MARK.ns"'
)


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Daemon]:
    image = f"\n[runtime.images.work]\nentrypoint = {json.dumps(['/bin/sh', '-c', SCRIPT])}\n"
    async with daemon_on(tmp_path, RuntimeKind.PROCESS, {}, image) as made:
        yield made


def payable_ms(daemon: Daemon, seen: Seen) -> int:
    """What may be billed of the work: how long it says that it ran, and what it takes to begin and to end.

    A daemon that stands still shows the meter the time until it hears of the end; that stays billed.
    """
    began, over = daemon.mark.with_suffix(".ns").read_text().split()
    return max((int(over) - int(began)) // 1_000_000 + 1_000, seen.shown_ms or 0)


def waiting(daemon: Daemon) -> JobSpec:
    """Work that goes on until it is let go."""
    return spec("work", env={"MARK": str(daemon.mark), "WAITS": "yes"})


def let_go(daemon: Daemon) -> None:
    daemon.mark.with_suffix(".go").touch()


@pytest.mark.parametrize(
    "point",
    ["node.after_claim", "node.pulling", "node.running", "node.before_final_voucher", "node.after_final_voucher"],
)
async def test_a_daemon_killed_at_any_point_ends_the_job_right_and_once(daemon: Daemon, point: str) -> None:
    market = daemon.market
    first = await daemon.start(crash_at=point)
    seen = await market.offer(spec("work", env={"MARK": str(daemon.mark)}))
    code, errors = await daemon.ended(first)
    assert code == -signal.SIGKILL, errors
    assert f"crash point {point}" in errors
    await daemon.start()
    await market.until(lambda: seen.final, timeout_s=60)
    await daemon.until_clean()
    assert reason(seen) is Reason.COMPLETED
    assert daemon.mark.read_text() == "started\n"
    assert seen.text == ["hello", "bye"]
    assert seen.final is not None
    assert seen.final.billed_ms <= payable_ms(daemon, seen), "nothing of the time in which no daemon was there"


async def test_a_daemon_killed_in_mid_run_adopts_its_work_and_goes_on(daemon: Daemon) -> None:
    market = daemon.market
    first = await daemon.start()
    seen = await market.offer(waiting(daemon))
    await market.until(lambda: len(seen.countersigned) >= 2, timeout_s=60)
    before = seen.countersigned[-1]
    await daemon.kill(first)
    second = await daemon.start()
    await market.until(lambda: len(market.hellos) >= 2, timeout_s=60)
    let_go(daemon)
    await market.until(lambda: seen.final, timeout_s=60)
    await daemon.until_clean()
    assert daemon.mark.read_text() == "started\n"
    assert seen.final is not None
    assert seen.final.started_at_ms == before.started_at_ms
    assert seen.final.sequence > before.sequence
    assert before.billed_ms < seen.final.billed_ms <= payable_ms(daemon, seen)
    second.terminate()
    code, _ = await daemon.ended(second)
    assert code == 0


async def test_sigterm_leaves_the_work_running_for_the_next_start(daemon: Daemon) -> None:
    market = daemon.market
    first = await daemon.start()
    seen = await market.offer(waiting(daemon))
    await market.until(lambda: seen.countersigned, timeout_s=60)
    first.terminate()
    code, errors = await daemon.ended(first)
    assert code == 0, errors
    assert seen.exited is None
    let_go(daemon)
    await daemon.start()
    await market.until(lambda: seen.final, timeout_s=60)
    assert reason(seen) is Reason.COMPLETED
    assert daemon.mark.read_text() == "started\n"


async def test_drain_on_stop_waits_for_the_work(daemon: Daemon) -> None:
    market = daemon.market
    process = await daemon.start(options=("--drain-on-stop",))
    seen = await market.offer(waiting(daemon))
    await market.until(lambda: seen.countersigned, timeout_s=60)
    process.terminate()
    await market.until(lambda: market.beats[-1].draining, timeout_s=60)
    let_go(daemon)
    await market.until(lambda: seen.final, timeout_s=60)
    code, errors = await daemon.ended(process)
    assert code == 0, errors
    assert reason(seen) is Reason.COMPLETED


async def test_a_second_daemon_on_the_same_folder_refuses_to_start(daemon: Daemon) -> None:
    await daemon.start()
    await daemon.market.until(lambda: daemon.market.beats, timeout_s=60)
    second = await daemon.start()
    code, errors = await daemon.ended(second)
    assert code == 1
    assert "in use" in errors


async def test_an_order_to_stop_ends_a_real_process_group(daemon: Daemon) -> None:
    market = daemon.market
    await daemon.start()
    job = spec("work", env={"MARK": str(daemon.mark)}, entrypoint=("/bin/sh", "-c", "sleep 600"))
    seen = await market.offer(job)
    await market.until(lambda: seen.countersigned, timeout_s=60)
    await market.command(CommandType.STOP, seen, reason=Reason.CANCELLED.value, grace_ms=500)
    await market.until(lambda: seen.final, timeout_s=60)
    assert reason(seen) is Reason.CANCELLED
    await daemon.until_clean()
