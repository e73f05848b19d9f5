"""Whole histories on the real program against the exact model, with everybody's way out at the end."""

import copy

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from marketplace.chain.builders import AllowanceTerms
from marketplace.protocol.vouchers import VoucherState
from tests.program import flows
from tests.program.flows import market_escrow, new_node, own_escrow
from tests.program.model import Allowance, Contest, Model, Refusal, Rules, Wallet
from tests.program.model import Node as ModelNode
from tests.program.world import BOND, EPOCH_MS, HOUR, PARAMS, Refused, new_world

RENTERS = ("ann", "bob")
NODES = ("n1", "n2")
VAULT = 400_000
STATES = {"running": VoucherState.RUNNING, "ended": VoucherState.ENDED, "final": VoucherState.FINAL}


def some(holds):
    """Precondition: an escrow for which it holds. Without it most steps would find nothing to do."""
    return precondition(lambda self: any(holds(e) for e in self.model.escrows.values()))


ASSIGNED = some(lambda e: e.state == "assigned")
CONTESTED = some(lambda e: e.contest is not None)
ALIVE = some(lambda e: e.state != "closed")


class History(RuleBasedStateMachine):
    """Every step is taken by the program and by the model; both accept it, or both refuse it."""

    def __init__(self):
        super().__init__()
        self.world = new_world()
        self.renters = {name: self.world.renter(name, payment=2 * VAULT, vault=VAULT) for name in RENTERS}
        self.nodes = {name: new_node(self.world, name, bond=BOND + 20_000) for name in NODES}
        config = self.world.config()
        rules = Rules(
            protocol_bps=PARAMS.protocol_bps,
            fee_bps=flows.FEES,
            node_share_bps=PARAMS.node_share_bps,
            compensation_bps=PARAMS.compensation_bps,
            slash_cap_bps=PARAMS.slash_cap_bps,
            lost_after=PARAMS.lost_after,
            ready_limit=PARAMS.ready_limit,
            skew=PARAMS.skew,
            contest=PARAMS.contest,
            reap_grace=PARAMS.reap_grace,
            queue_limit=PARAMS.queue_limit,
            stop_after=PARAMS.stop_after,
            minimum_deposit=PARAMS.minimum_deposit,
            exposure_multiple=PARAMS.exposure_multiple,
            minimum_bond=BOND,
            epoch_ms=EPOCH_MS,
            epoch_start=config.epoch_start,
        )
        self.model = Model(rules, self.world.chain_ms)
        for name in RENTERS:
            self.model.wallets[name] = Wallet(outside=VAULT, vault=VAULT)
        for name in NODES:
            self.model.nodes[name] = ModelNode(stake=BOND + 20_000, shares=BOND + 20_000)
        self.refs = {}

    @initialize(cap=st.integers(50_000, 300_000), day=st.integers(50_000, 400_000), total=st.integers(100_000, 900_000))
    def grant(self, cap, day, total):
        for name, wallet in self.renters.items():
            expires = self.world.chain_ms + 10 * HOUR
            flows.grant(self.world, wallet, escrow_cap=cap, day_cap=day, total_cap=total, expires_at_ms=expires)
            self.model.allowances[name] = Allowance(cap, day, total, 10**9, expires)

    def step(self, in_model, on_chain):
        """Takes one step on both sides."""
        before = copy.deepcopy(self.model)
        try:
            in_model()
        except Refusal as refusal:
            self.model = before
            with pytest.raises(Refused) as caught:
                on_chain()
            assert caught.value.name == str(refusal), caught.value  # noqa: PT017 - which refusal is the point
            return
        on_chain()

    # --- rules

    @rule(
        name=st.sampled_from(RENTERS),
        amount=st.integers(0, 300_000),
        how=st.sampled_from(["deposit", "withdraw", "claim_compensation"]),
    )
    def move_tokens(self, name, amount, how):
        wallet, build = self.renters[name], self.world.build
        calls = {
            "deposit": build.deposit(wallet.pubkey(), wallet.pubkey(), amount),
            "withdraw": build.withdraw(wallet.pubkey(), amount),
            "claim_compensation": build.claim_compensation(wallet.pubkey()),
        }
        arguments = (name,) if how == "claim_compensation" else (name, amount)
        self.step(lambda: getattr(self.model, how)(*arguments), lambda: self.world.send(calls[how], signers=[wallet]))

    @rule(
        name=st.sampled_from(RENTERS),
        allowed=st.booleans(),
        price=st.sampled_from([flows.PRICE, flows.PRICE // 3, 7 * flows.PRICE]),
        deposit=st.sampled_from([999, 1_000, 20_000, 77_777, 150_000]),
        max_ms=st.sampled_from([3_000, 30_000, 200_000]),
        attempts=st.integers(1, 3),
        node=st.sampled_from((None, *NODES, *NODES)),
    )
    def open(self, name, allowed, price, deposit, max_ms, attempts, node):
        number = len(self.refs) + 1
        wallet = self.renters[name]
        ref = market_escrow(self.world, wallet, number) if allowed else own_escrow(self.world, wallet, number)

        def on_chain():
            flows.open_escrow(
                self.world, wallet, ref,
                ceiling_price=price, deposit=deposit, max_time_ms=max_ms, attempts_allowed=attempts,
            )  # fmt: skip
            self.refs[number] = ref

        self.step(lambda: self.model.open(number, name, price, deposit, max_ms, attempts, allowed=allowed), on_chain)
        if node is not None and number in self.refs:
            self.assign_to(number, node, price)

    @rule(name=st.sampled_from(RENTERS), cap=st.sampled_from([0, 60_000, 200_000]), total=st.integers(0, 900_000))
    def replace_allowance(self, name, cap, total):
        build, wallet = self.world.build, self.renters[name]
        if cap:
            expires = self.model.allowances[name].expires_at
            terms = AllowanceTerms(cap, 2 * cap, total, 10**9, expires)
            grant = build.grant_allowance(wallet.pubkey(), wallet.pubkey(), self.world.market, terms)
            self.step(
                lambda: self.model.grant(name, cap, 2 * cap, total), lambda: self.world.send(grant, signers=[wallet])
            )
        else:
            revoke = build.revoke_allowance(wallet.pubkey(), self.world.market)
            self.step(lambda: self.model.revoke(name), lambda: self.world.send(revoke, signers=[wallet]))

    @rule(name=st.sampled_from(NODES), amount=st.sampled_from([0, 1, 7_777, 20_000]))
    def bond(self, name, amount):
        node = self.nodes[name]
        call = self.world.build.bond(node.operator.pubkey(), node.key.pubkey(), amount)
        self.step(lambda: self.model.bond(name, amount), lambda: self.world.send(call, signers=[node.operator]))

    @rule(name=st.sampled_from(NODES))
    def freeze_or_thaw_the_payout_account(self, name):
        """A node's payout account takes nothing for a while: the money is owed instead."""
        node, model = self.nodes[name], self.model.nodes[name]
        model.frozen = not model.frozen
        address = self.world.payment_account(node.operator.pubkey())
        mint = self.world.build.deployment.payment_mint
        held, state = self.world.tokens(address), 2 if model.frozen else 1
        self.world.put_token(address, mint, node.operator.pubkey(), held, state=state)

    @rule(name=st.sampled_from(NODES))
    def withdraw_owed(self, name):
        node, model = self.nodes[name], self.model.nodes[name]
        if model.frozen:
            return
        payout = self.world.payment_account(node.operator.pubkey())
        call = self.world.build.withdraw_owed(node.operator.pubkey(), node.key.pubkey(), payout)
        self.step(lambda: self.model.withdraw_owed(name), lambda: self.world.send(call, signers=[node.operator]))

    def alive(self):
        return [n for n in self.refs if self.model.escrows[n].state != "closed"]

    def pick(self, data, among=None):
        alive = [n for n in self.alive() if among is None or among(self.model.escrows[n])]
        return data.draw(st.sampled_from(alive))

    @ALIVE
    @rule(data=st.data(), node=st.sampled_from(NODES), part=st.sampled_from([1, 2]))
    def assign(self, data, node, part):
        number = self.pick(data)
        self.assign_to(number, node, self.model.escrows[number].price // part)

    def assign_to(self, number, node, price):
        self.step(
            lambda: self.model.assign(number, node, price),
            lambda: flows.assign(self.world, self.refs[number], self.nodes[node], price_per_hour=price),
        )

    def usage(self, data, attempt, *, slack):
        """(at, started, billed) of a voucher: mostly right, sometimes beyond a bound."""
        now = self.world.chain_ms
        started = (
            attempt.started
            if attempt.sequence
            else attempt.assigned + data.draw(st.sampled_from([0, 0, 1_500, -PARAMS.skew]))
        )
        at = max(started, now - data.draw(st.sampled_from([0, 0, 1_000, 4_000]))) + data.draw(
            st.sampled_from([0, 0, 0, slack])
        )
        most = max(0, at - started)
        if attempt.sequence:
            most = min(most, attempt.billed + max(0, at - attempt.last_at))
        billed = data.draw(st.sampled_from([most, most, most // 2, most + 1, attempt.billed]))
        return at, started, billed

    def voucher(self, number, node, attempt, at, started, billed, *, state="running", contested=False, counter=None):
        return flows.voucher(
            self.world, self.refs[number], self.nodes[node], attempt.sequence + 1, billed,
            state=STATES[state], reason=1 if state == "final" else 0, contested=contested, counter=counter,
            started_at_ms=started, at_ms=at,
        )  # fmt: skip

    @ASSIGNED
    @rule(data=st.data(), state=st.sampled_from(list(STATES)), by_wallet=st.booleans())
    def settle(self, data, state, by_wallet):
        number = self.pick(data, lambda e: e.state == "assigned")
        e = self.model.escrows[number]
        at, started, billed = self.usage(data, e.attempt, slack=PARAMS.skew + 1)
        counter = self.renters[e.wallet] if by_wallet else None
        signed = self.voucher(number, e.attempt.node, e.attempt, at, started, billed, state=state, counter=counter)
        self.step(
            lambda: self.model.settle(number, state, at, started, billed, by_meter=not by_wallet),
            lambda: flows.settle(self.world, self.refs[number], self.nodes[e.attempt.node], signed),
        )

    @ASSIGNED
    @rule(data=st.data(), shows=st.booleans(), how=st.sampled_from(["release", "quit"]))
    def end_one_sided(self, data, shows, how):
        number = self.pick(data, lambda e: e.state == "assigned")
        attempt = self.model.escrows[number].attempt
        node = self.nodes[attempt.node]
        shown = self.usage(data, attempt, slack=0) if shows else None
        signed = self.voucher(number, attempt.node, attempt, *shown) if shown else None
        if how == "release":
            on_chain = lambda: flows.release(self.world, self.refs[number], node, signed)  # noqa: E731
            self.step(lambda: self.model.release(number, shown), on_chain)
        else:
            on_chain = lambda: flows.quit_attempt(self.world, self.refs[number], node, signed)  # noqa: E731
            self.step(lambda: self.model.quit(number, shown), on_chain)

    @ASSIGNED
    @rule(data=st.data())
    def release_by_matcher(self, data):
        number = self.pick(data, lambda e: e.state == "assigned")
        node = self.nodes[self.model.escrows[number].attempt.node]
        self.step(
            lambda: self.model.release_by_matcher(number),
            lambda: flows.release(self.world, self.refs[number], node, reason=8, submitter=self.world.matcher),
        )

    @CONTESTED
    @rule(data=st.data())
    def contest(self, data):
        number = self.pick(data, lambda e: e.contest is not None)
        contest: Contest = self.model.escrows[number].contest
        at, started, billed = self.usage(data, contest.attempt, slack=0)
        signed = self.voucher(number, contest.attempt.node, contest.attempt, at, started, billed, contested=True)
        self.step(
            lambda: self.model.contest(number, at, started, billed),
            lambda: flows.contest(self.world, self.refs[number], self.nodes[contest.attempt.node], signed),
        )

    @CONTESTED
    @rule(data=st.data())
    def close_contest(self, data):
        number = self.pick(data, lambda e: e.contest is not None)
        node = self.nodes[self.model.escrows[number].contest.attempt.node]
        self.step(
            lambda: self.model.close_contest(number),
            lambda: flows.close_contest(self.world, self.refs[number], node),
        )

    @ALIVE
    @rule(data=st.data())
    def reap(self, data):
        number = self.pick(data)
        e = self.model.escrows[number]
        node = self.nodes[e.attempt.node] if e.state == "assigned" else None
        self.step(lambda: self.model.reap(number), lambda: flows.reap(self.world, self.refs[number], node))

    @ALIVE
    @rule(data=st.data(), by_matcher=st.booleans())
    def cancel(self, data, by_matcher):
        number = self.pick(data)
        authority = self.world.matcher if by_matcher else self.renters[self.model.escrows[number].wallet]
        self.step(lambda: self.model.cancel(number), lambda: flows.cancel(self.world, self.refs[number], authority))

    @rule(span=st.sampled_from([1_000, 2_000, 3_000, 5_000, 7_000, 30_000, 120_000, 700_000]))
    def wait(self, span):
        self.world.pass_ms(span)
        self.model.now = self.world.chain_ms

    # --- what holds after every step

    @invariant()
    def the_program_is_where_the_model_is(self):
        self.model.check()
        world, model = self.world, self.model
        total = 0
        for name, wallet in self.renters.items():
            account, expected = world.vault(wallet), model.wallets[name]
            vault = world.tokens(world.vault_tokens(wallet.pubkey()))
            outside = world.tokens(world.payment_account(wallet.pubkey()))
            assert (vault, outside, account.locked) == (expected.vault, expected.outside, expected.locked)
            assert account.compensation_owed == expected.compensation_owed
            assert world.tokens(world.stake_account(wallet.pubkey())) == expected.compensation_received
            total += vault + outside
            if name in model.allowances:
                allowance = world.allowance(wallet)
                want = model.allowances[name]
                assert allowance.total_used == want.total_used
                assert (allowance.day, allowance.day_used) == (want.day, want.day_used) or want.day_used == 0
        stake = world.tokens(world.config().compensation_vault)
        for name, node in self.nodes.items():
            account, pool, want = world.node(node.key), world.pool(node.key), model.nodes[name]
            assert (account.exposure, account.attempts, account.held) == (want.exposure, want.attempts, want.held)
            assert (account.attempts_well, account.attempts_lost, account.attempts_quit) == (
                want.well,
                want.lost,
                want.quits,
            )
            assert (pool.active_stake, pool.active_shares, pool.bond_shares) == (want.stake, want.shares, want.shares)
            assert world.tokens(pool.stake_vault) == pool.active_stake
            assert (pool.fees, pool.fees_remainder) == (want.fees, want.rest)
            assert (pool.fees_unclaimed, account.owed) == (want.stakers, want.owed)
            assert world.tokens(pool.fee_vault) == want.stakers + want.owed
            paid = world.tokens(world.payment_account(node.operator.pubkey()))
            assert paid == want.paid
            total += paid + want.stakers + want.owed
            stake += pool.active_stake
        market = world.market_account()
        assert (market.market_owed, market.protocol_owed) == (model.market, model.protocol)
        held = world.tokens(market.fee_vault)
        assert held == model.market + model.protocol
        assert total + held == 2 * VAULT * len(RENTERS)
        stake += sum(w.compensation_received for w in model.wallets.values())
        assert stake == (BOND + 20_000) * len(NODES) + sum(n.bonded for n in model.nodes.values())
        for number, ref in self.refs.items():
            e = model.escrows[number]
            address = world.build.escrow_address(ref)
            assert world.exists(address) == (e.state != "closed")
            if e.state != "closed":
                account = world.escrow(address)
                assert (account.paid, account.ended_time, account.stop_at) == (e.paid, e.ended_ms, e.stop_at)
                assert ("open", "assigned", "closing")[account.state] == e.state

    def teardown(self):
        """From wherever the history stopped, everybody gets out within the published windows."""
        world = self.world
        world.pass_ms(PARAMS.ready_limit + 200_000 + PARAMS.stop_after + PARAMS.queue_limit + PARAMS.reap_grace + 1_000)
        self.model.now = world.chain_ms
        for number in self.alive():
            e = self.model.escrows[number]
            if e.contest is not None:
                self.close_contest_of(number)
            if e.state in {"open", "assigned"}:
                node = self.nodes[e.attempt.node] if e.state == "assigned" else None
                self.step(
                    lambda n=number: self.model.reap(n), lambda n=number, x=node: flows.reap(world, self.refs[n], x)
                )
        world.pass_ms(PARAMS.contest + 1_000)
        self.model.now = world.chain_ms
        for number in self.alive():
            self.close_contest_of(number)
        assert not self.alive()
        for name, wallet in self.renters.items():
            assert world.vault(wallet).locked == 0
            rest = self.model.wallets[name].vault
            if rest:
                call = world.build.withdraw(wallet.pubkey(), rest)
                self.step(
                    lambda n=name, r=rest: self.model.withdraw(n, r),
                    lambda c=call, w=wallet: world.send(c, signers=[w]),
                )
        for node in self.nodes.values():
            assert (world.node(node.key).attempts, world.node(node.key).exposure) == (0, 0)
        self.the_program_is_where_the_model_is()

    def close_contest_of(self, number):
        node = self.nodes[self.model.escrows[number].contest.attempt.node]
        self.step(
            lambda: self.model.close_contest(number),
            lambda: flows.close_contest(self.world, self.refs[number], node),
        )


TestHistory = History.TestCase
TestHistory.settings = settings(
    max_examples=60, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
)
