"""Lists and history over HTTP: filters, pages, inclusive UTC dates, CSV, and whose jobs they show."""

import csv
import io
import re
from dataclasses import replace

from marketplace.domain.ids import AllocationId, new_id
from marketplace.domain.lifecycle import AllocationState
from marketplace.domain.reasons import Reason
from marketplace.store.allocations import Allocations, Attempts
from marketplace.store.logins import Accounts
from tests.api.conftest import Wallet
from tests.services.test_meter import ALLOCATION, ATTEMPT

DAY = 86_400_000
MIDNIGHT = 1_767_225_600_000
"""2026-01-01T00:00:00Z."""


async def fill(market, account_id, ends):
    """A completed job for each of `ends`, the instants at which they ended."""

    def write(tx):
        for n, at in enumerate(ends):
            name = AllocationId(new_id("alloc", at, n + int.from_bytes(account_id[-4:].encode())))
            Allocations(tx).create(
                replace(
                    ALLOCATION, id=name, account_id=account_id, key=name, nonce=n, escrow=name, wallet=account_id,
                    created_at_ms=at - 1_000, funded_at_ms=at - 900, completed_at_ms=at, attempt=1,
                    state=AllocationState.RELEASED, reason=Reason.COMPLETED, name="=cmd", consumer_id=f"c{n % 2}",
                    labels=(("team", "ml"),) if n % 2 else (),
                    spec='{"image":"i","class_id":"cpu-small","limit_ms":60000}',
                )
            )  # fmt: skip
            Attempts(tx).create(replace(ATTEMPT, allocation_id=name, paid=1_000 + n, amount=1_000 + n))

    await market.store.write(write)


async def test_lists_and_history_over_http(live_market, live_call, wallet):
    token = (await live_call.login(wallet))["token"]
    other = Wallet()
    await live_call.login(other)
    mine, theirs = [
        await live_market.store.read(lambda tx, w=w: Accounts(tx).find_by_wallet(w.address)) for w in (wallet, other)
    ]
    ends = [MIDNIGHT - 1, MIDNIGHT, MIDNIGHT + 31 * DAY - 1, MIDNIGHT + 31 * DAY]
    await fill(live_market, mine, ends)
    await fill(live_market, theirs, ends)

    async def get(path, status=200):
        got, answer, headers = await live_call("GET", path, token=token)
        assert got == status, answer
        return answer if status != 200 or headers["Content-Type"].startswith("application") else answer.decode()

    # seed 002: both days are inside; the fixed word is no id
    january = await get("/v1/jobs/history?from=2026-01-01&to=2026-01-31")
    assert list(january) == ["jobs", "total", "has_more"]
    assert (january["total"], january["has_more"]) == (2, False)
    assert [job["completed_at"] for job in january["jobs"]] == [
        "2026-01-31T23:59:59.999Z", "2026-01-01T00:00:00.000Z",
    ]  # fmt: skip
    assert list(january["jobs"][0])[:3] == ["job_id", "status", "model"]
    whole = await get("/v1/jobs/history?from=2025-12-31&to=2026-02-01&limit=3")
    assert (whole["total"], len(whole["jobs"]), whole["has_more"]) == (4, 3, True)
    assert (await get("/v1/jobs/history?from=2025-12-31&to=2026-02-01&limit=3&offset=3"))["has_more"] is False
    one = await get("/v1/jobs/history?from=2026-01-31T23:59:59.999Z&to=2026-01-31T23:59:59.999Z&status=Completed")
    assert one["total"] == 1
    assert (await get("/v1/jobs/history"))["total"] == 0
    # filters
    assert (await get("/v1/jobs?status=completed,failed&limit=1"))["total"] == 4
    assert (await get("/v1/jobs?status=pending&status=running"))["total"] == 0
    assert (await get("/v1/jobs?label=team:ml"))["total"] == 2
    assert (await get("/v1/jobs?consumer_id=c1&gpu=cpu"))["total"] == 2
    assert (await get("/v1/jobs?gpu=h100"))["total"] == 0
    assert (await get("/v1/jobs?limit=500"))["total"] == 4
    # a table; what a spreadsheet would run is text
    table = list(csv.DictReader(io.StringIO(await get("/v1/jobs/history?from=2026-01-01&to=2026-01-31&format=csv"))))
    assert [row["job_id"] for row in table] == [job["job_id"] for job in january["jobs"]]
    assert {(row["name"], row["status"], row["currency"]) for row in table} == {("'=cmd", "completed", "USDC")}
    assert [row["cost"] for row in table] == ["0.001002", "0.001001"]
    # what one job takes of the store, whatever its account has
    asked = []
    lookups = live_market.store._engine._lookup_session.raw
    lookups.set_trace_callback(lambda sql: asked.append(re.search(r"FROM (\w+)", sql)[1]))
    await get(f"/v1/jobs/{january['jobs'][0]['job_id']}")
    lookups.set_trace_callback(None)
    assert [table for table in asked if table != "logins"] == [
        "allocations", "allocations", "attempts", "chain_escrows", "escrow_transactions",
        "job_outputs", "job_outputs", "job_outputs", "bucket_deliveries", "checkpoints",
    ]  # fmt: skip
    # refused by name
    for path, field in (
        ("/v1/jobs?status=finished", "status"), ("/v1/jobs?status=", "status"),
        ("/v1/jobs?status=queued,,running", "status"), ("/v1/jobs/history?status=running", "status"),
        ("/v1/jobs?gpu=z9", "gpu"), ("/v1/jobs?label=x", "label"), ("/v1/jobs?limit=0", "limit"),
        ("/v1/jobs?offset=-1", "offset"), ("/v1/jobs/history?from=2026-02-01&to=2026-01-01", "from"),
        ("/v1/jobs/history?from=2020-01-01&to=2026-01-01", "from"), ("/v1/jobs/history?to=tomorrow", "to"),
        ("/v1/jobs/history?format=xml", "format"),
    ):  # fmt: skip
        answer = await get(path, 422)
        assert [detail["field"] for detail in answer["details"]] == [field], path
