"""Following a stream of server-sent events across broken connections, without gap or duplicate."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from marketplace.client.errors import ApiError, MalformedAnswer, Unreachable
from marketplace.client.events import EventDecoder, OversizeEvent, ServerEvent
from marketplace.client.transport import Sleep, Transport

PATIENCE_S: Final = 300.0
"""Chosen: a deploy of a market takes seconds; who follows for minutes in vain should hear of it."""
_SILENCE_S: Final = 45
"""Three of the market's keep-alive comments; api.md section 1.2, "streams"."""
_FIRST_WAIT_S: Final = 0.5
_LONGEST_WAIT_S: Final = 15
_T = TypeVar("_T")


@dataclass(slots=True)
class FollowState:
    """Where a follower is: kept by the caller, so that a follow which was broken off can be taken up again."""

    last_event_id: str | None = None


@dataclass(frozen=True, slots=True)
class Stream(Generic[_T]):
    """What to follow. read: the item of an event, None for one that is of no interest. ends: whether it is the last."""

    path: str
    params: Mapping[str, str]
    read: Callable[[ServerEvent], _T | None]
    ends: Callable[[_T], bool]


async def follow(
    transport: Transport,
    stream: Stream[_T],
    token: Callable[[], Awaitable[str]],
    state: FollowState,
    *,
    patience_s: float = PATIENCE_S,
    sleep: Sleep = asyncio.sleep,
) -> AsyncIterator[_T]:
    """Items as they come, to the one that ends the stream.

    patience_s: how long a market that does not answer is asked again before Unreachable is raised; counted anew
    after each item. A restart of the market touches no running work, and what happened meanwhile follows.
    """
    waited_s = 0.0
    wait_s = _FIRST_WAIT_S
    while True:
        try:
            async for item in _items(transport, stream, await token(), state):
                waited_s, wait_s = 0.0, _FIRST_WAIT_S
                yield item
                if stream.ends(item):
                    return
            if waited_s >= patience_s:
                raise Unreachable("the market ends the stream again and again without an end of it")  # noqa: TRY301
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


async def _items(transport: Transport, stream: Stream[_T], token: str, state: FollowState) -> AsyncIterator[_T]:
    decoder = EventDecoder()
    async with transport.stream(
        stream.path,
        token=token,
        params=stream.params,
        last_event_id=state.last_event_id,
        read_timeout_s=_SILENCE_S,
    ) as chunks:
        async for chunk in chunks:
            try:
                events = list(decoder.feed(chunk))
            except OversizeEvent as error:
                raise MalformedAnswer("the market sent an event larger than any it should") from error
            for event in events:
                item = stream.read(event)
                if item is not None:
                    yield item
                # After the yield: what the caller never saw is asked for again.
                state.last_event_id = event.id or state.last_event_id
            state.last_event_id = decoder.position or state.last_event_id
