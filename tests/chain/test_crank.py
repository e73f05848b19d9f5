"""The crank on a running localnet, signed by the market's meter key from its own list."""

import pytest
from solders.pubkey import Pubkey

from marketplace.chain.builders import EscrowRef, EscrowTerms
from marketplace.chain.hotkeys import METER_CALLS, HotKey
from marketplace.services.crank import CrankDuty, CrankReport, CrankRules, crank_once
from marketplace.services.crank_chain import SolanaCrank
from tests.chain.market import CPU, HOUR_MS, Actor

pytestmark = pytest.mark.xdist_group("chain-localnet")

PRICE = 3_600_000


def cranking(actor: Actor, market: Pubkey | None) -> SolanaCrank:
    meter = HotKey(actor.keys.meter, METER_CALLS, actor.codec)
    return SolanaCrank(
        actor.reader, actor.calls, actor.assembler, actor.sender, meter.pubkey(), meter.sign, market=market
    )


def of_escrow(report: CrankReport, escrow: Pubkey) -> list[CrankDuty]:
    return [done.duty for done in report.done if done.subject == str(escrow)]


async def test_a_contest_is_closed_by_anybody_once_and_epochs_go_on(actor: Actor) -> None:
    wallet, node = await actor.renter(2_000_000), await actor.node()
    escrow = EscrowRef(wallet.pubkey(), wallet.pubkey(), 1, actor.market, wallet.pubkey())
    terms = EscrowTerms(1, CPU, bytes(32), PRICE, 600_000, 600_000 * HOUR_MS // PRICE, 3)
    await actor.send([actor.calls.open_escrow(escrow, wallet.pubkey(), terms)], wallet)
    claim = actor.claim(node, escrow, terms, await actor.now_ms())
    assigned = actor.calls.assign(escrow, node.ref, actor.keys.matcher.pubkey(), claim)
    await actor.send([*assigned.checks, assigned.call], actor.keys.matcher)
    release = actor.calls.release_node(escrow, node.ref, actor.keys.matcher.pubkey(), 8, None)
    await actor.send([release.call], actor.keys.matcher)
    address = actor.calls.escrow_address(escrow)
    account = await actor.reader.find_escrow(address)
    assert account is not None
    config = await actor.reader.get_config()

    elsewhere = cranking(actor, None)
    ours = cranking(actor, actor.market)
    await actor.until_ms(account.contest.released_at + config.params.contest + 1_000)
    first = await crank_once(ours, CrankRules(sweep_from=10**12))
    assert of_escrow(first, address) == [CrankDuty.CONTEST]
    assert str(address) not in {refused.subject for refused in first.refused}
    again = await crank_once(elsewhere, CrankRules(sweep_from=10**12))
    assert of_escrow(again, address) == []
    after = await actor.reader.find_escrow(address)
    assert after is not None
    assert after.contest.attempt.number == 0
    assert first.wake_at > first.now


async def test_a_market_looks_after_its_own_only(actor: Actor) -> None:
    await actor.node()
    nobodys = cranking(actor, Pubkey.new_unique())
    assert await nobodys.list_nodes() == []
    assert await nobodys.list_escrows() == []
    own = await cranking(actor, actor.market).list_nodes()
    everybodys = await cranking(actor, None).list_nodes()
    assert {node.address for node in own} <= {node.address for node in everybodys}
    assert own
    (market,) = await cranking(actor, actor.market).list_markets()
    assert market.address == actor.market
    pools = await cranking(actor, None).find_pools([own[0].address])
    assert pools[0] is not None
    assert pools[0].node == own[0].address
