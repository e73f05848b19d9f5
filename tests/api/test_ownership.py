"""What belongs to one account is not there for another. The list of routes is the route table's, so none is forgotten.

A new placeholder fails this test until `belongings` makes one that belongs to somebody, or PUBLIC says that everybody
may see it.
"""

import asyncio
import hashlib
import re

from marketplace.chain.builders import EscrowRef, EscrowTerms
from marketplace.chain.outbox import MemoryOutbox
from marketplace.chain.rpc import RpcClient
from marketplace.chain.sender import Sender
from marketplace.chain.transactions import Assembler
from tests.api.conftest import Wallet

PUBLIC: set[str] = set()
"""Routes with an id that everybody may read. Source: api.md section 5.5, column "who"."""


async def belongings(renter, market, chain) -> dict[str, str]:
    """One of everything that an id can name, all of it the renter's."""
    signature = await renter.deposit("5")
    wallet = renter.keypair.pubkey()
    reference = EscrowRef(wallet=wallet, opener=wallet, nonce=1, market=market.link.facts.market, rent_payer=wallet)
    terms = EscrowTerms(1, bytes(16), hashlib.sha256(b"terms").digest(), 1_000_000, 1_000_000, 3_600_000, 3)
    async with RpcClient([chain.rpc]) as rpc:
        step = market.link.calls.open_escrow(reference, wallet, terms)
        signed = (await Assembler(rpc, market.link.codec).assemble([step], wallet)).sign([renter.keypair])
        sender = Sender(rpc, MemoryOutbox(), tick_s=0.03)
        loop = asyncio.create_task(sender.run())
        await sender.submit("open", signed.raw, signed.last_valid_block_height)
        await sender.wait(signed.signature, timeout_s=30)
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)
    return {"signature": signature, "address": str(market.link.calls.escrow_address(reference))}


async def test_a_strangers_id_is_not_found(renter, live_market, live_call, chain):
    named = [
        route
        for route in live_market.routes
        if "{" in route.path and route.access.accounts and route.name not in PUBLIC
    ]
    assert named
    own = await belongings(renter, live_market, chain)
    unknown = {name for route in named for name in re.findall(r"{(\w+)}", route.path)} - own.keys()
    assert not unknown, "say whose these are"
    stranger = (await live_call.login(Wallet()))["token"]
    for route in named:
        path = route.path.format(**own)
        status, answer, _ = await live_call(route.method, path, token=stranger)
        assert (status, answer["error"]) == (404, "not_found"), route.name
        if route.method == "GET":
            assert (await live_call("GET", path, token=renter.token))[0] == 200, route.name
