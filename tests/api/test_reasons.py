"""Every reason for which a job can end, provoked; what each party pays or gets is what the table says.

A real market, the real program, a scripted node. The table: `marketplace.domain.reasons`, docs/reasons.md. What the
market says of the money is compared with each party's own account on chain: renter's vault, operator's tokens, the
pool's and the market's fee vaults, the protocol's tokens, and the SOL of the keys that lend rent and pay fees.
"""

import asyncio
from dataclasses import asdict, dataclass

from solders.pubkey import Pubkey

from marketplace.chain.addresses import associated_token_address
from marketplace.domain.lifecycle import TERMINAL_STATUSES, final_status
from marketplace.domain.money import amount_due
from marketplace.domain.reasons import JOB_REASONS, MEANINGS, Reason
from marketplace.protocol.receipts import Receipt, verify_receipt
from marketplace.protocol.vouchers import VoucherState
from marketplace.services import node_control
from tests.api import test_job_faults as faults
from tests.api.test_jobs import until

quick_market, quick_call, renter, make_node = faults.quick_market, faults.quick_call, faults.renter, faults.make_node

BILLED_MS = 400
OF_THE_WORK = {
    Reason.COMPLETED: 0, Reason.APP_ERROR: 3, Reason.TIMEOUT: None, Reason.OOM: 137, Reason.DISK_FULL: 1,
    Reason.OUT_OF_FUNDS: None, Reason.OUTPUT_DELIVERY_FAILED: 0, Reason.OUTPUT_TOO_LARGE: 0,
}  # fmt: skip
"""Ends that a node reports with a final voucher, and the exit code with it."""
HANDED_OVER = (Reason.NODE_DRAINED,)
"""Ends that a node in announced maintenance reports with a voucher that leaves the escrow to another attempt."""
UNSTARTED = (Reason.IMAGE_UNAVAILABLE, Reason.PULL_FAILED, Reason.START_TIMEOUT, Reason.INPUT_UNAVAILABLE)
"""Ends before the meter ran."""
OF_THE_MARKET = (Reason.CANCELLED, Reason.QUEUE_EXPIRED, Reason.NODE_LOST, Reason.NODE_QUIT)
ELSEWHERE = {
    Reason.MARKET_ERROR: "tests/api/test_rotations.py",
    Reason.OVERCLAIM: "tests/e2e/test_stake.py, tests/program/test_overclaim.py",
}
"""Ends that take a lost key or a forged voucher."""
ONE_TRY = {"max_attempts": 1}


async def over(renter, job_id):
    """The job with its last word, once its escrow is gone too."""
    await until(renter, job_id, *TERMINAL_STATUSES)
    return await faults.closed(renter, job_id)


def units(text):
    return int(text.replace(".", ""))


@dataclass(frozen=True)
class Purses:
    """What each party has on chain: base units of the payment token, and lamports of the matcher."""

    vault: int
    locked: int
    operator: int
    stakers: int
    fees: int
    matcher: int


async def purses(market, renter, node=None):
    """As of now. fees: the market's and the protocol's, wherever they lie meanwhile."""
    link = market.link
    addresses, reader, mint = link.calls.addresses, link.reader, link.facts.deployment.payment_mint

    async def held(address):
        found = await reader.find_token_account(address)
        return 0 if found is None else found.amount

    wallet = renter.keypair.pubkey()
    vault = await reader.find_vault(wallet)
    config = await reader.get_config()
    own = Pubkey.from_string(market.jobs.chain.terms.market)
    fees = await held(addresses.market_fees(own)) + await held(config.protocol_token)
    operator = stakers = 0
    if node is not None:
        operator = await held(associated_token_address(node.operator.keypair.pubkey(), mint))
        stakers = await held(addresses.pool_fees(addresses.pool(addresses.node(node.keypair.pubkey()))))
    return Purses(
        vault=await held(addresses.vault_tokens(addresses.vault(wallet))),
        locked=vault.locked,
        operator=operator,
        stakers=stakers,
        fees=fees,
        matcher=await market.rpc.get_balance(market.keys.matcher.pubkey()),
    )


def the_chain_agrees(job, before, after, market):
    """Every party's account moved by what the job's settlement says, and by nothing else."""
    money = job["settlement"]
    moved = {name: value - asdict(before)[name] for name, value in asdict(after).items()}
    payer = str(market.keys.matcher.pubkey())
    assert moved == {
        "vault": -units(money["paid"]),
        "locked": 0,
        "operator": units(money["operator_received"]),
        "stakers": units(money["fees"]["stakers"]),
        "fees": units(money["fees"]["market"]) + units(money["fees"]["protocol"]),
        # the escrow's rent is back; what is gone are the network's fees
        "matcher": -sum(t["fee_lamports"] for t in money["transactions"] if t["fee_payer"] == payer),
    }, job["reason"]


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
        before = await purses(quick_market, renter, node)
        job_id, attempt = await faults.started(renter, node, quick_market, key=reason.code, retry=ONE_TRY)
        await faults.billed(attempt, BILLED_MS)
        if reason in HANDED_OVER:
            assert (await node.operator("POST", f"/v1/nodes/{node.id}/drain", json={"drain": True}))[0] == 200
        voucher = attempt.voucher(BILLED_MS, at=attempt.started + BILLED_MS, state=state, reason=reason)
        answer = await attempt.report("exited", reason=reason, exit_code=code, voucher=voucher)
        assert answer["type"] == "ack", (reason, answer)
        job = await over(renter, job_id)
        money_is_as_the_table_says(job, reason, BILLED_MS)
        assert units(job["settlement"]["compensation"]["amount"]) == 0
        the_chain_agrees(job, before, await purses(quick_market, renter, node), quick_market)


async def test_what_never_started_costs_nothing(renter, make_node, quick_market):
    node = await make_node()
    for reason in UNSTARTED:
        before = await purses(quick_market, renter, node)
        submitting = asyncio.create_task(faults.submit(renter, reason.code, retry=ONE_TRY))
        attempt = await node.take()
        _, answer, _ = await submitting
        await until(renter, answer["id"], "assigned")
        assert (await attempt.report("exited", reason=reason))["type"] == "ack"
        job = await over(renter, answer["id"])
        money_is_as_the_table_says(job, reason, 0)
        the_chain_agrees(job, before, await purses(quick_market, renter, node), quick_market)
    assert await counted(renter, node) == (0, 0, {None})


async def test_what_nobody_took_in_time_comes_back_whole(renter, quick_market):
    before = await purses(quick_market, renter)
    _, answer, _ = await faults.submit(renter, queue_seconds=0)
    job = await over(renter, answer["id"])
    money_is_as_the_table_says(job, Reason.QUEUE_EXPIRED, 0)
    the_chain_agrees(job, before, await purses(quick_market, renter), quick_market)


async def test_a_cancelled_job_pays_what_it_used_at_every_stage(renter, make_node, quick_market):
    before = await purses(quick_market, renter)
    _, answer, _ = await faults.submit(renter, "queued")
    await renter("DELETE", f"/v1/jobs/{answer['id']}")
    job = await over(renter, answer["id"])
    money_is_as_the_table_says(job, Reason.CANCELLED, 0)
    the_chain_agrees(job, before, await purses(quick_market, renter), quick_market)
    node = await make_node()
    for stage in ("claimed", "assigned", "pulling", "running", "uploading"):
        before = await purses(quick_market, renter, node)
        submitting = asyncio.create_task(faults.submit(renter, stage))
        attempt = await node.take()
        job_id = (await submitting)[1]["id"]
        used, voucher = 0, None
        if stage != "claimed":
            await until(renter, job_id, "assigned")
            await faults.command_of(node, attempt, "assigned")
        if stage == "pulling":
            assert (await attempt.report("pulling"))["type"] == "ack"
        if stage in {"running", "uploading"}:
            await attempt.ready(quick_market)
            await faults.billed(attempt, BILLED_MS)
            used = BILLED_MS
        if stage == "uploading":
            assert (await attempt.report("uploading", reason=Reason.COMPLETED))["type"] == "ack"
            await until(renter, job_id, "uploading")
        await renter("DELETE", f"/v1/jobs/{job_id}")
        await faults.command_of(node, attempt, "stop")
        if used:
            voucher = attempt.voucher(
                used, at=attempt.started + used, state=VoucherState.FINAL, reason=Reason.CANCELLED
            )  # fmt: skip
        assert (await attempt.report("exited", reason=Reason.CANCELLED, voucher=voucher))["type"] == "ack", stage
        job = await over(renter, job_id)
        money_is_as_the_table_says(job, Reason.CANCELLED, used)
        the_chain_agrees(job, before, await purses(quick_market, renter, node), quick_market)


async def test_a_lost_job_pays_to_the_last_acknowledged_voucher_and_is_compensated(renter, make_node, quick_market):
    node = await make_node()
    before = await purses(quick_market, renter, node)
    job_id, attempt = await faults.started(renter, node, quick_market, retry=ONE_TRY)
    await faults.billed(attempt, BILLED_MS)
    await node.die()
    job = await over(renter, job_id)
    money_is_as_the_table_says(job, Reason.NODE_LOST, BILLED_MS)
    the_chain_agrees(job, before, await purses(quick_market, renter, node), quick_market)
    await compensated(renter, job, quick_market)


async def compensated(renter, job, market):
    """The published part of what the attempt cost, out of the bond, into the vault; and the receipt says so."""
    part = market.jobs.chain.terms.compensation_bps
    # one unit of stake for one of payment on this chain
    due = units(job["settlement"]["paid"]) * part // 10_000
    assert due > 0
    assert units(job["settlement"]["compensation"]["amount"]) == due
    assert units((await renter("GET", "/v1/vault"))[1]["compensation_owed"]) == due
    _, receipt, _ = await renter("GET", f"/v1/jobs/{job['id']}/receipt")
    (told,) = receipt["compensations"]
    closing = [t["signature"] for t in job["settlement"]["transactions"] if t["kind"] == "close_contest"]
    assert (told["amount"], told["attempt"], [told["transaction"]]) == (str(due), 1, closing)
    found = verify_receipt(Receipt.model_validate(receipt), meter_key=str(market.keys.meter.pubkey()))
    assert found.passed, [c for c in found.checks if not c.passed]


async def test_a_node_that_gives_up_is_paid_what_was_acknowledged_and_compensates(renter, make_node, quick_market):
    """A last voucher of both sides would have made a good end of it: no loss, and nothing for the renter."""
    node = await make_node()
    before = await purses(quick_market, renter, node)
    job_id, attempt = await faults.started(renter, node, quick_market, retry=ONE_TRY)
    await faults.billed(attempt, BILLED_MS)
    voucher = attempt.voucher(BILLED_MS + 100, state=VoucherState.ENDED, reason=Reason.NODE_QUIT)
    refused = await attempt.report("exited", reason=Reason.NODE_QUIT, voucher=voucher)
    assert (refused["type"], refused["body"].get("code")) == ("error", "voucher_invalid")
    assert refused["body"]["message"].endswith(": state"), refused
    assert (await attempt.report("exited", reason=Reason.NODE_QUIT))["type"] == "ack"
    job = await over(renter, job_id)
    money_is_as_the_table_says(job, Reason.NODE_QUIT, BILLED_MS)
    the_chain_agrees(job, before, await purses(quick_market, renter, node), quick_market)
    await compensated(renter, job, quick_market)
    assert await counted(renter, node) == (0, 1, {None, "lost"})


async def test_a_node_that_leaves_a_market_that_was_silent_for_long_is_paid_by_both_and_owes_nothing(
    renter, make_node, quick_market, monkeypatch
):
    node = await make_node()
    before = await purses(quick_market, renter, node)
    job_id, attempt = await faults.started(renter, node, quick_market, retry=ONE_TRY)
    await faults.billed(attempt, BILLED_MS)
    voucher = attempt.voucher(BILLED_MS, at=attempt.started + BILLED_MS, state=VoucherState.ENDED, reason=19)
    refused = await attempt.report("exited", reason=Reason.NODE_QUIT, voucher=voucher)
    assert (refused["type"], refused["body"].get("code")) == ("error", "voucher_invalid")
    assert refused["body"]["message"].endswith(": state"), refused
    # as if three times lost_after had passed since
    monkeypatch.setattr(node_control, "SILENT_FOR", 0)
    while quick_market.jobs.chain.now() < attempt.started + BILLED_MS:  # noqa: ASYNC110 - the chain's clock
        await asyncio.sleep(0.05)
    taken = await attempt.report("exited", reason=Reason.NODE_QUIT, voucher=voucher)
    assert taken["type"] == "ack", taken
    job = await over(renter, job_id)
    money_is_as_the_table_says(job, Reason.NODE_QUIT, BILLED_MS)
    the_chain_agrees(job, before, await purses(quick_market, renter, node), quick_market)
    assert units(job["settlement"]["compensation"]["amount"]) == 0


async def test_work_that_was_billed_does_not_end_for_a_reason_that_costs_nothing(renter, make_node, quick_market):
    """Nor by a cancel that nobody asked for, nor by the market's fault on a node's word (domain/reasons.believed)."""
    node = await make_node()
    reason = Reason.IMAGE_UNAVAILABLE
    job_id, attempt = await faults.started(renter, node, quick_market, retry=ONE_TRY)
    await faults.billed(attempt, BILLED_MS)
    voucher = attempt.voucher(BILLED_MS + 100, state=VoucherState.FINAL, reason=reason)
    refused = await attempt.report("exited", reason=reason, voucher=voucher)
    assert (refused["type"], refused["body"].get("code")) == ("error", "voucher_invalid")
    assert refused["body"]["message"].endswith(": state"), refused
    assert (await attempt.report("exited", reason=reason))["type"] == "ack"
    job = await over(renter, job_id)
    money_is_as_the_table_says(job, Reason.NODE_QUIT, BILLED_MS)
    await compensated(renter, job, quick_market)


async def counted(renter, node):
    """How many attempts of the node's record ended well and were lost, and what its events say that they count as."""
    _, record, _ = await renter("GET", f"/v1/nodes/{node.id}/reputation")
    said = {event["counts"] for event in record["events"]}
    return record["well"]["attempts"], record["lost"]["attempts"], said
