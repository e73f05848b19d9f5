"""Background work that one process does at a time: a task that holds a lease, and wakes that shorten its wait."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from marketplace.errors import MarketError, StaleLease
from marketplace.services.clock import Clock
from marketplace.store.engine import Store
from marketplace.store.leases import Leases

_log = structlog.get_logger(__name__)

LEASE_MS: Final = 15_000
"""Chosen: a dead process's duties wait at most this long; renewed at a third of it."""


class Duty:
    """Calls `work` again and again while this process holds the lease named `kind`.

    work: does what is due and answers in how many milliseconds to look again, at the latest.
    exclusive: SQLite means one process, so a lease left by a process that was killed is taken over at once.
    """

    def __init__(
        self, kind: str, store: Store, clock: Clock, work: Callable[[], Awaitable[int]], *, exclusive: bool = True
    ) -> None:
        self._kind = kind
        self._store = store
        self._clock = clock
        self._work = work
        self._exclusive = exclusive
        self._owner = secrets.token_hex(8)
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Look now."""
        self._woken.set()

    async def run(self) -> None:
        """Until cancelled; the lease is given back then."""
        while True:
            token = secrets.token_hex(16)
            try:
                if await self._acquire(token):
                    await self._hold(token)
            except StaleLease:
                _log.warning("lease lost", action="duty.run", duty=self._kind)
            except MarketError as error:
                _log.warning("store not reachable", action="duty.run", duty=self._kind, error=error.message)
            await asyncio.sleep(LEASE_MS / 3000)

    async def _acquire(self, token: str) -> bool:
        now = self._clock.now() + (LEASE_MS if self._exclusive else 0)
        taken = await self._store.write(lambda tx: Leases(tx).acquire(self._kind, self._owner, token, now, LEASE_MS))
        return bool(taken)

    async def _hold(self, token: str) -> None:
        renewed = self._clock.monotonic_ms()
        try:
            while True:
                self._woken.clear()
                try:
                    delay = await self._work()
                except StaleLease:
                    delay = 100
                except Exception:  # noqa: BLE001 - the outer edge, see below
                    # The outer edge of a duty: one bad item must not end what everybody else's money waits for.
                    _log.exception("duty failed", action="duty.work", duty=self._kind)
                    delay = 1000
                if self._clock.monotonic_ms() - renewed > LEASE_MS / 3:
                    now = self._clock.now()
                    await self._store.write(
                        lambda tx, now=now: Leases(tx).renew(self._kind, token, now, LEASE_MS)  # type: ignore[misc]
                    )
                    renewed = self._clock.monotonic_ms()
                try:
                    async with asyncio.timeout(min(delay, LEASE_MS / 3) / 1000):
                        await self._woken.wait()
                except TimeoutError:
                    pass
        except asyncio.CancelledError:
            try:
                await asyncio.shield(self._store.write(lambda tx: Leases(tx).release(self._kind, token)))
            except MarketError as error:
                # It ends by itself soon, and the next process of a SQLite store takes it over at once.
                _log.warning("lease not given back", action="duty.hold", duty=self._kind, error=error.message)
            raise
