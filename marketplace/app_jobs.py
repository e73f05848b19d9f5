"""Composition of everything that runs jobs: nodes, scheduler, meter, settlement, and their routes and duties.

Part of the composition root (`marketplace.app`), in a file of its own for its size. Nothing here starts before
`take_stock`: chain read, store loaded, events caught up; until then every use case answers `starting`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog
from solders.pubkey import Pubkey

from marketplace.api.native.control import ControlChannels, control_routes
from marketplace.api.native.credentials import credential_routes
from marketplace.api.native.earnings import earnings_routes
from marketplace.api.native.events import event_routes
from marketplace.api.native.files import file_routes
from marketplace.api.native.gpu_types import gpu_type_routes
from marketplace.api.native.groups import group_routes, member_order
from marketplace.api.native.job_exec import job_exec_routes
from marketplace.api.native.job_logs import log_routes
from marketplace.api.native.job_metrics import job_metrics_routes
from marketplace.api.native.job_outputs import output_routes
from marketplace.api.native.job_retries import retry_routes
from marketplace.api.native.job_time import job_time_routes
from marketplace.api.native.job_views import JobViews
from marketplace.api.native.jobs import job_routes
from marketplace.api.native.models import model_routes
from marketplace.api.native.node_posts import node_post_routes
from marketplace.api.native.nodes import node_routes
from marketplace.api.native.placements import placement_routes
from marketplace.api.native.prices import price_routes
from marketplace.api.native.quotes import quote_routes
from marketplace.api.native.registry_auths import registry_auth_routes
from marketplace.api.native.stake import stake_routes
from marketplace.api.native.transfers import transfer_routes
from marketplace.api.native.usage import usage_routes
from marketplace.api.routes import Route
from marketplace.api.streams import Streams
from marketplace.app_crank import MarketCrank
from marketplace.chain.bootstrap import OperatorKeys
from marketplace.chain.outbox import OutboxStore
from marketplace.chain.program import AnchorCodec
from marketplace.chain.retired_keys import load_retired_meters
from marketplace.chain.rpc import RpcClient
from marketplace.chain.sender import Sender
from marketplace.chain.watcher import Watcher
from marketplace.domain.destinations import Reach
from marketplace.domain.ids import NodeId
from marketplace.metrics import Metrics
from marketplace.objects.storage import ObjectStorage
from marketplace.outgoing import Outgoing
from marketplace.protocol.control import Capabilities
from marketplace.services.artifacts import JobArtifacts
from marketplace.services.bucket_credentials import CredentialService
from marketplace.services.bucket_deliveries import AT_ONCE, BucketCourier
from marketplace.services.chain_acts import MarketKeys, MeterKeys, SolanaChain
from marketplace.services.chain_events import ChainEvents
from marketplace.services.chain_feed import ChainFeed
from marketplace.services.chain_link import ChainLink
from marketplace.services.checkpoints import JobCheckpoints
from marketplace.services.claims import Claims
from marketplace.services.clock import Clock, Ids, RandomSource
from marketplace.services.duties import Duty
from marketplace.services.execs import ExecService
from marketplace.services.extensions import ExtensionService
from marketplace.services.feed import Feed
from marketplace.services.files import FileService
from marketplace.services.groups import GroupService
from marketplace.services.inputs import JobInputs
from marketplace.services.job_secrets import SecretService
from marketplace.services.jobs import JobService
from marketplace.services.ledger import LedgerService
from marketplace.services.live import Live
from marketplace.services.logs import JobLogs
from marketplace.services.meter import Meter
from marketplace.services.model_registry import ModelRegistry
from marketplace.services.models import load_models
from marketplace.services.node_control import NodeControl
from marketplace.services.node_registry import NodeRegistry
from marketplace.services.nodes import NodeService
from marketplace.services.outputs import JobOutputs
from marketplace.services.polls import Polls
from marketplace.services.prices import PriceService
from marketplace.services.quotes import QuoteService
from marketplace.services.receipts import ReceiptService
from marketplace.services.reputations import ReputationService
from marketplace.services.run_histories import RunHistories
from marketplace.services.scheduler import Scheduler
from marketplace.services.settlement import Settlement
from marketplace.services.spend_alerts import SpendAlerts
from marketplace.services.stake import StakeService
from marketplace.services.stake_actions import StakeActions
from marketplace.services.stake_books import StakeBooks
from marketplace.services.stored_secrets import SecretKeeper
from marketplace.services.transactions import TransactionService
from marketplace.services.usage import JobUsage
from marketplace.services.webhooks import WebhookService
from marketplace.settings import Settings
from marketplace.store.engine import Store

_log = structlog.get_logger(__name__)

CHAIN_LOOK_MS = 5_000
"""Chosen: how often the chain's clock and the nodes' accounts are read again."""
CLEANING_MS = 60_000


@dataclass
class JobMarket:
    """Built once; `routes` and `duties` are taken over by the market's process."""

    chain: SolanaChain
    live: Live
    registry: NodeRegistry
    events: ChainEvents
    scheduler: Scheduler
    settlement: Settlement
    control: NodeControl
    channels: ControlChannels
    logs: JobLogs
    usage: JobUsage
    secrets: SecretService
    files: FileService
    inputs: JobInputs
    outputs: JobOutputs
    courier: BucketCourier
    checkpoints: JobCheckpoints
    groups: GroupService
    prices: PriceService
    models: ModelRegistry
    feed: Feed
    alerts: SpendAlerts
    store: Store
    clock: Clock
    routes: list[Route]
    ready: asyncio.Event
    stake: StakeService
    crank: MarketCrank | None

    @classmethod
    def build(
        cls,
        settings: Settings,
        *,
        store: Store,
        clock: Clock,
        random: RandomSource,
        ids: Ids,
        keys: OperatorKeys,
        rpc: RpcClient,
        codec: AnchorCodec,
        link: ChainLink,
        market: Pubkey,
        sender: Sender,
        outbox: OutboxStore,
        transactions: TransactionService,
        streams: Streams,
        storage: ObjectStorage,
        keeper: SecretKeeper,
        feed: Feed,
        webhooks: WebhookService,
        metrics: Metrics,
        chain_kind: type[SolanaChain] = SolanaChain,
    ) -> "JobMarket":
        """Everything, constructed and not yet started. chain_kind: a stand-in, for benches."""
        currency = settings.market.currency
        models = ModelRegistry(store, feed, clock, load_models(settings.models.file))
        chain = chain_kind(rpc, codec, sender, outbox, market, MarketKeys(keys.matcher, keys.meter), clock)
        live = Live(store, clock, ids, chain, currency)
        live.on_change(lambda allocation: feed.wake(allocation.account_id))
        registry = NodeRegistry(store, chain, live, feed, clock, trust_hardware=settings.market.trust_hardware)
        watcher = Watcher(rpc, codec)
        books = StakeBooks(codec, lambda: link.epochs)
        told = ChainFeed(feed, lambda: chain.terms, currency)
        events = ChainEvents(
            store, live, rpc, watcher, codec.program, clock, chain, books, told, observe=watcher.observed
        )
        settlement = Settlement(store, chain, registry, events)
        secrets = SecretService(store, keeper, clock, ids)
        extensions = ExtensionService(store, chain, live, events, transactions, clock, currency)
        checkpoints = JobCheckpoints(store, storage, live, clock, ids)
        pause_ms = settings.market.pause_s * 1000
        scheduler = Scheduler(
            live, chain, registry, Claims(chain, registry, secrets), settlement, clock, random, extensions, checkpoints,
            pause_ms=pause_ms,
        )  # fmt: skip
        meters = MeterKeys(keys.meter, load_retired_meters(settings.market.keys))
        meter = Meter(store, chain, live, clock, meters)
        usage = JobUsage(store, live, clock)
        control = NodeControl(
            store,
            chain,
            live,
            registry,
            meter,
            scheduler,
            clock,
            heartbeat_ms=settings.market.heartbeat_s * 1000,
            pause_ms=pause_ms,
            usage=usage,
        )
        logs = JobLogs(store, live, clock)
        execs = ExecService(live, registry, ids)
        channels = ControlChannels(control, logs, execs)
        files = FileService(store, storage, live, clock, ids)
        quotes = QuoteService(
            store,
            chain,
            registry,
            clock,
            ids,
            bytes(keys.quote)[:32],
            bytes(keys.quote.pubkey()),
            RunHistories(store, live).last,
        )
        reach = Reach.LOOPBACK_TOO if settings.market.local else Reach.PUBLIC
        inputs = JobInputs(storage, files, live, clock, reach)
        outputs = JobOutputs(store, storage, live, logs, clock, ids)
        buckets = Reach.LOOPBACK_TOO if settings.outgoing.loopback else Reach.PUBLIC
        credentials = CredentialService(store, keeper, clock, ids, buckets)
        guarded = Outgoing(buckets, connections=8 * AT_ONCE, connections_per_host=8)
        artifacts = JobArtifacts(store, storage, live, clock)
        courier = BucketCourier(
            store,
            storage,
            live,
            outputs,
            credentials,
            guarded,
            clock,
            count=lambda outcome: metrics.bucket_deliveries.labels(outcome).inc(),
        )
        jobs = JobService(
            store, chain, live, scheduler, quotes, transactions, secrets, inputs, webhooks, credentials, artifacts,
            clock, ids, currency,
        )  # fmt: skip
        nodes = NodeService(store, chain, live, registry, scheduler, transactions, clock, ids, currency)
        stake = StakeService(store, link, registry, clock, chain.now, currency)
        stake_actions = StakeActions(stake, link, transactions, chain.now)
        groups = GroupService(
            store,
            jobs,
            live,
            clock,
            ids,
            keeper,
            lambda job, own, place, secrets: member_order(job, own, place, secrets, jobs.decimals, models),
        )
        prices = PriceService(store, registry, clock)
        ledger = LedgerService(store, registry, chain, currency)
        receipts = ReceiptService(store, chain, currency)
        return cls(
            chain=chain,
            live=live,
            registry=registry,
            events=events,
            scheduler=scheduler,
            settlement=settlement,
            control=control,
            channels=channels,
            logs=logs,
            usage=usage,
            secrets=secrets,
            files=files,
            inputs=inputs,
            outputs=outputs,
            courier=courier,
            checkpoints=checkpoints,
            groups=groups,
            prices=prices,
            models=models,
            feed=feed,
            alerts=SpendAlerts(
                store, feed, chain.find_allowance, clock, decimals=lambda: chain.terms.decimals, currency=currency
            ),
            store=store,
            clock=clock,
            routes=[
                *model_routes(models),
                *quote_routes(quotes, chain, currency, models),
                *retry_routes(jobs, JobViews(jobs, lambda node_id: _runtime(registry, node_id))),
                *job_routes(jobs, receipts, clock, lambda node_id: _runtime(registry, node_id), models),
                *job_time_routes(jobs, extensions, lambda node_id: _runtime(registry, node_id)),
                *job_metrics_routes(jobs, usage, clock),
                *group_routes(groups, jobs),
                *placement_routes(jobs),
                *usage_routes(ledger, clock),
                *earnings_routes(ledger, clock),
                *gpu_type_routes(registry, chain, currency),
                *price_routes(prices, chain, currency),
                *job_exec_routes(jobs, execs),
                *log_routes(jobs, logs, streams),
                *file_routes(files),
                *registry_auth_routes(secrets),
                *output_routes(jobs, outputs),
                *transfer_routes(inputs, outputs, courier, artifacts, checkpoints),
                *credential_routes(credentials),
                *event_routes(feed, jobs, streams),
                *node_routes(nodes, ReputationService(store, stake), stake_actions),
                *stake_routes(stake, stake_actions),
                *node_post_routes(control, Polls(control, clock), logs),
                *control_routes(channels),
            ],
            ready=asyncio.Event(),
            stake=stake,
            crank=MarketCrank(link, sender, keys, events, clock) if settings.market.crank else None,
        )

    async def take_stock(self) -> None:
        """Find out where everything stands, before anything is spent. Raises MarketError, chain errors."""
        await self.chain.open()
        await self.live.load()
        await self.registry.load()
        await self.events.catch_up()
        self.live.open()
        self.registry.listen_from_now()
        self.ready.set()
        _log.info("jobs.ready", live=len(list(self.live)), nodes=len(list(self.registry)))

    def duties(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """What runs beside the listener, by name; each waits for `take_stock`."""

        def leased(kind: str, work: Callable[[], Awaitable[int]]) -> Callable[[], Awaitable[None]]:
            return self._once_ready(Duty(kind, self.store, self.clock, work).run)

        return {
            "scheduler": self._once_ready(self.scheduler.run),
            "groups": self._once_ready(self.groups.run),
            "chain-events": self._once_ready(self.events.run),
            "node-watch": leased("node-watch", self.control.watch),
            "contests": leased("contests", self.settlement.close_contests),
            "chain-look": leased("chain-look", self._look),
            "log-cleaning": leased("log-cleaning", self._clean),
            "file-cleaning": leased("file-cleaning", self._clean_files),
            "feed-cleaning": leased("feed-cleaning", self._clean_feed),
            "bucket-deliveries": self._once_ready(self.courier.duty.run),
            "spend-alerts": leased("spend-alerts", self.alerts.work),
            **({} if self.crank is None else {"crank": leased("crank", self.crank.work)}),
        }

    async def stop(self) -> None:
        """Say goodbye to nodes; what runs on them is not touched."""
        await self.channels.stop()
        await self.control.close()
        await self.courier.stop()

    def _once_ready(self, work: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        async def run() -> None:
            await self.ready.wait()
            await work()

        return run

    async def _look(self) -> int:
        await self.chain.set_clock()
        await self.registry.refresh()
        await self.prices.note_floors()
        return CHAIN_LOOK_MS

    async def _clean(self) -> int:
        await self.logs.forget_old()
        await self.secrets.forget_old()
        await self.usage.forget_old()
        return CLEANING_MS

    async def _clean_files(self) -> int:
        await self.files.clean()
        await self.inputs.clean()
        await self.outputs.clean()
        await self.checkpoints.clean()
        return CLEANING_MS

    async def _clean_feed(self) -> int:
        await self.feed.forget_old()
        return CLEANING_MS


def _runtime(registry: NodeRegistry, node_id: str) -> str | None:
    """What the node runs work with, as it said itself."""
    presence = registry.find(NodeId(node_id))
    if presence is None or presence.node.capabilities is None:
        return None
    return Capabilities.model_validate_json(presence.node.capabilities).runtime
