"""`reaver run --local`: the job in the sandbox of this machine, run by `reaver-node try` in a process of its own.

The runner stands in a session of its own, so that Ctrl-C reaches this process alone and is passed on as an order to
stop. It ends, and removes the container, when this process is gone: its standard input is then at its end. Where the
runner itself is killed, what it left is removed here.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import typer

from marketplace.cli.reaver.exits import Exit
from marketplace.cli.reaver.output import Output
from marketplace.cli.reaver.session import described, state_folder
from marketplace.cli.reaver.signalled import read_lines

if TYPE_CHECKING:
    from marketplace.client.requests import JobRequest
    from marketplace.protocol.local_runs import LocalEnd, LocalEvent, LocalOrder

_CLEAR_S: Final = 120
"""Chosen: an engine under load takes seconds to remove a container, never minutes."""


def run_here(output: Output, request: "JobRequest", upload: Path | None, download: Path | None) -> None:
    """Run it, show its log, and end with its exit code. Ctrl-C stops it, a second one at once."""
    from marketplace.client.local_runs import local_order

    order = described(output, lambda: local_order(request, input_file=upload, outputs=download))
    runner = _Runner(output, order)
    end = runner.run()
    if end is None:
        runner.explain()
        raise typer.Exit(int(Exit.INTERRUPTED if runner.interrupts else Exit.UNAVAILABLE))
    _show(output, request, end, download)
    raise typer.Exit(_exit_code(end, interrupted=bool(runner.interrupts)))


@dataclass
class _Runner:
    output: Output
    order: "LocalOrder"
    interrupts: int = 0
    _said: IO[bytes] = field(default_factory=tempfile.TemporaryFile)
    _code: int = 0

    def run(self) -> "LocalEnd | None":
        """The end; None where the runner ended without one."""
        from marketplace.protocol.local_runs import LocalEnd, read_event

        end: LocalEnd | None = None
        with subprocess.Popen(  # noqa: S603 - this very installation
            _command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, start_new_session=True
        ) as runner:
            stdout = runner.stdout
            assert stdout is not None  # noqa: S101 - PIPE
            # A handler, and no KeyboardInterrupt: what was read of a line stays, wherever the signal comes.
            before = signal.signal(signal.SIGINT, lambda *_: self._interrupt(runner))
            try:
                self._order(runner)
                for line in read_lines(stdout):
                    event = read_event(line)
                    if isinstance(event, LocalEnd):
                        end = event
                    else:
                        self._show(event)
                self._code = runner.wait()
            finally:
                signal.signal(signal.SIGINT, before)
        if end is None and self._code < 0:
            self._clear()
        return end

    def explain(self) -> None:
        """Why there is no end."""
        if self.interrupts:
            self.output.note("stopped; nothing of it is left")
            return
        self._said.seek(0)
        lines = self._said.read().decode("utf-8", "replace").strip().splitlines()
        known = bool(lines) and lines[-1].startswith("reaver-node: ")
        said = lines[-1].removeprefix("reaver-node: ") if lines else ""
        if self._code < 0:
            said = f"the process that ran it was ended by {signal.Signals(-self._code).name}; its container is removed"
        hints = ("is Docker or Podman running, and may you use it? DOCKER_HOST names its address",)
        self.output.error("local_run_failed", said or f"it ended with {self._code}", hints if known else ())

    def _order(self, runner: "subprocess.Popen[bytes]") -> None:
        # Left open behind it: its end means that nobody waits any more.
        if runner.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # it has ended, and said why
                runner.stdin.write(self.order.model_dump_json().encode() + b"\n")
                runner.stdin.flush()

    def _interrupt(self, runner: "subprocess.Popen[bytes]") -> None:
        from marketplace.protocol.local_runs import STOP_WORD

        self.interrupts += 1
        if self.interrupts == 1 and runner.stdin is not None:
            self.output.note("stopping; once more to end it at once")
            with contextlib.suppress(BrokenPipeError):
                os.write(runner.stdin.fileno(), f"\n{STOP_WORD}\n".encode())
        else:
            runner.send_signal(signal.SIGTERM)

    def _show(self, event: "LocalEvent") -> None:
        from marketplace.protocol.local_runs import LocalLine, LocalNote, LocalProgress, LocalStage

        match event:
            case LocalLine():
                self.output.raw(event.text)
            case LocalNote():
                self.output.note(event.text)
            case LocalProgress():
                self.output.note(f"progress {event.percent} %")
            case LocalStage(stage="pulling"):
                self.output.note("pulling the image")
            case LocalStage(stage="running"):
                self.output.note(f"running here, {event.image}")
            case _:
                return

    def _clear(self) -> None:
        done = subprocess.run(  # noqa: S603 - this very installation
            [*_command(), "--clear"], stdin=subprocess.DEVNULL, capture_output=True, timeout=_CLEAR_S, check=False
        )
        if done.returncode != 0:
            self.output.note("its container could not be removed; the next run here tries again")


def _command() -> list[str]:
    """The runner, of this very installation."""
    return [sys.executable, "-m", "node.cli", "try", "--folder", str(state_folder() / "local")]


def _show(output: Output, request: "JobRequest", end: "LocalEnd", folder: Path | None) -> None:
    from marketplace.domain.reasons import MEANINGS, Reason

    meaning = MEANINGS[Reason[end.reason.upper()]].text
    files, size = len(end.outputs), sum(file.size for file in end.outputs)
    if output.as_json:
        left = [{"path": file.path, "size": file.size} for file in end.outputs]
        output.json(
            {"local": True, "name": request.name, "reason": end.reason, "reason_text": meaning}
            | {"exit_code": end.exit_code, "ran_ms": end.ran_ms, "error": end.detail}
            | {"outputs": left, "folder": None if folder is None else str(folder)}
        )
        return
    output.fields(
        f"Local run{'' if request.name is None else f' {request.name}'}",
        [
            ("reason", meaning),
            ("error", end.detail),
            ("exit code", None if end.exit_code is None else str(end.exit_code)),
            ("ran", f"{end.ran_ms} ms"),
            ("outputs", f"{files} files, {size} bytes" if files else None),
        ],
    )
    if files and folder is None:
        output.note("what it left in /outputs is gone with it; --download DIR keeps it")
    elif folder is not None:
        output.note(f"{files} files, {size} bytes in {folder}")


def _exit_code(end: "LocalEnd", *, interrupted: bool) -> int:
    """As of a job that was followed."""
    if interrupted:
        return int(Exit.INTERRUPTED)
    completed = end.reason == "completed"
    if end.exit_code is not None and (end.exit_code != 0 or completed):
        return end.exit_code
    return int(Exit.NO_EXIT_CODE)
