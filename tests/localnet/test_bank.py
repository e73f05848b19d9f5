"""The bank alone: no clock, no file, no network."""

import hashlib
import struct

import pytest
from solders.account import Account
from solders.compute_budget import set_compute_unit_limit, set_compute_unit_price
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.system_program import ID as SYSTEM
from solders.system_program import CreateAccountParams, create_account

from marketplace.localnet.bank import Bank
from marketplace.localnet.errors import ProgramUnusable
from marketplace.localnet.outcome import error_sentence
from marketplace.localnet.records import Dropped, Landed
from marketplace.localnet.slots import Commitment, Moment
from marketplace.localnet.tokens import TOKEN_PROGRAM, decimal_text
from tests.localnet.transactions import pay, signed

ED25519 = Pubkey.from_string("Ed25519SigVerify111111111111111111111111111")
CLOCK = Pubkey.from_string("SysvarC1ock11111111111111111111111111111111")
START = 1_700_000_000


@pytest.fixture
def bank() -> Bank:
    return Bank(salt=b"s" * 32, finality_slots=4, start=Moment(1, START))


@pytest.fixture
def rich(bank: Bank) -> Keypair:
    keypair = Keypair()
    bank.restore(keypair.pubkey(), Account(10**10, b"", SYSTEM, False, 0))
    return keypair


def lamports(bank: Bank, address: Pubkey, commitment: Commitment = Commitment.PROCESSED) -> int:
    account = bank.account(address, commitment)
    return account.lamports if account is not None else 0


def latest(bank: Bank):
    return bank.blockhash(Commitment.PROCESSED)[0]


def landed(outcome: Landed | Dropped) -> Landed:
    assert isinstance(outcome, Landed), outcome
    return outcome


def test_a_transfer_costs_its_fee(bank: Bank, rich: Keypair) -> None:
    to = Keypair().pubkey()
    run = landed(bank.execute(signed(latest(bank), rich, pay(rich, to, 10**7)))).execution
    assert (run.error, run.fee) == (None, 5_000)
    assert lamports(bank, to) == 10**7
    assert lamports(bank, rich.pubkey()) == 10**10 - 10**7 - 5_000


def test_the_same_message_lands_once(bank: Bank, rich: Keypair) -> None:
    transaction = signed(latest(bank), rich, pay(rich, Keypair().pubkey(), 10**7))
    landed(bank.execute(transaction))
    assert bank.execute(transaction) == Dropped("AlreadyProcessed")
    bank.advance(Moment(100, START + 40))
    assert bank.execute(transaction) == Dropped("AlreadyProcessed")


def test_a_blockhash_is_good_for_150_slots_and_no_longer(bank: Bank, rich: Keypair) -> None:
    blockhash, last_valid = bank.blockhash(Commitment.PROCESSED)
    assert last_valid == 151
    to = Keypair().pubkey()
    bank.advance(Moment(151, START))
    landed(bank.execute(signed(blockhash, rich, pay(rich, to, 10**7))))
    bank.advance(Moment(152, START))
    assert bank.execute(signed(blockhash, rich, pay(rich, to, 10**7 + 1))) == Dropped("BlockhashNotFound")


def test_two_chains_share_no_blockhash() -> None:
    one, other = (Bank(salt=salt * 32, finality_slots=1, start=Moment(0, START)) for salt in (b"a", b"b"))
    assert latest(one) != latest(other)
    assert not other.is_blockhash_valid(latest(one), Commitment.PROCESSED)


def test_each_commitment_sees_its_own_past(bank: Bank, rich: Keypair) -> None:
    to = Keypair().pubkey()
    bank.advance(Moment(10, START))
    landed(bank.execute(signed(latest(bank), rich, pay(rich, to, 10**7))))
    seen = {}
    for slot in (10, 11, 13, 14):
        bank.advance(Moment(slot, START))
        seen[slot] = [lamports(bank, to, each) for each in Commitment]
    assert seen == {10: [10**7, 0, 0], 11: [10**7, 10**7, 0], 13: [10**7, 10**7, 0], 14: [10**7] * 3}


def test_changes_are_announced_when_they_reach_a_commitment(bank: Bank, rich: Keypair) -> None:
    to = Keypair().pubkey()
    bank.advance(Moment(10, START))
    landed(bank.execute(signed(latest(bank), rich, pay(rich, to, 10**7))))
    reached = {}
    for slot in range(11, 17):
        advance = bank.advance(Moment(slot, START))
        assert advance is not None
        reached[slot] = {each for each in Commitment if to in advance.changed[each]}
    assert reached[11] == {Commitment.CONFIRMED}
    assert reached[14] == {Commitment.FINALIZED}
    assert all(reached[slot] == set() for slot in (12, 13, 15, 16))


def test_a_failed_transaction_costs_its_fee_and_changes_nothing_else(bank: Bank, rich: Keypair) -> None:
    to = Keypair().pubkey()
    good, bad = pay(rich, to, 10**7), pay(rich, to, 10**12)
    run = landed(bank.execute(signed(latest(bank), rich, good, bad))).execution
    assert run.error == {"InstructionError": [1, {"Custom": 1}]}
    assert error_sentence(run.error) == "Error processing Instruction 1: custom program error: 0x1"
    assert lamports(bank, to) == 0
    assert lamports(bank, rich.pubkey()) == 10**10 - 5_000


def test_the_priority_fee_is_charged_for_the_limit_requested(bank: Bank, rich: Keypair) -> None:
    budget = (set_compute_unit_price(1_000_001), set_compute_unit_limit(1_000))
    run = landed(bank.execute(signed(latest(bank), rich, *budget, pay(rich, rich.pubkey(), 1)))).execution
    assert run.fee == 5_000 + 1_001
    assert lamports(bank, rich.pubkey()) == 10**10 - run.fee
    assert bank.recent_prices(frozenset({rich.pubkey()})) == [(1, 1_000_001)]
    assert bank.recent_prices(frozenset({Keypair().pubkey()})) == [(1, 1_000_001)]  # the block's own floor


def test_a_priority_fee_can_not_be_spent_by_the_transaction(bank: Bank, rich: Keypair) -> None:
    budget = (set_compute_unit_price(1_000_000), set_compute_unit_limit(1_000_000))
    run = bank.simulate(signed(latest(bank), rich, *budget, pay(rich, Keypair().pubkey(), 10**10 - 5_000)))
    assert run.error == {"InstructionError": [2, {"Custom": 1}]}
    assert lamports(bank, rich.pubkey()) == 10**10  # a simulation changes nothing


def test_an_account_may_not_be_left_below_rent(bank: Bank, rich: Keypair) -> None:
    run = landed(bank.execute(signed(latest(bank), rich, pay(rich, Keypair().pubkey(), 1)))).execution
    assert run.error == {"InsufficientFundsForRent": {"account_index": 1}}
    assert lamports(bank, rich.pubkey()) == 10**10 - 5_000
    assert lamports(bank, run.keys.all[1]) == 0


def test_a_payer_may_empty_its_account_but_not_leave_dust(bank: Bank) -> None:
    poor, to = Keypair(), Keypair().pubkey()
    bank.restore(poor.pubkey(), Account(2_000_000, b"", SYSTEM, False, 0))
    dust = landed(bank.execute(signed(latest(bank), poor, pay(poor, to, 1_990_000)))).execution
    assert dust.error == {"InsufficientFundsForRent": {"account_index": 0}}
    bank.advance(Moment(2, START))  # another blockhash, or it would be the same message
    landed(bank.execute(signed(latest(bank), poor, pay(poor, to, 1_990_000))))  # 2,000,000 less two fees
    assert bank.account(poor.pubkey(), Commitment.PROCESSED) is None


@pytest.mark.parametrize(("balance", "error"), [(0, "AccountNotFound"), (4_999, "InsufficientFundsForFee")])
def test_who_can_not_pay_the_fee_never_lands(bank: Bank, balance: int, error: str) -> None:
    poor = Keypair()
    if balance:
        bank.restore(poor.pubkey(), Account(balance, b"", SYSTEM, False, 0))
    assert bank.execute(signed(latest(bank), poor, pay(poor, poor.pubkey(), 1))) == Dropped(error)


def test_a_payer_owned_by_a_program_is_refused(bank: Bank) -> None:
    token = Keypair()
    bank.restore(token.pubkey(), Account(10**9, bytes(165), TOKEN_PROGRAM, False, 0))
    assert bank.execute(signed(latest(bank), token, pay(token, token.pubkey(), 1))) == Dropped("InvalidAccountForFee")


def test_a_missing_program_lands_and_pays(bank: Bank, rich: Keypair) -> None:
    run = landed(bank.execute(signed(latest(bank), rich, Instruction(Keypair().pubkey(), b"", [])))).execution
    assert (run.error, run.fee) == ("ProgramAccountNotFound", 5_000)
    assert lamports(bank, rich.pubkey()) == 10**10 - 5_000


def test_a_forged_signature_is_dropped(bank: Bank, rich: Keypair) -> None:
    good = signed(latest(bank), rich, pay(rich, Keypair().pubkey(), 10**7))
    forged = type(good).populate(good.message, [Keypair().sign_message(b"other")])
    assert bank.execute(forged) == Dropped("SignatureFailure")
    assert bank.refusal(forged, Commitment.PROCESSED, check_signatures=False) is None


def ed25519(keypair: Keypair, message: bytes, signature: bytes) -> Instruction:
    header = struct.pack("<BB7H", 1, 0, 16, 0xFFFF, 80, 0xFFFF, 112, len(message), 0xFFFF)
    return Instruction(ED25519, header + signature + bytes(keypair.pubkey()) + message, [])


def test_the_ed25519_precompile_checks_and_is_charged(bank: Bank, rich: Keypair) -> None:
    node, message = Keypair(), b"m" * 48
    good = ed25519(node, message, bytes(node.sign_message(message)))
    assert landed(bank.execute(signed(latest(bank), rich, good))).execution.fee == 10_000
    assert lamports(bank, rich.pubkey()) == 10**10 - 10_000
    forged = ed25519(node, message, bytes(node.sign_message(b"x" * 48)))
    run = landed(bank.execute(signed(latest(bank), rich, forged))).execution
    assert run.error == {"InstructionError": [0, {"Custom": 2}]}
    assert lamports(bank, rich.pubkey()) == 10**10 - 20_000


def test_the_clock_sysvar_follows_and_never_falls(bank: Bank) -> None:
    bank.advance(Moment(5, START + 9))
    bank.advance(Moment(6, START + 2))
    assert bank.advance(Moment(6, START + 99)) is None
    clock = bank.account(CLOCK, Commitment.PROCESSED)
    assert clock is not None
    slot, _, _, _, unix_time = struct.unpack("<QqQQq", clock.data)
    assert (slot, unix_time) == (6, START + 9)


def test_accounts_of_a_program_are_listed_at_each_commitment(bank: Bank, rich: Keypair) -> None:
    new = Keypair()
    rent = bank.minimum_balance(165)
    create = create_account(
        CreateAccountParams(
            from_pubkey=rich.pubkey(), to_pubkey=new.pubkey(), lamports=rent, space=165, owner=TOKEN_PROGRAM
        ),
    )
    from solders.message import MessageV0
    from solders.transaction import VersionedTransaction

    message = MessageV0.try_compile(rich.pubkey(), [create], [], latest(bank))
    bank.advance(Moment(2, START))
    landed(bank.execute(VersionedTransaction(message, [rich, new])))
    listed = {each: [key for key, _ in bank.accounts_of(TOKEN_PROGRAM, each)] for each in Commitment}
    assert listed == {Commitment.PROCESSED: [new.pubkey()], Commitment.CONFIRMED: [], Commitment.FINALIZED: []}


def test_what_landed_before_a_restart_is_known_after_it(rich: Keypair, bank: Bank) -> None:
    transaction = signed(latest(bank), rich, pay(rich, Keypair().pubkey(), 10**7))
    first = landed(bank.execute(transaction))
    again = Bank(salt=b"s" * 32, finality_slots=4, start=Moment(20, START))
    again.restore(rich.pubkey(), Account(10**9, b"", SYSTEM, False, 0))
    again.remember(first.message_hash, first.slot)
    assert again.execute(transaction) == Dropped("AlreadyProcessed")
    landed(again.execute(signed(latest(bank), rich, pay(rich, Keypair().pubkey(), 10**7))))  # the old blockhash is good


def test_a_bad_program_file_is_an_error_not_a_panic(bank: Bank, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ProgramUnusable):
        bank.load_program(Keypair().pubkey(), b"\x7fELF garbage")
    capfd.readouterr()


def test_an_account_that_ends_without_lamports_is_gone_with_its_data(bank: Bank, rich: Keypair) -> None:
    """Closing a token account: LiteSVM may keep the bytes of what has no lamports, a cluster doesn't."""
    holder, mint = Keypair().pubkey(), Keypair().pubkey()
    data = struct.pack(
        "<32s32sQI32sBIQQI32s", bytes(mint), bytes(rich.pubkey()), 0, 0, bytes(32), 1, 0, 0, 0, 0, bytes(32)
    )
    bank.restore(holder, Account(bank.minimum_balance(165), data, TOKEN_PROGRAM, False, 0))
    close = Instruction(
        TOKEN_PROGRAM,
        bytes([9]),
        [
            AccountMeta(holder, False, True),
            AccountMeta(rich.pubkey(), False, True),
            AccountMeta(rich.pubkey(), True, False),
        ],
    )
    run = landed(bank.execute(signed(latest(bank), rich, close))).execution
    assert run.error is None
    assert bank.account(holder, Commitment.PROCESSED) is None
    assert list(bank.accounts_of(TOKEN_PROGRAM, Commitment.PROCESSED)) == []


def test_decimal_text_is_exact() -> None:
    cases = {
        (0, 6): "0",
        (1, 6): "0.000001",
        (1_500_000, 6): "1.5",
        (10**18 + 1, 9): "1000000000.000000001",
        (7, 0): "7",
    }
    assert {case: decimal_text(*case) for case in cases} == cases
    assert decimal_text(2**64 - 1, 0) == str(2**64 - 1)


def test_message_hash_ignores_signatures(bank: Bank, rich: Keypair) -> None:
    from marketplace.localnet.bank import hash_of

    transaction = signed(latest(bank), rich, pay(rich, rich.pubkey(), 1))
    assert hash_of(transaction.message) == hashlib.sha256(bytes(transaction.message)).digest()


def test_a_malformed_transaction_fails_to_sanitize(bank: Bank, rich: Keypair) -> None:
    from solders.instruction import CompiledInstruction
    from solders.message import Message
    from solders.transaction import VersionedTransaction

    good = signed(latest(bank), rich, pay(rich, rich.pubkey(), 1), legacy=True).message
    broken = Message.new_with_compiled_instructions(
        1, 0, 1, good.account_keys, good.recent_blockhash, [CompiledInstruction(9, b"", bytes([0, 7]))]
    )
    transaction = VersionedTransaction.populate(broken, [rich.sign_message(bytes(broken))])
    assert bank.execute(transaction) == Dropped("SanitizeFailure")


def test_lookup_tables_are_resolved(bank: Bank, rich: Keypair) -> None:
    from solders.address_lookup_table_account import AddressLookupTableAccount
    from solders.message import MessageV0
    from solders.transaction import VersionedTransaction

    tables = Pubkey.from_string("AddressLookupTab1e1111111111111111111111111")
    bank.advance(Moment(20, START))
    slot = (18).to_bytes(8, "little")
    table, bump = Pubkey.find_program_address([bytes(rich.pubkey()), slot], tables)
    metas = [
        AccountMeta(table, False, True),
        AccountMeta(rich.pubkey(), True, False),
        AccountMeta(rich.pubkey(), True, True),
        AccountMeta(SYSTEM, False, False),
    ]
    to, reader = Keypair().pubkey(), Keypair().pubkey()
    create = Instruction(tables, struct.pack("<I", 0) + slot + bytes([bump]), metas)
    extend = Instruction(tables, struct.pack("<IQ", 2, 2) + bytes(to) + bytes(reader), metas)
    assert landed(bank.execute(signed(latest(bank), rich, create, extend))).execution.error is None
    bank.advance(Moment(21, START))
    transfer = pay(rich, to, 10**7)
    with_reader = Instruction(
        transfer.program_id, transfer.data, [*transfer.accounts, AccountMeta(reader, False, False)]
    )
    lookup = AddressLookupTableAccount(table, [to, reader])
    message = MessageV0.try_compile(rich.pubkey(), [with_reader], [lookup], latest(bank))
    assert to not in message.account_keys
    run = landed(bank.execute(VersionedTransaction(message, [rich]))).execution
    assert run.error is None
    assert (run.keys.loaded_writable, run.keys.loaded_readonly) == ((to,), (reader,))
    assert lamports(bank, to) == 10**7
    assert lamports(bank, to, Commitment.CONFIRMED) == 0
    gone = AddressLookupTableAccount(Keypair().pubkey(), [to, reader])
    missing = MessageV0.try_compile(rich.pubkey(), [with_reader], [gone], latest(bank))
    assert bank.execute(VersionedTransaction(missing, [rich])) == Dropped("AddressLookupTableNotFound")
