"""The composition root: the one place that builds things from Settings. Nothing else constructs a service.

`Market.build` makes the platform every subject stands on (store, clock, tokens, limits) and then each subject's
services and routes; `start` opens the listener first, then takes stock (readers see 503 meanwhile), then says ready.
A subject is added by lines in `build` (its services), in `_routes` (its routes) and in `_duties` (what runs beside
the listener).
"""

import asyncio
import signal
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from importlib import metadata

import structlog
from aiohttp import web

from marketplace.api.native.accounts import account_routes
from marketplace.api.native.allowances import allowance_routes
from marketplace.api.native.api_keys import api_key_routes
from marketplace.api.native.constants import constants_routes
from marketplace.api.native.escrows import escrow_routes
from marketplace.api.native.logins import login_routes
from marketplace.api.native.transactions import transaction_routes
from marketplace.api.native.vaults import vault_routes
from marketplace.api.operations.status import status_routes
from marketplace.api.routes import Route
from marketplace.api.server import Frame, RateWindows, build_application
from marketplace.api.streams import Streams
from marketplace.app_jobs import JobMarket
from marketplace.app_webhooks import WebhookMarket
from marketplace.chain.addresses import Addresses, parse_address
from marketplace.chain.bootstrap import OperatorKeys
from marketplace.chain.errors import ChainError
from marketplace.chain.program import AnchorCodec
from marketplace.chain.rpc import RpcClient
from marketplace.chain.sender import Sender
from marketplace.collector import spare_the_collector
from marketplace.crash import enable
from marketplace.errors import MarketError, SettingsError
from marketplace.metrics import Metrics
from marketplace.objects.storage import ObjectStorage, S3Access
from marketplace.services.allowances import AllowanceService
from marketplace.services.api_keys import ApiKeyService
from marketplace.services.chain_acts import SolanaChain
from marketplace.services.chain_link import ChainLink
from marketplace.services.clock import Clock, Ids, RandomSource, SystemClock, SystemRandom
from marketplace.services.constants import ConstantsService
from marketplace.services.credentials import Credentials
from marketplace.services.escrows import EscrowService
from marketplace.services.feed import Feed
from marketplace.services.idempotency import Idempotency
from marketplace.services.key_ring import create_key_ring, load_key_ring
from marketplace.services.logins import LoginService, SignInText
from marketplace.services.outbox import StoreOutbox
from marketplace.services.principals import Admins
from marketplace.services.rate_limits import RateLimits, Window, per_minute
from marketplace.services.readiness import Lifecycle, Readiness
from marketplace.services.stored_secrets import RING_FILE, SecretKeeper
from marketplace.services.tokens import Tokens
from marketplace.services.transactions import TransactionService
from marketplace.services.vaults import VaultService
from marketplace.settings import LimitSettings, Settings
from marketplace.store.engine import Store

_log = structlog.get_logger(__name__)

Duty = Callable[[], Awaitable[None]]
"""Work beside the listener; runs until it is cancelled."""

_CHAIN_REFRESH_S = 60
"""How often deployment and market are read again; chosen: changes of fees and keys are announced a day ahead."""
_CLEANING_S = 60
"""How often what is past its time is deleted; chosen."""
_KEY_USES_S = 5
"""How often it is written when API keys were last used; chosen."""


@dataclass
class Market:
    """A built market process."""

    settings: Settings
    listener: socket.socket | None
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
    api_keys: ApiKeyService
    keys: OperatorKeys
    rpc: RpcClient
    link: ChainLink
    sender: Sender
    transactions: TransactionService
    vaults: VaultService
    allowances: AllowanceService
    escrows: EscrowService
    constants: ConstantsService
    jobs: JobMarket
    webhooks: WebhookMarket
    routes: list[Route] = field(default_factory=list)
    _runner: web.AppRunner | None = None
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    port: int = 0
    connected: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    def build(
        cls,
        settings: Settings,
        *,
        listener: socket.socket | None = None,
        clock: Clock | None = None,
        random: RandomSource | None = None,
        chain_kind: type[SolanaChain] = SolanaChain,
    ) -> "Market":
        """Everything, constructed and not yet started. Raises SettingsError.

        listener: a bound socket to serve on; without one `start` makes it from the settings.
        """
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
        # Deployments of before it was there get theirs here; `init` makes it with the other keys.
        keeper = SecretKeeper(create_key_ring(settings.market.keys / RING_FILE, random), random)
        admins = Admins(frozenset(settings.market.admins))
        tokens = Tokens(ring, settings.api.public_url, store, clock, random, admins)
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
        keys = OperatorKeys.load(settings.market.keys)
        codec = AnchorCodec(parse_address(settings.chain.program_id))
        rpc = RpcClient([settings.chain.rpc], timeout_s=settings.chain.request_timeout_s)
        link = ChainLink(rpc, codec, Addresses(codec.program).market(keys.authority.pubkey()), clock)
        outbox = StoreOutbox(store)
        sender = Sender(rpc, outbox, error_name=codec.error_name)
        transactions = TransactionService(store, link, sender, outbox, clock, ids)
        currency = settings.market.currency
        readiness = Readiness(clock)
        streams = Streams(metrics, per_principal=settings.api.max_streams_per_principal)

        async def store_answers() -> None:
            await store.read(lambda tx: tx.row("SELECT 1"))

        storage = object_storage(settings)
        readiness.add("store", store_answers, vital=True)
        readiness.add("objects", storage.check, vital=False)
        readiness.add("chain", link.check, vital=False)
        feed = Feed(store, clock, ids)
        webhooks = WebhookMarket.build(
            settings, store=store, feed=feed, keeper=keeper, clock=clock, random=random, ids=ids, metrics=metrics
        )
        market = cls(
            settings=settings,
            listener=listener,
            clock=clock,
            random=random,
            ids=ids,
            metrics=metrics,
            store=store,
            readiness=readiness,
            rate_limits=RateLimits(
                store, clock, flush_ms=settings.limits.flush_ms, on_failure=metrics.rate_store_failures.inc
            ),
            idempotency=Idempotency(store, clock, keeper),
            streams=streams,
            tokens=tokens,
            logins=logins,
            api_keys=ApiKeyService(store, ring, clock, ids, admins),
            keys=keys,
            rpc=rpc,
            link=link,
            sender=sender,
            transactions=transactions,
            vaults=VaultService(link, transactions, currency),
            allowances=AllowanceService(link, transactions, clock, currency),
            escrows=EscrowService(store, link, transactions, currency),
            constants=ConstantsService(
                link,
                quote_key=str(keys.quote.pubkey()),
                currency=currency,
                heartbeat_s=settings.market.heartbeat_s,
                pause_s=settings.market.pause_s,
            ),
            jobs=JobMarket.build(
                settings,
                store=store,
                clock=clock,
                random=random,
                ids=ids,
                keys=keys,
                rpc=rpc,
                codec=codec,
                link=link,
                market=Addresses(codec.program).market(keys.authority.pubkey()),
                sender=sender,
                outbox=outbox,
                transactions=transactions,
                streams=streams,
                feed=feed,
                webhooks=webhooks.service,
                storage=storage,
                keeper=keeper,
                metrics=metrics,
                chain_kind=chain_kind,
            ),
            webhooks=webhooks,
        )
        market.api_keys.on_delete(market.jobs.groups.wake)
        market.routes = market._routes()
        return market

    def _routes(self) -> list[Route]:
        """Every route of every subject."""
        return [
            *login_routes(self.logins),
            *account_routes(self.logins, self.vaults),
            *api_key_routes(self.api_keys, lambda: self.escrows.decimals, self.settings.market.currency),
            *vault_routes(self.vaults),
            *allowance_routes(self.allowances),
            *escrow_routes(self.escrows),
            *transaction_routes(self.transactions),
            *self.jobs.routes,
            *self.webhooks.routes,
            *constants_routes(
                self.constants,
                rate_windows(self.settings.limits),
                streams=self.settings.api.max_streams_per_principal,
            ),
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
        return {
            "cleaning": self._clean,
            "key-uses": self._note_key_uses,
            "sender": self.sender.run,
            "chain": self._follow_chain,
            **self.jobs.duties(),
            **self.webhooks.duties(),
        }

    def application(self) -> web.Application:
        """The HTTP application over the declared routes."""
        return build_application(
            Frame(
                routes=self.routes,
                authenticator=Credentials(self.tokens, self.api_keys),
                rate_limits=self.rate_limits,
                rate_windows=rate_windows(self.settings.limits),
                idempotency=self.idempotency,
                clock=self.clock,
                metrics=self.metrics,
                ready=lambda: self.readiness.ready,
                trusted_proxies=frozenset(self.settings.api.trusted_proxies),
            )
        )

    async def start(self) -> None:
        """Store, listener, stock-taking, duties, ready: in this order, so that starting is observable."""
        await self.store.open()
        try:
            await self.rate_limits.start()
            await self.jobs.models.load()
            self._runner = web.AppRunner(
                self.application(), access_log=None, shutdown_timeout=self.settings.api.shutdown_s
            )
            await self._runner.setup()
            self.listener = self.listener or listen(self.settings)
            await web.SockSite(self._runner, self.listener).start()
            self.port = self._runner.addresses[0][1]
            _log.info("market.listening", host=self.settings.api.host, port=self.port)
            for name, duty in self._duties().items():
                self._tasks.append(asyncio.create_task(_keep_running(name, duty), name=name))
            self._tasks.append(asyncio.create_task(self._take_stock(), name="stock-taking"))
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """The reverse of start; what runs on nodes is not touched."""
        self.readiness.lifecycle = Lifecycle.STOPPED
        await self.streams.stop()
        await self.jobs.stop()
        await self.webhooks.stop()
        for task in self._tasks:
            task.cancel()
        # What one of them can't write any more (a full disk) must not keep the rest from ending in order.
        for outcome in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                _log.error("market.stop", action="ended with an error", cause=str(outcome))
        self._tasks.clear()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        if self.listener is not None:
            self.listener.close()
        await self.rate_limits.stop()
        await self.api_keys.flush()
        await self.rpc.close()
        await self.store.close()
        _log.info("market.stopped")

    async def _take_stock(self) -> None:
        """What has to be true before requests that create are served; the listener answers 503 until then."""
        await self.connected.wait()
        pause_s = 0.2
        while True:
            try:
                await self.jobs.take_stock()
                break
            except (MarketError, ChainError) as error:
                _log.warning("market.stock", action="tried again", cause=str(error))
                await asyncio.sleep(pause_s)
                pause_s = min(5.0, pause_s * 2)
        self.readiness.lifecycle = Lifecycle.RUNNING
        _log.info("market.ready")

    async def _follow_chain(self) -> None:
        """Reach the chain, then look again now and then: fees and keys may change by their delayed rules."""
        pause_s = 0.2
        while True:
            try:
                await self.link.connect()
            except MarketError as error:
                _log.warning("chain.unreachable", action="tried again", cause=error.message)
                await asyncio.sleep(pause_s)
                pause_s = min(5.0, pause_s * 2)
            else:
                self.connected.set()
                pause_s = 0.2
                await asyncio.sleep(_CHAIN_REFRESH_S)

    async def _note_key_uses(self) -> None:
        while True:
            await asyncio.sleep(_KEY_USES_S)
            await self.api_keys.flush()

    async def _clean(self) -> None:
        while True:
            await asyncio.sleep(_CLEANING_S)
            await self.logins.forget_expired()
            await self.idempotency.forget_expired()
            await self.rate_limits.forget_ended()
            await self.api_keys.forget_days()
            await self.transactions.forget_unsigned()


async def run_market(settings: Settings, on_listening: Callable[[Market], None]) -> None:
    """Serve until SIGINT or SIGTERM, then end in order. Raises SettingsError, StoreError.

    on_listening: called once, when the port is known and requests are answered (with 503 until the chain was read).
    """
    enable(local=settings.market.local)
    listener = listen(settings)
    # Logins and tokens name our own address: where the system chose the port, it has to be known before them.
    port = listener.getsockname()[1]
    settings = settings.model_copy(update={"api": settings.api.model_copy(update={"port": port})})
    market = Market.build(settings, listener=listener)
    loop = asyncio.get_running_loop()
    asked_to_stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked_to_stop.set)
    await market.start()
    spare_the_collector()
    try:
        on_listening(market)
        await asked_to_stop.wait()
    finally:
        await market.stop()


def listen(settings: Settings) -> socket.socket:
    """The bound listening socket. Raises SettingsError where the address can't be had."""
    host = settings.api.host
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, settings.api.port))
    except OSError as error:
        listener.close()
        raise SettingsError(f"can't listen on {host}:{settings.api.port}: {error.strerror}") from error
    return listener


def object_storage(settings: Settings) -> ObjectStorage:
    """Where files, inputs and outputs are kept, by the settings."""
    objects = settings.objects
    if not objects.bucket:
        return ObjectStorage.in_folder(settings.objects_folder)
    return ObjectStorage.in_bucket(
        S3Access(
            bucket=objects.bucket,
            prefix=objects.prefix,
            endpoint=objects.endpoint,
            region=objects.region,
            access_key=objects.access_key,
            secret_key=objects.secret_key.get_secret_value(),
            timeout_s=objects.timeout_s,
        )
    )


def rate_windows(limits: LimitSettings) -> RateWindows:
    """Windows of api.md section 3 with the configured numbers."""
    return RateWindows(
        wallet=per_minute(limits.wallet),
        client=(*per_minute(limits.client), Window(3600, limits.client_hour)),
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
