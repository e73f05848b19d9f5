"""Who can take work now: registered nodes, their connection, what they measured, what the chain says of them.

In memory; the store holds registration and measured hardware, the chain holds stake and record. Free slots are
counted here and only here: slots of attempts that hold a lease, and of offers that are being answered.
"""

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Final, Protocol

import orjson
import structlog

from marketplace.domain.catalogue import cuda_version, find_class
from marketplace.domain.events import EventType
from marketplace.domain.ids import NodeId
from marketplace.domain.matching import Candidate
from marketplace.domain.nodes import LEAST_UPTIME, UPTIME_WINDOW_MS, Node, NodeStatus, slots_that_fit, uptime
from marketplace.domain.pricing import Priority
from marketplace.domain.quantities import Tokens
from marketplace.domain.reputation import Record, reputation
from marketplace.protocol.control import (
    Capabilities,
    Claim,
    ClaimRequest,
    Command,
    ErrorBody,
    ExecControl,
    ExecData,
    ExecOpen,
    Hardware,
    Hello,
    Refuse,
)
from marketplace.services.chain_port import ChainPort, NodeView
from marketplace.services.clock import Clock
from marketplace.services.feed import Feed
from marketplace.services.live import Live
from marketplace.store.engine import Store, Transaction
from marketplace.store.nodes import Nodes

_log = structlog.get_logger(__name__)


NEWCOMER: Final = reputation(Record(0, 0))


class NodeLink(Protocol):
    """A node's held connection, or the queue behind its polls."""

    async def request_claim(self, request: ClaimRequest) -> Claim | Refuse | None:
        """The node's answer, None when it gave none in time or went away."""
        ...

    async def answer_claim(self, claim: Claim, lease_token: str | None) -> None:
        """Tell the node that its claim is taken, or without a token that it is not."""
        ...

    async def command(self, command: Command) -> bool:
        """Whether the node acknowledged it."""
        ...

    async def exec(self, body: ExecOpen | ExecData | ExecControl) -> ErrorBody | None:
        """Something of a command beside a job; None once the node took it, else why not."""
        ...

    async def close(self, reason: str) -> None: ...


@dataclass(slots=True)
class Presence:
    """One node as of now. slots: of its class, by measurement. offered: slots of offers being answered."""

    node: Node
    slots: int
    egress: bool = False
    pause: bool = False
    exec: bool = False
    max_disk_gb: int = 0
    cuda: int = 0
    spec_version: int = 1
    link: NodeLink | None = None
    last_beat_ms: int | None = None
    images: frozenset[str] = frozenset()
    draining: bool = False
    said_free: int = 0
    """Slots that the node said it has free, 0 once it refused an offer: it clears up after we count a slot as free."""
    offered: int = 0
    offered_exposure: int = 0
    chain: NodeView | None = None
    look: int = 0
    """Number of the look at the chain that `chain` is from."""
    down_ms: int = 0
    reputation: Fraction = NEWCOMER
    up_often_enough: bool = True
    """As of the last look at the chain, kept because every decision asks for them of every node."""
    lost: bool = False
    acknowledged: set[str] = field(default_factory=set)
    """Ids of commands that the node has taken; they are not sent again."""


class NodeRegistry:
    """Presences of all nodes."""

    def __init__(
        self, store: Store, chain: ChainPort, live: Live, feed: Feed, clock: Clock, *, trust_hardware: bool
    ) -> None:
        self._store = store
        self._chain = chain
        self._live = live
        self._feed = feed
        self._clock = clock
        self._trust_hardware = trust_hardware
        self._nodes: dict[NodeId, Presence] = {}
        self._looks = itertools.count(1)
        self._by_address: dict[str, NodeId] = {}

    async def load(self) -> None:
        """Take over registered nodes and their chain views. Missed heartbeats count from now, not from before."""

        def read(tx: Transaction) -> tuple[list[Node], set[NodeId]]:
            nodes = Nodes(tx)
            return nodes.list_all(), nodes.list_away()

        nodes, away = await self._store.read(read)
        for node in nodes:
            self._nodes[node.id] = Presence(
                node, slots=node.slots, egress=_can(node, "egress"), pause=_can(node, "pause"), exec=_can(node, "exec"),
                last_beat_ms=self._clock.monotonic_ms(), draining=node.status is NodeStatus.DRAINING,
                lost=node.id in away,
            )  # fmt: skip
            self._by_address[node.address] = node.id
        await self.refresh()

    async def refresh(self) -> None:
        """Read every node's account again, and how long it was away; note who was seen. Raises ChainUnavailable."""
        now = self._clock.now()
        seen = {p.node.id: p.node.last_seen_at_ms for p in self._nodes.values() if p.node.last_seen_at_ms is not None}
        if seen:
            await self._store.write(lambda tx: Nodes(tx).write_seen(seen))
        down = await self._store.read(lambda tx: Nodes(tx).down_ms(now - UPTIME_WINDOW_MS, now))
        look = next(self._looks)
        views = {view.node_key: view for view in await self._chain.list_nodes()}
        for presence in self._nodes.values():
            self._see(presence, views.get(presence.node.node_key), look)
            presence.down_ms = down.get(presence.node.id, 0)
            up = uptime(now, presence.node.joined_at_ms, presence.down_ms)
            presence.up_often_enough = up >= LEAST_UPTIME

    async def refresh_one(self, node_id: NodeId) -> None:
        """Read one node's account again. Raises ChainUnavailable."""
        presence = self._nodes.get(node_id)
        if presence is not None:
            look = next(self._looks)
            self._see(presence, await self._chain.find_node(presence.node.node_key), look)

    def _see(self, presence: Presence, view: NodeView | None, look: int) -> None:
        """Take over what the chain shows; an account that wasn't found is no evidence of anything.

        Nor is what an earlier look brings that took longer than a later one: it would put back what is over.
        """
        if view is not None and look > presence.look:
            presence.chain, presence.look = view, look
            presence.reputation = reputation(view.record)

    def excuse(self, milliseconds: int) -> None:
        """So much of everybody's silence was our own: we were not listening."""
        now = self._clock.monotonic_ms()
        for presence in self._nodes.values():
            if presence.last_beat_ms is not None:
                presence.last_beat_ms = min(now, presence.last_beat_ms + milliseconds)

    def listen_from_now(self) -> None:
        """Nodes are answered from now on, and not before: silence counts from here."""
        now = self._clock.monotonic_ms()
        for presence in self._nodes.values():
            presence.last_beat_ms = now

    def add(self, node: Node) -> None:
        """A node that was just registered."""
        self._nodes[node.id] = Presence(
            node, slots=node.slots, egress=_can(node, "egress"), pause=_can(node, "pause"), exec=_can(node, "exec")
        )
        self._by_address[node.address] = node.id

    def find(self, node_id: NodeId) -> Presence | None:
        return self._nodes.get(node_id)

    def find_by_address(self, address: str) -> Presence | None:
        """address: of the Node account."""
        node_id = self._by_address.get(address)
        return None if node_id is None else self._nodes.get(node_id)

    def __iter__(self) -> Iterator[Presence]:
        return iter(list(self._nodes.values()))

    def can_pause(self, node_id: NodeId) -> bool:
        """Whether the node holds a job at its limit, by its own word."""
        presence = self._nodes.get(node_id)
        return presence is not None and presence.pause

    async def connect(self, node_id: NodeId, link: NodeLink, hello: Hello) -> None:
        """The node is here: what it measured counts from now; an older connection of it is closed."""
        presence = self._nodes[node_id]
        older, presence.link = presence.link, link
        presence.last_beat_ms = self._clock.monotonic_ms()
        presence.images = frozenset(hello.images)
        presence.spec_version = hello.spec_version
        presence.acknowledged.clear()
        await self._measure(presence, hello.hardware, hello.capabilities, hello.slots, hello.version)
        if older is not None and older is not link:
            await older.close("the node connected again")
        await self.heard_of(node_id, draining=hello.draining, images=hello.images, free_slots=hello.free_slots)

    def disconnect(self, node_id: NodeId, link: NodeLink) -> None:
        """The connection ended; the node itself is lost only after three heartbeats."""
        presence = self._nodes.get(node_id)
        if presence is not None and presence.link is link:
            presence.link = None

    async def heard_of(self, node_id: NodeId, *, draining: bool, images: tuple[str, ...], free_slots: int) -> bool:
        """A heartbeat came. Ends an outage, takes over what changed; whether the node has more room than it said."""
        presence = self._nodes[node_id]
        more, presence.said_free = free_slots > presence.said_free, free_slots
        now = self._clock.now()
        presence.last_beat_ms = self._clock.monotonic_ms()
        presence.node = replace(presence.node, last_seen_at_ms=now)
        presence.images = frozenset(images)
        presence.draining = draining or presence.node.status is NodeStatus.DRAINING
        if presence.lost:
            presence.lost = False

            def write(tx: Transaction) -> None:
                Nodes(tx).end_outage(node_id, now)
                self._tell(tx, presence.node, EventType.NODE_RETURNED)

            await self._store.write(write)
        return more

    async def note_lost(self, node_id: NodeId) -> None:
        """Three heartbeats are missing: the outage counts from the last one."""
        presence = self._nodes[node_id]
        if presence.lost:
            return
        presence.lost = True
        silent = self._clock.monotonic_ms() - (presence.last_beat_ms or self._clock.monotonic_ms())
        started = self._clock.now() - silent

        def write(tx: Transaction) -> None:
            Nodes(tx).begin_outage(node_id, started)
            self._tell(tx, presence.node, EventType.NODE_LOST)

        await self._store.write(write)

    async def set_status(self, node_id: NodeId, status: NodeStatus) -> Node:
        """Write the market's own status of the node."""
        presence = self._nodes[node_id]
        begins_draining = status is NodeStatus.DRAINING and presence.node.status is not status
        presence.node = replace(presence.node, status=status)
        presence.draining = status is NodeStatus.DRAINING

        def write(tx: Transaction) -> None:
            Nodes(tx).update(presence.node)
            if begins_draining:
                self._tell(tx, presence.node, EventType.NODE_DRAINING)

        await self._store.write(write)
        return presence.node

    def _tell(self, tx: Transaction, node: Node, kind: EventType) -> None:
        """Tell the node's operator."""
        data = {"node_id": node.id, "node": node.address, "name": node.name}
        self._feed.append(tx, node.account_id, kind, node.id, data)

    def free_slots(self, presence: Presence) -> int:
        """Slots not promised to anyone."""
        used = sum(a.slots for a in self._live.attempts_of(presence.node.id) if a.live)
        return max(0, presence.slots - used - presence.offered)

    def free_capacity(self) -> int:
        """Free slots of all nodes that take work now."""
        return sum(self.free_slots(p) for p in self._nodes.values() if self.accepts_work(p))

    def has_room(self) -> bool:
        """Whether any node could take anything now: asked before each of them is looked at for one request."""
        return any(self.accepts_work(p) and self.free_slots(p) > 0 for p in self._nodes.values())

    @contextmanager
    def offer(self, node_id: NodeId, slots: int, exposure: int) -> Iterator[None]:
        """Hold capacity of a node while its answer to an offer is awaited."""
        presence = self._nodes[node_id]
        presence.offered += slots
        presence.offered_exposure += exposure
        try:
            yield
        finally:
            presence.offered -= slots
            presence.offered_exposure -= exposure

    def candidates(self, priority: Priority, slots: int) -> list[Candidate]:
        """Every node as the matcher sees it now. Floors are for the whole allocation of so many slots."""
        return [self.candidate(presence, priority, slots) for presence in self._nodes.values()]

    def candidate(self, presence: Presence, priority: Priority, slots: int) -> Candidate:
        """One node as the matcher sees it now."""
        node, chain = presence.node, presence.chain
        floor = node.floor_per_hour
        if priority is Priority.LOW and node.low_floor_per_hour is not None:
            floor = node.low_floor_per_hour
        room = max(0, chain.exposure_limit - chain.exposure - presence.offered_exposure) if chain else 0
        return Candidate(
            node_id=node.id,
            class_id=node.class_id,
            region=node.region,
            floor_per_hour=Tokens(floor * slots),
            free_slots=self.free_slots(presence),
            exposure_room=Tokens(room),
            reputation=presence.reputation,
            accepts_work=self.accepts_work(presence),
            can_egress=presence.egress,
            max_disk_gb=presence.max_disk_gb,
            cuda=presence.cuda,
            spec_version=presence.spec_version,
            images=presence.images,
        )

    def accepts_work(self, presence: Presence) -> bool:
        """Connected, active here and on chain, not draining, up often enough."""
        return (
            presence.link is not None
            and not presence.lost
            and not presence.draining
            and presence.node.status is NodeStatus.ACTIVE
            and presence.chain is not None
            and presence.chain.status == "active"
            and not presence.chain.bond_missing
            and presence.up_often_enough
        )

    async def _measure(
        self, presence: Presence, hardware: Hardware, capabilities: Capabilities, offered: int, version: str
    ) -> None:
        wanted = find_class(presence.node.class_id)
        fitting = slots_that_fit(wanted, hardware.vcpu, hardware.ram_bytes, len(hardware.gpus))
        trusted = self._trust_hardware or not wanted.gpu
        slots = min(offered, fitting) if not self._trust_hardware else offered
        status = presence.node.status
        if status in (NodeStatus.PENDING, NodeStatus.ACTIVE):
            status = NodeStatus.ACTIVE if trusted and slots > 0 else NodeStatus.PENDING
        if status is NodeStatus.PENDING:
            _log.info("node stays pending", action="nodes.measure", node=presence.node.id, fitting=fitting)
        presence.slots = slots
        presence.egress = capabilities.egress
        presence.pause = capabilities.pause
        presence.exec = capabilities.exec
        presence.max_disk_gb = capabilities.max_disk_gb
        presence.cuda = _cuda(hardware.cuda_version)
        presence.node = replace(
            presence.node,
            status=status,
            slots=slots,
            hardware=hardware.model_dump_json(),
            capabilities=capabilities.model_dump_json(),
            version=version[:64],
            last_seen_at_ms=self._clock.now(),
        )
        await self._store.write(lambda tx: Nodes(tx).update(presence.node))


def _cuda(text: str | None) -> int:
    """0 where the node says nothing or something else than a version."""
    try:
        return 0 if text is None else cuda_version(text)
    except ValueError:
        return 0


def _can(node: Node, what: str) -> bool:
    if node.capabilities is None:
        return False
    capabilities: Mapping[str, object] = orjson.loads(node.capabilities)
    return bool(capabilities.get(what, False))
