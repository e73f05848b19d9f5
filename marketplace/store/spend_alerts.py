"""Wallets whose allowance has been used since it was last looked at, and what they were told of it."""

from dataclasses import dataclass

from marketplace.domain.quantities import Tokens
from marketplace.store.engine import Transaction


@dataclass(frozen=True, slots=True)
class SpendAlert:
    """See tables.spend_alerts."""

    wallet: str
    noted: int
    told: int
    told_today: int
    day: int
    last_deposit: Tokens


class SpendAlertRows:
    """Note, list, write back."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def note(self, wallet: str, deposit: int) -> None:
        """An escrow was opened or extended under the wallet's allowance."""
        self._tx.change(
            "INSERT INTO spend_alerts (wallet, noted, seen, told, told_today, day, last_deposit)"
            " VALUES (:wallet, 1, 0, 0, 0, 0, :deposit) ON CONFLICT (wallet)"
            " DO UPDATE SET noted = spend_alerts.noted + 1, last_deposit = :deposit",
            {"wallet": wallet, "deposit": deposit},
        )

    def begin_anew(self, wallet: str, slot: int) -> None:
        """Another allowance was granted in this slot: nothing of it has been told.

        What the market itself opened since is read sooner than what wallets send. Then it has been noted and perhaps
        told already, and is not told again.
        """
        self._tx.change(
            "UPDATE spend_alerts SET told = 0, told_today = 0, noted = noted + 1 WHERE wallet = :wallet"
            " AND NOT EXISTS (SELECT 1 FROM chain_escrows e JOIN chain_events c ON c.escrow = e.escrow"
            " WHERE e.wallet = :wallet AND e.opener <> :wallet AND c.slot > :slot"
            " AND c.name IN ('EscrowOpened', 'EscrowExtended'))",
            {"wallet": wallet, "slot": slot},
        )

    def list_due(self, limit: int) -> list[SpendAlert]:
        """Those whose use was not looked at yet."""
        rows = self._tx.rows(
            "SELECT wallet, noted, told, told_today, day, last_deposit FROM spend_alerts WHERE noted > seen"
            " ORDER BY wallet LIMIT :limit",
            {"limit": limit},
        )
        return [SpendAlert(row[0], row[1], row[2], row[3], row[4], Tokens(row[5])) for row in rows]

    def find(self, wallet: str) -> SpendAlert | None:
        row = self._tx.row(
            "SELECT wallet, noted, told, told_today, day, last_deposit FROM spend_alerts WHERE wallet = :wallet",
            {"wallet": wallet},
        )
        return None if row is None else SpendAlert(row[0], row[1], row[2], row[3], row[4], Tokens(row[5]))

    def put(self, alert: SpendAlert) -> None:
        """Looked at, up to what was noted when it was read."""
        self._tx.change(
            "UPDATE spend_alerts SET seen = :noted, told = :told, told_today = :today, day = :day"
            " WHERE wallet = :wallet",
            {
                "wallet": alert.wallet,
                "noted": alert.noted,
                "told": alert.told,
                "today": alert.told_today,
                "day": alert.day,
            },
        )
