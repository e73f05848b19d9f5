"""Allocations, attempts, logs, leases, books: what is written is what is read, and stale writers lose."""

from dataclasses import replace

import pytest

from marketplace.domain.allocations import Opener
from marketplace.domain.groups import Group
from marketplace.domain.ids import AccountId, AllocationId, GroupId, NodeId
from marketplace.domain.lifecycle import AllocationState, JobStatus
from marketplace.domain.reasons import Reason
from marketplace.errors import StaleLease, UniqueViolation
from marketplace.store.allocations import AllocationFilter, Allocations, Attempts, Contest, Contests
from marketplace.store.books import Books, ChainEscrow, Movement, StoredEvent
from marketplace.store.groups import Groups
from marketplace.store.leases import Leases
from marketplace.store.log_lines import LogLines, StoredLine
from marketplace.store.nodes import Nodes
from tests.services.test_meter import ALLOCATION, ATTEMPT

FULL = replace(
    ALLOCATION, regions=("eu", "na"), excluded=(NodeId("node_2"),), labels=(("team", "a"),), name="n", opening=True
)


async def test_an_allocation_and_its_attempt_come_back_as_they_went(store):
    def write(tx):
        Allocations(tx).create(FULL)
        Attempts(tx).create(replace(ATTEMPT, voucher=b"v", node_signature=b"s"))

    await store.write(write)
    found = await store.lookup(lambda tx: (Allocations(tx).find(FULL.id), Attempts(tx).find(FULL.id, 1)))
    assert found == (FULL, replace(ATTEMPT, voucher=b"v", node_signature=b"s"))


async def test_a_key_a_nonce_and_an_escrow_are_given_once(store):
    await store.write(lambda tx: Allocations(tx).create(FULL))
    other = replace(FULL, id=AllocationId("alloc_2"), key="k2", nonce=2, escrow="e2")
    for twin in (replace(other, key=FULL.key), replace(other, nonce=FULL.nonce), replace(other, escrow=FULL.escrow)):
        with pytest.raises(UniqueViolation):
            await store.write(lambda tx, twin=twin: Allocations(tx).create(twin))
    await store.write(lambda tx: Allocations(tx).create(replace(other, nonce=FULL.nonce, opener=Opener.WALLET)))
    nonces = [
        await store.lookup(lambda tx, n=n: Allocations(tx).list_nonces(FULL.wallet, Opener.MARKET, n)) for n in (0, 1)
    ]
    assert nonces == [{1}, set()]


async def test_a_write_that_names_an_old_version_is_stale(store):
    await store.write(lambda tx: Allocations(tx).create(FULL))
    newer = await store.write(lambda tx: Allocations(tx).update(replace(FULL, progress=5)))
    assert newer.version == 1
    with pytest.raises(StaleLease):
        await store.write(lambda tx: Allocations(tx).update(replace(FULL, progress=6)))


async def test_a_write_beside_what_was_read_writes_the_difference_only(store):
    changed = replace(FULL, progress=5, excluded=(NodeId("node_a"),), state=AllocationState.ACTIVE, error="why")

    def write(tx):
        Allocations(tx).create(FULL)
        # Whatever else the row holds by now is left as it is.
        tx.change("UPDATE allocations SET name = 'other'")
        return Allocations(tx).update(changed, FULL)

    assert (await store.write(write)).version == 1
    assert await store.lookup(lambda tx: Allocations(tx).find(FULL.id)) == replace(changed, name="other", version=1)
    with pytest.raises(StaleLease):
        await store.write(lambda tx: Allocations(tx).update(replace(changed, progress=6), changed))


async def test_lists_narrow_by_word_class_and_label_and_never_show_the_unfunded(store):
    funded = replace(FULL, funded_at_ms=1)
    rows = [
        replace(FULL, id=AllocationId("alloc_0"), key="0", nonce=10, escrow="e0"),
        replace(funded, id=AllocationId("alloc_1"), key="1", nonce=11, escrow="e1", state=AllocationState.RESERVING),
        replace(
            funded, id=AllocationId("alloc_2"), key="2", nonce=12, escrow="e2", state=AllocationState.RELEASED,
            reason=Reason.COMPLETED, labels=(),
        ),
        replace(
            funded, id=AllocationId("alloc_3"), key="3", nonce=13, escrow="e3", state=AllocationState.FAILED,
            reason=Reason.NODE_LOST, created_at_ms=9,
        ),
    ]  # fmt: skip

    def write(tx):
        for row in rows:
            Allocations(tx).create(row)

    await store.write(write)

    async def ids(**fields):
        wanted = AllocationFilter(account_id=FULL.account_id, **fields)
        page, total = await store.lookup(lambda tx: Allocations(tx).page(wanted, limit=10, offset=0))
        assert total == len(page)
        return [a.id for a in page]

    assert await ids() == ["alloc_3", "alloc_2", "alloc_1"]
    assert await ids(statuses=[JobStatus.QUEUED]) == ["alloc_1"]
    assert await ids(statuses=[JobStatus.COMPLETED]) == ["alloc_2"]
    assert await ids(statuses=[JobStatus.FAILED, JobStatus.QUEUED]) == ["alloc_3", "alloc_1"]
    assert await ids(label=("team", "a")) == ["alloc_3", "alloc_1"]
    assert await ids(label=("team", "b")) == []
    assert await ids(class_id="a100") == []


async def test_a_batch_of_vouchers_never_puts_an_older_one_back(store):
    def write(tx):
        Allocations(tx).create(FULL)
        Attempts(tx).create(replace(ATTEMPT, voucher=b"new", voucher_sequence=9))
        Attempts(tx).write_vouchers([replace(ATTEMPT, voucher=b"old", voucher_sequence=8)])

    await store.write(write)
    assert (await store.lookup(lambda tx: Attempts(tx).find(FULL.id, 1))).voucher == b"new"


async def test_log_lines_come_back_in_order_from_any_point(store):
    lines = [StoredLine(1, n, n, 1, f"line {n} ✓") for n in range(1, 8)]

    def write(tx):
        LogLines(tx).append(FULL.id, lines[:3], 30, 1)
        LogLines(tx).append(FULL.id, lines[3:], 40, 2)
        LogLines(tx).append(FULL.id, [StoredLine(2, 1, 9, 2, "again")], 5, 3)

    await store.write(write)
    read = store.lookup
    assert await read(lambda tx: LogLines(tx).position(FULL.id, 1)) == (8, 70)
    assert (await read(lambda tx: LogLines(tx).list_after(FULL.id, after=(1, 2))))[:2] == lines[2:4]
    assert (await read(lambda tx: LogLines(tx).list_after(FULL.id, after=(1, 7))))[0].text == "again"
    assert await read(lambda tx: LogLines(tx).list_after(FULL.id, after=(0, 0), attempt=1)) == lines
    assert [x.seq for x in await read(lambda tx: LogLines(tx).tail(FULL.id, 3))] == [6, 7, 1]
    assert await read(lambda tx: LogLines(tx).tail(FULL.id, 0)) == []


async def test_the_size_of_a_log_goes_on_from_chunks_that_did_not_keep_it(store):
    def write(tx):
        for n in (1, 2):
            LogLines(tx).append(FULL.id, [StoredLine(1, n, n, 1, "x")], 10 * n, n)
        tx.change("UPDATE log_chunks SET size_before = NULL")
        before = LogLines(tx).position(FULL.id, 1)
        LogLines(tx).append(FULL.id, [StoredLine(1, 3, 3, 1, "x")], 5, 3)
        return before, LogLines(tx).position(FULL.id, 1)

    assert await store.write(write) == ((3, 30), (4, 35))


async def test_the_last_lines_of_a_kind_are_found_behind_many_others(store):
    def write(tx):
        for number in range(1, 41):
            stream = 2 if number in (1, 2, 40) else 1
            LogLines(tx).append(FULL.id, [StoredLine(1, number, number, stream, "")], 1, number)

    await store.write(write)
    found = await store.lookup(lambda tx: LogLines(tx).tail(FULL.id, 2, None, lambda line: line.stream == 2))
    assert [line.seq for line in found] == [2, 40]


async def test_logs_are_forgotten_by_when_their_job_ended(store):
    """However old its first lines are, a job's log is kept for its whole time after the end."""
    running = replace(FULL, id="alloc_running", key="k2", nonce=2, escrow="e2", completed_at_ms=None)
    old = replace(FULL, completed_at_ms=50)

    def write(tx):
        for allocation in (old, running):
            Allocations(tx).create(allocation)
            LogLines(tx).append(allocation.id, [StoredLine(1, 1, 1, 1, "x")], 1, 10)

    await store.write(write)
    assert await store.write(lambda tx: LogLines(tx).forget_before(50)) == 0
    assert await store.write(lambda tx: LogLines(tx).forget_before(51)) == 1
    assert await store.lookup(lambda tx: LogLines(tx).tail(running.id, 1))


async def test_a_lease_has_one_holder_until_it_expires(store):
    def acquire(token, now):
        return lambda tx: Leases(tx).acquire("duty", "me", token, now, 100)

    assert await store.write(acquire("a", 0))
    assert not await store.write(acquire("b", 99))
    await store.write(lambda tx: Leases(tx).renew("duty", "a", 99, 100))
    assert not await store.write(acquire("b", 150))
    assert await store.write(acquire("b", 199))
    with pytest.raises(StaleLease):
        await store.write(lambda tx: Leases(tx).renew("duty", "a", 199, 100))
    await store.write(lambda tx: Leases(tx).release("duty", "a"))
    assert not await store.write(acquire("c", 200))


async def test_an_event_is_booked_once_and_balances(store):
    event = StoredEvent("sig", 0, 5, 1, "EscrowOpened", "e", None, "{}")

    def book(tx):
        Books(tx).record(event, (Movement("vault:w", -10), Movement("escrow:e", 10)))

    await store.write(book)
    with pytest.raises(UniqueViolation):
        await store.write(book)
    with pytest.raises(AssertionError):
        await store.write(lambda tx: Books(tx).record(replace(event, position=1), (Movement("vault:w", -10),)))
    assert await store.lookup(lambda tx: Books(tx).sums("e")) == {"vault:w": -10, "escrow:e": 10}
    await store.write(lambda tx: Books(tx).undo(["sig"]))
    assert await store.lookup(lambda tx: Books(tx).sums("e")) == {}


async def test_an_escrow_is_found_by_its_terms(store):
    escrow = ChainEscrow("e", "w", "w", 3, b"t" * 32, 10, "open", "sig")
    await store.write(lambda tx: Books(tx).put_escrow(escrow))
    await store.write(lambda tx: Books(tx).put_escrow(replace(escrow, state="closed")))
    found = await store.lookup(
        lambda tx: (Books(tx).find_by_terms("w", b"t" * 32), Books(tx).find_by_terms("x", b"t" * 32))
    )
    assert found == (replace(escrow, state="closed"), None)


async def test_a_contest_closes_once_and_outages_add_up(store):
    contest = Contest("e", 1, FULL.id, 5)

    def write(tx):
        Contests(tx).create(contest)
        Contests(tx).create(contest)
        nodes = Nodes(tx)
        nodes.begin_outage(NodeId("n"), 100)
        nodes.begin_outage(NodeId("n"), 150)
        nodes.end_outage(NodeId("n"), 200)
        nodes.begin_outage(NodeId("n"), 300)
        return Contests(tx).list_open(), nodes.down_ms(150, 350)

    assert await store.write(write) == ([contest], {"n": 100})
    await store.write(lambda tx: Contests(tx).close("e", 1))
    assert await store.lookup(lambda tx: Contests(tx).list_open()) == []


async def test_what_a_live_specification_names_is_found_by_its_own_text_only(store):
    """An underscore is a letter of ids, and any letter to a pattern."""
    rows = [
        replace(FULL, spec='{"file_id":"file_1a"}'),
        replace(_twin("b"), spec='{"file_id":"fileX1a"}'),
        replace(_twin("c"), spec='{"file_id":"file_1a"}', state=AllocationState.RELEASED),
        replace(_twin("d"), spec='{"file_id":"file_1a"}', account_id=AccountId("acct_other")),
        replace(_twin("e"), spec='{"file_id":"file_1a"}', state=AllocationState.REQUESTED),
    ]
    for row in rows:
        await store.write(lambda tx, row=row: Allocations(tx).create(row))
    find = lambda text, limit=9: store.read(lambda tx: Allocations(tx).list_naming(FULL.account_id, text, limit))  # noqa: E731
    assert await find("file_1a") == [rows[0].id, rows[4].id]
    assert await find("file_1a", 1) == [rows[0].id]
    for pattern in ("file%", "_", "%", "\\\\"):
        assert await find(pattern) == ([] if pattern != "_" else [rows[0].id, rows[1].id, rows[4].id])


async def test_a_group_is_due_but_while_all_of_it_is_submitted_and_one_is_live(store):
    group = Group(GroupId("grp_1"), FULL.account_id, FULL.wallet, None, "k", b"", None, "{}", 2, 1, ready_at_ms=1)
    jobs = [_twin("a"), _twin("b")]

    async def is_due(change):
        def write(tx):
            change(Groups(tx), Allocations(tx))
            return [found.id for found in Groups(tx).list_due()] == [group.id]

        return await store.write(write)

    def end(job):
        return lambda _, allocations: allocations.update(replace(job, state=AllocationState.RELEASED))

    assert await is_due(lambda groups, _: groups.create(group, (), ()))
    for position, job in enumerate(jobs):
        await store.write(lambda tx, job=job: Allocations(tx).create(job))
        waits = await is_due(lambda groups, _, at=position, job=job: groups.submitted(group.id, at, job.id))
        assert waits == (position == 0)
    assert await is_due(lambda groups, _: groups.update(replace(group, blocked="{}")))
    assert not await is_due(lambda groups, _: groups.update(group))
    assert await is_due(lambda groups, _: groups.note_cancelled(group.id, 2))
    assert not await is_due(lambda groups, _: groups.update(group))
    assert not await is_due(end(jobs[0]))
    assert await is_due(end(jobs[1]))
    assert not await is_due(lambda groups, _: groups.update(replace(group, over=True)))


def _twin(name):
    return replace(FULL, id=AllocationId(f"alloc_{name}"), key=name, escrow=f"escrow {name}", nonce=ord(name))
