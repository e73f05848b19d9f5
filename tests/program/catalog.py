"""One world at one moment in which every instruction but `initialize` is accepted: what is changed of such a call, and
nothing else, is then what it is refused for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from solders.compute_budget import set_compute_unit_limit
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.litesvm import LiteSVM
from solders.message import Message
from solders.pubkey import Pubkey
from solders.transaction import Transaction
from solders.transaction_metadata import FailedTransactionMetadata

from marketplace.chain.builders import AllowanceTerms, EscrowRef
from marketplace.chain.ed25519 import SignatureCheck
from marketplace.chain.instructions import ProgramInstruction
from tests.program.flows import (
    DEPOSIT,
    Node,
    assign,
    claim,
    end_contest,
    finish,
    grant,
    market_escrow,
    new_node,
    open_escrow,
    quit_attempt,
    read,
    release,
    settle,
    terms,
    voucher,
)
from tests.program.stake_flows import delegate, delegator, unbond
from tests.program.world import ADMIN, BOND, CPU, EPOCH_MS, GPU, HOUR, PARAMS, World, key, new_world

FIRST_EMISSION = 900


@dataclass(frozen=True)
class Case:
    """A call that is accepted as it is. checks: the signatures' instructions before it."""

    call: ProgramInstruction
    signers: tuple[Keypair, ...]
    checks: tuple[SignatureCheck, ...] = ()


@dataclass(frozen=True)
class Catalog:
    """The world and its calls, by the instruction's name. others: accounts of other parties, by their type's name."""

    world: World
    cases: Mapping[str, Case]
    others: Mapping[str, tuple[Pubkey, ...]]

    def answer(self, case: Case, instruction: Instruction | None = None) -> str | None:
        """How the call is refused, by name; None when it is accepted. Nothing of the world changes.

        instruction: in the place of the case's own.
        """
        world = self.world
        final = instruction or world.instruction(case.call)
        svm: LiteSVM = world.svm
        svm.expire_blockhash()  # the same call may have been sent before
        parts = [*(world.instruction(check) for check in case.checks), final, set_compute_unit_limit(400_000)]
        signers = list(dict.fromkeys(case.signers))
        message = Message.new_with_blockhash(parts, signers[0].pubkey(), svm.latest_blockhash())
        result = svm.simulate_transaction(Transaction(signers, message, svm.latest_blockhash()))
        if not isinstance(result, FailedTransactionMetadata):
            return None
        return world.name_of(result)


def make_catalog() -> Catalog:
    """Both renters, nodes and markets do the same, so that either's accounts could stand in the other's place."""
    world = new_world(first_emission=FIRST_EMISSION)
    deployment, addresses = world.build.deployment, world.build.addresses
    world.put_token(addresses.emission(), deployment.stake_mint, addresses.config(), 10**9)
    renter, other = (world.renter(name, payment=10**9, vault=10**8) for name in ("renter", "other renter"))
    node, theirs = (new_node(world, name, bond=2 * BOND) for name in ("mine", "theirs"))
    idle = new_node(world, "idle")
    for wallet in (renter, other):
        grant(world, wallet, expires_at_ms=world.chain_ms + 2_400 * HOUR)
    rival = key("rival authority")
    world.fund(rival.pubkey())
    world.fund(world.authority.pubkey())
    world.send(
        world.build.register_market(rival.pubkey(), rival.pubkey(), key("m1").pubkey(), key("m2").pubkey(), 0),
        signers=[rival],
    )
    holder, others_holder = delegator(world, "holder"), delegator(world, "other holder")
    for number, (wallet, at, owner) in enumerate(((renter, node, holder), (other, theirs, others_holder)), start=1):
        _lose(world, wallet, at, 100 + number)
        delegate(world, at, owner, 8_000_000)
        unbond(world, at, owner, 2_000_000)
    waiting = open_escrow(world, renter, market_escrow(world, renter, 1))
    others_escrow = open_escrow(world, other, market_escrow(world, other, 1))
    world.pass_ms(PARAMS.queue_limit + 1_000)
    epoch = _epochs(world, (renter, other), (node, theirs))
    ready, running, contested, ended = (
        open_escrow(world, renter, market_escrow(world, renter, nonce)) for nonce in (30, 31, 32, 33)
    )
    _until(world, epoch - 1, 15_000)
    for escrow in (running, contested, ended):
        assign(world, escrow, node)
    quit_attempt(world, ended, node)
    world.pass_ms(4_000)
    quit_attempt(world, contested, node)
    world.pass_ms(3_000)
    # the first to register makes the epoch's account: the one that is tried finds it
    early = world.build.register_weight(world.payer.pubkey(), theirs.address(world), epoch - 1)
    world.send(early, signers=[world.payer])
    pool = addresses.pool(node.address(world))
    world.write("Node", node.address(world), {"owed": 5})
    unclaimed = world.tokens(addresses.pool_fees(pool))
    world.put_token(addresses.pool_fees(pool), deployment.payment_mint, pool, unclaimed + 5)
    heir = key("heir")
    for who in (heir, node.key):
        world.svm.airdrop(who.pubkey(), 10**9)
    world.send(world.build.propose_admin(ADMIN.pubkey(), heir.pubkey()), signers=[ADMIN])
    parties = _Parties(world, renter, node, idle, holder, heir, epoch)
    escrows = _Escrows(waiting, ready, running, contested, ended)
    cases = {**_administration(parties), **_wallets(parties), **_stakes(parties), **_settlements(parties, escrows)}
    their_pool = addresses.pool(theirs.address(world))
    position = addresses.position(their_pool, others_holder.pubkey())
    return Catalog(
        world,
        cases,
        {
            "Market": (addresses.market(rival.pubkey()),),
            "Class": (addresses.hardware_class(GPU),),
            "Node": (theirs.address(world),),
            "Pool": (their_pool,),
            "Position": (position, addresses.position(pool, node.operator.pubkey())),
            "Ticket": (addresses.ticket(position, 0),),
            "Vault": (addresses.vault(other.pubkey()),),
            "Allowance": (addresses.allowance(other.pubkey(), world.market),),
            "Escrow": (world.build.escrow_address(others_escrow),),
            "Epoch": (addresses.epoch(epoch - 3), addresses.epoch(epoch - 2), addresses.epoch(epoch - 1)),
            "token": (
                addresses.pool_stake(their_pool),
                addresses.pool_fees(their_pool),
                world.vault_tokens(other.pubkey()),
                addresses.market_fees(addresses.market(rival.pubkey())),
                addresses.emission(),
                addresses.compensation(),
                world.payment_account(other.pubkey()),
                world.stake_account(other.pubkey()),
            ),
        },
    )


@dataclass(frozen=True)
class _Parties:
    world: World
    renter: Keypair
    node: Node
    idle: Node
    holder: Keypair
    heir: Keypair
    epoch: int


@dataclass(frozen=True)
class _Escrows:
    waiting: EscrowRef
    ready: EscrowRef
    running: EscrowRef
    contested: EscrowRef
    ended: EscrowRef


def _lose(world: World, wallet: Keypair, node: Node, nonce: int) -> None:
    """A loss that leaves a compensation to be claimed."""
    escrow = open_escrow(world, wallet, market_escrow(world, wallet, nonce))
    assign(world, escrow, node)
    world.pass_ms(5_000)
    settle(world, escrow, node, voucher(world, escrow, node, 1, 5_000))
    world.pass_ms(PARAMS.lost_after)
    release(world, escrow, node)
    end_contest(world, escrow, node)


def _until(world: World, epoch: int, offset: int) -> None:
    wait = world.config().epoch_start + epoch * EPOCH_MS + offset - world.chain_ms
    assert wait >= 0
    world.pass_ms(wait)


def _epochs(world: World, wallets: tuple[Keypair, ...], nodes: tuple[Node, ...]) -> int:
    """Three epochs of work: one whose distribution will be over, one to be distributed, one to be registered for.

    Returns the epoch after them, at whose begin all three are so.
    """
    payer = world.payer.pubkey()
    first = (world.chain_ms - world.config().epoch_start) // EPOCH_MS + 1
    for epoch in (first, first + 1, first + 2):
        if epoch == first:
            _until(world, epoch, 0)
        for wallet, node in zip(wallets, nodes, strict=True):
            escrow = open_escrow(world, wallet, market_escrow(world, wallet, 10 + epoch - first))
            assign(world, escrow, node)
            world.pass_ms(1_000)
            finish(world, escrow, node, 1, 1_000)
        if epoch == first + 2:
            break
        _until(world, epoch + 1, 0)
        for node in nodes:
            world.send(world.build.register_weight(payer, node.address(world), epoch), signers=[world.payer])
        _until(world, epoch + 1, EPOCH_MS // 2)
        for index in range(world.config().next_epoch, epoch + 1):
            world.send(world.build.close_epoch(payer, index, payer), signers=[world.payer])
    return first + 3


def _administration(p: _Parties) -> dict[str, Case]:
    world, build = p.world, p.world.build
    payer, authority = world.payer, world.authority
    founder = key("founder")
    market = build.register_market(
        payer.pubkey(), founder.pubkey(), key("matcher 2").pubkey(), key("meter 2").pubkey(), 1
    )
    return {
        "set_params": Case(build.set_params(ADMIN.pubkey(), replace(PARAMS, skew=1_000)), (ADMIN,)),
        "set_pause": Case(build.set_pause(ADMIN.pubkey(), 1), (ADMIN,)),
        "set_class": Case(build.set_class(payer.pubkey(), ADMIN.pubkey(), CPU, 1, enabled=True), (payer, ADMIN)),
        "propose_admin": Case(build.propose_admin(ADMIN.pubkey(), payer.pubkey()), (ADMIN,)),
        "accept_admin": Case(build.accept_admin(p.heir.pubkey()), (p.heir,)),
        "register_market": Case(market, (payer, founder)),
        "rotate_keys": Case(build.rotate_keys(authority.pubkey(), key("a").pubkey(), key("b").pubkey()), (authority,)),
        "set_fee": Case(build.set_fee(authority.pubkey(), 7), (authority,)),
        "withdraw_fees": Case(build.withdraw_fees(authority.pubkey()), (authority,)),
        "sweep_protocol_fees": Case(
            build.sweep_protocol_fees(payer.pubkey(), world.market, key("protocol token").pubkey()), (payer,)
        ),
        "suspend_node": Case(
            build.suspend_node(authority.pubkey(), p.node.address(world), suspended=True), (authority,)
        ),
    }


def _wallets(p: _Parties) -> dict[str, Case]:
    world, build, wallet = p.world, p.world.build, p.renter.pubkey()
    fresh = key("fresh wallet")
    caps = AllowanceTerms(
        escrow_cap=10**9, day_cap=10**9, total_cap=10**9, max_price=1, expires_at_ms=world.chain_ms + HOUR
    )
    return {
        "open_vault": Case(build.open_vault(world.payer.pubkey(), fresh.pubkey()), (world.payer, fresh)),
        "deposit": Case(build.deposit(wallet, wallet, 9), (p.renter,)),
        "withdraw": Case(build.withdraw(wallet, 9), (p.renter,)),
        "claim_compensation": Case(build.claim_compensation(wallet), (p.renter,)),
        "grant_allowance": Case(build.grant_allowance(wallet, wallet, world.market, caps), (p.renter,)),
        "revoke_allowance": Case(build.revoke_allowance(wallet, world.market), (p.renter,)),
    }


def _stakes(p: _Parties) -> dict[str, Case]:
    world, build = p.world, p.world.build
    operator, node_key, node = p.node.operator, p.node.key, p.node.address(world)
    pool = build.addresses.pool(node)
    newcomer, new_key = key("newcomer"), key("newcomer's node")
    world.fund(newcomer.pubkey(), stake=BOND)
    registration = build.register_node(newcomer.pubkey(), new_key.pubkey(), world.market, CPU, BOND, 0)
    mine, holder = operator.pubkey(), p.holder.pubkey()
    payout = world.node(node_key).payout
    owed = build.withdraw_owed(mine, node_key.pubkey(), world.payment_account(mine))
    cranker = world.payer.pubkey()
    return {
        "register_node": Case(registration, (newcomer, new_key)),
        "bond": Case(build.bond(mine, node_key.pubkey(), 3), (operator,)),
        "update_node": Case(build.update_node(mine, node_key.pubkey(), world.market, CPU, payout), (operator,)),
        "withdraw_owed": Case(owed, (operator,)),
        "unbond_bond": Case(build.unbond_bond(mine, node_key.pubkey(), CPU, 1_000, 0), (operator,)),
        "set_commission": Case(build.set_commission(mine, node_key.pubkey(), 100), (operator,)),
        "drain": Case(build.drain(mine, node_key.pubkey(), draining=True), (operator,)),
        "retire": Case(build.retire(p.idle.operator.pubkey(), p.idle.key.pubkey(), world.market), (p.idle.operator,)),
        "delegate": Case(build.delegate(holder, node, 1_000), (p.holder,)),
        "claim": Case(build.claim(holder, pool), (p.holder,)),
        "unbond": Case(build.unbond(holder, pool, 1_000, 1), (p.holder,)),
        "withdraw_ticket": Case(build.withdraw_ticket(holder, pool, 0), (p.holder,)),
        "register_weight": Case(build.register_weight(cranker, node, p.epoch - 1), (world.payer,)),
        "distribute": Case(build.distribute(cranker, node, p.epoch - 2, cranker), (world.payer,)),
        "close_epoch": Case(build.close_epoch(cranker, p.epoch - 3, cranker), (world.payer,)),
    }


def _settlements(p: _Parties, e: _Escrows) -> dict[str, Case]:
    world, build, matcher, meter = p.world, p.world.build, p.world.matcher, p.world.meter
    ref, payer = p.node.ref(world), world.payer.pubkey()
    signed = voucher(world, e.running, p.node, 1, 3_000)
    released = read(world, e.contested).contest.released_at
    later = voucher(world, e.contested, p.node, 1, 1_000, contested=True, at_ms=released)
    lie = voucher(world, e.running, p.node, 1, 10 * DEPOSIT)
    assignment = build.assign(e.ready, ref, matcher.pubkey(), claim(world, e.ready, p.node))
    payment = build.settle(e.running, ref, payer, signed)
    proof = build.prove_overclaim(e.running, ref, payer, lie)
    later_call = build.contest(e.contested, ref, payer, later)
    fresh = market_escrow(world, p.renter, 40)
    return {
        "open_escrow": Case(build.open_escrow(fresh, matcher.pubkey(), terms(40)), (matcher,)),
        "extend_escrow": Case(build.extend_escrow(e.running, matcher.pubkey(), 5, 5, ref), (matcher,)),
        "cancel_escrow": Case(build.cancel_escrow(e.ready, matcher.pubkey()), (matcher,)),
        "assign": Case(assignment.call, (matcher,), assignment.checks),
        "settle": Case(payment.call, (world.payer,), payment.checks),
        "release_node": Case(build.release_node(e.running, ref, meter.pubkey(), 18, None).call, (meter,)),
        "quit": Case(build.quit(e.running, ref, p.node.key.pubkey(), None).call, (p.node.key,)),
        "contest": Case(later_call.call, (world.payer,), later_call.checks),
        "close_contest": Case(build.close_contest(e.ended, ref, payer), (world.payer,)),
        "reap": Case(build.reap(e.waiting, None, payer), (world.payer,)),
        "prove_overclaim": Case(proof.call, (world.payer,), proof.checks),
    }
