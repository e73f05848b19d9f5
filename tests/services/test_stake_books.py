"""What the chain says of stake gets into the books once, with the operator's part computed as the program does."""

from dataclasses import replace

from solders.pubkey import Pubkey

from marketplace.chain.addresses import Addresses
from marketplace.chain.answers import LandedInstruction, LandedTransaction
from marketplace.chain.builders import CallBuilder, Deployment
from marketplace.chain.events import (
    CommissionSetEvent,
    DelegatedEvent,
    DistributedEvent,
    EpochClosedEvent,
    NodeRegisteredEvent,
    SlashedEvent,
    TicketWithdrawnEvent,
    UnbondedEvent,
    WeightRegisteredEvent,
)
from marketplace.chain.program import AnchorCodec
from marketplace.services.stake_books import StakeBooks
from marketplace.store.books import Books
from marketplace.store.stake import PoolEpoch, StakeKind, StakeRows
from tests.services.test_chain_events import NULL, settled, world

__all__ = ["world"]

NODE_KEY, OPERATOR, ALICE, TICKET = (Pubkey.new_unique() for _ in range(4))
ADDRESSES = Addresses(NULL)
NODE = ADDRESSES.node(NODE_KEY)
POOL = ADDRESSES.pool(NODE)
POSITION = ADDRESSES.position(POOL, ALICE)


def registered(bond=1_000):
    return NodeRegisteredEvent(NODE, OPERATOR, NODE_KEY, NULL, bytes(16), POOL, NULL, bond, bond)


def fees(amount):
    return replace(settled(1), node=NODE, stakers=amount, operator=100 - amount - 3)


async def rows(world, read):
    return await world.store.lookup(lambda tx: read(StakeRows(tx)))


async def test_a_pools_life_is_summed_by_the_epoch_it_happened_in(world):
    await world.land(registered())
    await world.land(DelegatedEvent(POOL, POSITION, ALICE, 500, 500))
    await world.land(fees(40))
    await world.land(WeightRegisteredEvent(NODE, 3, 1_500, 1_500), EpochClosedEvent(3, 70, 1_500))
    await world.land(DistributedEvent(POOL, 3, 60, 6))
    for again in (False, True):
        await world.land(UnbondedEvent(POOL, POSITION, ALICE, TICKET, 0, 200, 200, 99), again=again)
    await world.land(SlashedEvent(NODE, POOL, 1, 32, 30, 0), SlashedEvent(NODE, POOL, 2, 32, 20, 0))
    await world.land(TicketWithdrawnEvent(POOL, TICKET, ALICE, 200, 180))
    epoch = world.clock.now() // 20_000
    (sums,) = await rows(world, lambda r: r.list_pool_epochs(str(POOL), 0, epoch))
    assert sums == PoolEpoch(str(POOL), epoch, 40, 0, 60, 6, 1_000 + 500 - 200 - 30, str(1_300))
    (emission,) = await rows(world, lambda r: r.list_epochs(9, 0))
    assert (emission.epoch, emission.emission, emission.distributed, emission.total_weight) == (3, 70, 60, "1500")
    told = await rows(world, lambda r: r.list_history(str(ALICE), 9, 0))
    assert [e.kind for e in told] == [
        StakeKind.WITHDRAWN, StakeKind.SLASHED_UNBONDING, StakeKind.SLASHED, StakeKind.UNBONDED, StakeKind.DELEGATED,
    ]  # fmt: skip
    assert (told[0].stake, told[3].due_ms, told[3].ticket) == (180, 99, str(TICKET))


async def test_the_operators_part_of_a_fee_follows_his_commission(world):
    calls = CallBuilder(Deployment(NULL, bytes(32), NULL, NULL, 6, 6))
    codec = AnchorCodec(NULL)
    wire = codec.instruction(calls.register_node(OPERATOR, NODE_KEY, NULL, bytes(16), 1_000, 1_250))
    instruction = LandedInstruction(NULL, tuple(m.pubkey for m in wire.accounts), bytes(wire.data))
    junk = replace(instruction, data=b"\0" * 8)
    landed = LandedTransaction(
        signature=None, slot=1, block_time=None, failure=None, fee_lamports=0, signature_count=1, units_consumed=None,
        account_keys=(OPERATOR,), instructions=(junk, instruction), lamports_before=(), lamports_after=(), token_changes=(),
        logs=(),
    )  # fmt: skip
    books = StakeBooks(codec, lambda: None)
    assert books.commissions(landed) == {str(POOL): 1_250}
    world.events._rpc = History(landed)
    await world.land(registered())
    await world.land(fees(41))
    now = world.clock.now()
    await world.land(CommissionSetEvent(POOL, 1_000, now + 5_000))
    world.clock.advance(4_999)
    await world.land(fees(41))
    world.clock.advance(1)
    await world.land(fees(41))
    events = await rows(world, lambda r: r.list_pool_events(str(POOL), 0, 10**9))
    assert [e.commission for e in events if e.kind is StakeKind.FEES] == [5, 5, 4]


class History:
    def __init__(self, landed):
        self.landed = landed

    async def find_transaction(self, signature, commitment=None):
        return self.landed


async def test_a_dropped_fork_takes_its_stake_with_it(world):
    await world.land(registered())
    await world.land(DelegatedEvent(POOL, POSITION, ALICE, 500, 500))
    signature = (await rows(world, lambda r: r.list_history(str(ALICE), 1, 0)))[0].signature

    def undo(tx):
        Books(tx).undo([signature])
        StakeRows(tx).undo([signature])

    await world.store.write(undo)
    assert await rows(world, lambda r: r.stake_before(str(POOL), 10**9)) == (1_000, 1_000)
    await world.land(DelegatedEvent(POOL, POSITION, ALICE, 500, 500), again=True)
    assert await rows(world, lambda r: r.stake_before(str(POOL), 10**9)) == (1_500, 1_500)


async def test_books_of_a_version_that_kept_none_of_stake_are_completed(world):
    await world.land(registered())
    await world.store.write(lambda tx: tx.change("DELETE FROM stake_events"))
    await world.store.write(lambda tx: tx.change("DELETE FROM pool_epochs"))
    for _ in range(2):
        await world.land(registered(), again=True)
    assert await rows(world, lambda r: r.stake_before(str(POOL), 10**9)) == (1_000, 1_000)
