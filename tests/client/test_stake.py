"""A delegator signs what was asked for, whatever the market says beside it."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestServer
from solders.pubkey import Pubkey

from marketplace.chain.instructions import Delegate, ProgramInstruction, Unbond
from marketplace.client.client import ReaverClient
from marketplace.client.errors import Declined, TransactionRefused
from marketplace.client.intents import IntentStore
from marketplace.client.keypairs import Keypair
from marketplace.client.payments import Proposal
from marketplace.client.tokens import TokenCache
from tests.client.fake_market import FakeMarket, Steps, key
from tests.client.stake_market import SHARES, StakeMarket

TOKEN = 1_000_000


@pytest.fixture
async def market() -> AsyncIterator[StakeMarket]:
    fake = StakeMarket()
    async with TestServer(fake.app(), host="127.0.0.1") as server:
        fake.base_url = str(server.make_url("")).rstrip("/")
        yield fake


@pytest.fixture
async def client(market: StakeMarket, keypair: Keypair, tmp_path: Path, waits: Any) -> AsyncIterator[ReaverClient]:
    made = ReaverClient(
        market.base_url, keypair, TokenCache(tmp_path / "s"), intents=IntentStore(tmp_path / "s"), sleep=waits
    )
    async with made as opened:
        yield opened


async def test_what_was_asked_for_is_signed(market: StakeMarket, client: ReaverClient, keypair: Keypair) -> None:
    paid = await client.stake.delegate("node_1", 25 * TOKEN)
    assert f"stakes 25.000000 stake tokens on node {market.node_account}" in paid.summary
    await client.stake.delegate(str(market.node_account), 25 * TOKEN)
    await client.stake.claim(None)
    await client.stake.claim("node_1")
    await client.stake.unbond("node_1", amount=5 * TOKEN)
    await client.stake.unbond("node_1", shares=7)
    await client.stake.unbond("node_1")
    await client.stake.withdraw(market.ticket(keypair.address, 3))
    await client.stake.withdraw(None)
    assert len(market.signed) == 9
    assert market.spent("/v1/stake/delegate")[0].body["mint"] == str(market.deployment.stake_mint)


def _change(kind: type[ProgramInstruction], **args: object) -> Callable[[Steps, FakeMarket], Steps]:
    def change(steps: Steps, _market: FakeMarket) -> Steps:
        return [replace(step, args=replace(step.args, **args)) if isinstance(step, kind) else step for step in steps]

    return change


def _item(**values: object) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda answer: answer | {"items": [answer["items"][0] | values]}


async def _refused(market: StakeMarket, act: Any, words: str) -> None:
    with pytest.raises(TransactionRefused, match=words):
        await act
    assert market.signed == []


async def test_another_amount_is_not_staked(market: StakeMarket, client: ReaverClient) -> None:
    market.steps = _change(Delegate, amount=26 * TOKEN)
    await _refused(market, client.stake.delegate("node_1", 25 * TOKEN), "amount of `delegate` is 26000000")


async def test_another_node_is_not_staked_on(market: StakeMarket, client: ReaverClient) -> None:
    market.node_change = {"address": str(key("thief").pubkey())}
    await _refused(market, client.stake.delegate("node_1", TOKEN), "is not that of the node's key")
    market.node_change = {}
    other = str(market.at.node(key("other").pubkey()))
    await _refused(market, client.stake.delegate(other, TOKEN), "of `delegate` is")


@pytest.mark.parametrize("shares", [5 * TOKEN + 6_000, SHARES, SHARES + 1])
async def test_more_than_the_amount_asked_for_does_not_leave(
    market: StakeMarket, client: ReaverClient, shares: int
) -> None:
    market.steps = _change(Unbond, shares=shares)
    market.offer_change = _item(shares=str(shares))
    await _refused(market, client.stake.unbond("node_1", amount=5 * TOKEN), "worth more than what was asked for")


async def test_the_shares_named_beside_the_transaction_are_those_in_it(
    market: StakeMarket, client: ReaverClient
) -> None:
    market.offer_change = _item(shares="5")
    await _refused(market, client.stake.unbond("node_1", shares=7), "it unbonds 5 shares, 7 were asked for")
    market.offer_change = _item(index=4)
    await _refused(market, client.stake.unbond("node_1", shares=7), "ticket of `unbond`")
    market.offer_change = lambda answer: answer
    market.steps = _change(Unbond, shares=8)
    await _refused(market, client.stake.unbond("node_1", shares=7), "shares of `unbond` is 8")


async def test_only_the_named_ticket_is_withdrawn(market: StakeMarket, client: ReaverClient, keypair: Keypair) -> None:
    act = client.stake.withdraw(market.ticket(keypair.address, 2))
    await _refused(market, act, "another ticket than the one that was named")


async def test_a_claim_does_nothing_besides(market: StakeMarket, client: ReaverClient, keypair: Keypair) -> None:
    owner = Pubkey.from_bytes(bytes(keypair.address))
    market.steps = lambda steps, _market: [*steps, market.build.unbond(owner, market.pool, 1, 0)]
    await _refused(market, client.stake.claim("node_1"), "unbond")


async def test_who_says_no_signs_nothing(market: StakeMarket, client: ReaverClient) -> None:
    asked: list[Proposal] = []

    def no(proposal: Proposal) -> bool:
        asked.append(proposal)
        return False

    with pytest.raises(Declined):
        await client.stake.delegate("node_1", TOKEN, no)
    assert market.signed == []
    assert len(asked) == 1
    assert "believe me" not in asked[0].summary
    # Nothing was begun: the next run is a new call under a new key.
    await client.stake.delegate("node_1", TOKEN, lambda _proposal: True)
    first, second = market.spent("/v1/stake/delegate")
    assert first.key != second.key
