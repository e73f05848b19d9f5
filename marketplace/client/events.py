"""Server-sent events, read incrementally. Format: WHATWG HTML, "Server-sent events", parsing an event stream."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

MAX_EVENT_BYTES: Final = 1 << 20
"""Chosen: a log line has at most 16 KiB (api.md section 5.3); what exceeds this by far is not a market."""


class OversizeEvent(ValueError):
    """An event larger than any the API sends."""


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event: its type, its data, and the id after which a stream can be resumed."""

    type: str
    data: str
    id: str | None


class EventDecoder:
    """Feeds on chunks of bytes as they come, gives whole events."""

    def __init__(self) -> None:
        self._buffer = b""
        self._type = ""
        self._data: list[str] = []
        self._id: str | None = None
        self._size = 0
        self.position: str | None = None
        """Where to resume: the last id of a whole block, also of one that is no event and tells only this."""

    def feed(self, chunk: bytes) -> Iterator[ServerEvent]:
        """Events completed by this chunk. Raises OversizeEvent."""
        self._buffer += chunk
        while True:
            line, separator, rest = self._buffer.partition(b"\n")
            if not separator:
                if len(self._buffer) > MAX_EVENT_BYTES:
                    raise OversizeEvent
                return
            self._buffer = rest
            event = self._line(line.removesuffix(b"\r").decode("utf-8", "replace"))
            if event is not None:
                yield event

    def _line(self, line: str) -> ServerEvent | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._size += len(value)
            if self._size > MAX_EVENT_BYTES:
                raise OversizeEvent
            self._data.append(value)
        elif name == "event":
            self._type = value
        elif name == "id" and "\0" not in value:
            self._id = value
        return None

    def _dispatch(self) -> ServerEvent | None:
        data, kind = self._data, self._type
        self._data, self._type, self._size = [], "", 0
        self.position = self._id
        if not data:
            return None
        return ServerEvent(kind or "message", "\n".join(data), self._id)
