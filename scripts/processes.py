"""Our own processes on this machine: started, ended, and found again by the folder that they work in."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# In the order in which they end: a node still talks to its market, both to the chain.
PROGRAMS = ("reaver-node", "reaver-market", "reaver-localnet")
GRACE_S = 15
FIRST_PORT = 16_384
"""What listens on a machine for its users has lower ones, as a rule."""


def free_ports(count: int, *, in_a_row: int = 2) -> list[int]:
    """Ports that were free a moment ago, each the first of so many free ones (RPC and WebSocket are neighbours).

    Below those that the kernel gives to outgoing connections: while a process is down, and is started again on the same
    port, one of them would take it.
    """
    found: list[int] = []
    while len(found) < count:
        # not `random`: tests in several processes begin with the same seed
        first = FIRST_PORT + secrets.randbelow(_first_outgoing_port() - in_a_row - FIRST_PORT)
        ports = range(first, first + in_a_row)
        if not any(port in range(other, other + in_a_row) for port in ports for other in found) and _are_free(ports):
            found.append(first)
    return found


def _first_outgoing_port() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:
        return 32_768  # Linux's own choice


def _are_free(ports: range) -> bool:
    with contextlib.ExitStack() as stack:
        try:
            for port in ports:
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
        except OSError:
            return False
    return True


@dataclass
class Process:
    """One of our processes: how to start it again, and where its output goes.

    extra: what its last start alone had in its environment, such as a crash point.
    """

    name: str
    command: list[str]
    log: Path
    environment: dict[str, str] = field(default_factory=dict)
    running: subprocess.Popen[bytes] | None = None
    extra: dict[str, str] = field(default_factory=dict)

    def start(self, extra: Mapping[str, str] | None = None) -> None:
        self.extra = dict(extra or {})
        environment = {**os.environ, **self.environment, **self.extra}
        with self.log.open("ab") as log:
            self.running = subprocess.Popen(
                self.command,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=environment,
                cwd=self.log.parent,
                start_new_session=True,
            )

    @property
    def alive(self) -> bool:
        return self.running is not None and self.running.poll() is None

    def kill(self) -> None:
        """Kill -9: nothing is cleaned up, as in a power cut of this process."""
        self._end(signal.SIGKILL)

    def stop(self, grace_s: float = GRACE_S) -> None:
        """SIGTERM, then SIGKILL."""
        self._end(signal.SIGTERM, grace_s)

    def _end(self, number: int, grace_s: float = 10) -> None:
        if self.running is None or self.running.poll() is not None:
            return
        os.killpg(self.running.pid, number)
        try:
            self.running.wait(grace_s)
        except subprocess.TimeoutExpired:
            os.killpg(self.running.pid, signal.SIGKILL)
            self.running.wait(grace_s)

    def wait_dead(self, limit_s: float = 60) -> None:
        """Waits until it is gone, such as by a crash point."""
        if self.running is not None:
            self.running.wait(limit_s)

    def tail(self, lines: int = 25) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""


def end_all_in(home: Path) -> list[str]:
    """Ends each of our programs that was told to work in this folder, whoever started it; returns their names."""
    ended = []
    for program in PROGRAMS:
        for pid in _at_work(program, home):
            _end(pid, program, home)
            ended.append(program)
    return ended


def _at_work(program: str, home: Path) -> list[int]:
    return [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit() and _is(int(p.name), program, home)]


def _is(pid: int, program: str, home: Path) -> bool:
    """Whether this process is the program and names the folder: a number may belong to somebody else by now."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    # a console script is `python …/reaver-node start …`
    named = any(Path(os.fsdecode(word)).name == program for word in words[:2])
    return named and any(os.fsdecode(word).startswith(f"{home}/") for word in words[2:])


def _end(pid: int, program: str, home: Path) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + GRACE_S
        while _is(pid, program, home) and time.monotonic() < deadline:
            time.sleep(0.05)
        if _is(pid, program, home):
            os.kill(pid, signal.SIGKILL)
