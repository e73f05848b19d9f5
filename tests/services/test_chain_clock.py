"""Chain time as the market carries it on between two looks at a clock that shows whole seconds."""

import pytest
from solders.pubkey import Pubkey

from marketplace.chain.answers import AccountInfo
from marketplace.chain.program import AnchorCodec
from marketplace.services.chain_acts import _CLOCK, SolanaChain
from marketplace.services.clock import ManualClock


class SlowChain:
    """Its clock follows the test's, and its answers are under way for as long as the test says."""

    def __init__(self, clock):
        self.clock, self.before_ms, self.after_ms = clock, 0, 0

    async def find_account(self, address):
        self.clock.advance(self.before_ms)
        data = _CLOCK.pack(1, 0, 0, 0, self.clock.monotonic_ms() // 1000)
        self.clock.advance(self.after_ms)
        return AccountInfo(address=address, lamports=1, owner=address, data=data, executable=False, slot=1)


@pytest.fixture
def clock():
    return ManualClock(1_000_000_000_000)


@pytest.fixture
def rpc(clock):
    return SlowChain(clock)


@pytest.fixture
def chain(clock, rpc):
    codec = AnchorCodec(Pubkey.default())
    return SolanaChain(rpc, codec, None, None, None, None, clock)


async def test_it_runs_on_between_two_looks_and_never_ahead(chain, clock):
    await chain.set_clock()
    for _ in range(30):
        clock.advance(370)
        before = chain.now()
        await chain.set_clock()
        assert before <= chain.now() <= clock.monotonic_ms() < chain.now() + 1_000


@pytest.mark.parametrize("way", ["before_ms", "after_ms"])
async def test_an_answer_that_was_long_under_way_sets_nothing_back(chain, clock, rpc, way):
    """It shows the second of some moment since it was asked for, and no later one."""
    await chain.set_clock()
    setattr(rpc, way, 2_700)
    before = chain.now()
    await chain.set_clock()
    assert chain.now() == before + 2_700
    setattr(rpc, way, 0)
    await chain.set_clock()
    assert chain.now() == before + 2_700


async def test_a_chain_that_fell_behind_is_followed(chain, clock, rpc):
    """As it may under load: what is ahead of it would be refused there."""
    await chain.set_clock()
    ahead = chain.now() + 5_000
    chain._read_at -= 5_000
    assert chain.now() == ahead
    await chain.set_clock()
    assert chain.now() == ahead - 5_000
