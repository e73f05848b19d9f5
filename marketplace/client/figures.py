"""What a market publishes: classes and prices, why a job went where it did, what nodes earned and how they did."""

from marketplace.client.calls import Calls, page, segment
from marketplace.client.figure_models import (
    Earnings,
    EpochDetails,
    EpochList,
    GpuTypeList,
    NodePool,
    Placements,
    PriceList,
    Reputation,
)


class FigureCalls:
    """Reads only. first, last: UTC days, both included."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def gpu_types(self) -> GpuTypeList:
        """Hardware classes, and what of each is to be had now."""
        return (await self._calls.get("/v1/gpu-types")).read(GpuTypeList)

    async def prices(
        self,
        *,
        gpu: str | None = None,
        region: str | None = None,
        days: int | None = None,
        limit: int | None = None,
        offset: int | None = None,
    ) -> PriceList:
        """What classes cost, by region and day. days: how far back."""
        given = {"gpu": gpu, "region": region, "days": None if days is None else str(days)}
        return (await self._calls.get("/v1/prices", _given(given) | page(limit, offset))).read(PriceList)

    async def placement(self, job_id: str) -> Placements:
        """Why each attempt of a job went to its node."""
        return (await self._calls.get(f"/v1/jobs/{segment(job_id)}/placement")).read(Placements)

    async def earnings(
        self,
        node_id: str,
        first: str | None = None,
        last: str | None = None,
        *,
        bucket: str | None = None,
        limit: int | None = None,
        offset: int | None = None,
    ) -> Earnings:
        """What an own node earned. bucket: what its records are summed by."""
        params = _given({"from": first, "to": last, "bucket": bucket}) | page(limit, offset)
        return (await self._calls.get(f"/v1/nodes/{segment(node_id)}/earnings", params)).read(Earnings)

    async def pool(self, node: str) -> NodePool:
        """The stake behind a node. node: its id, or its account's address."""
        return (await self._calls.get(f"/v1/nodes/{segment(node)}/pool")).read(NodePool)

    async def reputation(self, node: str, *, limit: int | None = None, offset: int | None = None) -> Reputation:
        """A node's reputation, and the events on chain that it follows from."""
        path = f"/v1/nodes/{segment(node)}/reputation"
        return (await self._calls.get(path, page(limit, offset))).read(Reputation)

    async def epochs(self, *, limit: int | None = None, offset: int | None = None) -> EpochList:
        """Epochs of rewards, newest first."""
        return (await self._calls.get("/v1/stake/epochs", page(limit, offset))).read(EpochList)

    async def epoch(self, number: int) -> EpochDetails:
        """One epoch, node by node."""
        return (await self._calls.get(f"/v1/stake/epochs/{number}")).read(EpochDetails)


def _given(params: dict[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in params.items() if value is not None}
