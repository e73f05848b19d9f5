"""A delegator's life over HTTP: a real market, a real chain, the real program; the market's own crank moves epochs on."""

import asyncio

import pytest
from solders.pubkey import Pubkey
from solders.signature import Signature

from marketplace.chain.addresses import associated_token_address
from marketplace.chain.builders import EscrowRef, NodeRef, SignedVoucher
from marketplace.chain.program import transfer_tokens
from marketplace.chain.transactions import inspect
from marketplace.protocol.control import SignedVoucher as SignedControlVoucher
from marketplace.protocol.vouchers import VoucherMessage
from marketplace.store.stake import StakeRows
from tests.api.conftest import Renter, Wallet
from tests.api.scripted_node import ScriptedNode
from tests.api.stake_world import (
    Hands,
    Staker,
    allowed,
    chain,
    live_market,
    node,
    node_key,
    pubkey,
    run_job,
    staker,
    units,
    wait_for,
)
from tests.api.test_jobs import submit, until

__all__ = ["chain", "live_market", "node", "staker"]


async def test_staking_says_what_it_does_and_does_it(staker, node, live_market):
    before = (await staker.tokens(live_market))[1]
    answer = await staker.act(
        "delegate", node_id=node.id, amount="25.5", mint=str(live_market.link.facts.deployment.stake_mint)
    )
    assert list(answer)[:5] == ["transaction", "expires_at", "summary", "effects", "simulation"]
    assert answer["simulation"]["ok"] is True
    assert answer["simulation"]["units"] > 0
    effects = answer["effects"]
    assert effects["wallet_stake"] == {"before": "10000.000000", "after": "9974.500000"}
    assert effects["staked"] == {"before": "0.000000", "after": "25.500000"}
    assert effects["pool_stake"] == {"before": "100.000000", "after": "125.500000"}
    assert "25.500000 stake tokens" in answer["summary"]
    await staker.send(answer)
    position = await staker.position(shares=effects["shares"]["after"])
    assert before - (await staker.tokens(live_market))[1] == 25_500_000
    assert (position["node_id"], position["stake"], position["bond"]) == (node.id, "25.500000", False)
    assert position["pending"] == {"payment": "0.000000", "stake": "0.000000"}
    # the pool, as everybody sees it
    _, pool, _ = await staker("GET", f"/v1/nodes/{node.id}/pool")
    assert (pool["stake"], pool["bond"], pool["positions"], pool["history_complete"]) == (
        "125.500000",
        "100.000000",
        2,
        True,
    )
    assert (await staker("GET", f"/v1/nodes/{pool['node']}/pool"))[1] == pool
    # the operator's bond is a position of his own
    bond = await node.operator.position(bond=True)
    assert (bond["stake"], bond["node_id"]) == ("100.000000", node.id)


async def test_the_same_key_stakes_once(staker, node):
    ask = {"json": {"node_id": node.id, "amount": "5"}, "headers": {"Idempotency-Key": "stake-1"}}
    _, first, _ = await staker("POST", "/v1/stake/delegate", **ask)
    assert (await staker("POST", "/v1/stake/delegate", **ask))[1] == first
    await staker.send(first)
    assert (await staker("POST", "/v1/stake/delegate", **ask))[1] == first
    await staker.position(stake="5.000000")
    other = ask | {"json": {"node_id": node.id, "amount": "6"}}
    assert (await staker("POST", "/v1/stake/delegate", **other))[1]["error"] == "idempotency_key_reused"
    # a claim is answered again under its key after it has been paid, when nothing waits any more
    assert (await staker.refused("claim", all=True))[1]["error"] == "nothing_to_claim"


@pytest.mark.timeout(400)
async def test_a_delegators_life(staker, node, live_market, live_call, chain, renter):
    """Stake, a job, an epoch of emission, claim, unbond, wait, withdraw: every amount is the announced one."""
    await allowed(renter)
    market = live_market
    hands = Hands(market)
    funder = await Staker.funded(Wallet(), chain, market, live_call)
    await fund(hands, funder, hands.calls.addresses.emission(), 1_000_000_000)
    await staker.staked(node, "300")
    assert (await staker.positions())["totals"]["stake"] == "300.000000"
    stakers, drawn, runs = 0, None, 0
    while drawn is None:
        # Weights are registered in half an epoch: a machine too busy for that gets another job's.
        job = await run_job(renter, node, market, billed_ms=900)
        stakers, runs = stakers + units(job["settlement"]["fees"]["stakers"]), runs + 1
        pending = units((await staker.position())["pending"]["payment"])
        assert stakers * 3 // 4 - runs <= pending <= stakers * 3 // 4
        # the crank registers the node's weight, closes the epoch and draws its part
        drawn = await drawn_within_three_epochs(staker, node)
    _, epoch, _ = await staker("GET", f"/v1/stake/epochs/{drawn['epoch']}")
    assert [w["node_id"] for w in epoch["weights"]] == [node.id]
    assert epoch["weights"][0]["drawn"] == drawn["distributed"]
    assert epoch["weights"][0]["weight"] == "400.000000"
    position = await wait_for(lambda: with_emission(staker))
    # the job counts for the node's reputation, with its event
    _, record, _ = await staker("GET", f"/v1/nodes/{node.id}/reputation")
    jobs = record["well"]["attempts"]
    assert record["lost"]["attempts"] == 0
    assert [e["counts"] for e in record["events"] if e["counts"]] == ["well"] * jobs
    assert round(record["reputation"], 4) == int((jobs + 1) / (jobs + 2) * 10_000) / 10_000
    # claim: both tokens arrive
    payment, stake = await staker.tokens(market)
    answer = await staker.do("claim", node_id=node.id)
    got = await staker.tokens(market)
    assert (got[0] - payment, got[1] - stake) == tuple(units(position["pending"][n]) for n in ("payment", "stake"))
    assert answer["effects"]["wallet_payment"]["after"].replace(".", "") == str(got[0])
    assert answer["effects"]["pending_stake"]["after"] == "0.000000"
    assert (await staker.refused("claim", node_id=node.id))[1]["error"] == "nothing_to_claim"
    # unbond in two parts, wait, withdraw both at once
    first = await staker.do("unbond", node_id=node.id, amount="100")
    assert first["effects"]["staked"] == {"before": "300.000000", "after": "200.000000"}
    second = await staker.do("unbond", node_id=node.id, all=True)
    position = await staker.position(shares="0")
    assert {t["id"] for t in position["tickets"]} == {a["items"][0]["ticket_id"] for a in (first, second)}
    assert [t["index"] for t in position["tickets"]] == [0, 1]
    status, early, _ = await staker("POST", "/v1/stake/withdraw", json={"all": True})
    if status == 409:
        assert (early["error"], early["possible_at"]) == ("too_early", position["tickets"][0]["unlock_at"])
    await wait_for(lambda: all_ready(staker))
    stake = (await staker.tokens(market))[1]
    answer = await staker.do("withdraw", all=True)
    assert len(answer["items"]) == 2
    assert not answer["remaining"]
    assert (await staker.tokens(market))[1] - stake == 300_000_000
    assert answer["effects"]["wallet_stake"]["after"].replace(".", "") == str(stake + 300_000_000)
    # the account is closed, its rent is back, and the story is told
    await wait_for(lambda: gone(staker))
    history = await wait_for(lambda: told(staker, 6))
    assert [entry["type"] for entry in history] == [
        "withdrawn", "withdrawn", "unbonded", "unbonded", "claimed", "delegated",
    ]  # fmt: skip
    assert {entry["node_id"] for entry in history} == {node.id}
    _, page, _ = await staker("GET", "/v1/events?types=stake.*")
    assert [event["type"] for event in page["events"]] == [
        "stake.delegated", "stake.claimed", "stake.unbonded", "stake.unbonded", "stake.withdrawn", "stake.withdrawn",
    ]  # fmt: skip
    withdrawn = [event["data"] for event in page["events"][-2:]]
    assert sum(units(data["amount"]) for data in withdrawn) == 300_000_000
    assert {data["wallet"] for data in withdrawn} == {staker.address}
    _, page, _ = await staker("GET", "/v1/stake/history?limit=2&offset=3")
    assert ([e["id"] for e in page["history"]], page["total"], page["has_more"]) == (
        [e["id"] for e in history[3:5]],
        6,
        True,
    )
    # what the same stake would have earned: the recorded rewards, shared with one position more
    await wait_for(lambda: past(staker, drawn["epoch"] + 2))
    _, simulated, _ = await staker(
        "POST", "/v1/stake/simulate", json={"node_id": node.id, "amount": "300", "epochs": 100}
    )
    assert simulated["value"] == "300.000000"
    assert sum(units(e["payment"]) for e in simulated["epochs"]) == units(simulated["earned"]["payment"])
    # 100 of the operator, 300 staked, and 300 more: less than the real delegator got, who was alone
    assert stakers * 3 // 7 - runs <= units(simulated["earned"]["payment"]) <= stakers * 3 // 7
    assert units(simulated["earned"]["stake"]) > 0
    # and the pool's past yield is the same money
    _, pools, _ = await staker("GET", "/v1/stake/pools?epochs=100&sort=yield")
    best = pools["pools"][0]
    assert (best["node_id"], units(best["past_yield"]["payment"])) == (node.id, stakers)


async def fund(hands, funder, account, amount):
    """Emission comes from plain transfers."""
    mint = hands.calls.deployment.stake_mint
    source = associated_token_address(funder.keypair.pubkey(), mint)
    await hands.land([transfer_tokens(source, mint, account, funder.keypair.pubkey(), amount, 6)], funder.keypair)


async def drawn_within_three_epochs(staker, node):
    async def look():
        # it lives meanwhile: one that is silent for three heartbeats is lost, and takes no further job
        await node.ask("heartbeat", {"sequence": 1, "free_slots": 2, "allocations": []})
        _, answer, _ = await staker("GET", "/v1/stake/epochs")
        found = next((e for e in answer["epochs"] if units(e["distributed"])), None)
        return (found,) if found or answer["current"]["epoch"] > first + 3 else None

    first = (await staker("GET", "/v1/stake/epochs"))[1]["current"]["epoch"]
    return (await wait_for(look))[0]


async def with_emission(staker):
    found = (await staker.positions())["positions"]
    return found[0] if found and units(found[0]["pending"]["stake"]) else None


async def all_ready(staker):
    found = (await staker.positions())["positions"]
    return found and all(ticket["ready"] for ticket in found[0]["tickets"])


async def gone(staker):
    return not (await staker.positions())["positions"]


async def told(staker, count):
    _, answer, _ = await staker("GET", "/v1/stake/history")
    return answer["total"] == count and answer["history"]


async def past(staker, epoch):
    _, answer, _ = await staker("GET", "/v1/stake/epochs")
    return answer["current"]["epoch"] > epoch


async def test_a_commission_is_announced_and_taken_after_its_delay(node, staker):
    operator = node.operator
    status, answer, _ = await operator("PATCH", f"/v1/nodes/{node.id}", json={"commission_bps": 500})
    assert status == 200, answer
    assert answer["effects"]["commission_bps"] == {"before": "0", "after": "500"}
    await operator.send(answer)
    _, pool, _ = await staker("GET", f"/v1/nodes/{node.id}/pool")
    if pool["pending_commission"]:
        assert pool["pending_commission"]["bps"] == 500

    async def in_force():
        _, pool, _ = await staker("GET", f"/v1/nodes/{node.id}/pool")
        return pool["commission_bps"] == 500 and pool["pending_commission"] is None

    await wait_for(in_force)
    assert (await staker("PATCH", f"/v1/nodes/{node.id}", json={"commission_bps": 600}))[0] == 404
    await wait_for(lambda: commission_shown(staker, node, 500))


async def commission_shown(staker, node, bps):
    return (await staker("GET", f"/v1/nodes/{node.id}"))[1]["commission_bps"] == bps


@pytest.mark.timeout(300)
async def test_claims_of_many_nodes_are_packed_and_the_rest_is_named(staker, live_market, chain, live_call):
    nodes = []
    for _ in range(8):
        operator = await Renter.funded(Wallet(), chain, live_market, live_call)
        node = ScriptedNode(operator)
        await node.register(bond="60")
        nodes.append(node)
        await staker.do("delegate", node_id=node.id, amount="1")
    await wait_for(lambda: held(staker, 8))
    for node in nodes:
        await staker.do("unbond", node_id=node.id, all=True)
    await wait_for(lambda: all_tickets_ready(staker, 8))
    done = 0
    while done < 8:
        answer = await staker.do("withdraw", all=True)
        assert len(answer["items"]) + len(answer["remaining"]) == 8 - done
        assert len(inspect(answer["transaction"], live_market.link.codec).calls) == len(answer["items"]) > 1
        done += len(answer["items"])
        assert ("in the next transaction" in answer["summary"]) is (done < 8)
    await wait_for(lambda: gone(staker))


async def held(staker, count):
    return len((await staker.positions())["positions"]) == count


async def all_tickets_ready(staker, count):
    tickets = [t for p in (await staker.positions())["positions"] for t in p["tickets"]]
    return len(tickets) == count and all(t["ready"] for t in tickets)


async def test_reading_positions_costs_the_same_whoever_else_staked(
    staker, node, live_market, chain, live_call, monkeypatch
):
    others = [await Staker.funded(Wallet(), chain, live_market, live_call) for _ in range(3)]
    await staker.staked(node, "3")
    first = await counted(live_market, staker, monkeypatch)
    for other in others:
        await other.staked(node, "3")
    again = await counted(live_market, staker, monkeypatch)
    assert first == again
    # two calls for the accounts, whatever their number; never a listing of the program's accounts
    assert again[0] == ["getMultipleAccounts", "getMultipleAccounts"]
    assert again[1] == 1
    assert (await counted(live_market, await Staker.funded(Wallet(), chain, live_market, live_call), monkeypatch))[
        0
    ] == []


async def counted(market, staker, monkeypatch):
    """Which calls of the chain, and how many units of work of the store, one listing of positions takes.

    The market's own duties use the same client and store beside it: only this task's are counted.
    """
    task, asked, reads = asyncio.current_task(), [], []
    ask, read = market.link.rpc._ask, market.store.read

    async def asking(endpoint, method, params):
        if asyncio.current_task() is task:
            asked.append(method)
        return await ask(endpoint, method, params)

    async def reading(work):
        if asyncio.current_task() is task:
            reads.append(work)
        return await read(work)

    with monkeypatch.context() as patch:
        patch.setattr(market.link.rpc, "_ask", asking)
        patch.setattr(market.store, "read", reading)
        await market.jobs.stake.positions(staker.address)
    return asked, len(reads)


async def test_a_wallets_positions_are_public_and_a_node_of_another_market_is_named_by_address(staker, node, live_call):
    await staker.staked(node, "2")
    stranger = (await live_call.login(Wallet()))["token"]
    status, answer, _ = await live_call("GET", f"/v1/stake/positions?wallet={staker.address}", token=stranger)
    assert (status, len(answer["positions"]), answer["wallet"]) == (200, 1, staker.address)
    assert (await live_call("GET", "/v1/stake/positions", token=stranger))[1]["positions"] == []
    address = answer["positions"][0]["node"]
    prepared = await staker.act("unbond", node_id=address, amount="1")
    assert prepared["items"][0]["node_id"] == node.id
    assert pubkey(address) != node_key(node)


@pytest.mark.timeout(300)
async def test_an_overclaim_costs_all_who_staked_and_all_who_were_leaving(staker, node, live_market, renter):
    await allowed(renter)
    await staker.staked(node, "300")
    await staker.do("unbond", node_id=node.id, amount="100")
    position = await staker.position(stake="200.000000")
    assert position["tickets"][0]["value_now"] == "100.000000"
    submitting = asyncio.create_task(submit(renter, key="overclaimed"))
    attempt = await node.take()
    _, job, _ = await submitting
    await until(renter, job["id"], "assigned")
    await attempt.ready(live_market)
    # the node signs for an hour after a moment; whoever holds that signature proves it
    hands = Hands(live_market)
    signed = SignedControlVoucher.model_validate(attempt.voucher(3_600_000, at=attempt.started + 1))
    escrow = await hands.reader.find_escrow(Pubkey.from_bytes(attempt.request.escrow))
    account = await hands.reader.find_node(node_key(node))
    voucher = SignedVoucher(
        VoucherMessage.from_fields(signed.fields), node_key(node), hands.keys.meter.pubkey(),
        Signature.from_bytes(signed.signature),
    )  # fmt: skip
    approved = hands.calls.prove_overclaim(
        EscrowRef.of(escrow), NodeRef.of(account), staker.keypair.pubkey(), voucher, check_at=0
    )
    await hands.land([*approved.checks, approved.call], staker.keypair)
    # a fifth of every bucket is gone: of the stake, of what was leaving, of the bond
    position = await staker.position(stake="160.000000")
    assert [t["value_now"] for t in position["tickets"]] == ["80.000000"]
    assert (await node.operator.position(bond=True))["stake"] == "80.000000"
    history = await wait_for(lambda: told(staker, 4))
    assert sorted((e["type"], e["stake"]) for e in history[:2]) == [
        ("slashed", "60.000000"), ("slashed_unbonding", "20.000000"),
    ]  # fmt: skip
    for wallet, kind in ((staker, "stake.slashed"), (node.operator, "node.slashed")):
        _, page, _ = await wallet("GET", f"/v1/events?types={kind}")
        assert [event["data"]["amount"] for event in page["events"]] == ["60.000000", "20.000000"], kind
    _, pool, _ = await staker("GET", f"/v1/nodes/{node.id}/pool")
    assert (pool["stake"], pool["unbonding"]["stake"]) == ("240.000000", "80.000000")
    assert sum(units(e["slashed"]) for e in pool["epochs"]) == 80_000_000
    # what the books say of the pool is what the chain says
    read = live_market.store.lookup
    assert await read(lambda tx: StakeRows(tx).stake_before(pool["pool"], 10**9)) == (240_000_000, int(pool["shares"]))
    assert (await renter("POST", f"/v1/jobs/{job['id']}/cancel"))[0] == 200
