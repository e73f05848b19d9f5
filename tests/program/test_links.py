"""Accounts of others in the places of one's own: lines 1, 2, 6 and 18 of program.md section 6, place by place."""

import pytest

from marketplace.chain.builders import AllowanceTerms, EscrowRef
from marketplace.chain.events import SettledEvent
from tests.program.flows import (
    DEPOSIT,
    Node,
    assign,
    cancel,
    claim,
    close_contest,
    finish,
    grant,
    market_escrow,
    new_node,
    open_escrow,
    own_escrow,
    reap,
    release,
    send,
    terms,
    voucher,
)
from tests.program.world import ADMIN, BOND, CPU, GPU, HOUR, PARAMS, key, refused, unsigned, with_account, with_args


@pytest.fixture
def renter(world):
    return world.renter("renter", vault=10 * DEPOSIT)


@pytest.fixture
def other_renter(world):
    return world.renter("other renter", vault=10 * DEPOSIT)


@pytest.fixture
def node(world):
    return new_node(world)


@pytest.fixture
def other_node(world):
    return new_node(world, "other")


@pytest.fixture
def other_market(world):
    """A second market with the same matcher and meter, so that only the link tells them apart."""
    authority = world.renter("second authority")
    call = world.build.register_market(
        authority.pubkey(), authority.pubkey(), world.matcher.pubkey(), world.meter.pubkey(), 400
    )
    world.send(call, signers=[authority])
    return call.accounts.market


@pytest.fixture
def running(world, renter, node):
    escrow = open_escrow(world, renter, own_escrow(world, renter))
    assign(world, escrow, node)
    return escrow


def paying_calls(world, escrow, node):
    """(call, its signature checks, who signs) of each instruction that pays a running attempt."""
    world.svm.airdrop(node.key.pubkey(), 10**9)
    world.pass_ms(2_000)
    signed = voucher(world, escrow, node, 1, 1_000)
    world.pass_ms(PARAMS.lost_after)
    ref, build = node.ref(world), world.build
    return [
        (build.settle(escrow, ref, world.meter.pubkey(), signed), world.meter),
        (build.release_node(escrow, ref, world.meter.pubkey(), 18, signed), world.meter),
        (build.quit(escrow, ref, node.key.pubkey(), signed), node.key),
    ]


def test_line_1_what_pays_takes_only_the_accounts_of_its_escrow(
    world, renter, other_renter, node, other_node, other_market, running
):
    addresses = world.build.addresses
    pool = addresses.pool(other_node.address(world))
    cases = [
        ("WrongMarket", {"market": other_market, "market_fees": addresses.market_fees(other_market)}),
        ("WrongVault", {
            "vault": addresses.vault(other_renter.pubkey()), "vault_tokens": world.vault_tokens(other_renter.pubkey())
        }),
        ("WrongPool", {"pool": pool, "pool_fees": addresses.pool_fees(pool)}),
        ("WrongNode", {
            "node": other_node.address(world), "pool": pool, "pool_fees": addresses.pool_fees(pool),
            "payout": world.payment_account(other_node.operator.pubkey()),
        }),
        ("WrongTokenAccount", {"vault_tokens": world.vault_tokens(other_renter.pubkey())}),
        ("WrongTokenAccount", {"market_fees": addresses.market_fees(other_market)}),
        ("WrongTokenAccount", {"pool_fees": addresses.pool_fees(pool)}),
        ("WrongTokenAccount", {"payout": world.payment_account(other_node.operator.pubkey())}),
    ]  # fmt: skip
    for approved, signer in paying_calls(world, running, node):
        for name, changes in cases:
            with refused(name):
                world.send(*approved.checks, with_account(approved.call, **changes), signers=[signer])


def test_line_1_a_contest_takes_only_the_accounts_of_its_escrow(world, renter, node, other_node, running):
    world.pass_ms(2_000)
    first = voucher(world, running, node, 1, 1_000)
    world.pass_ms(PARAMS.lost_after)
    late = voucher(world, running, node, 2, 1_500)
    release(world, running, node, first)
    approved = world.build.contest(running, node.ref(world), world.payer.pubkey(), late)
    pool = world.build.addresses.pool(other_node.address(world))
    changes = {
        "node": other_node.address(world),
        "pool": pool,
        "pool_fees": world.build.addresses.pool_fees(pool),
        "payout": world.payment_account(other_node.operator.pubkey()),
    }
    with refused("WrongNode"):
        world.send(*approved.checks, with_account(approved.call, **changes), signers=[world.payer])


def test_line_1_closing_a_contest_takes_only_its_own_accounts(
    world, renter, other_renter, node, other_node, other_market, running
):
    world.pass_ms(PARAMS.lost_after)
    release(world, running, node)
    world.pass_ms(PARAMS.contest + 1_000)
    addresses = world.build.addresses
    call = world.build.close_contest(running, node.ref(world), world.payer.pubkey())
    pool = addresses.pool(other_node.address(world))
    position = call.accounts.position
    stranger = key("not the operator's position").pubkey()
    world.copy_account(position, stranger)
    world.write("Position", stranger, {"is_operator": 0})
    grant(world, renter)
    cases = [
        ("WrongNode", {"node": other_node.address(world)}),
        ("WrongVault", {"vault": addresses.vault(other_renter.pubkey())}),
        ("WrongPool", {"pool": pool, "pool_stake": addresses.pool_stake(pool)}),
        ("WrongPosition", {"position": addresses.position(pool, other_node.operator.pubkey())}),
        ("WrongPosition", {"position": stranger}),
        ("WrongTokenAccount", {"pool_stake": addresses.pool_stake(pool)}),
        ("WrongTokenAccount", {"compensation_vault": world.stake_account(node.operator.pubkey())}),
        ("WrongRentPayer", {"rent_payer": world.payer.pubkey()}),
        ("AllowanceUnexpected", {"allowance": addresses.allowance(renter.pubkey(), world.market)}),
    ]
    for name, changes in cases:
        with refused(name):
            world.send(with_account(call, **changes), signers=[world.payer])
    close_contest(world, running, node)


def test_line_1_reap_and_cancel_take_only_their_own_accounts(
    world, renter, other_renter, node, other_node, other_market, running
):
    world.pass_ms(PARAMS.ready_limit + DEPOSIT + PARAMS.reap_grace + 1_000)
    addresses = world.build.addresses
    grant(world, renter)
    unexpected = {"allowance": addresses.allowance(renter.pubkey(), world.market)}
    vault = {"vault": addresses.vault(other_renter.pubkey())}
    payer = {"rent_payer": world.payer.pubkey()}
    call = world.build.reap(running, node.ref(world), world.payer.pubkey())
    for name, changes in (
        ("WrongVault", vault),
        ("WrongRentPayer", payer),
        ("WrongNode", {"node": other_node.address(world)}),
        ("WrongNode", {"node": None}),
        ("AllowanceUnexpected", unexpected),
    ):
        with refused(name):
            world.send(with_account(call, **changes), signers=[world.payer])
    call = world.build.cancel_escrow(running, renter.pubkey())
    for name, changes in (
        ("WrongVault", vault),
        ("WrongRentPayer", payer),
        ("WrongMarket", {"market": other_market}),
        ("AllowanceUnexpected", unexpected),
    ):
        with refused(name):
            world.send(with_account(call, **changes), signers=[renter])
    reap(world, running, node)


def test_line_18_another_allowance_takes_back_nothing(world, renter, other_renter, other_market, node):
    """What unlocks returns to the caps of the allowance that was used, and of no other."""
    for wallet in (renter, other_renter):
        grant(world, wallet)
    terms_there = AllowanceTerms(10**9, 10**9, 10**9, 10**9, world.chain_ms + HOUR)
    world.send(
        world.build.grant_allowance(renter.pubkey(), renter.pubkey(), other_market, terms_there), signers=[renter]
    )
    escrow = open_escrow(world, renter, market_escrow(world, renter))
    call = world.build.cancel_escrow(escrow, renter.pubkey())
    addresses = world.build.addresses
    for wallet, market in ((other_renter, world.market), (renter, other_market)):
        with refused("WrongAllowance"):
            world.send(with_account(call, allowance=addresses.allowance(wallet.pubkey(), market)), signers=[renter])
    with refused("WrongAllowance"):
        opening = world.build.open_escrow(market_escrow(world, renter, 2), world.matcher.pubkey(), terms(2))
        world.send(
            with_account(opening, allowance=addresses.allowance(other_renter.pubkey(), world.market)),
            signers=[world.matcher],
        )
    approved = world.build.assign(escrow, node.ref(world), world.matcher.pubkey(), claim(world, escrow, node))
    for changes, name in (
        ({"allowance": addresses.allowance(other_renter.pubkey(), world.market)}, "WrongAllowance"),
        ({"allowance": None}, "AllowanceMissing"),
    ):
        with refused(name):
            world.send(*approved.checks, with_account(approved.call, **changes), signers=[world.matcher])
    assign(world, escrow, node)
    for approved, signer in paying_calls(world, escrow, node):
        with refused("AllowanceMissing"):
            world.send(*approved.checks, with_account(approved.call, allowance=None), signers=[signer])
    world.pass_ms(PARAMS.ready_limit + DEPOSIT + PARAMS.reap_grace + 1_000)
    with refused("AllowanceMissing"):
        world.send(
            with_account(world.build.reap(escrow, node.ref(world), world.payer.pubkey()), allowance=None),
            signers=[world.payer],
        )
    reap(world, escrow, node)
    world.pass_ms(PARAMS.contest + 1_000)
    with refused("AllowanceMissing"):
        world.send(
            with_account(world.build.close_contest(escrow, node.ref(world), world.payer.pubkey()), allowance=None),
            signers=[world.payer],
        )
    # after so long a silence everything is reserved
    assert world.allowance(renter).total_used == DEPOSIT
    close_contest(world, escrow, node)
    # the reserve, too, returns to the caps
    assert (world.allowance(renter).total_used, world.allowance(renter).day_used) == (0, 0)


def test_line_21_assign_takes_only_accounts_that_belong_together(world, renter, node, other_node, other_market):
    escrow = open_escrow(world, renter, own_escrow(world, renter))
    approved = world.build.assign(escrow, node.ref(world), world.matcher.pubkey(), claim(world, escrow, node))
    addresses = world.build.addresses
    for name, changes in (
        ("WrongMarket", {"market": other_market}),
        ("WrongPool", {"pool": addresses.pool(other_node.address(world))}),
        ("WrongClass", {"class_account": addresses.hardware_class(GPU)}),
        ("ApprovalWrongMessage", {
            "node": other_node.address(world), "pool": addresses.pool(other_node.address(world)),
        }),
    ):  # fmt: skip
        with refused(name):
            world.send(*approved.checks, with_account(approved.call, **changes), signers=[world.matcher])


def test_line_21_a_node_of_another_market_takes_no_work_here(world, renter, other_market):
    operator, node_key = key("operator e"), key("node e")
    world.fund(operator.pubkey(), stake=BOND)
    world.send(
        world.build.register_node(operator.pubkey(), node_key.pubkey(), other_market, CPU, BOND, 0),
        signers=[operator, node_key],
    )
    there = Node(operator, node_key)
    escrow = open_escrow(world, renter, own_escrow(world, renter))
    with refused("NodeElsewhere"):
        assign(world, escrow, there)
    elsewhere = EscrowRef(renter.pubkey(), renter.pubkey(), 2, other_market, renter.pubkey())
    open_escrow(world, renter, elsewhere)
    assign(world, elsewhere, there)


@pytest.mark.parametrize("status", [1, 2, 3])
def test_a_node_that_is_not_active_gets_no_work_and_is_paid_for_what_it_has(world, renter, node, running, status):
    second = open_escrow(world, renter, own_escrow(world, renter, 2))
    world.write("Node", node.address(world), {"status": status})
    with refused("NodeNotActive"):
        assign(world, second, node)
    world.pass_ms(1_000)
    assert any(isinstance(event, SettledEvent) for event in finish(world, running, node, 1, 1_000))


def test_a_dead_pool_gets_neither_work_nor_bond(world, renter, node):
    escrow = open_escrow(world, renter, own_escrow(world, renter))
    pool = world.build.addresses.pool(node.address(world))
    # as over-claims would leave it: a unit for more than a million shares
    world.write("Pool", pool, {"active_stake": BOND // 1_000_000 - 1})
    with refused("PoolDead"):
        assign(world, escrow, node)
    bond = world.build.bond(node.operator.pubkey(), node.key.pubkey(), BOND)
    with refused("PoolDead"):
        world.send(bond, signers=[node.operator])


def test_line_25_what_is_held_of_a_bond_is_no_bond(world, renter):
    node = new_node(world, bond=BOND + 1_000)
    escrow = open_escrow(world, renter, own_escrow(world, renter))
    world.write("Node", node.address(world), {"held": 1_001})
    with refused("BondTooSmall"):
        assign(world, escrow, node)
    operator = node.operator
    world.fund(operator.pubkey(), stake=40 * BOND)
    world.send(world.build.bond(operator.pubkey(), node.key.pubkey(), 39 * BOND), signers=[operator])
    move = world.build.update_node(
        operator.pubkey(), node.key.pubkey(), world.market, GPU, world.payment_account(operator.pubkey())
    )
    with refused("BondBelowClass"):
        world.send(move, signers=[operator])
    world.write("Node", node.address(world), {"held": 1_000})
    assign(world, escrow, node)
    world.pass_ms(1_000)
    finish(world, escrow, node, 1, 0)
    world.send(move, signers=[operator])


def test_line_25_a_bond_taken_up_to_the_epoch_s_cap_gets_no_work_in_it(world, renter):
    node = new_node(world, bond=2 * BOND)
    escrow = open_escrow(world, renter, own_escrow(world, renter))
    epoch = (world.chain_ms - world.config().epoch_start) // world.config().epoch_length
    slot = f"epochs.{epoch % 3}"
    # the cap is half of what there was: as much gone as left
    world.write("Node", node.address(world), {f"{slot}.epoch": epoch, f"{slot}.compensated": 2 * BOND})
    with refused("SlashCapReached"):
        assign(world, escrow, node)
    world.write("Node", node.address(world), {f"{slot}.compensated": 2 * BOND - 2})
    assign(world, escrow, node)


def test_line_1_a_node_s_accounts_are_its_own(world, node, other_node):
    addresses, build = world.build.addresses, world.build
    operator, node_key = node.operator, node.key
    pool = addresses.pool(other_node.address(world))
    payment = world.build.deployment.payment_mint
    payout = world.payment_account(operator.pubkey())
    update = build.update_node(operator.pubkey(), node_key.pubkey(), world.market, CPU, payout)
    frozen = world.put_token(key("frozen").pubkey(), payment, operator.pubkey(), state=2)
    blank = world.put_token(key("blank").pubkey(), payment, operator.pubkey(), state=0)
    world.write("Node", node.address(world), {"owed": 5})
    owed = build.withdraw_owed(operator.pubkey(), node_key.pubkey(), payout)
    bond = build.bond(operator.pubkey(), node_key.pubkey(), 1)
    own = addresses.pool(node.address(world))
    stranger = key("not the operator's position").pubkey()
    world.copy_account(bond.accounts.position, stranger)
    world.write("Position", stranger, {"is_operator": 0})
    not_his = key("another's position").pubkey()
    world.copy_account(bond.accounts.position, not_his)
    world.write("Position", not_his, {"owner": bytes(other_node.operator.pubkey())})
    elsewhere = key("his position in another pool").pubkey()
    world.copy_account(bond.accounts.position, elsewhere)
    world.write("Position", elsewhere, {"pool": bytes(pool)})
    for call, name, changes in (
        (update, "WrongPool", {"pool": pool}),
        (update, "WrongTokenOwner", {"payout": world.payment_account(other_node.operator.pubkey())}),
        (update, "WrongMint", {"payout": world.stake_account(operator.pubkey())}),
        (update, "TokenAccountInvalid", {"payout": frozen}),
        (update, "TokenAccountInvalid", {"payout": blank}),
        (owed, "WrongPool", {"pool": pool, "pool_fees": addresses.pool_fees(pool)}),
        (owed, "WrongTokenAccount", {"pool_fees": addresses.pool_fees(pool)}),
        (owed, "DuplicateAccount", {"destination": addresses.pool_fees(own)}),
        (bond, "WrongPool", {"pool": pool, "pool_stake": addresses.pool_stake(pool)}),
        (bond, "WrongTokenAccount", {"pool_stake": addresses.pool_stake(pool)}),
        (bond, "WrongPosition", {"position": addresses.position(pool, other_node.operator.pubkey())}),
        (bond, "WrongPosition", {"position": stranger}),
        (bond, "WrongPosition", {"position": not_his}),
        (bond, "WrongPosition", {"position": elsewhere}),
        (bond, "DuplicateAccount", {"stake_source": addresses.pool_stake(own)}),
    ):
        with refused(name):
            world.send(with_account(call, **changes), signers=[operator])
    with refused("AmountZero"):
        world.send(with_args(bond, amount=0), signers=[operator])
    world.write("Node", node.address(world), {"status": 3})
    for call in (update, bond):
        with refused("NodeRetired"):
            world.send(call, signers=[operator])


def test_an_owed_amount_never_comes_out_of_what_stakers_earned(world, renter, node, running):
    world.pass_ms(50_000)
    finish(world, running, node, 1, 50_000)
    assert world.pool(node.key).fees_unclaimed == 1_000
    world.write("Node", node.address(world), {"owed": 1})
    owed = world.build.withdraw_owed(
        node.operator.pubkey(), node.key.pubkey(), world.payment_account(node.operator.pubkey())
    )
    with refused("ConservationBroken"):
        world.send(owed, signers=[node.operator])


def test_line_24_another_market_lifts_a_suspension_and_a_disabled_class_takes_nobody(world, node, other_market):
    operator = node.operator
    world.write("Node", node.address(world), {"status": 2})
    payout = world.payment_account(operator.pubkey())

    def move(market, identifier):
        call = world.build.update_node(operator.pubkey(), node.key.pubkey(), market, identifier, payout)
        world.send(call, signers=[operator])

    move(world.market, CPU)
    assert world.node(node.key).status == 2
    move(other_market, CPU)
    assert (world.node(node.key).status, world.node(node.key).market) == (0, other_market)
    world.send(
        world.build.set_class(world.payer.pubkey(), ADMIN.pubkey(), GPU, 1, enabled=False),
        signers=[world.payer, ADMIN],
    )
    with refused("ClassDisabled"):
        move(other_market, GPU)


def test_a_class_is_changed_at_its_own_address_only(world):
    call = world.build.set_class(world.payer.pubkey(), ADMIN.pubkey(), CPU, 1, enabled=True)
    with refused("WrongClass"):
        world.send(
            with_account(call, class_account=world.build.addresses.hardware_class(GPU)), signers=[world.payer, ADMIN]
        )
    instruction = world.instruction(call)
    odd = type(instruction)(instruction.program_id, bytes(instruction.data)[:-1] + b"\2", list(instruction.accounts))
    with refused("WrongArguments"):
        world.send(odd, signers=[world.payer, ADMIN])


def test_line_1_compensations_are_paid_from_their_own_vault(world, renter, node):
    world.write("Vault", world.build.addresses.vault(renter.pubkey()), {"compensation_owed": 5})
    call = world.build.claim_compensation(renter.pubkey())
    emission = world.build.addresses.emission()
    for name, changes in (
        ("WrongTokenAccount", {"compensation_vault": emission}),
        ("DuplicateAccount", {"destination": call.accounts.compensation_vault}),
        ("WrongMint", {"destination": world.payment_account(renter.pubkey())}),
    ):
        with refused(name):
            world.send(with_account(call, **changes), signers=[renter])


def test_line_1_an_escrow_is_opened_on_its_own_vault_s_tokens(world, renter, other_renter):
    call = world.build.open_escrow(own_escrow(world, renter), renter.pubkey(), terms(1))
    with refused("WrongTokenAccount"):
        world.send(with_account(call, vault_tokens=world.vault_tokens(other_renter.pubkey())), signers=[renter])
    with refused("NotWallet"):
        world.send(
            with_account(
                call,
                vault=world.build.addresses.vault(other_renter.pubkey()),
                vault_tokens=world.vault_tokens(other_renter.pubkey()),
            ),
            signers=[renter],
        )


def test_line_18_what_was_used_stays_used_when_an_allowance_is_replaced(world, renter):
    grant(world, renter, total_cap=3 * DEPOSIT)
    escrow = open_escrow(world, renter, market_escrow(world, renter))
    world.send(world.build.revoke_allowance(renter.pubkey(), world.market), signers=[renter])
    grant(world, renter, day_cap=2 * DEPOSIT, total_cap=2 * DEPOSIT)
    allowance = world.allowance(renter)
    assert (allowance.total_used, allowance.day_used) == (DEPOSIT, DEPOSIT)
    open_escrow(world, renter, market_escrow(world, renter, 2))
    with refused("DayCapExceeded"):
        open_escrow(world, renter, market_escrow(world, renter, 3), deposit=1_000)
    # replaced while an escrow is open: closing it gives back what it took
    grant(world, renter, escrow_cap=1_000, day_cap=1_000, total_cap=1_000)
    cancel(world, escrow, renter)
    assert world.allowance(renter).total_used == DEPOSIT
    # nor does a grant reach another wallet's allowance
    thief = world.renter("thief")
    grant(world, thief)
    terms_of_thief = AllowanceTerms(1, 1, 1, 1, world.chain_ms + HOUR)
    theirs = world.build.grant_allowance(thief.pubkey(), thief.pubkey(), world.market, terms_of_thief)
    with refused("WrongAllowance"):
        world.send(
            with_account(theirs, allowance=world.build.addresses.allowance(renter.pubkey(), world.market)),
            signers=[thief],
        )
    # a nonce of the allowance stays used through all of it
    grant(world, renter)
    with refused("NonceUsed"):
        open_escrow(world, renter, escrow, deposit=1_000)


def test_a_call_s_parts_go_only_with_its_own_signatures(world, renter, node, running):
    approved, signer = paying_calls(world, running, node)[0]
    with refused("SignerMissing"):
        world.send(
            *approved.checks,
            unsigned_submitter(world, approved.call),
            signers=[world.payer],
        )
    send(world, approved, signer)


def unsigned_submitter(world, call):
    return unsigned(world.instruction(call), call.accounts.submitter)
