"""What earlier jobs left, for the jobs of a group that follows them: `/inputs/<job>/…`, `/inputs/<group>/<job>/…`."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

from marketplace.domain.allocations import Allocation, allocation_of, job_of
from marketplace.domain.ids import AccountId, GroupId, JobId, is_id
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
        account_id, after = self._held(lease)
        found = await self._store.read(lambda tx: self._list(tx, account_id, after))
        return [OutputFile(artifact.path, artifact.output.size, artifact.output.sha256) for artifact in found]

    async def open(self, lease: Lease, path: str) -> tuple[StoredOutput, AsyncIterator[bytes]]:
        """One of them. Raises StaleLease, NotFound, Gone."""
        account_id, after = self._held(lease)
        output = await self._store.read(lambda tx: self._find(tx, account_id, after, path))
        return output, self._storage.read(output.object, 0, output.size)

    def _held(self, lease: Lease) -> tuple[AccountId, tuple[str, ...]]:
        """Whose attempt it is, and what it follows. Raises StaleLease, Starting."""
        self._live.require_open()
        allocation, attempt = self._live.find(lease.allocation_id), self._live.attempt(lease.allocation_id)
        if (
            allocation is None
            or attempt is None
            or not attempt.live
            or (attempt.node_id, attempt.number, attempt.lease_token) != (lease.node_id, lease.attempt, lease.token)
        ):
            raise StaleLease
        return allocation.account_id, JobSpec.model_validate_json(allocation.spec).after or ()

    def _list(self, tx: Transaction, account_id: AccountId, after: tuple[str, ...]) -> list[Artifact]:
        """All of them, at most one more than may be."""
        found: list[Artifact] = []
        for each in after:
            if is_id("grp", each):
                self._require_group(tx, account_id, GroupId(each))
                outputs = Outputs(tx).list_of_group(GroupId(each), MAX_FILES + 1)
                found += [
                    Artifact(f"{each}/{job_of(output.allocation_id)}/{output.path}", output) for output in outputs
                ]
            else:
                allocation = self._kept_job(tx, account_id, JobId(each))
                outputs = Outputs(tx).list_for(allocation.id, allocation.attempt)
                found += [Artifact(f"{each}/{output.path}", output) for output in outputs]
            if len(found) > MAX_FILES:
                break
        return found

    def _find(self, tx: Transaction, account_id: AccountId, after: tuple[str, ...], path: str) -> StoredOutput:
        """The file of a path that `_list` gives. Raises NotFound, Gone."""
        top, _, rest = path.partition("/")
        job = top
        if is_id("grp", top):
            job, _, rest = rest.partition("/")
        missing = NotFound("the jobs before it left no such file")
        if top not in after or not is_id("job", job):
            raise missing
        allocation = self._kept_job(tx, account_id, JobId(job))
        if job != top and not Groups(tx).has_job(GroupId(top), allocation.id):
            raise missing
        output = Outputs(tx).find(allocation.id, allocation.attempt, rest)
        if output is None:
            raise missing
        return output

    def _kept_job(self, tx: Transaction, account_id: AccountId, job_id: JobId) -> Allocation:
        allocation = Allocations(tx).find(allocation_of(job_id))
        if allocation is None or allocation.account_id != account_id or allocation.status is not JobStatus.COMPLETED:
            raise Gone(f"{job_id} is not there any more, or is not completed")
        self._require_kept(job_id, allocation.completed_at_ms)
        return allocation

    def _require_group(self, tx: Transaction, account_id: AccountId, group_id: GroupId) -> None:
        group = Groups(tx).find(group_id)
        completed, first_ms = Groups(tx).completed(group_id)
        if group is None or group.account_id != account_id or completed != group.count:
            raise Gone(f"{group_id} is not there any more, or is not completed")
        self._require_kept(group_id, first_ms)

    def _require_kept(self, name: str, ended_ms: int | None) -> None:
        if (ended_ms or 0) < self._clock.now() - RETENTION_MS:
            raise Gone(f"what {name} left was kept for 7 days")


def after_order(order: Order, after: tuple[str, ...]) -> Order:
    """The order of a job that reads what these left."""
    return replace(order, spec=order.spec.model_copy(update={"after": after or None}))
