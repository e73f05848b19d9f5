"""What earlier jobs left, for the jobs of a group that follows them: `/inputs/<job>/…`, `/inputs/<group>/<job>/…`."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

from marketplace.domain.allocations import Allocation, allocation_of, job_of
from marketplace.domain.ids import AccountId, AllocationId, GroupId, JobId, is_id
from marketplace.domain.lifecycle import JobStatus
from marketplace.errors import DetailCode, Gone, Invalid, NotFound, StaleLease
from marketplace.objects.storage import ObjectStorage
from marketplace.protocol.outputs import MAX_BYTES, MAX_FILES, OutputFile, is_output_path
from marketplace.protocol.terms import JobSpec
from marketplace.services.clock import Clock
from marketplace.services.job_orders import Order
from marketplace.services.live import Live
from marketplace.services.outputs import RETENTION_MS, Lease
from marketplace.store.allocations import Allocations
from marketplace.store.engine import Store, Transaction
from marketplace.store.groups import Groups
from marketplace.store.outputs import Outputs, StoredOutput


@dataclass(frozen=True, slots=True)
class Artifact:
    """One file. path: below /inputs."""

    path: str
    output: StoredOutput


class JobArtifacts:
    """Checks before a job is opened that they are there, and gives them to its node."""

    def __init__(self, store: Store, storage: ObjectStorage, live: Live, clock: Clock) -> None:
        self._store = store
        self._storage = storage
        self._live = live
        self._clock = clock

    async def accept(self, account_id: AccountId, order: Order) -> None:
        """Make sure that they can be had, before anything is paid. Raises Gone, Invalid."""
        after = order.spec.after or ()
        if not after:
            return
        found = await self._store.read(lambda tx: self._list(tx, account_id, after))
        if len(found) > MAX_FILES or sum(artifact.output.size for artifact in found) > MAX_BYTES:
            raise Invalid.field(
                "after", DetailCode.OUT_OF_RANGE, f"left more than {MAX_FILES} files or {MAX_BYTES >> 30} GiB"
            )
        if not all(is_output_path(artifact.path) for artifact in found):
            raise Invalid.field("after", DetailCode.OUT_OF_RANGE, "left a file whose path is too long below /inputs")

    async def list_files(self, lease: Lease) -> list[OutputFile]:
        """What the attempt's node is to put into /inputs. Raises StaleLease, Gone."""
        return [
            OutputFile(artifact.path, artifact.output.size, artifact.output.sha256)
            for artifact in await self._artifacts(lease)
        ]

    async def open(self, lease: Lease, path: str) -> tuple[StoredOutput, AsyncIterator[bytes]]:
        """One of them. Raises StaleLease, NotFound, Gone."""
        for artifact in await self._artifacts(lease, path):
            if artifact.path == path:
                return artifact.output, self._storage.read(artifact.output.object, 0, artifact.output.size)
        raise NotFound("the jobs before it left no such file")

    async def _artifacts(self, lease: Lease, path: str | None = None) -> list[Artifact]:
        self._live.require_open()
        allocation, attempt = self._live.find(lease.allocation_id), self._live.attempt(lease.allocation_id)
        if (
            allocation is None
            or attempt is None
            or not attempt.live
            or (attempt.node_id, attempt.number, attempt.lease_token) != (lease.node_id, lease.attempt, lease.token)
        ):
            raise StaleLease
        after = JobSpec.model_validate_json(allocation.spec).after or ()
        account_id = allocation.account_id
        if path is not None:
            # One file is asked for at a time: only where it lies is looked.
            after = tuple(each for each in after if path.startswith(f"{each}/"))
        return await self._store.read(lambda tx: self._list(tx, account_id, after))

    def _list(self, tx: Transaction, account_id: AccountId, after: tuple[str, ...]) -> list[Artifact]:
        found: list[Artifact] = []
        for each in after:
            if is_id("grp", each):
                group = Groups(tx).find(GroupId(each))
                if group is None or group.account_id != account_id:
                    raise Gone(f"{each} is not there any more")
                for allocation_id in Groups(tx).submitted_of(group.id):
                    found += self._of(tx, account_id, allocation_id, f"{each}/")
            else:
                found += self._of(tx, account_id, allocation_of(JobId(each)), "")
        return found

    def _of(self, tx: Transaction, account_id: AccountId, allocation_id: AllocationId, above: str) -> list[Artifact]:
        allocation = Allocations(tx).find(allocation_id)
        if allocation is None or allocation.account_id != account_id or allocation.status is not JobStatus.COMPLETED:
            raise Gone(f"{job_of(allocation_id)} is not there any more, or is not completed")
        self._require_kept(allocation)
        place = f"{above}{allocation.job_id}"
        outputs = Outputs(tx).list_for(allocation.id, allocation.attempt)
        return [Artifact(f"{place}/{output.path}", output) for output in outputs]

    def _require_kept(self, allocation: Allocation) -> None:
        if (allocation.completed_at_ms or 0) < self._clock.now() - RETENTION_MS:
            raise Gone(f"what {allocation.job_id} left was kept for 7 days")


def after_order(order: Order, after: tuple[str, ...]) -> Order:
    """The order of a job that reads what these left."""
    return replace(order, spec=order.spec.model_copy(update={"after": after or None}))
