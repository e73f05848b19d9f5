"""A process that pays once, to be killed at a crash point: `python -m tests.chain.paying_process RPC DB KEY TO`.

Prints the state in which the payment ended. Started again after a crash it ends what the last run began.
"""

import asyncio
import contextlib
import sys
from pathlib import Path

from solders.pubkey import Pubkey

from marketplace import crash
from marketplace.chain.keyfiles import load_keypair
from marketplace.chain.outbox import OutboxState
from marketplace.chain.program import AnchorCodec
from marketplace.chain.rpc import RpcClient
from marketplace.chain.sender import Sender
from marketplace.chain.transactions import Assembler, TransferLamports
from marketplace.errors import TransactionExpired
from marketplace.services.outbox import StoreOutbox
from marketplace.store.engine import Store
from marketplace.store.schema import migrate

OPERATION = "pay:once"
LAMPORTS = 7_000_000


async def pay(url: str, database: Path, key_file: Path, to: Pubkey) -> None:
    crash.enable(local=True)
    migrate(database)
    store = Store(database)
    await store.open()
    key = load_keypair(key_file)
    async with RpcClient([url]) as rpc:
        sender = Sender(rpc, StoreOutbox(store), tick_s=0.05)
        loop = asyncio.create_task(sender.run())
        assembler = Assembler(rpc, AnchorCodec(Pubkey.default()))
        # On busy cores a restart can outlast the blockhash: only then is the payment built anew.
        state = None
        while state is None:
            unsigned = await assembler.assemble([TransferLamports(key.pubkey(), to, LAMPORTS)], key.pubkey())
            signed = unsigned.sign([key])
            entry = await sender.submit(OPERATION, signed.raw, signed.last_valid_block_height)
            with contextlib.suppress(TransactionExpired):
                state = (await sender.wait(entry.signature, timeout_s=30, until=OutboxState.FINALIZED)).state
        print(state, flush=True)
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)
    await store.close()


if __name__ == "__main__":
    url, database, key_file, to = sys.argv[1:]
    asyncio.run(pay(url, Path(database), Path(key_file), Pubkey.from_string(to)))
