"""Subscriptions over real WebSockets."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest
from solders.keypair import Keypair

from tests.localnet.process import Localnet, Rpc
from tests.localnet.transactions import as_base64, pay, signed

SEND = {"encoding": "base64", "preflightCommitment": "processed"}


class Socket:
    """One connection: calls and notifications in the order in which they come."""

    def __init__(self, connection: aiohttp.ClientWebSocketResponse) -> None:
        self._connection = connection

    async def call(self, method: str, *params: Any) -> dict[str, Any]:
        await self._connection.send_str(
            json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)})
        )
        return await self.next()

    async def next(self) -> dict[str, Any]:
        return await self._connection.receive_json(timeout=30)


@pytest.fixture(params=["ws", "rpc"])
async def socket(request: pytest.FixtureRequest, localnet: Localnet, session: aiohttp.ClientSession):
    """On the WebSocket port, and on the RPC port, where some clients look."""
    async with session.ws_connect(localnet.ready[request.param]) as connection:
        yield Socket(connection)


async def test_a_signature_is_told_once_when_it_reaches_each_commitment(socket: Socket, rpc: Rpc) -> None:
    wallet = Keypair()
    await rpc.result("requestAirdrop", str(wallet.pubkey()), 10**10)
    blockhash = (await rpc.value("getLatestBlockhash", {"commitment": "processed"}))["blockhash"]
    transaction = signed(blockhash, wallet, pay(wallet, Keypair().pubkey(), 10**7))
    numbers = {}
    for commitment in ("finalized", "confirmed", "processed"):
        answer = await socket.call("signatureSubscribe", str(transaction.signatures[0]), {"commitment": commitment})
        numbers[answer["result"]] = commitment
    await rpc.result("sendTransaction", as_base64(transaction), SEND)
    told = [await socket.next() for _ in range(3)]
    assert [numbers[each["params"]["subscription"]] for each in told] == ["processed", "confirmed", "finalized"]
    assert all(each["method"] == "signatureNotification" for each in told)
    assert all(each["params"]["result"]["value"] == {"err": None} for each in told)
    gone = await socket.call("signatureUnsubscribe", told[0]["params"]["subscription"])
    assert gone["error"] == {"code": -32602, "message": "Invalid subscription id."}


async def test_a_failed_signature_is_told_with_its_error(socket: Socket, rpc: Rpc) -> None:
    wallet = Keypair()
    await rpc.result("requestAirdrop", str(wallet.pubkey()), 10**10)
    blockhash = (await rpc.value("getLatestBlockhash", {"commitment": "processed"}))["blockhash"]
    transaction = signed(blockhash, wallet, pay(wallet, Keypair().pubkey(), 10**12))
    await rpc.result("sendTransaction", as_base64(transaction), {**SEND, "skipPreflight": True})
    # Subscribed to afterwards: the answer with the number comes first, then what had already happened.
    number = (await socket.call("signatureSubscribe", str(transaction.signatures[0]), {"commitment": "processed"}))[
        "result"
    ]
    told = (await socket.next())["params"]
    assert told["subscription"] == number
    assert told["result"]["value"] == {"err": {"InstructionError": [0, {"Custom": 1}]}}


async def test_an_account_is_told_at_each_change_until_unsubscribed(socket: Socket, rpc: Rpc) -> None:
    address = str(Keypair().pubkey())
    number = (await socket.call("accountSubscribe", address, {"commitment": "confirmed", "encoding": "base64"}))[
        "result"
    ]
    for n in (1, 2):
        await rpc.result("requestAirdrop", address, 10**9)
        told = (await socket.next())["params"]
        assert told["subscription"] == number
        assert told["result"]["value"] == {
            "lamports": n * 10**9,
            "data": ["", "base64"],
            "owner": "11111111111111111111111111111111",
            "executable": False,
            "rentEpoch": 2**64 - 1,
            "space": 0,
        }
    assert (await socket.call("accountUnsubscribe", number))["result"] is True
    later = (await socket.call("accountSubscribe", address, {"commitment": "processed"}))["result"]
    await rpc.result("requestAirdrop", address, 10**9)
    assert (await socket.next())["params"]["subscription"] == later != number


async def test_bad_subscriptions_get_errors(socket: Socket) -> None:
    assert (await socket.call("nope"))["error"]["code"] == -32601
    assert (await socket.call("signatureSubscribe", "zz"))["error"]["code"] == -32602
    assert (await socket.call("accountSubscribe"))["error"]["code"] == -32602
    assert (await socket.call("accountUnsubscribe", 77))["error"]["message"] == "Invalid subscription id."


async def test_a_stopping_chain_closes_its_sockets(localnet: Localnet, session: aiohttp.ClientSession) -> None:
    async with session.ws_connect(localnet.ws) as connection:
        stopping = asyncio.create_task(localnet.stop())
        assert (await connection.receive(timeout=30)).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
        assert await stopping == 0
