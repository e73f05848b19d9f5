"""Blocks, the cluster's own methods and the largest holders, on a running process; the shapes are Agave's."""

import pytest
from solders.keypair import Keypair

from tests.localnet.process import Localnet, Rpc
from tests.localnet.transactions import as_base64, pay, signed

CONFIRMED = {"commitment": "confirmed"}
V0 = {**CONFIRMED, "maxSupportedTransactionVersion": 0}


async def landed(rpc: Rpc, *, legacy: bool) -> tuple[str, int, Keypair, Keypair]:
    """A payment: signature, slot, who paid, whom."""
    wallet, to = Keypair(), Keypair()
    await rpc.until("confirmed", await rpc.result("requestAirdrop", str(wallet.pubkey()), 10**10))
    blockhash = (await rpc.value("getLatestBlockhash", CONFIRMED))["blockhash"]
    payment = signed(blockhash, wallet, pay(wallet, to.pubkey(), 10**7), legacy=legacy)
    config = {"encoding": "base64", "preflightCommitment": "confirmed"}
    signature = await rpc.result("sendTransaction", as_base64(payment), config)
    return signature, (await rpc.until("confirmed", signature))["slot"], wallet, to


async def test_a_block_has_its_transactions_in_each_detail(rpc: Rpc) -> None:
    signature, slot, wallet, to = await landed(rpc, legacy=True)
    block = await rpc.result("getBlock", slot, V0)
    assert (block["parentSlot"], block["blockHeight"]) == (slot - 1, slot)
    before = await rpc.result("getBlock", slot - 1, V0)
    assert block["previousBlockhash"] == before["blockhash"] != block["blockhash"]
    found = [each for each in block["transactions"] if signature in each["transaction"]["signatures"]]
    alone = await rpc.result("getTransaction", signature, V0)
    assert found == [{name: alone[name] for name in ("transaction", "meta", "version")}]
    assert signature in (await rpc.result("getBlock", slot, {**V0, "transactionDetails": "signatures"}))["signatures"]
    accounts = (await rpc.result("getBlock", slot, {**V0, "transactionDetails": "accounts"}))["transactions"]
    (short,) = [each for each in accounts if signature in each["transaction"]["signatures"]]
    assert [each["pubkey"] for each in short["transaction"]["accountKeys"]][:2] == [
        str(wallet.pubkey()),
        str(to.pubkey()),
    ]
    assert [each["writable"] for each in short["transaction"]["accountKeys"]] == [True, True, False]
    bare = await rpc.result("getBlock", slot, {**V0, "transactionDetails": "none", "rewards": False})
    assert bare.keys() == {"blockHeight", "blockTime", "blockhash", "parentSlot", "previousBlockhash"}


async def test_a_block_with_a_version_needs_a_client_that_knows_it(rpc: Rpc) -> None:
    _, slot, _, _ = await landed(rpc, legacy=False)
    assert (await rpc.error("getBlock", slot, CONFIRMED))["code"] == -32015
    assert (await rpc.error("getBlock", 10**9, V0))["code"] == -32004
    assert (await rpc.error("getBlock", slot, {"commitment": "processed"}))["code"] == -32602
    assert (await rpc.result("getBlock", 0, V0))["parentSlot"] == 0


async def test_blocks_are_listed_up_to_the_commitment(rpc: Rpc) -> None:
    await rpc.until_slot(8)
    assert await rpc.result("getBlocks", 1, 4, CONFIRMED) == [1, 2, 3, 4]
    listed = await rpc.result("getBlocks", 2, CONFIRMED)
    assert listed == list(range(2, listed[-1] + 1))
    assert 7 <= listed[-1] <= await rpc.result("getSlot", CONFIRMED)
    assert await rpc.result("getBlocksWithLimit", 3, 2, CONFIRMED) == [3, 4]
    assert await rpc.result("getBlocks", 5, 4, CONFIRMED) == []
    assert (await rpc.error("getBlocksWithLimit", 3, 500_001))["code"] == -32602


async def test_the_cluster_is_one_node_that_leads_every_slot(rpc: Rpc, localnet: Localnet) -> None:
    (node,) = await rpc.result("getClusterNodes")
    assert localnet.rpc == f"http://{node['rpc']}"
    assert localnet.ws == f"ws://{node['pubsub']}"
    assert await rpc.result("getSlotLeaders", 0, 3) == [node["pubkey"]] * 3
    assert await rpc.result("getSlotLeader") == node["pubkey"] == (await rpc.result("getIdentity"))["identity"]
    assert len((await rpc.result("getLeaderSchedule"))[node["pubkey"]]) == 432_000
    assert await rpc.result("getVoteAccounts") == {"current": [], "delinquent": []}
    await rpc.until_slot(6)
    production = await rpc.value("getBlockProduction", {"range": {"firstSlot": 1, "lastSlot": 3}, **CONFIRMED})
    assert production["byIdentity"] == {node["pubkey"]: [3, 3]}


async def test_lamports_are_all_there_and_the_richest_come_first(rpc: Rpc) -> None:
    wallet = str(Keypair().pubkey())
    before = (await rpc.value("getSupply", CONFIRMED))["total"]
    await rpc.until("confirmed", await rpc.result("requestAirdrop", wallet, 10**12))
    # An airdrop moves lamports; its fee is burned, and nothing else.
    assert (await rpc.value("getSupply", CONFIRMED))["total"] == before - 5_000
    first, second = (await rpc.value("getLargestAccounts", CONFIRMED))[:2]
    assert first["address"] == (await rpc.result("getIdentity"))["identity"]
    assert second == {"address": wallet, "lamports": 10**12}


async def test_holders_and_delegates_of_a_token_are_found(rpc: Rpc, localnet: Localnet) -> None:
    mint, owners = localnet.ready["payment_mint"], [str(Keypair().pubkey()) for _ in range(3)]
    for amount, owner in enumerate(owners, 1):
        given = await rpc.result("localnetFaucet", owner, {"payment": amount})
        await rpc.until("confirmed", given["signature"])
    largest = await rpc.value("getTokenLargestAccounts", mint, CONFIRMED)
    assert [each["amount"] for each in largest] == ["3", "2", "1"]
    assert await rpc.value("getTokenAccountsByDelegate", owners[0], {"mint": mint}, CONFIRMED) == []


@pytest.mark.parametrize("method", ["getStakeMinimumDelegation", "getRecentBlockhash", "slotSubscribe"])
async def test_what_is_not_offered_is_no_method(rpc: Rpc, method: str) -> None:
    assert await rpc.error(method) == {"code": -32601, "message": "Method not found"}
