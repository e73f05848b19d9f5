"""A market that lies in one thing: the client names it, signs nothing and sends nothing."""

import dataclasses
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from solders.compute_budget import set_compute_unit_limit, set_compute_unit_price
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer

from marketplace.chain.builders import CallBuilder, EscrowRef
from marketplace.chain.instructions import (
    CancelEscrow,
    Deposit,
    GrantAllowance,
    OpenEscrow,
    OpenVault,
    ProgramInstruction,
    RevokeAllowance,
    Withdraw,
)
from marketplace.chain.program import create_token_account, transfer_tokens
from marketplace.client.client import ReaverClient
from marketplace.client.errors import TransactionRefused
from marketplace.client.requests import JobRequest
from marketplace.client.terms import AllowanceTerms
from tests.client.fake_market import FakeMarket, Steps, key

THIEF = key("thief").pubkey()
JOB = JobRequest(image="alpine", gpu="cpu-small", region="eu", max_minutes=10, command=("echo", "hi"))
TERMS = AllowanceTerms(
    per_job=5_000_000,
    per_day=20_000_000,
    total=100_000_000,
    max_price_per_hour=3_000_000,
    expires_at=datetime(2030, 1, 1, tzinfo=UTC),
)
Lie = Callable[[Steps, FakeMarket], Steps]
Action = Callable[[ReaverClient], Awaitable[object]]


async def submit(client: ReaverClient) -> object:
    return await client.submit_job(JOB, await client.quote(JOB))


async def deposit(client: ReaverClient) -> object:
    return await client.deposit(2_000_000)


async def withdraw(client: ReaverClient) -> object:
    return await client.withdraw(1_000_000)


async def withdraw_all(client: ReaverClient) -> object:
    return await client.withdraw(None)


async def grant(client: ReaverClient) -> object:
    return await client.grant_allowance(TERMS)


async def revoke(client: ReaverClient) -> object:
    return await client.revoke_allowance()


async def cancel_escrow(client: ReaverClient) -> object:
    market = await client._calls.market()
    owner = client._calls.signer().address
    reference = EscrowRef(wallet=owner, opener=owner, nonce=7, market=market.market, rent_payer=owner)
    return await client.escrows.cancel(str(CallBuilder(market.deployment).escrow_address(reference)))


ACTIONS: dict[str, Action] = {
    "cancel_escrow": cancel_escrow,
    "submit": submit,
    "deposit": deposit,
    "withdraw": withdraw,
    "withdraw_all": withdraw_all,
    "grant": grant,
    "revoke": revoke,
}


def args(kind: type[ProgramInstruction], **changes: Any) -> Lie:
    """Other arguments in the instruction of this kind; a callable gets the honest value."""

    def lie(steps: Steps, _market: FakeMarket) -> Steps:
        return [_changed(s, "args", changes) if isinstance(s, kind) else s for s in steps]

    return lie


def accounts(kind: type[ProgramInstruction], **changes: Any) -> Lie:
    """Other accounts in the instruction of this kind."""

    def lie(steps: Steps, _market: FakeMarket) -> Steps:
        return [_changed(s, "accounts", changes) if isinstance(s, kind) else s for s in steps]

    return lie


def _changed(step: Any, part: str, changes: dict[str, Any]) -> Any:
    old = getattr(step, part)
    values = {name: change(getattr(old, name)) if callable(change) else change for name, change in changes.items()}
    return dataclasses.replace(step, **{part: dataclasses.replace(old, **values)})


def added(make: Callable[[Pubkey, FakeMarket], Instruction | ProgramInstruction]) -> Lie:
    """One more instruction at the end."""

    def lie(steps: Steps, market: FakeMarket) -> Steps:
        assert market.wallet is not None
        return [*steps, make(market.wallet, market)]

    return lie


def without(kind: type[ProgramInstruction]) -> Lie:
    return lambda steps, _market: [s for s in steps if not isinstance(s, kind)]


def twice(kind: type[ProgramInstruction]) -> Lie:
    return lambda steps, _market: [*steps, *(s for s in steps if isinstance(s, kind))]


LIES: list[tuple[str, str, Lie, str]] = [
    # what an escrow locks, for what, for whom
    ("submit", "bigger deposit", args(OpenEscrow, deposit=lambda v: v + 1), "its deposit is 0.060001, at most 0.06"),
    ("submit", "higher ceiling", args(OpenEscrow, ceiling_price=lambda v: v + 1), "ceiling price per hour is 0.360001"),
    ("submit", "longer time", args(OpenEscrow, max_time=lambda v: v + 1), "max time of `open_escrow`"),
    ("submit", "shorter time", args(OpenEscrow, max_time=lambda v: v - 1), "max time of `open_escrow`"),
    ("submit", "swapped terms", args(OpenEscrow, terms_hash=bytes(32)), "terms hash of `open_escrow`"),
    ("submit", "other class", args(OpenEscrow, class_id=b"h100".ljust(16, b"\0")), "class id of `open_escrow`"),
    ("submit", "any class", args(OpenEscrow, class_id=bytes(16)), "class id of `open_escrow`"),
    ("submit", "many attempts", args(OpenEscrow, attempts_allowed=99), "it allows 99 attempts"),
    ("submit", "no attempt", args(OpenEscrow, attempts_allowed=0), "it allows 0 attempts"),
    ("submit", "other market", accounts(OpenEscrow, market=THIEF), "market of `open_escrow`"),
    ("submit", "other escrow", accounts(OpenEscrow, escrow=THIEF), "escrow of `open_escrow`"),
    ("submit", "nonce of another escrow", args(OpenEscrow, nonce=lambda v: v + 1), "escrow of `open_escrow`"),
    ("submit", "other vault", accounts(OpenEscrow, vault=THIEF), "vault of `open_escrow`"),
    ("submit", "other vault tokens", accounts(OpenEscrow, vault_tokens=THIEF), "vault tokens of `open_escrow`"),
    ("submit", "other config", accounts(OpenEscrow, config=THIEF), "config of `open_escrow`"),
    ("submit", "under an allowance", accounts(OpenEscrow, allowance=THIEF), "allowance of `open_escrow`"),
    ("submit", "second payer", accounts(OpenEscrow, payer=THIEF), "signature of somebody else"),
    ("submit", "other authority", accounts(OpenEscrow, authority=THIEF), "signature of somebody else"),
    ("submit", "two escrows", twice(OpenEscrow), "it does `open_escrow` more than once"),
    ("submit", "no escrow", without(OpenEscrow), "it doesn't do `open_escrow`"),
    # the gap that is moved into the vault
    ("submit", "bigger gap", args(Deposit, amount=lambda v: v + 1), "its deposit into the vault is 0.060001"),
    ("submit", "gap into another vault", accounts(Deposit, vault_tokens=THIEF), "vault tokens of `deposit`"),
    ("submit", "gap from another account", accounts(Deposit, source=THIEF), "source of `deposit`"),
    ("submit", "two gaps", twice(Deposit), "it does `deposit` more than once"),
    # something besides
    (
        "submit",
        "a transfer of SOL",
        added(lambda w, _m: transfer(TransferParams(from_pubkey=w, to_pubkey=THIEF, lamports=1))),
        "it also holds TransferLamports",
    ),
    (
        "submit",
        "a transfer of tokens",
        added(lambda w, m: transfer_tokens(m.own_tokens(w), m.deployment.payment_mint, THIEF, w, 1, 6)),
        "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA",
    ),
    (
        "submit",
        "a withdrawal",
        added(lambda w, m: CallBuilder(m.deployment).withdraw(w, 1, destination=THIEF)),
        "it also does `withdraw`",
    ),
    (
        "submit",
        "an allowance",
        added(lambda w, m: CallBuilder(m.deployment).grant_allowance(w, w, m.market, _caps())),
        "it also does `grant_allowance`",
    ),
    (
        "submit",
        "an unknown program",
        added(lambda w, _m: Instruction(THIEF, b"\x01", [AccountMeta(w, is_signer=True, is_writable=True)])),
        str(THIEF),
    ),
    (
        "submit",
        "an unknown instruction of ours",
        added(lambda w, m: Instruction(m.program, bytes(8), [AccountMeta(w, is_signer=True, is_writable=True)])),
        "doesn't know",
    ),
    (
        "submit",
        "a token account",
        added(lambda w, m: create_token_account(w, THIEF, m.deployment.payment_mint)),
        "it also holds CreateTokenAccount",
    ),
    (
        "submit",
        "a huge priority fee",
        lambda steps, _m: [*steps, set_compute_unit_limit(1_400_000), set_compute_unit_price(1_000_000)],
        "its priority fee is 0.0014 SOL",
    ),
    # deposits
    ("deposit", "bigger amount", args(Deposit, amount=2_000_001), "amount of `deposit` is 2000001, expected 2000000"),
    ("deposit", "smaller amount", args(Deposit, amount=1), "amount of `deposit`"),
    ("deposit", "other vault", accounts(Deposit, vault=THIEF), "vault of `deposit`"),
    ("deposit", "other destination", accounts(Deposit, vault_tokens=THIEF), "vault tokens of `deposit`"),
    ("deposit", "other token account", accounts(Deposit, source=THIEF), "source of `deposit`"),
    ("deposit", "other mint", accounts(OpenVault, payment_mint=THIEF), "payment mint of `open_vault`"),
    ("deposit", "vault of somebody else", accounts(OpenVault, vault=THIEF), "vault of `open_vault`"),
    ("deposit", "wallet of somebody else", accounts(OpenVault, wallet=THIEF), "signature of somebody else"),
    ("deposit", "only the vault", without(Deposit), "it doesn't do `deposit`"),
    # withdrawals
    ("withdraw", "other destination", accounts(Withdraw, destination=THIEF), "destination of `withdraw`"),
    ("withdraw", "other amount", args(Withdraw, amount=1), "amount of `withdraw`"),
    ("withdraw_all", "other destination", accounts(Withdraw, destination=THIEF), "destination of `withdraw`"),
    (
        "withdraw",
        "a token account for somebody else",
        added(lambda w, m: create_token_account(w, THIEF, m.deployment.payment_mint)),
        "it also holds CreateTokenAccount",
    ),
    (
        "withdraw",
        "a token account of another mint",
        added(lambda w, m: create_token_account(w, w, m.deployment.stake_mint)),
        "it also holds CreateTokenAccount",
    ),
    # allowances
    ("grant", "other market", accounts(GrantAllowance, market=THIEF), "market of `grant_allowance`"),
    ("grant", "other allowance", accounts(GrantAllowance, allowance=THIEF), "allowance of `grant_allowance`"),
    ("grant", "higher cap a job", args(GrantAllowance, escrow_cap=lambda v: v + 1), "escrow cap of `grant_allowance`"),
    ("grant", "higher cap a day", args(GrantAllowance, day_cap=lambda v: v + 1), "day cap of `grant_allowance`"),
    ("grant", "higher cap in all", args(GrantAllowance, total_cap=lambda v: v + 1), "total cap of `grant_allowance`"),
    ("grant", "higher price", args(GrantAllowance, max_price=lambda v: v + 1), "max price of `grant_allowance`"),
    ("grant", "later expiry", args(GrantAllowance, expires_at=lambda v: v + 1), "expires at of `grant_allowance`"),
    ("grant", "two grants", twice(GrantAllowance), "it does `grant_allowance` more than once"),
    ("revoke", "other allowance", accounts(RevokeAllowance, allowance=THIEF), "allowance of `revoke_allowance`"),
    ("cancel_escrow", "another escrow", accounts(CancelEscrow, escrow=THIEF), "escrow of `cancel_escrow`"),
    ("cancel_escrow", "into another vault", accounts(CancelEscrow, vault=THIEF), "vault of `cancel_escrow`"),
    ("cancel_escrow", "other authority", accounts(CancelEscrow, authority=THIEF), "signature of somebody else"),
    ("cancel_escrow", "under an allowance", accounts(CancelEscrow, allowance=THIEF), "allowance of `cancel_escrow`"),
    ("cancel_escrow", "nothing cancelled", without(CancelEscrow), "it doesn't do `cancel_escrow`"),
    ("cancel_escrow", "two", twice(CancelEscrow), "it does `cancel_escrow` more than once"),
    ("revoke", "nothing revoked", without(RevokeAllowance), "it doesn't do `revoke_allowance`"),
]


def _caps() -> Any:
    from marketplace.chain.builders import AllowanceTerms as Caps

    return Caps(escrow_cap=1, day_cap=1, total_cap=1, max_price=1, expires_at_ms=1)


@pytest.mark.parametrize(("action", "lie", "said"), [pytest.param(a, lie, t, id=f"{a}: {n}") for a, n, lie, t in LIES])
async def test_a_lie_is_named_and_nothing_is_signed(
    market: FakeMarket, client: ReaverClient, action: str, lie: Lie, said: str
) -> None:
    market.steps = lie
    with pytest.raises(TransactionRefused) as refused:
        await ACTIONS[action](client)
    assert said in str(refused.value)
    assert "Nothing was signed" in str(refused.value)
    assert market.signed == []
    assert market.spent("/v1/transactions") == []


async def test_another_escrow_than_the_named_one_is_not_cancelled(market: FakeMarket, client: ReaverClient) -> None:
    """The market's opener and nonce have to give the address that was named."""
    with pytest.raises(TransactionRefused, match="are not those of escrow"):
        await client.escrows.cancel(str(THIEF))
    assert market.signed == []


@pytest.mark.parametrize("action", ACTIONS)
async def test_the_honest_transaction_is_signed_once(market: FakeMarket, client: ReaverClient, action: str) -> None:
    await ACTIONS[action](client)
    assert len(market.signed) == 1


@pytest.mark.parametrize("action", ACTIONS)
async def test_another_fee_payer_is_refused(market: FakeMarket, client: ReaverClient, action: str) -> None:
    market.payer = THIEF
    with pytest.raises(TransactionRefused, match="fee payer is"):
        await ACTIONS[action](client)
    assert market.signed == []


@pytest.mark.parametrize("action", ACTIONS)
async def test_another_program_is_refused(market: FakeMarket, client: ReaverClient, action: str) -> None:
    market.program = THIEF
    with pytest.raises(TransactionRefused, match=str(THIEF)):
        await ACTIONS[action](client)
    assert market.signed == []


async def test_a_compute_budget_within_bounds_is_accepted(market: FakeMarket, client: ReaverClient) -> None:
    market.steps = lambda steps, _m: [*steps, set_compute_unit_limit(40_000), set_compute_unit_price(50_000)]
    await submit(client)
    assert len(market.signed) == 1


async def test_withdrawing_may_create_the_own_token_account(market: FakeMarket, client: ReaverClient) -> None:
    def with_account(steps: Steps, fake: FakeMarket) -> Steps:
        assert fake.wallet is not None
        return [create_token_account(fake.wallet, fake.wallet, fake.deployment.payment_mint), *steps]

    market.steps = with_account
    await withdraw(client)
    assert len(market.signed) == 1


async def test_a_lower_deposit_is_accepted(market: FakeMarket, client: ReaverClient) -> None:
    market.steps = lambda steps, m: args(Deposit, amount=1)(args(OpenEscrow, deposit=59_000)(steps, m), m)
    await submit(client)
    assert len(market.signed) == 1


async def test_an_escrow_that_the_answer_misnames_is_refused(
    market: FakeMarket, client: ReaverClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = market._signature_required

    def misnamed(wallet: str, body: dict[str, Any], idempotency_key: str) -> Any:
        response = honest(wallet, body, idempotency_key)
        assert isinstance(response.text, str)
        response.text = response.text.replace('"escrow": "', '"escrow": "x')
        return response

    monkeypatch.setattr(market, "_signature_required", misnamed)
    with pytest.raises(TransactionRefused, match="the market says"):
        await submit(client)
    assert market.signed == []


def test_no_lie_is_listed_twice() -> None:
    names = [(action, name) for action, name, _, _ in LIES]
    assert len(set(names)) == len(names)
