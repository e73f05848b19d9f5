"""Lines 1, 3 and 6 of program.md section 6 for every account of every instruction: one thing is changed of a call that
is accepted, and it is refused for that.
"""

import itertools
import json
import re
from dataclasses import fields, replace

import pytest
from solders.account import Account
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey

from marketplace.chain.accounts import Pause
from marketplace.chain.addresses import TOKEN_PROGRAM
from tests.program.catalog import Case, Catalog, make_catalog
from tests.program.flows import new_node
from tests.program.stake_flows import delegate, delegator, give_tokens
from tests.program.world import ADMIN, PROGRAM, ROOT, Refused, key

IDL = json.loads((ROOT / "programs_idl/reaver_market.json").read_text())
NAMES = [entry["name"] for entry in IDL["instructions"] if entry["name"] != "initialize"]
TYPES = {bytes(entry["discriminator"]): entry["name"] for entry in IDL["accounts"]}

FREELY_NAMED = {
    ("deposit", "source"),
    ("delegate", "stake_source"),
    ("bond", "stake_source"),
    ("register_node", "stake_source"),
    ("withdraw", "destination"),
    ("claim_compensation", "destination"),
    ("withdraw_owed", "destination"),
    ("withdraw_fees", "destination"),
    ("withdraw_ticket", "destination"),
    ("claim", "payment_destination"),
    ("claim", "stake_destination"),
}
"""Token accounts that the signer names: whoever's they are, they must only be able to give or take."""

CHOSEN = {("suspend_node", "node"), ("register_node", "market")}
"""Accounts of which the signer may choose any: a node of his own market, a market to join."""
UNREAD = {("claim", "stake_destination"), ("claim", "rent_payer"), ("distribute", "rent_payer")}
"""Places that these calls don't look at: no emission is paid, neither position nor epoch account is closed by them."""


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return make_catalog()


def accounts_of(case: Case) -> list[tuple[str, Pubkey]]:
    """Names and addresses, without the optional ones that are absent."""
    found = [(field.name, getattr(case.call.accounts, field.name)) for field in fields(case.call.accounts)]
    return [(name, address) for name, address in found if address is not None]


def type_of(catalog: Catalog, address: Pubkey) -> str | None:
    """The type of one of the program's accounts, "token" of a token account, None of anything else."""
    account = catalog.world.svm.get_account(address)
    if account is None or not bytes(account.data):
        return None
    if account.owner == PROGRAM:
        return TYPES[bytes(account.data)[:8]]
    return "token" if account.owner == TOKEN_PROGRAM and len(bytes(account.data)) == 165 else None


def with_meta(catalog: Catalog, case: Case, name: str, address: Pubkey) -> Instruction:
    """The call with another address in one place, with the flags that the place has."""
    instruction = catalog.world.instruction(case.call)
    place = [field.name for field in fields(case.call.accounts)].index(name)
    metas = list(instruction.accounts)
    metas[place] = AccountMeta(address, metas[place].is_signer, metas[place].is_writable)
    return Instruction(instruction.program_id, instruction.data, metas)


def answer_with(catalog: Catalog, case: Case, address: Pubkey, account: Account) -> str | None:
    """How the unchanged call is answered while this stands at the address."""
    svm = catalog.world.svm
    before = svm.get_account(address)
    svm.set_account(address, account)
    try:
        return catalog.answer(case)
    finally:
        svm.set_account(address, before)


def test_every_instruction_is_in_the_catalogue_and_accepted(catalog):
    assert set(catalog.cases) == set(NAMES)
    for name, case in catalog.cases.items():
        assert case.call.name == name
        assert catalog.answer(case) is None, name


@pytest.mark.parametrize("name", NAMES)
def test_line_1_each_of_the_program_s_accounts_must_be_the_program_s(catalog, name):
    case = catalog.cases[name]
    for place, address in accounts_of(case):
        kind = type_of(catalog, address)
        if kind is None or kind == "token":
            continue
        found = catalog.world.svm.get_account(address)
        forged = Account(found.lamports, bytes(found.data), key("other program").pubkey(), False, 0)
        assert answer_with(catalog, case, address, forged) == "WrongAccountOwner", (place, kind)


@pytest.mark.parametrize("name", NAMES)
def test_line_3_type_length_and_version_are_exact_everywhere(catalog, name):
    case = catalog.cases[name]
    for place, address in accounts_of(case):
        kind = type_of(catalog, address)
        if kind is None or kind == "token":
            continue
        found = catalog.world.svm.get_account(address)
        data = bytes(found.data)
        for forged, refusal in (
            (data + b"\0", "WrongAccountSize"),
            (data[:-1], "WrongAccountSize"),
            (bytes([data[0] ^ 1]) + data[1:], "WrongAccountType"),
            (data[:8] + b"\0" + data[9:], "WrongAccountVersion"),
            (data[:8] + b"\2" + data[9:], "WrongAccountVersion"),
        ):
            account = Account(found.lamports, forged, PROGRAM, False, 0)
            assert answer_with(catalog, case, address, account) == refusal, (place, kind)


@pytest.mark.parametrize("name", NAMES)
def test_line_3_an_account_of_another_type_stands_nowhere(catalog, name):
    case = catalog.cases[name]
    config = catalog.world.build.addresses.config()
    for place, address in accounts_of(case):
        kind = type_of(catalog, address)
        if kind is None or kind == "token":
            continue
        wrong = catalog.others["Market"][0] if kind == "Config" else config
        answer = catalog.answer(case, with_meta(catalog, case, place, wrong))
        # or the account isn't even the one that another names: then nothing of it is read
        assert answer is not None, (place, kind)
        assert answer.startswith("Wrong"), (place, kind, answer)


@pytest.mark.parametrize("name", NAMES)
def test_line_1_no_other_party_s_account_stands_in_a_place(catalog, name):
    """Each account, one at a time, replaced by a real one of its type that belongs to somebody else."""
    case = catalog.cases[name]
    for place, address in accounts_of(case):
        kind = type_of(catalog, address)
        if kind is None or (name, place) in FREELY_NAMED | CHOSEN:
            continue
        for other in catalog.others.get(kind, ()):
            if other == address:
                continue
            answer = catalog.answer(case, with_meta(catalog, case, place, other))
            assert answer is not None, (place, kind, str(other))
            assert not answer.startswith("Custom"), (place, answer)


@pytest.mark.parametrize("name", NAMES)
def test_line_6_no_account_that_changes_stands_in_two_places(catalog, name):
    """Of every two places whose accounts change, the first's account in the second's place too."""
    case = catalog.cases[name]
    instruction = catalog.world.instruction(case.call)
    places = [field.name for field in fields(case.call.accounts)]
    changing = [
        (place, meta.pubkey)
        for place, meta in zip(places, instruction.accounts, strict=True)
        if meta.is_writable and not meta.is_signer
    ]
    for place, address in changing:
        for _, other in changing:
            if other == address or (name, place) in UNREAD:
                continue
            assert catalog.answer(case, with_meta(catalog, case, place, other)) is not None, (place, str(other))


ANYBODY = {
    *((name, place) for name in NAMES for place in ("submitter", "payer")),
    ("deposit", "depositor"),
    ("register_market", "authority"),
    ("register_node", "operator"),
} - {("release_node", "submitter"), ("quit", "submitter")}
"""Signers that may be anybody: they pay, or make something of their own. A release's is a key of the market, a quit's
the node's."""


@pytest.mark.parametrize("name", NAMES)
def test_line_2_no_stranger_signs_in_another_s_place(catalog, name):
    """His signature is good, and the account it stands for records another key."""
    case = catalog.cases[name]
    stranger = key("a stranger who signs")
    instruction = catalog.world.instruction(case.call)
    places = [field.name for field in fields(case.call.accounts)]
    for place, meta in zip(places, instruction.accounts, strict=True):
        if not meta.is_signer or (name, place) in ANYBODY:
            continue
        forged = with_meta(catalog, case, place, stranger.pubkey())
        asked = {meta.pubkey for meta in forged.accounts if meta.is_signer}
        signers = tuple(pair for pair in (*case.signers, stranger) if pair.pubkey() in asked)
        changed = replace(case, signers=signers)
        assert catalog.answer(changed, forged) is not None, place


def test_line_1_our_vaults_have_their_program_owned_authority_and_no_other(catalog):
    """Neither a delegate nor a close authority, and the mint and authority that the program gave them."""
    world = catalog.world
    addresses, deployment = world.build.addresses, world.build.deployment
    config, market = addresses.config(), world.market
    pool, vault = catalog.cases["claim"].call.accounts.pool, catalog.cases["deposit"].call.accounts.vault
    for token, mint, authority in (
        (addresses.emission(), deployment.stake_mint, config),
        (addresses.compensation(), deployment.stake_mint, config),
        (addresses.market_fees(market), deployment.payment_mint, market),
        (addresses.pool_stake(pool), deployment.stake_mint, pool),
        (addresses.vault_tokens(vault), deployment.payment_mint, vault),
    ):
        account = world.svm.get_account(token)
        data = bytes(account.data)
        assert account.owner == TOKEN_PROGRAM
        assert (Pubkey.from_bytes(data[:32]), Pubkey.from_bytes(data[32:64])) == (mint, authority)
        assert data[72:76] == bytes(4)  # no delegate
        assert data[108] == 1  # neither frozen nor uninitialized
        assert data[129:133] == bytes(4)  # no close authority
        # and its authority is an account that only the program can sign for
        assert world.svm.get_account(authority).owner == PROGRAM
        assert not authority.is_on_curve()


def test_line_13_everything_that_is_made_is_exempt_from_rent(catalog):
    svm = catalog.world.svm
    made = {address for case in catalog.cases.values() for _, address in accounts_of(case)}
    kinds = set()
    for address in made:
        account = svm.get_account(address)
        kind = type_of(catalog, address)
        if kind is not None:
            kinds.add(kind)
            assert account.lamports >= svm.minimum_balance_for_rent_exemption(len(bytes(account.data))), kind
    assert kinds == {*TYPES.values(), "token"}


@pytest.mark.parametrize("name", ["register_weight", "distribute", "close_epoch"])
def test_line_17_a_crank_that_is_called_again_changes_nothing(name):
    world_of = make_catalog()
    world, case = world_of.world, world_of.cases[name]
    world.send(case.call, signers=case.signers)
    before = [(address, world.svm.get_account(address)) for _, address in accounts_of(case)]
    assert world_of.answer(case) in {"WeightRegisteredAlready", "AlreadyDistributed", "WrongEpoch"}
    with pytest.raises(Refused):
        world.send(case.call, signers=case.signers)
    for address, account in before:
        if address != world.payer.pubkey():
            assert world.svm.get_account(address) == account


def test_line_4_no_two_types_can_share_an_address(catalog):
    """Different lengths, or no prefix of each other: whatever keys stand behind the prefix."""
    del catalog
    source = (ROOT / "programs/reaver_market/src/seeds.rs").read_text()
    prefixes = dict(re.findall(r'pub const (\w+): &\[u8\] = b"(\w+)";', source))
    behind = {
        "CONFIG": 0,
        "COMPENSATION": 0,
        "EMISSION": 0,
        "CLASS": 16,
        "EPOCH": 8,
        "TICKET": 40,
        "POSITION": 64,
        "ALLOWANCE": 64,
        "ESCROW": 72,
    }
    lengths = {name: len(prefix) + behind.get(name, 32) for name, prefix in prefixes.items()}
    assert set(behind) < set(prefixes)
    assert len(prefixes) == 17
    for one, other in itertools.combinations(prefixes, 2):
        apart = lengths[one] != lengths[other] or not (
            prefixes[one].startswith(prefixes[other]) or prefixes[other].startswith(prefixes[one])
        )
        assert apart, (one, other)


def test_line_8_a_credit_is_what_has_arrived(world):
    """After minus before: what lay there already, by whomever it was sent, is credited to nobody."""
    renter, node, owner = world.renter("renter", vault=10), new_node(world), delegator(world, "d")
    give_tokens(world, world.vault_tokens(renter.pubkey()), 7)
    (event,) = world.send(world.build.deposit(renter.pubkey(), renter.pubkey(), 1_000), signers=[renter])
    assert event.amount == 1_000
    stake = world.pool(node.key)
    give_tokens(world, stake.stake_vault, 7)
    bond = world.build.bond(node.operator.pubkey(), node.key.pubkey(), 2_000)
    (event,) = world.send(bond, signers=[node.operator])
    assert event.amount == 2_000
    (event,) = delegate(world, node, owner, 3_000)
    assert event.amount == 3_000
    after = world.pool(node.key)
    assert after.active_stake == stake.active_stake + 5_000
    assert world.tokens(stake.stake_vault) == after.active_stake + 7


WAYS_IN = {
    "open_escrow": Pause.OPEN,
    "extend_escrow": Pause.EXTEND,
    "assign": Pause.ASSIGN,
    "register_node": Pause.REGISTER,
    "register_market": Pause.REGISTER,
    "delegate": Pause.DELEGATE,
    "bond": Pause.BOND,
    "grant_allowance": Pause.GRANT,
}


def test_line_16_each_pause_closes_its_own_way_in_and_nothing_else():
    """With every bit set, everything that isn't a way in is accepted as if there were no pause."""
    catalog = make_catalog()
    for bits in (*Pause, Pause(127)):
        catalog.world.send(catalog.world.build.set_pause(ADMIN.pubkey(), int(bits)), signers=[ADMIN])
        for name, case in catalog.cases.items():
            closed = bits & WAYS_IN.get(name, Pause(0))
            assert catalog.answer(case) == ("Paused" if closed else None), (name, bits)
