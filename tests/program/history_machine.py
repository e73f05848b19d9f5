"""The player of histories: every step is taken by the program and by the model; both accept it, or both refuse it."""

import copy
from dataclasses import replace

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from marketplace.chain.builders import AllowanceTerms, SignedClaim
from marketplace.protocol.vouchers import VoucherState
from tests.program import flows
from tests.program.flows import market_escrow, own_escrow
from tests.program.history_stage import HARDWARE, HOME, RENTERS, Stage, Terms
from tests.program.model import Escrow
from tests.program.model_rules import Refusal
from tests.program.world import HOUR, PARAMS, Refused

STATES = {"running": VoucherState.RUNNING, "ended": VoucherState.ENDED, "final": VoucherState.FINAL}
MARKETS = tuple(dict.fromkeys(HOME.values()))
NODES = tuple(HOME)


def some(holds):
    """Precondition: an escrow for which it holds. Without it most steps would find nothing to do."""
    return precondition(lambda self: any(holds(e) for e in self.model.escrows.values()))


ASSIGNED = some(lambda e: e.state == "assigned")
CONTESTED = some(lambda e: e.contest is not None)
ALIVE = some(lambda e: e.state != "closed")


class Player(RuleBasedStateMachine):
    """Renters, markets and attempts. Everything else of a history is in the classes that inherit."""

    def __init__(self):
        super().__init__()
        self.stage = Stage()
        self.world = self.stage.world
        self.model = self.stage.model()

    def step(self, in_model, on_chain):
        """Takes one step on both sides; whether it was accepted."""
        before = copy.deepcopy(self.model)
        try:
            in_model()
        except Refusal as refusal:
            self.model = before
            with pytest.raises(Refused) as caught:
                on_chain()
            assert caught.value.name == str(refusal), caught.value  # noqa: PT017 - which refusal is the point
            return False
        on_chain()
        return True

    def call(self, in_model, call, *signers):
        """A step of one instruction, by the names of who signs."""
        return self.step(in_model, lambda: self.world.send(call, signers=[self.stage.keys[s] for s in signers]))

    def view(self, market, **signers):
        """The world as a market's side sees it, with the keys of other names where given."""
        return replace(self.stage.views[market], **{k: self.stage.keys[name] for k, name in signers.items()})

    def pass_ms(self, span):
        self.stage.pass_ms(span)
        self.model.now = self.world.chain_ms

    # renters

    @initialize(cap=st.integers(50_000, 300_000), day=st.integers(50_000, 400_000), total=st.integers(100_000, 900_000))
    def grant_all(self, cap, day, total):
        for name in RENTERS:
            for market in MARKETS:
                self.grant(name, market, cap, day, total)

    def grant(self, name, market, cap, day, total):
        expires = self.model.now + 10 * HOUR
        wallet = self.stage.keys[name].pubkey()
        terms = AllowanceTerms(cap, day, total, 10**9, expires)
        call = self.world.build.grant_allowance(wallet, wallet, self.stage.views[market].market, terms)
        self.call(lambda: self.model.grant(name, market, cap, day, total, expires), call, name)

    @rule(
        name=st.sampled_from(RENTERS),
        market=st.sampled_from(MARKETS),
        cap=st.sampled_from([0, 60_000, 200_000]),
        total=st.integers(0, 900_000),
    )
    def replace_allowance(self, name, market, cap, total):
        if cap:
            self.grant(name, market, cap, 2 * cap, total)
        else:
            revoke = self.world.build.revoke_allowance(self.stage.keys[name].pubkey(), self.stage.views[market].market)
            self.call(lambda: self.model.revoke(name, market), revoke, name)

    @rule(
        name=st.sampled_from(RENTERS),
        amount=st.integers(0, 300_000),
        how=st.sampled_from(["deposit", "withdraw", "claim_compensation"]),
    )
    def move_tokens(self, name, amount, how):
        wallet, build = self.stage.keys[name].pubkey(), self.world.build
        calls = {
            "deposit": build.deposit(wallet, wallet, amount),
            "withdraw": build.withdraw(wallet, amount),
            "claim_compensation": build.claim_compensation(wallet),
        }
        arguments = (name,) if how == "claim_compensation" else (name, amount)
        self.call(lambda: getattr(self.model, how)(*arguments), calls[how], name)

    @rule(
        name=st.sampled_from(RENTERS),
        market=st.sampled_from((*MARKETS, "m1")),
        allowed=st.booleans(),
        stolen=st.booleans(),
        price=st.sampled_from([flows.PRICE, flows.PRICE // 3, 7 * flows.PRICE]),
        deposit=st.sampled_from([999, 1_000, 20_000, 77_777, 150_000]),
        max_ms=st.sampled_from([3_000, 30_000, 200_000]),
        hardware=st.sampled_from([None, None, "cpu", "gpu"]),
        attempts=st.integers(1, 3),
        node=st.sampled_from((None, *NODES, *NODES)),
    )
    def open(self, name, market, allowed, stolen, price, deposit, max_ms, hardware, attempts, node):
        number = len(self.model.escrows) + 1
        wallet, signer = self.stage.keys[name], self.matcher(market, stolen=stolen)
        view = self.view(market, matcher=signer)
        ref = market_escrow(view, wallet, number) if allowed else own_escrow(view, wallet, number)
        terms = Terms(hardware, price, deposit, max_ms, attempts)

        def on_chain():
            flows.open_escrow(
                view, wallet, ref,
                ceiling_price=price, deposit=deposit, max_time_ms=max_ms, attempts_allowed=attempts,
                class_id=HARDWARE[hardware] if hardware else bytes(16),
            )  # fmt: skip
            self.stage.refs[number] = ref

        opened = self.step(lambda: self.model.open(number, signer, name, market, terms, allowed=allowed), on_chain)
        if opened and node is not None:
            self.assign_to(number, node, price, signer=self.model.markets[market].matcher)

    @rule(
        name=st.sampled_from(RENTERS),
        node=st.sampled_from(NODES),
        allowed=st.booleans(),
        price=st.sampled_from([flows.PRICE, 7 * flows.PRICE + 1]),
        seconds=st.integers(1, 12),
        state=st.sampled_from([*STATES, "final"]),
    )
    def work(self, name, node, allowed, price, seconds, state):
        """An honest attempt from its opening to its voucher, as far as caps, pauses and bonds let it."""
        if node not in self.model.nodes:
            return
        market, number = self.model.nodes[node].market, len(self.model.escrows) + 1
        deposit = 8 * 1_000 * seconds + 1_000
        self.open(name, market, allowed, False, price, deposit, 12_000, None, 2, node)
        e = self.model.escrows.get(number)
        if e is None or e.state != "assigned":
            return
        self.pass_ms(1_000 * seconds)
        shown = (self.model.now, e.attempt.assigned, 1_000 * seconds, e.attempt.meter)
        signed = self.voucher(number, e.attempt, shown, state=state)
        self.settled(number, e.attempt, signed, lambda: self.model.settle(number, state, shown))

    def matcher(self, market, *, stolen):
        """The matcher of the moment, or m2's first one, which a thief has."""
        return "m2 matcher" if stolen and market == "m2" else self.model.markets[market].matcher

    # attempts

    def alive(self):
        return [n for n in self.stage.refs if self.model.escrows[n].state != "closed"]

    def pick(self, data, among=None):
        alive = [n for n in self.alive() if among is None or among(self.model.escrows[n])]
        return data.draw(st.sampled_from(alive))

    @ALIVE
    @rule(
        data=st.data(),
        node=st.sampled_from(NODES),
        part=st.sampled_from([1, 2]),
        stolen=st.booleans(),
        age=st.sampled_from([0] * 6 + [-PARAMS.skew, -PARAMS.skew - 1, PARAMS.claim_limit, PARAMS.claim_limit + 1]),
        forged=st.sampled_from([False] * 9 + [True]),
    )
    def assign(self, data, node, part, stolen, age, forged):
        number = self.pick(data)
        e = self.model.escrows[number]
        signer = self.matcher(e.market, stolen=stolen)
        self.assign_to(number, node, e.price // part, signer=signer, age=age, forged=forged)

    def assign_to(self, number, node, price, *, signer, age=0, forged=False):
        if node not in self.model.nodes:
            return
        e, ref = self.model.escrows[number], self.stage.refs[number]
        view, at = self.view(e.market, matcher=signer), self.model.now - age
        fee_bps = self.model.markets[e.market].fee_at(self.model.now) + self.model.rules.protocol_bps
        signed = flows.claim(view, ref, self.stage.nodes[node], price_per_hour=price, at_ms=at, fee_bps=fee_bps)
        if forged:
            liar = self.stage.nodes[next(name for name in NODES if name != node)].key
            signed = SignedClaim(signed.message, liar.pubkey(), liar.sign_message(signed.message.signing_bytes()))
        self.step(
            lambda: self.model.assign(number, signer, node, price, at, forged=forged),
            lambda: flows.assign(view, ref, self.stage.nodes[node], signed),
        )

    def usage(self, data, e, attempt, *, slack):
        """(at, started, billed, countersigner) of a voucher: mostly right, sometimes beyond a bound."""
        now, skew = self.model.now, self.model.rules.skew
        started = (
            attempt.started
            if attempt.sequence
            else attempt.assigned + data.draw(st.sampled_from([0, 0, 1_500, -skew, -skew - 1]))
        )
        at = max(started, now - data.draw(st.sampled_from([0, 0, 1_000, 4_000]))) + data.draw(
            st.sampled_from([0, 0, 0, slack])
        )
        most = max(0, at - started)
        if attempt.sequence:
            most = min(most, attempt.billed + max(0, at - attempt.last_at))
        billed = data.draw(st.sampled_from([most, most, most // 2, most + 1, attempt.billed]))
        other = "m1 meter" if attempt.meter != "m1 meter" else "m2 meter"
        counter = data.draw(st.sampled_from([attempt.meter] * 4 + [e.wallet, other]))
        return at, started, billed, counter

    def voucher(self, number, attempt, shown, *, state="running", contested=False):
        at, started, billed, counter = shown
        return flows.voucher(
            self.world, self.stage.refs[number], self.stage.nodes[attempt.node], attempt.sequence + 1, billed,
            state=STATES[state], reason=1 if state == "final" else 0, contested=contested,
            counter=self.stage.keys[counter], started_at_ms=started, at_ms=at,
        )  # fmt: skip

    @ASSIGNED
    @rule(data=st.data(), state=st.sampled_from(list(STATES)))
    def settle(self, data, state):
        number = self.pick(data, lambda e: e.state == "assigned")
        e = self.model.escrows[number]
        shown = self.usage(data, e, e.attempt, slack=self.model.rules.skew + 1)
        signed = self.voucher(number, e.attempt, shown, state=state)
        self.settled(number, e.attempt, signed, lambda: self.model.settle(number, state, shown))

    def settled(self, number, attempt, signed, in_model):
        ref, node = self.stage.refs[number], self.stage.nodes[attempt.node]
        self.step(in_model, lambda: flows.settle(self.world, ref, node, signed))

    @some(lambda e: e.state == "open" and e.attempt.number)
    @rule(data=st.data(), state=st.sampled_from([*STATES, "final"]))
    def settle_what_has_ended(self, data, state):
        """The last attempt, or the contested one, by settle: a final voucher closes the escrow."""
        number = self.pick(data, lambda e: e.state == "open" and e.attempt.number)
        e: Escrow = self.model.escrows[number]
        contested = e.contest is not None and data.draw(st.booleans())
        attempt = e.contest.attempt if contested else e.attempt
        both = e.contest is not None and e.attempt.number == e.contest.attempt.number
        if attempt.node not in self.model.nodes or (both and not contested):
            return  # the node is gone, or the last attempt is the contested one
        shown = self.usage(data, e, attempt, slack=0)
        signed = self.voucher(number, attempt, shown, state=state, contested=contested)
        how = self.model.settle_contested if contested else self.model.settle_ended
        self.settled(number, attempt, signed, lambda: how(number, state, shown))

    @ASSIGNED
    @rule(
        data=st.data(), shows=st.booleans(), how=st.sampled_from(["release", "release", "quit"]), stolen=st.booleans()
    )
    def end_one_sided(self, data, shows, how, stolen):
        number = self.pick(data, lambda e: e.state == "assigned")
        e, ref = self.model.escrows[number], self.stage.refs[number]
        node = self.stage.nodes[e.attempt.node]
        shown = self.usage(data, e, e.attempt, slack=0) if shows else None
        signed = self.voucher(number, e.attempt, shown) if shown else None
        if how == "release":
            signer = "m2 meter" if stolen and e.market == "m2" else self.model.markets[e.market].meter
            submitter = self.stage.keys[signer]
            self.step(
                lambda: self.model.release(number, signer, shown),
                lambda: flows.release(self.world, ref, node, signed, submitter=submitter),
            )
        else:
            self.step(lambda: self.model.quit(number, shown), lambda: flows.quit_attempt(self.world, ref, node, signed))

    @ASSIGNED
    @rule(data=st.data(), stolen=st.booleans())
    def release_by_matcher(self, data, stolen):
        number = self.pick(data, lambda e: e.state == "assigned")
        e, ref = self.model.escrows[number], self.stage.refs[number]
        signer, node = self.matcher(e.market, stolen=stolen), self.stage.nodes[e.attempt.node]
        self.step(
            lambda: self.model.release_by_matcher(number, signer),
            lambda: flows.release(self.world, ref, node, reason=8, submitter=self.stage.keys[signer]),
        )

    @ASSIGNED
    @rule(data=st.data(), more=st.sampled_from([0, 1, 1, 5_000]), lies=st.booleans())
    def prove_overclaim(self, data, more, lies):
        """Of a node that signed too much, and of one that didn't."""
        number = self.pick(data, lambda e: e.state == "assigned")
        e, ref = self.model.escrows[number], self.stage.refs[number]
        node = self.stage.nodes[e.attempt.node]
        limit = 2 * (self.model.now - e.attempt.assigned) + self.model.rules.contest
        billed = limit + more if lies else e.attempt.billed
        signed = self.voucher(number, e.attempt, (self.model.now, self.model.now, billed, "thief"))
        submitter = self.stage.keys["thief"]
        approved = self.world.build.prove_overclaim(ref, node.ref(self.world), submitter.pubkey(), signed)
        self.step(
            lambda: self.model.prove_overclaim(number, billed),
            lambda: flows.send(self.world, approved, submitter, label="prove_overclaim"),
        )

    @CONTESTED
    @rule(data=st.data())
    def contest(self, data):
        number = self.pick(data, lambda e: e.contest is not None)
        e = self.model.escrows[number]
        attempt, node = e.contest.attempt, self.stage.nodes[e.contest.attempt.node]
        shown = self.usage(data, e, attempt, slack=0)
        signed = self.voucher(number, attempt, shown, contested=True)
        self.step(
            lambda: self.model.contest(number, shown),
            lambda: flows.contest(self.world, self.stage.refs[number], node, signed),
        )

    @CONTESTED
    @rule(data=st.data())
    def close_contest(self, data):
        self.close_contest_of(self.pick(data, lambda e: e.contest is not None))

    def close_contest_of(self, number):
        node = self.stage.nodes[self.model.escrows[number].contest.attempt.node]
        self.step(
            lambda: self.model.close_contest(number),
            lambda: flows.close_contest(self.world, self.stage.refs[number], node),
        )

    @ALIVE
    @rule(data=st.data())
    def reap(self, data):
        self.reap_of(self.pick(data))

    def reap_of(self, number):
        e = self.model.escrows[number]
        node = self.stage.nodes[e.attempt.node] if e.state == "assigned" else None
        self.step(lambda: self.model.reap(number), lambda: flows.reap(self.world, self.stage.refs[number], node))

    @ALIVE
    @rule(data=st.data(), by_matcher=st.booleans(), stolen=st.booleans())
    def cancel(self, data, by_matcher, stolen):
        number = self.pick(data)
        e = self.model.escrows[number]
        signer = self.matcher(e.market, stolen=stolen) if by_matcher else e.wallet
        self.step(
            lambda: self.model.cancel(number, signer),
            lambda: flows.cancel(self.world, self.stage.refs[number], self.stage.keys[signer]),
        )

    @ALIVE
    @rule(
        data=st.data(),
        by_matcher=st.booleans(),
        added=st.sampled_from([0, 1, 5_000, 60_000]),
        added_ms=st.sampled_from([0, 0, 10_000]),
    )
    def extend(self, data, by_matcher, added, added_ms):
        number = self.pick(data)
        e, ref = self.model.escrows[number], self.stage.refs[number]
        signer = self.model.markets[e.market].matcher if by_matcher else e.wallet
        node = self.stage.nodes[e.attempt.node].ref(self.world) if e.state == "assigned" else None
        call = self.world.build.extend_escrow(ref, self.stage.keys[signer].pubkey(), added, added_ms, node)
        self.call(lambda: self.model.extend(number, signer, added, added_ms), call, signer)

    @rule(span=st.sampled_from([1_000, 1_000, 2_000, 3_000, 5_000, 7_000, 10_000, 30_000, 120_000, 700_000]))
    def wait(self, span):
        self.pass_ms(span)

    @invariant()
    def the_program_is_where_the_model_is(self):
        self.stage.compare(self.model)
