"""API keys, and what each may still spend."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from marketplace.domain.ids import AccountId, AllocationId, KeyId
from marketplace.domain.quantities import Millis, Tokens
from marketplace.errors import NotFound
from marketplace.store.engine import Transaction

_DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key without its secret. scopes: words, space between. per_day, total: base units, None for no limit.

    create_key: the Idempotency-Key of its making. spent: settled, and held for what is not settled yet.
    """

    id: KeyId
    account_id: AccountId
    create_key: str
    key_hash: bytes
    prefix: str
    name: str
    scopes: str
    rate_class: str
    per_day: Tokens | None
    total: Tokens | None
    spent: Tokens
    created_at: Millis
    expires_at: Millis | None
    last_used_at: Millis | None


@dataclass(frozen=True, slots=True)
class KeyOwner:
    """Whose a key is: its account and that one's primary wallet."""

    key: ApiKey
    wallet: str


@dataclass(frozen=True, slots=True)
class LimitReached:
    """Which limit of a key is in the way. limit: per_day or total. cap, spent, wanted: base units."""

    limit: str
    cap: Tokens
    spent: Tokens
    wanted: Tokens


_COLUMNS: Final = (
    "k.id, k.account_id, k.create_key, k.key_hash, k.prefix, k.name, k.scopes, k.rate_class, k.per_day, k.total,"
    " k.spent, k.created_at_ms, k.expires_at_ms, k.last_used_at_ms"
)


class ApiKeys:
    """Find, list, create, delete."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def create(self, key: ApiKey) -> None:
        """Raises UniqueViolation when this Idempotency-Key made one already."""
        self._tx.change(
            "INSERT INTO api_keys (id, account_id, create_key, key_hash, prefix, name, scopes, rate_class, per_day,"
            " total, spent, created_at_ms, expires_at_ms) VALUES (:id, :account, :create_key, :hash, :prefix, :name,"
            " :scopes, :rate, :per_day, :total, 0, :created, :expires)",
            {
                "id": key.id,
                "account": key.account_id,
                "create_key": key.create_key,
                "hash": key.key_hash,
                "prefix": key.prefix,
                "name": key.name,
                "scopes": key.scopes,
                "rate": key.rate_class,
                "per_day": key.per_day,
                "total": key.total,
                "created": key.created_at,
                "expires": key.expires_at,
            },
        )

    def find_by_hash(self, key_hash: bytes) -> KeyOwner | None:
        """The key with this SHA-256, and whose it is."""
        row = self._tx.row(
            f"SELECT {_COLUMNS}, w.address FROM api_keys k JOIN wallets w ON w.account_id = k.account_id"  # noqa: S608
            " WHERE k.key_hash = :hash AND w.is_primary = TRUE",
            {"hash": key_hash},
        )
        return None if row is None else KeyOwner(ApiKey(*row[:-1]), row[-1])

    def find_by_create_key(self, account_id: AccountId, create_key: str) -> ApiKey | None:
        """The key that this Idempotency-Key made."""
        row = self._tx.row(
            f"SELECT {_COLUMNS} FROM api_keys k WHERE k.account_id = :account AND k.create_key = :key",  # noqa: S608
            {"account": account_id, "key": create_key},
        )
        return None if row is None else ApiKey(*row)

    def is_good(self, key_id: KeyId, now: Millis) -> bool:
        """Whether it is there, and has not expired."""
        statement = "SELECT 1 FROM api_keys WHERE id = :id AND (expires_at_ms IS NULL OR expires_at_ms > :now)"
        return self._tx.row(statement, {"id": key_id, "now": now}) is not None

    def count(self, account_id: AccountId) -> int:
        row = self._tx.row("SELECT count(*) FROM api_keys WHERE account_id = :account", {"account": account_id})
        return int(row[0]) if row else 0

    def page(self, account_id: AccountId, *, limit: int, offset: int) -> list[ApiKey]:
        """Newest first."""
        rows = self._tx.rows(
            f"SELECT {_COLUMNS} FROM api_keys k WHERE k.account_id = :account"  # noqa: S608
            " ORDER BY k.created_at_ms DESC, k.id DESC LIMIT :limit OFFSET :offset",
            {"account": account_id, "limit": limit, "offset": offset},
        )
        return [ApiKey(*row) for row in rows]

    def delete(self, account_id: AccountId, key_id: KeyId) -> bool:
        """False where this account has no such key."""
        gone = self._tx.change(
            "DELETE FROM api_keys WHERE id = :id AND account_id = :account", {"id": key_id, "account": account_id}
        )
        if gone:
            self._tx.change("DELETE FROM api_key_days WHERE key_id = :id", {"id": key_id})
        return bool(gone)

    def note_uses(self, used: Mapping[KeyId, Millis]) -> None:
        """When keys were last used: one statement for all."""
        self._tx.change_many(
            "UPDATE api_keys SET last_used_at_ms = :at WHERE id = :id AND coalesce(last_used_at_ms, 0) < :at",
            [{"id": key_id, "at": at} for key_id, at in used.items()],
        )


class KeySpending:
    """What keys have spent. A hold is a deposit that is not settled; its end gives back what was not paid.

    Invariant: a key's `spent` is the sum of its holds and of what its settled allocations paid; of a day, the same of
    those that opened on that day. Each change begins by writing the key's own row, so that two of them wait for each
    other on every database.
    """

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def hold(self, key_id: KeyId, allocation_id: AllocationId, amount: Tokens, now: Millis) -> LimitReached | None:
        """Take `amount` of the key's limits for this allocation; which limit is in the way, None when it is taken.

        An allocation that holds some already holds this much more. What was refused has to be undone by the caller.
        Raises NotFound for a key that was deleted.
        """
        day = now // _DAY_MS
        values = {"key": key_id, "allocation": allocation_id, "amount": amount, "day": day}
        if not self._tx.change("UPDATE api_keys SET spent = spent + :amount WHERE id = :key", values):
            raise NotFound
        self._tx.change(
            "INSERT INTO api_key_days (key_id, day, spent) VALUES (:key, :day, :amount)"
            " ON CONFLICT (key_id, day) DO UPDATE SET spent = api_key_days.spent + excluded.spent",
            values,
        )
        row = self._tx.row(
            "SELECT k.per_day, k.total, k.spent, d.spent FROM api_keys k JOIN api_key_days d ON d.key_id = k.id"
            " WHERE k.id = :key AND d.day = :day",
            values,
        )
        assert row is not None  # noqa: S101 - both rows were just written
        per_day, total, spent, today = row
        if per_day is not None and today > per_day:
            return LimitReached("per_day", per_day, Tokens(today - amount), amount)
        if total is not None and spent > total:
            return LimitReached("total", total, Tokens(spent - amount), amount)
        self._tx.change(
            "INSERT INTO api_key_holds (allocation_id, key_id, day, held) VALUES (:allocation, :key, :day, :amount)"
            " ON CONFLICT (allocation_id, key_id, day) DO UPDATE SET held = api_key_holds.held + excluded.held",
            values,
        )
        return None

    def hold_more(self, allocation_id: AllocationId, amount: Tokens, now: Millis) -> LimitReached | None:
        """`hold` for the key that holds something for this allocation already; None without one, or once it is gone."""
        row = self._tx.row(
            "SELECT h.key_id FROM api_key_holds h JOIN api_keys k ON k.id = h.key_id"
            " WHERE h.allocation_id = :allocation ORDER BY h.day LIMIT 1",
            {"allocation": allocation_id},
        )
        return None if row is None else self.hold(KeyId(row[0]), allocation_id, amount, now)

    def settle(self, allocation_id: AllocationId, paid: Tokens) -> None:
        """End the allocation's holds: `paid` of them is spent, oldest first, and the rest is given back."""
        left = paid
        for key_id, day, held in self._tx.rows(
            "SELECT key_id, day, held FROM api_key_holds WHERE allocation_id = :allocation ORDER BY day, key_id",
            {"allocation": allocation_id},
        ):
            used = min(left, held)
            left = Tokens(left - used)
            values = {"key": key_id, "day": day, "back": held - used}
            self._tx.change("UPDATE api_keys SET spent = spent - :back WHERE id = :key", values)
            self._tx.change("UPDATE api_key_days SET spent = spent - :back WHERE key_id = :key AND day = :day", values)
        self._tx.change("DELETE FROM api_key_holds WHERE allocation_id = :allocation", {"allocation": allocation_id})

    def today(self, key_ids: list[KeyId], now: Millis) -> dict[KeyId, Tokens]:
        """What each key spent of this UTC day's limit."""
        found: dict[KeyId, Tokens] = {}
        for key_id in key_ids:
            row = self._tx.row(
                "SELECT spent FROM api_key_days WHERE key_id = :key AND day = :day",
                {"key": key_id, "day": now // _DAY_MS},
            )
            found[key_id] = Tokens(row[0]) if row else Tokens(0)
        return found

    def forget_days(self, now: Millis) -> int:
        """Delete the sums of days that no hold can change any more; how many."""
        return self._tx.change(
            "DELETE FROM api_key_days WHERE day < :day AND NOT EXISTS (SELECT 1 FROM api_key_holds h"
            " WHERE h.key_id = api_key_days.key_id AND h.day = api_key_days.day)",
            {"day": now // _DAY_MS - 1},
        )
