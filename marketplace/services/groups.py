"""Groups: one job body and many jobs, submitted one after the other as money, leave and turn come.

A group is an order, not a payment. A member that waits has no escrow: its money lies free in the renter's vault, and
whatever the renter does with it meanwhile he does to his group. A member is submitted as any job is, under the
wallet's allowance and the limit of the API key that asked; its key follows from the group and its position, so that
each is opened once, however often this is killed. What a wallet would have to sign is not asked for: the group says
what blocks it and goes on when that is gone.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

import orjson
import structlog

from marketplace.domain.allocations import Allocation, allocation_of, job_of
from marketplace.domain.groups import Group, GroupStatus, Member, MemberState
from marketplace.domain.ids import AccountId, AllocationId, GroupId, JobId, is_id
from marketplace.domain.lifecycle import TERMINAL_STATUSES, JobStatus
from marketplace.domain.quantities import Tokens
from marketplace.errors import (
    AlreadyTerminal,
    DetailCode,
    IdempotencyKeyReused,
    Invalid,
    MarketError,
    NotFound,
    PaymentRequired,
    QuotaExceeded,
    Refused,
    RequestError,
    Unauthenticated,
)
from marketplace.services.artifacts import after_order
from marketplace.services.clock import Clock, Ids
from marketplace.services.idempotency import KeyInUse
from marketplace.services.job_orders import Order
from marketplace.services.jobs import JobService, Unsigned
from marketplace.services.live import Live
from marketplace.services.principals import AccountPrincipal, KeyRate, Scope
from marketplace.services.stored_secrets import SecretKeeper, StoredSecret
from marketplace.store.allocations import Allocations
from marketplace.store.api_keys import ApiKeys
from marketplace.store.engine import Store, Transaction
from marketplace.store.groups import Groups
from marketplace.store.idempotency import KeyScope

_log = structlog.get_logger(__name__)

MAX_MEMBERS: Final = 1_000
"""Specified: api.md section 5.3."""
MAX_OPEN: Final = 100
"""Groups of an account that are not over; chosen."""
FUNDING_MS: Final = 24 * 3_600_000
"""How long a group that may begin waits for money or leave; chosen."""
_AT_ONCE: Final = 8
"""Members opened, groups looked at, jobs cancelled at a time; chosen: others' submits go on beside them."""
_POLL_S: Final = 10.0
"""How long a lost wake-up can delay a group; chosen."""
_KEY_GONE: Final = "the API key that asked for this group was deleted or has expired; nothing was locked for this job"
_PAUSE_S: Final = 0.2
"""Changes within it are one; chosen."""

ReadMember = Callable[[str, str | None, "Place", dict[str, str]], Order]
"""The order of one member: the group's job, its own input where it has one (both JSON text), its place, the group's
secrets. Raises Invalid.
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Which member, from 0, of how many."""

    position: int
    count: int


class _Turn(Enum):
    """Whether what a group follows is completed."""

    COMES = "comes"
    CAME = "came"
    NEVER_COMES = "never_comes"


@dataclass(frozen=True, slots=True)
class NewGroup:
    """What is asked for. job: JSON text of the body. inputs: JSON text of each member's own, or none at all.

    after: ids of jobs and groups. secrets: of each member's, and nowhere in job.
    """

    name: str | None
    job: str
    count: int
    inputs: tuple[str, ...]
    after: tuple[str, ...]
    secrets: dict[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class GroupDetails:
    """A group with everything its view shows. words: how many members show which. Amounts in base units."""

    group: Group
    after: Sequence[str]
    words: dict[str, int]
    members: Sequence[Member]
    cost: Tokens
    locked: Tokens

    @property
    def status(self) -> GroupStatus:
        """The word."""
        return self.group.status(self.words)


class GroupService:
    """Takes, shows and cancels groups, and drives them."""

    def __init__(
        self, store: Store, jobs: JobService, live: Live, clock: Clock, ids: Ids, keeper: SecretKeeper, read: ReadMember
    ) -> None:
        self._keeper = keeper
        self._store = store
        self._jobs = jobs
        self._live = live
        self._clock = clock
        self._ids = ids
        self._read = read
        self._woken = asyncio.Event()
        # One round at a time: two that look at the same member would both write its intent.
        self._round = asyncio.Lock()

    def check(self, wanted: NewGroup) -> None:
        """Raises Invalid where its job is none that could be submitted; of own inputs the first is read."""
        self._read(
            wanted.job, wanted.inputs[0] if wanted.inputs else None, Place(0, max(1, wanted.count)), wanted.secrets
        )

    async def create(self, caller: AccountPrincipal, key: KeyInUse, wanted: NewGroup) -> tuple[Group, bool]:
        """The group of this key, and whether this call made it. Raises Invalid, QuotaExceeded, IdempotencyKeyReused."""
        self._live.require_open()
        known = await self._store.lookup(lambda tx: Groups(tx).find_by_create_key(caller.account_id, key.key))
        if known is not None:
            if known.body_hash != key.body_sha256:
                raise IdempotencyKeyReused
            return known, False
        for position, own in enumerate(wanted.inputs or (None,)):
            order = self._read(wanted.job, own, Place(position, wanted.count), wanted.secrets)
            if position == 0:  # all go to the same place
                await self._jobs.choose_destination(caller.account_id, order)
        group = Group(
            id=GroupId(self._ids.new("grp")),
            account_id=caller.account_id,
            wallet=caller.wallet,
            key_id=caller.key_id,
            create_key=key.key,
            body_hash=key.body_sha256,
            name=wanted.name,
            job=wanted.job,
            count=wanted.count,
            created_at_ms=self._clock.now(),
        )
        after = tuple(dict.fromkeys(wanted.after))

        def write(tx: Transaction) -> None:
            if Groups(tx).count_open(caller.account_id) >= MAX_OPEN:
                raise QuotaExceeded(
                    f"at most {MAX_OPEN} groups may be open at once", extra={"quota": "groups", "limit": MAX_OPEN}
                )
            for number, each in enumerate(after):
                if not _owned(tx, caller.account_id, each):
                    raise Invalid.field(f"after.{number}", DetailCode.NOT_ALLOWED, "is no job or group of yours")
            key.bind(tx)
            Groups(tx).create(group, wanted.inputs, after)
            if wanted.secrets:
                stored = self._keeper.seal(_purpose(group.id), orjson.dumps(wanted.secrets))
                Groups(tx).put_secrets(group.id, stored.key_id, stored.sealed)

        await self._store.write(write)
        self._woken.set()
        return group, True

    async def get(self, account_id: AccountId, group_id: GroupId) -> Group:
        """Raises NotFound, for another account's too."""
        found = await self._store.lookup(lambda tx: Groups(tx).find(group_id))
        if found is None or found.account_id != account_id:
            raise NotFound
        return found

    async def details(self, group_id: GroupId, *, limit: int, offset: int) -> GroupDetails:
        """Everything that its view shows, of one moment, with a page of its members."""

        def read(tx: Transaction) -> GroupDetails:
            groups = Groups(tx)
            group = groups.find(group_id)
            if group is None:
                raise NotFound
            cost, locked = groups.money(group_id)
            return GroupDetails(
                group=group,
                after=groups.after(group_id),
                words=groups.summary(group_id),
                members=groups.members(group_id, limit=limit, offset=offset),
                cost=Tokens(cost),
                locked=Tokens(locked),
            )

        return await self._store.read(read)

    async def list_groups(
        self, account_id: AccountId, *, limit: int, offset: int
    ) -> tuple[Sequence[tuple[Group, dict[str, int]]], int]:
        """A page, newest first, each with the words of its members; and how many there are."""

        def read(tx: Transaction) -> tuple[Sequence[tuple[Group, dict[str, int]]], int]:
            found, total = Groups(tx).page(account_id, limit=limit, offset=offset)
            return [(group, Groups(tx).summary(group.id)) for group in found], total

        return await self._store.read(read)

    async def cancel(self, account_id: AccountId, group_id: GroupId) -> None:
        """Open no more of it, and cancel what is. Raises NotFound, AlreadyTerminal."""
        self._live.require_open()
        group = await self.get(account_id, group_id)
        if group.over:
            words = await self._store.lookup(lambda tx: Groups(tx).summary(group_id))
            raise AlreadyTerminal(extra={"state": group.status(words).value})
        now = self._clock.now()
        await self._store.write(lambda tx: Groups(tx).note_cancelled(group_id, now))
        self._woken.set()

    def wake(self) -> None:
        """Something that groups wait for, or depend on, may have changed."""
        self._woken.set()

    async def run(self) -> None:
        """Drive every open group, until cancelled."""
        self._live.on_change(lambda _allocation: self._woken.set())
        while True:
            self._woken.clear()
            await self.work()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POLL_S):
                    await self._woken.wait()
            await asyncio.sleep(_PAUSE_S)

    async def work(self) -> None:
        """Do what is due, of each group of which anything is."""
        limit = asyncio.Semaphore(_AT_ONCE)

        async def advance(group: Group) -> None:
            async with limit:
                try:
                    await self._advance(group)
                except MarketError as error:
                    _log.warning("group waits", action="groups.advance", group=group.id, error=error.message)
                except Exception:  # noqa: BLE001 - one group's outer edge: its fault is no other's
                    _log.exception("group failed", action="groups.advance", group=group.id)

        async with self._round:
            due = await self._store.read(lambda tx: Groups(tx).list_due())
            await asyncio.gather(*(advance(group) for group in due))

    async def _advance(self, group: Group) -> None:
        if group.cancelled_at_ms is not None:
            await self._store.write(lambda tx: Groups(tx).end_waiting(group.id, MemberState.CANCELLED))
            await self._cancel_live(group)
        elif await self._is_keyless(group):
            await self._store.write(lambda tx: Groups(tx).end_waiting(group.id, MemberState.REFUSED, _KEY_GONE))
        elif group.ready_at_ms is None:
            turn = await self._store.read(lambda tx: _turn(tx, group))
            if turn is _Turn.COMES:
                return
            if turn is _Turn.NEVER_COMES:
                await self._store.write(lambda tx: Groups(tx).end_waiting(group.id, MemberState.SKIPPED))
            else:
                now = self._clock.now()
                group = await self._change(group.id, lambda present: replace(present, ready_at_ms=now))
        if group.ready_at_ms is not None and group.cancelled_at_ms is None:
            await self._submit(group)
        await self._end(group.id)

    async def _submit(self, group: Group) -> None:
        """Open members until all are, something blocks, or the group is cancelled."""
        while True:
            due = await self._store.read(lambda tx: _due(tx, group.id))
            if not due.waiting or due.group is None or due.group.cancelled_at_ms is not None:
                blocked = None
                break
            blocks = await asyncio.gather(*(self._submit_one(group, due, *member) for member in due.waiting))
            blocked = next((block for block in blocks if block is not None), None)
            if blocked is not None:
                break
        text = None
        if blocked is not None:
            problem = blocked.problem()
            text = orjson.dumps({"error": problem.code, "message": problem.message}).decode()
            if self._clock.now() - (group.ready_at_ms or 0) >= FUNDING_MS:
                await self._store.write(lambda tx: Groups(tx).end_waiting(group.id, MemberState.UNFUNDED))
        if text != group.blocked:
            await self._change(group.id, lambda present: replace(present, blocked=text))

    async def _submit_one(self, group: Group, due: "_Due", position: int, own: str | None) -> MarketError | None:
        """Submit one member; what blocks it, None when it is submitted or will never be."""
        text = f"{group.job}\n{own or ''}\n{position}\n{group.count}"
        key = KeyInUse(
            scope=KeyScope(group.account_id, "POST /v1/jobs", f"{group.id}/{position}"),
            body_sha256=hashlib.sha256(text.encode()).digest(),
            given=True,
            bound_at=self._clock.now(),
        )
        caller = AccountPrincipal(
            account_id=group.account_id,
            wallet=group.wallet,
            login_id="",
            scopes=frozenset({Scope.JOBS}),
            key_id=group.key_id,
            key_rate=None if group.key_id is None else KeyRate.CLIENT,
        )
        try:
            allocation = await self._submitted(group, due, caller, key, Place(position, group.count), own)
        except (PaymentRequired, QuotaExceeded) as error:
            return error
        except Unauthenticated:  # its key was deleted since the group was looked at
            await self._store.write(lambda tx: Groups(tx).refused(group.id, position, _KEY_GONE))
            return None
        except (RequestError, Refused) as error:
            message = error.message
            await self._store.write(lambda tx: Groups(tx).refused(group.id, position, message))
            return None
        except MarketError as error:
            return error
        await self._store.write(lambda tx: Groups(tx).submitted(group.id, position, allocation.id))
        return None

    async def _is_keyless(self, group: Group) -> bool:
        """Whether the API key that asked for it was deleted, or has expired."""
        key_id, now = group.key_id, self._clock.now()
        return key_id is not None and not await self._store.lookup(lambda tx: ApiKeys(tx).is_good(key_id, now))

    async def _submitted(
        self, group: Group, due: "_Due", caller: AccountPrincipal, key: KeyInUse, place: Place, own: str | None
    ) -> Allocation:
        """The member's job. What this process was killed over, with its intent written, is not refused any more."""
        secrets = self._opened_secrets(group.id, due.sealed)
        try:
            order = self._read(group.job, own, place, secrets)
        except Invalid:
            known = await self._jobs.resume(caller, key, secrets, Unsigned.REFUSE)
            if known is None:
                raise
            return known
        order = after_order(order, due.after)
        return await self._jobs.submit(caller, key, order, Unsigned.REFUSE)

    def _opened_secrets(self, group_id: GroupId, sealed: StoredSecret | None) -> dict[str, str]:
        """Raises Unreadable."""
        if sealed is None:
            return {}
        plain: dict[str, str] = orjson.loads(self._keeper.unseal(_purpose(group_id), sealed))
        return plain

    async def _cancel_live(self, group: Group) -> None:
        limit = asyncio.Semaphore(_AT_ONCE)

        async def cancel(allocation_id: AllocationId) -> None:
            async with limit:
                with contextlib.suppress(AlreadyTerminal, NotFound):
                    await self._jobs.cancel(group.account_id, job_of(allocation_id))

        live = await self._store.read(lambda tx: Groups(tx).live(group.id))
        await asyncio.gather(*(cancel(each) for each in live))

    async def _end(self, group_id: GroupId) -> None:
        """Note that it is over once nothing of it can change any more, and look at what follows it."""
        # Most that are looked at are not over, and reading says so without a turn at the writer.
        if not await self._store.read(lambda tx: _is_done(tx, group_id)):
            return
        now = self._clock.now()

        def write(tx: Transaction) -> bool:
            groups = Groups(tx)
            group = groups.find(group_id)
            if group is None or group.over or not _is_done(tx, group_id):
                return False
            groups.update(replace(group, over=True, ended_at_ms=now, blocked=None))
            groups.forget_secrets(group_id)
            return True

        if await self._store.write(write):
            # No allocation changes any more by which those that wait for this group would be woken.
            self._woken.set()

    async def _change(self, group_id: GroupId, change: Callable[[Group], Group]) -> Group:
        def write(tx: Transaction) -> Group:
            present = Groups(tx).find(group_id)
            if present is None:
                raise NotFound
            changed = change(present)
            if changed != present:
                Groups(tx).update(changed)
            return changed

        return await self._store.write(write)


def _purpose(group_id: GroupId) -> str:
    return f"group {group_id}"


@dataclass(frozen=True, slots=True)
class _Due:
    """The next members of a group, each with its own input, and what all of them share; of one moment.

    group: None where there is none any more. sealed: its secrets.
    """

    group: Group | None
    waiting: Sequence[tuple[int, str | None]]
    after: tuple[str, ...]
    sealed: StoredSecret | None = field(repr=False)


def _due(tx: Transaction, group_id: GroupId) -> _Due:
    groups = Groups(tx)
    sealed = groups.secrets(group_id)
    return _Due(
        groups.find(group_id),
        groups.waiting(group_id, _AT_ONCE),
        tuple(groups.after(group_id)),
        None if sealed is None else StoredSecret(*sealed),
    )


def _is_done(tx: Transaction, group_id: GroupId) -> bool:
    """Whether no member waits or is live."""
    groups = Groups(tx)
    return not groups.waiting(group_id, 1) and not groups.live(group_id)


def _owned(tx: Transaction, account_id: AccountId, text: str) -> bool:
    """Whether this is a job or a group of the account."""
    if is_id("grp", text):
        group = Groups(tx).find(GroupId(text))
        return group is not None and group.account_id == account_id
    if not is_id("job", text):
        return False
    allocation = Allocations(tx).find(allocation_of(JobId(text)))
    return allocation is not None and allocation.account_id == account_id and allocation.funded_at_ms is not None


def _turn(tx: Transaction, group: Group) -> _Turn:
    """Whether everything that the group follows is completed."""
    turn = _Turn.CAME
    for each in Groups(tx).after(group.id):
        found = _turn_after(tx, each)
        if found is _Turn.NEVER_COMES:
            return found
        if found is _Turn.COMES:
            turn = found
    return turn


def _turn_after(tx: Transaction, text: str) -> _Turn:
    if is_id("grp", text):
        group = Groups(tx).find(GroupId(text))
        over = group is None or group.over
        completed = group is not None and group.status(Groups(tx).summary(group.id)) is GroupStatus.COMPLETED
    else:
        allocation = Allocations(tx).find(allocation_of(JobId(text)))
        over = allocation is None or allocation.status in TERMINAL_STATUSES
        completed = allocation is not None and allocation.status is JobStatus.COMPLETED
    if not over:
        return _Turn.COMES
    return _Turn.CAME if completed else _Turn.NEVER_COMES
