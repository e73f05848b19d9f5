"""Objects into a renter's bucket: signed here, sent through the guard, whole or in parts; nothing is ever read.

Every request is judged by its status: what another try may mend is BucketSilent, the rest BucketRefused. A redirect is
an answer like any other and is not followed, whatever address it names.
"""

import html
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from http import HTTPStatus
from typing import Final
from xml.sax.saxutils import escape

import aiohttp

from marketplace.objects.signing import BucketLogin, signed_request
from marketplace.outgoing import DestinationRefused, Outgoing

PART_BYTES: Final = 8 << 20
"""Chosen: above S3's least part of 5 MiB; 10,000 of them, the most, are four times what a job may leave."""
_ANSWER_BYTES: Final = 64 << 10
_TOTAL_S: Final = 120.0
"""Of one request; chosen: a part at 70 kB/s."""
_SILENCE_S: Final = 60.0
_PIECE_BYTES: Final = 256 << 10
_BUSY: Final = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)
_CODE: Final = re.compile(rb"<Code>([A-Za-z0-9.]{1,64})</Code>")
_UPLOAD: Final = re.compile(rb"<UploadId>([\x21-\x3b\x3d-\x7e]{1,2048})</UploadId>")
_TAG: Final = re.compile(r"[\x20-\x7e]{1,1024}")
"""Both are kept and sent back as they came, so only what can be: a service says what it likes."""
_PASSING: Final = frozenset({"InternalError", "SlowDown", "ServiceUnavailable", "RequestTimeout", "OperationAborted"})


class BucketRefused(Exception):
    """The service doesn't take it and won't: what another try can't mend. The text is for the renter."""


class BucketSilent(Exception):
    """The service doesn't answer, or is in trouble: another try may do. The text is for the renter."""


class UploadGone(Exception):
    """An upload in parts is not known any more: the file is to be begun anew."""


class BucketClient:
    """One bucket."""

    def __init__(self, outgoing: Outgoing, login: BucketLogin) -> None:
        self._outgoing = outgoing
        self._login = login

    async def put(self, key: str, data: bytes, content_type: str | None = None) -> None:
        """Write an object whole. Raises BucketRefused, BucketSilent."""
        await self._send("PUT", key, body=data, content_type=content_type)

    async def begin(self, key: str) -> str:
        """Begin an upload in parts; its id. Raises BucketRefused, BucketSilent."""
        _, answer = await self._send("POST", key, query={"uploads": ""})
        found = _UPLOAD.search(answer)
        if found is None:
            raise BucketRefused("the service began no upload in parts")
        return html.unescape(found[1].decode("ascii"))

    async def put_part(self, key: str, upload_id: str, number: int, data: bytes) -> str:
        """Send one part, from 1; its tag. Raises BucketRefused, BucketSilent, UploadGone."""
        query = {"partNumber": str(number), "uploadId": upload_id}
        headers, _ = await self._send("PUT", key, query=query, body=data)
        tag = headers.get("ETag")
        if not tag or not _TAG.fullmatch(tag):
            raise BucketRefused("the service took a part and named no tag for it")
        return tag

    async def finish(self, key: str, upload_id: str, tags: Sequence[str]) -> None:
        """Make the object of its parts. Raises BucketRefused, BucketSilent, UploadGone."""
        parts = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(tag)}</ETag></Part>"
            for number, tag in enumerate(tags, 1)
        )
        body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
        await self._send("POST", key, query={"uploadId": upload_id}, body=body, content_type="application/xml")

    async def abort(self, key: str, upload_id: str) -> None:
        """Let go of what was sent of an upload. Raises BucketRefused, BucketSilent, UploadGone."""
        await self._send("DELETE", key, query={"uploadId": upload_id})

    async def _send(
        self,
        method: str,
        key: str,
        *,
        query: dict[str, str] | None = None,
        body: bytes = b"",
        content_type: str | None = None,
    ) -> tuple[Mapping[str, str], bytes]:
        """The answer's headers and what was read of its body."""
        request = signed_request(self._login, method, key, query=query, body=body, content_type=content_type)
        headers = request.headers | {"Content-Length": str(len(body))}
        try:
            async with self._outgoing.request(
                method, request.url, headers=headers, data=_sent(body), total_s=_TOTAL_S, silence_s=_SILENCE_S
            ) as response:
                answer = await _read(response)
                _judge(response.status, answer)
                return response.headers, answer
        except DestinationRefused as refused:
            raise BucketRefused(f"the endpoint: {refused}") from refused
        except PermissionError as refused:
            raise BucketRefused("the endpoint: this address is not of the public internet") from refused
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, PermissionError):
                raise BucketRefused("the endpoint: this address is not of the public internet") from error
            raise BucketSilent(_troubles(error)) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise BucketSilent(_troubles(error)) from error


async def _sent(body: bytes) -> AsyncIterator[bytes]:
    """In pieces, so that a part doesn't hold up the loop."""
    for start in range(0, len(body), _PIECE_BYTES):
        yield body[start : start + _PIECE_BYTES]


def _judge(status: int, answer: bytes) -> None:
    """Raise what an answer means, unless it is a success."""
    found = _CODE.search(answer) if b"<Error>" in answer or status >= HTTPStatus.MULTIPLE_CHOICES else None
    code = None if found is None else found[1].decode()
    if status < HTTPStatus.MULTIPLE_CHOICES:
        if code is None:
            return
        # A completed upload answers 200 before it is known whether it can be: the error is in the body then.
        if code in _PASSING:
            raise BucketSilent(f"the service answered {code}")
        raise BucketRefused(f"the service answered {code}")
    if code == "NoSuchUpload":
        raise UploadGone
    said = f"the service answered {status}" + ("" if code is None else f" {code}")
    if status < HTTPStatus.BAD_REQUEST:
        raise BucketRefused(f"{said}; redirects are not followed, name the endpoint of the bucket's own region")
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _BUSY or code in _PASSING:
        raise BucketSilent(said)
    raise BucketRefused(said)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    pieces, size = [], 0
    async for piece in _pieces(response):
        pieces.append(piece)
        size += len(piece)
        if size >= _ANSWER_BYTES:
            break
    return b"".join(pieces)[:_ANSWER_BYTES]


def _pieces(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    return response.content.iter_chunked(_ANSWER_BYTES)


def _troubles(error: BaseException) -> str:
    """Its own text may name addresses that a name server answered with: only the kind is told."""
    if isinstance(error, TimeoutError):
        return "the service does not answer in time"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "the service's name is unknown"
    if isinstance(error, aiohttp.ClientSSLError):
        return "the service's certificate is not believed"
    return "the service does not answer"
