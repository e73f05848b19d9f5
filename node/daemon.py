"""The daemon's composition root: builds everything from Settings, and runs until it is told to stop.

SIGTERM or SIGINT ends the daemon and nothing else: containers go on, and the next start adopts them. With
`drain_on_stop` the first signal drains instead, the second ends.
"""

import asyncio
import contextlib
import importlib.metadata
import signal
from collections.abc import Callable
from functools import partial

import structlog
from solders.pubkey import Pubkey

from marketplace import crash
from marketplace.chain.addresses import Addresses
from marketplace.domain.destinations import Reach
from marketplace.outgoing import Outgoing
from node import keys
from node.acceptance import Policy
from node.agent import Agent, Limits, Machine
from node.chain import ChainRefused, ChainSilent, Windows
from node.clock import SystemClock
from node.engines import announced, build_runtime, check_isolation, most_disk_gb
from node.errors import ConfigUnusable, NodeError
from node.hardware import GB, measure
from node.journal import Journal, JournalUnusable
from node.market import MarketHttp, NodeConnector
from node.settings import Settings
from node.solana_chain import SolanaChain
from node.transfers import HttpTransfers

# Specified: program.md section 8, the public defaults; the chain's own replace them where it can be read.
DEFAULT_WINDOWS = Windows(claim_limit_ms=180_000, skew_ms=10_000, lost_after_ms=45_000)

_log = structlog.get_logger("node.daemon")


async def serve(settings: Settings, *, drain_on_stop: bool, announce: Callable[[str], None]) -> None:
    """Run the node. Raises ConfigUnusable, and the engine's errors, before it has begun.

    announce: told one line for a person once the node is at work.
    """
    crash.enable(local=settings.local)
    key = _node_key(settings)
    program = Pubkey.from_string(settings.market.program_id) if settings.market.program_id else Pubkey.default()
    identity = settings.identity(bytes(Addresses(program).node(Pubkey.from_bytes(key.public))))
    settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    async with contextlib.AsyncExitStack() as stack:
        journal = _journal(settings)
        stack.callback(journal.close)
        runtime = build_runtime(settings)
        stack.push_async_callback(runtime.close)
        found = await runtime.capabilities()
        check_isolation(settings, found)
        chain = None
        if settings.chain.rpc_url:
            chain = await stack.enter_async_context(SolanaChain(settings.chain.rpc_url, identity.program_id, key))
        else:
            _log.warning("no chain.rpc_url: the market's word is not checked against the chain", action="no_rpc")
        http = await stack.enter_async_context(MarketHttp(settings.market.url, key, "node"))
        outgoing = Outgoing(Reach.LOOPBACK_TOO if settings.local else Reach.PUBLIC)
        stack.push_async_callback(outgoing.close)
        agent = Agent(
            machine=Machine(
                version=importlib.metadata.version("reaver-market"),
                hardware=measure(settings.data).message(),
                capabilities=found,
                announce=partial(announced, settings),
            ),
            policy=Policy(
                class_id=settings.node.class_id,
                slots=settings.node.slots,
                floor_per_gpu_second=settings.node.price_floor_per_gpu_second,
                decimals=settings.market.decimals,
                max_fee_bps=settings.market.max_fee_bps,
                max_disk_gb=most_disk_gb(settings, found),
                networks=found.networks,
            ),
            limits=Limits(
                windows=await _windows(chain, http, identity.genesis_hash),
                max_image_bytes=settings.runtime.max_image_gb * GB,
                log_limit_bytes=settings.runtime.log_limit_mb << 20,
            ),
            identity=identity,
            key=key,
            journal=journal,
            runtime=runtime,
            connector=NodeConnector(http, settings.node.id),
            clock=SystemClock(),
            chain=chain,
            drain_flag=settings.drain_flag,
            transfers=HttpTransfers(http, settings.node.id, outgoing),
        )
        announce(
            f"{settings.node.id} serves {settings.market.url}: {settings.node.slots} x {settings.node.class_id} "
            f"in {settings.node.region}, from {settings.node.price_floor_per_gpu_second} per slot and second, "
            f"on {found.engine}"
        )
        await _until_stopped(agent, drain_on_stop=drain_on_stop)


def _node_key(settings: Settings) -> keys.KeyPair:
    try:
        return keys.load(settings.path(settings.keys.node))
    except keys.KeyUnusable as error:
        raise ConfigUnusable(str(error)) from error


def _journal(settings: Settings) -> Journal:
    try:
        return Journal(settings.journal)
    except JournalUnusable as error:
        raise ConfigUnusable(str(error)) from error


async def _windows(chain: SolanaChain | None, http: MarketHttp, genesis_hash: bytes) -> Windows:
    """The program's time limits: from the chain, else the market, else the public defaults.

    Raises ConfigUnusable when the endpoint serves another chain.
    """
    if chain is not None:
        try:
            if await chain.genesis_hash() != genesis_hash:
                raise ConfigUnusable("chain.rpc_url serves another chain than the market's; correct it or empty it")
            return await chain.windows()
        except (ChainSilent, ChainRefused) as error:
            _log.warning("chain not readable; asking the market", action="chain_silent", error=str(error))
    try:
        return await http.windows()
    except NodeError as error:
        _log.warning("default time limits are used", action="default_windows", error=str(error))
        return DEFAULT_WINDOWS


async def _until_stopped(agent: Agent, *, drain_on_stop: bool) -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    tasks = [asyncio.create_task(agent.run()), asyncio.create_task(_wait(told))]
    work = tasks[0]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if drain_on_stop and not work.done():
            _log.info("draining; a second signal ends at once", action="draining")
            told.clear()
            tasks[1:] = [asyncio.create_task(_wait(told)), asyncio.create_task(agent.drain())]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            await work
        _log.info("stopping; containers go on and are adopted by the next start", action="stopping")
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def _wait(event: asyncio.Event) -> None:
    await event.wait()
