"""A daemon over a fake engine, its market on loopback, and a real journal."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from marketplace.domain.destinations import Reach
from marketplace.outgoing import Outgoing
from marketplace.protocol.control import Capabilities as Announced
from marketplace.protocol.control import Hardware
from node.acceptance import Policy
from node.agent import Agent, Limits, Machine
from node.chain import Chain, Windows
from node.clock import SystemClock
from node.control import ControlChannel
from node.hardware import GB
from node.journal import Journal
from node.keys import KeyPair, generate
from node.market import MarketHttp, NodeConnector
from node.metering import Identity
from node.runtime.fake import FakeEngine, FakeOutput, FakeProgram, FakeRuntime
from node.runtime.port import Capabilities, DiskLimit, Network
from node.transfers import HttpTransfers
from tests.node.scripted_market import NODE_ID, ScriptedMarket

IDENTITY = Identity(program_id=b"\x01" * 32, genesis_hash=b"\x02" * 32, market=b"\x03" * 32, node=b"\x04" * 32)
PROGRAMS = {
    "busy": FakeProgram(runs_for_s=None),
    "stubborn": FakeProgram(runs_for_s=None, obeys_term=False),
    "done": FakeProgram(runs_for_s=0.3, output=(FakeOutput(b"one\ntwo\n"), FakeOutput(b"three\n", 0.1))),
    "failing": FakeProgram(runs_for_s=0.1, exit_code=3),
    "missing-command": FakeProgram(runs_for_s=0.0, exit_code=127),
    "hungry": FakeProgram(runs_for_s=0.1, exit_code=137, oom_killed=True),
    "full": FakeProgram(runs_for_s=0.1, exit_code=1, disk_full=True),
    "vanishing": FakeProgram(runs_for_s=0.3, vanishes=True),
    "talking": FakeProgram(
        runs_for_s=None, output=tuple(FakeOutput(f"line {n}\n".encode(), n * 0.05) for n in range(1, 41))
    ),
}
POLICY = Policy(
    class_id="cpu-small",
    slots=2,
    floor_per_gpu_second="0.000001",
    decimals=6,
    max_fee_bps=1000,
    max_disk_gb=10,
    networks=frozenset(Network),
)
LIMITS = Limits(
    windows=Windows(claim_limit_ms=30_000, skew_ms=2_000, lost_after_ms=6_000),
    max_image_bytes=1 << 30,
    log_limit_bytes=1 << 20,
)
MACHINE = Machine(
    version="0.1.0",
    hardware=Hardware(vcpu=2, ram_bytes=1 << 32, disk_bytes=1 << 36),
    capabilities=Capabilities("fake", False, frozenset(Network), DiskLimit.NONE, DiskLimit.NONE, 10 * GB, ()),
    announce=lambda found: Announced(
        runtime="fake", egress=True, disk_limit=False, max_disk_gb=min(10, found.max_disk_bytes // GB)
    ),
)


class LeapingClock(SystemClock):
    """The machine's clock, in which time passes that nobody has to wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead_ms = 0

    def monotonic_ms(self) -> int:
        return super().monotonic_ms() + self.ahead_ms

    def wall_ms(self) -> int:
        return super().wall_ms() + self.ahead_ms


@dataclass
class Node:
    """One machine: an engine that outlives its daemons, a journal on disk, and at most one daemon at a time."""

    market: ScriptedMarket
    folder: Path
    key: KeyPair
    engine: FakeEngine
    policy: Policy = POLICY
    limits: Limits = LIMITS
    chain: Chain | None = None
    answer_due_s: float = 0.5
    clock: LeapingClock = field(default_factory=LeapingClock)
    agent: Agent = field(init=False)
    journal: Journal = field(init=False)
    outgoing: Outgoing = field(init=False)
    _task: asyncio.Task[None] | None = None
    _stack: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)

    @property
    def journal_path(self) -> Path:
        return self.folder / "journal.sqlite3"

    async def start(self) -> None:
        self.journal = Journal(self.journal_path)
        self._stack = contextlib.AsyncExitStack()
        http = await self._stack.enter_async_context(MarketHttp(self.market.url, self.key, "node"))
        self.outgoing = Outgoing(Reach.LOOPBACK_TOO)
        self._stack.push_async_callback(self.outgoing.close)
        self.agent = Agent(
            machine=MACHINE,
            policy=self.policy,
            limits=self.limits,
            identity=IDENTITY,
            key=self.key,
            journal=self.journal,
            runtime=FakeRuntime(self.engine, "test"),
            connector=NodeConnector(http, NODE_ID),
            clock=self.clock,
            chain=self.chain,
            drain_flag=self.folder / "draining",
            transfers=HttpTransfers(http, NODE_ID, self.outgoing),
            channel=lambda receiver, connector: ControlChannel(connector, receiver, answer_due_s=self.answer_due_s),
        )
        self._task = asyncio.create_task(self.agent.run())

    async def kill(self) -> None:
        """The daemon is gone; engine, journal file and containers stay."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
            self.journal.close()
            await self._stack.aclose()
            await self.market.until_alone()

    async def restart(self) -> None:
        await self.kill()
        await self.start()

    async def until_clean(self) -> None:
        """Until no container is left and the journal has forgotten everything."""
        runtime = FakeRuntime(self.engine, "test")
        async with asyncio.timeout(30):
            while await runtime.list() or self.journal.attempts() or self.agent.busy:  # noqa: ASYNC110 - a foreign file and engine
                await asyncio.sleep(0.02)

    @property
    def chain_heard_ms(self) -> int:
        """The chain's time by the last answer to a heartbeat; 0 before any."""
        return self.agent._chain_clock.known_ms() or 0

    def end(self, exit_code: int = 0) -> None:
        """The one container that runs ends by itself, now."""
        (running,) = (each for each in self.engine.records.values() if each.outcome is None)
        self.engine.end(running, exit_code, at=datetime.now(UTC))

    def having(self, **changes: Any) -> "Node":
        self.policy = replace(self.policy, **changes)
        return self


@pytest.fixture
async def market() -> AsyncIterator[ScriptedMarket]:
    server = ScriptedMarket(generate(), IDENTITY)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def make_node(market: ScriptedMarket, tmp_path: Path) -> AsyncIterator[Callable[[], Node]]:
    made: list[Node] = []

    def make() -> Node:
        node = Node(market, tmp_path, market.node_key, FakeEngine(PROGRAMS, folder=tmp_path / "engine"))
        made.append(node)
        return node

    yield make
    for node in made:
        await node.kill()


@pytest.fixture
async def node(make_node: Callable[[], Node]) -> Node:
    started = make_node()
    await started.start()
    return started
