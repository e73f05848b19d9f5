"""Sending through an RPC of the caller's own: the same bytes until they land, and what happened read from the chain."""

import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest
from solders.transaction import VersionedTransaction

from marketplace.chain.rpc import RpcClient
from marketplace.client.client import ReaverClient
from marketplace.client.errors import MarketChanged, NotConfirmed, TransactionFailed
from marketplace.client.keypairs import Keypair
from marketplace.client.pins import Pins
from marketplace.client.relay import RpcRelay
from tests.chain.rpc_server import JsonRpcFault, ScriptedServer, scripted_server
from tests.client.fake_market import FakeMarket, key


@pytest.fixture
async def chain(market: FakeMarket) -> AsyncIterator[ScriptedServer]:
    async with scripted_server() as server:
        server.replies["getGenesisHash"] = lambda _: str(key("genesis").pubkey())
        server.replies["sendTransaction"] = lambda params: _signature(params[0])
        server.replies["getSignatureStatuses"] = lambda _: _statuses(
            {"slot": 3, "confirmationStatus": "confirmed", "err": None}
        )
        yield server


def _signature(encoded: str) -> str:
    transaction = VersionedTransaction.from_bytes(base64.b64decode(encoded))
    assert all(transaction.verify_with_results())
    return str(transaction.signatures[0])


def _statuses(status: dict[str, Any] | None) -> dict[str, Any]:
    return {"context": {"slot": 5}, "value": [status if status is None else status | {"confirmations": None}]}


def sent(chain: ScriptedServer) -> list[str]:
    return [params[0] for method, params in chain.calls if method == "sendTransaction"]


async def test_a_deposit_goes_through_the_callers_rpc(
    market: FakeMarket, chain: ScriptedServer, keypair: Keypair
) -> None:
    async with RpcClient([chain.url]) as rpc, ReaverClient(market.base_url, keypair, relay=RpcRelay(rpc)) as client:
        await client.deposit(1_000_000)
    assert len(sent(chain)) == 1
    assert market.spent("/v1/transactions") == []


async def test_an_rpc_of_another_cluster_is_refused(
    market: FakeMarket, chain: ScriptedServer, keypair: Keypair
) -> None:
    chain.replies["getGenesisHash"] = lambda _: str(key("other").pubkey())
    async with RpcClient([chain.url]) as rpc, ReaverClient(market.base_url, keypair, relay=RpcRelay(rpc)) as client:
        with pytest.raises(MarketChanged, match="cluster"):
            await client.deposit(1_000_000)
    assert sent(chain) == []


async def test_a_failed_transaction_is_not_a_confirmed_one(
    market: FakeMarket, chain: ScriptedServer, keypair: Keypair
) -> None:
    failed = {"slot": 3, "confirmationStatus": "confirmed", "err": {"InstructionError": [0, {"Custom": 6001}]}}
    chain.replies["getSignatureStatuses"] = lambda _: _statuses(failed)
    async with RpcClient([chain.url]) as rpc, ReaverClient(market.base_url, keypair, relay=RpcRelay(rpc)) as client:
        with pytest.raises(TransactionFailed, match="6001"):
            await client.deposit(1_000_000)


async def test_a_refused_preflight_spends_nothing(market: FakeMarket, chain: ScriptedServer, keypair: Keypair) -> None:
    def refuse(_params: list[Any]) -> object:
        raise JsonRpcFault(
            -32002, "simulation failed", {"err": {"InstructionError": [0, {"Custom": 6001}]}, "logs": []}
        )

    chain.replies["sendTransaction"] = refuse
    async with RpcClient([chain.url]) as rpc, ReaverClient(market.base_url, keypair, relay=RpcRelay(rpc)) as client:
        with pytest.raises(TransactionFailed, match="nothing was spent"):
            await client.deposit(1_000_000)


async def test_what_is_not_seen_in_time_may_still_land(chain: ScriptedServer) -> None:
    chain.replies["getSignatureStatuses"] = lambda _: _statuses(None)
    signature = str(key("payer").sign_message(b"x"))
    async with RpcClient([chain.url]) as rpc:
        with pytest.raises(NotConfirmed, match="same command"):
            await RpcRelay(rpc).confirmed(signature, timeout_s=0)


@pytest.mark.parametrize("pins", [Pins(program_id=str(key("x").pubkey())), Pins(market=str(key("x").pubkey()))])
async def test_a_pinned_market_is_held_to_it(market: FakeMarket, keypair: Keypair, pins: Pins) -> None:
    async with ReaverClient(market.base_url, keypair, pins=pins) as client:
        with pytest.raises(MarketChanged, match="pinned"):
            await client.login()
    assert market.spent("/v1/auth/verify") == []
