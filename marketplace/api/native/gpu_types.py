"""`GET /v1/gpu-types`: the classes there are, and what of each is to be had. Source: api.md section 5.8."""

from marketplace.api.fields import DecimalText, ResponseModel
from marketplace.api.routes import Call, Route, reading_or_node
from marketplace.domain.catalogue import CLASSES, HardwareClass, region_of
from marketplace.domain.money import format_amount, per_gpu_second
from marketplace.errors import Starting
from marketplace.services.chain_port import ChainPort
from marketplace.services.node_registry import NodeRegistry
from marketplace.services.principals import Scope


class GpuTypeView(ResponseModel):
    """nodes: that take work now. free: their GPUs, or slots of a CPU class. Prices: the lowest floor; null without any.

    vcpu, ram_gb: of one slot of a CPU class, beside one GPU of a GPU class.
    """

    id: str
    title: str
    aliases: list[str]
    gpu: bool
    vram_gb: int
    vcpu: int
    ram_gb: int
    nodes: int
    free: int
    regions: list[str]
    price_per_gpu_second: DecimalText | None
    price_per_hour: DecimalText | None
    currency: str


class GpuTypeList(ResponseModel):
    gpu_types: list[GpuTypeView]
    total: int
    has_more: bool


def gpu_type_routes(registry: NodeRegistry, chain: ChainPort, currency: str) -> list[Route]:
    """One route."""

    def view(entry: HardwareClass) -> GpuTypeView:
        able = [p for p in registry if p.node.class_id == entry.id and registry.accepts_work(p)]
        floor = min((p.node.floor_per_hour for p in able), default=None)
        decimals = chain.terms.decimals
        return GpuTypeView(
            id=entry.id,
            title=entry.title,
            aliases=list(entry.aliases),
            gpu=entry.gpu,
            vram_gb=entry.vram_gb,
            vcpu=entry.vcpu,
            ram_gb=entry.ram_gb,
            nodes=len(able),
            free=sum(registry.free_slots(p) for p in able),
            regions=sorted({region_of(p.node.region) for p in able}),
            price_per_gpu_second=None if floor is None else per_gpu_second(floor, 1, decimals),
            price_per_hour=None if floor is None else format_amount(floor, decimals),
            currency=currency,
        )

    async def list_gpu_types(call: Call) -> GpuTypeList:
        del call
        found = [view(entry) for entry in CLASSES]
        return GpuTypeList(gpu_types=found, total=len(found), has_more=False)

    return [
        Route(
            "GET", "/v1/gpu-types", list_gpu_types, "Hardware classes, and what of each is to be had now",
            reading_or_node(Scope.NODES), errors=(Starting,),
        ),
    ]  # fmt: skip
