"""Real processes, killed: what was answered is kept, what was not answered may be sent again."""

import json
from pathlib import Path

import aiohttp
import pytest
from solders.keypair import Keypair

from tests.localnet.process import Localnet, Rpc
from tests.localnet.transactions import as_base64, pay, signed

PROCESSED = {"commitment": "processed"}
LONG_BLOCKHASHES = "slot_ms = 200\nfinality_slots = 4\n"
"""30 s of them, less what a killed chain skips: one outlives a start on busy cores."""
SEND = {"encoding": "base64", "preflightCommitment": "processed"}


async def fund(rpc: Rpc) -> Keypair:
    wallet = Keypair()
    await rpc.result("requestAirdrop", str(wallet.pubkey()), 10**10)
    return wallet


async def blockhash(rpc: Rpc) -> str:
    return str((await rpc.value("getLatestBlockhash", PROCESSED))["blockhash"])


async def test_kill_9_loses_nothing_that_was_answered(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    localnet = await Localnet(tmp_path, LONG_BLOCKHASHES).start()
    rpc = Rpc(session, localnet.rpc)
    wallet, to = await fund(rpc), Keypair().pubkey()
    young = await blockhash(rpc)
    transactions = [signed(young, wallet, pay(wallet, to, 10**6 + n)) for n in range(20)]
    for each in transactions:
        await rpc.result("sendTransaction", as_base64(each), SEND)
    before = await rpc.result("getSlot", PROCESSED)
    genesis = await rpc.result("getGenesisHash")
    await localnet.kill()

    await localnet.start()
    rpc = Rpc(session, localnet.rpc)
    paid = sum(10**6 + n for n in range(20))
    assert await rpc.value("getBalance", str(to), PROCESSED) == paid
    assert await rpc.value("getBalance", str(wallet.pubkey()), PROCESSED) == 10**10 - paid - 20 * 5_000
    assert await rpc.result("getGenesisHash") == genesis
    assert await rpc.result("getSlot", PROCESSED) > before
    last = str(transactions[-1].signatures[0])
    await rpc.until("confirmed", last)
    found = await rpc.result("getTransaction", last, {"commitment": "confirmed", "maxSupportedTransactionVersion": 0})
    assert found["meta"]["postBalances"][1] == paid
    history = await rpc.result("getSignaturesForAddress", str(to), {"commitment": "confirmed"})
    assert [each["signature"] for each in history] == [str(each.signatures[0]) for each in reversed(transactions)]

    # A young blockhash of before the restart is still good, and so the duplicate is still refused.
    refused = await rpc.error("sendTransaction", as_base64(transactions[0]), SEND)
    assert refused["data"]["err"] == "AlreadyProcessed"
    fresh = signed(young, wallet, pay(wallet, to, 10**6 + 77))
    assert await rpc.result("sendTransaction", as_base64(fresh), SEND) == str(fresh.signatures[0])
    await localnet.kill()


@pytest.mark.parametrize(("point", "landed"), [("localnet.before_journal", False), ("localnet.after_journal", True)])
async def test_a_transaction_at_a_crash_point_is_whole_or_absent(
    tmp_path: Path,
    session: aiohttp.ClientSession,
    point: str,
    landed: bool,
) -> None:
    localnet = await Localnet(tmp_path, LONG_BLOCKHASHES).start()
    rpc = Rpc(session, localnet.rpc)
    wallet, to = await fund(rpc), Keypair().pubkey()
    await localnet.kill()

    await localnet.start(crash_at=point)
    rpc = Rpc(session, localnet.rpc)
    transaction = signed(await blockhash(rpc), wallet, pay(wallet, to, 10**7))
    with pytest.raises(aiohttp.ClientError):
        await rpc.result("sendTransaction", as_base64(transaction), SEND)
    assert await localnet.ended() == -9

    await localnet.start()
    rpc = Rpc(session, localnet.rpc)
    assert await rpc.value("getBalance", str(to), PROCESSED) == (10**7 if landed else 0)
    expected_left = 10**10 - (10**7 + 5_000 if landed else 0)
    assert await rpc.value("getBalance", str(wallet.pubkey()), PROCESSED) == expected_left
    # The sender, who got no answer, sends the same bytes again: it happens once.
    answer = await rpc.answer("sendTransaction", as_base64(transaction), SEND)
    assert ("error" in answer) == landed
    assert await rpc.value("getBalance", str(to), PROCESSED) == 10**7
    await localnet.kill()


async def test_an_orderly_stop_goes_on_at_the_next_slot(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    localnet = await Localnet(tmp_path, "slot_ms = 60000\n").start()
    rpc = Rpc(session, localnet.rpc)
    slot, height = await rpc.result("getSlot", PROCESSED), await rpc.result("getBlockHeight", PROCESSED)
    assert slot == height == 1
    assert await localnet.stop() == 0
    assert not (tmp_path / "data" / "localnet.json").exists()
    await localnet.start()
    assert await Rpc(session, localnet.rpc).result("getSlot", PROCESSED) == 2
    await localnet.kill()


async def test_two_localnets_share_nothing(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    one, other = await Localnet(tmp_path / "a").start(), await Localnet(tmp_path / "b").start()
    first, second = Rpc(session, one.rpc), Rpc(session, other.rpc)
    wallet = await fund(first)
    assert await second.value("getBalance", str(wallet.pubkey()), PROCESSED) == 0
    assert await first.result("getGenesisHash") != await second.result("getGenesisHash")
    assert one.ready["mint_authority"] != other.ready["mint_authority"]
    assert one.ready["payment_mint"] == other.ready["payment_mint"]  # a constant: configurations can name it
    foreign = signed(await blockhash(first), wallet, pay(wallet, Keypair().pubkey(), 10**7))
    refused = await second.error("sendTransaction", as_base64(foreign), SEND)
    assert refused["data"]["err"] == "BlockhashNotFound"
    await one.kill()
    await other.kill()


async def test_a_second_process_on_the_same_folder_is_refused(localnet: Localnet, tmp_path: Path) -> None:
    second = Localnet(tmp_path / "localnet")
    await second.start()
    assert second.ready["error"] == "FolderInUse"
    assert await second.ended() == 1
    assert json.loads((tmp_path / "localnet" / "data" / "localnet.json").read_text()) == {
        name: value for name, value in localnet.ready.items() if name != "ready"
    }


async def test_other_decimals_under_a_living_chain_are_refused(tmp_path: Path) -> None:
    localnet = await Localnet(tmp_path).start()
    await localnet.kill()
    changed = Localnet(tmp_path, "payment_decimals = 9\n")
    await changed.start()
    assert changed.ready["error"] == "FolderMismatch"
    assert await changed.ended() == 1
