"""Every reason for which a job can end, provoked; what each party pays or gets is what the table says.

A real market, the real program, a scripted node. The table: `marketplace.domain.reasons`, docs/reasons.md.
"""

import asyncio

import pytest

from marketplace.domain.lifecycle import TERMINAL_STATUSES, final_status
from marketplace.domain.money import amount_due
from marketplace.domain.reasons import JOB_REASONS, MEANINGS, Reason
from marketplace.protocol.vouchers import VoucherState
from tests.api import test_job_faults as faults
from tests.api.test_jobs import until

quick_market, quick_call, renter, make_node = faults.quick_market, faults.quick_call, faults.renter, faults.make_node

BILLED_MS = 400
OF_THE_WORK = {
    Reason.COMPLETED: 0, Reason.APP_ERROR: 3, Reason.TIMEOUT: None, Reason.OOM: 137, Reason.DISK_FULL: 1,
    Reason.OUT_OF_FUNDS: None, Reason.OUTPUT_DELIVERY_FAILED: 0, Reason.OUTPUT_TOO_LARGE: 0,
}  # fmt: skip
"""Ends that a node reports with a final voucher, and the exit code with it."""
HANDED_OVER = (Reason.NODE_QUIT, Reason.NODE_DRAINED, Reason.INTERRUPTED)
"""Ends that a node reports with a voucher that leaves the escrow to another attempt."""
UNSTARTED = (Reason.IMAGE_UNAVAILABLE, Reason.PULL_FAILED, Reason.START_TIMEOUT, Reason.INPUT_UNAVAILABLE)
"""Ends before the meter ran."""
OF_THE_MARKET = (Reason.CANCELLED, Reason.QUEUE_EXPIRED, Reason.NODE_LOST)
ELSEWHERE = {
    Reason.MARKET_ERROR: "tests/api/test_rotations.py",
    Reason.OVERCLAIM: "tests/program/test_overclaim.py",
}
"""Ends that take a lost key or a forged voucher."""
ONE_TRY = {"max_attempts": 1}


async def over(renter, job_id):
    """The job with its last word, once its escrow is gone too."""
    await until(renter, job_id, *TERMINAL_STATUSES)
    return await faults.closed(renter, job_id)


def units(text):
    return int(text.replace(".", ""))


def money_is_as_the_table_says(job, reason, billed_ms):
    meaning, money = MEANINGS[reason], job["settlement"]
    assert (job["reason"], job["status"]) == (reason.code, final_status(reason).value)
    assert (job["reason_text"], job["who_pays"]) == (
        meaning.text, {"renter": meaning.renter_pays, "node": meaning.node},
    )  # fmt: skip
    paid = units(money["paid"])
    due = amount_due(units(money["price_per_hour"]), billed_ms) if money["price_per_hour"] else 0
    assert paid == (due if meaning.renter_pays.startswith("used") else 0), reason
    assert units(money["deposit"]) == paid + units(money["refunded"]), reason
    fees = sum(units(amount) for amount in money["fees"].values())
    assert units(money["operator_received"]) + fees == paid, reason
    assert (units(money["operator_received"]) > 0) == (due > 0 and "paid" in meaning.node), reason
    assert units(job["cost"]) == paid, reason


def test_every_reason_of_jobs_is_provoked_somewhere():
    here = {*OF_THE_WORK, *HANDED_OVER, *UNSTARTED, *OF_THE_MARKET, *ELSEWHERE}
    assert here == JOB_REASONS


async def test_what_a_node_reports_is_paid_as_the_table_says(renter, make_node, quick_market):
    node = await make_node()
    cases = [
        *((reason, code, VoucherState.FINAL) for reason, code in OF_THE_WORK.items()),
        *((reason, None, VoucherState.ENDED) for reason in HANDED_OVER),
    ]
    for reason, code, state in cases:
        job_id, attempt = await faults.started(renter, node, quick_market, key=reason.code, retry=ONE_TRY)
        await faults.billed(attempt, BILLED_MS)
        voucher = attempt.voucher(BILLED_MS, at=attempt.started + BILLED_MS, state=state, reason=reason)
        answer = await attempt.report("exited", reason=reason, exit_code=code, voucher=voucher)
        assert answer["type"] == "ack", (reason, answer)
        money_is_as_the_table_says(await over(renter, job_id), reason, BILLED_MS)


async def test_what_never_started_costs_nothing(renter, make_node):
    node = await make_node()
    for reason in UNSTARTED:
        submitting = asyncio.create_task(faults.submit(renter, reason.code, retry=ONE_TRY))
        attempt = await node.take()
        _, answer, _ = await submitting
        await until(renter, answer["id"], "assigned")
        assert (await attempt.report("exited", reason=reason))["type"] == "ack"
        money_is_as_the_table_says(await over(renter, answer["id"]), reason, 0)


async def test_what_nobody_took_in_time_comes_back_whole(renter, quick_market):
    _, answer, _ = await faults.submit(renter, queue_seconds=0)
    money_is_as_the_table_says(await over(renter, answer["id"]), Reason.QUEUE_EXPIRED, 0)


@pytest.mark.parametrize("stage", ["queued", "assigned", "running"])
async def test_a_cancelled_job_pays_what_it_used(renter, make_node, quick_market, stage):
    if stage == "queued":
        _, answer, _ = await faults.submit(renter)
        await renter("DELETE", f"/v1/jobs/{answer['id']}")
        money_is_as_the_table_says(await over(renter, answer["id"]), Reason.CANCELLED, 0)
        return
    node = await make_node()
    if stage == "assigned":
        submitting = asyncio.create_task(faults.submit(renter))
        attempt = await node.take()
        job_id = (await submitting)[1]["id"]
        await until(renter, job_id, "assigned")
        used, voucher = 0, None
    else:
        job_id, attempt = await faults.started(renter, node, quick_market)
        await faults.billed(attempt, BILLED_MS)
        used = BILLED_MS
        voucher = attempt.voucher(
            used, at=attempt.started + used, state=VoucherState.FINAL, reason=Reason.CANCELLED
        )  # fmt: skip
    await renter("DELETE", f"/v1/jobs/{job_id}")
    await faults.command_of(node, attempt, "stop")
    assert (await attempt.report("exited", reason=Reason.CANCELLED, voucher=voucher))["type"] == "ack"
    money_is_as_the_table_says(await over(renter, job_id), Reason.CANCELLED, used)


async def test_a_lost_job_pays_to_the_last_acknowledged_voucher_and_is_compensated(renter, make_node, quick_market):
    node = await make_node()
    job_id, attempt = await faults.started(renter, node, quick_market, retry=ONE_TRY)
    await faults.billed(attempt, BILLED_MS)
    await node.die()
    job = await over(renter, job_id)
    money_is_as_the_table_says(job, Reason.NODE_LOST, BILLED_MS)
    assert units(job["settlement"]["compensation"]["amount"]) > 0
