"""Where a stream is resumed: behind what was whole, and behind a block that tells nothing but that."""

import asyncio

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from marketplace.client.errors import ApiError
from marketplace.client.events import EventDecoder, ServerEvent
from marketplace.client.streams import FollowState, Stream, follow
from marketplace.client.transport import RetryPolicy, Transport

NUMBERS: Stream[str] = Stream("/stream", {}, lambda event: event.data, lambda item: item == "end")


def test_a_position_is_known_before_the_first_event_and_never_of_half_a_block() -> None:
    decoder = EventDecoder()
    assert list(decoder.feed(b"id: 7\n")) == []
    assert decoder.position is None
    assert list(decoder.feed(b"\n")) == []
    assert decoder.position == "7"
    assert list(decoder.feed(b": keep-alive\n\nid: 8\nevent: a\ndata: b\n")) == []
    assert decoder.position == "7"
    assert list(decoder.feed(b"\n")) == [ServerEvent("a", "b", "8")]
    assert decoder.position == "8"


async def test_a_follower_that_is_cut_off_goes_on_behind_the_last_whole_event() -> None:
    asked: list[str | None] = []
    pieces = [
        b"id: 1\n\n",  # only a position
        b"id: 2\ndata: two\n\nid: 3\ndata: thr",  # half an event is no event
        b"id: 3\ndata: three\n\nid: 4\ndata: end\n\n",
    ]

    async def serve(request: web.Request) -> web.StreamResponse:
        asked.append(request.headers.get("Last-Event-ID"))
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(pieces[len(asked) - 1])
        return response

    assert await numbers(serve) == ["two", "three", "end"]
    assert asked == [None, "1", "2"]


async def test_a_refusal_ends_it_and_a_busy_market_does_not() -> None:
    answers = [503, 410]

    async def serve(_request: web.Request) -> web.Response:
        status = answers.pop(0)
        code = "cursor_expired" if status == 410 else "overloaded"
        body = {"error": code, "message": "no", "status": status}
        return web.json_response(body, status=status, headers={"Retry-After": "1"})

    with pytest.raises(ApiError, match="cursor_expired"):
        await numbers(serve)
    assert answers == []


async def numbers(serve) -> list[str]:  # type: ignore[no-untyped-def]
    app = web.Application()
    app.router.add_get("/stream", serve)

    async def token() -> str:
        return "token"

    async def no_pause(_seconds: float) -> None:
        await asyncio.sleep(0)

    async with TestServer(app, host="127.0.0.1") as server:
        base = str(server.make_url("")).rstrip("/")
        async with Transport(base, retry=RetryPolicy(attempts=1), sleep=no_pause) as transport:
            return [item async for item in follow(transport, NUMBERS, token, FollowState(), sleep=no_pause)]
