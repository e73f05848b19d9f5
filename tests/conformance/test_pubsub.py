"""The same subscriptions on both chains: errors to the letter, notifications by names and types, and values alike."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from solders.instruction import Instruction
from spl.token.instructions import TransferCheckedParams, transfer_checked

from tests.conformance.cases import CLOCK, PROCESSED, Same, encoded, filtered, friend, holding, owned_by
from tests.conformance.chains import VALIDATOR
from tests.conformance.comparison import differences, seen
from tests.conformance.world import CONFIRMED, SEND, TOKENS, World, as_base64

pytestmark = [
    pytest.mark.validator,
    pytest.mark.xdist_group("validator"),
    pytest.mark.timeout(240),
    pytest.mark.skipif(not VALIDATOR, reason="NOT COMPARED: no solana-test-validator (docs/localnet.md)"),
]


class Socket:
    """One connection; notifications wait, by subscription, until they are asked for."""

    def __init__(self, connection: aiohttp.ClientWebSocketResponse) -> None:
        self._connection = connection
        self._waiting: dict[int, list[dict[str, Any]]] = {}

    async def call(self, method: str, params: list[Any]) -> dict[str, Any]:
        await self._connection.send_str(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}))
        while True:
            got = await self._connection.receive_json(timeout=60)
            if "id" in got:
                return got
            self._keep(got)

    async def told(self, number: int) -> dict[str, Any]:
        """The next notification of a subscription."""
        while not self._waiting.get(number):
            self._keep(await self._connection.receive_json(timeout=60))
        got = self._waiting[number].pop(0)
        return {**got, "params": {**got["params"], "subscription": "<subscription>"}}

    def _keep(self, got: dict[str, Any]) -> None:
        self._waiting.setdefault(got["params"]["subscription"], []).append(got)


@asynccontextmanager
async def connected(world: World) -> AsyncIterator[Socket]:
    async with aiohttp.ClientSession() as session, session.ws_connect(world.chain.ws) as connection:
        yield Socket(connection)


CALLS: dict[str, tuple[str, list[Any]]] = {
    "no such subscription": ("nopeSubscribe", []),
    "a method of HTTP": ("getHealth", []),
    "signature of nothing": ("signatureSubscribe", []),
    "signature of nonsense": ("signatureSubscribe", ["zz"]),
    "signature of a number": ("signatureSubscribe", [1]),
    "signature with a number for its configuration": ("signatureSubscribe", ["1" * 64, 1]),
    "account of nothing": ("accountSubscribe", []),
    "account of nonsense": ("accountSubscribe", ["zz"]),
    "account, unknown encoding": ("accountSubscribe", [CLOCK, {"encoding": "hex"}]),
    "program of nonsense": ("programSubscribe", ["zz"]),
    "program, too many filters": ("programSubscribe", [CLOCK, {"filters": [{"dataSize": 1}] * 5}]),
    "program, unknown filter": ("programSubscribe", [CLOCK, {"filters": [{"size": 1}]}]),
    "logs of nothing": ("logsSubscribe", []),
    "logs of nonsense": ("logsSubscribe", ["some"]),
    "logs of nobody": ("logsSubscribe", [{"mentions": []}]),
    "logs of two": ("logsSubscribe", [{"mentions": [CLOCK, CLOCK]}]),
    "logs of a bad key": ("logsSubscribe", [{"mentions": ["zz"]}]),
    "logs, mentions are no list": ("logsSubscribe", [{"mentions": CLOCK}]),
    "block without being allowed": ("blockSubscribe", ["all"]),
    "vote without being allowed": ("voteSubscribe", []),
    **{
        f"{kind} ended that never began": (f"{kind}Unsubscribe", [987_654_321])
        for kind in ("signature", "account", "program", "logs", "slot", "root")
    },
    "ended without a number": ("accountUnsubscribe", []),
    "ended by text": ("slotUnsubscribe", ["1"]),
}


@pytest.mark.parametrize("name", CALLS)
async def test_bad_subscriptions_are_refused_as_agave_does(
    name: str, localnet_world: World, validator_world: World
) -> None:
    said = []
    for world in (localnet_world, validator_world):
        async with connected(world) as socket:
            said.append(seen(await socket.call(*CALLS[name]), world, Same.VALUE))
    assert list(differences(name, *said)) == []


WATCHES: dict[str, tuple[str, Callable[[World, str], list[Any]]]] = {
    "signature": ("signatureSubscribe", lambda _, signature: [signature, CONFIRMED]),
    "signature processed": ("signatureSubscribe", lambda _, signature: [signature, PROCESSED]),
    "account": ("accountSubscribe", lambda w, _: [friend(w), encoded("base64")]),
    "account processed": ("accountSubscribe", lambda w, _: [friend(w), PROCESSED]),
    "account finalized": ("accountSubscribe", lambda w, _: [friend(w), {"encoding": "base64+zstd"}]),
    "token account parsed": ("accountSubscribe", lambda w, _: [holding(w), encoded("jsonParsed")]),
    "token account too large for base58": ("accountSubscribe", lambda w, _: [holding(w), encoded("base58")]),
    "program": ("programSubscribe", lambda w, _: [str(TOKENS), filtered(owned_by)(w)]),
    "program parsed": ("programSubscribe", lambda w, _: [str(TOKENS), filtered(owned_by, encoding="jsonParsed")(w)]),
    "program sliced": (
        "programSubscribe",
        lambda w, _: [str(TOKENS), filtered(owned_by, dataSlice={"offset": 64, "length": 8})(w)],
    ),
    "logs": ("logsSubscribe", lambda w, _: [{"mentions": [holding(w)]}, CONFIRMED]),
    "logs processed": ("logsSubscribe", lambda w, _: [{"mentions": [holding(w)]}, PROCESSED]),
    "all logs": ("logsSubscribe", lambda *_: ["all", CONFIRMED]),
    "slot": ("slotSubscribe", lambda *_: []),
    "root": ("rootSubscribe", lambda *_: []),
}
# What these say is the chain's own, or comes from whatever else goes on there.
OWN = ("all logs", "slot", "root")


async def conversation(world: World) -> dict[str, Any]:
    """One payment, and the first thing that each kind of subscriber hears of it."""
    await asyncio.to_thread(world.settle)
    transaction = await asyncio.to_thread(world.signed, world.pay(2_000_000), token_payment(world))
    signature = str(transaction.signatures[0])
    world.labels[signature] = "<signature>"
    async with connected(world) as socket:
        numbers = {}
        for name, (method, params) in WATCHES.items():
            answer = await socket.call(method, params(world, signature))
            assert "result" in answer, (name, answer)
            numbers[name] = answer["result"]
        sent = await asyncio.to_thread(world.chain.result, "sendTransaction", as_base64(transaction), SEND)
        assert sent == signature
        heard = {name: await socket.told(number) for name, number in numbers.items()}
        for name, number in numbers.items():
            if not name.startswith("signature"):  # those are over by now
                method = WATCHES[name][0].replace("Subscribe", "Unsubscribe")
                assert (await socket.call(method, [number]))["result"] is True
    return heard


def token_payment(world: World) -> Instruction:
    """One base unit, to make a token account change."""
    return transfer_checked(
        TransferCheckedParams(
            TOKENS, world.holding, world.mint.pubkey(), world.friend_holding, world.payer.pubkey(), 1, 6
        )
    )


async def test_subscribers_hear_on_both_chains_the_same(localnet_world: World, validator_world: World) -> None:
    ours, theirs = await asyncio.gather(conversation(localnet_world), conversation(validator_world))
    for name in WATCHES:
        same = Same.SHAPE if name in OWN else Same.VALUE
        said = [seen(heard[name], world, same) for heard, world in ((ours, localnet_world), (theirs, validator_world))]
        assert list(differences(name, *said)) == [], name
