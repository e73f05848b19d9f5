"""What a thief tries who has a market's matcher and meter keys, a node of his own, and everybody's addresses.

Each attack is a transaction that must be refused by name, whatever state the deployment is in. What the stolen keys
really allow is not here: the histories do it as ordinary steps, and the model bounds it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from solders.keypair import Keypair

from marketplace.chain.builders import EscrowTerms
from tests.program.flows import TERMS_HASH, Node, market_escrow
from tests.program.history_stage import RENTERS, THIEF, Stage, params_of
from tests.program.model import Model
from tests.program.model_rules import DELEGATE, EXTEND, OPEN, REGISTER
from tests.program.world import BOND, CPU, Part, key, unsigned, with_account


@dataclass(frozen=True)
class Attack:
    """A transaction and the refusal that must answer it."""

    parts: list[Part]
    signers: list[Keypair]
    refusal: str


def attacks(stage: Stage, model: Model) -> list[Attack]:
    """All that can be tried now."""
    families: tuple[Callable[[Stage, Model], Iterator[Attack]], ...] = (
        _on_money,
        _on_administration,
        _on_nodes,
        _on_stake,
        _on_escrows,
        _on_epochs,
    )
    return [attack for family in families for attack in family(stage, model)]


def _on_money(stage: Stage, model: Model) -> Iterator[Attack]:
    world, build, thief = stage.world, stage.world.build, stage.keys["thief"]
    mine = world.payment_account(thief.pubkey())
    for name in RENTERS:
        wallet = stage.keys[name].pubkey()
        call = with_account(build.withdraw(wallet, 1, destination=mine), wallet=thief.pubkey())
        yield Attack([call], [thief], "NotWallet")
        owed = build.claim_compensation(wallet)
        stolen = with_account(owed, wallet=thief.pubkey(), destination=world.stake_account(thief.pubkey()))
        yield Attack([stolen], [thief], "NotWallet")
        grant = build.revoke_allowance(wallet, stage.views["m2"].market)
        yield Attack([unsigned(world.instruction(grant), wallet)], [thief], "SignerMissing")
    for name, view in stage.views.items():
        fees = build.withdraw_fees(view.authority.pubkey(), destination=mine)
        yield Attack([with_account(fees, authority=thief.pubkey())], [thief], "NotMarketAuthority")
        matcher = stage.keys["m2 matcher"]
        keys = build.rotate_keys(view.authority.pubkey(), matcher.pubkey(), thief.pubkey())
        yield Attack([with_account(keys, authority=matcher.pubkey())], [matcher], "NotMarketAuthority")
        fee = build.set_fee(view.authority.pubkey(), 0)
        yield Attack([with_account(fee, authority=matcher.pubkey())], [matcher], "NotMarketAuthority")
        sweep = build.sweep_protocol_fees(thief.pubkey(), view.market, mine)
        yield Attack([sweep], [thief], "WrongTokenAccount")
        if model.markets[name].owed:
            own = build.withdraw_fees(view.authority.pubkey(), destination=build.addresses.market_fees(view.market))
            yield Attack([own], [view.authority], "DuplicateAccount")


def _on_administration(stage: Stage, model: Model) -> Iterator[Attack]:
    build, thief = stage.world.build, stage.keys["thief"]
    me = thief.pubkey()
    for call in (
        build.set_params(me, params_of(model.rules)),
        build.set_pause(me, 0),
        build.propose_admin(me, me),
        build.accept_admin(me),
    ):
        yield Attack([call], [thief], "NotAdmin")
    yield Attack([build.set_class(me, me, CPU, 0, enabled=True)], [thief], "NotAdmin")


def _on_nodes(stage: Stage, model: Model) -> Iterator[Attack]:
    world, build = stage.world, stage.world.build
    thief = stage.keys[f"op {THIEF}"]
    me = thief.pubkey()
    for name, node in stage.nodes.items():
        if name == THIEF or name not in model.nodes:
            continue
        market = stage.views[model.nodes[name].market]
        there = node.operator.pubkey()
        payout = world.payment_account(me)
        for call in (
            build.drain(there, node.key.pubkey(), draining=True),
            build.set_commission(there, node.key.pubkey(), 0),
            build.retire(there, node.key.pubkey(), market.market),
            build.update_node(there, node.key.pubkey(), market.market, CPU, payout),
            build.withdraw_owed(there, node.key.pubkey(), payout),
            build.unbond_bond(there, node.key.pubkey(), CPU, 1, model.nodes[name].pool.own.next_ticket),
        ):
            yield Attack([with_account(call, operator=me)], [thief], "NotOperator")
        suspend = build.suspend_node(market.authority.pubkey(), node.address(world), suspended=True)
        yield Attack([with_account(suspend, authority=me)], [thief], "NotMarketAuthority")
        if not model.paused & REGISTER and model.classes["cpu"].enabled and not model.frozen:
            again = build.register_node(there, node.key.pubkey(), market.market, CPU, 10 * BOND, 0)
            yield Attack([again], [node.operator, node.key], "AlreadyInitialized")


def _on_stake(stage: Stage, model: Model) -> Iterator[Attack]:
    world, build, thief = stage.world, stage.world.build, stage.keys["thief"]
    me, addresses = thief.pubkey(), stage.world.build.addresses
    mine = {
        "payment_destination": world.payment_account(me),
        "stake_destination": world.stake_account(me),
    }
    pools = {name: stage.pool(name) for name in model.nodes}
    for name, node in model.nodes.items():
        for owner, position in node.pool.positions.items():
            who = stage.keys[owner].pubkey()
            claim = build.claim(who, pools[name])
            yield Attack([with_account(claim, owner=me, **mine)], [thief], "NotPositionOwner")
            if owner != node.operator:
                unbond = build.unbond(who, pools[name], 1, position.next_ticket)
                yield Attack([with_account(unbond, owner=me)], [thief], "NotPositionOwner")
            for index, ticket in position.tickets.items():
                call = build.withdraw_ticket(who, pools[name], index)
                early = model.now < ticket.unlock_at
                stolen = with_account(call, owner=me, destination=mine["stake_destination"])
                yield Attack([stolen], [thief], "TicketLocked" if early else "NotPositionOwner")
        for other in pools.keys() - {name}:
            bond = build.claim(stage.keys[node.operator].pubkey(), pools[name])
            swapped = with_account(bond, pool_stake=addresses.pool_stake(pools[other]))
            yield Attack([swapped], [stage.keys[node.operator]], "WrongTokenAccount")
            delegate = build.delegate(me, stage.nodes[name].address(world), 1)
            if not model.paused & DELEGATE:
                yield Attack([with_account(delegate, pool=pools[other])], [thief], "WrongPool")


def _on_escrows(stage: Stage, model: Model) -> Iterator[Attack]:
    build, matcher, meter = stage.world.build, stage.keys["m2 matcher"], stage.keys["m2 meter"]
    for name in RENTERS:
        w = model.wallets[name]
        if model.paused & OPEN or w.vault - w.locked < model.rules.minimum_deposit:
            continue
        ref = replace(market_escrow(stage.views["m1"], stage.keys[name], 10**6), rent_payer=matcher.pubkey())
        terms = EscrowTerms(ref.nonce, CPU, TERMS_HASH, 1, model.rules.minimum_deposit, 1, 1)
        yield Attack([build.open_escrow(ref, matcher.pubkey(), terms)], [matcher], "NotMatcher")
    for number, e in model.escrows.items():
        if e.state == "closed" or e.market == "m2":
            continue
        ref = stage.refs[number]
        yield Attack([build.cancel_escrow(ref, matcher.pubkey())], [matcher], "NotOpener")
        stranger = stage.keys[next(name for name in RENTERS if name != e.wallet)].pubkey()
        theirs = with_account(build.cancel_escrow(ref, matcher.pubkey()), vault=build.addresses.vault(stranger))
        yield Attack([theirs], [matcher], "WrongVault")
        if not model.paused & EXTEND:
            node = None if e.state != "assigned" else stage.nodes[e.attempt.node].ref(stage.world)
            yield Attack([build.extend_escrow(ref, matcher.pubkey(), 1, 0, node)], [matcher], "NotOpener")
        if e.state == "assigned":
            yield Attack([_release(stage, number, meter, e.attempt.node)], [meter], "NotReleaser")


def _release(stage: Stage, number: int, meter: Keypair, node: str) -> Part:
    held: Node = stage.nodes[node]
    approved = stage.world.build.release_node(stage.refs[number], held.ref(stage.world), meter.pubkey(), 18, None)
    assert not approved.checks
    return approved.call


def _on_epochs(stage: Stage, model: Model) -> Iterator[Attack]:
    world, build, thief = stage.world, stage.world.build, stage.keys["thief"]
    for name in model.nodes:
        node = stage.nodes[name].address(world)
        call = build.register_weight(thief.pubkey(), node, model.epoch + 1)
        yield Attack([call], [thief], "EpochWindowClosed")
        for other in model.nodes.keys() - {name}:
            swapped = with_account(call, pool=stage.pool(other))
            yield Attack([swapped], [thief], "WrongPool")
    fund = key("m2 authority")
    vault = with_account(
        build.close_epoch(thief.pubkey(), model.next_epoch, None), emission_vault=world.stake_account(thief.pubkey())
    )
    yield Attack([vault], [thief], "WrongTokenAccount")
    early = build.close_epoch(fund.pubkey(), model.epoch + 1, None)
    if model.next_epoch == model.epoch + 1:
        yield Attack([early], [fund], "EpochTooEarly")
