"""Files between a market and the node that holds an attempt's lease. Source: api.md section 5.5, row `outputs`."""

from typing import Annotated, Final

from aiohttp import web
from pydantic import Field, StringConstraints

from marketplace.api.downloads import Download, serve_download
from marketplace.api.fields import AllocationIdPath, NodeIdPath, QueryModel, ResponseModel
from marketplace.api.routes import NODE, Call, RateClass, Route
from marketplace.api.uploads import OCTETS, body_chunks
from marketplace.domain.ids import AllocationId, NodeId
from marketplace.errors import Gone, Invalid, NotFound, NotReady, ObjectsUnavailable, StaleLease, TooLarge
from marketplace.protocol.outputs import LEASE_HEADER
from marketplace.services.artifacts import JobArtifacts
from marketplace.services.bucket_deliveries import BucketCourier
from marketplace.services.checkpoints import JobCheckpoints
from marketplace.services.inputs import JobInputs
from marketplace.services.outputs import JobOutputs, Lease
from marketplace.store.outputs import StoredOutput

OutputPath = Annotated[str, StringConstraints(min_length=1, max_length=4096)]

_TAKING: Final = (Invalid, StaleLease, NotReady, TooLarge, ObjectsUnavailable)
"""Why a file of an attempt is not taken."""


class AttemptQuery(QueryModel):
    attempt: Annotated[int, Field(ge=1, le=2**31 - 1)]


class OutputView(ResponseModel):
    path: str
    size: int
    sha256: str


class HeldView(ResponseModel):
    outputs: list[OutputView]


class CheckpointTaken(ResponseModel):
    size: int
    sha256: str


class HandedOverView(ResponseModel):
    """state: `delivering`, `delivered` or `failed`. detail: why it failed."""

    state: str
    detail: str | None


def transfer_routes(
    inputs: JobInputs, outputs: JobOutputs, courier: BucketCourier, artifacts: JobArtifacts, checkpoints: JobCheckpoints
) -> list[Route]:
    """A node fetches what a job reads, and delivers what it leaves. The lease is named by a header."""

    async def get_input(
        call: Call, node_id: NodeIdPath, aid: AllocationIdPath, query: AttemptQuery
    ) -> web.StreamResponse:
        lease = _lease(call, node_id, aid, query)
        found = await inputs.open(lease.node_id, lease.allocation_id, lease.attempt, lease.token)
        # A node reads it once and whole; what broke off it asks for again.
        return await serve_download(
            call, Download(found.name, OCTETS, found.size, found.sha256, lambda _start, _end: found.chunks), whole=True
        )

    async def get_outputs(call: Call, node_id: NodeIdPath, aid: AllocationIdPath, query: AttemptQuery) -> HeldView:
        held = await outputs.held(_lease(call, node_id, aid, query))
        return HeldView(outputs=[output_view(output) for output in held])

    async def put_output(
        call: Call, node_id: NodeIdPath, aid: AllocationIdPath, path: OutputPath, query: AttemptQuery
    ) -> OutputView:
        return output_view(await outputs.take(_lease(call, node_id, aid, query), path, body_chunks(call.http)))

    async def hand_over(call: Call, node_id: NodeIdPath, aid: AllocationIdPath, query: AttemptQuery) -> HandedOverView:
        handed = await courier.hand_over(_lease(call, node_id, aid, query))
        return HandedOverView(state=handed.state.value, detail=handed.detail)

    async def get_artifacts(call: Call, node_id: NodeIdPath, aid: AllocationIdPath, query: AttemptQuery) -> HeldView:
        listed = await artifacts.list_files(_lease(call, node_id, aid, query))
        return HeldView(outputs=[OutputView(path=file.path, size=file.size, sha256=file.sha256) for file in listed])

    async def get_artifact(
        call: Call, node_id: NodeIdPath, aid: AllocationIdPath, path: OutputPath, query: AttemptQuery
    ) -> web.StreamResponse:
        file, chunks = await artifacts.open(_lease(call, node_id, aid, query), path)
        name = file.path.rpartition("/")[2]
        download = Download(name, OCTETS, file.size, file.sha256, lambda _start, _end: chunks)
        return await serve_download(call, download, whole=True)

    async def get_checkpoint(
        call: Call, node_id: NodeIdPath, aid: AllocationIdPath, query: AttemptQuery
    ) -> web.StreamResponse:
        saved = await checkpoints.open(_lease(call, node_id, aid, query))
        found = saved.checkpoint
        download = Download("checkpoint", OCTETS, found.size, found.sha256, lambda _start, _end: saved.chunks)
        return await serve_download(call, download, whole=True)

    async def put_checkpoint(
        call: Call, node_id: NodeIdPath, aid: AllocationIdPath, query: AttemptQuery
    ) -> CheckpointTaken:
        taken = await checkpoints.take(_lease(call, node_id, aid, query), body_chunks(call.http))
        return CheckpointTaken(size=taken.size, sha256=taken.sha256)

    place = "/v1/nodes/{node_id}/allocations/{aid}"
    return [
        Route(
            "GET", f"{place}/input", get_input, "What an attempt's job reads", NODE, rate=RateClass.UNCOUNTED,
            errors=(NotFound, Gone, StaleLease, ObjectsUnavailable), produces=(OCTETS,),
        ),
        Route(
            "GET", f"{place}/outputs", get_outputs, "What is here of an attempt's outputs", NODE,
            rate=RateClass.UNCOUNTED, errors=(StaleLease, NotReady),
        ),
        Route(
            "GET", f"{place}/artifacts", get_artifacts, "What the jobs before it left, for /inputs", NODE,
            rate=RateClass.UNCOUNTED, errors=(Gone, StaleLease),
        ),
        Route(
            "GET", place + "/artifacts/{path:.+}", get_artifact, "One file of what the jobs before it left", NODE,
            rate=RateClass.UNCOUNTED, errors=(NotFound, Gone, StaleLease, ObjectsUnavailable), produces=(OCTETS,),
        ),
        Route(
            "GET", f"{place}/checkpoint", get_checkpoint, "What the attempt goes on from", NODE,
            rate=RateClass.UNCOUNTED, errors=(NotFound, StaleLease, ObjectsUnavailable), produces=(OCTETS,),
        ),
        Route(
            "PUT", f"{place}/checkpoint", put_checkpoint, "Save what a later attempt may go on from", NODE,
            rate=RateClass.UNCOUNTED, takes=(OCTETS,), errors=_TAKING,
        ),
        Route(
            "POST", f"{place}/outputs", hand_over, "All of an attempt's outputs are here; how far their delivery is",
            NODE, rate=RateClass.UNCOUNTED, errors=(StaleLease, NotReady),
        ),
        Route(
            "PUT", place + "/outputs/{path:.+}", put_output, "Deliver one file of an attempt's outputs", NODE,
            rate=RateClass.UNCOUNTED, takes=(OCTETS,), errors=_TAKING,
        ),
    ]  # fmt: skip


def output_view(output: StoredOutput) -> OutputView:
    """One file."""
    return OutputView(path=output.path, size=output.size, sha256=output.sha256)


def _lease(call: Call, node_id: str, aid: str, query: AttemptQuery) -> Lease:
    return Lease(NodeId(node_id), AllocationId(aid), query.attempt, call.http.headers.get(LEASE_HEADER, ""))
