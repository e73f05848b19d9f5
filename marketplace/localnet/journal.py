"""What survives: accounts, transactions and the chain's age, in one SQLite file.

Rule: a transaction's accounts and its record are committed together, before anybody is told of it. The commit
survives the death of the process at any instant; after a power cut the last commits may be missing, whole.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from solders.account import Account
from solders.pubkey import Pubkey
from solders.signature import Signature

from marketplace.localnet.errors import FolderMismatch, JournalBroken

_SCHEMA_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE chain (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    salt BLOB NOT NULL, genesis_hash BLOB NOT NULL, configuration TEXT NOT NULL,
    slots_reserved INTEGER NOT NULL  -- no slot above this one was ever shown to anybody
) STRICT;
CREATE TABLE starts (first_slot INTEGER PRIMARY KEY, unix_ms INTEGER NOT NULL, slot_ms INTEGER NOT NULL) STRICT;
CREATE TABLE accounts (
    address BLOB PRIMARY KEY, lamports INTEGER NOT NULL, owner BLOB NOT NULL,
    executable INTEGER NOT NULL, data BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE transactions (
    seq INTEGER PRIMARY KEY, signature BLOB NOT NULL UNIQUE, message_hash BLOB NOT NULL,
    slot INTEGER NOT NULL, unix_time INTEGER NOT NULL, error TEXT, memo TEXT, version TEXT NOT NULL,
    wire BLOB NOT NULL, meta BLOB NOT NULL
) STRICT;
CREATE INDEX transactions_by_slot ON transactions (slot);
CREATE TABLE mentions (address BLOB NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (address, seq)) STRICT, WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class ChainRow:
    """What makes this chain this chain."""

    salt: bytes
    genesis_hash: bytes
    configuration: str  # JSON of what may not change under a living chain
    slots_reserved: int


@dataclass(frozen=True, slots=True)
class StartRow:
    """A start of the process: from here on, slots follow real time again."""

    first_slot: int
    unix_ms: int
    slot_ms: int


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """A transaction without its bytes."""

    seq: int
    signature: Signature
    slot: int
    unix_time: int
    error: str | None  # JSON
    memo: str | None


@dataclass(frozen=True, slots=True)
class TransactionRow:
    """A transaction as it landed. error and meta are JSON; wire is what the client sent."""

    signature: Signature
    message_hash: bytes
    slot: int
    unix_time: int
    error: str | None
    memo: str | None
    version: str
    wire: bytes
    meta: bytes


class Journal:
    """One connection, one thread; path ":memory:" for a chain that ends with its process."""

    def __init__(self, path: Path | str) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        # WAL with NORMAL: a commit is in the kernel's hands, so SIGKILL loses nothing; no fsync per transaction.
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            self._db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_SCHEMA_VERSION}; COMMIT;")
        elif version != _SCHEMA_VERSION:
            self._db.close()
            raise FolderMismatch(
                f"{path} has format {version}, this reaver-localnet writes {_SCHEMA_VERSION}: "
                "start it with the version that made it, or run `reaver-localnet reset`.",
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._db.close()

    # The chain itself -------------------------------------------------------------------------------------

    def find_chain(self) -> ChainRow | None:
        row = self._db.execute("SELECT salt, genesis_hash, configuration, slots_reserved FROM chain").fetchone()
        return ChainRow(*row) if row is not None else None

    def create_chain(self, chain: ChainRow, genesis: Sequence[tuple[Pubkey, Account]]) -> None:
        """Write the birth of a chain, all or nothing."""
        with _Transaction(self._db):
            self._db.execute(
                "INSERT INTO chain VALUES (1, ?, ?, ?, ?)",
                (chain.salt, chain.genesis_hash, chain.configuration, chain.slots_reserved),
            )
            self._put_accounts(genesis)

    def reserve_slots(self, until: int) -> None:
        """No slot above `until` will be shown before the next call; never lowers."""
        with _Transaction(self._db):
            self._db.execute("UPDATE chain SET slots_reserved = max(slots_reserved, ?)", (until,))

    def settle_slot(self, slot: int) -> None:
        """An orderly end: `slot` was the last one shown."""
        with _Transaction(self._db):
            self._db.execute("UPDATE chain SET slots_reserved = ?", (slot,))

    def add_start(self, start: StartRow) -> None:
        with _Transaction(self._db):
            self._db.execute(
                "INSERT OR REPLACE INTO starts VALUES (?, ?, ?)",
                (start.first_slot, start.unix_ms, start.slot_ms),
            )

    def find_start(self, slot: int) -> StartRow | None:
        """The start under which `slot` passed."""
        row = self._db.execute(
            "SELECT first_slot, unix_ms, slot_ms FROM starts WHERE first_slot <= ? ORDER BY first_slot DESC LIMIT 1",
            (slot,),
        ).fetchone()
        return StartRow(*row) if row is not None else None

    def accounts(self) -> Iterator[tuple[Pubkey, Account]]:
        for address, lamports, owner, executable, data in self._db.execute(
            "SELECT address, lamports, owner, executable, data FROM accounts",
        ):
            account = Account(lamports, data, Pubkey.from_bytes(owner), bool(executable), 0)
            yield Pubkey.from_bytes(address), account

    # Transactions -----------------------------------------------------------------------------------------

    def append(
        self,
        row: TransactionRow,
        mentions: Sequence[Pubkey],
        changed: Sequence[tuple[Pubkey, Account | None]],
    ) -> None:
        """Make a transaction durable: its record, whom it names, and the accounts as it left them."""
        with _Transaction(self._db):
            seq = self._db.execute(
                "INSERT INTO transactions"
                " (signature, message_hash, slot, unix_time, error, memo, version, wire, meta)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    bytes(row.signature),
                    row.message_hash,
                    row.slot,
                    row.unix_time,
                    row.error,
                    row.memo,
                    row.version,
                    row.wire,
                    row.meta,
                ),
            ).lastrowid
            self._db.executemany(
                "INSERT OR IGNORE INTO mentions VALUES (?, ?)",
                [(bytes(address), seq) for address in mentions],
            )
            self._put_accounts([(address, account) for address, account in changed if account is not None])
            self._db.executemany(
                "DELETE FROM accounts WHERE address = ?",
                [(bytes(address),) for address, account in changed if account is None],
            )

    def find_transaction(self, signature: Signature) -> TransactionRow | None:
        row = self._db.execute(
            "SELECT message_hash, slot, unix_time, error, memo, version, wire, meta FROM transactions"
            " WHERE signature = ?",
            (bytes(signature),),
        ).fetchone()
        return TransactionRow(signature, *row) if row is not None else None

    def find_summary(self, signature: Signature) -> SummaryRow | None:
        row = self._db.execute(
            "SELECT seq, slot, unix_time, error, memo FROM transactions WHERE signature = ?",
            (bytes(signature),),
        ).fetchone()
        return SummaryRow(row[0], signature, *row[1:]) if row is not None else None

    def list_slots(self, first: int, last: int) -> list[TransactionRow]:
        """The transactions of the blocks from `first` to `last`, in their order."""
        rows = self._db.execute(
            "SELECT signature, message_hash, slot, unix_time, error, memo, version, wire, meta FROM transactions"
            " WHERE slot BETWEEN ? AND ? ORDER BY seq",
            (first, last),
        )
        return [TransactionRow(Signature.from_bytes(row[0]), *row[1:]) for row in rows]

    def count_between(self, first: int, last: int) -> int:
        """Transactions in the slots from `first` to `last`."""
        (count,) = self._db.execute(
            "SELECT count(*) FROM transactions WHERE slot BETWEEN ? AND ?", (first, last)
        ).fetchone()
        return int(count)

    def list_mentions(
        self,
        address: Pubkey,
        *,
        before: int | None,
        until: int,
        highest_slot: int,
        limit: int,
    ) -> list[SummaryRow]:
        """Transactions that name `address`, newest first, with until < seq < before and slot ≤ highest_slot."""
        rows = self._db.execute(
            "SELECT t.seq, t.signature, t.slot, t.unix_time, t.error, t.memo"
            " FROM mentions m JOIN transactions t ON t.seq = m.seq"
            " WHERE m.address = ? AND m.seq < ? AND m.seq > ? AND t.slot <= ? ORDER BY m.seq DESC LIMIT ?",
            (bytes(address), before if before is not None else 2**62, until, highest_slot, limit),
        )
        return [SummaryRow(row[0], Signature.from_bytes(row[1]), *row[2:]) for row in rows]

    def message_hashes_since(self, slot: int) -> list[tuple[bytes, int]]:
        """(message hash, slot) of what landed in `slot` or later: what may not run a second time."""
        return self._db.execute(
            "SELECT message_hash, slot FROM transactions WHERE slot >= ?",
            (slot,),
        ).fetchall()

    def latest_unix_time(self) -> int:
        """The second of the newest transaction, 0 without any: the chain's clock may not fall below it."""
        row = self._db.execute("SELECT unix_time FROM transactions ORDER BY seq DESC LIMIT 1").fetchone()
        return int(row[0]) if row is not None else 0

    def unix_time_of(self, slot: int) -> int | None:
        """The clock that the slot's transactions saw, or None when it had none."""
        row = self._db.execute("SELECT unix_time FROM transactions WHERE slot = ? LIMIT 1", (slot,)).fetchone()
        return int(row[0]) if row is not None else None

    def count_transactions(self) -> int:
        """All that ever landed: seq counts from 1 and nothing is deleted."""
        (count,) = self._db.execute("SELECT coalesce(max(seq), 0) FROM transactions").fetchone()
        return int(count)

    def _put_accounts(self, accounts: Sequence[tuple[Pubkey, Account]]) -> None:
        self._db.executemany(
            "INSERT OR REPLACE INTO accounts VALUES (?, ?, ?, ?, ?)",
            [
                (bytes(address), account.lamports, bytes(account.owner), int(account.executable), bytes(account.data))
                for address, account in accounts
            ],
        )


class _Transaction:
    """BEGIN … COMMIT; what SQLite can't do is JournalBroken, and nothing of it is kept."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if error is None:
            try:
                self._db.execute("COMMIT")
            except sqlite3.Error as failed:
                raise JournalBroken(f"the journal can't be written: {failed}") from failed
            return
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
        if isinstance(error, sqlite3.Error):
            raise JournalBroken(f"the journal can't be written: {error}") from error
