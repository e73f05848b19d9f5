"""The record of what we send: written before the first byte leaves, read again after every crash.

An operation (`settle:<escrow>:<attempt>:<sequence>`) has at most one entry that can still land. The store's
implementation lives in `services`; `MemoryOutbox` is the same contract in memory, held to the same
conformance suite (tests/chain/outbox_conformance.py).
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from solders.signature import Signature

from marketplace.chain.answers import TransactionFailure


class OutboxState(StrEnum):
    """Built (recorded, maybe never sent) → sent → confirmed → finalized, or failed, or expired."""

    BUILT = "built"
    SENT = "sent"
    CONFIRMED = "confirmed"
    FINALIZED = "finalized"
    FAILED = "failed"
    EXPIRED = "expired"

    @property
    def over(self) -> bool:
        """Nothing more can happen to it."""
        return self in {OutboxState.FINALIZED, OutboxState.FAILED, OutboxState.EXPIRED}

    @property
    def landed(self) -> bool:
        """Its effects are on chain at `confirmed` at least."""
        return self in {OutboxState.CONFIRMED, OutboxState.FINALIZED}


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """One signed transaction on its way.

    operation: what it does, the key of the duplicate guard. raw: its signed bytes, never signed again.
    last_valid_block_height: it can land up to and including this height.
    slot: where it landed. failure: why it failed, set in state failed only.
    """

    operation: str
    signature: Signature
    raw: bytes
    last_valid_block_height: int
    state: OutboxState = OutboxState.BUILT
    slot: int | None = None
    failure: TransactionFailure | None = None

    def moved(
        self, state: OutboxState, *, slot: int | None = None, failure: TransactionFailure | None = None
    ) -> "OutboxEntry":
        return replace(self, state=state, slot=slot if slot is not None else self.slot, failure=failure)


class OutboxStore(Protocol):
    """Where entries outlive the process. Each call is durable when it returns."""

    async def insert(self, entry: OutboxEntry) -> OutboxEntry:
        """Record a built entry and return it; or return the operation's own entry that stands in its way.

        In the way stands any entry of the same operation that isn't failed or expired: it may still land or
        has landed, so a second one could pay twice. Check and insert are one atomic act.
        """
        ...

    async def update(self, entry: OutboxEntry) -> None:
        """Write state, slot and failure of the entry with this signature."""
        ...

    async def mark_sent(self, signature: Signature) -> bool:
        """Move the entry from built to sent; False, and nothing is changed, where it is no longer built.

        Look and write are one atomic act: whoever follows the entry may have seen it land before its sender was told
        that it was taken.
        """
        ...

    async def find(self, signature: Signature) -> OutboxEntry | None: ...

    async def latest(self, operation: str) -> OutboxEntry | None:
        """The operation's newest entry, in whatever state."""
        ...

    async def list_unfinished(self) -> list[OutboxEntry]:
        """Everything built, sent or confirmed, oldest first."""
        ...


class MemoryOutbox:
    """The contract of OutboxStore without durability: for tests and for one-off commands."""

    def __init__(self) -> None:
        self._entries: dict[Signature, OutboxEntry] = {}

    async def insert(self, entry: OutboxEntry) -> OutboxEntry:
        present = await self.latest(entry.operation)
        if present is not None and present.state not in {OutboxState.FAILED, OutboxState.EXPIRED}:
            return present
        known = self._entries.get(entry.signature)
        if known is not None:
            return known
        self._entries[entry.signature] = entry
        return entry

    async def update(self, entry: OutboxEntry) -> None:
        if entry.signature in self._entries:
            self._entries[entry.signature] = entry

    async def mark_sent(self, signature: Signature) -> bool:
        entry = self._entries.get(signature)
        if entry is None or entry.state is not OutboxState.BUILT:
            return False
        self._entries[signature] = entry.moved(OutboxState.SENT)
        return True

    async def find(self, signature: Signature) -> OutboxEntry | None:
        return self._entries.get(signature)

    async def latest(self, operation: str) -> OutboxEntry | None:
        found = [entry for entry in self._entries.values() if entry.operation == operation]
        return found[-1] if found else None

    async def list_unfinished(self) -> list[OutboxEntry]:
        return [entry for entry in self._entries.values() if not entry.state.over]
