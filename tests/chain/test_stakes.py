"""Positions, tickets, pools and epochs as they are read from a real chain."""

import pytest
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from marketplace.chain.accounts import EpochAccount
from marketplace.chain.addresses import class_id
from marketplace.chain.errors import TransactionFailed
from marketplace.chain.stakes import StakeReader
from marketplace.domain.quantities import Shares, Stake
from marketplace.domain.staking import Bucket
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
    found = await stakes.find_position(pool, first.operator.pubkey())
    assert found is not None
    assert (found.address, found.account) == (position.address, position.account)
    assert await stakes.find_position(pool, second.operator.pubkey()) is None
    assert await stakes.list_positions_of_owner(Pubkey.new_unique()) == []
    assert await stakes.list_tickets_of_owner(first.operator.pubkey()) == []


async def test_a_delegators_stake_is_read_as_the_program_books_it(actor: Actor, stakes: StakeReader) -> None:
    node, owner = await actor.node(), Keypair()
    await actor.fund(owner.pubkey())
    wallet, address = owner.pubkey(), actor.calls.addresses.node(node.key.pubkey())
    pool = actor.calls.addresses.pool(address)
    await actor.send([actor.calls.delegate(wallet, address, 9_000_000)], owner)
    staked = await stakes.find_node(address)
    assert staked is not None
    assert staked.pool.positions == 2

    # the page of one, then the one behind it: between them all positions, each once
    first = await stakes.page_positions_of_pool(pool, limit=1)
    second = await stakes.page_positions_of_pool(pool, after=first.positions[-1].address, limit=1)
    assert (first.more, second.more) == (True, False)
    owners = {entry.account.owner for entry in (*first.positions, *second.positions)}
    assert owners == {wallet, node.operator.pubkey()}

    (position,) = await stakes.list_positions_of_owner(wallet)
    bucket = Bucket(Stake(staked.pool.active_stake), Shares(staked.pool.active_shares))
    worth = bucket.stake_for_floor(Shares(position.account.shares))
    assert 9_000_000 - 1 <= worth <= 9_000_000

    half = position.account.shares // 2
    await actor.send([actor.calls.unbond(wallet, pool, half, position.account.next_ticket)], owner)
    after = await stakes.find_node(address)
    assert after is not None
    (ticket,) = await stakes.list_tickets_of_owner(wallet)
    assert after.pool.unbonding_stake == bucket.stake_for_floor(Shares(half))
    found = await stakes.find_ticket(position.address, 0)
    assert found is not None
    assert (found.address, found.account) == (ticket.address, ticket.account)
    assert ticket.account.shares == after.pool.unbonding_shares
    config = await actor.reader.get_config()
    assert ticket.account.unlock_at - config.params.unbonding <= await stakes.chain_time_ms()
    with pytest.raises(TransactionFailed, match="SharesInsufficient"):
        await actor.send([actor.calls.unbond(wallet, pool, position.account.shares, 1)], owner)
    with pytest.raises(TransactionFailed, match="NothingOwed"):
        await actor.send([actor.calls.claim(wallet, pool)], owner)


async def test_a_pool_of_its_operator_alone_has_one_page(actor: Actor, stakes: StakeReader) -> None:
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
