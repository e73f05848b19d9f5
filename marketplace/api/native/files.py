"""`/v1/files`: upload whole or by parts, list, read, delete. Source: api.md section 5.4."""

from collections.abc import AsyncIterator
from pathlib import PurePosixPath
from typing import Annotated, Any, Final

from aiohttp import web
from pydantic import AfterValidator, Field, StringConstraints, TypeAdapter, ValidationError

from marketplace.api.downloads import Download, serve_download
from marketplace.api.fields import (
    FileIdPath,
    MillisInstant,
    Page,
    QueryModel,
    RequestModel,
    ResponseModel,
    UploadIdPath,
    field_error,
)
from marketplace.api.problems import invalid
from marketplace.api.routes import Call, Reply, Route, reading, scope
from marketplace.api.uploads import OCTETS, body_chunks, form_file, media_type
from marketplace.domain.ids import FileId, UploadId
from marketplace.domain.quantities import Millis
from marketplace.errors import (
    Conflict,
    DetailCode,
    Gone,
    InUse,
    Invalid,
    NotFound,
    ObjectsUnavailable,
    PreconditionFailed,
    QuotaExceeded,
    RangeNotSatisfiable,
    TooLarge,
)
from marketplace.services.files import MAX_FILE_BYTES, MAX_PART_BYTES, MIN_PART_BYTES, FileService, NewFile
from marketplace.services.principals import Scope
from marketplace.store.files import Part, StoredFile, Upload

MAX_PARTS: Final = MAX_FILE_BYTES // MIN_PART_BYTES
_FORM: Final = "multipart/form-data"
_MINE: Final = (NotFound, Gone)
_WRITING: Final = (Invalid, TooLarge, QuotaExceeded, ObjectsUnavailable)


def _file_name(name: str) -> str:
    """A name without folders, as it will stand in a folder of a container."""
    bare = PurePosixPath(name.replace("\\", "/")).name
    if not 0 < len(bare.encode()) <= 255 or bare in {".", ".."} or not bare.isprintable():
        raise field_error(DetailCode.NOT_ALLOWED, "must be a printable name of at most 255 bytes")
    return bare


FileName = Annotated[str, StringConstraints(max_length=1024), AfterValidator(_file_name)]
Sha256Text = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{64}$"), AfterValidator(str.lower)]
PartNumber = Annotated[int, Field(ge=1, le=MAX_PARTS)]


class FileView(ResponseModel):
    file_id: str
    name: str
    size: int
    sha256: str
    content_type: str
    created_at: MillisInstant
    expires_at: MillisInstant


class FileList(ResponseModel):
    files: list[FileView]
    total: int
    has_more: bool


class FileQuery(QueryModel):
    """Of a raw body; a form names its own file. sha256: hex digits of what is sent."""

    name: FileName | None = None
    sha256: Sha256Text | None = None


class UploadRequest(RequestModel):
    name: FileName
    size: int = Field(ge=0)
    sha256: Sha256Text | None = None
    content_type: Annotated[str, StringConstraints(max_length=127)] = OCTETS


class PartView(ResponseModel):
    number: int
    size: int
    sha256: str


class UploadView(ResponseModel):
    upload_id: str
    name: str
    size: int
    sha256: str | None
    content_type: str
    part_min_bytes: int
    part_max_bytes: int
    parts: list[PartView]
    file_id: str | None
    created_at: MillisInstant
    expires_at: MillisInstant


_QUERY: Final[TypeAdapter[FileQuery]] = TypeAdapter(FileQuery)


def file_routes(files: FileService) -> list[Route]:
    """Files and uploads."""

    async def create(call: Call, query: FileQuery) -> Reply[FileView]:
        wanted, chunks = await _incoming(call.http, query)
        file = await files.create(call.account_id, wanted, chunks)
        return Reply(_view(file), status=201, headers={"Location": f"/v1/files/{file.id}"})

    async def list_files(call: Call, query: Page) -> FileList:
        found, total = await files.list_files(call.account_id, limit=query.limit, offset=query.offset)
        more = query.offset + len(found) < total
        return FileList(files=[_view(file) for file in found], total=total, has_more=more)

    async def get_file(call: Call, file_id: FileIdPath) -> FileView:
        return _view(await files.get(call.account_id, FileId(file_id)))

    async def get_content(call: Call, file_id: FileIdPath) -> web.StreamResponse:
        file = await files.get(call.account_id, FileId(file_id))
        return await serve_download(
            call,
            Download(
                file.name, file.content_type, file.size, file.sha256, lambda start, end: files.read(file, start, end)
            ),
        )

    async def delete_file(call: Call, file_id: FileIdPath) -> None:
        await files.delete(call.account_id, FileId(file_id))

    access, read = scope(Scope.FILES), reading(Scope.FILES)
    return [
        Route(
            "POST", "/v1/files", create, "Upload a file: a form with a part `file`, or its bytes with ?name=", access,
            status=201, idempotent=True, takes=(_FORM, OCTETS), errors=_WRITING,
        ),
        Route("GET", "/v1/files", list_files, "Files of the account", read),
        *_upload_routes(files),
        Route("GET", "/v1/files/{file_id}", get_file, "A file", read, errors=_MINE),
        Route(
            "GET", "/v1/files/{file_id}/content", get_content, "A file's bytes, or a Range of them", read,
            errors=(*_MINE, PreconditionFailed, RangeNotSatisfiable, ObjectsUnavailable), produces=(OCTETS,),
        ),
        Route("DELETE", "/v1/files/{file_id}", delete_file, "Delete a file", access, errors=(*_MINE, InUse)),
    ]  # fmt: skip


def _upload_routes(files: FileService) -> list[Route]:
    """Uploads by parts."""

    async def begin(call: Call, body: UploadRequest) -> Reply[UploadView]:
        wanted = NewFile(body.name, media_type(body.content_type), body.sha256, body.size)
        upload = await files.begin(call.account_id, wanted)
        return Reply(_upload(upload, []), status=201, headers={"Location": f"/v1/files/uploads/{upload.id}"})

    async def get_upload(call: Call, upload_id: UploadIdPath) -> UploadView:
        return _upload(*await files.get_upload(call.account_id, UploadId(upload_id)))

    async def put_part(call: Call, upload_id: UploadIdPath, number: PartNumber) -> PartView:
        length = call.http.content_length
        if length is not None and length > MAX_PART_BYTES:
            raise TooLarge(f"a part has at most {MAX_PART_BYTES >> 20} MiB", extra={"limit_bytes": MAX_PART_BYTES})
        return _part(await files.put_part(call.account_id, UploadId(upload_id), number, body_chunks(call.http)))

    async def complete(call: Call, upload_id: UploadIdPath) -> Reply[FileView]:
        file = await files.complete(call.account_id, UploadId(upload_id))
        return Reply(_view(file), status=201, headers={"Location": f"/v1/files/{file.id}"})

    async def abandon(call: Call, upload_id: UploadIdPath) -> None:
        await files.abandon(call.account_id, UploadId(upload_id))

    access, read = scope(Scope.FILES), reading(Scope.FILES)
    return [
        Route(
            "POST", "/v1/files/uploads", begin, "Begin an upload by parts", access, status=201, idempotent=True,
            errors=_WRITING,
        ),
        Route(
            "GET", "/v1/files/uploads/{upload_id}", get_upload, "An upload, and the parts held", read, errors=_MINE
        ),
        Route(
            "PUT", "/v1/files/uploads/{upload_id}/parts/{number}", put_part,
            "Send a part: 8 to 64 MiB, the last one less", access, takes=(OCTETS,),
            errors=(*_MINE, Conflict, TooLarge, ObjectsUnavailable),
        ),
        Route(
            "POST", "/v1/files/uploads/{upload_id}/complete", complete, "Make the parts a file", access, status=201,
            errors=(*_MINE, *_WRITING),
        ),
        Route("DELETE", "/v1/files/uploads/{upload_id}", abandon, "Forget an upload", access, errors=_MINE),
    ]  # fmt: skip


async def _incoming(request: web.Request, query: FileQuery) -> tuple[NewFile, AsyncIterator[bytes]]:
    """What comes, and its bytes. Raises Invalid, Malformed."""
    if request.content_type != _FORM:
        if query.name is None:
            raise Invalid.field("name", DetailCode.REQUIRED, "is required: send ?name= with the file's name")
        kind = media_type(request.headers.get("Content-Type", ""))
        return NewFile(query.name, kind, query.sha256, request.content_length), body_chunks(request)
    form = await form_file(request)
    unknown = form.fields.keys() - {"name", "sha256"}
    if unknown:
        raise Invalid.field(min(unknown)[:64] or "form", DetailCode.UNKNOWN_FIELD, "is not a field of this form")
    given: dict[str, Any] = {"name": form.name, **form.fields}
    try:
        checked = _QUERY.validate_python({name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise invalid(error) from error
    name, sha256 = query.name or checked.name, query.sha256 or checked.sha256
    if name is None:
        raise Invalid.field("name", DetailCode.REQUIRED, "is required: the form's file has no name")
    return NewFile(name, form.content_type, sha256), form.chunks


def _view(file: StoredFile) -> FileView:
    return FileView(
        file_id=file.id,
        name=file.name,
        size=file.size,
        sha256=file.sha256,
        content_type=file.content_type,
        created_at=Millis(file.created_at_ms),
        expires_at=Millis(file.expires_at_ms),
    )


def _part(part: Part) -> PartView:
    return PartView(number=part.number, size=part.size, sha256=part.sha256)


def _upload(upload: Upload, parts: list[Part]) -> UploadView:
    return UploadView(
        upload_id=upload.id,
        name=upload.name,
        size=upload.size,
        sha256=upload.sha256,
        content_type=upload.content_type,
        part_min_bytes=MIN_PART_BYTES,
        part_max_bytes=MAX_PART_BYTES,
        parts=[_part(part) for part in parts],
        file_id=upload.file_id if upload.done else None,
        created_at=Millis(upload.created_at_ms),
        expires_at=Millis(upload.expires_at_ms),
    )
