"""A market's time as a test needs it: it leaps, or stands still, while the machine's own goes on."""

import asyncio

from marketplace.services.clock import SystemClock


class LeapingClock(SystemClock):
    """The machine's clock, and how far a test has made it leap ahead; or an instant at which it stands.

    Durations go on as they do: who counts them, as the watch over nodes does, notices nothing.
    """

    def __init__(self):
        self.ahead_ms = 0
        self._stands_at = None

    def now(self):
        return super().now() + self.ahead_ms if self._stands_at is None else self._stands_at

    def stand_at(self, instant):
        """Now is this instant, however long the test takes. It never goes back."""
        assert instant >= self.now()
        self._stands_at = instant

    def go_on(self):
        """From where it stands."""
        self.ahead_ms, self._stands_at = self._stands_at - super().now(), None


async def looked_at(market, allocation_id):
    """Once the scheduler has looked at an allocation, from now on, and has done what was due."""
    scheduler, looked = market.jobs.scheduler, asyncio.Event()
    step = scheduler._step

    async def stepping(allocation):
        delay = await step(allocation)
        if allocation.id == allocation_id:
            looked.set()
        return delay

    scheduler._step = stepping
    try:
        scheduler.wake(allocation_id)
        async with asyncio.timeout(60):
            await looked.wait()
    finally:
        del scheduler._step
