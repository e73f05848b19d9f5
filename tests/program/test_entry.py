"""The ways in: vaults, allowances, nodes, markets, classes. Named after the lines of program.md section 6."""

from dataclasses import replace

import pytest
from solders.keypair import Keypair

from marketplace.chain.builders import AllowanceTerms
from marketplace.chain.instructions import GrantAllowance
from tests.program.world import (
    ADMIN,
    BOND,
    CPU,
    EPOCH_MS,
    GPU,
    HOUR,
    PARAMS,
    Refused,
    bare_world,
    initialize,
    key,
    program_data,
    read_only,
    unsigned,
    with_account,
    with_args,
)

TERMS = AllowanceTerms(
    escrow_cap=100, day_cap=200, total_cap=300, max_price=1_000, expires_at_ms=1_770_000_000_000 + 24 * HOUR
)


def refusal(world, *parts, signers):
    with pytest.raises(Refused) as caught:
        world.send(*parts, signers=signers)
    return caught.value.name


def test_deposit_and_withdraw_move_exactly_what_they_say(world):
    renter = world.renter("r", payment=1_000_000, vault=400_000)
    assert world.tokens(world.vault_tokens(renter.pubkey())) == 400_000
    world.send(world.build.withdraw(renter.pubkey(), 150_000), signers=[renter], label="withdraw")
    assert world.tokens(world.vault_tokens(renter.pubkey())) == 250_000
    assert world.tokens(world.payment_account(renter.pubkey())) == 750_000
    assert world.vault(renter).locked == 0


def test_a_plain_transfer_to_the_vault_is_a_deposit(world):
    renter = world.renter("r", vault=1)
    account = world.vault_tokens(renter.pubkey())
    world.put_token(account, world.build.deployment.payment_mint, world.build.addresses.vault(renter.pubkey()), 500)
    world.send(world.build.withdraw(renter.pubkey(), 500), signers=[renter])
    assert world.tokens(account) == 0


@pytest.mark.parametrize("amount", [0, 1_000_001, 2**64 - 1])
def test_what_a_vault_does_not_hold_is_not_withdrawn(world, amount):
    renter = world.renter("r", vault=1_000_000)
    name = refusal(world, world.build.withdraw(renter.pubkey(), amount), signers=[renter])
    assert name == ("AmountZero" if amount == 0 else "InsufficientFunds")
    assert world.tokens(world.vault_tokens(renter.pubkey())) == 1_000_000


def test_line_2_a_stranger_neither_withdraws_nor_revokes_nor_claims(world):
    renter, stranger = world.renter("r", vault=1_000), world.renter("s")
    world.send(world.build.grant_allowance(renter.pubkey(), renter.pubkey(), world.market, TERMS), signers=[renter])
    withdraw = world.build.withdraw(renter.pubkey(), 1, destination=world.payment_account(stranger.pubkey()))
    for call in (
        withdraw,
        world.build.revoke_allowance(renter.pubkey(), world.market),
        world.build.claim_compensation(renter.pubkey()),
    ):
        stolen = with_account(call, wallet=stranger.pubkey())
        if call.accounts.wallet == renter.pubkey() and "destination" in call.accounts.__slots__:
            stolen = with_account(stolen, destination=world.payment_account(stranger.pubkey()))
        assert refusal(world, stolen, signers=[stranger]) in {"NotWallet", "WrongMint"}
        blank = unsigned(world.instruction(call), renter.pubkey())
        assert refusal(world, blank, signers=[stranger]) == "SignerMissing"


def test_line_2_what_changes_must_be_writable(world):
    renter = world.renter("r", vault=1_000)
    instruction = world.instruction(world.build.withdraw(renter.pubkey(), 1))
    for index, meta in enumerate(instruction.accounts):
        if meta.is_writable:
            assert refusal(world, read_only(instruction, index), signers=[renter]) == "AccountNotWritable"


def test_line_1_a_forged_vault_of_another_owner_is_refused(world):
    renter = world.renter("r", vault=1_000)
    forged = key("forged").pubkey()
    world.copy_account(world.build.addresses.vault(renter.pubkey()), forged, owner=key("other program").pubkey())
    call = with_account(world.build.withdraw(renter.pubkey(), 1), vault=forged)
    assert refusal(world, call, signers=[renter]) == "WrongAccountOwner"


def test_line_3_type_length_and_version_are_exact(world):
    renter = world.renter("r", vault=1_000)
    vault = world.build.addresses.vault(renter.pubkey())
    data = bytes(world.svm.get_account(vault).data)
    cases = {
        "WrongAccountSize": [data + b"\0", data[:-1]],
        "WrongAccountType": [b"\0" * 8 + data[8:], b""],
        "WrongAccountVersion": [data[:8] + b"\2" + data[9:]],
    }
    for name, forgeries in cases.items():
        for forgery in forgeries:
            forged = key(f"forged {name} {len(forgery)}").pubkey()
            world.copy_account(vault, forged, data=forgery)
            call = with_account(world.build.withdraw(renter.pubkey(), 1), vault=forged)
            assert refusal(world, call, signers=[renter]) == name
    # of the right owner and length, but another type
    call = with_account(world.build.withdraw(renter.pubkey(), 1), vault=world.build.addresses.config())
    assert refusal(world, call, signers=[renter]) == "WrongAccountType"


def test_line_4_only_the_canonical_address_is_created(world):
    renter, other = world.renter("r"), world.renter("o")
    call = world.build.open_vault(renter.pubkey(), renter.pubkey())
    wrong = with_account(call, vault=world.build.addresses.vault(other.pubkey()))
    assert refusal(world, wrong, signers=[renter]) == "WrongAddress"
    wrong = with_account(call, vault_tokens=world.vault_tokens(other.pubkey()))
    assert refusal(world, wrong, signers=[renter]) == "WrongAddress"


@pytest.mark.parametrize("lamports", [1, 890_880, 10**9])
def test_line_5_creation_survives_a_pre_funded_address(world, lamports):
    renter = world.renter("r")
    vault = world.build.addresses.vault(renter.pubkey())
    for address in (vault, world.build.addresses.vault_tokens(vault)):
        world.svm.airdrop(address, lamports)
    world.send(world.build.open_vault(renter.pubkey(), renter.pubkey()), signers=[renter], label="open_vault")
    assert world.vault(renter).wallet == renter.pubkey()
    assert world.svm.get_account(vault).lamports >= world.svm.minimum_balance_for_rent_exemption(
        len(world.svm.get_account(vault).data)
    )


def test_line_5_nothing_is_initialized_twice(world):
    renter = world.renter("r", vault=1_000)
    assert (
        refusal(world, world.build.open_vault(renter.pubkey(), renter.pubkey()), signers=[renter])
        == "AlreadyInitialized"
    )
    with pytest.raises(Refused, match="AlreadyInitialized"):
        initialize(world)
    market = world.build.register_market(
        world.payer.pubkey(), world.authority.pubkey(), key("a").pubkey(), key("b").pubkey(), 0
    )
    assert refusal(world, market, signers=[world.payer, world.authority]) == "AlreadyInitialized"
    operator, node_key = world.operator("n")
    again = world.build.register_node(operator.pubkey(), node_key.pubkey(), world.market, CPU, BOND, 0)
    assert refusal(world, again, signers=[operator, node_key]) == "AlreadyInitialized"


def test_line_5_a_stranger_does_not_initialize():
    world = bare_world()
    stranger = key("stranger")
    world.svm.airdrop(stranger.pubkey(), 10**10)
    call = world.build.initialize(
        stranger.pubkey(), stranger.pubkey(), key("protocol token").pubkey(), program_data(world), PARAMS, EPOCH_MS, 0
    )
    assert refusal(world, call, signers=[stranger]) == "NotInitialAuthority"


def test_line_1_mints_and_token_programs_are_pinned(world):
    renter = world.renter("r")
    other_mint = key("other mint").pubkey()
    world.put_mint(other_mint)
    call = with_account(world.build.open_vault(renter.pubkey(), renter.pubkey()), payment_mint=other_mint)
    assert refusal(world, call, signers=[renter]) == "WrongMint"
    call = with_account(world.build.open_vault(renter.pubkey(), renter.pubkey()), token_program=key("evil").pubkey())
    assert refusal(world, call, signers=[renter]) == "WrongProgram"
    call = with_account(world.build.open_vault(renter.pubkey(), renter.pubkey()), system_program=key("evil").pubkey())
    assert refusal(world, call, signers=[renter]) == "WrongProgram"


def test_token_2022_is_refused_with_its_own_error():
    world = bare_world()
    token_2022 = key("token 2022").pubkey()
    world.put_mint(world.build.deployment.payment_mint, owner=token_2022)
    with pytest.raises(Refused, match="TokenProgramUnsupported"):
        initialize(world)


def test_line_6_the_same_account_in_two_places_is_refused(world):
    renter = world.renter("r", vault=1_000)
    tokens = world.vault_tokens(renter.pubkey())
    call = world.build.withdraw(renter.pubkey(), 1, destination=tokens)
    assert refusal(world, call, signers=[renter]) == "DuplicateAccount"
    call = world.build.deposit(renter.pubkey(), renter.pubkey(), 1, source=tokens)
    assert refusal(world, call, signers=[renter]) == "DuplicateAccount"


def test_line_1_another_vault_s_tokens_are_out_of_reach(world):
    rich, thief = world.renter("rich", vault=5_000), world.renter("thief", vault=1)
    call = with_account(world.build.withdraw(thief.pubkey(), 1_000), vault_tokens=world.vault_tokens(rich.pubkey()))
    assert refusal(world, call, signers=[thief]) == "WrongTokenAccount"
    assert world.tokens(world.vault_tokens(rich.pubkey())) == 5_000


def test_line_15_parameters_have_bounds():
    for change in (
        {"protocol_bps": 9_000, "max_market_bps": 2_000},
        {"node_share_bps": 10_001},
        {"exposure_rate": 0},
        {"exposure_multiple": 0},
        {"contest": 0},
        {"lost_after": 999},
        {"skew": 6_001},
        {"unbonding": 2 * EPOCH_MS - 1},
        {"minimum_deposit": 0},
    ):
        with pytest.raises(Refused, match="ParameterOutOfBounds"):
            initialize(bare_world(), params=replace(PARAMS, **change))


def test_equal_mints_are_refused():
    world = bare_world()
    call = world.build.initialize(
        world.payer.pubkey(), ADMIN.pubkey(), key("protocol token").pubkey(), program_data(world), PARAMS, EPOCH_MS, 0
    )
    call = with_account(call, stake_mint=world.build.deployment.payment_mint)
    assert refusal(world, call, signers=[world.payer, ADMIN]) == "MintsEqual"


def test_only_the_admin_sets_classes_and_no_class_has_the_id_of_zeros(world):
    stranger = world.renter("s")
    call = world.build.set_class(stranger.pubkey(), stranger.pubkey(), CPU, 1, enabled=True)
    assert refusal(world, call, signers=[stranger]) == "NotAdmin"
    call = world.build.set_class(world.payer.pubkey(), ADMIN.pubkey(), bytes(16), 1, enabled=True)
    assert refusal(world, call, signers=[world.payer, ADMIN]) == "WrongArguments"


def test_a_market_has_two_keys_and_a_bounded_fee(world):
    authority = world.renter("second authority")

    def register(matcher: Keypair, meter: Keypair, fee: int) -> str:
        call = world.build.register_market(
            authority.pubkey(), authority.pubkey(), matcher.pubkey(), meter.pubkey(), fee
        )
        return refusal(world, call, signers=[authority])

    assert register(key("a"), key("a"), 0) == "KeysEqual"
    assert register(key("a"), key("b"), PARAMS.max_market_bps + 1) == "FeeTooHigh"


def test_an_allowance_is_granted_replaced_and_revoked(world):
    renter = world.renter("r")
    grant = world.build.grant_allowance(renter.pubkey(), renter.pubkey(), world.market, TERMS)
    world.send(grant, signers=[renter], label="grant_allowance")
    allowance = world.allowance(renter)
    assert (allowance.escrow_cap, allowance.day_cap, allowance.total_cap) == (100, 200, 300)
    world.send(with_args(grant, total_cap=500), signers=[renter])
    assert world.allowance(renter).total_cap == 500
    world.send(world.build.revoke_allowance(renter.pubkey(), world.market), signers=[renter], label="revoke_allowance")
    revoked = world.allowance(renter)
    assert (revoked.escrow_cap, revoked.day_cap, revoked.total_cap, revoked.max_price) == (0, 0, 0, 0)


@pytest.mark.parametrize("change", ["escrow_cap", "day_cap", "total_cap", "max_price", "expires_at"])
def test_an_allowance_of_nothing_or_of_the_past_is_refused(world, change):
    renter = world.renter("r")
    grant: GrantAllowance = world.build.grant_allowance(renter.pubkey(), renter.pubkey(), world.market, TERMS)
    value = world.chain_ms if change == "expires_at" else 0
    assert refusal(world, with_args(grant, **{change: value}), signers=[renter]) == "AllowanceTerms"


def test_an_allowance_can_t_be_granted_for_another_wallet(world):
    renter, thief = world.renter("r"), world.renter("t")
    grant = world.build.grant_allowance(thief.pubkey(), renter.pubkey(), world.market, TERMS)
    blank = unsigned(world.instruction(grant), renter.pubkey())
    assert refusal(world, blank, signers=[thief]) == "SignerMissing"
    own = with_account(grant, wallet=thief.pubkey())
    assert refusal(world, own, signers=[thief]) == "WrongAddress"


def test_registration_makes_the_bond_the_operator_s_own_shares(world):
    operator, node_key = world.operator("n", bond=2 * BOND, commission_bps=700)
    node, pool, position = world.node(node_key), world.pool(node_key), world.position(node_key, operator)
    assert (node.operator, node.market, node.class_id) == (operator.pubkey(), world.market, CPU)
    assert (pool.active_stake, pool.commission_bps, pool.positions) == (2 * BOND, 700, 1)
    assert pool.active_shares == pool.bond_shares == position.shares == 2 * BOND
    assert position.is_operator
    assert world.tokens(pool.stake_vault) == 2 * BOND
    world.send(world.build.bond(operator.pubkey(), node_key.pubkey(), 7), signers=[operator], label="bond")
    pool = world.pool(node_key)
    assert (pool.active_stake, world.tokens(pool.stake_vault)) == (2 * BOND + 7, 2 * BOND + 7)
    assert world.position(node_key, operator).shares == pool.bond_shares


def test_line_21_a_stranger_does_not_register_another_s_node_key(world):
    stranger, node_key = world.renter("s"), key("node n")
    world.fund(stranger.pubkey(), stake=BOND)
    call = world.build.register_node(stranger.pubkey(), node_key.pubkey(), world.market, CPU, BOND, 0)
    blank = unsigned(world.instruction(call), node_key.pubkey())
    assert refusal(world, blank, signers=[stranger]) == "SignerMissing"


def test_a_node_needs_its_class_bond_and_an_enabled_class(world):
    operator, node_key = key("operator n"), key("node n")
    world.fund(operator.pubkey(), stake=100 * BOND)

    def register(identifier: bytes, bond: int, commission: int = 0) -> str:
        call = world.build.register_node(
            operator.pubkey(), node_key.pubkey(), world.market, identifier, bond, commission
        )
        return refusal(world, call, signers=[operator, node_key])

    assert register(CPU, BOND - 1) == "BondBelowClass"
    assert register(CPU, BOND, 10_001) == "ParameterOutOfBounds"
    world.send(
        world.build.set_class(world.payer.pubkey(), ADMIN.pubkey(), GPU, 1, enabled=False),
        signers=[world.payer, ADMIN],
    )
    assert register(GPU, BOND) == "ClassDisabled"


def test_line_14_a_payout_account_must_be_the_operator_s_own(world):
    operator, node_key, stranger = key("operator n"), key("node n"), key("stranger")
    world.fund(operator.pubkey(), stake=BOND)
    payment, stake = world.build.deployment.payment_mint, world.build.deployment.stake_mint
    call = world.build.register_node(operator.pubkey(), node_key.pubkey(), world.market, CPU, BOND, 0)
    cases = {
        "WrongTokenOwner": world.put_token(key("1").pubkey(), payment, stranger.pubkey()),
        "WrongMint": world.put_token(key("2").pubkey(), stake, operator.pubkey()),
        "TokenAccountInvalid": world.put_token(key("3").pubkey(), payment, operator.pubkey(), state=2),
    }
    for name, payout in cases.items():
        assert refusal(world, with_account(call, payout=payout), signers=[operator, node_key]) == name
    missing = with_account(call, payout=key("nothing").pubkey())
    assert refusal(world, missing, signers=[operator, node_key]) == "TokenAccountInvalid"


def test_an_idle_node_moves_to_another_class_only_with_its_bond(world):
    operator, node_key = world.operator("n")
    payout = world.payment_account(operator.pubkey())
    move = world.build.update_node(operator.pubkey(), node_key.pubkey(), world.market, GPU, payout)
    assert refusal(world, move, signers=[operator]) == "BondBelowClass"
    world.fund(operator.pubkey(), stake=39 * BOND)
    world.send(world.build.bond(operator.pubkey(), node_key.pubkey(), 39 * BOND), signers=[operator])
    world.send(move, signers=[operator], label="update_node")
    assert world.node(node_key).class_id == GPU


def test_line_2_only_the_operator_changes_his_node(world):
    _, node_key = world.operator("n")
    stranger = world.renter("s")
    world.fund(stranger.pubkey(), stake=BOND)
    payout = world.payment_account(stranger.pubkey())
    for call in (
        world.build.update_node(stranger.pubkey(), node_key.pubkey(), world.market, CPU, payout),
        world.build.bond(stranger.pubkey(), node_key.pubkey(), 1),
        world.build.withdraw_owed(stranger.pubkey(), node_key.pubkey(), payout),
    ):
        assert refusal(world, call, signers=[stranger]) == "NotOperator"


def test_nothing_is_paid_where_nothing_is_owed(world):
    operator, node_key = world.operator("n")
    renter = world.renter("r", vault=1)
    owed = world.build.withdraw_owed(operator.pubkey(), node_key.pubkey(), world.payment_account(operator.pubkey()))
    assert refusal(world, owed, signers=[operator]) == "NothingOwed"
    assert refusal(world, world.build.claim_compensation(renter.pubkey()), signers=[renter]) == "NothingOwed"
