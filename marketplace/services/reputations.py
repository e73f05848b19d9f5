"""Why a node's reputation is what it is: every term of the formula, and the events on chain that made it.

The terms are the Node account's own counters, so the number is right even where events are missing here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

import orjson

from marketplace.domain.ids import NodeId
from marketplace.domain.quantities import Tokens
from marketplace.domain.reasons import Reason
from marketplace.domain.reputation import LOSS_WEIGHT, Record, reputation
from marketplace.errors import NotFound
from marketplace.protocol.vouchers import VoucherState
from marketplace.services.stake import StakeService
from marketplace.store.books import Books, StoredEvent
from marketplace.store.engine import Store, Transaction

_NAMES: Final = ("Settled", "ContestClosed")
"""Events in which an attempt can end for the record."""


@dataclass(frozen=True, slots=True)
class RecordEvent:
    """An event that names the node. counts: the term it added to (well, lost, quit), None where it added to none."""

    signature: str
    position: int
    slot: int
    escrow: str | None
    attempt: int | None
    name: str
    reason: int | None
    amount: Tokens | None
    counts: str | None


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """Lifetime counters, and what they make. amounts: metered, in payment units."""

    node_id: NodeId | None
    node: str
    reputation: Fraction
    well: int
    lost: int
    quit: int
    loss_weight: int
    amount_well: Tokens
    amount_lost: Tokens
    amount_quit: Tokens
    events: tuple[RecordEvent, ...]
    more: bool


class ReputationService:
    """Reads."""

    def __init__(self, store: Store, stake: StakeService) -> None:
        self._store = store
        self._stake = stake

    @property
    def stake(self) -> StakeService:
        """Units, and names of nodes."""
        return self._stake

    async def get(self, named: str, limit: int, offset: int) -> NodeRecord:
        """A node's record with some of its events, the newest first. Raises NotFound, ChainUnavailable."""
        address = self._stake.node_address(named)
        state = await self._stake.accounts.find_pool(address)
        if state is None:
            raise NotFound("there is no such node on this chain")

        def read(tx: Transaction) -> list[RecordEvent]:
            books = Books(tx)
            found = books.list_node_events(str(address), _NAMES, limit + 1, offset)
            return [_told(books, event) for event in found]

        events = await self._store.read(read)
        node = state.node
        return NodeRecord(
            node_id=self._stake.node_id(address),
            node=str(address),
            reputation=reputation(Record(node.attempts_well, node.attempts_lost)),
            well=node.attempts_well,
            lost=node.attempts_lost,
            quit=node.attempts_quit,
            loss_weight=LOSS_WEIGHT,
            amount_well=Tokens(node.amount_well),
            amount_lost=Tokens(node.amount_lost),
            amount_quit=Tokens(node.amount_quit),
            events=tuple(events[:limit]),
            more=len(events) > limit,
        )


def _told(books: Books, event: StoredEvent) -> RecordEvent:
    fields: Mapping[str, Any] = orjson.loads(event.fields)
    settled = event.name == "Settled"
    return RecordEvent(
        signature=event.signature,
        position=event.position,
        slot=event.slot,
        escrow=event.escrow,
        attempt=event.attempt,
        name=event.name,
        reason=fields["reason"] if settled else None,
        amount=Tokens(fields["amount"]) if settled else None,
        counts=_settled(books, event, fields) if settled else _contested(books, event, fields),
    )


def _settled(books: Books, event: StoredEvent, fields: Mapping[str, Any]) -> str | None:
    """Both sides signed the end: well, where the market's meter was one of them and anything was metered."""
    if fields["state"] == VoucherState.RUNNING or not fields["amount"]:
        return None
    escrow = None if event.escrow is None else books.find_escrow(event.escrow)
    return None if escrow is not None and fields["countersigner"] == escrow.wallet else "well"


def _contested(books: Books, event: StoredEvent, fields: Mapping[str, Any]) -> str | None:
    """One side ended it, and the window has passed. Nothing of it counts as well unless something was metered."""
    if fields["loss"]:
        return "lost"
    of_attempt = [
        (other.name, orjson.loads(other.fields))
        for other in ([] if event.escrow is None else books.list_events(event.escrow))
        if other.attempt == event.attempt
    ]
    if any(name == "Released" and each["reason"] == Reason.NODE_QUIT for name, each in of_attempt):
        return "quit"
    escrow = None if event.escrow is None else books.find_escrow(event.escrow)
    wallet = None if escrow is None else escrow.wallet
    metered = any(name == "Settled" and each["amount"] and each["countersigner"] != wallet for name, each in of_attempt)
    return "well" if metered else None
