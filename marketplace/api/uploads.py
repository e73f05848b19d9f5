"""Request bodies that are read in pieces, never whole: raw ones, and the one file of a multipart form."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from aiohttp import BodyPartReader, MultipartReader, web
from aiohttp.http import HttpProcessingError

from marketplace.errors import DetailCode, Invalid, Malformed

CHUNK_BYTES: Final = 256 << 10
SILENCE_S: Final = 60.0
"""Chosen: a body of which nothing arrives for so long is given up."""
OCTETS: Final = "application/octet-stream"
_MEDIA_TYPE: Final = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,64}/[A-Za-z0-9!#$&^_.+-]{1,64}")
_MAX_FIELD_BYTES: Final = 1024


@dataclass(frozen=True, slots=True)
class FormFile:
    """The file of a form, and the plain fields that came before it."""

    name: str | None
    content_type: str
    fields: dict[str, str]
    chunks: AsyncIterator[bytes]


async def body_chunks(request: web.Request) -> AsyncIterator[bytes]:
    """The body in pieces. Raises Malformed when it breaks off or nothing more arrives."""
    while True:
        try:
            async with asyncio.timeout(SILENCE_S):
                piece = await request.content.read(CHUNK_BYTES)
        except TimeoutError as error:
            raise Malformed("the body did not arrive in time") from error
        except (web.RequestPayloadError, ConnectionError, ValueError) as error:
            raise Malformed("the body broke off") from error
        if not piece:
            return
        yield piece


async def form_file(request: web.Request) -> FormFile:
    """The part named `file` of a multipart form; fields that are to count come before it. Raises Malformed, Invalid."""
    fields: dict[str, str] = {}
    try:
        form = await request.multipart()
        while (part := await _next(form)) is not None:
            if part.name == "file":
                return FormFile(
                    part.filename, media_type(part.headers.get("Content-Type", "")), fields, _pieces(form, part)
                )
            raw = await part.read_chunk(_MAX_FIELD_BYTES)
            if not part.at_eof() and await part.read_chunk(1):
                raise Invalid.field(part.name or "form", DetailCode.OUT_OF_RANGE, "is too long")
            fields[part.name or ""] = raw.decode(errors="replace")
    except (ValueError, web.RequestPayloadError, AssertionError, HttpProcessingError) as error:
        raise Malformed("the form could not be read") from error
    raise Invalid.field("file", DetailCode.REQUIRED, "is required: the form has no part of this name")


def media_type(text: str) -> str:
    """A well-formed media type without parameters, else that of plain bytes."""
    bare = text.partition(";")[0].strip()
    return bare.lower() if _MEDIA_TYPE.fullmatch(bare) else OCTETS


async def _next(form: MultipartReader) -> BodyPartReader | None:
    part = await form.next()
    if part is None or isinstance(part, BodyPartReader):
        return part
    raise Malformed("the form holds a form")


async def _pieces(form: MultipartReader, part: BodyPartReader) -> AsyncIterator[bytes]:
    """The file's bytes. Raises Invalid at their end where more follows: nobody would check a digest that comes then."""
    while True:
        try:
            async with asyncio.timeout(SILENCE_S):
                piece = await part.read_chunk(CHUNK_BYTES)
        except TimeoutError as error:
            raise Malformed("the body did not arrive in time") from error
        except (web.RequestPayloadError, ConnectionError, ValueError, AssertionError, HttpProcessingError) as error:
            raise Malformed("the body broke off") from error
        if piece:
            yield bytes(piece)
        elif part.at_eof():
            break
    try:
        async with asyncio.timeout(SILENCE_S):
            after = await _next(form)
    except TimeoutError as error:
        raise Malformed("the body did not arrive in time") from error
    except (web.RequestPayloadError, ConnectionError, ValueError, AssertionError, HttpProcessingError) as error:
        raise Malformed("the body broke off") from error
    if after is not None:
        name = (after.name or "")[:64] or "form"
        said = "comes twice; send one file a request" if name == "file" else "comes after the file; send it before"
        raise Invalid.field(name, DetailCode.NOT_ALLOWED, f"{said}; nothing was kept")
