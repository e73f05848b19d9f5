"""A load generator: requests over kept connections from one process, each connection with one under way at a time.

Written for cheapness, so that the cores are the market's: no parsing but the status and the length of the body.
"""

from __future__ import annotations

import select
import socket
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

CONNECTIONS = 64


@dataclass
class Load:
    """What came of a run. latencies: milliseconds, of answers with the wanted status.

    driver_s: processor time that this side took, in seconds.
    """

    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    unwanted: bytes = b""
    driver_s: float = 0.0

    def summary(self) -> dict[str, object]:
        """Rate and percentiles."""
        return {
            "answers": len(self.latencies),
            "seconds": round(self.seconds, 3),
            "per_second": round(len(self.latencies) / self.seconds) if self.seconds else 0,
            **{f"p{p}_ms": round(self.percentile(p), 2) for p in (50, 95, 99)},
            "driver_cpu_ms_each": round(self.driver_s * 1000 / max(1, len(self.latencies)), 4),
            "other_answers": {str(s): n for s, n in self.statuses.items()},
            **({"first_other_answer": self.unwanted.decode(errors="replace")[-300:]} if self.unwanted else {}),
        }

    def percentile(self, percent: int) -> float:
        """Milliseconds within which so many of a hundred were answered; 0 where none was."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] if ordered else 0.0


def request(method: str, path: str, token: str, body: bytes = b"", headers: str = "") -> bytes:
    """One request's bytes."""
    entity = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
    head = f"{method} {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n{headers}{entity}\r\n"
    return head.encode() + body


def drive(
    port: int, make: Callable[[int], bytes], total: int, *, wanted: int = 200, connections: int = CONNECTIONS
) -> Load:
    """Send `make(0)` … `make(total - 1)`, each once; how it went. wanted: the status that counts.

    The requests are made before the clock starts.
    """
    load = Load()
    requests = [make(number) for number in range(total)]
    sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(min(connections, total))]
    poll = select.epoll()
    flights = {}
    for each in sockets:
        each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        poll.register(each, select.EPOLLIN)
        flights[each.fileno()] = _Flight(each)
    used = time.process_time()
    started = time.perf_counter()
    numbers = iter(requests)
    for flight in flights.values():
        flight.send(next(numbers))
    while flights:
        for descriptor, _ in poll.poll():
            flight = flights[descriptor]
            answer = flight.receive()
            if answer is None:
                continue
            status, took_ms = answer
            if status == wanted:
                load.latencies.append(took_ms)
            else:
                load.statuses[status] += 1
                load.unwanted = load.unwanted or flight.answer
            following = next(numbers, None)
            if following is None:
                del flights[descriptor]
            else:
                flight.send(following)
    load.seconds = time.perf_counter() - started
    load.driver_s = time.process_time() - used
    poll.close()
    for each in sockets:
        each.close()
    return load


class _Flight:
    """One connection with one request under way."""

    __slots__ = ("_socket", "answer", "sent")

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self.answer = b""
        self.sent = 0.0

    def send(self, request: bytes) -> None:
        self.answer = b""
        self.sent = time.perf_counter()
        self._socket.sendall(request)

    def receive(self) -> tuple[int, float] | None:
        """Status and milliseconds, once all of the answer is there."""
        part = self._socket.recv(1 << 16)
        if not part:
            raise ConnectionError("the server hung up")
        self.answer = self.answer + part if self.answer else part
        end = self.answer.find(b"\r\n\r\n")
        if end < 0:
            return None
        head = self.answer[:end].lower()
        at = head.find(b"content-length:")
        if at >= 0:
            length = int(head[at + 15 :].split(b"\r", 1)[0])
            if len(self.answer) < end + 4 + length:
                return None
        return int(head[9:12]), (time.perf_counter() - self.sent) * 1000
