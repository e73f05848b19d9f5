"""The HTTP methods of a running process, by raw JSON; the shapes are Agave's (see tests/conformance)."""

import base64
import json

import aiohttp
import pytest
import zstandard
from solders.hash import Hash
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.system_program import ID as SYSTEM

from marketplace.localnet.tokens import TOKEN_PROGRAM, associated_address
from tests.localnet.process import Localnet, Rpc
from tests.localnet.transactions import as_base64, pay, signed

PROCESSED = {"commitment": "processed"}
CONFIRMED = {"commitment": "confirmed"}
SEND = {"encoding": "base64", "preflightCommitment": "confirmed"}
NOBODY = str(Keypair().pubkey())


@pytest.fixture
async def wallet(rpc: Rpc) -> Keypair:
    wallet = Keypair()
    await rpc.until("confirmed", await rpc.result("requestAirdrop", str(wallet.pubkey()), 10**10))
    return wallet


async def recent(rpc: Rpc) -> str:
    return str((await rpc.value("getLatestBlockhash", CONFIRMED))["blockhash"])


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{bad", -32700),
        (b"3", -32700),
        (b'{"jsonrpc":"2.0","id":1}', -32600),
        (b'{"jsonrpc":"1.0","id":1,"method":"getHealth"}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"nope"}', -32601),
        (b'{"jsonrpc":"2.0","id":1,"method":"getBalance"}', -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"getBalance","params":["zzz"]}', -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"getBalance","params":[1]}', -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"getBalance","params":{"a":1}}', -32602),
    ],
)
async def test_bad_requests_get_the_standard_codes(rpc: Rpc, body: bytes, code: int) -> None:
    assert (await rpc.raw(body))["error"]["code"] == code


async def test_a_batch_is_answered_in_order_and_notifications_not_at_all(rpc: Rpc) -> None:
    answers = await rpc.raw(
        b'[{"jsonrpc":"2.0","id":1,"method":"getHealth"},{"jsonrpc":"2.0","id":"b","method":"nope"},'
        b'{"jsonrpc":"2.0","method":"getHealth"}]',
    )
    assert [each["id"] for each in answers] == [1, "b"]
    assert answers[0] == {"jsonrpc": "2.0", "result": "ok", "id": 1}
    assert answers[1]["error"] == {"code": -32601, "message": "Method not found"}
    assert await rpc.raw(b'{"jsonrpc":"2.0","method":"getHealth"}') is None
    assert await rpc.raw(b"[]") is None
    assert (await rpc.raw(b'[{"jsonrpc":"2.0","id":1,"method":"getHealth"},3]'))["error"]["code"] == -32700


async def test_http_edges(localnet: Localnet, session: aiohttp.ClientSession) -> None:
    async with session.get(localnet.rpc + "/health") as response:
        assert (response.status, await response.text()) == (200, "ok")
    async with session.get(localnet.rpc) as response:
        assert response.status == 405
    async with session.post(localnet.rpc, data=b"{}", headers={"Content-Type": "text/plain"}) as response:
        assert response.status == 415
    big = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "x", "params": ["a" * 60_000]})
    async with session.post(localnet.rpc, data=big, headers={"Content-Type": "application/json"}) as response:
        assert response.status == 413


async def test_slots_follow_each_other_and_block_times_follow_the_clock(rpc: Rpc) -> None:
    await rpc.until_slot(8)
    processed, confirmed, finalized = await slots(rpc)
    assert processed > confirmed >= finalized + 2
    info = await rpc.result("getEpochInfo", PROCESSED)
    assert info["absoluteSlot"] == info["blockHeight"] >= processed
    assert info["slotsInEpoch"] == 432_000
    first, later = await rpc.result("getBlockTime", 0), await rpc.result("getBlockTime", processed)
    assert 0 <= later - first <= 60
    assert (await rpc.error("getBlockTime", 10**9))["code"] == -32004
    behind = await rpc.error("getBalance", NOBODY, {"minContextSlot": 10**9})
    assert behind["code"] == -32016
    assert behind["data"]["contextSlot"] >= finalized


async def slots(rpc: Rpc) -> tuple[int, int, int]:
    """The processed, the confirmed and the finalized slot of one moment."""
    asked = [
        {"jsonrpc": "2.0", "id": each, "method": "getSlot", "params": [{"commitment": each}]}
        for each in ("processed", "confirmed", "finalized", "processed")
    ]
    while True:
        first, *others, last = [each["result"] for each in await rpc.raw(json.dumps(asked).encode())]
        if first == last:
            return first, others[0], others[1]


async def test_an_account_in_each_encoding(rpc: Rpc, localnet: Localnet) -> None:
    mint = localnet.ready["payment_mint"]
    account = await rpc.value("getAccountInfo", mint, {"encoding": "base64"})
    data = base64.b64decode(account["data"][0])
    assert (account["owner"], account["space"], len(data)) == (str(TOKEN_PROGRAM), 82, 82)
    assert account["rentEpoch"] == 2**64 - 1
    assert isinstance((await rpc.value("getAccountInfo", mint))["data"], str)
    sliced = await rpc.value("getAccountInfo", mint, {"encoding": "base64", "dataSlice": {"offset": 44, "length": 1}})
    assert base64.b64decode(sliced["data"][0]) == data[44:45] == b"\x06"
    beyond = await rpc.value("getAccountInfo", mint, {"encoding": "base58", "dataSlice": {"offset": 999, "length": 1}})
    assert beyond["data"] == ["", "base58"]
    parsed = await rpc.value("getAccountInfo", mint, {"encoding": "jsonParsed"})
    assert parsed["data"]["parsed"]["info"]["mintAuthority"] == localnet.ready["mint_authority"]
    assert await rpc.value("getAccountInfo", NOBODY) is None
    both = await rpc.value("getMultipleAccounts", [NOBODY, mint])
    assert both[0] is None
    assert both[1]["lamports"] == account["lamports"]
    assert (await rpc.error("getMultipleAccounts", [mint] * 101))["message"] == "Too many inputs provided; max 100"
    packed = await rpc.value("getAccountInfo", mint, {"encoding": "base64+zstd"})
    assert packed["data"][1] == "base64+zstd"
    frame = base64.b64decode(packed["data"][0])
    assert zstandard.ZstdDecompressor().decompressobj().decompress(frame) == data
    assert (await rpc.error("getAccountInfo", mint, {"encoding": "bogus"}))["code"] == -32602


async def test_the_faucet_gives_all_three_tokens_at_once(rpc: Rpc, localnet: Localnet) -> None:
    owner = Keypair().pubkey()
    given = await rpc.result("localnetFaucet", str(owner), {"lamports": 10**9, "payment": 1_500_000, "stake": 7})
    await rpc.until("confirmed", given["signature"])
    assert await rpc.value("getBalance", str(owner), CONFIRMED) == 10**9
    payment = Pubkey.from_string(localnet.ready["payment_mint"])
    balance = await rpc.value("getTokenAccountBalance", str(associated_address(owner, payment)), CONFIRMED)
    assert balance == {"amount": "1500000", "decimals": 6, "uiAmount": 1.5, "uiAmountString": "1.5"}
    assert (await rpc.value("getTokenSupply", str(payment), CONFIRMED))["amount"] == "1500000"
    config = {"commitment": "confirmed", "encoding": "base64"}
    held = await rpc.value("getTokenAccountsByOwner", str(owner), {"programId": str(TOKEN_PROGRAM)}, config)
    assert len(held) == 2
    (one,) = await rpc.value("getTokenAccountsByOwner", str(owner), {"mint": str(payment)}, config)
    assert one["pubkey"] == str(associated_address(owner, payment))
    memcmp = {"memcmp": {"offset": 32, "bytes": str(owner)}}
    listed = await rpc.result(
        "getProgramAccounts", str(TOKEN_PROGRAM), {**config, "filters": [memcmp, {"dataSize": 165}]}
    )
    assert {each["pubkey"] for each in listed} == {each["pubkey"] for each in held}
    by_bytes = {"memcmp": {"offset": 0, "bytes": base64.b64encode(bytes(payment)).decode(), "encoding": "base64"}}
    (same,) = await rpc.result("getProgramAccounts", str(TOKEN_PROGRAM), {**config, "filters": [memcmp, by_bytes]})
    assert same == one
    assert await rpc.result("getProgramAccounts", str(TOKEN_PROGRAM), {**config, "filters": [{"dataSize": 166}]}) == []
    assert (await rpc.error("localnetFaucet", str(owner), {}))["code"] == -32602
    record = await rpc.result("getTransaction", given["signature"], {"commitment": "confirmed"})
    tokens = {each["mint"]: each for each in record["meta"]["postTokenBalances"]}
    assert tokens[str(payment)]["uiTokenAmount"] == balance
    assert tokens[str(payment)]["owner"] == str(owner)
    assert record["meta"]["preTokenBalances"] == []
    assert [each["index"] for each in record["meta"]["innerInstructions"]] == [2, 4]


async def test_token_methods_refuse_what_is_no_token(rpc: Rpc, wallet: Keypair) -> None:
    address = str(wallet.pubkey())
    expected = {
        ("getTokenAccountBalance", address): "Invalid param: not a Token account",
        ("getTokenAccountBalance", NOBODY): "Invalid param: could not find account",
        ("getTokenSupply", address): "Invalid param: not a Token mint",
    }
    assert {(m, a): (await rpc.error(m, a, CONFIRMED))["message"] for m, a in expected} == expected
    for mint, message in ((NOBODY, "could not find mint"), (address, "Token mint could not be unpacked")):
        error = await rpc.error("getTokenAccountsByOwner", address, {"mint": mint}, CONFIRMED)
        assert error["message"] == f"Invalid param: {message}"


async def test_a_transaction_from_send_to_receipt(rpc: Rpc, wallet: Keypair) -> None:
    to = Keypair().pubkey()
    transaction = signed(await recent(rpc), wallet, pay(wallet, to, 10**7))
    message = base64.b64encode(b"\x80" + bytes(transaction.message)).decode()
    assert await rpc.value("getFeeForMessage", message, CONFIRMED) == 5_000
    signature = await rpc.result("sendTransaction", as_base64(transaction), SEND)
    assert signature == str(transaction.signatures[0])
    (status,) = await rpc.value("getSignatureStatuses", [signature])
    assert (status["err"], status["status"]) == (None, {"Ok": None})
    final = await rpc.until("finalized", signature)
    assert final["confirmations"] is None
    config = {"commitment": "confirmed", "maxSupportedTransactionVersion": 0}
    record = await rpc.result("getTransaction", signature, config)
    assert record["version"] == 0
    assert record["slot"] == final["slot"]
    assert record["transaction"]["message"]["accountKeys"] == [str(wallet.pubkey()), str(to), str(SYSTEM)]
    assert record["meta"]["preBalances"] == [10**10, 0, 1]
    assert record["meta"]["postBalances"] == [10**10 - 10**7 - 5_000, 10**7, 1]
    assert record["meta"]["logMessages"][-1] == f"Program {SYSTEM} success"
    assert record["blockTime"] == await rpc.result("getBlockTime", record["slot"])
    raw = await rpc.result("getTransaction", signature, {**config, "encoding": "base64"})
    assert base64.b64decode(raw["transaction"][0]) == bytes(transaction)
    assert (await rpc.error("getTransaction", signature, CONFIRMED))["code"] == -32015
    parsed = await rpc.result("getTransaction", signature, {**config, "encoding": "jsonParsed"})
    (instruction,) = parsed["transaction"]["message"]["instructions"]
    info = {"source": str(wallet.pubkey()), "destination": str(to), "lamports": 10**7}
    assert instruction["parsed"] == {"type": "transfer", "info": info}
    assert (await rpc.error("getTransaction", signature, PROCESSED))["code"] == -32602


async def test_a_failing_preflight_answers_in_the_standard_shape(rpc: Rpc, wallet: Keypair) -> None:
    transaction = signed(await recent(rpc), wallet, pay(wallet, Keypair().pubkey(), 10**17))
    error = await rpc.error("sendTransaction", as_base64(transaction), SEND)
    assert error["code"] == -32002
    assert error["message"] == (
        "Transaction simulation failed: Error processing Instruction 0: custom program error: 0x1"
    )
    assert error["data"]["err"] == {"InstructionError": [0, {"Custom": 1}]}
    assert error["data"]["logs"][-1] == f"Program {SYSTEM} failed: custom program error: 0x1"
    assert error["data"]["unitsConsumed"] == 150
    assert await rpc.value("getSignatureStatuses", [str(transaction.signatures[0])]) == [None]
    # Without the preflight it lands, fails and pays.
    signature = await rpc.result("sendTransaction", as_base64(transaction), {**SEND, "skipPreflight": True})
    status = await rpc.until("confirmed", signature)
    assert status["err"] == {"InstructionError": [0, {"Custom": 1}]}
    (entry,) = await rpc.result("getSignaturesForAddress", str(wallet.pubkey()), {**CONFIRMED, "limit": 1})
    assert (entry["signature"], entry["err"]) == (signature, status["err"])


async def test_what_can_not_land_is_refused_by_the_preflight_and_dropped_without_it(rpc: Rpc, wallet: Keypair) -> None:
    to = Keypair().pubkey()
    unknown = signed(Hash.default(), wallet, pay(wallet, to, 10**7))
    good = signed(await recent(rpc), wallet, pay(wallet, to, 10**7))
    forged = type(good).populate(good.message, [Keypair().sign_message(b"other")])
    for transaction, reason in ((unknown, "BlockhashNotFound"), (forged, "SignatureFailure")):
        error = await rpc.error("sendTransaction", as_base64(transaction), SEND)
        assert (error["code"], error["data"]["err"]) == (-32002, reason)
        sent = await rpc.result("sendTransaction", as_base64(transaction), {**SEND, "skipPreflight": True})
        assert await rpc.value("getSignatureStatuses", [sent]) == [None]
    assert await rpc.value("getBalance", str(to), PROCESSED) == 0


async def test_a_blockhash_expires(rpc: Rpc, wallet: Keypair) -> None:
    latest = await rpc.value("getLatestBlockhash", PROCESSED)
    blockhash, last = latest["blockhash"], latest["lastValidBlockHeight"]
    assert await rpc.value("isBlockhashValid", blockhash, PROCESSED) is True
    await rpc.until_slot(last + 1)
    assert await rpc.value("isBlockhashValid", blockhash, PROCESSED) is False
    late = signed(blockhash, wallet, pay(wallet, wallet.pubkey(), 1))
    error = await rpc.error("sendTransaction", as_base64(late), {**SEND, "preflightCommitment": "processed"})
    assert error["message"] == "Transaction simulation failed: Blockhash not found"


async def test_a_duplicate_answers_already_processed(rpc: Rpc, wallet: Keypair) -> None:
    transaction = signed(await recent(rpc), wallet, pay(wallet, Keypair().pubkey(), 10**7))
    signature = await rpc.result("sendTransaction", as_base64(transaction), SEND)
    await rpc.until("confirmed", signature)
    error = await rpc.error("sendTransaction", as_base64(transaction), SEND)
    assert error["data"]["err"] == "AlreadyProcessed"
    assert await rpc.result("sendTransaction", as_base64(transaction), {**SEND, "skipPreflight": True}) == signature


@pytest.mark.parametrize(
    ("text", "config"),
    [
        ("zz0", {}),
        ("zz", {}),
        ("A*AA", {"encoding": "base64"}),
        ("AAAA", {"encoding": "base64"}),
        (base64.b64encode(bytes(1300)).decode(), {"encoding": "base64"}),
        ("AAAA", {"encoding": "hex"}),
    ],
)
async def test_garbage_instead_of_a_transaction_is_invalid(rpc: Rpc, text: str, config: dict[str, str]) -> None:
    for method in ("sendTransaction", "simulateTransaction"):
        assert (await rpc.error(method, text, config))["code"] == -32602


async def test_trailing_bytes_are_no_part_of_a_transaction(rpc: Rpc, wallet: Keypair) -> None:
    transaction = signed(await recent(rpc), wallet, pay(wallet, wallet.pubkey(), 1))
    padded = base64.b64encode(bytes(transaction) + b"x").decode()
    assert (await rpc.error("sendTransaction", padded, SEND))["code"] == -32602


@pytest.mark.parametrize("legacy", [True, False])
async def test_a_simulation_shows_what_would_be_and_changes_nothing(rpc: Rpc, wallet: Keypair, legacy: bool) -> None:
    to = Keypair().pubkey()
    unsigned = signed(Hash.default(), wallet, pay(wallet, to, 10**7), legacy=legacy)
    config = {
        **CONFIRMED,
        "encoding": "base64",
        "replaceRecentBlockhash": True,
        "innerInstructions": True,
        "accounts": {"encoding": "base64", "addresses": [str(to), NOBODY]},
    }
    value = await rpc.value("simulateTransaction", as_base64(unsigned), config)
    assert (value["err"], value["unitsConsumed"], value["fee"]) == (None, 150, 5_000)
    assert value["replacementBlockhash"]["blockhash"] != str(Hash.default())
    assert value["accounts"][0]["lamports"] == 10**7
    assert value["accounts"][1] is None
    assert value["innerInstructions"] == []
    assert await rpc.value("getBalance", str(to), PROCESSED) == 0
    plain = await rpc.value("simulateTransaction", as_base64(unsigned), {**CONFIRMED, "encoding": "base64"})
    assert plain["err"] == "BlockhashNotFound"
    both = await rpc.error("simulateTransaction", as_base64(unsigned), {**config, "sigVerify": True})
    assert both["code"] == -32602


async def test_history_pages_backwards_and_stops_where_told(rpc: Rpc, wallet: Keypair) -> None:
    to, signatures = Keypair().pubkey(), []
    for n in range(5):
        transaction = signed(await recent(rpc), wallet, pay(wallet, to, 10**6 + n))
        signatures.append(await rpc.result("sendTransaction", as_base64(transaction), SEND))
    await rpc.until("confirmed", signatures[-1])
    newest_first = signatures[::-1]

    async def page(**config: object) -> list[str]:
        found = await rpc.result("getSignaturesForAddress", str(to), {**CONFIRMED, **config})
        return [each["signature"] for each in found]

    assert await page() == newest_first
    assert await page(limit=2) == newest_first[:2]
    assert await page(limit=2, before=newest_first[1]) == newest_first[2:4]
    assert await page(until=newest_first[3]) == newest_first[:3]
    assert await page(before=newest_first[0], until=newest_first[4]) == newest_first[1:4]
    for limit in (0, 1_001):
        assert (await rpc.error("getSignaturesForAddress", str(to), {"limit": limit}))["code"] == -32602


async def test_equal_airdrops_in_one_slot_are_two(rpc: Rpc) -> None:
    to = str(Keypair().pubkey())
    signatures = {await rpc.result("requestAirdrop", to, 10**7) for _ in range(10)}
    assert len(signatures) == 10
    assert await rpc.value("getBalance", to, PROCESSED) == 10**8


async def test_a_memo_is_shown_in_the_history(rpc: Rpc, wallet: Keypair) -> None:
    memo = Pubkey.from_string("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr")
    transaction = signed(await recent(rpc), wallet, Instruction(memo, "für dich".encode(), []))
    await rpc.until("confirmed", await rpc.result("sendTransaction", as_base64(transaction), SEND))
    (entry,) = await rpc.result("getSignaturesForAddress", str(memo), CONFIRMED)
    assert entry["memo"] == "[9] für dich"


async def test_a_malformed_transaction_is_invalid(rpc: Rpc, wallet: Keypair) -> None:
    from solders.instruction import CompiledInstruction
    from solders.message import Message
    from solders.transaction import VersionedTransaction

    good = signed(await recent(rpc), wallet, pay(wallet, wallet.pubkey(), 1), legacy=True).message
    outside = CompiledInstruction(9, b"", bytes([0, 7]))
    broken = Message.new_with_compiled_instructions(1, 0, 1, good.account_keys, good.recent_blockhash, [outside])
    transaction = VersionedTransaction.populate(broken, [wallet.sign_message(bytes(broken))])
    error = await rpc.error("sendTransaction", as_base64(transaction), SEND)
    assert error["code"] == -32602
    assert error["message"].startswith("invalid transaction: ")
