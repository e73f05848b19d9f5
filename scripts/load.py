"""A load generator: requests over kept connections from one process, each connection with one under way at a time.

Written for cheapness, so that the cores are the market's: no parsing but the status and the length of the body.
"""

from __future__ import annotations

import heapq
import select
import socket
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

CONNECTIONS = 64


@dataclass
class Load:
    """What came of a run. latencies: milliseconds, of answers with the wanted status.

    driver_s: processor time that this side took, in seconds. sent_at: when each was sent, by `time.perf_counter`.
    """

    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    unwanted: bytes = b""
    driver_s: float = 0.0
    sent_at: list[float] = field(default_factory=list)

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
    port: int,
    make: Callable[[int], bytes],
    total: int,
    *,
    wanted: int = 200,
    connections: int = CONNECTIONS,
    per_second: float = 0.0,
) -> Load:
    """Send `make(0)` … `make(total - 1)`, each once; how it went. wanted: the status that counts.

    Connection k sends k, k + connections, …, each after the answer to the one before. per_second: request n is sent no
    earlier than n / per_second; 0 for as fast as they are answered. Requests are made before the clock starts.
    """
    driver = _Driver([make(number) for number in range(total)], wanted, per_second)
    sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(min(connections, total))]
    try:
        for place, each in enumerate(sockets):
            driver.add(each, range(place, total, len(sockets)))
        driver.run()
    finally:
        driver.poll.close()
        for each in sockets:
            each.close()
    return driver.load


class _Driver:
    def __init__(self, requests: Sequence[bytes], wanted: int, per_second: float) -> None:
        self.load = Load(sent_at=[0.0] * len(requests))
        self.poll = select.epoll()
        self._requests = requests
        self._wanted = wanted
        self._per_second = per_second
        self._flights: dict[int, _Flight] = {}
        self._waiting: list[tuple[float, int, int]] = []
        self._started = 0.0

    def add(self, connection: socket.socket, numbers: Iterable[int]) -> None:
        """A connection, and the requests that are its."""
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.poll.register(connection, select.EPOLLIN)
        self._flights[connection.fileno()] = _Flight(connection, iter(numbers))

    def run(self) -> None:
        """Until every request is answered."""
        used = time.process_time()
        self._started = time.perf_counter()
        for descriptor in self._flights:
            self._follow(descriptor)
        while self._flights:
            left_s = max(0.0, self._waiting[0][0] - time.perf_counter()) if self._waiting else None
            for descriptor, _ in self.poll.poll(left_s):
                if self._note(self._flights[descriptor]) and not self._follow(descriptor):
                    del self._flights[descriptor]
            while self._waiting and self._waiting[0][0] <= time.perf_counter():
                _, number, descriptor = heapq.heappop(self._waiting)
                self._send(descriptor, number)
        self.load.seconds = time.perf_counter() - self._started
        self.load.driver_s = time.process_time() - used

    def _follow(self, descriptor: int) -> bool:
        """Send the connection's next request, or note when it is due; whether there is one."""
        number = next(self._flights[descriptor].numbers, None)
        if number is None:
            return False
        due = self._started + number / self._per_second if self._per_second else 0.0
        if due > time.perf_counter():
            heapq.heappush(self._waiting, (due, number, descriptor))
        else:
            self._send(descriptor, number)
        return True

    def _send(self, descriptor: int, number: int) -> None:
        self.load.sent_at[number] = self._flights[descriptor].send(self._requests[number])

    def _note(self, flight: _Flight) -> bool:
        """Read what came; whether that ends an answer."""
        answer = flight.receive()
        if answer is None:
            return False
        status, took_ms = answer
        if status == self._wanted:
            self.load.latencies.append(took_ms)
        else:
            self.load.statuses[status] += 1
            self.load.unwanted = self.load.unwanted or flight.answer
        return True


class _Flight:
    """One connection with one request under way."""

    __slots__ = ("_socket", "answer", "numbers", "sent")

    def __init__(self, connection: socket.socket, numbers: Iterator[int]) -> None:
        self._socket = connection
        self.numbers = numbers
        self.answer = b""
        self.sent = 0.0

    def send(self, request: bytes) -> float:
        """Send it; when that was, by `time.perf_counter`."""
        self.answer = b""
        self.sent = time.perf_counter()
        self._socket.sendall(request)
        return self.sent

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
