import asyncio
import json
from pathlib import Path

import pytest
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from marketplace.chain import reader
from marketplace.chain.accounts import ConfigAccount, EscrowAccount, VaultAccount
from marketplace.chain.errors import AccountMismatch, AccountMissing
from marketplace.chain.subscriptions import Subscriptions
from marketplace.chain.transactions import TransferLamports
from tests.chain.market import Actor

pytestmark = pytest.mark.xdist_group("chain-localnet")

IDL = json.loads((Path(__file__).parents[2] / "programs_idl" / "reaver_market.json").read_text())
FIELDS = {entry["name"]: entry["type"]["fields"] for entry in IDL["types"]}
WIDTHS = {"u8": 1, "pubkey": 32}


def offset(account: str, name: str) -> int:
    at = 8
    for field in FIELDS[account]:
        if field["name"] == name:
            return at
        at += WIDTHS[field["type"]]
    raise AssertionError(name)


def test_the_listings_filter_at_the_fields_they_name() -> None:
    assert offset("Escrow", "wallet") == reader.ESCROW_WALLET_AT
    assert offset("Escrow", "market") == reader.ESCROW_MARKET_AT
    assert offset("Node", "operator") == reader.NODE_OPERATOR_AT
    assert offset("Node", "market") == reader.NODE_MARKET_AT
    assert offset("Allowance", "wallet") == reader.ALLOWANCE_WALLET_AT
    assert offset("Position", "pool") == reader.POSITION_POOL_AT
    assert offset("Position", "owner") == reader.POSITION_OWNER_AT
    assert offset("Ticket", "position") == reader.TICKET_POSITION_AT
    assert offset("Ticket", "owner") == reader.TICKET_OWNER_AT


async def test_what_is_not_there_is_told_from_what_is_something_else(actor: Actor) -> None:
    nowhere = Pubkey.new_unique()
    assert await actor.reader.find(EscrowAccount, nowhere) is None
    assert await actor.reader.find_vault(nowhere) is None
    with pytest.raises(AccountMissing, match="vault"):
        await actor.reader.get(VaultAccount, nowhere)
    with pytest.raises(AccountMismatch):
        await actor.reader.find(VaultAccount, actor.market)
    with pytest.raises(AccountMismatch):
        await actor.reader.find_token_account(actor.market)
    with pytest.raises(AccountMismatch, match="Token-2022"):
        await actor.reader.find_mint_decimals(actor.market)


async def test_an_address_that_only_received_lamports_is_no_account_of_ours(actor: Actor) -> None:
    wallet, target = Keypair(), Pubkey.new_unique()
    await actor.fund(wallet.pubkey())
    await actor.send([TransferLamports(wallet.pubkey(), target, 5_000_000)], wallet)
    assert await actor.rpc.get_balance(target) == 5_000_000
    assert await actor.reader.find(EscrowAccount, target) is None


async def test_the_nodes_of_a_market_are_listed(actor: Actor) -> None:
    node = await actor.node()
    listed = await actor.reader.list_nodes_of_market(actor.market)
    assert node.key.pubkey() in {entry.account.node_key for entry in listed}
    assert await actor.reader.list_nodes_of_market(Pubkey.new_unique()) == []


async def test_a_landed_signature_wakes_its_listener(actor: Actor) -> None:
    import contextlib

    wallet = Keypair()
    await actor.fund(wallet.pubkey())
    subscriptions = Subscriptions(actor.running.ws)
    listener = subscriptions.listener()
    listener.watch_account(wallet.pubkey())
    loop = asyncio.create_task(subscriptions.run())
    await listener.wait(10)  # connected, which wakes every listener that was there before
    await asyncio.sleep(0)
    woken = asyncio.create_task(listener.wait(300))
    async with asyncio.timeout(60):
        while not woken.done():
            await actor.send([TransferLamports(wallet.pubkey(), Pubkey.new_unique(), 5_000_000)], wallet)
    loop.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await loop


async def test_a_long_list_leaves_room_for_other_tasks(actor: Actor) -> None:
    """Counted in turns of the loop while nothing but the reading itself goes on."""
    (config,) = await actor.rpc.list_accounts([actor.calls.addresses.config()])

    class Immediate:
        async def list_accounts(self, addresses, _commitment):
            return [config] * len(addresses)

    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    reading = reader.ChainReader(Immediate(), actor.codec)  # type: ignore[arg-type]
    found = await reading.find_many(ConfigAccount, [actor.market] * 64)
    task.cancel()
    assert len(found) == 64
    assert turns >= 64 // 8
