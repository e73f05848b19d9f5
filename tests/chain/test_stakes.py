"""Positions, tickets, pools and epochs as they are read from a real chain."""

import pytest
from solders.pubkey import Pubkey

from marketplace.chain.accounts import EpochAccount
from marketplace.chain.addresses import class_id
from marketplace.chain.stakes import StakeReader
from tests.chain.market import Actor

pytestmark = pytest.mark.xdist_group("chain-localnet")


@pytest.fixture
def stakes(actor: Actor) -> StakeReader:
    return StakeReader(actor.reader)


async def test_an_owners_positions_are_found_in_all_its_pools(actor: Actor, stakes: StakeReader) -> None:
    first, second = await actor.node(), await actor.node()
    (position,) = await stakes.list_positions_of_owner(first.operator.pubkey())
    pool = actor.calls.addresses.pool(actor.calls.addresses.node(first.key.pubkey()))
    assert position.address == actor.calls.addresses.position(pool, first.operator.pubkey())
    assert position.account.pool == pool
    assert position.account.is_operator
    assert await stakes.find_position(pool, first.operator.pubkey()) == position
    assert await stakes.find_position(pool, second.operator.pubkey()) is None
    assert await stakes.list_positions_of_owner(Pubkey.new_unique()) == []
    assert await stakes.list_tickets_of_owner(first.operator.pubkey()) == []


async def test_a_pools_positions_are_paged(actor: Actor, stakes: StakeReader) -> None:
    node = await actor.node()
    pool = actor.calls.addresses.pool(actor.calls.addresses.node(node.key.pubkey()))
    page = await stakes.page_positions_of_pool(pool, limit=1)
    assert [entry.account.owner for entry in page.positions] == [node.operator.pubkey()]
    assert not page.more
    behind = await stakes.page_positions_of_pool(pool, after=page.positions[-1].address)
    assert (behind.positions, behind.more) == ((), False)


async def test_nodes_are_read_with_their_pools_at_one_slot(actor: Actor, stakes: StakeReader) -> None:
    made = await actor.node(bond=77_000_000)
    address = actor.calls.addresses.node(made.key.pubkey())
    nowhere = Pubkey.new_unique()
    missing, found = await stakes.find_nodes([nowhere, address])
    assert missing is None
    assert found is not None
    assert (found.node.node_key, found.pool.node) == (made.key.pubkey(), address)
    assert found.pool.active_stake == 77_000_000
    assert found.pool.positions == 1
    assert await stakes.find_node(address) is not None


async def test_the_emissions_state_is_read_together(actor: Actor, stakes: StakeReader) -> None:
    state = await stakes.emission()
    assert state.config == await actor.reader.get_config()
    assert state.vault >= 0
    assert state.now_ms % 1_000 == 0
    assert await stakes.chain_time_ms() >= state.now_ms
    far = 10**9
    assert await stakes.find_epochs([far]) == [None]
    assert all(isinstance(epoch, EpochAccount) for epoch in await stakes.list_epochs())
    known, unknown = await stakes.find_classes([class_id("cpu-small"), class_id("no-such")])
    assert known is not None
    assert unknown is None
