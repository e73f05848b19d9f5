"""Logging in: a node's key signs a login text that was rebuilt from its fields, and nothing else."""

from typing import Any

import pytest
from aiohttp import web

from node.errors import MarketUnavailable, NotTrusted
from node.keys import generate
from node.market import MarketHttp
from tests.node.conftest import IDENTITY
from tests.node.scripted_market import ScriptedMarket


@pytest.mark.parametrize(
    "change",
    [
        {"message": "I owe you everything"},
        {"nonce": "another"},
        {"input": None},
        {"input": {"domain": "evil.example"}},
        {"input": {"address": generate().address}},
    ],
)
async def test_a_challenge_that_is_no_login_text_is_not_signed(change: dict[str, Any]) -> None:
    market = ScriptedMarket(generate(), IDENTITY)
    honest = market._challenge

    async def lying(request: web.Request) -> web.Response:
        import json

        body = json.loads((await honest(request)).text or "")
        value = next(iter(change.values()))
        if isinstance(value, dict):
            body["input"] |= value
            from marketplace.protocol.siws import SignInInput

            given = body["input"]
            body["message"] = SignInInput(
                domain=given["domain"], address=given["address"], statement=given["statement"], uri=given["uri"],
                chain_id=given["chainId"], nonce=given["nonce"], issued_at=given["issuedAt"],
                expiration_time=given["expirationTime"],
            ).message()  # fmt: skip
        else:
            body |= change
        return web.json_response(body)

    market._challenge = lying  # type: ignore[method-assign]
    await market.start()
    try:
        async with MarketHttp(market.url, market.node_key, "node") as http:
            with pytest.raises(NotTrusted):
                await http.get("/v1/me")
    finally:
        await market.stop()
    assert market.logins == 0


async def test_a_login_is_used_until_it_ends(market: ScriptedMarket) -> None:
    async with MarketHttp(market.url, market.node_key, "node") as http:
        for _ in range(3):
            await http.post("/v1/nodes/node_1111111111111111111111/drain", {"drain": True})
    assert market.logins == 1
    assert market.posts["drain"] == [{"drain": True}] * 3


async def test_a_market_that_is_not_there_is_said_to_be(market: ScriptedMarket) -> None:
    await market.stop()
    async with MarketHttp(market.url, market.node_key, "node") as http:
        with pytest.raises(MarketUnavailable, match="does not answer"):
            await http.constants()


async def test_pins_are_read_from_the_published_constants(market: ScriptedMarket) -> None:
    async with MarketHttp(market.url, market.node_key, "node") as http:
        pins = await http.pins()
    assert pins.program_id == market.program_id
    assert pins.decimals == 6
