import subprocess
import sys

import pytest

PROGRAM = """
from marketplace.crash import crash_point, enable
enable(local={local})
crash_point("another.point")
print("alive", flush=True)
crash_point("sender.before_send")
print("past it", flush=True)
"""


@pytest.mark.parametrize(("local", "returncode", "out"), [(True, -9, "alive\n"), (False, 0, "alive\npast it\n")])
def test_a_process_dies_at_its_crash_point_on_a_local_chain_only(local: bool, returncode: int, out: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(local=local)],
        env={"REAVER_CRASH_AT": "sender.before_send", "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == returncode
    assert done.stdout == out
