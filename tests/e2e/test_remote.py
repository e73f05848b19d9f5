"""`reaver jobs exec` and `top` against a real container: in pipes, on a terminal, and when nothing can be entered."""

import contextlib
import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from marketplace.cli.reaver.exits import Exit
from scripts.local_stack import Stack

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.engine,
    pytest.mark.xdist_group("stack"),
    pytest.mark.timeout(180, func_only=True),
]
REAVER = str(Path(sys.executable).with_name("reaver"))


@pytest.fixture(scope="module")
def job_id(stack: Stack, image_names: dict[str, str]) -> Iterator[str]:
    script = "while :; do sleep 0.2; done"
    options = ("--gpu", "cpu-small", "--max-minutes", "5", "--name", "entered")
    answer = stack.reaver("run", "--image", image_names["busybox"], *options, "--", "sh", "-c", script)
    job = str(answer["job_id"])
    stack.wait_job(job, ("running",))
    yield job
    stack.reaver("jobs", "cancel", job)
    stack.wait_settled(job)


def environment(stack: Stack) -> dict[str, str]:
    return {**os.environ, **stack.folders(), **stack.environment}


def beside(stack: Stack, job: str, *command: str, given: bytes | None = b"") -> tuple[int, bytes, bytes]:
    done = subprocess.run(
        [REAVER, "jobs", "exec", job, "--", *command], env=environment(stack), input=given, capture_output=True,
        timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_in_a_pipe_all_of_it_passes_unchanged(stack: Stack, job_id: str) -> None:
    data = os.urandom(300_000)
    code, out, err = beside(stack, job_id, "sh", "-c", "cat; echo oops >&2; exit 7", given=data)
    assert (code, out, err) == (7, data, b"oops\n")
    # It ends by itself though nobody ends its input.
    with subprocess.Popen(
        [REAVER, "jobs", "exec", job_id, "--", "true"], env=environment(stack), stdin=subprocess.PIPE
    ) as process:
        assert process.wait(60) == 0
    # Whoever reads no more ends it without noise.
    words = f"{REAVER} jobs exec {job_id} -- yes | head -1"
    done = subprocess.run(["sh", "-c", words], env=environment(stack), capture_output=True, timeout=60, check=False)
    assert done.stdout == b"y\n"
    assert b"error" not in done.stderr


def test_what_can_not_be_entered_says_why(stack: Stack, job_id: str) -> None:
    code, _, err = beside(stack, job_id, "no-such-program")
    assert code not in (0, Exit.INTERNAL), err
    code, _, err = beside(stack, "job_" + "1" * 22, "true")
    assert (code, b"error: " in err) == (Exit.REFUSED, True), err
    code, _, err = beside(stack, "../nodes", "true")
    assert (code, b"is not an id" in err) == (Exit.USAGE, True), err
    ended = stack.reaver("jobs", "--status", "completed,failed,cancelled,timed_out", "--limit", "1")["jobs"]
    if ended:
        code, _, err = beside(stack, ended[0]["id"], "true")
        assert (code, b"beside a running job only" in err) == (Exit.REFUSED, True), err
    done = subprocess.run(
        [REAVER, "jobs", "exec", job_id, "-t", "--", "true"], env=environment(stack), stdin=subprocess.DEVNULL,
        capture_output=True, check=False,
    )  # fmt: skip
    assert (done.returncode, b"no terminal" in done.stderr) == (Exit.USAGE, True)


class Screen:
    """A terminal with `reaver` on it."""

    def __init__(self, stack: Stack, *words: str) -> None:
        self.here, there = pty.openpty()
        self.resize(40, 100, None)
        self.before = termios.tcgetattr(there)
        self.process = subprocess.Popen(
            [REAVER, *words], env=environment(stack), stdin=there, stdout=there, stderr=there, start_new_session=True
        )
        self.there = there
        self.seen = b""

    def resize(self, rows: int, cols: int, process: "subprocess.Popen[bytes] | None") -> None:
        fcntl.ioctl(self.here, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))
        if process is not None:
            process.send_signal(signal.SIGWINCH)

    def type(self, text: str) -> None:
        os.write(self.here, text.encode())

    def until(self, text: str, limit_s: float = 30) -> None:
        deadline = time.monotonic() + limit_s
        os.set_blocking(self.here, False)
        while text.encode() not in self.seen:
            assert time.monotonic() < deadline, self.seen
            with contextlib.suppress(BlockingIOError):
                self.seen += os.read(self.here, 65536)
            time.sleep(0.02)
        self.seen = self.seen.partition(text.encode())[2]

    def until_said(self, typed: str, text: str, limit_s: float = 30) -> None:
        """Type it again and again until the answer is there: what comes first takes its time."""
        deadline = time.monotonic() + limit_s
        while True:
            self.type(typed)
            try:
                self.until(text, 1)
            except AssertionError:
                assert time.monotonic() < deadline, self.seen
            else:
                return

    def ended(self) -> int:
        code = self.process.wait(30)
        assert termios.tcgetattr(self.there)[3] == self.before[3], "the terminal is as it was"
        return code

    def close(self) -> None:
        self.process.kill()
        self.process.wait(10)
        os.close(self.here)
        os.close(self.there)


def test_on_a_terminal_keys_and_size_are_the_commands(stack: Stack, job_id: str) -> None:
    screen = Screen(stack, "jobs", "exec", job_id, "--", "sh")
    try:
        screen.until("# ")
        screen.type("tty\r")
        screen.until("/dev/pts/")
        # an engine gives a command its terminal's size a moment after it has started it
        screen.until_said("stty size\r", "40 100")
        screen.resize(30, 77, screen.process)
        screen.until_said("stty size\r", "30 77")
        screen.type("sleep 1000; echo after $?\r")
        screen.until("after $?")
        # Ctrl-C is for the command, not for reaver: the shell is back, and its next line is read.
        screen.until_said("\x03echo st''ill here\r", "still here")
        screen.type("exit 5\r")
        assert screen.ended() == 5
    finally:
        screen.close()
    screen = Screen(
        stack, "jobs", "exec", job_id, "--", "sh", "-c", "trap '' INT; echo begun; while :; do sleep 1; done"
    )
    try:
        screen.until("begun")
        screen.type("\x1d")
        screen.until("left; the command")
        assert screen.ended() == Exit.INTERRUPTED
    finally:
        screen.close()


def test_top_shows_what_running_jobs_use(stack: Stack, job_id: str) -> None:
    def used() -> dict | None:
        jobs = {job["job_id"]: job for job in stack.reaver("jobs", "top")["jobs"]}
        sample = jobs[job_id]["used"]
        return jobs[job_id] if sample is not None and jobs[job_id]["received_bytes_per_s"] is not None else None

    found = stack.wait_until("two samples", used)
    assert found["name"] == "entered"
    assert found["used"]["memory_bytes"] > 0
    plain = subprocess.run(
        [REAVER, "jobs", "top"], env=environment(stack), capture_output=True, text=True, timeout=60, check=True
    )
    assert plain.stdout.splitlines()[0].split()[:3] == ["job", "cores", "memory"]
    assert job_id in plain.stdout
    screen = Screen(stack, "jobs", "top")
    try:
        screen.until(job_id)
        screen.process.send_signal(signal.SIGINT)
        screen.until("the jobs run on")
        assert screen.ended() == 0
    finally:
        screen.close()
