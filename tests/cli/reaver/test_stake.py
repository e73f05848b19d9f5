"""`reaver stake` as a delegator types it: real processes against a real market, chain and program."""

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from marketplace.app import Market
from marketplace.chain.rpc import RpcClient
from marketplace.cli.reaver.exits import Exit
from marketplace.settings import ApiSettings
from scripts.processes import free_ports
from tests.api.conftest import Caller, Wallet, settings_in
from tests.api.stake_world import LIMITS, Staker, allowed, chain, node, run_job, units, wait_for
from tests.chain.jobs import lost_job
from tests.chain.market import Actor

__all__ = ["chain", "node"]
pytestmark = [pytest.mark.xdist_group("stake-cli"), pytest.mark.timeout(400)]


@pytest.fixture
async def live_market(tmp_path: Path, chain: Any) -> Any:
    """As in tests/api, but at its own address: the command checks that the login text names it."""
    settings = settings_in(tmp_path, chain.folder / "keys", chain.rpc)
    # The login text names the port, so it must be known before anything listens.
    (port,) = free_ports(1, in_a_row=1)
    update = {"limits": LIMITS, "api": ApiSettings(port=port)}
    market = Market.build(settings.model_copy(update=update))
    await market.start()
    await wait_for(lambda: _ready(market))
    yield market
    await market.stop()


async def _ready(market: Market) -> bool:
    return market.readiness.ready


@pytest.fixture
async def live_call(live_market: Market) -> Any:
    async with ClientSession() as session:
        yield Caller(session, f"http://127.0.0.1:{live_market.port}")


@dataclass
class Answer:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Delegator:
    """A funded wallet and the command."""

    def __init__(self, staker: Staker, environment: dict[str, str]) -> None:
        self.staker = staker
        self.environment = environment

    async def __call__(self, *arguments: str, **variables: str) -> Answer:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "from marketplace.cli.reaver import main; main()", *arguments,
            env=self.environment | variables, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        assert process.returncode is not None
        assert b"Traceback" not in err, err.decode()
        return Answer(process.returncode, out.decode(), err.decode())

    async def done(self, *arguments: str) -> Answer:
        answer = await self(*arguments)
        assert answer.code == 0, answer.err
        return answer


@pytest.fixture
async def reaver(tmp_path: Path, chain: Any, live_market: Market, live_call: Caller) -> Delegator:
    staker = await Staker.funded(Wallet(), chain, live_market, live_call)
    file = tmp_path / "delegator.json"
    file.write_text(json.dumps(list(bytes(staker.keypair))))
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "REAVER_KEYPAIR": str(file),
        "REAVER_STATE_DIR": str(tmp_path / "state"),
        "REAVER_API": f"http://127.0.0.1:{live_market.port}",
    }
    return Delegator(staker, environment)


async def test_a_delegators_life(
    reaver: Delegator, node: Any, live_market: Market, chain: Any, live_call: Caller
) -> None:
    shown = await wait_for(lambda: _pools(reaver))
    assert shown[0]["node_id"] == node.id
    text = await reaver.done("stake", "nodes", "--sort", "uptime")
    assert text.out.splitlines()[0].split()[:3] == ["node", "yield", "in"]
    assert node.id in text.out

    # delegate: before → after in words, the signature, and what comes next
    staked = await reaver.done("stake", "delegate", "--node", node.id, "--amount", "25.5")
    assert "stakes 25.500000 stake tokens on node" in staked.err
    assert "wallet: 10000.000000 → 9974.500000 stake tokens" in staked.err
    assert "staked: 0.000000 → 25.500000 stake tokens" in staked.err
    assert staked.out.startswith("Confirmed: stakes 25.500000 stake tokens on node")
    assert "\nTransaction " in staked.out
    position = await reaver.staker.position(stake="25.500000")
    mine = (await reaver.done("stake", "positions", "--json")).json
    assert mine["positions"][0]["shares"] == position["shares"]
    assert "25.500000" in (await reaver.done("stake", "positions")).out

    # earn by a real job, and claim
    renter = await allowed(await Staker.funded(Wallet(), chain, live_market, live_call))
    await run_job(renter, node, live_market)
    await wait_for(lambda: _pending(reaver))
    before = (await reaver.staker.tokens(live_market))[0]
    claimed = (await reaver.done("stake", "claim", "--all", "--json")).json
    change = claimed["transactions"][0]["effects"]["wallet_payment"]
    assert units(change["after"]) > units(change["before"]) == before
    assert (await reaver.staker.tokens(live_market))[0] >= units(change["after"])
    assert claimed["signature"] == claimed["transactions"][0]["signature"]

    # simulate
    simulated = (
        await reaver.done("stake", "simulate", "--node", node.id, "--amount", "10", "--epochs", "3", "--json")
    ).json
    assert (simulated["amount"], len(simulated["epochs"]) <= 3) == ("10.000000", True)
    assert "earned" in (await reaver.done("stake", "simulate", "--node", node.id, "--amount", "10")).out

    # unbond a part, by amount; then the rest
    part = await reaver.done("stake", "unbond", "--node", node.id, "--amount", "5.5")
    assert "staked: 25.500000 → 20.000000 stake tokens" in part.err
    assert "Next: from about" in part.out
    await reaver.staker.position(stake="20.000000")
    rest = (await reaver.done("stake", "unbond", "--node", node.id, "--all", "--json")).json
    assert rest["transactions"][0]["effects"]["staked"]["after"] == "0.000000"
    early = await reaver("stake", "withdraw", "--ticket", rest["transactions"][0]["items"][0]["ticket_id"])
    assert early.code in {Exit.REFUSED, 0}, "the unbonding time is 8 s: a slow machine may be past it"
    if early.code == Exit.REFUSED:
        assert "reaver stake positions" in early.err
    await wait_for(lambda: _ripe(reaver), timeout_s=60)
    if early.code == Exit.REFUSED or (await reaver.staker.positions())["positions"]:
        paid = (await reaver.done("stake", "withdraw", "--json")).json
        assert paid["transactions"][0]["effects"]["wallet_stake"]
    await wait_for(lambda: _gone(reaver))
    assert (await reaver.staker.tokens(live_market))[1] >= 10_000_000_000

    # history, and nothing left
    entries = (await reaver.done("stake", "history", "--json")).json["history"]
    assert {"delegated", "claimed", "unbonded", "withdrawn"} <= {entry["type"] for entry in entries}
    assert (await reaver("stake", "withdraw")).code == Exit.REFUSED
    assert "nothing staked" in (await reaver.done("stake", "positions")).err


async def test_what_is_refused_says_why_and_changes_nothing(reaver: Delegator, node: Any, live_market: Market) -> None:
    before = await reaver.staker.tokens(live_market)
    refusals = (
        (("claim",), Exit.REFUSED, "no rewards wait"),
        (("unbond", "--node", node.id, "--all"), Exit.REFUSED, "nothing staked"),
        (("withdraw",), Exit.REFUSED, "waits to be withdrawn"),
        (("withdraw", "--ticket", "1" * 43), Exit.REFUSED, "ticket"),
        (("delegate", "--node", node.id, "--amount", "0"), Exit.REFUSED, "must be more than 0"),
        (("delegate", "--node", node.id, "--amount", "10000.000001"), Exit.FUNDS, "less than"),
        (("delegate", "--node", "node_1111111111111111111111", "--amount", "1"), Exit.REFUSED, "`reaver nodes`"),
    )
    for arguments, code, words in refusals:
        answer = await reaver("stake", *arguments)
        assert (answer.code, words in answer.err, answer.out) == (code, True, ""), (arguments, answer)
    machine = await reaver("stake", "claim", "--json")
    assert json.loads(machine.err)["error"] == "nothing_to_claim"
    assert await reaver.staker.tokens(live_market) == before


async def test_an_operators_own_node_is_refused(tmp_path: Path, reaver: Delegator, node: Any) -> None:
    file = tmp_path / "operator.json"
    file.write_text(json.dumps(list(bytes(node.operator.keypair))))
    answer = await reaver("stake", "delegate", "--node", node.id, "--amount", "1", REAVER_KEYPAIR=str(file))
    assert (answer.code, "this is your own node" in answer.err) == (Exit.REFUSED, True), answer


async def test_a_compensation_is_shown_and_claimed(reaver: Delegator, live_market: Market, chain: Any) -> None:
    assert "compensation" not in (await reaver.done("vault", "balance")).out
    answer = await reaver("vault", "claim-compensation")
    assert (answer.code, "no compensation waits" in answer.err) == (Exit.REFUSED, True)

    async with RpcClient([chain.rpc]) as rpc:
        actor = Actor(chain, rpc)
        loop = asyncio.create_task(actor.sender.run())
        wallet = reaver.staker.keypair
        key = wallet.pubkey()
        await actor.send([actor.calls.open_vault(key, key), actor.calls.deposit(key, key, 20_000_000)], wallet)
        await lost_job(actor, await actor.node(), wallet)
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)
    shown = (await reaver.done("vault", "balance", "--json")).json
    owed = units(shown["compensation_owed"])
    assert owed > 0
    assert "stake tokens: reaver vault claim-compensation" in (await reaver.done("vault", "balance")).out
    before = (await reaver.staker.tokens(live_market))[1]
    paid = await reaver.done("vault", "claim-compensation", "--json")
    assert "claims the compensations of lost attempts" in paid.json["summary"]
    assert (await reaver.staker.tokens(live_market))[1] == before + owed
    assert units((await reaver.done("vault", "balance", "--json")).json["compensation_owed"]) == 0


async def _pools(reaver: Delegator) -> Any:
    return (await reaver.done("stake", "nodes", "--json")).json["pools"]


async def _pending(reaver: Delegator) -> bool:
    return units((await reaver.staker.positions())["totals"]["pending"]["payment"]) > 0


async def _ripe(reaver: Delegator) -> bool:
    positions = (await reaver.staker.positions())["positions"]
    return all(ticket["ready"] for position in positions for ticket in position["tickets"])


async def _gone(reaver: Delegator) -> bool:
    positions = (await reaver.staker.positions())["positions"]
    if positions and not positions[0]["tickets"] and units(positions[0]["pending"]["payment"]):
        # A job that settled meanwhile left a reward: a claim closes the position.
        await reaver("stake", "claim")
    return not positions
