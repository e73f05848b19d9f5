"""One localnet process from lock to orderly end."""

import asyncio
import os
import signal
from collections.abc import Callable

from marketplace.localnet.chain import Chain
from marketplace.localnet.config import ChainConfig
from marketplace.localnet.faucet import Benefactor
from marketplace.localnet.folder import DataFolder, Running
from marketplace.localnet.journal import Journal
from marketplace.localnet.server import Server


def run(config: ChainConfig, on_ready: Callable[[Running], None]) -> None:
    """Serve the configured chain until SIGINT or SIGTERM. Raises LocalnetError."""
    with DataFolder(config.data) as folder:
        benefactor = Benefactor(folder.keypair("faucet"), folder.keypair("mint-authority"))
        with Journal(folder.journal) as journal:
            chain = Chain(config, journal, benefactor)
            asyncio.run(_serve(config, chain, folder, on_ready))
            chain.close()


async def _serve(
    config: ChainConfig,
    chain: Chain,
    folder: DataFolder,
    on_ready: Callable[[Running], None],
) -> None:
    loop = asyncio.get_running_loop()
    asked_to_stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked_to_stop.set)
    server = Server(chain)
    rpc_port, ws_port = await server.start(config.host, config.rpc_port, config.ws_port)
    running = _describe(config, chain, rpc_port, ws_port)
    folder.announce(running)
    on_ready(running)
    server.failed.add_done_callback(lambda _: asked_to_stop.set())
    await asked_to_stop.wait()
    folder.withdraw()
    await server.stop()
    if server.failed.done():
        server.failed.result()


def _describe(config: ChainConfig, chain: Chain, rpc_port: int, ws_port: int) -> Running:
    # A wildcard address is where we listen, not where anybody can connect to.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.host, config.host)
    host = f"[{host}]" if ":" in host else host
    identity = chain.identity
    return Running(
        pid=os.getpid(),
        rpc=f"http://{host}:{rpc_port}",
        ws=f"ws://{host}:{ws_port}",
        data=str(config.data),
        genesis_hash=identity.genesis_hash,
        program_id=str(identity.program_id),
        payment_mint=str(identity.payment_mint),
        payment_decimals=identity.payment_decimals,
        stake_mint=str(identity.stake_mint),
        stake_decimals=identity.stake_decimals,
        mint_authority=str(identity.mint_authority),
        slot_ms=identity.slot_ms,
        finality_slots=identity.finality_slots,
    )
