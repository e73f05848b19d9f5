"""An escrow that nobody ended in time, ended by anybody: how its wallet is told."""

import asyncio
from dataclasses import replace

import pytest
from solders.keypair import Keypair

from marketplace.chain.builders import EscrowRef
from marketplace.chain.constants import LOCALNET
from marketplace.chain.errors import TransactionFailed
from marketplace.chain.rpc import RpcClient
from tests.chain.market import Actor, localnet
from tests.chain.test_lifecycle import terms


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """A chain on which an escrow may wait for a node for a second only."""
    windows = replace(LOCALNET.windows, queue_limit=1_000)
    with localnet(tmp_path_factory.mktemp("chain"), profile=replace(LOCALNET, windows=windows)) as running:
        yield running


async def test_it_is_told_as_reaped_and_as_closed(chain, renter):
    await renter.deposit("2")
    key = renter.keypair.pubkey()
    async with RpcClient([chain.rpc]) as rpc:
        actor = Actor(chain, rpc)
        sending = asyncio.create_task(actor.sender.run())
        try:
            stranger = Keypair()
            await actor.fund(stranger.pubkey())
            escrow = EscrowRef(key, key, 5, actor.market, key)
            await actor.send([actor.calls.open_escrow(escrow, key, terms(nonce=5))], renter.keypair)
            async with asyncio.timeout(20):
                while True:
                    try:
                        reaping = await actor.send([actor.calls.reap(escrow, None, stranger.pubkey())], stranger)
                        break
                    except TransactionFailed as early:
                        if early.error_name != "ReapTooEarly":
                            raise
                        await asyncio.sleep(0.2)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
    told = []
    async with asyncio.timeout(30):
        while "escrow.closed" not in [event["type"] for event in told]:
            _, page, _ = await renter("GET", "/v1/events?types=escrow.*")
            told = page["events"]
            await asyncio.sleep(0.1)
    assert [event["type"] for event in told] == ["escrow.opened", "escrow.reaped", "escrow.closed"]
    for event in told[1:]:
        assert event["data"]["transaction"] == str(reaping)
        assert (event["data"]["reason_number"], event["data"]["paid"]) == (5, "0.000000")
