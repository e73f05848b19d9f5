"""Answers that are bytes: whole or one range of them, with the digests that let a reader check what it has.

RFC 9110 (Range, If-Range, If-Match, If-None-Match) and RFC 9530 (Repr-Digest). Several ranges are answered with the
whole, as the standard allows.
"""

import base64
import re
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

from aiohttp import web

from marketplace.api.routes import Call
from marketplace.errors import PreconditionFailed, RangeNotSatisfiable

_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


@dataclass(frozen=True, slots=True)
class Download:
    """What is to be sent. sha256: hex digits of the whole. read: bytes from a start up to and without an end."""

    name: str
    content_type: str
    size: int
    sha256: str
    read: Callable[[int, int], AsyncIterator[bytes]]


async def serve_download(call: Call, download: Download, *, whole: bool = False) -> web.StreamResponse:
    """The bytes, or as many of them as were asked for. whole: never a part.

    Raises PreconditionFailed, RangeNotSatisfiable.
    """
    etag = f'"{download.sha256}"'
    digest = base64.b64encode(bytes.fromhex(download.sha256)).decode()
    headers = {
        "ETag": etag,
        "Repr-Digest": f"sha-256=:{digest}:",
        "Accept-Ranges": "none" if whole else "bytes",
        "Content-Type": download.content_type,
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(download.name, safe='')}",
        "Cache-Control": "private, no-cache",
    }
    asked = call.http.headers
    # In this order: RFC 9110, section 13.2.2. A weak tag never equals ours here, and does for If-None-Match.
    if "If-Match" in asked and not _names(asked.getall("If-Match"), etag):
        raise PreconditionFailed(extra={"etag": etag})
    weakly = [text.replace('W/"', '"') for text in asked.getall("If-None-Match", [])]
    if _names(weakly, etag):
        return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
    start, end, status = 0, download.size, HTTPStatus.OK
    wanted = asked.get("Range") if not whole and asked.get("If-Range", etag) == etag else None
    if wanted is not None and (span := _span(wanted, download.size)) is not None:
        start, end = span
        status = HTTPStatus.PARTIAL_CONTENT
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{download.size}"
    response = web.StreamResponse(status=status, headers=headers)
    response.content_length = end - start
    if call.head:
        await response.prepare(call.http)
        return response
    pieces = download.read(start, end)
    # The first piece decides: what can't be read is still answered as an error.
    first = await anext(pieces, b"")
    await response.prepare(call.http)
    if first:
        await response.write(first)
    async for piece in pieces:
        await response.write(piece)
    await response.write_eof()
    return response


def _names(given: Sequence[str], etag: str) -> bool:
    """Whether a header of entity tags, which may stand there several times, holds this one, or `*` for any."""
    tags = [tag.strip() for text in given for tag in text.split(",")]
    return etag in tags or tags == ["*"]


def _span(text: str, size: int) -> tuple[int, int] | None:
    """Start and end of a single range; None for what is answered with the whole. Raises RangeNotSatisfiable."""
    match = _RANGE.fullmatch(text.strip())
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        start, end = max(0, size - int(last)), size
        outside = not int(last) or not size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < start:
            return None
        outside = start >= size
    if outside:
        raise RangeNotSatisfiable(f"there are {size} bytes", extra={"size": size})
    return start, end
