"""What delegators and operators do with stake, in a few calls, and what must hold of a pool afterwards."""

import struct

from solders.account import Account
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from marketplace.chain.accounts import PositionAccount
from tests.program.flows import Node, assign, finish, open_escrow, own_escrow
from tests.program.world import CPU, PARAMS, World, key

STAKE = 1_000_000


def delegator(world: World, name: str, *, stake: int = 10 * STAKE) -> Keypair:
    """A funded wallet that stakes nothing yet."""
    owner = key(f"delegator {name}")
    world.fund(owner.pubkey(), stake=stake)
    return owner


def pool_address(world: World, node: Node) -> Pubkey:
    return world.build.addresses.pool(node.address(world))


def position_address(world: World, node: Node, owner: Keypair) -> Pubkey:
    return world.build.addresses.position(pool_address(world, node), owner.pubkey())


def ticket_address(world: World, node: Node, owner: Keypair, index: int) -> Pubkey:
    return world.build.addresses.ticket(position_address(world, node, owner), index)


def delegate(world: World, node: Node, owner: Keypair, amount: int = STAKE):
    call = world.build.delegate(owner.pubkey(), node.address(world), amount)
    return world.send(call, signers=[owner], label="delegate")


def claim(world: World, node: Node, owner: Keypair):
    return world.send(world.build.claim(owner.pubkey(), pool_address(world, node)), signers=[owner], label="claim")


def unbond(world: World, node: Node, owner: Keypair, shares: int | None = None):
    """All of the position's shares, unless it is said how many."""
    position = world.position(node.key, owner)
    shares = position.shares if shares is None else shares
    call = world.build.unbond(owner.pubkey(), pool_address(world, node), shares, position.next_ticket)
    return world.send(call, signers=[owner], label="unbond")


def withdraw_ticket(world: World, node: Node, owner: Keypair, index: int = 0):
    call = world.build.withdraw_ticket(owner.pubkey(), pool_address(world, node), index)
    return world.send(call, signers=[owner], label="withdraw_ticket")


def unbond_bond(world: World, node: Node, shares: int | None = None, *, class_id: bytes = CPU):
    position = world.position(node.key, node.operator)
    shares = position.shares if shares is None else shares
    call = world.build.unbond_bond(node.operator.pubkey(), node.key.pubkey(), class_id, shares, position.next_ticket)
    return world.send(call, signers=[node.operator], label="unbond_bond")


def set_commission(world: World, node: Node, bps: int):
    call = world.build.set_commission(node.operator.pubkey(), node.key.pubkey(), bps)
    return world.send(call, signers=[node.operator], label="set_commission")


def drain(world: World, node: Node, *, draining: bool = True):
    call = world.build.drain(node.operator.pubkey(), node.key.pubkey(), draining=draining)
    return world.send(call, signers=[node.operator], label="drain")


def retire(world: World, node: Node):
    call = world.build.retire(node.operator.pubkey(), node.key.pubkey(), world.market)
    return world.send(call, signers=[node.operator], label="retire")


def unlock(world: World) -> None:
    """Waits until every ticket of now can be withdrawn."""
    world.pass_ms(PARAMS.unbonding)


def earn(world: World, renter: Keypair, node: Node, amount: int, *, nonce: int = 1) -> int:
    """The node works for `amount`; what its pool got of it."""
    before = world.pool(node.key).fees_unclaimed
    escrow = open_escrow(world, renter, own_escrow(world, renter, nonce), deposit=amount, max_time_ms=amount)
    assign(world, escrow, node)
    world.pass_ms(amount + 1_000)  # the clock counts whole seconds
    finish(world, escrow, node, 1, amount)
    return world.pool(node.key).fees_unclaimed - before


def give_tokens(world: World, address: Pubkey, amount: int) -> None:
    """Somebody sends tokens to an account that didn't ask for them."""
    account = world.svm.get_account(address)
    assert account is not None
    data = bytearray(account.data)
    struct.pack_into("<Q", data, 64, world.tokens(address) + amount)
    world.svm.set_account(address, Account(account.lamports, bytes(data), account.owner, account.executable, 0))


def put_emission(world: World, node: Node, amount: int) -> None:
    """Emission that arrived and went wholly to the shares, as distribute books it."""
    pool = world.pool(node.key)
    growth, rest = divmod((amount << 64) + pool.emission_remainder, pool.active_shares)
    world.write(
        "Pool",
        pool_address(world, node),
        {
            "emission": pool.emission + growth,
            "emission_remainder": rest,
            "emission_unclaimed": pool.emission_unclaimed + amount,
        },
    )
    give_tokens(world, pool.stake_vault, amount)


def check_pool(world: World, node: Node, owners: list[Keypair]) -> None:
    """Both vaults cover what is recorded, shares add up, no price above one unit per share."""
    pool, account = world.pool(node.key), world.node(node.key)
    recorded = pool.active_stake + pool.unbonding_stake + pool.emission_unclaimed
    assert world.tokens(pool.stake_vault) >= recorded
    assert world.tokens(pool.fee_vault) >= pool.fees_unclaimed + account.owed
    assert pool.active_stake <= pool.active_shares
    assert pool.unbonding_stake <= pool.unbonding_shares
    positions: list[PositionAccount] = [
        world.position(node.key, who)
        for who in (node.operator, *owners)
        if world.exists(position_address(world, node, who))
    ]
    assert sum(p.shares for p in positions) == pool.active_shares
    assert world.position(node.key, node.operator).shares == pool.bond_shares
    assert pool.positions == len(positions)
