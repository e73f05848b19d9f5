"""Registering nodes, showing them, draining them. Source: api.md section 5.5."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal

import base58

from marketplace.domain.catalogue import UnknownName, cuda_version, find_class, find_place, lies_in
from marketplace.domain.ids import NodeId
from marketplace.domain.instants import instant_text
from marketplace.domain.money import (
    AmountOverflow,
    MalformedAmount,
    format_amount,
    hourly_from_gpu_second,
    parse_amount,
)
from marketplace.domain.nodes import Node, NodeStatus, uptime
from marketplace.domain.quantities import Stake, Tokens
from marketplace.domain.reputation import Record, reputation
from marketplace.errors import (
    AlreadyExists,
    Conflict,
    DetailCode,
    Forbidden,
    IdempotencyKeyReused,
    Invalid,
    NotFound,
    SignatureRequired,
)
from marketplace.protocol.control import Hardware
from marketplace.protocol.signatures import verify
from marketplace.protocol.terms import canonical_json
from marketplace.services.chain_port import ChainPort, NodeView
from marketplace.services.clock import Clock, Ids
from marketplace.services.idempotency import KeyInUse
from marketplace.services.live import Live
from marketplace.services.node_registry import NodeRegistry, Presence
from marketplace.services.principals import AccountPrincipal, Principal
from marketplace.services.scheduler import Scheduler
from marketplace.services.transactions import TransactionService
from marketplace.store.engine import Store, Transaction
from marketplace.store.nodes import Nodes

SortBy = Literal["price", "reputation", "uptime"]
_GIB: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class Registration:
    """A node as its operator announces it. signed: canonical JSON of the body without its signature.

    bond: decimal text in stake tokens; the class's least where it is None.
    """

    node_key: str
    region: str
    price_floor_per_gpu_second: str
    hardware: Hardware
    node_signature: bytes
    signed: bytes
    class_name: str | None = None
    low_floor: str | None = None
    name: str | None = None
    data_center: str | None = None
    bond: str | None = None


@dataclass(frozen=True, slots=True)
class NodeDetails:
    """A node with everything its view shows of this moment."""

    node: Node
    status: NodeStatus
    available: bool
    free_slots: int
    reputation: Fraction
    uptime: Fraction
    chain: NodeView | None
    connected: bool

    @property
    def hardware(self) -> Hardware:
        """As the node last measured it, before that as it was registered."""
        return Hardware.model_validate_json(self.node.hardware or self.node.declared)

    @property
    def vram_gb(self) -> int:
        """Memory of one GPU, which its class fixes."""
        return find_class(self.node.class_id).vram_gb

    @property
    def ram_gb(self) -> int:
        """Of the machine: the nearest whole number, for firmware keeps a little of what is built in."""
        return round(self.hardware.ram_bytes / _GIB)

    @property
    def disk_gb(self) -> int:
        """Of the machine; one job gets at most what its node's settings say."""
        return self.hardware.disk_bytes // _GIB


@dataclass(frozen=True, slots=True)
class NodeQuery:
    """What a list of nodes is narrowed to. status None and available None: active nodes with free capacity.

    min_cuda: as `catalogue.cuda_version`, 0 for any.
    """

    class_id: str | None = None
    region: str | None = None
    status: NodeStatus | None = None
    available: bool | None = None
    min_reputation: Fraction | None = None
    max_price_per_hour: Tokens | None = None
    min_vram_gb: int = 0
    min_ram_gb: int = 0
    min_disk_gb: int = 0
    min_cuda: int = 0
    sort: SortBy = "price"


class NodeService:
    """Registers, lists, drains."""

    def __init__(
        self,
        store: Store,
        chain: ChainPort,
        live: Live,
        registry: NodeRegistry,
        scheduler: Scheduler,
        transactions: TransactionService,
        clock: Clock,
        ids: Ids,
        currency: str,
    ) -> None:
        self._store = store
        self._chain = chain
        self._live = live
        self._registry = registry
        self._scheduler = scheduler
        self._transactions = transactions
        self._clock = clock
        self._ids = ids
        self.currency = currency

    @property
    def decimals(self) -> int:
        """Of the payment token."""
        return self._chain.terms.decimals

    @property
    def stake_decimals(self) -> int:
        """Of the stake token."""
        return self._chain.terms.stake_decimals

    async def register(self, caller: AccountPrincipal, key: KeyInUse, registration: Registration) -> NodeDetails:
        """The node, once its account stands on chain. Raises SignatureRequired with the transaction before that.

        Raises AlreadyExists when the key is registered by another request, Invalid, Forbidden, ChainUnavailable.
        """
        self._live.require_open()
        node = self._draft(caller, key, registration)
        known = await self._store.lookup(lambda tx: Nodes(tx).find_by_key(node.node_key))
        if known is not None:
            return self._known(caller, key, known)
        view = await self._chain.find_node(node.node_key)
        if view is None:
            raise await self._signature_required(caller, key, node, registration.bond)
        if view.operator != caller.wallet:
            raise AlreadyExists("this node key is registered by another operator")
        if view.market != self._chain.terms.market or view.class_id != node.class_id:
            raise Conflict(
                "the node's account on chain names another market or class; update it there first",
                extra={"market": view.market, "class": view.class_id},
            )

        def write(tx: Transaction) -> None:
            key.bind(tx)
            Nodes(tx).create(node)

        await self._store.write(write)
        self._registry.add(node)
        await self._registry.refresh_one(node.id)
        return self.get(node.id)

    def get(self, node_id: NodeId) -> NodeDetails:
        """Raises NotFound, Starting."""
        self._live.require_open()
        presence = self._registry.find(node_id)
        if presence is None:
            raise NotFound("this market knows no such node; `reaver nodes` lists them")
        return self._details(presence)

    def list_nodes(self, wanted: NodeQuery) -> list[NodeDetails]:
        """Nodes that pass, in the asked order. Raises Starting."""
        self._live.require_open()
        found = [d for d in map(self._details, self._registry) if _passes(d, wanted)]
        found.sort(key=_order(wanted.sort))
        return found

    async def drain(self, caller: Principal, node_id: NodeId, *, drain: bool) -> NodeDetails:
        """Take no more work, or take work again, as the operator or the node itself says. Running work finishes.

        Raises NotFound, Conflict.
        """
        self._live.require_open()
        presence = self._registry.find(node_id)
        if presence is None or not _may_steer(caller, presence.node):
            raise NotFound
        status = presence.node.status
        if status not in (NodeStatus.ACTIVE, NodeStatus.DRAINING, NodeStatus.PENDING):
            raise Conflict(extra={"state": status.value, "allowed_from": ["active", "draining", "pending"]})
        if drain:
            await self._registry.set_status(node_id, NodeStatus.DRAINING)
        elif status is NodeStatus.DRAINING:
            await self._registry.set_status(node_id, NodeStatus.ACTIVE if presence.slots else NodeStatus.PENDING)
            self._scheduler.wake_queued()
        return self.get(node_id)

    def _draft(self, caller: AccountPrincipal, key: KeyInUse, registration: Registration) -> Node:
        try:
            place = find_place(registration.region)
        except UnknownName as unknown:
            raise Invalid.field(
                "region", DetailCode.UNKNOWN_REGION, "is no place we know", suggestions=unknown.suggestions
            ) from unknown
        try:
            wanted = find_class(registration.class_name or "cpu-small")
        except UnknownName as unknown:
            raise Invalid.field(
                "class", DetailCode.UNKNOWN_GPU, "is no class we know", suggestions=unknown.suggestions
            ) from unknown
        raw_key = base58.b58decode(registration.node_key)
        if not verify(raw_key, registration.signed, registration.node_signature):
            raise Forbidden("node_signature is not the node key's over this body; nothing was registered")
        floor = self._floor("price_floor_per_gpu_second", registration.price_floor_per_gpu_second)
        low = None if registration.low_floor is None else self._floor("low_floor", registration.low_floor)
        return Node(
            id=NodeId(self._ids.new("node")),
            node_key=registration.node_key,
            address=self._chain.node_address(registration.node_key),
            operator=caller.wallet,
            account_id=caller.account_id,
            class_id=wanted.id,
            region=place,
            floor_per_hour=floor,
            low_floor_per_hour=low,
            status=NodeStatus.PENDING,
            declared=canonical_json(registration.hardware.model_dump(mode="json")).decode(),
            joined_at_ms=self._clock.now(),
            register_key=key.key,
            body_hash=key.body_sha256,
            name=registration.name,
            data_center=registration.data_center,
        )

    def _floor(self, name: str, text: str) -> Tokens:
        try:
            return hourly_from_gpu_second(text, 1, self.decimals, ceiling=False)
        except (MalformedAmount, AmountOverflow) as error:
            raise Invalid.field(name, DetailCode.NOT_ALLOWED, 'must be a decimal amount, such as "0.000014"') from error

    def _known(self, caller: AccountPrincipal, key: KeyInUse, known: Node) -> NodeDetails:
        if known.account_id != caller.account_id or known.register_key != key.key:
            raise AlreadyExists("this node key is registered already", extra={"node_id": known.id})
        if known.body_hash != key.body_sha256:
            raise IdempotencyKeyReused
        return self.get(known.id)

    async def _bond(self, class_id: str, wanted: str | None) -> Stake:
        """What is to be bonded, in base units."""
        least = await self._chain.class_bond(class_id)
        if least is None:
            raise Invalid.field("class", DetailCode.UNSATISFIABLE, "this deployment doesn't have it enabled")
        if wanted is None:
            return least
        try:
            bond = Stake(parse_amount(wanted, self.stake_decimals))
        except (MalformedAmount, AmountOverflow) as error:
            raise Invalid.field("bond", DetailCode.NOT_ALLOWED, 'must be a decimal amount, such as "55"') from error
        if bond < least:
            raise Invalid.field(
                "bond", DetailCode.OUT_OF_RANGE,
                f"must be at least the class's bond of {format_amount(least, self.stake_decimals)} stake tokens",
            )  # fmt: skip
        return bond

    async def _signature_required(
        self, caller: AccountPrincipal, key: KeyInUse, node: Node, wanted: str | None
    ) -> SignatureRequired:
        bond = await self._bond(node.class_id, wanted)
        steps = self._chain.register_steps(caller.wallet, node.node_key, node.class_id, bond)
        amount = format_amount(bond, self.stake_decimals)
        summary = f"registers the node {node.node_key} with a bond of {amount} stake tokens"
        prepared = await self._transactions.prepare(caller, key, "register_node", steps, summary)
        return SignatureRequired(
            extra={
                "transaction": prepared.transaction,
                "escrow": None,
                "node": node.address,
                "expires_at": instant_text(prepared.expires_at),
                "idempotency_key": key.key,
                "bond": amount,
                "summary": prepared.summary,
            }
        )

    def _details(self, presence: Presence) -> NodeDetails:
        free = self._registry.free_slots(presence)
        return NodeDetails(
            node=presence.node,
            status=self._status(presence),
            available=self._registry.accepts_work(presence) and free > 0,
            free_slots=free,
            reputation=reputation(presence.chain.record if presence.chain else Record(0, 0)),
            uptime=uptime(self._clock.now(), presence.node.joined_at_ms, presence.down_ms),
            chain=presence.chain,
            connected=presence.link is not None,
        )

    def _status(self, presence: Presence) -> NodeStatus:
        """The chain's word outranks the market's where it forbids work."""
        if presence.chain is not None and presence.chain.status in ("suspended", "retired", "draining"):
            return NodeStatus(presence.chain.status)
        return NodeStatus.DRAINING if presence.draining else presence.node.status


def _passes(details: NodeDetails, wanted: NodeQuery) -> bool:
    node = details.node
    if wanted.status is None and wanted.available is None and not details.available:
        return False
    checks = (
        wanted.status is None or details.status is wanted.status,
        wanted.available is None or details.available is wanted.available,
        wanted.class_id is None or node.class_id == wanted.class_id,
        wanted.region is None or lies_in(node.region, (wanted.region,)),
        wanted.min_reputation is None or details.reputation >= wanted.min_reputation,
        wanted.max_price_per_hour is None or node.floor_per_hour <= wanted.max_price_per_hour,
    )
    return all(checks) and _has(details, wanted)


def _has(details: NodeDetails, wanted: NodeQuery) -> bool:
    """Whether the machine has so much; what isn't asked for needn't be read from its row."""
    checks = (
        wanted.min_vram_gb == 0 or details.vram_gb >= wanted.min_vram_gb,
        wanted.min_ram_gb == 0 or details.ram_gb >= wanted.min_ram_gb,
        wanted.min_disk_gb == 0 or details.disk_gb >= wanted.min_disk_gb,
        wanted.min_cuda == 0 or cuda_version(details.hardware.cuda_version or "0") >= wanted.min_cuda,
    )
    return all(checks)


def _order(sort: SortBy) -> Callable[[NodeDetails], tuple[Fraction | int, str]]:
    match sort:
        case "price":
            return lambda d: (d.node.floor_per_hour, d.node.id)
        case "reputation":
            return lambda d: (-d.reputation, d.node.id)
        case "uptime":
            return lambda d: (-d.uptime, d.node.id)


def _may_steer(caller: Principal, node: Node) -> bool:
    """Its operator's account, or the node itself."""
    if isinstance(caller, AccountPrincipal):
        return caller.account_id == node.account_id
    return caller.node_id == node.id
