"""Tells a wallet's account how much of its allowance is used, by what the chain says of it.

Noted in the transaction that takes an escrow into the books, looked at after it: no kill between them loses an alert,
and what was told is written with the event that tells it.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

import structlog

from marketplace.domain.events import EventType
from marketplace.domain.money import format_amount
from marketplace.domain.quantities import Tokens
from marketplace.domain.spend_alerts import EXHAUSTED, reached, still_told
from marketplace.errors import MarketError
from marketplace.services.chain_port import AllowanceView
from marketplace.services.clock import Clock
from marketplace.services.feed import Feed
from marketplace.store.engine import Store, Transaction
from marketplace.store.logins import Accounts
from marketplace.store.spend_alerts import SpendAlert, SpendAlertRows

_log = structlog.get_logger(__name__)

_DAY_MS: Final = 86_400_000
_PAGE: Final = 100
_IDLE_MS: Final = 5_000


class SpendAlerts:
    """`work` is a duty's. decimals: of the payment token, known once the chain was read."""

    def __init__(
        self,
        store: Store,
        feed: Feed,
        find_allowance: Callable[[str], Awaitable[AllowanceView | None]],
        clock: Clock,
        *,
        decimals: Callable[[], int],
        currency: str,
    ) -> None:
        self._store = store
        self._feed = feed
        self._find_allowance = find_allowance
        self._clock = clock
        self._decimals = decimals
        self._currency = currency

    async def work(self) -> int:
        """Look at what was noted; in how many milliseconds to do so again."""
        due = await self._store.read(lambda tx: SpendAlertRows(tx).list_due(_PAGE))
        for alert in due:
            try:
                allowance = await self._find_allowance(alert.wallet)
            except MarketError as error:
                _log.warning("allowance not read", action="spend_alerts.work", cause=error.message)
                return _IDLE_MS
            await self._store.write(
                lambda tx, alert=alert, allowance=allowance: self._tell(tx, alert, allowance)  # type: ignore[misc]
            )
        return 0 if len(due) == _PAGE else _IDLE_MS

    def _tell(self, tx: Transaction, alert: SpendAlert, allowance: AllowanceView | None) -> None:
        present = SpendAlertRows(tx).find(alert.wallet)
        if present is None or (present.told, present.told_today) != (alert.told, alert.told_today):
            # Another allowance was granted while the chain was asked; nothing of that one has been told yet.
            return
        if allowance is None or allowance.total == 0:
            SpendAlertRows(tx).put(replace(alert, told=0, told_today=0))
            return
        today = self._clock.now() // _DAY_MS
        told_today = alert.told_today if alert.day == today else 0
        told = self._tell_cap(tx, alert, allowance, "total", alert.told, allowance.used_total, allowance.total)
        told_today = self._tell_cap(
            tx, alert, allowance, "per_day", told_today, allowance.used_today, allowance.per_day
        )
        SpendAlertRows(tx).put(replace(alert, told=told, told_today=told_today, day=today))

    def _tell_cap(
        self,
        tx: Transaction,
        alert: SpendAlert,
        allowance: AllowanceView,
        name: str,
        told: int,
        used: Tokens,
        cap: Tokens,
    ) -> int:
        """Tell of one cap where more of it is used than was told; what has been told now."""
        before, now = still_told(told, used, cap), reached(used, cap, alert.last_deposit)
        if now <= before:
            return before
        account = Accounts(tx).find_by_wallet(alert.wallet)
        if account is not None:
            kind = EventType.ALLOWANCE_EXHAUSTED if now == EXHAUSTED else EventType.ALLOWANCE_USED
            decimals = self._decimals()
            data = {
                "allowance": allowance.address, "wallet": alert.wallet, "cap": name, "percent": now,
                "used": format_amount(used, decimals), "limit": format_amount(cap, decimals),
                "currency": self._currency,
            }  # fmt: skip
            self._feed.append(tx, account, kind, allowance.address, data)
        return now
