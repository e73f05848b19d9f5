"""What every test starts from, whatever shell, machine or user runs it."""

import logging
import os
import signal
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

KEPT = frozenset({"REAVER_CACHE", "REAVER_PROGRAM", "REAVER_KEEP_LOGS"})
"""Settings of the test run itself; any other REAVER_… would be read by the code under test."""

# A developer's own market, keypair or crash point would reach the commands that tests start.
for _name in [name for name in os.environ if name.startswith("REAVER_") and name not in KEPT]:
    del os.environ[_name]

# A shell's background job starts with SIGINT ignored, and so would the commands that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Two cores run two tests and their processes: how long one example took says nothing about the code.
# The same examples each time: what a commit did not break does not fail on it. `--hypothesis-profile explore` draws anew.
settings.register_profile("reaver", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=2_000)
settings.load_profile("reaver")


@pytest.fixture(autouse=True)
def logs_of_its_own() -> Iterator[None]:
    """A command that a test runs sets the process's logs up, on a stream that is closed when the test ends."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    structlog.reset_defaults()
    for handler in [handler for handler in root.handlers if handler not in handlers]:
        root.removeHandler(handler)
    root.setLevel(level)
