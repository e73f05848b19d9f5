"""Keys are rotated while a job runs; a chain's clock falls behind: vouchers of both stay good, and all comes to an end."""

import asyncio
import base64
from dataclasses import dataclass

import pytest
from aiohttp import ClientSession
from solders.pubkey import Pubkey

from marketplace.app import Market
from marketplace.chain.accounts import EscrowAccount
from marketplace.chain.rpc import RpcClient
from marketplace.cli.market.key_rotation import RETIRED, HotKeys, RotationFiles
from marketplace.domain.quantities import Millis
from marketplace.protocol.receipts import Receipt, verify_receipt
from marketplace.protocol.signatures import verify
from marketplace.protocol.vouchers import VoucherMessage, VoucherState
from marketplace.services import node_control, settlement
from tests.api.conftest import Caller, Renter, Wallet, settings_in
from tests.api.scripted_node import ScriptedNode
from tests.api.serving import ready
from tests.api.test_jobs import ALLOWANCE, balanced, submit, until
from tests.chain.market import Actor


@dataclass
class World:
    """One market that can be stopped and started again, with a renter and a node of it."""

    chain: object
    settings: object
    session: ClientSession
    market: Market | None = None
    renter: Renter | None = None
    node: ScriptedNode | None = None

    @property
    def call(self):
        return Caller(self.session, f"http://127.0.0.1:{self.market.port}")

    async def start(self):
        self.market = Market.build(self.settings)
        await self.market.start()
        await ready(self.market)
        for person in (self.renter, self.node.operator if self.node else None):
            if person is not None:
                person.call = self.call

    async def stop(self):
        if self.node is not None:
            await self.node.close()
        await self.market.stop()

    async def rotate(self):
        """As `admin rotate-keys` does it; the new keys have SOL. The keys before and after."""
        files = RotationFiles(self.chain.folder / "keys")
        async with RpcClient([self.chain.rpc]) as rpc:
            actor = Actor(self.chain, rpc)
            account = await actor.reader.get_market(actor.market)
            matcher, meter = files.prepare()
            call = actor.calls.rotate_keys(self.chain.keys.authority.pubkey(), matcher.pubkey(), meter.pubkey())
            sending = asyncio.create_task(actor.sender.run())
            try:
                await actor.send([call], self.chain.keys.authority)
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
            for key in (matcher.pubkey(), meter.pubkey()):
                await rpc.request_airdrop(key, 5_000_000_000)
                async with asyncio.timeout(30):
                    while not await rpc.get_balance(key):  # noqa: ASYNC110 - what a person does
                        await asyncio.sleep(0.05)
        files.finish(HotKeys(matcher.pubkey(), meter.pubkey()))
        return HotKeys(account.matcher, account.meter), HotKeys(matcher.pubkey(), meter.pubkey())

    async def meter_of(self, attempt):
        """The meter that the chain has for a running attempt."""
        async with RpcClient([self.chain.rpc]) as rpc:
            reader = Actor(self.chain, rpc).reader
            return (await reader.get(EscrowAccount, Pubkey.from_bytes(attempt.request.escrow))).account.attempt.meter

    async def started(self, key):
        """A job that the node runs."""
        submitting = asyncio.create_task(submit(self.renter, key, max_price_per_hour="0.5"))
        attempt = await self.node.take()
        status, answer, _ = await submitting
        assert status == 201, answer
        await until(self.renter, answer["id"], "assigned")
        await attempt.ready(self.market)
        await until(self.renter, answer["id"], "running")
        return answer["id"], attempt

    async def closed(self, job_id):
        async with asyncio.timeout(40):
            while True:
                _, job, _ = await self.renter("GET", f"/v1/jobs/{job_id}")
                if job["settlement"] and job["settlement"]["state"] == "closed":
                    balanced(job)
                    return job
                await asyncio.sleep(0.05)


@pytest.fixture
async def world(tmp_path, chain):
    settings = settings_in(tmp_path, chain.folder / "keys", chain.rpc)
    # one renter polls for many: the published limit is for people
    generous = settings.limits.model_copy(update={"wallet": 6000, "address": 6000})
    async with ClientSession() as session:
        made = World(chain, settings.model_copy(update={"limits": generous}), session)
        await made.start()
        made.renter = await Renter.funded(Wallet(), chain, made.market, made.call)
        await made.renter.deposit("20")
        _, prepared, _ = await made.renter("POST", "/v1/allowance", json=ALLOWANCE)
        await made.renter.send(prepared)
        made.node = ScriptedNode(await Renter.funded(Wallet(), chain, made.market, made.call))
        await made.node.register(bond="100")
        await made.node.connect(made.call)
        try:
            yield made
        finally:
            await made.stop()


async def billed(attempt, milliseconds):
    """A running voucher that the meter takes, as soon as its clock allows: its fields and the countersignature."""
    async with asyncio.timeout(10):
        while True:
            voucher = attempt.voucher(milliseconds)
            answer = await attempt.beat(voucher)
            if answer["countersigned"]:
                return voucher, answer["countersigned"][0]["signature"]
            assert [r["code"] for r in answer["refused"]] == ["clock"], answer
            await asyncio.sleep(0.1)


def holding(attempt):
    return {**attempt.name, "state": "running"}


async def finish(attempt, milliseconds):
    final = attempt.voucher(milliseconds, state=VoucherState.FINAL, reason=1)
    return await attempt.report("exited", reason=1, exit_code=0, voucher=final)


def countersigned_by(key, signed):
    voucher, signature = signed
    message = VoucherMessage.from_fields(base64.b64decode(voucher["fields"]))
    return verify(bytes(key), message.signing_bytes(), base64.b64decode(signature))


async def test_a_running_job_keeps_its_meter_through_a_rotation_and_the_next_has_the_new_one(world):
    job_id, attempt = await world.started("before")
    await billed(attempt, 300)
    await world.stop()
    old, new = await world.rotate()
    await world.start()
    welcome = await world.node.connect(world.call, [holding(attempt)])
    assert (welcome["body"]["forget"], welcome["body"]["meter_key"]) == ([], str(new.meter))
    assert await world.meter_of(attempt) == old.meter
    signed = await billed(attempt, 600)
    assert countersigned_by(old.meter, signed)
    assert not countersigned_by(new.meter, signed)
    assert (await finish(attempt, 900))["type"] == "ack"
    job = await world.closed(job_id)
    assert (job["status"], job["settlement"]["billed_ms"]) == ("completed", 900)
    _, receipt, _ = await world.renter("GET", f"/v1/jobs/{job_id}/receipt")
    found = verify_receipt(Receipt.model_validate(receipt), meter_key=str(old.meter))
    assert found.passed, [c for c in found.checks if not c.passed]

    job_id, attempt = await world.started("after")
    assert await world.meter_of(attempt) == new.meter
    assert countersigned_by(new.meter, await billed(attempt, 300))
    assert (await finish(attempt, 400))["type"] == "ack"
    assert (await world.closed(job_id))["settlement"]["billed_ms"] == 400


async def test_an_attempt_whose_meter_s_key_is_gone_is_given_up_on_its_last_voucher(world, monkeypatch):
    monkeypatch.setattr(settlement, "TO_QUIT", 1)
    job_id, attempt = await world.started("gone")
    await billed(attempt, 300)
    await world.stop()
    old, _ = await world.rotate()
    (world.chain.folder / "keys" / RETIRED / f"meter-{old.meter}.json").unlink()
    await world.start()
    welcome = await world.node.connect(world.call, [holding(attempt)])
    assert welcome["body"]["forget"] == [holding(attempt)]
    late = await attempt.beat(attempt.voucher(600))
    assert [r["code"] for r in late["refused"]] == ["lease_lost"]
    # by the new meter's hand, with the signature that the old one gave
    await until(world.renter, job_id, "queued")
    assert (await world.renter("POST", f"/v1/jobs/{job_id}/cancel"))[0] == 200
    job = await world.closed(job_id)
    assert job["settlement"]["billed_ms"] == 300


async def test_what_the_old_meter_signed_to_the_end_is_settled_without_its_key(world, monkeypatch):
    """The last voucher was countersigned, and the market stopped before it settled."""

    async def never(*_arguments, **_more):
        raise settlement.ActPending("not now")

    job_id, attempt = await world.started("signed")
    monkeypatch.setattr(world.market.jobs.chain, "perform", never)
    await billed(attempt, 300)
    assert (await finish(attempt, 400))["type"] == "ack"
    await world.stop()
    old, _ = await world.rotate()
    (world.chain.folder / "keys" / RETIRED / f"meter-{old.meter}.json").unlink()
    await world.start()
    job = await world.closed(job_id)
    assert (job["status"], job["settlement"]["billed_ms"]) == ("completed", 400)


@pytest.fixture
def lag(world, monkeypatch):
    """By how many milliseconds the market's view of the chain's clock is behind; moved by the test."""
    behind = [0]
    real = world.market.jobs.chain.now
    monkeypatch.setattr(world.market.jobs.chain, "now", lambda: Millis(real() - behind[0]))
    return behind


async def test_a_chain_clock_that_falls_behind_delays_a_last_voucher_and_spoils_nothing(world, lag):
    job_id, attempt = await world.started("late")
    await billed(attempt, 300)
    lag[0] = 60_000
    ahead = await attempt.beat(attempt.voucher(400))
    assert [r["code"] for r in ahead["refused"]] == ["ahead"]
    assert ahead["chain_time_ms"] < attempt.started
    final = attempt.voucher(500, state=VoucherState.FINAL, reason=1)
    waiting = await attempt.report("exited", reason=1, exit_code=0, voucher=final)
    assert (waiting["type"], waiting["body"]["code"]) == ("error", "not_ready")
    lag[0] = 0
    attempt.reports -= 1
    again = await attempt.report("exited", reason=1, exit_code=0, voucher=final)
    assert again["type"] == "ack", again
    job = await world.closed(job_id)
    assert (job["status"], job["settlement"]["billed_ms"]) == ("completed", 500)


async def test_an_end_that_the_chain_s_clock_never_reaches_is_paid_by_the_last_countersigned_voucher(
    world, lag, monkeypatch
):
    monkeypatch.setattr(node_control, "AHEAD_PATIENCE_MS", 0)
    job_id, attempt = await world.started("never")
    await billed(attempt, 300)
    lag[0] = 60_000
    refused = await finish(attempt, 500)
    assert (refused["type"], refused["body"]["code"]) == ("error", "voucher_invalid")
    assert (await attempt.report("exited", reason=1, exit_code=0))["type"] == "ack"
    lag[0] = 0
    job = await world.closed(job_id)
    assert (job["status"], job["settlement"]["billed_ms"]) == ("completed", 300)
