"""A checkpoint as it travels: what lies in /checkpoint, as one stream that either is whole or isn't one.

    magic line, then for each entry: length of its header (4 bytes, big-endian), header (JSON), a file's bytes; the last
    entry says `end` and how many came before it

Only folders, plain files and links there are; a link is text here, and nobody who unpacks follows one. Paths are those
that outputs may have. So nothing in it can lead out of a folder, be larger than it says, or be a device.
"""

import json
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Final

from marketplace.protocol.outputs import is_output_path

MAX_ENTRIES: Final = 100_000
"""Chosen: ten times the files that a job may leave."""
MAX_LINK_BYTES: Final = 4_096
_MAGIC: Final = b"reaver-checkpoint 1\n"
_LENGTH: Final = 4
_MAX_HEADER: Final = 16 << 10
_MODE: Final = 0o777
_MAX_OWNER: Final = (1 << 31) - 1
_NUMBERS: Final = ("mode", "owner", "group", "size")
OVERHEAD_BYTES: Final = 64 << 20
"""What headers may take beside the files; chosen."""


class MalformedCheckpoint(ValueError):
    """The stream is no whole checkpoint."""


class EntryKind(StrEnum):
    """What an entry is."""

    FOLDER = "folder"
    FILE = "file"
    LINK = "link"


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing in the folder. size: of a file. to: of a link. owner, group: numbers inside the container."""

    kind: EntryKind
    path: str
    mode: int = 0
    owner: int = 0
    group: int = 0
    size: int = 0
    to: str = ""


def opening() -> bytes:
    """What a checkpoint begins with."""
    return _MAGIC


def header(entry: Entry) -> bytes:
    """What stands before a file's bytes, or for a folder or link. Raises MalformedCheckpoint for what can't go."""
    _check(entry)
    return _framed({**asdict(entry), "kind": entry.kind.value})


def closing(entries: int) -> bytes:
    """What a checkpoint of so many entries ends with."""
    return _framed({"kind": "end", "entries": entries})


async def read_checkpoint(chunks: AsyncIterable[bytes]) -> AsyncIterator[Entry | bytes]:
    """Entries in order, each file's bytes after it in pieces. Raises MalformedCheckpoint, also where it breaks off."""
    stream = _Stream(chunks)
    if await stream.exactly(len(_MAGIC)) != _MAGIC:
        raise MalformedCheckpoint("this is no checkpoint")
    count = 0
    while True:
        length = int.from_bytes(await stream.exactly(_LENGTH), "big")
        if not 0 < length <= _MAX_HEADER:
            raise MalformedCheckpoint(f"a header of {length} bytes")
        fields = _fields(await stream.exactly(length))
        if fields.get("kind") == "end":
            if fields.get("entries") != count or not await stream.ended():
                raise MalformedCheckpoint("its end doesn't fit what came before it")
            return
        entry = _entry(fields)
        count += 1
        if count > MAX_ENTRIES:
            raise MalformedCheckpoint(f"it has more than {MAX_ENTRIES} entries")
        yield entry
        left = entry.size
        while left:
            piece = await stream.some(left)
            left -= len(piece)
            yield piece


class _Stream:
    """Bytes by the number, from pieces as they come."""

    def __init__(self, chunks: AsyncIterable[bytes]) -> None:
        self._chunks = aiter(chunks)
        self._held = b""

    async def some(self, most: int) -> bytes:
        """At least one byte, at most `most`."""
        if not self._held:
            self._held = await self._next()
        taken, self._held = self._held[:most], self._held[most:]
        return taken

    async def exactly(self, number: int) -> bytes:
        pieces, left = [], number
        while left:
            piece = await self.some(left)
            left -= len(piece)
            pieces.append(piece)
        return b"".join(pieces)

    async def ended(self) -> bool:
        if self._held:
            return False
        return not [piece async for piece in self._chunks if piece]

    async def _next(self) -> bytes:
        async for piece in self._chunks:
            if piece:
                return piece
        raise MalformedCheckpoint("it breaks off")


def _framed(fields: dict[str, object]) -> bytes:
    raw = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
    if len(raw) > _MAX_HEADER:
        raise MalformedCheckpoint("a path or link is too long")
    return len(raw).to_bytes(_LENGTH, "big") + raw


def _fields(raw: bytes) -> dict[str, object]:
    try:
        fields = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise MalformedCheckpoint("a header can't be read") from error
    if not isinstance(fields, dict):
        raise MalformedCheckpoint("a header is no object")
    return fields


def _entry(fields: dict[str, object]) -> Entry:
    try:
        kind = EntryKind(str(fields["kind"]))
        path, to = fields["path"], fields["to"]
        mode, owner, group, size = (fields[name] for name in _NUMBERS)
    except (KeyError, ValueError) as error:
        raise MalformedCheckpoint("a header is not whole") from error
    if not (isinstance(path, str) and isinstance(to, str)):
        raise MalformedCheckpoint("a header's path is no text")
    for number in (mode, owner, group, size):
        if not isinstance(number, int) or isinstance(number, bool):
            raise MalformedCheckpoint("a header's number is none")
    entry = Entry(kind, path, mode, owner, group, size, to)  # type: ignore[arg-type]  # looked at one by one above
    _check(entry)
    return entry


def _check(entry: Entry) -> None:
    if not is_output_path(entry.path):
        raise MalformedCheckpoint(f"{entry.path[:64]!r} is no path that may travel")
    fits = 0 <= entry.mode <= _MODE and 0 <= entry.owner <= _MAX_OWNER and 0 <= entry.group <= _MAX_OWNER
    sized = entry.size >= 0 if entry.kind is EntryKind.FILE else entry.size == 0
    linked = entry.kind is EntryKind.LINK
    try:
        target = entry.to.encode()
    except UnicodeEncodeError as error:
        raise MalformedCheckpoint("a link is no text") from error
    if not (fits and sized and linked == bool(target) and len(target) <= MAX_LINK_BYTES and b"\0" not in target):
        raise MalformedCheckpoint(f"{entry.path[:64]!r} has numbers that can't be")
