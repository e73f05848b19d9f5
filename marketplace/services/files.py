"""Files of an account: uploaded whole or by parts, kept 30 days, read by ranges. Source: api.md section 5.4.

Bytes first, then the row; the row's end first, then the bytes': a crash leaves bytes that nothing names, and the
cleaning finds those. Quotas are counted in the transaction that writes the row.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final
from weakref import WeakValueDictionary

import structlog

from marketplace.domain.allocations import job_of
from marketplace.domain.ids import AccountId, FileId, JobId, UploadId
from marketplace.errors import Conflict, DetailCode, Gone, InUse, Invalid, NotFound, QuotaExceeded, TooLarge
from marketplace.objects.storage import ObjectMissing, ObjectStorage
from marketplace.services.clock import Clock, Ids
from marketplace.services.live import Live
from marketplace.store.allocations import Allocations
from marketplace.store.engine import Store, Transaction
from marketplace.store.files import Files, Part, StoredFile, Upload, Uploads

_log = structlog.get_logger(__name__)

MAX_FILE_BYTES: Final = 5 << 30
QUOTA_BYTES: Final = 100 << 30
RETENTION_MS: Final = 30 * 24 * 3_600_000
UPLOAD_MS: Final = 24 * 3_600_000
MIN_PART_BYTES: Final = 8 << 20
MAX_PART_BYTES: Final = 64 << 20
"""Specified, all six: api.md section 5.4."""
QUOTA_FILES: Final = 10_000
"""Chosen: a list of files stays a list; a hundred gigabytes in pieces of ten megabytes."""
GONE_MS: Final = 30 * 24 * 3_600_000
"""Chosen: so long an expired file is answered as gone instead of unknown."""
ORPHAN_MS: Final = 24 * 3_600_000
"""Chosen: longer than any write takes; what no row names after it was left by a crash."""
_AT_ONCE: Final = 200
_USERS_SHOWN: Final = 10
_SWEEP_EVERY_MS: Final = 6 * 3_600_000


@dataclass(frozen=True, slots=True)
class NewFile:
    """What a caller says of the file that comes. sha256: hex digits, checked where given. size: announced, or None."""

    name: str
    content_type: str
    sha256: str | None = None
    size: int | None = None


class FileService:
    """Takes in, gives out, forgets."""

    def __init__(self, store: Store, storage: ObjectStorage, live: Live, clock: Clock, ids: Ids) -> None:
        self._store = store
        self._storage = storage
        self._live = live
        self._clock = clock
        self._ids = ids
        self._completing: WeakValueDictionary[UploadId, asyncio.Lock] = WeakValueDictionary()
        self._swept_ms: int | None = None

    async def create(self, account_id: AccountId, wanted: NewFile, chunks: AsyncIterable[bytes]) -> StoredFile:
        """Take in a whole file. Raises TooLarge, Invalid for another digest, QuotaExceeded."""
        if wanted.size is not None and wanted.size > MAX_FILE_BYTES:
            raise _too_large()
        await self._store.read(lambda tx: _require_room(tx, account_id, wanted.size or 0))
        file_id = FileId(self._ids.new("file"))
        key = _key(file_id)
        written = await self._storage.write(key, chunks, limit_bytes=MAX_FILE_BYTES)
        now = self._clock.now()
        file = StoredFile(
            id=file_id,
            account_id=account_id,
            name=wanted.name,
            size=written.size,
            sha256=written.sha256,
            content_type=wanted.content_type,
            created_at_ms=now,
            expires_at_ms=now + RETENTION_MS,
        )

        def write(tx: Transaction) -> None:
            _require_room(tx, account_id, file.size)
            Files(tx).create(file)

        try:
            _require_digest(wanted.sha256, written.sha256)
            await self._store.write(write)
        except (Invalid, QuotaExceeded):
            await self._storage.delete([key])
            raise
        return file

    async def get(self, account_id: AccountId, file_id: FileId) -> StoredFile:
        """Raises NotFound, for another account's file too; Gone past its time."""
        file = await self._store.lookup(lambda tx: Files(tx).find(file_id))
        if file is None or file.account_id != account_id:
            raise NotFound
        if not file.stored or (file.expires_at_ms <= self._clock.now() and not self._is_named(file)):
            raise Gone("the file was kept for 30 days")
        return file

    async def list_files(self, account_id: AccountId, *, limit: int, offset: int) -> tuple[list[StoredFile], int]:
        """A page, newest first, and how many there are."""
        return await self._store.read(lambda tx: Files(tx).page(account_id, limit=limit, offset=offset))

    def read(self, file: StoredFile, start: int, end: int) -> AsyncIterator[bytes]:
        """Bytes of a file, from `start` up to and without `end`."""
        return self._storage.read(_key(file.id), start, end)

    async def delete(self, account_id: AccountId, file_id: FileId) -> None:
        """Forget a file. Raises NotFound; InUse while a job that isn't over may still read it; Starting."""
        self._live.require_open()
        file = await self.get(account_id, file_id)

        def write(tx: Transaction) -> None:
            # In the transaction that deletes: a job's is either before it, and seen, or after it, and sees no file.
            users = _users(tx, file)
            if users:
                raise InUse("a job that is not over reads this file; it stays", extra={"used_by": users})
            Files(tx).delete(file.id)

        await self._store.write(write)
        await self._storage.delete([_key(file.id)])

    def require_kept(self, tx: Transaction, account_id: AccountId, file_id: FileId) -> None:
        """Raise NotFound where the file is not there any more: in the transaction of what is to name it."""
        file = Files(tx).find(file_id)
        if file is None or file.account_id != account_id or not file.stored:
            raise NotFound

    # by parts

    async def begin(self, account_id: AccountId, wanted: NewFile) -> Upload:
        """Announce a file that comes in parts. Raises TooLarge, QuotaExceeded."""
        size = wanted.size or 0
        if size > MAX_FILE_BYTES:
            raise _too_large()
        now = self._clock.now()
        upload = Upload(
            id=UploadId(self._ids.new("upl")),
            account_id=account_id,
            file_id=FileId(self._ids.new("file")),
            name=wanted.name,
            size=size,
            sha256=wanted.sha256,
            content_type=wanted.content_type,
            created_at_ms=now,
            expires_at_ms=now + UPLOAD_MS,
        )

        def write(tx: Transaction) -> None:
            _require_room(tx, account_id, size)
            Uploads(tx).create(upload)

        await self._store.write(write)
        return upload

    async def get_upload(self, account_id: AccountId, upload_id: UploadId) -> tuple[Upload, list[Part]]:
        """The upload, and the parts that are held. Raises NotFound; Gone once it is abandoned."""
        # Of one moment: one that is being completed is either done, or has its parts.
        upload, parts = await self._store.lookup(lambda tx: (Uploads(tx).find(upload_id), Uploads(tx).parts(upload_id)))
        if upload is None or upload.account_id != account_id:
            raise NotFound
        if upload.expires_at_ms <= self._clock.now():
            raise Gone("an upload may take 24 hours; begin it again")
        return upload, parts

    async def put_part(
        self, account_id: AccountId, upload_id: UploadId, number: int, chunks: AsyncIterable[bytes]
    ) -> Part:
        """Hold one part; sent again, it takes the place of what was held. Raises NotFound, Gone, Conflict, TooLarge."""
        upload, _ = await self.get_upload(account_id, upload_id)
        if upload.done:
            raise Conflict("this upload is complete", extra={"state": "complete"})
        key = f"uploads/{upload_id}/{number}-{self._ids.new('part')}"
        written = await self._storage.write(key, chunks, limit_bytes=MAX_PART_BYTES)
        part = Part(upload_id, number, written.size, written.sha256, key)

        def write(tx: Transaction) -> str | None:
            found = Uploads(tx).find(upload_id)
            if found is None or found.done:
                raise Conflict("this upload is over", extra={"state": "complete"})
            return Uploads(tx).put_part(part)

        try:
            before = await self._store.write(write)
        except Conflict:
            await self._storage.delete([key])
            raise
        if before is not None:
            await self._storage.delete([before])
        return part

    async def complete(self, account_id: AccountId, upload_id: UploadId) -> StoredFile:
        """Make the parts one file; the same file when asked again. Raises NotFound, Gone, Invalid."""
        lock = self._completing.get(upload_id) or asyncio.Lock()
        self._completing[upload_id] = lock
        async with lock:
            upload, parts = await self.get_upload(account_id, upload_id)
            if upload.done:
                return await self.get(account_id, upload.file_id)
            _require_whole(upload, parts)
            written = await self._storage.write(_key(upload.file_id), self._joined(parts), limit_bytes=MAX_FILE_BYTES)
            if upload.sha256 not in (None, written.sha256):
                await self._storage.delete([_key(upload.file_id)])
                _require_digest(upload.sha256, written.sha256)
            now = self._clock.now()
            file = StoredFile(
                id=upload.file_id,
                account_id=account_id,
                name=upload.name,
                size=written.size,
                sha256=written.sha256,
                content_type=upload.content_type,
                created_at_ms=now,
                expires_at_ms=now + RETENTION_MS,
            )

            def write(tx: Transaction) -> None:
                if Uploads(tx).find(upload_id) is None:
                    raise NotFound("the upload was abandoned meanwhile")
                if Uploads(tx).parts(upload_id) != parts:
                    raise Conflict("a part was replaced meanwhile; complete it again")
                # The announced size was counted since the beginning: no new room is taken.
                Files(tx).create(file)
                Uploads(tx).mark_done(upload_id)
                Uploads(tx).forget_parts(upload_id)

            try:
                await self._store.write(write)
            except (NotFound, Conflict):
                await self._storage.delete([_key(upload.file_id)])
                raise
            await self._storage.delete([part.object for part in parts])
            return file

    async def abandon(self, account_id: AccountId, upload_id: UploadId) -> None:
        """Forget an upload and the parts that are held. Raises NotFound, Gone."""
        upload, parts = await self.get_upload(account_id, upload_id)
        await self._forget(upload, parts)

    # cleaning

    async def clean(self) -> int:
        """Forget what is past its time; how many things. What a job that isn't over reads stays until it is."""
        now = self._clock.now()
        files = await self._store.read(lambda tx: Files(tx).list_expired(now, _AT_ONCE))
        forgotten = 0
        for file in files:
            if await self._store.write(lambda tx, file=file: _end_unused(tx, file)):  # type: ignore[misc]
                await self._storage.delete([_key(file.id)])
                forgotten += 1
        for upload in await self._store.read(lambda tx: Uploads(tx).list_expired(now, _AT_ONCE)):
            parts = await self._store.read(lambda tx, upload=upload: Uploads(tx).parts(upload.id))  # type: ignore[misc]
            await self._forget(upload, parts)
            forgotten += 1
        await self._store.write(lambda tx: Files(tx).forget_before(now - GONE_MS))
        if self._swept_ms is None or self._clock.monotonic_ms() - self._swept_ms >= _SWEEP_EVERY_MS:
            self._swept_ms = self._clock.monotonic_ms()
            forgotten += await self._sweep(now)
        return forgotten

    async def _sweep(self, now_ms: int) -> int:
        """Delete bytes that no row names, once they are old enough that none will."""
        swept = 0
        for prefix, named in (("files", self._names_file), ("uploads", self._names_part)):
            async for found in self._storage.list(prefix):
                if found.modified_at_ms < now_ms - ORPHAN_MS and not await self._store.read(named(found.key)):
                    _log.info("object without a row", action="files.sweep", key=found.key, size=found.size)
                    await self._storage.delete([found.key])
                    swept += 1
        return swept

    @staticmethod
    def _names_file(key: str) -> Callable[[Transaction], bool]:
        def named(tx: Transaction) -> bool:
            file = Files(tx).find(FileId(key.rpartition("/")[2]))
            return file is not None and file.stored

        return named

    @staticmethod
    def _names_part(key: str) -> Callable[[Transaction], bool]:
        upload_id = UploadId(key.split("/")[1])
        return lambda tx: any(part.object == key for part in Uploads(tx).parts(upload_id))

    async def _forget(self, upload: Upload, parts: list[Part]) -> None:
        await self._store.write(lambda tx: Uploads(tx).delete(upload.id))
        await self._storage.delete([part.object for part in parts])

    async def _joined(self, parts: list[Part]) -> AsyncIterator[bytes]:
        for part in parts:
            try:
                async for piece in self._storage.read(part.object):
                    yield piece
            except ObjectMissing as error:
                raise Conflict(f"part {part.number} was replaced meanwhile; complete it again") from error

    def _is_named(self, file: StoredFile) -> bool:
        """Whether a job that is not over names the file."""
        return any(a.account_id == file.account_id and file.id in a.spec for a in self._live)


def _users(tx: Transaction, file: StoredFile) -> list[JobId]:
    """Jobs that are not over and name the file; the first ten."""
    return [job_of(each) for each in Allocations(tx).list_naming(file.account_id, file.id, _USERS_SHOWN)]


def _end_unused(tx: Transaction, file: StoredFile) -> bool:
    """Its bytes are past their time, unless a job still reads them."""
    if _users(tx, file):
        return False
    Files(tx).mark_gone(file.id)
    return True


def _key(file_id: FileId) -> str:
    return f"files/{file_id}"


def _require_room(tx: Transaction, account_id: AccountId, size: int) -> None:
    usage = Files(tx).usage(account_id)
    if usage.size_bytes + size > QUOTA_BYTES:
        raise QuotaExceeded(
            f"an account's files take at most {QUOTA_BYTES >> 30} GiB together; delete some",
            extra={"quota": "file_bytes", "limit": QUOTA_BYTES, "used": usage.size_bytes},
            retry_after_s=60,
        )
    if usage.files >= QUOTA_FILES:
        raise QuotaExceeded(
            f"an account keeps at most {QUOTA_FILES} files; delete some",
            extra={"quota": "files", "limit": QUOTA_FILES},
            retry_after_s=60,
        )


def _require_digest(announced: str | None, found: str) -> None:
    if announced not in (None, found):
        raise Invalid.field("sha256", DetailCode.CONFLICT, f"what arrived has the digest {found}; nothing was kept")


def _require_whole(upload: Upload, parts: list[Part]) -> None:
    """The parts are 1, 2, …, each large enough, and together as large as announced."""
    numbers = [part.number for part in parts]
    if numbers != list(range(1, len(parts) + 1)):
        missing = next(n for n in range(1, len(parts) + 2) if n not in numbers)
        raise Invalid.field("parts", DetailCode.REQUIRED, f"part {missing} is missing")
    small = next((part for part in parts[:-1] if part.size < MIN_PART_BYTES), None)
    if small is not None:
        raise Invalid.field(
            "parts", DetailCode.OUT_OF_RANGE, f"part {small.number} has less than {MIN_PART_BYTES >> 20} MiB"
        )
    total = sum(part.size for part in parts)
    if total != upload.size:
        raise Invalid.field("parts", DetailCode.CONFLICT, f"{total} bytes are held, {upload.size} were announced")


def _too_large() -> TooLarge:
    return TooLarge(f"a file has at most {MAX_FILE_BYTES >> 30} GiB", extra={"limit_bytes": MAX_FILE_BYTES})
