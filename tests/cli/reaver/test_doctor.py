"""`reaver doctor` says what is missing, what to do next, and ends with that code."""

import json

from marketplace.cli.reaver.exits import Exit
from marketplace.client.calls import _ahead_s
from tests.cli.reaver.conftest import Reaver
from tests.client.fake_market import FakeMarket, error, key


def test_all_is_there(market: FakeMarket, reaver: Reaver) -> None:
    done = reaver("doctor")
    assert done.exit_code == 0, done.stdout
    assert f"ok    wallet     {key('wallet').pubkey()}\n" in done.stdout
    assert "19.950000 USDC in the vault" in done.stdout
    assert "look  allowance  none\n                 -> jobs ask for a signature each" in done.stdout
    assert done.stdout.endswith("Ready to run jobs.\n")
    assert market.signed == []


def test_one_object(reaver: Reaver) -> None:
    found = json.loads(reaver("doctor", "--json").stdout)
    assert found["ready"] is True
    assert [check["name"] for check in found["checks"]] == [
        "version", "wallet", "market", "chain", "clock", "login", "money", "allowance", "nodes",
    ]  # fmt: skip


def test_no_wallet(market: FakeMarket, environment: dict[str, str]) -> None:
    done = Reaver(environment | {"REAVER_API": market.base_url, "REAVER_KEYPAIR": "/nowhere"})("doctor")
    assert done.exit_code == Exit.LOGIN
    assert "-> make one with solana-keygen new" in done.stdout
    assert market.seen == []


def test_no_market(environment: dict[str, str]) -> None:
    done = Reaver(environment | {"REAVER_API": "http://127.0.0.1:9"})("doctor")
    assert done.exit_code == Exit.UNAVAILABLE
    assert "-> check REAVER_API" in done.stdout
    assert "login" not in done.stdout


def test_another_market_than_meant(reaver: Reaver) -> None:
    done = reaver("doctor", "--market", str(key("other").pubkey()))
    assert done.exit_code == Exit.UNSAFE


def test_a_login_that_fails(market: FakeMarket, reaver: Reaver) -> None:
    market.before["GET /v1/me"] = [error(403, "forbidden", "this account is closed")]
    done = reaver("doctor")
    assert done.exit_code == Exit.REFUSED
    assert "bad   login      this account is closed" in done.stdout


def test_clocks_are_compared() -> None:
    assert _ahead_s("Fri, 13 Feb 2026 10:01:00 GMT", 1_770_976_800.0) == 60
    assert _ahead_s(None, 0) is None
    assert _ahead_s("soon", 0) is None
