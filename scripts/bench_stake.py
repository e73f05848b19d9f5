"""What a claim and an epoch cost as positions and pools grow: units and wall time on the real program in LiteSVM.

usage: scripts/bench stake [--positions N …] [--pools N …]

Everything is made by the program's own instructions: every position by `delegate`, every pool by `register_node`, every
weight by a job that was opened, assigned and settled. The peer, in the same run, is what a program without accumulators
has to do at every epoch: one SPL token transfer to each staker, as many in a transaction as fit the network's packet.
Units are those of keys whose bumps are 255 (scripts/bench program says why). Wall time is the virtual machine's, for
one transaction with its signatures, building it left out. The program is REAVER_PROGRAM, or the committed one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from solders.hash import Hash
from solders.keypair import Keypair
from solders.message import Message
from solders.transaction import Transaction
from spl.token.instructions import TransferParams, transfer

from marketplace.chain.addresses import TOKEN_PROGRAM
from scripts.bench_job import commit
from tests.program import stake_flows
from tests.program.flows import Node, assign, finish, new_node, open_escrow, own_escrow
from tests.program.measure import cost_of
from tests.program.world import ADMIN, BOND, CPU, EPOCH_MS, PARAMS, World, bare_world, key, program_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from solders.instruction import Instruction

    from marketplace.chain.instructions import ProgramInstruction

POSITIONS: Final = (1, 100, 10_000)
POOLS: Final = (1, 100, 1_000)
STAKE: Final = 1_000_000
"""Of each delegator, base units."""
EMISSION: Final = 10**12
JOB: Final = 100_000_000
"""Price per hour is chosen so that a job pays this: enough that each of 10,000 positions earns of both kinds."""
JOB_MS: Final = 2_000
SAMPLES: Final = 50
"""Claims measured per size, spread evenly over all positions: the first and the last among them."""
PACKET: Final = 1_232
"""Specified: the most bytes of a transaction."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One transaction: units without luck of bumps, microseconds, and how many accounts it names."""

    units: int
    wall_us: float
    accounts: int


@dataclass(frozen=True, slots=True)
class Spread:
    """Of several transactions of one kind."""

    count: int
    units_min: int
    units_max: int
    accounts_max: int
    wall_us_median: float

    @classmethod
    def of(cls, found: Sequence[Sent]) -> Spread:
        units = [sent.units for sent in found]
        wall = statistics.median(sent.wall_us for sent in found)
        return cls(len(found), min(units), max(units), max(s.accounts for s in found), round(wall, 1))


@dataclass(frozen=True, slots=True)
class Loop:
    """The peer: a transfer to each staker. transactions: as few as packets allow."""

    transactions: int
    units: int
    units_per_transfer: int
    wall_ms: float


@dataclass(frozen=True, slots=True)
class EpochCost:
    """One epoch of so many pools. The first registration makes the epoch's account, the last part closes it."""

    register_first: Sent
    register: Spread | None
    close: Sent
    distribute: Spread | None
    distribute_last: Sent
    units: int
    units_per_pool: int
    wall_us_per_pool: float


@dataclass(frozen=True, slots=True)
class AtPositions:
    """One pool with so many delegators' positions."""

    positions: int
    built_s: float
    delegate: Spread
    claim: Spread
    epoch: EpochCost
    push: Loop


@dataclass(frozen=True, slots=True)
class AtPools:
    """So many pools, with one delegator each."""

    pools: int
    built_s: float
    claim: Spread
    epoch: EpochCost


@dataclass
class Bench:
    """A deployment with an emission, one market and one renter; pools and positions are added and stay."""

    world: World
    renter: Keypair
    nodes: list[Node] = field(default_factory=list)
    jobs: int = 0

    @classmethod
    def started(cls) -> Bench:
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
        world.put_token(at.emission(), build.deployment.stake_mint, at.config(), 1_000 * EMISSION)
        return cls(world, world.renter("renter", payment=10**15, vault=10**15))

    # building

    def add_pool(self) -> Node:
        node = new_node(self.world, f"pool {len(self.nodes)}")
        self.nodes.append(node)
        return node

    def add_position(self, node: Node, name: str) -> tuple[Keypair, Sent]:
        owner = key(f"delegator {name}")
        self.world.fund(owner.pubkey(), sol=1, stake=STAKE)  # LiteSVM has a million SOL to give, and no more
        call = self.world.build.delegate(owner.pubkey(), node.address(self.world), STAKE)
        return owner, self.act(call, owner)

    # acting

    def act(self, call: ProgramInstruction, signer: Keypair) -> Sent:
        """Simulates it for its units, then lands it and takes its time."""
        world = self.world
        world.svm.expire_blockhash()
        units = cost_of(world, (call,), (signer,)).units
        wire = world.instruction(call)
        wall = self.land([wire], signer)[1]
        return Sent(units, wall, len({meta.pubkey for meta in wire.accounts}))

    def land(self, wires: Sequence[Instruction], signer: Keypair) -> tuple[int, float]:
        """(units, microseconds) of a transaction that is taken."""
        svm = self.world.svm
        svm.expire_blockhash()
        message = Message.new_with_blockhash(list(wires), signer.pubkey(), svm.latest_blockhash())
        transaction = Transaction([signer], message, svm.latest_blockhash())
        began = time.perf_counter_ns()
        result = svm.send_transaction(transaction)
        wall = (time.perf_counter_ns() - began) / 1_000
        if not hasattr(result, "compute_units_consumed"):
            raise RuntimeError(f"refused: {self.world.name_of(result)}")
        return int(result.compute_units_consumed()), wall

    def pass_to(self, part: int) -> None:
        """Waits for the beginning of the next epoch (0), or for the second half of this one (1)."""
        config = self.world.config()
        into = (self.world.chain_ms - config.epoch_start) % config.epoch_length
        goal = config.epoch_length if part == 0 else config.epoch_length // 2
        self.world.pass_ms(max(0, goal - into))

    def work(self) -> int:
        """A job on every node, all in one epoch; which one. Closes the epochs that nobody registered for."""
        world = self.world
        self.pass_to(0)
        price = JOB * 3_600_000 // JOB_MS
        running = []
        for node in self.nodes:
            self.jobs += 1
            escrow = own_escrow(world, self.renter, self.jobs)
            open_escrow(world, self.renter, escrow, deposit=JOB, ceiling_price=price, max_time_ms=JOB_MS)
            assign(world, escrow, node)
            running.append((escrow, node))
        world.pass_ms(JOB_MS + 1_000)
        for escrow, node in running:
            finish(world, escrow, node, 1, JOB_MS)
        config = world.config()
        index = (world.chain_ms - config.epoch_start) // config.epoch_length
        return int(index)

    def epoch(self, index: int) -> EpochCost:
        """Registers all pools for the epoch, closes it, gives every pool its part."""
        world, payer = self.world, self.world.payer
        build, who = world.build, payer.pubkey()
        self.pass_to(0)
        addresses = [node.address(world) for node in self.nodes]
        registered = [self.act(build.register_weight(who, address, index), payer) for address in addresses]
        self.pass_to(1)
        while world.config().next_epoch < index:
            world.send(build.close_epoch(who, world.config().next_epoch, None), signers=[payer])
        closed = self.act(build.close_epoch(who, index, who), payer)
        drawn = [self.act(build.distribute(who, address, index, who), payer) for address in addresses]
        everything = [*registered, closed, *drawn]
        units = sum(sent.units for sent in everything)
        return EpochCost(
            register_first=registered[0],
            register=Spread.of(registered[1:]) if registered[1:] else None,
            close=closed,
            distribute=Spread.of(drawn[:-1]) if drawn[:-1] else None,
            distribute_last=drawn[-1],
            units=units,
            units_per_pool=units // len(addresses),
            wall_us_per_pool=round(sum(sent.wall_us for sent in everything) / len(addresses), 1),
        )

    def claims(self, held: Sequence[tuple[Node, Keypair]]) -> Spread:
        """Claims of at most SAMPLES of the positions, evenly spread; each pays both kinds of reward."""
        step = max(1, (len(held) - 1) // (SAMPLES - 1)) if len(held) > 1 else 1
        sample = dict.fromkeys([*range(0, len(held), step), len(held) - 1])
        world, found = self.world, []
        for number in sample:
            node, owner = held[number]
            before = self._holds(owner)
            found.append(self.act(world.build.claim(owner.pubkey(), stake_flows.pool_address(world, node)), owner))
            if not all(now > then for now, then in zip(self._holds(owner), before, strict=True)):
                raise RuntimeError("a claim paid only one kind of reward")
        return Spread.of(found)

    def _holds(self, owner: Keypair) -> tuple[int, int]:
        world = self.world
        return world.tokens(world.payment_account(owner.pubkey())), world.tokens(world.stake_account(owner.pubkey()))

    def push(self, owners: Sequence[Keypair]) -> Loop:
        """The peer: the epoch's reward is sent to each of them."""
        world, payer = self.world, self.world.payer
        mint = world.build.deployment.payment_mint
        source = world.put_token(key("push").pubkey(), mint, payer.pubkey(), 10**12)
        wires = [
            transfer(TransferParams(TOKEN_PROGRAM, source, world.payment_account(owner.pubkey()), payer.pubkey(), 1))
            for owner in owners
        ]
        size = fitting(wires, payer)
        batches = [wires[start : start + size] for start in range(0, len(wires), size)]
        landed = [self.land(batch, payer) for batch in batches]
        units = sum(units for units, _ in landed)
        return Loop(len(batches), units, units // len(wires), round(sum(wall for _, wall in landed) / 1_000, 2))


def fitting(wires: Sequence[Instruction], payer: Keypair) -> int:
    """How many of these instructions fit one packet."""
    count = 1
    while count < len(wires):
        message = Message.new_with_blockhash(list(wires[: count + 1]), payer.pubkey(), Hash.default())
        if len(bytes(Transaction.new_unsigned(message))) > PACKET:
            break
        count += 1
    return count


def positions_grow(sizes: Sequence[int]) -> list[AtPositions]:
    """One pool, measured each time it has so many delegators."""
    bench = Bench.started()
    node = bench.add_pool()
    owners: list[Keypair] = []
    found = []
    for size in sizes:
        began = time.monotonic()
        delegated = []
        while len(owners) < size:
            owner, sent = bench.add_position(node, f"{len(owners)} of one pool")
            owners.append(owner)
            delegated.append(sent)
        built = time.monotonic() - began
        index = bench.work()
        epoch = bench.epoch(index)
        claim = bench.claims([(node, owner) for owner in owners])
        found.append(AtPositions(size, round(built, 1), Spread.of(delegated), claim, epoch, bench.push(owners)))
    return found


def pools_grow(sizes: Sequence[int]) -> list[AtPools]:
    """Measured each time there are so many pools; one delegator on each."""
    bench = Bench.started()
    held: list[tuple[Node, Keypair]] = []
    found = []
    for size in sizes:
        began = time.monotonic()
        while len(held) < size:
            node = bench.add_pool()
            owner, _ = bench.add_position(node, f"of pool {len(held)}")
            held.append((node, owner))
        index = bench.work()
        built = time.monotonic() - began
        epoch = bench.epoch(index)
        found.append(AtPools(size, round(built, 1), bench.claims(held), epoch))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench stake", description="Cost of claims and epochs.")
    parser.add_argument("--positions", type=int, nargs="+", default=POSITIONS, help="sizes of the one pool, rising")
    parser.add_argument("--pools", type=int, nargs="+", default=POOLS, help="numbers of pools, rising")
    arguments = parser.parse_args()
    answer: dict[str, Any] = {
        "commit": commit(),
        "program_sha256": hashlib.sha256(program_path().read_bytes()).hexdigest(),
        "peer": "one SPL token transfer to each staker, packed into as few transactions as packets allow",
        "positions": [asdict(found) for found in positions_grow(arguments.positions)],
        "pools": [asdict(found) for found in pools_grow(arguments.pools)],
    }
    print(json.dumps(answer, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
