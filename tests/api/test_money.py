"""Vault, allowance, escrows and relayed transactions over HTTP, against a running localnet and the real program."""

import asyncio
import base64
import hashlib
import subprocess
from decimal import Decimal

import pytest

from marketplace.chain.builders import EscrowRef, EscrowTerms
from marketplace.chain.outbox import MemoryOutbox
from marketplace.chain.program import transfer_tokens
from marketplace.chain.rpc import RpcClient
from marketplace.chain.sender import Sender
from marketplace.chain.signed_bytes import read_signed
from marketplace.chain.transactions import Assembler
from marketplace.services import readiness
from marketplace.store.transactions import BuiltTransactions
from tests.api.conftest import Renter, Wallet
from tests.chain.market import LOCALNET_COMMAND


async def test_a_vault_is_opened_filled_and_emptied(renter):
    status, vault, _ = await renter("GET", "/v1/vault")
    assert status == 200
    assert list(vault) == [
        "wallet", "vault", "token_account", "mint", "currency", "decimals", "balance", "locked", "available",
        "wallet_balance", "escrows_open", "runway_seconds", "compensation_owed",
    ]  # fmt: skip
    assert (vault["balance"], vault["wallet_balance"], vault["currency"]) == ("0.000000", "1000.000000", "USDC")
    await renter.deposit("12.5")
    _, vault, _ = await renter("GET", "/v1/vault")
    assert (vault["balance"], vault["available"], vault["wallet_balance"]) == ("12.500000", "12.500000", "987.500000")
    assert (await renter("GET", "/v1/me"))[1]["balance"] == "12.500000"
    status, prepared, _ = await renter("POST", "/v1/vault/withdraw", json={"amount": "2.5"})
    assert (status, list(prepared)) == (200, ["transaction", "expires_at", "summary"])
    await renter.send(prepared)
    _, prepared, _ = await renter("POST", "/v1/vault/withdraw", json={"amount": "all"})
    await renter.send(prepared)
    _, vault, _ = await renter("GET", "/v1/vault")
    assert (vault["balance"], vault["wallet_balance"]) == ("0.000000", "1000.000000")
    status, answer, _ = await renter("POST", "/v1/vault/withdraw", json={"amount": "all"})
    assert (status, answer["error"]) == (409, "conflict")


async def test_a_claim_of_compensations_that_nobody_owes_is_refused(renter):
    assert (await renter("GET", "/v1/vault"))[1]["compensation_owed"] == "0.000000"
    status, answer, _ = await renter("POST", "/v1/vault/claim-compensation")
    assert (status, answer["error"]) == (409, "nothing_to_claim")


async def test_the_same_key_deposits_once(renter):
    ask = {"json": {"amount": "3"}, "headers": {"Idempotency-Key": "deposit-1"}}
    _, first, headers = await renter("POST", "/v1/vault/deposit", **ask)
    assert headers["Idempotency-Key"] == "deposit-1"
    _, again, _ = await renter("POST", "/v1/vault/deposit", **ask)
    assert again == first
    signature = await renter.send(first)
    # Landed: the same bytes are given out for ever, and landing them again is impossible.
    _, later, _ = await renter("POST", "/v1/vault/deposit", **ask)
    assert later == first
    assert await renter.send(later) == signature
    assert (await renter("GET", "/v1/vault"))[1]["balance"] == "3.000000"
    status, answer, _ = await renter(
        "POST", "/v1/vault/deposit", json={"amount": "4"}, headers={"Idempotency-Key": "deposit-1"}
    )
    assert (status, answer["error"]) == (422, "idempotency_key_reused")


@pytest.mark.parametrize("amount", ["0", "0.000000", "-1", "1e3", "1.0000001", "", " 1", "NaN", "99999999999999999999"])
async def test_amounts_that_are_none_are_refused(renter, amount):
    status, answer, _ = await renter("POST", "/v1/vault/deposit", json={"amount": amount})
    assert (status, answer["error"], answer["details"][0]["field"]) == (422, "validation_error", "amount")


async def test_more_than_the_wallet_holds_is_seed_000s_402(renter):
    status, answer, _ = await renter("POST", "/v1/vault/deposit", json={"amount": "1000.000001"})
    assert (status, answer["error"], answer["status"]) == (402, "insufficient_escrow", 402)
    assert list(answer)[:3] == ["error", "message", "status"]
    assert answer["shortfall"] == "0.000001"
    assert answer["missing"] == "payment_token"


@pytest.mark.parametrize("sol", ["0", "0.002"])
async def test_tokens_without_sol_are_seed_000s_402_for_lamports(chain, live_market, live_call, sol):
    """A wallet that can pay the price but not fee and rent is told so, with what it lacks, and then can."""
    poor = Renter(live_call)
    faucet = [LOCALNET_COMMAND, "faucet", poor.address, "--config", str(chain.config), "--stake", "0"]
    await asyncio.to_thread(subprocess.run, [*faucet, "--sol", sol, "--payment", "20"], check=True, capture_output=True)
    async with asyncio.timeout(20):
        while (await live_market.vaults.get(poor.address)).wallet_balance == 0:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    poor.token = (await live_call.login(poor))["token"]
    job = {"image": "busybox", "gpu": "cpu-small", "max_price_per_hour": "1"}
    for path, body in (("/v1/vault/deposit", {"amount": "1"}), ("/v1/jobs", job)):
        status, answer, _ = await poor("POST", path, json=body, headers={"Idempotency-Key": "k"})
        assert (status, answer["error"], answer["missing"], answer["currency"]) == (
            402, "insufficient_escrow", "lamports", "SOL",
        ), answer  # fmt: skip
        assert Decimal(answer["shortfall"]) == Decimal(answer["required"]) - Decimal(sol) > 0
        assert Decimal(answer["available"]) == Decimal(sol)
    await asyncio.to_thread(
        subprocess.run, [*faucet, "--sol", answer["shortfall"], "--payment", "0"], check=True, capture_output=True
    )
    async with asyncio.timeout(20):
        while answer["error"] != "signature_required":
            _, answer, _ = await poor("POST", "/v1/jobs", json=job, headers={"Idempotency-Key": "k"})
            await asyncio.sleep(0.05)


async def test_an_allowance_is_granted_replaced_and_revoked(renter):
    assert (await renter("GET", "/v1/allowance"))[1] == {"allowances": []}
    assert (await renter("DELETE", "/v1/allowance"))[0] == 404
    caps = {
        "per_job": "1",
        "per_day": "5",
        "total": "20",
        "max_price_per_hour": "2.5",
        "expires_at": "2099-01-01T00:00:00Z",
    }
    status, prepared, _ = await renter("POST", "/v1/allowance", json=caps)
    assert status == 200, prepared
    await renter.send(prepared)
    _, listed, _ = await renter("GET", "/v1/allowance")
    (entry,) = listed["allowances"]
    assert (entry["per_job"], entry["per_day"], entry["total"]) == ("1.000000", "5.000000", "20.000000")
    assert (entry["max_price_per_hour"], entry["expires_at"], entry["state"]) == (
        "2.500000",
        caps["expires_at"],
        "active",
    )
    assert entry["used_today"] == "0.000000"
    _, prepared, _ = await renter("POST", "/v1/allowance", json=caps | {"total": "30"})
    await renter.send(prepared)
    assert (await renter("GET", "/v1/allowance"))[1]["allowances"][0]["total"] == "30.000000"
    _, prepared, _ = await renter("DELETE", "/v1/allowance")
    await renter.send(prepared)
    assert (await renter("GET", "/v1/allowance"))[1]["allowances"][0]["state"] == "revoked"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("expires_at", "2001-01-01T00:00:00Z"),
        ("expires_at", "tomorrow"),
        ("expires_at", "2099-01-01"),
        ("per_job", "0"),
        ("total", 5),
    ],
)
async def test_caps_that_permit_nothing_are_refused(renter, field, value):
    caps = {
        "per_job": "1",
        "per_day": "5",
        "total": "20",
        "max_price_per_hour": "2.5",
        "expires_at": "2099-01-01T00:00:00Z",
    }
    status, answer, _ = await renter("POST", "/v1/allowance", json=caps | {field: value})
    assert (status, answer["details"][0]["field"]) == (422, field)


async def test_an_escrow_is_seen_and_cancelled_by_its_wallet_alone(renter, live_market, chain, live_call):
    await renter.deposit("5")
    wallet = renter.keypair.pubkey()
    reference = EscrowRef(
        wallet=wallet, opener=wallet, nonce=1, market=live_market.link.facts.market, rent_payer=wallet
    )
    terms = EscrowTerms(1, bytes(16), hashlib.sha256(b"terms").digest(), 1_000_000, 1_000_000, 3_600_000, 3)
    step = live_market.link.calls.open_escrow(reference, wallet, terms)
    address = str(live_market.link.calls.escrow_address(reference))
    assert (await renter("GET", f"/v1/escrows/{address}"))[0] == 404
    async with RpcClient([chain.rpc]) as rpc:
        unsigned = await Assembler(rpc, live_market.link.codec).assemble([step], wallet)
        signed = unsigned.sign([renter.keypair])
        sender = Sender(rpc, MemoryOutbox(), tick_s=0.03)
        loop = asyncio.create_task(sender.run())
        await sender.submit("open", signed.raw, signed.last_valid_block_height)
        await sender.wait(signed.signature, timeout_s=30)
        loop.cancel()
    _, vault, _ = await renter("GET", "/v1/vault")
    assert (vault["locked"], vault["available"], vault["escrows_open"]) == ("1.000000", "4.000000", 1)
    status, answer, _ = await renter("POST", "/v1/vault/withdraw", json={"amount": "4.000001"})
    assert (status, answer["error"], answer["locked"]) == (409, "conflict", "1.000000")
    status, escrow, _ = await renter("GET", f"/v1/escrows/{address}")
    assert status == 200
    assert (escrow["state"], escrow["deposit"], escrow["paid"], escrow["attempt"]) == (
        "open",
        "1.000000",
        "0.000000",
        0,
    )
    _, listed, _ = await renter("GET", "/v1/escrows?state=open")
    assert (listed["total"], listed["escrows"], listed["has_more"]) == (1, [escrow], False)
    assert (await renter("GET", "/v1/escrows?state=closing"))[1]["total"] == 0
    assert (await renter("GET", "/v1/escrows?state=lost"))[0] == 422
    stranger = Wallet()
    token = (await live_call.login(stranger))["token"]
    for method, path in (("GET", f"/v1/escrows/{address}"), ("POST", f"/v1/escrows/{address}/cancel")):
        status, answer, _ = await live_call(method, path, token=token)
        assert (status, answer["error"]) == (404, "not_found")
    status, prepared, _ = await renter("POST", f"/v1/escrows/{address}/cancel")
    assert status == 200, prepared
    await renter.send(prepared)
    assert (await renter("GET", "/v1/vault"))[1]["available"] == "5.000000"
    assert (await renter("GET", f"/v1/escrows/{address}"))[0] == 404


async def test_a_402_tells_the_obstacle_of_now_and_the_market_goes_on_once_nothing_else_can(
    renter, live_market, monkeypatch
):
    await renter.deposit("5")
    job = {"image": "busybox", "gpu": "cpu-small", "maxMinutes": 5, "max_price_per_hour": "1.2"}
    ask = {"json": job, "headers": {"Idempotency-Key": "one"}}
    with monkeypatch.context() as patch:
        # This chain's transactions live for six seconds. The market reads its height anew when the test lets it.
        height = await live_market.rpc.get_block_height()
        patch.setattr(live_market.rpc, "get_block_height", lambda *_: _answer(height))
        status, first, _ = await renter("POST", "/v1/jobs", **ask)
        assert (status, first["blocked_by"]) == (402, "no_allowance")
        caps = {"per_day": "5", "total": "20", "max_price_per_hour": "2.5", "expires_at": "2099-01-01T00:00:00Z"}
        for per_job, told in (("0.01", "per_job"), ("1", "outstanding")):
            _, prepared, _ = await renter("POST", "/v1/allowance", json=caps | {"per_job": per_job})
            await renter.send(prepared)
            status, again, _ = await renter("POST", "/v1/jobs", **ask)
            assert (status, again["blocked_by"]) == (402, told)
            # what the wallet holds may still land, so nothing else is made beside it
            assert [again[name] for name in ("transaction", "escrow")] == [
                first[name] for name in ("transaction", "escrow")
            ]
        assert first["expires_at"] in again["message"]
        assert (await renter("GET", "/v1/vault"))[1]["escrows_open"] == 0
    height = await live_market.rpc.get_block_height()
    async with asyncio.timeout(60):
        while await live_market.rpc.get_block_height() <= height + 150 + 8:  # noqa: ASYNC110 - until it can't land
            await asyncio.sleep(0.2)
    status, made, _ = await renter("POST", "/v1/jobs", **ask)
    assert status == 201, made
    assert made["escrow"] != first["escrow"]
    _, vault, _ = await renter("GET", "/v1/vault")
    assert (vault["locked"], vault["escrows_open"]) == ("0.100000", 1)


async def _answer(value):
    return value


async def test_more_time_for_a_job_whose_escrow_is_closed_is_refused_and_says_where_the_money_is(renter, live_market):
    await renter.deposit("5")
    job = {"image": "busybox", "gpu": "cpu-small", "maxMinutes": 5, "max_price_per_hour": "1.2"}
    ask = {"json": job, "headers": {"Idempotency-Key": "one"}}
    await renter.send((await renter("POST", "/v1/jobs", **ask))[1])
    async with asyncio.timeout(20):
        while (made := await renter("POST", "/v1/jobs", **ask))[0] != 201:  # noqa: ASYNC110 - what a renter does
            await asyncio.sleep(0.05)
    job_id = made[1]["id"]
    # The wallet takes it back itself, and the market has not read of it yet.
    (reading,) = [task for task in live_market._tasks if task.get_name() == "chain-events"]
    reading.cancel()
    _, prepared, _ = await renter("POST", f"/v1/escrows/{made[1]['escrow']}/cancel")
    await renter.send(prepared)
    more = {"json": {"additional_seconds": 60}, "headers": {"Idempotency-Key": "more"}}
    status, answer, _ = await renter("POST", f"/v1/jobs/{job_id}/extend", **more)
    assert (status, answer["error"], answer["state"]) == (409, "conflict", "queued"), answer
    assert "nothing more of the wallet's was locked" in answer["message"]
    await live_market.jobs.events.catch_up()
    status, answer, _ = await renter("POST", f"/v1/jobs/{job_id}/extend", **more)
    assert (status, answer["error"], answer["state"]) == (409, "already_terminal", "cancelled"), answer
    _, vault, _ = await renter("GET", "/v1/vault")
    assert (vault["balance"], vault["locked"]) == ("5.000000", "0.000000")


async def test_only_what_was_built_here_is_relayed(renter, live_market, live_call):
    wallet = renter.keypair.pubkey()
    _, prepared, _ = await renter("POST", "/v1/vault/deposit", json={"amount": "1"})
    relay = lambda text: renter("POST", "/v1/transactions", json={"transaction": text})  # noqa: E731
    status, answer, _ = await relay(prepared["transaction"])
    assert (status, answer["error"]) == (422, "transaction_rejected")
    mint = live_market.link.facts.deployment.payment_mint
    foreign = await live_market.link.assembler.assemble(
        [transfer_tokens(wallet, mint, wallet, wallet, 1, 6)], wallet, known_units=10_000
    )
    status, answer, _ = await relay(renter.signed(foreign.base64()))
    assert (status, answer["error"]) == (422, "transaction_rejected")
    for text in ("%%%", base64.b64encode(b"\x81" + bytes(100)).decode(), base64.b64encode(b"\x01").decode()):
        status, answer, _ = await relay(text)
        assert (status, answer["error"]) == (422, "unsupported_transaction")
    good = renter.signed(prepared["transaction"])
    trailing = base64.b64encode(base64.b64decode(good) + b"\0").decode()
    assert (await relay(trailing))[1]["error"] == "unsupported_transaction"
    stranger = (await live_call.login(Wallet()))["token"]
    status, answer, _ = await live_call("POST", "/v1/transactions", token=stranger, json={"transaction": good})
    assert (status, answer["error"]) == (422, "transaction_rejected")
    # one that was prepared just now: this chain's transactions live for six seconds
    _, prepared, _ = await renter("POST", "/v1/vault/deposit", json={"amount": "1"})
    good = renter.signed(prepared["transaction"])
    signature = await renter.send(prepared)
    assert (await relay(good))[1] == {"signature": signature, "state": "sent"}
    assert (await live_call("GET", f"/v1/transactions/{signature}", token=stranger))[0] == 404


async def test_a_transaction_that_would_fail_names_the_programs_error(renter):
    await renter.deposit("1")
    _, first, _ = await renter("POST", "/v1/vault/withdraw", json={"amount": "all"})
    _, second, _ = await renter("POST", "/v1/vault/withdraw", json={"amount": "0.5"})
    await renter.send(first)
    status, answer, _ = await renter(
        "POST", "/v1/transactions", json={"transaction": renter.signed(second["transaction"])}
    )
    assert (status, answer["error"]) == (422, "transaction_rejected")
    assert answer["program_error"]["name"]
    assert answer["program_error"]["number"] >= 6000


async def test_constants_describe_the_chain_and_have_an_etag(live_call, live_market):
    status, constants, headers = await live_call("GET", "/v1/constants")
    assert status == 200
    assert constants["chain"]["market"] == str(live_market.link.facts.market)
    assert constants["chain"]["decimals"] == 6
    assert constants["timing"]["lost_after_s"] == 6
    assert constants["fees"] == {
        "market_bps": 400,
        "protocol_bps": 100,
        "node_share_bps": 5000,
        "included": True,
        "minimum_deposit": "0.001000",
    }
    assert {entry["id"]: entry["bond"] for entry in constants["classes"]}["cpu-small"] == "50.000000"
    assert len(constants["reasons"]) == 35
    status, body, again = await live_call("GET", "/v1/constants", headers={"If-None-Match": headers["ETag"]})
    assert (status, body, again["ETag"]) == (304, b"", headers["ETag"])
    assert "X-RateLimit-Limit" in again


async def test_ready_and_healthy_once_the_chain_was_read(live_call, monkeypatch):
    # how soon a part has to answer is the probes' matter
    monkeypatch.setattr(readiness, "CHECK_TIMEOUT_S", 60)
    status, body, _ = await live_call("GET", "/health")
    assert (status, body["status"]) == (200, "ok")
    assert body["services"] == {
        "lifecycle": "running",
        "inventory": "ok",
        "ready": "true",
        "store": "ok",
        "objects": "ok",
        "chain": "ok",
    }
    assert (await live_call("GET", "/ready"))[0] == 200


async def test_an_expired_transaction_is_answered_with_a_fresh_one(renter, live_market, chain):
    await renter.deposit("1")
    ask = {"json": {"amount": "2"}, "headers": {"Idempotency-Key": "deposit-2"}}
    _, prepared, _ = await renter("POST", "/v1/vault/deposit", **ask)
    _, cut_off, _ = await renter("POST", "/v1/vault/deposit", json={"amount": "1"})
    signed = read_signed(renter.signed(cut_off["transaction"]))

    def relay_cut_off(tx):
        """As a process leaves it that was killed before it recorded what it was about to send."""
        rows = BuiltTransactions(tx)
        rows.mark_relayed(rows.find_by_message(hashlib.sha256(signed.message).digest()).id, signed.signature)

    await live_market.store.write(relay_cut_off)
    height = await live_market.rpc.get_block_height()
    async with asyncio.timeout(60):
        # 150 blocks, and the margin after which nothing of them can land.
        while await live_market.rpc.get_block_height() <= height + 150 + 8:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    body = {"transaction": renter.signed(prepared["transaction"])}
    status, answer, _ = await renter("POST", "/v1/transactions", json=body)
    assert (status, answer["error"]) == (409, "transaction_expired")
    assert answer["transaction"] != prepared["transaction"]
    _, again, _ = await renter("POST", "/v1/vault/deposit", **ask)
    assert again == {name: answer[name] for name in ("transaction", "expires_at", "summary")}
    await renter.send(again)
    assert (await renter("GET", "/v1/vault"))[1]["balance"] == "3.000000"
    status, answer, _ = await renter(
        "POST", "/v1/transactions", json={"transaction": renter.signed(cut_off["transaction"])}
    )
    assert (status, answer["error"]) == (409, "transaction_expired")
    await renter.send(answer)
    assert (await renter("GET", "/v1/vault"))[1]["balance"] == "4.000000"
