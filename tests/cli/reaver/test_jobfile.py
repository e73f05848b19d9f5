"""`reaver init` and `--file`: the file says the job, options go before it."""

import json
from pathlib import Path

from marketplace.cli.reaver.exits import Exit
from tests.cli.reaver.conftest import Reaver
from tests.client.fake_market import FakeMarket

FILE = """
image: alpine
gpu: cpu-small
name: from-the-file
command: [echo, hello]
env: {A: 1, B: 2}
labels: {team: x}
secrets: [TOKEN]
timeout_seconds: 600
"""


def test_a_file_that_init_wrote_runs(market: FakeMarket, reaver: Reaver, tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    done = reaver("init", str(file), "--image", "alpine", "--gpu", "cpu-small")
    assert (done.exit_code, done.stdout) == (0, f"Wrote {file}\n")
    again = reaver("init", str(file))
    assert again.exit_code == Exit.USAGE
    assert "--force replaces it" in again.stderr
    assert reaver("init", str(file), "--force", "--image", "alpine", "--json").exit_code == 0
    assert "0.060000 USDC for 10 min" in reaver("quote", "--file", str(file)).stdout
    assert reaver("run", "--file", str(file)).exit_code == 0
    assert len(market.signed) == 1


def test_init_prints_where_it_is_asked_to(reaver: Reaver) -> None:
    assert reaver("init", "-").stdout.startswith("# A job for")
    assert "image:" in json.loads(reaver("init", "-", "--json").stdout)["text"]


def test_options_go_before_the_file(market: FakeMarket, reaver: Reaver, tmp_path: Path) -> None:
    market.allowance = True
    file = tmp_path / "job.yaml"
    file.write_text(FILE)
    reaver.environment |= {"TOKEN": "s3cret", "OTHER": "t"}
    done = reaver(
        "run", "-F", str(file), "--max-minutes", "5", "--env", "B=3", "--label", "k=v", "--secret", "OTHER",
        "--gpu-count", "2", "--", "ls",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    body = market.spent("/v1/jobs")[-1].body
    assert body["env"] == {"A": "1", "B": "3"}
    assert body["labels"] == {"team": "x", "k": "v"}
    assert body["secrets"] == {"TOKEN": "s3cret", "OTHER": "t"}
    assert (body["maxMinutes"], body["command"], body["name"]) == (5, ["ls"], "from-the-file")
    assert body["requirements"] == {"gpu_count": 2}
    assert "timeout_seconds" not in body


def test_a_quote_is_told_no_secret(market: FakeMarket, reaver: Reaver, tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(FILE)
    reaver.environment |= {"TOKEN": "s3cret"}
    assert reaver("quote", "-F", str(file)).exit_code == 0
    assert [s.body["secrets"] for s in market.seen if s.path == "/v1/quote"] == [{"TOKEN": ""}]


def test_a_wrong_file_says_every_line_and_sends_nothing(market: FakeMarket, reaver: Reaver, tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("image: alpine\ngpu: cpu-smal\nmax_minutes: 5\n")
    done = reaver("run", "--file", str(file))
    assert done.exit_code == Exit.USAGE
    assert f"error: {file}:2:6: gpu: the catalogue has no 'cpu-smal'; nearest: cpu-small" in done.stderr
    assert f"  {file}:3:1: max_minutes: is no field of a job; did you mean maxMinutes?" in done.stderr
    assert json.loads(reaver("run", "--file", str(file), "--json").stderr)["error"] == "bad_job_file"
    assert market.seen == []


def test_what_is_missing_is_named(reaver: Reaver, tmp_path: Path) -> None:
    lost = reaver("run", "--file", str(tmp_path / "nowhere.yaml"))
    assert (lost.exit_code, "`reaver init` writes one" in lost.stderr) == (Exit.USAGE, True)
    file = tmp_path / "job.yaml"
    file.write_text("gpu: cpu\n")
    assert "--image" in reaver("run", "--file", str(file)).stderr
    file.write_text("image: a\n")
    assert "--gpu" in reaver("run", "--file", str(file)).stderr
    assert "not set" in reaver("run", "--image", "a", "--gpu", "cpu", "--secret", "UNSET_VARIABLE").stderr
    literal = reaver("run", "--image", "a", "--gpu", "cpu", "--secret", "A=hunter2")
    assert literal.exit_code == Exit.USAGE
    assert "hunter2" not in literal.stderr
