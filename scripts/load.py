"""A load generator: requests over kept connections from one process, each connection with one under way at a time.

Written for cheapness, so that the cores are the market's: no parsing but the status and the length of the body.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

CONNECTIONS = 64


@dataclass
class Load:
    """What came of a run. latencies: milliseconds, of answers with the wanted status."""

    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    unwanted: bytes = b""

    def summary(self) -> dict[str, object]:
        """Rate and percentiles."""
        return {
            "answers": len(self.latencies),
            "seconds": round(self.seconds, 3),
            "per_second": round(len(self.latencies) / self.seconds) if self.seconds else 0,
            **{f"p{p}_ms": round(self.percentile(p), 2) for p in (50, 95, 99)},
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


async def drive(
    port: int, make: Callable[[int], bytes], total: int, *, wanted: int = 200, connections: int = CONNECTIONS
) -> Load:
    """Send `make(0)` … `make(total - 1)`, each once; how it went. wanted: the status that counts."""
    load = Load()
    numbers = iter(range(total))
    started = time.perf_counter()

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
        for number in numbers:
            sent = time.perf_counter()
            writer.write(make(number))
            head = await reader.readuntil(b"\r\n\r\n")
            status, body = int(head[9:12]), b""
            length = head.lower().find(b"content-length:")
            if length >= 0:
                body = await reader.readexactly(int(head[length + 15 : head.index(b"\r", length)]))
            if status == wanted:
                load.latencies.append((time.perf_counter() - sent) * 1000)
            else:
                load.statuses[status] += 1
                load.unwanted = load.unwanted or head + body
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(one() for _ in range(min(connections, total))))
    load.seconds = time.perf_counter() - started
    return load
