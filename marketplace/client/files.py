"""Files at the market: sent whole or by parts, each with its digest, listed, fetched, deleted.

An upload by parts is an intent like a spending call: given again after an interruption, it has the same key, the market
answers with the same upload, and only parts that it doesn't hold are sent.
"""

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

from marketplace.client.account_models import FileList, StoredFile, Upload
from marketplace.client.arriving import arriving
from marketplace.client.calls import Calls, page, segment
from marketplace.client.errors import ApiError, MalformedAnswer, Unreachable
from marketplace.client.payments import Payments, is_final

WHOLE_BYTES: Final = 8 << 20
"""Up to here a file is sent at once: the least size of a part; api.md section 5.4."""
PART_BYTES: Final = 16 << 20
"""Chosen: a broken connection costs seconds, and 5 GiB are 320 parts."""
_CHUNK_BYTES: Final = 1 << 20
_UPLOADS: Final = "/v1/files/uploads"
_TRIES: Final = 4
_AGAIN_S: Final = 1.0
"""Chosen: a market that starts anew is there again within seconds."""
_BUSY: Final = (429, 502, 503, 504)
_GONE: Final = ("gone", "not_found")

Told = Callable[[int, int], None]
"""Called with the bytes that the market has, and with all of them."""


def _untold(_done: int, _size: int) -> None:
    return


class FileCalls:
    """Files of one account."""

    def __init__(self, calls: Calls, payments: Payments) -> None:
        self._calls = calls
        self._payments = payments

    async def upload(self, file: Path, *, name: str | None = None, told: Told = _untold) -> StoredFile:
        """Send a file; its digest is taken here and checked by the market.

        Given again within a day after an interruption, it sends only the parts that the market lacks.
        told: how far it is. Raises OSError, ApiError, Unreachable.
        """
        size, sha256 = await asyncio.to_thread(_measure, file)
        shown = name or file.name
        if size <= WHOLE_BYTES:
            params = {"name": shown, "sha256": sha256}
            reply = await self._calls.send_bytes(
                "POST", "/v1/files", await asyncio.to_thread(file.read_bytes), params=params
            )
            return _same(reply.read(StoredFile), sha256)
        body = {"name": shown, "size": size, "sha256": sha256}
        while True:
            with self._payments.open_intent(f"POST {_UPLOADS}", body) as intent:
                try:
                    sent = await self._by_parts(file, body, intent.key, told)
                except ApiError as error:
                    if is_final(error) or error.code in _GONE:
                        intent.answered()
                    if not (intent.resumed and error.code in _GONE):
                        raise
                    # What an earlier run began is past its day: begin anew.
                else:
                    intent.answered()
                    return _same(sent, sha256)

    async def uploaded(self, upload_id: str) -> Upload:
        """An upload by parts, and which of them the market holds."""
        return (await self._calls.get(f"{_UPLOADS}/{segment(upload_id)}")).read(Upload)

    async def abandon(self, upload_id: str) -> None:
        """Forget an upload by parts, and the room that it takes."""
        await self._calls.send("DELETE", f"{_UPLOADS}/{segment(upload_id)}", None)

    async def _by_parts(self, file: Path, body: dict[str, object], key: str, told: Told) -> StoredFile:
        """Begin the upload or take it up, send what is missing, and make it a file."""
        begun = (await self._calls.send("POST", _UPLOADS, body, key=key)).read(Upload)
        at = f"{_UPLOADS}/{segment(begun.upload_id)}"
        # Not what the first answer said: that is repeated as it was given.
        now = await self.uploaded(begun.upload_id)
        if now.file_id is not None:
            return await self._complete(at)
        held = {part.number: part for part in now.parts}
        done = 0
        with file.open("rb") as stream:
            number = 1
            while part := await asyncio.to_thread(stream.read, PART_BYTES):
                have = held.get(number)
                if have is None or have.sha256 != await asyncio.to_thread(_digest, part):
                    await self._put(f"{at}/parts/{number}", part)
                done, number = done + len(part), number + 1
                told(done, begun.size)
        return await self._complete(at)

    async def _complete(self, at: str) -> StoredFile:
        return (await self._calls.send("POST", f"{at}/complete", None)).read(StoredFile)

    async def _put(self, path: str, part: bytes) -> None:
        """One part; what broke off is sent again, for the same number holds one part."""
        for left in reversed(range(_TRIES)):
            try:
                await self._calls.send_bytes("PUT", path, part)
            except Unreachable:
                if left == 0:
                    raise
                await self._calls.sleep(_AGAIN_S * 2 ** (_TRIES - 1 - left))
            except ApiError as error:
                if left == 0 or error.status not in _BUSY:
                    raise
                await self._calls.sleep(error.retry_after_s or _AGAIN_S)
            else:
                return

    async def ensure(self, file: Path, *, told: Told = _untold) -> StoredFile:
        """The file at the market: one of the newest 100 of this name and these bytes, else sent now.

        So a command that was interrupted and is given again names the same file, and is the same command.
        """
        _, sha256 = await asyncio.to_thread(_measure, file)
        for known in (await self.list_files(limit=100)).files:
            if (known.name, known.sha256) == (file.name, sha256):
                return known
        return await self.upload(file, told=told)

    async def list_files(self, *, limit: int | None = None, offset: int | None = None) -> FileList:
        """Own files, newest first."""
        return (await self._calls.get("/v1/files", page(limit, offset))).read(FileList)

    async def get(self, file_id: str) -> StoredFile:
        """One file."""
        return (await self._calls.get(f"/v1/files/{segment(file_id)}")).read(StoredFile)

    async def download(self, file_id: str, to: Path) -> StoredFile:
        """Fetch a file's bytes; `to` appears only when they are whole and have the digest that the market names.

        Raises MalformedAnswer for other bytes, OSError.
        """
        file = await self.get(file_id)
        digest = hashlib.sha256()
        with arriving(to) as stream:
            async for chunk in self._calls.read_bytes(f"/v1/files/{segment(file_id)}/content"):
                digest.update(chunk)
                stream.write(chunk)
            if digest.hexdigest() != file.sha256:
                raise MalformedAnswer(f"the bytes of {file_id} are not those that were stored; nothing was written")
        return file

    async def delete(self, file_id: str) -> None:
        """Delete a file; refused while a job that is not over reads it."""
        await self._calls.send("DELETE", f"/v1/files/{segment(file_id)}", None)


def _measure(file: Path) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return size, digest.hexdigest()


def _digest(part: bytes) -> str:
    return hashlib.sha256(part).hexdigest()


def _same(file: StoredFile, sha256: str) -> StoredFile:
    if file.sha256 != sha256:
        raise MalformedAnswer("the market stored other bytes than were sent; did the file change meanwhile?")
    return file
