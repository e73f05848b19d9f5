"""Getting signed transactions onto the chain, once each. Source: design page stack.md, section 10.

Recorded before sent; the same bytes are sent again until they are confirmed or can't land any more; nothing
is ever signed again while the first could land. What the cluster says of all open signatures is asked in one
question per tick, and its `err` is read: a failed transaction is confirmed too.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import structlog
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from marketplace.chain.answers import Commitment, SignatureStatus
from marketplace.chain.errors import ChainError, RpcError, TransactionExpired, TransactionFailed
from marketplace.chain.outbox import OutboxEntry, OutboxState, OutboxStore
from marketplace.chain.subscriptions import Hints, PollOnly
from marketplace.crash import crash_point

_log = structlog.get_logger(__name__)

# Chosen: how long after the last valid block height a missing transaction is given up. The height we read
# is `confirmed`; a slot that was behind it on another fork is decided a few blocks later.
EXPIRY_MARGIN_BLOCKS: Final = 8


class SenderRpc(Protocol):
    """What sending needs of the chain; `RpcClient` has it."""

    async def send_transaction(self, transaction: bytes, *, skip_preflight: bool = True) -> Signature: ...

    async def get_signature_statuses(
        self, signatures: list[Signature], *, search_history: bool = False
    ) -> list[SignatureStatus | None]: ...

    async def get_block_height(self, commitment: Commitment = Commitment.CONFIRMED) -> int: ...


class Sender:
    """Sends, rebroadcasts, follows and reports. One per process; `run` is its only loop.

    on_change: told of every new state after it is recorded (services settle their books there). A state may be
    passed over: what is final by the next tick goes from sent to finalized at once. A crash may lose the telling,
    never the record: on start the outbox is read again.
    """

    def __init__(
        self,
        rpc: SenderRpc,
        outbox: OutboxStore,
        *,
        hints: Hints | None = None,
        on_change: Callable[[OutboxEntry], Awaitable[None]] | None = None,
        error_name: Callable[[int], str | None] = lambda _number: None,
        tick_s: float = 0.4,
        rebroadcast_s: float = 0.8,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rpc = rpc
        self._outbox = outbox
        self._hints = hints or PollOnly()
        self._on_change = on_change
        self._error_name = error_name
        self._tick_s = tick_s
        self._rebroadcast_s = rebroadcast_s
        self._monotonic = monotonic
        self._sent_at: dict[Signature, float] = {}
        self._waiters: dict[Signature, set[asyncio.Event]] = {}
        self._work = asyncio.Event()

    async def submit(self, operation: str, raw: bytes, last_valid_block_height: int) -> OutboxEntry:
        """Record signed bytes and send them; returns the operation's entry, which may be an earlier one.

        An earlier entry that can still land, or has landed, is returned unchanged and `raw` is dropped: the
        caller compares `signature` where it matters. Raises ValueError for bytes that aren't fully signed.
        A chain that doesn't answer is not an error here: the entry is recorded, and `tick` sends it.
        """
        entry = await self._outbox.insert(
            OutboxEntry(operation, _verified_signature(raw), raw, last_valid_block_height)
        )
        if entry.state is OutboxState.BUILT:
            crash_point("sender.before_send")
            entry = await self._send(entry)
            crash_point("sender.after_send")
        self._work.set()
        return entry

    async def wait(
        self, signature: Signature, *, timeout_s: float, until: OutboxState = OutboxState.CONFIRMED
    ) -> OutboxEntry:
        """The entry once it has landed (at `until`), or as it stands after `timeout_s`.

        Raises TransactionFailed and TransactionExpired for those ends, KeyError for a signature never
        submitted. Needs `run` (or somebody's `tick`) beside it.
        """
        event = asyncio.Event()
        self._waiters.setdefault(signature, set()).add(event)
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    event.clear()
                    entry = await self._get(signature)
                    if self._reached(entry, until):
                        return entry
                    await event.wait()
        except TimeoutError:
            entry = await self._get(signature)
            self._reached(entry, until)
            return entry
        finally:
            self._waiters[signature].discard(event)
            if not self._waiters[signature]:
                del self._waiters[signature]

    async def run(self) -> None:
        """Tick while anything is open, sleep while nothing is: until cancelled.

        On start everything that a crash left open is taken up again.
        """
        while True:
            self._work.clear()
            try:
                unfinished = await self.tick()
            except ChainError as error:
                # Nothing is known, so nothing changes; the entries stay as they are and are asked for again.
                _log.warning("chain not reachable", action="sender.tick", error=str(error))
                unfinished = 1
            except Exception:  # noqa: BLE001 - outer edge of the loop: one entry's trouble must not stop every payment
                _log.exception("tick failed", action="sender.tick")
                unfinished = 1
            if unfinished:
                await self._hints.wait(self._tick_s)
            else:
                await self._work.wait()

    async def tick(self) -> int:
        """One round over all open entries; returns how many are still open. Raises ChainError."""
        entries = await self._outbox.list_unfinished()
        if not entries:
            return 0
        # The height is read before the statuses: what has not landed by then and is past its height at
        # that moment can't land between the two questions.
        height = await self._rpc.get_block_height()
        statuses = await self._rpc.get_signature_statuses([entry.signature for entry in entries])
        still_open = 0
        late: list[OutboxEntry] = []
        for entry, status in zip(entries, statuses, strict=True):
            if status is None and height > entry.last_valid_block_height + EXPIRY_MARGIN_BLOCKS:
                late.append(entry)
                continue
            after = await self._advance(entry, status, height)
            still_open += not after.state.over
        return still_open + await self._look_back(late)

    async def _advance(self, entry: OutboxEntry, status: SignatureStatus | None, height: int) -> OutboxEntry:
        if status is not None and status.commitment.reaches(Commitment.CONFIRMED):
            return await self._landed(entry, status)
        if height <= entry.last_valid_block_height and self._due(entry):
            return await self._send(entry)
        return entry

    async def _landed(self, entry: OutboxEntry, status: SignatureStatus) -> OutboxEntry:
        if status.failure is not None:
            return await self._record(entry.moved(OutboxState.FAILED, slot=status.slot, failure=status.failure))
        final = status.commitment is Commitment.FINALIZED
        state = OutboxState.FINALIZED if final else OutboxState.CONFIRMED
        if entry.state is state:
            return entry
        moved = await self._record(entry.moved(state, slot=status.slot))
        crash_point("sender.after_confirm")
        return moved

    async def _look_back(self, late: list[OutboxEntry]) -> int:
        """Look once more, in the whole history, before saying that payments never happened.

        Only a look begun after their height has passed can prove that: this one is. Returns how many of
        them are still open.
        """
        if not late:
            return 0
        still_open = 0
        statuses = await self._rpc.get_signature_statuses([e.signature for e in late], search_history=True)
        for entry, status in zip(late, statuses, strict=True):
            if status is None:
                await self._record(entry.moved(OutboxState.EXPIRED))
            elif status.commitment.reaches(Commitment.CONFIRMED):
                still_open += not (await self._landed(entry, status)).state.over
            else:
                still_open += 1
        return still_open

    def _due(self, entry: OutboxEntry) -> bool:
        if entry.state is OutboxState.CONFIRMED:
            # Confirmed, then unknown: a fork was dropped. The same bytes go out again.
            return True
        sent_at = self._sent_at.get(entry.signature)
        return sent_at is None or self._monotonic() - sent_at >= self._rebroadcast_s

    async def _send(self, entry: OutboxEntry) -> OutboxEntry:
        self._hints.watch_signature(entry.signature)
        self._sent_at[entry.signature] = self._monotonic()
        try:
            await self._rpc.send_transaction(entry.raw)
        except RpcError as error:
            # "Already processed" and the like: the status tells what became of it, not this answer.
            _log.info("send refused", action="sender.send", operation=entry.operation, error=str(error))
        except ChainError as error:
            # Nobody took it; it stays built or sent, and the next tick sends it again.
            _log.warning("send failed", action="sender.send", operation=entry.operation, error=str(error))
            return entry
        if entry.state is not OutboxState.BUILT:
            return entry
        if await self._outbox.mark_sent(entry.signature):
            return await self._tell(entry.moved(OutboxState.SENT))
        # A tick has seen it land before this answer came: what is known of it is more than that it was sent.
        return await self._get(entry.signature)

    async def _record(self, entry: OutboxEntry) -> OutboxEntry:
        await self._outbox.update(entry)
        return await self._tell(entry)

    async def _tell(self, entry: OutboxEntry) -> OutboxEntry:
        lost = entry.state in {OutboxState.FAILED, OutboxState.EXPIRED}
        (_log.warning if lost else _log.debug)(
            "transaction",
            action="sender.record",
            operation=entry.operation,
            signature=str(entry.signature),
            state=str(entry.state),
            failure=str(entry.failure) if entry.failure else None,
        )
        if entry.state.over:
            self._sent_at.pop(entry.signature, None)
        for event in self._waiters.get(entry.signature, ()):
            event.set()
        if self._on_change is not None:
            await self._on_change(entry)
        return entry

    async def _get(self, signature: Signature) -> OutboxEntry:
        entry = await self._outbox.find(signature)
        if entry is None:
            raise KeyError(str(signature))
        return entry

    def _reached(self, entry: OutboxEntry, until: OutboxState) -> bool:
        if entry.state is OutboxState.FAILED and entry.failure is not None:
            number = entry.failure.custom
            name = self._error_name(number) if number is not None else None
            raise TransactionFailed(entry.failure, error_name=name)
        if entry.state is OutboxState.EXPIRED:
            raise TransactionExpired
        if until is OutboxState.FINALIZED:
            return entry.state is OutboxState.FINALIZED
        return entry.state.landed


def _verified_signature(raw: bytes) -> Signature:
    """The transaction's id, which is known before anybody has seen it. Raises ValueError unless all signed."""
    transaction = VersionedTransaction.from_bytes(raw)
    if not all(transaction.verify_with_results()):
        raise ValueError("a transaction is recorded and sent only when everybody has signed it")
    return transaction.signatures[0]
