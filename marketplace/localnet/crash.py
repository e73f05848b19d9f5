"""Named points at which a test kills this process as a power button would: `REAVER_CRASH_AT=name`."""

import os
import signal
from typing import Final, Literal

CrashPoint = Literal[
    "localnet.before_journal",  # executed in memory, nothing durable yet, no answer given
    "localnet.after_journal",  # durable, no answer given
]
_ENVIRONMENT: Final = "REAVER_CRASH_AT"


def crash_point(name: CrashPoint) -> None:
    """Kill this process with SIGKILL if the environment names this point; otherwise do nothing."""
    if os.environ.get(_ENVIRONMENT) == name:
        os.kill(os.getpid(), signal.SIGKILL)
