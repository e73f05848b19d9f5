"""Everything that is not over yet, in memory, each change durable before it is seen.

Invariant: what stands here equals the store's rows. A change is computed from what stands here under the
allocation's own lock, written with its events in one transaction, and only then put in place; so a process that is
killed at any step leaves rows from which `load` and the scheduler go on. Changes never wait for chain or node.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from marketplace.domain.allocations import Allocation, Attempt, AttemptPhase
from marketplace.domain.ids import AllocationId, EventId, NodeId
from marketplace.domain.lifecycle import AllocationState, may_follow
from marketplace.domain.money import format_amount
from marketplace.domain.reasons import Reason
from marketplace.errors import MarketError, Starting
from marketplace.services.chain_port import ChainPort
from marketplace.services.clock import Clock, Ids
from marketplace.store.allocations import Allocations, Attempts
from marketplace.store.engine import Store, Transaction
from marketplace.store.events import Events, NewEvent

CATCH_UP_MS: Final = 5_000
"""Chosen: far longer than the event loop takes to hear of a commit."""

Listener = Callable[[Allocation], None]
_Waiter = tuple[Callable[[Allocation], bool], "asyncio.Future[Allocation | None]"]


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of an allocation and of its latest attempt, and what is said about it.

    events: types such as `job.assigned`, in order; extra: further members of their data.
    attempt None with a lower number in the allocation: the claimed attempt never came to the chain, it is forgotten.
    also: writes of the same transaction.
    """

    allocation: Allocation
    attempt: Attempt | None
    events: tuple[str, ...] = ()
    extra: Mapping[str, object] = field(default_factory=dict)
    also: Callable[[Transaction], None] | None = None


Decide = Callable[[Allocation, Attempt | None], Change | None]


class Live:
    """Allocations that are not terminal, with their latest attempt."""

    def __init__(self, store: Store, clock: Clock, ids: Ids, chain: ChainPort, currency: str) -> None:
        self._store = store
        self._clock = clock
        self._ids = ids
        self._chain = chain
        self._currency = currency
        self._allocations: dict[AllocationId, Allocation] = {}
        self._attempts: dict[AllocationId, Attempt] = {}
        self._by_escrow: dict[str, AllocationId] = {}
        self._by_wallet: dict[str, set[AllocationId]] = {}
        self._by_node: dict[NodeId, dict[AllocationId, Attempt]] = {}
        self._locks: dict[AllocationId, asyncio.Lock] = {}
        self._listeners: list[Listener] = []
        self._ready = False
        self._waiters: dict[AllocationId, list[_Waiter]] = {}

    async def load(self) -> None:
        """Take over what the store knows as unfinished. Called once, before anything else."""

        def read(tx: Transaction) -> tuple[list[Allocation], dict[AllocationId, Attempt]]:
            allocations = Allocations(tx).list_unfinished()
            attempts = {}
            for allocation in allocations:
                attempt = Attempts(tx).find(allocation.id, allocation.attempt) if allocation.attempt else None
                if attempt is not None:
                    attempts[allocation.id] = attempt
            return allocations, attempts

        allocations, attempts = await self._store.read(read)
        for allocation in allocations:
            self._put(allocation, attempts.get(allocation.id))

    def open(self) -> None:
        """The start-up sweep is over: what stands here is everything, and may be changed."""
        self._ready = True

    def require_open(self) -> None:
        """Raise Starting before that: whoever asked would take what isn't loaded yet for gone."""
        if not self._ready:
            raise Starting

    def on_change(self, listener: Listener) -> None:
        """Call `listener` after each durable change, on the event loop. It must not block."""
        self._listeners.append(listener)

    def find(self, allocation_id: AllocationId) -> Allocation | None:
        """None when it is terminal or unknown."""
        return self._allocations.get(allocation_id)

    def find_by_escrow(self, escrow: str) -> Allocation | None:
        found = self._by_escrow.get(escrow)
        return None if found is None else self._allocations.get(found)

    def attempt(self, allocation_id: AllocationId) -> Attempt | None:
        """The latest attempt of a live allocation."""
        return self._attempts.get(allocation_id)

    def __iter__(self) -> Iterator[Allocation]:
        return iter(list(self._allocations.values()))

    def of_wallet(self, wallet: str) -> list[Allocation]:
        """Everything of one wallet: asked for each submit, however many others are live."""
        return [self._allocations[allocation_id] for allocation_id in self._by_wallet.get(wallet, ())]

    def count_of_wallet(self, wallet: str) -> int:
        """How many those are, without looking at any."""
        return len(self._by_wallet.get(wallet, ()))

    def attempts_of(self, node_id: NodeId) -> list[Attempt]:
        """Attempts that are not over, of one node."""
        return list(self._by_node.get(node_id, {}).values())

    async def create(self, allocation: Allocation, also: Callable[[Transaction], None] | None = None) -> None:
        """Write a new allocation. Raises UniqueViolation when its key, nonce or escrow is taken."""

        def write(tx: Transaction) -> None:
            Allocations(tx).create(allocation)
            if also is not None:
                also(tx)
            tx.after_commit(lambda: self._take_in(allocation, None))

        await self._store.write(write)

    async def change(self, allocation_id: AllocationId, decide: Decide) -> Allocation | None:
        """Let `decide` say what becomes of it; the allocation afterwards, None when it isn't live.

        `decide` sees the present state and answers with a Change, or None when nothing is to be done.
        """
        if allocation_id not in self._allocations:
            # An id that means nothing, or no longer: no lock is made for what anybody may name.
            return None
        async with self.lock(allocation_id):
            before = self._allocations.get(allocation_id)
            if before is None:
                return None
            attempt = self._attempts.get(allocation_id)
            change = decide(before, attempt)
            if change is None:
                return before
            return await self._write(before, attempt, change)

    def put_vouchers(self, attempts: Iterable[Attempt]) -> None:
        """Put attempts with newer vouchers in place, which are in the store already. The caller holds the locks."""
        for attempt in attempts:
            if attempt.allocation_id in self._attempts:
                self._put_attempt(attempt.allocation_id, attempt)

    async def wait_for(
        self, allocation_id: AllocationId, done: Callable[[Allocation], bool], timeout_ms: int
    ) -> Allocation | None:
        """The allocation once `done` says so of it; None when that doesn't happen in time."""
        present = self._allocations.get(allocation_id)
        if present is not None and done(present):
            return present
        loop = asyncio.get_running_loop()
        arrived: asyncio.Future[Allocation | None] = loop.create_future()
        waiter = (done, arrived)
        self._waiters.setdefault(allocation_id, []).append(waiter)
        late = loop.call_later(timeout_ms / 1000, _give_up, arrived)
        try:
            return await arrived
        finally:
            late.cancel()
            waiting = self._waiters[allocation_id]
            waiting.remove(waiter)
            if not waiting:
                del self._waiters[allocation_id]

    async def catch_up(self, row: Allocation) -> bool:
        """Until what stands here is no older than this row, which the store shows from its commit on.

        Whether it was older: then what was made of both is to be made anew.
        """
        present = self._allocations.get(row.id)
        if present is None or present.version >= row.version:
            return False
        return await self.wait_for(row.id, lambda newer: newer.version >= row.version, CATCH_UP_MS) is not None

    def lock(self, allocation_id: AllocationId) -> asyncio.Lock:
        """The lock of one live allocation; never held across a wait for chain or node."""
        return self._locks.setdefault(allocation_id, asyncio.Lock())

    async def _write(self, before: Allocation, attempt_before: Attempt | None, change: Change) -> Allocation:
        if change.allocation.state is not before.state:
            _check_step(before.state, change.allocation.state)
        events = [self._event(kind, change) for kind in change.events]

        def write(tx: Transaction) -> Allocation:
            following = Allocations(tx).update(change.allocation, before)
            _write_attempt(tx, attempt_before, change)
            for event in events:
                Events(tx).append(event)
            if change.also is not None:
                change.also(tx)
            # An outcome is never half applied: once it is in the store it is put in place, whoever is cancelled.
            tx.after_commit(lambda: self._take_in(following, change.attempt))
            return following

        try:
            return await self._store.write(write)
        except asyncio.CancelledError:
            # It is written all the same. The next change begins with what this one leaves, so the lock is kept until
            # then: units run one after the other.
            with contextlib.suppress(MarketError):
                await self._store.write(lambda _tx: None)
            raise

    def _take_in(self, allocation: Allocation, attempt: Attempt | None) -> None:
        """What is durable now, seen by everybody."""
        self._put(allocation, attempt)
        self._tell(allocation)

    def _put(self, allocation: Allocation, attempt: Attempt | None) -> None:
        if allocation.terminal:
            self._allocations.pop(allocation.id, None)
            self._put_attempt(allocation.id, None)
            self._by_escrow.pop(allocation.escrow, None)
            self._forget_of_wallet(allocation)
            self._locks.pop(allocation.id, None)
            return
        previous = self._allocations.get(allocation.id)
        if previous is not None and previous.escrow != allocation.escrow:
            self._by_escrow.pop(previous.escrow, None)
        self._allocations[allocation.id] = allocation
        self._by_escrow[allocation.escrow] = allocation.id
        self._by_wallet.setdefault(allocation.wallet, set()).add(allocation.id)
        if attempt is not None or (previous is not None and previous.attempt != allocation.attempt):
            self._put_attempt(allocation.id, attempt)

    def _forget_of_wallet(self, allocation: Allocation) -> None:
        held = self._by_wallet.get(allocation.wallet)
        if held is not None:
            held.discard(allocation.id)
            if not held:
                del self._by_wallet[allocation.wallet]

    def _put_attempt(self, allocation_id: AllocationId, attempt: Attempt | None) -> None:
        """Keep the latest attempt, and the index of who holds what: a decision looks at every node."""
        previous = self._attempts.pop(allocation_id, None)
        if previous is not None:
            held = self._by_node.get(previous.node_id)
            if held is not None:
                held.pop(allocation_id, None)
                if not held:
                    del self._by_node[previous.node_id]
        if attempt is None:
            return
        self._attempts[allocation_id] = attempt
        if attempt.phase is not AttemptPhase.ENDED:
            self._by_node.setdefault(attempt.node_id, {})[allocation_id] = attempt

    def _tell(self, allocation: Allocation) -> None:
        for done, arrived in self._waiters.get(allocation.id, ()):
            if not arrived.done() and done(allocation):
                arrived.set_result(allocation)
        for listener in self._listeners:
            listener(allocation)

    def _event(self, kind: str, change: Change) -> NewEvent:
        allocation, attempt = change.allocation, change.attempt
        reason = allocation.reason
        if kind == "job.attempt_failed" and attempt is not None:
            reason = attempt.reason
        data: dict[str, object] = {
            "job_id": allocation.job_id,
            "status": allocation.status.value,
            "reason": None if reason is Reason.RUNNING else reason.code,
            "reason_number": int(reason),
            "cost": format_amount(attempt.amount if attempt else 0, self._chain.terms.decimals),
            "currency": self._currency,
            "attempt": allocation.attempt,
            **change.extra,
        }
        return NewEvent(
            EventId(self._ids.new("evt")), allocation.account_id, kind, allocation.job_id, self._clock.now(), data
        )


def _give_up(arrived: "asyncio.Future[Allocation | None]") -> None:
    if not arrived.done():
        arrived.set_result(None)


def _write_attempt(tx: Transaction, before: Attempt | None, change: Change) -> None:
    if change.attempt is None:
        if before is not None and change.allocation.attempt < before.number:
            Attempts(tx).delete(before.allocation_id, before.number)
    elif before is None or before.number != change.attempt.number:
        Attempts(tx).create(change.attempt)
    elif before != change.attempt:
        Attempts(tx).update(change.attempt)


def _check_step(before: AllocationState, after: AllocationState) -> None:
    """The state machine holds for every write. What others did on chain may be two of its steps in one."""
    passing = (AllocationState.RESERVING, AllocationState.RELEASING)
    if may_follow(before, after) or any(may_follow(before, s) and may_follow(s, after) for s in passing):
        return
    raise AssertionError(f"{before} is never followed by {after}")


def ended(attempt: Attempt, reason: Reason, at_ms: int) -> Attempt:
    """The attempt, over on chain. It ended when its work did, not when that was settled."""
    return replace(
        attempt,
        phase=AttemptPhase.ENDED,
        reason=attempt.reason if attempt.reason is not Reason.RUNNING else reason,
        ended_at_ms=attempt.exited_at_ms if attempt.exited_at_ms is not None else at_ms,
    )
