"""reaver-node about the operator's own stake: on a real chain, with the operator's key, without any market."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import base58
import pytest
from solders.keypair import Keypair
from typer.testing import CliRunner, Result

from marketplace.chain.accounts import NodeAccount, NodeStatus, PoolAccount
from marketplace.chain.constants import LOCALNET
from marketplace.chain.rpc import RpcClient
from node.cli import app
from tests.chain.jobs import assigned_job, settled_job
from tests.chain.market import Actor, Running, TestNode, localnet

pytestmark = [pytest.mark.xdist_group("operator-localnet"), pytest.mark.timeout(300)]
T = TypeVar("T")
TOKEN = 1_000_000
UNBONDING_S = 8


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    windows = replace(LOCALNET.windows, unbonding=UNBONDING_S * 1_000, epoch_length=4_000, commission_delay=1_000)
    with localnet(tmp_path_factory.mktemp("chain"), profile=replace(LOCALNET, windows=windows)) as running:
        yield running


@dataclass
class Operator:
    """An operator with one registered node, and the command."""

    running: Running
    config: Path
    node: TestNode

    def __call__(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, [*arguments, "--config", str(self.config)])

    def on_chain(self, use: Callable[[Actor], Awaitable[T]]) -> T:
        return on_chain(self.running, use)

    def account(self) -> NodeAccount | None:
        return self.on_chain(lambda actor: actor.reader.find_node(self.node.key.pubkey()))

    def pool(self) -> PoolAccount:
        return self.on_chain(lambda actor: actor.reader.get_pool(actor.calls.addresses.node(self.node.key.pubkey())))

    def stake_tokens(self) -> int:
        return self.on_chain(lambda actor: _balance(actor, actor.calls.stake_account(self.node.operator.pubkey())))


def on_chain(running: Running, use: Callable[[Actor], Awaitable[T]]) -> T:
    async def work() -> T:
        async with RpcClient([running.rpc]) as rpc:
            actor = Actor(running, rpc)
            loop = asyncio.create_task(actor.sender.run())
            try:
                return await use(actor)
            finally:
                loop.cancel()
                await asyncio.gather(loop, return_exceptions=True)

    return asyncio.run(work())


async def _balance(actor: Actor, account: Any) -> int:
    found = await actor.reader.find_token_account(account)
    return 0 if found is None else found.amount


@pytest.fixture
def operator(tmp_path: Path, chain: Running) -> Operator:
    node = on_chain(chain, lambda actor: actor.node(100 * TOKEN))
    for name, key in (("node", node.key), ("operator", node.operator)):
        file = tmp_path / f"{name}.json"
        file.touch(mode=0o600)
        file.write_text(json.dumps(list(bytes(key))))
    deployment = chain.market.deployment
    (tmp_path / "config.toml").write_text(
        f"""
[market]
url = "http://127.0.0.1:9"
address = "{chain.market.market}"
program_id = "{deployment.program}"
genesis_hash = "{_base58(deployment.genesis_hash)}"
[node]
id = "node_1111111111111111111111"
[chain]
rpc_url = "{chain.rpc}"
"""
    )
    return Operator(chain, tmp_path / "config.toml", node)


def _base58(raw: bytes) -> str:
    return base58.b58encode(raw).decode()


def test_bonding_says_before_and_after(operator: Operator) -> None:
    done = operator("bond", "--amount", "25", "--json")
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["effects"] == [
        "bond: 100.000000 → 125.000000 (50.000000 needed to be given work)",
        "wallet: 9900.000000 → 9875.000000 stake tokens",
    ]
    assert told["signature"] in done.stderr, "told before it was sent, too"
    assert operator.pool().active_stake == 125 * TOKEN
    assert operator.stake_tokens() == 9_875 * TOKEN
    text = operator("bond", "--amount", "1").stdout
    assert text.startswith("Confirmed: bond 1.000000 stake tokens\nTransaction ")


REFUSED = {
    "nothing": (("bond", "--amount", "0"), "the amount is 0"),
    "too much": (("bond", "--amount", "9900.000001"), "send stake tokens to"),
    "words": (("bond", "--amount", "1,5"), "is not an amount"),
    "places": (("bond", "--amount", "0.0000001"), "is not an amount"),
    "unbond nothing": (("unbond", "--amount", "0"), "the amount is 0"),
    "unbond more": (("unbond", "--amount", "100.000001"), "100.000000 stake tokens are bonded"),
    "below the class": (("unbond", "--amount", "50.000001"), "at most 50.000000 can leave now"),
    "everything": (("unbond", "--all"), "50.000000 stake tokens must stay bonded"),
    "how much": (("unbond",), "say how much"),
    "both": (("unbond", "--all", "--amount", "1"), "say how much"),
    "step": (("commission", "--bps", "1501"), "to between 500 and 1500, not to 1501"),
    "all": (("commission", "--bps", "10001"), "at most 10000 basis points"),
    "commission words": (("commission", "--bps", "10%"), "is not a whole number of basis points"),
    "no reward": (("claim",), "nothing is owed"),
    "no ticket": (("withdraw",), "nothing is on its way out"),
    "no endpoint": (("bond", "--amount", "1", "--rpc", "http://127.0.0.1:9"), "chain.rpc_url of the configuration"),
}


@pytest.mark.parametrize(("arguments", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_what_can_not_be_is_said_before_anything_is_signed(
    operator: Operator, arguments: tuple[str, ...], words: str
) -> None:
    pool, tokens = operator.pool(), operator.stake_tokens()
    done = operator(*arguments)
    assert done.exit_code == 1
    assert words in done.stderr
    assert done.stderr.startswith("reaver-node: ")
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert (operator.pool(), operator.stake_tokens()) == (pool, tokens)


def test_a_part_of_the_bond_leaves_by_a_ticket(operator: Operator) -> None:
    done = operator("unbond", "--amount", "10", "--json")
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["effects"][0] == "bond: 100.000000 → 90.000000 stake tokens"
    assert "reaver-node withdraw" in told["next"]
    assert operator.pool().unbonding_stake == 10 * TOKEN
    early = operator("withdraw")
    if early.exit_code:
        assert "too early: the first of 1 tickets unlocks at" in early.stderr
        operator.on_chain(_past_unbonding)
        paid = operator("withdraw", "--json")
        assert json.loads(paid.stdout)["amount"] == "10.000000"
    assert operator.stake_tokens() == 9_910 * TOKEN


def test_a_commission_is_announced_and_its_reward_claimed(operator: Operator) -> None:
    done = operator("commission", "--bps", "1200", "--json")
    assert json.loads(done.stdout)["effects"] == ["commission: 1000 → 1200 bps, 1s after this lands"]
    pool = operator.pool()
    assert (pool.pending_commission_bps, pool.pending_commission_at > 0) == (1_200, True)
    operator.on_chain(lambda actor: settled_job(actor, operator.node))
    waiting = operator.pool()
    assert waiting.commission_fees > 0
    done = operator("claim", "--json")
    assert done.exit_code == 0, done.stderr
    after = operator.pool()
    assert (after.commission_fees, after.fees_unclaimed < waiting.fees_unclaimed) == (0, True)


def test_draining_is_said_on_chain_and_taken_back(operator: Operator) -> None:
    done = operator("drain", "--json")
    assert json.loads(done.stdout)["chain"] == "told", done.stdout
    account = operator.account()
    assert account is not None
    assert account.status == NodeStatus.DRAINING
    assert (operator.config.parent / "data" / "draining").exists()
    assert json.loads(operator("drain", "--resume", "--json").stdout)["chain"] == "told"
    account = operator.account()
    assert account is not None
    assert account.status == NodeStatus.ACTIVE
    assert not (operator.config.parent / "data" / "draining").exists()


def test_retiring_goes_on_run_by_run_until_nothing_is_left(operator: Operator) -> None:
    delegator = Keypair()
    node = operator.node.key.pubkey()

    async def stake(actor: Actor) -> None:
        await actor.fund(delegator.pubkey())
        call = actor.calls.delegate(delegator.pubkey(), actor.calls.addresses.node(node), 5 * TOKEN)
        await actor.send([call], delegator)

    operator.on_chain(stake)
    first = operator("retire", "--json")
    assert first.exit_code == 0, first.stderr
    told = json.loads(first.stdout)
    assert told["status"] == "retired"
    assert [act["what"] for act in told["done"]][:2] == ["retire", "unbond 100.000000 stake tokens"]
    assert any("1 delegators have positions (5.000000 stake tokens active)" in left for left in told["left"])
    for refused, words in ((("bond", "--amount", "1"), "is retired"), (("commission", "--bps", "900"), "is retired")):
        assert words in operator(*refused).stderr

    async def leave(actor: Actor) -> None:
        pool = actor.calls.addresses.pool(actor.calls.addresses.node(node))
        shares = (await actor.reader.find_position(pool, delegator.pubkey())).shares  # type: ignore[union-attr]
        await actor.send([actor.calls.unbond(delegator.pubkey(), pool, shares, 0)], delegator)
        await _past_unbonding(actor)
        await actor.send([actor.calls.withdraw_ticket(delegator.pubkey(), pool, 0)], delegator)

    text = operator("retire").stdout
    assert "Then run `reaver-node retire` again." in text
    operator.on_chain(leave)
    last = operator("retire", "--json")
    assert last.exit_code == 0, last.stderr
    assert json.loads(last.stdout)["status"] == "closed"
    assert operator.account() is None
    assert operator.stake_tokens() == 10_000 * TOKEN, "the whole bond is back"
    gone = operator("retire")
    assert (gone.exit_code, "not on chain" in gone.stderr) == (1, True)


def test_a_node_with_work_does_not_retire(operator: Operator) -> None:
    operator.on_chain(lambda actor: _assigned(actor, operator.node))
    done = operator("retire")
    assert done.exit_code == 1
    assert "1 attempts of this node are running or contested" in done.stderr
    assert "reaver-node drain" in done.stderr
    account = operator.account()
    assert account is not None
    assert account.status == NodeStatus.ACTIVE


def test_another_operators_node_and_another_chain_are_not_touched(operator: Operator, tmp_path: Path) -> None:
    (tmp_path / "operator.json").write_text(json.dumps(list(bytes(Keypair()))))
    done = operator("bond", "--amount", "1")
    assert (done.exit_code, "the node's operator on chain is" in done.stderr) == (1, True)
    text = operator.config.read_text()
    genesis = _base58(operator.running.market.deployment.genesis_hash)
    operator.config.write_text(text.replace(genesis, str(Keypair().pubkey())))
    done = operator("bond", "--amount", "1")
    assert (done.exit_code, "another chain than the one" in done.stderr) == (1, True)


def test_without_an_endpoint_or_a_registration_it_says_what_to_do(operator: Operator) -> None:
    text = operator.config.read_text()
    operator.config.write_text(text.replace(f'rpc_url = "{operator.running.rpc}"', ""))
    assert "chain.rpc_url" in operator("bond", "--amount", "1").stderr
    program = str(operator.running.market.deployment.program)
    operator.config.write_text(text.replace(f'program_id = "{program}"', ""))
    assert "reaver-node register" in operator("bond", "--amount", "1").stderr


async def _past_unbonding(actor: Actor) -> None:
    await actor.until_ms(await actor.now_ms() + UNBONDING_S * 1_000 + 1_000)


async def _assigned(actor: Actor, node: TestNode) -> None:
    """A running attempt on the node, by the way the market opens one."""
    await assigned_job(actor, node, await actor.renter(20 * TOKEN))
