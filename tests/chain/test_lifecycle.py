"""The program through this package, on a running localnet: every call, its accounts, its events."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from solders.keypair import Keypair
from solders.signature import Signature

from marketplace.chain import events
from marketplace.chain.accounts import EscrowAccount, EscrowState, Params
from marketplace.chain.addresses import associated_token_address
from marketplace.chain.bootstrap import local_admin
from marketplace.chain.builders import AllowanceTerms, EscrowRef, EscrowTerms
from marketplace.chain.errors import TransactionFailed
from marketplace.chain.logs import read_events
from marketplace.chain.watcher import ObservedTransaction, WatchCursor, Watcher
from marketplace.protocol.vouchers import VoucherState
from tests.chain.market import CPU, HOUR_MS, Actor

pytestmark = pytest.mark.xdist_group("chain-localnet")

PRICE = 3_600_000  # one base unit per millisecond
TOKEN = 1_000_000


def terms(nonce: int = 1, deposit: int = 600_000) -> EscrowTerms:
    return EscrowTerms(
        nonce=nonce,
        class_id=CPU,
        terms_hash=bytes([7]) * 32,
        ceiling_price=PRICE,
        deposit=deposit,
        max_time_ms=deposit * HOUR_MS // PRICE,
        attempts_allowed=3,
    )


async def granted(actor: Actor, wallet: Keypair) -> None:
    caps = AllowanceTerms(TOKEN, 5 * TOKEN, 10 * TOKEN, PRICE, await actor.now_ms() + HOUR_MS)
    key = wallet.pubkey()
    await actor.send([actor.calls.grant_allowance(key, key, actor.market, caps)], wallet)


def under_allowance(actor: Actor, wallet: Keypair, nonce: int = 1) -> EscrowRef:
    return EscrowRef(wallet.pubkey(), actor.market, nonce, actor.market, actor.keys.matcher.pubkey())


async def observed_until(watcher: Watcher, cursor: WatchCursor, last: Signature) -> list[ObservedTransaction]:
    """Everything up to that transaction: a validator's history comes after its word that something landed."""
    seen: list[ObservedTransaction] = []
    async with asyncio.timeout(60):
        while last not in [transaction.signature for transaction in seen]:
            batch = await watcher.poll(cursor)
            cursor, seen = batch.cursor, [*seen, *batch.observed]
            await asyncio.sleep(0.02)
    return seen


@asynccontextmanager
async def long_contests(actor: Actor) -> AsyncIterator[None]:
    """Nobody hurries while this lasts: an open contest takes vouchers for a minute, not for the few seconds of a localnet."""
    params, admin = (await actor.reader.get_config()).params, local_admin()

    async def put(chosen: Params) -> None:
        await actor.send([actor.calls.set_params(admin.pubkey(), chosen)], actor.keys.authority, admin)

    await put(replace(params, contest=params.unbonding))
    try:
        yield
    finally:
        await put(params)


async def test_a_job_is_opened_assigned_and_settled_in_two_transactions(actor: Actor) -> None:
    wallet, node = await asyncio.gather(actor.renter(2 * TOKEN), actor.node())
    await granted(actor, wallet)
    watcher = Watcher(actor.rpc, actor.codec)
    cursor = (await watcher.poll(WatchCursor.start([actor.market]))).cursor
    matcher, meter = actor.keys.matcher, actor.keys.meter
    escrow, wanted = under_allowance(actor, wallet), terms()
    before = await actor.rpc.get_balance(matcher.pubkey())

    opened = actor.calls.open_escrow(escrow, matcher.pubkey(), wanted)
    claim = actor.claim(node, escrow, wanted, await actor.now_ms())
    assigned = actor.calls.assign(escrow, node.ref, matcher.pubkey(), claim)
    first = await actor.send([*assigned.checks, opened, assigned.call], matcher)

    located = await actor.reader.get(EscrowAccount, actor.calls.escrow_address(escrow))
    assert EscrowRef.of(located.account) == escrow
    assert located.account.state == EscrowState.ASSIGNED
    assert located.account.terms_hash == wanted.terms_hash
    assert located.account.attempt.meter == meter.pubkey()
    assert [entry.address for entry in await actor.reader.list_escrows_of_wallet(wallet.pubkey())] == [located.address]

    at = located.account.attempt.assigned_at
    final = actor.voucher(
        node, escrow, PRICE, sequence=1, started_at_ms=at, at_ms=at + 1_000, billed_ms=900,
        state=VoucherState.FINAL, reason=1,
    )  # fmt: skip
    settled = actor.calls.settle(escrow, node.ref, meter.pubkey(), final)
    second = await actor.send([*settled.checks, settled.call], meter)

    observed = await observed_until(watcher, cursor, second)
    seen = [entry.event for transaction in observed for entry in transaction.events]
    assert [type(event) for event in seen] == [
        events.EscrowOpenedEvent, events.AssignedEvent, events.SettledEvent, events.EscrowClosedEvent,
    ]  # fmt: skip
    assert [transaction.signature for transaction in observed] == [first, second]
    payment = seen[2]
    assert isinstance(payment, events.SettledEvent)
    assert payment.amount == payment.paid == 900
    assert payment.countersigner == meter.pubkey()
    assert payment.operator + payment.stakers + payment.market + payment.protocol == 900
    assert payment.refunded == 600_000 - 900

    earned = await actor.reader.find_token_account(node.ref.payout)
    assert earned is not None
    assert (await actor.landed(second)).token_changes
    assert await actor.reader.find_escrow(located.address) is None
    fees = sum([(await actor.landed(signature)).fee_lamports for signature in (first,)])
    assert await actor.rpc.get_balance(matcher.pubkey()) == before - fees, "no rent is left behind"
    assert (await actor.landed(first)).fee_lamports >= 2 * 5_000, "the matcher's signature and the claim's"


async def test_a_lost_node_is_released_contested_and_compensated(actor: Actor) -> None:
    wallet, node = await asyncio.gather(actor.renter(2 * TOKEN), actor.node())
    await granted(actor, wallet)
    matcher, meter = actor.keys.matcher, actor.keys.meter
    escrow, wanted = under_allowance(actor, wallet), terms()
    claim = actor.claim(node, escrow, wanted, await actor.now_ms())
    assigned = actor.calls.assign(escrow, node.ref, matcher.pubkey(), claim)
    opened = actor.calls.open_escrow(escrow, matcher.pubkey(), wanted)
    await actor.send([*assigned.checks, opened, assigned.call], matcher)
    address = actor.calls.escrow_address(escrow)
    at = (await actor.reader.get(EscrowAccount, address)).account.attempt.assigned_at

    voucher = actor.voucher(
        node, escrow, PRICE, sequence=1, started_at_ms=at, at_ms=at + 1_000, billed_ms=1_000,
        state=VoucherState.RUNNING, reason=0,
    )  # fmt: skip
    release = actor.calls.release_node(escrow, node.ref, meter.pubkey(), 18, voucher)
    with pytest.raises(TransactionFailed) as early:
        await actor.send([*release.checks, release.call], meter)
    assert early.value.error_name == "ReleaseTooEarly"

    await actor.until_ms(at + 1_000 + 7_000)
    async with long_contests(actor):
        signature = await actor.send([*release.checks, release.call], meter)
        seen = read_events((await actor.landed(signature)).logs, actor.codec).events
        released = next(event for event in seen if isinstance(event, events.ReleasedEvent))
        assert released.loss
        assert released.compensation == 200, "a fifth of what was paid"

        shown = actor.calls.contest(
            escrow, node.ref, wallet.pubkey(),
            actor.voucher(
                node, escrow, PRICE, sequence=2, started_at_ms=at, at_ms=at + 2_000, billed_ms=1_500,
                state=VoucherState.RUNNING, reason=0,
            ),
        )  # fmt: skip
        signature = await actor.send([*shown.checks, shown.call], wallet)
        seen = read_events((await actor.landed(signature)).logs, actor.codec).events
        assert any(isinstance(event, events.ContestedEvent) for event in seen)

    await actor.until_ms(released.released_at + 6_000)
    stranger = actor.calls.close_contest(escrow, node.ref, wallet.pubkey())
    signature = await actor.send([stranger], wallet)
    seen = read_events((await actor.landed(signature)).logs, actor.codec).events
    closed = next(event for event in seen if isinstance(event, events.ContestClosedEvent))
    assert closed.loss
    assert closed.compensation == 300
    vault = await actor.reader.find_vault(wallet.pubkey())
    assert vault is not None
    assert vault.compensation_owed == 300

    stake = associated_token_address(wallet.pubkey(), actor.running.market.deployment.stake_mint)
    before = await actor.reader.find_token_account(stake)
    await actor.send([actor.calls.claim_compensation(wallet.pubkey())], wallet)
    after = await actor.reader.find_token_account(stake)
    assert before is not None
    assert after is not None
    assert after.amount - before.amount == 300

    await actor.send([actor.calls.cancel_escrow(escrow, wallet.pubkey())], wallet)
    assert await actor.reader.find_escrow(address) is None


async def test_a_wallet_opens_cancels_and_withdraws_by_itself(actor: Actor) -> None:
    wallet = await actor.renter(TOKEN)
    key = wallet.pubkey()
    escrow = EscrowRef(key, key, 5, actor.market, key)
    await actor.send([actor.calls.open_escrow(escrow, key, terms(nonce=5))], wallet)
    with pytest.raises(TransactionFailed) as locked:
        await actor.send([actor.calls.withdraw(key, TOKEN)], wallet)
    assert locked.value.error_name == "InsufficientFunds"
    await actor.send([actor.calls.cancel_escrow(escrow, key)], wallet)
    await actor.send([actor.calls.withdraw(key, TOKEN)], wallet)
    vault = await actor.reader.find_vault(key)
    assert vault is not None
    assert vault.locked == 0


async def test_a_nodes_operator_quits_bonds_and_updates(actor: Actor) -> None:
    wallet, node = await asyncio.gather(actor.renter(2 * TOKEN), actor.node())
    await granted(actor, wallet)
    operator = node.operator.pubkey()
    await actor.send([actor.calls.bond(operator, node.key.pubkey(), TOKEN)], node.operator)
    update = actor.calls.update_node(operator, node.key.pubkey(), actor.market, CPU, node.ref.payout)
    await actor.send([update], node.operator)
    matcher = actor.keys.matcher
    escrow, wanted = under_allowance(actor, wallet), terms()
    claim = actor.claim(node, escrow, wanted, await actor.now_ms())
    assigned = actor.calls.assign(escrow, node.ref, matcher.pubkey(), claim)
    await actor.send(
        [*assigned.checks, actor.calls.open_escrow(escrow, matcher.pubkey(), wanted), assigned.call], matcher
    )
    leave = actor.calls.quit(escrow, node.ref, node.key.pubkey(), None)
    await actor.send([leave.call], node.operator, node.key)
    account = await actor.reader.find_escrow(actor.calls.escrow_address(escrow))
    assert account is not None
    assert account.contest.by_quit
    assert [entry.account.node_key for entry in await actor.reader.list_nodes_of_operator(operator)] == [
        node.key.pubkey()
    ]
    with pytest.raises(TransactionFailed) as early:
        await actor.send([actor.calls.reap(escrow, None, wallet.pubkey())], wallet)
    assert early.value.error_name == "ReapTooEarly"
    with pytest.raises(TransactionFailed) as nothing:
        await actor.send([actor.calls.withdraw_owed(operator, node.key.pubkey(), node.ref.payout)], node.operator)
    assert nothing.value.error_name == "NothingOwed"
    await actor.send([actor.calls.revoke_allowance(wallet.pubkey(), actor.market)], wallet)
    allowance = await actor.reader.find_allowance(wallet.pubkey(), actor.market)
    assert allowance is not None
    assert allowance.total_cap == 0
