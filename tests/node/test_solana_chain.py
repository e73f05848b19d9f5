"""The node's own view of a real chain with the real program on it: reading its escrow, settling, quitting."""

import asyncio
from dataclasses import replace

import pytest
from solders.keypair import Keypair
from solders.system_program import TransferParams, transfer

from marketplace.chain.accounts import EscrowAccount
from marketplace.chain.builders import AllowanceTerms, EscrowRef, EscrowTerms
from marketplace.protocol.control import ClaimRequest, SignedVoucher
from marketplace.protocol.vouchers import VoucherState
from node.chain import ChainRefused, ChainSilent, Standing
from node.clock import Anchor
from node.journal import Accepted, Attempt
from node.keys import KeyPair
from node.solana_chain import SolanaChain
from tests.chain.conftest import actor, running
from tests.chain.market import CPU, HOUR_MS, Actor, TestNode

__all__ = ["actor", "running"]  # fixtures: one chain for this module

pytestmark = pytest.mark.xdist_group("node-localnet")

PRICE = 3_600_000
TERMS = EscrowTerms(
    nonce=1,
    class_id=CPU,
    terms_hash=bytes([7]) * 32,
    ceiling_price=PRICE,
    deposit=600_000,
    max_time_ms=600_000,
    attempts_allowed=3,
)


class Claimed:
    """An escrow that is assigned to a node of ours, and what the node would remember of it."""

    def __init__(self, actor: Actor, node: TestNode, escrow: EscrowRef) -> None:
        self.actor = actor
        self.node = node
        self.escrow = escrow
        key = KeyPair(bytes(node.key)[:32], bytes(node.key.pubkey()))
        self.view = SolanaChain(actor.running.rpc, bytes(actor.calls.deployment.program), key)

    def attempt(self, **changes: object) -> Attempt:
        request = ClaimRequest(
            allocation_id="alloc_1",
            attempt=1,
            escrow=bytes(self.actor.calls.escrow_address(self.escrow)),
            wallet=bytes(self.escrow.wallet),
            market=bytes(self.actor.market),
            node=bytes(self.actor.calls.addresses.node(self.node.key.pubkey())),
            class_id="cpu-small",
            price_per_hour=PRICE,
            max_ms=TERMS.max_time_ms,
            deposit=TERMS.deposit,
            terms_hash=TERMS.terms_hash,
            fee_bps=500,
            chain_time_ms=0,
            sealed_spec=b"",
            answer_by_ms=0,
        )
        record = Attempt(
            request=request,
            request_frame="f",
            claim_at_ms=0,
            claim_signature=b"",
            anchor=Anchor("boot", 0, 0, 0),
            start_limit_ms=0,
            meter_key=bytes(self.actor.keys.meter.pubkey()),
        )
        return replace(record, **changes)  # type: ignore[arg-type]

    async def accepted(self, billed_ms: int, state: VoucherState, reason: int) -> Accepted:
        address = self.actor.calls.escrow_address(self.escrow)
        at = (await self.actor.reader.get(EscrowAccount, address)).account.attempt.assigned_at
        both = self.actor.voucher(
            self.node, self.escrow, PRICE, sequence=1, started_at_ms=at, at_ms=at + billed_ms + 100,
            billed_ms=billed_ms, state=state, reason=reason,
        )  # fmt: skip
        assert both.node_signature is not None
        assert both.counter_signature is not None
        voucher = SignedVoucher(fields=both.message.fields(), signature=bytes(both.node_signature))
        return Accepted(voucher, bytes(both.counter_signature))


async def claimed(actor: Actor, *, assign: bool = True) -> Claimed:
    wallet, node = await asyncio.gather(actor.renter(2_000_000), actor.node())
    caps = AllowanceTerms(1_000_000, 5_000_000, 10_000_000, PRICE, await actor.now_ms() + HOUR_MS)
    key = wallet.pubkey()
    await actor.send([actor.calls.grant_allowance(key, key, actor.market, caps)], wallet)
    # The node pays what it settles itself.
    pay = TransferParams(from_pubkey=node.operator.pubkey(), to_pubkey=node.key.pubkey(), lamports=10_000_000)
    await actor.send([transfer(pay)], node.operator)
    matcher = actor.keys.matcher
    escrow = EscrowRef(key, actor.market, 1, actor.market, matcher.pubkey())
    steps = [actor.calls.open_escrow(escrow, matcher.pubkey(), TERMS)]
    if assign:
        claim = actor.claim(node, escrow, TERMS, await actor.now_ms())
        approved = actor.calls.assign(escrow, node.ref, matcher.pubkey(), claim)
        await actor.send([*approved.checks, *steps, approved.call], matcher)
    else:
        await actor.send(steps, matcher)
    return Claimed(actor, node, escrow)


async def test_an_assignment_is_read_from_the_escrow_itself(actor: Actor) -> None:
    mine = await claimed(actor)
    async with mine.view as view:
        found = await view.look(mine.attempt())
        assert found.standing is Standing.ASSIGNED
        assert found.price_per_hour == PRICE
        assert found.meter_key == bytes(actor.keys.meter.pubkey())
        request = mine.attempt().request
        other_terms = request.model_copy(update={"terms_hash": b"\x08" * 32})
        assert (await view.look(mine.attempt(request=other_terms))).standing is Standing.OVER
        later = request.model_copy(update={"attempt": 2})
        assert (await view.look(mine.attempt(request=later))).standing is Standing.WAITING
        windows = await view.windows()
        assert windows.claim_limit_ms == 30_000
        assert windows.lost_after_ms == 6_000
        earlier = await actor.now_ms()
        seen = await view.time_ms()
        # between two blocks it may be of either second
        assert earlier - 1_000 <= seen <= await actor.now_ms() + 1_000
        assert await view.genesis_hash() == actor.calls.deployment.genesis_hash


async def test_an_escrow_of_another_node_is_not_ours(actor: Actor) -> None:
    theirs = await claimed(actor)
    stranger = Keypair()
    key = KeyPair(bytes(stranger)[:32], bytes(stranger.pubkey()))
    async with SolanaChain(actor.running.rpc, bytes(actor.calls.deployment.program), key) as view:
        assert (await view.look(theirs.attempt())).standing is Standing.OVER


async def test_an_escrow_that_is_only_open_is_waited_for(actor: Actor) -> None:
    mine = await claimed(actor, assign=False)
    async with mine.view as view:
        assert (await view.look(mine.attempt())).standing is Standing.WAITING


async def test_a_node_settles_its_final_voucher_without_the_market(actor: Actor) -> None:
    mine = await claimed(actor)
    before = await actor.reader.find_token_account(mine.node.ref.payout)
    assert before is not None
    async with mine.view as view:
        await view.settle(mine.attempt(), await mine.accepted(900, VoucherState.FINAL, 1))
        after = await actor.reader.find_token_account(mine.node.ref.payout)
        assert after is not None
        assert 0 < after.amount - before.amount <= 900
        ended = mine.attempt(started_at_ms=1)
        assert (await view.look(ended)).standing is Standing.OVER
        with pytest.raises(ChainRefused):
            await view.settle(ended, no_voucher())


def no_voucher() -> Accepted:
    """A voucher for an escrow that is closed: nothing of it is looked at."""
    return Accepted(SignedVoucher(fields=b"", signature=b""), b"")


async def test_a_node_quits_with_its_best_voucher(actor: Actor) -> None:
    mine = await claimed(actor)
    async with mine.view as view:
        await view.quit(mine.attempt(), await mine.accepted(700, VoucherState.RUNNING, 0))
        account = await actor.reader.find_escrow(actor.calls.escrow_address(mine.escrow))
        assert account is not None
        assert account.contest.by_quit
        assert account.paid == 700
        assert (await view.look(mine.attempt(started_at_ms=1))).standing is Standing.OVER


async def test_a_chain_that_does_not_answer_is_silent() -> None:
    key = Keypair()
    pair = KeyPair(bytes(key)[:32], bytes(key.pubkey()))
    async with SolanaChain("http://127.0.0.1:9", bytes(32), pair) as view:
        with pytest.raises(ChainSilent):
            await view.time_ms()
