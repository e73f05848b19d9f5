"""Runs one command for the `process` runtime and outlives the node's daemon.

Called as `python -m node.runtime.supervisor FOLDER`.
It reads FOLDER/spec.json, detaches, starts the command, copies its output into FOLDER/log as frames (stream, time,
length, bytes), and writes FOLDER/exit.json when it has ended. While it lives it holds a lock on FOLDER/alive, so
that nobody mistakes another process with a recycled number for it. It imports nothing but the standard library.
"""

import contextlib
import fcntl
import json
import os
import resource
import selectors
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

FRAME = struct.Struct(">BQI")  # stream (1 stdout, 2 stderr), nanoseconds since the epoch, length
PIECE_BYTES = 16 * 1024
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126
_SIGNALLED = 128
_READY = b"ready\n"
_LOOK_S = 0.02


def main() -> None:
    """The parent says that the command runs (or can't) and ends; its child supervises."""
    folder = Path(sys.argv[1])
    ready, told = os.pipe()
    if os.fork():
        os.close(told)
        os.read(ready, len(_READY))
        os._exit(0)
    os.close(ready)
    os.setsid()
    os.umask(0o077)
    with (folder / "alive").open("w") as alive, (folder / "log").open("ab", buffering=0) as log:
        if _holds(alive, folder):
            _supervise(folder, log, told)
        else:
            os.write(told, _READY)


def _holds(alive: IO[str], folder: Path) -> bool:
    """Lock the folder, once nobody else does; False where the command has begun, and another has it in hand.

    A daemon that was killed may have called one that is still on its way: the command runs once, whoever comes first.
    """
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return not _begun(folder)
        if _begun(folder):
            return False
        time.sleep(_LOOK_S)


def _begun(folder: Path) -> bool:
    return (folder / "started.json").exists() or (folder / "exit.json").exists()


def write_whole(path: Path, value: object) -> None:
    """A reader sees all of it or nothing."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value))
    part.rename(path)


def _supervise(folder: Path, log: IO[bytes], told: int) -> None:
    spec = json.loads((folder / "spec.json").read_text())
    try:
        child = subprocess.Popen(  # noqa: S603 - running a given command is what this is for
            spec["argv"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=spec["workdir"],
            env=spec["env"],
            start_new_session=True,
            preexec_fn=_limit,  # noqa: PLW1509 - this process has one thread
        )
    except OSError as error:
        code = _NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_EXECUTABLE
        _write_exit(folder, code, str(error))
        os.write(told, _READY)
        return
    started_at_ns = time.time_ns()
    write_whole(folder / "started.json", {"pid": child.pid, "ticks": start_ticks(child.pid), "at_ns": started_at_ns})
    os.write(told, _READY)
    os.close(told)
    _copy_output(child, log)
    code = child.wait()
    with contextlib.suppress(ProcessLookupError):  # it left nothing
        os.killpg(child.pid, signal.SIGKILL)  # what it left behind goes with it, as in a container
    _write_exit(folder, code if code >= 0 else _SIGNALLED - code, "")


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _copy_output(child: subprocess.Popen[bytes], log: IO[bytes]) -> None:
    """Until the command itself has ended and what it wrote is copied; its orphans may hold the pipes for ever."""
    selector = selectors.DefaultSelector()
    buffers: dict[int, bytes] = {}
    for number, pipe in ((1, child.stdout), (2, child.stderr)):
        if pipe is not None:
            os.set_blocking(pipe.fileno(), False)
            selector.register(pipe, selectors.EVENT_READ, number)
            buffers[number] = b""
    watch = os.pidfd_open(child.pid)
    selector.register(watch, selectors.EVENT_READ, 0)
    ended = False
    while selector.get_map() and not ended:
        for key, _ in selector.select():
            if key.data == 0:
                ended = True
                selector.unregister(watch)
            elif not _copy_piece(log, key.data, key.fd, buffers):
                selector.unregister(key.fileobj)
    for key in list(selector.get_map().values()):
        while key.data and _copy_piece(log, key.data, key.fd, buffers):
            pass
    for number, rest in buffers.items():
        _write(log, number, rest)
    os.close(watch)


def _copy_piece(log: IO[bytes], number: int, fd: int, buffers: dict[int, bytes]) -> bool:
    """Whole lines go to the log at once, the rest waits for its end. False: nothing more to be had now."""
    try:
        data = os.read(fd, PIECE_BYTES)
    except BlockingIOError:
        return False
    *lines, rest = (buffers[number] + data).split(b"\n")
    for line in lines:
        _write(log, number, line + b"\n")
    while len(rest) >= PIECE_BYTES:
        _write(log, number, rest[:PIECE_BYTES])
        rest = rest[PIECE_BYTES:]
    buffers[number] = rest
    return bool(data)


def _write(log: IO[bytes], number: int, data: bytes) -> None:
    if data:
        log.write(FRAME.pack(number, time.time_ns(), len(data)) + data)


def _write_exit(folder: Path, code: int, message: str) -> None:
    write_whole(folder / "exit.json", {"exit_code": code, "at_ns": time.time_ns(), "message": message})


def start_ticks(pid: int) -> int | None:
    """When the process with this number began, in the kernel's ticks since boot; None when there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[19])


if __name__ == "__main__":
    main()
