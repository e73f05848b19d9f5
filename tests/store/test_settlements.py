"""Usage and earnings: sums of payments, whatever they are grouped by, and the plans they are read with."""

from dataclasses import replace
from itertools import product

import pytest

from marketplace.domain.ids import AccountId, AllocationId
from marketplace.store.allocations import Allocations, Attempts
from marketplace.store.books import Books, ChainEscrow
from marketplace.store.engine import is_postgres
from marketplace.store.settlements import (
    CONTESTS,
    OF_ACCOUNT,
    OF_NODE,
    SLASHED,
    Grouping,
    Payment,
    Settlements,
    StakeTaken,
    grouped,
)
from tests.services.test_meter import ALLOCATION, ATTEMPT
from tests.store.test_hot_queries import postgres_scans

DAY = 86_400_000
ME = AccountId("acct_me")


def payment(number, escrow, *, at_ms, billed, node="node_a", attempt=1, paid=1_000):
    return Payment(
        signature=f"sig{number}", position=0, escrow=escrow, attempt=attempt, node=node, at_ms=at_ms,
        billed_ms=billed, paid=paid, operator=paid - 50, stakers=20, market=20, protocol=10,
    )  # fmt: skip


async def fill(store):
    """Two jobs of mine on two nodes, one of somebody else, and an escrow that nobody here knows."""

    def write(tx):
        for name, account, gpus, consumer in (("a", ME, 2, "x"), ("b", ME, 1, None), ("c", AccountId("other"), 1, "x")):
            Allocations(tx).create(
                replace(
                    ALLOCATION, id=AllocationId(f"alloc_{name}"), account_id=account, key=name, nonce=ord(name),
                    escrow=name, gpu_count=gpus, consumer_id=consumer,
                )
            )  # fmt: skip
            Attempts(tx).create(replace(ATTEMPT, allocation_id=AllocationId(f"alloc_{name}"), class_id="a100"))
            paid = {"a": 3_000, "b": 500, "c": 70}[name]
            Books(tx).put_escrow(
                ChainEscrow(name, "w", "m", 1, b"", 5_000, "closed", "s", paid=paid, refunded=5_000 - paid)
            )
        books = Settlements(tx)
        # one attempt paid twice: the second bills what came since the first
        books.record(payment(1, "a", at_ms=DAY, billed=4_000, paid=1_000))
        books.record(payment(2, "a", at_ms=2 * DAY, billed=10_000, paid=2_000))
        books.record(payment(3, "b", at_ms=2 * DAY, billed=1_000, node="node_b", paid=500))
        books.record(payment(4, "c", at_ms=2 * DAY, billed=1_000, paid=70))
        books.record(payment(5, "unknown", at_ms=2 * DAY, billed=1_000, paid=7))

    await store.write(write)


async def sums(store, grouping, start=0, until=10 * DAY, limit=100, offset=0):
    found, total, whole = await store.read(
        lambda tx: Settlements(tx).of_account(ME, start, until, grouping, limit=limit, offset=offset)
    )
    return {group.group: (group.jobs, group.gpu_ms, group.paid) for group in found}, total, whole


async def test_every_grouping_sums_to_the_escrows_totals(store):
    await fill(store)
    escrows = await store.read(
        lambda tx: tx.row("SELECT sum(e.paid) FROM chain_escrows e WHERE e.escrow IN ('a', 'b')")
    )
    for grouping in Grouping:
        found, total, whole = await sums(store, grouping)
        assert total == len(found)
        assert sum(paid for _, _, paid in found.values()) == whole.paid == int(escrows[0]) == 3_500
        assert whole.paid == whole.operator + whole.stakers + whole.market + whole.protocol
        assert (whole.jobs, whole.gpu_ms) == (2, 21_000)


async def test_groups_are_what_they_are_called(store):
    await fill(store)
    assert (await sums(store, Grouping.DAY))[0] == {DAY: (1, 8_000, 1_000), 2 * DAY: (2, 13_000, 2_500)}
    assert (await sums(store, Grouping.JOB))[0] == {"alloc_a": (1, 20_000, 3_000), "alloc_b": (1, 1_000, 500)}
    assert (await sums(store, Grouping.NODE))[0] == {"node_a": (1, 20_000, 3_000), "node_b": (1, 1_000, 500)}
    assert (await sums(store, Grouping.CONSUMER))[0] == {"x": (1, 20_000, 3_000), None: (1, 1_000, 500)}
    assert set((await sums(store, Grouping.GPU))[0]) == {"a100"}
    # the span's end is outside, and a page is a page
    assert (await sums(store, Grouping.DAY, until=2 * DAY))[0] == {DAY: (1, 8_000, 1_000)}
    found, total, whole = await sums(store, Grouping.DAY, limit=1, offset=1)
    assert (set(found), total, whole.paid) == ({DAY}, 2, 3_500)


async def test_a_node_earns_from_everybody_and_a_dropped_fork_takes_it_back(store):
    await fill(store)

    async def earned():
        _, _, whole = await store.read(
            lambda tx: Settlements(tx).of_node("node_a", 0, 10 * DAY, Grouping.DAY, limit=9, offset=0)
        )
        return whole.paid

    assert await earned() == 3_077
    await store.write(lambda tx: Books(tx).undo(["sig2"]))
    assert await earned() == 1_077
    assert await store.read(lambda tx: Settlements(tx).stake_taken("node_a", 0, 10 * DAY)) == StakeTaken(0, 0)


QUERIES = [grouped(grouping, whose) for grouping, whose in product(Grouping, (OF_ACCOUNT, OF_NODE))]


@pytest.mark.parametrize("query", [*QUERIES, SLASHED, CONTESTS])
async def test_no_sum_scans(store, location, query):
    text = query.replace(":who", "''").replace(":node", "''").replace(":start", "1").replace(":until", "2")
    text = text.replace(":limit", "20").replace(":offset", "0")
    if is_postgres(location):
        assert await store.read(lambda tx: postgres_scans(tx, text)) == []
    else:
        plan = [row[3] for row in await store.read(lambda tx: tx.rows("EXPLAIN QUERY PLAN " + text))]
        assert all(step.startswith("SEARCH") or "B-TREE" in step for step in plan), plan
