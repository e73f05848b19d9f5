"""The life of an escrow in a few calls; every message is signed as the real parties sign it."""

import hashlib
from dataclasses import dataclass, replace

from solders.keypair import Keypair
from solders.pubkey import Pubkey

from marketplace.chain.accounts import EscrowAccount
from marketplace.chain.builders import (
    AllowanceTerms,
    Approved,
    EscrowRef,
    EscrowTerms,
    NodeRef,
    SignedClaim,
    SignedVoucher,
)
from marketplace.domain.money import amount_due
from marketplace.domain.quantities import Millis, Tokens
from marketplace.protocol.claims import ClaimMessage
from marketplace.protocol.vouchers import VoucherMessage, VoucherState
from tests.program.world import CPU, GENESIS, HOUR, PARAMS, PROGRAM, World

PRICE = 3_600_000
"""Base units per hour: one unit a millisecond, so that amounts are times."""
DEPOSIT = 100_000
TERMS_HASH = hashlib.sha256(b"terms").digest()
FEES = 500
"""Protocol and market together, of a world made with the defaults."""


@dataclass(frozen=True)
class Node:
    """A registered node with the keys of its two sides."""

    operator: Keypair
    key: Keypair

    def ref(self, world: World) -> NodeRef:
        return NodeRef.of(world.node(self.key))

    def address(self, world: World) -> Pubkey:
        return world.build.addresses.node(self.key.pubkey())


def new_node(world: World, name: str = "n", **options: object) -> Node:
    return Node(*world.operator(name, **options))


def grant(world: World, renter: Keypair, **changes: int) -> None:
    """An allowance wide enough for everything, but for `changes`."""
    terms = AllowanceTerms(
        escrow_cap=10**9,
        day_cap=10**9,
        total_cap=10**9,
        max_price=10**9,
        expires_at_ms=world.chain_ms + 240 * HOUR,
    )
    world.send(
        world.build.grant_allowance(renter.pubkey(), renter.pubkey(), world.market, replace(terms, **changes)),
        signers=[renter],
    )


def terms(nonce: int = 1, **changes: object) -> EscrowTerms:
    values = EscrowTerms(
        nonce=nonce,
        class_id=CPU,
        terms_hash=TERMS_HASH,
        ceiling_price=PRICE,
        deposit=DEPOSIT,
        max_time_ms=DEPOSIT,
        attempts_allowed=3,
    )
    return replace(values, **changes)


def own_escrow(world: World, renter: Keypair, nonce: int = 1) -> EscrowRef:
    """An escrow that the wallet opens itself, paying its rent."""
    return EscrowRef(renter.pubkey(), renter.pubkey(), nonce, world.market, renter.pubkey())


def market_escrow(world: World, renter: Keypair, nonce: int = 1) -> EscrowRef:
    """An escrow that the market opens under the wallet's allowance, on its matcher's rent."""
    return EscrowRef(renter.pubkey(), world.market, nonce, world.market, world.matcher.pubkey())


def open_escrow(world: World, renter: Keypair, escrow: EscrowRef, **changes: object) -> EscrowRef:
    signer = world.matcher if escrow.under_allowance else renter
    world.send(
        world.build.open_escrow(escrow, signer.pubkey(), terms(escrow.nonce, **changes)),
        signers=[signer],
        label="open_escrow",
    )
    return escrow


def read(world: World, escrow: EscrowRef) -> EscrowAccount:
    return world.escrow(world.build.escrow_address(escrow))


def claim(
    world: World, escrow: EscrowRef, node: Node, /, *, signer: Keypair | None = None, **changes: object
) -> SignedClaim:
    """The node's claim on what is left of the escrow, at its ceiling."""
    account = read(world, escrow)
    message = ClaimMessage(
        program_id=bytes(PROGRAM),
        genesis_hash=GENESIS,
        escrow=bytes(world.build.escrow_address(escrow)),
        attempt=account.attempt.number + 1,
        market=bytes(escrow.market),
        node=bytes(node.address(world)),
        class_id=world.node(node.key).class_id,
        price_per_hour=account.ceiling_price,
        remaining_max_ms=account.max_time - account.ended_time,
        remaining_deposit=account.deposit - account.paid - account.contest.attempt.exposure,
        terms_hash=account.terms_hash,
        fee_bps=FEES,
        at_ms=world.chain_ms,
    )
    message = replace(message, **changes)
    return SignedClaim(message, node.key.pubkey(), (signer or node.key).sign_message(message.signing_bytes()))


def assign(world: World, escrow: EscrowRef, node: Node, signed: SignedClaim | None = None, **changes: object):
    signed = signed or claim(world, escrow, node, **changes)
    approved = world.build.assign(escrow, node.ref(world), world.matcher.pubkey(), signed)
    return send(world, approved, world.matcher, label="assign")


def send(
    world: World, approved: Approved, submitter: Keypair, *, label: str | None = None, extra: tuple[Keypair, ...] = ()
):
    return world.send(*approved.checks, approved.call, signers=[submitter, *extra], label=label)


def voucher(
    world: World,
    escrow: EscrowRef,
    node: Node,
    sequence: int,
    billed: int,
    /,
    *,
    state: VoucherState = VoucherState.RUNNING,
    reason: int = 0,
    contested: bool = False,
    counter: Keypair | None = None,
    node_signer: Keypair | None = None,
    **changes: object,
) -> SignedVoucher:
    """A voucher of both sides, dated now, for `billed` milliseconds since the assignment.

    counter: who countersigns (default: the meter). contested: of the contested attempt, not the running one.
    """
    account = read(world, escrow)
    attempt = account.contest.attempt if contested else account.attempt
    message = VoucherMessage(
        program_id=bytes(PROGRAM),
        genesis_hash=GENESIS,
        escrow=bytes(world.build.escrow_address(escrow)),
        attempt=attempt.number,
        wallet=bytes(escrow.wallet),
        node=bytes(node.address(world)),
        sequence=sequence,
        started_at_ms=attempt.started_at or attempt.assigned_at,
        at_ms=world.chain_ms,
        billed_ms=billed,
        amount=int(amount_due(Tokens(attempt.price), Millis(billed))),
        state=state,
        reason=reason,
        digest=hashlib.sha256(b"log").digest(),
    )
    message = replace(message, **changes)
    counter = counter or world.meter
    raw = message.signing_bytes()
    return SignedVoucher(
        message,
        node.key.pubkey(),
        counter.pubkey(),
        (node_signer or node.key).sign_message(raw),
        counter.sign_message(raw),
    )


def settle(
    world: World,
    escrow: EscrowRef,
    node: Node,
    signed: SignedVoucher,
    *,
    submitter: Keypair | None = None,
    label: str | None = "settle",
):
    submitter = submitter or world.meter
    approved = world.build.settle(escrow, node.ref(world), submitter.pubkey(), signed)
    return send(world, approved, submitter, label=label)


def finish(world: World, escrow: EscrowRef, node: Node, sequence: int, billed: int, **options: object):
    signed = voucher(world, escrow, node, sequence, billed, state=VoucherState.FINAL, reason=1, **options)
    return settle(world, escrow, node, signed, label="settle final")


def release(
    world: World,
    escrow: EscrowRef,
    node: Node,
    signed: SignedVoucher | None = None,
    *,
    reason: int = 18,
    submitter: Keypair | None = None,
):
    submitter = submitter or world.meter
    approved = world.build.release_node(escrow, node.ref(world), submitter.pubkey(), reason, signed)
    return send(world, approved, submitter, label="release_node")


def quit_attempt(world: World, escrow: EscrowRef, node: Node, signed: SignedVoucher | None = None):
    world.svm.airdrop(node.key.pubkey(), 10**9)
    approved = world.build.quit(escrow, node.ref(world), node.key.pubkey(), signed)
    return send(world, approved, node.key, label="quit")


def contest(world: World, escrow: EscrowRef, node: Node, signed: SignedVoucher, *, submitter: Keypair | None = None):
    submitter = submitter or world.payer
    approved = world.build.contest(escrow, node.ref(world), submitter.pubkey(), signed)
    return send(world, approved, submitter, label="contest")


def close_contest(world: World, escrow: EscrowRef, node: Node):
    call = world.build.close_contest(escrow, node.ref(world), world.payer.pubkey())
    return world.send(call, signers=[world.payer], label="close_contest")


def reap(world: World, escrow: EscrowRef, node: Node | None):
    call = world.build.reap(escrow, None if node is None else node.ref(world), world.payer.pubkey())
    return world.send(call, signers=[world.payer], label="reap")


def cancel(world: World, escrow: EscrowRef, authority: Keypair):
    call = world.build.cancel_escrow(escrow, authority.pubkey())
    return world.send(call, signers=[authority], label="cancel_escrow")


def end_contest(world: World, escrow: EscrowRef, node: Node):
    """Waits for the window's end and closes the contest."""
    world.pass_ms(PARAMS.contest + 1_000)
    return close_contest(world, escrow, node)
