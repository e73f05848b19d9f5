"""The crank against the real program, in a chain of this process whose clock the tests move."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from marketplace.chain.accounts import (
    EpochAccount,
    EscrowAccount,
    MarketAccount,
    NodeAccount,
    PoolAccount,
)
from marketplace.chain.builders import CallBuilder, EscrowRef
from marketplace.chain.instructions import ProgramInstruction
from marketplace.chain.reader import Located
from marketplace.chain.stakes import EmissionState
from marketplace.domain.quantities import Bps, Millis, Stake, Tokens
from marketplace.domain.staking import EmissionRules, EpochClock, decayed, distribution_floor
from marketplace.services.crank import (
    BATCHES,
    MOST_REFUSALS,
    CrankDuty,
    CrankRefused,
    CrankReport,
    CrankRules,
    crank_once,
    next_boundary,
)
from tests.program.flows import Node, assign, finish, new_node, open_escrow, own_escrow, read, release
from tests.program.world import ADMIN, BOND, CPU, EPOCH_MS, PARAMS, Refused, World, bare_world, key

EMISSION = 1_000_000
FUNDS = 50_000_000
WORK_MS = 1_000
"""Billed by each job: one base unit a millisecond."""


@dataclass
class WorldCrank:
    """`CrankChain` on a world in this process. It lists what the test has put there."""

    world: World
    signer: Keypair
    nodes: list[Pubkey] = field(default_factory=list)
    escrows: list[EscrowRef] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    sent: list[tuple[str, ...]] = field(default_factory=list)

    @property
    def submitter(self) -> Pubkey:
        return self.signer.pubkey()

    @property
    def calls(self) -> CallBuilder:
        return self.world.build

    async def emission(self) -> EmissionState:
        world = self.world
        vault = world.tokens(world.build.addresses.emission())
        return EmissionState(world.config(), vault, world.chain_ms, 0)

    async def list_epochs(self) -> list[EpochAccount]:
        newest = EpochClock(Millis(self.world.config().epoch_start), Millis(self.world.config().epoch_length)).index_at(
            Millis(self.world.chain_ms)
        )
        # more than the three that can be open: an account that is ended too late is older
        found = [self.find_epoch(index) for index in range(max(0, newest - 20), newest + 1)]
        return [epoch for epoch in found if epoch is not None]

    def find_epoch(self, index: int) -> EpochAccount | None:
        address = self.world.build.addresses.epoch(index)
        return self.world.read(EpochAccount, address) if self.world.exists(address) else None

    async def list_nodes(self) -> list[Located[NodeAccount]]:
        return [self._located(NodeAccount, node) for node in self.nodes]

    async def find_nodes(self, addresses: Sequence[Pubkey]) -> list[Located[NodeAccount] | None]:
        return [self._located(NodeAccount, node) for node in addresses]

    async def find_pools(self, nodes: Sequence[Pubkey]) -> list[PoolAccount | None]:
        return [self.world.read(PoolAccount, self.calls.addresses.pool(node)) for node in nodes]

    async def list_escrows(self) -> list[Located[EscrowAccount]]:
        addresses = [self.calls.escrow_address(escrow) for escrow in self.escrows]
        return [self._located(EscrowAccount, address) for address in addresses if self.world.exists(address)]

    async def list_markets(self) -> list[Located[MarketAccount]]:
        return [self._located(MarketAccount, self.world.market)]

    async def perform(self, calls: Sequence[ProgramInstruction]) -> str:
        try:
            self.world.send(*calls, signers=[self.signer])
        except Refused as refused:
            raise CrankRefused(str(refused), refused.name) from refused
        self.sent.append(tuple(call.name for call in calls))
        return f"transaction {len(self.sent)}"

    def _located(self, kind, address):
        return Located(address, self.world.read(kind, address), 1, 0)


class StaleCrank(WorldCrank):
    """A crank that reads once and acts later: what it wants to do may be done by then."""

    def __init__(self, crank: WorldCrank) -> None:
        super().__init__(crank.world, key("slow crank"), crank.nodes, crank.escrows)
        self.world.svm.airdrop(self.submitter, 10**9)

    async def read_all(self) -> "StaleCrank":
        self.readings = (
            await super().emission(),
            await super().list_epochs(),
            await super().list_nodes(),
            await super().list_escrows(),
            await super().list_markets(),
        )
        return self

    async def emission(self):
        return self.readings[0]

    async def list_epochs(self):
        return self.readings[1]

    async def list_nodes(self):
        return self.readings[2]

    async def list_escrows(self):
        return self.readings[3]

    async def list_markets(self):
        return self.readings[4]


@pytest.fixture
def crank() -> WorldCrank:
    """A deployment with an emission, a market and a renter; nobody has worked yet."""
    world = bare_world()
    build = world.build
    world.send(
        build.initialize(
            world.payer.pubkey(), ADMIN.pubkey(), key("protocol token").pubkey(), None, PARAMS, EPOCH_MS, EMISSION
        ),
        signers=[world.payer, ADMIN],
    )
    world.send(
        build.set_class(world.payer.pubkey(), ADMIN.pubkey(), CPU, BOND, enabled=True), signers=[world.payer, ADMIN]
    )
    world.send(
        build.register_market(
            world.payer.pubkey(), world.authority.pubkey(), world.matcher.pubkey(), world.meter.pubkey(), 400
        ),
        signers=[world.payer, world.authority],
    )
    fund(world, FUNDS)
    world.renter("renter", vault=10**7)
    signer = key("crank")
    world.svm.airdrop(signer.pubkey(), 10**9)
    return WorldCrank(world, signer)


def fund(world: World, amount: int) -> None:
    """The emission vault is funded by a plain transfer; here its balance is written."""
    at = world.build.addresses
    world.put_token(at.emission(), world.build.deployment.stake_mint, at.config(), amount)


def worker(crank: WorldCrank, name: str, *, jobs: int = 1) -> Node:
    """A node that has ended so many jobs well in the epoch of now."""
    node = new_node(crank.world, name)
    crank.nodes.append(node.address(crank.world))
    for _ in range(jobs):
        work(crank, node)
    return node


def work(crank: WorldCrank, node: Node) -> None:
    escrow = started(crank, node)
    crank.world.pass_ms(WORK_MS)
    finish(crank.world, escrow, node, 1, WORK_MS)


def started(crank: WorldCrank, node: Node) -> EscrowRef:
    escrow = opened(crank)
    assign(crank.world, escrow, node)
    return escrow


def opened(crank: WorldCrank) -> EscrowRef:
    renter = key("renter")
    escrow = own_escrow(crank.world, renter, nonce=len(crank.escrows) + 1)
    crank.escrows.append(escrow)
    return open_escrow(crank.world, renter, escrow)


def go_to(world: World, epoch: int, *, half: int = 1) -> None:
    """The first or the second half of an epoch, a second into it."""
    config = world.config()
    target = config.epoch_start + epoch * config.epoch_length + (half - 1) * config.epoch_length // 2 + 1_000
    assert target > world.chain_ms, "time only goes forward"
    world.pass_ms(target - world.chain_ms)


def duties(report: CrankReport) -> list[str]:
    return [done.duty.value for done in report.done]


def of_escrows(report: CrankReport) -> list[str]:
    """The same without what it did about epochs, which pass beside the test."""
    return [duty for duty in duties(report) if duty in {"contest", "reap"}]


def slot(crank: WorldCrank, node: Node, epoch: int):
    return crank.world.node(node.key).epochs[epoch % 3]


async def test_an_epochs_whole_life_by_nothing_but_cranks(crank: WorldCrank) -> None:
    world = crank.world
    good, better = worker(crank, "good"), worker(crank, "better", jobs=3)
    idle = new_node(world, "idle")
    crank.nodes.append(idle.address(world))
    before = world.svm.get_balance(crank.submitter)
    assert (await crank_once(crank)).done == (), "epoch 0 is still running"

    go_to(world, 1)
    assert duties(await crank_once(crank)) == ["register", "register"]
    assert duties(await crank_once(crank)) == [], "once is enough"
    open_epoch = crank.find_epoch(0)
    assert open_epoch is not None
    assert open_epoch.registered == 2

    go_to(world, 1, half=2)
    report = await crank_once(crank)
    assert duties(report) == ["close", "distribute", "distribute"]
    assert report.refused == ()
    assert crank.find_epoch(0) is None, "the last part ended it"
    rules = EmissionRules(Bps(PARAMS.emission_cap_bps), PARAMS.exposure_rate)
    for node, jobs in ((good, 1), (better, 3)):
        fees = jobs * WORK_MS * PARAMS.protocol_bps // 10_000
        part = distribution_floor(Stake(EMISSION), Stake(BOND), 2 * BOND, Tokens(fees), rules)
        assert world.pool(node.key).emission_unclaimed == part > 0
        assert slot(crank, node, 0).distributed
    assert world.pool(idle.key).emission_unclaimed == 0
    assert world.config().committed_emission == 0, "what the fees' cap left is free again"
    spent = before - world.svm.get_balance(crank.submitter)
    assert spent == len(crank.sent) * 5_000, "the epoch's rent has come back; only fees are spent"
    assert duties(await crank_once(crank)) == []


async def test_cranks_race_without_harm(crank: WorldCrank) -> None:
    """One reads and is slow; the other does everything meanwhile."""
    world = crank.world
    nodes = [worker(crank, name) for name in ("a", "b", "c")]
    for epoch, half in ((1, 1), (1, 2)):
        go_to(world, epoch, half=half)
        slow = await StaleCrank(crank).read_all()
        assert (await crank_once(crank)).done
        config, pools = world.config(), [world.pool(node.key) for node in nodes]
        report = await crank_once(slow)
        assert report.done == ()
        assert {refused.because for refused in report.refused} <= {"WeightRegisteredAlready", "WrongEpoch"}
        assert report.refused
        assert (world.config(), [world.pool(node.key) for node in nodes]) == (config, pools)


async def test_what_one_has_done_doesnt_stop_the_rest_of_a_transaction(crank: WorldCrank) -> None:
    world = crank.world
    for name in ("a", "b", "c"):
        worker(crank, name)
    go_to(world, 1)
    slow = await StaleCrank(crank).read_all()
    world.send(world.build.register_weight(crank.submitter, crank.nodes[1], 0), signers=[crank.signer])
    report = await crank_once(slow)
    assert {done.subject for done in report.done} == {f"0 {crank.nodes[0]}", f"0 {crank.nodes[2]}"}
    assert [(refused.subject, refused.because) for refused in report.refused] == [
        (f"0 {crank.nodes[1]}", "WeightRegisteredAlready")
    ]


class Obstructed(WorldCrank):
    """Some acts can never be done here."""

    def __init__(self, crank: WorldCrank, never: set[Pubkey]) -> None:
        super().__init__(crank.world, crank.signer, crank.nodes, crank.escrows)
        self.never = never

    async def perform(self, calls: Sequence[ProgramInstruction]) -> str:
        if any(getattr(call.accounts, "node", None) in self.never for call in calls):
            raise CrankRefused("never", "Never")
        return await super().perform(calls)


async def test_what_can_never_be_done_keeps_nothing_else_from_being_done(crank: WorldCrank) -> None:
    world = crank.world
    for number in range(14):
        worker(crank, f"n{number}")
    waiting = opened(crank)
    world.write("Escrow", world.build.escrow_address(waiting), {"assign_by": world.chain_ms})
    go_to(world, 1)
    good = {crank.nodes[0], crank.nodes[13]}
    obstructed = Obstructed(crank, set(crank.nodes) - good)
    registered: set[str] = set()
    for second in range(8):
        report = await crank_once(obstructed, CrankRules(transactions=4))
        assert len(report.refused) <= MOST_REFUSALS
        assert (of_escrows(report) == ["reap"]) is (second == 0), "other duties have their turn at once"
        registered |= {done.subject for done in report.done if done.duty is CrankDuty.REGISTER}
        world.pass_ms(1_000)
    assert registered == {f"0 {node}" for node in good}


async def test_as_many_acts_as_a_batch_holds_fit_a_packet(crank: WorldCrank) -> None:
    """`World.send` refuses what the network would: 1,232 bytes."""
    world = crank.world
    count = max(BATCHES[CrankDuty.REGISTER], BATCHES[CrankDuty.DISTRIBUTE]) + 1
    for number in range(count):
        worker(crank, f"n{number}")
    go_to(world, 1)
    await crank_once(crank)
    assert crank.sent == [("register_weight",) * BATCHES[CrankDuty.REGISTER], ("register_weight",)]
    crank.sent.clear()
    go_to(world, 1, half=2)
    await crank_once(crank)
    assert crank.sent == [
        ("close_epoch",),
        ("distribute",) * BATCHES[CrankDuty.DISTRIBUTE],
        ("distribute",) * (count - BATCHES[CrankDuty.DISTRIBUTE]),
    ]


async def test_epochs_that_nobody_cranked_are_caught_up_a_bounded_part_at_a_time(crank: WorldCrank) -> None:
    world = crank.world
    go_to(world, 100)
    rules = CrankRules(transactions=5)
    left, scheduled = 99, Stake(EMISSION)
    while left:
        report = await crank_once(crank, rules)
        closed = min(left, 5 * BATCHES[CrankDuty.CLOSE])
        assert duties(report) == ["close"] * closed
        assert len(crank.sent) <= 5
        crank.sent.clear()
        left -= closed
    for _ in range(99):
        scheduled = decayed(scheduled, Bps(PARAMS.decay_bps))
    assert world.config().next_epoch == 99
    assert world.config().scheduled_emission == scheduled
    assert world.config().committed_emission == 0


async def test_a_round_does_no_more_than_it_may(crank: WorldCrank) -> None:
    for name in ("a", "b"):
        worker(crank, name)
    go_to(crank.world, 1)
    report = await crank_once(crank, CrankRules(transactions=0))
    assert (report.done, report.left) == ((), 2)


async def test_an_epoch_that_was_never_distributed_is_ended_and_frees_its_emission(crank: WorldCrank) -> None:
    world = crank.world
    worker(crank, "a")
    go_to(world, 1)
    await crank_once(crank)
    go_to(world, 1, half=2)
    world.send(world.build.close_epoch(crank.submitter, 0, crank.submitter), signers=[crank.signer])
    assert world.config().committed_emission == EMISSION
    go_to(world, 3)
    report = await crank_once(crank)
    assert duties(report) == ["end", "close"], "epoch 0 ends, epoch 1 only decays"
    assert crank.find_epoch(0) is None
    assert world.config().committed_emission == 0
    assert world.config().next_epoch == 2


async def test_an_epoch_closed_too_late_gives_nothing_and_returns_its_rent(crank: WorldCrank) -> None:
    world = crank.world
    node = worker(crank, "a")
    go_to(world, 1)
    await crank_once(crank)
    before = world.svm.get_balance(crank.submitter)
    go_to(world, 4)
    assert duties(await crank_once(crank)) == ["close", "close", "close"]
    assert crank.find_epoch(0) is None
    assert world.svm.get_balance(crank.submitter) > before, "rent back, less a fee"
    assert world.pool(node.key).emission_unclaimed == 0
    assert world.config().committed_emission == 0


@pytest.mark.parametrize("empty", ["vault", "schedule"])
async def test_nothing_is_registered_where_nothing_can_be_paid(crank: WorldCrank, empty: str) -> None:
    world = crank.world
    worker(crank, "a")
    if empty == "vault":
        fund(world, 0)
    else:
        world.write("Config", world.build.addresses.config(), {"scheduled_emission": 0})
    go_to(world, 1)
    assert (await crank_once(crank)).done == ()


async def test_a_schedule_at_its_end_is_not_closed_for_nothing(crank: WorldCrank) -> None:
    world = crank.world
    worker(crank, "a")
    go_to(world, 1)
    assert duties(await crank_once(crank)) == ["register"]
    world.write("Config", world.build.addresses.config(), {"scheduled_emission": 0})
    go_to(world, 1, half=2)
    # an epoch with an account is closed all the same: somebody's rent lies in it
    assert duties(await crank_once(crank)) == ["close"]
    go_to(world, 3)
    assert duties(await crank_once(crank)) == ["end", "close"]
    go_to(world, 9)
    assert (await crank_once(crank)).done == ()


async def test_an_unfunded_emission_rests_and_is_caught_up_when_funded(crank: WorldCrank) -> None:
    world = crank.world
    fund(world, 0)
    go_to(world, 5)
    assert (await crank_once(crank)).done == ()
    fund(world, FUNDS)
    node = worker(crank, "a")
    assert duties(await crank_once(crank)) == ["close"] * 4
    go_to(world, 6)
    assert duties(await crank_once(crank)) == ["close", "register"], "epoch 4, and the weight of epoch 5"
    go_to(world, 6, half=2)
    assert duties(await crank_once(crank)) == ["close", "distribute"]
    assert world.pool(node.key).emission_unclaimed > 0


async def test_a_patient_crank_leaves_contests_to_others_first(crank: WorldCrank) -> None:
    world = crank.world
    node = worker(crank, "a", jobs=0)
    escrow = started(crank, node)
    world.pass_ms(PARAMS.lost_after + 1_000)
    release(world, escrow, node)
    world.pass_ms(PARAMS.contest + 1_000)
    patient = CrankRules(patience_ms=5_000)
    assert of_escrows(await crank_once(crank, patient)) == []
    world.pass_ms(5_000)
    assert of_escrows(await crank_once(crank, patient)) == ["contest"]


async def test_a_node_without_stake_or_whose_attempts_were_lost_registers_nothing(crank: WorldCrank) -> None:
    world = crank.world
    lost = new_node(world, "lost")
    crank.nodes.append(lost.address(world))
    escrow = started(crank, lost)
    world.pass_ms(PARAMS.lost_after + 1_000)
    release(world, escrow, lost)
    world.pass_ms(PARAMS.contest + 2_000)
    assert duties(await crank_once(crank)) == ["contest"]
    broke = worker(crank, "broke")
    world.write("Pool", world.build.addresses.pool(broke.address(world)), {"active_stake": 0})
    go_to(world, 1)
    report = await crank_once(crank)
    assert (report.done, report.refused) == ((), ())


async def test_contests_are_closed_after_their_window_and_not_before(crank: WorldCrank) -> None:
    world = crank.world
    node = worker(crank, "a", jobs=0)
    escrow = started(crank, node)
    world.pass_ms(PARAMS.lost_after + 1_000)
    release(world, escrow, node)
    world.pass_ms(PARAMS.contest)
    assert (await crank_once(crank)).done == ()
    world.pass_ms(1_000)
    (done,) = (await crank_once(crank)).done
    assert (done.duty, done.subject) == (CrankDuty.CONTEST, str(world.build.escrow_address(escrow)))
    assert not read(world, escrow).contest.attempt.number
    assert (await crank_once(crank)).done == ()


async def test_escrows_are_reaped_after_their_last_moment_and_not_before(crank: WorldCrank) -> None:
    world = crank.world
    node = worker(crank, "a", jobs=0)
    waiting, running, stopped = opened(crank), started(crank, node), started(crank, node)
    world.send(world.build.cancel_escrow(stopped, key("renter").pubkey()), signers=[key("renter")])
    attempt, account = read(world, running).attempt, read(world, running)
    deadline = attempt.assigned_at + PARAMS.ready_limit + account.max_time + PARAMS.reap_grace
    world.pass_ms(deadline - world.chain_ms)
    assert of_escrows(await crank_once(crank)) == []
    world.pass_ms(1_000)
    report = await crank_once(crank)
    assert of_escrows(report) == ["reap", "reap"]
    assert {done.subject for done in report.done} >= {str(world.build.escrow_address(e)) for e in (running, stopped)}
    # the reaped attempts are contested first, like every one-sided end; then the accounts close
    world.pass_ms(PARAMS.contest + 1_000)
    assert of_escrows(await crank_once(crank)) == ["contest", "contest"]
    assert not world.exists(world.build.escrow_address(running))
    world.pass_ms(read(world, waiting).assign_by - world.chain_ms)
    assert of_escrows(await crank_once(crank)) == []
    world.pass_ms(1_000)
    assert of_escrows(await crank_once(crank)) == ["reap"]
    assert not world.exists(world.build.escrow_address(waiting))


async def test_the_protocols_fees_are_swept_when_they_are_worth_it(crank: WorldCrank) -> None:
    world = crank.world
    worker(crank, "a", jobs=2)
    owed = world.market_account().protocol_owed
    assert owed == 2 * WORK_MS * PARAMS.protocol_bps // 10_000
    assert (await crank_once(crank, CrankRules(sweep_from=owed + 1))).done == ()
    (done,) = (await crank_once(crank, CrankRules(sweep_from=owed))).done
    assert (done.duty, done.subject) == (CrankDuty.SWEEP, str(world.market))
    assert world.tokens(key("protocol token").pubkey()) == owed
    assert world.market_account().protocol_owed == 0
    assert (await crank_once(crank, CrankRules(sweep_from=0))).done == (), "nothing is never worth it"


def test_the_next_look_is_at_the_next_half_of_an_epoch() -> None:
    clock = EpochClock(Millis(1_000), Millis(20_000))
    assert next_boundary(clock, Millis(1_000)) == 11_000
    assert next_boundary(clock, Millis(10_999)) == 11_000
    assert next_boundary(clock, Millis(11_000)) == 21_000
