"""Lines 1, 3 and 6 of program.md section 6 for every account of every instruction: one thing is changed of a call that
is accepted, and it is refused for that.
"""

import json
from dataclasses import fields

import pytest
from solders.account import Account
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey

from marketplace.chain.addresses import TOKEN_PROGRAM
from tests.program.catalog import Case, Catalog, make_catalog
from tests.program.world import PROGRAM, ROOT, key

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
