"""A receipt held against the chain."""

import copy
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from marketplace.chain.rpc import RpcClient
from marketplace.client.settlements import compare_with_chain, key_checks
from marketplace.protocol.receipts import Receipt, verify_receipt
from tests.chain.rpc_server import ScriptedServer, scripted_server
from tests.client.fake_market import key
from tests.client.receipts import (
    GENESIS,
    NODE,
    SIGNATURE,
    SLOT,
    closed_event,
    contest_closed_event,
    good_receipt,
    landed,
    settled_event,
)


@pytest.fixture
async def chain() -> AsyncIterator[ScriptedServer]:
    async with scripted_server() as server:
        good = good_receipt()
        server.replies["getGenesisHash"] = lambda _: str(GENESIS)
        server.replies["getTransaction"] = lambda _: landed(settled_event(good), closed_event(good))
        yield server


async def failures(chain: ScriptedServer, receipt: dict[str, Any]) -> list[str]:
    async with RpcClient([chain.url]) as rpc:
        checks = await compare_with_chain(Receipt.model_validate(receipt), rpc)
    return [f"{check.name}: {check.detail}" for check in checks if not check.passed]


async def test_a_good_receipt_agrees_with_the_chain(chain: ScriptedServer) -> None:
    receipt = Receipt.model_validate(good_receipt())
    assert verify_receipt(receipt).passed
    assert all(check.passed for check in key_checks(receipt))
    assert await failures(chain, good_receipt()) == []


CHAINS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "unknown transaction": (lambda _r: None, "doesn't know it"),
    "failed transaction": (lambda r: landed(settled_event(r), err={"InstructionError": [0, "x"]}), "succeeded"),
    "no payment in it": (lambda r: landed(closed_event(r)), "no such payment"),
    "a payment of another program": (lambda r: landed(settled_event(r), by=key("evil").pubkey()), "no such payment"),
    "a payment of another escrow": (
        lambda r: landed(settled_event(r, escrow=key("other").pubkey())),
        "no such payment",
    ),
    "another sum": (lambda r: landed(settled_event(r, operator=1)), "operator 1 on chain"),
    "another amount": (lambda r: landed(settled_event(r, amount=1)), "amount 1 on chain"),
    "another node": (lambda r: landed(settled_event(r, node=key("x").pubkey())), "node"),
    "another countersigner": (lambda r: landed(settled_event(r, countersigner=key("x").pubkey())), "countersigner"),
    "another time": (lambda r: landed(settled_event(r, billed=1)), "no such payment"),
    "another slot": (lambda r: landed(settled_event(r), slot=78), "slot"),
    "a second payment": (lambda r: landed(settled_event(r), settled_event(r)), "every payment is in the receipt"),
    "another refund": (lambda r: landed(settled_event(r), closed_event(r, refunded=1)), "the escrow closed"),
    "another wallet": (lambda r: landed(settled_event(r), closed_event(r, wallet=key("x").pubkey())), "closed"),
}


@pytest.mark.parametrize(("answer", "said"), CHAINS.values(), ids=CHAINS.keys())
async def test_a_chain_that_says_otherwise(
    chain: ScriptedServer, answer: Callable[[dict[str, Any]], Any], said: str
) -> None:
    good = good_receipt()
    chain.replies["getTransaction"] = lambda _: answer(good)
    found = await failures(chain, good)
    assert any(said in line for line in found), found


async def test_another_cluster_is_named(chain: ScriptedServer) -> None:
    chain.replies["getGenesisHash"] = lambda _: str(key("other").pubkey())
    assert any("cluster" in line for line in await failures(chain, good_receipt()))


async def test_a_contested_close_still_holds_a_reserve(chain: ScriptedServer) -> None:
    good = good_receipt()
    chain.replies["getTransaction"] = lambda _: landed(settled_event(good), closed_event(good, contested=1, refunded=5))
    assert await failures(chain, good) == []


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (contest_closed_event(), ""),
        (contest_closed_event(compensation=6), "6, expected 7"),
        (contest_closed_event(attempt=2), "None, expected 7"),
        (contest_closed_event(node=key("x").pubkey()), "None, expected 7"),
        (contest_closed_event(escrow=key("x").pubkey()), "None, expected 7"),
    ],
)
async def test_a_compensation_is_what_the_contest_took(chain: ScriptedServer, event: bytes, said: str) -> None:
    told = {"transaction": str(SIGNATURE), "slot": SLOT, "attempt": 1, "node": str(NODE), "amount": "7", "decimals": 6}
    good = good_receipt() | {"compensations": [told]}
    chain.replies["getTransaction"] = lambda _: landed(settled_event(good), closed_event(good), event)
    found = await failures(chain, good)
    assert [said in line for line in found] == ([True] if said else [])


def test_a_signature_of_another_node_is_named() -> None:
    receipt = copy.deepcopy(good_receipt())
    receipt["settlements"][0]["node"] = str(key("x").pubkey())
    assert not all(check.passed for check in key_checks(Receipt.model_validate(receipt)))
