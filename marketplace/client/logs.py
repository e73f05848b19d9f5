"""Following a job's log to its end, across broken connections, without gap or duplicate."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from marketplace.client.events import ServerEvent
from marketplace.client.models import LogEnd, LogLine
from marketplace.client.streams import PATIENCE_S, FollowState, Stream, follow
from marketplace.client.transport import Sleep, Transport, decode_json, parse

__all__ = ["FollowState", "follow_log"]


def follow_log(
    transport: Transport,
    job_id: str,
    token: Callable[[], Awaitable[str]],
    state: FollowState,
    *,
    patience_s: float = PATIENCE_S,
    sleep: Sleep = asyncio.sleep,
) -> AsyncIterator[LogLine | LogEnd]:
    """Lines as they come, and last a LogEnd. patience_s: see `streams.follow`."""
    stream: Stream[LogLine | LogEnd] = Stream(
        f"/v1/jobs/{job_id}/logs", {"follow": "1"}, _read, lambda item: isinstance(item, LogEnd)
    )
    return follow(transport, stream, token, state, patience_s=patience_s, sleep=sleep)


def _read(event: ServerEvent) -> LogLine | LogEnd | None:
    if event.type == "log":
        return parse(LogLine, decode_json(event.data.encode()))
    if event.type == "end":
        return parse(LogEnd, decode_json(event.data.encode()))
    return None
