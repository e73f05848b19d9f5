"""Named points at which a process may be made to die, to prove that it recovers.

`REAVER_CRASH_AT=name` names one point. It is honoured only after the composition root has said that the
chain is a local one: a variable left in an environment must never kill a process that holds real money.
"""

import os
import signal
import sys

CRASH_VARIABLE = "REAVER_CRASH_AT"

_armed: str | None = None


def enable(*, local: bool) -> None:
    """Arm the point that the environment names, where the chain is a local one; disarm it anywhere else.

    Called once by each process's composition root. Unarmed, every crash point does nothing.
    """
    global _armed  # noqa: PLW0603 - the process itself is what the point kills; there is one of it
    _armed = (os.environ.get(CRASH_VARIABLE) or None) if local else None


def crash_point(name: str) -> None:
    """Kill this process with SIGKILL if `name` is the armed point: no handler, no flush, no goodbye."""
    if _armed is not None and _armed == name:
        sys.stderr.write(f"crash point {name}: killing this process\n")
        sys.stderr.flush()
        os.kill(os.getpid(), signal.SIGKILL)
