"""Files at the market: sent whole or by parts, each with its digest, listed, fetched, deleted."""

import asyncio
import hashlib
from pathlib import Path
from typing import Final

from marketplace.client.account_models import FileList, StoredFile, Upload
from marketplace.client.calls import Calls, page, segment
from marketplace.client.errors import MalformedAnswer

WHOLE_BYTES: Final = 8 << 20
"""Up to here a file is sent at once: the least size of a part; api.md section 5.4."""
PART_BYTES: Final = 16 << 20
"""Chosen: a broken connection costs seconds, and 5 GiB are 320 parts."""
_CHUNK_BYTES: Final = 1 << 20


class FileCalls:
    """Files of one account."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def upload(self, file: Path, *, name: str | None = None) -> StoredFile:
        """Send a file; its digest is taken here and checked by the market. Raises OSError, ApiError."""
        size, sha256 = await asyncio.to_thread(_measure, file)
        shown = name or file.name
        if size <= WHOLE_BYTES:
            params = {"name": shown, "sha256": sha256}
            reply = await self._calls.send_bytes(
                "POST", "/v1/files", await asyncio.to_thread(file.read_bytes), params=params
            )
            return _same(reply.read(StoredFile), sha256)
        body = {"name": shown, "size": size, "sha256": sha256}
        begun = (await self._calls.send("POST", "/v1/files/uploads", body)).read(Upload)
        at = f"/v1/files/uploads/{segment(begun.upload_id)}"
        with file.open("rb") as stream:
            number = 1
            while part := await asyncio.to_thread(stream.read, PART_BYTES):
                await self._calls.send_bytes("PUT", f"{at}/parts/{number}", part)
                number += 1
        return _same((await self._calls.send("POST", f"{at}/complete", None)).read(StoredFile), sha256)

    async def ensure(self, file: Path) -> StoredFile:
        """The file at the market: one of the newest 100 of this name and these bytes, else sent now.

        So a command that was interrupted and is given again names the same file, and is the same command.
        """
        _, sha256 = await asyncio.to_thread(_measure, file)
        for known in (await self.list_files(limit=100)).files:
            if (known.name, known.sha256) == (file.name, sha256):
                return known
        return await self.upload(file)

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
        partial = to.with_name(f".{to.name}.part")
        try:
            with partial.open("wb") as stream:
                async for chunk in self._calls.read_bytes(f"/v1/files/{segment(file_id)}/content"):
                    digest.update(chunk)
                    stream.write(chunk)
            if digest.hexdigest() != file.sha256:
                raise MalformedAnswer(f"the bytes of {file_id} are not those that were stored; nothing was written")
            partial.replace(to)
        finally:
            partial.unlink(missing_ok=True)
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


def _same(file: StoredFile, sha256: str) -> StoredFile:
    if file.sha256 != sha256:
        raise MalformedAnswer("the market stored other bytes than were sent; did the file change meanwhile?")
    return file
