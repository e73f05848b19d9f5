"""What the staking rules say here is what the real program then does: before each act its outcome is computed from
what the chain shows, afterwards the two are compared.
"""

from dataclasses import dataclass, field

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from solders.keypair import Keypair

from marketplace.chain.accounts import EpochAccount, PoolAccount, TicketAccount
from marketplace.chain.builders import EscrowRef
from marketplace.domain.quantities import Bps, Millis, Shares, Stake, Tokens
from marketplace.domain.staking import (
    Bucket,
    EmissionRules,
    EpochClock,
    accrue,
    commission_floor,
    distribution_floor,
    emission_of_epoch,
    in_force,
    overclaim_slash_floor,
    pending_reward,
    unbonding_slash_floor,
    weight_floor,
)
from tests.program import stake_flows
from tests.program.flows import Node, assign, end_contest, finish, new_node, open_escrow, own_escrow, send, voucher
from tests.program.world import ADMIN, BOND, CPU, EPOCH_MS, PARAMS, World, bare_world, key

EMISSION = 777_777
STEPS = ("delegate", "unbond", "withdraw", "claim", "work", "epoch", "overclaim", "commission", "time")


@dataclass
class Checked:
    """A node, its operator and three delegators, and each act with its prediction."""

    world: World
    node: Node
    owners: list[Keypair]
    tickets: dict[int, list[int]] = field(default_factory=dict)
    jobs: int = 0

    @property
    def pool(self) -> PoolAccount:
        return self.world.pool(self.node.key)

    def delegate(self, who: int, size: int) -> None:
        owner, before = self.owners[who], self.pool
        minted = active(before).shares_for_floor(Stake(size))
        if size == 0 or minted == 0 or active(before).is_dead:
            return
        held = self._shares(owner)
        stake_flows.delegate(self.world, self.node, owner, size)
        assert self._shares(owner) == held + minted
        assert self.pool.active_stake == before.active_stake + size

    def unbond(self, who: int, size: int) -> None:
        owner, before = self.owners[who], self.pool
        shares = min(size, self._shares(owner))
        if shares == 0:
            return
        leaves = active(before).stake_for_floor(Shares(shares))
        ticket_shares = unbonding(before).shares_for_floor(leaves)
        index = self.world.position(self.node.key, owner).next_ticket
        stake_flows.unbond(self.world, self.node, owner, shares)
        self.tickets.setdefault(who, []).append(index)
        after = self.pool
        assert after.active_stake == before.active_stake - leaves
        assert after.unbonding_stake == before.unbonding_stake + leaves
        assert self._ticket(owner, index).shares == ticket_shares

    def withdraw(self, who: int, _size: int) -> None:
        owner = self.owners[who]
        for index in self.tickets.pop(who, []):
            unlock_at = self._ticket(owner, index).unlock_at
            self.world.pass_ms(max(0, unlock_at - self.world.chain_ms))
            worth = unbonding(self.pool).stake_for_floor(Shares(self._ticket(owner, index).shares))
            held = self.world.tokens(self.world.stake_account(owner.pubkey()))
            stake_flows.withdraw_ticket(self.world, self.node, owner, index)
            assert self.world.tokens(self.world.stake_account(owner.pubkey())) == held + worth

    def claim(self, who: int, _size: int) -> None:
        owner = [*self.owners, self.node.operator][who % (len(self.owners) + 1)]
        if not self.world.exists(stake_flows.position_address(self.world, self.node, owner)):
            return
        pool, position = self.pool, self.world.position(self.node.key, owner)
        shares = Shares(position.shares)
        fees = pending_reward(shares, pool.fees, position.fees_paid, position.fees_earned)
        emission = pending_reward(shares, pool.emission, position.emission_paid, position.emission_earned)
        if position.is_operator:
            fees, emission = fees + pool.commission_fees, emission + pool.commission_emission
        if not fees and not emission:
            return
        accounts = (self.world.payment_account(owner.pubkey()), self.world.stake_account(owner.pubkey()))
        before = [self.world.tokens(account) for account in accounts]
        stake_flows.claim(self.world, self.node, owner)
        after = [self.world.tokens(account) for account in accounts]
        assert [now - then for now, then in zip(after, before, strict=True)] == [fees, emission]

    def work(self, _who: int, size: int) -> None:
        """A job that ends well: what it pays the stakers is shared out behind the commission."""
        escrow = self._started()
        self.world.pass_ms(20_000)
        before, commission = self.pool, self._commission()
        (settled, *_) = [
            e for e in finish(self.world, escrow, self.node, 1, 1 + size % 20_000) if hasattr(e, "stakers")
        ]
        after = self.pool
        if settled.stakers == 0 or before.active_shares == 0:
            return
        taken = commission_floor(settled.stakers, commission)
        grown = accrue(settled.stakers - taken, before.fees_remainder, Shares(before.active_shares))
        assert after.commission_fees == before.commission_fees + taken
        assert (after.fees, after.fees_remainder) == (before.fees + grown.per_share, grown.remainder)

    def epoch(self, _who: int, _size: int) -> None:
        """The epoch of now is registered, closed and distributed in the next one."""
        world, clock = self.world, self._clock()
        index = clock.index_at(Millis(world.chain_ms))
        world.pass_ms(clock.begins_at(index + 1) + 1_000 - world.chain_ms)
        before = self.pool
        slot = world.node(self.node.key).epochs[index % 3]
        weight = Stake(0)
        if slot.epoch == index:
            weight = weight_floor(Stake(before.active_stake), Tokens(slot.well), Tokens(slot.lost))
        payer, build, address = world.payer, world.build, self.node.address(world)
        if weight:
            world.send(build.register_weight(payer.pubkey(), address, index), signers=[payer])
            assert world.node(self.node.key).epochs[index % 3].weight == weight
        world.pass_ms(EPOCH_MS // 2)
        while world.config().next_epoch < index:
            world.send(build.close_epoch(payer.pubkey(), world.config().next_epoch, None), signers=[payer])
        config = world.config()
        vault = world.tokens(build.addresses.emission())
        emission = emission_of_epoch(Stake(config.scheduled_emission), Stake(vault), Stake(config.committed_emission))
        world.send(build.close_epoch(payer.pubkey(), index, payer.pubkey() if weight else None), signers=[payer])
        if not weight:
            return
        account = world.read(EpochAccount, build.addresses.epoch(index))
        assert account.emission == emission
        rules = EmissionRules(Bps(PARAMS.emission_cap_bps), PARAMS.exposure_rate)
        part = distribution_floor(emission, weight, account.total_weight, Tokens(slot.protocol_fees), rules)
        taken = commission_floor(part, self._commission())
        world.send(build.distribute(payer.pubkey(), address, index, payer.pubkey()), signers=[payer])
        after = self.pool
        if before.active_shares:
            grown = accrue(part - taken, before.emission_remainder, Shares(before.active_shares))
            assert (after.emission, after.emission_remainder) == (before.emission + grown.per_share, grown.remainder)
            assert after.commission_emission == before.commission_emission + taken

    def overclaim(self, _who: int, _size: int) -> None:
        world, escrow = self.world, self._started()
        lie = voucher(world, escrow, self.node, 1, PARAMS.contest + 60_000)
        clock, before = self._clock(), self.pool
        epoch = clock.index_at(Millis(world.chain_ms))
        slot = world.node(self.node.key).epochs[epoch % 3]
        slashed = (slot.slashed_active, slot.slashed_unbonding) if slot.epoch == epoch else (0, 0)
        part, cap = Bps(PARAMS.overclaim_bps), Bps(PARAMS.slash_cap_bps)
        expected = [
            overclaim_slash_floor(Stake(before.active_stake), Stake(slashed[0]), part, cap),
            unbonding_slash_floor(unbonding(before), Stake(slashed[1]), part, cap),
        ]
        vault = world.tokens(world.build.addresses.emission())
        send(
            world,
            world.build.prove_overclaim(escrow, self.node.ref(world), world.payer.pubkey(), lie),
            world.payer,
        )
        after = self.pool
        assert [before.active_stake - after.active_stake, before.unbonding_stake - after.unbonding_stake] == expected
        assert world.tokens(world.build.addresses.emission()) == vault + sum(expected)
        assert (after.active_shares, after.unbonding_shares) == (before.active_shares, before.unbonding_shares)
        end_contest(world, escrow, self.node)
        # the slashed operator tops up, so that the node goes on
        call = world.build.bond(self.node.operator.pubkey(), self.node.key.pubkey(), BOND)
        world.send(call, signers=[self.node.operator])

    def commission(self, _who: int, size: int) -> None:
        current = self._commission()
        stake_flows.set_commission(self.world, self.node, min(current + size % PARAMS.commission_step_bps, 10_000))

    def time(self, _who: int, size: int) -> None:
        self.world.pass_ms(size % 30_000)

    def _commission(self) -> Bps:
        pool = self.pool
        return in_force(
            Bps(pool.commission_bps),
            Bps(pool.pending_commission_bps),
            Millis(pool.pending_commission_at),
            Millis(self.world.chain_ms),
        )

    def _clock(self) -> EpochClock:
        config = self.world.config()
        return EpochClock(Millis(config.epoch_start), Millis(config.epoch_length))

    def _shares(self, owner: Keypair) -> int:
        if not self.world.exists(stake_flows.position_address(self.world, self.node, owner)):
            return 0
        return self.world.position(self.node.key, owner).shares

    def _ticket(self, owner: Keypair, index: int) -> TicketAccount:
        return self.world.read(TicketAccount, stake_flows.ticket_address(self.world, self.node, owner, index))

    def _started(self) -> EscrowRef:
        self.jobs += 1
        renter = key("renter")
        escrow = open_escrow(self.world, renter, own_escrow(self.world, renter, nonce=self.jobs))
        assign(self.world, escrow, self.node)
        return escrow


def active(pool: PoolAccount) -> Bucket:
    return Bucket(Stake(pool.active_stake), Shares(pool.active_shares))


def unbonding(pool: PoolAccount) -> Bucket:
    return Bucket(Stake(pool.unbonding_stake), Shares(pool.unbonding_shares))


def deployed() -> Checked:
    """A deployment with an emission, a market, and a node that takes a tenth."""
    world = bare_world()
    build, payer = world.build, world.payer
    token = key("protocol token").pubkey()
    world.send(
        build.initialize(payer.pubkey(), ADMIN.pubkey(), token, None, PARAMS, EPOCH_MS, EMISSION),
        signers=[payer, ADMIN],
    )
    world.send(build.set_class(payer.pubkey(), ADMIN.pubkey(), CPU, BOND, enabled=True), signers=[payer, ADMIN])
    keys = (world.authority.pubkey(), world.matcher.pubkey(), world.meter.pubkey())
    world.send(build.register_market(payer.pubkey(), *keys, 400), signers=[payer, world.authority])
    at = build.addresses
    world.put_token(at.emission(), build.deployment.stake_mint, at.config(), 5 * EMISSION)
    world.renter("renter", vault=10**8)
    node = new_node(world, "watched", bond=2 * BOND, commission_bps=1_000)
    world.put_token(
        world.stake_account(node.operator.pubkey()), build.deployment.stake_mint, node.operator.pubkey(), 10**12
    )
    owners = [stake_flows.delegator(world, name, stake=10**12) for name in ("one", "two", "three")]
    return Checked(world, node, owners)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(st.sampled_from(STEPS), st.integers(0, 2), st.one_of(st.integers(1, 50), st.integers(1, 10**9))),
        min_size=5,
        max_size=25,
    )
)
def test_every_outcome_is_the_computed_one(history: list[tuple[str, int, int]]) -> None:
    checked = deployed()
    for step, who, size in history:
        getattr(checked, step)(who, size)


def test_each_act_at_least_once_in_a_history_of_its_own() -> None:
    """So that no run of the one above can have passed all by."""
    checked = deployed()
    for step, who, size in (
        ("delegate", 0, 123_456_789),
        ("delegate", 1, 1),
        ("work", 0, 19_998),
        ("epoch", 0, 0),
        ("commission", 0, 300),
        ("unbond", 0, 23_456_789),
        ("overclaim", 0, 0),
        ("delegate", 2, 987_654_321),
        ("work", 0, 12_345),
        ("epoch", 0, 0),
        ("claim", 0, 0),
        ("claim", 1, 0),
        ("claim", 2, 0),
        ("claim", 3, 0),
        ("unbond", 2, 10**12),
        ("withdraw", 0, 0),
        ("withdraw", 2, 0),
    ):
        getattr(checked, step)(who, size)
    assert checked.world.config().distributed_emission == 200 + 124, "a hundredth of what was paid, rounded up"
    assert 0 < checked.pool.active_stake < checked.pool.active_shares, "it was slashed"
    assert checked.pool.emission_unclaimed + checked.pool.fees_unclaimed < 10, "but for rounding all is claimed"
