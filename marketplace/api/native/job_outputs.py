"""`GET /v1/jobs/{id}/download` and `…/outputs`: what a job left. Source: api.md section 5.3."""

from typing import Annotated, Final

from aiohttp import web
from pydantic import Field

from marketplace.api.downloads import Download, serve_download
from marketplace.api.fields import JobIdPath, Page, QueryModel, ResponseModel
from marketplace.api.native.transfers import OutputView, output_view
from marketplace.api.routes import Call, Route, reading
from marketplace.api.uploads import OCTETS
from marketplace.domain.ids import JobId
from marketplace.errors import Gone, NotFound, NotReady, ObjectsUnavailable, PreconditionFailed, RangeNotSatisfiable
from marketplace.services.job_orders import output_of
from marketplace.services.jobs import JobService
from marketplace.services.outputs import Format, JobOutputs
from marketplace.services.principals import Scope

ZIP: Final = "application/zip"
_TYPES: Final = {"json": "application/json", "txt": "text/plain; charset=utf-8"}


class DownloadQuery(QueryModel):
    """path: one file. format: another than the job was submitted with."""

    path: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    format: Format | None = None


class OutputList(ResponseModel):
    """manifest_sha256: of the list, in the last voucher's digest; null where nothing was left."""

    outputs: list[OutputView]
    total: int
    has_more: bool
    total_bytes: int
    manifest_sha256: str | None


def output_routes(jobs: JobService, outputs: JobOutputs) -> list[Route]:
    """List and download."""

    async def download(call: Call, job_id: JobIdPath, query: DownloadQuery) -> web.StreamResponse:
        allocation = await jobs.get(call.account_id, JobId(job_id))
        wanted = query.format or Format(output_of(allocation.submitted).format)
        if query.path is None and wanted is Format.ARCHIVE:
            package = await outputs.package(allocation)
            name, kind, found = f"{allocation.job_id}.zip", ZIP, package.object
            size, sha256 = package.size, package.sha256
        else:
            if query.path is not None:
                file = await outputs.find_file(allocation, query.path)
            else:
                file = await outputs.find_result(allocation, wanted)
            name, found, size, sha256 = file.path.rpartition("/")[2], file.object, file.size, file.sha256
            kind = _TYPES.get(name.rpartition(".")[2], OCTETS) if query.path is None else OCTETS
        return await serve_download(
            call, Download(name, kind, size, sha256, lambda start, end: outputs.read(found, start, end))
        )

    async def list_outputs(call: Call, job_id: JobIdPath, query: Page) -> OutputList:
        left = await outputs.list_files(await jobs.get(call.account_id, JobId(job_id)))
        page = left.files[query.offset : query.offset + query.limit]
        return OutputList(
            outputs=[output_view(file) for file in page],
            total=len(left.files),
            has_more=query.offset + len(page) < len(left.files),
            total_bytes=sum(file.size for file in left.files),
            manifest_sha256=left.manifest.hex() or None,
        )

    errors = (NotFound, NotReady, Gone)
    return [
        Route(
            "GET", "/v1/jobs/{job_id}/download", download, "What the job left, by its format, or one file by path=",
            reading(Scope.JOBS), errors=(*errors, PreconditionFailed, RangeNotSatisfiable, ObjectsUnavailable),
            produces=("application/json", "text/plain", OCTETS, ZIP),
        ),
        Route(
            "GET", "/v1/jobs/{job_id}/outputs", list_outputs, "Files that the job left", reading(Scope.JOBS),
            errors=errors,
        ),
    ]  # fmt: skip
