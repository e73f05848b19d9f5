"""Lists of jobs: what they show, how many statements they take, and that none reads more than it has to."""

from dataclasses import replace

import pytest

from marketplace.domain.ids import AccountId, AllocationId
from marketplace.domain.lifecycle import TERMINAL_STATUSES, AllocationState, JobStatus
from marketplace.domain.quantities import Millis
from marketplace.domain.reasons import Reason
from marketplace.errors import StaleLease
from marketplace.store.allocations import (
    COUNT_UNFINISHED,
    LAST_RUNS,
    AllocationFilter,
    AllocationPages,
    Allocations,
    Attempts,
)
from marketplace.store.engine import is_postgres
from tests.services.test_meter import ALLOCATION, ATTEMPT
from tests.store.test_hot_queries import postgres_scans

ME = AccountId("acct_me")
ENDS = {
    JobStatus.COMPLETED: Reason.COMPLETED, JobStatus.CANCELLED: Reason.CANCELLED, JobStatus.TIMED_OUT: Reason.TIMEOUT,
    JobStatus.EXPIRED: Reason.QUEUE_EXPIRED, JobStatus.FAILED: Reason.NODE_LOST,
}  # fmt: skip


def job(number, *, ended=None, **fields):
    """Number `number`, created in that millisecond; ended: its last word, a hundred milliseconds later."""
    name = f"alloc_{number:03}"
    row = replace(
        ALLOCATION, id=AllocationId(name), account_id=ME, key=name, nonce=number, escrow=name, created_at_ms=number,
        funded_at_ms=number, state=AllocationState.RESERVING, **fields,
    )  # fmt: skip
    if ended is not None:
        row = replace(row, state=AllocationState.RELEASED, reason=ENDS[ended], completed_at_ms=number + 100)
    return row


async def fill(store, rows):
    def write(tx):
        for row in rows:
            Allocations(tx).create(row)

    await store.write(write)


async def page(store, limit=100, offset=0, **fields):
    found, total = await store.read(
        lambda tx: Allocations(tx).page(AllocationFilter(account_id=ME, **fields), limit=limit, offset=offset)
    )
    return [int(a.id[-3:]) for a in found], total


async def test_pages_of_any_mixture_of_words_are_one_order_and_totals_are_totals(store):
    words = [None, *ENDS]
    await fill(store, [job(n, ended=words[n % 6]) for n in range(60)])
    everything = list(range(59, -1, -1))
    assert await page(store) == (everything, 60)
    assert await page(store, limit=7, offset=50) == (everything[50:57], 60)
    assert await page(store, limit=7, offset=60) == ([], 60)
    for chosen in ((JobStatus.QUEUED,), (JobStatus.COMPLETED, JobStatus.QUEUED), tuple(ENDS), (JobStatus.RUNNING,)):
        wanted = [n for n in everything if (words[n % 6] or JobStatus.QUEUED) in chosen]
        assert await page(store, statuses=chosen) == (wanted, len(wanted))
        assert await page(store, statuses=chosen, limit=3, offset=5) == (wanted[5:8], len(wanted))
    assert await page(store, statuses=[]) == ([], 0)


async def test_a_word_changes_with_the_job(store):
    await fill(store, [job(1)])
    row = await store.lookup(lambda tx: Allocations(tx).find(AllocationId("alloc_001")))
    cancelling = await store.write(lambda tx: Allocations(tx).update(replace(row, cancelling=True)))
    assert await page(store, statuses=[JobStatus.CANCELLING]) == ([1], 1)
    over = replace(cancelling, state=AllocationState.RELEASED, reason=Reason.CANCELLED, completed_at_ms=9)
    await store.write(lambda tx: Allocations(tx).update(over))
    assert await page(store, statuses=[JobStatus.CANCELLING]) == ([], 0)
    assert await page(store, statuses=[JobStatus.CANCELLED]) == ([1], 1)


async def test_the_history_is_of_ended_jobs_by_their_end_and_its_span_has_two_edges(store):
    await fill(store, [job(n, ended=JobStatus.COMPLETED if n % 2 else None) for n in range(10)])
    assert await page(store, ended_from_ms=0, ended_until_ms=1_000) == ([9, 7, 5, 3, 1], 5)
    assert await page(store, ended_from_ms=103, ended_until_ms=107) == ([5, 3], 2)
    assert await page(store, ended_from_ms=0, ended_until_ms=1_000, statuses=[JobStatus.FAILED]) == ([], 0)


async def test_labels_consumers_and_classes_narrow_together(store):
    await fill(
        store,
        [job(n, labels=(("team", f"t{n % 2}"), ("é", '"x"')), consumer_id=f"c{n % 3}") for n in range(12)],
    )
    assert await page(store, label=("team", "t1")) == ([11, 9, 7, 5, 3, 1], 6)
    assert await page(store, label=("é", '"x"'), limit=1) == ([11], 12)
    assert await page(store, label=("team", "t1"), consumer_id="c0") == ([9, 3], 2)
    assert await page(store, label=("team", "t1"), class_id="h100") == ([], 0)


async def test_a_class_finds_the_jobs_that_a_node_of_it_has_and_those_that_it_may_get(store):
    several = {"class_id": "any", "tiers": (("a100",), ("h100", "v100"))}
    await fill(
        store,
        [
            job(1, class_id="h100"),
            job(2, **several, attempt=0),
            job(3, **several, attempt=2),
            job(4, class_id="v100", attempt=1),
        ],
    )

    def attempts(tx):
        for number, (first, second) in {3: ("a100", "h100"), 4: ("v100", "")}.items():
            for n, class_id in enumerate((first, second), 1):
                Attempts(tx).create(
                    replace(ATTEMPT, allocation_id=AllocationId(f"alloc_{number:03}"), number=n, class_id=class_id)
                )

    await store.write(attempts)
    assert await page(store, class_id="h100") == ([3, 2, 1], 3)
    assert await page(store, class_id="a100") == ([2], 1)
    assert await page(store, class_id="v100") == ([4, 2], 2)
    assert await page(store, class_id="any") == ([3, 2], 2)
    assert await page(store, class_id="cpu-small") == ([], 0)


async def test_the_last_runs_of_an_image_are_read_from_an_index(store, location):
    await fill(store, [job(n, ended=JobStatus.COMPLETED if n % 2 else None, attempt=1, image="i") for n in range(50)])

    def runs(tx):
        for n in range(50):
            Attempts(tx).create(replace(ATTEMPT, allocation_id=AllocationId(f"alloc_{n:03}"), billed_ms=Millis(n)))

    await store.write(runs)
    assert await store.lookup(lambda tx: Attempts(tx).list_runs(ME, "i", 3)) == [49, 47, 45]
    assert await store.lookup(lambda tx: Attempts(tx).list_runs(ME, "j", 3)) == []
    text = LAST_RUNS.replace(":account", "'a'").replace(":image", "'b'").replace(":limit", "20")
    if is_postgres(location):
        assert await store.read(lambda tx: postgres_scans(tx, text)) == []
        return
    plan = [row[3] for row in await store.read(lambda tx: tx.rows("EXPLAIN QUERY PLAN " + text))]
    assert plan[0].startswith("SEARCH a USING INDEX ix_allocations_runs (account_id=? AND image=?)"), plan
    assert not any("B-TREE" in step for step in plan), plan


class Counting:
    """A transaction that counts its statements."""

    def __init__(self, tx):
        self._tx = tx
        self.statements = 0

    def __getattr__(self, name):
        def call(*arguments):
            self.statements += 1
            return getattr(self._tx, name)(*arguments)

        return call if name in {"rows", "execute", "change"} else getattr(self._tx, name)

    def row(self, sql, parameters=None):
        return next(iter(self.rows(sql, parameters)), None)


async def test_a_page_takes_four_statements_whatever_it_holds(store):
    await fill(store, [job(n, ended=JobStatus.COMPLETED) for n in range(80)])

    def read(tx):
        counting = Counting(tx)
        found, _ = Allocations(counting).page(AllocationFilter(account_id=ME), limit=50, offset=10)
        Attempts(counting).list_for_each([a.id for a in found])
        return len(found), counting.statements

    assert await store.read(read) == (50, 4)


LISTS = {
    "every job": {},
    "one word": {"statuses": [JobStatus.RUNNING]},
    "several words": {"statuses": [JobStatus.RUNNING, JobStatus.COMPLETED]},
    "a label": {"label": ("a", "b")},
    "a class": {"class_id": "h100"},
    "a class and words": {"class_id": "h100", "statuses": [JobStatus.RUNNING, JobStatus.COMPLETED]},
    "history": {"ended_from_ms": 1, "ended_until_ms": 2},
    "words of the history": {"ended_from_ms": 1, "ended_until_ms": 2, "statuses": [JobStatus.FAILED]},
}


@pytest.mark.parametrize("name", LISTS)
async def test_no_list_scans_and_no_page_sorts_what_its_account_has(store, location, name):
    pages = AllocationPages(AllocationFilter(account_id=ME, **LISTS[name]))
    values = pages.values | {"limit": 20, "offset": 0, "most": 20}
    for sql in (pages.ids, pages.count):
        text = sql
        for key in sorted(values, key=len, reverse=True):
            value = values[key]
            text = text.replace(f":{key}", str(value) if isinstance(value, int) else f"'{value}'")
        if is_postgres(location):
            assert await store.read(lambda tx, text=text: postgres_scans(tx, text)) == []
            continue
        plan = [row[3] for row in await store.read(lambda tx, text=text: tx.rows("EXPLAIN QUERY PLAN " + text))]
        tables = [step for step in plan if any(t in step for t in ("allocations", "job_labels", "job_counts"))]
        assert tables
        if sql is pages.count and not {"label", "class_id"} & set(LISTS[name]):
            # Words are counted as they change, the history from its index alone: neither looks at a job.
            where = "COVERING INDEX ix_allocations_ended" if "ended_from_ms" in LISTS[name] else "job_counts"
            assert all(where in step for step in tables), plan
        assert all(step.startswith("SEARCH") for step in tables), plan
        if len(LISTS[name].get("statuses", [])) < 2:
            assert not any("B-TREE" in step for step in plan), plan


async def test_counts_are_those_of_the_rows_however_they_were_written(store):
    def write(tx):
        jobs = Allocations(tx)
        for n in range(6):
            jobs.create(job(n, ended=JobStatus.COMPLETED if n % 2 else None))
        unpaid = replace(job(7), funded_at_ms=None, state=AllocationState.REQUESTED)
        jobs.create(unpaid)
        # An intent that is paid, a word that changes, and a write that changes none; with the row as read, and without.
        paid = jobs.update(replace(unpaid, funded_at_ms=9, state=AllocationState.RESERVING), unpaid)
        jobs.update(replace(paid, progress=5), paid)
        jobs.update(replace(job(0), cancelling=True), job(0))
        jobs.update(replace(job(2), cancelling=True))

    await store.write(write)

    def read(tx):
        counted = tx.rows("SELECT account_id, status, jobs FROM job_counts WHERE jobs != 0 ORDER BY status")
        rows = tx.rows(
            "SELECT account_id, status, count(*) FROM allocations WHERE funded_at_ms IS NOT NULL"
            " GROUP BY account_id, status ORDER BY status"
        )
        return counted, rows

    counted, rows = await store.read(read)
    assert counted == rows == [(ME, "cancelling", 2), (ME, "completed", 3), (ME, "queued", 2)]

    def stale(tx):
        Allocations(tx).update(replace(job(4), cancelling=True, version=3), job(4))

    with pytest.raises(StaleLease):
        await store.write(stale)
    assert (await store.read(read))[0] == counted


async def test_live_jobs_are_counted_by_their_words(store):
    await fill(store, [job(n, ended=JobStatus.COMPLETED if n % 2 else None) for n in range(10)])
    assert await store.lookup(lambda tx: Allocations(tx).count_unfinished(ME)) == 5
    assert not any(f"'{word}'" in COUNT_UNFINISHED for word in TERMINAL_STATUSES)
