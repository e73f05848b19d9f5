"""Following a job's log to its end, across broken connections, without gap or duplicate."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from marketplace.client.errors import ApiError, MalformedAnswer, Unreachable
from marketplace.client.events import EventDecoder, OversizeEvent, ServerEvent
from marketplace.client.models import LogEnd, LogLine
from marketplace.client.transport import Transport, decode_json, parse

_SILENCE_S: Final = 45
"""Three of the market's keep-alive comments; api.md section 1.2, "streams"."""
_FIRST_WAIT_S: Final = 0.5
_LONGEST_WAIT_S: Final = 15


@dataclass(slots=True)
class FollowState:
    """Where a follower is: kept by the caller, so that a follow which was broken off can be taken up again."""

    last_event_id: str | None = None


async def follow_log(
    transport: Transport,
    job_id: str,
    token: Callable[[], Awaitable[str]],
    state: FollowState,
    *,
    patience_s: float = 300,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> AsyncIterator[LogLine | LogEnd]:
    """Lines as they come, and last a LogEnd.

    patience_s: how long a market that does not answer is asked again before Unreachable is raised; counted anew
    after each event. The job goes on meanwhile: a restart of the market touches no running work.
    """
    waited_s = 0.0
    wait_s = _FIRST_WAIT_S
    while True:
        try:
            async for item in _events(transport, job_id, await token(), state):
                waited_s, wait_s = 0.0, _FIRST_WAIT_S
                yield item
                if isinstance(item, LogEnd):
                    return
            if waited_s >= patience_s:
                raise Unreachable("the market ends the log stream again and again without an end of the job")  # noqa: TRY301
        except Unreachable:
            if waited_s >= patience_s:
                raise
        except ApiError as error:
            if error.status not in {429, 503} or waited_s >= patience_s:
                raise
            wait_s = max(wait_s, float(error.retry_after_s or 0))
        await sleep(wait_s)
        waited_s += wait_s
        wait_s = min(wait_s * 2, _LONGEST_WAIT_S)


async def _events(transport: Transport, job_id: str, token: str, state: FollowState) -> AsyncIterator[LogLine | LogEnd]:
    decoder = EventDecoder()
    async with transport.stream(
        f"/v1/jobs/{job_id}/logs",
        token=token,
        params={"follow": "1"},
        last_event_id=state.last_event_id,
        read_timeout_s=_SILENCE_S,
    ) as chunks:
        async for chunk in chunks:
            try:
                events = list(decoder.feed(chunk))
            except OversizeEvent as error:
                raise MalformedAnswer("the market sent an event larger than any log line") from error
            for event in events:
                item = _read(event)
                if item is None:
                    continue
                yield item
                # After the yield: a line that the caller never saw is asked for again.
                if event.id is not None:
                    state.last_event_id = event.id


def _read(event: ServerEvent) -> LogLine | LogEnd | None:
    if event.type == "log":
        return parse(LogLine, decode_json(event.data.encode()))
    if event.type == "end":
        return parse(LogEnd, decode_json(event.data.encode()))
    return None
