"""The process that runs a command for the `process` runtime."""

import asyncio
import json
import sys
from pathlib import Path

from node.runtime.process import _ROOT


async def test_two_that_were_called_for_one_attempt_run_it_once(tmp_path: Path) -> None:
    """As where a daemon is killed while its supervisor is on its way, and the next daemon calls one, too."""
    script = "echo ran >>mark; until [ -e go ]; do sleep 0.05; done"
    spec = {"argv": ["/bin/sh", "-c", script], "env": {"PATH": "/usr/bin:/bin"}, "workdir": str(tmp_path)}
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    called = [
        await asyncio.create_subprocess_exec(sys.executable, "-m", "node.runtime.supervisor", str(tmp_path), cwd=_ROOT)
        for _ in range(2)
    ]
    async with asyncio.timeout(60):
        assert [await each.wait() for each in called] == [0, 0], "each says that the command runs"
        (tmp_path / "go").touch()
        while not (tmp_path / "exit.json").exists():  # noqa: ASYNC110 - another process ends
            await asyncio.sleep(0.02)
    assert (tmp_path / "mark").read_text() == "ran\n"
    assert json.loads((tmp_path / "exit.json").read_text())["exit_code"] == 0
