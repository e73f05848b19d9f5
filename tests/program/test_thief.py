"""What a thief of a market's matcher and meter keys, with one node of his own, takes: measured.

The bounds are the last paragraph of program.md section 6: of a wallet each day's cap and at most the total; deposits of
escrows assigned to his node, unless cancelled; of honest operators' bonds at most the epoch's cap, and that goes to the
renters; and all of it ends when the cold key rotates the others and the new matcher cancels what runs.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from solders.keypair import Keypair

from marketplace.chain.builders import EscrowRef
from marketplace.protocol.vouchers import VoucherState
from tests.program.flows import (
    Node,
    assign,
    cancel,
    close_contest,
    contest,
    end_contest,
    finish,
    grant,
    market_escrow,
    new_node,
    open_escrow,
    own_escrow,
    read,
    reap,
    release,
    settle,
    voucher,
)
from tests.program.world import BOND, EPOCH_MS, HOUR, PARAMS, Refused, World, key, refused

DAY = 24 * HOUR
PRICE = 3_600_000_000
"""A thousand units a millisecond: so high that time is no bound."""
STOP_AFTER = 300_000


@dataclass
class Thief:
    """Signs as matcher, as meter and as his own node; `world.matcher` and `world.meter` are what he stole."""

    world: World
    node: Node
    nonces: Iterator[int] = field(default_factory=lambda: iter(range(1, 200)))

    def loot(self) -> int:
        """Payment tokens that he has got."""
        return self.world.tokens(self.world.payment_account(self.node.operator.pubkey()))

    def stakes(self) -> int:
        """Stake tokens that he has got."""
        return self.world.tokens(self.world.stake_account(self.node.operator.pubkey()))

    def open(self, wallet: Keypair, amount: int) -> EscrowRef | None:
        """An escrow of the wallet's money for his own node; None where the program says no."""
        escrow = market_escrow(self.world, wallet, next(self.nonces))
        try:
            open_escrow(
                self.world,
                wallet,
                escrow,
                deposit=amount,
                ceiling_price=PRICE,
                max_time_ms=10 * DAY,
                attempts_allowed=9,
            )
        except Refused:
            return None
        return escrow

    def drain(self, escrow: EscrowRef) -> None:
        """Takes the whole deposit for work that nobody did."""
        world = self.world
        deposit = read(world, escrow).deposit
        if read(world, escrow).state == 0:
            assign(world, escrow, self.node)
        billed = deposit * HOUR // PRICE
        world.pass_ms(-(-billed // 1_000) * 1_000)
        finish(world, escrow, self.node, 1, billed)

    def most(self, wallet: Keypair) -> list[EscrowRef]:
        """Opens as much as he is let, halving what is refused."""
        opened, amount = [], PARAMS.minimum_deposit << 20
        while amount >= PARAMS.minimum_deposit:
            escrow = self.open(wallet, amount)
            if escrow is None:
                amount //= 2
            else:
                opened.append(escrow)
        return opened


@pytest.fixture
def thief(world):
    return Thief(world, new_node(world, "the thief's", bond=20 * BOND))


def spent(world, wallet, deposited):
    """What has left a wallet's vault."""
    return deposited - world.tokens(world.vault_tokens(wallet.pubkey()))


def rotate(world):
    """The cold key's answer; the tests go on as the market's new keys."""
    matcher, meter = key("new matcher"), key("new meter")
    for who in (matcher, meter):
        world.svm.airdrop(who.pubkey(), 10**10)
    call = world.build.rotate_keys(world.authority.pubkey(), matcher.pubkey(), meter.pubkey())
    world.send(call, signers=[world.authority])
    return matcher, meter


def test_of_a_wallet_he_takes_each_day_s_cap_and_at_most_the_total(world, thief):
    vault, day_cap, total = 10**9, 300_000, 1_000_000
    careful, bystander = (world.renter(name, payment=vault, vault=vault) for name in ("careful", "bystander"))
    grant(world, careful, escrow_cap=130_000, day_cap=day_cap, total_cap=total, max_price=PRICE)
    taken = []
    for day in range(1, 6):
        for escrow in thief.most(careful):
            thief.drain(escrow)
        taken.append(spent(world, careful, vault))
        assert taken[-1] <= min(day * day_cap, total)
        world.pass_ms(DAY)
    # he does get nearly all of it: the bound is tight, not vacuous
    floor = PARAMS.minimum_deposit
    for day, amount in enumerate(taken, start=1):
        assert amount > min(day * day_cap, total) - floor * day
    assert taken[-1] == taken[-2] > total - floor
    # a part of it is fees, of the market, the protocol and his own pool
    assert 0 < thief.loot() < taken[-1]
    assert world.vault(careful).locked == 0
    # who allowed nothing loses nothing
    assert spent(world, bystander, vault) == 0


def test_what_unlocks_and_is_opened_again_takes_no_more_than_the_cap(world, thief):
    """Opening, cancelling, extending and opening again in one day, over midnight too: what is paid stays counted."""
    vault, day_cap = 10**9, 100_000
    wallet = world.renter("careful", payment=vault, vault=vault)
    grant(world, wallet, escrow_cap=day_cap, day_cap=day_cap, total_cap=10**8, max_price=PRICE)
    for _ in range(5):
        escrow = thief.open(wallet, day_cap)
        cancel(world, escrow, world.matcher)
        assert world.allowance(wallet).day_used == 0
    escrow = thief.open(wallet, day_cap // 2)
    extend = world.build.extend_escrow(escrow, world.matcher.pubkey(), day_cap // 2, 0, None)
    world.send(extend, signers=[world.matcher])
    with refused("EscrowCapExceeded"):
        world.send(world.build.extend_escrow(escrow, world.matcher.pubkey(), 1, 0, None), signers=[world.matcher])
    thief.drain(escrow)
    assert thief.most(wallet) == []
    assert spent(world, wallet, vault) == day_cap
    # a deposit that was locked before midnight is the day before's, and is drained beside the new day's
    world.pass_ms(DAY - world.chain_ms % DAY - 3_000 + DAY)
    late = thief.open(wallet, day_cap)
    world.pass_ms(3_000)
    early = thief.open(wallet, day_cap)
    for escrow in (late, early):
        thief.drain(escrow)
    assert thief.most(wallet) == []
    assert spent(world, wallet, vault) == 3 * day_cap  # of three days


def test_he_pays_no_more_than_the_wallet_s_highest_price_and_the_clock_allow(world, thief):
    """Before time has passed nothing is due, whatever both his keys sign."""
    wallet = world.renter("careful", payment=10**9, vault=10**9)
    grant(world, wallet, max_price=3_600_000)
    escrow = market_escrow(world, wallet, 1)
    with refused("PriceAboveAllowance"):
        open_escrow(world, wallet, escrow, ceiling_price=3_600_001)
    open_escrow(world, wallet, escrow, deposit=100_000, ceiling_price=3_600_000, max_time_ms=DAY)
    with refused("PriceAboveAllowance"):
        assign(world, escrow, thief.node, price_per_hour=3_600_001)
    assign(world, escrow, thief.node)
    world.pass_ms(10_000)
    start = read(world, escrow).attempt.assigned_at
    # he may date the start before the assignment by the clocks' difference, and himself as far ahead
    most = 10_000 + 2 * PARAMS.skew
    early = {"started_at_ms": start - PARAMS.skew, "at_ms": world.chain_ms + PARAMS.skew}
    with refused("BilledBeyondClock"):
        settle(world, escrow, thief.node, voucher(world, escrow, thief.node, 1, most + 1, **early))
    settle(world, escrow, thief.node, voucher(world, escrow, thief.node, 1, most, **early))
    assert read(world, escrow).paid == most


def test_of_what_wallets_opened_themselves_he_takes_what_he_assigns_to_his_node(world, thief):
    """An escrow that is cancelled in time is out of his reach; one that is cancelled while it runs costs 300 s."""
    vault, deposit = 10**9, 2 * PRICE // HOUR * STOP_AFTER
    names = ("unlucky", "quick", "watchful")
    unlucky, quick, watchful = (world.renter(name, payment=vault, vault=vault) for name in names)
    escrows = {}
    for wallet in (unlucky, quick, watchful):
        escrows[wallet] = open_escrow(
            world, wallet, own_escrow(world, wallet), deposit=deposit, ceiling_price=PRICE, max_time_ms=DAY
        )
    cancel(world, escrows[quick], quick)
    assert not world.exists(world.build.escrow_address(escrows[quick]))
    assign(world, escrows[unlucky], thief.node)
    assign(world, escrows[watchful], thief.node)
    world.pass_ms(10_000)
    cancel(world, escrows[watchful], watchful)
    stopped = world.chain_ms + STOP_AFTER
    thief.drain(escrows[unlucky])
    world.pass_ms(STOP_AFTER)
    ran = 10_000 + STOP_AFTER
    with refused("BilledBeyondClock"):
        settle(world, escrows[watchful], thief.node, voucher(world, escrows[watchful], thief.node, 1, ran + 1))
    assert world.chain_ms > stopped
    finish(world, escrows[watchful], thief.node, 1, ran)
    assert spent(world, unlucky, vault) == deposit
    assert spent(world, quick, vault) == 0
    assert spent(world, watchful, vault) == ran * PRICE // HOUR < deposit
    for wallet in (unlucky, quick, watchful):
        assert world.vault(wallet).locked == 0


def test_of_an_honest_bond_he_burns_at_most_the_epoch_s_cap_and_the_renters_get_it(world, thief):
    """He says of a node that works that it is lost, as often as he can. Nothing of it is his."""
    honest, other = new_node(world, "honest"), new_node(world, "other honest")
    paid = BOND // 4
    wallets = [world.renter(f"renter {n}", payment=10**9, vault=10**9) for n in range(4)]
    # begins with an epoch, so that all of it falls into that one and the next
    world.pass_ms(EPOCH_MS - (world.chain_ms - world.config().epoch_start) % EPOCH_MS)
    running = []
    for wallet in wallets:
        grant(world, wallet, max_price=10 * PRICE, escrow_cap=10**9, day_cap=10**9, total_cap=10**9)
        for nonce in (1, 2, 3, 4):
            escrow = market_escrow(world, wallet, nonce)
            open_escrow(world, wallet, escrow, deposit=paid, ceiling_price=10 * PRICE, max_time_ms=DAY)
            assign(world, escrow, honest)
            running.append((wallet, escrow))
    world.pass_ms(2_000)
    for _, escrow in running:
        # real work, honestly signed by the node; the stolen meter countersigned it to make the loss dear
        settle(world, escrow, honest, voucher(world, escrow, honest, 1, paid * HOUR // (10 * PRICE)))
    before = {"loot": thief.loot(), "stakes": thief.stakes()}
    world.pass_ms(PARAMS.lost_after)
    for _, escrow in running:
        release(world, escrow, honest)
        assert read(world, escrow).contest.loss
    wanted = len(running) * paid * PARAMS.compensation_bps // 10_000
    assert world.node(honest.key).held == wanted > BOND * PARAMS.slash_cap_bps // 10_000
    world.pass_ms(PARAMS.contest + 1_000)
    for _, escrow in running:
        close_contest(world, escrow, honest)
    left = world.pool(honest.key).active_stake
    taken = BOND - left
    assert BOND * PARAMS.slash_cap_bps // 10_000 - len(running) <= taken <= BOND * PARAMS.slash_cap_bps // 10_000
    # every unit of it is the renters'
    owed = sum(world.vault(wallet).compensation_owed for wallet in wallets)
    assert owed == taken == world.tokens(world.build.addresses.compensation())
    for wallet in wallets:
        amount = world.vault(wallet).compensation_owed
        if amount:
            held_before = world.tokens(world.stake_account(wallet.pubkey()))
            world.send(world.build.claim_compensation(wallet.pubkey()), signers=[wallet])
            assert world.tokens(world.stake_account(wallet.pubkey())) - held_before == amount
    assert {"loot": thief.loot(), "stakes": thief.stakes()} == before
    # the node gets no further work to be lost with, and who did not work for his market loses nothing
    waiting = market_escrow(world, wallets[0], 9)
    open_escrow(world, wallets[0], waiting, deposit=10_000, max_time_ms=1_000)
    with refused("BondTooSmall"):
        assign(world, waiting, honest)
    assert world.pool(other.key).active_stake == BOND


def test_as_matcher_alone_he_ends_attempts_without_touching_a_bond(world, thief):
    honest = new_node(world, "honest")
    wallet = world.renter("renter", payment=10**9, vault=10**9)
    escrow = open_escrow(world, wallet, own_escrow(world, wallet))
    assign(world, escrow, honest)
    world.pass_ms(PARAMS.lost_after)
    release(world, escrow, honest, reason=8, submitter=world.matcher)
    end_contest(world, escrow, honest)
    assert world.pool(honest.key).active_stake == BOND
    assert thief.loot() == 0


def test_a_node_that_kept_the_meter_s_vouchers_clears_itself(world, thief):
    """What the meter signed before the theft, or the thief to seem honest, decides against him."""
    honest = new_node(world, "honest")
    wallet = world.renter("renter", payment=10**9, vault=10**9)
    escrow = open_escrow(world, wallet, own_escrow(world, wallet))
    assign(world, escrow, honest)
    world.pass_ms(PARAMS.lost_after)
    kept = voucher(world, escrow, honest, 1, PARAMS.lost_after)
    world.pass_ms(1_000)
    release(world, escrow, honest)
    assert read(world, escrow).contest.loss
    contest(world, escrow, honest, kept)
    assert not read(world, escrow).contest.loss
    end_contest(world, escrow, honest)
    assert world.pool(honest.key).active_stake == BOND
    assert world.node(honest.key).attempts_lost == 0


def test_rotation_and_cancellation_end_it_within_300_seconds(world, thief):
    deposit = 2 * PRICE // HOUR * STOP_AFTER
    vault = 10 * deposit
    wallet = world.renter("careful", payment=vault, vault=vault)
    honest = new_node(world, "honest", bond=BOND)
    caps = dict.fromkeys(("escrow_cap", "day_cap", "total_cap"), vault)
    grant(world, wallet, max_price=PRICE, **caps)
    running, ready = thief.open(wallet, deposit), thief.open(wallet, 10_000)
    assign(world, running, thief.node)
    works = open_escrow(world, wallet, own_escrow(world, wallet))
    assign(world, works, honest)
    world.pass_ms(60_000)
    settle(world, running, thief.node, voucher(world, running, thief.node, 1, 60_000))
    before = spent(world, wallet, vault)
    former, stolen_meter = world.matcher, world.meter
    matcher, meter = rotate(world)
    # nothing new: neither opened, assigned, extended nor cancelled with the stolen keys
    with refused("NotMatcher"):
        open_escrow(world, wallet, market_escrow(world, wallet, 90), deposit=10_000)
    with refused("NotMatcher"):
        assign(world, ready, thief.node)
    with refused("NotOpener"):
        world.send(world.build.extend_escrow(running, former.pubkey(), 1, 0, thief.node.ref(world)), signers=[former])
    with refused("NotOpener"):
        cancel(world, ready, former)
    with refused("NotReleaser"):
        release(world, works, honest, reason=8, submitter=former)
    # the new matcher cancels what runs and what waits
    world.matcher = matcher
    for escrow in (running, ready, works):
        cancel(world, escrow, matcher)
    world.meter = stolen_meter
    world.pass_ms(DAY)
    with refused("BilledBeyondClock"):
        settle(world, running, thief.node, voucher(world, running, thief.node, 2, 60_000 + STOP_AFTER + 1))
    finish(world, running, thief.node, 2, 60_000 + STOP_AFTER)
    assert spent(world, wallet, vault) - before == STOP_AFTER * PRICE // HOUR
    # attempts of honest nodes end by node and renter, without either of the market's keys
    world.meter = meter
    last = voucher(world, works, honest, 1, 60_000, state=VoucherState.FINAL, reason=3, counter=wallet)
    settle(world, works, honest, last, submitter=wallet)
    assert world.vault(wallet).locked == 0
    assert world.pool(honest.key).active_stake == BOND


def test_after_the_rotation_the_stolen_meter_still_ends_what_ran_with_it_and_burns_no_more_than_the_cap(world, thief):
    """A running attempt keeps its meter: the bound is the same epoch's cap, and still nothing of it is his."""
    honest = new_node(world, "honest")
    wallet = world.renter("renter", payment=10**9, vault=10**9)
    escrow = open_escrow(
        world, wallet, own_escrow(world, wallet), deposit=BOND, ceiling_price=10 * PRICE, max_time_ms=DAY
    )
    assign(world, escrow, honest)
    world.pass_ms(6_000)
    settle(world, escrow, honest, voucher(world, escrow, honest, 1, BOND * HOUR // (10 * PRICE)))
    rotate(world)
    world.pass_ms(PARAMS.lost_after)
    release(world, escrow, honest)
    end_contest(world, escrow, honest)
    compensation = world.vault(wallet).compensation_owed
    assert compensation == BOND * PARAMS.compensation_bps // 10_000 <= BOND * PARAMS.slash_cap_bps // 10_000
    assert thief.loot() == 0


def test_what_he_leaves_lying_is_reaped_by_anybody(world, thief):
    """No escrow of a robbed wallet stays locked because its market's keys are gone."""
    vault = 10**9
    wallet = world.renter("careful", payment=vault, vault=vault)
    grant(world, wallet, max_price=PRICE)
    running, ready = thief.open(wallet, 500_000), thief.open(wallet, 500_000)
    assign(world, running, thief.node)
    rotate(world)
    world.pass_ms(PARAMS.queue_limit + 1_000)
    reap(world, ready, None)
    world.pass_ms(PARAMS.ready_limit + 10 * DAY + PARAMS.reap_grace)
    reap(world, running, thief.node)
    end_contest(world, running, thief.node)
    assert world.vault(wallet).locked == 0
    assert spent(world, wallet, vault) == 0
