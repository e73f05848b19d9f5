"""What jobs read: checked and kept when a job is submitted, handed to the node that holds its lease.

A text is kept by its digest under its account, so that jobs over the same text share it. An upload is referred to; it
can't be deleted while a job that isn't over names it. A URL is the node's to ask: the market only checks its form.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from marketplace.domain.destinations import Reach
from marketplace.domain.ids import AccountId, AllocationId, FileId, NodeId
from marketplace.errors import DetailCode, Gone, Invalid, NotFound, StaleLease
from marketplace.objects.storage import ObjectMissing, ObjectStorage
from marketplace.outgoing import DestinationRefused, check_url
from marketplace.protocol.terms import JobInput, JobSpec
from marketplace.services.clock import Clock
from marketplace.services.files import FileService
from marketplace.services.job_orders import Order
from marketplace.services.live import Live
from marketplace.store.engine import Transaction

KEPT_MS: Final = 31 * 24 * 3_600_000
"""Chosen: longer than any job lives, and as long as its record can be run again with an upload."""


@dataclass(frozen=True, slots=True)
class InputContent:
    """What a node is given. sha256: hex digits."""

    name: str
    size: int
    sha256: str
    chunks: AsyncIterator[bytes]


class JobInputs:
    """Accepts and hands out."""

    def __init__(self, storage: ObjectStorage, files: FileService, live: Live, clock: Clock, reach: Reach) -> None:
        self._storage = storage
        self._files = files
        self._live = live
        self._clock = clock
        self._reach = reach

    async def accept(self, account_id: AccountId, order: Order) -> None:
        """Make sure that a job's input is there before anything is paid. Raises Invalid, Gone, ObjectsUnavailable."""
        wanted = order.spec.input
        if wanted is None:
            return
        if wanted.kind == "url":
            try:
                check_url(wanted.url or "", self._reach)
            except DestinationRefused as refused:
                raise Invalid.field("input", DetailCode.NOT_ALLOWED, str(refused)) from refused
        elif wanted.kind == "file":
            file_id = FileId(wanted.file_id or "")
            try:
                await self._files.get(account_id, file_id)
            except (NotFound, Gone) as error:
                raise _missing(file_id) from error
        else:
            content = order.input_content
            if content is None:  # a job that repeats another; written again, it is kept as long as a new one's
                content = await self._kept(account_id, wanted)
            await self._storage.write_bytes(_key(account_id, wanted), content)

    def require(self, tx: Transaction, account_id: AccountId, spec: JobSpec) -> None:
        """Once more, in the transaction that writes the job: what is deleted meanwhile is named. Raises Invalid."""
        if spec.input is None or spec.input.kind != "file":
            return
        file_id = FileId(spec.input.file_id or "")
        try:
            self._files.require_kept(tx, account_id, file_id)
        except NotFound as error:
            raise _missing(file_id) from error

    async def _kept(self, account_id: AccountId, wanted: JobInput) -> bytes:
        try:
            return await self._storage.read_bytes(_key(account_id, wanted))
        except ObjectMissing as error:
            raise Gone("the job's input is not kept any more; submit it anew") from error

    async def open(self, node_id: NodeId, allocation_id: AllocationId, number: int, lease_token: str) -> InputContent:
        """The input for the attempt's node. Raises StaleLease; NotFound, Gone where there is none any more."""
        self._live.require_open()
        allocation, attempt = self._live.find(allocation_id), self._live.attempt(allocation_id)
        if (
            allocation is None
            or attempt is None
            or not attempt.live
            or (attempt.node_id, attempt.number, attempt.lease_token) != (node_id, number, lease_token)
        ):
            raise StaleLease
        wanted = JobSpec.model_validate_json(allocation.spec).input
        if wanted is None or wanted.kind == "url":
            raise NotFound("this job has no input to be had here")
        if wanted.kind == "file":
            try:
                file = await self._files.get(allocation.account_id, FileId(wanted.file_id or ""))
            except NotFound as error:
                # Only where somebody else writes to the database: a job and its file's end are one after the other.
                raise NotFound("the upload that this job reads was deleted") from error
            return InputContent(file.name, file.size, file.sha256, self._files.read(file, 0, file.size))
        size = wanted.size or 0
        chunks = self._storage.read(_key(allocation.account_id, wanted), 0, size)
        return InputContent(wanted.name or "input", size, wanted.sha256 or "", chunks)

    async def clean(self) -> int:
        """Forget texts that no job was submitted over for a month; how many."""
        before = self._clock.now() - KEPT_MS
        old = [found.key async for found in self._storage.list("inputs") if found.modified_at_ms < before]
        await self._storage.delete(old)
        return len(old)


def _missing(file_id: FileId) -> Invalid:
    return Invalid.field(
        "input", DetailCode.FILE_MISSING, f"there is no file {file_id} of this account; GET /v1/files lists them"
    )


def _key(account_id: AccountId, wanted: JobInput) -> str:
    return f"inputs/{account_id}/{wanted.sha256}"
