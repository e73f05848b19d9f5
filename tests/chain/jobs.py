"""A job on chain from end to end, for tests that need earnings and rewards."""

import contextlib

from solders.keypair import Keypair

from marketplace.chain.accounts import EscrowAccount
from marketplace.chain.builders import AllowanceTerms, EscrowRef, EscrowTerms
from marketplace.chain.errors import TransactionFailed
from marketplace.domain.quantities import Bps, Millis
from marketplace.domain.staking import in_force
from marketplace.protocol.vouchers import VoucherState
from tests.chain.market import CPU, HOUR_MS, Actor, TestNode

PRICE = 3_600_000_000
"""1,000 base units per millisecond: fees and rewards are more than a few units."""
TOKEN = 1_000_000


async def settled_job(
    actor: Actor,
    node: TestNode | None = None,
    wallet: Keypair | None = None,
    *,
    billed_ms: int = 900,
    nonce: int = 1,
) -> int:
    """Run one job to its end on the node (a fresh one where None); what it cost, in base units."""
    wallet = wallet or await actor.renter(20 * TOKEN)
    node = node or await actor.node()
    escrow, at = await assigned_job(actor, node, wallet, nonce=nonce)
    meter = actor.keys.meter
    final = actor.voucher(
        node, escrow, PRICE, sequence=1, started_at_ms=at, at_ms=at + billed_ms, billed_ms=billed_ms,
        state=VoucherState.FINAL, reason=1,
    )  # fmt: skip
    settled = actor.calls.settle(escrow, node.ref, meter.pubkey(), final)
    await actor.send([*settled.checks, settled.call], meter)
    return PRICE * billed_ms // HOUR_MS


async def lost_job(actor: Actor, node: TestNode, wallet: Keypair) -> None:
    """A job whose node falls silent after a second: released by the meter, its contest closed, compensated."""
    escrow, at = await assigned_job(actor, node, wallet)
    meter = actor.keys.meter
    params = (await actor.reader.get_config()).params
    voucher = actor.voucher(
        node, escrow, PRICE, sequence=1, started_at_ms=at, at_ms=at + 1_000, billed_ms=1_000,
        state=VoucherState.RUNNING, reason=0,
    )  # fmt: skip
    await actor.until_ms(at + 1_000 + params.lost_after + 1_000)
    release = actor.calls.release_node(escrow, node.ref, meter.pubkey(), 18, voucher)
    await actor.send([*release.checks, release.call], meter)
    address = actor.calls.escrow_address(escrow)
    released = (await actor.reader.get(EscrowAccount, address)).account.contest.released_at
    await actor.until_ms(released + params.contest + 1_000)
    # Whoever else looks after contests may have been first.
    found = await actor.reader.find_escrow(address)
    if found is not None and found.contest.attempt.number:
        with contextlib.suppress(TransactionFailed):
            await actor.send([actor.calls.close_contest(escrow, node.ref, meter.pubkey())], meter)
    vault = await actor.reader.find_vault(wallet.pubkey())
    assert vault is not None
    assert vault.compensation_owed > 0


async def assigned_job(actor: Actor, node: TestNode, wallet: Keypair, *, nonce: int = 1) -> tuple[EscrowRef, int]:
    """An escrow under a fresh allowance, assigned to the node; with the moment of its assignment."""
    matcher = actor.keys.matcher
    key = wallet.pubkey()
    caps = AllowanceTerms(20 * TOKEN, 1_000 * TOKEN, 1_000 * TOKEN, PRICE, await actor.now_ms() + HOUR_MS)
    await actor.send([actor.calls.grant_allowance(key, key, actor.market, caps)], wallet)
    escrow = EscrowRef(key, actor.market, nonce, actor.market, matcher.pubkey())
    deposit = 2 * TOKEN
    terms = EscrowTerms(
        nonce=nonce,
        class_id=CPU,
        terms_hash=bytes([7]) * 32,
        ceiling_price=PRICE,
        deposit=deposit,
        max_time_ms=deposit * HOUR_MS // PRICE,
        attempts_allowed=1,
    )
    fees = await actor.reader.get_market(actor.market)
    market_bps = in_force(
        Bps(fees.fee_bps), Bps(fees.pending_fee_bps), Millis(fees.pending_fee_at), Millis(await actor.now_ms())
    )
    bps = (await actor.reader.get_config()).params.protocol_bps + market_bps
    claim = actor.claim(node, escrow, terms, await actor.now_ms(), fee_bps=bps)
    assigned = actor.calls.assign(escrow, node.ref, matcher.pubkey(), claim)
    opened = actor.calls.open_escrow(escrow, matcher.pubkey(), terms)
    await actor.send([*assigned.checks, opened, assigned.call], matcher)
    at = (await actor.reader.get(EscrowAccount, actor.calls.escrow_address(escrow))).account.attempt.assigned_at
    return escrow, at
