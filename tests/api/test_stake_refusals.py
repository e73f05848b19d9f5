"""What stake refuses: each with its own error, message and status, on a real chain, and nothing is changed by any."""

import asyncio
import contextlib
import sqlite3
import struct
from dataclasses import replace

import pytest
from solders.pubkey import Pubkey

from marketplace.chain.accounts import PoolAccount
from marketplace.chain.program import AnchorCodec
from marketplace.chain.rpc import RpcClient
from tests.api.conftest import Wallet
from tests.api.stake_world import SHORT, WINDOWS, Staker, live_market, node, staker, wait_for
from tests.chain.market import Actor, localnet

__all__ = ["live_market", "node", "staker"]

_ACTIVE_STAKE_AT = 8 + 2 + 3 * 32 + 2
"""Behind discriminator, version, bump, three addresses and two bumps; the test reads it back by the coder."""


LASTING = replace(SHORT, windows=replace(WINDOWS, unbonding=600_000))
"""What is unbonded stays so for as long as a test asks for it too early."""


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    """A chain on which one node is retired, and one has lost nearly all its stake (as slashes of many epochs would)."""
    folder = tmp_path_factory.mktemp("chain")
    with localnet(folder, profile=LASTING) as first:
        retired, dead = asyncio.run(_two_nodes(first))
    _take_all_but_one_unit(folder, AnchorCodec(first.market.deployment.program), dead)
    with localnet(folder, profile=LASTING) as running:
        yield running, retired, dead


@pytest.fixture(scope="module")
def chain(worlds):
    return worlds[0]


async def _two_nodes(running):
    async with RpcClient([running.rpc]) as rpc:
        actor = Actor(running, rpc)
        loop = asyncio.create_task(actor.sender.run())
        retired, dead = await actor.node(), await actor.node()
        key = retired.key.pubkey()
        await actor.send([actor.calls.retire(retired.operator.pubkey(), key, actor.market)], retired.operator)
        loop.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await loop
        addresses = actor.calls.addresses
        return addresses.node(key), addresses.node(dead.key.pubkey())


def _take_all_but_one_unit(folder, codec, node_address):
    """Write it into the stopped chain's journal: by the program's own slashes it takes dozens of epochs."""
    from marketplace.chain.addresses import Addresses

    pool = Addresses(codec.program).pool(node_address)
    (journal,) = [file for file in folder.glob("data/*") if file.is_file() and file.read_bytes()[:6] == b"SQLite"]
    with contextlib.closing(sqlite3.connect(journal)) as database, database:
        (data,) = database.execute("SELECT data FROM accounts WHERE address = ?", (bytes(pool),)).fetchone()
        changed = bytearray(data)
        struct.pack_into("<Q", changed, _ACTIVE_STAKE_AT, 1)
        assert codec.account_data(PoolAccount, bytes(changed)).active_stake == 1
        database.execute("UPDATE accounts SET data = ? WHERE address = ?", (bytes(changed), bytes(pool)))


class Scene:
    """Names of the table, and what must not change."""

    def __init__(self, market, staker, node, worlds):
        self.market, self.staker, self.node = market, staker, node
        _, self.retired, self.dead = worlds
        self.tickets = {}

    def fill(self, body):
        names = {
            "NODE": self.node.id, "RETIRED": str(self.retired), "DEAD": str(self.dead),
            "NOWHERE": str(Pubkey.new_unique()), "OTHER_MINT": str(self.market.link.facts.deployment.payment_mint),
            **self.tickets,
        }  # fmt: skip
        return {key: names.get(value, value) if isinstance(value, str) else value for key, value in body.items()}

    async def held(self):
        """Every account that an action about this stake could write, and what was prepared."""
        addresses = self.market.link.calls.addresses
        owner = self.staker.keypair.pubkey()
        wanted = []
        for account in (
            Pubkey.from_string(self.market.jobs.registry.find(self.node.id).node.address),
            self.retired,
            self.dead,
        ):
            pool = addresses.pool(account)
            position = addresses.position(pool, owner)
            wanted += [account, pool, position, addresses.pool_stake(pool), addresses.pool_fees(pool)]
            wanted += [addresses.ticket(position, index) for index in range(2)]
        wanted += self.market.jobs.stake.accounts._token_accounts(owner)
        found = await self.market.rpc.list_accounts(wanted)
        built = await self.market.store.lookup(lambda tx: tx.row("SELECT count(*) FROM built_transactions"))
        return [None if info is None else (info.data, info.lamports) for info in found], built


@pytest.fixture
async def scene(live_market, staker, node, worlds):
    return Scene(live_market, staker, node, worlds)


UNKNOWN_ID = "node_" + "1" * 22
STAKED = [
    # what, route, body, status, code, words of the message
    ("amount 0", "delegate", {"node_id": "NODE", "amount": "0"}, 422, "validation_error", "amount: must be more than 0"),
    ("no amount", "delegate", {"node_id": "NODE", "amount": "1e3"}, 422, "validation_error", "decimal amount"),
    ("finer than a unit", "delegate", {"node_id": "NODE", "amount": "1.0000001"}, 422, "validation_error", "6 places"),
    ("above balance", "delegate", {"node_id": "NODE", "amount": "999999"}, 402, "insufficient_escrow", "less than 999999.000000 stake tokens"),
    ("unknown node", "delegate", {"node_id": UNKNOWN_ID, "amount": "1"}, 404, "not_found", "this market knows no such node"),
    ("node nowhere", "delegate", {"node_id": "NOWHERE", "amount": "1"}, 404, "not_found", "no such node on this chain"),
    ("no node", "delegate", {"node_id": "x", "amount": "1"}, 404, "not_found", "name it by its id"),
    ("retired node", "delegate", {"node_id": "RETIRED", "amount": "1"}, 409, "conflict", "the node is retired"),
    ("dead pool", "delegate", {"node_id": "DEAD", "amount": "1"}, 409, "pool_dead", "lost nearly all its stake"),
    ("wrong mint", "delegate", {"node_id": "NODE", "amount": "1", "mint": "OTHER_MINT"}, 422, "validation_error", "mint: is not the stake token's mint"),
    ("claiming nothing", "claim", {"node_id": "NODE"}, 409, "nothing_to_claim", "no rewards wait"),
    ("claiming nothing at all", "claim", {"all": True}, 409, "nothing_to_claim", "no rewards wait"),
    ("claiming of nobody", "claim", {"node_id": UNKNOWN_ID}, 404, "not_found", "knows no such node"),
    ("claiming neither", "claim", {}, 422, "validation_error", "one of node_id, all is needed"),
    ("claiming both", "claim", {"node_id": "NODE", "all": True}, 422, "validation_error", "only one of node_id, all"),
    ("unbonding 0", "unbond", {"node_id": "NODE", "amount": "0"}, 422, "validation_error", "amount: must be more than 0"),
    ("unbonding no shares", "unbond", {"node_id": "NODE", "shares": "0"}, 422, "validation_error", "shares: must be more than 0"),
    ("unbonding odd shares", "unbond", {"node_id": "NODE", "shares": "-1"}, 422, "validation_error", "shares: must be a whole number"),
    ("unbonding above the stake", "unbond", {"node_id": "NODE", "amount": "10.000001"}, 409, "insufficient_stake", "less than asked for"),
    ("unbonding too many shares", "unbond", {"node_id": "NODE", "shares": str(2**100)}, 409, "insufficient_stake", "less than asked for"),
    ("unbonding elsewhere", "unbond", {"node_id": "DEAD", "all": True}, 409, "insufficient_stake", "has nothing staked on"),
    ("unbonding both", "unbond", {"node_id": "NODE", "amount": "1", "all": True}, 422, "validation_error", "only one of amount, shares, all"),
    ("withdrawing nothing", "withdraw", {"all": True}, 409, "nothing_to_claim", "has unbonded nothing"),
    ("withdrawing no ticket", "withdraw", {"ticket_id": "NOWHERE"}, 404, "not_found", "has no such ticket"),
    ("withdrawing a node", "withdraw", {"ticket_id": "RETIRED"}, 404, "not_found", "has no such ticket"),
    ("stale epoch", "distribute", {"node_id": "NODE", "epoch": 0}, 409, "stale_epoch", "That epoch is over"),
    ("future epoch", "distribute", {"node_id": "NODE", "epoch": 10**9}, 409, "too_early", "nobody has registered"),
    ("simulating 0", "simulate", {"node_id": "NODE", "amount": "0", "epochs": 3}, 422, "validation_error", "amount: must be more than 0"),
    ("simulating no epochs", "simulate", {"node_id": "NODE", "amount": "1", "epochs": 0}, 422, "validation_error", "epochs"),
    ("simulating on nobody", "simulate", {"node_id": "NOWHERE", "amount": "1", "epochs": 3}, 404, "not_found", "no such node on this chain"),
    ("simulating on a dead pool", "simulate", {"node_id": "DEAD", "amount": "1", "epochs": 3}, 409, "conflict", "the pool is dead"),
    ("an unknown field", "delegate", {"node_id": "NODE", "amount": "1", "fee": 1}, 422, "validation_error", "fee"),
]  # fmt: skip
UNBONDED = [
    ("unbonding twice", "unbond", {"node_id": "NODE", "all": True}, 409, "insufficient_stake", "1 unbondings of it wait to be withdrawn"),
    ("withdrawing early", "withdraw", {"ticket_id": "TICKET"}, 409, "too_early", "the unbonding time has not passed"),
    ("withdrawing all early", "withdraw", {"all": True}, 409, "too_early", "the unbonding time has not passed"),
]  # fmt: skip
COMMISSION = [
    ("commission step too large", "NODE", 501, 422, "commission_step", "may change by at most 500 at a time"),
    ("commission above everything", "NODE", 10_001, 422, "validation_error", "more than everything"),
    ("commission below nothing", "NODE", -1, 422, "validation_error", "commission_bps"),
]


async def refuse(scene, rows, call):
    """Each row is refused as the table says; afterwards everything is as before. What was said."""
    before = await scene.held()
    said = {}
    for what, word, body, status, code, words in rows:
        got, answer, _ = await call(word, scene.fill(body))
        assert (got, answer["error"], answer["status"]) == (status, code, status), (what, answer)
        assert words in answer["message"], (what, answer["message"])
        said[what] = (status, code, answer["message"])
    assert await scene.held() == before
    return said


@pytest.mark.timeout(300)
async def test_what_cant_be_done_is_refused_by_its_own_error_and_changes_nothing(scene, chain, live_market, live_call):
    staker, node = scene.staker, scene.node
    await staker.staked(node, "10")
    # epoch 0 is long over when three others have passed
    await wait_for(lambda: epochs_passed(staker, 4), timeout_s=120)

    async def act(word, body):
        return await staker("POST", f"/v1/stake/{word}", json=body)

    said = await refuse(scene, STAKED, act)
    # the operator has a bond, not a stake, and sets the commission
    operator = node.operator
    own = await operator.refused("delegate", node_id=node.id, amount="1")
    assert (own[0], own[1]["error"], own[1]["state"]) == (409, "conflict", "operator")
    taken = await operator.refused("unbond", node_id=node.id, amount="1")
    assert (taken[0], taken[1]["error"], taken[1]["state"]) == (409, "conflict", "operator")

    async def announce(_, body):
        return await operator("PATCH", f"/v1/nodes/{node.id}", json=body)

    rows = [(what, None, {"commission_bps": bps}, *rest) for what, _, bps, *rest in COMMISSION]
    said |= await refuse(scene, rows, announce)
    status, answer, _ = await staker("PATCH", f"/v1/nodes/{node.id}", json={"commission_bps": 100})
    assert (status, answer["error"]) == (404, "not_found")
    # unbonded: no second time, and not out before its time
    unbonding = await staker.do("unbond", node_id=node.id, all=True)
    position = await staker.position(shares="0")
    scene.tickets = {"TICKET": unbonding["items"][0]["ticket_id"]}
    said |= await refuse(scene, UNBONDED, act)
    _, early, _ = await staker("POST", "/v1/stake/withdraw", json={"all": True})
    assert early.get("possible_at") == position["tickets"][0]["unlock_at"]
    stranger = await Staker.funded(Wallet(), chain, live_market, live_call)
    status, answer, _ = await stranger("POST", "/v1/stake/withdraw", json={"ticket_id": scene.tickets["TICKET"]})
    assert (status, answer["error"]) == (404, "not_found")
    # the list: no two are told alike
    listed = [
        "amount 0", "above balance", "unknown node", "retired node", "dead pool", "wrong mint", "unbonding twice",
        "claiming nothing", "withdrawing early", "commission step too large", "stale epoch",
    ]  # fmt: skip
    assert len({said[what] for what in listed}) == len(listed)
    assert len({said[what][2] for what in listed}) == len(listed)


async def epochs_passed(staker, count):
    _, answer, _ = await staker("GET", "/v1/stake/epochs")
    return answer["current"]["epoch"] >= count


async def test_a_wallet_without_the_stake_token_is_told_what_it_lacks(live_market, live_call, node):
    poor = Staker(live_call)
    poor.token = (await live_call.login(poor))["token"]
    status, answer = await poor.refused("delegate", node_id=node.id, amount="2.5")
    assert (status, answer["missing"], answer["shortfall"], answer["wallet_balance"]) == (
        402, "stake_token", "2.500000", "0.000000",
    )  # fmt: skip
    status, answer = await poor.refused("withdraw", all=True)
    assert (status, answer["error"]) == (409, "nothing_to_claim")
    assert (await poor.positions())["positions"] == []
