"""The deployment that histories are played on: names to keys and accounts, and the comparison with the model."""

from dataclasses import asdict, dataclass, replace

from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from marketplace.chain.accounts import ClassAccount, EpochAccount, MarketAccount, Params
from marketplace.chain.addresses import TOKEN_PROGRAM
from marketplace.chain.builders import EscrowRef
from tests.program.flows import Node, new_node
from tests.program.model import Allowance, Market, Model, Wallet
from tests.program.model_rules import Rules
from tests.program.model_stake import Bucket, Class, Pool, Position
from tests.program.model_stake import Node as ModelNode
from tests.program.stake_flows import ticket_address
from tests.program.world import (
    ADMIN,
    BOND,
    CPU,
    EPOCH_MS,
    GPU,
    PARAMS,
    World,
    bare_world,
    initialize,
    key,
)

RENTERS = ("ann", "bob")
DELEGATORS = ("dan", "eve")
HOME = {"n1": "m1", "n2": "m1", "n3": "m2"}
"""Nodes by the market they begin in. n3 is the thief's, who has the keys of m2."""
THIEF = "n3"
HARDWARE = {"cpu": CPU, "gpu": GPU}
MINIMUM = {"cpu": BOND, "gpu": BOND + 10_000}
VAULT = 400_000
STAKE = 30_000_000
FIRST_EMISSION = 40_000
FEES = {"m1": 400, "m2": 777}
PURSE = 5_000


def params_of(rules: Rules) -> Params:
    return Params(**asdict(rules))


@dataclass(frozen=True)
class Terms:
    """What an escrow is opened for. hardware: None takes any class."""

    hardware: str | None
    price: int
    deposit: int
    max_ms: int
    attempts: int


class Stage:
    """Two markets, two renters, two delegators, three nodes; one of them, and the keys of m2, are a thief's."""

    def __init__(self) -> None:
        world = bare_world()
        initialize(world, first_emission=FIRST_EMISSION)
        self.keys: dict[str, Keypair] = {"admin": ADMIN, "second admin": key("second admin")}
        self.views: dict[str, World] = {}
        for name in HOME.values():
            if name not in self.views:
                self.views[name] = self._market(world, name)
        self.world = world = self.views["m1"]
        for who in ("second admin", "thief"):
            self.keys.setdefault(who, key(who))
            world.svm.airdrop(self.keys[who].pubkey(), 10**12)
        for name, identifier in HARDWARE.items():
            call = world.build.set_class(world.payer.pubkey(), ADMIN.pubkey(), identifier, MINIMUM[name], enabled=True)
            world.send(call, signers=[world.payer, ADMIN])
        for name in RENTERS:
            self.keys[name] = world.renter(name, payment=2 * VAULT, vault=VAULT)
        for name in DELEGATORS:
            self.keys[name] = key(name)
            world.fund(key(name).pubkey(), stake=STAKE)
        world.fund(self.keys["thief"].pubkey(), payment=PURSE, stake=PURSE)
        self.nodes: dict[str, Node] = {}
        for name, market in HOME.items():
            self.nodes[name] = new_node(self.views[market], name, bond=BOND + 20_000)
            self.keys[f"op {name}"] = self.nodes[name].operator
        self.give(self.keys["thief"], world.config().emission_vault, PURSE // 2)
        self.refs: dict[int, EscrowRef] = {}
        self.supply: dict[str, int] = {}

    def _market(self, world: World, name: str) -> World:
        """A market and the world as its side sees it."""
        for who in ("authority", "matcher", "meter"):
            self.keys[f"{name} {who}"] = key(f"{name} {who}")
            world.svm.airdrop(key(f"{name} {who}").pubkey(), 10**12)
        view = replace(
            world,
            authority=self.keys[f"{name} authority"],
            matcher=self.keys[f"{name} matcher"],
            meter=self.keys[f"{name} meter"],
        )
        world.put_token(
            world.payment_account(view.authority.pubkey()),
            world.build.deployment.payment_mint,
            view.authority.pubkey(),
        )
        world.send(
            world.build.register_market(
                world.payer.pubkey(),
                view.authority.pubkey(),
                view.matcher.pubkey(),
                view.meter.pubkey(),
                FEES[name],
            ),
            signers=[world.payer, view.authority],
        )
        return view

    def model(self) -> Model:
        """The model of a stage on which nothing has happened yet."""
        world = self.world
        model = Model(
            Rules(**asdict(PARAMS)),
            world.chain_ms,
            epoch_ms=EPOCH_MS,
            epoch_start=world.config().epoch_start,
            scheduled=FIRST_EMISSION,
        )
        model.emission_vault = PURSE // 2
        for name in self.views:
            model.markets[name] = Market(f"{name} matcher", f"{name} meter", FEES[name])
            model.payment[name] = 0
        model.classes = {name: Class(minimum) for name, minimum in MINIMUM.items()}
        for name in RENTERS:
            model.wallets[name] = Wallet(vault=VAULT)
            model.payment[name], model.stake[name] = VAULT, 0
            model.allowances |= {(name, market): Allowance() for market in self.views}
        for name in DELEGATORS:
            model.payment[name], model.stake[name] = 0, STAKE
        model.payment["thief"], model.stake["thief"] = PURSE, PURSE - PURSE // 2
        bond = BOND + 20_000
        for name, market in HOME.items():
            operator = f"op {name}"
            model.payment[operator], model.stake[operator] = 0, 9 * bond
            pool = Pool(operator, 0, active=Bucket(bond, bond), positions={operator: Position(shares=bond)})
            model.nodes[name] = ModelNode(operator, market, "cpu", pool)
        return model

    # time and tokens

    def pass_ms(self, span: int) -> None:
        self.world.pass_ms(span)
        for view in self.views.values():
            view.now_ms = self.world.now_ms

    def give(self, who: Keypair, destination: Pubkey, amount: int) -> None:
        """A plain transfer of the token that `destination` holds."""
        world = self.world
        mints = {
            bytes(world.build.deployment.payment_mint): world.payment_account,
            bytes(world.build.deployment.stake_mint): world.stake_account,
        }
        account = world.svm.get_account(destination)
        assert account is not None
        source = mints[bytes(account.data)[:32]](who.pubkey())
        metas = [
            AccountMeta(source, is_signer=False, is_writable=True),
            AccountMeta(destination, is_signer=False, is_writable=True),
            AccountMeta(who.pubkey(), is_signer=True, is_writable=False),
        ]
        world.send(Instruction(TOKEN_PROGRAM, b"\3" + amount.to_bytes(8, "little"), metas), signers=[who])

    def freeze(self, operator: str, *, frozen: bool) -> None:
        """The operator's payout account takes nothing for a while, or takes again."""
        owner = self.keys[operator].pubkey()
        address = self.world.payment_account(owner)
        mint = self.world.build.deployment.payment_mint
        self.world.put_token(address, mint, owner, self.world.tokens(address), state=2 if frozen else 1)

    def pool(self, name: str) -> Pubkey:
        return self.world.build.addresses.pool(self.nodes[name].address(self.world))

    def purse(self, name: str, kind: str) -> Pubkey:
        """A name's token account outside the program."""
        if name == "protocol":
            return key("protocol token").pubkey()
        who = self.keys.get(name) or self.keys[f"{name} authority"]
        return getattr(self.world, f"{kind}_account")(who.pubkey())

    # comparison

    def compare(self, model: Model) -> None:
        """Everything the chain holds is what the model holds, and nothing has come or gone."""
        model.check()
        self._compare_wallets(model)
        for name in HOME:
            self._compare_node(name, model)
        self._compare_markets(model)
        self._compare_emission(model)
        self._compare_escrows(model)
        self._conserve(model)

    def _compare_wallets(self, model: Model) -> None:
        world = self.world
        for name, want in model.wallets.items():
            account = world.vault(self.keys[name])
            assert world.tokens(account.token_account) == want.vault
            assert (account.locked, account.compensation_owed) == (want.locked, want.compensation_owed)
        for (wallet, market), want in model.allowances.items():
            if not want.expires_at:
                continue  # never granted
            account = self.views[market].allowance(self.keys[wallet])
            assert (account.total_cap, account.total_used) == (want.total_cap, want.total_used)
            assert (account.day, account.day_used) == (want.day, want.day_used)

    def _compare_node(self, name: str, model: Model) -> None:
        world, node = self.world, self.nodes[name]
        if name not in model.nodes:
            assert not world.exists(node.address(world))
            assert not world.exists(self.pool(name))
            return
        account, pool, want = world.node(node.key), world.pool(node.key), model.nodes[name]
        assert account.market == self.views[want.market].market
        assert account.class_id == HARDWARE[want.hardware]
        assert (account.status, account.owed) == (want.status, want.owed)
        assert (account.exposure, account.attempts, account.held) == (want.exposure, want.attempts, want.held)
        lifetime = (account.attempts_well, account.attempts_lost, account.attempts_quit)
        assert lifetime == (want.well, want.lost, want.quits)
        for place, slot in enumerate(account.epochs):
            ours = want.slots.get(slot.epoch)
            if ours is not None and slot.epoch % 3 == place:
                assert (slot.well, slot.lost, slot.protocol_fees) == (ours.well, ours.lost, ours.protocol_fees)
                slashed = (slot.compensated, slot.slashed_active, slot.slashed_unbonding)
                assert slashed == (ours.compensated, ours.slashed_active, ours.slashed_unbonding)
                rewarded = (slot.weight, slot.registered, slot.distributed)
                assert rewarded == (ours.weight, ours.registered, ours.distributed)
        p = want.pool
        assert (pool.active_stake, pool.active_shares) == (p.active.stake, p.active.shares)
        assert (pool.unbonding_stake, pool.unbonding_shares) == (p.unbonding.stake, p.unbonding.shares)
        assert (pool.bond_shares, pool.positions) == (p.own.shares, len(p.positions))
        assert (pool.fees, pool.fees_remainder) == (p.fees.per_share, p.fees.rest)
        assert (pool.fees_unclaimed, pool.commission_fees) == (p.fees.unclaimed, p.fees.commission)
        assert (pool.emission, pool.emission_remainder) == (p.emission.per_share, p.emission.rest)
        assert (pool.emission_unclaimed, pool.commission_emission) == (p.emission.unclaimed, p.emission.commission)
        assert pool.commission_bps == p.commission_bps
        assert world.tokens(pool.stake_vault) == p.recorded + p.given_stake
        assert world.tokens(pool.fee_vault) == p.fees.unclaimed + want.owed + p.given_fees
        for owner in (p.operator, *DELEGATORS):
            self._compare_position(name, owner, p)

    def _compare_position(self, name: str, owner: str, pool: Pool) -> None:
        world, who = self.world, self.keys[owner]
        address = world.build.addresses.position(self.pool(name), who.pubkey())
        want = pool.positions.get(owner)
        assert world.exists(address) == (want is not None)
        if want is None:
            return
        account = world.position(self.nodes[name].key, who)
        assert (account.shares, account.next_ticket) == (want.shares, want.next_ticket)
        assert (account.fees_earned, account.emission_earned) == (want.fees, want.emission)
        assert (account.fees_paid, account.emission_paid) == (want.fees_paid, want.emission_paid)
        assert account.tickets == len(want.tickets)
        for index, ticket in want.tickets.items():
            held = world.ticket(self.nodes[name].key, who, index)
            assert (held.shares, held.unlock_at) == (ticket.shares, ticket.unlock_at)
        if want.next_ticket and want.next_ticket - 1 not in want.tickets:
            assert not world.exists(ticket_address(world, self.nodes[name], who, want.next_ticket - 1))

    def _compare_markets(self, model: Model) -> None:
        world = self.world
        for name, view in self.views.items():
            account, want = world.read(MarketAccount, view.market), model.markets[name]
            assert (account.market_owed, account.protocol_owed) == (want.owed, want.protocol)
            assert (account.fee_bps, account.pending_fee_bps) == (want.fee_bps, want.pending_bps)
            assert account.matcher == self.keys[want.matcher].pubkey()
            assert world.tokens(account.fee_vault) == want.owed + want.protocol + want.given
        for name, identifier in HARDWARE.items():
            held = world.read(ClassAccount, world.build.addresses.hardware_class(identifier))
            assert (held.minimum_bond, held.enabled) == (model.classes[name].minimum_bond, model.classes[name].enabled)

    def _compare_emission(self, model: Model) -> None:
        world, config = self.world, self.world.config()
        assert (config.paused, config.admin) == (model.paused, self.keys[model.admin].pubkey())
        assert config.params == params_of(model.rules)
        assert (config.next_epoch, config.scheduled_emission) == (model.next_epoch, model.scheduled)
        assert (config.committed_emission, config.distributed_emission) == (model.committed, model.distributed)
        assert world.tokens(config.emission_vault) == model.emission_vault
        assert world.tokens(config.compensation_vault) == model.compensation_vault
        for index, want in model.epochs.items():
            account = world.read(EpochAccount, world.build.addresses.epoch(index))
            assert (account.total_weight, account.registered, account.served) == (
                want.total_weight,
                want.registered,
                want.served,
            )
            assert (account.state == 1, account.emission, account.distributed) == (
                want.closed,
                want.emission,
                want.distributed,
            )

    def _compare_escrows(self, model: Model) -> None:
        world = self.world
        for number, ref in self.refs.items():
            want = model.escrows[number]
            address = world.build.escrow_address(ref)
            assert world.exists(address) == (want.state != "closed")
            if want.state == "closed":
                continue
            account = world.escrow(address)
            assert ("open", "assigned", "closing")[account.state] == want.state
            assert (account.paid, account.ended_time, account.stop_at) == (want.paid, want.ended_ms, want.stop_at)
            assert (account.deposit, account.max_time) == (want.deposit, want.max_ms)
            assert account.attempt.exposure == want.attempt.exposure
            assert (account.contest.attempt.number != 0) == (want.contest is not None)
            if want.contest is not None:
                assert account.contest.attempt.exposure == want.contest.attempt.exposure
                assert (account.contest.loss, account.contest.compensation) == (
                    want.contest.loss,
                    want.contest.compensation,
                )

    def _conserve(self, model: Model) -> None:
        """No token appears or vanishes, counted over every account that can hold one."""
        for kind, purses in (("payment", model.payment), ("stake", model.stake)):
            for name, amount in purses.items():
                assert self.world.tokens(self.purse(name, kind)) == amount, (kind, name)
        payment = sum(model.payment.values()) + sum(w.vault for w in model.wallets.values())
        payment += sum(m.owed + m.protocol + m.given for m in model.markets.values())
        payment += sum(n.pool.fees.unclaimed + n.owed + n.pool.given_fees for n in model.nodes.values())
        stake = sum(model.stake.values()) + model.emission_vault + model.compensation_vault
        stake += sum(n.pool.recorded + n.pool.given_stake for n in model.nodes.values())
        for kind, total in (("payment", payment), ("stake", stake)):
            assert self.supply.setdefault(kind, total) == total
