"""Fixed windows of requests, aligned to the epoch. Source: api.md section 3.

Counting happens in memory; what was counted is added to the store in batches and the sums are read back, so that a
restart forgives nobody and several limiters over one database count together. What one counts another knows at the
latest two flushes later: with n of them a subject gets at most what the others let pass within that time beyond its
limit (1 s with the default of 500 ms). If the store fails, requests pass, the counts wait, and the failure is counted.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from marketplace.errors import RateLimited, StoreError
from marketplace.services.clock import Clock
from marketplace.store.engine import Store
from marketplace.store.rate_counters import RateCounters, WindowKey

_log = structlog.get_logger(__name__)

MAX_COUNTERS: Final = 200_000
"""Counters kept in memory; chosen: about 50 MB. Beyond it new subjects pass uncounted until windows end."""
_MINUTE_S: Final = 60


@dataclass(frozen=True, slots=True)
class Window:
    """At most `limit` requests in each `seconds`."""

    seconds: int
    limit: int


def per_minute(limit: int) -> tuple[Window, ...]:
    """The one window most classes have."""
    return (Window(_MINUTE_S, limit),)


@dataclass(frozen=True, slots=True)
class RateState:
    """The tightest window after a request: what X-RateLimit-* say. reset_s: Unix seconds."""

    limit: int
    remaining: int
    reset_s: int


class RateLimits:
    """Counts requests by subject."""

    def __init__(
        self, store: Store, clock: Clock, *, flush_ms: int = 500, on_failure: Callable[[], None] = lambda: None
    ) -> None:
        self._store = store
        self._clock = clock
        self._flush_ms = flush_ms
        self._on_failure = on_failure
        self._counts: dict[WindowKey, int] = {}
        self._unflushed: dict[WindowKey, int] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read the open windows and begin to flush."""
        now_s = self._now_s()
        for key, count in await self._store.read(lambda tx: RateCounters(tx).list_open(now_s)):
            self._counts[key] = self._counts.get(key, 0) + count
        self._task = asyncio.create_task(self._flush_for_ever(), name="rate-limit-flush")

    async def stop(self) -> None:
        """Stop flushing after a last flush."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        await self.flush()

    def hit(self, subject: str, windows: tuple[Window, ...]) -> RateState:
        """Count one request. Raises RateLimited, with the state in `RateLimitReached.state`, when one is full."""
        now_s = self._now_s()
        keys = [WindowKey(subject, window.seconds, now_s - now_s % window.seconds) for window in windows]
        counts = self._counts
        used = [counts.get(key, 0) for key in keys]
        for window, count in zip(windows, used, strict=True):
            if count >= window.limit:
                raise RateLimitReached(_tightest(windows, used, now_s), now_s)
        for place, key in enumerate(keys):
            if key in counts or len(counts) < MAX_COUNTERS:
                used[place] += 1
                counts[key] = used[place]
                self._unflushed[key] = self._unflushed.get(key, 0) + 1
        return _tightest(windows, used, now_s)

    def look(self, subject: str, windows: tuple[Window, ...]) -> RateState:
        """The state without counting a request."""
        now_s = self._now_s()
        keys = (WindowKey(subject, window.seconds, now_s - now_s % window.seconds) for window in windows)
        return _tightest(windows, [self._counts.get(key, 0) for key in keys], now_s)

    async def flush(self) -> None:
        """Add what was counted since the last flush to the store, read what others added, forget what has ended."""
        now_s = self._now_s()
        for key in [key for key in self._counts if key.start_s + key.window_s <= now_s]:
            del self._counts[key]
        batch, self._unflushed = self._unflushed, {}
        increments = [(key, count) for key, count in batch.items() if key.start_s + key.window_s > now_s]
        if not increments:
            return
        try:
            await self._store.write(lambda tx: RateCounters(tx).add(increments))
        except StoreError:
            self._failed("counted requests wait for the next flush")
            for key, count in increments:
                self._unflushed[key] = self._unflushed.get(key, 0) + count
            return
        try:
            sums = await self._store.read(lambda tx: RateCounters(tx).sums([key for key, _ in increments]))
        except StoreError:
            self._failed("what other limiters counted is read with the next flush")
            return
        for key, count in sums:
            # What came in meanwhile is in no sum yet.
            self._counts[key] = count + self._unflushed.get(key, 0)

    async def forget_ended(self) -> int:
        """Delete stored counters of windows that have ended; how many."""
        now_s = self._now_s()
        return await self._store.write(lambda tx: RateCounters(tx).forget_ended(now_s))

    async def _flush_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._flush_ms / 1000)
            await self.flush()

    def _failed(self, action: str) -> None:
        self._on_failure()
        _log.warning("rate_limits.flush_failed", action=action)

    def _now_s(self) -> int:
        return self._clock.now() // 1000


def _tightest(windows: tuple[Window, ...], used: Sequence[int], now_s: int) -> RateState:
    """The state of the window of which the least is left; of equal ones, the longest."""
    chosen, left, share = windows[0], max(0, windows[0].limit - used[0]), 0.0
    if len(windows) > 1:
        share = left / chosen.limit
        for window, count in zip(windows[1:], used[1:], strict=True):
            remaining = max(0, window.limit - count)
            if (remaining / window.limit, -window.seconds) < (share, -chosen.seconds):
                chosen, left, share = window, remaining, remaining / window.limit
    return RateState(chosen.limit, left, now_s - now_s % chosen.seconds + chosen.seconds)


class RateLimitReached(RateLimited):
    """Too many requests; wait until the window resets."""

    def __init__(self, state: RateState, now_s: int) -> None:
        super().__init__(retry_after_s=max(1, state.reset_s - now_s))
        self.state = state
