"""Subscriptions over real WebSockets."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from marketplace.localnet.tokens import TOKEN_PROGRAM, associated_address
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


async def test_a_program_s_accounts_are_told_through_the_filters(socket: Socket, rpc: Rpc, localnet: Localnet) -> None:
    owner = Keypair().pubkey()
    options = {
        "commitment": "confirmed",
        "encoding": "jsonParsed",
        "filters": [{"dataSize": 165}, {"memcmp": {"offset": 32, "bytes": str(owner)}}],
    }
    number = (await socket.call("programSubscribe", str(TOKEN_PROGRAM), options))["result"]
    other = Keypair().pubkey()
    await rpc.result("localnetFaucet", str(other), {"payment": 5})  # passes no filter
    await rpc.result("localnetFaucet", str(owner), {"payment": 7})
    told = (await socket.next())["params"]
    assert told["subscription"] == number
    payment = Pubkey.from_string(localnet.ready["payment_mint"])
    assert told["result"]["value"]["pubkey"] == str(associated_address(owner, payment))
    info = told["result"]["value"]["account"]["data"]["parsed"]["info"]
    assert (info["owner"], info["tokenAmount"]["amount"]) == (str(owner), "7")
    assert (await socket.call("programUnsubscribe", number))["result"] is True


@pytest.mark.parametrize("commitment", ["processed", "confirmed", "finalized"])
async def test_logs_are_told_of_who_is_named_once(socket: Socket, rpc: Rpc, commitment: str) -> None:
    wallet, stranger = Keypair(), Keypair()
    await rpc.until("finalized", await rpc.result("requestAirdrop", str(wallet.pubkey()), 10**10))
    number = (await socket.call("logsSubscribe", {"mentions": [str(wallet.pubkey())]}, {"commitment": commitment}))[
        "result"
    ]
    blockhash = (await rpc.value("getLatestBlockhash", {"commitment": "processed"}))["blockhash"]
    await rpc.result("requestAirdrop", str(stranger.pubkey()), 10**10)
    transaction = signed(blockhash, wallet, pay(wallet, stranger.pubkey(), 10**12))
    await rpc.result("sendTransaction", as_base64(transaction), {**SEND, "skipPreflight": True})
    told = (await socket.next())["params"]
    assert told["subscription"] == number
    value = told["result"]["value"]
    assert value["signature"] == str(transaction.signatures[0])
    assert value["err"] == {"InstructionError": [0, {"Custom": 1}]}
    assert value["logs"][-1].endswith("failed: custom program error: 0x1")


async def test_slots_and_roots_follow_each_other_without_a_gap(socket: Socket) -> None:
    numbers = {(await socket.call(f"{kind}Subscribe"))["result"]: kind for kind in ("slot", "root")}
    heard: dict[str, list[int]] = {"slot": [], "root": []}
    while min(len(each) for each in heard.values()) < 4:
        told = await socket.next()
        kind = numbers[told["params"]["subscription"]]
        assert told["method"] == f"{kind}Notification"
        result = told["params"]["result"]
        if kind == "slot":
            assert (result["parent"], result["root"]) == (result["slot"] - 1, max(0, result["slot"] - 4))
        heard[kind].append(result["slot"] if kind == "slot" else result)
    for slots in heard.values():
        assert slots == list(range(slots[0], slots[0] + len(slots)))


async def test_a_signature_is_told_received_before_it_is_confirmed(socket: Socket, rpc: Rpc) -> None:
    wallet = Keypair()
    await rpc.until("confirmed", await rpc.result("requestAirdrop", str(wallet.pubkey()), 10**10))
    blockhash = (await rpc.value("getLatestBlockhash", {"commitment": "processed"}))["blockhash"]
    transaction = signed(blockhash, wallet, pay(wallet, Keypair().pubkey(), 10**7))
    options = {"commitment": "confirmed", "enableReceivedNotification": True}
    await socket.call("signatureSubscribe", str(transaction.signatures[0]), options)
    await rpc.result("sendTransaction", as_base64(transaction), SEND)
    told = [(await socket.next())["params"]["result"]["value"] for _ in range(2)]
    assert told == ["receivedSignature", {"err": None}]


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
