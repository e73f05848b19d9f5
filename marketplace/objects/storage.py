"""Objects by key: written whole or not at all, read by ranges, deleted once or twice with the same result.

What a write has answered for is there after a power cut, too: in a folder the file and every folder above it are on the
disk by then. A deletion may come undone by one; what no row names is removed again.
"""

import asyncio
import contextlib
import hashlib
import os
import re
import zlib
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, MemoryStore, ObjectStore, S3Store

from marketplace.errors import NotFound, ObjectsUnavailable, TooLarge

if TYPE_CHECKING:
    from obstore.store import ClientConfig, S3Config  # exist for type checkers only

CHUNK_BYTES: Final = 1 << 20
"""Size of what is read and written at once; chosen."""
_KEY: Final = re.compile(r"[A-Za-z0-9_-]+(?:/[A-Za-z0-9_.-]*[A-Za-z0-9_-])*")
_PROBE: Final = "probe/alive"


class ObjectMissing(NotFound):
    """The object is not there; caught by the service that knows whose it was."""


@dataclass(frozen=True, slots=True)
class Written:
    """What was written. sha256: hex digits. crc32: as archives carry it."""

    size: int
    sha256: str
    crc32: int


@dataclass(frozen=True, slots=True)
class Found:
    """One object of a listing. modified_at_ms: by the storage's own clock."""

    key: str
    size: int
    modified_at_ms: int


@dataclass(frozen=True, slots=True)
class S3Access:
    """A bucket, and who we are there. endpoint: URL of the service, empty for Amazon's own. prefix: of every key."""

    bucket: str
    prefix: str = ""
    endpoint: str = ""
    region: str = "us-east-1"
    access_key: str = ""
    secret_key: str = ""
    timeout_s: int = 30


class ObjectStorage:
    """One place of objects. Every method raises ObjectsUnavailable while it doesn't answer."""

    def __init__(self, store: ObjectStore, where: str, folder: Path | None = None) -> None:
        self._store = store
        self._folder = folder
        self.where = where

    @classmethod
    def in_folder(cls, folder: Path) -> "ObjectStorage":
        """Objects as files under a folder of this machine, made if it is not there."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return cls(LocalStore(folder, automatic_cleanup=True), str(folder), folder)

    @classmethod
    def in_memory(cls) -> "ObjectStorage":
        """Objects that end with the process: for tests of what stands above."""
        return cls(MemoryStore(), "memory")

    @classmethod
    def in_bucket(cls, access: S3Access) -> "ObjectStorage":
        """Objects in a bucket of S3's protocol."""
        options: ClientConfig = {"timeout": timedelta(seconds=access.timeout_s)}
        if access.endpoint.startswith("http://"):
            options["allow_http"] = True
        config: S3Config = {"region": access.region}
        if access.endpoint:
            config["endpoint"] = access.endpoint
            config["virtual_hosted_style_request"] = False
        if access.access_key:
            config["access_key_id"] = access.access_key
            config["secret_access_key"] = access.secret_key
        store = S3Store(
            access.bucket,
            prefix=access.prefix or None,
            config=config,
            client_options=options,
            retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=access.timeout_s)},
        )
        return cls(store, f"s3://{access.bucket}/{access.prefix}")

    async def check(self) -> None:
        """Returns when the storage answers."""
        with contextlib.suppress(ObjectMissing):
            await self.read_bytes(_PROBE)

    async def write(self, key: str, chunks: AsyncIterable[bytes], *, limit_bytes: int | None = None) -> Written:
        """Write an object whole, in place of an earlier one; after an error there is nothing new.

        What `chunks` raises is raised here. Raises TooLarge beyond limit_bytes.
        """
        _check(key)
        counted = _Counted(chunks, limit_bytes)
        try:
            await obstore.put_async(self._store, key, counted.pieces(), use_multipart=True, chunk_size=8 * CHUNK_BYTES)
            if self._folder is not None:
                await asyncio.to_thread(_sync, self._folder, key)
        except (BaseError, OSError) as error:
            if counted.failure is not None:
                raise counted.failure from error
            raise ObjectsUnavailable from error
        return Written(counted.size, counted.sha256.hexdigest(), counted.crc32)

    async def write_bytes(self, key: str, data: bytes) -> Written:
        """`write` of what is in memory."""
        return await self.write(key, _once(data))

    async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Bytes from `start` up to and without `end`, in pieces. Raises ObjectMissing."""
        _check(key)
        if end is not None and end <= start:
            return
        span: tuple[int, int] | Mapping[str, int] = (start, end) if end is not None else {"offset": start}
        options: Any = {} if (start, end) == (0, None) else {"range": span}
        try:
            found = await obstore.get_async(self._store, key, options=options)
            async for piece in found.stream(min_chunk_size=CHUNK_BYTES):
                yield bytes(piece)
        except FileNotFoundError as error:
            raise ObjectMissing from error
        except (BaseError, OSError) as error:
            raise ObjectsUnavailable from error

    async def read_bytes(self, key: str) -> bytes:
        """The whole object, in memory. Raises ObjectMissing."""
        return b"".join([piece async for piece in self.read(key)])

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; those that are not there are no error."""
        for key in keys:
            _check(key)
            try:
                await obstore.delete_async(self._store, key)
            except FileNotFoundError:
                continue
            except (BaseError, OSError) as error:
                raise ObjectsUnavailable from error

    async def list(self, prefix: str) -> AsyncIterator[Found]:
        """Every object whose key begins with the folder `prefix`."""
        try:
            async for page in obstore.list(self._store, prefix):
                for entry in page:
                    modified = int(entry["last_modified"].timestamp() * 1000)
                    yield Found(entry["path"], entry["size"], modified)
        except (BaseError, OSError) as error:
            raise ObjectsUnavailable from error


class _Counted:
    """Counts and digests what passes; remembers what stopped it, for drivers wrap what an iterator raises."""

    def __init__(self, chunks: AsyncIterable[bytes], limit_bytes: int | None) -> None:
        self._chunks = chunks
        self._limit = limit_bytes
        self.size = 0
        self.sha256 = hashlib.sha256()
        self.crc32 = 0
        self.failure: Exception | None = None

    async def pieces(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._chunks:
                self.size += len(chunk)
                if self._limit is not None and self.size > self._limit:
                    raise TooLarge(f"it is larger than {self._limit} bytes", extra={"limit_bytes": self._limit})  # noqa: TRY301 - one way out for all failures
                self.sha256.update(chunk)
                self.crc32 = zlib.crc32(chunk, self.crc32)
                if chunk:
                    yield chunk
        except Exception as error:
            self.failure = error
            raise


def _sync(top: Path, key: str) -> None:
    """Bring a file to the disk, then the folders that name it, from the inmost to `top`. Blocks. Raises OSError.

    The driver does neither: it renames a file whose bytes may be in memory only, into folders that may be as new.
    """
    path = top / key
    for place in (path, *path.parents[: len(path.parents) - len(top.parents)]):
        descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


async def _once(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), CHUNK_BYTES):
        yield data[start : start + CHUNK_BYTES]


def _check(key: str) -> None:
    """Keys are ours: a wrong one is a fault here, not of a caller."""
    if _KEY.fullmatch(key) is None or ".." in key:
        raise AssertionError(f"{key!r} is no key of an object")
