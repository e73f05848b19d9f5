"""Each transaction about stake, honest and with every single account and argument changed."""

import base64
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from solders.hash import Hash
from solders.instruction import Instruction
from solders.keypair import Keypair as SolanaKeypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction

from marketplace.chain.builders import CallBuilder, Deployment, EscrowRef, NodeRef
from marketplace.chain.instructions import ProgramInstruction
from marketplace.chain.program import AnchorCodec, create_token_account
from marketplace.client.errors import TransactionRefused
from marketplace.client.guard import CheckedTransaction, Guard
from marketplace.client.stake_guard import TicketRef
from marketplace.client.terms import MarketOnChain


def key(name: str) -> Pubkey:
    return SolanaKeypair.from_seed(name.encode().ljust(32, b".")).pubkey()


WALLET, THIEF, NODE_KEY = key("wallet"), key("thief"), key("node key")
DEPLOYMENT = Deployment(key("program"), bytes(key("genesis")), key("payment"), key("stake"), 6, 9)
CODEC, BUILD = AnchorCodec(DEPLOYMENT.program), CallBuilder(DEPLOYMENT)
MARKET = MarketOnChain(DEPLOYMENT, key("market"))
NODE = BUILD.addresses.node(NODE_KEY)
POOL, OTHER = BUILD.addresses.pool(NODE), BUILD.addresses.pool(key("other node"))
CPU = b"cpu-small".ljust(16, b"\0")
ESCROW = EscrowRef(WALLET, WALLET, 7, MARKET.market, WALLET)
REF = NodeRef(NODE_KEY, key("operator"), key("payout"), CPU)

Check = Callable[[Guard, str], CheckedTransaction]
CASES: dict[str, tuple[Check, Sequence[ProgramInstruction], str]] = {
    "delegate": (
        lambda guard, raw: guard.delegate(raw, NODE, 5_000_000_000),
        [BUILD.delegate(WALLET, NODE, 5_000_000_000)],
        f"stakes 5.000000000 stake tokens on node {NODE}",
    ),
    "claim": (lambda guard, raw: guard.claim(raw, [POOL]), [BUILD.claim(WALLET, POOL)], f"rewards of pool {POOL} "),
    "claim of two pools": (
        lambda guard, raw: guard.claim(raw, [POOL, OTHER]),
        [BUILD.claim(WALLET, OTHER), BUILD.claim(WALLET, POOL)],
        f"pools {POOL}, {OTHER}",
    ),
    "unbond": (
        lambda guard, raw: guard.unbond(raw, POOL, 2**100, 3),
        [BUILD.unbond(WALLET, POOL, 2**100, 3)],
        f"takes {2**100} shares out of pool {POOL} as ticket 3",
    ),
    "withdraw": (
        lambda guard, raw: guard.withdraw_tickets(raw, [TicketRef(POOL, 3), TicketRef(POOL, 4)]),
        [BUILD.withdraw_ticket(WALLET, POOL, 3), BUILD.withdraw_ticket(WALLET, POOL, 4)],
        f"tickets 3 of pool {POOL}, 4 of pool {POOL}",
    ),
    "distribute": (
        lambda guard, raw: guard.distribute(raw, NODE, 12),
        [BUILD.distribute(WALLET, NODE, 12, key("first crank"))],
        "the emission of epoch 12",
    ),
    "bond": (lambda guard, raw: guard.bond(raw, NODE_KEY, 5), [BUILD.bond(WALLET, NODE_KEY, 5)], "adds 0.000000005"),
    "unbond_bond": (
        lambda guard, raw: guard.unbond_bond(raw, NODE_KEY, CPU, 9, 0),
        [BUILD.unbond_bond(WALLET, NODE_KEY, CPU, 9, 0)],
        "takes 9 shares out of the bond",
    ),
    "commission": (
        lambda guard, raw: guard.set_commission(raw, NODE_KEY, 1_205),
        [BUILD.set_commission(WALLET, NODE_KEY, 1_205)],
        "a commission of 12.05 %",
    ),
    "drain": (
        lambda guard, raw: guard.drain(raw, NODE_KEY, draining=True),
        [BUILD.drain(WALLET, NODE_KEY, draining=True)],
        "takes no more work",
    ),
    "retire": (
        lambda guard, raw: guard.retire(raw, NODE_KEY),
        [BUILD.retire(WALLET, NODE_KEY, MARKET.market)],
        "for good",
    ),
    "compensation": (
        lambda guard, raw: guard.claim_compensation(raw),
        [BUILD.claim_compensation(WALLET)],
        "compensations",
    ),
    "extend": (
        lambda guard, raw: guard.extend_escrow(raw, ESCROW.nonce, 6_000_000, 90_000),
        [BUILD.extend_escrow(ESCROW, WALLET, 6_000_000, 90_000, REF)],
        "adds 6.000000 and 90 s",
    ),
}
CHANGES = [
    (name, number, part, item.name)
    for name, (_, calls, _) in CASES.items()
    for number, call in enumerate(calls)
    for part in ("accounts", "args")
    for item in dataclasses.fields(getattr(call, part))
    # whose rent lies in an epoch's account is the program's to compare
    if (name, item.name) != ("distribute", "rent_payer")
    # which node runs the attempt is the program's to compare
    and (name, item.name) not in {("extend", "node"), ("extend", "pool")}
]


@pytest.fixture
def guard() -> Guard:
    return Guard(MARKET, WALLET)


def text(*steps: ProgramInstruction | Instruction, payer: Pubkey = WALLET) -> str:
    wire = [CODEC.instruction(step) if isinstance(step, ProgramInstruction) else step for step in steps]
    message = MessageV0.try_compile(payer, wire, [], Hash.default())
    blank = [Signature.default()] * message.header.num_required_signatures
    return base64.b64encode(bytes(VersionedTransaction.populate(message, blank))).decode()


def other(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    assert value is None or isinstance(value, Pubkey)
    return THIEF


@pytest.mark.parametrize("name", CASES)
def test_what_was_asked_for_passes_and_is_told_in_words(guard: Guard, name: str) -> None:
    check, calls, words = CASES[name]
    assert words in check(guard, text(*calls)).summary


@pytest.mark.parametrize(("name", "number", "part", "field"), CHANGES)
def test_any_other_account_or_argument_is_refused(guard: Guard, name: str, number: int, part: str, field: str) -> None:
    check, calls, _ = CASES[name]
    honest = getattr(calls[number], part)
    lie = dataclasses.replace(honest, **{field: other(getattr(honest, field))})
    changed = [*calls[:number], dataclasses.replace(calls[number], **{part: lie}), *calls[number + 1 :]]
    with pytest.raises(TransactionRefused):
        check(guard, text(*changed))


@pytest.mark.parametrize("name", CASES)
def test_nothing_may_stand_beside_it(guard: Guard, name: str) -> None:
    check, calls, _ = CASES[name]
    for extra in (
        transfer(TransferParams(from_pubkey=WALLET, to_pubkey=THIEF, lamports=1)),
        create_token_account(WALLET, THIEF, DEPLOYMENT.stake_mint),
        create_token_account(WALLET, WALLET, key("another mint")),
        BUILD.withdraw(WALLET, 1, destination=THIEF),
        calls[0],
    ):
        with pytest.raises(TransactionRefused):
            check(guard, text(*calls, extra))


@pytest.mark.parametrize("name", CASES)
def test_another_payer_and_an_empty_transaction_are_refused(guard: Guard, name: str) -> None:
    check, calls, _ = CASES[name]
    with pytest.raises(TransactionRefused, match="fee payer"):
        check(guard, text(*calls, payer=THIEF))
    with pytest.raises(TransactionRefused):
        check(guard, text())


def test_own_token_accounts_may_be_created_where_something_is_paid_out(guard: Guard) -> None:
    both = [create_token_account(WALLET, WALLET, mint) for mint in (DEPLOYMENT.payment_mint, DEPLOYMENT.stake_mint)]
    assert guard.claim(text(*both, BUILD.claim(WALLET, POOL)), [POOL])
    assert guard.withdraw_tickets(text(both[1], BUILD.withdraw_ticket(WALLET, POOL, 1)), [TicketRef(POOL, 1)])
    with pytest.raises(TransactionRefused, match="CreateTokenAccount"):
        guard.withdraw_tickets(text(both[0], BUILD.withdraw_ticket(WALLET, POOL, 1)), [TicketRef(POOL, 1)])
    with pytest.raises(TransactionRefused, match="CreateTokenAccount"):
        guard.delegate(text(both[1], BUILD.delegate(WALLET, NODE, 1)), NODE, 1)


def test_one_pool_claimed_twice_does_not_pass_for_two(guard: Guard) -> None:
    claim = BUILD.claim(WALLET, POOL)
    with pytest.raises(TransactionRefused):
        guard.claim(text(claim, claim), [POOL, OTHER])
    with pytest.raises(TransactionRefused, match="1 times, expected 2"):
        guard.claim(text(claim), [POOL, OTHER])
    with pytest.raises(TransactionRefused, match="nothing was asked for"):
        guard.claim(text(), [])


def test_an_extension_may_move_at_most_what_it_adds_into_the_vault(guard: Guard) -> None:
    call = BUILD.extend_escrow(ESCROW, WALLET, 100, 0, None)
    moved = BUILD.deposit(WALLET, WALLET, 100)
    assert "moving 0.000100" in guard.extend_escrow(text(moved, call), ESCROW.nonce, 100, 0).summary
    with pytest.raises(TransactionRefused, match="at most"):
        guard.extend_escrow(text(BUILD.deposit(WALLET, WALLET, 101), call), ESCROW.nonce, 100, 0)


def test_less_may_be_added_than_agreed_and_no_more(guard: Guard) -> None:
    call = BUILD.extend_escrow(ESCROW, WALLET, 100, 5_000, REF)
    assert "adds 0.000100 and 5 s" in guard.extend_escrow(text(call), ESCROW.nonce, 150, 5_000).summary
    with pytest.raises(TransactionRefused, match="at most"):
        guard.extend_escrow(text(call), ESCROW.nonce, 99, 5_000)
    with pytest.raises(TransactionRefused, match="escrow"):
        guard.extend_escrow(text(call), ESCROW.nonce + 1, 150, 5_000)
