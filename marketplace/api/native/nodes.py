"""`/v1/nodes`: browse, register, drain. Source: api.md section 5.5."""

from fractions import Fraction
from typing import Annotated, Literal

import base58
import orjson
from pydantic import Field, StringConstraints

from marketplace.api.fields import (
    Address,
    DecimalText,
    ExactNumber,
    Flag,
    JsonNumber,
    MillisInstant,
    NodeIdPath,
    Page,
    RequestModel,
    ResponseModel,
    SignatureText,
)
from marketplace.api.native.stake_bodies import (
    CommissionRequest,
    NodePoolResponse,
    NodeRef,
    PreparedStakeResponse,
    StakeShapes,
)
from marketplace.api.routes import Call, Reply, Route, reading_or_node, scope, scope_or_node
from marketplace.domain.catalogue import UnknownName, cuda_version, find_class, find_place, region_of
from marketplace.domain.ids import NodeId
from marketplace.domain.money import (
    AmountOverflow,
    MalformedAmount,
    format_amount,
    hourly_from_gpu_second,
    per_gpu_second,
)
from marketplace.domain.nodes import NodeStatus
from marketplace.domain.quantities import Millis, Tokens
from marketplace.errors import (
    AlreadyExists,
    ChainUnavailable,
    CommissionStep,
    Conflict,
    DetailCode,
    Forbidden,
    Invalid,
    NotFound,
    SignatureRequired,
    Starting,
    TransactionRejected,
)
from marketplace.protocol.control import Hardware
from marketplace.protocol.terms import canonical_json
from marketplace.services.nodes import NodeDetails, NodeQuery, NodeService, Registration
from marketplace.services.principals import Scope
from marketplace.services.reputations import NodeRecord, ReputationService
from marketplace.services.stake import Units
from marketplace.services.stake_actions import Asked, StakeActions

_PLACES = 4


class GpuView(ResponseModel):
    model: str
    uuid_hash: str | None
    vram_gb: int


class NodeView(ResponseModel):
    id: str
    class_: str = Field(serialization_alias="class")
    region: str
    reputation: ExactNumber
    uptime: ExactNumber
    name: str | None
    status: str
    available: bool
    gpus: list[GpuView]
    gpu_count: int
    free_gpus: int
    vcpu: int
    ram_gb: int
    disk_gb: int
    cuda_version: str | None = None
    country: str | None
    data_center: str | None
    price_floor_per_gpu_second: DecimalText
    price_floor_per_hour: DecimalText
    low_floor: DecimalText | None
    operator: str
    bond: DecimalText
    bond_needed: DecimalText
    bond_missing: DecimalText
    stake: DecimalText
    exposure: DecimalText
    exposure_limit: DecimalText
    commission_bps: int
    benchmark: None = None
    isolation: str | None
    version: str | None
    joined_at: MillisInstant
    last_seen_at: MillisInstant | None
    maintenance: list[str]
    node_key: str
    address: str


class NodeList(ResponseModel):
    nodes: list[NodeView]
    total: int
    has_more: bool


class NodesQuery(Page):
    class_: str | None = Field(default=None, alias="class")
    gpu: str | None = None
    region: str | None = None
    status: Literal["pending", "benchmarking", "active", "draining", "suspended", "retired"] | None = None
    available: Flag | None = None
    min_reputation: Annotated[str, StringConstraints(pattern=r"^(0(\.\d{1,6})?|1(\.0{1,6})?)$")] | None = None
    max_price_per_gpu_second: str | None = None
    min_vram_gb: int = Field(default=0, ge=0)
    min_ram_gb: int = Field(default=0, ge=0)
    min_disk_gb: int = Field(default=0, ge=0)
    min_cuda: str | None = None
    min_net_mbps: int | None = Field(default=None, ge=0)
    sort: Literal["price", "reputation", "uptime"] = "price"


class HardwareFields(RequestModel):
    vcpu: int = Field(ge=1)
    ram_bytes: int = Field(ge=1)
    disk_bytes: int = Field(ge=0)
    gpus: list[str] = Field(default_factory=list, max_length=64)
    cuda_version: Annotated[str, StringConstraints(max_length=16)] | None = None


class RegisterRequest(RequestModel):
    node_key: Address
    name: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None
    region: str = Field(max_length=64)
    data_center: Annotated[str, StringConstraints(max_length=64)] | None = None
    price_floor_per_gpu_second: str = Field(max_length=40)
    low_floor: Annotated[str, StringConstraints(max_length=40)] | None = None
    hardware: HardwareFields
    class_: str | None = Field(default=None, alias="class", max_length=64)
    bond: Annotated[str, StringConstraints(max_length=40)] | None = None
    node_signature: SignatureText

    def signed(self) -> bytes:
        """Canonical JSON of the body without its signature, as the node signed it."""
        body = self.model_dump(mode="json", by_alias=True, exclude={"node_signature"}, exclude_unset=True)
        return canonical_json(body)


class RegisterView(ResponseModel):
    id: str
    status: str
    node: str


class DrainRequest(RequestModel):
    drain: bool


class RecordTerms(ResponseModel):
    """Attempts that ended so and were metered, and their metered amounts in payment tokens."""

    attempts: int
    amount: DecimalText


class RecordEventView(ResponseModel):
    """counts: the term that it added to (well, lost, quit); null where it added to none."""

    transaction: str
    slot: int
    type: Literal["settled", "contest_closed"]
    escrow: str | None
    attempt: int | None
    reason_number: int | None
    amount: DecimalText | None
    counts: str | None


class ReputationResponse(ResponseModel):
    """reputation = (well + 1) / (well + loss_weight x lost + 2), from the node's account on chain; quit counts for
    nothing. events: those that made it, the newest first, as far as this market's records go.
    """

    node_id: str | None
    node: str
    reputation: ExactNumber
    formula: str
    loss_weight: int
    well: RecordTerms
    lost: RecordTerms
    quit: RecordTerms
    currency: str
    events: list[RecordEventView]
    has_more: bool


def node_routes(nodes: NodeService, records: ReputationService, actions: StakeActions) -> list[Route]:
    """Everything of a node but its held connection."""
    stake = records.stake

    def view(details: NodeDetails) -> NodeView:
        return _view(details, nodes.decimals, nodes.stake_decimals)

    async def list_nodes(call: Call, query: NodesQuery) -> NodeList:
        del call
        found = nodes.list_nodes(_wanted(query, nodes.decimals))
        page = found[query.offset : query.offset + query.limit]
        return NodeList(
            nodes=[view(details) for details in page],
            total=len(found),
            has_more=query.offset + len(page) < len(found),
        )

    async def get_node(call: Call, node_id: NodeIdPath) -> NodeView:
        del call
        return view(nodes.get(NodeId(node_id)))

    async def register(call: Call, body: RegisterRequest) -> Reply[RegisterView]:
        hardware = body.hardware
        details = await nodes.register(
            call.account,
            call.idempotency,
            Registration(
                node_key=body.node_key,
                region=body.region,
                price_floor_per_gpu_second=body.price_floor_per_gpu_second,
                low_floor=body.low_floor,
                hardware=Hardware(
                    vcpu=hardware.vcpu,
                    ram_bytes=hardware.ram_bytes,
                    disk_bytes=hardware.disk_bytes,
                    gpus=tuple(hardware.gpus),
                    cuda_version=hardware.cuda_version,
                ),
                node_signature=base58.b58decode(body.node_signature),
                signed=body.signed(),
                class_name=body.class_,
                name=body.name,
                data_center=body.data_center,
                bond=body.bond,
            ),
        )
        answer = RegisterView(id=details.node.id, status=details.status.value, node=details.node.address)
        return Reply(answer, status=201, headers={"Location": f"/v1/nodes/{details.node.id}"})

    async def drain(call: Call, node_id: NodeIdPath, body: DrainRequest) -> NodeView:
        return view(await nodes.drain(call.caller, NodeId(node_id), drain=body.drain))

    async def get_pool(call: Call, node_id: NodeRef) -> NodePoolResponse:
        del call
        return StakeShapes(stake.units).node_pool(await stake.pool(node_id))

    async def get_reputation(call: Call, node_id: NodeRef, query: Page) -> ReputationResponse:
        del call
        return _reputation(await records.get(node_id, query.limit, query.offset), stake.units)

    async def set_commission(call: Call, node_id: NodeIdPath, body: CommissionRequest) -> PreparedStakeResponse:
        prepared = await actions.set_commission(Asked(call.account, call.idempotency), node_id, body.commission_bps)
        return StakeShapes(stake.units).prepared(prepared)

    chain = (ChainUnavailable, Starting)
    return [
        Route("GET", "/v1/nodes", list_nodes, "Nodes", reading_or_node(Scope.NODES), errors=(Invalid,)),
        Route(
            "POST", "/v1/nodes/register", register, "Register a node; the bond is signed by its operator",
            scope(Scope.NODES), status=201, idempotent=True, keep_answer=False,
            errors=(Invalid, Forbidden, AlreadyExists, Conflict, SignatureRequired, ChainUnavailable),
        ),
        Route("GET", "/v1/nodes/{node_id}", get_node, "A node", reading_or_node(Scope.NODES), errors=(NotFound,)),
        Route(
            "GET", "/v1/nodes/{node_id}/pool", get_pool, "A node's pool, by its id or its account's address",
            reading_or_node(Scope.NODES), errors=(NotFound, *chain),
        ),
        Route(
            "GET", "/v1/nodes/{node_id}/reputation", get_reputation, "Every term of a node's reputation",
            reading_or_node(Scope.NODES), errors=(NotFound, *chain),
        ),
        Route(
            "PATCH", "/v1/nodes/{node_id}", set_commission, "Announce another commission; to be signed by the operator",
            scope(Scope.NODES), idempotent=True, keep_answer=False,
            errors=(Invalid, NotFound, Conflict, CommissionStep, TransactionRejected, *chain),
        ),
        Route(
            "POST", "/v1/nodes/{node_id}/drain", drain, "Take no more work, or take it again",
            scope_or_node(Scope.NODES), errors=(NotFound, Conflict),
        ),
    ]  # fmt: skip


def _wanted(query: NodesQuery, decimals: int) -> NodeQuery:
    if query.min_net_mbps is not None:
        # Accepted without effect it would list machines that nobody knows to be so fast.
        raise Invalid.field(
            "min_net_mbps", DetailCode.NOT_ALLOWED, "can't be asked for: no node's network is measured yet"
        )
    name = query.class_ or query.gpu
    try:
        class_id = None if name is None else find_class(name).id
    except UnknownName as unknown:
        raise Invalid.field(
            "class", DetailCode.UNKNOWN_GPU, "is no class we know", suggestions=unknown.suggestions
        ) from unknown
    try:
        region = None if query.region is None else find_place(query.region)
    except UnknownName as unknown:
        raise Invalid.field(
            "region", DetailCode.UNKNOWN_REGION, "is no place we know", suggestions=unknown.suggestions
        ) from unknown
    price: Tokens | None = None
    if query.max_price_per_gpu_second is not None:
        try:
            price = hourly_from_gpu_second(query.max_price_per_gpu_second, 1, decimals, ceiling=True)
        except (MalformedAmount, AmountOverflow) as error:
            raise Invalid.field(
                "max_price_per_gpu_second", DetailCode.NOT_ALLOWED, "must be a decimal amount"
            ) from error
    return NodeQuery(
        class_id=class_id,
        region=region,
        status=None if query.status is None else NodeStatus(query.status),
        available=query.available,
        min_reputation=None if query.min_reputation is None else Fraction(query.min_reputation),
        max_price_per_hour=price,
        min_vram_gb=query.min_vram_gb,
        min_ram_gb=query.min_ram_gb,
        min_disk_gb=query.min_disk_gb,
        min_cuda=0 if query.min_cuda is None else _cuda(query.min_cuda),
        sort=query.sort,
    )


def _cuda(text: str) -> int:
    try:
        return cuda_version(text)
    except ValueError as error:
        raise Invalid.field("min_cuda", DetailCode.NOT_ALLOWED, "must be a version as text, such as 12.4") from error


def _view(details: NodeDetails, decimals: int, stake_decimals: int) -> NodeView:
    node, chain, measured = details.node, details.chain, details.hardware
    capabilities = orjson.loads(node.capabilities) if node.capabilities is not None else {}
    return NodeView(
        id=node.id,
        class_=node.class_id,
        region=region_of(node.region),
        country=None if node.region == region_of(node.region) else node.region,
        cuda_version=measured.cuda_version,
        reputation=_ratio(details.reputation),
        uptime=_ratio(details.uptime),
        name=node.name,
        status=details.status.value,
        available=details.available,
        gpus=[GpuView(model=name, uuid_hash=None, vram_gb=details.vram_gb) for name in measured.gpus],
        gpu_count=node.slots,
        free_gpus=details.free_slots,
        vcpu=measured.vcpu,
        ram_gb=details.ram_gb,
        disk_gb=details.disk_gb,
        data_center=node.data_center,
        price_floor_per_gpu_second=per_gpu_second(node.floor_per_hour, 1, decimals),
        price_floor_per_hour=format_amount(node.floor_per_hour, decimals),
        low_floor=None if node.low_floor_per_hour is None else per_gpu_second(node.low_floor_per_hour, 1, decimals),
        operator=node.operator,
        bond=format_amount(chain.bond if chain else 0, stake_decimals),
        bond_needed=format_amount(chain.bond_needed if chain else 0, stake_decimals),
        bond_missing=format_amount(chain.bond_missing if chain else 0, stake_decimals),
        stake=format_amount(chain.stake if chain else 0, stake_decimals),
        exposure=format_amount(chain.exposure if chain else 0, decimals),
        exposure_limit=format_amount(chain.exposure_limit if chain else 0, decimals),
        commission_bps=chain.commission_bps if chain else 0,
        isolation=capabilities.get("runtime"),
        version=node.version,
        joined_at=Millis(node.joined_at_ms),
        last_seen_at=None if node.last_seen_at_ms is None else Millis(node.last_seen_at_ms),
        maintenance=[],
        node_key=node.node_key,
        address=node.address,
    )


def _reputation(record: NodeRecord, units: Units) -> ReputationResponse:
    def terms(attempts: int, amount: int) -> RecordTerms:
        return RecordTerms(attempts=attempts, amount=format_amount(amount, units.payment))

    return ReputationResponse(
        node_id=record.node_id,
        node=record.node,
        reputation=_ratio(record.reputation),
        formula="(well + 1) / (well + loss_weight * lost + 2)",
        loss_weight=record.loss_weight,
        well=terms(record.well, record.amount_well),
        lost=terms(record.lost, record.amount_lost),
        quit=terms(record.quit, record.amount_quit),
        currency=units.currency,
        events=[
            RecordEventView(
                transaction=event.signature,
                slot=event.slot,
                type="settled" if event.name == "Settled" else "contest_closed",
                escrow=event.escrow,
                attempt=event.attempt,
                reason_number=event.reason,
                amount=None if event.amount is None else format_amount(event.amount, units.payment),
                counts=event.counts,
            )
            for event in record.events
        ],
        has_more=record.more,
    )


def _ratio(value: Fraction) -> JsonNumber:
    """Four places, rounded down: nobody is shown better than it is."""
    return JsonNumber(int(value * 10**_PLACES), _PLACES)
