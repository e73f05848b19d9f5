"""What a storage service of a renter's may answer: it says what it likes, and only what can be kept and sent back is taken."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from marketplace.domain.destinations import Reach
from marketplace.objects.signing import BucketLogin
from marketplace.outgoing import Outgoing
from marketplace.services.bucket_client import BucketClient, BucketRefused


@pytest.fixture
async def answering() -> AsyncIterator[tuple[BucketClient, list[bytes]]]:
    answers: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n" + answers[0])
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    outgoing = Outgoing(Reach.LOOPBACK_TOO)
    yield BucketClient(outgoing, BucketLogin(endpoint, "r", "bucket", "a", "s")), answers
    await outgoing.close()
    server.close()


@pytest.mark.parametrize("upload_id", [b"\xff\xfe", b"a\0b", b"a\nb", b"", b"a" * 2049, "ü".encode()])
async def test_an_upload_s_id_is_text_or_none(answering: tuple[BucketClient, list[bytes]], upload_id: bytes) -> None:
    client, answers = answering
    answers.append(b"\r\n<UploadId>" + upload_id + b"</UploadId>")
    with pytest.raises(BucketRefused):
        await client.begin("key")
    answers[0] = b"\r\n<UploadId>a-b&amp;c~1</UploadId>"
    assert await client.begin("key") == "a-b&c~1"


async def test_a_part_s_tag_is_text_or_none(answering: tuple[BucketClient, list[bytes]]) -> None:
    client, answers = answering
    answers.append(b'ETag: "\xff\xfe"\r\n\r\n')
    with pytest.raises(BucketRefused):
        await client.put_part("key", "u", 1, b"x")
    answers[0] = b'ETag: "good"\r\n\r\n'
    assert await client.put_part("key", "u", 1, b"x") == '"good"'
