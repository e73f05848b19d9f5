"""`reaver jobs exec`: a command beside a running job, on this terminal or in a pipe."""

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import typer

from marketplace.cli.reaver.exits import Exit
from marketplace.cli.reaver.output import Output
from marketplace.cli.reaver.session import Connection, run, with_client

if TYPE_CHECKING:
    from marketplace.client.client import ReaverClient
    from marketplace.client.execs import RemoteCommand, Terminal

LEAVE: Final = b"\x1d"
"""Ctrl-]: the way out when the other side hangs; every other key is the command's. Chosen: as telnet has it."""
_PIECE_BYTES: Final = 32 << 10
_STDIN, _STDOUT, _STDERR = 0, 1, 2


def run_beside(
    output: Output, connection: Connection, job_id: str, command: tuple[str, ...], *, tty: bool | None
) -> None:
    """Run it, pass everything through, and end with its exit code.

    tty: None takes a terminal where both ends here are one.
    """
    on_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if tty and not sys.stdin.isatty():
        raise typer.BadParameter("standard input is no terminal", param_hint="--tty")
    terminal = _size() if (on_terminal if tty is None else tty) else None
    try:
        ended = run(output, lambda: with_client(connection, lambda c: _beside(c, job_id, command, terminal)))
    except KeyboardInterrupt:
        ended = _Ended(None, left=True)
    if ended.left:
        output.note("left; the command has lost its input and output, and ends with the job at the latest")
        raise typer.Exit(int(Exit.INTERRUPTED))
    raise typer.Exit(int(Exit.NO_EXIT_CODE) if ended.code is None else ended.code)


@dataclass(frozen=True, slots=True)
class _Ended:
    """code: the command's, None where its node can't tell. left: its user went away before."""

    code: int | None
    left: bool = False


async def _beside(client: "ReaverClient", job_id: str, command: tuple[str, ...], terminal: "Terminal | None") -> _Ended:
    async with client.exec_job(job_id, command, terminal) as remote:
        with _raw() if terminal is not None else contextlib.nullcontext():
            left = _pass_input(remote, on_terminal=terminal is not None)
            if terminal is not None:
                _pass_size(remote)
            reading = asyncio.create_task(_show(remote))
            leaving = asyncio.create_task(left.wait())
            try:
                await asyncio.wait({reading, leaving}, return_when=asyncio.FIRST_COMPLETED)
                return reading.result() if reading.done() else _Ended(None, left=True)
            finally:
                for task in (reading, leaving):
                    task.cancel()
                await asyncio.gather(reading, leaving, return_exceptions=True)


async def _show(remote: "RemoteCommand") -> _Ended:
    """Pass its output on until its end."""
    from marketplace.client.execs import ExecEnd

    async for piece in remote.output():
        if isinstance(piece, ExecEnd):
            return _Ended(piece.exit_code)
        try:
            _write(_STDERR if piece.stderr else _STDOUT, piece.data)
        except BrokenPipeError:  # such as of `| head`
            break
    return _Ended(None, left=True)


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _pass_input(remote: "RemoteCommand", *, on_terminal: bool) -> asyncio.Event:
    """Standard input goes to the command, in a thread, for it may be any kind of file; set when its user leaves.

    The next piece is read once the one before is on its way: a slow command slows down whoever writes.
    """
    loop, left = asyncio.get_running_loop(), asyncio.Event()

    def read() -> None:
        with contextlib.suppress(RuntimeError, OSError):  # all is over, or there is no standard input
            while piece := os.read(_STDIN, _PIECE_BYTES):
                if on_terminal and LEAVE in piece:
                    loop.call_soon_threadsafe(left.set)
                    return
                asyncio.run_coroutine_threadsafe(remote.write(piece), loop).result()
            asyncio.run_coroutine_threadsafe(remote.end_input(), loop).result()

    threading.Thread(target=read, daemon=True).start()
    return left


def _pass_size(remote: "RemoteCommand") -> None:
    """The command's terminal has the size of this one, also when it changes."""
    loop = asyncio.get_running_loop()
    told: set[asyncio.Task[None]] = set()

    def tell() -> None:
        task = loop.create_task(remote.resize(_size()))
        told.add(task)
        task.add_done_callback(told.discard)

    loop.add_signal_handler(signal.SIGWINCH, tell)


def _size() -> "Terminal":
    from marketplace.client.execs import Terminal

    # The terminal itself is asked: LINES and COLUMNS of an environment may be those of another one.
    found = os.get_terminal_size(sys.stdin.fileno())
    return Terminal(max(1, min(found.lines, 1000)), max(1, min(found.columns, 1000)))


@contextlib.contextmanager
def _raw() -> Iterator[None]:
    """Every key as it is, Ctrl-C too, until the block ends."""
    import termios
    import tty

    before = termios.tcgetattr(_STDIN)
    try:
        tty.setraw(_STDIN, termios.TCSANOW)
        yield
    finally:
        termios.tcsetattr(_STDIN, termios.TCSADRAIN, before)
