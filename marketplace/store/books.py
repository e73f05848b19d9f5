"""What the chain said, once each: events, the escrows they describe, the ledger they make, the watcher's cursor."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from sqlalchemy import select

from marketplace.domain.ids import AccountId
from marketplace.store.engine import Transaction
from marketplace.store.records import Statements, from_row, to_values
from marketplace.store.tables.books import ChainEventRow

_EVENTS: Final = ChainEventRow.__table__  # type: ignore[attr-defined]  # sqlmodel adds it at run time


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One event of the program. position: its place in the transaction. seen_at_ms: when the market saw it.

    node: address of the Node account that it names.
    """

    signature: str
    position: int
    slot: int
    seen_at_ms: int
    name: str
    escrow: str | None
    attempt: int | None
    fields: str
    finalized: bool = False
    node: str | None = None


@dataclass(frozen=True, slots=True)
class ChainEscrow:
    """An escrow as its events describe it. state: open, assigned, closing, closed. Amounts in base units.

    attempt: the latest one's number. compensation: stake units. closed_at_ms: when the last of its money moved.
    """

    escrow: str
    wallet: str
    opener: str
    nonce: int
    terms_hash: bytes
    deposit: int
    state: str
    opened_signature: str
    attempt: int = 0
    paid: int = 0
    refunded: int = 0
    operator: int = 0
    stakers: int = 0
    market: int = 0
    protocol: int = 0
    compensation: int = 0
    closed_at_ms: int | None = None


_ESCROW: Final = Statements(ChainEscrow, "chain_escrows")


@dataclass(frozen=True, slots=True)
class Movement:
    """One side of a movement of payment tokens: positive into the account, negative out of it."""

    account: str
    amount: int


@dataclass(frozen=True, slots=True)
class EscrowTransaction:
    """A transaction that touched an escrow. signatures: all that its fee was charged for, the precompile's too."""

    escrow: str
    signature: str
    slot: int
    purpose: str
    signatures: int
    fee_lamports: int
    fee_payer: str


_EVENT: Final = Statements(StoredEvent, "chain_events")
_TRANSACTION: Final = Statements(EscrowTransaction, "escrow_transactions")


KNOWS_KEY: Final = (
    "SELECT EXISTS (SELECT 1 FROM allocations WHERE account_id = :account AND key = :key)"
    " OR EXISTS (SELECT 1 FROM chain_escrows WHERE wallet = :wallet AND terms_hash = :terms)"
)


class Books:
    """Record and read."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def has_event(self, signature: str, position: int) -> bool:
        return (
            self._tx.row(
                "SELECT 1 FROM chain_events WHERE signature = :signature AND position = :position",
                {"signature": signature, "position": position},
            )
            is not None
        )

    def record(self, event: StoredEvent, movements: Sequence[Movement]) -> None:
        """Write an event and what it moved. Raises UniqueViolation when it is recorded already.

        The movements sum to zero: money only changes its place.
        """
        if sum(m.amount for m in movements):
            raise AssertionError(f"{event.name} of {event.signature} does not balance")
        self._tx.change(_EVENT.insert, to_values(event))
        self._tx.change_many(
            "INSERT INTO ledger (signature, position, account, escrow, amount)"
            " VALUES (:signature, :position, :account, :escrow, :amount)",
            [
                {
                    "signature": event.signature,
                    "position": event.position,
                    "account": m.account,
                    "escrow": event.escrow,
                    "amount": m.amount,
                }
                for m in movements
                if m.amount
            ],
        )

    def put_escrow(self, escrow: ChainEscrow) -> None:
        """Write the escrow, new or known."""
        values = to_values(escrow)
        if not self._tx.change(f"{_ESCROW.update} WHERE escrow = :escrow", values):
            self._tx.change(_ESCROW.insert, values)

    def find_escrow(self, escrow: str) -> ChainEscrow | None:
        row = self._tx.row(f"{_ESCROW.select} WHERE escrow = :escrow", {"escrow": escrow})
        return None if row is None else _ESCROW.read(row)

    def find_by_terms(self, wallet: str, terms_hash: bytes) -> ChainEscrow | None:
        """The wallet's escrow with these terms: the proof that a key was used, also before this store existed."""
        row = self._tx.row(
            f"{_ESCROW.select} WHERE wallet = :wallet AND terms_hash = :terms", {"wallet": wallet, "terms": terms_hash}
        )
        return None if row is None else _ESCROW.read(row)

    def knows_key(self, account_id: AccountId, wallet: str, key: str, terms_hash: bytes) -> bool:
        """Whether a key was ever used: by a job here, or by the wallet's escrow of these terms on chain."""
        row = self._tx.row(KNOWS_KEY, {"account": account_id, "wallet": wallet, "key": key, "terms": terms_hash})
        return row is not None and bool(row[0])

    def list_events(self, escrow: str) -> list[StoredEvent]:
        """All events of an escrow, in the order of the chain."""
        rows = self._tx.rows(
            f"{_EVENT.select} WHERE escrow = :escrow ORDER BY slot, seen_at_ms, position", {"escrow": escrow}
        )
        return [_EVENT.read(row) for row in rows]

    def list_node_events(self, node: str, names: Sequence[str], limit: int, offset: int) -> list[StoredEvent]:
        """Events of these names that name a node, the newest first."""
        rows = self._tx.execute(
            select(_EVENTS)
            .where(_EVENTS.c.node == node, _EVENTS.c.name.in_(names))
            .order_by(_EVENTS.c.slot.desc(), _EVENTS.c.position.desc(), _EVENTS.c.signature.desc())
            .limit(limit)
            .offset(offset)
        ).mappings()
        return [from_row(StoredEvent, row) for row in rows]

    def put_transaction(self, transaction: EscrowTransaction) -> None:
        """Write that a transaction touched an escrow, unless it is known."""
        if (
            self._tx.row(
                "SELECT 1 FROM escrow_transactions WHERE escrow = :escrow AND signature = :signature",
                {"escrow": transaction.escrow, "signature": transaction.signature},
            )
            is None
        ):
            self._tx.change(_TRANSACTION.insert, to_values(transaction))

    def list_transactions(self, escrow: str) -> list[EscrowTransaction]:
        rows = self._tx.rows(f"{_TRANSACTION.select} WHERE escrow = :escrow ORDER BY slot", {"escrow": escrow})
        return [_TRANSACTION.read(row) for row in rows]

    def finalize(self, signatures: Sequence[str]) -> None:
        """Mark the events of these transactions as final."""
        self._tx.change_many(
            "UPDATE chain_events SET finalized = TRUE WHERE signature = :signature",
            [{"signature": signature} for signature in signatures],
        )

    def undo(self, signatures: Sequence[str]) -> None:
        """Forget transactions whose fork was dropped: their events, and what they moved."""
        for table in ("ledger", "settlements", "chain_events", "escrow_transactions"):
            self._tx.change_many(
                f"DELETE FROM {table} WHERE signature = :signature",  # noqa: S608 - names of ours
                [{"signature": signature} for signature in signatures],
            )

    def sums(self, escrow: str) -> dict[str, int]:
        """Balance of each account of an escrow's books; all of them sum to zero."""
        rows = self._tx.rows(
            "SELECT account, sum(amount) FROM ledger WHERE escrow = :escrow GROUP BY account", {"escrow": escrow}
        )
        return {row[0]: int(row[1]) for row in rows}

    def find_cursor(self, name: str) -> str | None:
        """The watcher's cursor as it wrote it."""
        row = self._tx.row("SELECT cursor FROM chain_cursors WHERE name = :name", {"name": name})
        return None if row is None else str(row[0])

    def put_cursor(self, name: str, cursor: str, slot: int) -> None:
        parameters = {"name": name, "cursor": cursor, "slot": slot}
        self._tx.change(
            "INSERT INTO chain_cursors (name, cursor, slot) VALUES (:name, :cursor, :slot)"
            " ON CONFLICT (name) DO UPDATE SET cursor = :cursor, slot = :slot",
            parameters,
        )


def moved(escrow: ChainEscrow, **sums: int) -> ChainEscrow:
    """The escrow with these amounts added to its sums."""
    return replace(escrow, **{name: getattr(escrow, name) + amount for name, amount in sums.items()})
