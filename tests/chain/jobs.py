"""A job on chain from end to end, for tests that need earnings and rewards."""

from solders.keypair import Keypair

from marketplace.chain.accounts import EscrowAccount
from marketplace.chain.builders import AllowanceTerms, EscrowRef, EscrowTerms
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
    settle: bool = True,
) -> int:
    """Run one job to its end on the node (a fresh one where None); what it cost, in base units.

    settle: False leaves it running.
    """
    wallet = wallet or await actor.renter(20 * TOKEN)
    node = node or await actor.node()
    matcher, meter = actor.keys.matcher, actor.keys.meter
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
    bps = (await actor.reader.get_config()).params.protocol_bps + fees.fee_bps
    claim = actor.claim(node, escrow, terms, await actor.now_ms(), fee_bps=bps)
    assigned = actor.calls.assign(escrow, node.ref, matcher.pubkey(), claim)
    opened = actor.calls.open_escrow(escrow, matcher.pubkey(), terms)
    await actor.send([*assigned.checks, opened, assigned.call], matcher)
    if not settle:
        return 0
    at = (await actor.reader.get(EscrowAccount, actor.calls.escrow_address(escrow))).account.attempt.assigned_at
    final = actor.voucher(
        node, escrow, PRICE, sequence=1, started_at_ms=at, at_ms=at + billed_ms, billed_ms=billed_ms,
        state=VoucherState.FINAL, reason=1,
    )  # fmt: skip
    settled = actor.calls.settle(escrow, node.ref, meter.pubkey(), final)
    await actor.send([*settled.checks, settled.call], meter)
    return PRICE * billed_ms // HOUR_MS
