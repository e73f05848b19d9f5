"""Rows of files, and of uploads by parts."""

from dataclasses import dataclass

from sqlalchemy import insert, select

from marketplace.domain.ids import AccountId, FileId, UploadId
from marketplace.store.engine import Transaction
from marketplace.store.records import from_row, to_values
from marketplace.store.tables.files import FileRow, UploadPartRow, UploadRow

_FILES = FileRow.metadata.tables["files"]
_UPLOADS = UploadRow.metadata.tables["uploads"]
_PARTS = UploadPartRow.metadata.tables["upload_parts"]


@dataclass(frozen=True, slots=True)
class StoredFile:
    """An uploaded file. sha256: hex digits. stored: False once its bytes are past their time."""

    id: FileId
    account_id: AccountId
    name: str
    size: int
    sha256: str
    content_type: str
    created_at_ms: int
    expires_at_ms: int
    stored: bool = True


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload by parts, of `size` bytes in all."""

    id: UploadId
    account_id: AccountId
    file_id: FileId
    name: str
    size: int
    sha256: str | None
    content_type: str
    created_at_ms: int
    expires_at_ms: int
    done: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """A part that is held. object: where its bytes are."""

    upload_id: UploadId
    number: int
    size: int
    sha256: str
    object: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What an account keeps: stored files, and the announced sizes of unfinished uploads."""

    files: int
    size_bytes: int


class Files:
    """Create, find, list, forget."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def create(self, file: StoredFile) -> None:
        """Raises UniqueViolation when the id is taken."""
        self._tx.execute(insert(_FILES), to_values(file))

    def find(self, file_id: FileId) -> StoredFile | None:
        row = self._tx.execute(select(_FILES).where(_FILES.c.id == file_id)).mappings().first()
        return None if row is None else from_row(StoredFile, row)

    def page(self, account_id: AccountId, *, limit: int, offset: int) -> tuple[list[StoredFile], int]:
        """Files that are kept, newest first; and how many in all."""
        mine = (_FILES.c.account_id == account_id, _FILES.c.stored.is_(True))
        order = (_FILES.c.created_at_ms.desc(), _FILES.c.id.desc())
        rows = self._tx.execute(select(_FILES).where(*mine).order_by(*order).limit(limit).offset(offset)).mappings()
        total = self._tx.row(
            "SELECT count(*) FROM files WHERE account_id = :account AND stored", {"account": account_id}
        )
        return [from_row(StoredFile, row) for row in rows], int(total[0]) if total else 0

    def usage(self, account_id: AccountId) -> Usage:
        """What counts against the account's quota."""
        account = {"account": account_id}
        kept = self._tx.row(
            "SELECT count(*), COALESCE(sum(size), 0) FROM files WHERE account_id = :account AND stored", account
        )
        coming = self._tx.row(
            "SELECT count(*), COALESCE(sum(size), 0) FROM uploads WHERE account_id = :account AND NOT done", account
        )
        (files, size), (uploads, announced) = kept or (0, 0), coming or (0, 0)
        return Usage(int(files) + int(uploads), int(size) + int(announced))

    def list_expired(self, now_ms: int, limit: int) -> list[StoredFile]:
        """Files past their time whose bytes are still kept."""
        past = (_FILES.c.expires_at_ms <= now_ms, _FILES.c.stored.is_(True))
        rows = self._tx.execute(select(_FILES).where(*past).order_by(_FILES.c.expires_at_ms).limit(limit)).mappings()
        return [from_row(StoredFile, row) for row in rows]

    def mark_gone(self, file_id: FileId) -> None:
        """Its bytes are past their time; the row goes on saying so."""
        self._tx.execute(_FILES.update().where(_FILES.c.id == file_id).values(stored=False))

    def delete(self, file_id: FileId) -> None:
        self._tx.change("DELETE FROM files WHERE id = :id", {"id": file_id})

    def forget_before(self, at_ms: int) -> int:
        """Delete the rows of files that expired before `at_ms` and are not kept any more; how many."""
        return self._tx.change("DELETE FROM files WHERE expires_at_ms < :at AND NOT stored", {"at": at_ms})


class Uploads:
    """Create, find, parts, forget."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def create(self, upload: Upload) -> None:
        """Raises UniqueViolation when the id is taken."""
        self._tx.execute(insert(_UPLOADS), to_values(upload))

    def find(self, upload_id: UploadId) -> Upload | None:
        row = self._tx.execute(select(_UPLOADS).where(_UPLOADS.c.id == upload_id)).mappings().first()
        return None if row is None else from_row(Upload, row)

    def mark_done(self, upload_id: UploadId) -> None:
        """The file is there: the upload counts no more."""
        self._tx.execute(_UPLOADS.update().where(_UPLOADS.c.id == upload_id).values(done=True))

    def parts(self, upload_id: UploadId) -> list[Part]:
        """Parts that are held, in order."""
        held = select(_PARTS).where(_PARTS.c.upload_id == upload_id).order_by(_PARTS.c.number)
        return [from_row(Part, row) for row in self._tx.execute(held).mappings()]

    def put_part(self, part: Part) -> str | None:
        """Write a part in place of an earlier one; that one's object, which is now nobody's."""
        name = {"upload": part.upload_id, "number": part.number}
        before = self._tx.row("SELECT object FROM upload_parts WHERE upload_id = :upload AND number = :number", name)
        self._tx.change("DELETE FROM upload_parts WHERE upload_id = :upload AND number = :number", name)
        self._tx.execute(insert(_PARTS), to_values(part))
        return None if before is None else str(before[0])

    def forget_parts(self, upload_id: UploadId) -> None:
        self._tx.change("DELETE FROM upload_parts WHERE upload_id = :upload", {"upload": upload_id})

    def list_expired(self, now_ms: int, limit: int) -> list[Upload]:
        """Uploads past their time, finished or abandoned."""
        past = select(_UPLOADS).where(_UPLOADS.c.expires_at_ms <= now_ms).order_by(_UPLOADS.c.expires_at_ms)
        return [from_row(Upload, row) for row in self._tx.execute(past.limit(limit)).mappings()]

    def delete(self, upload_id: UploadId) -> None:
        self.forget_parts(upload_id)
        self._tx.change("DELETE FROM uploads WHERE id = :id", {"id": upload_id})
