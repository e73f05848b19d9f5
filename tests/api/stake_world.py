"""A chain with short epochs and an emission, a node that works, and people who stake on it."""

import asyncio
import base64
import itertools
from dataclasses import replace

import pytest
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from marketplace.app import Market
from marketplace.chain.bootstrap import OperatorKeys
from marketplace.chain.builders import CallBuilder
from marketplace.chain.constants import LOCALNET
from marketplace.chain.reader import ChainReader
from marketplace.protocol.vouchers import VoucherState
from marketplace.settings import LimitSettings
from tests.api.conftest import Renter, Wallet, settings_in
from tests.api.scripted_node import ScriptedNode
from tests.api.serving import ready
from tests.api.test_jobs import ALLOWANCE, submit, until
from tests.chain.market import localnet

WINDOWS = replace(
    LOCALNET.windows, contest=1_000, unbonding=16_000, epoch_length=8_000, commission_delay=2_000, fee_delay=2_000
)
SHORT = replace(LOCALNET, name="short", windows=WINDOWS, first_emission=100)
"""Epochs of 8 s, unbonding of 16 s, 100 stake tokens of emission for an epoch."""
_NUMBERS = itertools.count(1)
LIMITS = LimitSettings(wallet=100_000, node=100_000, address=100_000, challenge=10_000, login=10_000)
"""Tests look again and again until something has happened: their patience is theirs."""


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    with localnet(tmp_path_factory.mktemp("chain"), profile=SHORT) as running:
        yield running


@pytest.fixture
async def live_market(tmp_path, chain):
    settings = settings_in(tmp_path, chain.folder / "keys", chain.rpc).model_copy(update={"limits": LIMITS})
    market = Market.build(settings)
    await market.start()
    await ready(market)
    yield market
    await market.stop()


@pytest.fixture
async def staker(chain, live_market, live_call):
    return await Staker.funded(Wallet(), chain, live_market, live_call)


@pytest.fixture
async def node(chain, live_market, live_call):
    """Takes jobs, at a price of which fees are left; bonded with 100."""
    operator = await Staker.funded(Wallet(), chain, live_market, live_call)
    scripted = ScriptedNode(operator)
    await scripted.register(bond="100", floor="0.001")
    await scripted.connect(live_call)
    yield scripted
    await scripted.close()


async def wait_for(look, timeout_s=40):
    """The first answer of `look` that is true."""
    async with asyncio.timeout(timeout_s):
        while True:
            found = await look()
            if found:
                return found
            await asyncio.sleep(0.05)


class Staker(Renter):
    """A funded wallet that stakes."""

    async def act(self, word, **body):
        """The prepared answer of an action, which must be one."""
        status, answer, _ = await self("POST", f"/v1/stake/{word}", json=body)
        assert status == 200, answer
        return answer

    async def do(self, word, **body):
        """Prepare, sign, land; the prepared answer."""
        answer = await self.act(word, **body)
        await self.send(answer)
        return answer

    async def refused(self, word, **body):
        status, answer, _ = await self("POST", f"/v1/stake/{word}", json=body)
        assert status >= 400, answer
        return status, answer

    async def positions(self):
        status, answer, _ = await self("GET", "/v1/stake/positions")
        assert status == 200, answer
        return answer

    async def position(self, **wanted):
        """The only one, once it is shown and has these values."""

        async def look():
            found = (await self.positions())["positions"]
            return found and all(found[0][name] == value for name, value in wanted.items()) and found[0]

        return await wait_for(look)

    async def staked(self, node, amount):
        """Delegate, and wait until the market shows it."""
        answer = await self.do("delegate", node_id=node.id, amount=amount)
        await self.position(shares=answer["effects"]["shares"]["after"])
        return answer

    async def tokens(self, market):
        """What the wallet holds: payment, stake."""
        deployment = market.link.facts.deployment
        found = await market.jobs.stake.accounts.tokens(self.keypair.pubkey())
        assert deployment.stake_decimals == 6
        return found.payment, found.stake


async def run_job(renter, node, market, billed_ms=900):
    """A job of the renter's that the node does and is paid for; the job."""
    submitting = asyncio.create_task(submit(renter, key=f"job-{next(_NUMBERS)}"))
    attempt = await node.take()
    _, answer, _ = await submitting
    await until(renter, answer["id"], "assigned")
    await attempt.ready(market)
    await until(renter, answer["id"], "running")

    async def countersigned():
        taken = await attempt.beat(attempt.voucher(billed_ms))
        return taken["countersigned"]

    await wait_for(countersigned)
    final = attempt.voucher(billed_ms, state=VoucherState.FINAL, reason=1)
    await attempt.report("exited", reason=1, exit_code=0, voucher=final)
    return await until(renter, answer["id"], "completed")


async def allowed(renter):
    """The renter with a vault and an allowance."""
    await renter.deposit("20")
    _, prepared, _ = await renter("POST", "/v1/allowance", json=ALLOWANCE)
    await renter.send(prepared)
    return renter


class Hands:
    """Acts straight on chain, past the market: what operators' and administrators' own commands do."""

    def __init__(self, market):
        self.market = market
        self.calls: CallBuilder = market.link.calls
        self.reader: ChainReader = market.link.reader

    @property
    def keys(self) -> OperatorKeys:
        return self.market.keys

    async def land(self, steps, *signers: Keypair):
        unsigned = await self.market.link.assembler.assemble(steps, signers[0].pubkey())
        signed = unsigned.sign(signers)
        name = f"hands:{next(_NUMBERS)}"
        await self.market.sender.submit(name, signed.raw, signed.last_valid_block_height)
        entry = await self.market.sender.wait(signed.signature, timeout_s=30)
        assert entry.state.landed
        return signed.signature


def raw(transaction: str) -> bytes:
    return base64.b64decode(transaction)


def pubkey(text: str) -> Pubkey:
    return Pubkey.from_string(text)


def node_key(node: ScriptedNode) -> Pubkey:
    return node.keypair.pubkey()


def units(text: str) -> int:
    return int(text.replace(".", ""))
