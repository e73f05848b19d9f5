"""Whole histories of every instruction on the real program against the exact model, and everybody's way out.

`REAVER_HISTORIES=2000` plays so many, and makes a failing one short; without it, as many as a test run has time for.
"""

import os
from dataclasses import asdict
from itertools import count

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from marketplace.chain.accounts import Params
from tests.program.history_attacks import attacks
from tests.program.history_machine import MARKETS, NODES, Player
from tests.program.history_stage import DELEGATORS, HARDWARE, RENTERS
from tests.program.model_stake import DRAINING
from tests.program.world import BOND, EPOCH_MS, PARAMS, key, refused

OWNERS = (*DELEGATORS, *(f"op {name}" for name in NODES))
CHANGES = (
    {"protocol_bps": 250, "node_share_bps": 3_333},
    {"protocol_bps": 0, "node_share_bps": 10_000},
    {"exposure_multiple": 1, "minimum_deposit": 2_000},
    {"slash_cap_bps": 10_000, "overclaim_bps": 10_000, "compensation_bps": 10_000},
    {"unbonding": 120_000, "commission_delay": 1_000, "fee_delay": 1_000},
    {"exposure_rate": 3_000_000, "emission_cap_bps": 5_000, "decay_bps": 500},
)


class History(Player):
    """Stake, epochs, markets, administration and attacks, beside what renters and markets do."""

    # operators

    @rule(
        name=st.sampled_from(NODES),
        how=st.sampled_from(["bond", "bond", "unbond", "unbond", "commission", "drain", "undrain", "move", "owed"]),
        amount=st.sampled_from([0, 1, 7_777, 20_000, BOND]),
        data=st.data(),
    )
    def operate(self, name, how, amount, data):
        if name not in self.model.nodes:
            return
        build, model, n = self.world.build, self.model, self.model.nodes[name]
        operator, node = self.stage.nodes[name].operator.pubkey(), self.stage.nodes[name].key.pubkey()
        if how == "bond":
            self.call(lambda: model.bond(name, amount), build.bond(operator, node, amount), n.operator)
        elif how == "unbond":
            shares = data.draw(st.sampled_from([amount, n.pool.own.shares, n.pool.own.shares + 1]))
            self.unbond_bond(name, shares)
        elif how == "commission":
            bps = data.draw(st.sampled_from([0, 77, 500, 1_000, 10_000, 10_001]))
            self.call(lambda: model.set_commission(name, bps), build.set_commission(operator, node, bps), n.operator)
        elif how in {"drain", "undrain"}:
            draining = how == "drain"
            call = build.drain(operator, node, draining=draining)
            self.call(lambda: model.drain(name, draining=draining), call, n.operator)
        elif how == "move":
            market, hardware = data.draw(st.sampled_from(MARKETS)), data.draw(st.sampled_from(list(HARDWARE)))
            payout = self.world.payment_account(operator)
            call = build.update_node(operator, node, self.stage.views[market].market, HARDWARE[hardware], payout)
            self.call(lambda: model.update_node(name, market, hardware), call, n.operator)
        else:
            self.withdraw_owed(name)

    def unbond_bond(self, name, shares):
        n, node = self.model.nodes[name], self.stage.nodes[name]
        call = self.world.build.unbond_bond(
            node.operator.pubkey(), node.key.pubkey(), HARDWARE[n.hardware], shares, n.pool.own.next_ticket
        )
        self.call(lambda: self.model.unbond_bond(name, shares), call, n.operator)

    def withdraw_owed(self, name):
        node, operator = self.stage.nodes[name], self.model.nodes[name].operator
        payout = self.world.payment_account(node.operator.pubkey())
        call = self.world.build.withdraw_owed(node.operator.pubkey(), node.key.pubkey(), payout)
        self.call(lambda: self.model.withdraw_owed(name), call, operator)

    @rule(name=st.sampled_from(NODES))
    def freeze_or_thaw_the_payout_account(self, name):
        operator = f"op {name}"
        self.freeze_or_thaw(operator)

    def freeze_or_thaw(self, operator):
        self.model.frozen ^= {operator}
        self.stage.freeze(operator, frozen=operator in self.model.frozen)

    @rule(name=st.sampled_from(NODES), unbonds=st.booleans())
    def retire_some(self, name, unbonds):
        """Seldom of a node that has nothing but its bond: histories without nodes would be short."""
        if name in self.model.nodes and (unbonds or self.model.nodes[name].status == DRAINING):
            self.retire(name)

    def retire(self, name):
        node, n = self.stage.nodes[name], self.model.nodes[name]
        market = self.stage.views[n.market].market
        call = self.world.build.retire(node.operator.pubkey(), node.key.pubkey(), market)
        self.call(lambda: self.model.retire(name), call, n.operator)

    @precondition(lambda self: len(self.model.nodes) < len(NODES))
    @rule(data=st.data(), market=st.sampled_from(MARKETS), hardware=st.sampled_from(list(HARDWARE)))
    def come_back(self, data, market, hardware):
        """A node that was closed registers again, at the same addresses."""
        name = data.draw(st.sampled_from([n for n in NODES if n not in self.model.nodes]))
        node, bond = self.stage.nodes[name], data.draw(st.sampled_from([BOND, BOND + 10_000, BOND - 1]))
        call = self.world.build.register_node(
            node.operator.pubkey(), node.key.pubkey(), self.stage.views[market].market, HARDWARE[hardware], bond, 333
        )
        self.step(
            lambda: self.model.register(name, market, hardware, bond, 333),
            lambda: self.world.send(call, signers=[node.operator, node.key]),
        )

    # delegators

    @rule(
        owner=st.sampled_from(OWNERS[:3]),
        name=st.sampled_from(NODES),
        amount=st.sampled_from([0, 1, 2, 333_333, 10_000_000, 10**9]),
    )
    def delegate(self, owner, name, amount):
        if name in self.model.nodes:
            call = self.world.build.delegate(
                self.stage.keys[owner].pubkey(), self.stage.nodes[name].address(self.world), amount
            )
            self.call(lambda: self.model.delegate(owner, name, amount), call, owner)

    def positions(self):
        return [(owner, name) for name, n in self.model.nodes.items() for owner in n.pool.positions]

    @precondition(lambda self: self.positions())
    @rule(data=st.data())
    def claim_some(self, data):
        self.claim(*data.draw(st.sampled_from(self.positions())))

    def claim(self, owner, name):
        call = self.world.build.claim(self.stage.keys[owner].pubkey(), self.stage.pool(name))
        self.call(lambda: self.model.claim(owner, name), call, owner)

    @precondition(lambda self: self.positions())
    @rule(data=st.data(), part=st.sampled_from([0, 1, 2, 3, 10_000]))
    def unbond_some(self, data, part):
        owner, name = data.draw(st.sampled_from(self.positions()))
        shares = self.model.nodes[name].pool.positions[owner].shares
        wanted = data.draw(st.sampled_from([shares // part, shares + 1])) if part else 0
        self.unbond(owner, name, min(wanted, shares + 1))

    def unbond(self, owner, name, shares):
        index = self.model.nodes[name].pool.positions[owner].next_ticket
        call = self.world.build.unbond(self.stage.keys[owner].pubkey(), self.stage.pool(name), shares, index)
        self.call(lambda: self.model.unbond(owner, name, shares), call, owner)

    def tickets(self):
        return [
            (owner, name, index)
            for name, n in self.model.nodes.items()
            for owner, position in n.pool.positions.items()
            for index in position.tickets
        ]

    @precondition(lambda self: self.tickets())
    @rule(data=st.data())
    def withdraw_some_ticket(self, data):
        self.withdraw_ticket(*data.draw(st.sampled_from(self.tickets())))

    def withdraw_ticket(self, owner, name, index):
        call = self.world.build.withdraw_ticket(self.stage.keys[owner].pubkey(), self.stage.pool(name), index)
        self.call(lambda: self.model.withdraw_ticket(owner, name, index), call, owner)

    # epochs

    @rule(name=st.sampled_from(NODES), back=st.sampled_from([1, 1, 1, 0, 2]))
    def register_some_weight(self, name, back):
        self.register_weight(name, self.model.epoch - back)

    def register_weight(self, name, epoch):
        if name in self.model.nodes and epoch >= 0:
            node = self.stage.nodes[name].address(self.world)
            call = self.world.build.register_weight(self.stage.keys["thief"].pubkey(), node, epoch)
            self.call(lambda: self.model.register_weight(name, epoch), call, "thief")

    @rule(data=st.data())
    def close_some_epoch(self, data):
        known = [self.model.next_epoch] * 3 + list(self.model.epochs)
        self.close_epoch(data.draw(st.sampled_from(known)))

    def close_epoch(self, epoch):
        thief = self.stage.keys["thief"].pubkey()
        call = self.world.build.close_epoch(thief, epoch, thief if epoch in self.model.epochs else None)
        return self.call(lambda: self.model.close_epoch(epoch), call, "thief")

    @precondition(lambda self: self.model.epochs)
    @rule(data=st.data(), name=st.sampled_from(NODES))
    def distribute_some(self, data, name):
        self.distribute(name, data.draw(st.sampled_from(list(self.model.epochs))))

    def distribute(self, name, epoch):
        if name in self.model.nodes:
            thief, node = self.stage.keys["thief"].pubkey(), self.stage.nodes[name].address(self.world)
            call = self.world.build.distribute(thief, node, epoch, thief)
            self.call(lambda: self.model.distribute(name, epoch), call, "thief")

    @rule(skips=st.sampled_from([None, None, *NODES]), distributes=st.booleans())
    def turn_an_epoch(self, skips, distributes):
        """What the crank does at the right times: registers, closes, distributes. One node may be forgotten."""
        epoch = self.model.epoch
        into = (self.model.now - self.model.epoch_start) % EPOCH_MS
        self.pass_ms(EPOCH_MS - into)
        for name in NODES:
            if name != skips:
                self.register_weight(name, epoch)
        self.pass_ms(EPOCH_MS // 2)
        while self.model.next_epoch <= epoch and self.close_epoch(self.model.next_epoch):
            pass
        if distributes:
            for name in NODES:
                if epoch in self.model.epochs:
                    self.distribute(name, epoch)

    # markets and administration

    @rule(
        market=st.sampled_from(MARKETS),
        how=st.sampled_from(["withdraw", "sweep", "fee", "rotate", "suspend", "lift"]),
        data=st.data(),
    )
    def govern(self, market, how, data):
        build, model, view = self.world.build, self.model, self.stage.views[market]
        authority = view.authority.pubkey()
        signer = f"{market} authority"
        if how == "withdraw":
            self.withdraw_fees(market)
        elif how == "sweep":
            self.sweep(market)
        elif how == "fee":
            bps = data.draw(st.sampled_from([0, 333, 2_000, 2_001]))
            self.call(lambda: model.set_fee(market, bps), build.set_fee(authority, bps), signer)
        elif how == "rotate":
            self.rotate(market)
        else:
            name = data.draw(st.sampled_from([*model.nodes, None]))
            if name is not None:
                node, suspended = self.stage.nodes[name].address(self.world), how == "suspend"
                call = build.suspend_node(authority, node, suspended=suspended)
                self.call(lambda: model.suspend(name, market, suspended=suspended), call, signer)

    def withdraw_fees(self, market):
        call = self.world.build.withdraw_fees(self.stage.views[market].authority.pubkey())
        self.call(lambda: self.model.withdraw_fees(market), call, f"{market} authority")

    def sweep(self, market):
        token = key("protocol token").pubkey()
        call = self.world.build.sweep_protocol_fees(
            self.stage.keys["thief"].pubkey(), self.stage.views[market].market, token
        )
        self.call(lambda: self.model.sweep(market), call, "thief")

    def rotate(self, market):
        names = [
            next(name for n in count(1) if (name := f"{market} {role} {n}") not in self.stage.keys)
            for role in ("matcher", "meter")
        ]
        for name in names:
            self.stage.keys[name] = key(name)
            self.world.svm.airdrop(key(name).pubkey(), 10**11)
        matcher, meter = (self.stage.keys[name] for name in names)
        view = self.stage.views[market]
        call = self.world.build.rotate_keys(view.authority.pubkey(), matcher.pubkey(), meter.pubkey())
        self.call(lambda: self.model.rotate(market, *names), call, f"{market} authority")
        view.matcher, view.meter = matcher, meter

    @rule(how=st.sampled_from(["params", "class", "pause", "open", "open", "hand over", "accept"]), data=st.data())
    def administer(self, how, data):
        build, model = self.world.build, self.model
        signer = data.draw(st.sampled_from([model.admin] * 4 + ["second admin"]))
        admin = self.stage.keys[signer].pubkey()
        if how == "params":
            self.set_params(signer, data.draw(st.sampled_from(CHANGES)))
        elif how == "class":
            name, enabled = data.draw(st.sampled_from(list(HARDWARE))), data.draw(st.sampled_from([True, True, False]))
            minimum = data.draw(st.sampled_from([0, BOND // 2, BOND, BOND + 30_000]))
            call = build.set_class(admin, admin, HARDWARE[name], minimum, enabled=enabled)
            self.call(lambda: model.set_class(signer, name, minimum, enabled=enabled), call, signer)
        elif how in {"pause", "open"}:
            bits = data.draw(st.sampled_from([127, 128, 1, 2, 4, 8, 16, 32, 64])) if how == "pause" else 0
            self.call(lambda: model.set_pause(signer, bits), build.set_pause(admin, bits), signer)
        elif how == "hand over":
            candidate = data.draw(st.sampled_from(["admin", "second admin"]))
            call = build.propose_admin(admin, self.stage.keys[candidate].pubkey())
            self.call(lambda: model.propose_admin(signer, candidate), call, signer)
        else:
            self.call(lambda: model.accept_admin(signer), build.accept_admin(admin), signer)

    def set_params(self, signer, changes):
        """One set of changes to the first numbers is in force at a time."""
        rules = asdict(PARAMS) | changes
        call = self.world.build.set_params(self.stage.keys[signer].pubkey(), Params(**rules))
        self.call(lambda: self.model.set_params(signer, rules), call, signer)

    # strangers

    @rule(data=st.data())
    def be_attacked(self, data):
        possible = attacks(self.stage, self.model)
        attack = possible[data.draw(st.integers(0, len(possible) - 1))]
        with refused(attack.refusal):
            self.world.send(*attack.parts, signers=attack.signers)

    @rule(
        where=st.sampled_from(["stake", "fees", "emission", "market", "vault"]),
        name=st.sampled_from(NODES),
        amount=st.sampled_from([1, 77]),
    )
    def give_something(self, where, name, amount):
        """Somebody sends tokens to an account of the program. Only a vault and the emission count them as theirs."""
        model, addresses = self.model, self.world.build.addresses
        kind = "stake" if where in {"stake", "emission"} else "payment"
        purse = getattr(model, kind)
        if getattr(model, kind)["thief"] < amount or name not in model.nodes:
            return
        purse["thief"] -= amount
        if where == "stake":
            model.nodes[name].pool.given_stake += amount
            destination = addresses.pool_stake(self.stage.pool(name))
        elif where == "fees":
            model.nodes[name].pool.given_fees += amount
            destination = addresses.pool_fees(self.stage.pool(name))
        elif where == "emission":
            model.emission_vault += amount
            destination = addresses.emission()
        elif where == "market":
            model.markets["m1"].given += amount
            destination = addresses.market_fees(self.stage.views["m1"].market)
        else:
            model.wallets["ann"].vault += amount
            destination = self.world.vault_tokens(self.stage.keys["ann"].pubkey())
        self.stage.give(self.stage.keys["thief"], destination, amount)

    # the end

    def teardown(self):
        """From wherever the history stopped, everybody gets out within the published windows."""
        self.end_all_escrows()
        self.empty_all_vaults()
        for name in list(self.model.nodes):
            self.leave_node(name)
        self.pass_ms(self.model.rules.unbonding)
        for owner, name, index in self.tickets():
            self.withdraw_ticket(owner, name, index)
        for owner, name in self.positions():
            self.claim(owner, name)
        for name in list(self.model.nodes):
            self.retire(name)
        assert not self.model.nodes, "every node is closed"
        for market in MARKETS:
            self.withdraw_fees(market)
            self.sweep(market)
        self.end_all_epochs()
        self.the_program_is_where_the_model_is()
        self.nothing_is_left_inside()

    def end_all_escrows(self):
        rules, model = self.model.rules, self.model
        longest = max([model.escrows[n].max_ms for n in self.alive()], default=0)
        self.pass_ms(rules.ready_limit + longest + rules.stop_after + rules.reap_grace + 1_000)
        for number in self.alive():
            if model.escrows[number].contest is not None:
                self.close_contest_of(number)
        self.pass_ms(rules.queue_limit + 1_000)
        for number in self.alive():
            self.reap_of(number)
        self.pass_ms(rules.contest + 1_000)
        for number in self.alive():
            self.close_contest_of(number)
        assert not self.alive()

    def empty_all_vaults(self):
        for name in RENTERS:
            w, wallet = self.model.wallets[name], self.stage.keys[name].pubkey()
            assert w.locked == 0
            if w.vault:
                rest = w.vault
                call = self.world.build.withdraw(wallet, rest)
                self.call(lambda n=name, r=rest: self.model.withdraw(n, r), call, name)
            if w.compensation_owed:
                call = self.world.build.claim_compensation(wallet)
                self.call(lambda n=name: self.model.claim_compensation(n), call, name)

    def leave_node(self, name):
        """Everybody leaves a node: nobody is asked, nothing is paused, no market can hold anybody."""
        n = self.model.nodes[name]
        assert (n.attempts, n.exposure, n.held) == (0, 0, 0)
        if n.operator in self.model.frozen:
            self.freeze_or_thaw(n.operator)
        if n.owed:
            self.withdraw_owed(name)
        self.retire(name)
        if name not in self.model.nodes:
            return
        for owner, position in list(n.pool.positions.items()):
            self.claim(owner, name)
            if owner != n.operator and position.shares:
                self.unbond(owner, name, position.shares)
        if self.model.nodes[name].pool.own.shares:
            self.unbond_bond(name, self.model.nodes[name].pool.own.shares)

    def end_all_epochs(self):
        """Whatever the cranks left undone can still be done, by anybody."""
        while any(not e.closed for e in self.model.epochs.values()):
            assert self.close_epoch(self.model.next_epoch)
        for epoch in list(self.model.epochs):
            assert self.close_epoch(epoch)
        assert self.model.committed == 0

    def nothing_is_left_inside(self):
        model = self.model
        assert model.compensation_vault == 0
        assert all(w.vault == 0 for w in model.wallets.values())
        assert all(m.owed == m.protocol == 0 for m in model.markets.values())
        # what only strangers gave, and the emission that nobody has earned yet
        given = sum(m.given for m in model.markets.values())
        assert sum(model.payment.values()) + given == self.stage.supply["payment"]
        assert sum(model.stake.values()) + model.emission_vault == self.stage.supply["stake"]


BY_HAND = int(os.environ.get("REAVER_HISTORIES", "0"))
TestHistory = History.TestCase
TestHistory.settings = settings(
    max_examples=BY_HAND or 40,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    # a failing history is printed as it was: making it short takes longer than a test run may
    phases=[phase for phase in Phase if BY_HAND or phase is not Phase.shrink],
)
