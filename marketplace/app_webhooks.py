"""Composition of webhooks: routes, and the duty that delivers. Part of the composition root (`marketplace.app`)."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from marketplace.api.native.webhooks import webhook_routes
from marketplace.api.routes import Route
from marketplace.domain.destinations import Reach
from marketplace.metrics import Metrics
from marketplace.outgoing import Outgoing
from marketplace.services.clock import Clock, Ids, RandomSource
from marketplace.services.duties import Duty
from marketplace.services.feed import Feed
from marketplace.services.stored_secrets import SecretKeeper
from marketplace.services.webhook_deliveries import AT_ONCE, WebhookDeliveries
from marketplace.services.webhooks import WebhookService
from marketplace.settings import Settings
from marketplace.store.engine import Store

_CLEANING_MS = 60_000


@dataclass
class WebhookMarket:
    """Built once; `routes` and `duties` are taken over by the market's process."""

    service: WebhookService
    deliveries: WebhookDeliveries
    store: Store
    clock: Clock
    routes: list[Route]

    @classmethod
    def build(
        cls,
        settings: Settings,
        *,
        store: Store,
        feed: Feed,
        keeper: SecretKeeper,
        clock: Clock,
        random: RandomSource,
        ids: Ids,
        metrics: Metrics,
    ) -> "WebhookMarket":
        """Everything, constructed and not yet started."""
        reach = Reach.LOOPBACK_TOO if settings.outgoing.loopback else Reach.PUBLIC
        deliveries = WebhookDeliveries(
            store,
            feed,
            keeper,
            Outgoing(reach, connections=AT_ONCE, connections_per_host=AT_ONCE),
            clock,
            random,
            count=lambda outcome: metrics.webhook_requests.labels(outcome).inc(),
        )
        service = WebhookService(
            store,
            feed,
            keeper,
            clock,
            random,
            ids,
            reach=reach,
            queued=deliveries.duty.wake,
            concluded=deliveries.concluded,
        )
        return cls(service, deliveries, store, clock, webhook_routes(service))

    def duties(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """What runs beside the listener, by name."""
        return {
            "webhooks": self.deliveries.duty.run,
            "webhook-cleaning": Duty("webhook-cleaning", self.store, self.clock, self._clean).run,
        }

    async def stop(self) -> None:
        """Break off requests that run; they are due again."""
        await asyncio.shield(self.deliveries.stop())

    async def _clean(self) -> int:
        await self.deliveries.forget_old()
        return _CLEANING_MS
