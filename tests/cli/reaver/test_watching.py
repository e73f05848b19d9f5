"""`--watch` and `--download`: a table on a terminal, lines in pipes, one object with --json."""

import json
import signal
from pathlib import Path

import pytest

from marketplace.cli.reaver.commands.watching import job_cells, time_left_s
from marketplace.cli.reaver.exits import Exit
from marketplace.client.models import Job
from tests.cli.reaver.conftest import Reaver
from tests.cli.reaver.test_terminal import ANSI, Terminal
from tests.client.fake_market import FakeMarket

RUN = ("run", "--image", "alpine", "--gpu", "cpu-small")
QUEUED = {"status": "queued", "node_id": None, "cost": None, "progress": 0, "completed_at": None}
RUNNING = {"status": "running", "progress": 40, "timeout_seconds": 600, "completed_at": None, "cost": "0.000100"}


def a_job(**fields: object) -> Job:
    base = {"job_id": "job_1", "id": "job_1", "created_at": "2026-02-13T10:00:00Z", "currency": "USDC"}
    return Job.model_validate(base | {"status": "running", "timeout_seconds": 600} | fields)


def test_in_a_pipe_each_change_is_a_line(market: FakeMarket, reaver: Reaver) -> None:
    market.allowance = True
    market.passing = [QUEUED, RUNNING, RUNNING]
    done = reaver(*RUN, "--watch")
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:3] == ["queued", "running 40 %, 0.000100 USDC so far", "completed, 0.000400 USDC so far"]
    assert lines[3].startswith("Job job_")


def test_with_json_the_finished_job_is_the_only_object(market: FakeMarket, reaver: Reaver) -> None:
    market.allowance = True
    market.exit_code = 7
    done = reaver(*RUN, "--watch", "--json")
    assert done.exit_code == 7
    assert json.loads(done.stdout)["status"] == "failed"
    assert "failed" in done.stderr


def test_on_a_terminal_a_table_is_drawn_anew(market: FakeMarket, environment: dict[str, str]) -> None:
    market.allowance = True
    market.passing = [RUNNING]
    terminal = Terminal(market, environment, *RUN, "--watch")
    shown = ANSI.sub("", terminal.read_all())
    assert terminal.process.wait(60) == 0
    terminal.close()
    for text in ("progress", "████░░░░░░  40 %", "0.000100 USDC", "cost so far", "time left", "came back"):
        assert text in shown


def test_a_watched_list_ends_by_ctrl_c(market: FakeMarket, environment: dict[str, str]) -> None:
    terminal = Terminal(market, environment, "jobs", "--watch")
    terminal.read_until("created")
    terminal.process.send_signal(signal.SIGINT)
    assert "the jobs run on" in terminal.read_all()
    assert terminal.process.wait(60) == 0
    terminal.close()


def test_time_left_counts_billed_time_only() -> None:
    assert time_left_s(a_job(), 0) == 600
    lost = {"number": 1, "billed_ms": 100_000, "ready_at": "2026-02-13T10:00:00Z", "ended_at": "2026-02-13T11:00:00Z"}
    here = {"number": 2, "billed_ms": 5_000, "ready_at": "2026-02-13T12:00:00Z"}
    noon = 1_770_984_000.0
    job = a_job(attempts=[lost, here])
    assert time_left_s(job, noon + 60) == 440
    assert time_left_s(job, noon) == 495, "a voucher knows more than a clock that lags"
    assert time_left_s(job, noon + 9_999) == 0
    assert time_left_s(a_job(attempts=[here]), noon - 9_999) == 595
    assert time_left_s(a_job(status="completed"), noon) is None
    assert time_left_s(a_job(timeout_seconds=None), noon) is None


def test_a_waiting_job_says_why() -> None:
    queue = {"position": 1, "because": [{"constraint": "price"}, {"constraint": "region"}]}
    assert job_cells(a_job(status="queued", queue=queue), 0)[-1] == "waits: price; region"
    assert job_cells(a_job(status="queued", queue={"position": 1}), 0)[-1] == "waits: its turn"
    assert job_cells(a_job(timeout_seconds=7200), 0)[5] == "2:00:00"


def test_what_a_job_left_is_fetched_at_its_end(market: FakeMarket, reaver: Reaver, tmp_path: Path) -> None:
    market.allowance = True
    market.outputs = {"result.json": b"{}", "deep/model": b"m"}
    folder = tmp_path / "results"
    done = reaver(*RUN, "--download", str(folder))
    assert done.exit_code == 0, done.stderr
    assert (folder / "deep" / "model").read_bytes() == b"m"
    assert "2 files, 3 bytes" in done.stderr
    before = len(market.jobs)
    assert reaver(*RUN, "--download", str(folder)).exit_code == Exit.USAGE
    assert len(market.jobs) == before, "nothing was submitted"
    again = reaver("jobs", "download", "job_1", "-o", str(tmp_path / "again"), "--json")
    assert json.loads(again.stdout)["files"] == 2


@pytest.mark.parametrize(
    "arguments", [(*RUN, "--follow", "--watch"), ("jobs", "--watch", "--json"), (*RUN, "--upload", "/nowhere")]
)
def test_what_does_not_go_together(reaver: Reaver, arguments: tuple[str, ...]) -> None:
    assert reaver(*arguments).exit_code == Exit.USAGE
