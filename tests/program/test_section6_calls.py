"""Lines 2, 8 and 9 of program.md section 6 for every instruction that there is, taken from the IDL."""

import json

import pytest
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey

from marketplace.chain.addresses import SYSTEM_PROGRAM, TOKEN_PROGRAM
from tests.program.flows import DEPOSIT, assign, claim, new_node, open_escrow, own_escrow, release, voucher
from tests.program.world import PARAMS, PROGRAM, ROOT, bare_world, key, new_world, refused, size_of, with_account

IDL = json.loads((ROOT / "programs_idl/reaver_market.json").read_text())
CALLS = {entry["name"]: entry for entry in IDL["instructions"]}
FIXED = {"token_program": TOKEN_PROGRAM, "system_program": SYSTEM_PROGRAM}
"""Programs that are called: by their names in the declarations."""

STRANGERS = {
    pair.pubkey(): pair
    for pair in (
        key(f"stranger {name}")
        for name in {account["name"] for entry in CALLS.values() for account in entry["accounts"]}
    )
}


@pytest.fixture(scope="module")
def bare():
    """Nothing is initialized: what is refused here is refused before anything is read."""
    return bare_world()


def blank(name, **changes):
    """The call with strangers' accounts that have every flag they need, and arguments of zeros.

    changes: of an account's meta, by its name; `data` of the arguments.
    """
    entry = CALLS[name]
    metas = []
    for account in entry["accounts"]:
        meta = AccountMeta(
            FIXED.get(account["name"], key(f"stranger {account['name']}").pubkey()),
            account.get("signer", False),
            account.get("writable", False),
        )
        metas.append(changes.get(account["name"], lambda meta: meta)(meta))
    zeros = bytes(sum(size_of(field["type"]) for field in entry["args"]))
    return Instruction(PROGRAM, bytes(entry["discriminator"]) + changes.get("data", zeros), metas)


def send(world, instruction):
    signers = [STRANGERS[meta.pubkey] for meta in instruction.accounts if meta.is_signer]
    return world.send(instruction, signers=[world.payer, *signers])


def _names(entry):
    return [account["name"] for account in entry["accounts"]]


def accounts_with(flag):
    return [
        (name, account["name"]) for name, entry in CALLS.items() for account in entry["accounts"] if account.get(flag)
    ]


@pytest.mark.parametrize(("name", "account"), accounts_with("signer"))
def test_line_2_every_declared_signer_must_sign(bare, name, account):
    with refused("SignerMissing"):
        send(bare, blank(name, **{account: lambda meta: AccountMeta(meta.pubkey, False, meta.is_writable)}))


@pytest.mark.parametrize(("name", "account"), accounts_with("writable"))
def test_line_2_every_account_that_changes_must_be_writable(bare, name, account):
    with refused("AccountNotWritable"):
        send(bare, blank(name, **{account: lambda meta: AccountMeta(meta.pubkey, meta.is_signer, False)}))


@pytest.mark.parametrize("name", CALLS)
def test_line_2_accounts_and_arguments_are_counted(bare, name):
    whole = blank(name)
    for metas in (whole.accounts[:-1], [*whole.accounts, AccountMeta(key("more").pubkey(), False, False)]):
        with refused("WrongAccountCount"):
            send(bare, Instruction(PROGRAM, whole.data, metas))
    with refused("WrongArguments"):
        send(bare, Instruction(PROGRAM, bytes(whole.data) + b"\0", whole.accounts))
    if len(bytes(whole.data)) > 8:
        with refused("WrongArguments"):
            send(bare, Instruction(PROGRAM, bytes(whole.data)[:-1], whole.accounts))


@pytest.mark.parametrize(
    ("name", "account"),
    [(name, account) for name, entry in CALLS.items() for account in _names(entry) if account in FIXED],
)
def test_line_8_the_programs_that_are_called_are_hard_wired(bare, name, account):
    """Whatever else is passed: a program of the caller's own choice is never called."""
    for impostor in (
        key("impostor").pubkey(),
        PROGRAM,
        Pubkey.from_string("TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb"),
    ):
        with refused("WrongProgram"):
            send(bare, blank(name, **{account: lambda meta, other=impostor: AccountMeta(other, False, False)}))


@pytest.mark.parametrize("name", [name for name, entry in CALLS.items() if "instructions" in _names(entry)])
def test_line_9_the_instructions_sysvar_is_known_by_its_address(name):
    """A look-alike that speaks of signatures which were never checked is refused by each that reads it."""
    world = new_world()
    renter, node = world.renter("renter", vault=10 * DEPOSIT), new_node(world)
    escrow = open_escrow(world, renter, own_escrow(world, renter))
    ref, payer = node.ref(world), world.payer
    if name == "assign":
        approved, signer = (
            world.build.assign(escrow, ref, world.matcher.pubkey(), claim(world, escrow, node)),
            world.matcher,
        )
    else:
        assign(world, escrow, node)
        world.pass_ms(1_000)
        signed = voucher(world, escrow, node, 1, 10**8 if name == "prove_overclaim" else 1_000)
        world.pass_ms(PARAMS.lost_after)
        world.svm.airdrop(node.key.pubkey(), 10**9)
        if name == "contest":
            release(world, escrow, node)
        approved, signer = {
            "settle": lambda: (world.build.settle(escrow, ref, payer.pubkey(), signed), payer),
            "release_node": lambda: (
                world.build.release_node(escrow, ref, world.meter.pubkey(), 18, signed),
                world.meter,
            ),
            "quit": lambda: (world.build.quit(escrow, ref, node.key.pubkey(), signed), node.key),
            "contest": lambda: (world.build.contest(escrow, ref, payer.pubkey(), signed), payer),
            "prove_overclaim": lambda: (world.build.prove_overclaim(escrow, ref, payer.pubkey(), signed), payer),
        }[name]()
    with refused("WrongSysvar"):
        fake = with_account(approved.call, instructions=key("look-alike").pubkey())
        world.send(*approved.checks, fake, signers=[signer])
    world.send(*approved.checks, approved.call, signers=[signer])


def test_line_9_no_instruction_takes_clock_or_rent_as_an_account():
    """They are read by syscall: nobody can pass another time."""
    for entry in CALLS.values():
        assert not {"clock", "rent", "sysvar"} & set(_names(entry))


def test_line_4_nobody_gives_a_bump_or_a_seed():
    """Only numbers that the program checks against what it stores, or derives an address from, are arguments."""
    for entry in CALLS.values():
        assert not [field["name"] for field in entry["args"] if "bump" in field["name"] or "seed" in field["name"]]


def test_line_17_no_instruction_takes_a_list():
    """Neither of accounts, whose number is part of the declaration, nor of arguments: there is nothing to loop over."""
    for name, entry in CALLS.items():
        assert len(entry["accounts"]) <= 17, name
        assert "vec" not in json.dumps(entry["args"]), name
