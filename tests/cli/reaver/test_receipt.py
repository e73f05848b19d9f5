"""`reaver receipt verify`."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from marketplace.cli.reaver.exits import Exit
from tests.chain.rpc_server import ScriptedServer, scripted_server
from tests.cli.reaver.conftest import Reaver
from tests.client.fake_market import PROGRAM, key
from tests.client.receipts import GENESIS, METER, NODE_KEY, closed_event, good_receipt, landed, settled_event


@pytest.fixture
def reaver() -> Reaver:
    """Without wallet, market or state: the check is offline."""
    return Reaver({})


def written(folder: Path, receipt: object) -> str:
    file = folder / "receipt.json"
    file.write_text(json.dumps(receipt))
    return str(file)


def test_a_good_receipt_verifies_and_shows_its_keys(reaver: Reaver, tmp_path: Path) -> None:
    done = reaver("receipt", "verify", written(tmp_path, good_receipt()))
    assert done.exit_code == 0, done.stdout
    assert str(NODE_KEY.pubkey()) in done.stdout
    assert str(METER.pubkey()) in done.stdout
    assert "0.000400 USDC" in done.stdout
    assert done.stdout.endswith("The receipt verifies.\n")
    assert "--market" in done.stderr


def test_json(reaver: Reaver, tmp_path: Path) -> None:
    done = reaver("receipt", "verify", written(tmp_path, good_receipt()), "--json")
    body: dict[str, Any] = json.loads(done.stdout)
    assert body["valid"] is True
    assert body["keys_pinned"] is False
    assert body["meter_keys"] == [str(METER.pubkey())]
    assert all(check["passed"] for check in body["checks"])


def test_the_meters_key_can_be_pinned(reaver: Reaver, tmp_path: Path) -> None:
    file = written(tmp_path, good_receipt())
    assert reaver("receipt", "verify", file, "--market", str(METER.pubkey())).exit_code == 0
    other = reaver("receipt", "verify", file, "--market", str(key("x").pubkey()))
    assert other.exit_code == Exit.INVALID_RECEIPT
    assert "does NOT verify" in other.stdout


def test_the_program_can_be_pinned(reaver: Reaver, tmp_path: Path) -> None:
    file = written(tmp_path, good_receipt())
    assert reaver("receipt", "verify", file, "--program", str(PROGRAM)).exit_code == 0
    other = reaver("receipt", "verify", file, "--program", str(key("x").pubkey()))
    assert other.exit_code == Exit.INVALID_RECEIPT


def change(*path: str | int, to: object) -> Callable[[dict[str, Any]], None]:
    def apply(receipt: dict[str, Any]) -> None:
        place: Any = receipt
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = to

    return apply


FORGERIES = {
    "price": change("price", to="401"),
    "refund": change("refunded", to="59601"),
    "billed": change("settlements", 0, "billed_ms", to=5000),
    "operator": change("settlements", 0, "amounts", "operator", to="400"),
    "fees": change("settlements", 0, "fee_bps", to=0),
    "node key": change("signatures", 0, "key", to=str(key("x").pubkey())),
    "meter signature": change("signatures", 1, "sig", to="1" * 64),
    "escrow": change("escrow", to=str(key("x").pubkey())),
    "wallet": change("client", to=str(key("x").pubkey())),
    "chain": change("genesis_hash", to=str(key("x").pubkey())),
    "program": change("program_id", to=str(key("x").pubkey())),
    "node": change("settlements", 0, "node", to=str(key("x").pubkey())),
    "voucher": change("vouchers", 0, to="AAAA"),
    "no signatures": change("signatures", to=[]),
    "reason": change("reason", to="cancelled"),
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES.keys())
def test_a_forged_receipt_does_not_verify(
    reaver: Reaver, tmp_path: Path, forge: Callable[[dict[str, Any]], None]
) -> None:
    receipt = good_receipt()
    forge(receipt)
    done = reaver("receipt", "verify", written(tmp_path, receipt))
    assert done.exit_code == Exit.INVALID_RECEIPT
    assert "FAIL" in done.stdout


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"a": 1e999}', "[" * 100_000])
def test_what_is_no_receipt_is_said_so(reaver: Reaver, tmp_path: Path, content: str) -> None:
    file = tmp_path / "receipt.json"
    file.write_text(content)
    done = reaver("receipt", "verify", str(file))
    assert done.exit_code == Exit.INVALID_RECEIPT
    assert str(file) in done.stderr


def test_a_missing_file_is_wrong_usage(reaver: Reaver) -> None:
    assert reaver("receipt", "verify", "/nowhere/receipt.json").exit_code == Exit.USAGE


@pytest.fixture
def chain() -> Iterator[ScriptedServer]:
    """The scripted RPC on a loop of its own."""
    loop = asyncio.new_event_loop()
    context = scripted_server()
    server = loop.run_until_complete(context.__aenter__())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield server
    asyncio.run_coroutine_threadsafe(context.__aexit__(None, None, None), loop).result(60)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(60)
    loop.close()


def test_the_chain_can_be_asked(reaver: Reaver, tmp_path: Path, chain: ScriptedServer) -> None:
    good = good_receipt()
    chain.replies["getGenesisHash"] = lambda _: str(GENESIS)
    chain.replies["getTransaction"] = lambda _: landed(settled_event(good), closed_event(good))
    file = written(tmp_path, good)
    done = reaver("receipt", "verify", file, "--rpc", chain.url)
    assert done.exit_code == 0, done.stdout
    assert "is on chain as the receipt says" in done.stdout
    chain.replies["getTransaction"] = lambda _: None
    assert reaver("receipt", "verify", file, "--rpc", chain.url).exit_code == Exit.INVALID_RECEIPT


def test_an_rpc_that_does_not_answer_is_no_verdict(reaver: Reaver, tmp_path: Path) -> None:
    done = reaver("receipt", "verify", written(tmp_path, good_receipt()), "--rpc", "http://127.0.0.1:9")
    assert done.exit_code == Exit.UNAVAILABLE
