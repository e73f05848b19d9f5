"""The same calls to reaver-localnet and to a real Agave validator: the answers must have the same shape.

The validator is $SOLANA_TEST_VALIDATOR or `solana-test-validator` on PATH; docs/localnet.md says how to get one.
"""

import asyncio
import os
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from solders.hash import Hash
from solders.keypair import Keypair

from tests.localnet.process import Localnet, Rpc
from tests.localnet.transactions import as_base64, pay, signed

pytestmark = [pytest.mark.validator, pytest.mark.xdist_group("validator"), pytest.mark.timeout(180)]

CONFIRMED = {"commitment": "confirmed"}
SEND = {"encoding": "base64", "preflightCommitment": "confirmed"}
CLOCK = "SysvarC1ock11111111111111111111111111111111"
TOKENS = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA"
# What Agave 3.1 shows beyond 2.2's rules: its own cost model.
OURS_LACKS = {"costUnits"}


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def find_validator() -> str | None:
    named = os.environ.get("SOLANA_TEST_VALIDATOR") or shutil.which("solana-test-validator")
    return named if named and Path(named).exists() else None


@pytest.fixture
async def validator(tmp_path: Path, session: aiohttp.ClientSession) -> AsyncIterator[Rpc]:
    named = find_validator()
    if named is None:
        pytest.skip("NOT COMPARED: no solana-test-validator at $SOLANA_TEST_VALIDATOR or on PATH (docs/localnet.md)")
    rpc_port, faucet, gossip = free_ports(3)
    low = 12_000 + (os.getpid() % 400) * 100
    process = await asyncio.create_subprocess_exec(
        *(named, "--ledger", str(tmp_path / "ledger"), "--reset", "--quiet", "--bind-address", "127.0.0.1"),
        *("--rpc-port", str(rpc_port), "--faucet-port", str(faucet), "--gossip-port", str(gossip)),
        *("--dynamic-port-range", f"{low}-{low + 99}"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    rpc = Rpc(session, f"http://127.0.0.1:{rpc_port}")
    try:
        async with asyncio.timeout(90):
            while not await healthy(rpc):  # noqa: ASYNC110
                await asyncio.sleep(0.25)
        yield rpc
    finally:
        process.kill()
        await process.wait()


async def healthy(rpc: Rpc) -> bool:
    try:
        return (await rpc.answer("getHealth")).get("result") == "ok"
    except aiohttp.ClientError:
        return False


def shape(value: Any) -> Any:
    """Names and types, not contents."""
    if isinstance(value, dict):
        return {name: shape(each) for name, each in value.items() if name not in OURS_LACKS}
    if isinstance(value, list):
        return [shape(each) for each in value]
    return type(value).__name__


async def conversation(rpc: Rpc) -> dict[str, Any]:
    """What a chain answers to a client that does a little of everything."""
    said: dict[str, Any] = {}
    wallet, to = Keypair.from_seed(b"a" * 32), Keypair.from_seed(b"b" * 32).pubkey()
    await rpc.until("confirmed", await rpc.result("requestAirdrop", str(wallet.pubkey()), 10**10))
    blockhash = (await rpc.value("getLatestBlockhash", CONFIRMED))["blockhash"]

    good = signed(blockhash, wallet, pay(wallet, to, 10**7))
    signature = await rpc.result("sendTransaction", as_base64(good), SEND)
    said["status"] = await rpc.until("confirmed", signature)
    bad = signed(blockhash, wallet, pay(wallet, to, 10**17))
    said["preflight"] = await rpc.error("sendTransaction", as_base64(bad), SEND)
    failed = await rpc.result("sendTransaction", as_base64(bad), {**SEND, "skipPreflight": True})
    said["failed status"] = await rpc.until("confirmed", failed)
    said["unknown blockhash"] = await rpc.error(
        "sendTransaction", as_base64(signed(Hash.default(), wallet, pay(wallet, to, 1))), SEND
    )
    said["duplicate"] = await rpc.error("sendTransaction", as_base64(good), SEND)
    newest = {**CONFIRMED, "maxSupportedTransactionVersion": 0}
    for name, each in (("transaction", signature), ("failed transaction", failed)):
        said[name] = await rpc.result("getTransaction", each, newest)
    said["version unsupported"] = await rpc.error("getTransaction", signature, CONFIRMED)
    said["history"] = await rpc.result("getSignaturesForAddress", str(to), CONFIRMED)
    said["simulation"] = await rpc.value(
        "simulateTransaction",
        as_base64(signed(Hash.default(), wallet, pay(wallet, to, 1))),
        {**CONFIRMED, "encoding": "base64", "replaceRecentBlockhash": True},
    )
    said["account"] = await rpc.result("getAccountInfo", str(wallet.pubkey()), CONFIRMED)
    said["sysvar"] = await rpc.result("getAccountInfo", CLOCK, {**CONFIRMED, "encoding": "base64"})
    said["accounts"] = await rpc.result("getMultipleAccounts", [str(to), str(Keypair().pubkey())], CONFIRMED)
    said["no token accounts"] = await rpc.result("getTokenAccountsByOwner", str(to), {"programId": TOKENS}, CONFIRMED)
    for method in ("getEpochInfo", "getLatestBlockhash", "getSlot", "getBlockHeight"):
        said[method] = await rpc.result(method, CONFIRMED)
    for name, call in {
        "no method": ("nope",),
        "no argument": ("getBalance",),
        "wrong type": ("getBalance", 1),
        "wrong size": ("getBalance", "zzz"),
        "not base58": ("getBalance", "0OIl"),
        "no token account": ("getTokenAccountBalance", str(to), CONFIRMED),
        "no mint": ("getTokenAccountsByOwner", str(to), {"mint": str(to)}, CONFIRMED),
        "below confirmed": ("getTransaction", signature, {"commitment": "processed"}),
        "too many": ("getSignatureStatuses", [signature] * 257),
    }.items():
        said[name] = await rpc.error(*call)
    said["batch"] = await rpc.raw(
        b'[{"jsonrpc":"2.0","id":1,"method":"getHealth"},{"jsonrpc":"2.0","id":2,"method":"x"}]'
    )
    said["no json"] = await rpc.raw(b"{bad")
    return said


async def test_every_answer_has_the_shape_of_a_real_validators(validator: Rpc, rpc: Rpc, localnet: Localnet) -> None:
    theirs, ours = await conversation(validator), await conversation(rpc)
    assert {name: shape(each) for name, each in ours.items()} == {name: shape(each) for name, each in theirs.items()}
    # Where nothing depends on the chain's own history, the answers are the same to the letter.
    for name, said in theirs.items():
        if isinstance(said, dict) and "code" in said:
            assert (name, ours[name]["code"], ours[name]["message"]) == (name, said["code"], said["message"])
    for name in ("fee", "logMessages", "preBalances", "postBalances", "err", "computeUnitsConsumed"):
        for which in ("transaction", "failed transaction"):
            assert ours[which]["meta"][name] == theirs[which]["meta"][name]
