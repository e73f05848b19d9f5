"""`GET /v1/jobs/{id}/placement`: why this node, and why not the others. Source: api.md section 5.3."""

from marketplace.api.fields import DecimalText, JobIdPath, MillisInstant, ResponseModel
from marketplace.api.routes import Call, Route, reading
from marketplace.domain.ids import JobId
from marketplace.domain.money import format_amount
from marketplace.domain.placements import Placement
from marketplace.domain.quantities import Millis
from marketplace.errors import NotFound
from marketplace.services.jobs import JobService
from marketplace.services.principals import Scope


class DrawnView(ResponseModel):
    node_id: str
    floor_per_hour: DecimalText
    reputation: str
    image_present: bool
    weight: int
    chosen: bool


class ExcludedView(ResponseModel):
    node_id: str
    because: str


class ExclusionCount(ResponseModel):
    because: str
    nodes: int


class PlacementView(ResponseModel):
    """draw: the random number of this choice, in decimal; the chosen node is that in whose share of the weights' sum
    the number modulo that sum falls, in the order shown. excluded: at most 100 nodes; exclusions counts them all.
    """

    attempt: int
    at: MillisInstant
    node_id: str
    draw: str
    candidates: list[DrawnView]
    excluded: list[ExcludedView]
    exclusions: list[ExclusionCount]


class PlacementsView(ResponseModel):
    job_id: str
    currency: str
    placements: list[PlacementView]


def placement_routes(jobs: JobService) -> list[Route]:
    """One route."""

    def view(number: int, placement: Placement) -> PlacementView:
        return PlacementView(
            attempt=number,
            at=Millis(placement.at_ms),
            node_id=placement.node_id,
            draw=str(placement.draw),
            candidates=[
                DrawnView(
                    node_id=c.node_id,
                    floor_per_hour=format_amount(c.floor_per_hour, jobs.decimals),
                    reputation=c.reputation,
                    image_present=c.image_present,
                    weight=c.weight,
                    chosen=c.node_id == placement.node_id,
                )
                for c in placement.candidates
            ],
            excluded=[ExcludedView(node_id=e.node_id, because=e.why) for e in placement.excluded],
            exclusions=[ExclusionCount(because=why, nodes=number) for why, number in placement.counts],
        )

    async def get_placement(call: Call, job_id: JobIdPath) -> PlacementsView:
        allocation = await jobs.get(call.account_id, JobId(job_id))
        found = await jobs.placements(allocation)
        return PlacementsView(
            job_id=allocation.job_id, currency=jobs.currency, placements=[view(number, each) for number, each in found]
        )

    return [
        Route(
            "GET", "/v1/jobs/{job_id}/placement", get_placement, "Why this node, and why not the others",
            reading(Scope.JOBS), errors=(NotFound,),
        ),
    ]  # fmt: skip
