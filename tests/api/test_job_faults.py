"""Jobs whose renter changes his mind, whose node goes away or lies, whose store fails: paid right, once, or not at all."""

import asyncio
import base64
import contextlib
import secrets
import sqlite3
from datetime import datetime

import base58
import pytest
from aiohttp import ClientSession
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.signature import Signature

from marketplace.app import Market
from marketplace.chain.addresses import Addresses, associated_token_address, class_id
from marketplace.chain.builders import EscrowRef, NodeRef, SignedVoucher
from marketplace.chain.errors import TransactionFailed
from marketplace.chain.rpc import RpcClient
from marketplace.chain.transactions import Assembler
from marketplace.domain.catalogue import class_bytes
from marketplace.domain.reasons import Reason
from marketplace.protocol.claims import ClaimMessage
from marketplace.protocol.vouchers import VoucherMessage, VoucherState
from tests.api.conftest import Caller, Renter, Wallet, settings_in
from tests.api.leaps import LeapingClock
from tests.api.scripted_node import ScriptedAttempt, ScriptedNode
from tests.api.serving import ready
from tests.api.test_jobs import ALLOWANCE, balanced, until
from tests.api.test_jobs import submit as submit_job
from tests.chain.market import Actor

FINAL = VoucherState.FINAL
OVER = {"completed", "failed", "cancelled", "timed_out", "expired"}


@pytest.fixture
async def quick_market(tmp_path, chain):
    """A market whose nodes beat every second, so that one that is lost is lost soon. Its clock leaps when told to."""
    settings = settings_in(tmp_path, chain.folder / "keys", chain.rpc)
    quick = settings.market.model_copy(update={"heartbeat_s": 1})
    settings = settings.model_copy(update={"market": quick})
    market = Market.build(settings, clock=LeapingClock())
    await market.start()
    await ready(market)
    yield market
    await market.stop()


@pytest.fixture
async def quick_call(quick_market):
    async with ClientSession() as session:
        yield Caller(session, f"http://127.0.0.1:{quick_market.port}")


@pytest.fixture
async def renter(chain, quick_market, quick_call):
    """Funded, with a vault and an allowance."""
    funded = await Renter.funded(Wallet(), chain, quick_market, quick_call)
    await funded.deposit("20")
    _, prepared, _ = await funded("POST", "/v1/allowance", json=ALLOWANCE)
    await funded.send(prepared)
    return funded


class LivingNode(ScriptedNode):
    """A scripted node that beats by itself until it is told to fall silent."""

    async def live(self, call, holding=()):
        welcome = await self.connect(call, holding)
        assert welcome["type"] == "hello", welcome
        self.beating = asyncio.create_task(self._beat())

    async def _beat(self):
        while True:
            # not waiting for the answer: a real node gives up on one that is late, and beats again
            await self._send(
                "heartbeat", {"sequence": 1, "free_slots": 1, "allocations": []}, secrets.token_hex(8), None
            )
            await asyncio.sleep(0.3)

    async def die(self):
        """No more beats, no connection."""
        self.beating.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.beating
        await self.close()


@pytest.fixture
async def make_node(chain, quick_market, quick_call):
    made = []

    async def make(**more):
        operator = await Renter.funded(Wallet(), chain, quick_market, quick_call)
        node = LivingNode(operator)
        await node.register(bond="100", **more)
        await node.live(quick_call)
        made.append(node)
        return node

    yield make
    for node in made:
        await node.die()


async def submit(renter, key="k", **fields):
    """With a ceiling of its own: there may be no node to take a price from."""
    return await submit_job(renter, key, max_price_per_hour="0.5", **fields)


async def command(node, kind):
    async with asyncio.timeout(60):
        while True:
            for found in node.commands:
                if found["type"] == kind:
                    return found
            await asyncio.sleep(0.02)


async def closed(renter, job_id):
    """The job once its escrow is gone, contests included; its books balance."""
    async with asyncio.timeout(60):
        while True:
            _, job, _ = await renter("GET", f"/v1/jobs/{job_id}")
            # the chain's word of the escrow's end may be read before the market has noted its own settlement
            if job["settlement"] and job["settlement"]["state"] == "closed" and job["status"] in OVER:
                balanced(job)
                return job
            await asyncio.sleep(0.05)


async def started(renter, node, market, **fields):
    """A job that the node runs."""
    submitting = asyncio.create_task(submit(renter, **fields))
    attempt = await node.take()
    status, answer, _ = await submitting
    assert status == 201, answer
    await until(renter, answer["id"], "assigned")
    await attempt.ready(market)
    await until(renter, answer["id"], "running")
    return answer["id"], attempt


async def billed(attempt, milliseconds):
    """A running voucher that the meter takes, as soon as its clock allows."""
    async with asyncio.timeout(60):
        while True:
            answer = await attempt.beat(attempt.voucher(milliseconds))
            if answer["countersigned"]:
                return
            assert [r["code"] for r in answer["refused"]] == ["clock"], answer
            await asyncio.sleep(0.1)


async def ended(attempt, reason=Reason.COMPLETED, milliseconds=900, **more):
    voucher = attempt.voucher(milliseconds, state=FINAL, reason=int(reason))
    return await attempt.report("exited", reason=int(reason), voucher=voucher, **more)


# cancelling


async def test_cancelled_while_a_node_considers_it_the_claim_is_not_taken(renter, make_node):
    _, answer, _ = await submit(renter)
    await until(renter, answer["id"], "queued")
    node = await make_node()
    request_id, request = await node.next_request()
    assert (await renter("POST", f"/v1/jobs/{answer['id']}/cancel"))[0] == 200
    with pytest.raises(AssertionError, match="already_assigned"):
        await node.claim(request_id, request)
    job = await closed(renter, answer["id"])
    assert (job["status"], job["settlement"]["paid"], job["attempts"]) == ("cancelled", "0.000000", [])


async def test_cancelled_while_it_is_pulled_it_costs_nothing(renter, make_node):
    node = await make_node()
    submitting = asyncio.create_task(submit(renter))
    attempt = await node.take()
    _, answer, _ = await submitting
    await until(renter, answer["id"], "assigned")
    await attempt.report("pulling")
    await renter("POST", f"/v1/jobs/{answer['id']}/cancel")
    stop = await command(node, "stop")
    assert (stop["reason"], stop["final"]) == (int(Reason.CANCELLED), True)
    assert (await attempt.report("exited", reason=int(Reason.CANCELLED)))["type"] == "ack"
    job = await closed(renter, answer["id"])
    assert (job["status"], job["settlement"]["paid"], len(job["attempts"])) == ("cancelled", "0.000000", 1)


async def test_cancelled_while_it_runs_it_is_paid_to_its_end(renter, make_node, quick_market):
    node = await make_node()
    job_id, attempt = await started(renter, node, quick_market)
    await renter("POST", f"/v1/jobs/{job_id}/cancel")
    await command(node, "stop")
    assert (await ended(attempt, Reason.CANCELLED))["type"] == "ack"
    job = await closed(renter, job_id)
    assert (job["status"], job["settlement"]["billed_ms"], len(job["attempts"])) == ("cancelled", 900, 1)
    assert job["settlement"]["compensation"]["amount"] == "0.000000"


async def cancel_on_chain(renter, job_id):
    """The wallet's own way out, past the jobs: by its signature on the escrow's cancellation."""
    escrow = (await renter("GET", f"/v1/jobs/{job_id}"))[1]["settlement"]["escrow"]
    status, prepared, _ = await renter("POST", f"/v1/escrows/{escrow}/cancel")
    assert status == 200, prepared
    await renter.send(prepared)


async def test_a_wallet_that_stops_its_escrow_on_chain_stops_the_work_and_pays_it(renter, make_node, quick_market):
    node = await make_node()
    job_id, attempt = await started(renter, node, quick_market)
    await billed(attempt, 300)
    await cancel_on_chain(renter, job_id)
    stop = await command(node, "stop")
    assert (stop["reason"], stop["final"]) == (int(Reason.CANCELLED), True)
    await until(renter, job_id, "cancelling")
    assert (await ended(attempt, Reason.CANCELLED))["type"] == "ack"
    job = await closed(renter, job_id)
    assert (job["status"], job["reason"], job["settlement"]["billed_ms"]) == ("cancelled", "cancelled", 900)
    assert job["settlement"]["compensation"]["amount"] == "0.000000"


async def test_a_wallet_that_stops_its_escrow_on_chain_while_it_is_pulled_pays_nothing(renter, make_node):
    node = await make_node()
    submitting = asyncio.create_task(submit(renter))
    attempt = await node.take()
    _, answer, _ = await submitting
    await until(renter, answer["id"], "assigned")
    await cancel_on_chain(renter, answer["id"])
    await command(node, "stop")
    assert (await attempt.report("exited", reason=int(Reason.CANCELLED)))["type"] == "ack"
    job = await closed(renter, answer["id"])
    assert (job["status"], job["settlement"]["paid"], len(job["attempts"])) == ("cancelled", "0.000000", 1)


async def test_what_a_node_bills_beyond_the_end_that_the_wallet_set_is_not_countersigned(
    renter, make_node, quick_market
):
    """The chain would refuse such a last voucher for ever, and all that went before would be lost with it."""
    node = await make_node()
    job_id, attempt = await started(renter, node, quick_market)
    await billed(attempt, 300)
    await cancel_on_chain(renter, job_id)
    await command(node, "stop")
    escrow = await quick_market.jobs.chain.find_escrow(str(Pubkey.from_bytes(attempt.request.escrow)))
    most = escrow.stop_at - attempt.started
    # a node that is late, by the chain's clock and by the meter's
    over_at = quick_market.jobs.live.attempt(attempt.request.allocation_id).meter_at_ms + most
    async with asyncio.timeout(60):
        while (  # noqa: ASYNC110
            quick_market.jobs.chain.now() < escrow.stop_at + 1_500 or quick_market.clock.now() < over_at
        ):
            await asyncio.sleep(0.1)
    late = await ended(attempt, Reason.CANCELLED, most + 1)
    assert (late["type"], late["body"]["code"]) == ("error", "voucher_invalid"), late
    assert (await ended(attempt, Reason.CANCELLED, most))["type"] == "ack"
    job = await closed(renter, job_id)
    assert (job["status"], job["settlement"]["billed_ms"]) == ("cancelled", most)


async def test_cancelled_at_the_moment_of_its_exit_it_ends_once(renter, make_node, quick_market):
    node = await make_node()
    job_id, attempt = await started(renter, node, quick_market)
    cancelled, reported = await asyncio.gather(renter("POST", f"/v1/jobs/{job_id}/cancel"), ended(attempt, exit_code=0))
    assert cancelled[0] in {200, 409}
    assert reported["type"] == "ack", reported
    job = await closed(renter, job_id)
    assert (job["status"], job["settlement"]["billed_ms"], len(job["attempts"])) == ("completed", 900, 1)
    assert [t["kind"] for t in job["settlement"]["transactions"]].count("settle") == 1


# waiting


async def test_nobody_takes_it_in_time_and_everything_is_refunded(renter):
    _, answer, _ = await submit(renter, queue_seconds=1)
    job = await closed(renter, answer["id"])
    assert (job["status"], job["reason"], job["settlement"]["paid"]) == ("expired", "queue_expired", "0.000000")
    assert job["settlement"]["refunded"] == job["settlement"]["deposit"]
    assert (await renter("GET", "/v1/vault"))[1]["locked"] == "0.000000"


async def test_nobody_waits_longer_than_the_chain_lets_an_escrow_wait(renter):
    _, constants, _ = await renter("GET", "/v1/constants")
    most = constants["timing"]["queue_limit_s"]
    assert most < 3_600
    status, refused, _ = await submit(renter, queue_seconds=most + 1)
    assert (status, refused["details"][0]["field"]) == (422, "queue_seconds")
    assert refused["message"].endswith("; nothing was created or spent")
    for key, wanted in (("said", {"queue_seconds": most}), ("unsaid", {})):
        status, answer, _ = await submit(renter, key, command=["a", "b"], workdir="/w", **wanted)
        assert status == 201, answer
        _, job, _ = await renter("GET", f"/v1/jobs/{answer['id']}")
        assert job["queue_seconds"] == most
        since, until = (datetime.fromisoformat(job["queue"][name]) for name in ("waiting_since", "until"))
        assert most - 20 < (until - since).total_seconds() <= most
        assert (job["command"], job["workdir"], job["network"], job["stop_grace_seconds"]) == (
            ["a", "b"], "/w", "egress", 10,
        )  # fmt: skip


async def test_twenty_jobs_on_four_slots_are_all_served_in_their_order(renter, make_node, quick_market):
    """Each node has two slots; who waits longest goes first, give or take those who ask at the same moment."""
    ids = []
    for number in range(20):
        status, answer, _ = await submit(renter, f"k{number}")
        assert status == 201, answer
        ids.append(answer["id"].removeprefix("job_"))
    order = []

    async def serve(node):
        async def run(attempt):
            await attempt.ready(quick_market)
            assert (await ended(attempt, milliseconds=1, exit_code=0))["type"] == "ack"

        async with asyncio.TaskGroup() as running:
            while len(order) < 20:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(1):
                        request_id, request = await node.requests.get()
                    attempt = await node.claim(request_id, request)
                    order.append(ids.index(request.allocation_id.removeprefix("alloc_")))
                    running.create_task(run(attempt))

    nodes = [await make_node(), await make_node()]
    async with asyncio.timeout(90):
        await asyncio.gather(*(serve(node) for node in nodes))
    assert sorted(order) == list(range(20))
    overtaken = max(abs(place - number) for place, number in enumerate(order))
    assert overtaken <= 4, order
    for job_id in ids:
        job = await closed(renter, f"job_{job_id}")
        assert (job["status"], len(job["attempts"])) == ("completed", 1)


async def command_of(node, attempt, kind):
    wanted = (kind, attempt.request.allocation_id)
    async with asyncio.timeout(60):
        while wanted not in {(c["type"], c["allocation_id"]) for c in node.commands}:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


# losses


async def attempt_over(renter, job_id):
    """The job once its first attempt has ended, whatever became of it since."""
    async with asyncio.timeout(60):
        while True:
            _, job, _ = await renter("GET", f"/v1/jobs/{job_id}")
            if job["attempts"][0]["end_reason"] is not None:
                return job
            await asyncio.sleep(0.1)


async def test_a_lost_job_without_another_node_waits_and_expires_paid_to_the_last_voucher(
    renter, make_node, quick_market, quick_call
):
    node = await make_node()
    job_id, attempt = await started(renter, node, quick_market, queue_seconds=3)
    await billed(attempt, 1_000)
    await node.die()
    lost = await attempt_over(renter, job_id)
    assert (lost["attempts"][0]["end_reason"], lost["attempts"][0]["billed_ms"]) == ("node_lost", 1_000)
    # the node comes back and is told to forget it: it failed this job, which is not given to it again
    holding = {"allocation_id": attempt.request.allocation_id, "attempt": 1, "state": "running"}
    welcome = await node.connect(quick_call, [holding])
    assert welcome["body"]["forget"] == [holding]
    late = await attempt.beat(attempt.voucher(1_500))
    assert [r["code"] for r in late["refused"]] == ["lease_lost"]
    job = await closed(renter, job_id)
    assert (job["status"], job["settlement"]["billed_ms"], len(job["attempts"])) == ("expired", 1_000, 1)
    assert float(job["settlement"]["compensation"]["amount"]) > 0


async def test_a_lost_job_is_served_by_the_node_that_comes(renter, make_node, quick_market):
    node = await make_node()
    job_id, attempt = await started(renter, node, quick_market)
    await billed(attempt, 1_000)
    await node.die()
    await until(renter, job_id, "queued")
    other = await make_node()
    second = await other.take()
    assert (second.request.attempt, second.request.max_ms) == (2, 5 * 60_000 - 1_000)
    await until(renter, job_id, "assigned")
    await second.ready(quick_market)
    assert (await ended(second, milliseconds=500, exit_code=0))["type"] == "ack"
    job = await closed(renter, job_id)
    assert (job["status"], job["settlement"]["billed_ms"]) == ("completed", 1_500)
    assert [a["end_reason"] for a in job["attempts"]] == ["node_lost", "completed"]
    first, last = job["attempts"]
    # an attempt ended when its work did; the payment came later
    assert first["ended_at"] <= last["ready_at"] <= last["ended_at"] <= job["settlement"]["settled_at"]


async def test_an_operator_is_told_that_a_node_is_lost_returns_drains_and_is_suspended(make_node, quick_call, chain):
    node = await make_node()

    async def told(kind):
        async with asyncio.timeout(60):
            while True:
                _, page, _ = await node.operator("GET", f"/v1/events?types=node.*,stake.*&resource={node.id}")
                if kind in {event["type"] for event in page["events"]}:
                    return [event["type"] for event in page["events"]]
                await asyncio.sleep(0.05)

    async def told_on_chain(kind):
        """What the chain's history is read for, now and then."""
        async with asyncio.timeout(60):
            while True:
                _, page, _ = await node.operator("GET", f"/v1/events?types={kind}")
                if page["events"]:
                    return page["events"]
                await asyncio.sleep(0.05)

    await node.die()
    assert await told("node.lost") == ["node.lost"]
    await node.live(quick_call)
    assert await told("node.returned") == ["node.lost", "node.returned"]
    for _ in range(2):
        assert (await node.operator("POST", f"/v1/nodes/{node.id}/drain", json={"drain": True}))[0] == 200
    assert await told("node.draining") == ["node.lost", "node.returned", "node.draining"]
    assert [event["data"]["bond"] for event in await told_on_chain("node.registered")] == ["100.000000"]
    await suspend(chain, node)
    (event,) = await told_on_chain("node.suspended")
    address = str(Addresses(Pubkey.from_string(node.constants["program_id"])).node(node.keypair.pubkey()))
    assert (event["resource"], event["data"]["node"]) == (address, address)
    assert event["data"]["transaction"]
    # what its operator changes meanwhile is no other suspension; one that comes after a lifted one is
    await suspend(chain, node, updates_meanwhile=True, again=True)
    told_twice = []
    async with asyncio.timeout(60):
        while len(told_twice) < 2:
            told_twice = (await node.operator("GET", "/v1/events?types=node.suspended"))[1]["events"]
            await asyncio.sleep(0.05)
    assert len(told_twice) == 2


async def suspend(chain, node, *, updates_meanwhile=False, again=False):
    """As the market's authority does it by `reaver-market admin suspend-node`."""
    async with RpcClient([chain.rpc]) as rpc:
        actor = Actor(chain, rpc)
        sending = asyncio.create_task(actor.sender.run())
        try:
            key, operator = node.keypair.pubkey(), node.operator.keypair
            address, authority = actor.calls.addresses.node(key), chain.keys.authority
            if updates_meanwhile:
                payout = associated_token_address(operator.pubkey(), chain.market.deployment.payment_mint)
                update = actor.calls.update_node(operator.pubkey(), key, actor.market, class_id("cpu-small"), payout)
                await actor.send([update], operator)
            if again:
                lifting = actor.calls.suspend_node(authority.pubkey(), address, suspended=False)
                await actor.send([lifting], authority)
            await actor.send([actor.calls.suspend_node(authority.pubkey(), address, suspended=True)], authority)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)


async def test_cancelling_after_a_loss_pays_the_last_voucher_and_no_more(renter, make_node, quick_market):
    node = await make_node()
    job_id, attempt = await started(renter, node, quick_market)
    await billed(attempt, 1_000)
    await node.die()
    async with asyncio.timeout(60):
        while node.id not in {p.node.id for p in quick_market.jobs.registry if p.lost}:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    status, answer, _ = await renter("POST", f"/v1/jobs/{job_id}/cancel")
    assert status == 200, answer
    job = await closed(renter, job_id)
    assert (job["status"], job["settlement"]["billed_ms"], len(job["attempts"])) == ("cancelled", 1_000, 1)


# frames that come twice, nodes that lie


async def test_frames_that_come_again_are_answered_alike_and_paid_once(renter, make_node, quick_market):
    node = await make_node()
    submitting = asyncio.create_task(submit(renter))
    request_id, request = await node.next_request()
    attempt = await node.claim(request_id, request)
    again = await node.claim(request_id, request)
    assert again.lease == attempt.lease
    _, answer, _ = await submitting
    await until(renter, answer["id"], "assigned")
    await attempt.ready(quick_market)
    attempt.reports -= 1
    assert (await attempt.report("ready", started_at_ms=attempt.started))["type"] == "ack"
    voucher = attempt.voucher(100)
    first, second = await attempt.beat(voucher), await attempt.beat(voucher)
    assert first["countersigned"] == second["countersigned"] != []
    final = attempt.voucher(900, state=FINAL, reason=1)
    body = {**attempt.name, "lease_token": attempt.lease, "sequence": 2, "state": "exited", "reason": 1,
            "exit_code": 0, "voucher": final}  # fmt: skip
    answers = [await node.ask("state", body) for _ in range(2)]
    job = await closed(renter, answer["id"])
    answers.append(await node.ask("state", body))
    assert [a["body"]["countersignature"] for a in answers] == [answers[0]["body"]["countersignature"]] * 3
    assert (job["status"], job["settlement"]["billed_ms"]) == ("completed", 900)
    assert [t["kind"] for t in job["settlement"]["transactions"]].count("settle") == 1


@pytest.mark.parametrize("off_ms", [5_000, -60_000])
async def test_a_claim_of_another_time_is_not_taken(renter, make_node, off_ms):
    _, answer, _ = await submit(renter)
    node = await make_node()
    request_id, request = await node.next_request()
    at_ms = request.chain_time_ms + off_ms
    message = ClaimMessage(
        program_id=base58.b58decode(node.constants["program_id"]),
        genesis_hash=base58.b58decode(node.constants["genesis_hash"]),
        escrow=request.escrow, attempt=request.attempt, market=request.market, node=request.node,
        class_id=class_bytes(request.class_id), price_per_hour=request.price_per_hour,
        remaining_max_ms=request.max_ms, remaining_deposit=request.deposit, terms_hash=request.terms_hash,
        fee_bps=request.fee_bps, at_ms=at_ms,
    )  # fmt: skip
    body = {
        "allocation_id": request.allocation_id, "attempt": request.attempt, "at_ms": at_ms,
        "signature": base64.b64encode(node.key.sign(message.signing_bytes()).signature).decode(),
    }  # fmt: skip
    refused = await node.ask("claim", body, re=request_id)
    assert (refused["type"], refused["body"]["code"]) == ("error", "already_assigned")
    job = await until(renter, answer["id"], "queued")
    assert job["attempts"] == []
    # the same node with the right time is as good as any
    attempt = await node.take()
    assert attempt.request.attempt == 1


async def test_a_node_whose_clock_is_five_seconds_off_gets_no_countersignature(renter, make_node, quick_market):
    node = await make_node()
    _, attempt = await started(renter, node, quick_market)
    right = attempt.started
    for off_ms, code in ((5_000, "ahead"), (-10_000, "start")):
        attempt.started = (quick_market.jobs.chain.now() if off_ms > 0 else right) + off_ms
        answer = await attempt.beat(attempt.voucher(1))
        assert [r["code"] for r in answer["refused"]] == [code], answer
    attempt.started = right
    await billed(attempt, 100)


async def test_time_beyond_the_clock_is_refused_by_the_meter_and_by_the_chain(renter, make_node, quick_market):
    """Even with the renter's countersignature, which needs no meter."""
    node = await make_node()
    job_id, attempt = await started(renter, node, quick_market)
    long = attempt.voucher(60_000, state=FINAL, reason=1)
    answer = await attempt.report("exited", reason=1, exit_code=0, voucher=long)
    assert answer["body"]["code"] == "voucher_invalid"
    assert answer["body"]["message"].endswith(": clock")
    message = VoucherMessage.from_fields(base64.b64decode(long["fields"]))
    for message_at in (message.at_ms, quick_market.jobs.chain.now()):
        with pytest.raises(TransactionFailed) as failed:
            await settle_alone(quick_market, node, renter.keypair, attempt, message, message_at)
        assert failed.value.error_name in {"VoucherFromFuture", "BilledBeyondClock"}
    assert (await ended(attempt, exit_code=0))["type"] == "ack"
    job = await closed(renter, job_id)
    assert (job["status"], job["settlement"]["billed_ms"]) == ("completed", 900)


async def settle_alone(market, node, wallet: Keypair, attempt: ScriptedAttempt, message: VoucherMessage, at_ms: int):
    """Send a voucher of node and renter to the chain, past the market."""
    message = VoucherMessage(**{name: getattr(message, name) for name in message.__slots__} | {"at_ms": at_ms})
    chain = market.jobs.chain
    escrow = await chain._reader.find_escrow(Pubkey.from_bytes(attempt.request.escrow))
    account = await chain._reader.find_node(node.keypair.pubkey())
    signature = Signature.from_bytes(node.key.sign(message.signing_bytes()).signature)
    voucher = SignedVoucher(message, node.keypair.pubkey(), wallet.pubkey(), node_signature=signature)
    approved = chain._builder.settle(EscrowRef.of(escrow), NodeRef.of(account), wallet.pubkey(), voucher)
    assembler = Assembler(market.rpc, chain._reader.codec)
    unsigned = await assembler.assemble([*approved.checks, approved.call], wallet.pubkey())
    signed = unsigned.sign([wallet])
    await market.rpc.send_transaction(signed.raw)


# heartbeats that lie


def beat_of(attempt, voucher):
    return {**attempt.name, "lease_token": attempt.lease, "state": "running", "voucher": voucher}


async def heartbeat(node, *beats):
    async with asyncio.timeout(60):
        return await node.ask("heartbeat", {"sequence": 1, "free_slots": 1, "allocations": list(beats)})


async def test_two_vouchers_of_an_attempt_in_one_heartbeat_hold_nothing_up(renter, make_node, quick_market):
    node = await make_node()
    job_id, attempt = await started(renter, node, quick_market)
    answer = await heartbeat(node, beat_of(attempt, attempt.voucher(100)), beat_of(attempt, attempt.voucher(200)))
    assert [c["sequence"] for c in answer["body"]["countersigned"]] == [1]
    assert [(r["sequence"], r["code"]) for r in answer["body"]["refused"]] == [(2, "sequence")]
    assert (await ended(attempt))["type"] == "ack"
    assert (await closed(renter, job_id))["settlement"]["billed_ms"] == 900


async def test_a_node_that_names_another_s_attempt_waits_for_nothing_of_it(renter, make_node, quick_market):
    node = await make_node()
    job_id, attempt = await started(renter, node, quick_market)
    stranger = await make_node()
    # what the scheduler holds while it changes this job
    async with quick_market.jobs.live.lock(attempt.request.allocation_id):
        answer = await heartbeat(stranger, beat_of(attempt, attempt.voucher(100)))
    assert [r["code"] for r in answer["body"]["refused"]] == ["lease_lost"]
    assert answer["body"]["countersigned"] == []
    attempt.sequence = 0
    assert (await ended(attempt))["type"] == "ack"
    assert (await closed(renter, job_id))["status"] == "completed"


async def test_progress_of_attempts_that_never_were_leaves_nothing_in_memory(make_node, quick_market):
    node = await make_node()
    locks = len(quick_market.jobs.live._locks)
    beats = [
        {"allocation_id": f"alloc_{n}", "attempt": 1, "lease_token": "", "state": "running", "progress": 5}
        for n in range(20)
    ]
    answer = await heartbeat(node, *beats)
    assert answer["type"] == "ack", answer
    assert len(quick_market.jobs.live._locks) == locks


# the store


async def test_a_store_that_takes_no_writes_signs_nothing_and_goes_on_when_it_does(
    renter, make_node, quick_market, tmp_path
):
    node = await make_node()
    job_id, attempt = await started(renter, node, quick_market)

    # somebody else's transaction: every write of the market fails, after the patience that it has with that
    locker = sqlite3.connect(next(tmp_path.rglob("*.sqlite3")), isolation_level=None)
    locker.execute("BEGIN IMMEDIATE")
    try:
        status, answer, _ = await submit(renter, "other")
        assert status == 503, answer
        voucher = attempt.voucher(100)
        beat = {"sequence": 1, "free_slots": 1, "allocations": [
            {**attempt.name, "lease_token": attempt.lease, "state": "running", "voucher": voucher}]}  # fmt: skip
        refused = await node.ask("heartbeat", beat)
        assert refused["type"] == "error", refused
        assert quick_market.jobs.live.attempt(attempt.request.allocation_id).voucher is None
        lost = await ended(attempt, exit_code=0)
        assert lost["type"] == "error", lost
    finally:
        locker.execute("ROLLBACK")
        locker.close()
    attempt.reports -= 1
    assert (await ended(attempt, exit_code=0))["type"] == "ack"
    job = await closed(renter, job_id)
    assert (job["status"], job["settlement"]["billed_ms"]) == ("completed", 900)
    total = (await renter("GET", "/v1/jobs"))[1]["total"]
    assert total == 1
