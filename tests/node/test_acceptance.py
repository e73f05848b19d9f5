"""What a node consents to, and what it refuses with which word."""

from typing import Any

import pytest

from marketplace.protocol import sealing
from marketplace.protocol.control import ClaimRequest
from node.acceptance import ClaimRefused, RefuseCode, examine
from node.keys import generate
from node.runtime.port import Network
from tests.node.conftest import IDENTITY, POLICY, Node
from tests.node.scripted_market import ScriptedMarket, spec

KEY = generate()
MARKET = ScriptedMarket(KEY, IDENTITY)


def refused(request: ClaimRequest, *, free_slots: int = 2, draining: bool = False, **policy: Any) -> RefuseCode:
    from dataclasses import replace

    with pytest.raises(ClaimRefused) as caught:
        examine(
            request,
            policy=replace(POLICY, **policy),
            identity=IDENTITY,
            key=KEY,
            free_slots=free_slots,
            draining=draining,
        )
    return caught.value.code


def test_a_fair_request_is_accepted_with_the_renters_specification() -> None:
    job = spec("busy", env={"A": "1"}, command=("true",))
    accepted = examine(MARKET.request(job), policy=POLICY, identity=IDENTITY, key=KEY, free_slots=1, draining=False)
    assert accepted == job


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"market": b"\x09" * 32}, RefuseCode.MARKET),
        ({"node": b"\x09" * 32}, RefuseCode.MARKET),
        ({"escrow": b"short"}, RefuseCode.TERMS),
        ({"terms_hash": b""}, RefuseCode.TERMS),
        ({"class_id": "a100"}, RefuseCode.CLASS),
        ({"fee_bps": 1001}, RefuseCode.FEE),
        ({"price_per_hour": 3599}, RefuseCode.PRICE),
        ({"deposit": 999}, RefuseCode.DEPOSIT),
        ({"sealed_spec": b"not sealed at all"}, RefuseCode.TERMS),
        ({"sealed_spec": sealing.seal(generate().public, b"{}")}, RefuseCode.TERMS),
        ({"sealed_spec": sealing.seal(KEY.public, b'{"image": 3}')}, RefuseCode.TERMS),
    ],
)
def test_a_request_that_is_not_fair_is_refused(changes: dict[str, Any], code: RefuseCode) -> None:
    assert refused(MARKET.request(spec(), **changes)) is code


def test_the_floor_itself_is_accepted() -> None:
    request = MARKET.request(spec(), price_per_hour=3600)
    examine(request, policy=POLICY, identity=IDENTITY, key=KEY, free_slots=1, draining=False)


def test_what_the_machine_can_not_give_is_refused() -> None:
    request = MARKET.request(spec(gpu_count=2, disk_gb=5))
    assert refused(request, free_slots=1) is RefuseCode.CAPACITY
    assert refused(request, draining=True) is RefuseCode.DRAINING
    assert refused(request, networks=frozenset({Network.NONE})) is RefuseCode.NETWORK
    assert refused(request, max_disk_gb=4) is RefuseCode.DISK


async def test_a_refusal_reaches_the_market_and_leaves_no_trace(node: Node, market: ScriptedMarket) -> None:
    await market.offer(spec("busy"), class_id="a100")
    await market.until(lambda: market.refusals)
    assert market.refusals[0].code == RefuseCode.CLASS
    assert node.journal.attempts() == []


async def test_a_full_or_draining_node_refuses(node: Node, market: ScriptedMarket) -> None:
    first = await market.offer(spec("busy", gpu_count=2))
    await market.until(lambda: first.countersigned)
    await market.offer(spec("busy"), allocation="alloc_2")
    await market.until(lambda: len(market.refusals) == 1)
    (node.folder / "draining").touch()
    await market.offer(spec("busy"), allocation="alloc_3")
    await market.until(lambda: len(market.refusals) == 2)
    assert [r.code for r in market.refusals] == [RefuseCode.CAPACITY, RefuseCode.DRAINING]
    await market.until(lambda: market.beats[-1].draining)


async def test_the_disk_is_what_is_left_now_and_the_market_hears_of_it(node: Node, market: ScriptedMarket) -> None:
    await market.until(lambda: market.hellos)
    assert market.hellos[-1].capabilities.max_disk_gb == 10
    node.engine.max_disk_bytes = 3_000_000_000
    await market.offer(spec("busy", disk_gb=4))
    await market.until(lambda: market.refusals)
    assert market.refusals[0].code == RefuseCode.DISK
    await market.disconnect()
    await market.until(lambda: len(market.hellos) >= 2)
    assert market.hellos[-1].capabilities.max_disk_gb == 3
