"""What the daemon must not forget: open attempts, their vouchers, and the reports the market has not taken.

One small SQLite file, written before the act it records and durable when a call returns. Calls take about a
millisecond and are made on the loop: a node has few attempts, and nothing may happen between a record and its
act. A second daemon on the same file is refused.
"""

import contextlib
import fcntl
import json
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import IO, Final

from marketplace.domain.reasons import Reason
from marketplace.protocol.control import ClaimRequest, SignedVoucher, StateReport
from marketplace.protocol.vouchers import VoucherMessage
from node.clock import Anchor
from node.runtime.port import AttemptKey

SCHEMA_VERSION: Final = 3
# Chosen: who looks whether the journal is in use holds its lock for less.
_LOOK_S: Final = 0.01

_SCHEMA: Final = """
CREATE TABLE attempt (
    allocation_id TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    request TEXT NOT NULL,
    request_frame TEXT NOT NULL,
    claim_at_ms INTEGER NOT NULL,
    claim_signature BLOB NOT NULL,
    anchor TEXT NOT NULL,
    start_limit_ms INTEGER NOT NULL,
    step INTEGER NOT NULL,
    lease_token TEXT,
    assigned INTEGER NOT NULL,
    meter_key BLOB NOT NULL,
    image_digest TEXT,
    started_at_ms INTEGER,
    conceded_ms INTEGER NOT NULL,
    voucher_fields BLOB,
    voucher_signature BLOB,
    accepted_fields BLOB,
    accepted_signature BLOB,
    accepted_countersignature BLOB,
    report_sequence INTEGER NOT NULL,
    log_next_seq INTEGER NOT NULL,
    stop TEXT,
    ending TEXT,
    extended_ms INTEGER NOT NULL DEFAULT 0,
    extended_deposit INTEGER NOT NULL DEFAULT 0,
    paused_ms INTEGER NOT NULL DEFAULT 0,
    paused_at_ms INTEGER,
    restoring_at_ms INTEGER,
    restored_at_ms INTEGER,
    PRIMARY KEY (allocation_id, attempt)
) WITHOUT ROWID;
CREATE TABLE report (
    allocation_id TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (allocation_id, attempt, sequence)
) WITHOUT ROWID;
"""


_UPGRADES: Final = {
    1: (
        "ALTER TABLE attempt ADD COLUMN extended_ms INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE attempt ADD COLUMN extended_deposit INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE attempt ADD COLUMN paused_ms INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE attempt ADD COLUMN paused_at_ms INTEGER",
    ),
    2: (
        "ALTER TABLE attempt ADD COLUMN restoring_at_ms INTEGER",
        "ALTER TABLE attempt ADD COLUMN restored_at_ms INTEGER",
    ),
}
"""What brings a journal of a version to the next one."""


class JournalUnusable(Exception):
    """The journal can't be opened: another daemon holds it, or it is of another version."""


class Step(IntEnum):
    """How far an attempt is; it never goes back."""

    CLAIMED = 1
    """Consent signed. Pulling may be under way."""
    STARTING = 2
    """The chain assigned it; a container may exist."""
    READY = 3
    """The meter is on."""
    ENDED = 4
    """The outcome is known and the last voucher signed; reports may still be on their way."""
    CLEARED = 5
    """Nothing of it is left on this machine; kept until the market says `settled`."""


@dataclass(frozen=True, slots=True)
class Stop:
    """An order to end the attempt, from the market or from this node's own rules."""

    reason: Reason
    grace_ms: int
    final: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Ending:
    """How the attempt ended.

    at_ms: chain time at which the meter stopped. final: whether the last voucher closes the escrow.
    outputs: hex digits of the manifest's digest, once they are delivered; None without any.
    Beside READY it says that the work is over and its outputs are on their way.
    """

    reason: Reason
    at_ms: int
    final: bool
    exit_code: int | None = None
    detail: str | None = None
    outputs: str | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """A voucher that the meter countersigned: money in hand."""

    voucher: SignedVoucher
    countersignature: bytes

    @property
    def message(self) -> VoucherMessage:
        """The voucher's fields."""
        return VoucherMessage.from_fields(self.voucher.fields)


@dataclass(frozen=True, slots=True)
class Attempt:
    """All that is remembered of one attempt.

    request_frame: id of the frame that asked, named again when the claim is sent again.
    claim_at_ms: chain time of the claim. anchor: the clocks at that moment.
    start_limit_ms: from claim to ready, as the market said at the claim.
    meter_key: who countersigns this attempt, 32 bytes.
    log_next_seq: number of the first line that the market does not have.
    extended_ms, extended_deposit: what was added to the escrow since the claim.
    paused_at_ms: chain time at which it reached its limit, while it is held there. paused_ms: held before, in all.
    restoring_at_ms, restored_at_ms: chain time at which an earlier attempt's checkpoint began to arrive, and was here.
    """

    request: ClaimRequest
    request_frame: str
    claim_at_ms: int
    claim_signature: bytes
    anchor: Anchor
    start_limit_ms: int
    meter_key: bytes
    step: Step = Step.CLAIMED
    lease_token: str | None = None
    assigned: bool = False
    image_digest: str | None = None
    started_at_ms: int | None = None
    conceded_ms: int = 0
    voucher: SignedVoucher | None = None
    accepted: Accepted | None = None
    report_sequence: int = 0
    log_next_seq: int = 1
    stop: Stop | None = None
    ending: Ending | None = None
    extended_ms: int = 0
    extended_deposit: int = 0
    paused_ms: int = 0
    paused_at_ms: int | None = None
    restoring_at_ms: int | None = None
    restored_at_ms: int | None = None
    key: AttemptKey = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", AttemptKey(self.request.allocation_id, self.request.attempt))


class Journal:
    """The file. Made by one daemon, read by `reaver-node status` through `read_only`."""

    def __init__(self, path: Path) -> None:
        """Open or create. Raises JournalUnusable."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = (path.parent / f"{path.name}.lock").open("w")
        if not _owns(self._lock):
            self._lock.close()
            raise JournalUnusable(f"{path} is in use by another reaver-node")
        self._db = sqlite3.connect(path, isolation_level=None)
        path.chmod(0o600)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            with self._transaction():
                for statement in filter(str.strip, _SCHEMA.split(";")):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        while 0 < version < SCHEMA_VERSION:
            with self._transaction():
                for statement in _UPGRADES[version]:
                    self._db.execute(statement)
                version += 1
                self._db.execute(f"PRAGMA user_version = {version}")
        if version > SCHEMA_VERSION:
            self.close()
            raise JournalUnusable(f"{path} has version {version}, this reaver-node writes {SCHEMA_VERSION}")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def save(self, record: Attempt) -> None:
        """Write the attempt as it is now."""
        row = _to_row(record)
        names = ", ".join(row)
        marks = ", ".join("?" for _ in row)
        self._db.execute(f"INSERT OR REPLACE INTO attempt ({names}) VALUES ({marks})", tuple(row.values()))  # noqa: S608 - our own column names

    def save_with_report(self, record: Attempt, report: StateReport) -> None:
        """Write the attempt together with a report that the market has to take."""
        with self._transaction():
            self.save(record)
            self._db.execute(
                "INSERT INTO report (allocation_id, attempt, sequence, body) VALUES (?, ?, ?, ?)",
                (report.allocation_id, report.attempt, report.sequence, report.model_dump_json()),
            )

    def find(self, key: AttemptKey) -> Attempt | None:
        """The attempt, None when it is not (or no longer) known."""
        return next(
            iter(_select(self._db, "WHERE allocation_id = ? AND attempt = ?", (key.allocation, key.attempt))), None
        )

    def attempts(self) -> list[Attempt]:
        """All attempts not forgotten, oldest claim first."""
        return _select(self._db, "ORDER BY claim_at_ms, allocation_id, attempt", ())

    def reports(self, key: AttemptKey) -> list[StateReport]:
        """Reports of the attempt that the market has not taken, in order."""
        rows = self._db.execute(
            "SELECT body FROM report WHERE allocation_id = ? AND attempt = ? ORDER BY sequence",
            (key.allocation, key.attempt),
        )
        return [StateReport.model_validate_json(body) for (body,) in rows]

    def drop_report(self, key: AttemptKey, sequence: int) -> None:
        """The market has taken the report."""
        self._db.execute(
            "DELETE FROM report WHERE allocation_id = ? AND attempt = ? AND sequence = ?",
            (key.allocation, key.attempt, sequence),
        )

    def forget(self, key: AttemptKey) -> None:
        """Nothing of the attempt matters any more."""
        with self._transaction():
            for table in ("attempt", "report"):
                self._db.execute(
                    f"DELETE FROM {table} WHERE allocation_id = ? AND attempt = ?",  # noqa: S608 - two fixed names
                    (key.allocation, key.attempt),
                )

    def close(self) -> None:
        """Close the file and let another daemon have it."""
        self._db.close()
        self._lock.close()


@dataclass(frozen=True, slots=True)
class JournalView:
    """What a journal holds, read beside a running daemon."""

    attempts: tuple[Attempt, ...]
    in_use: bool


def read_only(path: Path) -> JournalView:
    """Read the journal without disturbing its daemon. Raises JournalUnusable when there is none to read."""
    if not path.is_file():
        raise JournalUnusable(f"{path} does not exist: this node has never been started")
    with (path.parent / f"{path.name}.lock").open("a") as lock:
        in_use = not _takes(lock, fcntl.LOCK_SH)
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:  # a daemon is just making it
            return JournalView((), in_use)
        if version != SCHEMA_VERSION:
            raise JournalUnusable(f"{path} is of another version of reaver-node")
        return JournalView(tuple(_select(db, "ORDER BY claim_at_ms", ())), in_use)


def _owns(lock: IO[str]) -> bool:
    """Take the lock for this daemon; False where another has it.

    Whoever only looks shares it for a moment, which is no other daemon: that is waited for.
    """
    while not _takes(lock, fcntl.LOCK_EX):
        if not _takes(lock, fcntl.LOCK_SH):
            return False
        fcntl.flock(lock, fcntl.LOCK_UN)
        time.sleep(_LOOK_S)
    return True


def _takes(lock: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _to_row(record: Attempt) -> dict[str, object]:
    accepted = record.accepted
    return {
        "allocation_id": record.key.allocation,
        "attempt": record.key.attempt,
        "request": record.request.model_dump_json(),
        "request_frame": record.request_frame,
        "claim_at_ms": record.claim_at_ms,
        "claim_signature": record.claim_signature,
        "anchor": json.dumps(asdict(record.anchor)),
        "start_limit_ms": record.start_limit_ms,
        "step": int(record.step),
        "lease_token": record.lease_token,
        "assigned": int(record.assigned),
        "meter_key": record.meter_key,
        "image_digest": record.image_digest,
        "started_at_ms": record.started_at_ms,
        "conceded_ms": record.conceded_ms,
        "voucher_fields": record.voucher.fields if record.voucher else None,
        "voucher_signature": record.voucher.signature if record.voucher else None,
        "accepted_fields": accepted.voucher.fields if accepted else None,
        "accepted_signature": accepted.voucher.signature if accepted else None,
        "accepted_countersignature": accepted.countersignature if accepted else None,
        "report_sequence": record.report_sequence,
        "log_next_seq": record.log_next_seq,
        "stop": json.dumps(asdict(record.stop)) if record.stop else None,
        "ending": json.dumps(asdict(record.ending)) if record.ending else None,
        "extended_ms": record.extended_ms,
        "extended_deposit": record.extended_deposit,
        "paused_ms": record.paused_ms,
        "paused_at_ms": record.paused_at_ms,
        "restoring_at_ms": record.restoring_at_ms,
        "restored_at_ms": record.restored_at_ms,
    }


_COLUMNS: Final = (
    "request, request_frame, claim_at_ms, claim_signature, anchor, start_limit_ms, step, lease_token, assigned, "
    "meter_key, image_digest, started_at_ms, conceded_ms, voucher_fields, voucher_signature, accepted_fields, "
    "accepted_signature, accepted_countersignature, report_sequence, log_next_seq, stop, ending, "
    "extended_ms, extended_deposit, paused_ms, paused_at_ms, restoring_at_ms, restored_at_ms"
)


def _select(db: sqlite3.Connection, clause: str, parameters: tuple[object, ...]) -> list[Attempt]:
    cursor = db.execute(f"SELECT {_COLUMNS} FROM attempt {clause}", parameters)  # noqa: S608 - our own clauses
    cursor.row_factory = sqlite3.Row
    return [_from_row(row) for row in cursor]


def _from_row(row: sqlite3.Row) -> Attempt:
    voucher = None
    if row["voucher_fields"] is not None:
        voucher = SignedVoucher(fields=row["voucher_fields"], signature=row["voucher_signature"])
    accepted = None
    if row["accepted_fields"] is not None:
        accepted = Accepted(
            SignedVoucher(fields=row["accepted_fields"], signature=row["accepted_signature"]),
            row["accepted_countersignature"],
        )
    return Attempt(
        request=ClaimRequest.model_validate_json(row["request"]),
        request_frame=row["request_frame"],
        claim_at_ms=row["claim_at_ms"],
        claim_signature=row["claim_signature"],
        anchor=Anchor(**json.loads(row["anchor"])),
        start_limit_ms=row["start_limit_ms"],
        step=Step(row["step"]),
        lease_token=row["lease_token"],
        assigned=bool(row["assigned"]),
        meter_key=row["meter_key"],
        image_digest=row["image_digest"],
        started_at_ms=row["started_at_ms"],
        conceded_ms=row["conceded_ms"],
        voucher=voucher,
        accepted=accepted,
        report_sequence=row["report_sequence"],
        log_next_seq=row["log_next_seq"],
        stop=_read_stop(row["stop"]),
        ending=_read_ending(row["ending"]),
        extended_ms=row["extended_ms"],
        extended_deposit=row["extended_deposit"],
        paused_ms=row["paused_ms"],
        paused_at_ms=row["paused_at_ms"],
        restoring_at_ms=row["restoring_at_ms"],
        restored_at_ms=row["restored_at_ms"],
    )


def _read_stop(text: str | None) -> Stop | None:
    if text is None:
        return None
    raw = json.loads(text)
    return Stop(Reason(raw["reason"]), raw["grace_ms"], raw["final"], raw["detail"])


def _read_ending(text: str | None) -> Ending | None:
    if text is None:
        return None
    raw = json.loads(text)
    return Ending(
        Reason(raw["reason"]), raw["at_ms"], raw["final"], raw["exit_code"], raw["detail"], raw.get("outputs")
    )
