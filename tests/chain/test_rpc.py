import asyncio
import base64
from collections.abc import AsyncIterator

import base58
import orjson
import pytest
from aiohttp import web
from solders.hash import Hash
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.signature import Signature

from marketplace.chain.answers import Commitment, TransactionFailure
from marketplace.chain.errors import RpcError, RpcUnavailable
from marketplace.chain.rpc import Endpoint, ProgramFilter, RpcClient
from tests.chain.rpc_server import JsonRpcFault, ScriptedServer, scripted_server

SIGNATURE = Keypair.from_seed(bytes(32)).sign_message(b"x")
PROGRAM = Pubkey.from_string("SysvarC1ock11111111111111111111111111111111")


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with scripted_server() as running:
        yield running


@pytest.fixture
async def client(server: ScriptedServer) -> AsyncIterator[RpcClient]:
    async with RpcClient([server.url]) as rpc:
        yield rpc


def contextual(value: object) -> object:
    return {"context": {"slot": 7}, "value": value}


async def test_a_blockhash_is_asked_for_at_confirmed(server: ScriptedServer, client: RpcClient) -> None:
    server.replies["getLatestBlockhash"] = lambda _: contextual(
        {"blockhash": str(Hash.default()), "lastValidBlockHeight": 150}
    )
    latest = await client.get_latest_blockhash()
    assert (latest.last_valid_block_height, latest.slot) == (150, 7)
    assert server.calls == [("getLatestBlockhash", [{"commitment": "confirmed"}])]


async def test_a_transaction_is_sent_raw_without_the_nodes_own_retries(
    server: ScriptedServer, client: RpcClient
) -> None:
    server.replies["sendTransaction"] = lambda _: str(SIGNATURE)
    assert await client.send_transaction(b"\x01bytes") == SIGNATURE
    raw, options = server.calls[0][1]
    assert base64.b64decode(raw) == b"\x01bytes"
    assert options["maxRetries"] == 0
    assert options["skipPreflight"] is True


async def test_a_failed_preflight_keeps_its_error_and_logs(server: ScriptedServer, client: RpcClient) -> None:
    def refuse(_: object) -> object:
        raise JsonRpcFault(
            -32002, "simulation failed", {"err": {"InstructionError": [2, {"Custom": 6001}]}, "logs": ["a"]}
        )

    server.replies["sendTransaction"] = refuse
    with pytest.raises(RpcError) as caught:
        await client.send_transaction(b"x", skip_preflight=False)
    assert caught.value.failure == TransactionFailure("InstructionError", 2, 6001)
    assert caught.value.logs == ("a",)


async def test_statuses_are_asked_for_in_batches_of_256(server: ScriptedServer, client: RpcClient) -> None:
    server.replies["getSignatureStatuses"] = lambda params: contextual([None] * len(params[0]))
    statuses = await client.get_signature_statuses([SIGNATURE] * 300)
    assert len(statuses) == 300
    assert [len(call[1][0]) for call in server.calls] == [256, 44]


async def test_a_confirmed_status_with_an_error_is_a_failure(server: ScriptedServer, client: RpcClient) -> None:
    server.replies["getSignatureStatuses"] = lambda _: contextual(
        [{"slot": 3, "confirmations": 1, "err": "AccountInUse", "confirmationStatus": "confirmed"}]
    )
    (status,) = await client.get_signature_statuses([SIGNATURE])
    assert status is not None
    assert status.failure == TransactionFailure("AccountInUse")
    assert status.commitment is Commitment.CONFIRMED


@pytest.mark.parametrize(
    "answer",
    [
        contextual([]),
        contextual([{"slot": True, "err": None, "confirmationStatus": "confirmed"}]),
        contextual([{"slot": -1, "err": None, "confirmationStatus": "confirmed"}]),
        contextual([{"slot": 1, "err": None, "confirmationStatus": "probably"}]),
        contextual([{"slot": 1, "confirmationStatus": "confirmed"}]),
        contextual([{"slot": 1, "err": {"InstructionError": 1}, "confirmationStatus": "confirmed"}]),
        contextual({"a": 1}),
        [None],
        None,
    ],
)
async def test_an_answer_of_the_wrong_shape_is_no_answer(
    server: ScriptedServer, client: RpcClient, answer: object
) -> None:
    server.replies["getSignatureStatuses"] = lambda _: answer
    with pytest.raises(RpcUnavailable):
        await client.get_signature_statuses([SIGNATURE])


def landed(signature: Signature, version: object = 0) -> dict[str, object]:
    payer, program = str(Pubkey.new_unique()), str(PROGRAM)
    return {
        "slot": 9,
        "blockTime": 1_700_000_000,
        "version": version,
        "transaction": {
            "signatures": [str(signature)],
            "message": {
                "accountKeys": [payer, program],
                "recentBlockhash": str(Hash.default()),
                "instructions": [{"programIdIndex": 1, "accounts": [0], "data": base58.b58encode(b"hi").decode()}],
            },
        },
        "meta": {
            "err": None,
            "fee": 5000,
            "preBalances": [10, 0],
            "postBalances": [3, 0],
            "logMessages": ["Program log: x"],
            "preTokenBalances": [],
            "postTokenBalances": [
                {
                    "accountIndex": 0,
                    "mint": program,
                    "uiTokenAmount": {"amount": "18446744073709551615", "decimals": 6},
                }
            ],
        },
    }


async def test_a_transaction_of_version_1_can_be_read(server: ScriptedServer, client: RpcClient) -> None:
    server.replies["getTransaction"] = lambda _: landed(SIGNATURE, version=1)
    found = await client.find_transaction(SIGNATURE)
    assert found is not None
    assert server.calls[0][1][1]["maxSupportedTransactionVersion"] == 1
    assert server.calls[0][1][1]["encoding"] == "json"
    assert found.instructions[0].data == b"hi"
    assert found.instructions[0].program == PROGRAM
    assert found.lamports_change(found.account_keys[0]) == -7
    assert found.token_changes[0].after == 2**64 - 1


async def test_another_transaction_than_the_one_asked_for_is_refused(server: ScriptedServer, client: RpcClient) -> None:
    other = Keypair.from_seed(bytes(32)).sign_message(b"y")
    server.replies["getTransaction"] = lambda _: landed(other)
    with pytest.raises(RpcUnavailable, match="another transaction"):
        await client.find_transaction(SIGNATURE)


async def test_an_account_of_another_program_is_refused_in_a_listing(server: ScriptedServer, client: RpcClient) -> None:
    account = {
        "owner": "11111111111111111111111111111111",
        "lamports": 1,
        "data": ["", "base64"],
        "executable": False,
    }
    server.replies["getProgramAccounts"] = lambda _: contextual(
        [{"pubkey": str(Pubkey.new_unique()), "account": account}]
    )
    with pytest.raises(RpcUnavailable, match="another program"):
        await client.list_program_accounts(PROGRAM, [ProgramFilter(data_size=10)])


async def test_the_next_endpoint_is_asked_when_the_first_fails() -> None:
    async with scripted_server() as bad, scripted_server() as good:
        bad.raw = lambda: web.Response(status=503, text="overloaded")
        good.replies["getSlot"] = lambda _: 12
        # A clock that stands still: however long the two questions take, the rest is not over.
        async with RpcClient([bad.url, good.url], monotonic=lambda: 100.0) as rpc:
            assert await rpc.get_slot() == 12
            assert await rpc.get_slot() == 12
        assert len(bad.calls) == 1, "a failed endpoint rests"
        assert len(good.calls) == 2


async def test_an_endpoint_that_is_behind_is_passed_over() -> None:
    async with scripted_server() as behind, scripted_server() as good:

        def unhealthy(_: object) -> object:
            raise JsonRpcFault(-32005, "Node is behind by 42 slots")

        behind.replies["getSlot"] = unhealthy
        good.replies["getSlot"] = lambda _: 12
        async with RpcClient([behind.url, good.url]) as rpc:
            assert await rpc.get_slot() == 12


async def test_a_proper_error_is_an_answer_and_asks_nobody_else() -> None:
    async with scripted_server() as first, scripted_server() as second:
        async with RpcClient([first.url, second.url]) as rpc:
            with pytest.raises(RpcError) as caught:
                await rpc.request_airdrop(PROGRAM, 1)
        assert caught.value.number == -32601
        assert second.calls == []


async def test_a_single_resting_endpoint_is_asked_all_the_same(server: ScriptedServer) -> None:
    server.raw = lambda: web.Response(status=500)
    async with RpcClient([server.url]) as rpc:
        with pytest.raises(RpcUnavailable):
            await rpc.get_slot()
        server.raw = None
        server.replies["getSlot"] = lambda _: 5
        assert await rpc.get_slot() == 5


async def test_no_key_of_an_endpoint_shows_in_an_error() -> None:
    async with scripted_server("/v2/hush-hush") as server:
        url = server.url + "?api-key=s3cr3tvalue"

        def fault(_: object) -> object:
            raise JsonRpcFault(-32000, f"no such method at {url}")

        server.replies["getSlot"] = fault
        async with RpcClient([Endpoint(url)]) as rpc:
            with pytest.raises(RpcError) as caught:
                await rpc.get_slot()
            server.raw = lambda: web.Response(text="nonsense hush-hush")
            with pytest.raises(RpcUnavailable) as unavailable:
                await rpc.get_slot()
    for error in (caught.value, unavailable.value):
        assert "hush-hush" not in str(error)
        assert "s3cr3tvalue" not in str(error)
    assert "127.0.0.1" in str(unavailable.value)


async def test_an_endless_answer_is_cut_off(server: ScriptedServer) -> None:
    server.raw = lambda: web.Response(body=b'{"result":"' + b"a" * 100_000 + b'"}')
    async with RpcClient([server.url], max_answer_bytes=10_000) as rpc:
        with pytest.raises(RpcUnavailable, match="more than 10000 bytes"):
            await rpc.get_genesis_hash()


async def test_a_silent_endpoint_times_out() -> None:
    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            writer.close()

    listener = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    async with RpcClient([f"http://127.0.0.1:{port}"], timeout_s=0.05) as rpc:
        with pytest.raises(RpcUnavailable, match="TimeoutError"):
            await rpc.get_slot()
    listener.close()


async def test_an_endpoints_budget_holds_requests_back(server: ScriptedServer) -> None:
    server.replies["getSlot"] = lambda _: 1
    now = 100.0
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        nonlocal now
        waited.append(seconds)
        now += seconds

    async with RpcClient([Endpoint(server.url, requests_per_s=2)], monotonic=lambda: now, sleep=sleep) as rpc:
        for _ in range(4):
            await rpc.get_slot()
    assert sum(waited) == pytest.approx(1.0, abs=1e-4)
    assert len(waited) == 2


def test_a_filter_is_written_as_base64() -> None:
    written = orjson.loads(orjson.dumps(ProgramFilter(offset=8, match=b"\0\1").as_json()))
    assert written == {"memcmp": {"offset": 8, "bytes": "AAE=", "encoding": "base64"}}
