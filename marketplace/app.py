"""The composition root: the one place that builds things from Settings. Nothing else constructs a service.

`Market.build` makes the platform every subject stands on (store, clock, tokens, limits) and then each subject's
services and routes; `start` opens the listener first, then takes stock (readers see 503 meanwhile), then says ready.
A subject is added by lines in `build` (its services), in `_routes` (its routes) and in `_duties` (what runs beside
the listener).
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from importlib import metadata

import structlog
from aiohttp import web

from marketplace.api.native.logins import login_routes
from marketplace.api.operations.status import status_routes
from marketplace.api.routes import Route
from marketplace.api.server import Frame, RateWindows, build_application
from marketplace.api.streams import Streams
from marketplace.metrics import Metrics
from marketplace.services.clock import Clock, Ids, RandomSource, SystemClock, SystemRandom
from marketplace.services.idempotency import Idempotency
from marketplace.services.key_ring import load_key_ring
from marketplace.services.logins import LoginService, SignInText
from marketplace.services.rate_limits import RateLimits, per_minute
from marketplace.services.readiness import Lifecycle, Readiness
from marketplace.services.tokens import Tokens
from marketplace.settings import LimitSettings, Settings
from marketplace.store.engine import Store

_log = structlog.get_logger(__name__)

Duty = Callable[[], Awaitable[None]]
"""Work beside the listener; runs until it is cancelled."""

_CLEANING_S = 60
"""How often what is past its time is deleted; chosen."""


@dataclass
class Market:
    """A built market process."""

    settings: Settings
    clock: Clock
    random: RandomSource
    ids: Ids
    metrics: Metrics
    store: Store
    readiness: Readiness
    rate_limits: RateLimits
    idempotency: Idempotency
    streams: Streams
    tokens: Tokens
    logins: LoginService
    routes: list[Route] = field(default_factory=list)
    _runner: web.AppRunner | None = None
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    port: int = 0

    @classmethod
    def build(cls, settings: Settings, *, clock: Clock | None = None, random: RandomSource | None = None) -> "Market":
        """Everything, constructed and not yet started. Raises SettingsError."""
        clock = clock or SystemClock()
        random = random or SystemRandom()
        ids = Ids(clock, random)
        metrics = Metrics()
        store = Store(
            settings.database,
            synchronous=settings.store.synchronous,
            readers=settings.store.readers,
            group_limit=settings.store.group_limit,
        )
        ring = load_key_ring(settings.market.keys / "tokens.json")
        tokens = Tokens(ring, settings.api.public_url, store, clock, random)
        logins = LoginService(
            store,
            tokens,
            ring,
            SignInText(settings.api.domain, settings.api.public_url, settings.market.cluster.value),
            clock,
            random,
            ids,
            count=lambda outcome: metrics.logins.labels(outcome).inc(),
        )
        readiness = Readiness(clock)

        async def store_answers() -> None:
            await store.read(lambda tx: tx.row("SELECT 1"))

        readiness.add("store", store_answers, vital=True)
        market = cls(
            settings=settings,
            clock=clock,
            random=random,
            ids=ids,
            metrics=metrics,
            store=store,
            readiness=readiness,
            rate_limits=RateLimits(
                store, clock, flush_ms=settings.limits.flush_ms, on_failure=metrics.rate_store_failures.inc
            ),
            idempotency=Idempotency(store, clock),
            streams=Streams(metrics, per_principal=settings.api.max_streams_per_principal),
            tokens=tokens,
            logins=logins,
        )
        market.routes = market._routes()
        return market

    def _routes(self) -> list[Route]:
        """Every route of every subject."""
        return [
            *login_routes(self.logins),
            *status_routes(
                self.readiness,
                self.metrics,
                lambda: self.routes,
                version=metadata.version("reaver-market"),
                server_url=self.settings.api.public_url,
            ),
        ]

    def _duties(self) -> dict[str, Duty]:
        """What runs beside the listener, by name."""
        return {"cleaning": self._clean}

    def application(self) -> web.Application:
        """The HTTP application over the declared routes."""
        return build_application(
            Frame(
                routes=self.routes,
                authenticator=self.tokens,
                rate_limits=self.rate_limits,
                rate_windows=rate_windows(self.settings.limits),
                idempotency=self.idempotency,
                clock=self.clock,
                metrics=self.metrics,
                trusted_proxies=frozenset(self.settings.api.trusted_proxies),
            )
        )

    async def start(self) -> None:
        """Store, listener, stock-taking, duties, ready: in this order, so that starting is observable."""
        await self.store.open()
        try:
            await self.rate_limits.start()
            self._runner = web.AppRunner(
                self.application(), access_log=None, shutdown_timeout=self.settings.api.shutdown_s
            )
            await self._runner.setup()
            site = web.TCPSite(self._runner, self.settings.api.host, self.settings.api.port)
            await site.start()
            self.port = self._runner.addresses[0][1]
            _log.info("market.listening", host=self.settings.api.host, port=self.port)
            for name, duty in self._duties().items():
                self._tasks.append(asyncio.create_task(_keep_running(name, duty), name=name))
            self.readiness.lifecycle = Lifecycle.RUNNING
            _log.info("market.ready")
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """The reverse of start; what runs on nodes is not touched."""
        self.readiness.lifecycle = Lifecycle.STOPPED
        await self.streams.stop()
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._tasks.clear()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        await self.rate_limits.stop()
        await self.store.close()
        _log.info("market.stopped")

    async def _clean(self) -> None:
        while True:
            await asyncio.sleep(_CLEANING_S)
            await self.logins.forget_expired()
            await self.idempotency.forget_expired()
            await self.rate_limits.forget_ended()


def rate_windows(limits: LimitSettings) -> RateWindows:
    """Windows of api.md section 3 with the configured numbers."""
    return RateWindows(
        wallet=per_minute(limits.wallet),
        address=per_minute(limits.address),
        challenge=per_minute(limits.challenge),
        login=per_minute(limits.login),
        node=per_minute(limits.node),
    )


async def _keep_running(name: str, duty: Duty) -> None:
    """Run a duty for ever: a fault is logged, and it starts again after a pause that doubles up to a minute."""
    pause_s = 1
    while True:
        try:
            await duty()
        except Exception:  # noqa: BLE001 - a task's outer edge
            _log.exception("duty.fault", duty=name, action="restarted", pause_s=pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(60, pause_s * 2)
        else:
            return
