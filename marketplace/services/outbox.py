"""The outbox that the chain's sender asks for, over the market's store."""

from dataclasses import asdict

import orjson
from solders.signature import Signature

from marketplace.chain.answers import TransactionFailure
from marketplace.chain.outbox import OutboxEntry, OutboxState
from marketplace.store.engine import Store
from marketplace.store.outbox import Outbox, StoredEntry


class StoreOutbox:
    """`chain.outbox.OutboxStore`, durable when each call returns."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def insert(self, entry: OutboxEntry) -> OutboxEntry:
        stored = _to_stored(entry)
        return _from_stored(await self._store.write(lambda tx: Outbox(tx).insert(stored)))

    async def update(self, entry: OutboxEntry) -> None:
        stored = _to_stored(entry)
        await self._store.write(
            lambda tx: Outbox(tx).update(stored.signature, stored.state, stored.slot, stored.failure)
        )

    async def mark_sent(self, signature: Signature) -> bool:
        return await self._store.write(lambda tx: Outbox(tx).mark_sent(str(signature)))

    async def find(self, signature: Signature) -> OutboxEntry | None:
        found = await self._store.lookup(lambda tx: Outbox(tx).find(str(signature)))
        return None if found is None else _from_stored(found)

    async def latest(self, operation: str) -> OutboxEntry | None:
        found = await self._store.lookup(lambda tx: Outbox(tx).latest(operation))
        return None if found is None else _from_stored(found)

    async def list_unfinished(self) -> list[OutboxEntry]:
        return [_from_stored(e) for e in await self._store.read(lambda tx: Outbox(tx).list_unfinished())]


def _to_stored(entry: OutboxEntry) -> StoredEntry:
    return StoredEntry(
        operation=entry.operation,
        signature=str(entry.signature),
        raw=entry.raw,
        last_valid_block_height=entry.last_valid_block_height,
        state=entry.state.value,
        slot=entry.slot,
        failure=None if entry.failure is None else orjson.dumps(asdict(entry.failure)).decode(),
    )


def _from_stored(stored: StoredEntry) -> OutboxEntry:
    return OutboxEntry(
        operation=stored.operation,
        signature=Signature.from_string(stored.signature),
        raw=stored.raw,
        last_valid_block_height=stored.last_valid_block_height,
        state=OutboxState(stored.state),
        slot=stored.slot,
        failure=None if stored.failure is None else TransactionFailure(**orjson.loads(stored.failure)),
    )
