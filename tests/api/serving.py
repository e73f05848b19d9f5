"""A market in this process, from its start until it serves."""

import asyncio
from typing import Final

from marketplace.app import Market

_PATIENCE_S: Final = 60


async def ready(market: Market) -> Market:
    """Once the chain was read and unfinished jobs are taken over; what a probe sees."""
    async with asyncio.timeout(_PATIENCE_S):
        while not market.readiness.ready:  # noqa: ASYNC110 - what a probe does
            await asyncio.sleep(0.02)
    return market
