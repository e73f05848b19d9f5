"""`reaver run --local`: the container contract without a market, and nothing left behind, whoever is killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from marketplace.cli.reaver.exits import Exit
from node.runtime.naming import DEPLOYMENT, Namespace
from scripts.local_stack import engine
from tests.e2e.test_jobs import STAMP_MS

pytestmark = [pytest.mark.e2e, pytest.mark.engine, pytest.mark.timeout(120, func_only=True)]
RUNS = "trap 'echo told; exit 7' TERM; echo begun; while :; do sleep 0.1; done"


class Place:
    """One user's folder, and what of its runs the engine has."""

    def __init__(self, folder: Path, host: str, image: str) -> None:
        self.marks = folder / "local"
        self.image = image
        self.environment = {**os.environ, "DOCKER_HOST": host, "REAVER_STATE_DIR": str(folder)}
        self.begun: list[subprocess.Popen[str]] = []

    def start(self, *options: str, script: str | None = None, name: str = "cpu-small") -> subprocess.Popen[str]:
        words = ["run", "--local", "--image", self.image, "--gpu", name, *options]
        words += [] if script is None else ["--", "sh", "-c", script]
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name("reaver")), *words],
            env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        self.begun.append(process)
        return process

    def run(self, *options: str, script: str | None = None) -> tuple[int, str, str]:
        process = self.start(*options, script=script)
        out, err = process.communicate(timeout=90)
        return process.returncode, out, err

    def containers(self) -> list[str]:
        """Of runs whose mark is there."""
        found = []
        for mark in self.marks.glob("*.run"):
            found += self.docker("ps", "-aq", "--filter", f"label={DEPLOYMENT}={mark.stem}").split()
        return found

    def docker(self, *words: str) -> str:
        docker = shutil.which("docker") or "/usr/bin/docker"
        done = subprocess.run([docker, *words], env=self.environment, capture_output=True, text=True, check=True)
        return done.stdout

    def interfaces(self) -> list[str]:
        return [Namespace(mark.stem).interfaces for mark in self.marks.glob("*.run")]


@pytest.fixture
def place(tmp_path: Path, image_names: dict[str, str]) -> Iterator[Place]:
    here = Place(tmp_path, engine(), image_names["busybox"])
    yield here
    for process in here.begun:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=30)
    clear = [sys.executable, "-m", "node.cli", "try", "--clear", "--folder", str(here.marks)]
    if left(here) == []:
        return
    here.environment["DOCKER_HOST"] = engine()
    until(lambda: subprocess.run(clear, env=here.environment, check=False).returncode == 0 and left(here) == [])


def until(holds: Callable[[], object], limit_s: float = 30) -> None:
    deadline = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def left(place: Place) -> list[str]:
    """What of runs is on the disk."""
    return [path.name for path in place.marks.iterdir()] if place.marks.exists() else []


def read_until(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout is not None
    assert line in iter(process.stdout.readline, "")


def runner_of(process: subprocess.Popen[str]) -> psutil.Process:
    return psutil.Process(process.pid).children()[0]


def test_the_container_contract_is_a_nodes(place: Place, tmp_path: Path) -> None:
    """Input, variables, secrets, limits, progress, outputs, both streams, the exit code; and no rule is left."""
    data, results, file = tmp_path / "data.csv", tmp_path / "results", tmp_path / "job.yaml"
    data.write_text("a,b\n")
    file.write_text("network: none\nulimits: {nofile: 77}\nsecrets: [TOKEN]\nworkdir: /scratch\nname: trial\n")
    place.environment["TOKEN"] = "a-secret"
    script = (
        'cat "$REAVER_INPUT"; echo $GREETING $TOKEN; pwd; ulimit -n; id -u; ls /sys/class/net; echo oops >&2; '
        'echo 42 > "$REAVER_PROGRESS"; mkdir "$REAVER_OUTPUTS/sub"; echo left > "$REAVER_OUTPUTS/sub/file"; '
        "grep CapEff /proc/self/status; touch /inputs/x; sleep 2.2; exit 9"
    )
    options = ("--file", str(file), "--env", "GREETING=hello", "--upload", str(data), "--download", str(results))
    code, out, err = place.run(*options, "--json", script=script)
    assert code == 9, err
    end = json.loads(out)
    assert (end["reason"], end["exit_code"], end["name"]) == ("app_error", 9, "trial")
    assert end["outputs"] == [{"path": "sub/file", "size": 5}]
    assert end["ran_ms"] >= 2_200 - STAMP_MS
    assert (results / "sub/file").read_text() == "left\n"
    for line in ("a,b", "hello a-secret", "/scratch", "77", "lo", "oops", "progress 42 %", "CapEff:\t" + "0" * 16):
        assert line in err.splitlines()
    assert "Read-only file system" in err
    assert "eth0" not in err
    assert left(place) == []


def test_without_a_word_it_prints_the_log_and_what_it_was(place: Place) -> None:
    """And an image that was built here is taken though no registry has it."""
    built, pulled = f"reaver-trial-built:{os.getpid()}", place.image
    assert place.run("--json", script="true")[0] == 0  # the image is on this machine
    place.docker("tag", pulled, built)
    place.image = built
    try:
        code, out, err = place.run(script="echo hello; echo result > /outputs/a")
    finally:
        place.docker("rmi", built)
    assert f"{built} was built here: no node can pull it" in err
    assert code == 0, err
    assert out.startswith("hello\nLocal run\nreason     exit 0")
    assert "outputs    1 files, 7 bytes" in out
    assert "--download DIR keeps it" in err


def test_its_time_is_up(place: Place, tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("timeout_seconds: 3\nstop_grace_seconds: 30\n")  # its shell listens to TERM long before
    code, out, err = place.run("--file", str(file), "--json", script=RUNS)
    assert (code, json.loads(out)["reason"]) == (7, "timeout"), err
    assert "told" in err


def test_what_can_not_begin_says_why(place: Place) -> None:
    place.image += "0"
    code, out, err = place.run(script="true")
    assert (code, "the image reference is invalid" in out) == (Exit.NO_EXIT_CODE, True), err
    code, _, err = place.run("--region", "eu", script="true")
    assert (code, "only a market gives effect to region" in err) == (Exit.USAGE, True)
    code, _, err = place.run("--rpc", "http://127.0.0.1:1", script="true")
    assert (code, "has no effect on a run on this machine" in err) == (Exit.USAGE, True)
    place.environment["DOCKER_HOST"] = "unix:///nowhere/docker.sock"
    code, _, err = place.run(script="true")
    assert (code, "is Docker or Podman running" in err) == (Exit.UNAVAILABLE, True)
    # Nobody could say that nothing was made, so its mark is there for the next run to look.
    (mark,) = place.marks.glob("*.run")
    mark.unlink()


def test_without_root_it_runs_cut_off_and_says_what_is_missing(place: Place, tmp_path: Path) -> None:
    """A machine without the tools that take root: no rules of a firewall, no disks."""
    place.environment["PATH"] = "/nonexistent"
    code, out, err = place.run(script="true")
    assert (code, "take --network none" in out) == (Exit.NO_EXIT_CODE, True), err
    code, out, err = place.run("--network", "none", script="echo hello; echo kept > /outputs/a; ls /sys/class/net")
    assert (code, out.splitlines()[:2]) == (0, ["hello", "lo"]), err
    assert "the job asks for 2000 MB of disk" in err
    code, out, err = place.run("--network", "none", "--download", str(tmp_path / "results"), script="true")
    assert (code, "it takes root" in out) == (Exit.NO_EXIT_CODE, True), err
    assert left(place) == []


def test_ctrl_c_stops_it_with_its_grace(place: Place) -> None:
    process = place.start(script=RUNS)
    read_until(process, "begun\n")
    assert len(place.containers()) == 1
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == Exit.INTERRUPTED
    assert out.splitlines()[0] == "told"
    assert "stopping; once more" in err
    assert left(place) == []


def test_a_second_ctrl_c_waits_for_no_grace(place: Place, tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("stop_grace_seconds: 300\n")
    process = place.start("--file", str(file), script="trap '' TERM; echo begun; while :; do sleep 0.1; done")
    read_until(process, "begun\n")
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert any("once more to end it at once" in line for line in iter(process.stderr.readline, ""))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, "nothing of it is left" in err) == (Exit.INTERRUPTED, True)
    assert left(place) == []


def test_killed_it_leaves_no_container(place: Place) -> None:
    """`reaver` itself, then the process that runs the container for it, then both at once."""
    process = place.start(script=RUNS)
    read_until(process, "begun\n")
    process.kill()
    until(lambda: left(place) == [])

    process = place.start(script=RUNS)
    read_until(process, "begun\n")
    rules = place.interfaces()[0]
    runner_of(process).kill()
    _, err = process.communicate(timeout=60)
    assert (process.returncode, "ended by SIGKILL; its container is removed" in err) == (Exit.UNAVAILABLE, True)
    assert left(place) == []
    assert rules not in subprocess.run(["iptables", "-w", "-S"], capture_output=True, text=True, check=True).stdout

    process = place.start(script=RUNS)
    read_until(process, "begun\n")
    runner = runner_of(process)
    process.kill()
    runner.kill()
    process.wait(10)
    assert len(place.containers()) == 1
    # A run beside it, alive, is nobody's to clear away; the dead one is removed by whoever comes next.
    beside = place.start(script=RUNS)
    read_until(beside, "begun\n")
    assert len(place.containers()) == 1
    clear = [sys.executable, "-m", "node.cli", "try", "--clear", "--folder", str(place.marks)]
    assert subprocess.run(clear, env=place.environment, capture_output=True, check=True).stdout == b""
    assert len(place.containers()) == 1
    beside.send_signal(signal.SIGINT)
    beside.communicate(timeout=30)
    assert left(place) == []
