"""On a real terminal: tables, colours, and the question that Ctrl-C asks."""

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Final

import pytest

from marketplace.cli.reaver.exits import Exit
from tests.client.fake_market import FakeMarket

DEADLINE_S: Final = 60
# Ctrl-C typed into a terminal reaches a process only when the terminal is its controlling one.
REAVER: Final = """
import fcntl, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from marketplace.cli.reaver import main
main()
"""
THEIRS: Final = {"NO_COLOR", "FORCE_COLOR", "LINES"}
"""Of whoever runs the tests: each changes what a terminal is given."""
ANSI: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """`reaver` with a terminal of its own as its three streams."""

    def __init__(self, market: FakeMarket, environment: dict[str, str], *arguments: str) -> None:
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", REAVER, *arguments],
            env={name: value for name, value in os.environ.items() if name not in THEIRS}
            | environment
            | {"REAVER_API": market.base_url, "TERM": "xterm", "COLUMNS": "120"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self.text = ""

    def read_until(self, wanted: str) -> None:
        end = time.monotonic() + DEADLINE_S
        while wanted not in ANSI.sub("", self.text):
            if not self._read(end):
                raise AssertionError(f"{wanted!r} did not come; seen: {self.text!r}")

    def read_all(self) -> str:
        end = time.monotonic() + DEADLINE_S
        while self._read(end):
            pass
        return self.text

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def close(self) -> None:
        self.process.kill()
        self.process.wait(60)
        os.close(self._master)

    def _read(self, end: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], max(0, end - time.monotonic()))
        if not ready:
            return False
        try:
            chunk = os.read(self._master, 65536)
        except OSError:
            # Linux: the last process on the other side is gone.
            return False
        self.text += chunk.decode("utf-8", "replace")
        return bool(chunk)


@pytest.fixture
def following(market: FakeMarket, environment: dict[str, str]) -> Iterator[Terminal]:
    market.allowance = True
    market.log_never_ends = True
    terminal = Terminal(market, environment, "run", "--image", "alpine", "--gpu", "cpu-small", "--follow")
    terminal.read_until("three")
    terminal.type("\x03")
    terminal.read_until("[d]etach")
    yield terminal
    terminal.close()


def cancels(market: FakeMarket) -> int:
    return len([s for s in market.seen if s.path.endswith("/cancel")])


def test_ctrl_c_then_cancel_ends_the_job_and_shows_its_bill(market: FakeMarket, following: Terminal) -> None:
    following.type("c\n")
    shown = following.read_all()
    assert cancels(market) == 1
    assert following.process.wait(60) == Exit.NO_EXIT_CODE
    assert "came back" in shown
    assert ANSI.sub("", shown).count("three") == 1, "the log goes on where it stood"


def test_ctrl_c_then_detach_leaves_the_job_alone(market: FakeMarket, following: Terminal) -> None:
    following.type("d\n")
    assert "the job runs on" in following.read_all()
    assert following.process.wait(60) == Exit.INTERRUPTED
    assert cancels(market) == 0


def test_ctrl_c_then_go_on_follows_to_the_end(market: FakeMarket, following: Terminal) -> None:
    market.log_never_ends = False
    following.type("g\n")
    assert ANSI.sub("", following.read_all()).count("three") == 1
    assert following.process.wait(60) == 0
    assert cancels(market) == 0


def test_a_table_has_colour_on_a_terminal(market: FakeMarket, environment: dict[str, str]) -> None:
    terminal = Terminal(market, environment, "nodes")
    shown = terminal.read_all()
    assert terminal.process.wait(60) == 0
    assert "\x1b[32mactive" in shown
    terminal.close()
